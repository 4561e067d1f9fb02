"""The left door: every change enters here, is put into the picture at once, and leaves one mark of what became dirty.

What waits between two passes is therefore the set of touched keys and prefixes, bounded by the size of the picture,
however many events a burst has. It is handed out in parts, oldest first, so that no pass stalls the event loop; `more`
says that there are others. Nothing here plans or acts.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Final, TypeVar

from agent.cluster.world import World
from agent.damping import Damper
from agent.model import (
    Applied,
    Change,
    ClusterChange,
    DrainOrdered,
    EndpointSlice,
    FibDrifted,
    ForwardingChanged,
    Gateway,
    GatewaysChanged,
    Gone,
    Interface,
    InterfacesChanged,
    Key,
    Kind,
    Listed,
    Malformed,
    Retry,
    WatchState,
)
from bgp.model import BgpEvent, Family, PathsHeard, Prefix
from bgp.rib import Rib

T = TypeVar("T")
V = TypeVar("V")

QUIET_SECONDS: Final = 0.05
"""A burst ends when nothing has come for this long …"""
BURST_SECONDS: Final = 1.0
"""… or has lasted this long."""
PREFIXES_PER_PASS: Final = 400
"""Prefixes planned in one go, about 8 ms: a full table that is learned leaves the event loop its turns."""
KEYS_PER_PASS: Final = 64
"""Objects planned in one go, of 100–200 µs each."""
OF_SERVICES: Final = frozenset({Kind.SERVICE, Kind.ENDPOINT_SLICE})


@dataclass(frozen=True, slots=True, kw_only=True)
class Dirt:
    """What has changed since the last pass."""

    keys: frozenset[Key] = frozenset()
    prefixes: frozenset[Prefix] = frozenset()
    heard_at: Mapping[Prefix, float | None] = field(default_factory=dict)
    """Since when those of them wait that a peer has told of (monotonic seconds); None: it was something else."""
    asked_at: float | None = None
    """Since when the Service or its endpoints wait that have waited longest, if there are any among the keys."""
    interfaces: bool = False
    gateways: bool = False
    kernel: bool = False
    """The kernel's routes may not be what we believe."""
    more: bool = False
    """Other keys or prefixes, dirty as long as these, are still to come."""


class Inbox:
    """World, Rib and interfaces as they are now, and what of them the planner has not seen yet."""

    def __init__(self, *, world: World, rib: Rib, clock: Callable[[], float]) -> None:
        self.world = world
        self.rib = rib
        self.damper = Damper()
        self.interfaces: tuple[Interface, ...] = ()
        self.gateways: tuple[Gateway, ...] = ()
        self.not_forwarded: frozenset[Family] = frozenset()
        self.drain_ordered: str | None = None
        """The text of `bgpilot drain`."""
        self.changed_at: float | None = None
        """Monotonic second when an object of the cluster last was another one than before."""
        self._clock = clock
        self._keys: dict[Key, float] = {}
        self._prefixes: dict[Prefix, float | None] = {}
        """Since when they are dirty; of prefixes None: because of something else than what a peer told."""
        self._interfaces_changed = False
        self._gateways_changed = False
        self._kernel_drifted = False
        self._signal = asyncio.Event()
        self._left_over = False
        self._last_put_at = float("-inf")
        self._last_take_at = float("-inf")

    def put(self, change: Change) -> None:
        """Take `change` into the picture and wake the loop. Never blocks; cost is that of the change."""
        match change:
            case Applied(key=key, record=EndpointSlice() as heard):
                self._apply(Applied(key, self._damped(key, heard)))
            case Listed() | Applied() | Gone() | Malformed() | WatchState():
                if isinstance(change, Listed) and change.kind is Kind.ENDPOINT_SLICE:
                    self.damper.forget_all()
                elif isinstance(change, Gone):
                    self._forget(change.key)
                self._apply(change)
            case InterfacesChanged() | GatewaysChanged() | ForwardingChanged():
                self._of_machine(change)
            case FibDrifted():
                self._kernel_drifted = True
            case DrainOrdered(text=text):
                self.drain_ordered = text
            case Retry():
                pass
            case _:
                self._hear(change)
        self.wake()

    def _hear(self, event: BgpEvent) -> None:
        now = self._clock()
        prefixes = self.rib.apply(event, now)
        if isinstance(event, PathsHeard):
            for prefix in prefixes:
                self._prefixes.setdefault(prefix, now)
        else:
            self.touch(prefixes)

    def _of_machine(self, change: InterfacesChanged | GatewaysChanged | ForwardingChanged) -> None:
        match change:
            case InterfacesChanged(interfaces=interfaces):
                self._interfaces_changed |= interfaces != self.interfaces
                self.interfaces = interfaces
            case GatewaysChanged(gateways=gateways):
                self._gateways_changed |= gateways != self.gateways
                self.gateways = gateways
            case ForwardingChanged(off=off):
                self.not_forwarded = off

    def _damped(self, key: Key, heard: EndpointSlice) -> EndpointSlice:
        shown = self.world.get(key)
        around = self.world.slices_of(heard.namespace, heard.service)
        others = [other for of, other in around.items() if of != key]
        return self.damper.take(key, shown if isinstance(shown, EndpointSlice) else None, heard, self._clock(), others)

    def _forget(self, key: Key) -> None:
        shown = self.world.get(key)
        self.damper.forget(key, shown if isinstance(shown, EndpointSlice) else None, self._clock())

    def _apply(self, change: ClusterChange) -> None:
        if keys := self.world.apply(change):
            self.changed_at = now = self._clock()
            for key in keys:
                self._keys.setdefault(key, now)

    def touch(self, prefixes: Iterable[Prefix]) -> None:
        """These are dirty; a pass is to come that takes some of them."""
        some: dict[Prefix, float | None] = dict.fromkeys(prefixes)
        if self._prefixes:
            self._prefixes.update(some)
        else:
            self._prefixes = some  # not copied: a full table is worth 15 ms
        self._signal_if_more()

    def forget(self) -> None:
        """Everything is planned anew: what was dirty before is dirty no more."""
        self._keys.clear()
        self._prefixes.clear()

    @property
    def _more(self) -> bool:
        due_at = self.next_due_at
        return bool(self._prefixes or self._keys) or (due_at is not None and due_at <= self._clock())

    @property
    def next_due_at(self) -> float | None:
        """When something changes by itself."""
        return min((at for at in (self.rib.next_expiry_at, self.damper.next_at) if at is not None), default=None)

    def _signal_if_more(self) -> None:
        if self._more:
            self._signal.set()

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
        self.touch(self.rib.expire(self._clock()))
        for key, record in self.damper.due(self._clock()):
            self._apply(Applied(key, record))
        self._signal.clear()
        self._last_take_at = self._clock()
        keys, prefixes = _taken(self._keys, KEYS_PER_PASS), _taken(self._prefixes, PREFIXES_PER_PASS)
        self._left_over = self._more
        self._signal_if_more()
        dirt = Dirt(
            keys=frozenset(keys),
            prefixes=frozenset(prefixes),
            heard_at=prefixes,
            asked_at=min((at for key, at in keys.items() if key.kind in OF_SERVICES), default=None),
            interfaces=self._interfaces_changed,
            gateways=self._gateways_changed,
            kernel=self._kernel_drifted,
            more=self._left_over,
        )
        self._interfaces_changed = self._gateways_changed = self._kernel_drifted = False
        return dirt

    async def _settle(self) -> None:
        """The first change after quiet goes at once; what follows closely waits for the burst's end."""
        began_at = self._clock()
        if began_at - self._last_take_at >= QUIET_SECONDS or self._prefixes or self._left_over:
            return
        while (now := self._clock()) - began_at < BURST_SECONDS:
            rest = self._last_put_at + QUIET_SECONDS - now
            if rest <= 0:
                return
            await asyncio.sleep(min(rest, began_at + BURST_SECONDS - now))


def _taken(waiting: dict[T, V], most: int) -> dict[T, V]:
    """Up to so many of those that have waited longest; they wait no more."""
    taken = dict(islice(waiting.items(), most))
    for thing in taken:
        del waiting[thing]
    return taken
