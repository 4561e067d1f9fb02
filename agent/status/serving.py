"""Who listens for questions, and where: the CLI's unix socket, and the TCP ports of metrics and probes.

A socket of mode 0600 whose name somebody takes away is made anew: else nobody could ask an agent that is well. It
refuses to know what is answered (`agent.status.server`).
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final

from aiohttp import web

from agent.log import log
from agent.settings import Listen
from agent.status.door import Connection, server_log
from agent.status.listening import BACKLOG, TURN_MAX, ListenError, listen_tcp, listen_unix
from agent.status.server import DOOR, Answers
from bgp.background import in_background
from bgp.unixsocket import UnixSocket

IDLE_SECONDS: Final = 15.0
"""A connection without a request is closed after this."""
SHUTDOWN_SECONDS: Final = 0.2
"""What requests in progress get when the agent ends; there are three servers, and 2 s in all for everything."""
LOOK_SECONDS: Final = 2.0
"""Between two looks at whether the CLI's socket still has its name."""


@asynccontextmanager
async def serving(
    answers: Answers,
    *,
    socket_path: Path,
    metrics_address: Listen | None,
    health_address: Listen | None,
    look_seconds: float = LOOK_SECONDS,
) -> AsyncIterator[None]:
    """Answer while the context lasts. Raises ListenError when an address cannot be had; then nothing listens."""
    async with AsyncExitStack() as stack:
        named = UnixSocket(socket_path)
        listening = listen_unix(named)
        stack.callback(named.remove)
        api = await _start(stack, answers.api(), listening)
        if metrics_address is not None:
            await _start(stack, answers.metrics(), listen_tcp("--metrics-address", metrics_address))
        if health_address is not None:
            await _start(stack, answers.health(), listen_tcp("--health-address", health_address))
        keeping = in_background(_keep_name(api, named, look_seconds), name="socket")
        stack.callback(keeping.cancel)
        yield


class _Server:
    """One application, on one socket at a time."""

    def __init__(self, app: web.Application, protocols: web.Server) -> None:
        self._door = app[DOOR]
        self._protocols = protocols
        self._server: asyncio.Server | None = None

    async def listen(self, listening: socket.socket) -> None:
        """Who is connected stays so."""
        server = await asyncio.get_running_loop().create_server(
            lambda: Connection(self._door, self._protocols()), sock=listening, backlog=TURN_MAX
        )
        listening.listen(BACKLOG)
        self.close()
        self._server = server

    def close(self) -> None:
        if self._server is not None:
            self._server.close()


async def _start(stack: AsyncExitStack, app: web.Application, listening: socket.socket) -> _Server:
    stack.callback(listening.close)
    runner = web.AppRunner(
        app,
        access_log=None,
        logger=server_log(),
        keepalive_timeout=IDLE_SECONDS,
        shutdown_timeout=SHUTDOWN_SECONDS,
    )
    stack.push_async_callback(runner.cleanup)
    await runner.setup()
    assert runner.server is not None  # noqa: S101  # there is one after `setup`
    server = _Server(app, runner.server)
    await server.listen(listening)
    stack.callback(server.close)
    return server


async def _keep_name(server: _Server, named: UnixSocket, look_seconds: float) -> None:
    said = ""
    while True:
        await asyncio.sleep(look_seconds)
        if not named.lost:
            continue
        try:
            await server.listen(listen_unix(named))
        except ListenError as error:
            if str(error) != said:
                log.error("socket_lost", path=str(named.path), reason=str(error))
            said = str(error)
        else:
            said = ""
            log.warning("socket_made_anew", path=str(named.path), reason="it was no longer in the run directory")
