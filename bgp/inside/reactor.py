"""Replacements in ExaBGP's reactor and tables: its turns, reloads and end, and what of a table is sent.

They run inside ExaBGP; `bgp.inside.launcher` puts each in its place and hands it what it replaces. Each is one
function, says what is wrong without it, and has a test in tests/live/test_exabgp_contract*.py that fails when upstream
changes (seen with ExaBGP 5.0.15). Replacements in sessions are in `bgp.inside.patches`, those in sockets in
`bgp.inside.sockets`. It refuses to import ExaBGP.
"""

from __future__ import annotations

import functools
import select
import socket
from collections.abc import Callable, Iterator
from typing import Any, Final

TURN_MIN_MS: Final = 100
TURN_MAX_MS: Final = 300
TURN_MS_PER_PEER: Final = 0.3

Method = Callable[..., Any]


def carry_over(reconfigure: Method) -> Method:
    """Around `Peer.reconfigure`: a reload gives each peer a new neighbor object and forgets what waits on the old one.

    An End-of-RIB or a ROUTE-REFRESH that was answered `done` just before the reload would never be sent.
    """

    @functools.wraps(reconfigure)
    def _reconfigure(self: Any, neighbor: Any = None) -> None:
        if neighbor is not None:
            neighbor.eor, neighbor.refresh = self.neighbor.eor, self.neighbor.refresh
        reconfigure(self, neighbor)

    return _reconfigure


def answer_requests(resend: Method, enhanced: object) -> Method:
    """Around `Peer.resend`: the marks around a peer's answer to our ROUTE-REFRESH (RFC 7313) are no requests.

    ExaBGP takes any ROUTE-REFRESH for one: each time that we ask, the peer would get our whole table twice, without
    having asked. It calls those that are none not enhanced, on sessions where requests are.
    """

    @functools.wraps(resend)
    def _resend(self: Any, as_enhanced: bool, family: object = None) -> None:
        if as_enhanced or family is None or self.proto is None or self.proto.negotiated.refresh != enhanced:
            resend(self, as_enhanced, family)

    return _resend


def pace(wait_for_io: Method) -> Method:
    """Around `Reactor._wait_for_io`: turns come as often as the number of peers needs, and a knock ends the wait.

    Each turn walks every peer, which is ExaBGP's idle CPU. But it polls neither listening sockets nor accepts more
    than one connection a turn: with few turns, fifty nodes that dial at once would wait seconds for their sessions.
    """
    gate = select.epoll()
    known: set[socket.socket] = set()

    @functools.wraps(wait_for_io)
    def _wait_for_io(self: Any, sleep_ms: int) -> Iterator[int]:
        listening = set(self.listener._sockets)  # noqa: SLF001
        for listener in listening - known:
            gate.register(listener, select.EPOLLIN)
        known.clear()  # the kernel takes closed sockets out of the gate by itself
        known.update(listening)
        self._poller.register(gate.fileno(), select.POLLIN)
        if sleep_ms:
            sleep_ms = int(min(TURN_MAX_MS, max(TURN_MIN_MS, TURN_MS_PER_PEER * len(self._peers))))
        return (io for io in wait_for_io(self, sleep_ms) if io != gate.fileno())

    return _wait_for_io


def never_pending(_reactor: object) -> bool:
    """In place of `Reactor._pending_adjribout`: a reload that comes while UPDATEs wait to be sent is forgotten.

    It is asked after the signal was taken, and a "yes" drops it. A peer that is away keeps its routes waiting, so one
    dead peer could stop every change of the configuration. Our files hold no routes: a reload need not wait for any.
    """
    return False


def end_unheard(shutdown: Method) -> Method:
    """Around `Reactor.shutdown`: when ExaBGP ends by SIGTERM it says nothing of its sessions.

    Without it the last it says is that each of them is down. For an agent beside it that would be the end of every
    peer, and of all routes of those that cannot restart, while peers and kernel forward as before. That ExaBGP has
    gone shows by itself.
    """

    @functools.wraps(shutdown)
    def _shutdown(self: Any) -> None:
        self.processes.silence = True
        shutdown(self)

    return _shutdown


def keep_newest(update_rib: Method) -> Method:
    """Around `OutgoingRIB._update_rib`: of several changes to one prefix that wait to be sent, only the last may go.

    UPDATEs are sent grouped by attributes, groups in the order they appeared, so an older withdrawal (or other
    attributes) may follow the newer announcement: the peer then lacks a route that the table shows as told.
    """

    @functools.wraps(update_rib)
    def _update_rib(self: Any, change: Any) -> None:
        waiting = self._new_nlri.get(change.index())
        if waiting is not None:
            families = self._new_attr_af_nlri.get(waiting.attributes.index(), {})
            families.get(waiting.nlri.family().afi_safi(), {}).pop(change.index(), None)
        update_rib(self, change)

    return _update_rib


def as_negotiated(split: Method, ipv4: object, ipv6: object) -> Method:
    """Around `Update._split_nlris`: an IPv4 route with an IPv6 next hop is not sent where RFC 8950 was not negotiated.

    It would be, and the peer would end the session (NOTIFICATION 3/9) again and again: the route stays in the table.
    """

    @functools.wraps(split)
    def _split_nlris(self: Any, negotiated: Any) -> Any:
        if not any(nhafi == ipv6 for _, _, nhafi in negotiated.nexthop):
            kept = [nlri for nlri in self.nlris if nlri.afi != ipv4 or nlri.nexthop.afi != ipv6]
            if len(kept) < len(self.nlris):
                self = type(self)(kept, self.attributes)
        return split(self, negotiated)

    return _split_nlris


def offer_next_hops(read_next_hops: Method) -> Method:
    """Around `ParseNeighbor._post_capa_nexthop`: a next hop's family need not be one that the session carries.

    Without it `nexthop { ipv4 unicast ipv6; }` is dropped, and an empty capability sent, unless IPv6 routes are too.
    """

    @functools.wraps(read_next_hops)
    def _post_capa_nexthop(self: Any, neighbor: Any, local: Any) -> None:
        read_next_hops(self, neighbor, local)
        for offered in local.get("nexthop", {}).values():
            for afi, safi, nhafi in offered:
                if (afi, safi) in neighbor.families():
                    neighbor.add_nexthop(afi, safi, nhafi)

    return _post_capa_nexthop


def same_in_all(same: Method) -> Method:
    """Around `Neighbor.__eq__`, which forgets the source interface: a reload would not bind the session to another."""

    @functools.wraps(same)
    def equals(self: Any, other: Any) -> bool:
        return self["source-interface"] == other["source-interface"] and bool(same(self, other))

    return equals
