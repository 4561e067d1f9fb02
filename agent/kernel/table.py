"""What the driver asks of a routing table: the `RouteTable` protocol and its records. Kernel and fake both fulfil it.

Values and signatures only: nothing here knows netlink, sockets or what is wanted.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple, Protocol

from agent.model import (
    DISCARD_METRIC,
    FibKey,
    FibRoute,
    Problem,
    in_order,
)
from bgp.model import Address, without_zone

WRITTEN_METRICS: Final = frozenset({0, DISCARD_METRIC})
"""Metrics of all routes we ever write. A route with our protocol number and another metric is not ours to touch."""


class RouteChange(NamedTuple):
    """`old` None: create, never over anything that is there. `new` None: delete. Both, of equal keys: replace."""

    old: FibRoute | None
    new: FibRoute | None

    @property
    def key(self) -> FibKey:
        route = self.new or self.old
        if route is None:
            raise ValueError("a change of nothing into nothing")
        return route.key


class KernelError(NamedTuple):
    errno: int
    text: str
    """The kernel's own words (extended acknowledgement), or those of the C library for the number."""


class Holder(NamedTuple):
    """Who holds a key in our table."""

    name: str
    """For people: `protocol 4 (static)`."""
    route: FibRoute | None = None
    """The route, when it is one of ours after all."""


@dataclass(frozen=True, slots=True)
class Dump:
    routes: Mapping[FibKey, FibRoute]
    """Ours: our protocol number, our table, of a shape that we write."""
    foreign: tuple[Problem, ...] = ()
    """Routes with our protocol number that we would never write: reported, never touched."""
    odd: Mapping[FibKey, Problem] = field(default_factory=dict)
    """Such routes that stand where ours would be (same key, none of ours beside): to write ours replaces them, as a
    `RouteChange` whose `old` is of type ODD; else they are not touched either."""


class DumpFailedError(Exception):
    """The table could not be read whole: nothing may be concluded from what was read."""


class RouteTable(Protocol):
    def concern(self, concerns: Callable[[FibKey], bool]) -> None:
        """`concerns(key)` says whether a foreign route that comes or goes at this key matters to us."""

    async def dump(self) -> Dump:
        """Raises DumpFailedError."""

    async def write(self, changes: Sequence[RouteChange]) -> Mapping[FibKey, KernelError]:
        """What was refused, by key; all else is done. A delete of what is not there is done."""

    async def holders(self, keys: Collection[FibKey]) -> Mapping[FibKey, Holder]:
        """Who holds these keys now; keys held by nobody are absent. Raises DumpFailedError."""


def fulfils(wanted: FibRoute, actual: FibRoute) -> bool:
    """Whether there is nothing to write: an interface that was left to the kernel may be any."""
    if wanted == actual:
        return True
    if wanted.type is not actual.type or wanted.extra != actual.extra:
        return False
    if len(wanted.next_hops) != len(actual.next_hops):
        return False
    return all(
        without_zone(ours.gateway) == without_zone(there.gateway) and ours.interface in (0, there.interface)
        for ours, there in zip(in_order(wanted.next_hops), in_order(actual.next_hops), strict=True)
    )


def narrows(wanted: FibRoute, actual: FibRoute) -> bool:
    """Whether to write it would only take next hops away."""
    return wanted.type is actual.type and _gateways(wanted) < _gateways(actual)


def _gateways(route: FibRoute) -> set[tuple[Address, int]]:
    """Link-local ones with their interface, as others have none while they are only wanted."""
    return {(without_zone(hop.gateway), hop.interface if hop.gateway.is_link_local else 0) for hop in route.next_hops}
