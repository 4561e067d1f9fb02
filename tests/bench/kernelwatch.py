"""Looking at another namespace's kernel routes from outside, cheaply enough not to disturb what is measured.

`RouteCount` reads how many IPv4 routes there are without reading them (fib_triestat: 100,000 routes in about a
millisecond). `RouteWatch` notes when the kernel told of each route's coming and going, over netlink. Neither changes
anything.
"""

from __future__ import annotations

import os
import re
import select
import socket
import struct
import threading
import time
from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Self

from tests.lab.netns import Namespace
from tests.lab.procs import CommandFailedError
from tests.lab.wait import wait_until

PREFIXES = re.compile(rb"Prefixes:\s+(\d+)")
POLL_SECONDS = 0.002
POLL_SHARE = 4
"""Rest this many times as long as a look took, so that looking takes at most a fifth of a core."""
RECEIVE_BYTES = 1 << 16
BUFFER_BYTES = 64 << 20
_SO_RCVBUFFORCE = 33
_IPV4_ROUTE, _IPV6_ROUTE = 1 << 6, 1 << 10
_NEWROUTE, _DELROUTE = 24, 25
_RTA_DST = 1
_TABLE_MAIN = 254
Prefix = IPv4Network | IPv6Network


class RouteCount:
    def __init__(self, namespace: Namespace) -> None:
        self._file = namespace.make(lambda: os.open("/proc/thread-self/net/fib_triestat", os.O_RDONLY))

    def close(self) -> None:
        os.close(self._file)

    def now(self) -> int:
        """IPv4 routes of the main table.

        Without policy rules the kernel keeps the table of local addresses in the same trie, and lists that trie twice.
        """
        found = PREFIXES.search(os.pread(self._file, 1 << 14, 0))
        if found is None:
            raise OSError("this kernel does not count its routes: it is built without CONFIG_IP_FIB_TRIE_STATS")
        return int(found[1])

    def wait_for(self, count: int, *, within: float, at_most: bool = False) -> float:
        """The monotonic second at which there were at least (or at most) `count`."""
        ends_at = time.monotonic() + within
        while True:
            began_at = time.monotonic()
            found = self.now()
            looked_at = time.monotonic()
            if found <= count if at_most else found >= count:
                return looked_at
            if looked_at > ends_at:
                raise CommandFailedError(f"not within {within:g} s: {found} routes instead of {count}")
            time.sleep(max(POLL_SECONDS, POLL_SHARE * (looked_at - began_at)))


class RouteWatch:
    """When each prefix was last seen to come (`came`) or go (`went`) in the main table, as monotonic seconds."""

    def __init__(self, *namespaces: Namespace) -> None:
        self.came: dict[tuple[str, Prefix], float] = {}
        self.went: dict[tuple[str, Prefix], float] = {}
        self._sockets = {namespace.make(_monitor): namespace.name for namespace in namespaces}
        self._wake, self._woken = os.pipe()
        self._thread = threading.Thread(target=self._run, name="route-watch", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._woken)
        self._thread.join()
        os.close(self._wake)
        for monitor in self._sockets:
            monitor.close()

    def forget(self) -> None:
        self.came.clear()
        self.went.clear()

    def wait_came(self, namespace: Namespace, prefix: Prefix, *, within: float) -> float:
        return wait_until(lambda: self.came.get((namespace.name, prefix)), within=within, every=0.001) or 0.0

    def wait_went(self, namespace: Namespace, prefix: Prefix, *, within: float) -> float:
        return wait_until(lambda: self.went.get((namespace.name, prefix)), within=within, every=0.001) or 0.0

    def wait_all(self, wanted: Iterable[tuple[Namespace, Prefix]], *, within: float) -> float:
        """The moment at which the last of them was there."""
        keys = [(namespace.name, prefix) for namespace, prefix in wanted]

        def there() -> bool:
            missing = [key for key in keys if key not in self.came]
            assert not missing, f"{len(missing)} of {len(keys)} are missing: {missing[:5]}"
            return True

        wait_until(there, within=within, every=0.01)
        return max(self.came[key] for key in keys)

    def _run(self) -> None:
        poll = select.poll()
        by_fd = {monitor.fileno(): (monitor, name) for monitor, name in self._sockets.items()}
        for fd in (*by_fd, self._wake):
            poll.register(fd, select.POLLIN)
        while True:
            for fd, _ in poll.poll():
                if fd == self._wake:
                    return
                monitor, name = by_fd[fd]
                data, now = monitor.recv(RECEIVE_BYTES), time.monotonic()
                self._note(name, data, now)

    def _note(self, name: str, data: bytes, now: float) -> None:
        while len(data) >= 16:
            length, kind = struct.unpack_from("=IH", data)
            if kind in {_NEWROUTE, _DELROUTE} and (prefix := _prefix(data[16:length])) is not None:
                (self.came if kind == _NEWROUTE else self.went)[name, prefix] = now
            data = data[(length + 3) & ~3 :]


def _prefix(route: bytes) -> Prefix | None:
    """Of a route message (rtmsg and its attributes); None for the tables that are not asked about."""
    family, length, table = route[0], route[1], route[4]
    if table != _TABLE_MAIN:
        return None
    attributes = route[12:]
    while len(attributes) >= 4:
        size, kind = struct.unpack_from("=HH", attributes)
        if kind == _RTA_DST:
            return ip_network((attributes[4:size], length))
        attributes = attributes[(size + 3) & ~3 :]
    return IPv4Network("0.0.0.0/0") if family == socket.AF_INET else IPv6Network("::/0")


def _monitor() -> socket.socket:
    monitor = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
    monitor.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, BUFFER_BYTES)
    monitor.bind((0, _IPV4_ROUTE | _IPV6_ROUTE))
    return monitor
