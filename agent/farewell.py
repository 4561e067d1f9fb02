"""When a session that the topology no longer wants may end: make before break.

The planner keeps such a session and everything told and heard on it (`NodePlan.parting`) until it is told that the
session is over; a reflector that is needed no more goes on as one (`NodePlan.former_clients`), and so does this node as
what it was when nobody says any more what its AS is. Here is only the clock of that: it is over when what replaces it
is in place and the other side has had time to see the same picture, and in any case after a while. It ends no session
and plans nothing.

Both bounds are needed. Our own replacement being in place says nothing of the other node's: it may look at a picture of
half a minute ago, and still forward by what it hears from us. And a replacement that never comes, because a node is
dead, must not keep an old session for ever. For a reflector that ends, time is all there is: whether two of its clients
have met, it cannot know. With a node whose Node is deleted the bounds are for one that does not take leave: one that
has, or is dead, has no session any more (`agent.meeting.ended`).
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

PARTING_SECONDS: Final = 45.0
"""Longer than the picture of a healthy agent may be behind (a watch that has to be made anew: about 30 s)."""
PARTING_CAP_SECONDS: Final = 120.0


class Farewells:
    __slots__ = ("_since", "next_look_at")

    def __init__(self) -> None:
        self.next_look_at: float | None = None
        """When the next session is over if nothing changes until then."""
        self._since: dict[str, float] = {}

    def over(self, parting: Collection[str], now: float, *, replaced: bool) -> frozenset[str]:
        """The nodes of `parting` with which it may end.

        `replaced`: every session that is wanted between nodes is established and has sent End-of-RIB.
        """
        self._since = {name: self._since.get(name, now) for name in parting}
        wait = PARTING_SECONDS if replaced else PARTING_CAP_SECONDS
        over = frozenset(name for name, since in self._since.items() if since + wait <= now)
        rest = [since for name, since in self._since.items() if name not in over]
        self.next_look_at = min(rest) + wait if rest else None
        return over
