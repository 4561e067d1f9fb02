"""Who asks the agent for a scenario: gets it in turns with everybody else, one at a time."""

from __future__ import annotations

import asyncio
import contextlib

import aiohttp
from prometheus_client import CollectorRegistry

from agent.diary import Diary
from agent.status.ordering import Commands
from agent.status.server import OBJECTS_PER_TURN, Answers
from agent.status.serving import serving
from tests.unit.status.scene import NOW, Scene


@contextlib.asynccontextmanager
async def asked(tmp_path, scenario):
    path = tmp_path / "bgpilot.sock"
    answers = Answers(
        Scene().status,
        clock=lambda: NOW,
        registry=CollectorRegistry(),
        commands=Commands(print, print),
        diary=Diary("then"),
        scenario=scenario,
    )
    async with (
        serving(answers, socket_path=path, metrics_address=None, health_address=None),
        aiohttp.ClientSession("http://agent", connector=aiohttp.UnixConnector(str(path))) as client,
    ):
        yield client


class Turns:
    """A scenario that goes on until it is let go; how many turns of the loop it has had."""

    def __init__(self):
        self.steps, self.over = 0, False

    def __call__(self):
        while not self.over:
            self.steps += 1
            yield
        return b'{"node": "a"}\n'


async def get(client, path="/v1/scenario"):
    async with client.get(path) as response:
        return response.status, await response.text()


async def test_others_are_answered_while_one_is_written(tmp_path):
    turns = Turns()
    async with asked(tmp_path, turns) as client:
        taken = asyncio.create_task(get(client))
        while not turns.steps:
            await asyncio.sleep(0)
        before = turns.steps
        status, _ = await get(client, "/v1/status")
        turns.over = True

        assert status == 200
        assert turns.steps - before >= OBJECTS_PER_TURN
        assert await taken == (200, '{"node": "a"}\n')


async def test_a_second_one_is_refused_until_the_first_is_done(tmp_path):
    turns = Turns()
    async with asked(tmp_path, turns) as client:
        taken = asyncio.create_task(get(client))
        while not turns.steps:
            await asyncio.sleep(0)
        refused, why = await get(client)
        turns.over = True
        await taken

        assert (refused, "try again" in why) == (503, True)
        assert (await get(client))[0] == 200


async def test_one_that_fails_leaves_the_way_to_the_next(tmp_path):
    bugs = iter([True, False])

    def scenario():
        yield
        if next(bugs):
            raise RuntimeError("a bug")
        return b"{}"

    async with asked(tmp_path, scenario) as client:
        assert (await get(client))[0] == 500
        assert (await get(client))[0] == 200


async def test_where_nobody_can_make_one_it_is_said(tmp_path):
    async with asked(tmp_path, None) as client:
        assert (await get(client))[0] == 404
