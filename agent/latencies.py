"""How long it takes until the kernel has what a peer told, and until ExaBGP has what the cluster told: histograms.

Measured from the change that was first to wait for the pass that dealt with it. Of each pass some routes are measured:
they are done together. It knows no clock, and neither what a pass is nor when it happens (`agent.loop`).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import accumulate
from typing import Final

from agent.model import FibKey
from bgp.model import Prefix, RouteKey

BOUNDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Seconds: the kernel takes some milliseconds, a burst lasts a second, a refused route is tried again after 1 s …"""
MEASURED_MAX: Final = 32
"""Routes measured of one pass."""
WAITING_MAX: Final = 512
"""Routes that are not told yet and waited for; others are not measured."""
PATIENCE_SECONDS: Final = 120.0
"""What is not told by then counts as having taken so long, and is not waited for any more."""


class Histogram:
    def __init__(self) -> None:
        self._counts = [0] * (len(BOUNDS) + 1)
        self.sum = 0.0

    @property
    def count(self) -> int:
        return sum(self._counts)

    def observe(self, seconds: float) -> None:
        self._counts[bisect_left(BOUNDS, seconds)] += 1
        self.sum += seconds

    def buckets(self) -> Iterator[tuple[float, int]]:
        """Upper bound and how many took no longer; the last bound is infinity."""
        return zip((*BOUNDS, float("inf")), accumulate(self._counts), strict=True)


class Latencies:
    def __init__(self) -> None:
        self.programming = Histogram()
        """From a peer's UPDATE to the kernel's answer, of routes that are added or changed."""
        self.advertising = Histogram()
        """From a Service's or endpoint's change to ExaBGP's answer, of routes that are announced or changed."""
        self._waiting: dict[RouteKey, float] = {}

    def programmed(self, keys: Iterable[FibKey], heard_at: Mapping[Prefix, float | None], now: float) -> None:
        """`keys` are in the kernel by now; those of prefixes that were not `heard_at` any time are not measured."""
        for key in keys:
            if (at := heard_at.get(key.prefix)) is not None:
                self.programming.observe(now - at)

    def announcing(self, keys: Iterable[RouteKey], changed_at: float) -> None:
        """ExaBGP is about to be told of these."""
        for key in keys:
            if key not in self._waiting and len(self._waiting) < WAITING_MAX:
                self._waiting[key] = changed_at

    def look(self, now: float, *, wanted: Callable[[RouteKey], bool], told: Callable[[RouteKey], bool]) -> None:
        """Which of them it has been told. One that is not wanted any more is forgotten."""
        for key, at in list(self._waiting.items()):
            if not wanted(key):
                del self._waiting[key]
            elif told(key) or now - at >= PATIENCE_SECONDS:
                self.advertising.observe(now - at)
                del self._waiting[key]
