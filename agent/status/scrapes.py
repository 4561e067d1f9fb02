"""The text of a scrape: made once for all who wait for it, and anew for who comes later.

A client may send hundreds of requests at once, without waiting for the answers, and many clients may do so together:
what the event loop spends on figures is bounded by time, not by them. Only such a crowd is told what was true a moment
ago. It refuses to know what the figures are.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest
from prometheus_client.metrics_core import Metric

CROWD: Final = 8
"""So many texts may be made …"""
CROWD_SECONDS: Final = 0.25
"""… in this time; who asks for more has the last one."""


class Scrapes:
    def __init__(self, registry: CollectorRegistry, clock: Callable[[], float]) -> None:
        self._registry = registry
        self._clock = clock
        self._making = asyncio.Lock()
        self._text = b""
        self._made = 0
        self._made_at = deque[float](maxlen=CROWD)

    async def text(self) -> bytes:
        made = self._made
        async with self._making:
            if made == self._made and not self._is_crowded():
                self._text = await self._make()
                self._made += 1
                self._made_at.append(self._clock())
            return self._text

    def _is_crowded(self) -> bool:
        return len(self._made_at) == CROWD and self._clock() - self._made_at[0] < CROWD_SECONDS

    async def _make(self) -> bytes:
        found = []
        for metric in self._registry.collect():
            found.append(metric)
            await asyncio.sleep(0)
        return await asyncio.to_thread(generate_latest, _Collected(found))


class _Collected(CollectorRegistry):
    """Figures that have been read, to be put into words by a thread: that is most of the work."""

    def __init__(self, found: list[Metric]) -> None:
        super().__init__()
        self._found = found

    def collect(self) -> list[Metric]:
        return self._found
