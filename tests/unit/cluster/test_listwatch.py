"""Lists and changes on their way through the list+watch machine, in virtual time."""

import json

import pytest

from agent.cluster.request import Mode
from agent.model import (
    Applied,
    Gone,
    Kind,
    Listed,
    Malformed,
)
from tests.unit.cluster.machine import EXPIRED, LIMITS, Run, bookmark, event, key, node, record


def test_the_first_request_is_a_watch_list_with_a_random_end() -> None:
    query = Run().query()

    assert 300 <= int(query.pop("timeoutSeconds")) <= 600
    assert query == {
        "watch": "1",
        "allowWatchBookmarks": "true",
        "sendInitialEvents": "true",
        "resourceVersionMatch": "NotOlderThan",
    }


def test_the_list_is_passed_on_whole_when_its_end_is_marked_and_not_before() -> None:
    run = Run()
    run.ask()
    run.open()

    before = run.hear(event("ADDED", node("a", 3)), event("ADDED", node("b", 2)), bookmark(3))
    at_the_mark = run.hear(bookmark(5, end=True))

    assert before == []
    assert at_the_mark == [Listed(Kind.NODE, {key("a"): record("a"), key("b"): record("b")})]
    assert run.state.healthy


def test_changes_before_the_mark_are_part_of_the_list() -> None:
    run = Run()
    run.ask()
    run.open()

    changes = run.hear(
        event("ADDED", node("a", 3)),
        event("ADDED", node("b", 2)),
        event("MODIFIED", node("a", 6, "10.244.9.0/24")),
        event("DELETED", node("b", 7)),
        bookmark(7, end=True),
    )

    assert changes == [Listed(Kind.NODE, {key("a"): record("a", "10.244.9.0/24")})]


def test_after_the_list_changes_are_passed_on_one_by_one() -> None:
    run = Run().sync(node("a", 3))

    changes = run.hear(
        event("ADDED", node("b", 11)),
        event("MODIFIED", node("a", 12, "10.244.9.0/24")),
        event("DELETED", node("b", 13)),
    )

    assert changes == [
        Applied(key("b"), record("b")),
        Applied(key("a"), record("a", "10.244.9.0/24")),
        Gone(key("b")),
    ]


def test_a_heartbeat_wakes_nobody() -> None:
    run = Run().sync(node("a", 3))
    states = len(run.states)

    heard = run.hear(*(event("MODIFIED", {**node("a", 11 + beat), "status": {"phase": beat}}) for beat in range(50)))

    assert heard == []
    assert len(run.states) == states


def test_signs_of_life_are_passed_on_now_and_then() -> None:
    run = Run().sync()
    run.states.clear()
    for _ in range(600):
        run.now += 1
        run.hear(bookmark(11))

    assert 30 <= len(run.states) <= 40
    assert run.now - run.state.fresh_at <= LIMITS.fresh_seconds + 1


def test_the_next_watch_goes_on_where_the_last_one_ended() -> None:
    run = Run().sync(node("a", 3), revision=10)
    run.hear(event("MODIFIED", node("a", 12)), bookmark(17))
    run.end(after=400)

    query = run.query()

    assert query["resourceVersion"] == "17"
    assert "sendInitialEvents" not in query
    assert run.now - 1400 <= LIMITS.reopen_spread_seconds
    run.open()
    run.hear(bookmark(18))
    assert run.restarts() == {"streamEnded": 1}


@pytest.mark.parametrize("status", [400, 422])
def test_without_watch_list_everything_is_listed_from_the_cache_in_one_piece(status: int) -> None:
    run = Run()
    run.ask()
    run.refuse(status)
    request = run.ask()
    run.open()
    run.took(run.machine.item(json.dumps(node("a", 3)).encode(), run.now))
    rest = {"metadata": {"resourceVersion": "9"}, "items": [node("b", 4)]}
    changes = run.took(run.machine.listed(json.dumps(rest).encode(), run.now))

    assert (request.mode, request.query) == (Mode.LIST, (("resourceVersion", "0"),))
    assert run.asked[1][0] == run.asked[0][0]
    assert changes == [Listed(Kind.NODE, {key("a"): record("a"), key("b"): record("b")})]
    assert run.query()["resourceVersion"] == "9"


@pytest.mark.parametrize("meta", [{"resourceVersion": "9", "continue": "abc"}, {}])
def test_a_part_of_a_list_is_not_taken_for_the_list(meta: dict[str, str]) -> None:
    run = Run()
    run.ask()
    run.refuse(400)
    run.ask()
    run.open()

    assert run.took(run.machine.listed(json.dumps({"metadata": meta, "items": []}).encode(), run.now)) == []
    assert run.state.problem is not None
    assert run.state.problem.reason == "streamBroken"


def test_a_server_that_ignores_watch_list_is_listed_in_the_end() -> None:
    run = Run()
    for _ in range(2):
        run.ask()
        run.open()
        run.hear(event("ADDED", node("a", 3)))
        run.end(after=LIMITS.sync_silence_seconds)

    assert run.changes == []
    assert run.ask().mode is Mode.LIST


BAD = {"metadata": {"name": "a", "resourceVersion": "11"}, "spec": {"podCIDRs": ["nonsense"]}}


def test_an_object_that_does_not_parse_is_left_out_of_the_list_alone() -> None:
    run = Run().sync(BAD, *(node(f"n{number}", 3) for number in range(1000)))

    listed = run.changes[-1]
    assert isinstance(listed, Listed)
    assert len(listed.records) == 1000
    assert set(listed.malformed) == {key("a")}
    assert run.state.healthy


def test_an_object_that_no_longer_parses_is_said_once_and_mended_once() -> None:
    run = Run().sync(node("a", 3))

    heard = run.hear(
        event("MODIFIED", BAD), event("MODIFIED", {**BAD, "status": {}}), event("MODIFIED", node("a", 13)), bookmark(14)
    )

    assert [type(change) for change in heard] == [Malformed, Applied]
    assert run.world.problems == frozenset()


def test_the_last_good_record_survives_lists_in_which_it_does_not_parse() -> None:
    run = Run().sync(node("a", 3))
    run.hear(event("MODIFIED", BAD), event("ERROR", EXPIRED))
    run.sync(BAD, revision=20)

    assert run.world.get(key("a")) == record("a")
    run.hear(event("DELETED", {"metadata": {"name": "a", "resourceVersion": "21"}}))
    assert run.world.get(key("a")) is None
    assert run.world.problems == frozenset()
