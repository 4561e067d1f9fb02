"""What BGPAdvertisements say of routes, and to whom: judged by the tables of FRR and BIRD, two routers of one node.

FRR's BGPPeer has the label router=frr, BIRD's router=bird: what is meant for one alone shows in the other's table.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.lab.announcing import HOSTS, OTHER_HOSTS, OTHER_VIPS, VIPS, OneNode, one_node, only
from tests.lab.judges import Watch, hosts
from tests.lab.minicluster import CLUSTER_ASN
from tests.lab.said import NO_ADVERTISE, NO_EXPORT, NO_PEER
from tests.lab.wait import wait_until

pytestmark = pytest.mark.live

AGGREGATES = ("10.96.0.0/24", "fd96::/64")
STATIC = ("203.0.113.0/24", "2001:db8:7::/48")
WELL_KNOWN = {
    "graceful-shutdown": "65535:0",
    "accept-own": "65535:1",
    "blackhole": "65535:666",
    "no-export": NO_EXPORT,
    "no-advertise": NO_ADVERTISE,
    "no-export-subconfed": "65535:65283",
    "no-peer": NO_PEER,
}
"""By their names in the IANA registry."""
SAID: dict[str, Any] = {
    "communities": ["65000:120", *WELL_KNOWN],
    "largeCommunities": ["4200000001:1:20"],
    "med": 77,
    "prepend": 2,
}


@pytest.fixture(scope="module")
def built() -> Iterator[OneNode]:
    yield from one_node()


@pytest.fixture
def scene(built: OneNode) -> Iterator[OneNode]:
    yield built
    built.clear()


def test_attributes_stand_in_the_tables_of_both_routers(scene: OneNode) -> None:
    scene.cluster_ips(said=SAID)
    scene.service("web", *VIPS)

    scene.told_both(*HOSTS)
    for prefix in HOSTS:
        scene.attributes(
            prefix,
            communities={"65000:120", *WELL_KNOWN.values()},
            large={"4200000001:1:20"},
            as_path=(CLUSTER_ASN,) * 3,
            med=77,
        )


def test_what_several_advertisements_say_of_one_route_is_joined(scene: OneNode) -> None:
    scene.cluster_ips("a", said={"communities": ["65000:1"], "med": 50, "prepend": 1})
    scene.cluster_ips("b", said={"communities": ["65000:2"], "largeCommunities": ["1:2:3"], "med": 5, "prepend": 2})
    scene.cluster_ips("c", said={"communities": ["65000:2", "no-advertise"], "med": 20, "prepend": 3})
    scene.cluster_ips("silent")
    scene.service("web", *VIPS)
    scene.told_both(*HOSTS)

    joined = {"65000:1", "65000:2", NO_ADVERTISE}
    path = (CLUSTER_ASN,) * 4
    for prefix in HOSTS:
        wait_until(
            lambda prefix=prefix: scene.attributes(  # type: ignore[misc]
                prefix, communities=joined, large={"1:2:3"}, med=5, as_path=path
            )
        )

    for name in ("b", "c"):
        scene.api.delete("BGPAdvertisement", name)
    path = (CLUSTER_ASN,) * 2
    for prefix in HOSTS:
        wait_until(
            lambda prefix=prefix: scene.attributes(  # type: ignore[misc]
                prefix, communities={"65000:1"}, large=set(), med=50, as_path=path
            )
        )


def test_a_peer_hears_what_is_meant_for_it_alone(scene: OneNode) -> None:
    scene.cluster_ips(to="frr")
    scene.advertise("lab", type="Prefix", prefixes=list(STATIC), peerSelector=only("bird"))
    scene.service("web", *VIPS)

    scene.told(HOSTS, STATIC)

    scene.cluster_ips(to="bird")
    scene.told([], [*HOSTS, *STATIC])


def test_a_relabelled_peer_hears_what_is_meant_for_it_now_without_losing_its_session(scene: OneNode) -> None:
    selected = {"matchLabels": {"tier": "edge"}}
    scene.advertise("lab", type="Prefix", prefixes=list(STATIC), peerSelector=selected)
    peer = scene.judges.peer("bird")
    peer["metadata"]["labels"]["tier"] = "edge"

    scene.api.apply(peer)
    scene.told([], STATIC)

    scene.api.apply(scene.judges.peer("bird"))
    scene.told_both()


def test_static_prefixes_are_announced_and_take_nothing_from_the_node_itself(scene: OneNode) -> None:
    scene.advertise("lab", type="Prefix", prefixes=list(STATIC))

    scene.told_both(*STATIC)
    assert scene.discards() == scene.pods

    scene.api.delete("BGPAdvertisement", "lab")
    scene.told_both()


def test_a_prefix_that_would_draw_a_routers_traffic_is_not_announced(scene: OneNode) -> None:
    routers = hosts(str(router.address(family)) for router in scene.lab.routers for family in scene.lab.families)
    scene.advertise("lab", type="Prefix", prefixes=[*routers, *STATIC])

    scene.told_both(*STATIC)
    for router in routers:
        assert "prefixInUse" in scene.reasons(router)


def test_a_service_asks_for_more_and_for_less_by_annotation(scene: OneNode) -> None:
    scene.advertise("services", type="Service", service={"onRequest": ["ClusterIP"]})
    scene.service("web", *VIPS)
    scene.service("asks", *OTHER_VIPS, annotation="true")

    scene.told_both(*OTHER_HOSTS)

    scene.service("web", *VIPS, annotation="ClusterIP")
    scene.service("asks", *OTHER_VIPS, annotation="false")
    scene.told_both(*HOSTS)


def test_a_service_keeps_a_class_of_its_addresses_to_itself_by_annotation(scene: OneNode) -> None:
    balanced = ("192.0.2.80", "2001:db8::80")
    scene.advertise("services", type="Service", service={"addresses": ["ClusterIP", "LoadBalancerIP"]})
    scene.service("web", *VIPS, load_balancer_ips=balanced)
    scene.told_both(*HOSTS, *hosts(balanced))

    scene.service("web", *VIPS, load_balancer_ips=balanced, annotation="LoadBalancerIP")
    scene.told_both(*hosts(balanced))
    assert "optedOut" in scene.reasons("default/web")


def test_a_mistyped_annotation_counts_as_not_there_and_the_service_says_so(scene: OneNode) -> None:
    scene.cluster_ips()
    scene.service("web", *VIPS, annotation="false")
    scene.service("other", *OTHER_VIPS)
    scene.told_both(*OTHER_HOSTS)

    scene.service("web", *VIPS, annotation="flase")

    scene.told_both(*HOSTS, *OTHER_HOSTS)
    wait_until(lambda: "'flase' is not known" in scene.explained("default/web"))


def test_services_are_chosen_by_the_labels_of_their_namespace(scene: OneNode) -> None:
    scene.cluster_ips(namespaceSelector={"matchLabels": {"public": "yes"}})
    shop: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": "shop", "labels": {"public": "no"}},
    }
    scene.api.apply(shop)
    scene.service("web", *VIPS, namespace="shop")
    scene.service("web", *OTHER_VIPS)
    wait_until(lambda: "notSelected" in scene.reasons("shop/web"))

    shop["metadata"]["labels"]["public"] = "yes"
    scene.api.apply(shop)
    scene.told_both(*HOSTS)

    shop["metadata"]["labels"]["public"] = "no"
    scene.api.apply(shop)
    scene.told_both()


def unseen(watch: Watch, *prefixes: str) -> None:
    """Neither router has changed anything of these."""
    for prefix in prefixes:
        assert watch.changes(prefix) == [[], []], prefix


def test_an_aggregate_stays_as_long_as_one_address_in_it(scene: OneNode) -> None:
    scene.cluster_ips(aggregation={"ipv4": 24, "ipv6": 64})
    scene.service("one", *VIPS)
    scene.service("two", *OTHER_VIPS)

    scene.told_both(*AGGREGATES)
    assert scene.discards() == scene.pods, "the node itself could reach no address in it"
    for aggregate in AGGREGATES:
        assert f"is announced as part of {aggregate}" in scene.explained("default/one")
    frr, bird = scene.judges.heard()

    with scene.judges.watch() as watch:
        scene.api.delete("Service", "one", "default")
        scene.service("mark", "10.96.1.80", "fd96:0:0:1::80")
        scene.told_both(*AGGREGATES, "10.96.1.0/24", "fd96:0:0:1::/64")
        unseen(watch, *AGGREGATES)
    assert scene.judges.heard() == (frr + 2, bird + 2), "they heard more than the two new prefixes"

    scene.api.delete("Service", "mark", "default")
    scene.api.delete("Service", "two", "default")
    scene.told_both()


def test_an_address_without_any_endpoint_is_kept_or_withdrawn_as_the_advertisement_says(scene: OneNode) -> None:
    scene.cluster_ips("keep", selector={"matchLabels": {"end": "keep"}})
    scene.cluster_ips("withdraw", selector={"matchLabels": {"end": "withdraw"}}, whenNoEndpoints="Withdraw")
    scene.service("kept", *VIPS, labels={"end": "keep"})
    scene.service("lost", *OTHER_VIPS, labels={"end": "withdraw"})
    scene.told_both(*HOSTS)

    for name in ("kept", "lost"):
        scene.endpoint(name, "elsewhere")
    scene.told_both(*HOSTS, *OTHER_HOSTS)

    with scene.judges.watch() as watch:
        for name in ("kept", "lost"):
            scene.endpoint(name, "elsewhere", ready=False)
        scene.told_both(*HOSTS)
        unseen(watch, *HOSTS)


@pytest.mark.parametrize(
    ("labels", "taints", "reason"),
    [
        ({"node.kubernetes.io/exclude-from-external-load-balancers": ""}, [], "nodeExcluded"),
        ({}, [{"key": "node.kubernetes.io/out-of-service", "effect": "NoExecute"}], "nodeDraining"),
    ],
)
def test_a_node_that_is_excluded_or_goes_keeps_its_pods_and_sessions_and_tells_no_service(
    scene: OneNode, labels: dict[str, str], taints: list[dict[str, str]], reason: str
) -> None:
    scene.cluster_ips()
    scene.service("web", *VIPS)
    scene.told_both(*HOSTS)
    before = scene.api.get("Node", scene.node.name)
    changed = {**before, "metadata": {**before["metadata"], "labels": labels}}
    changed["spec"] = {**before["spec"], "taints": taints}

    with scene.judges.watch() as watch:
        scene.api.apply(changed)
        scene.told_both()
        assert reason in scene.reasons("default/web")

        scene.api.apply(before)
        scene.told_both(*HOSTS)
        unseen(watch, *scene.pods)
