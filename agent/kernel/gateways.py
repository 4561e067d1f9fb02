"""The next hops of the node's default routes, now and after each change.

What others do to all their other routes never wakes it: the kernel drops those events before it queues them. Nothing
is changed here.

Kernel 6.18 does not tell of each loss: IPv4 routes go silently with their link, with the last address of their
interface, and with their next-hop object, and such an object may change under them; a next hop of an ECMP route is dead
while its link is down. So what happens to links, addresses and objects that default routes stand on counts too.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import struct
from collections.abc import Callable, Iterator
from typing import Final

from agent.kernel.defaults import DefaultRoute, Lingering, decode_default, gateways_of
from agent.kernel.following import Following
from agent.kernel.heard import decode_error
from agent.kernel.netlink import (
    MAIN_TABLE,
    NLM_F_DUMP_INTR,
    NLMSG_DONE,
    NLMSG_ERROR,
    RTM_DELROUTE,
    RTM_NEWROUTE,
    MalformedError,
    Message,
    dump_request,
    messages,
)
from agent.kernel.nlsocket import RECEIVE_BYTES, drop_all_but_defaults, join, open_netlink
from agent.kernel.routes import ANSWER_SECONDS, DEFAULT_PROTOCOL, DUMP_ATTEMPTS, DUMP_PARTS_MAX
from agent.model import Gateway

_LINK, _IPV4_IFADDR, _IPV4_ROUTE, _IPV6_ROUTE, _NEXTHOP = 1, 5, 7, 11, 32
_RTM_NEWLINK, _RTM_DELLINK, _RTM_DELADDR, _RTM_NEWNEXTHOP, _RTM_DELNEXTHOP = 16, 17, 21, 104, 105
_IFF_UP: Final = 1
_INTERFACE: Final = struct.Struct("=4xiI")
"""Index and flags of a link, index and nothing of an address: both have the index at offset 4."""


class Gateways:
    """Calls `on_change` with all next hops once before `start` returns, then whenever they are not what they were.

    Those that are gone for a moment only count all the time (`agent.kernel.defaults.Lingering`).
    """

    def __init__(self, on_change: Callable[[tuple[Gateway, ...]], None], *, protocol: int = DEFAULT_PROTOCOL) -> None:
        """`protocol` is that of our own routes, which do not count."""
        self.readings = 0
        self._on_change = on_change
        self._protocol = protocol
        self._last: tuple[Gateway, ...] | None = None
        self._lingering = Lingering()
        self._timer: asyncio.TimerHandle | None = None
        self._routes: tuple[DefaultRoute, ...] = ()
        self._links: dict[int, int] = {}
        """Flags last heard, of the interfaces that default routes stand on."""
        self._following = Following("gateways", prepare=self._prepare, read=self._read, matters=self._matters)

    async def start(self) -> None:
        """Raises OSError when the kernel cannot be asked."""
        await self._following.start()

    async def stop(self) -> None:
        await self._following.stop()
        if self._timer is not None:
            self._timer.cancel()

    def _prepare(self, sock: socket.socket) -> None:
        drop_all_but_defaults(sock, self._protocol)
        join(sock, (_LINK, _IPV4_IFADDR, _IPV4_ROUTE, _IPV6_ROUTE))
        with contextlib.suppress(OSError):  # a kernel before 5.3 has no next-hop objects to tell of
            join(sock, (_NEXTHOP,))

    def _matters(self, data: bytes) -> bool:
        try:
            return any([self._concerns(message) for message in messages(data)])  # noqa: C419  # each is heard
        except (MalformedError, struct.error):
            return True  # something was said: look

    def _concerns(self, message: Message) -> bool:
        match message.type:
            case kind if kind in (RTM_NEWROUTE, RTM_DELROUTE):
                return True
            case kind if kind in (_RTM_NEWNEXTHOP, _RTM_DELNEXTHOP):
                return any(route.of_object for route in self._routes)
        index, flags = _INTERFACE.unpack_from(message.body) if len(message.body) >= _INTERFACE.size else (0, 0)
        if message.type == _RTM_DELADDR:
            (index,) = struct.unpack_from("=i", message.body, 4)
            return index in self._links
        if message.type == _RTM_DELLINK:
            return self._lingering.lose_link(index) or index in self._links
        if message.type != _RTM_NEWLINK or index not in self._links:
            return False
        before, self._links[index] = self._links[index], flags
        return bool((before ^ flags) & _IFF_UP)

    def _tell(self, there: tuple[Gateway, ...]) -> None:
        loop = asyncio.get_running_loop()
        gateways = self._lingering.see(there, loop.time())
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None
        if self._lingering.next_gone_at is not None:
            self._timer = loop.call_at(self._lingering.next_gone_at, self._tell, there)
        if gateways != self._last:
            self._last = gateways
            self._on_change(gateways)

    async def _read(self) -> bool:
        """False: others changed routes all the time, and something may have been missed."""
        self.readings += 1
        whole, found = True, list[DefaultRoute]()
        try:
            for version in (4, 6):
                for _ in range(DUMP_ATTEMPTS):
                    routes, consistent = await self._dump(version)
                    if consistent:
                        break
                whole = whole and consistent
                found += routes
        except MalformedError as error:
            raise OSError(errno.EBADMSG, f"reading the default routes: {error}") from error
        self._routes = tuple(found)
        stood_on = {hop.interface for route in found for hop in route.hops}
        self._links = {index: self._links.get(index, _IFF_UP) for index in stood_on}
        self._tell(gateways_of(found))
        return whole

    async def _dump(self, version: int) -> tuple[list[DefaultRoute], bool]:
        """The default routes, and whether none can be missing. The kernel cannot be asked for these alone."""
        found, consistent = list[DefaultRoute](), True
        with open_netlink() as sock:
            sock.send(dump_request(version, 1, table=MAIN_TABLE))
            for _ in range(DUMP_PARTS_MAX):
                for message in messages(await _receive(sock)):
                    consistent = consistent and not message.flags & NLM_F_DUMP_INTR
                    if message.type in (NLMSG_DONE, NLMSG_ERROR):
                        number, text = decode_error(message)
                        if number not in (0, errno.ENOENT):  # ENOENT: the table does not exist (yet)
                            raise OSError(number, text)
                        return found, consistent
                    found += self._defaults(message)
                await asyncio.sleep(0)
        raise OSError(errno.E2BIG, f"more than {DUMP_PARTS_MAX} parts")

    def _defaults(self, message: Message) -> Iterator[DefaultRoute]:
        if message.type == RTM_NEWROUTE:
            route = decode_default(message.body, table=MAIN_TABLE, own_protocol=self._protocol)
            if route is not None:
                yield route


async def _receive(sock: socket.socket) -> bytes:
    try:
        return sock.recv(RECEIVE_BYTES)
    except BlockingIOError:
        async with asyncio.timeout(ANSWER_SECONDS):
            return await asyncio.get_running_loop().sock_recv(sock, RECEIVE_BYTES)
