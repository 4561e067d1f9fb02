"""What advertisements say of routes, and for which nodes and routers they hold: the tables of five routers judge.

FRR and BIRD hear both nodes over eBGP and pass on what they may to a third router, `beyond`; another FRR and BIRD are
of the nodes' own AS. All of it in both families.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any

import pytest

from tests.lab.bird import Bird
from tests.lab.frr import Frr
from tests.lab.minicluster import (
    CLUSTER_ASN,
    LAB_HOLD_SECONDS,
    ROUTER_ASN,
    custom,
    node_object,
    service_object,
    slice_object,
)
from tests.lab.neighbor import Neighbor
from tests.lab.said import NO_ADVERTISE, NO_EXPORT, NO_PEER, Said, said
from tests.lab.topology import Lab
from tests.lab.tworouters import UP_SECONDS, TwoRouters, neighbor_of, only, peer_of
from tests.lab.wait import eventually, wait_until
from tests.lab.wirepeer import WirePeer, attributes_of

pytestmark = pytest.mark.live

BEYOND_ASN, WIRE_ASN = 64700, 64800
WEB, OTHER = ("10.96.0.80/32", "fd96::80/128"), ("10.96.0.81/32", "fd96::81/128")
BALANCED = ("192.0.2.80/32", "2001:db8::80/128")
AGGREGATES = ("192.0.2.0/24", "2001:db8::/64")
STATIC = ("203.0.113.0/24", "2001:db8:7::/48")
CLUSTER_IPS = {"addresses": ["ClusterIP"]}
FAR = ("203.9.7.254", "2001:db9:7::fe")
"""Routers of BGPPeers that mean no node."""
AROUND = {
    "nodes": (("172.18.9.9/32", "fd18:0:9::9/128"), ("172.18.0.0/16", "fd18::/32")),
    "pods": (("10.244.200.9/32", "fd10:244:200::9/128"), ("10.244.0.0/16", "fd10:244::/32")),
    "routers": (("203.9.5.9/32", "2001:db9:5::9/128"), ("203.9.0.0/16", "2001:db9::/32")),
}
"""Addresses of no one, and the aggregates that would hold them."""
LOAD_BALANCER_IPS = {"addresses": ["LoadBalancerIP"]}
NOWHERE = {"matchLabels": {"rack": "none"}}
PUBLIC = {"matchLabels": {"public": "yes"}}
HOLD_SECONDS = 90
"""Of a peer that lives in the test's own thread, and says nothing while that asks others."""
MED, LOCAL_PREF = 4, 5
"""Attribute codes (RFC 4271)."""


class Scene(TwoRouters):
    def __init__(self, lab: Lab) -> None:
        beyond = lab.host("beyond")
        passed = [Neighbor(str(beyond.address()), BEYOND_ASN, hold_seconds=LAB_HOLD_SECONDS)]
        super().__init__(lab, frr=passed, bird=passed)
        self.first, self.second = lab.node(1), lab.node(2)
        self.pods = [tuple(str(cidr) for cidr in node.pod_cidrs.values()) for node in (self.first, self.second)]
        routers = [Neighbor(str(it.address()), ROUTER_ASN, hold_seconds=LAB_HOLD_SECONDS) for it in lab.routers]
        self.beyond = Frr(beyond, asn=BEYOND_ASN, router_id="10.99.0.3", neighbors=routers)
        nodes = [neighbor_of(node) for node in lab.nodes.values()]
        self.inside: tuple[Frr, Bird] = (
            Frr(lab.host("inside-frr"), asn=CLUSTER_ASN, router_id="10.99.0.4", neighbors=nodes),
            Bird(lab.host("inside-bird"), asn=CLUSTER_ASN, router_id="10.99.0.5", neighbors=nodes),
        )
        self.api.apply(
            custom("BGPInstance", "default", {"mesh": {"holdSeconds": LAB_HOLD_SECONDS}}),
            peer_of("frr", lab.routers[0]),
            peer_of("bird", lab.routers[1]),
            *(peer_of(name, lab.hosts[name], asn=CLUSTER_ASN) for name in ("inside-frr", "inside-bird")),
            *(
                custom("BGPPeer", f"far-{number}", {"address": it, "asn": BEYOND_ASN, "nodeSelector": NOWHERE})
                for number, it in enumerate(FAR)
            ),
        )
        self.cluster.start()
        wait_until(self._up, within=UP_SECONDS)
        self.told_by([self.first], *self.pods[0])
        self.told_by([self.second], *self.pods[1])

    def _up(self) -> bool:
        nodes = {str(node.address()) for node in self.lab.nodes.values()}
        inside = all(nodes <= set(router.established()) for router in self.inside)
        return inside and self.established(self.first, self.second) and len(self.beyond.established()) == 2

    def label(self, *, first: str) -> None:
        self.api.apply(node_object(self.first, labels={"rack": first}))

    def service(self, name: str, hosts: Sequence[str], **more: Any) -> None:
        self.api.apply(service_object(name, _ips(hosts), **more))

    def balanced(self, name: str, hosts: Sequence[str], *, class_: str = "", **more: Any) -> None:
        thing = service_object(name, _ips(WEB if name == "web" else OTHER), load_balancer_ips=_ips(hosts), **more)
        thing["spec"] |= {"loadBalancerClass": class_} if class_ else {}
        self.api.apply(thing)

    def says(self, wanted: Said, *prefixes: str, routers: Sequence[Frr | Bird] = (), internal: bool = False) -> None:
        """Every path of these says this, from now on or soon; to FRR and BIRD unless others are named."""
        for router in routers or (self.frr, self.bird):
            for prefix in prefixes:

                def heard(router: Frr | Bird = router, prefix: str = prefix) -> bool:
                    actual = said(router, prefix, internal=internal)
                    assert actual == {wanted}, f"{prefix} at {type(router).__name__}: {actual}"
                    return True

                wait_until(heard)

    def passed_on(self, prefix: str) -> list[str]:
        """Which of FRR and BIRD the router beyond has the prefix from."""
        names = dict(zip((str(router.address()) for router in self.lab.routers), ("frr", "bird"), strict=True))
        return sorted(names[path["peer"]["peerId"]] for path in self.beyond.paths(prefix))

    def reasons(self, name: str) -> set[str]:
        """Reason words of why the first node does not announce what the Service has."""
        hops = self.cluster.agent(self.first).ask("explain", f"default/{name}")["hops"]
        return {hop["reason"] for hop in hops if not hop["ok"]}


def _ips(hosts: Sequence[str]) -> list[str]:
    return [host.partition("/")[0] for host in hosts]


def path(*, prepend: int = 0) -> tuple[int, ...]:
    return (CLUSTER_ASN,) * (1 + prepend)


@pytest.fixture(scope="module")
def built() -> Iterator[Scene]:
    with Lab(nodes=2, routers=2) as lab:
        scene = Scene(lab)
        yield scene
        sessions = scene.sessions()
        scene.close()
        assert sessions == [1, 1], "what is said of routes is no reason to lose a session"


@pytest.fixture
def scene(built: Scene) -> Iterator[Scene]:
    yield built
    for kind in ("Service", "EndpointSlice", "BGPAdvertisement"):
        for thing in built.api.list(kind):
            built.api.delete(kind, thing["metadata"]["name"], thing["metadata"].get("namespace", ""))
    built.told_by([], *WEB, *OTHER, *BALANCED, *AGGREGATES, *STATIC)
    built.told_by([built.first], *built.pods[0])


def test_routers_of_our_own_as_hear_the_highest_local_preference(scene: Scene) -> None:
    chosen = {**CLUSTER_IPS, "selector": PUBLIC}
    scene.advertise("a", type="Service", service=chosen, attributes={"localPreference": 200})
    scene.advertise("b", type="Service", service=chosen, attributes={"localPreference": 150})
    scene.advertise("plain", type="Service", service=CLUSTER_IPS)
    scene.service("web", WEB, labels={"public": "yes"})
    scene.service("other", OTHER)

    scene.says(Said(local_pref=200), *WEB, routers=scene.inside, internal=True)
    scene.says(Said(local_pref=100), *OTHER, routers=scene.inside, internal=True)

    scene.api.delete("BGPAdvertisement", "a")
    scene.says(Said(local_pref=150), *WEB, routers=scene.inside, internal=True)


async def test_routers_of_another_as_are_sent_no_local_preference(scene: Scene) -> None:
    scene.advertise(
        "services", type="Service", service=CLUSTER_IPS, attributes={"localPreference": 200, "med": 5, "prepend": 1}
    )
    scene.service("web", WEB)
    place = scene.lab.host("wire")
    only_there = {"nodeSelector": {"matchLabels": {"rack": "wired"}}}
    scene.api.apply(peer_of("wire", place, asn=WIRE_ASN, holdSeconds=HOLD_SECONDS, **only_there))
    scene.label(first="wired")

    async with WirePeer(place, asn=WIRE_ASN) as wire:

        def codes() -> dict[str, Collection[int]]:
            sent = wire.session.of("announce")
            return {prefix: dict(attributes_of(one.data)).keys() for one in sent for prefix in one.prefixes}

        await eventually(lambda: {*WEB, *scene.pods[0]} <= codes().keys(), within=UP_SECONDS)
        assert [LOCAL_PREF in found for found in codes().values()] == [False] * len(codes())
        assert all(MED in codes()[host] for host in WEB)
        scene.api.delete("BGPPeer", "wire")


def test_of_overlapping_advertisements_the_lowest_med_and_longest_prepend_hold_and_communities_are_joined(
    scene: Scene,
) -> None:
    first = {"communities": ["65000:1", "no-peer"], "largeCommunities": ["4200000001:1:1"], "med": 50, "prepend": 1}
    second = {"communities": ["65000:2"], "largeCommunities": ["4200000001:1:2"], "med": 5, "prepend": 3}
    scene.advertise("a", type="Service", service=CLUSTER_IPS, attributes=first)
    scene.advertise("b", type="Service", service=CLUSTER_IPS, attributes=second)
    scene.advertise("c", type="Service", service=CLUSTER_IPS)
    scene.service("web", WEB)

    joined, large = frozenset({"65000:1", "65000:2", NO_PEER}), frozenset({"4200000001:1:1", "4200000001:1:2"})
    scene.says(Said(joined, large, med=5, as_path=path(prepend=3)), *WEB)

    scene.api.delete("BGPAdvertisement", "b")
    scene.says(
        Said(frozenset({"65000:1", NO_PEER}), frozenset({"4200000001:1:1"}), med=50, as_path=path(prepend=1)), *WEB
    )


@pytest.mark.parametrize(("name", "number"), [("no-export", NO_EXPORT), ("no-advertise", NO_ADVERTISE)])
def test_routers_keep_to_themselves_what_a_well_known_community_says_so_of(
    scene: Scene, name: str, number: str
) -> None:
    chosen = {**CLUSTER_IPS, "selector": PUBLIC}
    scene.advertise("kept", type="Service", service=chosen, attributes={"communities": [name]})
    scene.service("web", WEB, labels={"public": "yes"})
    scene.says(Said(communities=frozenset({number}), as_path=path()), *WEB)

    scene.advertise("passed", type="Service", service={**CLUSTER_IPS, "selector": {"matchLabels": {"public": "no"}}})
    scene.service("other", OTHER, labels={"public": "no"})
    wait_until(lambda: [scene.passed_on(host) for host in OTHER] == [["bird", "frr"]] * 2)
    assert [scene.passed_on(host) for host in WEB] == [[], []]

    scene.advertise("kept", type="Service", service=chosen)
    wait_until(lambda: [scene.passed_on(host) for host in WEB] == [["bird", "frr"]] * 2)


def test_each_router_hears_what_is_to_be_said_to_it_alone(scene: Scene) -> None:
    to_frr = {"communities": ["65000:1"], "med": 1}
    to_bird = {"largeCommunities": ["4200000001:1:2"], "med": 2, "prepend": 1}
    scene.advertise("frr", type="Service", service=CLUSTER_IPS, peerSelector=only("frr"), attributes=to_frr)
    scene.advertise("bird", type="Service", service=CLUSTER_IPS, peerSelector=only("bird"), attributes=to_bird)
    scene.service("web", WEB)

    scene.says(Said(communities=frozenset({"65000:1"}), med=1, as_path=path()), *WEB, routers=[scene.frr])
    large = frozenset({"4200000001:1:2"})
    scene.says(Said(large=large, med=2, as_path=path(prepend=1)), *WEB, routers=[scene.bird])


def test_pod_cidrs_go_to_the_routers_that_are_chosen_with_what_is_said_of_them_and_to_all_nodes(scene: Scene) -> None:
    said_of_pods = {"communities": ["65000:10"], "med": 10}
    scene.advertise("pods", type="PodCIDR", peerSelector=only("frr"), attributes=said_of_pods)

    for node, pods in zip((scene.first, scene.second), scene.pods, strict=True):
        scene.told(*pods, frr=[node], bird=[])
        scene.says(Said(communities=frozenset({"65000:10"}), med=10, as_path=path()), *pods, routers=[scene.frr])
    assert scene.cluster.meshed()


def test_pod_cidrs_go_from_the_nodes_that_are_chosen_and_between_nodes_all_the_same(scene: Scene) -> None:
    scene.label(first="a")
    scene.advertise("pods", type="PodCIDR", nodeSelector={"matchLabels": {"rack": "a"}})

    scene.told_by([], *scene.pods[1])
    scene.told_by([scene.first], *scene.pods[0])

    scene.label(first="b")
    scene.told_by([], *scene.pods[0])
    assert scene.cluster.meshed()

    scene.api.delete("BGPAdvertisement", "pods")
    scene.told_by([scene.second], *scene.pods[1])


def test_an_advertisement_holds_for_the_nodes_that_it_selects(scene: Scene) -> None:
    chosen = {"matchLabels": {"rack": "a"}}
    scene.advertise("services", type="Service", service=CLUSTER_IPS, nodeSelector=chosen)
    scene.advertise("lab", type="Prefix", prefixes=[*STATIC], nodeSelector=chosen, attributes={"med": 3})
    scene.service("web", WEB)
    scene.label(first="a")

    scene.told_by([scene.first], *WEB, *STATIC)
    scene.says(Said(med=3, as_path=path()), *STATIC)

    scene.label(first="b")
    scene.told_by([], *WEB, *STATIC)


def test_an_address_that_another_load_balancer_answers_for_is_announced_only_where_its_class_is_named(
    scene: Scene,
) -> None:
    scene.advertise("services", type="Service", service=LOAD_BALANCER_IPS)
    scene.balanced("web", BALANCED, class_="bgpilot.io/bgp")
    scene.told(*BALANCED)

    scene.balanced("web", BALANCED, class_="example.com/others")
    scene.told_by([], *BALANCED)
    assert scene.reasons("web") == {"otherLoadBalancerClass"}

    named = {**LOAD_BALANCER_IPS, "loadBalancerClasses": ["example.com/others"]}
    scene.advertise("services", type="Service", service=named)
    scene.told(*BALANCED)


def test_an_aggregate_that_loses_a_member_is_not_told_again(scene: Scene) -> None:
    scene.advertise("ranges", type="Service", service={**LOAD_BALANCER_IPS, "aggregation": {"ipv4": 24, "ipv6": 64}})
    scene.balanced("web", BALANCED)
    scene.balanced("other", ("192.0.2.81/32", "2001:db8::81/128"))
    scene.told(*AGGREGATES)
    scene.told_by([], *BALANCED)
    before = scene.marks(*AGGREGATES)

    scene.api.delete("Service", "web", "default")
    scene.advertise("lab", type="Prefix", prefixes=[*STATIC])
    scene.told(*STATIC)
    assert scene.unchanged(before)

    scene.api.delete("Service", "other", "default")
    scene.told_by([], *AGGREGATES)


def test_addresses_of_a_service_with_policy_local_are_not_aggregated(scene: Scene) -> None:
    scene.advertise("ranges", type="Service", service={**LOAD_BALANCER_IPS, "aggregation": {"ipv4": 24, "ipv6": 64}})
    scene.balanced("web", BALANCED, external_policy="Local")
    for family, address in (("IPv4", "10.244.1.9"), ("IPv6", "fd10:244:1::9")):
        scene.api.apply(slice_object("web", {scene.first.name: [address]}, family=family))
    scene.advertise("lab", type="Prefix", prefixes=[*STATIC])

    wait_until(lambda: scene.reasons("web") == {"aggregateOfLocal"})
    scene.told(*STATIC)
    scene.told_by([], *AGGREGATES, *BALANCED)


@pytest.mark.parametrize(("hosts", "aggregates"), AROUND.values(), ids=AROUND)
def test_an_aggregate_around_what_is_there_already_is_not_announced(
    scene: Scene, hosts: tuple[str, str], aggregates: tuple[str, str]
) -> None:
    scene.advertise("ranges", type="Service", service={**LOAD_BALANCER_IPS, "aggregation": {"ipv4": 16, "ipv6": 32}})
    scene.balanced("web", hosts)
    scene.balanced("other", BALANCED)

    scene.told("192.0.0.0/16", "2001:db8::/32")
    scene.told_by([], *aggregates, *hosts)
    assert scene.reasons("web") == {"aggregateTooWide"}
    scene.api.delete("BGPAdvertisement", "ranges")
    scene.told_by([], "192.0.0.0/16", "2001:db8::/32")
