"""A watch against a server that misbehaves on purpose, over real connections: all comes right, nothing runs hot."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent.model import Kind, Problem
from tests.lab.badserver import (
    BadServer,
    Behaviour,
    Exchange,
    answer,
    cut_inside_chunk,
    end,
    end_inside_line,
    hang,
    listing,
    node,
    says,
    watch,
    watch_list,
)
from tests.lab.wait import eventually
from tests.unit.cluster.watching import FAST, Watched, kubeconfig, watching

MIB = 1024 * 1024
TWO = watch_list(node(1), node(2), revision=10, then=hang)
PROBED = listing(node(2), revision=10)
EXPIRED = {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old resource version"}


@asynccontextmanager
async def against(
    tmp_path: Path, *behaviours: Behaviour, kind: Kind = Kind.NODE, **limits: float
) -> AsyncIterator[tuple[Watched, BadServer]]:
    async with (
        BadServer(*behaviours) as server,
        watching(kubeconfig(tmp_path, server.url), kind, limits=replace(FAST, **limits)) as watched,
    ):
        yield watched, server


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (answer(429, retry_after=0), "apiBusy"),
        (says(429, "TooManyRequests", "storage is (re)initializing"), "apiBusy"),
        (answer(503, b"<html><h1>503 Service Unavailable</h1></html>"), "apiFailed"),
        (answer(500, b"\x00" * 300_000), "apiFailed"),
        (answer(401), "apiUnauthorized"),
        (says(403, "Forbidden", "nodes is forbidden"), "apiForbidden"),
        (says(404, "NotFound", "the server could not find the requested resource"), "apiNotFound"),
        (watch(then=cut_inside_chunk), "streamBroken"),
        (watch(("ADDED", node(9)), then=end), "streamBroken"),
        (watch(("ADDED", node(9)), then=end_inside_line), "streamBroken"),
        (answer(200, b"<html>log in first</html>\n"), "streamBroken"),
    ],
)
async def test_a_bad_answer_to_the_first_request_is_said_and_asked_again(
    tmp_path: Path, bad: Behaviour, reason: str
) -> None:
    async with against(tmp_path, bad, TWO) as (watched, server):
        await eventually(lambda: watched.nodes() == {"n1", "n2"})

    assert watched.reasons() == {reason}
    assert watched.state.healthy
    assert len(server.asked) == 2


@pytest.mark.parametrize(
    ("then", "restart"),
    [
        (cut_inside_chunk, "streamBroken"),
        (end_inside_line, "streamBroken"),
        (end, "streamTooShort"),
    ],
)
async def test_a_watch_that_breaks_goes_on_where_it_was(tmp_path: Path, then: Behaviour, restart: str) -> None:
    first = watch_list(node(1), node(2), revision=10, then=then)
    on = watch(("DELETED", node(1, 11)), then=hang)
    async with against(tmp_path, first, PROBED, on, short_seconds=5.0) as (watched, server):
        await eventually(lambda: watched.nodes() == {"n2"})

    assert len(watched.lists) == 1
    assert server.asked[1].query == {"fieldSelector": "metadata.name=n2", "limit": "1"}
    assert server.asked[2].query["resourceVersion"] == "10"
    assert watched.restarts() == {restart: 1}


@pytest.mark.parametrize("expired", [watch(("ERROR", EXPIRED), then=hang), answer(410, EXPIRED)])
async def test_410_as_status_and_as_event_means_all_objects_again(tmp_path: Path, expired: Behaviour) -> None:
    first = watch_list(node(1), node(2), revision=10, then=cut_inside_chunk)
    again = watch_list(node(2), node(3), revision=30, then=hang)
    async with against(tmp_path, first, PROBED, expired, again) as (watched, server):
        await eventually(lambda: watched.nodes() == {"n2", "n3"})

    assert len(watched.lists) == 2
    assert ["sendInitialEvents" in asked.query for asked in server.asked] == [True, False, False, True]
    assert watched.restarts()["revisionExpired"] == 1


async def test_a_half_open_connection_is_given_up_and_the_watch_goes_on(tmp_path: Path) -> None:
    on = watch(("DELETED", node(1, 11)), then=hang)
    async with against(tmp_path, TWO, PROBED, on, silence_seconds=0.5, sync_silence_seconds=0.5) as (watched, server):
        await eventually(lambda: watched.nodes() == {"n2"})
        await eventually(lambda: server.connections <= 1)

    assert "streamSilent" in watched.restarts()
    assert server.asked[2].query["resourceVersion"] == "10"


async def test_a_probe_that_is_never_answered_is_given_up_and_asked_again(tmp_path: Path) -> None:
    first, on = (
        watch_list(node(1), node(2), revision=10, then=cut_inside_chunk),
        watch(("DELETED", node(1, 11)), then=hang),
    )
    async with against(tmp_path, first, hang, PROBED, on, probe_seconds=0.5) as (watched, server):
        await eventually(lambda: watched.nodes() == {"n2"})

    assert [asked.query.get("limit") for asked in server.asked] == [None, "1", "1", None]
    assert watched.restarts() == {"streamBroken": 1, "streamSilent": 1}


async def test_a_server_that_never_answers_is_given_up(tmp_path: Path) -> None:
    async with against(tmp_path, hang, TWO, sync_silence_seconds=0.5) as (watched, _):
        await eventually(lambda: watched.nodes() == {"n1", "n2"})

    assert watched.reasons() == {"streamSilent"}


async def test_a_slow_list_is_waited_for_as_long_as_something_comes(tmp_path: Path) -> None:
    async def slowly(exchange: Exchange) -> None:
        await exchange.head()
        for number in range(12):
            await exchange.event("ADDED", node(number))
            await asyncio.sleep(0.1)  # this is the server's slowness, not a wait of the test
        await exchange.mark("12")
        await hang(exchange)

    async with against(tmp_path, slowly, sync_silence_seconds=0.8) as (watched, server):
        await eventually(lambda: len(watched.nodes()) == 12)

    assert len(server.asked) == 1
    assert watched.reasons() == set()


async def test_an_object_of_9_mib_is_an_object(tmp_path: Path) -> None:
    huge = node(1, managedFields=["x" * MIB] * 9)
    async with against(tmp_path, watch_list(huge, node(2), revision=10, then=hang)) as (watched, server):
        await eventually(lambda: watched.nodes() == {"n1", "n2"})

    assert len(server.asked) == 1


async def test_a_line_without_end_is_refused_and_all_objects_are_asked_for_again(tmp_path: Path) -> None:
    async def endless(exchange: Exchange) -> None:
        while True:
            await exchange.chunk(b"x" * MIB)

    first = watch_list(node(1), node(2), revision=10, then=endless)
    async with against(tmp_path, first, TWO) as (watched, server):
        await eventually(lambda: len(watched.lists) == 2)

    assert watched.reasons() == {"textTooLong"}
    assert "sendInitialEvents" in server.asked[1].query


async def test_one_malformed_object_among_thousands_is_left_out_alone(tmp_path: Path) -> None:
    bad = node(7, podCIDRs=["10.0.0/24"])
    others = [node(number) for number in range(5000) if number != 7]
    async with against(tmp_path, watch_list(*others, bad, revision=5000, then=hang)) as (watched, _):
        await eventually(lambda: len(watched.nodes()) == 4999)

    assert [problem.subject for problem in watched.world.problems] == ["Node n7"]
    assert watched.state.healthy


@pytest.mark.parametrize(
    "older",
    [
        (listing(node(2), revision=4000),),
        (listing(node(2), revision=5000), watch(("BOOKMARK", {"metadata": {"resourceVersion": "4000"}}), then=hang)),
        (listing(node(2), revision=5000), says(504, "Timeout", "Too large resource version: 5000, current: 4000")),
    ],
    ids=["probe", "bookmark", "504"],
)
async def test_an_apiserver_that_comes_back_with_an_older_revision_is_believed(
    tmp_path: Path, older: tuple[Behaviour, ...]
) -> None:
    first = watch_list(node(1), node(2), revision=5000, then=cut_inside_chunk)
    restored = watch_list(node(3), revision=4001, then=hang)
    async with against(tmp_path, first, *older, restored) as (watched, _):
        await eventually(lambda: watched.nodes() == {"n3"})

    assert watched.restarts().keys() & {"revisionWentBack", "revisionExpired"}


@pytest.mark.parametrize(
    "refusal", [says(400, "BadRequest", "no"), says(422, "Invalid", "sendInitialEvents: forbidden")]
)
async def test_without_watch_list_there_is_list(tmp_path: Path, refusal: Behaviour) -> None:
    objects = [node(number) for number in range(300)]
    async with against(tmp_path, refusal, listing(*objects, revision=300), watch(then=hang)) as (watched, server):
        await eventually(lambda: len(server.asked) == 3)

    assert len(watched.nodes()) == 300
    assert server.asked[1].query == {"resourceVersion": "0"}
    assert server.asked[2].query["resourceVersion"] == "300"


async def test_a_list_that_is_cut_off_changes_nothing(tmp_path: Path) -> None:
    async def cut(exchange: Exchange) -> None:
        whole = json.dumps({"metadata": {"resourceVersion": "9"}, "items": [node(1), node(2)]}, separators=(",", ":"))
        await exchange.head()
        await exchange.chunk(whole.encode()[:-150])
        await exchange.end()

    async with against(tmp_path, answer(400), cut, listing(node(3), revision=10), watch(then=hang)) as (watched, _):
        await eventually(lambda: watched.nodes() == {"n3"})

    assert len(watched.lists) == 1
    assert watched.reasons() == {"streamBroken"}


async def test_a_kind_that_is_not_installed_is_empty_until_it_is(tmp_path: Path) -> None:
    instance = {"metadata": {"name": "all", "resourceVersion": "3"}, "spec": {"asn": 65001}}
    there = watch_list(instance, revision=3, then=hang)
    async with against(tmp_path, answer(404), answer(404), there, kind=Kind.INSTANCE) as (watched, _):
        await eventually(lambda: len(watched.world.records(Kind.INSTANCE)) == 1)

    assert [len(listed.records) for listed in watched.lists] == [0, 1]
    assert watched.reasons() == set()


async def test_a_server_that_is_not_there_is_a_problem_until_it_is(tmp_path: Path) -> None:
    async with BadServer(TWO) as gone:
        config = kubeconfig(tmp_path, gone.url)
    async with watching(config) as watched:
        problem = await eventually(lambda: watched.world.problems)

    assert {found.reason for found in problem} == {"apiUnreachable"}
    assert all(isinstance(found, Problem) and gone.url.rpartition(":")[2] in found.message for found in problem)


BAD_FOR_EVER: dict[str, Behaviour] = {
    "429": answer(429),
    "429 with Retry-After 0": answer(429, retry_after=0),
    "503 with HTML": answer(503, b"<html>"),
    "410": answer(410, EXPIRED),
    "410 after the list": watch_list(node(1), revision=10, then=watch(("ERROR", EXPIRED), then=end)),
    "ends at once": watch(then=end),
    "ends after the list": watch_list(node(1), revision=10, then=end),
    "empty 200": answer(200),
    "404": answer(404),
    "400": answer(400),
    "cut": watch(then=cut_inside_chunk),
    "older and older": watch_list(node(1), revision=10, then=watch(("BOOKMARK", node(1)), then=end)),
}


async def test_nothing_makes_it_run_hot(tmp_path: Path) -> None:
    """With the pauses of production divided by ten; a hot loop would ask a thousand times in this second."""
    tenth = {
        "backoff_first_seconds": 0.08,
        "backoff_least_seconds": 0.01,
        "backoff_most_seconds": 3.0,
        "resync_spread_seconds": 0.3,
        "absent_again_seconds": 3.0,
        "short_seconds": 0.1,
    }
    clock = asyncio.get_running_loop().time

    async def requests_a_second(name: str, kind: Kind) -> float:
        folder = tmp_path / kind / name
        folder.mkdir(parents=True)
        async with against(folder, BAD_FOR_EVER[name], kind=kind, **tenth) as (_, server):
            began_at = clock()
            await eventually(lambda: len(server.asked) > 0 and clock() >= began_at + 1.0)
            return len(server.asked) / (clock() - began_at)

    cases = [(name, kind) for name in BAD_FOR_EVER for kind in (Kind.NODE, Kind.PEER)]
    rates = dict(zip(cases, await asyncio.gather(*(requests_a_second(*case) for case in cases)), strict=True))

    assert {case: rate for case, rate in rates.items() if rate > 25} == {}


async def test_the_first_list_of_5000_nodes_of_13_kb_leaves_the_event_loop_alone(tmp_path: Path) -> None:
    bodies: list[dict[str, Any]] = [node(number, managedFields=["x" * 100] * 120) for number in range(5000)]
    lines = b"".join(json.dumps({"type": "ADDED", "object": body}).encode() + b"\n" for body in bodies)

    async def all_at_once(exchange: Exchange) -> None:
        await exchange.head()
        for start in range(0, len(lines), 64 * 1024):
            await exchange.chunk(lines[start : start + 64 * 1024])
        await exchange.mark("5000")
        await hang(exchange)

    rounds: list[float] = []
    async with against(tmp_path, all_at_once) as (watched, _):
        before = time.thread_time()  # other programs on the machine do not count
        while not watched.lists:
            await asyncio.sleep(0)
            rounds.append(time.thread_time() - before)
            before = time.thread_time()

    assert len(watched.nodes()) == 5000
    assert sorted(rounds)[-len(rounds) // 100] < 0.02, "one round of the loop in a hundred takes 20 ms"
