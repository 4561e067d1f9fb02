"""Who gets in at one of our HTTP servers, and for how long: what many, slow or silent clients can take from the agent.

It refuses to know what is asked and what is answered.

Each listener has a door of its own, so that nobody who reaches one of them can keep another from answering: whoever
floods the metrics takes nothing from the probes and the CLI.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

CONNECTIONS_MAX: Final = 64
"""At one door. One more takes the place of that which has been without a request for longest."""
REQUESTS_MAX: Final = 16
"""Answered at a time, at one door."""
PATIENCE_SECONDS: Final = 20.0
"""What a client gets to say what it wants, for the answer to be made, and to take it; then the connection is cut."""
_NONE: Final = struct.pack("ii", 1, 0)
"""`struct linger`: on, for no time."""


class BusyError(Exception):
    """As many requests as may be are being answered."""


class Connection(asyncio.Protocol):
    """Between the transport and aiohttp's own protocol, which knows no bound for a client that takes no answer."""

    def __init__(self, door: Door, inner: asyncio.Protocol) -> None:
        self._door = door
        self._inner = inner
        self._transport: asyncio.Transport | None = None
        self._cut: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101  # of a stream, as all of ours are
        self._transport = transport
        self._inner.connection_made(transport)
        self._door.let_in(self)

    def data_received(self, data: bytes) -> None:
        self._inner.data_received(data)

    def eof_received(self) -> bool | None:
        return self._inner.eof_received()

    def pause_writing(self) -> None:
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        self._inner.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        self._door.let_out(self)
        if self._cut is not None:
            self._cut.cancel()
        self._inner.connection_lost(exc)

    def be_patient(self, seconds: float) -> None:
        """Anew, from now on."""
        if self._cut is not None:
            self._cut.cancel()
        self._cut = asyncio.get_running_loop().call_later(seconds, self.cut)

    def cut(self) -> None:
        """Now: what has been written and not taken is dropped, in the kernel too (SO_LINGER)."""
        if self._transport is not None:
            self._transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NONE)
            self._transport.abort()


class Door:
    def __init__(
        self,
        *,
        connections_max: int = CONNECTIONS_MAX,
        requests_max: int = REQUESTS_MAX,
        patience_seconds: float = PATIENCE_SECONDS,
    ) -> None:
        self._connections_max = connections_max
        self._requests_max = requests_max
        self._patience_seconds = patience_seconds
        self._waiting: dict[Connection, None] = {}
        """For a request, or for the answer to be taken; who has waited longest is first."""
        self._asking: dict[Connection, None] = {}
        self._requests = 0

    def let_in(self, connection: Connection) -> None:
        if len(self._waiting) + len(self._asking) >= self._connections_max:
            oldest = next(iter(self._waiting or self._asking))
            self.let_out(oldest)
            oldest.cut()
        self._waiting[connection] = None
        connection.be_patient(self._patience_seconds)

    def let_out(self, connection: Connection) -> None:
        self._waiting.pop(connection, None)
        self._asking.pop(connection, None)

    @contextmanager
    def asked(self, connection: Connection | None) -> Iterator[None]:
        """While an answer is made. Raises BusyError."""
        if self._requests >= self._requests_max:
            raise BusyError
        self._requests += 1
        self._move(connection, self._waiting, self._asking)
        try:
            yield
        finally:
            self._requests -= 1
            self._move(connection, self._asking, self._waiting)

    def _move(self, connection: Connection | None, here: dict[Connection, None], there: dict[Connection, None]) -> None:
        if connection is not None and connection in here:  # else it has been cut meanwhile
            del here[connection]
            there[connection] = None
            connection.be_patient(self._patience_seconds)


def connection_of(request: web.Request) -> Connection | None:
    """None: it has gone."""
    protocol = None if request.transport is None else request.transport.get_protocol()
    return protocol if isinstance(protocol, Connection) else None


def is_ours(record: logging.LogRecord) -> bool:
    """Whether a line of the HTTP server's log is about us; else it is about nonsense that a client has sent.

    Without it everybody who reaches a port can have a traceback written for each line that they send.
    """
    error = record.exc_info[1] if record.exc_info else None
    return not isinstance(error, HttpProcessingError | web.RequestPayloadError)


def server_log() -> logging.Logger:
    """What aiohttp has to say of our servers, but for what `is_ours` leaves out."""
    log = logging.getLogger("bgpilot.http")
    log.addFilter(is_ours)  # the same function counts once
    return log
