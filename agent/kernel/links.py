"""The interfaces of the network namespace and their addresses, now and after each change.

The only file that imports pyroute2: it is far too slow for routes and just right for a few links. An event is only a
reason to read everything again, so that a lost event costs nothing. Nothing is changed here.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
from collections import defaultdict
from collections.abc import Callable
from ipaddress import IPv4Interface, IPv6Interface, ip_interface
from typing import Final

from agent.kernel.nlsocket import RECEIVE_BYTES, join, open_netlink
from agent.loading import without_init
from agent.model import Interface
from bgp.background import in_background

# It loads every protocol that it knows, and two databases: 70 modules, 100 ms (0.9).
with without_init("pyroute2"):
    from pyroute2.iproute.linux import AsyncIPRoute
    from pyroute2.netlink.exceptions import NetlinkError

QUIET_SECONDS: Final = 0.05
"""At least so long between two readings: a burst of events is one."""
RETRY_SECONDS: Final = 1.0
"""After a reading that failed; what was read before stands meanwhile."""
READ_SECONDS: Final = 10.0
_EVENTS_PER_TURN: Final = 256
_GROUPS: Final = (1, 5, 9)  # RTNLGRP_LINK, RTNLGRP_IPV4_IFADDR, RTNLGRP_IPV6_IFADDR
_IFF_UP: Final = 1
_WORKING_STATES: Final = frozenset({"UP", "UNKNOWN"})


class Links:
    """Calls `on_change` with all interfaces once before `start` returns, then whenever they are not what they were."""

    def __init__(self, on_change: Callable[[tuple[Interface, ...]], None]) -> None:
        self._on_change = on_change
        self._last: tuple[Interface, ...] | None = None
        self._changed = asyncio.Event()

    async def start(self) -> None:
        """Raises OSError when the kernel cannot be asked."""
        self._socket = open_netlink()
        try:
            join(self._socket, _GROUPS)  # before the first reading, so that nothing falls between
            await self._read()
        except NetlinkError as error:
            self._socket.close()
            raise OSError(error.code, f"reading the interfaces: {error}") from error
        except BaseException:
            self._socket.close()
            raise
        asyncio.get_running_loop().add_reader(self._socket, self._heard)
        self._task = in_background(self._follow(), name="links")

    async def stop(self) -> None:
        asyncio.get_running_loop().remove_reader(self._socket)
        self._socket.close()
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task

    def _heard(self) -> None:
        """Throw the events away; that there were any is enough."""
        self._changed.set()
        for _ in range(_EVENTS_PER_TURN):
            try:
                self._socket.recv(RECEIVE_BYTES)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno != errno.ENOBUFS:  # events were dropped: everything is read again anyway
                    raise

    async def _follow(self) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            try:
                await self._read()
            except (NetlinkError, OSError):  # interrupted by the next change, or out of memory
                self._changed.set()
                await asyncio.sleep(RETRY_SECONDS)
            await asyncio.sleep(QUIET_SECONDS)

    async def _read(self) -> None:
        interfaces = await asyncio.wait_for(_interfaces(), READ_SECONDS)
        if interfaces != self._last:
            self._last = interfaces
            self._on_change(interfaces)


async def _interfaces() -> tuple[Interface, ...]:
    """By index. An address of a link that came in between the two dumps waits for its own event."""
    addresses: defaultdict[int, list[IPv4Interface | IPv6Interface]] = defaultdict(list)
    async with AsyncIPRoute(groups=0) as ipr:
        async for address in await ipr.addr("dump"):
            # On a point-to-point link `address` is the other end, and only `local` is ours (IPv4; absent in IPv6).
            here = address.get("local") or address.get("address")
            addresses[address["index"]].append(ip_interface(f"{here}/{address['prefixlen']}"))
        links = [link async for link in await ipr.link("dump")]
    found = (
        Interface(
            index=link["index"],
            name=link.get("ifname"),
            up=bool(link["flags"] & _IFF_UP) and link.get("operstate") in _WORKING_STATES,
            addresses=tuple(sorted(addresses[link["index"]], key=lambda here: (here.version, here))),
        )
        for link in links
    )
    return tuple(sorted(found, key=lambda interface: interface.index))
