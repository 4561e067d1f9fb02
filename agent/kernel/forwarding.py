"""Whether this machine forwards packets at all (`net.ipv4.ip_forward`, `net.ipv6.conf.all.forwarding`).

Without it every route is in vain: what comes for a pod, or through this node, is dropped without a word. It is only
read: the sysctl is the administrator's, and in a container it cannot be written. The kernel tells of each change
(RTM_NEWNETCONF).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Final

from agent.kernel.following import Following
from agent.kernel.nlsocket import join
from agent.model import Problem
from bgp.model import Family

_GROUPS: Final = (24, 25)  # RTNLGRP_IPV4_NETCONF, RTNLGRP_IPV6_NETCONF
_SYSCTLS: Final = {Family.IPV4: "net/ipv4/ip_forward", Family.IPV6: "net/ipv6/conf/all/forwarding"}


class Forwarding:
    """Calls `on_change` with the families that are not forwarded before `start` returns, and when they change."""

    def __init__(self, on_change: Callable[[frozenset[Family]], None]) -> None:
        self._on_change = on_change
        self._last: frozenset[Family] | None = None
        self._following = Following(
            "forwarding", prepare=lambda sock: join(sock, _GROUPS), read=self._read, matters=lambda _: True
        )

    async def start(self) -> None:
        """Raises OSError when the kernel cannot be asked."""
        await self._following.start()

    async def stop(self) -> None:
        await self._following.stop()

    async def _read(self) -> bool:
        off = frozenset(family for family in Family if not _forwards(family))
        if off != self._last:
            self._last = off
            self._on_change(off)
        return True


def _forwards(family: Family) -> bool:
    """A kernel without the family has no such file, and nothing to forward."""
    try:
        return Path("/proc/sys", _SYSCTLS[family]).read_text().strip() != "0"
    except FileNotFoundError:
        return True


def forwarding_problems(node: str, off: Collection[Family], used: Collection[Family]) -> Iterator[Problem]:
    """Of the families that the node has addresses of."""
    for family in sorted(frozenset(off) & frozenset(used)):
        name = _SYSCTLS[family].replace("/", ".")
        yield Problem(
            "forwardingOff",
            f"Node {node}",
            f"{name} is 0: the kernel drops what comes here for pods, and what this node should pass on",
            f"sysctl -w {name}=1, and keep it in /etc/sysctl.d.",
        )
