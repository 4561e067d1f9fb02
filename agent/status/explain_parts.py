"""What is known inside a prefix that nobody announces as a whole: which parts of it this node announces, and peers.

Reads `Status` only. In steps: a peer may have told a full table.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from agent.plan.prefixes import contains
from agent.plan.steps import Steps
from agent.status.hops import Hop
from agent.status.status import Status, prefix_order
from bgp.model import Prefix

NAMED: Final = 3
"""More are counted."""
PARTS_ONLY: Final = "partsOnly"
"""Reason word: nobody announces it as a whole."""


class Some(NamedTuple):
    number: int = 0
    first: tuple[Prefix, ...] = ()

    def words(self, whose: str) -> str:
        """`2 prefixes that peers have announced: 10.244.1.0/24, 10.244.2.0/24`."""
        more = f" and {self.number - NAMED} more" if self.number > NAMED else ""
        prefixes = "prefixes" if self.number > 1 else "prefix"
        return f"{self.number} {prefixes} that {whose}: {', '.join(map(str, self.first))}{more}"


class Parts(NamedTuple):
    own: Some = Some()
    heard: Some = Some()


NO_PARTS: Final = Parts()


def parts_steps(status: Status, whole: Prefix) -> Steps[Parts]:
    if whole.prefixlen in {0, whole.max_prefixlen}:
        return NO_PARTS
    own = yield from _inside(whole, list(status.plan.originated))
    heard = yield from _inside(whole, (it for it in list(status.rib.prefixes()) if it not in status.plan.originated))
    return Parts(own, heard)


def _inside(whole: Prefix, every: Iterable[Prefix]) -> Steps[Some]:
    count, first = 0, list[Prefix]()
    for it in every:
        if contains(whole, it) and it != whole:
            count += 1
            insort(first, it, key=prefix_order)
            del first[NAMED:]
        yield
    return Some(count, tuple(first))


def part_hops(status: Status, whole: Prefix, parts: Parts) -> Iterator[Hop]:
    """That this node does not announce the whole, and that no peer has."""
    yield _own(f"node {status.node}", whole, parts.own)
    yield _heard(whole, parts.heard)


def _own(place: str, whole: Prefix, own: Some) -> Hop:
    text, reason, where = f"does not announce {whole} of its own", "notOriginated", "others are to announce it"
    if whole.prefixlen == 0:
        return Hop(place, text, ok=False, reason="defaultRoute", fix="Nothing to do: nodes are no way to everywhere.")
    if own.number:
        text, reason, where = f"{text}; it covers {own.words('it announces')}", PARTS_ONLY, "its parts are enough"
    fix = f"Nothing to do where {where}; else name {whole} in `spec.prefixes` of a BGPAdvertisement of type Prefix."
    return Hop(place, text, ok=False, reason=reason, fix=fix)


def _heard(whole: Prefix, heard: Some) -> Hop:
    text = f"no peer has announced {whole} or a prefix around it"
    if not heard.number:
        fix = f"See `bgpilot routes advertised {whole}` on the node that should announce it."
        return Hop("peers", text, ok=False, reason="notHeard", fix=fix)
    text = f"{text}; it covers {heard.words('peers have announced')}"
    fix = f"Nothing to do where its parts are enough: `bgpilot routes received {whole}` shows them."
    return Hop("peers", text, ok=False, reason=PARTS_ONLY, fix=fix)


def covered_hops(status: Status, whole: Prefix, parts: Parts) -> Iterator[Hop]:
    """That a wider route is not all there is."""
    found = ((f"node {status.node}", parts.own, "it announces"), ("peers", parts.heard, "peers have announced"))
    for place, some, whose in found:
        if some.number:
            yield Hop(place, f"{whole} covers {some.words(whose)}", reason=PARTS_ONLY, neutral=True)
