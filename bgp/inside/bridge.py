"""The bridge, which ExaBGP runs as its API process: copies lines between ExaBGP's pipes and the agent's socket.

    python bridge.py RUN_DIR/speaker.sock

Standard library only, no imports of ours: it must start in a blink and outlive every agent. It refuses to act on its
own: no command comes from here.

ExaBGP blocks its whole reactor when nobody reads what it writes (5.0.15), so ExaBGP is read always, agent or not. While
the agent is away UPDATEs are dropped and counted, and of each peer is kept what a new agent must know: the lines of the
session that is up, the families whose End-of-RIB an agent has already sent on it, and how the session before and the
last attempt ended. An agent that does not keep up (SPOOL_MAX) is cut off and finds the same on its return.

First line to an agent, a JSON object:
  instance  identity of this ExaBGP: another one has an empty table and no session
  bridge    identity of this bridge: another one has forgotten what came before it
  dropped   lines lost since the last agent was connected
  pending   answers still to come to commands of the agent before: they are not the new one's
  peers     address → {"lines": [OPEN sent, OPEN received, up], "told": [families with End-of-RIB sent], "up_at",
            "flaps": sessions that ended, of the last one "opened": [OPEN sent, OPEN received], "ended": [NOTIFICATION,
            down], "ended_at", the same "failed", "failed_at" for the last attempt since then}; instants in seconds of
            the monotonic clock, which all processes share
"""

from __future__ import annotations

import json
import os
import re
import select
import socket
import sys
import time
from collections.abc import Callable
from typing import Final

SPOOL_MAX: Final = 64 * 1024 * 1024
"""Bytes kept for an agent that reads slowly: a full table of about two million prefixes."""
COMMANDS_MAX: Final = 1024 * 1024
"""Bytes of commands kept while ExaBGP does not read."""
READ_BYTES: Final = 256 * 1024
RECONNECT_SECONDS: Final = 0.2
HEAD_BYTES: Final = 400
"""The type of an event stands in front of this, behind the host name (at most 64 bytes)."""
PEERS_MAX: Final = 10_000
REMOVED: Final = "[removed]"
"""Stands in ExaBGP's reason (5.0.15) for the end of a session whose peer is not configured any more."""

_TYPE: Final = re.compile(rb'"type": "(\w+)"')
_END_OF_RIB: Final = re.compile(rb"^neighbor (\S+) .*announce eor (ipv4|ipv6) ")


class Kept:
    """What is kept of one peer."""

    def __init__(self) -> None:
        self.opening: list[str] = []
        """OPENs of the attempt that goes on."""
        self.notified: list[str] = []
        """The last NOTIFICATION of this attempt or session."""
        self.lines: list[str] = []
        self.told: list[str] = []
        self.up_at: float | None = None
        self.flaps = 0
        self.opened: list[str] = []
        self.ended: list[str] = []
        self.ended_at: float | None = None
        self.failed: list[str] = []
        self.failed_at: float | None = None

    def comes_up(self, line: str, now: float) -> None:
        self.lines, self.opening, self.notified = [*self.opening, line], [], []
        self.told, self.up_at = [], now
        if not self.flaps:  # attempts before the first session are history
            self.failed, self.failed_at = [], None

    def goes_down(self, line: str, now: float) -> None:
        why = [*self.notified, line]
        if self.lines:
            self.flaps += 1
            self.opened, self.ended, self.ended_at = self.lines[:-1], why, now
            self.failed, self.failed_at = [], None
        elif self.notified or not self.flaps:  # a dial that fails says less than how a session ended
            self.failed, self.failed_at = why, now
        self.lines, self.told, self.up_at = [], [], None
        self.opening, self.notified = [], []

    def as_told(self) -> dict[str, object]:
        return {name: getattr(self, name) for name in _TOLD}


_TOLD: Final = ("lines", "told", "up_at", "flaps", "opened", "ended", "ended_at", "failed", "failed_at")


class Memory:
    """What is kept of each peer that was ever heard of (PEERS_MAX; of more, nothing)."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._peers: dict[str, Kept] = {}

    def heard(self, kind: bytes, line: bytes) -> None:
        if kind not in (b"open", b"state", b"notification"):
            return
        try:
            said = json.loads(line)["neighbor"]
            peer = said["address"]["peer"]
        except (ValueError, KeyError, TypeError):
            return  # the agent counts what it cannot read; nothing of it is worth keeping here
        kept = self._peers.get(peer)
        if kept is None:
            if len(self._peers) >= PEERS_MAX:
                return
            kept = self._peers[peer] = Kept()
        text, state = line.decode(errors="replace"), said.get("state")
        if kind == b"open":
            kept.opening = [*kept.opening, text][-2:]
        elif kind == b"notification":
            kept.notified = [text]
        elif state == "up":
            kept.comes_up(text, self._clock())
        elif state == "down" and REMOVED in str(said.get("reason")):
            del self._peers[peer]
        elif state == "down":
            kept.goes_down(text, self._clock())

    def commanded(self, line: bytes) -> None:
        if (found := _END_OF_RIB.match(line)) and (kept := self._peers.get(found[1].decode())) and kept.lines:
            kept.told.append(found[2].decode())

    def peers(self) -> dict[str, dict[str, object]]:
        return {peer: kept.as_told() for peer, kept in self._peers.items()}


class Bridge:
    def __init__(self, path: str, instance: str) -> None:
        self._path = path
        self._instance = instance
        self._identity = f"{os.getpid()}:{time.time_ns()}"
        self._memory = Memory()
        self._agent: socket.socket | None = None
        self._heard = bytearray()  # of ExaBGP, the end of it an unfinished line
        self._spool = bytearray()  # for the agent
        self._said = bytearray()  # of the agent, unfinished line
        self._commands = bytearray()  # for ExaBGP, whole lines but for what of the first is in `begun`
        self._begun = b""  # what ExaBGP has of the command that is half written
        self._dropped = 0
        self._pending = 0
        self._try_at = 0.0

    def run(self) -> None:
        """Ends when ExaBGP closes its end."""
        os.set_blocking(0, False)
        os.set_blocking(1, False)
        while True:
            self._connect()
            ready = self._wait()
            if 0 in ready and not self._read_exabgp():
                return
            if 1 in ready:
                self._write_exabgp()
            if self._agent is not None and (events := ready.get(self._agent.fileno())):
                self._serve(self._agent, events)

    def _wait(self) -> dict[int, int]:
        poll = select.poll()
        poll.register(0, select.POLLIN)
        if self._commands:
            poll.register(1, select.POLLOUT)
        if self._agent is None:
            return dict(poll.poll(RECONNECT_SECONDS * 1000))
        reading = select.POLLIN if len(self._commands) < COMMANDS_MAX else 0
        poll.register(self._agent, reading | (select.POLLOUT if self._spool else 0))
        return dict(poll.poll())

    def _connect(self) -> None:
        if self._agent is not None or time.monotonic() < self._try_at:
            return
        self._try_at = time.monotonic() + RECONNECT_SECONDS
        agent = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            agent.connect(self._path)
        except OSError:  # nobody there yet, or nobody accepting: again in a moment, for ever
            agent.close()
            return
        self._agent = agent
        hello = {
            "instance": self._instance,
            "bridge": self._identity,
            "dropped": self._dropped,
            "pending": self._pending + bool(self._begun),
            "peers": self._memory.peers(),
        }
        self._spool += json.dumps(hello).encode() + b"\n"
        self._dropped = 0

    def _disconnect(self) -> None:
        if self._agent is None:
            return
        self._agent.close()
        self._agent = None
        self._dropped += self._spool.count(b"\n")
        self._spool.clear()
        self._said.clear()
        # Commands not yet begun were never given; the one half written must be finished.
        del self._commands[self._commands.find(b"\n") + 1 if self._begun else 0 :]

    def _read_exabgp(self) -> bool:
        try:
            data = os.read(0, READ_BYTES)
        except BlockingIOError:
            return True
        if not data:
            return False
        self._heard += data
        end = self._heard.rfind(b"\n") + 1
        whole = bytes(self._heard[:end])
        del self._heard[:end]
        for line in whole.splitlines(keepends=True):
            self._line(line)
        if len(self._spool) > SPOOL_MAX:
            self._disconnect()
        return True

    def _line(self, line: bytes) -> None:
        kind = found[1] if (found := _TYPE.search(line, 0, HEAD_BYTES)) and line[:1] == b"{" else b""
        if kind not in (b"", b"update"):
            self._memory.heard(kind, line.rstrip())
        if line in (b"done\n", b"error\n"):
            self._pending = max(0, self._pending - 1)
        if self._agent is not None:
            self._spool += line
        elif kind in (b"update", b"refresh"):
            self._dropped += 1

    def _serve(self, agent: socket.socket, events: int) -> None:
        try:
            if self._spool and events & select.POLLOUT:
                del self._spool[: agent.send(self._spool[:READ_BYTES])]
            if events & (select.POLLIN | select.POLLHUP | select.POLLERR):
                self._read(agent)
        except BlockingIOError:
            return
        except OSError:  # the agent has gone; what it missed is counted
            self._disconnect()

    def _read(self, agent: socket.socket) -> None:
        data = agent.recv(READ_BYTES)
        if not data:
            self._disconnect()
            return
        self._said += data
        end = self._said.rfind(b"\n") + 1
        self._commands += self._said[:end]
        del self._said[:end]
        self._write_exabgp()

    def _write_exabgp(self) -> None:
        if not self._commands:
            return
        try:
            written = os.write(1, self._commands[:READ_BYTES])
        except BlockingIOError:
            return
        lines = (self._begun + self._commands[:written]).split(b"\n")
        del self._commands[:written]
        self._begun = lines.pop()
        for line in lines:
            self._memory.commanded(line)
        self._pending += len(lines)


def instance_of(pid: int) -> str:
    """Identity of a process that survives the reuse of its number: its start time in ticks since boot."""
    with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123 - pathlib would double the time to start
        started = file.read().rpartition(b")")[2].split()[19]
    return f"{pid}:{started.decode()}"


if __name__ == "__main__":
    Bridge(sys.argv[1], instance_of(os.getppid())).run()
