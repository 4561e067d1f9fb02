"""The services' addresses that routes from peers must not take, and those that other nodes may give: what is known of
the service range without being told.

An index and the choice of what goes into it. Which of these addresses are announced is decided in `agent.plan.adverts`.
"""

from __future__ import annotations

from typing import NamedTuple

from agent.model import Key, Service
from agent.plan.identity import Announcing
from agent.plan.prefixes import PrefixIndex, host, inside_any
from bgp.model import Address, Prefix


class Known(NamedTuple):
    """Addresses of one service, as host prefixes: what they say of routes that peers give us."""

    unranged: tuple[Prefix, ...] = ()
    """ClusterIPs outside every known service range: a route for anything around them may be the service range's. (Only
    these, since users cannot choose them: whoever may create a Service must not be able to void a wide route.)"""
    exact: tuple[Prefix, ...] = ()
    """Other addresses: their host routes only."""
    reachable: tuple[Prefix, ...] = ()
    """Those to which other nodes may give host routes, where that is wanted (`serviceRoutes`)."""


def known_addresses(announcing: Announcing, service: Service) -> Known:
    cluster, ranges = [*map(host, service.cluster_ips)], announcing.service_ranges
    allowed = [
        prefix for prefix in map(host, service.external_ips) if inside_any(prefix, announcing.allowed_external_ips)
    ]
    balanced, routers = [*map(host, service.load_balancer_ips)], announcing.router_addresses
    free = (*cluster, *(prefix for prefix in (*balanced, *allowed) if not inside_any(prefix, ranges)))
    return Known(
        unranged=tuple(prefix for prefix in cluster if not inside_any(prefix, ranges)),
        exact=tuple(dict.fromkeys([*balanced, *allowed])),
        reachable=tuple(dict.fromkeys(prefix for prefix in free if prefix.network_address not in routers)),
    )


class ServiceAddresses:
    """The known addresses of all services, for the question which routes heard are of the service range."""

    __slots__ = ("_exact", "_index", "_known", "_reachable", "_unranged")

    def __init__(self) -> None:
        self._known: dict[Key, Known] = {}
        self._exact: dict[Prefix, int] = {}
        self._unranged: dict[Prefix, int] = {}
        self._reachable: dict[Prefix, int] = {}
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
        for prefix in before.reachable:
            _count(self._reachable, prefix, -1)
        for prefix in known.reachable:
            _count(self._reachable, prefix, +1)
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
        return Known(*map(_differing, before, known))

    def reachable(self, prefix: Prefix) -> bool:
        """It is exactly an address of a service that other nodes may have us reach through them."""
        return prefix.prefixlen == prefix.max_prefixlen and prefix in self._reachable

    def forbid(self, prefix: Prefix) -> bool:
        return prefix in self._exact or (prefix.prefixlen > 0 and self._index.holds_any_of(prefix))


class ClusterIPs:
    """Whose ClusterIP an address is: no other service may have it in another class."""

    __slots__ = ("_addresses", "_services")

    def __init__(self) -> None:
        self._addresses: dict[Key, frozenset[Address]] = {}
        self._services: dict[Address, set[Key]] = {}

    def put(self, key: Key, service: Service | None) -> frozenset[Address]:
        """`service` is what `key` is from now on; answers the addresses that came or went."""
        before = self._addresses.get(key, frozenset())
        wanted = frozenset(service.cluster_ips) if service is not None else frozenset[Address]()
        for address in before - wanted:
            self._services[address].discard(key)
            if not self._services[address]:
                del self._services[address]
        for address in wanted - before:
            self._services.setdefault(address, set()).add(key)
        if wanted:
            self._addresses[key] = wanted
        else:
            self._addresses.pop(key, None)
        return before ^ wanted

    def of_another(self, key: Key, address: Address) -> bool:
        holders = self._services.get(address)
        return holders is not None and holders != {key}


def _differing(before: tuple[Prefix, ...], after: tuple[Prefix, ...]) -> tuple[Prefix, ...]:
    return tuple(set(before) ^ set(after))


def _count(table: dict[Prefix, int], prefix: Prefix, change: int) -> int:
    count = table.get(prefix, 0) + change
    if count:
        table[prefix] = count
    else:
        table.pop(prefix, None)
    return count
