"""The kernel's route messages (rtnetlink, RFC 3549): the numbers, the frames, and routes to bytes.

Pure: the sockets are in `agent.kernel.routes`, the way back from bytes to routes in `agent.kernel.heard`. It cannot
express what we never write: next-hop objects, weights, encapsulation, source routes, and what is in
`agent.kernel.extras`.

Numbers are those of linux/netlink.h and linux/rtnetlink.h; all fields are in host byte order.
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from agent.model import FibRoute, RouteType
from bgp.model import Address

AF_INET: Final = 2
AF_INET6: Final = 10
NLMSG_ERROR: Final = 2
NLMSG_DONE: Final = 3
RTM_NEWROUTE: Final = 24
RTM_DELROUTE: Final = 25
RTM_GETROUTE: Final = 26

NLM_F_REQUEST: Final = 0x1
NLM_F_ACK: Final = 0x4
NLM_F_DUMP_INTR: Final = 0x10
NLM_F_REPLACE: Final = 0x100
NLM_F_EXCL: Final = 0x200
NLM_F_DUMP: Final = 0x300
NLM_F_CREATE: Final = 0x400

BATCH_MESSAGES: Final = 256
BATCH_BYTES: Final = 256 * 1024
"""A batch ends at either bound; it must fit into the socket's send buffer, which is larger by far."""
REMEMBERED_MAX: Final = 4096
"""Sets of next hops remembered by the encoder; when one more comes it forgets them all."""

NLMSGHDR: Final = struct.Struct("=IHHII")
RTMSG: Final = struct.Struct("=8BI")
RTATTR: Final = struct.Struct("=HH")
RTNEXTHOP: Final = struct.Struct("=HBBi")
U16: Final = struct.Struct("=H")
U32: Final = struct.Struct("=I")
S32: Final = struct.Struct("=i")
RTA_DST, RTA_OIF, RTA_GATEWAY, RTA_PRIORITY, RTA_MULTIPATH, RTA_TABLE, RTA_VIA = 1, 4, 5, 6, 9, 15, 18
_RT_SCOPE_NOWHERE: Final = 255
TYPE_NUMBERS: Final = {RouteType.UNICAST: 1, RouteType.BLACKHOLE: 6, RouteType.UNREACHABLE: 7}
MAIN_TABLE: Final = 254
FORWARDED: Final = {
    RouteType.UNREACHABLE_FORWARDED: RouteType.UNREACHABLE,
    RouteType.BLACKHOLE_FORWARDED: RouteType.BLACKHOLE,
}
"""What they are in DISCARD_TABLE."""
DISCARD_TABLE: Final = 179_179
"""Where the discards for forwarded packets are: a table that only forwarded packets are led to
(`agent.kernel.rules`). Its number is one that nobody else takes: what others had in it would be asked as well."""
DEFAULT_METRIC: Final = {4: 0, 6: 1024}
"""IPv6 has no metric 0: the kernel makes it 1024 (IP6_RT_PRIO_USER), and a delete with 0 would match any metric."""
FAMILY: Final = {4: AF_INET, 6: AF_INET6}
ADDRESS_BYTES: Final = {AF_INET: 4, AF_INET6: 16}


class MalformedError(ValueError):
    """Bytes that are no netlink message, or end too early."""


class Operation(enum.Enum):
    """(message type, flags). CREATE refuses whatever is there (EEXIST), REPLACE what is not (ENOENT)."""

    CREATE = (RTM_NEWROUTE, NLM_F_REQUEST | NLM_F_CREATE | NLM_F_EXCL)
    REPLACE = (RTM_NEWROUTE, NLM_F_REQUEST | NLM_F_REPLACE)
    DELETE = (RTM_DELROUTE, NLM_F_REQUEST)


class Step(NamedTuple):
    operation: Operation
    route: FibRoute


class Encoder:
    """Steps to bytes, for one protocol number and table. What a set of next hops has in common is built once."""

    def __init__(self, *, protocol: int, table: int) -> None:
        self._protocol = protocol
        self._table = table
        self._templates: dict[tuple[object, ...], tuple[bytes, bytes]] = {}

    def batches(self, steps: Sequence[Step], first_seq: int) -> Iterator[tuple[bytes, int]]:
        """Bytes to send at once and the number of steps in them; step i has the sequence number first_seq + i.

        Only the last message of a batch asks for an ACK (one for each costs 65 % more, kernel 6.18); errors come
        back for each message anyway, in order, and do not stop the batch.
        """
        waiting: list[tuple[int, int, int, bytes]] = []
        last: Step | None = None
        head = tail = b""
        size = 0
        for number, (operation, route) in enumerate(steps):
            kind, flags = operation.value
            if last is None or operation is not last.operation or not _alike(route, last.route):
                head, tail = self._template(operation, route)
                last = steps[number]
            body = head + route.prefix.network_address.packed + tail
            if waiting and (len(waiting) == BATCH_MESSAGES or size + len(body) + NLMSGHDR.size > BATCH_BYTES):
                yield _joined(waiting), len(waiting)
                waiting, size = [], 0
            waiting.append((kind, flags, first_seq + number, body))
            size += len(body) + NLMSGHDR.size
        if waiting:
            yield _joined(waiting), len(waiting)

    def _template(self, operation: Operation, route: FibRoute) -> tuple[bytes, bytes]:
        deleting = operation is Operation.DELETE
        key = (deleting, route.prefix.version, route.prefix.prefixlen, route.type, route.metric, route.next_hops)
        if (template := self._templates.get(key)) is None:
            if len(self._templates) == REMEMBERED_MAX:
                self._templates.clear()
            template = self._templates[key] = self._new_template(route, deleting=deleting)
        return template

    def _new_template(self, route: FibRoute, *, deleting: bool) -> tuple[bytes, bytes]:
        """Bytes before and after the prefix's address.

        A delete names type, protocol and metric, so that it cannot meet another's route. IPv4 deletes the first
        that matches; IPv6 without a next hop deletes all of a multipath route, also hops that another protocol
        appended to it: so there, and only there, a delete names the next hops (read in fib_table_delete and
        ip6_route_del, tested on kernel 6.18).
        """
        version = route.prefix.version
        table = DISCARD_TABLE if route.type in FORWARDED else self._table
        scope = _RT_SCOPE_NOWHERE if deleting else 0
        kind = TYPE_NUMBERS[FORWARDED.get(route.type, route.type)]
        head = RTMSG.pack(
            FAMILY[version], route.prefix.prefixlen, 0, 0, table if table < 256 else 0, self._protocol, scope, kind, 0
        ) + RTATTR.pack(4 + route.prefix.max_prefixlen // 8, RTA_DST)
        tail = attribute(RTA_TABLE, U32.pack(table)) + attribute(
            RTA_PRIORITY, U32.pack(route.metric or DEFAULT_METRIC[version])
        )
        return head, tail if deleting and version == 4 else tail + _encode_next_hops(route)


def _alike(route: FibRoute, other: FibRoute) -> bool:
    """Quick no is all right: it only costs a look-up."""
    return (
        route.next_hops is other.next_hops
        and route.metric == other.metric
        and route.type is other.type
        and route.prefix.prefixlen == other.prefix.prefixlen
        and route.prefix.version == other.prefix.version
    )


def _encode_next_hops(route: FibRoute) -> bytes:
    if (route.type is RouteType.UNICAST) != bool(route.next_hops):
        raise ValueError(f"{route.prefix}: {route.type} with {len(route.next_hops)} next hops")
    version = route.prefix.version
    if version == 6 and any(hop.gateway.version == 4 for hop in route.next_hops):
        raise ValueError(f"{route.prefix}: an IPv4 gateway of an IPv6 route")
    if len(route.next_hops) == 1:
        (hop,) = route.next_hops
        device = attribute(RTA_OIF, U32.pack(hop.interface)) if hop.interface else b""
        return _encode_gateway(hop.gateway, version) + device
    if not route.next_hops:
        return b""
    hops = bytearray()
    for hop in route.next_hops:
        gateway = _encode_gateway(hop.gateway, version)
        hops += RTNEXTHOP.pack(RTNEXTHOP.size + len(gateway), 0, 0, hop.interface) + gateway
    return attribute(RTA_MULTIPATH, bytes(hops))


def _encode_gateway(gateway: Address, version: int) -> bytes:
    """`version` is the route's. RTA_VIA (struct rtvia) is known to kernels from 5.2 on; older ones refuse it."""
    if gateway.version == version:
        return attribute(RTA_GATEWAY, gateway.packed)
    return attribute(RTA_VIA, U16.pack(FAMILY[gateway.version]) + gateway.packed)


def attribute(kind: int, value: bytes) -> bytes:
    """The padding is not in the attribute's own length."""
    return RTATTR.pack(4 + len(value), kind) + value + bytes(-len(value) % 4)


def _joined(waiting: Sequence[tuple[int, int, int, bytes]]) -> bytes:
    last = len(waiting) - 1
    return b"".join(
        NLMSGHDR.pack(NLMSGHDR.size + len(body), kind, flags | (NLM_F_ACK if at == last else 0), seq, 0) + body
        for at, (kind, flags, seq, body) in enumerate(waiting)
    )


def dump_request(version: int, seq: int, *, protocol: int = 0, table: int = 0) -> bytes:
    """Ask for all routes of one IP version; 0 means any. Filters need NETLINK_GET_STRICT_CHK on the socket."""
    body = RTMSG.pack(FAMILY[version], 0, 0, 0, table if table < 256 else 0, protocol, 0, 0, 0)
    if table:
        body += attribute(RTA_TABLE, U32.pack(table))
    return NLMSGHDR.pack(NLMSGHDR.size + len(body), RTM_GETROUTE, NLM_F_REQUEST | NLM_F_DUMP, seq, 0) + body


class Message(NamedTuple):
    type: int
    flags: int
    seq: int
    body: bytes


def messages(data: bytes) -> Iterator[Message]:
    """The messages of one datagram."""
    at = 0
    while at < len(data):
        if len(data) - at < NLMSGHDR.size:
            raise MalformedError(f"{len(data) - at} bytes are no message header")
        length, kind, flags, seq, _port = NLMSGHDR.unpack_from(data, at)
        if not NLMSGHDR.size <= length <= len(data) - at:
            raise MalformedError(f"a message of {length} bytes in {len(data) - at}")
        yield Message(kind, flags, seq, data[at + NLMSGHDR.size : at + length])
        at += (length + 3) & ~3


def attributes_of(data: bytes, at: int) -> dict[int, bytes]:
    """Attributes from offset `at` to the end; of one kind the last counts. The flag bits of the kind are masked out."""
    found: dict[int, bytes] = {}
    end = len(data)
    while at < end:
        if end - at < 4:
            raise MalformedError(f"{end - at} bytes are no attribute")
        length, kind = RTATTR.unpack_from(data, at)
        if not 4 <= length <= end - at:
            raise MalformedError(f"an attribute of {length} bytes in {end - at}")
        found[kind & 0x3FFF] = data[at + 4 : at + length]
        at += (length + 3) & ~3
    return found


def number_in(found: dict[int, bytes], kind: int) -> int:
    value = found.get(kind, b"\0\0\0\0")
    if len(value) != 4:
        raise MalformedError(f"attribute {kind} has {len(value)} bytes instead of 4")
    return int(U32.unpack(value)[0])


class Hop(NamedTuple):
    """One next hop of RTA_MULTIPATH."""

    attributes: dict[int, bytes]
    interface: int
    flags: int
    weight: int
    """0 is the lightest."""


def hops_in(several: bytes) -> Iterator[Hop]:
    """What RTA_MULTIPATH holds (struct rtnexthop)."""
    at = 0
    while at < len(several):
        if len(several) - at < RTNEXTHOP.size:
            raise MalformedError("a next hop shorter than its header")
        length, flags, weight, interface = RTNEXTHOP.unpack_from(several, at)
        if not RTNEXTHOP.size <= length <= len(several) - at:
            raise MalformedError(f"a next hop of {length} bytes in {len(several) - at}")
        yield Hop(attributes_of(several[at : at + length], RTNEXTHOP.size), interface, flags, weight)
        at += (length + 3) & ~3
