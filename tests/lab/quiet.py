"""A block after which the event loop holds no more connections than before it.

TLS says goodbye in turns, so a client that has been closed may still wait for the server's; a loop that ends before
leaves an open socket to the garbage collector, whose warning then fails whichever test runs at that moment.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.lab.wait import eventually


@asynccontextmanager
async def leaving_no_connection() -> AsyncIterator[None]:
    before = _watched()
    yield
    await eventually(lambda: _watched() <= before)


def _watched() -> int:
    """How many files and sockets the loop listens to."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, asyncio.SelectorEventLoop)
    return len(loop._selector.get_map())  # type: ignore[attr-defined]
