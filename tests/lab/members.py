"""A crowd of BGP speakers in one process, each with an address of its own: the other nodes of a large cluster.

    python -m tests.lab.members SOCKET FIRST_ADDRESS COUNT ASN HOLD_SECONDS FIRST_PREFIX

Member number i listens on port 179 of FIRST_ADDRESS + i (any address of the namespace: one socket serves them all),
agrees to any OPEN, announces the i-th prefix after FIRST_PREFIX with itself as next hop, then End-of-RIB, and keeps
what it is told. Members that are asked to reflect also pass on what the others announce, without any session between
them. It dials nobody, knows no policy, and speaks IPv4 only. `tests.lab.crowd` runs it and asks it questions.
"""

import asyncio
import json
import socket
import struct
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any

from tests.lab.wirepeer import KEEPALIVE, NOTIFICATION, OPEN, UPDATE, attribute, capability, message

BACKLOG = 4096
READ_BYTES = 65_536
HEADER = struct.Struct("!HB")
HEADER_BYTES = 19
ORIGINATOR_ID = 9
CLUSTER_LIST = 10


@dataclass(slots=True)
class Member:
    address: IPv4Address
    prefix: IPv4Network
    writer: asyncio.StreamWriter | None = None
    established: bool = False
    told: dict[bytes, bytes] = field(default_factory=dict)
    """Prefix → path attributes, as they stand on the wire."""
    ended: int = 0
    """Sessions that were established and have ended."""
    synced: bool = False
    """End-of-RIB came on this session."""


@dataclass(slots=True)
class Figures:
    sessions: int = 0
    """Established since the start."""
    ended: int = 0
    """Of these, ended."""
    notifications: list[str] = field(default_factory=list)
    last_established_at: float = 0.0
    last_told_at: float = 0.0
    """Monotonic seconds of the last change of what any member was told."""


class Speakers:
    """The program: the members and their sessions."""

    def __init__(self, first: IPv4Address, count: int, asn: int, hold_seconds: int, prefix: IPv4Network) -> None:
        step = 1 << (32 - prefix.prefixlen)
        self.members = {
            str(first + i): Member(first + i, IPv4Network((int(prefix.network_address) + i * step, prefix.prefixlen)))
            for i in range(count)
        }
        self.figures = Figures()
        self.reached: dict[bytes, tuple[int, float]] = {}
        """Of a prefix announced by request: how many members have it, and when the last got it."""
        self._asn = asn
        self._hold_seconds = hold_seconds
        self._same: dict[bytes, bytes] = {}
        self._reflectors: frozenset[str] = frozenset()
        self._reflected: list[Member] = []
        """Whose prefixes they pass on."""

    async def run(self, control: Path) -> None:
        listener = socket.socket(socket.AF_INET)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("0.0.0.0", 179))  # the namespace is the test's
        await asyncio.start_server(self._serve, sock=listener, backlog=BACKLOG)
        await asyncio.start_unix_server(self._answer, control)
        while True:
            await asyncio.sleep(self._hold_seconds / 3)
            for member in self.members.values():
                if member.writer is not None and member.established:
                    member.writer.write(message(KEEPALIVE, b""))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        member = self.members.get(writer.get_extra_info("sockname")[0])
        if member is None:
            writer.close()
            return
        member.writer, member.established, member.synced = writer, False, False
        member.told.clear()
        data = b""
        try:
            while read := await reader.read(READ_BYTES):
                data = self._messages(member, writer, data + read)
        except ConnectionError:
            pass
        finally:
            writer.close()
            if member.writer is writer:
                self.figures.ended += member.established
                member.ended += member.established
                member.writer, member.established = None, False

    def _messages(self, member: Member, writer: asyncio.StreamWriter, data: bytes) -> bytes:
        """Take what is whole; answers with the rest."""
        at = 0
        while len(data) - at >= HEADER_BYTES:
            length, kind = HEADER.unpack_from(data, at + 16)
            if len(data) - at < length:
                break
            self._heard(member, writer, kind, data[at + HEADER_BYTES : at + length])
            at += length
        return data[at:]

    def _heard(self, member: Member, writer: asyncio.StreamWriter, kind: int, body: bytes) -> None:
        if kind == OPEN:
            writer.write(message(OPEN, self._open(member)) + message(KEEPALIVE, b""))
        elif kind == KEEPALIVE and not member.established:
            member.established = True
            self.figures.sessions += 1
            self.figures.last_established_at = time.monotonic()
            self._tell(member, member.prefix)
            if str(member.address) in self._reflectors:
                self._pass_on(member, self._reflected)
            writer.write(message(UPDATE, b"\0\0\0\0"))
        elif kind == UPDATE:
            self._update(member, body)
        elif kind == NOTIFICATION:
            self.figures.notifications.append(f"{body[0]}/{body[1]}")

    def _open(self, member: Member) -> bytes:
        capabilities = capability(1, struct.pack("!HBB", 1, 0, 1)) + capability(2, b"")
        capabilities += capability(64, struct.pack("!HHBB", 120, 1, 1, 0x80))
        capabilities += capability(65, struct.pack("!I", self._asn))
        options = bytes([2, len(capabilities)]) + capabilities
        asn = self._asn if self._asn < 1 << 16 else 23456
        return struct.pack("!BHH4sB", 4, asn, self._hold_seconds, member.address.packed, len(options)) + options

    def _tell(
        self, member: Member, prefix: IPv4Network, preference: int = 100, *, originator: Member | None = None
    ) -> None:
        """With an `originator` as a reflector passes it on (RFC 4456)."""
        assert member.writer is not None
        attributes = attribute(0x40, 1, b"\0") + attribute(0x40, 2, b"")
        attributes += attribute(0x40, 3, (originator or member).address.packed)
        attributes += attribute(0x40, 5, struct.pack("!I", preference))
        if originator is not None:
            attributes += attribute(0x80, ORIGINATOR_ID, originator.address.packed)
            attributes += attribute(0x80, CLUSTER_LIST, member.address.packed)
        member.writer.write(message(UPDATE, struct.pack("!HH", 0, len(attributes)) + attributes + _packed(prefix)))

    def _pass_on(self, member: Member, others: Sequence[Member]) -> None:
        for other in others:
            if other is not member:
                self._tell(member, other.prefix, originator=other)

    def _reflect(self, reflectors: Sequence[str], count: int) -> None:
        """From now on these pass on what the first `count` members announce, and no longer what others do."""
        before, self._reflected = self._reflected, list(self.members.values())[:count]
        self._reflectors = frozenset(reflectors)
        for member in (self.members[address] for address in reflectors):
            if not member.established or member.writer is None:
                continue
            if gone := b"".join(_packed(other.prefix) for other in before[count:] if other is not member):
                member.writer.write(message(UPDATE, struct.pack("!H", len(gone)) + gone + bytes(2)))
            self._pass_on(member, self._reflected[len(before) :])

    def _update(self, member: Member, body: bytes) -> None:
        withdrawn = struct.unpack_from("!H", body)[0]
        attributes = struct.unpack_from("!H", body, 2 + withdrawn)[0]
        gone, new = _split(body[2 : 2 + withdrawn]), _split(body[4 + withdrawn + attributes :])
        if not (withdrawn or attributes or new):
            member.synced = True
            return
        self.figures.last_told_at = time.monotonic()
        for prefix in gone:
            member.told.pop(prefix, None)
        said = body[4 + withdrawn : 4 + withdrawn + attributes]
        for prefix in new:
            member.told[self._same.setdefault(prefix, prefix)] = self._same.setdefault(said, said)
            if prefix in self.reached:
                self.reached[prefix] = (self.reached[prefix][0] + 1, self.figures.last_told_at)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        question = json.loads(await reader.readline())
        writer.write(json.dumps(self._reply(question)).encode() + b"\n")
        await writer.drain()
        writer.close()

    def _reply(self, question: Mapping[str, Any]) -> Mapping[str, Any]:
        if "announce" in question:
            member, prefix = self.members[question["member"]], IPv4Network(question["announce"])
            self.reached[_packed(prefix)] = (0, 0.0)
            self._tell(member, prefix, question["preference"])
            return {"at": time.monotonic()}
        if "reached" in question:
            count, at = self.reached[_packed(IPv4Network(question["reached"]))]
            return {"count": count, "at": at}
        if "close" in question:
            for address in question["close"]:
                if (found := self.members[address].writer) is not None:
                    found.close()
            return {}
        if "reflect" in question:
            self._reflect(question["reflect"], question["count"])
            return {}
        if "told" in question:
            return {
                address: {_prefix(prefix): _originator(said) for prefix, said in member.told.items()}
                for address, member in self.members.items()
            }
        if "ended" in question:
            return {address: member.ended for address, member in self.members.items() if member.ended}
        sizes = [len(member.told) for member in self.members.values()]
        return {
            "established": sum(member.established for member in self.members.values()),
            "synced": sum(member.synced for member in self.members.values()),
            "least_told": min(sizes),
            "most_told": max(sizes),
            "sessions": self.figures.sessions,
            "ended": self.figures.ended,
            "notifications": self.figures.notifications,
            "last_established_at": self.figures.last_established_at,
            "last_told_at": self.figures.last_told_at,
        }


def _packed(prefix: IPv4Network) -> bytes:
    return bytes([prefix.prefixlen]) + prefix.network_address.packed[: (prefix.prefixlen + 7) // 8]


def _prefix(packed: bytes) -> str:
    return f"{IPv4Address(packed[1:].ljust(4, bytes(1)))}/{packed[0]}"


def _originator(attributes: bytes) -> str | None:
    """ORIGINATOR_ID (RFC 4456), None where there is none."""
    at = 0
    while at < len(attributes):
        flags, kind = attributes[at : at + 2]
        size = int.from_bytes(attributes[at + 2 : at + 4]) if flags & 0x10 else attributes[at + 2]
        at += 4 if flags & 0x10 else 3
        if kind == ORIGINATOR_ID:
            return str(IPv4Address(attributes[at : at + 4]))
        at += size
    return None


def _split(data: bytes) -> list[bytes]:
    found, at = [], 0
    while at < len(data):
        end = at + 1 + (data[at] + 7) // 8
        found.append(data[at:end])
        at = end
    return found


if __name__ == "__main__":
    _, where, first_address, how_many, as_number, hold, first_prefix = sys.argv
    speakers = Speakers(IPv4Address(first_address), int(how_many), int(as_number), int(hold), IPv4Network(first_prefix))
    asyncio.run(speakers.run(Path(where)))
