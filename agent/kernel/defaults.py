"""Default routes as the kernel tells them (rtnetlink, RFC 3549), and which of their next hops are in use.

Pure: bytes in, records out; time is an argument. It takes every shape of next hop that a default route of others may
have, also those that `agent.kernel.netlink` cannot write. Anything but a unicast default route of table main that is
not ours is no answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Final, NamedTuple

from agent.kernel.netlink import (
    ADDRESS_BYTES,
    AF_INET,
    RTA_GATEWAY,
    RTA_MULTIPATH,
    RTA_OIF,
    RTA_PRIORITY,
    RTA_TABLE,
    RTMSG,
    MalformedError,
    attributes_of,
    hops_in,
    number_in,
)
from agent.model import Gateway
from bgp.model import Address, Family

GONE_SECONDS: Final = 1.5
"""A next hop that is missing counts for so long; a reading that may have missed it is made again before."""
_RTA_VIA, _RTA_NH_ID = 18, 30
_RTN_UNICAST: Final = 1
_RTM_F_CLONED: Final = 0x200
_RTNH_F_DEAD: Final = 1
"""The interface is administratively down: the kernel does not use this next hop, and says so with the route."""
_DESTINATION_LENGTH: Final = 1
"""Offset in a route message: so cheap is it to see that a route is no default route."""


class Hop(NamedTuple):
    gateway: Address | None
    """None: the route leads to whoever is on the link."""
    interface: int
    dead: bool


@dataclass(frozen=True, slots=True)
class DefaultRoute:
    family: Family
    metric: int
    hops: tuple[Hop, ...]
    of_object: bool
    """It has a next-hop object, which may change without a word about the route."""


def decode_default(body: bytes, *, table: int, own_protocol: int) -> DefaultRoute | None:
    """The kernel (6.18) spells next hops out and names their object besides, unless nexthop_compat_mode is off."""
    if len(body) < RTMSG.size:
        raise MalformedError("a route message shorter than its header")
    if body[_DESTINATION_LENGTH] or body[0] not in ADDRESS_BYTES:
        return None
    family, _length, source, _tos, small_table, protocol, _scope, kind, flags = RTMSG.unpack_from(body)
    if source or protocol == own_protocol or kind != _RTN_UNICAST or flags & _RTM_F_CLONED:
        return None
    found = attributes_of(body, RTMSG.size)
    if (number_in(found, RTA_TABLE) or small_table) != table:
        return None
    return DefaultRoute(
        Family.IPV4 if family == AF_INET else Family.IPV6,
        number_in(found, RTA_PRIORITY),
        tuple(_hops(found, flags)),
        _RTA_NH_ID in found,
    )


def gateways_of(routes: Iterable[DefaultRoute]) -> tuple[Gateway, ...]:
    """Of each family those of the routes with the lowest metric that can be used at all."""
    usable = [route for route in routes if any(not hop.dead for hop in route.hops)]
    best = {family: min((r.metric for r in usable if r.family is family), default=None) for family in Family}
    return _in_order(
        Gateway(route.family, hop.gateway, hop.interface)
        for route in usable
        if route.metric == best[route.family]
        for hop in route.hops
        if hop.gateway is not None and not hop.dead
    )


class Lingering:
    """The next hops that are there, and those that were until a moment ago.

    A DHCP client that renews its lease may remove a default route and add it again: nobody should give a router up for
    that. One that is new counts at once.
    """

    __slots__ = ("_gone_at", "_there", "next_gone_at")

    def __init__(self) -> None:
        self.next_gone_at: float | None = None
        """When the answer is another one if nothing changes until then."""
        self._there: frozenset[Gateway] = frozenset()
        self._gone_at: dict[Gateway, float] = {}

    def see(self, there: Iterable[Gateway], now: float) -> tuple[Gateway, ...]:
        known = self._there | self._gone_at.keys()
        self._there = frozenset(there)
        missing = {one: self._gone_at.get(one, now + GONE_SECONDS) for one in known - self._there}
        self._gone_at = {one: gone_at for one, gone_at in missing.items() if gone_at > now}
        self.next_gone_at = min(self._gone_at.values(), default=None)
        return _in_order(self._there | self._gone_at.keys())

    def lose_link(self, interface: int) -> bool:
        """There is no such interface any more: nothing on it comes back. False: nothing was on it."""
        lost = {one for one in self._there | self._gone_at.keys() if one.interface == interface}
        self._there -= lost
        self._gone_at = {one: gone_at for one, gone_at in self._gone_at.items() if one not in lost}
        return bool(lost)


def _in_order(gateways: Iterable[Gateway]) -> tuple[Gateway, ...]:
    """Each once."""
    return tuple(sorted(set(gateways), key=lambda g: (g.family, g.address.version, int(g.address), g.interface)))


def _hops(found: dict[int, bytes], flags: int) -> Iterator[Hop]:
    several = found.get(RTA_MULTIPATH)
    if several is None:
        yield Hop(_gateway(found), number_in(found, RTA_OIF), bool(flags & _RTNH_F_DEAD))
        return
    for hop in hops_in(several):
        yield Hop(_gateway(hop.attributes), hop.interface, bool(hop.flags & _RTNH_F_DEAD))


def _gateway(found: dict[int, bytes]) -> Address | None:
    """RTA_VIA has the family first: an IPv6 router of an IPv4 route."""
    value = found.get(RTA_GATEWAY)
    if value is None:
        value = found.get(_RTA_VIA, b"")[2:]
    match len(value):
        case 0:
            return None
        case 4:
            return IPv4Address(value)
        case 16:
            return IPv6Address(value)
        case size:
            raise MalformedError(f"a gateway of {size} bytes")
