"""Planning in steps: what may take long yields after each object it has looked at, and whoever runs it may rest there.

What is planned may change at such a place: what changes is dirty, and planned by the next update.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import TypeAlias, TypeVar

T = TypeVar("T")

Steps: TypeAlias = Generator[None, None, T]


def finish(steps: Steps[T]) -> T:
    """All that is left, in one go."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: T = end.value
            return result
