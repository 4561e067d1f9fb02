"""From when on nothing counts that a peer told on a session that has ended, whichever agent heard it.

`bgp.rib` does the same with paths that were heard; this is for what is known of them in other places only: an agent
that comes back finds them in the kernel, and their session has ended while it was away. It refuses to know the time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from bgp.model import Address, SessionError, SessionUp

CHANGED: Final = frozenset({(6, 3), (6, 4), (6, 6)})
"""Cease because of another configuration (RFC 4486). ExaBGP 5.0.15 says 6/3 also to a peer that stays configured."""


@dataclass(frozen=True, slots=True)
class _End:
    why: SessionError
    up: SessionUp | None
    """None: nobody knows any more what was negotiated."""


class Ended:
    """The peers whose last session has ended, other than by our own doing."""

    __slots__ = ("_ends",)

    def __init__(self) -> None:
        self._ends: dict[Address, _End] = {}

    def put(self, peer: Address, why: SessionError, up: SessionUp | None) -> None:
        self._ends[peer] = _End(why, up)

    def forget(self, peer: Address) -> None:
        """It has a session, or is a peer no more."""
        self._ends.pop(peer, None)

    def clear(self) -> None:
        """It is us who have lost every session."""
        self._ends.clear()

    def over_at(self, peer: Address, *, node: bool) -> float | None:
        """Monotonic second; None: there is a session, or it is not known how the last one ended.

        At once when either side said that it is over or heard nothing for the hold time, and of a peer that cannot
        restart; else when its restart time is over (RFC 4724 4.2), of all families if it is for one. Another node that
        says that something has changed comes again.
        """
        end = self._ends.get(peer)
        if end is None:
            return None
        if end.why.code and not (node and (end.why.code, end.why.subcode) in CHANGED):
            return end.why.at
        if end.up is None:
            return None
        restarts = end.up.restart_families & end.up.families
        return end.why.at + ((end.up.restart_seconds or 0) if restarts else 0)
