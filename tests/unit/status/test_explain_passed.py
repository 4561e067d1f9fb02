"""Explain: what a route reflector does with a route that it has heard, told by outcome and not by peer."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address

import pytest

from agent.status.explain import explain
from bgp.check import Reason
from bgp.model import RouteKey
from tests.unit.status.scene import MATE, MATE_PODS, OWN_PODS, TOR, TOR6, Scene


@pytest.fixture
def scene():
    """MATE_PODS, which MATE has told, is passed on to TOR."""
    scene = Scene()
    scene.announce(TOR, MATE_PODS, next_hop=MATE)
    scene.refused_out[RouteKey(MATE, MATE_PODS)] = Reason.TOLD_BY_PEER
    return scene


def passed(scene):
    found = explain(scene.status(), str(MATE_PODS))["hops"]
    return {hop["text"]: (hop["ok"], hop["reason"]) for hop in found if hop["place"] == "reflector"}


def test_who_is_told_and_who_is_not_stands_behind_the_kernel(scene):
    hops = explain(scene.status(), str(MATE_PODS))["hops"]

    assert [hop["place"] for hop in hops] == ["peer 192.0.2.2 (node/worker-2)", "kernel", "reflector", "reflector"]
    assert passed(scene) == {
        "not passed on to node/worker-2: the peer itself told us": (True, "toldByPeer"),
        "passed on to BGPPeer/tor-a": (True, None),
    }


def test_a_route_that_its_teller_wants_nobody_else_to_hear_says_so_and_is_no_trouble(scene):
    scene.refused_out[RouteKey(TOR, MATE_PODS)] = Reason.NO_ADVERTISE

    assert passed(scene)[f"not passed on to BGPPeer/tor-a: {Reason.NO_ADVERTISE.meaning}"] == (True, "noAdvertise")
    assert explain(scene.status(), str(MATE_PODS))["ok"]


def test_what_cannot_be_passed_on_is_trouble_with_a_remedy(scene):
    scene.refused_out[RouteKey(TOR, MATE_PODS)] = Reason.MESSAGE_TOO_LONG
    (trouble,) = (hop for hop in explain(scene.status(), str(MATE_PODS))["hops"] if not hop["ok"])

    assert trouble["reason"] == "messageTooLong"
    assert trouble["fix"]


def test_peers_without_a_session_are_told_when_there_is_one(scene):
    scene.announce(TOR6, MATE_PODS, answer=None)
    scene.outbox.peer_added(TOR6)
    scene.outbox.next_command(0.0)
    scene.outbox.answered(True, 0.0)

    assert passed(scene)["will be passed on to BGPPeer/tor-b: no session"] == (True, "notEstablished")


def test_of_many_peers_the_first_ones_are_named(scene):
    for number in range(1, 6):
        address = ip_address(f"192.0.2.{20 + number}")
        scene.peers[address] = replace(scene.peers[MATE], address=address, name=f"node/w-{number}")
        scene.refused_out[RouteKey(address, MATE_PODS)] = Reason.NEITHER_CLIENT

    (text,) = (text for text, (_, reason) in passed(scene).items() if reason == "neitherClient")
    assert text.startswith("not passed on to node/w-1, node/w-2, node/w-3 and 2 others: ")


def test_of_what_is_announced_from_here_nothing_is_said_twice(scene):
    hops = explain(scene.status(), str(OWN_PODS))["hops"]

    assert not [hop for hop in hops if hop["place"] == "reflector"]
