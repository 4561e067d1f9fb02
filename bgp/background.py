"""Tasks that nobody waits for, and work that leaves others their turns.

What such a task raises asyncio keeps to itself until the task is forgotten, which whoever holds it for its stop never
does. Here the event loop's exception handler is told at once. It refuses to decide what becomes of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Iterable
from typing import Final, TypeVar

TURN_SECONDS: Final = 0.005
"""How long work goes on before others have their turn."""

T = TypeVar("T")


def in_background(coroutine: Coroutine[object, object, T], *, name: str) -> asyncio.Task[T]:
    """Hold the result: the event loop does not."""
    task = asyncio.create_task(coroutine, name=name)
    task.add_done_callback(_tell)
    return task


async def in_turns(work: Iterable[T]) -> AsyncIterator[T]:
    """All of it, one after the other; each is to be a small part of TURN_SECONDS."""
    loop = asyncio.get_running_loop()
    rest_at = loop.time() + TURN_SECONDS
    for done in work:
        yield done
        if loop.time() >= rest_at:
            await asyncio.sleep(0)
            rest_at = loop.time() + TURN_SECONDS


def _tell(task: asyncio.Task[T]) -> None:
    """What a callback raises the loop hands to its exception handler."""
    if not task.cancelled():
        task.result()
