"""Certificates and keys that stand in a kubeconfig itself, for libraries that read them by the name of a file.

The file is one of memory and has a name only for us, as long as it is held: an agent that is killed leaves no key on
any disk. It refuses to know what a kubeconfig is.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Final

_FOLDER: Final = Path("/proc/self/fd")
_held: Final[ContextVar[list[int]]] = ContextVar("held")


@contextmanager
def held_in_memory() -> Iterator[None]:
    """All that is made inside is gone afterwards."""
    descriptors: list[int] = []
    token = _held.set(descriptors)
    try:
        yield
    finally:
        _held.reset(token)
        for descriptor in descriptors:
            os.close(descriptor)


def memory_file(content: str | bytes, *_: object) -> str:
    """In the place of kubernetes' `_create_temp_file_with_content` (37.0), inside `held_in_memory`."""
    descriptor = os.memfd_create("kubeconfig")
    _held.get().append(descriptor)
    with os.fdopen(descriptor, "wb", closefd=False) as file:
        file.write(content.encode() if isinstance(content, str) else content)
    return str(_FOLDER / str(descriptor))


def is_in_memory(path: Path) -> bool:
    return path.parent == _FOLDER
