"""Following what the kernel tells of: an event is only a reason to read everything again.

So an event that is lost costs nothing, and a burst of them is one reading. What is read, and which events are a reason,
is the caller's (`agent.kernel.links`, `agent.kernel.gateways`).
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from collections.abc import Awaitable, Callable
from typing import Final

from agent.kernel.nlsocket import RECEIVE_BYTES, open_netlink
from bgp.background import in_background

QUIET_SECONDS: Final = 0.05
"""At least so long between two readings."""
RETRY_SECONDS: Final = 1.0
"""After a reading that failed or was interrupted; what was read before stands meanwhile."""
_EVENTS_PER_TURN: Final = 256


class Following:
    def __init__(
        self,
        name: str,
        *,
        prepare: Callable[[socket.socket], None],
        read: Callable[[], Awaitable[bool]],
        matters: Callable[[bytes], bool],
    ) -> None:
        """`prepare` joins the groups, before the first reading, so that nothing falls between. `read` answers False
        when something may have been missed, and raises OSError; `matters` is asked about each datagram.
        """
        self._name = name
        self._prepare = prepare
        self._read = read
        self._matters = matters
        self._changed = asyncio.Event()

    async def start(self) -> None:
        """Everything has been read once. Raises OSError when the kernel cannot be asked."""
        with contextlib.ExitStack() as undo:
            self._socket = undo.enter_context(open_netlink())
            self._prepare(self._socket)
            if not await self._read():
                self._changed.set()
            undo.pop_all()
        asyncio.get_running_loop().add_reader(self._socket, self._heard)
        self._task = in_background(self._follow(), name=self._name)

    async def stop(self) -> None:
        asyncio.get_running_loop().remove_reader(self._socket)
        self._socket.close()
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task

    def _heard(self) -> None:
        for _ in range(_EVENTS_PER_TURN):
            try:
                data = self._socket.recv(RECEIVE_BYTES)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                self._changed.set()  # events were dropped
                continue
            if self._matters(data):
                self._changed.set()

    async def _follow(self) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            try:
                whole = await self._read()
            except OSError:  # TimeoutError too: interrupted by the next change, out of memory, or no answer
                whole = False
            if not whole:
                self._changed.set()
                await asyncio.sleep(RETRY_SECONDS)
            await asyncio.sleep(QUIET_SECONDS)
