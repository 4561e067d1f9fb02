"""Opens sockets to the kernel's route netlink, in the network namespace of the calling thread.

It says nothing on them and reads nothing: `agent.kernel.routes` and `agent.kernel.monitor` do.
"""

from __future__ import annotations

import contextlib
import ctypes
import socket
import struct
from typing import Final

from agent.kernel.netlink import RTM_DELROUTE, RTM_NEWROUTE

RECEIVE_BYTES: Final = 32 * 1024
"""The kernel fills at most this much per datagram of a dump when a read offers it (netlink_recvmsg)."""
_BUFFER_BYTES: Final = 1024 * 1024
"""Doubled by the kernel. A queued answer takes 832 bytes of it (kernel 6.18): a batch's errors fit by far."""
_SOL_NETLINK: Final = 270
_NETLINK_ADD_MEMBERSHIP: Final = 1
_NETLINK_CAP_ACK: Final = 10
_NETLINK_EXT_ACK: Final = 11
_NETLINK_GET_STRICT_CHK: Final = 12
_SO_ATTACH_FILTER: Final = 26
_SO_SNDBUFFORCE: Final = 32
_SO_RCVBUFFORCE: Final = 33


def open_netlink() -> socket.socket:
    """Non-blocking; errors come with the kernel's words and without our request; dumps heed their filters."""
    sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
    try:
        sock.setblocking(False)
        for option in (_NETLINK_CAP_ACK, _NETLINK_EXT_ACK, _NETLINK_GET_STRICT_CHK):
            sock.setsockopt(_SOL_NETLINK, option, 1)
        for forced, usual in ((_SO_RCVBUFFORCE, socket.SO_RCVBUF), (_SO_SNDBUFFORCE, socket.SO_SNDBUF)):
            sock.setsockopt(socket.SOL_SOCKET, usual, _BUFFER_BYTES)
            with contextlib.suppress(PermissionError):  # in a user namespace net.core.rmem_max stays the limit
                sock.setsockopt(socket.SOL_SOCKET, forced, _BUFFER_BYTES)
        sock.bind((0, 0))
    except OSError:
        sock.close()
        raise
    return sock


def join(sock: socket.socket, groups: tuple[int, ...]) -> None:
    for group in groups:
        sock.setsockopt(_SOL_NETLINK, _NETLINK_ADD_MEMBERSHIP, group)


def drop_events_of(sock: socket.socket, ports: tuple[int, ...]) -> None:
    """Let the kernel drop, before it queues them, events that the netlink sockets with these port ids caused.

    Classic BPF on the first message of a datagram (events come one by one). A word is loaded as big-endian, while
    nlmsg_pid, at offset 12, is in host order.
    """
    swapped = struct.unpack(f">{len(ports)}I", struct.pack(f"={len(ports)}I", *ports))
    _filter(
        sock,
        (0x20, 0, 0, 12),  # ld [12]
        *((0x15, len(ports) - at, 0, port) for at, port in enumerate(swapped)),  # jeq #port, drop, next
        (0x06, 0, 0, 0xFFFF_FFFF),  # ret all: accept
        (0x06, 0, 0, 0),  # drop: ret #0
    )


def drop_all_but_defaults(sock: socket.socket, protocol: int) -> None:
    """Let the kernel drop events of routes that are no default routes, or are of `protocol`; others are let through.

    As above; nlmsg_type is at offset 4, of the route message behind the header rtm_dst_len at 17, rtm_protocol at 21.
    """
    newroute, delroute = struct.unpack(">2H", struct.pack("=2H", RTM_NEWROUTE, RTM_DELROUTE))
    _filter(
        sock,
        (0x28, 0, 0, 4),  # ldh [4]
        (0x15, 1, 0, newroute),  # jeq #newroute, route, next
        (0x15, 0, 4, delroute),  # jeq #delroute, next, accept
        (0x30, 0, 0, 17),  # route: ldb [17]
        (0x15, 0, 3, 0),  # jeq #0, next, drop
        (0x30, 0, 0, 21),  # ldb [21]
        (0x15, 1, 0, protocol),  # jeq #protocol, drop, accept
        (0x06, 0, 0, 0xFFFF_FFFF),  # accept: ret all
        (0x06, 0, 0, 0),  # drop: ret #0
    )


def _filter(sock: socket.socket, *instructions: tuple[int, int, int, int]) -> None:
    program = b"".join(struct.pack("=HBBI", *instruction) for instruction in instructions)
    code = ctypes.create_string_buffer(program, len(program))
    header = struct.pack("@HP", len(program) // 8, ctypes.addressof(code))
    sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, header)
