"""Health, readiness and liveness: what counts, and what must not."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_network

import pytest

from agent.model import FibRoute, NextHop, Problem
from agent.status.readiness import PASS_SECONDS_MAX, Readiness, not_alive
from agent.status.status import SETTLE_SECONDS, fib_state, told_state
from bgp.model import EndOfRib, Family, RouteKey, SessionDown
from tests.unit.status.scene import (
    MATE,
    MATE_PODS,
    NOW,
    OWN_PODS,
    STRAY,
    TOR,
    TOR6,
    US,
    VIP,
    Failure,
    KernelTable,
    Scene,
    learned,
)


def words(reasons):
    return [reason.partition(":")[0] for reason in reasons]


def test_a_node_at_rest_is_alive_and_ready_though_a_router_is_down():
    status = Scene().status()

    assert not_alive(status, NOW) == ()
    assert Readiness().reasons(status, NOW) == ()


def test_an_exabgp_that_hangs_makes_the_agent_unready_whatever_was_reached_before():
    readiness = Readiness()
    assert readiness.reasons(Scene().status(), NOW) == ()
    status = Scene().status(problems=frozenset({Problem("speakerSilent", "ExaBGP", "no answer", "")}))

    assert readiness.reasons(status, NOW) == ("speakerSilent: no answer",)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"picture_complete": False}, "pictureIncomplete"),
        ({"speaking_at": None}, "notSpeaking"),
    ],
)
def test_not_ready_before_the_cluster_is_listed_and_the_speaker_has_its_plan(fields, reason):
    assert words(Readiness().reasons(Scene().status(**fields), NOW)) == [reason]


def test_not_ready_without_an_own_node_object():
    scene = Scene()
    scene.identity = None

    assert words(Readiness().reasons(scene.status(), NOW)) == ["nodeNotPlanned"]


def test_not_ready_while_the_node_is_nothing_in_bgp_with_the_word_of_its_problem():
    scene = Scene()
    scene.identity = None
    scene.problems.add(Problem("asnMissing", "Node worker-1", "Node worker-1 has no label asn", "Set it."))

    assert Readiness().reasons(scene.status(), NOW) == ("asnMissing: Node worker-1 has no label asn",)


def test_a_dry_run_is_ready_once_it_can_plan():
    assert Readiness().reasons(Scene().status(dry_run=True, speaking_at=None), NOW) == ()


def test_peers_that_are_not_synced_are_waited_for_thirty_seconds():
    scene, readiness = Scene(), Readiness()
    scene.rib.apply(SessionDown(MATE, "x"), 0.0)
    begun_at = NOW - 10
    status = scene.status(speaking_at=begun_at)

    assert readiness.reasons(status, NOW) == (
        "peerNotSynced: BGPPeer/tor-b (2001:db8::fe), for 20 s at most",
        "peerNotSynced: node/worker-2 (192.0.2.2), for 20 s at most",
    )
    assert readiness.reasons(status, begun_at + SETTLE_SECONDS) == ()


def test_all_peers_synced_is_ready_at_once_and_losing_one_later_changes_nothing():
    scene, readiness = Scene(), Readiness()
    scene.session_up(TOR6)
    assert readiness.reasons(scene.status(speaking_at=NOW - 1), NOW) == ()

    scene.states[TOR6] = scene.down_state()
    scene.rib.apply(SessionDown(TOR6, "died"), 0.0)

    assert readiness.reasons(scene.status(speaking_at=NOW - 1), NOW) == ()


def test_end_of_rib_of_each_family_of_the_session_is_needed():
    scene = Scene()
    del scene.peers[TOR6]
    status = scene.status(speaking_at=NOW - 1)
    assert Readiness().reasons(status, NOW) == ()

    scene.session_up(TOR)
    scene.rib.apply(SessionDown(TOR, "x"), 0.0)
    assert words(Readiness().reasons(status, NOW)) == ["peerNotSynced"]

    scene.rib.apply(EndOfRib(TOR, Family.IPV4), 0.0)
    assert Readiness().reasons(status, NOW) == ()


def test_a_route_not_yet_in_the_kernel_makes_the_start_unready_and_a_later_one_does_not():
    scene, readiness = Scene(), Readiness()
    scene.want_in_kernel(FibRoute(STRAY, (NextHop(TOR),)), there=False)
    assert words(readiness.reasons(scene.status(), NOW)) == ["kernelNotInSync"]

    del scene.fib[learned(STRAY)]
    assert readiness.reasons(scene.status(), NOW) == ()
    scene.want_in_kernel(FibRoute(STRAY, (NextHop(TOR),)), there=False)

    assert readiness.reasons(scene.status(), NOW) == ()


def test_a_route_whose_place_another_protocol_holds_does_not_stop_a_rollout():
    scene = Scene()
    scene.want_in_kernel(FibRoute(STRAY, (NextHop(TOR),)), there=False)
    scene.kernel.conflicts[learned(STRAY)] = "static"

    assert Readiness().reasons(scene.status(), NOW) == ()


def test_a_route_the_kernel_refuses_is_named_with_the_kernels_words():
    scene = Scene()
    scene.kernel.failing[learned(STRAY)] = Failure("Network is unreachable")

    assert Readiness().reasons(scene.status(), NOW) == (
        "kernelRefused: 1 routes, first 203.0.113.0/24: Network is unreachable",
    )


def test_only_a_pass_that_hangs_makes_the_process_not_alive():
    scene = Scene()

    assert not_alive(scene.status(pass_began_at=NOW - 1, picture_complete=False), NOW) == ()
    assert words(not_alive(scene.status(pass_began_at=NOW - PASS_SECONDS_MAX - 1), NOW)) == ["loopHangs"]


def test_a_route_on_its_way_to_a_peer_says_how_far_it_is():
    scene = Scene()
    scene.outbox.peer_added(TOR6)
    scene.announce(TOR6, OWN_PODS)
    scene.announce(MATE, STRAY, answer=None)
    scene.refused_out[RouteKey(TOR, STRAY)] = "martianPrefix"

    assert told_state(scene.status(), RouteKey(MATE, OWN_PODS)) == ("sent", "")
    assert told_state(scene.status(), RouteKey(TOR6, OWN_PODS)) == ("held", "")
    assert told_state(scene.status(), RouteKey(MATE, STRAY)) == ("pending", "")
    assert told_state(scene.status(), RouteKey(TOR, STRAY)) == ("refused", "martianPrefix")


@pytest.mark.parametrize(("negotiated", "state"), [(True, ("sent", "")), (False, ("refused", "nextHopNotNegotiated"))])
def test_a_route_that_the_session_does_not_carry_is_not_sent(negotiated, state):
    scene = Scene()
    scene.session_up(TOR, extended_next_hop=negotiated)
    scene.announce(TOR, OWN_PODS, next_hop=TOR6)

    assert told_state(scene.status(), RouteKey(TOR, OWN_PODS)) == state


def test_a_family_that_the_session_does_not_carry_is_not_sent():
    scene, prefix = Scene(), ip_network("fd01::/64")
    scene.announce(TOR, prefix, next_hop=TOR6)

    assert told_state(scene.status(), RouteKey(TOR, prefix)) == ("refused", "familyNotSpoken")
    assert scene.status().sent_count(scene.peers[TOR], Family.IPV6) == 0


@pytest.mark.parametrize(("negotiated", "sent"), [(True, 3), (False, 2)])
def test_routes_that_the_session_does_not_carry_are_not_counted_as_sent(negotiated, sent):
    scene = Scene()
    scene.peers[TOR] = replace(scene.peers[TOR], extended_next_hop=True)
    scene.session_up(TOR, extended_next_hop=negotiated)
    for prefix, next_hop in ((OWN_PODS, US), (VIP, US), (MATE_PODS, TOR6)):
        scene.announce(TOR, prefix, next_hop=next_hop)

    assert scene.status().sent_count(scene.peers[TOR], Family.IPV4) == sent


def test_a_kernel_route_is_in_one_of_five_states():
    scene = Scene()
    scene.want_in_kernel(FibRoute(STRAY, (NextHop(TOR),)), there=False)
    key = learned(STRAY)

    def state():
        return fib_state(scene.status(), scene.kernel.failing, key)

    assert state() == ("missing", "")
    scene.kernel.failing[key] = Failure("No route to host")
    assert state() == ("failing", "No route to host")
    scene.kernel.conflicts[key] = "bird"
    assert state() == ("conflict", "held by bird")
    scene.kernel = KernelTable(actual={key: scene.fib[key]})
    assert state() == ("installed", "")
    del scene.fib[key]
    assert state() == ("leaving", "")
