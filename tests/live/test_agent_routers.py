"""Real agents and a router outside: what FRR and BIRD are told, and what of theirs gets into a node's kernel.

The router's own table is the judge of an announcement, the node's kernel of a learned route.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.lab.bird import Bird
from tests.lab.frr import Frr
from tests.lab.minicluster import (
    CLUSTER_ASN,
    LAB_HOLD_SECONDS,
    ROUTER_ASN,
    MiniCluster,
    custom,
    service_object,
    slice_object,
    tor,
    tor_peer,
)
from tests.lab.neighbor import Neighbor
from tests.lab.netns import Family
from tests.lab.topology import Lab, Node
from tests.lab.wait import wait_until

pytestmark = pytest.mark.live

VIP, VIP6, EXTERNAL_IP, BALANCER_IP, BALANCER_IP6 = "10.96.0.80", "fd96::80", "192.0.2.7", "192.0.2.80", "2001:db8::80"
ALL_SERVICES = custom(
    "BGPAdvertisement",
    "services",
    {
        "type": "Service",
        "service": {
            "addresses": ["ClusterIP", "ExternalIP", "LoadBalancerIP"],
            "selector": {"matchLabels": {"advertise": "yes"}},
        },
    },
)
LABELS = {"advertise": "yes"}


class Scene:
    """Two nodes in a mesh, FRR as their router, every node peering with it."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.cluster = MiniCluster(lab)
        self.api = self.cluster.api
        self.api.apply(custom("BGPInstance", "default", {"mesh": {"holdSeconds": LAB_HOLD_SECONDS}}))
        self.api.apply(tor_peer(lab.router), ALL_SERVICES)
        self.frr = tor(lab.router)
        self.cluster.start()
        self.cluster.wait_meshed()
        wait_until(lambda: len(self.frr.established()) == len(lab.nodes))

    def hops(self, *nodes: Node, family: Family = "ipv4") -> list[str]:
        return sorted(str(node.address(family)) for node in nodes)

    def told(self, prefix: str, *nodes: Node, family: Family = "ipv4") -> None:
        """The router has the prefix from exactly these nodes, from now on or soon."""
        wanted = self.hops(*nodes, family=family)
        wait_until(lambda: self.frr.routes(family).get(prefix, []) == wanted)

    def endpoints(self, name: str, *nodes: Node, ready: bool = True) -> None:
        self.api.apply(slice_object(name, {node.name: [f"10.244.{node.index}.9"] for node in nodes}, ready=ready))

    def flaps(self) -> int:
        peers = [self.cluster.agent(node).ask("peers")["peers"].values() for node in self.lab.nodes.values()]
        return sum(peer["flaps"] for table in peers for peer in table)


@pytest.fixture(scope="module")
def scene() -> Iterator[Scene]:
    with Lab(nodes=2) as lab:
        built = Scene(lab)
        yield built
        assert built.flaps() == 0, "none of all the changes in this file is a reason to lose a session"
        built.cluster.close()


@pytest.fixture
def nodes(scene: Scene) -> tuple[Node, Node]:
    return scene.lab.node(1), scene.lab.node(2)


@pytest.fixture(autouse=True)
def clean(scene: Scene) -> Iterator[None]:
    """Each test leaves the services and peers as they were."""
    yield
    for kind in ("Service", "EndpointSlice"):
        for thing in scene.api.list(kind):
            scene.api.delete(kind, thing["metadata"]["name"], thing["metadata"]["namespace"])
    scene.api.apply(tor_peer(scene.lab.router))
    scene.api.apply(custom("BGPInstance", "default", {"mesh": {"holdSeconds": LAB_HOLD_SECONDS}}))
    for prefix in [prefix for prefix, hops in scene.frr.routes("ipv4").items() if not hops]:
        scene.frr.withdraw(prefix)
    wait_until(lambda: all(prefix.startswith("10.244.") for prefix in scene.frr.routes("ipv4")))
    scene.cluster.wait_meshed()


def test_pod_cidrs_reach_the_router_from_their_own_node_only(scene: Scene, nodes: tuple[Node, Node]) -> None:
    for node in nodes:
        scene.told(str(node.pod_cidrs["ipv4"]), node)
        scene.told(str(node.pod_cidrs["ipv6"]), node, family="ipv6")


def test_a_cluster_ip_is_told_by_every_node_in_both_families(scene: Scene, nodes: tuple[Node, Node]) -> None:
    scene.api.apply(service_object("web", [VIP, VIP6], labels=LABELS))
    scene.endpoints("web", nodes[0])

    scene.told(f"{VIP}/32", *nodes)
    scene.told(f"{VIP6}/128", *nodes, family="ipv6")

    scene.api.delete("Service", "web", "default")
    scene.told(f"{VIP}/32")
    scene.told(f"{VIP6}/128", family="ipv6")


def test_a_service_that_is_not_selected_is_not_told(scene: Scene, nodes: tuple[Node, Node]) -> None:
    scene.api.apply(service_object("quiet", ["10.96.0.81"]), service_object("web", [VIP], labels=LABELS))

    scene.told(f"{VIP}/32", *nodes)

    assert "10.96.0.81/32" not in scene.frr.routes("ipv4")


def test_a_changed_label_changes_what_is_told(scene: Scene, nodes: tuple[Node, Node]) -> None:
    scene.api.apply(service_object("web", [VIP]))
    scene.api.apply(service_object("web", [VIP], labels=LABELS))
    scene.told(f"{VIP}/32", *nodes)

    scene.api.apply(service_object("web", [VIP]))

    scene.told(f"{VIP}/32")


def test_policy_local_follows_the_endpoints(scene: Scene, nodes: tuple[Node, Node]) -> None:
    first, second = nodes
    scene.api.apply(
        service_object("web", [VIP], load_balancer_ips=[BALANCER_IP], external_policy="Local", labels=LABELS)
    )
    scene.endpoints("web", first)
    scene.told(f"{BALANCER_IP}/32", first)
    scene.told(f"{VIP}/32", *nodes)

    scene.endpoints("web", first, second)
    scene.told(f"{BALANCER_IP}/32", *nodes)
    scene.endpoints("web", second)
    scene.told(f"{BALANCER_IP}/32", second)
    scene.endpoints("web", second, ready=False)
    scene.told(f"{BALANCER_IP}/32")
    scene.endpoints("web", first)
    scene.told(f"{BALANCER_IP}/32", first)
    scene.api.delete("EndpointSlice", "web-ipv4", "default")

    scene.told(f"{BALANCER_IP}/32")


def test_internal_policy_local_holds_for_cluster_ips(scene: Scene, nodes: tuple[Node, Node]) -> None:
    scene.api.apply(service_object("web", [VIP], internal_policy="Local", labels=LABELS))
    scene.endpoints("web", nodes[1])

    scene.told(f"{VIP}/32", nodes[1])


def test_an_address_shared_by_two_services_survives_the_loss_of_one(scene: Scene, nodes: tuple[Node, Node]) -> None:
    for name, own in (("one", "10.96.0.1"), ("two", "10.96.0.2")):
        scene.api.apply(service_object(name, [own], load_balancer_ips=[BALANCER_IP], labels=LABELS))
    scene.told(f"{BALANCER_IP}/32", *nodes)
    watch = scene.lab.router.start(["ip", "monitor", "route"], log="shared-vip")

    scene.api.delete("Service", "one", "default")
    scene.told("10.96.0.1/32")

    assert f"{BALANCER_IP}" not in watch.output()
    scene.told(f"{BALANCER_IP}/32", *nodes)


def test_external_ips_are_told_inside_the_allow_list_only(scene: Scene, nodes: tuple[Node, Node]) -> None:
    scene.api.apply(service_object("web", [VIP], external_ips=[EXTERNAL_IP], labels=LABELS))
    scene.told(f"{VIP}/32", *nodes)
    assert f"{EXTERNAL_IP}/32" not in scene.frr.routes("ipv4")
    explained = scene.cluster.agent(nodes[0]).cli("explain", "default/web").stdout
    assert "externalIPNotAllowed" in explained

    spec = {"mesh": {"holdSeconds": LAB_HOLD_SECONDS}, "allowedExternalIPs": ["192.0.2.0/29"]}
    scene.api.apply(custom("BGPInstance", "default", spec))

    scene.told(f"{EXTERNAL_IP}/32", *nodes)


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
    scene.api.apply(
        custom("BGPInstance", "default", {"mesh": {"holdSeconds": LAB_HOLD_SECONDS}, "serviceCIDRs": ["10.96.0.0/16"]})
    )
    scene.api.apply(tor_peer(scene.lab.router, **{"import": {"allowed": [{"prefix": "0.0.0.0/0", "ge": 0, "le": 32}]}}))
    hostile = [str(first.pod_cidrs["ipv4"]), "10.244.1.128/25", "172.18.0.0/24", "172.18.0.11/32", "10.96.0.5/32"]
    scene.frr.announce("198.51.100.0/24", *hostile)

    wait_until(lambda: scene.cluster.learned(first, "ipv4").get("198.51.100.0/24") == ["172.18.0.1"])

    wait_until(lambda: _refused(scene, first).keys() >= set(hostile))
    assert {"198.51.100.0/24", *(str(scene.lab.node(2).pod_cidrs["ipv4"]),)} == set(
        scene.cluster.learned(first, "ipv4")
    )
    scene.frr.withdraw("198.51.100.0/24")
    wait_until(lambda: "198.51.100.0/24" not in scene.cluster.learned(first, "ipv4"))


def test_what_was_learned_is_not_told_to_another_router(scene: Scene, nodes: tuple[Node, Node]) -> None:
    second_router = Bird(
        scene.lab.client,
        asn=64700,
        router_id="10.99.0.10",
        neighbors=[Neighbor("172.18.0.0/24", CLUSTER_ASN, families=("ipv4",), extra=("multihop 2;",))],
    )
    scene.api.apply(tor_peer(scene.lab.router, **{"import": {"allowed": [{"prefix": "198.51.100.0/24"}]}}))
    scene.api.apply(
        custom("BGPPeer", "second", {"address": "10.99.0.10", "asn": 64700, "holdSeconds": LAB_HOLD_SECONDS})
    )
    scene.frr.announce("198.51.100.0/24")
    wait_until(lambda: "198.51.100.0/24" in scene.cluster.learned(nodes[0], "ipv4"))
    wanted = {str(node.pod_cidrs["ipv4"]) for node in nodes}

    wait_until(lambda: set(second_router.routes("ipv4")) >= wanted)

    assert set(second_router.routes("ipv4")) == wanted
    scene.api.delete("BGPPeer", "second")
    second_router.stop()


def test_a_peer_for_some_nodes_only_is_dialed_by_those(scene: Scene, nodes: tuple[Node, Node]) -> None:
    spec: dict[str, Any] = {
        "address": "10.99.0.77",
        "asn": ROUTER_ASN,
        "nodeSelector": {"matchLabels": {"rack": "a"}},
    }
    scene.api.merge("Node", nodes[0].name, {"metadata": {"labels": {"rack": "a"}}})
    scene.api.apply(custom("BGPPeer", "some", spec))

    wait_until(lambda: "10.99.0.77" in scene.cluster.agent(nodes[0]).ask("peers")["peers"])

    assert "10.99.0.77" not in scene.cluster.agent(nodes[1]).ask("peers")["peers"]
    scene.api.delete("BGPPeer", "some")
    wait_until(lambda: "10.99.0.77" not in scene.cluster.agent(nodes[0]).ask("peers")["peers"])


def test_the_hold_time_of_a_peer_is_what_was_set(scene: Scene, nodes: tuple[Node, Node]) -> None:
    peer = scene.cluster.agent(nodes[0]).ask("peers")["peers"]["172.18.0.1"]

    assert (peer["hold_seconds"], peer["keepalive_seconds"]) == (LAB_HOLD_SECONDS, LAB_HOLD_SECONDS // 3)


def _refused(scene: Scene, node: Node) -> dict[str, str]:
    """Prefix → reason word, of what the router announced and the node does not take."""
    rows = scene.cluster.agent(node).ask("routes", "--peer", "tor")["rows"]
    return {row["prefix"]: row["reason"] for row in rows if not row["accepted"]}


def test_pod_routes_off_leaves_pods_to_another_cni(lab: Callable[..., Lab]) -> None:
    site = lab(nodes=2)
    with MiniCluster(site) as cluster:
        cluster.api.apply(custom("BGPInstance", "default", {"podRoutes": "Off"}), tor_peer(site.router), ALL_SERVICES)
        cluster.api.apply(service_object("web", [VIP], labels=LABELS))
        frr = tor(site.router)

        cluster.start()
        wait_until(lambda: len(frr.routes("ipv4").get(f"{VIP}/32", [])) == 2, within=60)

        assert set(frr.routes("ipv4")) == {f"{VIP}/32"}
        for node in site.nodes.values():
            assert node.kernel_routes("ipv4", "proto", "179") == {}
            assert node.kernel_routes("ipv6", "proto", "179") == {}


def test_bird_is_told_the_same(lab: Callable[..., Lab]) -> None:
    site = lab(nodes=2)
    with MiniCluster(site) as cluster:
        neighbors = [
            Neighbor(str(network), CLUSTER_ASN, hold_seconds=LAB_HOLD_SECONDS)
            for network in site.router.subnet.networks.values()
        ]
        bird = Bird(site.router, asn=ROUTER_ASN, router_id="10.99.0.1", neighbors=neighbors)
        cluster.api.apply(tor_peer(site.router), ALL_SERVICES, service_object("web", [VIP, VIP6], labels=LABELS))
        cluster.start()
        both = sorted(str(node.address("ipv4")) for node in site.nodes.values())

        wait_until(lambda: bird.routes("ipv4").get(f"{VIP}/32") == both, within=60)

        both6 = sorted(str(node.address("ipv6")) for node in site.nodes.values())
        wait_until(lambda: bird.routes("ipv6").get(f"{VIP6}/128") == both6)
        for node in site.nodes.values():
            assert bird.routes("ipv4")[str(node.pod_cidrs["ipv4"])] == [str(node.address("ipv4"))]


def test_two_routers_that_announce_the_same_are_one_multipath_route(lab: Callable[..., Lab]) -> None:
    site = lab(nodes=1, routers=2, families=("ipv4",))
    with MiniCluster(site) as cluster:
        allowed = {"import": {"allowed": [{"prefix": "198.51.100.0/24"}]}}
        cluster.api.apply(*(tor_peer(router, name=router.name, **allowed) for router in site.routers))
        frrs: list[Frr] = [tor(router) for router in site.routers]
        cluster.start()
        node = site.node(1)
        for frr in frrs:
            frr.announce("198.51.100.0/24")
        both = sorted(str(router.address()) for router in site.routers)

        wait_until(lambda: cluster.learned(node, "ipv4").get("198.51.100.0/24") == both, within=60)
        frrs[0].withdraw("198.51.100.0/24")

        wait_until(lambda: cluster.learned(node, "ipv4").get("198.51.100.0/24") == both[1:])
