"""BGP speakers of the bench: any number in one namespace, in a thread of this process; they listen and are dialed.

Each connection accepted is a session of its own, whose router id is the address that was dialed. A session says what
it is told to (`send`), keeps itself alive, and refuses to understand anything it hears but the type of a message.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from typing import Self

from tests.bench import bgpwire
from tests.lab.netns import Namespace
from tests.lab.wait import wait_until

BGP_PORT = 179
HOLD_SECONDS = 90
KEEPALIVE_SECONDS = 20.0
TICK_SECONDS = 1.0
READ_BYTES = 1 << 16
ESTABLISH_SECONDS = 30.0


@dataclass(eq=False, slots=True)
class Session:
    connection: socket.socket
    local: IPv4Address
    remote: IPv4Address
    established: bool = False
    unread: bytes = b""
    alive_at: float = 0.0
    heard: int = 0
    """UPDATEs received."""
    writing: threading.Lock = field(default_factory=threading.Lock)

    def send(self, data: bytes) -> None:
        """All of it, however long the other side takes to read."""
        with self.writing:
            self.connection.sendall(data)

    def close(self) -> None:
        """Gone without a word, as a router that is switched off by its operating system."""
        self.connection.shutdown(socket.SHUT_RDWR)


class Peers:
    """`with Peers(host, asn=65010) as peers:`; `first_words(local address)` is sent on each session once it is up."""

    def __init__(
        self,
        namespace: Namespace,
        *,
        asn: int,
        first_words: Callable[[IPv4Address], bytes] | None = None,
        hold_seconds: int = HOLD_SECONDS,
    ) -> None:
        self.sessions: list[Session] = []
        self._asn = asn
        self._hold_seconds = hold_seconds
        self._first_words = first_words
        self._listener = namespace.make(_listening)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="bgp-peers", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping = True
        self._thread.join()
        for session in self.sessions:
            session.connection.close()
        self._listener.close()
        self._selector.close()

    def up(self) -> list[Session]:
        return [session for session in self.sessions if session.established]

    def wait_for(self, count: int, *, within: float = ESTABLISH_SECONDS) -> list[Session]:
        wait_until(lambda: len(self.up()) >= count, within=within, every=0.01)
        return self.up()

    def _run(self) -> None:
        while not self._stopping:
            for key, _ in self._selector.select(TICK_SECONDS / 10):
                if key.data is None:
                    self._accept()
                else:
                    self._read(key.data)
            self._keep_alive(time.monotonic())

    def _accept(self) -> None:
        connection, (remote, _) = self._listener.accept()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        session = Session(connection, IPv4Address(connection.getsockname()[0]), IPv4Address(remote))
        self.sessions.append(session)
        self._selector.register(connection, selectors.EVENT_READ, session)
        session.send(bgpwire.open_message(self._asn, session.local, self._hold_seconds))

    def _read(self, session: Session) -> None:
        try:
            data = session.connection.recv(READ_BYTES, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        except ConnectionError:
            data = b""
        if not data:
            self._end(session)
            return
        session.unread += data
        while len(session.unread) >= bgpwire.HEADER_BYTES:
            length = int.from_bytes(session.unread[16:18])
            if len(session.unread) < length:
                return
            kind, session.unread = session.unread[18], session.unread[length:]
            self._heard(session, kind)

    def _heard(self, session: Session, kind: int) -> None:
        if kind == bgpwire.OPEN:
            self._say(session, bgpwire.message(bgpwire.KEEPALIVE))
        elif kind == bgpwire.UPDATE:
            session.heard += 1
        elif kind == bgpwire.KEEPALIVE and not session.established:
            session.established, session.alive_at = True, time.monotonic()
            if self._first_words is not None:
                self._say(session, self._first_words(session.local))

    def _say(self, session: Session, data: bytes) -> None:
        with contextlib.suppress(ConnectionError):  # its end is read next
            session.send(data)

    def _keep_alive(self, now: float) -> None:
        for session in self.up():
            if now - session.alive_at >= KEEPALIVE_SECONDS and not session.writing.locked():
                session.alive_at = now
                self._say(session, bgpwire.message(bgpwire.KEEPALIVE))

    def _end(self, session: Session) -> None:
        self._selector.unregister(session.connection)
        session.connection.close()
        self.sessions.remove(session)


def _listening() -> socket.socket:
    listener = socket.socket(socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("0.0.0.0", BGP_PORT))
    listener.listen(1024)
    return listener
