"""Real agents and two routers outside: what FRR and BIRD are told, and what of theirs gets into a node's kernel.

The routers' own tables are the judges of an announcement, both families at once; the node's kernel of a learned route.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import pytest

from tests.lab.judges import Judges, both, hosts
from tests.lab.minicluster import (
    LAB_HOLD_SECONDS,
    OUR_PROTOCOL,
    ROUTER_ASN,
    MiniCluster,
    custom,
    service_object,
    slice_object,
)
from tests.lab.netns import Family
from tests.lab.topology import Lab, Node
from tests.lab.wait import wait_until

pytestmark = pytest.mark.live

VIPS = ("10.96.0.80", "fd96::80")
EXTERNAL_IPS = ("192.0.2.7", "2001:db8:7::7")
BALANCER_IPS = ("192.0.2.80", "2001:db8::80")
CLASSES = {"ClusterIP": VIPS, "ExternalIP": EXTERNAL_IPS, "LoadBalancerIP": BALANCER_IPS}
ALLOWED = ["192.0.2.0/29", "2001:db8:7::/64"]
"""EXTERNAL_IPS are inside."""
OUTSIDE = ("192.0.2.8", "2001:db8:8::7")
"""The addresses next to ALLOWED."""
OTHERS = ("10.96.0.81", "fd96::81")
LABELS = {"advertise": "yes"}


class Scene:
    """Two nodes in a mesh, FRR and BIRD as their routers, every node peering with both."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.cluster = MiniCluster(lab)
        self.api = self.cluster.api
        self.judges = Judges(lab)
        self.frr = self.judges.frr
        self.reset()
        self.cluster.start()
        self.cluster.wait_meshed()
        self.judges.wait_established()

    def reset(self) -> None:
        """Settings, peers and what is advertised, as every test finds them."""
        self.instance()
        self.api.apply(*self.judges.peers())
        self.advertise(*CLASSES)

    def instance(self, **spec: Any) -> None:
        self.api.apply(custom("BGPInstance", "default", {"mesh": {"holdSeconds": LAB_HOLD_SECONDS}, **spec}))

    def advertise(self, *classes: str) -> None:
        chosen = {"addresses": list(classes), "selector": {"matchLabels": LABELS}}
        self.api.apply(custom("BGPAdvertisement", "services", {"type": "Service", "service": chosen}))

    def service(self, name: str = "web", *, cluster_ips: Iterable[str] = VIPS, **more: Any) -> None:
        self.api.apply(service_object(name, list(cluster_ips), **{"labels": LABELS, **more}))

    def told(self, addresses: Iterable[str], *nodes: Node) -> None:
        """Both routers have host routes to these from exactly these nodes, from now on or soon."""
        self.judges.told(hosts(addresses), *nodes)

    def told_only(self, *addresses: str) -> bool:
        assert self.judges.hosts() == both(*addresses)
        return True

    def endpoints(self, name: str, *nodes: Node, ready: bool = True) -> None:
        for family, pod in (("IPv4", "10.244.{}.9"), ("IPv6", "fd10:244:{}::9")):
            pods = {node.name: [pod.format(node.index)] for node in nodes}
            self.api.apply(slice_object(name, pods, family=family, ready=ready))


@pytest.fixture(scope="module")
def scene() -> Iterator[Scene]:
    with Lab(nodes=2, routers=2) as lab:
        built = Scene(lab)
        yield built
        flaps = built.cluster.flaps()
        built.cluster.close()
        assert flaps == 0, "none of all the changes in this file is a reason to lose a session"


@pytest.fixture
def nodes(scene: Scene) -> tuple[Node, Node]:
    return scene.lab.node(1), scene.lab.node(2)


@pytest.fixture(autouse=True)
def clean(scene: Scene) -> Iterator[None]:
    """Each test leaves the services and peers as they were."""
    yield
    scene.cluster.delete_all("Service", "EndpointSlice")
    scene.reset()
    scene.frr.withdraw(*scene.frr.originated)
    scene.judges.bird.withdraw(*scene.judges.bird.originated)
    wait_until(scene.told_only)
    scene.cluster.wait_meshed()


def test_pod_cidrs_reach_the_routers_from_their_own_node_only(scene: Scene, nodes: tuple[Node, Node]) -> None:
    for node in nodes:
        scene.judges.told(map(str, node.pod_cidrs.values()), node)


@pytest.mark.parametrize("chosen", CLASSES)
def test_a_class_of_addresses_is_told_by_every_node_and_no_class_that_was_not_chosen(
    scene: Scene, nodes: tuple[Node, Node], chosen: str
) -> None:
    scene.instance(allowedExternalIPs=ALLOWED)
    scene.advertise(chosen)
    scene.service(external_ips=EXTERNAL_IPS, load_balancer_ips=BALANCER_IPS)
    scene.endpoints("web", nodes[0])

    scene.told(CLASSES[chosen], *nodes)
    wait_until(lambda: scene.told_only(*CLASSES[chosen]))  # what is chosen may be heard of after the Service

    scene.api.delete("Service", "web", "default")
    wait_until(scene.told_only)


def test_a_service_that_is_not_selected_is_not_told(scene: Scene, nodes: tuple[Node, Node]) -> None:
    scene.service("quiet", cluster_ips=OTHERS, labels={})
    scene.service()

    scene.told(VIPS, *nodes)

    scene.told_only(*VIPS)


def test_a_changed_label_changes_what_is_told(scene: Scene, nodes: tuple[Node, Node]) -> None:
    scene.service(labels={})
    scene.service()
    scene.told(VIPS, *nodes)

    scene.service(labels={})

    scene.told(VIPS)


def test_policy_local_follows_the_endpoints_for_addresses_from_outside(scene: Scene, nodes: tuple[Node, Node]) -> None:
    first, second = nodes
    outside = EXTERNAL_IPS + BALANCER_IPS
    scene.instance(allowedExternalIPs=ALLOWED)
    scene.service(external_ips=EXTERNAL_IPS, load_balancer_ips=BALANCER_IPS, external_policy="Local")
    scene.endpoints("web", first)
    scene.told(outside, first)
    scene.told(VIPS, *nodes)

    scene.endpoints("web", first, second)
    scene.told(outside, *nodes)
    scene.endpoints("web", second)
    scene.told(outside, second)
    scene.endpoints("web", second, ready=False)
    scene.told(outside)
    scene.endpoints("web", first)
    scene.told(outside, first)
    for family in scene.lab.families:
        scene.api.delete("EndpointSlice", f"web-{family}", "default")

    scene.told(outside)
    scene.told(VIPS, *nodes)


def test_internal_policy_local_holds_for_cluster_ips_alone(scene: Scene, nodes: tuple[Node, Node]) -> None:
    scene.service(load_balancer_ips=BALANCER_IPS, internal_policy="Local")
    scene.endpoints("web", nodes[1])

    scene.told(VIPS, nodes[1])
    scene.told(BALANCER_IPS, *nodes)


def test_an_address_shared_by_two_services_survives_the_loss_of_one(scene: Scene, nodes: tuple[Node, Node]) -> None:
    for name, cluster_ips in (("one", VIPS), ("two", OTHERS)):
        scene.service(name, cluster_ips=cluster_ips, load_balancer_ips=BALANCER_IPS)
    scene.told(BALANCER_IPS, *nodes)

    with scene.judges.watch() as watch:
        scene.api.delete("Service", "one", "default")
        scene.told(VIPS)

        scene.told(BALANCER_IPS, *nodes)
        for address in BALANCER_IPS:
            assert watch.changes(address) == [[], []]


def test_external_ips_are_told_inside_the_allow_list_only(scene: Scene, nodes: tuple[Node, Node]) -> None:
    scene.service(external_ips=EXTERNAL_IPS + OUTSIDE)
    scene.told(VIPS, *nodes)
    wait_until(lambda: scene.told_only(*VIPS))
    explained = scene.cluster.agent(nodes[0]).cli("explain", "default/web").stdout
    assert explained.count("externalIPNotAllowed") >= len(EXTERNAL_IPS + OUTSIDE)

    scene.instance(allowedExternalIPs=ALLOWED)
    scene.told(EXTERNAL_IPS, *nodes)
    scene.told_only(*VIPS, *EXTERNAL_IPS)

    scene.instance()
    scene.told(EXTERNAL_IPS)


def test_nothing_of_a_router_is_installed_unless_allowed(scene: Scene, nodes: tuple[Node, Node]) -> None:
    first, second = nodes
    hostile = [
        "0.0.0.0/0",
        "198.51.100.0/24",
        "10.96.0.0/16",
        str(first.pod_cidrs["ipv4"]),
        "10.244.1.128/25",
        "172.18.0.0/24",
        "172.18.0.12/32",
    ]
    scene.frr.announce(*hostile)
    wait_until(lambda: _refused(scene, first).keys() >= set(hostile))

    scene.cluster.wait_meshed()

    assert all(_refused(scene, first)[prefix] for prefix in hostile)
    assert second.name


def test_import_allows_what_it_names_and_never_what_is_ours(scene: Scene, nodes: tuple[Node, Node]) -> None:
    first, _ = nodes
    scene.instance(serviceCIDRs=["10.96.0.0/16"])
    scene.api.apply(scene.judges.peer("frr", **{"import": {"allowed": [{"prefix": "0.0.0.0/0", "ge": 0, "le": 32}]}}))
    hostile = [str(first.pod_cidrs["ipv4"]), "10.244.1.128/25", "172.18.0.0/24", "172.18.0.11/32", "10.96.0.5/32"]
    scene.frr.announce("198.51.100.0/24", *hostile)

    wait_until(lambda: scene.cluster.learned(first, "ipv4").get("198.51.100.0/24") == ["172.18.0.1"])

    wait_until(lambda: _refused(scene, first).keys() >= set(hostile))
    assert {"198.51.100.0/24", *(str(scene.lab.node(2).pod_cidrs["ipv4"]),)} == set(
        scene.cluster.learned(first, "ipv4")
    )
    scene.frr.withdraw("198.51.100.0/24")
    wait_until(lambda: "198.51.100.0/24" not in scene.cluster.learned(first, "ipv4"))


def test_what_was_learned_of_a_router_is_told_to_nobody_else(scene: Scene, nodes: tuple[Node, Node]) -> None:
    of_frr, of_bird = {"198.51.100.0/24", "2001:db8:51::/48"}, {"203.0.113.0/24", "2001:db8:113::/48"}
    everything = [{"prefix": prefix} for prefix in of_frr | of_bird]
    scene.api.apply(*scene.judges.peers(**{"import": {"allowed": everything}}))
    scene.frr.announce(*of_frr)
    scene.judges.bird.announce(*of_bird)
    for node in nodes:
        wait_until(lambda node=node: of_frr | of_bird <= _learned(scene, node))  # type: ignore[misc]

    scene.service()
    scene.told(VIPS, *nodes)

    pods = {str(cidr) for node in nodes for cidr in node.pod_cidrs.values()}
    tables = scene.judges.tables()
    assert set(tables["frr"]) == set(tables["bird"]) == {*pods, *hosts(VIPS)}
    for node, other in (nodes, nodes[::-1]):
        told = scene.cluster.agent(node).view("routes", peer=other.name)["rows"]
        assert {row["prefix"] for row in told} == {str(cidr) for cidr in other.pod_cidrs.values()}


def test_pod_routes_off_leaves_pods_to_another_cni(scene: Scene, nodes: tuple[Node, Node]) -> None:
    scene.service()
    scene.told(VIPS, *nodes)

    scene.instance(podRoutes="Off")

    for node in nodes:
        scene.judges.told(map(str, node.pod_cidrs.values()))
        for family in scene.lab.families:
            wait_until(lambda: node.kernel_routes(family, "proto", OUR_PROTOCOL) == {})  # noqa: B023
    scene.told(VIPS, *nodes)


def test_two_routers_that_announce_the_same_are_one_multipath_route(scene: Scene, nodes: tuple[Node, Node]) -> None:
    prefixes: dict[Family, str] = {"ipv4": "198.51.100.0/24", "ipv6": "2001:db8:51::/48"}
    allowed = [{"prefix": prefix} for prefix in prefixes.values()]
    scene.api.apply(*scene.judges.peers(**{"import": {"allowed": allowed}}))
    scene.frr.announce(*prefixes.values())
    scene.judges.bird.announce(*prefixes.values())
    hops = {family: [str(router.address(family)) for router in scene.lab.routers] for family in scene.lab.families}

    def installed(routers: slice) -> bool:
        for node in nodes:
            for family, prefix in prefixes.items():
                assert scene.cluster.learned(node, family).get(prefix) == hops[family][routers]
        return True

    wait_until(lambda: installed(slice(0, 2)))
    scene.frr.withdraw(*prefixes.values())

    wait_until(lambda: installed(slice(1, 2)))


def test_a_peer_for_some_nodes_only_is_dialed_by_those(scene: Scene, nodes: tuple[Node, Node]) -> None:
    spec: dict[str, Any] = {
        "address": "10.99.0.77",
        "asn": ROUTER_ASN,
        "nodeSelector": {"matchLabels": {"rack": "a"}},
    }
    scene.api.merge("Node", nodes[0].name, {"metadata": {"labels": {"rack": "a"}}})
    scene.api.apply(custom("BGPPeer", "some", spec))

    wait_until(lambda: "10.99.0.77" in scene.cluster.agent(nodes[0]).view("peers")["peers"])

    assert "10.99.0.77" not in scene.cluster.agent(nodes[1]).view("peers")["peers"]
    scene.api.delete("BGPPeer", "some")
    wait_until(lambda: "10.99.0.77" not in scene.cluster.agent(nodes[0]).view("peers")["peers"])


def test_the_hold_time_of_a_peer_is_what_was_set(scene: Scene, nodes: tuple[Node, Node]) -> None:
    peer = scene.cluster.agent(nodes[0]).view("peers")["peers"]["172.18.0.1"]

    assert (peer["hold_seconds"], peer["keepalive_seconds"]) == (LAB_HOLD_SECONDS, LAB_HOLD_SECONDS // 3)


def _refused(scene: Scene, node: Node) -> dict[str, str]:
    """Prefix → reason word, of what the router announced and the node does not take."""
    rows = scene.cluster.agent(node).view("routes", peer="frr")["rows"]
    return {row["prefix"]: row["reason"] for row in rows if not row["accepted"]}


def _learned(scene: Scene, node: Node) -> set[str]:
    """What the kernel of the node has of ours, both families."""
    return {prefix for family in scene.lab.families for prefix in scene.cluster.learned(node, family)}
