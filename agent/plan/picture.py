"""What planning looks at: the picture of the world, and the note of what in it has changed.

Only names what is needed of the cluster's and the peers' tables, as protocols. Nothing here decides.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from agent.model import (
    EndpointSlice,
    Gateway,
    Interface,
    Key,
    Kind,
    Record,
)
from agent.plan.leaving import HERE, Departure
from agent.plan.model import Identity
from agent.plan.sessions import SessionClaim
from agent.plan.topology import Area
from bgp.model import Address, Path, Prefix, SessionUp

R = TypeVar("R", bound=Record)


class World(Protocol):
    """The cluster's objects as last heard of."""

    def records(self, kind: Kind) -> Mapping[Key, Record]: ...

    def get(self, key: Key) -> Record | None: ...

    def slices_of(self, namespace: str, service: str) -> Mapping[Key, EndpointSlice]: ...


class Rib(Protocol):
    """Adj-RIBs-In: what peers said, and on which session.

    When what is known of a peer changes, all prefixes heard from it are dirty.
    """

    def paths(self, prefix: Prefix) -> Mapping[Address, Path]:
        """By peer; empty when nobody told of the prefix."""

    def paths_to(self, prefix: Prefix) -> tuple[Path, ...]:
        """The same, one of each peer; the same object for all prefixes of an UPDATE."""

    def prefixes(self) -> Collection[Prefix]: ...

    def heard_from(self, peer: Address) -> Collection[Prefix]: ...

    def heard_on(self, peer: Address) -> SessionUp | None: ...

    def is_away(self, peer: Address) -> bool: ...


@dataclass(frozen=True, slots=True)
class Picture:
    """All a plan depends on. `world` and `rib` are the live tables: they are read while a plan is made only."""

    node_name: str
    world: World
    rib: Rib
    interfaces: tuple[Interface, ...] = ()
    gateways: tuple[Gateway, ...] = ()
    small: frozenset[Area] = frozenset()
    """`NodePlan.standpoint.small` of the plan before: what the hysteresis of mesh mode Auto remembers."""
    mesh: Mapping[str, SessionClaim] = field(default_factory=dict)
    """`NodePlan.mesh` of the plan before: sessions that the topology no longer wants stay …"""
    identity: Identity | None = None
    """`NodePlan.identity` of the plan before: an AS that nobody names any more stays …"""
    over: frozenset[str] = frozenset()
    """… but for those with these nodes, or this node's own."""
    written: Mapping[str, Address] = field(default_factory=dict)
    """`NodePlan.written` of the plan before: a router's address stays while what is on the Node now is none."""
    departure: Departure = HERE


@dataclass(frozen=True, slots=True, kw_only=True)
class Dirty:
    """What may differ from the picture before. Naming too much costs time; naming too little is a wrong plan."""

    keys: frozenset[Key] = frozenset()
    prefixes: frozenset[Prefix] = frozenset()
    """Of which some peer's path came, changed or went."""
    interfaces: bool = False
    gateways: bool = False
    everything: bool = False


def every(world: World, kind: Kind, record: type[R]) -> Iterator[tuple[Key, R]]:
    """The records of one kind, with their type."""
    for key, found in world.records(kind).items():
        if isinstance(found, record):
            yield key, found


def one(world: World, key: Key, record: type[R]) -> R | None:
    found = world.get(key)
    return found if isinstance(found, record) else None
