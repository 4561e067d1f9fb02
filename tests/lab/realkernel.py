"""A kernel of its own for a test: a fresh network namespace, a link with subnets, and the hand of an operator in it.

The namespace has no name and ends with the last socket in it, so nothing is left behind even by a kill. The hand uses
iproute2 only, as an independent judge of what our own netlink code did. It does not know the agent's driver.
"""

from __future__ import annotations

import ctypes
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from agent.kernel.forwarded import RoutesAndRules
from agent.kernel.netlink import DISCARD_TABLE
from agent.kernel.nlsocket import join, open_netlink
from tests.lab.wait import wait_until

CLONE_NEWNET = 0x4000_0000
SUBNETS = ("192.0.2.1/24", "198.51.100.1/24", "fd00::1/64")
"""Addresses of link e0; any other address in them is a gateway that the kernel takes."""
PROTOCOL = 179
NLMSG_HEADER_BYTES = 16
RTM_NEWROUTE, RTM_DELROUTE = 24, 25
RTM_PROTOCOL_AT = 5
"""Of `struct rtmsg`."""
RTPROT_KERNEL = 2


class Seen(NamedTuple):
    """One route as iproute2 prints it."""

    prefix: str
    protocol: str
    gateways: tuple[str, ...]
    type: str
    metric: int
    extra: str = ""
    """What we never write, but for that of next hops."""


@contextmanager
def fresh_netns() -> Iterator[None]:
    """The calling thread, and what it starts, is in a new network namespace meanwhile."""
    libc = ctypes.CDLL(None, use_errno=True)
    with Path("/proc/thread-self/ns/net").open("rb") as before:
        if libc.unshare(CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "unshare")
        try:
            yield
        finally:
            if libc.setns(before.fileno(), CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "setns")


class RealKernel:
    """Link e0 (a veth whose other end is e1) is up with `SUBNETS`. To be made and used inside `fresh_netns`."""

    def __init__(self) -> None:
        ip("link set lo up")
        ip("link add e0 type veth peer name e1")
        ip("link set e1 up")
        ip("link set e0 up")
        wait_until(_both_ends_work)  # the kernel tells of the carrier a while after, and a test may count events
        for subnet in SUBNETS:
            ip(f"addr add {subnet} dev e0 nodad")
        self.table = RoutesAndRules(protocol=PROTOCOL)
        self._events = open_netlink()
        join(self._events, (7, 8, 11, 19))  # IPv4 and IPv6 routes and rules

    def close(self) -> None:
        self._events.close()

    def route(self, what: str, *, version: int = 4) -> None:
        """`what` is the rest of an `ip route` command."""
        ip(f"-{version} route {what}")

    def rule(self, what: str, *, version: int = 4) -> None:
        """`what` is the rest of an `ip rule` command."""
        ip(f"-{version} rule {what}")

    def rules(self, *, version: int = 4) -> list[str]:
        """As iproute2 prints them, but those that each namespace begins with."""
        lines = (" ".join(line.split()) for line in ip(f"-{version} rule show").splitlines())
        return [line for line in lines if line.split(":")[0] not in ("0", "32766", "32767")]

    def discards(self) -> set[str]:
        """Prefixes of ours in the table that forwarded packets are led to, with their type unless it is unreachable."""
        return {
            f"{'' if kind == 'unreachable' else f'{kind} '}{route['dst']}"
            for version in (4, 6)
            for kind in ("unreachable", "blackhole")
            for route in json.loads(ip(f"-j -{version} route show table all type {kind} proto 179"))
            if route.get("table") == str(DISCARD_TABLE)
        }

    def flush(self, *, protocol: int = PROTOCOL) -> None:
        for version in (4, 6):
            ip(f"-{version} route flush table all proto {protocol}")

    def link(self, *, up: bool) -> None:
        """IPv6 addresses go with the link (sysctl keep_addr_on_down is 0), and are given back with it."""
        ip(f"link set e0 {'up' if up else 'down'}")
        if up:
            for subnet in SUBNETS:
                if ":" in subnet:
                    ip(f"addr replace {subnet} dev e0 nodad")

    def address(self, subnet: str, *, present: bool) -> None:
        ip(f"addr {'add' if present else 'del'} {subnet} dev e0" + (" nodad" if present else ""))

    def seen(self, *, protocol: str | None = str(PROTOCOL)) -> set[Seen]:
        """Routes of table main; `protocol` None: of every protocol but the kernel's own."""
        found = set()
        for version in (4, 6):
            for route in json.loads(ip(f"-j -d -{version} route show table main")):
                if route["protocol"] == protocol or (protocol is None and route["protocol"] not in ("kernel", "ra")):
                    found.add(_seen(route))
        return found

    def events(self) -> int:
        """Number of events of routes and rules since the last call, without what the kernel does by itself: a second
        after the link came up the link-local address has passed duplicate detection, and gets its route.
        """
        count = 0
        while True:
            try:
                event = self._events.recv(65536)
            except BlockingIOError:
                return count
            count += not _is_kernels_own(event)


def _is_kernels_own(event: bytes) -> bool:
    kind, protocol = int.from_bytes(event[4:6], sys.byteorder), event[NLMSG_HEADER_BYTES + RTM_PROTOCOL_AT]
    return kind in (RTM_NEWROUTE, RTM_DELROUTE) and protocol == RTPROT_KERNEL


def _both_ends_work() -> bool:
    return [link["operstate"] for link in json.loads(ip("-j link show type veth"))] == ["UP", "UP"]


def _seen(route: dict[str, object]) -> Seen:
    hops = route.get("nexthops") or ([route] if "gateway" in route or "via" in route else [])
    assert isinstance(hops, list)
    metric = route.get("metric", 0)
    assert isinstance(metric, int)
    prefix = str(route["dst"])
    if "/" not in prefix and prefix != "default":
        prefix += "/128" if ":" in prefix else "/32"
    return Seen(
        prefix=prefix,
        protocol=str(route["protocol"]),
        gateways=tuple(sorted(str(hop["via"]["host"] if "via" in hop else hop["gateway"]) for hop in hops)),
        type=str(route.get("type", "unicast")),
        metric=0 if ":" in prefix and metric == 1024 else metric,
        extra=" ".join(_extras(route)),
    )


def _extras(route: Mapping[str, Any]) -> Iterator[str]:
    for metrics in route.get("metrics", ()):
        yield from (f"{name} {value}" for name, value in metrics.items())
    if "prefsrc" in route:
        yield f"src {route['prefsrc']}"
    if route.get("pref", "medium") != "medium":
        yield f"pref {route['pref']}"
    if "onlink" in route["flags"]:
        yield "onlink"
    if "flow" in route:
        yield "realm " + "/".join(route["flow"].values())
    if route["scope"] not in ("global", "link"):
        yield f"scope {route['scope']}"


def ip(arguments: str, *, stdin: str = "") -> str:
    """Run iproute2 in the thread's namespace. Raises OSError with its words."""
    done = subprocess.run(["ip", *arguments.split()], input=stdin, capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(f"ip {arguments}: {done.stderr.strip()}")
    return done.stdout
