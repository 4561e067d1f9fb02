"""The left door: every change enters here, is put into the picture at once, and leaves one mark of what became dirty.

What waits between two passes is therefore the set of touched keys and prefixes, bounded by the size of the picture,
however many events a burst has. Nothing here plans or acts.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Final

from agent.cluster.world import World
from agent.model import (
    Applied,
    Change,
    FibDrifted,
    Gone,
    Interface,
    InterfacesChanged,
    Key,
    Listed,
    Malformed,
    Retry,
    WatchState,
)
from bgp.model import Prefix
from bgp.rib import Rib

QUIET_SECONDS: Final = 0.05
"""A burst ends when nothing has come for this long …"""
BURST_SECONDS: Final = 1.0
"""… or has lasted this long."""
PREFIXES_PER_PASS: Final = 500
"""Prefixes planned in one go, about 20 ms: a full table that is learned leaves the event loop its turns."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dirt:
    """What has changed since the last pass."""

    keys: frozenset[Key] = frozenset()
    prefixes: frozenset[Prefix] = frozenset()
    interfaces: bool = False
    kernel: bool = False
    """The kernel's routes may not be what we believe."""


class Inbox:
    """World, Rib and interfaces as they are now, and what of them the planner has not seen yet."""

    def __init__(self, *, world: World, rib: Rib, clock: Callable[[], float]) -> None:
        self.world = world
        self.rib = rib
        self.interfaces: tuple[Interface, ...] = ()
        self._clock = clock
        self._keys: set[Key] = set()
        self._prefixes: dict[Prefix, None] = {}
        self._interfaces_changed = False
        self._kernel_drifted = False
        self._signal = asyncio.Event()
        self._last_put_at = float("-inf")
        self._last_take_at = float("-inf")

    def put(self, change: Change) -> None:
        """Take `change` into the picture and wake the loop. Never blocks; cost is that of the change."""
        match change:
            case Listed() | Applied() | Gone() | Malformed() | WatchState():
                self._keys |= self.world.apply(change)
            case InterfacesChanged(interfaces=interfaces):
                self._interfaces_changed |= interfaces != self.interfaces
                self.interfaces = interfaces
            case FibDrifted():
                self._kernel_drifted = True
            case Retry():
                pass
            case _:
                self._touch(self.rib.apply(change, self._clock()))
        self.wake()

    def _touch(self, prefixes: Iterable[Prefix]) -> None:
        self._prefixes.update(dict.fromkeys(prefixes))

    def wake(self) -> None:
        """Ask for a pass without a change to the picture."""
        self._last_put_at = self._clock()
        self._signal.set()

    async def take(self, *, within: float) -> Dirt:
        """Wait for something to do, at most `within` seconds, let a burst settle, and hand over what became dirty."""
        try:
            async with asyncio.timeout(within):
                await self._signal.wait()
        except TimeoutError:
            pass
        await self._settle()
        self._touch(self.rib.expire(self._clock()))
        self._signal.clear()
        self._last_take_at = self._clock()
        dirt = Dirt(
            keys=frozenset(self._keys),
            prefixes=frozenset(islice(self._prefixes, PREFIXES_PER_PASS)),
            interfaces=self._interfaces_changed,
            kernel=self._kernel_drifted,
        )
        self._keys.clear()
        for prefix in dirt.prefixes:
            del self._prefixes[prefix]
        if self._prefixes:
            self._signal.set()
        self._interfaces_changed = self._kernel_drifted = False
        return dirt

    async def _settle(self) -> None:
        """The first change after quiet goes at once; what follows closely waits for the burst's end."""
        began_at = self._clock()
        if began_at - self._last_take_at >= QUIET_SECONDS or self._prefixes:
            return
        while (now := self._clock()) - began_at < BURST_SECONDS:
            rest = self._last_put_at + QUIET_SECONDS - now
            if rest <= 0:
                return
            await asyncio.sleep(min(rest, began_at + BURST_SECONDS - now))
