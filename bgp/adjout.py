"""Adj-RIBs-Out as tables: per peer what is wanted and what ExaBGP holds of it, and per prefix whether any peer may.

Holds and counts; what is to be sent, and what an answer means, is decided in `bgp.outbox`.

Invariants: `told` counts the prefixes held for sure, `may_hold` those in any table, sure or not; a table that says
nothing is not kept.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

from bgp.model import Address, Family, Prefix, Route


@dataclass(slots=True)
class Table:
    """Both sides of one peer."""

    present: bool = False
    """ExaBGP has this peer."""
    versions: frozenset[int] = frozenset({4, 6})
    """Of IP, of the families that ExaBGP has for this peer: it keeps no route of another one."""
    wanted: dict[Prefix, Route] = field(default_factory=dict)
    held: dict[Prefix, Route | None] = field(default_factory=dict)
    """None: nobody knows what ExaBGP holds, if anything. Written by `Tables.hold` and `Tables.release` only."""
    busy: set[Prefix] = field(default_factory=set)
    """In flight."""
    unsettled: int = 0
    """Keys dirty or in flight."""
    told: dict[int, int] = field(default_factory=lambda: {4: 0, 6: 0})
    """How many prefixes are held for sure, by version of IP."""
    owed: set[Family] = field(default_factory=set)
    """End-of-RIB markers to be sent on the session that is up."""

    def differs(self, prefix: Prefix) -> bool:
        route = self.wanted.get(prefix)
        if route is None:
            return prefix in self.held
        held = self.held.get(prefix)
        return held is not route and held != route

    def prefixes(self) -> AbstractSet[Prefix]:
        """On either side."""
        return self.wanted.keys() | self.held.keys() if self.held else self.wanted.keys()


class Tables:
    def __init__(self) -> None:
        self._tables: dict[Address, Table] = {}
        self._holders: dict[Prefix, int] = {}

    def of(self, peer: Address) -> Table:
        """The peer's table, made when there is none."""
        table = self._tables.get(peer)
        if table is None:
            table = self._tables[peer] = Table()
        return table

    def get(self, peer: Address) -> Table | None:
        return self._tables.get(peer)

    def all(self) -> Iterator[tuple[Address, Table]]:
        """Tables may be dropped meanwhile."""
        return iter(list(self._tables.items()))

    def drop_if_empty(self, peer: Address) -> None:
        table = self._tables.get(peer)
        if table is not None and not (table.present or table.wanted or table.unsettled or table.owed):
            del self._tables[peer]

    def forget_told(self) -> None:
        """Nothing is held by anybody, and no peer is there. At a cost that does not grow with what was held."""
        self._holders = {}
        self._tables = {peer: Table(wanted=table.wanted) for peer, table in self._tables.items() if table.wanted}

    def hold(self, table: Table, prefix: Prefix, route: Route | None) -> None:
        before = table.held.get(prefix)
        if before is None and prefix not in table.held:
            self._holders[prefix] = self._holders.get(prefix, 0) + 1
        if (route is None) is not (before is None):
            table.told[prefix.version] += 1 if before is None else -1
        table.held[prefix] = route

    def doubt(self, prefix: Prefix, peers: Collection[Address]) -> dict[Address, Route | None]:
        """The prefix is in flight: nobody knows any more what these hold of it. What those with any held before."""
        before: dict[Address, Route | None] = {}
        for peer in peers:
            table = self._tables[peer]
            if (held := table.held.get(prefix)) is not None:
                before[peer] = held
                table.told[prefix.version] -= 1
            elif prefix in table.held:
                before[peer] = None
            table.held[prefix] = None
            table.busy.add(prefix)
        if len(before) < len(peers):
            self._holders[prefix] = self._holders.get(prefix, 0) + len(peers) - len(before)
        return before

    def release(self, table: Table, prefix: Prefix) -> None:
        if prefix not in table.held:
            return
        if table.held.pop(prefix) is not None:
            table.told[prefix.version] -= 1
        self._holders[prefix] -= 1
        if not self._holders[prefix]:
            del self._holders[prefix]

    def may_hold(self, prefix: Prefix) -> bool:
        return prefix in self._holders
