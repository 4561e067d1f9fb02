"""Two nodes with real agents, and what `Judges` have from them: who announces which address, both families, all of it.

Host routes are all that Services come to here, so that `Scene.told` compares whole tables. Each time it writes a mark
first, a Service with slices of its own under policy Local: who announces that has seen all Services and EndpointSlices
that were written before it, and what is not told by then is not told.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any

from tests.lab.judges import Judges, hosts
from tests.lab.minicluster import MiniCluster, Object, custom, service_object
from tests.lab.netns import Family
from tests.lab.topology import Lab
from tests.lab.wait import wait_until

FAMILIES: tuple[Family, Family] = ("ipv4", "ipv6")
TYPES: Mapping[Family, str] = {"ipv4": "IPv4", "ipv6": "IPv6"}
FIRST, SECOND = "node-1", "node-2"
BLOCKS: tuple[Mapping[Family, str], ...] = (
    {"ipv4": "10.96.0.{}", "ipv6": "fd96::{}"},
    {"ipv4": "192.0.2.{}", "ipv6": "2001:db8:e::{}"},
    {"ipv4": "198.51.100.{}", "ipv6": "2001:db8::{}"},
)
"""ClusterIPs, ExternalIPs and LoadBalancerIPs."""
ALLOWED = ["192.0.2.0/24", "2001:db8:e::/64"]
"""ExternalIPs."""
MARKS = ("10.97.0.{}", "fd97::{}")
PROOF = "203.0.113.{}"
"""An ExternalIP that is allowed from one BGPInstance on, to show that this one counts."""
POD: Mapping[Family, str] = {"ipv4": "10.244.200.{}", "ipv6": "fd10:244:200::{}"}
"""No agent asks in whose pod CIDR an endpoint is: its node is what `nodeName` says."""
BIRD_LOG = re.compile(r"^(?P<at>\S+ \S+) <TRACE> \S+ > (?P<what>\w+) .*?(?P<to>[0-9a-f.:]+/\d+)")
"""What comes in, and when, in milliseconds. (In its tables times are worked out anew for each answer, some µs off.)"""

READY: Object = {"ready": True, "serving": True, "terminating": False}
UNREADY: Object = {"ready": False, "serving": False, "terminating": False}
LEAVING: Object = {"ready": False, "serving": True, "terminating": True}
GONE: Object = {"ready": False, "serving": False, "terminating": True}


class Scene:
    """Close it before the lab, which has two nodes and two routers."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.judges = Judges(lab)
        self.judges.bird.lines = ("debug protocols { routes };",)
        self.judges.bird.restart()
        self.cluster = MiniCluster(lab)
        self.api = self.cluster.api
        service = {"addresses": ["ClusterIP", "ExternalIP", "LoadBalancerIP"]}
        self.api.apply(
            *self.judges.peers(), custom("BGPAdvertisement", "services", {"type": "Service", "service": service})
        )
        self._marks = self._instances = 0
        self._set_instance({})
        self.cluster.start()
        self._pods = {str(cidr): [node.name] for node in lab.nodes.values() for cidr in node.pod_cidrs.values()}
        wait_until(lambda: self._tables() == [self._pods] * 2, within=90)

    def close(self) -> None:
        self.cluster.close()

    def damp(self, **milliseconds: int) -> None:
        """What the BGPInstance says of damping, in force when this returns; nothing: what is usual."""
        proof = self._set_instance(milliseconds)
        self.service("proof", "10.97.1.1", external_ips=[proof])
        self._wait_told([proof])
        self.api.delete("Service", "proof", "default")

    # What there is.

    def service(self, name: str, *cluster_ips: str, **said: Any) -> None:
        self.api.apply(service_object(name, cluster_ips, **said))

    def local(self, name: str, number: int, families: Iterable[Family] = FAMILIES) -> None:
        """A Service with the addresses `of(number)`, policy Local for all of them."""
        cluster_ips, external_ips, vips = ([block[family].format(number) for family in families] for block in BLOCKS)
        said = {"internal_policy": "Local", "external_policy": "Local"}
        self.service(name, *cluster_ips, external_ips=external_ips, load_balancer_ips=vips, **said)

    def endpoints(self, name: str | None, *places: tuple[str | None, Object | None], slice_name: str = "web") -> None:
        """Of the service `name`, in one slice of each family: node and conditions of each."""
        self.api.apply(*(slice_(name, family, *places, slice_name=slice_name) for family in FAMILIES))

    def ready(self, name: str, *nodes: str, slice_name: str = "web") -> None:
        self.endpoints(name, *((node, READY) for node in nodes), slice_name=slice_name)

    def drop_slices(self, slice_name: str = "web") -> None:
        for family in FAMILIES:
            self.api.delete("EndpointSlice", f"{slice_name}-{family}", "default")

    def clear(self) -> None:
        """No Service and no EndpointSlice from now on; the next `told` has it that the routers know."""
        self.cluster.delete_all("Service", "EndpointSlice")

    # What is told.

    def told(self, wanted: Mapping[str, Iterable[str]]) -> None:
        """Both routers have these addresses of Services from exactly these nodes, and no others, after all so far."""
        expected = {_host(address): sorted(nodes) for address, nodes in wanted.items() if nodes}
        expected |= self._pods | {_host(mark): sorted(self.lab.nodes) for mark in self._mark()}
        marks = tuple(mark.format("") for mark in MARKS)

        def as_wanted() -> bool:
            for table in self._tables():
                found = {to: by for to, by in table.items() if to in expected or not to.startswith(marks)}
                assert found == expected, f"{found} instead of {expected}"
            return True

        wait_until(as_wanted)

    def seen(self) -> None:
        """Both agents have seen all that was written so far, and both routers know."""
        self._wait_told(self._mark())

    def heard(self, *addresses: str) -> list[tuple[int, int]]:
        """Other numbers as soon as a router was told anything of one of these, be it taken back, or the same again."""
        return [(self._frr_version(address), len(self.said_to_bird(address))) for address in addresses]

    def said_to_bird(self, address: str) -> list[tuple[datetime, str]]:
        """All that BIRD was told of an address that it has had, oldest first: when, and `added`, `removed`, …"""
        found = filter(None, map(BIRD_LOG.match, self.judges.bird.process.output().splitlines()))
        said = [(datetime.fromisoformat(it["at"]), it["what"]) for it in found if it["to"] == _host(address)]
        assert "added" in {what for _, what in said}, f"nothing of {address} in BIRD's log"
        return said

    def _frr_version(self, address: str) -> int:
        return int(self.judges.frr.paths(_host(address))[0]["version"])

    def _wait_told(self, addresses: Iterable[str]) -> None:
        """By everybody to both."""
        everybody = sorted(self.lab.nodes)
        wait_until(lambda: all(table.get(_host(it)) == everybody for table in self._tables() for it in addresses))

    def _mark(self) -> list[str]:
        """BIRD knows it from everybody when this returns: its log costs less to ask than the tables."""
        self._marks += 1
        name, addresses = f"mark-{self._marks}", [mark.format(self._marks) for mark in MARKS]
        self.service(name, *addresses, internal_policy="Local")
        self.endpoints(None, *((node, READY) for node in self.lab.nodes), slice_name=name)
        self.ready(name, *self.lab.nodes, slice_name=name)  # who was ready before, for no Service, has not to settle
        everybody = len(self.lab.nodes)
        wait_until(lambda: all(len(self.said_to_bird(it)) == everybody for it in addresses))
        return addresses

    def _set_instance(self, damping: Mapping[str, int]) -> str:
        self._instances += 1
        proof = PROOF.format(self._instances)
        spec: Object = {"mesh": {"mode": "None"}, "allowedExternalIPs": [*ALLOWED, _host(proof)]}
        if damping:  # else it is the agent that knows what is usual: the CRD has defaults inside of `damping` only
            spec["damping"] = damping
        self.api.apply(custom("BGPInstance", "default", spec))
        return proof

    def _tables(self) -> list[dict[str, list[str]]]:
        """Of FRR and BIRD: prefix → names of the nodes that it has it from. What is no node's address stays one."""
        names = {str(node.address(family)): node.name for node in self.lab.nodes.values() for family in FAMILIES}
        return [
            {prefix: sorted(names.get(hop, hop) for hop in hops) for prefix, hops in table.items()}
            for table in self.judges.tables().values()
        ]


def of(number: int, *nodes: str, families: Iterable[Family] = FAMILIES) -> dict[str, tuple[str, ...]]:
    """Each address with this number, of every class, and who announces it; of no nodes: nobody does."""
    return {block[family].format(number): nodes for block in BLOCKS for family in families}


def slice_(
    service: str | None,
    family: Family,
    *places: tuple[str | None, Object | None],
    slice_name: str = "web",
    namespace: str = "default",
) -> Object:
    """An endpoint per place: its node, or None when it names none; its conditions, or None when there are none."""
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "namespace": namespace,
            "name": f"{slice_name}-{family}",
            "labels": {"kubernetes.io/service-name": service} if service else {},
        },
        "addressType": TYPES[family],
        "endpoints": [
            {
                "addresses": [POD[family].format(number)],
                **({} if node is None else {"nodeName": node}),
                **({} if conditions is None else {"conditions": conditions}),
            }
            for number, (node, conditions) in enumerate(places, 9)
        ],
        "ports": [{"name": "http", "port": 80, "protocol": "TCP"}],
    }


def _host(address: str) -> str:
    (prefix,) = hosts([address])
    return prefix


def two_nodes() -> Iterator[Scene]:
    """For a fixture of a module; whatever becomes of Services and endpoints, no session may be lost for it."""
    with Lab(nodes=2, routers=2) as lab:
        scene = Scene(lab)
        yield scene
        flaps = scene.cluster.flaps()
        scene.close()
        assert flaps == 0
