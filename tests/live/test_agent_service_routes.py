"""Service addresses that nodes learn from each other (`serviceRoutes`).

The kernel of a node without kube-proxy is the judge.

Nodes 1 and 2 stand for nodes with kube-proxy in IPVS mode: they have the service's addresses on an interface that is
down, as it does, and answer for them. Node 3 has none of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.lab.minicluster import MiniCluster, custom, node_object, service_object, slice_object
from tests.lab.netns import Family
from tests.lab.pods import ping
from tests.lab.topology import Lab, Node
from tests.lab.wait import wait_until

pytestmark = pytest.mark.live

VIPS: dict[Family, str] = {"ipv4": "10.96.0.80", "ipv6": "fd96::80"}
HOSTS: dict[Family, str] = {"ipv4": "10.96.0.80/32", "ipv6": "fd96::80/128"}
STRANGER = "10.96.0.99/32"
WITH_PROXY = {"proxy": "ipvs"}


class Scene:
    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.first, self.second, self.bare = (lab.node(index) for index in (1, 2, 3))
        for node in (self.first, self.second):
            addresses = [f"addr add {vip} dev kube-ipvs0" for vip in VIPS.values()]
            node.configure(ip=["link add kube-ipvs0 type bridge", *addresses])
        self.cluster = MiniCluster(lab)
        self.api = self.cluster.api
        self.advertise(addresses=["ClusterIP"])
        self.api.apply(service_object("web", tuple(VIPS.values()), internal_policy="Local"))
        self.endpoints(self.first, self.second)
        self.cluster.start()
        for node in (self.first, self.second):
            self.api.apply(node_object(node, labels=WITH_PROXY))

    def advertise(self, **service: Any) -> None:
        spec = {"type": "Service", "nodeSelector": {"matchLabels": WITH_PROXY}, "service": service}
        self.api.apply(custom("BGPAdvertisement", "services", spec))

    def endpoints(self, *nodes: Node) -> None:
        names: dict[Family, str] = {"ipv4": "IPv4", "ipv6": "IPv6"}
        for family, name in names.items():
            pods = {node.name: [str(node.pod_cidrs[family][9])] for node in nodes}
            self.api.apply(slice_object("web", pods, family=name))

    def set_service_routes(self, value: str) -> None:
        self.api.apply(custom("BGPInstance", "default", {"serviceRoutes": value}))

    def hops(self, family: Family) -> list[str] | None:
        """Next hops of the service's address in the kernel of the node without kube-proxy; None: no route."""
        return self.cluster.learned(self.bare, family).get(HOSTS[family])

    def leads_to(self, *nodes: Node) -> bool:
        for family in self.lab.families:
            wanted = [str(node.address(family)) for node in nodes] or None
            assert self.hops(family) == wanted, f"{family}: {self.hops(family)} instead of {wanted}"
        return True

    def announces(self, node: Node) -> bool:
        said = self.cluster.agent(node).cli("explain", "default/web").stdout
        return all(f"{host} is announced to" in said for host in HOSTS.values())


@pytest.fixture(scope="module")
def built() -> Iterator[Scene]:
    with Lab(nodes=3) as lab:
        scene = Scene(lab)
        yield scene
        scene.cluster.close()


@pytest.fixture
def scene(built: Scene) -> Scene:
    """With `serviceRoutes: Import` on every node, and an endpoint on each of the two with kube-proxy."""
    built.set_service_routes("Import")
    built.endpoints(built.first, built.second)
    wait_until(lambda: built.leads_to(built.first, built.second), within=60)
    return built


def test_by_default_no_service_address_goes_from_node_to_node(built: Scene) -> None:
    for instance in built.api.list("BGPInstance"):
        built.api.delete("BGPInstance", instance["metadata"]["name"])
    wait_until(lambda: built.announces(built.first) and built.announces(built.second), within=60)

    built.cluster.wait_meshed()


def test_a_node_without_kube_proxy_has_the_address_over_all_nodes_with_an_endpoint_and_loses_one_with_it(
    scene: Scene,
) -> None:
    pod = scene.bare.add_pod()
    wait_until(lambda: ping(pod, VIPS["ipv4"]))

    scene.endpoints(scene.second)
    wait_until(lambda: scene.leads_to(scene.second))
    scene.endpoints()
    wait_until(scene.leads_to)

    scene.endpoints(scene.first)
    wait_until(lambda: scene.leads_to(scene.first))


def test_a_node_that_announces_an_address_installs_nobody_elses_route_to_it(scene: Scene) -> None:
    for family in scene.lab.families:
        assert HOSTS[family] not in scene.cluster.learned(scene.first, family)
    wait_until(lambda: "announcedHere" in scene.cluster.agent(scene.first).cli("explain", VIPS["ipv4"]).stdout)


def test_a_node_whose_kube_proxy_has_the_address_on_an_interface_installs_no_route_to_it(scene: Scene) -> None:
    """Its endpoint went, so it announces nothing; what it has for itself counts nevertheless."""
    agent = scene.cluster.agent(scene.first)
    scene.endpoints(scene.second)
    for family, vip in VIPS.items():
        wait_until(
            lambda vip=vip: "noLocalEndpoint" in (said := agent.cli("explain", vip).stdout) and "answeredHere" in said
        )
        assert HOSTS[family] not in scene.cluster.learned(scene.first, family)

    for vip in VIPS.values():
        scene.first.ip("addr", "del", vip, "dev", "kube-ipvs0")
    try:
        for family in scene.lab.families:
            hop = [str(scene.second.address(family))]
            wait_until(lambda f=family, h=hop: scene.cluster.learned(scene.first, f).get(HOSTS[f]) == h)
    finally:
        for vip in VIPS.values():
            scene.first.ip("addr", "add", vip, "dev", "kube-ipvs0")
    wait_until(lambda: HOSTS["ipv4"] not in scene.cluster.learned(scene.first, "ipv4"))


def test_a_host_route_to_an_address_that_no_service_has_is_refused(scene: Scene) -> None:
    """Announced by a BGPAdvertisement of type Prefix it would go to routers only: so by a service that goes."""
    scene.api.apply(service_object("gone", [STRANGER.removesuffix("/32")]))
    wait_until(lambda: STRANGER in scene.cluster.learned(scene.bare, "ipv4"))

    scene.api.delete("Service", "gone", "default")

    wait_until(lambda: STRANGER not in scene.cluster.learned(scene.bare, "ipv4"))
    assert scene.leads_to(scene.first, scene.second)


@pytest.mark.parametrize("value", ["Announce", "Off"])
def test_switched_back_the_routes_are_removed(scene: Scene, value: str) -> None:
    scene.set_service_routes(value)

    wait_until(scene.leads_to)
    scene.cluster.wait_meshed()
    agent, still_told = scene.cluster.agent(scene.bare), value == "Announce"
    wait_until(lambda: ("serviceRoutesOff" in agent.cli("explain", VIPS["ipv4"]).stdout) == still_told)
