"""What is worth an Event, on which object it stands, and which nodes write it."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest

from agent.advertising import Advertisement, AdvertisementType, ServiceAddress, ServiceChoice
from agent.cluster.world import World
from agent.intent import ExternalPeer, Instance, Selector
from agent.model import Applied, Key, Kind, Namespace, Node, Problem, Service
from agent.plan.nodes import EXCLUDED_LABEL
from agent.plan.steps import finish
from agent.status.bulletin import Topic
from agent.status.news import ROUTE_NOT_ADVERTISED, find_news
from agent.status.writers import WRITERS, Writers
from bgp.model import Held, PeerState, RouteKey, SessionState
from tests.unit.status.scene import MATE, NOW, STRAY, TOR, TOR6, VIP, WEB, Scene, missing_secret

OWN = Key(Kind.NODE, "", "worker-1")
TOR_A, TOR_B = Key(Kind.PEER, "", "tor-a"), Key(Kind.PEER, "", "tor-b")
SERVICES = Advertisement(
    name="services",
    uid="u-ad",
    type=AdvertisementType.SERVICE,
    service=ServiceChoice(addresses=frozenset({ServiceAddress.EXTERNAL_IP})),
)


def apply(world, kind, *records):
    for record in records:
        namespace = record.namespace if isinstance(record, Service) else ""
        world.apply(Applied(Key(kind, namespace, record.name), record))


def node(name, **fields):
    return Node(name=name, uid=f"u-{name}", **fields)


@pytest.fixture
def world():
    world = World()
    apply(world, Kind.NODE, node("worker-1"))
    apply(world, Kind.NAMESPACE, Namespace(name="default"))
    apply(world, Kind.SERVICE, Service(namespace="default", name="web", uid="u-web"))
    apply(world, Kind.ADVERTISEMENT, SERVICES)
    apply(
        world,
        Kind.PEER,
        ExternalPeer(name="tor-a", uid="u-a", address=TOR, asn=65000),
        ExternalPeer(name="tor-b", uid="u-b", address=TOR6, asn=65001),
    )
    return world


@pytest.fixture
def scene():
    made = Scene()
    made.refused_in.clear()
    return made


def found(scene, world, complained=(), **fields):
    return finish(find_news(scene.status(**fields), world, complained))


def told(scene, world, *args, **fields):
    """(object, reason) of what can be said besides the sessions."""
    news = found(scene, world, *args, **fields)
    return {
        (topic.about, one.reason, one.text.partition(":")[0])
        for topic, one in news.items()
        if not topic.detail.startswith("peer ")
    }


# Sessions.


def test_sessions_with_routers_stand_on_the_node_and_those_between_nodes_are_no_news(scene, world):
    news = {topic: one for topic, one in found(scene, world).items() if topic.about == OWN}

    assert {topic.detail: one.reason for topic, one in news.items()} == {
        f"peer {TOR}": "BGPPeerEstablished",
        f"peer {TOR6}": "BGPPeerDown",
    }
    assert all(one.uid == "u-worker-1" and one.ours for one in news.values())
    assert f"peer {MATE}" not in {topic.detail for topic in news}


def test_a_session_that_is_down_is_told_with_the_error_and_what_to_do(scene, world):
    down = found(scene, world)[Topic(OWN, f"peer {TOR6}")]

    assert down.text.startswith(
        f'BGPPeer tor-b ({TOR6}): the session is down: received 6/2 Shutdown Communication: "tea": '
    )
    assert down.warning


def test_a_session_that_never_was_there_is_given_time_and_one_that_is_lost_is_told_at_once(scene, world):
    assert found(scene, world)[Topic(OWN, f"peer {TOR6}")].settle_seconds > 0
    scene.states[TOR] = PeerState(state=SessionState.IDLE, since=NOW - 1, flaps=3)

    lost = found(scene, world)[Topic(OWN, f"peer {TOR}")]
    assert (lost.reason, lost.settle_seconds, lost.since) == ("BGPPeerDown", 0, NOW - 1)


def test_a_session_that_was_lost_and_came_back_between_two_looks_is_other_news(scene, world):
    before = found(scene, world)[Topic(OWN, f"peer {TOR}")]
    scene.states[TOR] = replace(scene.states[TOR], flaps=scene.states[TOR].flaps + 1)

    assert found(scene, world)[Topic(OWN, f"peer {TOR}")].version != before.version


def test_a_session_that_an_administrator_has_shut_down_is_no_warning(scene, world):
    scene.peers[TOR6] = replace(scene.peers[TOR6], held=Held("shutdown"))

    down = found(scene, world)[Topic(OWN, f"peer {TOR6}")]
    assert not down.warning
    assert "shutdown" in down.text


# Problems.


def test_a_problem_stands_on_its_object_with_the_reason_word(scene, world):
    scene.problems.add(missing_secret())

    (news,) = (one for topic, one in found(scene, world).items() if topic.about == TOR_B)
    assert (news.reason, news.uid, news.ours) == ("ConfigInvalid", "u-b", False)
    assert news.text.startswith("secretMissing: ")


def test_an_advertisement_that_selects_nothing_is_told_on_it(scene, world):
    scene.problems.add(Problem("advertisementSelectsNothing", "BGPAdvertisement services", "nothing", "Look."))

    assert told(scene, world) == {
        (Key(Kind.ADVERTISEMENT, "", "services"), "ConfigInvalid", "advertisementSelectsNothing")
    }


def test_a_problem_of_no_object_stands_on_the_node(scene, world):
    scene.problems.add(Problem("foreignShapedRoute", "route 10.0.0.0/8", "looks like ours"))

    assert told(scene, world) == {(OWN, "ConfigInvalid", "foreignShapedRoute")}


def test_a_problem_of_another_node_is_that_nodes_to_tell(scene, world):
    scene.problems.add(Problem("nodeAddressConflict", "Node worker-2", "claims ours"))

    assert told(scene, world) == set()


def test_watches_that_do_not_work_and_an_exabgp_that_is_gone_are_no_news(scene, world):
    scene.problems |= {Problem("apiForbidden", "watch of Service", "no"), Problem("speakerDown", "ExaBGP", "gone")}

    assert told(scene, world) == set()


# Services.


def test_an_address_that_is_not_announced_stands_on_its_service(scene, world):
    scene.not_advertised[WEB, "198.51.100.9"] = "externalIPNotAllowed"

    news = found(scene, world)[Topic(WEB, "198.51.100.9")]
    assert (news.reason, news.uid, news.warning) == (ROUTE_NOT_ADVERTISED, "u-web", True)
    assert "allowedExternalIPs" in news.text


def test_a_node_without_an_endpoint_of_a_service_is_no_news(scene, world):
    scene.not_advertised[WEB, "198.51.100.9"] = "noLocalEndpoint"

    assert told(scene, world) == set()


@pytest.mark.parametrize("reason", ["headlessService", "externalName", "ipModeProxy", "hostnameOnly"])
def test_a_service_that_has_no_address_for_nodes_to_answer_for_is_no_news(scene, world, reason):
    scene.not_advertised[WEB, "ClusterIP"] = reason

    assert told(scene, world) == set()


def test_a_load_balancer_that_waits_for_its_address_is_told_so_and_that_is_no_warning(scene, world):
    scene.not_advertised[WEB, "LoadBalancerIP"] = "noAddressYet"

    news = found(scene, world)[Topic(WEB, "LoadBalancerIP")]
    assert (news.reason, news.warning) == (ROUTE_NOT_ADVERTISED, False)
    assert news.settle_seconds > 0


def test_an_address_left_over_of_a_load_balancer_is_told_and_that_is_no_warning(scene, world):
    scene.not_advertised[WEB, "198.51.100.2"] = "noLoadBalancer"

    news = found(scene, world)[Topic(WEB, "198.51.100.2")]
    assert (news.reason, news.warning) == (ROUTE_NOT_ADVERTISED, False)


def test_an_address_that_one_advertisement_alone_does_not_announce_is_news_until_it_does(scene, world):
    address = ip_address(str(VIP.network_address))
    scene.services = {WEB: Service(namespace="default", name="web", external_ips=(address,))}
    topic = Topic(WEB, f"{address} (BGPAdvertisement together)")
    scene.not_advertised[topic.about, topic.detail] = "aggregateOfLocal"

    assert "BGPAdvertisement together" in found(scene, world)[topic].text
    scene.not_advertised.clear()
    assert found(scene, world, (topic,))[topic].reason == "RouteAdvertised"


def test_a_node_that_announces_no_service_address_says_so_once_and_on_itself(scene, world):
    for number in range(5):
        scene.not_advertised[WEB, f"198.51.100.{number}"] = "nodeExcluded"
    scene.problems.add(Problem("nodeExcluded", "Node worker-1", "it has the label", "Remove it."))

    assert told(scene, world) == {(OWN, ROUTE_NOT_ADVERTISED, "nodeExcluded")}


def test_that_a_service_is_announced_is_news_only_after_it_was_said_that_it_is_not(scene, world):
    address = ip_address(str(VIP.network_address))
    scene.services = {WEB: Service(namespace="default", name="web", external_ips=(address,))}
    topic = Topic(WEB, str(address))

    assert topic not in found(scene, world)
    assert found(scene, world, (topic,))[topic].reason == "RouteAdvertised"
    scene.not_advertised[WEB, str(address)] = "noLocalEndpoint"
    assert topic not in found(scene, world)
    again = found(scene, world, (topic,))[topic]
    assert (again.reason, again.text) == ("RouteAdvertised", f"{address} is announced from nodes with an endpoint")


def test_an_address_that_the_service_no_longer_has_is_not_said_to_be_announced(scene, world):
    """Another service may have it."""
    topic = Topic(WEB, str(VIP.network_address))

    assert topic not in found(scene, world, (topic,))


# Refused routes.


def test_routes_of_a_router_that_are_not_used_stand_on_its_object_one_for_each_reason(scene, world):
    scene.hear(TOR, ip_network("203.0.113.128/25"), as_path=(65000,), reason="importNotAllowed")
    scene.hear(TOR, ip_network("192.0.2.0/24"), as_path=(65000,), reason="connectedSubnet")

    assert told(scene, world) == {
        (TOR_A, "RouteRefused", "importNotAllowed"),
        (TOR_A, "RouteRefused", "connectedSubnet"),
    }


def test_our_own_routes_that_a_router_tells_back_are_no_news(scene, world):
    scene.hear(TOR, ip_network("10.244.1.0/24"), as_path=(65000, 64512), reason="ownPodCIDR")

    assert told(scene, world) == set()


def test_routes_of_ours_that_a_router_is_not_told_stand_on_its_object(scene, world):
    scene.refused_out[RouteKey(TOR6, VIP)] = "familyNotSpoken"
    scene.refused_out[RouteKey(TOR, STRAY)] = "notTransit"

    assert told(scene, world) == {(TOR_B, "RouteRefused", "familyNotSpoken")}


@pytest.mark.parametrize(
    ("way", "reason", "warning"),
    [
        ("in", "importNotAllowed", False),
        ("in", "defaultRoute", False),
        ("in", "notAPodCIDR", False),
        ("in", "connectedSubnet", True),
        ("in", "serviceRange", True),
        ("in", "nextHopNotConnected", True),
        ("out", "familyNotSpoken", False),
        ("out", "defaultRoute", True),
        ("out", "messageTooLong", True),
    ],
)
def test_a_refused_route_is_a_warning_where_somebody_has_to_mend_something(scene, world, way, reason, warning):
    if way == "in":
        scene.hear(TOR, ip_network("192.0.2.0/24"), as_path=(65000,), reason=reason)
    else:
        scene.refused_out[RouteKey(TOR, VIP)] = reason

    (news,) = (one for one in found(scene, world).values() if one.reason == "RouteRefused")
    assert news.warning is warning


def test_what_to_do_about_a_word_depends_on_who_announces(scene, world):
    scene.hear(TOR, ip_network("10.96.0.0/24"), as_path=(65000,), reason="serviceRange")
    scene.not_advertised[WEB, "10.96.0.9"] = "serviceRange"
    news = found(scene, world)

    assert "Stop the peer" in news[Topic(TOR_A, "in serviceRange")].text
    assert "Take another address" in news[Topic(WEB, "10.96.0.9")].text


def test_routes_that_had_to_be_put_right_are_news_each_time(scene, world):
    scene.kernel.drift["missing"] = 1
    first = found(scene, world)[Topic(OWN, "drift")]
    scene.kernel.drift["missing"] = 2

    assert first.reason == "FIBDriftRepaired"
    assert found(scene, world)[Topic(OWN, "drift")].version != first.version


# Who writes.


def crowd(count=30, **fields):
    world = World()
    apply(world, Kind.NODE, *(node(f"n{i:03}", **fields) for i in range(count)))
    apply(world, Kind.NAMESPACE, Namespace(name="default"))
    apply(world, Kind.SERVICE, *(Service(namespace="default", name=f"s{i}") for i in range(40)))
    apply(world, Kind.ADVERTISEMENT, SERVICES)
    return world


def writers(world, about):
    names = [key.name for key in world.records(Kind.NODE)]
    return {name for name in names if Writers(name, world).is_ours(about)}


def service(number):
    return Key(Kind.SERVICE, "default", f"s{number}")


def test_few_of_all_nodes_write_about_an_object_and_others_about_another():
    world = crowd()
    chosen = [writers(world, service(number)) for number in range(40)]

    assert {len(found) for found in chosen} == {WRITERS}
    assert len(set[str]().union(*chosen)) > 20


def test_a_node_that_joins_changes_the_writers_of_few_objects():
    world = crowd()
    before = [writers(world, service(number)) for number in range(40)]
    apply(world, Kind.NODE, node("newcomer"))

    changed = Counter(writers(world, service(number)) != found for number, found in enumerate(before))
    assert changed[True] < 12


def test_nodes_that_are_not_ready_write_nothing_while_others_are():
    world = crowd()
    for name in writers(world, service(0)):
        apply(world, Kind.NODE, node(name, ready=False))

    chosen = writers(world, service(0))
    assert len(chosen) == WRITERS
    assert all(world.get(Key(Kind.NODE, "", name)).ready for name in chosen)


def test_only_nodes_that_judge_a_service_alike_and_can_announce_it_write_about_it():
    world = crowd(10)
    rack = (("rack", "a"),)
    apply(world, Kind.ADVERTISEMENT, replace(SERVICES, node_selector=Selector(labels=rack)))
    apply(world, Kind.NODE, *(node(f"n00{i}", labels=rack) for i in range(4)))
    apply(world, Kind.NODE, node("n004", labels=((EXCLUDED_LABEL, ""), *rack)))
    assert writers(world, service(0)) < {"n000", "n001", "n002", "n003"}

    other = Instance(name="other", node_selector=Selector(labels=(("special", "yes"),)))
    apply(world, Kind.INSTANCE, other)
    apply(world, Kind.NODE, node("n000", labels=(*rack, ("special", "yes"))))
    assert writers(world, service(0)) == {"n000", "n001", "n002", "n003"}, "each instance has writers of its own"


def test_of_an_object_for_some_nodes_one_of_these_writes():
    world = crowd(10)
    apply(world, Kind.NODE, node("n007", labels=(("rack", "b"),)))
    apply(
        world,
        Kind.PEER,
        ExternalPeer(name="tor-b", address=TOR, asn=65000, node_selector=Selector(labels=(("rack", "b"),))),
    )

    assert writers(world, TOR_B) == {"n007"}


def test_of_an_object_that_means_no_node_some_nodes_write():
    world = crowd(10)
    nowhere = Selector(labels=(("rack", "z"),))
    apply(world, Kind.PEER, ExternalPeer(name="tor-b", address=TOR, asn=65000, node_selector=nowhere))
    apply(world, Kind.ADVERTISEMENT, replace(SERVICES, node_selector=nowhere))

    assert len(writers(world, TOR_B)) == WRITERS
    assert len(writers(world, Key(Kind.ADVERTISEMENT, "", "services"))) == WRITERS
    assert len(writers(world, service(0))) == WRITERS


def test_of_an_object_that_nobody_can_read_some_nodes_write():
    assert len(writers(crowd(), Key(Kind.PEER, "", "broken"))) == WRITERS
