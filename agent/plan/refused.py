"""Reason words by (peer, prefix), and how many there are of each: who counts them need not look at every one.

A full table that is not admitted has a million, and is counted with each scrape.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Protocol, runtime_checkable

from bgp.model import Address, RouteKey


@runtime_checkable
class Counted(Protocol):
    """A table of reason words that knows how many it has of each."""

    def reasons(self) -> Mapping[str, int]: ...


class Refused(dict[RouteKey, str]):
    """Whoever changes an entry counts it: to find out what was there before costs a hash of the prefix."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: dict[tuple[Address, int, str], int] = {}
        """By peer, IP version and reason word; none is zero."""

    def count(self, key: RouteKey, why: str, change: int) -> None:
        what = key.peer, key.prefix.version, why
        left = self.counts.get(what, 0) + change
        if left:
            self.counts[what] = left
        else:
            del self.counts[what]

    def reasons(self) -> Mapping[str, int]:
        found = Counter[str]()
        for (_, _, why), count in self.counts.items():
            found[str(why)] += count
        return found


def reasons(refused: Mapping[RouteKey, str]) -> Mapping[str, int]:
    """How many have which reason word; of a table that does not know it each is looked at."""
    return refused.reasons() if isinstance(refused, Counted) else Counter(map(str, refused.values()))


def by_peer(refused: Mapping[RouteKey, str]) -> Mapping[tuple[Address, int], int]:
    """How many each peer has, by IP version."""
    found = Counter[tuple[Address, int]]()
    if isinstance(refused, Refused):
        for (peer, version, _), count in refused.counts.items():
            found[peer, version] += count
    else:
        found.update((key.peer, key.prefix.version) for key in refused)
    return found
