"""Conditions of the objects that mean this node: which there are, which is not true, and with which word."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address

import pytest

from agent.advertising import Advertisement, AdvertisementType, ServiceAddress, ServiceChoice, ToPeers
from agent.cluster.world import World
from agent.intent import ExternalPeer, Instance, Selector
from agent.model import Applied, Key, Kind, Node, Problem
from agent.plan.steps import finish
from agent.status.conditions import NOT_ESTABLISHED, Type, resources, type_of
from agent.status.health import ailments
from agent.status.weights import WEIGHTS, Weight
from bgp.model import Held, PeerState, SessionState
from tests.unit.status.scene import NOW, TOR, TOR6, Scene, missing_secret

ELSEWHERE = Selector(labels=(("rack", "8"),))
SERVICES = Advertisement(
    name="services",
    generation=2,
    type=AdvertisementType.SERVICE,
    service=ServiceChoice(addresses=frozenset({ServiceAddress.EXTERNAL_IP})),
)


def apply(world, kind, *records):
    for record in records:
        world.apply(Applied(Key(kind, "", record.name), record))


@pytest.fixture
def world():
    world = World()
    apply(world, Kind.NODE, Node(name="worker-1", uid="u-1"))
    apply(
        world,
        Kind.PEER,
        ExternalPeer(name="tor-a", address=TOR, asn=65000, generation=7, labels=(("side", "a"),)),
        ExternalPeer(name="tor-b", address=TOR6, asn=65001, generation=1),
    )
    apply(world, Kind.ADVERTISEMENT, SERVICES)
    return world


@pytest.fixture
def scene():
    return Scene()


def judged(scene, world, **fields):
    """(kind, name) → (type → (status, reason))."""
    return {
        place: {it["type"]: (it["status"], it["reason"]) for it in conditions}
        for place, conditions in whole(scene, world, **fields).items()
    }


def whole(scene, world, **fields):
    status = scene.status(**fields)
    found = finish(resources(status, world, ailments(status, NOW)))
    return {(it["kind"], it["name"]): it["conditions"] for it in found}


def all_true():
    return {str(each): ("True", str(each)) for each in Type}


def from_on(first, reason):
    """True before, and from this type on not, with one word."""
    types = list(Type)
    return {
        str(each): ("True", str(each)) if types.index(each) < types.index(first) else ("False", reason)
        for each in types
    }


def test_a_router_with_a_session_has_all_of_them_and_says_of_which_version(scene, world):
    conditions = whole(scene, world)["BGPPeer", "tor-a"]

    assert judged(scene, world)["BGPPeer", "tor-a"] == all_true()
    assert {it["observedGeneration"] for it in conditions} == {7}


def test_a_router_without_a_session_is_not_ready_and_says_what_to_do(scene, world):
    conditions = whole(scene, world)["BGPPeer", "tor-b"]

    assert judged(scene, world)["BGPPeer", "tor-b"] == from_on(Type.READY, NOT_ESTABLISHED)
    assert "has been shut down by its administrator" in conditions[-1]["message"]


def test_objects_that_mean_other_nodes_are_not_told(scene, world):
    apply(world, Kind.PEER, ExternalPeer(name="far", address=TOR, asn=65000, node_selector=ELSEWHERE))
    apply(world, Kind.INSTANCE, Instance(name="far", node_selector=ELSEWHERE))
    apply(world, Kind.ADVERTISEMENT, replace(SERVICES, name="far", node_selector=ELSEWHERE))

    assert {name for _, name in judged(scene, world)} == {"tor-a", "tor-b", "services"}


def test_a_secret_that_is_missing_is_a_reference_that_is_not_resolved_and_its_text_stands_once(scene, world):
    scene.peers[TOR6] = replace(scene.peers[TOR6], held=Held("secretMissing"))
    scene.problems.add(missing_secret())

    conditions = whole(scene, world)["BGPPeer", "tor-b"]

    assert judged(scene, world)["BGPPeer", "tor-b"] == from_on(Type.RESOLVED_REFS, "secretMissing")
    assert [it["message"] != "" for it in conditions] == [False, True, False, False]


def test_a_session_that_is_shut_down_is_programmed_and_not_ready(scene, world):
    scene.peers[TOR6] = replace(scene.peers[TOR6], held=Held("shutdown"))

    assert judged(scene, world)["BGPPeer", "tor-b"] == from_on(Type.READY, "shutdown")


def test_an_object_that_cannot_be_read_is_not_accepted_and_says_no_version(scene, world):
    scene.problems.add(Problem("malformedObject", "BGPPeer tor-a", "spec.asn"))
    scene.problems.add(Problem("malformedObject", "BGPPeer never-read", "spec.asn"))

    for name in ("tor-a", "never-read"):
        assert judged(scene, world)["BGPPeer", name] == from_on(Type.ACCEPTED, "malformedObject")
        assert all("observedGeneration" not in it for it in whole(scene, world)["BGPPeer", name])


def test_an_exabgp_that_is_gone_keeps_all_from_being_programmed(scene, world):
    scene.problems.add(Problem("speakerDown", "ExaBGP", "no ExaBGP has connected"))

    assert judged(scene, world)["BGPPeer", "tor-a"] == from_on(Type.PROGRAMMED, "speakerDown")
    assert judged(scene, world)["BGPAdvertisement", "services"] == from_on(Type.PROGRAMMED, "speakerDown")


def test_nothing_is_programmed_on_a_node_that_is_nothing_in_bgp(scene, world):
    scene.identity = None
    scene.problems.add(Problem("nodeWithoutAddress", "Node worker-1", "it has no InternalIP"))
    scene.peers.clear()

    assert judged(scene, world)["BGPPeer", "tor-a"] == from_on(Type.PROGRAMMED, "nodeWithoutAddress")


def test_the_instance_in_force_is_ready_and_the_one_that_is_not_says_so(scene, world):
    apply(world, Kind.INSTANCE, Instance(name="first", generation=1), Instance(name="second", generation=1))
    scene.identity = replace(scene.identity, instance="first")
    scene.problems.add(Problem("instanceConflicted", "BGPInstance second", "first is older"))

    assert judged(scene, world)["BGPInstance", "first"] == all_true()
    assert judged(scene, world)["BGPInstance", "second"] == from_on(Type.ACCEPTED, "instanceConflicted")


def test_an_instance_whose_value_the_node_lacks_says_so(scene, world):
    apply(world, Kind.INSTANCE, Instance(name="first", generation=1))
    scene.identity = replace(scene.identity, instance="first")
    scene.problems.add(Problem("asnMissing", "Node worker-1", "no annotation"))

    assert judged(scene, world)["BGPInstance", "first"] == from_on(Type.RESOLVED_REFS, "asnMissing")


def test_an_instance_is_not_ready_while_the_node_cannot_do_its_job(scene, world):
    apply(world, Kind.INSTANCE, Instance(name="first", generation=1))
    scene.identity = replace(scene.identity, instance="first")
    scene.states.clear()

    assert judged(scene, world)["BGPInstance", "first"] == from_on(Type.READY, "noSession")


def test_an_advertisement_whose_routers_are_all_away_is_not_ready(scene, world):
    to_a = ToPeers(Selector(labels=(("side", "a"),)))
    apply(world, Kind.ADVERTISEMENT, replace(SERVICES, name="to-a", to_peers=to_a))
    scene.states[TOR] = PeerState(state=SessionState.IDLE, since=NOW - 1)

    assert judged(scene, world)["BGPAdvertisement", "to-a"] == from_on(Type.READY, "noSession")


def test_an_advertisement_with_one_router_left_is_ready(scene, world):
    assert judged(scene, world)["BGPAdvertisement", "services"] == all_true()


@pytest.mark.parametrize(
    ("reason", "first"),
    [("advertisementSelectsNothing", Type.RESOLVED_REFS), ("noPeer", Type.READY), ("prefixInUse", Type.ACCEPTED)],
)
def test_what_keeps_an_advertisement_from_announcing_is_a_condition(scene, world, reason, first):
    scene.problems.add(Problem(reason, "BGPAdvertisement services", "nothing"))

    assert judged(scene, world)["BGPAdvertisement", "services"] == from_on(first, reason)


def test_a_node_that_announces_no_service_says_so_of_service_advertisements_only(scene, world):
    apply(world, Kind.ADVERTISEMENT, Advertisement(name="pods", type=AdvertisementType.POD_CIDR))
    scene.problems.add(Problem("nodeExcluded", "Node worker-1", "it has the label"))

    found = judged(scene, world)

    assert found["BGPAdvertisement", "services"] == from_on(Type.PROGRAMMED, "nodeExcluded")
    assert found["BGPAdvertisement", "pods"] == all_true()


def test_hints_are_no_condition(scene, world):
    scene.problems.add(Problem("noEffect", "BGPPeer tor-a", "a port and passive"))
    scene.problems.add(Problem("maxPrefixesNear", "BGPPeer tor-a", "801 of 1000"))

    assert judged(scene, world)["BGPPeer", "tor-a"] == all_true()


def test_every_word_that_counts_makes_some_condition_untrue():
    counting = [word for word, weight in WEIGHTS.items() if weight is not Weight.NOTE]

    assert [word for word in counting if type_of(Problem(word, "BGPPeer x", "")) is None] == []


def test_a_word_that_nobody_knows_is_not_overlooked():
    assert type_of(Problem("brandNew", "BGPPeer x", "")) is Type.READY


def test_an_unneeded_next_hop_capability_is_no_condition(scene, world):
    scene.problems.add(Problem("nextHopNotNegotiated", "BGPPeer tor-a", "not negotiated"))

    assert judged(scene, world)["BGPPeer", "tor-a"] == all_true()
    assert scene.identity.router_id == IPv4Address("192.0.2.1")
