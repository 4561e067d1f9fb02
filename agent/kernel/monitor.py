"""Hears of changes to the kernel's routes and our rules that we did not make, and of events that lose routes silently.

Kernel 6.18 removes IPv4 routes with inline gateways silently when their link goes down, is deleted, or loses its last
IPv4 address (losing only the address of the gateway's subnet keeps them): so LINK and IFADDR events count as drift too.
It does not look at what was lost nor mend anything: it calls back, and whoever is called dumps and compares.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import struct
from collections.abc import Callable
from typing import Final

from agent.kernel.heard import decode_route
from agent.kernel.netlink import (
    RTM_DELROUTE,
    RTM_NEWROUTE,
    MalformedError,
    Message,
    messages,
)
from agent.kernel.nlsocket import RECEIVE_BYTES, drop_events_of, join, open_netlink
from agent.kernel.rules import RTM_DELRULE, RTM_NEWRULE, protocol_of_rule
from agent.model import FibKey

READS_PER_TURN: Final = 256
"""Events read before the event loop gets its turn again, about 1–3 ms."""
READS_PER_DRAIN: Final = 4096
_LINK, _IPV4_IFADDR, _IPV4_ROUTE, _IPV4_RULE, _IPV6_IFADDR, _IPV6_ROUTE, _IPV6_RULE, _NEXTHOP = (
    1,
    5,
    7,
    8,
    9,
    11,
    19,
    32,
)
_RTM_NEWLINK, _RTM_DELLINK, _RTM_NEWADDR, _RTM_DELADDR, _RTM_DELNEXTHOP = 16, 17, 20, 21, 105
_IFF_UP: Final = 1
_RT_SCOPE_LINK: Final = 253
_IFINFOMSG: Final = struct.Struct("=BxHiII")
_IFADDRMSG: Final = struct.Struct("=BBBBi")


class Monitor:
    """`shared` holds the keys of ours at which another protocol's route was seen since `blind` was last cleared.

    `blind`: events may have been missed, so `shared` is not the whole truth until somebody has scanned the table.
    """

    def __init__(
        self,
        *,
        protocol: int,
        table: int,
        ignored_ports: tuple[int, ...],
        concerns: Callable[[FibKey], bool],
        on_drift: Callable[[], None],
    ) -> None:
        self.shared: set[FibKey] = set()
        self.blind = True
        self._protocol = protocol
        self._table = table
        self._concerns = concerns
        self._on_drift = on_drift
        self._up: dict[int, bool] = {}
        self._socket = open_netlink()
        try:
            drop_events_of(self._socket, ignored_ports)
            join(self._socket, (_LINK, _IPV4_IFADDR, _IPV4_ROUTE, _IPV4_RULE, _IPV6_IFADDR, _IPV6_ROUTE, _IPV6_RULE))
            with contextlib.suppress(OSError):  # a kernel before 5.3 has no next-hop objects to tell of
                join(self._socket, (_NEXTHOP,))
            asyncio.get_running_loop().add_reader(self._socket, self._read, READS_PER_TURN)
        except OSError:
            self._socket.close()
            raise

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._socket)
        self._socket.close()

    def drain(self) -> None:
        """Take in all that has happened so far; when that is too much, be `blind`."""
        if not self._read(READS_PER_DRAIN):
            self.blind = True

    def _read(self, reads: int) -> bool:
        """True: nothing is left to read."""
        drifted = empty = False
        for _ in range(reads):
            try:
                data = self._socket.recv(RECEIVE_BYTES)
            except BlockingIOError:
                empty = True
                break
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                drifted = self.blind = True  # events were dropped; the socket goes on
                continue
            drifted = self._matters(data) or drifted
        if drifted:
            self._on_drift()
        return empty

    def _matters(self, data: bytes) -> bool:
        try:
            matters = False
            for message in messages(data):
                matters = self._hear(message) or matters  # each is heard: it may name a shared key
        except MalformedError:
            return True  # nothing of ours is known to have changed, but something was said: look
        return matters

    def _hear(self, message: Message) -> bool:
        if message.type in (RTM_NEWROUTE, RTM_DELROUTE):
            return self._hear_route(message)
        if message.type in (_RTM_NEWLINK, _RTM_DELLINK):
            return self._hear_link(message)
        if message.type in (_RTM_NEWADDR, _RTM_DELADDR):
            return self._hear_address(message)
        if message.type in (RTM_NEWRULE, RTM_DELRULE):
            return protocol_of_rule(message.body) == self._protocol
        # No route of ours uses a next-hop object, but one that stands in our way may, and goes with it silently.
        return message.type == _RTM_DELNEXTHOP

    def _hear_route(self, message: Message) -> bool:
        if (heard := decode_route(message.body)) is None:
            return False
        if heard.protocol == self._protocol:
            return True
        if heard.table != self._table or not self._concerns(heard.key):
            return False
        if message.type == RTM_NEWROUTE:
            self.shared.add(heard.key)
        return True

    def _hear_link(self, message: Message) -> bool:
        """Going up or down counts; the many other things said about a link do not."""
        if len(message.body) < _IFINFOMSG.size:
            raise MalformedError("a link message shorter than its header")
        _family, _type, index, flags, _change = _IFINFOMSG.unpack_from(message.body)
        if message.type == _RTM_DELLINK:
            self._up.pop(index, None)
            return True
        up = bool(flags & _IFF_UP)
        changed = self._up.get(index) != up
        self._up[index] = up
        return changed

    def _hear_address(self, message: Message) -> bool:
        """Link-local addresses come with each new link and carry no route that we write by gateway alone."""
        if len(message.body) < _IFADDRMSG.size:
            raise MalformedError("an address message shorter than its header")
        _family, _length, _flags, scope, _index = _IFADDRMSG.unpack_from(message.body)
        return bool(scope != _RT_SCOPE_LINK)
