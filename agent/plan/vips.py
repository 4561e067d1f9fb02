"""The services' addresses that routes from peers must not take: what is known of the service range without being told.

An index and the choice of what goes into it. Which of these addresses are announced is decided in `agent.plan.adverts`.
"""

from __future__ import annotations

from typing import NamedTuple

from agent.model import Key, Service
from agent.plan.identity import Announcing
from agent.plan.prefixes import PrefixIndex, host, inside_any
from bgp.model import Prefix


class Known(NamedTuple):
    """Addresses of one service that peers must not give us routes for."""

    unranged: tuple[Prefix, ...] = ()
    """ClusterIPs outside every known service range: a route for anything around them may be the service range's. (Only
    these, since users cannot choose them: whoever may create a Service must not be able to void a wide route.)"""
    exact: tuple[Prefix, ...] = ()
    """Other addresses: their host routes only."""


def known_addresses(announcing: Announcing, service: Service) -> Known:
    cluster = map(host, service.cluster_ips)
    allowed = (
        prefix for prefix in map(host, service.external_ips) if inside_any(prefix, announcing.allowed_external_ips)
    )
    return Known(
        unranged=tuple(prefix for prefix in cluster if not inside_any(prefix, announcing.service_ranges)),
        exact=tuple(dict.fromkeys([*map(host, service.load_balancer_ips), *allowed])),
    )


class ServiceAddresses:
    """The known addresses of all services, for the question which routes heard are of the service range."""

    __slots__ = ("_exact", "_index", "_known", "_unranged")

    def __init__(self) -> None:
        self._known: dict[Key, Known] = {}
        self._exact: dict[Prefix, int] = {}
        self._unranged: dict[Prefix, int] = {}
        self._index = PrefixIndex()
        """Keys of `_unranged`."""

    def put(self, key: Key, known: Known) -> Known:
        """`known` is all of the service's from now on; answers what came or went."""
        before = self._known.get(key, Known())
        if before == known:
            return Known()
        for prefix in before.exact:
            _count(self._exact, prefix, -1)
        for prefix in known.exact:
            _count(self._exact, prefix, +1)
        for prefix in before.unranged:
            if not _count(self._unranged, prefix, -1):
                self._index.drop(prefix)
        for prefix in known.unranged:
            _count(self._unranged, prefix, +1)
            self._index.put(prefix)
        if any(known):
            self._known[key] = known
        else:
            del self._known[key]
        return Known(_differing(before.unranged, known.unranged), _differing(before.exact, known.exact))

    def forbid(self, prefix: Prefix) -> bool:
        return prefix in self._exact or (prefix.prefixlen > 0 and self._index.holds_any_of(prefix))


def _differing(before: tuple[Prefix, ...], after: tuple[Prefix, ...]) -> tuple[Prefix, ...]:
    return tuple(set(before) ^ set(after))


def _count(table: dict[Prefix, int], prefix: Prefix, change: int) -> int:
    count = table.get(prefix, 0) + change
    if count:
        table[prefix] = count
    else:
        table.pop(prefix, None)
    return count
