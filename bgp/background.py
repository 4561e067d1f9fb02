"""Tasks that nobody waits for.

What such a task raises asyncio keeps to itself until the task is forgotten, which whoever holds it for its stop never
does. Here the event loop's exception handler is told at once. It refuses to decide what becomes of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import TypeVar

T = TypeVar("T")


def in_background(coroutine: Coroutine[object, object, T], *, name: str) -> asyncio.Task[T]:
    """Hold the result: the event loop does not."""
    task = asyncio.create_task(coroutine, name=name)
    task.add_done_callback(_tell)
    return task


def _tell(task: asyncio.Task[T]) -> None:
    """What a callback raises the loop hands to its exception handler."""
    if not task.cancelled():
        task.result()
