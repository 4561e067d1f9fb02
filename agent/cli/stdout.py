"""Standard output as a command finds it: closed, full, or no longer read. None of that is a mistake of ours: it is said
in one line, and no stack is shown.
"""

from __future__ import annotations

import io
import os
import select
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

_FD: Final = 1


class UnwritableError(OSError):
    """Standard output takes nothing; why is in `strerror`."""


class _Standard(io.TextIOWrapper):
    def write(self, text: str, /) -> int:
        with _named():
            return super().write(text)

    def flush(self) -> None:
        with _named():
            super().flush()


@contextmanager
def _named() -> Iterator[None]:
    """What is left in buffers when a write has failed goes nowhere: at the process's end it would fail again."""
    try:
        yield
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), _FD)
        if isinstance(error, BrokenPipeError):
            raise
        raise UnwritableError(error.errno, error.strerror) from None


def guard() -> None:
    """Have standard output raise BrokenPipeError when nobody reads it any more, and else UnwritableError.

    One that is closed becomes one that cannot be written to, or the next file or socket would take its number. What its
    encoding has no sign for is written as `?`.
    """
    if sys.stdout is not sys.__stdout__:
        return  # somebody has put another in its place
    if sys.stdout is None:
        os.dup2(os.open(os.devnull, os.O_RDONLY), _FD)
    raw = io.FileIO(_FD, "w", closefd=False)
    encoding = "utf-8" if sys.stdout is None else sys.stdout.encoding
    sys.stdout = _Standard(io.BufferedWriter(raw), encoding=encoding, errors="replace", line_buffering=raw.isatty())


def pause(seconds: float) -> None:
    """Wait that long, or raise BrokenPipeError as soon as nobody reads standard output any more."""
    if sys.stdout.isatty():  # a terminal that goes says so by a signal, and macOS cannot poll one
        time.sleep(seconds)
        return
    poll = select.poll()
    poll.register(_FD, 0)
    if poll.poll(seconds * 1000):  # errors alone are told
        raise BrokenPipeError
