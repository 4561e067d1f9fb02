"""Waiting for something to become true, with a bound and the last reason why it was not.

There is no plain sleep here: a test says what it waits for. A check passes by returning something true; it has not
passed yet when it returns something false or raises AssertionError, LookupError or OSError (a socket that is not there
yet). Any other exception is a bug of the test and ends the wait at once.
"""

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")
NOT_YET = (AssertionError, LookupError, OSError)


def wait_until(check: Callable[[], T], *, within: float = 30.0, every: float = 0.05) -> T:
    """What `check` returned once it was true. Raises AssertionError with the last answer after `within` seconds."""
    ends_at = time.monotonic() + within
    while True:
        last: object
        try:
            last = answer = check()
            if answer:
                return answer
        except NOT_YET as error:
            last = error
        if time.monotonic() >= ends_at:
            raise AssertionError(_said(check, within, last)) from _cause(last)
        time.sleep(every)


async def eventually(check: Callable[[], T | Awaitable[T]], *, within: float = 30.0, every: float = 0.05) -> T:
    """`wait_until` for a running event loop; `check` may be a coroutine function."""
    ends_at = time.monotonic() + within
    while True:
        last: object
        try:
            answer = check()
            last = value = await answer if inspect.isawaitable(answer) else answer
            if value:
                return value
        except NOT_YET as error:
            last = error
        if time.monotonic() >= ends_at:
            raise AssertionError(_said(check, within, last)) from _cause(last)
        await asyncio.sleep(every)


def _said(check: object, within: float, last: object) -> str:
    return f"not within {within:g} s: {getattr(check, '__qualname__', check)}; last: {last!s}"


def _cause(last: object) -> BaseException | None:
    return last if isinstance(last, BaseException) else None
