"""The writer of the BGPNodeState, in virtual time, over an API server in memory that keeps what it is sent."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from itertools import pairwise
from typing import Any

import pytest

from agent.cluster.nodestate import (
    HEARTBEAT_SECONDS,
    LEAST_SECONDS,
    LOOK_SECONDS,
    PATH,
    STOP_SECONDS,
    NodeState,
    Report,
)
from agent.cluster.reflector import TransportError
from agent.cluster.writing import PAUSE_SECONDS_MAX
from agent.plan.steps import Steps
from agent.status.nodestate import Stamp
from tests.lab.apistore import merged

pytestmark = pytest.mark.looptime

WALL = 1_800_000_000.0
OBJECT = f"{PATH}/worker-1"
AWAY = TransportError("apiUnreachable", "refused")
HOUR = 3600.0


class Answer:
    def __init__(self, status: int, body: bytes) -> None:
        self.status = status
        self.retry_after_seconds = None
        self._body = body

    async def chunks(self) -> AsyncIterator[bytes]:
        yield self._body


class Memory:
    """An API server; `trouble` is what it does instead of answering, `installed` whether it knows the kind."""

    def __init__(self) -> None:
        self.objects: dict[str, dict[str, Any]] = {}
        self.asked: list[tuple[float, str, Any]] = []
        self.trouble: tuple[int, bytes] | TransportError | None = None
        self.installed = True

    @asynccontextmanager
    async def get(self, path: str, query: Sequence[tuple[str, str]]) -> AsyncIterator[Answer]:
        status, body = await self._answer("GET", path, None)
        yield Answer(status, body)

    async def send(self, method: str, path: str, content_type: str, body: Mapping[str, Any]) -> tuple[int, bytes]:
        wanted = "application/merge-patch+json" if method == "PATCH" else "application/json"
        assert content_type == wanted
        return await self._answer(method, path, json.loads(json.dumps(body)))

    async def _answer(self, method: str, path: str, body: Any) -> tuple[int, bytes]:
        self.asked.append((asyncio.get_running_loop().time(), method, body))
        await asyncio.sleep(0.01)
        if isinstance(self.trouble, TransportError):
            raise self.trouble
        if self.trouble is not None:
            return self.trouble
        if not self.installed:
            return 404, b'{"message": "the server could not find the requested resource"}'
        name = path.removesuffix("/status")
        match method:
            case "POST":
                self.objects[f"{path}/{body['metadata']['name']}"] = body
                return 201, b"{}"
            case _ if name not in self.objects:
                return 404, b'{"message": "not found"}'
            case "PATCH":
                assert path.endswith("/status")
                assert body.keys() == {"status"}
                self.objects[name] = merged(self.objects[name], body)
            case "DELETE":
                del self.objects[name]
                return 200, b"{}"
        return 200, json.dumps(self.objects[name]).encode()

    @property
    def methods(self) -> list[str]:
        return [method for _, method, _ in self.asked]

    @property
    def writes(self) -> list[Any]:
        return [body["status"] for _, method, body in self.asked if method == "PATCH"]

    @property
    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = self.objects[OBJECT]["status"]
        return found


def state(*, peers: str = "1/1", ready: str = "True", heard: int = 7, since: str = "") -> dict[str, Any]:
    return {
        "summary": {"peers": peers, "problems": ""},
        "conditions": [{"type": "Ready", "status": ready, "reason": "Ready", "message": ""}],
        "routes": {"heard": heard},
        "peers": [{"name": "BGPPeer/tor", "since": since}],
        "resources": [
            {"kind": "BGPPeer", "name": "tor", "conditions": [{"type": "Ready", "status": ready, "reason": "Ready"}]}
        ],
    }


class Agent:
    """`tell` is a pass with this outcome."""

    def __init__(self, api: Memory, *, settled: bool = True) -> None:
        clock = asyncio.get_running_loop().time
        self.view: dict[str, Any] | None = state()
        self.settled = settled
        self.clock_set_by = 0.0
        self.looks = 0
        self.writer = NodeState(
            api, "worker-1", self._find, clock=clock, wall=lambda: WALL + self.clock_set_by + clock()
        )

    def tell(self, **fields: Any) -> None:
        self.view = state(**fields)
        self.writer.look()

    def _find(self, stamp: Stamp) -> Steps[Report] | None:
        self.looks += 1
        return None if self.view is None else self._report(stamp)

    def _report(self, stamp: Stamp) -> Steps[Report]:
        yield
        assert self.view is not None
        (peer,) = self.view["peers"]
        return Report("u-1", {**self.view, "peers": [{**peer, "since": stamp(-100.3)}]}, self.settled)


@asynccontextmanager
async def running(api: Memory, *, settled: bool = True) -> AsyncIterator[Agent]:
    agent = Agent(api, settled=settled)
    task = asyncio.create_task(agent.writer.run())
    agent.tell()
    await asyncio.sleep(LEAST_SECONDS)
    yield agent
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_the_object_is_named_as_the_node_and_owned_by_it() -> None:
    api = Memory()
    async with running(api):
        pass

    (path,) = api.objects
    metadata = api.objects[path]["metadata"]
    assert (path, metadata["name"]) == (OBJECT, "worker-1")
    assert metadata["ownerReferences"] == [{"apiVersion": "v1", "kind": "Node", "name": "worker-1", "uid": "u-1"}]
    assert api.methods == ["GET", "POST", "PATCH"]
    assert api.status["summary"]["peers"] == "1/1"


async def test_nothing_but_heartbeats_is_written_while_nothing_is_news() -> None:
    api = Memory()
    async with running(api) as agent:
        before = len(api.writes)
        for number in range(int(HOUR / LEAST_SECONDS)):
            agent.tell(heard=number)
            await asyncio.sleep(LEAST_SECONDS)
        beats = api.writes[before:]

    least, most = HEARTBEAT_SECONDS
    assert HOUR / (most + 2 * LOOK_SECONDS) <= len(beats) <= HOUR / least
    assert all(beat.keys() <= {"heartbeatTime", "routes"} for beat in beats)
    assert api.methods.count("GET") == 1
    assert agent.looks > HOUR / LOOK_SECONDS


async def test_the_heartbeats_of_nodes_that_started_together_drift_apart() -> None:
    servers = [Memory() for _ in range(3)]
    async with running(servers[0]), running(servers[1]), running(servers[2]):
        await asyncio.sleep(3 * HEARTBEAT_SECONDS[1])

    assert len({round(api.asked[-1][0]) for api in servers}) > 1


async def test_news_is_written_within_two_seconds_when_all_was_quiet() -> None:
    api = Memory()
    async with running(api) as agent:
        await asyncio.sleep(LEAST_SECONDS)
        agent.tell(peers="0/1")
        await asyncio.sleep(2)

        assert api.status["summary"]["peers"] == "0/1"
        assert api.writes[-1].keys() == {"heartbeatTime", "summary"}


async def test_what_changes_all_the_time_is_written_every_five_seconds_at_most() -> None:
    api = Memory()
    async with running(api) as agent:
        for number in range(600):
            agent.tell(peers=f"{number}/600")
            await asyncio.sleep(0.1)

    times = [at for at, method, _ in api.asked if method == "PATCH"]
    assert len(times) > 5
    assert all(after - before >= LEAST_SECONDS for before, after in pairwise(times))


async def test_it_is_looked_at_again_though_nothing_happens() -> None:
    api = Memory()
    async with running(api) as agent:
        agent.view = state(ready="False")  # as 30 s without a session do
        await asyncio.sleep(2 * LOOK_SECONDS)

        assert api.status["conditions"][0]["status"] == "False"


async def test_a_restart_with_nothing_changed_keeps_the_times_of_conditions() -> None:
    api = Memory()
    async with running(api):
        first = api.status["resources"]
    await asyncio.sleep(HOUR)
    async with running(api) as agent:
        agent.tell(peers="1/2")
        await asyncio.sleep(2 * LEAST_SECONDS)

    assert api.status["resources"] == first
    assert api.status["summary"]["peers"] == "1/2"
    assert api.methods.count("GET") == 2
    assert api.methods.count("POST") == 1


async def test_a_start_leaves_alone_what_is_there_until_it_knows_better() -> None:
    api = Memory()
    async with running(api):
        before = api.status
    async with running(api, settled=False) as agent:
        agent.tell(peers="0/1")
        await asyncio.sleep(3 * LEAST_SECONDS)
        assert api.status == before
        agent.settled = True
        await asyncio.sleep(2 * LEAST_SECONDS)

        assert api.status["summary"]["peers"] == "0/1"


async def test_a_session_that_is_lost_soon_after_the_start_is_told_at_once() -> None:
    api = Memory()
    async with running(api) as agent:
        agent.settled = False  # as it is when not all sessions are there any more
        agent.tell(peers="0/1")
        await asyncio.sleep(2 * LEAST_SECONDS)

    assert api.status["summary"]["peers"] == "0/1"


async def test_a_start_on_a_new_node_is_told_at_once() -> None:
    api = Memory()
    async with running(api, settled=False):
        pass

    assert api.status["summary"]["peers"] == "1/1"


async def test_without_a_node_that_could_own_it_nothing_is_asked() -> None:
    api = Memory()
    async with running(api) as agent:
        agent.view = None
        del api.objects[OBJECT]
        before = len(api.asked)
        await asyncio.sleep(HOUR)

    assert len(api.asked) == before


async def test_one_that_somebody_has_deleted_is_made_again() -> None:
    api = Memory()
    async with running(api):
        api.objects.clear()
        await asyncio.sleep(HEARTBEAT_SECONDS[1] + 3 * LOOK_SECONDS)

    assert api.status["summary"]["peers"] == "1/1"


# An API server in trouble.


async def test_an_api_server_that_is_away_is_asked_ever_less_and_told_what_holds_when_it_is_back() -> None:
    api = Memory()
    async with running(api) as agent:
        api.trouble = AWAY
        agent.tell(peers="0/1")
        before = len(api.asked)
        await asyncio.sleep(HOUR)
        assert len(api.asked) - before < 25
        assert agent.writer.writing.problem is None
        api.trouble = None
        agent.tell(peers="1/3")
        await asyncio.sleep(PAUSE_SECONDS_MAX + 2 * LOOK_SECONDS)

    assert api.status["summary"]["peers"] == "1/3"


async def test_a_write_of_which_nobody_knows_what_became_is_followed_by_a_look() -> None:
    class Deaf(Memory):
        async def _answer(self, method: str, path: str, body: Any) -> tuple[int, bytes]:
            answered = await super()._answer(method, path, body)
            if method == "PATCH" and body["status"].get("summary", {}).get("peers") == "lost":
                raise AWAY
            return answered

    api = Deaf()
    async with running(api) as agent:
        agent.tell(peers="lost")
        await asyncio.sleep(2 * LEAST_SECONDS)
        agent.tell(peers="1/1")
        await asyncio.sleep(3 * LOOK_SECONDS)

    assert api.status["summary"]["peers"] == "1/1"


async def test_without_the_custom_resource_one_line_is_logged_and_it_is_told_once_it_is_there(
    capsys: pytest.CaptureFixture[str],
) -> None:
    api = Memory()
    api.installed = False
    async with running(api) as agent:
        await asyncio.sleep(HOUR)
        assert len(api.asked) < 50
        assert agent.writer.writing.problem is None
        api.installed = True
        await asyncio.sleep(PAUSE_SECONDS_MAX + 2 * LOOK_SECONDS)

    assert api.status["summary"]["peers"] == "1/1"
    assert capsys.readouterr().out.count("node_state_not_kept") == 1


async def test_an_agent_without_the_right_has_a_problem_until_it_is_granted() -> None:
    api = Memory()
    api.trouble = 403, b"{}"
    async with running(api) as agent:
        assert agent.writer.writing.problem is not None
        assert agent.writer.writing.problem.reason == "apiForbidden"
        assert "bgpnodestates/status" in agent.writer.writing.problem.fix
        api.trouble = None
        await asyncio.sleep(PAUSE_SECONDS_MAX)
        assert agent.writer.writing.problem is None

    assert api.objects.keys() == {OBJECT}


@pytest.mark.parametrize("status", [409, 422, 429, 500])
async def test_an_api_server_that_says_no_is_asked_ever_less(status: int, capsys: pytest.CaptureFixture[str]) -> None:
    api = Memory()
    api.trouble = status, b'{"message": "no"}'
    async with running(api) as agent:
        await asyncio.sleep(HOUR)
        assert len(api.asked) < 25
        api.trouble = None
        await asyncio.sleep(PAUSE_SECONDS_MAX + 2 * LOOK_SECONDS)

    assert agent.writer.writing.problem is None
    assert api.status["summary"]["peers"] == "1/1"
    assert capsys.readouterr().out.count("node_state_refused") <= 1


async def test_an_api_server_that_never_answers_holds_nothing_up_for_good() -> None:
    class Silent(Memory):
        async def _answer(self, method: str, path: str, body: Any) -> tuple[int, bytes]:
            await super()._answer(method, path, body)
            return await asyncio.get_running_loop().create_future()

    api = Silent()
    async with running(api) as agent:
        await asyncio.sleep(120)

    assert agent.writer.writing.results["failed"] > 1


# The end.


async def test_an_agent_that_ends_says_so_and_leaves_the_rest() -> None:
    api = Memory()
    async with running(api) as agent:
        before = api.status
    await agent.writer.stop(leave_nothing=False)

    (ready,) = api.status["conditions"]
    assert (ready["status"], ready["reason"]) == ("Unknown", "Stopped")
    assert api.status["summary"] == {"peers": "1/1", "problems": "Stopped"}
    assert (api.status["peers"], api.status["resources"]) == (before["peers"], before["resources"])


async def test_an_agent_that_is_ended_in_the_middle_of_a_write_says_so_too() -> None:
    api = Memory()
    async with running(api) as agent:
        await asyncio.sleep(LEAST_SECONDS)
        agent.tell(peers="0/1")
        writes = len(api.writes)
        while len(api.writes) == writes:
            await asyncio.sleep(0.001)
    await agent.writer.stop(leave_nothing=False)

    assert api.status["conditions"][0]["reason"] == "Stopped"


async def test_an_agent_that_leaves_nothing_deletes_it() -> None:
    api = Memory()
    async with running(api) as agent:
        pass
    await agent.writer.stop(leave_nothing=True)

    assert api.objects == {}


@pytest.mark.parametrize("trouble", [AWAY, (403, b"{}"), None], ids=["away", "forbidden", "silent"])
async def test_the_end_is_not_held_up(trouble: tuple[int, bytes] | TransportError | None) -> None:
    api = Memory()
    async with running(api) as agent:
        pass
    api.trouble = trouble
    if trouble is None:
        api._answer = lambda *_: asyncio.get_running_loop().create_future()  # type: ignore[method-assign]
    began_at = asyncio.get_running_loop().time()
    await agent.writer.stop(leave_nothing=False)

    assert asyncio.get_running_loop().time() - began_at <= STOP_SECONDS


async def test_an_agent_that_never_wrote_asks_nothing_at_its_end() -> None:
    api = Memory()
    api.installed = False
    async with running(api) as agent:
        before = len(api.asked)
    await agent.writer.stop(leave_nothing=False)

    assert len(api.asked) == before


# Time.


async def test_an_instant_is_told_alike_again_and_again_and_anew_when_the_clock_was_set() -> None:
    api = Memory()
    async with running(api) as agent:
        (first,) = api.status["peers"]
        agent.clock_set_by = 0.9
        agent.tell(peers="0/1")
        await asyncio.sleep(2 * LEAST_SECONDS)
        assert api.status["peers"] == [first]
        agent.clock_set_by = 3600.0
        agent.tell(peers="1/1")
        await asyncio.sleep(2 * LEAST_SECONDS)

    (last,) = api.status["peers"]
    moved = datetime.fromisoformat(last["since"]) - datetime.fromisoformat(first["since"])
    assert abs(moved.total_seconds() - 3600) <= 1
