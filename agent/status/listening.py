"""Sockets to listen on: that of the CLI's API, which is its owner's alone, and those of metrics and probes.

It refuses to serve anybody.
"""

from __future__ import annotations

import errno
import os
import socket
from pathlib import Path
from typing import Final

from agent.settings import OFF, Listen
from bgp.unixsocket import UnixSocket

BACKLOG: Final = 256
"""Connections that wait to be taken, in the kernel. One more waits a second or longer, and whoever it is: TCP says
nothing to it until it asks again."""
TURN_MAX: Final = 16
"""Of which so many are taken before others on the event loop have their turn."""


class ListenError(OSError):
    """An address or socket could not be had; the message names the flag, the reason, and the fix."""

    def __str__(self) -> str:
        return self.strerror or ""


def listen_unix(named: UnixSocket) -> socket.socket:
    """What a dead agent left is replaced; a living one's is not."""
    if _answers(named.path):
        raise ListenError(errno.EADDRINUSE, f"another agent answers on {named.path}. Give each its own --run-dir.")
    try:
        return named.bind()
    except OSError as error:
        raise ListenError(
            error.errno, f"cannot make {named.path} (--run-dir, BGPILOT_RUN_DIR): {error.strerror}. Give another."
        ) from error


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False  # nothing there, or nobody behind it: what else is wrong shows when binding
        return True


def listen_tcp(flag: str, address: Listen) -> socket.socket:
    try:
        if not address.host:
            return _listen_everywhere(address.port)
        family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
        return socket.create_server((address.host, address.port), family=family, backlog=BACKLOG)
    except OSError as error:
        why = (
            os.strerror(error.errno) if error.errno is not None and error.errno > 0 else str(error)
        )  # < 0: no such name
        variable = f"BGPILOT{flag.removeprefix('-').replace('-', '_').upper()}"
        fix = "`ss -ltnp` shows who listens there. " if error.errno == errno.EADDRINUSE else ""
        raise ListenError(
            error.errno,
            f"cannot listen on {address} ({flag}, {variable}): {why}. {fix}Give another address, or `{OFF}`.",
        ) from error


def _listen_everywhere(port: int) -> socket.socket:
    """One socket for both families, or IPv4 alone where IPv6 is switched off."""
    try:
        return socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=BACKLOG)
    except OSError as error:
        if error.errno not in {errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL}:
            raise
        return socket.create_server(("", port), backlog=BACKLOG)
