"""The interfaces of the network namespace and their addresses, now and after each change.

By pyroute2, which is far too slow for routes and just right for a few links (`inventory` alone uses it, too). Nothing
is changed here.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable
from ipaddress import IPv4Interface, IPv6Interface, ip_interface
from typing import Final

from agent.kernel.following import Following
from agent.kernel.nlsocket import join
from agent.loading import without_init
from agent.model import Interface
from bgp.model import Prefix

# It loads every protocol that it knows, and two databases: 70 modules, 100 ms (0.9).
with without_init("pyroute2"):
    from pyroute2.iproute.linux import AsyncIPRoute
    from pyroute2.netlink.exceptions import NetlinkError

READ_SECONDS: Final = 10.0
_GROUPS: Final = (1, 5, 9)  # RTNLGRP_LINK, RTNLGRP_IPV4_IFADDR, RTNLGRP_IPV6_IFADDR
_IFF_UP: Final = 1
_WORKING_STATES: Final = frozenset({"UP", "UNKNOWN"})


class Links:
    """Calls `on_change` with all interfaces once before `start` returns, then whenever they are not what they were."""

    def __init__(self, on_change: Callable[[tuple[Interface, ...]], None]) -> None:
        self._on_change = on_change
        self._last: tuple[Interface, ...] | None = None
        self._following = Following(
            "links", prepare=lambda sock: join(sock, _GROUPS), read=self._read, matters=lambda _: True
        )

    async def start(self) -> None:
        """Raises OSError when the kernel cannot be asked."""
        await self._following.start()

    async def stop(self) -> None:
        await self._following.stop()

    async def _read(self) -> bool:
        try:
            async with asyncio.timeout(READ_SECONDS):
                interfaces = await _interfaces()
        except NetlinkError as error:
            raise OSError(error.code, f"reading the interfaces: {error}") from error
        if interfaces != self._last:
            self._last = interfaces
            self._on_change(interfaces)
        return True


async def _interfaces() -> tuple[Interface, ...]:
    """By index. An address of a link that came in between the two dumps waits for its own event."""
    addresses: defaultdict[int, list[IPv4Interface | IPv6Interface]] = defaultdict(list)
    ends: defaultdict[int, list[Prefix]] = defaultdict(list)
    async with AsyncIPRoute(groups=0) as ipr:
        async for address in await ipr.addr("dump"):
            # On a point-to-point link `address` is the other end, whose network the length is of, and `local` is ours;
            # on others `local` is the same (IPv4) or absent (IPv6).
            there = ip_interface(f"{address.get('address')}/{address['prefixlen']}")
            here = ip_interface(address.get("local") or there.ip)
            if here.ip == there.ip:
                addresses[address["index"]].append(there)
            else:
                addresses[address["index"]].append(here)
                ends[address["index"]].append(there.network)
        links = [link async for link in await ipr.link("dump")]
    found = (
        Interface(
            index=link["index"],
            name=link.get("ifname"),
            up=bool(link["flags"] & _IFF_UP) and link.get("operstate") in _WORKING_STATES,
            addresses=tuple(sorted(addresses[link["index"]], key=lambda here: (here.version, here))),
            ends=tuple(sorted(ends[link["index"]], key=lambda end: (end.version, end))),
        )
        for link in links
    )
    return tuple(sorted(found, key=lambda interface: interface.index))
