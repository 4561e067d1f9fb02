"""Routes of which the kernel refuses some next hops: they are written with the others.

The kernel takes a route with all its next hops or not at all, and does not say which of them it means (6.18): that is
found by leaving them out. Routes that have the same next hops are asked about once. Nothing but errors that speak of a
next hop is a reason to try; what else is wrong with a route stays wrong with fewer of them.
"""

from __future__ import annotations

import errno
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Final, NamedTuple

from agent.kernel.table import KernelError, RouteChange
from agent.model import FibKey, FibRoute, NextHop, in_order
from bgp.model import without_zone

OF_A_NEXT_HOP: Final = frozenset(
    {errno.EINVAL, errno.ENODEV, errno.ENETDOWN, errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EADDRNOTAVAIL}
)
Write = Callable[[Sequence[RouteChange]], Awaitable[Mapping[FibKey, KernelError]]]


class Refused(NamedTuple):
    change: RouteChange
    error: KernelError
    """With `there` those of the next hops that are left out, by name."""
    there: FibRoute | None = None
    """What the kernel has instead, with fewer next hops."""


class _Found(NamedTuple):
    hops: tuple[NextHop, ...]
    """Those that the kernel takes together; empty: none."""
    error: KernelError


async def write_partly(write: Write, refused: Iterable[Refused]) -> list[Refused]:
    """What became of each: `there` when some of its next hops were written, or are there already."""
    results: list[Refused] = []
    alike: dict[tuple[object, ...], list[Refused]] = {}
    for one in refused:
        new = one.change.new
        if new is None or len(new.next_hops) < 2 or one.error.errno not in OF_A_NEXT_HOP:
            results.append(one)
        else:
            alike.setdefault((new.prefix.version, _hops_there(one.change), new.next_hops), []).append(one)
    for group in alike.values():
        results += await _write_group(write, group)
    return results


async def _write_group(write: Write, group: Sequence[Refused]) -> list[Refused]:
    results: list[Refused] = []
    for number, first in enumerate(group):
        found = await _find(write, first)
        if found.error.errno not in OF_A_NEXT_HOP:  # of this route alone: ask about the next one
            results.append(Refused(first.change, found.error))
            continue
        if not found.hops:
            return [*results, *group[number:]]
        results.append(Refused(first.change, found.error, _with(first.change, found.hops)))
        rest = [RouteChange(one.change.old, _with(one.change, found.hops)) for one in group[number + 1 :]]
        failed = await write([change for change in rest if change.old != change.new])
        for one in group[number + 1 :]:
            error = failed.get(one.change.key)
            there = _with(one.change, found.hops) if error is None else None
            results.append(Refused(one.change, error or found.error, there))
        break
    return results


async def _find(write: Write, refused: Refused) -> _Found:
    """Write as many as the kernel takes. A route that is there loses no next hop by it that is still wanted, but where
    several new ones are refused at once.
    """
    change, error = refused.change, refused.error
    hops = wanted = change.new.next_hops if change.new is not None else ()
    there = _hops_there(change)
    grown = None
    if there and all(any(_same(hop, other) for hop in hops) for other in there):
        missing = [hop for hop in hops if not any(_same(hop, other) for other in there)]
        grown = await _grow(write, change, there, missing)
        if len(grown.hops) != len(there):
            return grown
        hops = tuple(hop for hop in hops if hop not in missing)  # it may be one of these by now
    for hop in hops:
        rest = tuple(other for other in wanted if other != hop)
        fault = await _try(write, change.old, _with(change, rest))
        if fault is None:
            return _Found(rest, _named(hop, error))
        if fault.errno not in OF_A_NEXT_HOP:
            return _Found((), fault)
    if grown is not None or len(wanted) == 2:
        return grown or _Found((), error)
    return await _grow(write, change, (), hops)


async def _grow(write: Write, change: RouteChange, base: tuple[NextHop, ...], more: Iterable[NextHop]) -> _Found:
    old, faults = change.old, []
    for hop in more:
        new = _with(change, (*base, hop))
        fault = await _try(write, old, new)
        if fault is None:
            old, base = new, (*base, hop)
        elif fault.errno not in OF_A_NEXT_HOP and old is change.old:
            return _Found((), fault)
        else:
            faults.append(_named(hop, fault))
    if not faults:  # all of them are there by now
        return _Found(base, KernelError(errno.EINVAL, "refused before, taken one by one"))
    return _Found(base, KernelError(faults[0].errno, "; ".join(fault.text for fault in faults)))


async def _try(write: Write, old: FibRoute | None, new: FibRoute) -> KernelError | None:
    return (await write([RouteChange(old, new)])).get(new.key)


def _with(change: RouteChange, hops: Iterable[NextHop]) -> FibRoute:
    if change.new is None:
        raise ValueError("a removal has no next hops")
    return replace(change.new, next_hops=in_order(tuple(hops)))


def _hops_there(change: RouteChange) -> tuple[NextHop, ...]:
    """Those that need not be written: none of a route with what we never write."""
    return change.old.next_hops if change.old is not None and not change.old.extra else ()


def _same(wanted: NextHop, there: NextHop) -> bool:
    return without_zone(wanted.gateway) == without_zone(there.gateway) and wanted.interface in (0, there.interface)


def _named(hop: NextHop, error: KernelError) -> KernelError:
    return KernelError(error.errno, f"{hop.gateway}: {error.text}")
