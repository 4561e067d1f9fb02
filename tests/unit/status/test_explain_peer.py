"""What is told of one session: how it is meant to be, and what of it is a no."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address

import pytest

from agent.cli import glance, render
from agent.model import Problem
from agent.status.explain import explain
from agent.status.views import peer_view, peers_view, status_view
from bgp.model import Held, PeerState
from tests.unit.status.scene import NOW, OWN_PODS, TOR, TOR6, Scene, peer

NEXT_HOPS = Problem("nextHopNotNegotiated", "BGPPeer tor-a", "routes that need it are not sent", "Switch it on.")
NO_AS = Problem("asnMissing", "Node worker-1", "Node worker-1 has no label asn", "Set it.")


@pytest.fixture
def scene():
    return Scene()


def test_next_hops_that_no_route_needs_are_no_no(scene):
    scene.problems.add(NEXT_HOPS)
    view = explain(scene.status(), "tor-a")
    (hop,) = [hop for hop in view["hops"] if hop["reason"] == "nextHopNotNegotiated"]

    assert (view["ok"], hop["neutral"]) == (True, True)
    assert hop["text"] == "routes that need it are not sent; none does"


def test_next_hops_that_a_route_needs_are_a_no(scene):
    scene.problems.add(NEXT_HOPS)
    scene.announce(TOR, OWN_PODS, next_hop=TOR6, as_path=(64512,))
    view = explain(scene.status(), "tor-a")
    (hop,) = [hop for hop in view["hops"] if hop["reason"] == "nextHopNotNegotiated"]

    assert (view["ok"], hop["ok"], hop["text"]) == (False, False, "routes that need it are not sent")


def test_a_session_that_was_never_tried_is_told_from_one_that_failed(scene):
    failed = explain(scene.status(), "tor-b")["hops"][-1]
    scene.states[TOR6] = PeerState()
    fresh = explain(scene.status(), "tor-b")["hops"][-1]

    assert [(hop["ok"], hop["reason"]) for hop in (failed, fresh)] == [(False, "notEstablished"), (False, "neverTried")]
    assert fresh["fix"] == "Wait a moment: it is being dialed."


def test_a_router_that_does_not_say_that_it_has_told_everything_is_a_no(scene):
    before = explain(scene.status(), "tor-a")
    scene.rib.apply(scene.states[TOR].up, 0.0)  # begun anew, and no End-of-RIB came
    after = explain(scene.status(), "tor-a")

    assert [view["ok"] for view in (before, after)] == [True, False]
    assert (after["hops"][-1]["reason"], after["hops"][-1]["ok"]) == ("endOfRibMissing", False)


def test_a_session_on_a_link_without_an_address_names_none(scene):
    address = ip_address("fe80::1%eth9")
    held = Held("noLinkLocalAddress")
    scene.peers[address] = replace(peer(address, "BGPPeer/spine", 65001), local_address=ip_address("::"), held=held)
    scene.states[address] = PeerState()

    view = peer_view(scene.status(), address, NOW)
    assert view["local_address"] is None
    assert "Local address:    -" in render.peer(view, colour=False)
    assert " :: " not in render.peers(peers_view(scene.status(), NOW), wide=True, colour=False)
    assert explain(scene.status(), "spine")["hops"][0]["text"] == "external session wanted, AS 64512 to AS 65001"


def test_a_link_local_address_explains_the_peers_on_all_links(scene):
    places = [f"fe80::1%{name}" for name in ("eth0", "eth1")]
    for address in map(ip_address, places):
        scene.peers[address] = peer(address, "BGPPeer/spine", 65001)
    hops = explain(scene.status(), "fe80::1")["hops"]

    wanted = [hop["place"] for hop in hops if hop["text"].startswith("external session wanted")]
    assert wanted == [f"peer {place} (BGPPeer/spine)" for place in places]


def test_a_session_that_ends_because_nobody_says_our_as_any_more_says_so(scene):
    scene.parting = frozenset({"worker-1"})
    scene.problems.add(NO_AS)
    view = explain(scene.status(), "tor-a")

    assert not view["ok"]
    assert (NO_AS.reason, NO_AS.message, NO_AS.fix) in [
        (hop["reason"], hop["text"], hop["fix"]) for hop in view["hops"]
    ]


def test_a_session_that_is_parting_is_marked_in_the_table_and_in_the_short_answer(scene):
    scene.parting = frozenset({"worker-2"})
    table = render.peers(peers_view(scene.status(), NOW), wide=False, colour=False)

    (line,) = [line for line in table.splitlines() if "node/worker-2" in line]
    assert line.endswith("  parting")
    assert "2 of 3 established (mesh 1 of 1, 1 parting)" in glance.status(status_view(scene.status(), NOW))
