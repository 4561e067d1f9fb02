"""What ExaBGP's configuration has no words for, as text that travels in its file: written by us, read by our launcher.

And by the next agent (`bgp.exafound`). Settings of a session stand in the neighbor's `description`, which ExaBGP keeps
and never uses; what a peer that is left out is told, if it has a session, stands in a comment. Both sides of the
language are here, so that they cannot differ. It refuses to know peers, ExaBGP and files.

What it relies on (ExaBGP 5.0.15): a reload that changes a description alone leaves the session as it is, and the
neighbor has the new one at once. A comment is a line that begins with `#`; backslashes mean something even there, so
the text is written in hexadecimal digits.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

ADMINISTRATIVE_SHUTDOWN: Final = 2
PEER_DECONFIGURED: Final = 3
"""Subcodes of Cease (RFC 4486)."""
COMMUNICATION_MAX_BYTES: Final = 255
"""Of a Shutdown Communication (RFC 9003); RFC 8203 had 128, and ExaBGP reads no more from others."""


_NAME: Final = re.compile(r"[A-Za-z0-9.-]{1,253}")
"""Of a Node (RFC 1123): nothing in it means anything to ExaBGP's file."""


@dataclass(frozen=True, slots=True)
class Extras:
    keepalive_seconds: int | None = None
    connect_retry_seconds: int | None = None
    node: bool = False
    """The peer is another node, which has this same program in it."""
    forwarding_lost: bool = False
    """The F bits of our OPEN are clear (RFC 4724 3)."""
    name: str = ""
    """Of that node."""


@dataclass(frozen=True, slots=True)
class Farewell:
    """The Cease that ends a session for good: its subcode, and the text that subcode 2 may have."""

    subcode: int = PEER_DECONFIGURED
    text: str = ""

    @property
    def data(self) -> bytes:
        """Of the NOTIFICATION. A text that is too long ends between two characters."""
        if self.subcode != ADMINISTRATIVE_SHUTDOWN or not self.text:
            return b""
        told = self.text.encode("utf-8", "replace")[:COMMUNICATION_MAX_BYTES].decode("utf-8", "ignore").encode()
        return bytes([len(told)]) + told


def description(extras: Extras) -> str:
    """Empty when there is nothing to say."""
    told = (
        ("keepalive", extras.keepalive_seconds),
        ("connect-retry", extras.connect_retry_seconds),
        ("node", 1 if extras.node else None),
        ("forwarding-lost", 1 if extras.forwarding_lost else None),
        ("name", extras.name if _NAME.fullmatch(extras.name) else None),
    )
    return " ".join(f"{word}={value}" for word, value in told if value is not None)


def read_description(text: str) -> Extras:
    """Whatever else may stand there says nothing."""
    found = dict(re.findall(r"(?<!\S)([a-z-]+)=(\d{1,9})(?!\S)", text))
    keepalive, retry = found.get("keepalive"), found.get("connect-retry")
    name = re.search(r"(?<!\S)name=(\S+)", text)
    return Extras(
        keepalive_seconds=None if keepalive is None else int(keepalive),
        connect_retry_seconds=None if retry is None else int(retry),
        node=found.get("node") == "1",
        forwarding_lost=found.get("forwarding-lost") == "1",
        name="" if name is None else name[1],
    )


def farewell_line(address: str, farewell: Farewell) -> str:
    text = farewell.text.encode("utf-8", "replace")[: COMMUNICATION_MAX_BYTES + 1]
    return f"# farewell {address} {farewell.subcode} {text.hex()}".rstrip()


def read_farewells(configuration: str) -> dict[str, Farewell]:
    """By address, of the whole file."""
    found = re.finditer(r"^# farewell (\S+) (\d{1,2})(?: ((?:[0-9a-f]{2})+))?$", configuration, re.MULTILINE)
    return {
        match[1]: Farewell(int(match[2]), bytes.fromhex(match[3] or "").decode("utf-8", "ignore")) for match in found
    }
