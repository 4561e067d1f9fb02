"""UPDATEs that no router should send, what ExaBGP 5.0.15 as we run it does with each, and a peer that sends them.

`KEPT`: it is a route all the same. `WITHDRAWN`: treated as a withdrawal (RFC 7606 2). `IGNORED`: neither. Two numbers:
the session ends with that NOTIFICATION, and with it all its routes. Where RFC 7606 asks for less than the end of the
session, the case says so.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from tests.lab.machines import Host
from tests.lab.wirepeer import UPDATE, Session, WirePeer, attribute, message

ASN: Final = 64666
US: Final = 64512
BODY_MAX: Final = 4096 - 19
KEPT, WITHDRAWN, IGNORED = "kept", "withdrawn", "ignored"
V4, V6 = "198.51.100.0/24", "2001:db8:51::/48"
NLRI, NLRI6 = bytes.fromhex("18c63364"), bytes.fromhex("3020010db80051")
ORIGIN = attribute(0x40, 1, b"\0")
GOOD_HOP: Final = 254
"""The host number of the peer in its subnets, 172.18.0.0/24 and fd18::/64."""


@dataclass(frozen=True, slots=True)
class Case:
    name: str
    body: bytes
    outcome: str
    prefix: str = V4


class HostilePeer(WirePeer):
    """`early` goes out before our OPEN, `between` after it and before the KEEPALIVE that makes the session."""

    early = b""
    between = b""

    def update(self, *bodies: bytes) -> None:
        self.send(UPDATE, *bodies)

    def _heard(self, session: Session, kind: int, body: bytes) -> None:
        if kind == 1 and self.early:
            session.writer.write(message(UPDATE, self.early))
        if kind == 1 and self.between:
            session.writer.write(message(1, self._open()) + message(UPDATE, self.between))
            return
        super()._heard(session, kind, body)


class Builder:
    """Messages of a peer at these addresses, which are its next hops too."""

    def __init__(self, host: Host) -> None:
        self.address, self.address6 = host.address("ipv4").packed, host.address("ipv6").packed
        self.hop = attribute(0x40, 3, self.address)
        self.path = attribute(0x40, 2, segment(ASN))
        self.good = ORIGIN + self.path + self.hop
        self.reach = mp_reach(self.address6)

    def cases(self) -> list[Case]:
        return [*self._mandatory(), *self._paths(), *self._optional(), *self._nlri(), *self._lengths(), *self._mp()]

    def _mandatory(self) -> Iterator[Case]:
        def v4(name: str, attributes: bytes, outcome: str) -> Case:
            return Case(name, update(attributes, NLRI), outcome)

        path, hop, origin = self.path, self.hop, attribute(0x40, 1, b"\0")
        yield v4("all is well", self.good, KEPT)
        yield v4("no ORIGIN", path + hop, WITHDRAWN)
        yield v4("no AS_PATH", origin + hop, WITHDRAWN)
        yield v4("no NEXT_HOP", origin + path, WITHDRAWN)
        yield v4("no attribute at all", b"", WITHDRAWN)
        yield v4("ORIGIN of no byte", attribute(0x40, 1, b"") + path + hop, WITHDRAWN)
        yield v4(
            "ORIGIN of two bytes: the first counts, RFC 7606 7.1 withdraws",
            attribute(0x40, 1, b"\0\0") + path + hop,
            KEPT,
        )
        yield v4("ORIGIN 3", attribute(0x40, 1, b"\3") + path + hop, WITHDRAWN)
        yield v4("ORIGIN as optional", attribute(0xC0, 1, b"\0") + path + hop, WITHDRAWN)
        yield v4("ORIGIN twice: the first counts", origin + attribute(0x40, 1, b"\2") + path + hop, KEPT)
        yield v4("NEXT_HOP twice: the first counts", self.good + attribute(0x40, 3, bytes(4)), KEPT)
        for size in (0, 3, 5):
            yield v4(f"NEXT_HOP of {size} bytes", origin + path + attribute(0x40, 3, b"\1" * size), WITHDRAWN)
        yield v4("LOCAL_PREF of 3 bytes", self.good + attribute(0x40, 5, b"\0" * 3), WITHDRAWN)
        yield v4("LOCAL_PREF from another AS is dropped", self.good + attribute(0x40, 5, b"\xff" * 4), KEPT)

    def _paths(self) -> Iterator[Case]:
        def v4(name: str, path: bytes, outcome: str, more: bytes = b"") -> Case:
            return Case(name, update(ORIGIN + attribute(0x40, 2, path) + self.hop + more, NLRI), outcome)

        yield v4("AS_PATH empty", b"", WITHDRAWN)
        yield v4("AS_PATH with an empty segment only", bytes([2, 0]), WITHDRAWN)
        yield v4("AS_PATH cut off", bytes([2, 2]) + struct.pack("!I", ASN), WITHDRAWN)
        yield v4("AS_PATH of one byte", b"\2", WITHDRAWN)
        yield v4("AS_PATH with segment type 9", bytes([9, 1]) + struct.pack("!I", ASN), WITHDRAWN)
        yield v4("AS 0", segment(ASN, 0), WITHDRAWN)
        yield v4("AS 0 in a set", segment(ASN) + segment(7, 0, kind=1), WITHDRAWN)
        yield v4("AS_SET: RFC 9774 withdraws", segment(ASN) + segment(7, 8, kind=1), KEPT)
        yield v4("confederation segment: RFC 7606 7.2 withdraws", segment(ASN, kind=3), KEPT)
        yield v4("1,000 AS numbers", b"".join([segment(*[ASN] * 250)] * 4), KEPT)
        yield v4(
            "AS4_PATH between speakers of four bytes is dropped", segment(ASN), KEPT, attribute(0xC0, 17, segment(7))
        )
        yield v4("AS4_PATH cut off: RFC 6793 6 discards it", segment(ASN), "3/11", attribute(0xC0, 17, b"\2\x09\0\0"))

    def _optional(self) -> Iterator[Case]:
        def v4(name: str, flags: int, code: int, value: bytes, outcome: str) -> Case:
            return Case(name, update(self.good + attribute(flags, code, value), NLRI), outcome)

        yield v4("MED of 3 bytes", 0x80, 4, b"\0" * 3, WITHDRAWN)
        yield v4("MED of 5 bytes", 0x80, 4, b"\0" * 5, WITHDRAWN)
        yield v4("ATOMIC_AGGREGATE with a byte is discarded", 0x40, 6, b"\0", KEPT)
        yield v4("AGGREGATOR of 3 bytes is discarded", 0xC0, 7, b"\0" * 3, KEPT)
        yield v4("AGGREGATOR with AS 0 is not read", 0xC0, 7, bytes(8), KEPT)
        yield v4("communities of 3 bytes", 0xC0, 8, b"\0" * 3, WITHDRAWN)
        yield v4("communities of no byte", 0xC0, 8, b"", WITHDRAWN)
        yield v4("as many communities as fit", 0xC0, 8, self.many(self.room() // 4), KEPT)
        yield v4("ORIGINATOR_ID from another AS is dropped", 0x80, 9, b"\1\2\3\4", KEPT)
        yield v4("ORIGINATOR_ID of 3 bytes: RFC 7606 7.9 discards it", 0x80, 9, b"\1\2\3", "3/5")
        yield v4("CLUSTER_LIST from another AS is dropped", 0x80, 10, b"\1\2\3\4", KEPT)
        yield v4("CLUSTER_LIST of 3 bytes: RFC 7606 7.10 discards it", 0x80, 10, b"\1\2\3", "3/5")
        yield v4("extended communities of 7 bytes", 0xC0, 16, b"\0" * 7, WITHDRAWN)
        yield v4("large communities of 11 bytes", 0xC0, 32, b"\0" * 11, WITHDRAWN)
        yield v4("the same large community twice", 0xC0, 32, b"\0" * 24, KEPT)
        yield v4("unknown and well-known: RFC 4271 6.3 ends the session", 0x40, 99, b"abc", KEPT)
        yield v4("unknown, optional, transitive", 0xC0, 99, b'"\\\0\xff}', KEPT)
        yield v4("unknown, optional", 0x80, 99, b"abc", KEPT)
        yield v4("attribute 0", 0xC0, 0, b"x", KEPT)
        yield v4("attribute 255 as long as fits", 0xC0, 255, b"x" * self.room(), KEPT)
        yield v4("Prefix-SID that ExaBGP writes as no JSON", 0xD0, 40, bytes.fromhex("050007" + "00" * 7), KEPT)
        yield v4("Prefix-SID cut off", 0xC0, 40, b"\1", KEPT)
        yield v4("PMSI tunnel of one byte", 0xC0, 22, b"x", "3/5")

    def _nlri(self) -> Iterator[Case]:
        def v4(name: str, nlri: bytes, outcome: str, withdrawn: bytes = b"") -> Case:
            return Case(name, update(self.good, nlri, withdrawn), outcome)

        yield v4("bits behind the length", bytes.fromhex("18c63364"), KEPT)
        yield v4("the same prefix three times", NLRI * 3, KEPT)
        yield v4("withdrawn and announced: it is announced (RFC 4271 4.3)", NLRI, KEPT, NLRI)
        yield v4("length 33", bytes.fromhex("21c6336401") + b"\1", "3/10")
        yield v4("length 255", b"\xff" + bytes(32), "3/10")
        yield v4("prefix cut off", NLRI[:-1], "3/10")
        yield v4("withdrawal of length 33", NLRI, "3/10", bytes.fromhex("21c6336401") + b"\1")
        yield v4("withdrawal cut off", NLRI, "3/10", NLRI[:-1])

    def _lengths(self) -> Iterator[Case]:
        good = self.good
        yield Case("attributes shorter than said", struct.pack("!HH", 0, len(good) + 3) + good + NLRI, "3/10")
        yield Case("attributes longer than said", struct.pack("!HH", 0, len(good) - 2) + good + NLRI, "3/10")
        yield Case("attributes beyond the end", struct.pack("!HH", 0, 999) + good + NLRI, "3/1")
        yield Case("withdrawals beyond the end", struct.pack("!H", 999) + bytes(6), "3/1")
        yield Case("a message of one byte", b"\0", "1/2")
        yield Case("a message of three bytes", bytes(3), "1/2")
        yield Case(
            "an attribute beyond the attributes", update(ORIGIN + self.path + b"\x40\3\x40\1\2", NLRI), WITHDRAWN
        )
        yield Case("900 attributes", update(good + bytes([0x80, 100, 0]) * 900, NLRI), KEPT)
        yield Case(
            "one byte more than a message may have",
            update(good + bytes([0xD0, 255]) + struct.pack("!H", self.room() + 1) + bytes(self.room() + 1), NLRI),
            "1/2",
        )
        yield Case("End-of-RIB of an unknown family", bytes.fromhex("00000007900f0003000901"), IGNORED)
        yield Case("End-of-RIB with attributes", update(good, b""), IGNORED)
        yield Case("End-of-RIB cut off", bytes.fromhex("00000005900f000200"), "3/1")

    def _mp(self) -> Iterator[Case]:
        def v6(name: str, attributes: bytes, outcome: str) -> Case:
            return Case(name, update(attributes, b""), outcome, V6)

        start, own = ORIGIN + self.path, self.address6
        yield v6("IPv6: all is well", start + self.reach, KEPT)
        yield v6("IPv6: no AS_PATH", ORIGIN + self.reach, WITHDRAWN)
        yield v6("IPv6: ORIGIN as optional, behind", self.reach + self.path + attribute(0xC0, 1, b"\0"), WITHDRAWN)
        yield v6("IPv6: an attribute beyond the attributes, before", b"\x40\1\x40\0" + self.reach, "3/1")
        for size in (0, 4, 15, 17):
            yield v6(f"IPv6: next hop of {size} bytes", start + mp_reach((own + own)[:size]), "3/9")
        yield v6(
            "IPv6: next hop beyond the attribute",
            start + attribute(0x80, 14, b"\0\2\1\xff" + own + b"\0" + NLRI6),
            "3/9",
        )
        yield v6("IPv6: length 129", start + mp_reach(own, b"\x81" + b"\1" * 17), "3/10")
        yield v6("IPv6: prefix cut off", start + mp_reach(own, NLRI6[:-1]), "3/10")
        yield v6("IPv6: no prefix", start + mp_reach(own, b""), "3/9")
        yield v6("IPv6: MP_REACH_NLRI twice", start + self.reach * 2, "3/1")
        yield v6(
            "IPv6: MP_REACH_NLRI as transitive",
            start + attribute(0xC0, 14, struct.pack("!HBB", 2, 1, 16) + own + b"\0" + NLRI6),
            "3/9",
        )
        yield v6("IPv6: of a family that was not agreed to", start + mp_reach(own, safi=2), "3/9")
        yield v6("IPv6: withdrawn and announced", start + self.reach + attribute(0x80, 15, b"\0\2\1" + NLRI6), KEPT)

    def announce(self, prefix: bytes, *, hop: bytes = b"", path: bytes = b"") -> bytes:
        """A good UPDATE of one IPv4 prefix, as on the wire."""
        return update(ORIGIN + (path or self.path) + attribute(0x40, 3, hop or self.address), prefix)

    def announce6(self, prefix: bytes, *, hop: bytes = b"") -> bytes:
        return update(ORIGIN + self.path + mp_reach(hop or self.address6, prefix), b"")

    def room(self) -> int:
        """Bytes of one more attribute besides the good ones and one prefix."""
        return BODY_MAX - len(update(self.good, NLRI)) - 4

    def many(self, count: int) -> bytes:
        return b"".join(struct.pack("!I", ASN << 16 | number) for number in range(count))

    def mutations(self, seed: int, count: int) -> Iterator[bytes]:
        """The cases with bits, bytes and parts changed, cut out, or put in."""
        chance, bodies = random.Random(seed), [case.body[:600] for case in self.cases()]  # noqa: S311 - no secret
        for _ in range(count):
            body = bytearray(chance.choice(bodies))
            for _ in range(chance.randint(1, 4)):
                at, how = chance.randrange(len(body) + 1), chance.randrange(4)
                if how == 0 and at < len(body):
                    body[at] ^= 1 << chance.randrange(8)
                elif how == 1:
                    del body[at : at + chance.randint(1, 4)]
                elif how == 2:
                    body[at:at] = chance.randbytes(chance.randint(1, 4))
                else:
                    other = chance.choice(bodies)
                    start = chance.randrange(len(other))
                    body[at:at] = other[start : start + chance.randint(1, 60)]
            yield bytes(body[:BODY_MAX])


def update(attributes: bytes, nlri: bytes, withdrawn: bytes = b"") -> bytes:
    return struct.pack("!H", len(withdrawn)) + withdrawn + struct.pack("!H", len(attributes)) + attributes + nlri


def segment(*asns: int, kind: int = 2) -> bytes:
    return bytes([kind, len(asns)]) + b"".join(struct.pack("!I", asn) for asn in asns)


def mp_reach(hop: bytes, nlri: bytes = NLRI6, *, safi: int = 1) -> bytes:
    return attribute(0x80, 14, struct.pack("!HBB", 2, safi, len(hop)) + hop + b"\0" + nlri)
