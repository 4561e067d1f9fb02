"""A BGP peer that writes down, in order, what comes over the wire: routes, End-of-RIB, NOTIFICATIONs.

FRR's tables say what a router has; this says what it was sent, and when. It listens on port 179 of a host of the lab,
agrees to any OPEN, sends what a test tells it to, and knows no policy. Messages are those of RFC 4271, 4724, 4760; they
may be long (RFC 8654) where it offers that.
"""

import asyncio
import contextlib
import socket
import struct
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, IPv6Network, ip_address, ip_network
from types import TracebackType
from typing import Self

from tests.lab.machines import Host
from tests.lab.speaking import entered

OPEN, UPDATE, NOTIFICATION, KEEPALIVE, ROUTE_REFRESH = 1, 2, 3, 4, 5
CAPABILITIES, GRACEFUL_RESTART = 2, 64
"""An optional parameter of the OPEN, and one of the capabilities."""
KEEPALIVE_SECONDS = 2.0
MP_REACH, MP_UNREACH = 14, 15
FAMILIES = {1: "ipv4", 2: "ipv6"}


@dataclass(frozen=True, slots=True)
class Sent:
    """One thing the other side has sent: what, of which family (or session), and what more there is to say."""

    what: str
    family: str = ""
    prefixes: tuple[str, ...] = ()
    data: bytes = b""


@dataclass(slots=True)
class Session:
    writer: asyncio.StreamWriter
    began_at: float = field(default_factory=time.monotonic)
    open: bytes = b""
    heard: list[Sent] = field(default_factory=list)
    ended: bool = False

    def of(self, *kinds: str) -> list[Sent]:
        return [sent for sent in self.heard if sent.what in kinds]

    def graceful_restart(self) -> tuple[bool, dict[str, bool]]:
        """R bit, and F bit of each family, of the OPEN that was received (RFC 4724 3)."""
        options = self.open[10:]
        while options:
            kind, length = options[0], options[1]
            if kind == CAPABILITIES and options[2] == GRACEFUL_RESTART:
                value = options[4 : 2 + length]
                families = (value[at : at + 4] for at in range(2, len(value), 4))
                return bool(value[0] & 0x80), {FAMILIES[it[1]]: bool(it[3] & 0x80) for it in families}
            options = options[2 + length :]
        raise AssertionError("no graceful restart in the OPEN")


class WirePeer:
    """Use as an async context manager. `sessions` are all there ever were; the last is the current one."""

    def __init__(
        self,
        host: Host,
        *,
        asn: int,
        hold_seconds: int = 90,
        restart_seconds: int | None = 120,
        route_refresh: bool = True,
        enhanced_refresh: bool = False,
        long_messages: bool = False,
    ) -> None:
        self.sessions: list[Session] = []
        self.refusing: tuple[int, int] | None = None
        """Code and subcode of the NOTIFICATION that answers an OPEN from now on, in place of ours."""
        self._asn = asn
        self._hold_seconds = hold_seconds
        self._restart_seconds = restart_seconds
        self._route_refresh = route_refresh
        self._enhanced_refresh = enhanced_refresh
        self._long_messages = long_messages
        self._router_id = IPv4Address(f"192.0.2.{host.number}")
        self._address = str(host.address())
        self._tasks: set[asyncio.Task[None]] = set()
        with entered(host):
            self._socket = socket.socket(socket.AF_INET6 if ":" in self._address else socket.AF_INET)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)

    async def __aenter__(self) -> Self:
        self._socket.bind((self._address, 179))
        self._server = await asyncio.start_server(self._serve, sock=self._socket)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self._server.close()
        for session in self.sessions:
            session.writer.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def session(self) -> Session:
        """Raises IndexError while there is none."""
        return self.sessions[-1]

    def announce(self, prefixes: Iterable[str], *, next_hop: str, as_path: tuple[int, ...] = ()) -> None:
        """IPv4 in the old place, IPv6 in MP_REACH_NLRI."""
        networks = [ip_network(prefix) for prefix in prefixes]
        attributes = attribute(0x40, 1, b"\0") + attribute(0x40, 2, _path(as_path or (self._asn,)))
        hop = ip_address(next_hop).packed
        nlri = b"".join(map(_pack, networks))
        if networks[0].version == 4:
            self._update(attributes + attribute(0x40, 3, hop), nlri)
        else:
            reach = struct.pack("!HBB", 2, 1, len(hop)) + hop + b"\0" + nlri
            self._update(attributes + attribute(0x80, MP_REACH, reach), b"")

    def withdraw(self, prefixes: Iterable[str]) -> None:
        packed = b"".join(_pack(ip_network(prefix)) for prefix in prefixes)
        self.send(UPDATE, struct.pack("!H", len(packed)) + packed + b"\0\0")

    def end_of_rib(self) -> None:
        self._update(b"", b"")
        self._update(attribute(0x80, MP_UNREACH, struct.pack("!HB", 2, 1)), b"")

    def notify(self, code: int, subcode: int, data: bytes = b"") -> None:
        self.send(NOTIFICATION, bytes([code, subcode]) + data)
        self.session.writer.close()

    def _update(self, attributes: bytes, nlri: bytes) -> None:
        self.send(UPDATE, struct.pack("!HH", 0, len(attributes)) + attributes + nlri)

    def send(self, kind: int, *bodies: bytes) -> None:
        """All in one write. A speaker that takes offence at the first may end the connection before a second write,
        which would fail then, and asyncio drops what has come and is not read (a NOTIFICATION) when a write fails.
        """
        self.session.writer.write(b"".join(message(kind, body) for body in bodies))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        session = Session(writer)
        self.sessions.append(session)
        alive = asyncio.create_task(self._keepalive(writer))
        self._tasks.add(alive)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            while True:
                length, kind = struct.unpack("!HB", (await reader.readexactly(19))[16:])
                body = await reader.readexactly(length - 19)
                self._heard(session, kind, body)
        session.ended = True
        alive.cancel()
        writer.close()

    def _heard(self, session: Session, kind: int, body: bytes) -> None:
        match kind:
            case 1:
                session.open = body
                if self.refusing is not None:
                    session.writer.write(message(NOTIFICATION, bytes(self.refusing)))
                    session.writer.close()
                    return
                session.writer.write(message(OPEN, self._open()) + message(KEEPALIVE, b""))
            case 2:
                session.heard += _read_update(body)
            case 3:
                session.heard.append(Sent("notification", data=body))
            case 5:
                session.heard.append(Sent("route-refresh", FAMILIES[body[1]]))

    def _open(self) -> bytes:
        capabilities = b"".join(capability(1, struct.pack("!HBB", afi, 0, 1)) for afi in FAMILIES)
        capabilities += (capability(2, b"") if self._route_refresh else b"") + capability(
            65, struct.pack("!I", self._asn)
        )
        capabilities += capability(70, b"") if self._enhanced_refresh else b""
        capabilities += capability(6, b"") if self._long_messages else b""
        if self._restart_seconds is not None:
            families = b"".join(struct.pack("!HBB", afi, 1, 0x80) for afi in FAMILIES)
            capabilities += capability(GRACEFUL_RESTART, struct.pack("!H", self._restart_seconds) + families)
        options = bytes([CAPABILITIES, len(capabilities)]) + capabilities
        asn = self._asn if self._asn < 1 << 16 else 23456
        head = struct.pack("!BHH4sB", 4, asn, self._hold_seconds, self._router_id.packed, len(options))
        return head + options

    async def _keepalive(self, writer: asyncio.StreamWriter) -> None:
        while True:
            await asyncio.sleep(KEEPALIVE_SECONDS)
            writer.write(message(KEEPALIVE, b""))


def message(kind: int, body: bytes) -> bytes:
    return b"\xff" * 16 + struct.pack("!HB", len(body) + 19, kind) + body


def capability(code: int, value: bytes) -> bytes:
    return bytes([code, len(value)]) + value


def attribute(flags: int, code: int, value: bytes) -> bytes:
    return struct.pack("!BBH", flags | 0x10, code, len(value)) + value


def _path(asns: tuple[int, ...]) -> bytes:
    return bytes([2, len(asns)]) + b"".join(struct.pack("!I", asn) for asn in asns)


def _pack(network: IPv4Network | IPv6Network) -> bytes:
    return bytes([network.prefixlen]) + network.network_address.packed[: (network.prefixlen + 7) // 8]


def _unpack(data: bytes, family: str) -> tuple[str, ...]:
    size = 4 if family == "ipv4" else 16
    found = []
    while data:
        length, octets = data[0], (data[0] + 7) // 8
        address = ip_address(data[1 : 1 + octets].ljust(size, b"\0"))
        found.append(f"{address}/{length}")
        data = data[1 + octets :]
    return tuple(found)


def _read_update(body: bytes) -> list[Sent]:
    """Everything of one UPDATE, withdrawals first; an empty one is End-of-RIB."""
    withdrawn_length = struct.unpack_from("!H", body)[0]
    withdrawn, rest = body[2 : 2 + withdrawn_length], body[2 + withdrawn_length :]
    attributes_length = struct.unpack_from("!H", rest)[0]
    attributes, nlri = rest[2 : 2 + attributes_length], rest[2 + attributes_length :]
    if not (withdrawn or attributes or nlri):
        return [Sent("end-of-rib", "ipv4")]
    found = [Sent("withdraw", "ipv4", _unpack(withdrawn, "ipv4"))] if withdrawn else []
    for code, value in attributes_of(attributes):
        family = FAMILIES[value[1]] if code in (MP_REACH, MP_UNREACH) else ""
        if code == MP_UNREACH:
            prefixes = _unpack(value[3:], family)
            found.append(Sent("withdraw", family, prefixes) if prefixes else Sent("end-of-rib", family))
        elif code == MP_REACH:
            found.append(Sent("announce", family, _unpack(value[5 + value[3] :], family), attributes))
    if nlri:
        found.append(Sent("announce", "ipv4", _unpack(nlri, "ipv4"), attributes))
    return found


def attributes_of(data: bytes) -> Iterable[tuple[int, bytes]]:
    """Code and value of each path attribute in the `data` of an announcement."""
    while data:
        flags, code = data[0], data[1]
        head, length = (4, struct.unpack_from("!H", data, 2)[0]) if flags & 0x10 else (3, data[2])
        yield code, data[head : head + length]
        data = data[head + length :]
