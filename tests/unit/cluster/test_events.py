"""The writer of Events, in virtual time, over an API server in memory that keeps what it is sent."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest

from agent.cluster.events import LOOK_SECONDS, Events
from agent.cluster.reflector import TransportError
from agent.cluster.writing import PAUSE_SECONDS_MAX
from agent.model import Key, Kind
from agent.plan.steps import Steps
from agent.status.bulletin import BURST, REPEAT_SECONDS, Bulletin, News, Topic

pytestmark = pytest.mark.looptime

WEB = Topic(Key(Kind.SERVICE, "shop", "web"), "198.51.100.7")
DRIFT = Topic(Key(Kind.NODE, "", "worker-1"), "drift")
WALL = 1_800_000_000.0
RBAC = b'{"message": "events is forbidden: User \\"u\\" cannot create resource \\"events\\" in API group \\"\\""}'
TERMINATING = b'{"message": "unable to create new content in namespace shop because it is being terminated"}'


class Memory:
    """An API server of Events; `trouble` is what it does instead of answering."""

    def __init__(self) -> None:
        self.events: dict[str, dict[str, Any]] = {}
        self.asked: list[tuple[float, str]] = []
        self.trouble: tuple[int, bytes] | TransportError | None = None

    async def send(self, method: str, path: str, content_type: str, body: Mapping[str, Any]) -> tuple[int, bytes]:
        self.asked.append((asyncio.get_running_loop().time(), method))
        await asyncio.sleep(0.01)
        if isinstance(self.trouble, TransportError):
            raise self.trouble
        if self.trouble is not None:
            return self.trouble
        if method == "POST":
            assert content_type == "application/json"
            name = f"{path}/{body['metadata']['name']}"
            if name in self.events:
                return 409, b"{}"
            self.events[name] = json.loads(json.dumps(body))
            return 201, b"{}"
        assert (method, content_type) == ("PATCH", "application/merge-patch+json")
        self.events[path] |= body
        return 200, b"{}"

    @property
    def methods(self) -> list[str]:
        return [method for _, method in self.asked]


class Agent:
    """`news` is what can be said; `tell` changes it, as a pass would."""

    def __init__(self, api: Memory) -> None:
        clock = asyncio.get_running_loop().time
        self.news: dict[Topic, News] = {}
        self.events = Events(api, "worker-1", self._find, clock=clock, wall=lambda: WALL + clock())

    def tell(self, news: Mapping[Topic, News]) -> None:
        self.news = dict(news)
        self.events.look()

    def _find(self, bulletin: Bulletin) -> Steps[dict[Topic, News]]:
        yield
        return self.news


@asynccontextmanager
async def running(api: Memory, news: Mapping[Topic, News] | None = None) -> AsyncIterator[Agent]:
    agent = Agent(api)
    task = asyncio.create_task(agent.events.run())
    agent.tell(news or {})
    await asyncio.sleep(LOOK_SECONDS)
    yield agent
    task.cancel()


def refused(version: str = "a", uid: str = "u-1") -> News:
    return News(reason="RouteNotAdvertised", text=f"why: {version}", version=version, uid=uid)


def drift(total: int) -> News:
    return News(reason="FIBDriftRepaired", text=f"{total} missing", version=str(total), ours=True)


async def test_an_event_names_its_object_and_who_wrote_it() -> None:
    api = Memory()
    async with running(api, {WEB: refused()}):
        pass

    ((path, event),) = api.events.items()
    assert path.startswith("/api/v1/namespaces/shop/events/web.")
    assert event["involvedObject"] == {
        "apiVersion": "v1",
        "kind": "Service",
        "namespace": "shop",
        "name": "web",
        "uid": "u-1",
    }
    assert (event["type"], event["reason"], event["message"]) == ("Warning", "RouteNotAdvertised", "why: a")
    assert (event["reportingComponent"], event["reportingInstance"]) == ("bgpilot", "worker-1")
    assert event["lastTimestamp"] == "2027-01-15T08:00:00Z"


async def test_events_on_objects_without_a_namespace_live_in_default() -> None:
    api = Memory()
    peer = Topic(Key(Kind.PEER, "", "tor"), "secretMissing")
    async with running(api, {peer: refused()}):
        pass

    ((path, event),) = api.events.items()
    assert path.startswith("/api/v1/namespaces/default/events/tor.")
    assert event["involvedObject"]["apiVersion"] == "bgpilot.io/v1alpha1"


async def test_what_another_node_or_an_agent_before_has_written_stays_as_it_is() -> None:
    api = Memory()
    async with running(api, {WEB: refused()}):
        pass
    before = dict(api.events)
    async with running(api, {WEB: refused()}) as agent:
        assert agent.events.writing.results == {"repeated": 1}

    assert api.methods == ["POST", "POST"]
    assert api.events == before


async def test_what_comes_about_again_renews_its_event() -> None:
    api = Memory()
    async with running(api) as agent:
        agent.tell({DRIFT: drift(1)})
        await asyncio.sleep(REPEAT_SECONDS)
        agent.tell({DRIFT: drift(2)})
        await asyncio.sleep(2 * LOOK_SECONDS)

    ((_, event),) = api.events.items()
    assert api.methods == ["POST", "POST", "PATCH"]
    assert (event["count"], event["message"]) == (2, "2 missing")
    assert event["firstTimestamp"] < event["lastTimestamp"]


async def test_an_api_server_that_is_away_is_asked_ever_less_and_told_what_stands_when_it_is_back() -> None:
    api = Memory()
    api.trouble = TransportError("apiUnreachable", "refused")
    async with running(api, {WEB: refused(), DRIFT: drift(1)}) as agent:
        await asyncio.sleep(3600)
        assert len(api.asked) < 25
        assert agent.events.writing.problem is None
        api.trouble = None
        agent.tell({WEB: refused()})
        await asyncio.sleep(PAUSE_SECONDS_MAX + 2 * LOOK_SECONDS)

    assert [event["reason"] for event in api.events.values()] == ["RouteNotAdvertised"]
    assert agent.events.dropped == 1


async def test_an_agent_without_the_right_has_a_problem_until_it_is_granted() -> None:
    api = Memory()
    api.trouble = 403, RBAC
    async with running(api, {WEB: refused()}) as agent:
        assert agent.events.writing.problem is not None
        assert agent.events.writing.problem.reason == "apiForbidden"
        api.trouble = None
        await asyncio.sleep(PAUSE_SECONDS_MAX)
        assert agent.events.writing.problem is None

    assert len(api.events) == 1


@pytest.mark.parametrize("trouble", [(403, TERMINATING), (404, b"{}"), (422, b"{}")], ids=lambda trouble: trouble[0])
async def test_an_event_that_is_refused_for_itself_stops_no_other(trouble: tuple[int, bytes]) -> None:
    api = Memory()
    api.trouble = trouble
    async with running(api, {WEB: refused()}) as agent:
        api.trouble = None
        agent.tell({WEB: refused(), DRIFT: drift(1)})
        await asyncio.sleep(2 * LOOK_SECONDS)

    assert agent.events.writing.problem is None
    assert agent.events.writing.results == {"refused": 1, "written": 1}


async def test_an_api_server_that_never_answers_holds_nothing_up_for_good() -> None:
    class Silent(Memory):
        async def send(self, method: str, path: str, content_type: str, body: Mapping[str, Any]) -> tuple[int, bytes]:
            await super().send(method, path, content_type, body)
            return await asyncio.get_running_loop().create_future()

    api = Silent()
    async with running(api, {WEB: refused()}) as agent:
        await asyncio.sleep(60)

    assert agent.events.writing.results["failed"] > 1


async def test_of_many_news_at_once_a_burst_is_written_and_then_few() -> None:
    api = Memory()
    many = {Topic(Key(Kind.SERVICE, "shop", f"web-{i}"), ""): refused() for i in range(100)}
    async with running(api, many):
        assert len(api.asked) == BURST
        await asyncio.sleep(100)
        assert len(api.asked) in range(2 * BURST - 2, 2 * BURST + 2)


async def test_changes_without_news_ask_nothing_of_the_api_server() -> None:
    api = Memory()
    async with running(api, {WEB: refused()}) as agent:
        for _ in range(100):
            agent.tell({WEB: refused()})
            await asyncio.sleep(LOOK_SECONDS)

    assert api.methods == ["POST"]
