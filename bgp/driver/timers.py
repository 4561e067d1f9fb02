"""Named timers of the running event loop: setting one anew replaces the one before.

It refuses to run anything but plain calls, and to keep time itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Timers:
    def __init__(self) -> None:
        self._timers: dict[str, asyncio.TimerHandle] = {}

    def later(self, name: str, seconds: float, call: Callable[[], None]) -> None:
        self.cancel(name)
        self._timers[name] = asyncio.get_running_loop().call_later(seconds, call)

    def cancel(self, name: str) -> None:
        if (timer := self._timers.pop(name, None)) is not None:
            timer.cancel()

    def stop(self) -> None:
        for name in list(self._timers):
            self.cancel(name)
