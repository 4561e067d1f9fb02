"""What should be and is not: which of it is a difference, what is on its way, and that a full table holds nobody up."""

from __future__ import annotations

import json
from dataclasses import replace
from ipaddress import ip_network

import pytest

from agent.model import DISCARD_METRIC, FibKey, FibRoute, NextHop, Problem, RouteType
from agent.plan.steps import finish
from agent.status.diff import ROWS_MAX, diff_steps
from bgp.model import Family, Held, RouteKey
from tests.unit.status.scene import (
    MATE,
    MATE_PODS,
    NOW,
    OWN_PODS,
    STRAY,
    TOR,
    TOR6,
    VIP,
    Failure,
    Scene,
    learned,
    missing_secret,
)


@pytest.fixture
def scene():
    scene = Scene()
    del scene.peers[TOR6]
    return scene


def diff(scene, **fields):
    view = finish(diff_steps(lambda: scene.status(**fields), lambda: NOW))
    assert json.loads(json.dumps(view)) == view
    return view


def seen(scene, **fields):
    """(prefix or peer, state, reason) of all that differs; and of what is on its way."""
    rows = diff(scene, **fields)["rows"]
    said = [(row["waiting"], (row["prefix"] or row["peer"], row["state"], row["reason"])) for row in rows]
    return [it for waiting, it in said if not waiting], [it for waiting, it in said if waiting]


def test_a_node_on_which_all_is_as_planned_has_no_difference(scene):
    view = diff(scene)

    assert (view["differs"], view["rows"], view["counts"], view["left_out"]) == (False, [], [], 0)


def lost(scene):
    del scene.kernel.actual[learned(MATE_PODS)]


def in_conflict(scene):
    lost(scene)
    scene.kernel.conflicts[learned(MATE_PODS)] = "protocol 4 (static)"


def refused(scene):
    lost(scene)
    scene.kernel.failing[learned(MATE_PODS)] = Failure("Network is unreachable")


def in_part(scene):
    scene.fib[learned(MATE_PODS)] = FibRoute(MATE_PODS, (NextHop(MATE), NextHop(TOR)))
    scene.kernel.failing[learned(MATE_PODS)] = Failure("192.0.2.254: Network is unreachable")


def changed(scene):
    scene.kernel.actual[learned(MATE_PODS)] = FibRoute(MATE_PODS, (NextHop(TOR),))


def set_by_others(scene):
    scene.kernel.actual[learned(MATE_PODS)] = FibRoute(MATE_PODS, (NextHop(MATE),), extra="mtu 1300")


@pytest.mark.parametrize(
    ("spoil", "state", "reason", "text"),
    [
        (lost, "missing", "notInstalled", None),
        (in_conflict, "conflict", "kernelConflict", "held by protocol 4 (static)"),
        (refused, "refused", "kernelRefused", "Network is unreachable"),
        (in_part, "refused", "kernelRefused", "192.0.2.254: Network is unreachable"),
        (changed, "changed", "notInstalled", "is via 192.0.2.254, should be via 192.0.2.2"),
        (set_by_others, "changed", "notInstalled", "is via 192.0.2.2 mtu 1300, should be via 192.0.2.2"),
    ],
)
def test_what_keeps_a_route_out_of_the_kernel_is_named(scene, spoil, state, reason, text):
    spoil(scene)
    view = diff(scene)

    (row,) = view["rows"]
    assert (row["where"], row["prefix"], row["state"]) == ("kernel", str(MATE_PODS), state)
    assert (row["reason"], row["text"], row["waiting"]) == (reason, text, False)
    assert view["differs"]


def test_a_route_that_nobody_wants_is_unexpected(scene):
    scene.kernel.actual[learned(STRAY)] = FibRoute(STRAY, (NextHop(TOR),))

    assert seen(scene) == ([(str(STRAY), "unexpected", "leaving")], [])


@pytest.mark.parametrize("spoil", [lost, changed])
def test_what_the_pass_in_progress_may_be_writing_is_on_its_way(scene, spoil):
    spoil(scene)

    differing, waiting = seen(scene, pass_began_at=NOW - 1)
    assert (differing, len(waiting)) == ([], 1)
    assert not diff(scene, pass_began_at=NOW - 1)["differs"]


@pytest.mark.parametrize("spoil", [in_conflict, refused])
def test_what_the_kernel_refuses_is_no_less_refused_while_a_pass_goes_on(scene, spoil):
    spoil(scene)

    assert diff(scene, pass_began_at=NOW - 1)["differs"]


def test_a_route_found_at_start_stays_for_a_while(scene):
    scene.kernel.actual[learned(STRAY)] = FibRoute(STRAY, (NextHop(TOR),))
    scene.kernel.adopted = frozenset({learned(STRAY)})

    assert seen(scene) == ([], [(str(STRAY), "unexpected", "leaving")])


def test_a_discard_route_stays_while_a_peer_may_be_told_of_it(scene):
    guard = FibRoute(OWN_PODS, type=RouteType.UNREACHABLE, metric=DISCARD_METRIC)
    del scene.fib[guard.key]

    assert seen(scene) == ([], [(str(OWN_PODS), "unexpected", "leaving")])


def test_what_waits_for_the_pod_routes_of_others_is_on_its_way(scene):
    for prefix in (VIP, OWN_PODS):
        scene.outbox.want(RouteKey(TOR, prefix), None)
        scene.outbox.next_command(NOW)
        scene.outbox.answered(True, NOW)
    scene.originated[OWN_PODS] = replace(scene.originated[OWN_PODS], local=True)

    waiting = [(str(OWN_PODS), "notTold", "pending"), (str(VIP), "notTold", "podRoutesAwaited")]
    assert seen(scene, awaited=("worker-2",)) == ([], waiting)


def test_what_exabgp_is_about_to_take_is_on_its_way(scene):
    scene.announce(TOR, STRAY, answer=None)
    del scene.routes[RouteKey(TOR, VIP)]
    scene.outbox.want(RouteKey(TOR, VIP), None)

    on_their_way = [(str(VIP), "notWithdrawn", "pending"), (str(STRAY), "notTold", "pending")]
    assert seen(scene) == ([], on_their_way)

    scene.outbox.next_command(NOW)
    scene.outbox.next_command(NOW)
    assert seen(scene) == ([], on_their_way), "not answered yet"
    scene.outbox.answered(True, NOW)
    scene.outbox.answered(True, NOW)
    assert seen(scene) == ([], [])


def test_what_exabgp_should_take_is_a_difference_while_it_is_known_to_take_nothing(scene):
    scene.announce(TOR, STRAY, answer=None)
    scene.problems.add(Problem("speakerSilent", "ExaBGP", "says nothing", "Wait."))

    assert seen(scene) == ([(str(STRAY), "notTold", "speakerSilent")], [])


def test_what_exabgp_refuses_is_named_once(scene):
    scene.announce(TOR, STRAY, answer=False)

    assert seen(scene) == ([(str(STRAY), "refused", "speakerRefused")], [])


def test_a_route_that_must_not_go_to_a_peer_is_named_unless_that_is_usual(scene):
    for reason, differs in (("messageTooLong", True), ("familyNotSpoken", False), ("notTransit", False)):
        scene.refused_out[RouteKey(TOR, VIP)] = reason
        scene.routes.pop(RouteKey(TOR, VIP), None)
        scene.outbox.want(RouteKey(TOR, VIP), None)
        scene.outbox.next_command(NOW) and scene.outbox.answered(True, NOW)

        assert seen(scene) == ([(str(VIP), "refused", reason)] if differs else [], [])


def test_a_family_that_the_session_lacks_though_it_was_wanted_is_named_for_each_route(scene):
    pods6 = ip_network("2001:db8:1::/64")
    scene.peers[TOR] = replace(scene.peers[TOR], families=frozenset(Family))
    scene.originated[pods6] = scene.originated[OWN_PODS]
    scene.announce(TOR, pods6)

    assert seen(scene) == ([(str(pods6), "refused", "familyNotSpoken")], [])


def test_what_waits_for_its_discard_route_has_the_word_of_that(scene):
    guard = FibKey(VIP, DISCARD_METRIC)
    scene.want_in_kernel(FibRoute(VIP, type=RouteType.UNREACHABLE, metric=DISCARD_METRIC), there=False)
    scene.kernel.conflicts[guard] = "protocol 4 (static)"
    scene.outbox.want(RouteKey(TOR, VIP), None)
    scene.outbox.next_command(NOW)
    scene.outbox.answered(True, NOW)

    assert seen(scene)[0] == [(str(VIP), "conflict", "kernelConflict"), (str(VIP), "notTold", "kernelConflict")]


def test_a_session_that_is_missed_differs_once_for_all_its_routes(scene):
    scene = Scene()
    for prefix in (OWN_PODS, VIP):
        scene.announce(TOR6, prefix, answer=None)

    (row,) = diff(scene)["rows"]
    assert (row["peer"], row["state"], row["reason"], row["routes"]) == (str(TOR6), "noSession", "notEstablished", 2)
    assert "has been shut down by its administrator" in row["text"]
    assert seen(scene, wanted_at={TOR6: NOW - 1}) == ([], [(str(TOR6), "noSession", "notEstablished")])


@pytest.mark.parametrize(
    ("held", "differing", "waiting"),
    [("secretMissing", 1, 0), ("secretPending", 0, 1), ("shutdown", 0, 0)],
)
def test_a_session_that_must_not_be_differs_unless_somebody_wants_it_so(scene, held, differing, waiting):
    scene.peers[TOR] = replace(scene.peers[TOR], held=Held(held, "why"))
    scene.states[TOR] = scene.down_state()
    scene.problems.add(missing_secret())

    assert tuple(map(len, seen(scene))) == (differing, waiting)


def test_a_node_without_a_plan_differs_and_says_why(scene):
    view = diff(scene, picture_complete=False)

    assert view["differs"]
    assert [it["reason"] for it in view["problems"]] == ["pictureIncomplete"]
    scene.kernel.read_error = "no buffer space"
    assert [it["reason"] for it in diff(scene)["problems"]] == ["kernelUnreadable"]


def many(scene, count):
    prefixes = [ip_network((0x0A000000 + (number << 8), 24)) for number in range(count)]
    for prefix in prefixes:
        scene.want_in_kernel(FibRoute(prefix, (NextHop(MATE),)))
    return prefixes


def test_three_of_many_are_found_without_the_others_in_small_steps(scene):
    prefixes = many(scene, 5_000)
    for prefix in prefixes[7:10]:
        del scene.kernel.actual[learned(prefix)]
    steps = diff_steps(scene.status, lambda: NOW)

    count = 0
    try:
        while True:
            next(steps)
            count += 1
    except StopIteration as end:
        view = end.value
    assert count > len(prefixes), "others have a turn wherever they want one"
    assert [row["prefix"] for row in view["rows"]] == [str(prefix) for prefix in prefixes[7:10]]


def test_what_is_left_out_is_counted_and_differences_come_first(scene):
    prefixes = many(scene, ROWS_MAX + 100)
    for prefix in prefixes:
        del scene.kernel.actual[learned(prefix)]
    scene.announce(TOR, STRAY, answer=None)

    view = diff(scene)
    assert (len(view["rows"]), view["left_out"]) == (ROWS_MAX, 101)
    assert {row["state"] for row in view["rows"]} == {"missing"}
    assert {(it["state"], it["routes"]) for it in view["counts"]} == {("missing", ROWS_MAX + 100), ("notTold", 1)}


def test_what_is_put_right_while_others_have_their_turn_is_no_difference(scene):
    lost(scene)
    steps = diff_steps(scene.status, lambda: NOW)
    for _ in range(len(scene.fib) + 1):
        next(steps)
    scene.kernel.actual[learned(MATE_PODS)] = scene.fib[learned(MATE_PODS)]

    assert not finish(steps)["rows"]
