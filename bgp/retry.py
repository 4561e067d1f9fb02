"""What was refused and when it is tried again: exponential backoff per key, ordered by time.

Knows no clock (time is an argument) and nothing of what the keys mean.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Generic, TypeVar

RETRY_FIRST_SECONDS: Final = 1.0
RETRY_MAX_SECONDS: Final = 60.0
"""A refused key is tried again after 1, 2, 4, … 60 s."""
_MAX_DOUBLINGS: Final = 10

Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Failing:
    reason: str
    count: int
    """Refusals in a row."""
    retry_at: float
    """Monotonic seconds."""


class Retries(Generic[Key]):
    """A key is failing until forgotten, and waiting from its refusal until its time has come."""

    def __init__(self) -> None:
        self.failures = 0
        """Of all keys, ever."""
        self._failing: dict[Key, Failing] = {}
        self._waiting: dict[Key, float] = {}
        self._heap: list[tuple[float, int, Key]] = []
        self._order = itertools.count()

    def fail(self, key: Key, reason: str, now: float) -> None:
        self.failures += 1
        before = self._failing.get(key)
        count = 1 if before is None else before.count + 1
        delay = min(RETRY_MAX_SECONDS, RETRY_FIRST_SECONDS * 2.0 ** min(count - 1, _MAX_DOUBLINGS))
        self._failing[key] = Failing(reason, count, now + delay)
        self._waiting[key] = now + delay
        heapq.heappush(self._heap, (now + delay, next(self._order), key))

    def forget(self, key: Key) -> None:
        if self._failing.pop(key, None) is not None:
            self._waiting.pop(key, None)

    def __bool__(self) -> bool:
        """Something is failing."""
        return bool(self._failing)

    def clear(self) -> None:
        self._failing.clear()
        self._waiting.clear()
        self._heap.clear()

    def waits(self, key: Key) -> bool:
        return key in self._waiting

    def take_due(self, now: float) -> list[Key]:
        """Keys whose time has come: no longer waiting, still failing until forgotten."""
        due = []
        while (at := self.next_at) is not None and at <= now:
            key = heapq.heappop(self._heap)[2]
            del self._waiting[key]
            due.append(key)
        return due

    @property
    def next_at(self) -> float | None:
        # Forgotten keys leave their entry in the heap until it is on top: at most one per refusal of the last minute.
        while self._heap and self._waiting.get(self._heap[0][2]) != self._heap[0][0]:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    @property
    def failing(self) -> Mapping[Key, Failing]:
        """A live view."""
        return MappingProxyType(self._failing)
