"""Exceptions that nobody is there to catch, in the agent and beside ExaBGP: our own end the process, with one line.

It refuses to know what the process does.
"""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from agent.log import log

OWN_BUG: Final = "own_bug"
OURS: Final = frozenset({"agent", "bgp"})
OTHERS: Final = frozenset({"aiohappyeyeballs", "aiohttp", "kubernetes", "pyroute2"})
"""Packages that have tasks, callbacks and protocols of their own on our event loop."""


class OwnBugError(Exception):
    """A callback or a background task of ours has raised; it is logged."""


class Bugs:
    """Exceptions that nobody is there to catch: of a callback of the event loop, of a task that nobody waits for.

    asyncio only logs them, and a timer that sets itself anew is gone for good while everything looks well. Here ours
    end the process. Not so what is not ours: a library's own task that fails because a server or a client goes away.
    """

    def __init__(self, end: Callable[[], None], before: Callable[[], None] | None = None) -> None:
        """`end` is called with each bug: the process is to stop; `before` before it is logged."""
        self.found = False
        self._end = end
        self._before = before

    def happened(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """`context` as for `loop.call_exception_handler`."""
        error, what = context.get("exception"), str(context.get("message"))
        if self._before is not None:
            self._before()
        if isinstance(error, BaseException) and _is_ours(error, context):
            self.found = True
            log.error(OWN_BUG, what=what, exc_info=error)
            self._end()
        else:
            log.warning("loop_trouble", what=what, error=None if error is None else repr(error))


def _is_ours(error: BaseException, context: Mapping[str, Any]) -> bool:
    """Not ours: what only others' lines have raised, what nobody has (it is an answer that nobody waited for any
    more), and a connection that the kernel does not let us take (no file descriptors).
    """
    if error.__traceback__ is None or ("socket" in context and isinstance(error, OSError)):
        return False
    packages = {
        str(frame.f_globals.get("__name__", "")).partition(".")[0]
        for frame, _ in traceback.walk_tb(error.__traceback__)
    }
    return bool(packages & OURS) or not packages & OTHERS


def run_guarded(work: Callable[[asyncio.Event], Awaitable[None]], set_up_logging: Callable[[], None]) -> int:
    """All that a process does: `work` until the event. Answers with the exit code.

    `set_up_logging` is called when there is a bug to tell of, and not before: the log may be another's.
    """
    try:
        asyncio.run(_guarded(work, set_up_logging))
    except OwnBugError:  # logged when it happened
        return 1
    except Exception:  # noqa: BLE001  # the top of main: our own bug
        set_up_logging()
        log.exception(OWN_BUG)
        return 1
    return 0


async def _guarded(work: Callable[[asyncio.Event], Awaitable[None]], set_up_logging: Callable[[], None]) -> None:
    ended = asyncio.Event()
    bugs = Bugs(ended.set, before=set_up_logging)
    asyncio.get_running_loop().set_exception_handler(bugs.happened)
    await work(ended)
    if bugs.found:
        raise OwnBugError
