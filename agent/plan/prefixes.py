"""An index of prefixes: which of them lie inside a prefix, and which cover it.

Arithmetic only; it knows nothing of what the prefixes stand for. Costs: `put` and `drop` a binary search and a move of
machine words, `covering` one dictionary lookup per prefix length in use, `inside` a binary search and the answer.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator
from ipaddress import IPv4Network, IPv6Network
from typing import TypeAlias

from bgp.model import Address, Prefix

_Place: TypeAlias = tuple[int, int]
"""(network as a number, prefix length): the order in which whatever lies inside a prefix stands right behind it."""


def host(address: Address) -> Prefix:
    # As numbers: given an address object, `ipaddress` prints and parses it again.
    if address.version == 4:
        return IPv4Network((int(address), address.max_prefixlen))
    return IPv6Network((int(address), address.max_prefixlen))


def contains(outer: Prefix, inner: Prefix) -> bool:
    """Equal counts; prefixes of different families contain nothing of each other."""
    if outer.version != inner.version or outer.prefixlen > inner.prefixlen:
        return False
    return (int(outer.network_address) ^ int(inner.network_address)) >> (outer.max_prefixlen - outer.prefixlen) == 0


def inside_any(inner: Prefix, outers: Iterable[Prefix]) -> bool:
    """As `contains`, in one piece: it is asked several times for each prefix heard."""
    if not outers:
        return False
    version, length, network = inner.version, inner.prefixlen, int(inner.network_address)
    for outer in outers:
        if outer.version != version or (shorter := outer.prefixlen) > length:
            continue
        if (int(outer.network_address) ^ network) >> (outer.max_prefixlen - shorter) == 0:
            return True
    return False


def by_family(prefix: Prefix) -> tuple[int, int, int]:
    """Sort key: IPv4 before IPv6, then numeric."""
    return prefix.version, int(prefix.network_address), prefix.prefixlen


def supernets(prefix: Prefix) -> Iterator[Prefix]:
    """Every prefix that covers this one, from itself to the default route."""
    for length in range(prefix.prefixlen, -1, -1):
        yield prefix.supernet(new_prefix=length)


class PrefixIndex:
    """A set of prefixes of both families that answers by containment."""

    __slots__ = ("_by_length", "_order")

    def __init__(self, prefixes: Iterable[Prefix] = ()) -> None:
        self._by_length: dict[int, dict[int, dict[int, Prefix]]] = {4: {}, 6: {}}
        """By version, length and network as a number."""
        self._order: dict[int, list[_Place]] = {4: [], 6: []}
        for prefix in prefixes:
            self.put(prefix)

    def put(self, prefix: Prefix) -> None:
        members = self._by_length[prefix.version].setdefault(prefix.prefixlen, {})
        network = int(prefix.network_address)
        if network not in members:
            members[network] = prefix
            insort(self._order[prefix.version], (network, prefix.prefixlen))

    def drop(self, prefix: Prefix) -> None:
        lengths = self._by_length[prefix.version]
        members = lengths.get(prefix.prefixlen, {})
        if members.pop(int(prefix.network_address), None) is None:
            return
        if not members:
            del lengths[prefix.prefixlen]
        order = self._order[prefix.version]
        del order[bisect_left(order, (int(prefix.network_address), prefix.prefixlen))]

    def covering(self, prefix: Prefix) -> Iterator[Prefix]:
        """Members that hold `prefix`, itself included."""
        network, bits = int(prefix.network_address), prefix.max_prefixlen
        for length, members in self._by_length[prefix.version].items():
            if length <= prefix.prefixlen:
                shift = bits - length
                found = members.get(network >> shift << shift)
                if found is not None:
                    yield found

    def covers(self, prefix: Prefix, *, but_itself: bool = False) -> bool:
        """Whether there is a member that holds `prefix`; with `but_itself` a shorter one."""
        lengths = self._by_length[prefix.version]
        if not lengths:
            return False
        network, most, bits = int(prefix.network_address), prefix.prefixlen - but_itself, prefix.max_prefixlen
        for length, members in lengths.items():
            if length <= most and network >> bits - length << bits - length in members:
                return True
        return False

    def around(self, address: Address) -> Iterator[Prefix]:
        """Members that hold `address`."""
        number, bits = int(address), address.max_prefixlen
        for length, members in self._by_length[address.version].items():
            shift = bits - length
            found = members.get(number >> shift << shift)
            if found is not None:
                yield found

    def inside(self, prefix: Prefix) -> Iterator[Prefix]:
        """Members that lie in `prefix`, itself included, in order."""
        order, network = self._order[prefix.version], int(prefix.network_address)
        if not order:
            return
        start = bisect_left(order, (network, prefix.prefixlen))
        last = network | ((1 << (prefix.max_prefixlen - prefix.prefixlen)) - 1)
        for index in range(start, len(order)):
            found, length = order[index]
            if found > last:
                return
            yield self._by_length[prefix.version][length][found]

    def overlapping(self, prefix: Prefix) -> Iterator[Prefix]:
        yield from self.inside(prefix)
        yield from (wider for wider in self.covering(prefix) if wider != prefix)

    def holds_any_of(self, prefix: Prefix) -> bool:
        return next(self.inside(prefix), None) is not None
