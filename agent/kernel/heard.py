"""What the kernel says of routes (rtnetlink, RFC 3549): bytes to records.

Pure: bytes in, records out. A route of a shape that `agent.kernel.netlink` cannot write is told with its `oddity`, and
never guessed into one of ours. Bytes of another length or content than promised raise MalformedError; every loop
consumes at least four bytes a turn.
"""

from __future__ import annotations

from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Final, NamedTuple

from agent.kernel.extras import extras_of
from agent.kernel.netlink import (
    ADDRESS_BYTES,
    AF_INET,
    AF_INET6,
    DEFAULT_METRIC,
    DISCARD_TABLE,
    FORWARDED,
    NLMSG_DONE,
    NLMSGHDR,
    RTA_DST,
    RTA_GATEWAY,
    RTA_MULTIPATH,
    RTA_OIF,
    RTA_PRIORITY,
    RTA_TABLE,
    RTA_VIA,
    RTATTR,
    RTMSG,
    S32,
    TYPE_NUMBERS,
    U16,
    MalformedError,
    Message,
    attributes_of,
    hops_in,
    number_in,
)
from agent.model import (
    FibKey,
    FibRoute,
    NextHop,
    RouteType,
    in_order,
)
from bgp.model import Address, Prefix

NLM_F_CAPPED: Final = 0x100
NLM_F_ACK_TLVS: Final = 0x200
KINDS_REMEMBERED_MAX: Final = 4096
"""Route messages remembered without their address: one for each set of next hops, type, metric and prefix length."""
_RTA_ENCAP_TYPE, _RTA_ENCAP, _RTA_NH_ID = 21, 22, 30
_NLMSGERR_ATTR_MSG: Final = 1
_RTM_F_CLONED: Final = 0x200
_TYPES: Final = {number: kind for kind, number in TYPE_NUMBERS.items()}
_IN_DISCARD_TABLE: Final = {plain: kind for kind, plain in FORWARDED.items()}
_TYPE_NAMES: Final = {2: "local", 3: "broadcast", 4: "anycast", 5: "multicast", 8: "prohibit", 9: "throw", 10: "nat"}
_DST_HEADER: Final = {size: RTATTR.pack(4 + size, RTA_DST) for size in ADDRESS_BYTES.values()}


def decode_error(message: Message) -> tuple[int, str]:
    """The errno (0: an ACK) and the kernel's words, "" if it has none. For NLMSG_ERROR and a dump's NLMSG_DONE."""
    if len(message.body) < S32.size:
        raise MalformedError("an error without a number")
    number = -S32.unpack_from(message.body)[0]
    if message.type == NLMSG_DONE:
        at = S32.size
    elif len(message.body) < S32.size + NLMSGHDR.size:
        raise MalformedError("an error that does not name the request")
    elif message.flags & NLM_F_CAPPED:
        at = S32.size + NLMSGHDR.size
    else:
        at = S32.size + ((NLMSGHDR.unpack_from(message.body, S32.size)[0] + 3) & ~3)
    if not message.flags & NLM_F_ACK_TLVS:
        return number, ""
    said = attributes_of(message.body, at).get(_NLMSGERR_ATTR_MSG, b"")
    return number, said.rstrip(b"\0").decode("utf-8", "replace")


class Heard(NamedTuple):
    """One route as the kernel tells it."""

    protocol: int
    table: int
    key: FibKey
    route: FibRoute | None
    """None: it has a shape that cannot be written here, and `oddity` says which."""
    oddity: str = ""
    beside: bool = False
    """It has a TOS or a source prefix: it is at no key of ours, whatever `key` says."""


def decode_route(body: bytes) -> Heard | None:
    """None: not a route of the tables (another family, or a cached clone).

    The kernel (6.18) puts the table first and the prefix second. All the rest is alike for all routes of one set of
    next hops, so it is decoded once and remembered, which halves the time of a dump.
    """
    if len(body) < RTMSG.size:
        raise MalformedError("a route message shorter than its header")
    if (size := ADDRESS_BYTES.get(body[0])) is None:
        return None
    if body[20:24] == _DST_HEADER[size] and len(body) >= 24 + size:
        rest = _decode_rest(body[:20] + body[24 + size :])
        prefix = _prefix(body[24 : 24 + size], rest.length, size)
    else:  # a default route has no prefix
        rest = _decode_rest(body)
        prefix = _prefix(rest.address, rest.length, size)
    if rest.cloned:
        return None
    key = FibKey(prefix, rest.metric)
    route = None if rest.oddity else FibRoute(prefix, rest.next_hops, rest.type, rest.metric, rest.extra)
    return Heard(rest.protocol, rest.table, key, route, rest.oddity, rest.beside)


def protocol_of(body: bytes) -> int:
    """Of a route message, before it is worth decoding."""
    return body[5] if len(body) > 5 else 0


class _Rest(NamedTuple):
    """Of a route all but its prefix's address, which may be here when it was not where it is expected."""

    length: int
    protocol: int
    table: int
    metric: int
    cloned: bool
    type: RouteType
    next_hops: tuple[NextHop, ...]
    extra: str
    oddity: str
    beside: bool
    address: bytes


@lru_cache(maxsize=KINDS_REMEMBERED_MAX)
def _decode_rest(body: bytes) -> _Rest:
    family, length, source, tos, table, protocol, scope, kind, flags = RTMSG.unpack_from(body)
    found = attributes_of(body, RTMSG.size)
    size = ADDRESS_BYTES[family]
    metric = number_in(found, RTA_PRIORITY)
    hops, oddity = _decode_next_hops(found, size) if kind == TYPE_NUMBERS[RouteType.UNICAST] else ((), "")
    if kind not in _TYPES:
        oddity = f"type {_TYPE_NAMES.get(kind, kind)}"
    elif tos or source:
        oddity = "a source prefix" if source else f"TOS {tos:#x}"
    table = number_in(found, RTA_TABLE) or table
    type_ = _TYPES.get(kind, RouteType.UNICAST)
    if table == DISCARD_TABLE:
        type_ = _IN_DISCARD_TABLE.get(type_, type_)
    return _Rest(
        length=length,
        protocol=protocol,
        table=table,
        metric=0 if metric == DEFAULT_METRIC[4 if family == AF_INET else 6] else metric,
        cloned=bool(flags & _RTM_F_CLONED),
        type=type_,
        next_hops=hops,
        extra=extras_of(found, scope=scope, flags=flags),
        oddity=oddity,
        beside=bool(tos or source),
        address=found.get(RTA_DST, bytes(size)),
    )


def _decode_next_hops(found: dict[int, bytes], size: int) -> tuple[tuple[NextHop, ...], str]:
    """Next hops of a unicast route, in order, or what about them we could not have written."""
    if _RTA_NH_ID in found:
        return (), "a next-hop object"
    if (several := found.get(RTA_MULTIPATH)) is None:
        hop, oddity = _next_hop(found, number_in(found, RTA_OIF), size)
        return ((hop,) if hop else ()), oddity
    hops: list[NextHop] = []
    for one in hops_in(several):
        hop, oddity = _next_hop(one.attributes, one.interface, size)
        if hop is None or one.weight:
            return (), oddity or "unequal weights"
        hops.append(hop)
    return in_order(hops), "" if hops else "no next hop"


def _next_hop(found: dict[int, bytes], interface: int, size: int) -> tuple[NextHop | None, str]:
    if _RTA_ENCAP in found or _RTA_ENCAP_TYPE in found:
        return None, "encapsulation"
    if (via := found.get(RTA_VIA)) is not None:
        return _next_hop_via(via, interface, size)
    if (gateway := found.get(RTA_GATEWAY)) is None:
        return None, "no gateway"
    return NextHop(_address(gateway, size), interface), ""


def _next_hop_via(via: bytes, interface: int, size: int) -> tuple[NextHop | None, str]:
    """Struct rtvia: the family in host byte order, then the address. Kernel 6.18 has it of IPv4 routes only."""
    if len(via) < U16.size:
        raise MalformedError("a gateway without its address family")
    (family,) = U16.unpack_from(via)
    if (family, size) != (AF_INET6, ADDRESS_BYTES[AF_INET]):
        return None, f"a gateway of address family {family}"
    return NextHop(_address(via[U16.size :], ADDRESS_BYTES[AF_INET6]), interface), ""


def _address(value: bytes, size: int) -> Address:
    if len(value) != size:
        raise MalformedError(f"an address of {len(value)} bytes instead of {size}")
    return IPv4Address(value) if size == 4 else IPv6Address(value)


def _prefix(value: bytes, length: int, size: int) -> Prefix:
    if len(value) != size or length > size * 8:
        raise MalformedError(f"a prefix of {len(value)} bytes with length {length}")
    number = int.from_bytes(value, "big")
    try:
        return IPv4Network((number, length)) if size == 4 else IPv6Network((number, length))
    except ValueError as error:
        raise MalformedError(f"a prefix with host bits: {value.hex()}/{length}") from error
