"""What waits to be told: prefixes to announce and prefixes to withdraw, each for some peers, and whose turn it is.

What is announced goes before what is withdrawn, so that a prefix takes the place of those inside or around it without a
gap (make before break; a router that counts prefixes has both for a moment). No withdrawal is overtaken by more than
OVERTAKEN_MAX announcements: what is to leave must not wait for a full table.

Knows nothing of tables, answers or time: which keys wait is decided in `bgp.outbox`.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final, TypeAlias

from bgp.model import Address, Prefix

OVERTAKEN_MAX: Final = 1024
"""Announcements that go before a withdrawal that has waited for longer: about 1 s of ExaBGP's time."""

Queue: TypeAlias = dict[Prefix, dict[Address, None]]
"""Keys, in the order in which their prefixes came to be in it."""


class Queues:
    def __init__(self) -> None:
        self.announcing: Queue = {}
        self.leaving: Queue = {}
        """To be withdrawn."""
        self._overtaken = 0
        """Announcements that have overtaken withdrawals which wait, less those that have gone since."""
        self._turn_of_leaving = False

    def __bool__(self) -> bool:
        return bool(self.announcing or self.leaving)

    def clear(self) -> None:
        self.announcing, self.leaving = {}, {}

    def next_queue(self) -> Queue:
        """The one whose turn it is; each call is a turn."""
        if not (self.announcing and self.leaving):
            self._overtaken, self._turn_of_leaving = 0, False
            return self.announcing or self.leaving
        if self._overtaken in {0, OVERTAKEN_MAX}:
            self._turn_of_leaving = bool(self._overtaken)
        self._overtaken += -1 if self._turn_of_leaving else 1
        return self.leaving if self._turn_of_leaving else self.announcing


def put(queue: Queue, peer: Address, prefix: Prefix) -> bool:
    """Whether it was not in it."""
    peers = queue.get(prefix)
    if peers is None:
        peers = queue[prefix] = {}
    elif peer in peers:
        return False
    peers[peer] = None
    return True


def take(queue: Queue, peer: Address, prefix: Prefix) -> bool:
    """Whether it was in it."""
    peers = queue.get(prefix)
    if peers is None or peer not in peers:
        return False
    del peers[peer]
    if not peers:
        del queue[prefix]
    return True


def take_all(queue: Queue, peers: Collection[Address], prefix: Prefix) -> None:
    """All of these are in it."""
    if len(peers) == len(queue[prefix]):
        del queue[prefix]
    else:
        for peer in peers:
            take(queue, peer, prefix)
