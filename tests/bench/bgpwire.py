"""BGP messages as a bench sends them: OPEN, KEEPALIVE and UPDATE of IPv4 unicast, as bytes.

RFC 4271 section 4, with four-byte AS numbers (RFC 6793) and End-of-RIB (RFC 4724). Only what a sender of routes
needs. It shares no code with the agent, and refuses to read more than a message's type.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv4Network

MARKER = b"\xff" * 16
HEADER_BYTES = 19
OPEN, UPDATE, NOTIFICATION, KEEPALIVE = 1, 2, 3, 4
_IPV4_UNICAST = b"\x00\x01\x00\x01"
_AS_TRANS = 23456
_TRANSITIVE, _OPTIONAL = 0x40, 0x80


def message(kind: int, body: bytes = b"") -> bytes:
    return MARKER + (HEADER_BYTES + len(body)).to_bytes(2) + bytes([kind]) + body


def open_message(asn: int, router_id: IPv4Address, hold_seconds: int) -> bytes:
    """IPv4 unicast, four-byte AS numbers and route refresh; no graceful restart, so that an end is an end."""
    capabilities = _tlv(1, _IPV4_UNICAST) + _tlv(2, b"") + _tlv(65, asn.to_bytes(4))
    short_asn = asn if asn < 1 << 16 else _AS_TRANS
    parameters = _tlv(2, capabilities)
    head = b"\x04" + short_asn.to_bytes(2) + hold_seconds.to_bytes(2) + router_id.packed
    return message(OPEN, head + bytes([len(parameters)]) + parameters)


def announcement(
    prefixes: Iterable[IPv4Network],
    next_hop: IPv4Address,
    *,
    as_path: Sequence[int] = (),
    med: int | None = None,
    local_pref: int | None = None,
) -> bytes:
    """One UPDATE; the caller sees to it that it is no longer than 4,096 bytes. AS_PATH has four-byte numbers."""
    path = bytes([2, len(as_path)]) + b"".join(asn.to_bytes(4) for asn in as_path) if as_path else b""
    attributes = _attribute(_TRANSITIVE, 1, b"\x00") + _attribute(_TRANSITIVE, 2, path)
    attributes += _attribute(_TRANSITIVE, 3, next_hop.packed)
    if med is not None:
        attributes += _attribute(_OPTIONAL, 4, med.to_bytes(4))
    if local_pref is not None:
        attributes += _attribute(_TRANSITIVE, 5, local_pref.to_bytes(4))
    return message(UPDATE, b"\x00\x00" + len(attributes).to_bytes(2) + attributes + _nlri(prefixes))


def withdrawal(prefixes: Iterable[IPv4Network]) -> bytes:
    gone = _nlri(prefixes)
    return message(UPDATE, len(gone).to_bytes(2) + gone + b"\x00\x00")


def end_of_rib() -> bytes:
    """RFC 4724 2, of IPv4 unicast."""
    return withdrawal(())


def _nlri(prefixes: Iterable[IPv4Network]) -> bytes:
    return b"".join(
        bytes([prefix.prefixlen]) + prefix.network_address.packed[: (prefix.prefixlen + 7) // 8] for prefix in prefixes
    )


def _tlv(kind: int, value: bytes) -> bytes:
    return bytes([kind, len(value)]) + value


def _attribute(flags: int, kind: int, value: bytes) -> bytes:
    return bytes([flags]) + _tlv(kind, value)
