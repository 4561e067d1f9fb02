"""Replacements in ExaBGP's sockets: TTLs, interfaces, and dials that fail.

They run inside ExaBGP; `bgp.inside.launcher` puts each in its place and hands it what it replaces. Each is one
function, says what is wrong without it, and has a test in tests/live/test_exabgp_contract*.py that fails when upstream
changes (seen with ExaBGP 5.0.15, Linux). It refuses to import ExaBGP.

TTL security (GTSM, RFC 5082) on the side that is dialed: all neighbors of one local address and port share a listening
socket, and those that want it stand beside others that do not. So the listening socket checks nothing, but answers with
a TTL of 255 as soon as one neighbor wants it, which harms no other; the kernel keeps each connection's SYN
(TCP_SAVE_SYN), and when the neighbor is known its TTL is looked at there. From then on the kernel checks each packet.
"""

from __future__ import annotations

import contextlib
import functools
import os
import select
import socket
from collections.abc import Callable, Iterator
from typing import Any, Final

SYN_RETRIES: Final = 1
"""A dial that nobody answers ends after 3 s (Linux: 1 s, then 2 s), and not after two minutes."""
GTSM_TTL: Final = 255
TCP_SAVE_SYN: Final = 27
TCP_SAVED_SYN: Final = 28
SYN_MAX_BYTES: Final = 512
"""linux/tcp.h; an IPv6 header and a TCP header with all options are 100 bytes."""
PROBE_SECONDS: Final = 5
"""How often a peer of which nothing is heard is asked whether it still has the connection; its kernel answers."""
TCP_RTO_MAX_MS: Final = 44
"""linux/tcp.h, since Linux 6.15."""
NEVER_MS: Final = 2**31 - 1
DEFAULT_TTL: Final = -1
"""What makes Linux forget a TTL that was set (ip(7), ipv6(7))."""

Method = Callable[..., Any]
Errors = tuple[type[Exception], ...]


def give_up_early(create: Method) -> Method:
    """Around `outgoing.create`: the kernel would try a silent peer for two minutes, ever more slowly."""

    @functools.wraps(create)
    def _create(afi: object, interface: object = None) -> socket.socket:
        created: socket.socket = create(afi, interface)
        created.setsockopt(socket.IPPROTO_TCP, socket.TCP_SYNCNT, SYN_RETRIES)
        return created

    return _create


def notice_reboots(set_up: Method) -> Method:
    """Around `tcp.asynchronous`, which every connection goes through: soon notices a peer's machine that has rebooted.

    It does not know the connection any more, and says so (RST) as soon as it is sent something. Without this that is
    our next KEEPALIVE, 30 s with the default hold time, or what of the last one TCP sends again, ever more seldom; so
    long whoever dials us is refused, since there is a session, and we dial nobody. A peer that is silent is left to the
    hold timer: TCP itself never gives up.
    """

    @functools.wraps(set_up)
    def _asynchronous(io: socket.socket, ip: object) -> None:
        set_up(io, ip)
        io.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in (
            (socket.TCP_KEEPIDLE, PROBE_SECONDS),
            (socket.TCP_KEEPINTVL, PROBE_SECONDS),
            (socket.TCP_USER_TIMEOUT, NEVER_MS),
        ):
            io.setsockopt(socket.IPPROTO_TCP, option, value)
        with contextlib.suppress(OSError):  # an older kernel
            io.setsockopt(socket.IPPROTO_TCP, TCP_RTO_MAX_MS, PROBE_SECONDS * 1000)

    return _asynchronous


def fail_aloud(connect: Method, failures: Errors) -> Method:
    """Around `Outgoing._connect`: what cannot even be tried fails as a dial that is refused does.

    Without it a missing local address, or an unreachable network, is tried again in every turn and never told.
    """

    @functools.wraps(connect)
    def _connect(self: Any) -> object:
        problem = connect(self)
        if isinstance(problem, failures):
            raise problem
        return problem

    return _connect


def say_outcome(failure: Callable[[str], Exception]) -> Callable[[socket.socket], Iterator[tuple[bool, str]]]:
    """In place of `outgoing.ready`: a dial that failed is told with the kernel's words for it (strerror).

    Without it a dial that nobody took counts as connected, for the kernel says only once why not (SO_ERROR); the first
    byte that is sent then fails, and a refusal, a timeout and a missing route all look like one closed connection.
    """

    def _ready(dialed: socket.socket) -> Iterator[tuple[bool, str]]:
        poller = select.poll()
        poller.register(dialed, select.POLLOUT)
        while not poller.poll(0):
            yield False, "waiting"
        if number := dialed.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            dialed.close()
            raise failure(os.strerror(number))
        yield True, "connected"

    return _ready


def say_plainly(connect: Method, failure: type[Exception]) -> Method:
    """Around `outgoing.connect`: what cannot even be tried is told in the kernel's words as well.

    Without it every failure of a session with a password is blamed on the password.
    """

    @functools.wraps(connect)
    def _connect(*where: object) -> None:
        try:
            connect(*where)
        except failure as error:
            why = error.__context__
            if isinstance(why, OSError) and why.errno:
                raise failure(os.strerror(why.errno)) from None
            raise

    return _connect


def name_interface(set_up: Method, failure: Callable[[str], Exception]) -> Method:
    """Around `Outgoing._setup`, which falls over its own feet when there is no interface of the name."""

    @functools.wraps(set_up)
    def _setup(self: Any) -> object:
        if self.interface:
            try:
                socket.if_nametoindex(self.interface)
            except OSError:
                return failure(f"there is no interface {self.interface}")
        return set_up(self)

    return _setup


def listen_for_all(listen: Method) -> Method:
    """Around `Listener._listen`: TTL security of one neighbor is not forced upon all that share the socket.

    Without it the minimum holds for all of them, and the SYN-ACK leaves with a TTL of 64, so that nobody who asks for
    TTL security gets as far as a connection.
    """

    @functools.wraps(listen)
    def _listen(self: Any, local: Any, peer: Any, port: int, *password_and_ttl: Any) -> None:
        *password, least_ttl = password_and_ttl
        listen(self, local, peer, port, *password, None)
        for sock, (address, listening, *_) in self._sockets.items():
            if (address, listening) == (local.top(), port):
                sock.setsockopt(socket.IPPROTO_TCP, TCP_SAVE_SYN, 1)
                if least_ttl:
                    _send_with(sock, GTSM_TTL)

    return _listen


def forget_none(incoming: Method) -> Method:
    """Around `Listener.incoming`: a connection that has been accepted counts as new until it has been looked at.

    Without it one that comes at the same moment as a stranger's, on another listening socket, is not looked at, and
    nobody else is heard on its socket, until somebody dials the other one again.
    """

    @functools.wraps(incoming)
    def _incoming(self: Any) -> bool:
        return bool(incoming(self) or self._accepted)

    return _incoming


def take_as_configured(
    handle_connection: Method, bind_to_device: Method, set_minimum: Method, bad: type[Exception]
) -> Method:
    """Around `Reactor.handle_connection`: who dials us gets the TTLs and the interface of its neighbor, or is refused.

    Without it only the TTL that we send with is set, and one that should be the kernel's is that of the socket on
    which we listen. A refused connection must not come as far as `Peer.handle_connection`: that would end an attempt
    of our own.
    """

    @functools.wraps(handle_connection)
    def _handle_connection(self: Any, name: str, connection: Any) -> object:
        neighbor, dialed = self.neighbor(name), connection.io
        if neighbor is None or dialed is None:
            return handle_connection(self, name, connection)
        least, interface = neighbor["incoming-ttl"], neighbor["source-interface"]
        try:
            if not (least or neighbor["outgoing-ttl"]):
                _send_with(dialed, DEFAULT_TTL)
            if least and syn_ttl(dialed.getsockopt(socket.IPPROTO_TCP, TCP_SAVED_SYN, SYN_MAX_BYTES)) < least:
                connection.close()
                return True
            set_minimum(dialed, connection.afi, connection.peer, least)
            if interface:
                bind_to_device(dialed, interface)
        except (bad, OSError):
            connection.close()
            return True
        return handle_connection(self, name, connection)

    return _handle_connection


def syn_ttl(saved: bytes) -> int:
    """TTL or hop limit of a SYN as the kernel has kept it, from its IP header on; 0 when it has kept none."""
    if len(saved) < 20:
        return 0
    return saved[8] if saved[0] >> 4 == 4 else saved[7]


def _send_with(sock: socket.socket, ttl: int) -> None:
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, ttl)
    else:
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, ttl)
