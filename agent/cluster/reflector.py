"""Drives one list+watch machine over a transport: bytes in, changes out to `put`.

It refuses to decide anything: what to ask, when, and what an answer means is `agent.cluster.listwatch`'s. What is here
is time, cancellation, and fairness: after `SLICE_SECONDS` of work the event loop gets its turn, so that the first list
of a large cluster does not delay a BGP keepalive.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from random import Random
from typing import Final, Protocol

from agent.cluster.health import Limits
from agent.cluster.kinds import path_of
from agent.cluster.listwatch import STREAM_BROKEN, Changes, ListWatch
from agent.cluster.request import Mode, Pause, Request
from agent.cluster.split import ItemSplitter, LineSplitter, TooLong
from agent.model import ClusterChange, Key, Kind, WatchState

SLICE_SECONDS: Final = 0.002
"""Work in one go. All reflectors may be due in the same round of the loop, so this times their number is the stall."""
REFUSAL_BYTES_MAX: Final = 64 * 1024
"""How much is read of an answer that is not 200."""


class TransportError(Exception):
    """No connection, or it broke. `reason` is the reason word; `fix` is empty where the usual advice holds."""

    def __init__(self, reason: str, text: str, fix: str = "") -> None:
        super().__init__(text)
        self.reason = reason
        self.text = text
        self.fix = fix


class Answer(Protocol):
    @property
    def status(self) -> int: ...
    @property
    def retry_after_seconds(self) -> float | None: ...
    def chunks(self) -> AsyncIterator[bytes]:
        """The body as it comes, until its end. Raises TransportError when it is cut off."""
        ...


class Transport(Protocol):
    def get(self, path: str, query: Sequence[tuple[str, str]]) -> AbstractAsyncContextManager[Answer]:
        """Ask; leaving the context before the body's end closes the connection. Entering may raise TransportError.

        It sets no time limits of its own, but for connecting.
        """
        ...


class Reflector:
    """`run` never returns; cancel it."""

    def __init__(
        self,
        kind: Kind,
        transport: Transport,
        put: Callable[[ClusterChange], None],
        *,
        only: Key | None = None,
        limits: Limits | None = None,
        random: Random | None = None,
        mended: Callable[[], None] = lambda: None,
    ) -> None:
        """`only`: watch this one object of its namespace. `mended` is called when it works again after a failure."""
        self._machine = ListWatch(
            kind,
            only=only,
            limits=limits or Limits(),
            random=random or Random(),  # noqa: S311  # spreads load, keeps no secret
        )
        self._kind = kind
        self._transport = transport
        self._put = put
        self._mended = mended
        self._broken = False
        self._roused = asyncio.Event()

    def mended_elsewhere(self) -> None:
        """Another watch of the same API server works again."""
        self._machine.mended_elsewhere(asyncio.get_running_loop().time())
        self._roused.set()

    async def run(self) -> None:
        now = asyncio.get_running_loop().time
        rested_until = now()
        while True:
            # asyncio may end a sleep early by the clock's resolution: what was slept through counts as slept.
            match step := self._machine.next_step(max(now(), rested_until)):
                case Pause(until=until):
                    if await self._rest(until):
                        rested_until = until
                case Request():
                    await self._carry_out(step, now)

    async def _rest(self, until: float) -> bool:
        """False: roused before."""
        self._roused.clear()
        try:
            async with asyncio.timeout_at(until):
                await self._roused.wait()
        except TimeoutError:
            return True
        return False

    async def _carry_out(self, request: Request, now: Callable[[], float]) -> None:
        machine = self._machine
        try:
            async with (
                asyncio.timeout(request.answer_seconds) as patience,
                self._transport.get(path_of(self._kind, request.only), request.query) as answer,
            ):
                patience.reschedule(now() + machine.silence_seconds)
                if answer.status == 200:
                    self._emit(machine.opened(now()))
                    await self._read(request, answer, patience, now)
                else:
                    body = await _beginning(answer)
                    self._emit(machine.refused(answer.status, answer.retry_after_seconds, body, now()))
        except TimeoutError:
            self._emit(machine.silent(now()))
        except TransportError as error:
            self._emit(machine.broke(error.reason, error.text, now(), error.fix))
        except TooLong:
            self._emit(machine.too_long(now()))

    async def _read(
        self, request: Request, answer: Answer, patience: asyncio.Timeout, now: Callable[[], float]
    ) -> None:
        machine = self._machine
        is_list = request.mode in {Mode.LIST, Mode.PROBE}
        splitter = ItemSplitter() if is_list else LineSplitter()
        take = machine.item if is_list else machine.heard
        slice_ends_at = now() + SLICE_SECONDS
        async for chunk in answer.chunks():
            for text in splitter.feed(chunk):
                self._emit(take(text, now()))
                if not machine.streaming:
                    return
                if now() >= slice_ends_at:
                    await asyncio.sleep(0)
                    slice_ends_at = now() + SLICE_SECONDS
            patience.reschedule(now() + machine.silence_seconds)
        if isinstance(splitter, ItemSplitter):
            self._emit(machine.listed(splitter.rest(), now()))
        elif splitter.within:
            self._emit(machine.broke(STREAM_BROKEN, "the stream ended inside a line", now()))
        else:
            self._emit(machine.ended(now()))

    def _emit(self, changes: Changes) -> None:
        for change in changes:
            self._put(change)
            if isinstance(change, WatchState):
                was_broken, self._broken = self._broken, not change.healthy
                if was_broken and change.healthy:
                    self._mended()


async def _beginning(answer: Answer) -> bytes:
    body = bytearray()
    async for chunk in answer.chunks():
        body += chunk
        if len(body) >= REFUSAL_BYTES_MAX:
            break
    return bytes(body[:REFUSAL_BYTES_MAX])
