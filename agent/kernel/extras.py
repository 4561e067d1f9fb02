"""What a route of ours may be found with that we never write: somebody else set it, so it is drift.

Pure. In the words of `ip route`, with numbers as the kernel has them. What the kernel (6.18) says of every route is no
such thing: RTA_CACHEINFO, the preference of IPv6 while it is medium, flags of its state (dead, linkdown, offload).
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from ipaddress import ip_address
from typing import Final

from agent.kernel.netlink import RTA_MULTIPATH, MalformedError, attributes_of, hops_in

_RTA_PREFSRC, _RTA_METRICS, _RTA_FLOW, _RTA_PREF = 7, 8, 11, 20
_RTNH_F_ONLINK: Final = 4
_RTAX_LOCK, _RTAX_CC_ALGO = 1, 16
_METRICS: Final = {
    2: "mtu",
    3: "window",
    4: "rtt",
    5: "rttvar",
    6: "ssthresh",
    7: "cwnd",
    8: "advmss",
    9: "reordering",
    10: "hoplimit",
    11: "initcwnd",
    12: "features",
    13: "rto_min",
    14: "initrwnd",
    15: "quickack",
    17: "fastopen_no_cookie",
}
_SCOPES: Final = {200: "site", 253: "link", 254: "host", 255: "nowhere"}
_PREFERENCES: Final = {1: "high", 3: "low"}


def extras_of(found: Mapping[int, bytes], *, scope: int, flags: int) -> str:
    """`mtu 1300 onlink`; empty for a route as we write it. `scope` and `flags` are those of its `struct rtmsg`."""
    words = [*_of_route(found), *_of_hop(found, flags)]
    for hop in hops_in(found.get(RTA_MULTIPATH, b"")):
        words += _of_hop(hop.attributes, hop.flags)
    if scope:
        words.append(f"scope {_SCOPES.get(scope, scope)}")
    return " ".join(dict.fromkeys(words))


def _of_route(found: Mapping[int, bytes]) -> Iterator[str]:
    if (metrics := found.get(_RTA_METRICS)) is not None:
        yield from _of_metrics(attributes_of(metrics, 0))
    if (source := found.get(_RTA_PREFSRC)) is not None:
        yield f"src {_address(source)}"
    if preference := _number(found.get(_RTA_PREF, b"")):
        yield f"pref {_PREFERENCES.get(preference, preference)}"


def _of_metrics(found: Mapping[int, bytes]) -> Iterator[str]:
    locked = _number(found.get(_RTAX_LOCK, b""))
    for kind, value in found.items():
        if kind == _RTAX_CC_ALGO:
            yield "congctl " + value.rstrip(b"\0").decode("ascii", "replace")
        elif kind != _RTAX_LOCK:
            lock = "lock " if locked >> min(kind, 32) & 1 else ""
            yield f"{_METRICS.get(kind, f'metric {kind}')} {lock}{_number(value)}"


def _of_hop(found: Mapping[int, bytes], flags: int) -> Iterator[str]:
    """Of a route with one next hop all is in one place."""
    if flags & _RTNH_F_ONLINK:
        yield "onlink"
    if realms := _number(found.get(_RTA_FLOW, b"")):
        source, destination = realms >> 16, realms & 0xFFFF
        yield f"realm {source}/{destination}" if source else f"realm {destination}"


def _number(value: bytes) -> int:
    """None is 0."""
    return int.from_bytes(value, sys.byteorder)


def _address(value: bytes) -> str:
    if len(value) not in (4, 16):
        raise MalformedError(f"an address of {len(value)} bytes")
    return str(ip_address(value))
