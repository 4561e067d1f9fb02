"""Clients of the embedded API server whose watches are told of a change some time after it happened.

As one behind an API server whose watch cache lags: nothing is left out, and the order stays.
"""

from __future__ import annotations

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
