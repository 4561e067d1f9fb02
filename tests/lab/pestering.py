"""Clients that mean no good: many connections at once that say nothing, nonsense, too much, or one byte at a time.

They say something and stay; who is to be pestered decides how long it listens. What they say is the same in each run.
"""

from __future__ import annotations

import contextlib
import os
import random
import re
import select
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.lab.netns import Namespace

SEED = 4271
MARKER = b"\xff" * 16
DRIP_SECONDS = 0.2

BGP: Mapping[str, bytes] = {
    "nothing": b"",
    "random": random.Random(SEED).randbytes(5000),  # noqa: S311 - no secret
    "half a header": MARKER + b"\x10",
    "a message that never ends": MARKER + b"\x10\x00\x01",
    "a header with a wrong length": MARKER + b"\x00\x00\x01",
    "an OPEN of zeros": MARKER + b"\x00\x1d\x01" + bytes(10),
    "an UPDATE before any OPEN": MARKER + b"\x00\x17\x02" + bytes(4),
    "lines": b"GET / HTTP/1.1\r\n\r\n" * 500,
}
HTTP: Mapping[str, bytes] = {
    "nothing": b"",
    "random": random.Random(SEED).randbytes(5000),  # noqa: S311 - no secret
    "half a head": b"GET /metrics HTTP/1.1\r\nX: ",
    "half a body": b"POST /v1/drain HTTP/1.1\r\nHost: x\r\nContent-Length: 900\r\n\r\nx",
    "a line that never ends": b"GET /" + b"x" * 300_000,
    "headers that never end": b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 20_000,
    "TLS": bytes.fromhex("16030102000100fc0303") + bytes(500),
    "many requests, no answer taken": b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n" * 500,
}
BRIDGE: Mapping[str, bytes] = {
    "nothing": b"",
    "random": random.Random(SEED).randbytes(5000),  # noqa: S311 - no secret
    "a line that never ends": b"{" * 6_000_000,
    "JSON that is no hello": b'{"type": "update"}\n' * 1000,
    "a hello, and then nonsense": b'{"instance":"x","bridge":"y","dropped":0,"pending":0,"peers":{}}\n'
    + b"done\n{\n" * 9,
}


@dataclass
class Pests:
    """`sockets` are those that the other side has taken, some of them perhaps closed since."""

    sockets: list[socket.socket] = field(default_factory=list)
    refused: int = 0

    def drip(self, *, within: float) -> None:
        """A byte from each, again and again."""
        ends_at = time.monotonic() + within
        while time.monotonic() < ends_at:
            for one in self.sockets:
                with contextlib.suppress(OSError):
                    one.send(b"x")
            time.sleep(DRIP_SECONDS)

    def ended(self) -> int:
        """How many the other side has closed. What it has sent is not read."""
        poll = select.poll()
        for one in self.sockets:
            poll.register(one, select.POLLRDHUP)
        return len(poll.poll(0))


@contextlib.contextmanager
def pestering(
    place: Namespace, connect: Callable[[], socket.socket], says: Mapping[str, bytes], *, count: int
) -> Iterator[Pests]:
    """So many connections from there while the block lasts, taking turns in what they say."""
    pests = Pests()

    def all_of_them() -> None:
        words = list(says.values())
        for number in range(count):
            try:
                one = connect()
            except OSError:
                pests.refused += 1
                continue
            one.setblocking(False)
            pests.sockets.append(one)
            with contextlib.suppress(OSError):  # it has closed already, or takes no more
                one.send(words[number % len(words)])

    try:
        place.make(all_of_them)
        yield pests
    finally:
        for one in pests.sockets:
            one.close()


def tcp(address: str, port: int, *, source: str = "") -> Callable[[], socket.socket]:
    return lambda: socket.create_connection((address, port), timeout=5, source_address=(source, 0) if source else None)


def unix(path: Path) -> Callable[[], socket.socket]:
    def connect() -> socket.socket:
        one = socket.socket(socket.AF_UNIX)
        one.settimeout(5)
        try:
            one.connect(str(path))
        except OSError:
            one.close()
            raise
        return one

    return connect


def descriptors(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))  # noqa: PTH208  # a count is all


def memory_mib(pid: int) -> float:
    found = re.search(r"^VmRSS:\s+(\d+) kB$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1]) / 1024
