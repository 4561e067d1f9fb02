"""How many messages came and went on each peer's sessions, as far as ExaBGP tells of them.

ExaBGP hands over OPENs and NOTIFICATIONs of both directions, and UPDATEs and ROUTE-REFRESHes that were received; of
KEEPALIVEs, and of UPDATEs that it sends, it says nothing (a line for each would cost more than the message). Bounded by
the peers: what a peer makes up as codes is counted as code 0 once there are too many.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from typing import Final

from bgp.exaevents import Heard, Notified, Opened, Refreshed
from bgp.model import Address, Direction, EndOfRib, PathsHeard

CODES_MAX: Final = 32
"""Kinds of NOTIFICATION counted one by one for each peer and direction; RFC 4271 and 4486 have about as many."""
OTHER_CODE: Final = (0, 0)
"""Code and subcode, which no NOTIFICATION has, of those that are not counted one by one."""

Message = tuple[Direction, str]
Notification = tuple[Direction, int, int]


class Tally:
    """Since the agent's start, of peers that there shall be; `forget_but` names these."""

    def __init__(self) -> None:
        self._messages: dict[Address, Counter[Message]] = {}
        self._notifications: dict[Address, Counter[Notification]] = {}

    def messages(self, peer: Address) -> Mapping[Message, int]:
        """By direction and type."""
        return self._messages.get(peer) or {}

    def notifications(self, peer: Address) -> Mapping[Notification, int]:
        """By direction, code and subcode."""
        return self._notifications.get(peer) or {}

    def count(self, event: Heard) -> None:
        match event:
            case PathsHeard(peer=peer) | EndOfRib(peer=peer):
                self._count(peer, Direction.RECEIVED, "update")
            case Refreshed(peer=peer):
                self._count(peer, Direction.RECEIVED, "refresh")
            case Opened(peer=peer, direction=direction):
                self._count(peer, direction, "open")
            case Notified(peer=peer, direction=direction):
                self._count(peer, direction, "notification")
                self._count_notification(event)
            case _:
                pass

    def forget_but(self, peers: Collection[Address]) -> None:
        for counted in (self._messages, self._notifications):
            for peer in counted.keys() - peers:
                del counted[peer]

    def _count(self, peer: Address, direction: Direction, kind: str) -> None:
        self._messages.setdefault(peer, Counter())[direction, kind] += 1

    def _count_notification(self, event: Notified) -> None:
        of_peer = self._notifications.setdefault(event.peer, Counter())
        what = event.direction, event.code, event.subcode
        if what not in of_peer and sum(direction is event.direction for direction, _, _ in of_peer) >= CODES_MAX:
            what = event.direction, *OTHER_CODE
        of_peer[what] += 1
