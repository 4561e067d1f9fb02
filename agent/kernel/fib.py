"""Driver of the kernel's routes: what is wanted against what is there, add and replace first, remove last.

The kernel is the owner of the state; `actual` is what the last dump and our own writes since say it holds. The driver
refuses to touch what is not ours, to write before it has read, and to conclude anything from a dump taken while it
writes. It does not decide when to read again or try again: its caller does, by `next_retry_at` and drift events.
"""

from __future__ import annotations

import asyncio
import errno
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from types import MappingProxyType
from typing import Final, Literal, TypeVar

from agent.kernel.netlink import DISCARD_TABLE, FORWARDED, MAIN_TABLE
from agent.kernel.partly import Refused, write_partly
from agent.kernel.table import DumpFailedError, Holder, KernelError, RouteChange, RouteTable, fulfils, narrows
from agent.model import FibKey, FibRoute, Problem, RouteType

RETRY_FIRST_SECONDS: Final = 1.0
RETRY_MAX_SECONDS: Final = 60.0
ODD_REPORTED_MAX: Final = 50
KEYS_PER_TURN: Final = 512
"""Keys compared before the event loop gets its turn again: 1–3 ms."""

_T = TypeVar("_T")
Operation = Literal["add", "replace", "delete"]
Result = Literal["ok", "failed", "conflict"]
DriftKind = Literal["missing", "changed", "unexpected"]


@dataclass(frozen=True, slots=True)
class FailingRoute:
    """What the kernel refused, and when it is tried again (monotonic seconds)."""

    route: FibRoute
    error: str
    """The kernel's own words."""
    errno: int
    since: float
    attempts: int
    retry_at: float


class Fib:
    """A pass is `install`, then (the neighbours were told) `prune`; `resync` first if the kernel may have changed."""

    def __init__(self, kernel: RouteTable, *, clock: Callable[[], float]) -> None:
        self.drift: Counter[str] = Counter()
        """By DriftKind."""
        self.last_drift: tuple[float, Mapping[str, int]] | None = None
        """When some was last found (monotonic seconds), and how much of each DriftKind."""
        self.operations: Counter[tuple[str, str]] = Counter()
        """By Operation and Result."""
        self.read_error: str | None = None
        """Why the last dump failed; until the first one succeeds nothing is written."""
        self._kernel = kernel
        self._clock = clock
        self._busy = asyncio.Lock()
        self.read_failures = 0
        """How often a dump failed."""
        self.counts: Counter[tuple[int, int]] = Counter()
        """How many of `actual` there are, by IP version and number of the kernel's table."""
        self._actual: dict[FibKey, FibRoute] = {}
        self._foreign: tuple[Problem, ...] = ()
        self._odd: dict[FibKey, Problem] = {}
        self._trouble: dict[FibKey, FailingRoute] = {}
        self._conflicts: dict[FibKey, str] = {}
        self._adopted: set[FibKey] = set()
        self._to_install: set[FibKey] = set()
        self._to_prune: set[FibKey] = set()
        self._read = False
        self._begun = False
        """Something may have been written."""
        self._read_attempts = 0
        self._read_at = 0.0
        self._all_due = False
        self._missed_install = False
        self._missed_prune = False
        kernel.concern(lambda key: key in self._actual or key in self._trouble or key in self._odd)

    @property
    def actual(self) -> Mapping[FibKey, FibRoute]:
        """A live view."""
        return MappingProxyType(self._actual)

    def holds(self, wanted: FibRoute) -> bool:
        """There is nothing to write for this route."""
        actual = self._actual.get(wanted.key)
        return actual is not None and fulfils(wanted, actual)

    @property
    def foreign(self) -> tuple[Problem, ...]:
        """Routes and rules with our protocol number that are not ours, as of the last dump."""
        return (*self._foreign, *islice(self._odd.values(), ODD_REPORTED_MAX))

    @property
    def conflicts(self) -> Mapping[FibKey, str]:
        """Keys that another protocol holds, and who: a live view. They are retried like those that fail."""
        return MappingProxyType(self._conflicts)

    @property
    def failing(self) -> Mapping[FibKey, FailingRoute]:
        """Without conflicts."""
        return {key: trouble for key, trouble in self._trouble.items() if key not in self._conflicts}

    def is_refused(self, key: FibKey) -> bool:
        """The last attempt at it failed, or met another protocol's route."""
        return key in self._trouble

    @property
    def adopted(self) -> frozenset[FibKey]:
        """Found at start and claimed by no plan since: what a sweep removes."""
        return frozenset(self._adopted)

    @property
    def next_retry_at(self) -> float | None:
        """When something is due again; in the past when it is due now."""
        times = [trouble.retry_at for trouble in self._trouble.values()]
        if self.read_error is not None:
            times.append(self._read_at)
        if self._to_install:
            times.append(self._clock())
        if self._all_due and self._trouble:
            times.append(self._clock())
        return min(times, default=None)

    @property
    def is_read(self) -> bool:
        """The table was read once."""
        return self._read

    async def read(self) -> None:
        """Read the table, if it never was or the last time failed, and that is due."""
        async with self._busy:
            await self._readable()

    async def resync(self) -> None:
        """Read the table and compare. Before the first `install` all that is ours is adopted; after it differences are
        drift.

        Drifted keys are looked at by the next `install` and `prune`, whatever is dirty there, and what fails is due at
        once: a changed kernel may now accept it.
        """
        async with self._busy:
            await self._resync()

    async def install(self, wanted: Mapping[FibKey, FibRoute], dirty: Iterable[FibKey] | None) -> None:
        """Add and replace; nothing is removed. `dirty` None: everything."""
        async with self._busy:
            if not await self._readable():
                self._missed_install = True
                return
            self._begun = True
            now = self._clock()
            if dirty is None or self._missed_install:
                keys = [*wanted, *(key for key in self._trouble if key not in wanted)]
            else:
                due = [key for key, trouble in self._trouble.items() if self._all_due or trouble.retry_at <= now]
                keys = list({*dirty, *self._to_install, *due})
            all_due, self._all_due, self._missed_install = self._all_due, False, False
            self._to_install.clear()
            for part in parts(keys):
                changes = [self._to_add(key, wanted.get(key), now, all_due=all_due) for key in part]
                await self._write([change for change in changes if change is not None])
                await asyncio.sleep(0)

    async def prune(
        self,
        wanted: Mapping[FibKey, FibRoute],
        dirty: Iterable[FibKey] | None,
        *,
        hold: Callable[[FibKey], bool],
        sweep: bool,
    ) -> None:
        """Remove what is ours and not wanted. `dirty` None: everything.

        A key stays while `hold(key)` (it is still announced to somebody), and each prune looks at it again. What was
        adopted at start and never claimed by a plan stays until `sweep`; so do next hops of an adopted route that are
        not wanted yet (`narrow`).
        """
        async with self._busy:
            if not await self._readable():
                self._missed_prune = True
                return
            now = self._clock()
            if dirty is None or self._missed_prune:
                keys = list(self._actual)
            else:
                keys = list({*dirty, *self._to_prune, *(self._adopted if sweep else ())})
            self._missed_prune = False
            self._to_prune.clear()
            if sweep:
                self.narrow(wanted)
                self._adopted.clear()
            for part in parts(keys):
                unwanted = [(key, self._actual[key]) for key in part if key in self._actual and key not in wanted]
                changes = [
                    RouteChange(route, None) for key, route in unwanted if not self._stays(key, route, hold, now)
                ]
                await self._write(changes)
                await asyncio.sleep(0)

    def narrow(self, wanted: Mapping[FibKey, FibRoute]) -> None:
        """The next `install` takes next hops that are not wanted from adopted routes that are, too."""
        claimed = self._adopted & wanted.keys()
        self._to_install |= claimed
        self._adopted -= claimed

    def _to_add(self, key: FibKey, route: FibRoute | None, now: float, *, all_due: bool) -> RouteChange | None:
        actual = self._actual.get(key)
        if route is None:
            if actual is None:
                self._forget_trouble(key)
            return None
        if self._adopted:
            if key in self._adopted and actual is not None and narrows(route, actual):
                return None  # the other next hops may be claimed by peers that have not spoken yet
            self._adopted.discard(key)
        if actual is not None and fulfils(route, actual):
            self._forget_trouble(key)
            return None
        trouble = self._trouble.get(key) if self._trouble else None
        if trouble is not None and trouble.route == route and trouble.retry_at > now and not all_due:
            return None
        if actual is None and key in self._odd:
            actual = FibRoute(key.prefix, type=RouteType.ODD, metric=key.metric)
        return RouteChange(actual, route)

    def _stays(self, key: FibKey, route: FibRoute, hold: Callable[[FibKey], bool], now: float) -> bool:
        if key in self._adopted:
            return True  # the sweep looks at all of these
        trouble = self._trouble.get(key)
        if hold(key):
            self._forget_trouble(key)  # there is nothing to retry before it is let go
        elif trouble is None or trouble.route != route or trouble.retry_at <= now:
            return False
        self._to_prune.add(key)
        return True

    async def _write(self, changes: Sequence[RouteChange]) -> None:
        failed = await self._kernel.write(changes)
        lost: list[RouteChange] = []
        refused: list[Refused] = []
        for change in changes:
            error = failed.get(change.key) if failed else None
            if error is None:
                self._done(change)
            elif change.old is not None and change.new is not None and error.errno == errno.ENOENT:
                self._gone(change.key)
                lost.append(RouteChange(None, change.new))
            else:
                refused.append(Refused(change, error))
        if refused:
            await self._refused(refused)
        if lost:  # what was to be replaced had gone unseen: once more as an addition, which cannot end here again
            await self._write(lost)

    def _done(self, change: RouteChange) -> None:
        key = change.key
        self._gone(key)
        if change.new is not None:
            self._there(key, change.new)
        self._forget_trouble(key)
        self.operations[_operation(change), "ok"] += 1

    def _there(self, key: FibKey, route: FibRoute) -> None:
        """Where none is believed to be."""
        self._actual[key] = route
        self.counts[_place(route)] += 1

    def _not_there(self, key: FibKey) -> None:
        if (route := self._actual.pop(key, None)) is not None:
            self.counts[_place(route)] -= 1

    def _gone(self, key: FibKey) -> None:
        self._not_there(key)
        if self._odd:
            self._odd.pop(key, None)

    async def _refused(self, refused: Iterable[Refused]) -> None:
        refused = await write_partly(self._kernel.write, refused)
        taken = {change.key for change, error, _ in refused if change.new is not None and error.errno == errno.EEXIST}
        holders: Mapping[FibKey, Holder] = {}
        if taken:
            try:
                holders = await self._kernel.holders(taken)
            except DumpFailedError as failure:
                holders = dict.fromkeys(taken, Holder(f"unknown ({failure})"))
        for change, error, there in refused:
            holder = holders.get(change.key)
            if there is not None:
                self._gone(change.key)
                self._there(change.key, there)
            if change.key in taken:
                self._not_there(change.key)
            if holder is not None and holder.route is not None:  # ours after all: next time it is a replacement
                self._not_there(change.key)
                self._there(change.key, holder.route)
                if change.new is not None and fulfils(change.new, holder.route):
                    self._done(change)
                    continue
            elif holder is not None:
                self._conflicts[change.key] = holder.name
            self._failed(change, error, conflict=holder is not None and holder.route is None)

    def _failed(self, change: RouteChange, error: KernelError, *, conflict: bool) -> None:
        route = change.new or change.old
        if route is None:
            raise ValueError("a change of nothing into nothing")
        if change.new is None:
            self._to_prune.add(change.key)
        if not conflict:
            self._conflicts.pop(change.key, None)
        before = self._trouble.get(change.key)
        attempts = before.attempts + 1 if before is not None else 1
        now = self._clock()
        self._trouble[change.key] = FailingRoute(
            route=route,
            error=error.text,
            errno=error.errno,
            since=before.since if before is not None else now,
            attempts=attempts,
            retry_at=now + _backoff(attempts),
        )
        self.operations[_operation(change), "conflict" if conflict else "failed"] += 1

    def _forget_trouble(self, key: FibKey) -> None:
        if self._trouble:  # seldom: spares the hash of a prefix, which is not for nothing in bulk
            self._trouble.pop(key, None)
            self._conflicts.pop(key, None)

    async def _readable(self) -> bool:
        """Whether the table was read once; a read that failed is tried again when it is due."""
        if (not self._read or self.read_error is not None) and self._read_at <= self._clock():
            await self._resync()
        return self._read

    async def _resync(self) -> None:
        try:
            dump = await self._kernel.dump()
        except DumpFailedError as error:
            self._read_attempts += 1
            self.read_failures += 1
            self._read_at = self._clock() + _backoff(self._read_attempts)
            self.read_error = str(error)
            return
        self.read_error, self._read_attempts = None, 0
        self._foreign, self._odd = dump.foreign, dict(dump.odd)
        drift = Counter(self.drift)
        actual: dict[FibKey, FibRoute] = {}
        counts = Counter[tuple[int, int]]()
        for part in parts(list(dump.routes)):
            for key in part:
                found = dump.routes[key]
                believed = self._actual.get(key)
                alike = believed is not None and fulfils(believed, found)
                actual[key] = there = believed if believed is not None and alike else found
                counts[_place(there)] += 1
                if self._begun and not alike:
                    self._drifted(key, "changed" if believed is not None else "unexpected")
            await asyncio.sleep(0)
        before, self._actual, self.counts = self._actual, actual, counts
        while before:  # piece by piece: to let go of a full table takes 20 ms
            for key in list(islice(before, KEYS_PER_TURN)):
                del before[key]
                if self._begun and key not in actual:
                    self._adopted.discard(key)
                    self._drifted(key, "changed" if key in self._odd else "missing")
            await asyncio.sleep(0)
        if found_now := self.drift - drift:
            self.last_drift = self._clock(), found_now
        if not self._begun:
            self._adopted = set(actual)
        self._read = self._all_due = True

    def _drifted(self, key: FibKey, kind: DriftKind) -> None:
        self.drift[kind] += 1
        self._to_install.add(key)
        self._to_prune.add(key)


def parts(things: list[_T], size: int = KEYS_PER_TURN) -> Iterator[list[_T]]:
    return (things[at : at + size] for at in range(0, len(things), size))


def _place(route: FibRoute) -> tuple[int, int]:
    return route.prefix.version, DISCARD_TABLE if route.type in FORWARDED else MAIN_TABLE


def _operation(change: RouteChange) -> Operation:
    if change.new is None:
        return "delete"
    return "add" if change.old is None else "replace"


def _backoff(attempts: int) -> float:
    return float(min(RETRY_MAX_SECONDS, RETRY_FIRST_SECONDS * 2 ** min(attempts - 1, 16)))
