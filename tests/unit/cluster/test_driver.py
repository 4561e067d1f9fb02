"""All watches together, and one alone with the pauses of production in virtual time, over a transport in memory."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from itertools import pairwise

import pytest

from agent.cluster.driver import Cluster
from agent.cluster.health import Limits
from agent.cluster.kinds import path_of
from agent.cluster.reflector import Answer, Reflector, TransportError
from agent.cluster.world import World
from agent.model import (
    ALWAYS_WATCHED,
    Key,
    Kind,
    Secret,
)
from tests.unit.cluster.watching import Watched

MARK = {"metadata": {"resourceVersion": "10", "annotations": {"k8s.io/initial-events-end": "true"}}}
EMPTY = json.dumps({"type": "BOOKMARK", "object": MARK}).encode() + b"\n"


class Reply:
    """200, one chunk, and then nothing for ever."""

    status = 200
    retry_after_seconds = None

    def __init__(self, chunk: bytes) -> None:
        self._chunk = chunk

    async def chunks(self) -> AsyncIterator[bytes]:
        yield self._chunk
        await asyncio.Event().wait()


class Memory:
    """A transport: every kind is empty."""

    def __init__(self, reply: Callable[[], Answer] = lambda: Reply(EMPTY)) -> None:
        self.asked: list[tuple[float, str, dict[str, str]]] = []
        self.open: list[str] = []
        self._reply = reply

    @asynccontextmanager
    async def get(self, path: str, query: Sequence[tuple[str, str]]) -> AsyncIterator[Answer]:
        self.asked.append((asyncio.get_running_loop().time(), path, dict(query)))
        self.open.append(path)
        try:
            yield self._reply()
        finally:
            self.open.remove(path)


async def settled() -> None:
    """Every task that can run has run."""
    for _ in range(20):
        await asyncio.sleep(0)


async def test_every_kind_is_watched_over_the_whole_cluster_and_no_secret() -> None:
    transport, world = Memory(), World()
    cluster = Cluster(transport, world.apply, "agent")
    await cluster.start()
    await settled()

    assert sorted(transport.open) == sorted(path_of(kind) for kind in ALWAYS_WATCHED)
    assert world.complete

    await cluster.stop()
    assert transport.open == []


async def test_the_secrets_that_are_needed_are_watched_and_no_others() -> None:
    transport, world = Memory(), World()
    cluster = Cluster(transport, world.apply, "agent")
    await cluster.start()
    cluster.watch_secrets(frozenset({"a", "b"}))
    await settled()
    cluster.watch_secrets(frozenset({"b", "c"}))
    await settled()

    secrets = [query["fieldSelector"] for _, path, query in transport.asked if "secrets" in path]
    assert secrets == ["metadata.name=a", "metadata.name=b", "metadata.name=c"]
    assert transport.open.count("/api/v1/namespaces/agent/secrets") == 2
    assert {key.name for key in world.records(Kind.SECRET)} == {"b", "c"}
    assert (Kind.SECRET, Key(Kind.SECRET, "agent", "a")) not in world.watches
    assert world.get(Key(Kind.SECRET, "agent", "b")) == Secret(
        name="b", found=False, why="the namespace agent has no Secret b"
    )
    await cluster.stop()


async def test_a_bug_in_a_watch_is_not_lost() -> None:
    def broken(_: object) -> None:
        raise ZeroDivisionError

    cluster = Cluster(Memory(), broken, "agent")
    await cluster.start()

    with pytest.raises(ZeroDivisionError):
        await cluster.failed
    await cluster.stop()


@pytest.mark.looptime
async def test_a_connection_without_a_sign_of_life_is_given_up_after_the_time_said() -> None:
    transport, watched = Memory(), Watched()
    task = asyncio.create_task(Reflector(Kind.NODE, transport, watched.put).run())
    await asyncio.sleep(Limits().silence_seconds + 60)
    task.cancel()

    first, second = transport.asked[:2]
    assert second[0] - first[0] == pytest.approx(Limits().silence_seconds, abs=1)
    assert watched.reasons() == {"streamSilent"}


@pytest.mark.looptime
async def test_a_list_that_stops_half_way_is_given_up_after_the_time_said() -> None:
    transport, watched = Memory(lambda: Reply(b'{"type":')), Watched()
    task = asyncio.create_task(Reflector(Kind.NODE, transport, watched.put).run())
    await asyncio.sleep(Limits().sync_silence_seconds + 2)
    task.cancel()

    first, second = transport.asked
    assert second[0] - first[0] == pytest.approx(Limits().sync_silence_seconds, abs=1)
    assert watched.lists == []


@pytest.mark.looptime
async def test_a_server_that_is_away_for_an_hour_is_asked_every_half_minute_at_most() -> None:
    def refused() -> Answer:
        raise TransportError("apiUnreachable", "Connect call failed")

    transport, watched = Memory(refused), Watched()
    task = asyncio.create_task(Reflector(Kind.NODE, transport, watched.put).run())
    await asyncio.sleep(3600)
    task.cancel()

    times = [at for at, *_ in transport.asked]
    assert 3600 / 30 < len(times) < 3600 / 10
    assert max(later - earlier for earlier, later in pairwise(times)) <= 30
    assert len(watched.changes) <= 3600 / Limits().fresh_seconds
