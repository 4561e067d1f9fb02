"""Health: what keeps a node from working, what only keeps it from working well, and what does neither."""

from __future__ import annotations

from dataclasses import replace

import pytest

from agent.cli import render
from agent.model import Kind, Problem, WatchState
from agent.status.health import Health, ailments, health_of
from agent.status.views import status_view
from bgp.model import Held, PeerState
from tests.unit.status.scene import MATE, MATE_PODS, NOW, STRAY, TOR, TOR6, Failure, KernelTable, Scene, learned

MISSING = Problem("secretMissing", "BGPInstance default", "Secret mesh cannot be read.", "Create it.")
PORT = Problem("cannotListen", "ExaBGP", "cannot listen on 192.0.2.1:179: Address already in use", "Stop the other.")


@pytest.fixture
def scene():
    return Scene()


def verdict(status):
    found = ailments(status)
    return health_of(found), [ailment.reason for ailment in found]


def hold(scene, *addresses, reason="secretMissing"):
    for address in addresses:
        scene.peers[address] = replace(scene.peers[address], held=Held(reason))
        scene.states[address] = PeerState()


def test_a_node_at_rest_is_well_though_a_router_is_down(scene):
    assert verdict(scene.status()) == (Health.YES, [])


@pytest.mark.parametrize(
    ("fields", "kernel", "reason", "health"),
    [
        ({"picture_complete": False}, {}, "pictureIncomplete", Health.NO),
        ({}, {"read_error": "EBUSY"}, "kernelUnreadable", Health.NO),
        ({}, {"failing": {learned(MATE_PODS): Failure("Network is unreachable")}}, "kernelRefused", Health.DEGRADED),
        ({}, {"conflicts": {learned(MATE_PODS): "static"}}, "kernelConflict", Health.DEGRADED),
    ],
)
def test_what_is_wrong_with_picture_or_kernel(scene, fields, kernel, reason, health):
    scene.kernel = KernelTable(**{"actual": scene.kernel.actual, **kernel})

    assert verdict(scene.status(**fields)) == (health, [reason])


def test_a_node_that_is_nothing_in_bgp_is_not_well_and_says_the_words_of_the_problem(scene):
    scene.identity = None
    scene.peers.clear()
    scene.problems.add(Problem("asnMissing", "Node worker-1", "Node worker-1 has no label asn", "Set it."))
    (found,) = ailments(scene.status())

    assert (found.reason, found.text, found.fatal) == ("nodeNotPlanned", "Node worker-1 has no label asn", True)


def test_a_watch_that_is_broken_degrades_and_is_named(scene):
    scene.watches.append(WatchState(Kind.SERVICE, healthy=False, fresh_at=NOW - 70))
    (found,) = ailments(scene.status())

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

    assert verdict(scene.status(peers={}))[0] is Health.DEGRADED


def test_no_session_at_all_degrades(scene):
    assert verdict(scene.status(peers={})) == (Health.DEGRADED, ["noSession"])


def test_when_no_session_between_nodes_may_come_up_the_reason_is_that_of_the_hold(scene):
    scene.identity = replace(scene.identity, instance="default")
    scene.problems.add(MISSING)
    hold(scene, MATE)
    (found,) = ailments(scene.status())

    assert (found.reason, found.fatal) == ("secretMissing", False), "a router is up"
    assert found.text == "no session between nodes may come up: Secret mesh cannot be read."


def test_when_no_session_at_all_may_come_up_nothing_works(scene):
    hold(scene, MATE, TOR, TOR6)

    assert verdict(scene.status()) == (Health.NO, ["secretMissing"])


def test_one_held_session_of_several_is_no_trouble_of_the_node(scene):
    hold(scene, TOR6)

    assert verdict(scene.status()) == (Health.YES, [])


def test_sessions_that_an_administrator_has_shut_down_are_not_missed(scene):
    for address in (TOR, TOR6):
        hold(scene, address, reason="shutdown")
    del scene.peers[MATE]

    assert verdict(scene.status()) == (Health.YES, [])


def test_a_node_without_any_peer_is_well(scene):
    scene.peers.clear()

    assert verdict(scene.status()) == (Health.YES, [])


def test_a_dry_run_has_no_sessions_to_miss(scene):
    assert verdict(scene.status(peers={}, dry_run=True)) == (Health.YES, [])


def test_each_reason_has_a_line_the_fatal_ones_first(scene):
    scene.problems.add(PORT)
    view = status_view(scene.status(peers={}), NOW)

    assert (view["health"], view["healthy"]) == ("no", False)
    lines = render.status(view).split("\n")
    at = next(number for number, line in enumerate(lines) if line.startswith("Healthy:"))
    assert lines[at] == f"Healthy:   no: cannotListen: {PORT.message}"
    assert lines[at + 1] == "           and noSession: none of 3 sessions is established"
