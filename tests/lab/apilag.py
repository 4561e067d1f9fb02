"""Clients of the embedded API server that are told late: of a change some time after it, of a list's end not yet.

As those of a server whose watch cache lags, or is not filled yet: nothing is left out, and the order stays.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

from tests.lab.apistore import Event


class Due(NamedTuple):
    events: Sequence[Event]
    more_in: float | None
    """Seconds until the next one is due; None: there are no others."""


class Lag:
    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}

    def set(self, client: str, seconds: float) -> None:
        """`client`: the address it connects from. 0 seconds: told at once, as all others are."""
        self._seconds[client] = seconds

    def due(self, client: str, events: Sequence[Event], now: float) -> Due:
        """Which of `events`, oldest first, the client may know by now."""
        horizon = now - self._seconds.get(client, 0.0)
        count = next((place for place, event in enumerate(events) if event.happened_at > horizon), len(events))
        held = events[count:]
        return Due(events[:count], held[0].happened_at - horizon if held else None)


class Lists:
    """Which kinds' lists do not come to their end, and who has got all of which."""

    def __init__(self) -> None:
        self._ended: defaultdict[str, set[str]] = defaultdict(set)
        self._withheld: dict[str, asyncio.Event] = {}

    def withhold(self, kind: str) -> None:
        self._ended.clear()
        self._withheld[kind] = asyncio.Event()

    def release(self, kind: str) -> None:
        self._withheld.pop(kind).set()

    def withheld(self) -> tuple[str, ...]:
        return tuple(self._withheld)

    async def may_end(self, kind: str) -> None:
        """Returns as soon as lists of the kind may come to their end."""
        if kind in self._withheld:
            await self._withheld[kind].wait()

    def ended(self, kind: str, client: str) -> None:
        self._ended[client].add(kind)

    def of(self, client: str) -> frozenset[str]:
        """Kinds of which the client has got all since lists were withheld last."""
        return frozenset(self._ended[client])
