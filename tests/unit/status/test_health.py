"""Health: what keeps a node from doing its job, what only keeps it from doing all of it, and what does neither."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address

import pytest

from agent.cli import glance
from agent.model import Key, Kind, Node, Problem, WatchState
from agent.status.health import Health, ailments, health_of
from agent.status.views import status_view
from bgp.model import Direction, Held, PeerState, SessionError
from tests.unit.status.scene import (
    MATE,
    MATE_PODS,
    NOW,
    OWN_PODS,
    STRAY,
    TOR,
    TOR6,
    Failure,
    KernelTable,
    Scene,
    learned,
    missing_secret,
    peer,
)

MISSING = Problem("secretMissing", "BGPInstance default", "Secret mesh cannot be read.", "Create it.")
PORT = Problem("cannotListen", "ExaBGP", "cannot listen on 192.0.2.1:179: Address already in use", "Stop the other.")
NO_AS = Problem("asnMissing", "Node worker-1", "Node worker-1 has no label asn", "Set it.")
GRACE_SECONDS = 30


@pytest.fixture
def scene():
    """Everything works."""
    scene = Scene()
    scene.session_up(TOR6)
    return scene


def verdict(status):
    found = ailments(status, NOW)
    return health_of(found), [ailment.reason for ailment in found]


def hold(scene, *addresses, reason="secretMissing"):
    for address in addresses:
        scene.peers[address] = replace(scene.peers[address], held=Held(reason))
        scene.states[address] = PeerState()


def lose(scene, *addresses, seconds):
    for address in addresses:
        scene.states[address] = PeerState(since=NOW - seconds, flaps=1)


def test_a_node_at_rest_is_well(scene):
    assert verdict(scene.status()) == (Health.YES, [])


@pytest.mark.parametrize(
    ("fields", "kernel", "reason", "health"),
    [
        ({"picture_complete": False}, {}, "pictureIncomplete", Health.NO),
        ({"speaking_at": None}, {}, "notSpeaking", Health.NO),
        ({}, {"read_error": "EBUSY"}, "kernelUnreadable", Health.NO),
        ({}, {"failing": {learned(MATE_PODS): Failure("Network is unreachable")}}, "kernelRefused", Health.DEGRADED),
        (
            {},
            {"failing": {learned(MATE_PODS): Failure("Operation not permitted")}, "actual": {}},
            "kernelRefused",
            Health.NO,
        ),
        ({}, {"conflicts": {learned(MATE_PODS): "static"}}, "kernelConflict", Health.DEGRADED),
    ],
)
def test_what_is_wrong_with_picture_or_kernel(scene, fields, kernel, reason, health):
    scene.kernel = KernelTable(**{"actual": scene.kernel.actual, **kernel})

    assert verdict(scene.status(**fields)) == (health, [reason])


def test_a_node_that_is_nothing_in_bgp_says_the_word_and_the_words_of_the_problem(scene):
    scene.identity = None
    scene.peers.clear()
    scene.problems.add(NO_AS)
    (found,) = ailments(scene.status(), NOW)

    assert (found.reason, found.text, found.fatal) == ("asnMissing", "Node worker-1 has no label asn", True)


def test_a_node_that_goes_on_in_the_as_it_had_is_degraded_with_the_same_word(scene):
    scene.problems.add(NO_AS)

    assert verdict(scene.status()) == (Health.DEGRADED, ["asnMissing"])


@pytest.mark.parametrize("reason", ["asnMissing", "podCIDRConflict"])
def test_what_is_wrong_with_another_node_is_said_by_its_own_agent(scene, reason):
    scene.problems.add(Problem(reason, "Node worker-2", "Node worker-2 …", "Mend it."))

    assert verdict(scene.status()) == (Health.YES, [])


def test_a_watch_that_is_broken_degrades_and_is_named(scene):
    scene.watches.append(WatchState(Kind.SERVICE, healthy=False, fresh_at=NOW - 70))
    scene.problems.add(Problem("apiUnreachable", "watch of Service", "cannot watch all Service objects", "Wait."))
    (found,) = ailments(scene.status(), NOW)

    assert (found.reason, found.fatal) == ("watchBroken", False)
    assert "Service" in found.text


def test_a_route_exabgp_refuses_degrades(scene):
    scene.announce(MATE, STRAY, answer=False)

    assert verdict(scene.status()) == (Health.DEGRADED, ["speakerRefused"])


@pytest.mark.parametrize("reason", ["cannotListen", "speakerDown", "speakerSilent", "exabgpUnusable"])
def test_trouble_with_exabgp_degrades_while_some_session_is_up_and_is_fatal_when_none_is(scene, reason):
    scene.problems.add(replace(PORT, reason=reason))
    assert verdict(scene.status()) == (Health.DEGRADED, [reason])

    assert verdict(scene.status(peers={})) == (Health.NO, [reason, "noSession"])


def test_a_configuration_that_exabgp_does_not_take_leaves_the_one_before_in_force(scene):
    scene.problems.add(replace(PORT, reason="configurationRefused"))

    assert verdict(scene.status()) == (Health.DEGRADED, ["configurationRefused"])


# Sessions.


@pytest.mark.parametrize("address", [MATE, TOR])
def test_a_session_that_was_lost_is_missed_after_thirty_seconds(scene, address):
    lose(scene, address, seconds=GRACE_SECONDS - 1)
    assert verdict(scene.status()) == (Health.YES, [])

    lose(scene, address, seconds=GRACE_SECONDS)

    assert verdict(scene.status()) == (Health.DEGRADED, ["sessionDown"])


def test_a_session_with_a_node_that_is_known_to_be_away_is_not_missed(scene):
    lose(scene, MATE, seconds=GRACE_SECONDS)
    away = {Key(Kind.NODE, "", "worker-2"): Node(name="worker-2", ready=False)}

    assert verdict(scene.status(nodes=away)) == (Health.YES, [])


def test_a_session_with_a_node_that_says_that_it_is_drained_is_not_missed(scene):
    lose(scene, MATE, seconds=GRACE_SECONDS)
    said = SessionError(Direction.RECEIVED, 6, 2, "drained: rack 7", at=NOW - GRACE_SECONDS)
    scene.states[MATE] = replace(scene.states[MATE], last_error=said)

    assert verdict(scene.status()) == (Health.YES, [])


def test_a_session_that_never_was_is_missed_thirty_seconds_after_it_was_asked_for(scene):
    scene.states[TOR6] = scene.down_state()
    assert verdict(scene.status(wanted_at={TOR6: NOW - GRACE_SECONDS + 1})) == (Health.YES, [])

    assert verdict(scene.status(wanted_at={TOR6: NOW - GRACE_SECONDS})) == (Health.DEGRADED, ["sessionDown"])


def test_of_many_sessions_that_are_missed_three_are_named(scene):
    for number in range(50):
        address = ip_address(f"198.51.100.{number}")
        scene.peers[address] = peer(address, f"BGPPeer/away-{number:02}", 65001)
    (found,) = ailments(scene.status(), NOW)

    assert found.text == (
        "50 of 53 sessions are not established, for 30 s or longer: BGPPeer/away-00 (198.51.100.0), "
        "BGPPeer/away-01 (198.51.100.1), BGPPeer/away-02 (198.51.100.2) and 47 more"
    )


def test_without_any_session_a_node_is_degraded_at_once_and_of_no_use_after_thirty_seconds(scene):
    lose(scene, MATE, TOR, TOR6, seconds=1)
    assert verdict(scene.status()) == (Health.DEGRADED, ["noSession"])

    lose(scene, MATE, TOR, TOR6, seconds=GRACE_SECONDS)

    assert verdict(scene.status()) == (Health.NO, ["noSession"])


def test_when_no_session_between_nodes_may_come_up_the_reason_is_that_of_the_hold(scene):
    scene.identity = replace(scene.identity, instance="default")
    scene.problems.add(MISSING)
    hold(scene, MATE)
    (found,) = ailments(scene.status(), NOW)

    assert (found.reason, found.fatal) == ("secretMissing", False), "a router is up"
    assert found.text == "no session between nodes may come up: Secret mesh cannot be read."


def test_when_no_session_at_all_may_come_up_nothing_works(scene):
    hold(scene, MATE, TOR, TOR6)

    assert verdict(scene.status()) == (Health.NO, ["secretMissing"])


def test_one_session_of_several_that_must_not_be_is_missed_at_once_with_the_words_of_its_problem(scene):
    scene.problems.add(missing_secret())
    hold(scene, TOR6)
    (found,) = ailments(scene.status(), NOW)

    assert (found.reason, found.fatal) == ("secretMissing", False)
    assert found.text == (
        "1 of 3 sessions may not come up (BGPPeer/tor-b (2001:db8::fe)): Secret bgpilot/tor-b does not exist."
    )


def test_a_secret_that_is_about_to_be_read_is_waited_for(scene):
    hold(scene, TOR6, reason="secretPending")

    assert verdict(scene.status()) == (Health.YES, [])


def test_sessions_that_an_administrator_has_shut_down_are_not_missed(scene):
    for address in (TOR, TOR6):
        hold(scene, address, reason="shutdown")
    del scene.peers[MATE]

    assert verdict(scene.status()) == (Health.YES, [])


def test_a_session_that_the_topology_no_longer_wants_is_not_missed(scene):
    lose(scene, MATE, seconds=GRACE_SECONDS)
    scene.parting = frozenset({"worker-2"})

    assert verdict(scene.status()) == (Health.YES, [])


def test_a_node_without_any_peer_is_well(scene):
    scene.peers.clear()

    assert verdict(scene.status()) == (Health.YES, [])


def test_a_dry_run_has_no_sessions_to_miss(scene):
    assert verdict(scene.status(peers={}, dry_run=True)) == (Health.YES, [])


# Objects.


def test_an_object_that_is_refused_degrades_and_is_named_with_how_many_more(scene):
    for name in ("tor-x", "tor-y"):
        said = "address 192.0.2.9 is also that of BGPPeer tor-a, which is older and keeps the session"
        scene.problems.add(Problem("peerAddressConflict", f"BGPPeer {name}", said, "Delete one."))
    (found,) = ailments(scene.status(), NOW)

    assert (found.reason, found.fatal) == ("peerAddressConflict", False)
    assert found.text.startswith("BGPPeer tor-x: address 192.0.2.9 is also")
    assert found.text.endswith("(and 1 more)")


@pytest.mark.parametrize(
    "reason",
    ["instanceConflicted", "maxPrefixesNear", "advertisementSelectsNothing", "nodeDraining", "meshPasswordsDiffer"],
)
def test_a_warning_leaves_a_node_well(scene, reason):
    scene.problems.add(Problem(reason, "BGPPeer tor-a", "…", "…"))

    assert verdict(scene.status()) == (Health.YES, [])


def test_next_hops_that_the_router_has_not_agreed_to_count_as_soon_as_a_route_needs_them(scene):
    scene.problems.add(Problem("nextHopNotNegotiated", "BGPPeer tor-a", "it has not agreed", "Switch it on."))
    assert verdict(scene.status()) == (Health.YES, [])

    scene.announce(TOR, OWN_PODS, next_hop=TOR6, as_path=(64512,))

    assert verdict(scene.status()) == (Health.DEGRADED, ["nextHopNotNegotiated"])


def test_a_word_that_nobody_has_weighed_counts(scene):
    scene.problems.add(Problem("somethingNew", "BGPPeer tor-a", "…", "…"))

    assert verdict(scene.status()) == (Health.DEGRADED, ["somethingNew"])


def test_each_reason_has_a_line_the_fatal_ones_first(scene):
    scene.problems.add(PORT)
    view = status_view(scene.status(peers={}), NOW)

    assert (view["health"], view["healthy"]) == ("no", False)
    lines = glance.status(view).split("\n")
    at = next(number for number, line in enumerate(lines) if line.startswith("Healthy:"))
    assert lines[at] == f"Healthy:   no: cannotListen: {PORT.message}"
    assert lines[at + 1] == "           and noSession: none of 3 sessions is established"
