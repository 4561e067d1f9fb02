"""Sockets and files of another network namespace, held by this process: they stay in the one they were made in."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from tests.lab.netns import Namespace

T = TypeVar("T")
_CLONE_NEWNET = 0x40000000


def inside(namespace: Namespace, make: Callable[[], T]) -> T:
    """What `make` returns, called by a thread that enters the namespace and ends right after."""

    def entered() -> T:
        with namespace.path.open() as file:
            if ctypes.CDLL(None, use_errno=True).setns(file.fileno(), _CLONE_NEWNET):
                error = ctypes.get_errno()
                raise OSError(error, f"cannot enter {namespace}: {os.strerror(error)}")
        return make()

    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="netns") as thread:
        return thread.submit(entered).result()
