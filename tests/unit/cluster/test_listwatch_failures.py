"""The list+watch machine under every answer that is no list and no change: what it asks then, and when."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.cluster.request import Mode
from agent.model import Key, Kind, Listed
from tests.unit.cluster.machine import EXPIRED, LIMITS, TOR, Run, bookmark, event, key, node, record


def test_watch_list_is_not_tried_again_where_it_was_refused() -> None:
    run = Run()
    run.ask()
    run.refuse(422)
    run.ask()
    run.refuse(503)

    assert run.ask().mode is Mode.LIST


@pytest.mark.parametrize(
    "envelope", [b'{"metadata":{"resourceVersion":"9"},"items":[{"metadata"', b"<html>", b"", b"{}"]
)
def test_a_list_that_was_cut_off_changes_nothing(envelope: bytes) -> None:
    run = Run()
    run.ask()
    run.refuse(400)
    run.ask()
    run.open()
    run.took(run.machine.item(json.dumps(node("a", 3)).encode(), run.now))

    assert run.took(run.machine.listed(envelope, run.now)) == []
    assert not run.state.healthy


@pytest.mark.parametrize("as_event", [True, False])
def test_410_means_all_objects_again_after_a_random_while_and_is_no_problem(as_event: bool) -> None:
    run = Run().sync(node("a", 3))
    if as_event:
        run.hear(event("ERROR", EXPIRED))
    else:
        run.end(after=400)
        run.ask()
        run.refuse(410, json.dumps(EXPIRED).encode())

    assert not run.machine.streaming
    assert run.pause <= LIMITS.resync_spread_seconds
    assert "sendInitialEvents" in dict(run.asked[-1][1].query)
    assert run.state.healthy
    assert run.changes == [Listed(Kind.NODE, {key("a"): record("a")})]


def test_nodes_spread_their_lists_after_410() -> None:
    pauses = set()
    for seed in range(20):
        run = Run(seed=seed).sync()
        run.hear(event("ERROR", EXPIRED))
        pauses.add(round(run.pause, 1))

    assert len(pauses) > 10


def test_410_again_and_again_is_a_problem_and_slows_down() -> None:
    run = Run()
    for _ in range(12):
        run.sync(node("a", 3))
        run.hear(event("ERROR", EXPIRED))

    assert run.state.problem is not None
    assert run.state.problem.reason == "revisionExpired"
    assert run.now - 1000 > 30


@pytest.mark.parametrize("line", [bookmark(9), event("MODIFIED", node("a", 9))])
def test_a_revision_from_before_means_that_the_store_was_restored_and_all_objects_are_needed(line: bytes) -> None:
    run = Run().sync(node("a", 3), node("b", 4), revision=10)
    run.hear(line)
    run.sync(node("a", 2, "10.244.7.0/24"), revision=5)

    assert run.changes[-1] == Listed(Kind.NODE, {key("a"): record("a", "10.244.7.0/24")})
    assert run.world.records(Kind.NODE) == {key("a"): record("a", "10.244.7.0/24")}
    assert run.restarts() == {"revisionWentBack": 1}


def test_after_a_failure_the_store_is_asked_whether_it_went_back() -> None:
    run = Run().sync(node("a", 3), node("b", 4), revision=10)
    run.took(run.machine.broke("apiUnreachable", "Connect call failed", run.now))
    run.probe(9, node("b", 4), asks_for="b")
    run.sync(node("a", 3), revision=9)

    assert run.world.records(Kind.NODE) == {key("a"): record("a")}
    assert run.restarts() == {"apiUnreachable": 1, "revisionWentBack": 1}


def test_a_store_that_did_not_go_back_is_watched_on_at_once() -> None:
    run = Run().sync(node("a", 3), revision=10)
    run.took(run.machine.broke("apiUnreachable", "Connect call failed", run.now))
    run.probe(12, node("a", 3))
    probed_at = run.now

    assert run.query()["resourceVersion"] == "10"
    assert run.now == probed_at
    assert run.world.records(Kind.NODE) == {key("a"): record("a")}


@pytest.mark.parametrize("found", [(), (node("b", 2),), (node("b", 13),)], ids=["absent", "older", "newer"])
def test_a_restored_store_is_known_by_who_changed_last_when_its_revisions_have_passed_ours(
    found: tuple[dict[str, Any], ...],
) -> None:
    run = Run().sync(node("a", 3), node("b", 2), revision=4)
    run.hear(event("MODIFIED", node("b", 9)), bookmark(10))
    run.took(run.machine.broke("apiUnreachable", "Connect call failed", run.now))
    run.probe(14, *found, asks_for="b")
    run.sync(node("a", 3), revision=14)

    assert run.world.records(Kind.NODE) == {key("a"): record("a")}
    assert run.restarts() == {"apiUnreachable": 1, "witnessChanged": 1}


def test_nobody_testifies_for_a_store_whose_last_change_was_a_deletion_and_all_objects_are_needed() -> None:
    run = Run().sync(node("a", 3), node("b", 4), revision=10)
    run.hear(event("DELETED", node("b", 11)))
    run.took(run.machine.broke("apiUnreachable", "Connect call failed", run.now))

    assert run.ask().mode is Mode.WATCH_LIST


def test_the_witness_of_a_namespaced_kind_is_asked_for_in_its_namespace() -> None:
    run = Run(Kind.SERVICE)
    service = {"metadata": {"name": "s", "namespace": "shop", "resourceVersion": "7"}, "spec": {"clusterIP": "None"}}
    run.sync(service)
    run.took(run.machine.broke("apiUnreachable", "Connect call failed", run.now))

    assert run.ask().only == Key(Kind.SERVICE, "shop", "s")


def test_a_revision_the_store_has_not_reached_yet_means_all_objects_again() -> None:
    run = Run().sync(revision=10)
    run.end(after=400)
    run.ask()
    run.refuse(504, b'{"message":"Timeout: Too large resource version: 10, current: 5","code":504}')

    assert "sendInitialEvents" in run.query()


@pytest.mark.parametrize(
    ("status", "body", "reason"),
    [
        (401, b"", "apiUnauthorized"),
        (403, b'{"message":"nodes is forbidden","code":403}', "apiForbidden"),
        (404, b"", "apiNotFound"),
        (429, b"", "apiBusy"),
        (500, b"", "apiFailed"),
        (503, b"<html>upstream is away</html>", "apiFailed"),
        (302, b"", "apiFailed"),
    ],
)
def test_a_refusal_keeps_the_picture_says_why_and_backs_off(status: int, body: bytes, reason: str) -> None:
    run = Run().sync(node("a", 3))
    run.end(after=400)
    began_at = run.now
    for _ in range(20):
        run.ask()
        assert run.refuse(status, body) == []

    assert run.world.records(Kind.NODE) == {key("a"): record("a")}
    assert run.state.problem is not None
    assert run.state.problem.reason == reason
    assert run.now - began_at > 100


def test_403_names_the_rule_that_is_missing() -> None:
    run = Run(Kind.ENDPOINT_SLICE)
    run.ask()
    run.refuse(403, b'{"message":"endpointslices.discovery.k8s.io is forbidden: User x cannot watch","code":403}')

    assert run.state.problem is not None
    assert run.state.problem.subject == "watch of EndpointSlice"
    assert "User x cannot watch" in run.state.problem.message
    assert (
        'ClusterRole with the rule apiGroups ["discovery.k8s.io"], resources ["endpointslices"]'
        in run.state.problem.fix
    )


def test_retry_after_is_honoured_up_to_a_bound() -> None:
    run = Run()
    run.ask()
    run.refuse(429, retry_after=20)
    assert 20 <= run.pause <= 25

    run.refuse(503, retry_after=1_000_000)
    assert 120 <= run.pause <= 150


def test_retry_after_in_the_body_is_honoured_too() -> None:
    run = Run()
    run.ask()
    run.refuse(429, b'{"code":429,"details":{"retryAfterSeconds":20}}')

    assert 20 <= run.pause <= 25


def test_the_backoff_grows_to_its_bound_and_is_random() -> None:
    pauses = []
    run = Run()
    run.ask()
    for _ in range(60):
        run.refuse(500)
        pauses.append(run.pause)

    assert pauses[0] <= 0.8
    assert max(pauses) <= 30
    assert max(pauses[8:]) > 20
    assert min(pauses) >= 0.1
    assert len(set(pauses)) == len(pauses)


def test_a_watch_that_lived_long_enough_ends_a_row_of_failures() -> None:
    run = Run()
    run.ask()
    for _ in range(10):
        run.refuse(500)
        run.ask()
    run.open()
    run.hear(bookmark(10, end=True))
    run.now += 60
    run.took(run.machine.broke("apiUnreachable", "reset", run.now))

    assert run.pause <= LIMITS.backoff_first_seconds


def test_a_stream_that_ends_at_once_is_a_failure_and_stays_one_until_something_comes() -> None:
    run = Run().sync(node("a", 3))
    run.end(after=0.5)
    said = run.state
    for _ in range(5):
        run.ask()
        run.open()
        run.end(after=0.01)
    run.ask()
    run.open()
    still = run.state
    run.hear(bookmark(11))

    assert said.problem is not None
    assert said.problem.reason == "streamTooShort"
    assert still.problem == said.problem
    assert run.state.healthy


def test_a_watch_that_breaks_once_is_well_as_soon_as_the_next_is_open() -> None:
    run = Run().sync(node("a", 3), revision=10)
    run.now += 60
    run.took(run.machine.broke("streamBroken", "the connection broke", run.now))
    broken = run.state
    run.probe(10, node("a", 3))
    run.ask()
    run.open()

    assert not broken.healthy
    assert run.state.healthy


def test_streams_that_end_in_order_after_a_second_are_asked_for_again_about_as_often() -> None:
    run = Run().sync()
    before = run.now
    for _ in range(100):
        run.end(after=1.0)
        run.ask()
        run.open()

    assert run.now - before > 100
    assert run.state.healthy


def test_silence_ends_a_watch_and_the_next_goes_on_where_it_was() -> None:
    run = Run().sync(node("a", 3), revision=10)
    run.now += LIMITS.silence_seconds
    run.took(run.machine.silent(run.now))

    assert run.state.problem is not None
    assert run.state.problem.reason == "streamSilent"
    run.probe(10, node("a", 3))
    assert run.query()["resourceVersion"] == "10"
    run.open()
    assert run.state.healthy


def test_a_connection_that_breaks_says_so_and_keeps_all() -> None:
    run = Run().sync(node("a", 3))
    run.took(run.machine.broke("apiUnreachable", "Connect call failed", run.now, "Check the firewall."))

    problem = run.state.problem
    assert problem is not None
    assert (problem.reason, problem.fix) == ("apiUnreachable", "Check the firewall.")
    assert "Connect call failed" in problem.message
    assert run.world.records(Kind.NODE) == {key("a"): record("a")}


@pytest.mark.parametrize("line", [b"<html>", b'{"type":"ADDED"', b'{"type":"SURPRISE","object":{}}', b"[]", b"\xff"])
def test_a_line_that_is_no_event_means_all_objects_again(line: bytes) -> None:
    run = Run().sync(node("a", 3))
    run.hear(line)

    assert not run.machine.streaming
    assert not run.state.healthy
    assert "sendInitialEvents" in run.query()


def test_an_object_that_is_too_large_means_all_objects_again() -> None:
    run = Run().sync(node("a", 3))
    run.took(run.machine.too_long(run.now))

    assert run.state.problem is not None
    assert run.state.problem.reason == "textTooLong"
    assert "sendInitialEvents" in run.query()


MEMBERS = st.sampled_from(
    ["metadata", "name", "resourceVersion", "annotations", "code", "message", "details", "retryAfterSeconds"]
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.just("9" * 4400),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(MEMBERS, inner, max_size=4),
    max_leaves=6,
)
EVENTS = st.fixed_dictionaries(
    {"type": st.sampled_from(["ADDED", "MODIFIED", "DELETED", "BOOKMARK", "ERROR"])},
    optional={"object": JSON | st.dictionaries(MEMBERS, JSON, max_size=4)},
)


@given(lines=st.lists(st.binary(max_size=20) | EVENTS.map(lambda found: json.dumps(found).encode()), max_size=5))
@settings(deadline=None)
def test_no_stream_and_no_body_raises_and_the_next_request_is_always_known(lines: list[bytes]) -> None:
    for run in (Run(), Run().sync(), Run(Kind.SECRET, TOR)):
        for line in lines:
            run.ask()
            run.open()
            run.hear(line)
            run.ask()
            run.refuse(500, line)

        assert run.ask().query


def test_a_watch_is_broken_since_its_first_failure_in_a_row_and_well_again_with_the_first_word() -> None:
    run = Run().sync(node("a", 5))
    assert run.state.broken_at is None
    run.took(run.machine.broke("apiUnreachable", "connection refused", run.now))
    since = run.now
    for _ in range(3):
        run.ask()
        run.took(run.machine.broke("streamBroken", "cut off", run.now))
    assert (run.state.healthy, run.state.broken_at) == (False, since)
    assert run.now > since

    run.probe(11, node("a", 5))
    run.ask()
    run.open()
    run.hear(bookmark(12))

    assert (run.state.healthy, run.state.broken_at) == (True, None)
