"""What BGPAdvertisements say of routes, and to whom: judged by the tables of FRR and BIRD, two routers of one node.

FRR's BGPPeer has the label router=frr, BIRD's router=bird: what is meant for one alone shows in the other's table.
"""

from __future__ import annotations

from collections.abc import Iterator
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
)
from tests.lab.neighbor import Neighbor
from tests.lab.netns import Family
from tests.lab.topology import Host, Lab, Node
from tests.lab.wait import wait_until

pytestmark = pytest.mark.live

VIP, VIP6, OTHER_VIP, OTHER_VIP6 = "10.96.0.80", "fd96::80", "10.96.0.81", "fd96::81"
HOST, HOST6 = f"{VIP}/32", f"{VIP6}/128"
AGGREGATE, AGGREGATE6 = "10.96.0.0/24", "fd96::/64"
STATIC, STATIC6 = "203.0.113.0/24", "2001:db8:7::/48"
SAID = {
    "communities": ["65000:120", "no-export"],
    "largeCommunities": ["4200000001:1:20"],
    "med": 77,
    "prepend": 2,
}


class Scene:
    """One node, and two routers that it peers with over eBGP, both families."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.cluster = MiniCluster(lab)
        self.api = self.cluster.api
        ours = Neighbor(str(self.node.address()), CLUSTER_ASN, families=lab.families, hold_seconds=LAB_HOLD_SECONDS)
        self.frr = Frr(lab.routers[0], asn=ROUTER_ASN, router_id="10.99.0.1", neighbors=[ours])
        self.bird = Bird(lab.routers[1], asn=ROUTER_ASN, router_id="10.99.0.2", neighbors=[ours])
        self.api.apply(custom("BGPInstance", "default", {"mesh": {"mode": "None"}}))
        self.api.apply(_peer("frr", lab.routers[0]), _peer("bird", lab.routers[1]))
        self.cluster.start()
        wait_until(lambda: self.frr.established() and self.bird.established(), within=90)

    @property
    def node(self) -> Node:
        return self.lab.node(1)

    def advertise(self, name: str, **spec: Any) -> None:
        self.api.apply(custom("BGPAdvertisement", name, spec))

    def service(self, name: str, *addresses: str, annotation: str | None = None, namespace: str = "default") -> None:
        thing = service_object(name, addresses)
        thing["metadata"]["namespace"] = namespace
        if annotation is not None:
            thing["metadata"]["annotations"] = {"bgpilot.io/advertise": annotation}
        self.api.apply(thing)

    def heard(self, family: Family = "ipv4") -> tuple[set[str], set[str]]:
        """What the node tells FRR and BIRD, but for its pod CIDR."""
        pods = {str(cidr) for cidr in self.node.pod_cidrs.values()}
        return set(self.frr.routes(family)) - pods, set(self.bird.routes(family)) - pods

    def told(self, frr: set[str], bird: set[str], family: Family = "ipv4") -> None:
        wait_until(lambda: self.heard(family) == (frr, bird))

    def told_both(self, *prefixes: str, family: Family = "ipv4") -> None:
        self.told(set(prefixes), set(prefixes), family)

    def discards(self, family: Family) -> set[str]:
        """Prefixes that end on the node unless something better is known."""
        return {prefix for prefix, hops in self.node.kernel_routes(family, "proto", "179").items() if not hops}

    def explained(self, subject: str) -> str:
        return self.cluster.agent(self.node).cli("explain", subject).stdout


def _peer(name: str, router: Host) -> dict[str, Any]:
    spec = {"address": str(router.address()), "asn": ROUTER_ASN, "holdSeconds": LAB_HOLD_SECONDS}
    peer = custom("BGPPeer", name, spec)
    peer["metadata"]["labels"] = {"router": name}
    return peer


def only(name: str) -> dict[str, Any]:
    return {"matchLabels": {"router": name}}


@pytest.fixture(scope="module")
def built() -> Iterator[Scene]:
    with Lab(nodes=1, routers=2) as lab:
        scene = Scene(lab)
        yield scene
        address = str(scene.node.address())
        assert scene.frr.times_established(address) == 1, "what is announced is no reason to lose a session"
        scene.cluster.close()


@pytest.fixture
def scene(built: Scene) -> Iterator[Scene]:
    yield built
    for kind in ("Service", "EndpointSlice", "BGPAdvertisement", "Namespace"):
        for thing in built.api.list(kind):
            built.api.delete(kind, thing["metadata"]["name"], thing["metadata"].get("namespace", ""))
    for family in built.lab.families:
        built.told_both(family=family)


def test_attributes_stand_in_the_tables_of_both_routers(scene: Scene) -> None:
    scene.advertise("services", type="Service", service={"addresses": ["ClusterIP"]}, attributes=SAID)
    scene.service("web", VIP, VIP6)

    scene.told_both(HOST)
    scene.told_both(HOST6, family="ipv6")
    for prefix in (HOST, HOST6):
        (path,) = scene.frr.paths(prefix)
        assert set(path["community"]["string"].split()) == {"65000:120", "no-export"}
        assert path["largeCommunity"]["string"] == "4200000001:1:20"
        assert path["aspath"]["string"] == " ".join([str(CLUSTER_ASN)] * 3)
        assert path["metric"] == 77
        text = scene.bird.route_text(prefix)
        assert "BGP.community: (65000,120) (65535,65281)" in text
        assert "BGP.large_community: (4200000001, 1, 20)" in text
        assert "BGP.as_path: " + " ".join([str(CLUSTER_ASN)] * 3) in text
        assert "BGP.med: 77" in text


def test_what_several_advertisements_say_of_one_route_is_joined(scene: Scene) -> None:
    service = {"addresses": ["ClusterIP"]}
    scene.advertise("a", type="Service", service=service, attributes={"communities": ["65000:1"], "med": 50})
    scene.advertise("b", type="Service", service=service, attributes={"communities": ["65000:2"], "prepend": 1})
    scene.service("web", VIP)
    scene.told_both(HOST)

    wait_until(lambda: scene.frr.paths(HOST)[0]["community"]["string"] == "65000:1 65000:2")
    (path,) = scene.frr.paths(HOST)
    assert (path["metric"], path["aspath"]["length"]) == (50, 2)

    scene.api.delete("BGPAdvertisement", "a")
    wait_until(lambda: scene.frr.paths(HOST)[0]["community"]["string"] == "65000:2")


def test_a_peer_hears_what_is_meant_for_it_alone(scene: Scene) -> None:
    service = {"addresses": ["ClusterIP"]}
    scene.advertise("services", type="Service", service=service, peerSelector=only("frr"))
    scene.advertise("lab", type="Prefix", prefixes=[STATIC], peerSelector=only("bird"))
    scene.service("web", VIP)

    scene.told({HOST}, {STATIC})

    scene.advertise("services", type="Service", service=service, peerSelector=only("bird"))
    scene.told(set(), {HOST, STATIC})


def test_a_relabelled_peer_hears_what_is_meant_for_it_now_without_losing_its_session(scene: Scene) -> None:
    scene.advertise("lab", type="Prefix", prefixes=[STATIC], peerSelector={"matchLabels": {"tier": "edge"}})
    peer = _peer("bird", scene.lab.routers[1])
    peer["metadata"]["labels"]["tier"] = "edge"

    scene.api.apply(peer)
    scene.told(set(), {STATIC})

    scene.api.apply(_peer("bird", scene.lab.routers[1]))
    scene.told_both()


def test_static_prefixes_are_announced_and_leave_the_kernel_alone(scene: Scene) -> None:
    scene.advertise("lab", type="Prefix", prefixes=[STATIC, STATIC6])

    scene.told_both(STATIC)
    scene.told_both(STATIC6, family="ipv6")
    assert scene.discards("ipv4") == {str(scene.node.pod_cidrs["ipv4"])}
    assert scene.discards("ipv6") == {str(scene.node.pod_cidrs["ipv6"])}

    scene.api.delete("BGPAdvertisement", "lab")
    scene.told_both()


def test_a_prefix_that_would_draw_a_routers_traffic_is_not_announced(scene: Scene) -> None:
    router = str(scene.lab.routers[0].address())
    scene.advertise("lab", type="Prefix", prefixes=[f"{router}/32", STATIC])

    scene.told_both(STATIC)
    assert "prefixInUse" in scene.explained(f"{router}/32")
    assert scene.frr.established()


def test_an_aggregate_stays_as_long_as_one_address_in_it(scene: Scene) -> None:
    service = {"addresses": ["ClusterIP"], "aggregation": {"ipv4": 24, "ipv6": 64}}
    scene.advertise("ranges", type="Service", service=service)
    scene.service("one", VIP, VIP6)
    scene.service("two", OTHER_VIP, OTHER_VIP6)

    scene.told_both(AGGREGATE)
    scene.told_both(AGGREGATE6, family="ipv6")
    assert AGGREGATE not in scene.discards("ipv4"), "the node itself could reach no address in it"
    version = scene.frr.paths(AGGREGATE)[0]["version"]
    assert f"is announced as part of {AGGREGATE}" in scene.explained("default/one")

    scene.api.delete("Service", "one", "default")
    wait_until(lambda: "does not exist" in scene.explained("default/one"))
    assert scene.frr.paths(AGGREGATE)[0]["version"] == version, "routers are not told the same again"

    scene.api.delete("Service", "two", "default")
    scene.told_both()
    scene.told_both(family="ipv6")


def test_a_service_asks_for_more_and_for_less_by_annotation(scene: Scene) -> None:
    scene.advertise("services", type="Service", service={"onRequest": ["ClusterIP"]})
    scene.service("web", VIP)
    scene.service("asks", OTHER_VIP, annotation="true")

    scene.told_both(f"{OTHER_VIP}/32")

    scene.service("web", VIP, annotation="ClusterIP")
    scene.service("asks", OTHER_VIP, annotation="false")
    scene.told_both(HOST)


def test_a_mistyped_annotation_leaves_what_was_announced_and_says_so(scene: Scene) -> None:
    scene.advertise("services", type="Service", service={"addresses": ["ClusterIP"]})
    scene.service("web", VIP)
    scene.told_both(HOST)

    scene.service("web", VIP, annotation="flase")

    wait_until(lambda: "'flase' is not known: its last good version stays in force" in scene.explained("default/web"))
    scene.told_both(HOST)


def test_services_are_chosen_by_the_labels_of_their_namespace(scene: Scene) -> None:
    chosen = {"addresses": ["ClusterIP"], "namespaceSelector": {"matchLabels": {"public": "yes"}}}
    scene.advertise("services", type="Service", service=chosen)
    shop = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop", "labels": {"public": "no"}}}
    scene.api.apply(shop)
    scene.service("web", VIP, namespace="shop")
    scene.service("web", OTHER_VIP)
    wait_until(lambda: "notSelected" in scene.explained("shop/web"))

    shop["metadata"]["labels"]["public"] = "yes"
    scene.api.apply(shop)
    scene.told_both(HOST)

    shop["metadata"]["labels"]["public"] = "no"
    scene.api.apply(shop)
    scene.told_both()


def test_an_address_without_any_endpoint_is_kept_or_withdrawn_as_the_advertisement_says(scene: Scene) -> None:
    keeping = {"addresses": ["ClusterIP"]}
    scene.advertise("keep", type="Service", service=keeping, peerSelector=only("frr"))
    withdrawing = {**keeping, "whenNoEndpoints": "Withdraw"}
    scene.advertise("withdraw", type="Service", service=withdrawing, peerSelector=only("bird"))
    scene.service("web", VIP)
    scene.told({HOST}, set())

    scene.api.apply(slice_object("web", {"elsewhere": ["10.244.9.9"]}))
    scene.told({HOST}, {HOST})

    scene.api.apply(slice_object("web", {"elsewhere": ["10.244.9.9"]}, ready=False))
    scene.told({HOST}, set())


@pytest.mark.parametrize(
    ("labels", "taints", "reason"),
    [
        ({"node.kubernetes.io/exclude-from-external-load-balancers": ""}, [], "nodeExcluded"),
        ({}, [{"key": "node.kubernetes.io/out-of-service", "effect": "NoExecute"}], "nodeDraining"),
    ],
)
def test_a_node_that_is_excluded_or_goes_keeps_its_pods_and_sessions_and_tells_no_service(
    scene: Scene, labels: dict[str, str], taints: list[dict[str, str]], reason: str
) -> None:
    scene.advertise("services", type="Service", service={"addresses": ["ClusterIP"]})
    scene.service("web", VIP)
    scene.told_both(HOST)
    before = scene.api.get("Node", scene.node.name)
    changed = {**before, "metadata": {**before["metadata"], "labels": labels}}
    changed["spec"] = {**before["spec"], "taints": taints}

    scene.api.apply(changed)
    scene.told_both()
    assert str(scene.node.pod_cidrs["ipv4"]) in scene.frr.routes("ipv4")
    assert reason in scene.explained("default/web")

    scene.api.apply(before)
    scene.told_both(HOST)


def test_a_readiness_that_flips_is_not_told_to_routers_and_an_endpoint_that_goes_is_told_at_once(scene: Scene) -> None:
    damping = {"withdrawMilliseconds": 60_000}  # longer than any wait of this test
    scene.api.apply(custom("BGPInstance", "default", {"mesh": {"mode": "None"}, "damping": damping}))
    scene.advertise("services", type="Service", service={"addresses": ["ClusterIP"]})
    local = service_object("web", [VIP], internal_policy="Local")
    here = {scene.node.name: ["10.244.1.9"]}
    scene.api.apply(local, slice_object("web", here))
    scene.told_both(HOST)
    version = scene.frr.paths(HOST)[0]["version"]

    scene.api.apply(slice_object("web", here, ready=False))
    scene.api.apply(slice_object("web", here))
    scene.service("later", OTHER_VIP)
    scene.told_both(HOST, f"{OTHER_VIP}/32")
    assert scene.frr.paths(HOST)[0]["version"] == version, "it was withdrawn meanwhile"

    scene.api.apply(slice_object("web", {}))
    scene.told_both(f"{OTHER_VIP}/32")
