"""What must hold before an agent may touch the kernel: it is alone in its network namespace, and it may.

The lock is the name of an abstract unix socket: such names belong to a network namespace, like the routes, and go with
the process however it ends. It does not wait for the other agent to end, and it tests no capability by trying.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from pathlib import Path
from typing import Final, Self

LOCK_NAME: Final = "\0bgpilot/agent"
NEEDED_CAPABILITIES: Final = {12: "CAP_NET_ADMIN"}
"""Bit in /proc/PID/status (linux/capability.h) → name. NET_ADMIN writes routes and joins nothing without it."""

_UCRED: Final = struct.Struct("=iII")


class LockedError(Exception):
    """Another agent runs in this network namespace; the text says so and what to do."""

    def __init__(self, text: str, holder: str = "") -> None:
        """`holder`: ` (process NUMBER)`, or nothing when that cannot be known."""
        super().__init__(text)
        self.holder = holder


class InstanceLock:
    """Held from `acquire` to `release` or the end of the process."""

    def __init__(self) -> None:
        self._socket: socket.socket | None = None

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def acquire(self) -> None:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            sock.bind(LOCK_NAME)
            sock.listen()  # so that the kernel tells others our process id (SO_PEERCRED)
        except OSError as error:
            sock.close()
            if error.errno != errno.EADDRINUSE:
                raise
            holder = _owner()
            raise LockedError(
                f"another bgpilot agent{holder} runs in this network namespace: two would undo each other's routes. "
                "Stop it first, or start this one in another network namespace.",
                holder,
            ) from error
        self._socket = sock

    def release(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def _owner() -> str:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.setblocking(False)
        try:
            sock.connect(LOCK_NAME)
        except OSError:
            return ""  # it just ended, or its queue is full: the message stands without its number
        pid, _uid, _gid = _UCRED.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
    return f" (process {pid})" if pid else ""  # 0: it is in a process namespace that we cannot see


def missing_capabilities(status: Path = Path("/proc/self/status")) -> tuple[str, ...]:
    """Names of the capabilities that the process needs for the kernel's routes and does not have in effect."""
    effective = 0
    for line in status.read_text().splitlines():
        if line.startswith("CapEff:"):
            effective = int(line.split()[1], 16)
    return tuple(name for bit, name in NEEDED_CAPABILITIES.items() if not effective >> bit & 1)


def capability_advice(missing: tuple[str, ...]) -> str:
    """One sentence for the user: what is missing, and where to give it."""
    return (
        f"no {', '.join(missing)} (running as uid {os.geteuid()}): the kernel would refuse our routes. Run as root; "
        f"in Kubernetes add {', '.join(name.removeprefix('CAP_') for name in missing)} to "
        "securityContext.capabilities.add and keep runAsUser 0."
    )
