"""The agent's end of the bridge: a unix socket on which one bridge at a time speaks for ExaBGP.

Lines in, decoded and handed over in order; commands out, answers matched to them. It refuses to know what commands
mean, which are due, and what events change (`bgp.speaker`).

What it relies on: answers to pipelined commands come in the order sent; another command may overtake them, so `ask` is
only for a time when nothing else is unanswered (ExaBGP 5.0.15). Between a command and its answer come events, and, for
an `ask`, lines of text. The bridge's first line is its hello (`bgp.inside.bridge`).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import msgspec

from bgp.background import TURN_SECONDS
from bgp.exaevents import EventReader, Heard, Malformed
from bgp.exatext import ANSWERS, DONE
from bgp.unixsocket import UnixSocket

LINE_MAX: Final = 4 * 1024 * 1024
"""An UPDATE of 64 KiB with 32,000 prefixes of IPv4 is a line of about 700 kB."""
READ_BYTES: Final = 16 * 1024
"""Read and handled at once: about 5 ms of work (750 prefixes); then others have their turn."""
ASK_SECONDS: Final = 30.0
"""ExaBGP talks, but has not answered for so long: answers were lost; the bridge is cut off, which starts everything
anew. When it says nothing at all, whoever watches `heard` decides (`bgp.silence`)."""
ASK_LINES_MAX: Final = 1_000_000


class LinkLostError(ConnectionError):
    """The bridge has gone, or was never there."""


class CommandRefusedError(Exception):
    """ExaBGP answered `error`."""


class Remembered(msgspec.Struct, frozen=True):
    """What the bridge has kept of one peer. Instants are monotonic seconds of this machine; None: it never happened."""

    lines: list[str]
    """Of the session that is up; empty: none is."""
    told: list[str] = []
    """Families whose End-of-RIB an agent has sent on it."""
    up_at: float | None = None
    flaps: int = 0
    opened: list[str] = []
    """The OPENs of the last session that ended; empty: not known."""
    ended: list[str] = []
    """How the last session ended."""
    ended_at: float | None = None
    failed: list[str] = []
    """How the last attempt since then failed."""
    failed_at: float | None = None


class Hello(msgspec.Struct, frozen=True):
    instance: str
    bridge: str
    dropped: int
    pending: int
    peers: dict[str, Remembered]


@dataclass(slots=True)
class _Ask:
    answer: asyncio.Future[bool]
    at_done: Callable[[], None] | None = None
    lines: list[str] = field(default_factory=list)


class Link:
    def __init__(
        self,
        path: Path,
        *,
        on_hello: Callable[[Hello], None],
        on_event: Callable[[Heard], None],
        on_answer: Callable[[bool], None],
        on_pause: Callable[[], None],
        on_lost: Callable[[], None],
    ) -> None:
        """`on_pause` is called when all that has arrived so far has been handed over."""
        self._named = UnixSocket(path)
        self._on_hello = on_hello
        self._on_event = on_event
        self._on_answer = on_answer
        self._on_pause = on_pause
        self._on_lost = on_lost
        self._reader = EventReader()
        self._server: asyncio.Server | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._greeted = False
        self._expected: deque[_Ask | None] = deque()  # None: pipelined
        self._not_ours = 0
        self.heard = 0
        """Grows with all that arrives: ExaBGP lives."""
        self.malformed = 0
        """Lines that could not be read, since start."""
        self.last_malformed = ""

    @property
    def connected(self) -> bool:
        return self._writer is not None and self._greeted

    @property
    def unanswered(self) -> bool:
        """ExaBGP owes us an answer."""
        return bool(self._expected)

    @property
    def lost(self) -> bool:
        """No bridge that comes would find us."""
        return self._named.lost

    async def start(self) -> None:
        """Listen; again when `lost`: the bridge that is connected stays so.

        Raises OSError when the run directory cannot be written.
        """
        before = self._server
        self._server = await asyncio.start_unix_server(self._serve, sock=self._named.bind(), limit=READ_BYTES)
        if before is not None:
            before.close()

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
            self._hang_up()
            await self._server.wait_closed()
        self._named.remove()

    def send(self, lines: list[str]) -> None:
        """Pipelined commands: each will be answered through `on_answer`, in this order."""
        self._write(lines)
        self._expected.extend([None] * len(lines))

    async def ask(self, line: str, *, at_done: Callable[[], None] | None = None) -> list[str]:
        """What ExaBGP prints before it answers. Raises LinkLostError, and CommandRefusedError for `error`.

        `at_done` is called before any line behind the answer is handed over; who waits for `ask` comes later than that.
        """
        if self._expected:
            raise RuntimeError(f"asked {line!r} while {len(self._expected)} commands are unanswered")
        ask = _Ask(asyncio.get_running_loop().create_future(), at_done)
        self._write([line])
        self._expected.append(ask)
        try:
            heard = self.heard
            while not (await asyncio.wait({ask.answer}, timeout=ASK_SECONDS))[0]:
                if heard != self.heard:
                    self._hang_up()
                    raise LinkLostError(f"no answer to {line!r} within {ASK_SECONDS:g} s")
        finally:
            ask.answer.cancel()  # nothing, when it has come
        if not ask.answer.result():
            raise CommandRefusedError(f"ExaBGP refused {line!r}; its log says why")
        return ask.lines

    def _write(self, lines: list[str]) -> None:
        if self._writer is None or not self._greeted:
            raise LinkLostError("the bridge is not connected")
        self._writer.write("".join(f"{line}\n" for line in lines).encode("ascii"))

    def _hang_up(self) -> None:
        if self._writer is not None:
            self._writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._writer is not None:  # ExaBGP has a new bridge; the old one's end has not been noticed yet
            self._gone(self._writer)
        self._writer = writer
        try:
            await self._read(reader, writer)
        except (ConnectionError, asyncio.CancelledError):
            pass  # the end of the bridge, or our own: either way what follows is the same
        finally:
            self._gone(writer)

    def _gone(self, writer: asyncio.StreamWriter) -> None:
        writer.close()
        if self._writer is not writer:
            return
        was_greeted = self._greeted
        self._writer, self._greeted, self._not_ours = None, False, 0
        while self._expected:
            ask = self._expected.popleft()
            if ask is not None and not ask.answer.done():
                ask.answer.set_exception(LinkLostError("the bridge went away"))
        if was_greeted:
            self._on_lost()

    async def _read(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        loop, unfinished = asyncio.get_running_loop(), b""
        while self._writer is writer and (data := await reader.read(READ_BYTES)):
            self.heard += 1
            *lines, unfinished = (unfinished + data).split(b"\n") if b"\n" in data else [unfinished + data]
            rest_at = loop.time() + TURN_SECONDS
            for line in lines:
                self._line(line)
                if self._writer is not writer:
                    return
                if loop.time() >= rest_at:  # an answer may be about a thousand peers
                    await asyncio.sleep(0)
                    rest_at = loop.time() + TURN_SECONDS
            self._on_pause()
            if len(unfinished) > LINE_MAX:
                self._count(f"a line of more than {LINE_MAX} bytes")
                return
            await asyncio.sleep(0)  # data that is already here would never let anybody else run

    def _line(self, line: bytes) -> None:
        if not self._greeted:
            self._greet(line)
        elif line.startswith(b"{"):
            match self._reader.read(line):
                case None:
                    pass
                case Malformed(why):
                    self._count(why)
                case event:
                    self._on_event(event)
        else:
            self._answer(line.decode(errors="replace").strip())

    def _greet(self, line: bytes) -> None:
        try:
            hello = msgspec.json.decode(line, type=Hello)
        except msgspec.DecodeError as error:
            self._count(f"the bridge's first line: {error}")
            self._hang_up()
            return
        self._greeted, self._not_ours = True, hello.pending
        self._on_hello(hello)

    def remembered(self, lines: list[str]) -> list[Heard]:
        """Events of lines that the bridge has kept."""
        events = (self._reader.read(line.encode()) for line in lines)
        return [event for event in events if event is not None and not isinstance(event, Malformed)]

    def _answer(self, text: str) -> None:
        if text in ANSWERS and self._not_ours:
            self._not_ours -= 1
        elif text in ANSWERS and self._expected:
            ask = self._expected.popleft()
            if ask is None:
                self._on_answer(text == DONE)
            elif not ask.answer.done():
                if text == DONE and ask.at_done is not None:
                    ask.at_done()
                ask.answer.set_result(text == DONE)
        elif self._expected and (ask := self._expected[0]) is not None and len(ask.lines) < ASK_LINES_MAX:
            ask.lines.append(text)
        elif text and not self._not_ours:
            self._count("text that nobody asked for")

    def _count(self, why: str) -> None:
        self.malformed += 1
        self.last_malformed = why
