"""Clients that are many, slow, silent or talk nonsense, at the doors of the agent's HTTP servers, over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import socket
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily
from structlog.testing import capture_logs

from agent.diary import Diary
from agent.settings import Listen
from agent.status import door
from agent.status.door import CONNECTIONS_MAX, PATIENCE_SECONDS, REQUESTS_MAX, BusyError, Door
from agent.status.listening import BACKLOG
from agent.status.ordering import Commands
from agent.status.scrapes import CROWD
from agent.status.server import Answers
from agent.status.serving import serving
from tests.lab.wait import eventually
from tests.unit.status.scene import NOW, Scene
from tests.unit.status.test_server import answers, free_port

GET = b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"
SCRAPE = GET.replace(b"livez", b"metrics")


@dataclass
class Served:
    socket: Path
    metrics: int
    health: int

    async def connect(self, port=None):
        if port is None:
            return await asyncio.open_unix_connection(str(self.socket))
        return await asyncio.open_connection("127.0.0.1", port)

    async def ask(self, port=None, request=GET):
        """The first line of the answer."""
        reader, writer = await self.connect(port)
        try:
            writer.write(request)
            return (await reader.readline()).decode().strip()
        finally:
            writer.close()


@contextlib.asynccontextmanager
async def served(tmp_path, those: Answers | None = None):
    there = Served(tmp_path / "bgpilot.sock", free_port(), free_port())
    async with serving(
        those or answers(Scene()),
        socket_path=there.socket,
        metrics_address=Listen("127.0.0.1", there.metrics),
        health_address=Listen("127.0.0.1", there.health),
    ):
        yield there


async def is_cut(reader):
    """Whether the other side ends the connection, now or soon; what it has sent is not of interest."""
    with contextlib.suppress(ConnectionError):
        while await asyncio.wait_for(reader.read(1 << 20), 10):
            pass
    return True


async def test_of_more_connections_than_may_be_those_that_ask_nothing_go_first(tmp_path):
    async with served(tmp_path) as there:
        talking = await there.connect(there.metrics)
        idle = [await there.connect(there.metrics) for _ in range(CONNECTIONS_MAX - 1)]
        talking[1].write(SCRAPE)
        assert b" 200 " in await talking[0].readline()

        idle += [await there.connect(there.metrics) for _ in range(5)]

        assert all([await is_cut(reader) for reader, _ in idle[:5]])
        assert not any(reader.at_eof() for reader, _ in idle[5:])
        await talking[0].readuntil(b"\r\n\r\n")
        assert not talking[0].at_eof()
        for _, writer in (talking, *idle):
            writer.close()


async def test_whoever_crowds_one_door_takes_nothing_from_the_others(tmp_path):
    async with served(tmp_path) as there:
        crowd = [await there.connect(there.metrics) for _ in range(3 * CONNECTIONS_MAX)]

        assert " 200 " in await there.ask(there.health)
        assert " 200 " in await there.ask()
        assert " 200 " in await there.ask(there.metrics, SCRAPE)
        for _, writer in crowd:
            writer.close()


async def test_a_crowd_that_comes_in_one_moment_is_not_left_to_tcps_second_try(tmp_path):
    """That comes after a second, when a probe of the kubelet's has already failed."""
    async with served(tmp_path) as there:
        where = ("127.0.0.1", there.metrics)
        crowd = [socket.create_connection(where, timeout=0.9) for _ in range(BACKLOG)]  # the event loop has no turn

        assert " 200 " in await there.ask(there.metrics, SCRAPE)
        for one in crowd:
            one.close()


class Figures:
    """A collector whose figures are endless until the gate is open; then one with so much text."""

    def __init__(self, gate, text=""):
        self._gate = gate
        self._figure = GaugeMetricFamily("bgpilot_figure", text, value=1)

    def collect(self):
        while not self._gate.is_set():
            yield self._figure
        yield self._figure


def answering(*collectors, patience_seconds=PATIENCE_SECONDS):
    registry = CollectorRegistry(auto_describe=False)
    for collector in collectors:
        registry.register(collector)
    return Answers(
        Scene().status,
        clock=lambda: NOW,
        registry=registry,
        commands=Commands(print, print),
        diary=Diary("then"),
        make_door=partial(Door, patience_seconds=patience_seconds),
    )


class Counting(Figures):
    made = 0

    def collect(self):
        self.made += 1
        return super().collect()


async def test_hundreds_of_scrapes_in_one_breath_cost_a_few(tmp_path):
    gate = asyncio.Event()
    gate.set()
    figures = Counting(gate)
    async with served(tmp_path, answering(figures)) as there:
        reader, writer = await there.connect(there.metrics)
        writer.write(SCRAPE * 300)
        for _ in range(300):
            await asyncio.wait_for(reader.readuntil(b"HTTP/1.1 200 OK\r\n"), 10)
        writer.close()

    assert figures.made == CROWD


async def test_as_many_requests_as_may_be_at_one_door_leave_the_others_open(tmp_path):
    """Scrapes that are being answered do not make the kubelet's probe fail, nor the CLI."""
    gate = asyncio.Event()
    async with served(tmp_path, answering(Figures(gate))) as there:
        waiting = [asyncio.create_task(there.ask(there.metrics, SCRAPE)) for _ in range(REQUESTS_MAX)]

        async def is_full():
            return " 503 " in await asyncio.wait_for(there.ask(there.metrics, SCRAPE), 0.5)

        await eventually(is_full)
        assert " 200 " in await there.ask(there.health)
        assert " 200 " in await there.ask()
        gate.set()
        assert all(" 200 " in line for line in await asyncio.gather(*waiting))


@pytest.mark.parametrize(
    "sent",
    [b"", b"GET /livez HTTP/1.1\r\nX: ", b"POST /v1/drain HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nx"],
    ids=["nothing", "half a head", "half a body"],
)
async def test_a_client_that_never_says_all_it_wants_is_cut_however_it_drips(tmp_path, sent):
    async with served(tmp_path, answering(patience_seconds=0.5)) as there:
        reader, writer = await there.connect()
        writer.write(sent)

        async def drip():
            while True:
                writer.write(b"x" if sent.startswith(b"GET") else b"")
                await asyncio.sleep(0.05)

        dripping = asyncio.create_task(drip())
        with capture_logs() as logged:
            assert await is_cut(reader)
        dripping.cancel()
        writer.close()
        assert " 200 " in await there.ask()
        assert logged == []


async def test_a_client_that_does_not_take_its_answer_is_cut(tmp_path):
    gate = asyncio.Event()
    gate.set()
    much = Figures(gate, "x" * (16 << 20))
    async with served(tmp_path, answering(much, patience_seconds=0.5)) as there:
        with socket.create_connection(("127.0.0.1", there.metrics)) as client:
            client.sendall(SCRAPE)

            await eventually(lambda: has_ended(client))


def has_ended(client):
    """Whether the kernel has seen a reset; it reads nothing."""
    return client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == errno.ECONNRESET


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"\xff" * 29 + b"\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"GET /livez?x=\xb2 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /" + b"x" * 100_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /livez HTTP/1.1\r\n" + b"X: y\r\n" * 1000 + b"\r\n",
        b"POST /v1/drain HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"POST /v1/drain HTTP/1.1\r\nHost: x\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\nxx",
        b"POST /v1/drain HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n\xff\xfe",
        b"POST /v1/drain HTTP/1.1\r\nHost: x\r\nContent-Type: a/b; charset=klingon\r\nContent-Length: 1\r\n\r\n\x07",
        b"POST /v1/drain HTTP/1.1\r\nHost: x\r\nContent-Length: 9999\r\n\r\n" + b"x" * 9999,
    ],
)
async def test_nonsense_is_refused_and_not_worth_a_line_of_log(tmp_path, caplog, sent):
    async with served(tmp_path) as there:
        with capture_logs() as logged, caplog.at_level(logging.INFO):
            said = await asyncio.wait_for(there.ask(request=sent), 10)

        assert said == "" or " 4" in said, said
        assert " 200 " in await there.ask()
    assert logged == []
    assert caplog.records == []


async def test_a_mistake_of_the_http_server_itself_is_worth_one(caplog):
    door.server_log().error("Unhandled exception", exc_info=ValueError("ours"))

    assert len(caplog.records) == 1


async def test_more_requests_than_the_bound_are_turned_away_at_once():
    narrow = Door(requests_max=1)

    with narrow.asked(None), pytest.raises(BusyError), narrow.asked(None):
        pass
    with narrow.asked(None):
        pass
