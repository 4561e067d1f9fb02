"""The words for how a session, or an attempt at one, ended: names of NOTIFICATIONs, and the transport's own.

Refuses to decide which of several endings counts (`bgp.sessions`) and what to do about one (`agent.status.causes`).
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Mapping
from typing import Final

from bgp.model import Direction, SessionError

TRANSPORT_CLOSED: Final = "Connection closed or reset"
REFUSED, TIMED_OUT = os.strerror(errno.ECONNREFUSED), os.strerror(errno.ETIMEDOUT)
NO_HOST, NO_ROUTE = os.strerror(errno.EHOSTUNREACH), os.strerror(errno.ENETUNREACH)
"""Of EHOSTUNREACH the kernel's words are those of a missing route; nobody has answered on the link."""

NO_OPEN: Final = "waited for open too long, we do not like stuck in active"
"""ExaBGP's words (5.0.15), with 1/1, when a peer has sent no OPEN for a minute."""

NOT_OURS: Final = "Could not bind to local ip"
"""ExaBGP's words (5.0.15) begin so, when the node does not have the address that it is to dial from."""

EXABGP_GONE: Final = re.compile(r"(another )?ExaBGP\b.*")
"""Our own words for the end of all sessions at once, with the process that has them."""

ENDED_HERE: Final = "ended by this node"
_OUR_WORDS: Final = re.compile(
    r"closing|its configuration has changed|stop, message \[.*\]|graceful restarted negotiated, closing .*"
    r"|closing outgoing connection as .*|connection received before we could .*"
)
"""ExaBGP's (5.0.15) and our own, for a session, or an attempt at one, that ends because the peer has another
configuration now, because another connection is kept, or because we have asked for it."""
_OUR_CEASES: Final = frozenset({3, 4, 6, 7})
"""Subcodes of Cease (RFC 4486) that say the same; those that stand for the state of things are not here."""

NOTIFICATIONS: Final[Mapping[tuple[int, int], str]] = {
    (1, 0): "Message Header Error",
    (2, 0): "OPEN Message Error",
    (2, 1): "Unsupported Version Number",
    (2, 2): "Bad Peer AS",
    (2, 3): "Bad BGP Identifier",
    (2, 4): "Unsupported Optional Parameter",
    (2, 6): "Unacceptable Hold Time",
    (2, 7): "Unsupported Capability",
    (3, 0): "UPDATE Message Error",
    (3, 1): "Malformed Attribute List",
    (3, 9): "Optional Attribute Error",
    (3, 11): "Malformed AS_PATH",
    (4, 0): "Hold Timer Expired",
    (5, 0): "Finite State Machine Error",
    (6, 0): "Cease",
    (6, 1): "Maximum Number of Prefixes Reached",
    (6, 2): "Administrative Shutdown",
    (6, 3): "Peer De-configured",
    (6, 4): "Administrative Reset",
    (6, 5): "Connection Rejected",
    (6, 6): "Other Configuration Change",
    (6, 7): "Connection Collision Resolution",
    (6, 8): "Out of Resources",
    (6, 9): "Hard Reset",
    (6, 10): "BFD Down",
}
"""RFC 4271 4.5, RFC 4486, RFC 8538, RFC 9384; subcode 0 is the name of the code."""


def describe(error: SessionError) -> str:
    """One line for people: `received 6/2 Administrative Shutdown: maintenance`."""
    if error.code == 0:
        return error.text
    name = notification_name(error.code, error.subcode)
    return f"{error.direction} {error.code}/{error.subcode} {name}{f': {error.text}' if error.text else ''}".strip()


def is_ours(error: SessionError) -> bool:
    """We have ended it ourselves to begin anew: that says nothing about why there is no session after it."""
    if error.code == 0:
        return _OUR_WORDS.fullmatch(error.text) is not None
    return error.direction is Direction.SENT and error.code == 6 and error.subcode in _OUR_CEASES


def notification_name(code: int, subcode: int) -> str:
    """Name of the subcode, else that of the code; empty for what the RFCs do not have."""
    return NOTIFICATIONS.get((code, subcode)) or NOTIFICATIONS.get((code, 0), "")
