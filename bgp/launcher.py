"""Starts ExaBGP in this process, with our settings and a few of its functions replaced. The only importer of `exabgp`.

    python -m bgp.launcher [--die-with-parent] CONFIGURATION
    python -m bgp.launcher --validate CONFIGURATION

It refuses to run any version but those below, because it reaches into ExaBGP. Each replacement is one function, says
what is wrong without it, and has a test in tests/live/test_exabgp_contract*.py that fails when upstream changes.
"""

from __future__ import annotations

import argparse
import ctypes
import functools
import importlib.metadata
import os
import random
import re
import select
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, Final

OLDEST: Final = (5, 0, 15)
BELOW: Final = (6,)
EXIT_UNUSABLE: Final = 78
"""EX_CONFIG of sysexits.h: no ExaBGP that we can run; trying again will not help."""

SETTINGS: Final = {
    "exabgp.api.ack": "true",
    "exabgp.api.chunk": "100",  # lines of a table written before other work gets its turn
    "exabgp.api.cli": "false",  # no named pipes: nothing is written to disk
    "exabgp.api.compact": "true",  # prefixes as strings: a third of the JSON
    "exabgp.api.respawn": "true",
    "exabgp.api.terminate": "true",  # without: a write to a bridge that has just died stops the peer for good
    "exabgp.daemon.daemonize": "false",
    "exabgp.daemon.pid": "",
    "exabgp.daemon.user": "root",  # stays what it is: the default, nobody, refuses to start without SETUID
    "exabgp.log.destination": "stderr",
    "exabgp.log.level": "WARNING",  # INFO has a line for every route
    "exabgp.log.statistics": "false",
    "exabgp.tcp.bind": "",  # sockets come from the `listen` of each neighbor
}

TURN_MIN_MS: Final = 100
TURN_MAX_MS: Final = 300
TURN_MS_PER_PEER: Final = 0.3

AWAY_CAPS: Final = ((30.0, 0.5), (600.0, 2.0), (3600.0, 10.0), (float("inf"), 30.0))
"""(away for at most, longest delay between two dials), seconds. A node that joins is dialed from the moment the others
know it, a few seconds before it listens."""
DIAL_FIRST_SECONDS: Final = 0.25
FLAP_FIRST_SECONDS: Final = 0.5
FLAP_MAX_SECONDS: Final = 60.0
FLAP_FORGET_SECONDS: Final = 300.0
SYN_RETRIES: Final = 1
"""A dial that nobody answers ends after 3 s (Linux: 1 s, then 2 s), and not after two minutes."""

PR_SET_PDEATHSIG: Final = 1


class UnusableError(Exception):
    """No ExaBGP that we can run; the text says what to do."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="bgp.launcher", description=__doc__)
    parser.add_argument("--validate", action="store_true", help="only say whether ExaBGP would take the configuration")
    parser.add_argument("--die-with-parent", action="store_true", help="end (as by SIGTERM) when the parent does")
    parser.add_argument("configuration")
    wanted = parser.parse_args()
    try:
        require_version()
    except UnusableError as error:
        print(f"bgpilot: {error}", file=sys.stderr)  # noqa: T201 - the supervisor reads it there
        return EXIT_UNUSABLE
    if wanted.die_with_parent:
        die_with_parent()
    os.environ.update(SETTINGS)
    return run("validate" if wanted.validate else "server", wanted.configuration)


def require_version() -> None:
    wanted = f"exabgp>={'.'.join(map(str, OLDEST))},<{BELOW[0]}"
    try:
        version = importlib.metadata.version("exabgp")
    except importlib.metadata.PackageNotFoundError:
        raise UnusableError(f"ExaBGP is not installed: pip install '{wanted}'") from None
    numbers = tuple(int(number) for number in re.findall(r"\d+", version)[:3])
    if not OLDEST <= numbers < BELOW:
        raise UnusableError(f"ExaBGP {version} is installed, {wanted} is needed: pip install '{wanted}'")


def die_with_parent() -> None:
    """Linux sends SIGTERM when the thread that started us ends (prctl(2), PR_SET_PDEATHSIG)."""
    parent = os.getppid()
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # it ended just before
        sys.exit(0)


def run(command: str, configuration: str) -> int:
    from exabgp.application import main as application  # noqa: PLC0415 - reads the environment when imported
    from exabgp.reactor import loop, peer  # noqa: PLC0415
    from exabgp.reactor.network import outgoing  # noqa: PLC0415
    from exabgp.rib import outgoing as rib  # noqa: PLC0415

    peer.Delay = Patience
    peer.Peer._close = end_well(peer.Peer._close, peer.FSM.ESTABLISHED)  # noqa: SLF001
    peer.Peer.reconfigure = carry_over(peer.Peer.reconfigure)
    loop.Reactor._wait_for_io = pace(loop.Reactor._wait_for_io)  # noqa: SLF001
    loop.Reactor._pending_adjribout = never_pending  # noqa: SLF001
    rib.OutgoingRIB._update_rib = keep_newest(rib.OutgoingRIB._update_rib)  # noqa: SLF001
    outgoing.create = give_up_early(outgoing.create)
    sys.argv = ["exabgp", command, configuration]
    return application.main() or 0


def dial_delay(failures: int, away_seconds: float) -> float:
    """Seconds to the next dial after so many refused or unanswered ones in a row."""
    cap = next(cap for longest, cap in AWAY_CAPS if away_seconds <= longest)
    return float(min(cap, DIAL_FIRST_SECONDS * 2.0 ** min(failures - 1, 16)))


def flap_delay(losses: int) -> float:
    """Seconds to the next dial after the so-manieth loss of an established session; the first is dialed at once."""
    return 0.0 if losses <= 1 else float(min(FLAP_MAX_SECONDS, FLAP_FIRST_SECONDS * 2.0 ** min(losses - 2, 16)))


class Patience:
    """In place of `exabgp.reactor.delay.Delay`, whose delay grows to 60 s and cannot be shortened from outside.

    A peer that was away is back within about 3 s; one that is away for long is dialed less often; one whose sessions
    come up and fall is left alone for longer each time. Same methods as Delay, and `lost`.
    """

    def __init__(self) -> None:
        self._until = 0.0
        self._failures = 0
        self._away_at: float | None = None
        self._losses = 0
        self._lost_at = 0.0
        self._lost_now = False

    def reset(self) -> None:
        """Called when a session is up or comes in, and before one is restarted on purpose."""
        self._until, self._failures, self._away_at = 0.0, 0, None

    def lost(self) -> None:
        now = time.monotonic()
        self._losses = 1 if now - self._lost_at > FLAP_FORGET_SECONDS else self._losses + 1
        self._lost_at, self._lost_now = now, True

    def increase(self) -> None:
        """Called when a connection is closed, however far it had come."""
        now = time.monotonic()
        if self._lost_now:
            self._lost_now = False
            delay = flap_delay(self._losses)
        else:
            self._failures += 1
            self._away_at = self._away_at or now
            delay = dial_delay(self._failures, now - self._away_at)
        # Jitter: nodes that lost the same peer at the same time must not all dial it at the same time.
        self._until = now + delay * random.uniform(0.7, 1.0)  # noqa: S311 - not for cryptography

    def backoff(self) -> bool:
        return time.monotonic() < self._until


Method = Callable[..., Any]


def end_well(close: Method, established: object) -> Method:
    """Around `Peer._close`: Delay cannot tell a lost session from a failed dial, and End-of-RIB outlives its session.

    One that was queued on a session that ended would go out on the next one, maybe before all routes.
    """

    @functools.wraps(close)
    def _close(self: Any, message: str = "", error: object = "") -> None:
        if self.fsm == established:
            self._delay.lost()
        self.neighbor.eor.clear()
        close(self, message, error)

    return _close


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


def give_up_early(create: Method) -> Method:
    """Around `outgoing.create`: the kernel would try a silent peer for two minutes, ever more slowly."""

    @functools.wraps(create)
    def _create(afi: object, interface: object = None) -> socket.socket:
        created: socket.socket = create(afi, interface)
        created.setsockopt(socket.IPPROTO_TCP, socket.TCP_SYNCNT, SYN_RETRIES)
        return created

    return _create


if __name__ == "__main__":
    sys.exit(main())
