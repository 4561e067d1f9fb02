"""One node that announces, and FRR and BIRD, which it peers with over eBGP in both families: a scene for live tests."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from tests.lab.judges import Judges, hosts
from tests.lab.minicluster import OUR_PROTOCOL, MiniCluster, custom, service_object, slice_object
from tests.lab.said import said
from tests.lab.topology import Lab, Node
from tests.lab.wait import wait_until

VIPS, OTHER_VIPS = ("10.96.0.80", "fd96::80"), ("10.96.0.81", "fd96::81")
HOSTS, OTHER_HOSTS = hosts(VIPS), hosts(OTHER_VIPS)


class OneNode:
    """FRR's BGPPeer has the label router=frr, BIRD's router=bird."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.cluster = MiniCluster(lab)
        self.api = self.cluster.api
        self.judges = Judges(lab)
        self.instance()
        self.api.apply(*self.judges.peers())
        self.cluster.start()
        self.judges.wait_established()

    @property
    def node(self) -> Node:
        return self.lab.node(1)

    @property
    def pods(self) -> set[str]:
        return {str(cidr) for cidr in self.node.pod_cidrs.values()}

    def instance(self, **spec: Any) -> None:
        self.api.apply(custom("BGPInstance", "default", {"mesh": {"mode": "None"}, **spec}))

    def advertise(self, name: str, **spec: Any) -> None:
        self.api.apply(custom("BGPAdvertisement", name, spec))

    def cluster_ips(
        self, name: str = "services", *, to: str = "", said: dict[str, Any] | None = None, **more: Any
    ) -> None:
        """Advertises ClusterIPs; `more` is of `spec.service`."""
        choice = {"peerSelector": only(to)} if to else {}
        attributes = {"attributes": said} if said else {}
        self.advertise(name, type="Service", service={"addresses": ["ClusterIP"], **more}, **choice, **attributes)

    def service(
        self, name: str, *addresses: str, annotation: str | None = None, namespace: str = "default", **more: Any
    ) -> None:
        thing = service_object(name, addresses, **more)
        thing["metadata"]["namespace"] = namespace
        if annotation is not None:
            thing["metadata"]["annotations"] = {"bgpilot.io/advertise": annotation}
        self.api.apply(thing)

    def endpoint(self, name: str, node: str, *, ready: bool = True) -> None:
        """The only one of the Service, in both families."""
        for family, pod in (("IPv4", "10.244.9.9"), ("IPv6", "fd10:244:9::9")):
            self.api.apply(slice_object(name, {node: [pod]}, family=family, ready=ready))

    def told(self, frr: Iterable[str], bird: Iterable[str]) -> None:
        """What FRR and BIRD have heard, both families, besides the node's pod CIDRs; from now on or soon."""
        wait_until(lambda: self._heard({"frr": {*frr, *self.pods}, "bird": {*bird, *self.pods}}))

    def told_both(self, *prefixes: str) -> None:
        self.told(prefixes, prefixes)

    def _heard(self, wanted: dict[str, set[str]]) -> bool:
        actual = {router: set(table) for router, table in self.judges.tables().items()}
        assert actual == wanted, f"{actual} instead of {wanted}"
        return True

    def attributes(self, prefix: str, **wanted: Any) -> bool:
        """What both routers know of a prefix, of which `wanted` (fields of `Said`) is asked."""
        for router in (self.judges.frr, self.judges.bird):
            (path,) = said(router, prefix)
            actual = {name: getattr(path, name) for name in wanted}
            assert actual == wanted, f"{type(router).__name__}: {actual} instead of {wanted}"
        return True

    def discards(self) -> set[str]:
        """Prefixes that end on the node unless something better is known, also for what the node itself sends."""
        tables = [self.node.kernel_routes(family, "proto", OUR_PROTOCOL) for family in self.lab.families]
        return {prefix for table in tables for prefix, hops in table.items() if not hops}

    def explained(self, subject: str) -> str:
        return self.cluster.agent(self.node).cli("explain", subject).stdout

    def reasons(self, subject: str) -> set[str]:
        return {hop["reason"] for hop in self.cluster.agent(self.node).view("explain", subject=subject)["hops"]}

    def sessions(self) -> dict[str, int]:
        """How often each was lost."""
        peers = self.cluster.agent(self.node).view("peers")["peers"]
        return {address: peer["flaps"] for address, peer in peers.items() if peer["state"] == "Established"}

    def clear(self) -> None:
        """As it was at first, and both routers know."""
        self.cluster.delete_all("Service", "EndpointSlice", "BGPAdvertisement", "Namespace")
        self.instance()
        self.told_both()


def only(name: str) -> dict[str, Any]:
    return {"matchLabels": {"router": name}}


def one_node() -> Iterator[OneNode]:
    """For a fixture of a module; whatever its tests announce, no session may be lost for it."""
    with Lab(nodes=1, routers=2) as lab:
        scene = OneNode(lab)
        yield scene
        sessions = scene.sessions()
        scene.cluster.close()
        assert sessions == {str(router.address()): 0 for router in lab.routers}
