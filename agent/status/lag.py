"""How long the event loop stalls: a timer that notices how late it is called.

Measures only; what to do about a stall is for people to decide.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final

TICK_SECONDS: Final = 0.1
"""A stall shorter than this may be seen in part only."""
LATELY_TICKS: Final = 600
"""`lately` covers the last minute."""


class LoopLag:
    def __init__(self, *, clock: Callable[[], float], worked: Callable[[], float]) -> None:
        """`worked`: processor seconds of this thread."""
        self.longest = 0.0
        """Seconds, since start."""
        self.longest_own = 0.0
        """The same, of stalls that our own work explains: not those in which the machine was busy with others."""
        self._worked = worked
        self._clock = clock
        self._recent: deque[float] = deque(maxlen=LATELY_TICKS)

    @property
    def lately(self) -> float:
        """Seconds: the longest of the last minute."""
        return max(self._recent, default=0.0)

    async def run(self) -> None:
        """Measure until cancelled."""
        while True:
            called_at, worked = self._clock(), self._worked()
            await asyncio.sleep(TICK_SECONDS)
            late = max(0.0, self._clock() - called_at - TICK_SECONDS)
            self._recent.append(late)
            self.longest = max(self.longest, late)
            self.longest_own = max(self.longest_own, min(late, self._worked() - worked))
