"""Endpoints whose readiness flips: what of an EndpointSlice's changes waits before it counts, and until when.

A probe that fails once should not move routes in every router of the site. So a node that loses its last ready endpoint
of a slice stays in it for a moment, as long as the endpoint is still there and only not ready; and a node that gains
its first may have to wait until it has been ready for a while, in a new slice too. What leaves (deleted, terminating,
moved to another node) does not wait: nobody answers there any more.

An endpoint that only moves from one slice of its service to another has not left, whichever of the two is written
first. If the new one is, it is ready there already, and both changes count at once. If the old one is, nothing tells it
from an endpoint that is deleted: so what is gone from one of several slices is kept for `MOVING_SECONDS`, and what has
gone from another slice no longer than `MOVED_SECONDS` ago has not to settle again. A service of one slice has no other
to move to, and an endpoint that is seen to terminate goes nowhere: these wait for nothing.

Values in, values out; time is an argument. It refuses to know services and routes.

Invariants: what `take` and `due` answer differs from the slice as last heard only in `ready`, and only for nodes whose
wait is not over; a node that is back as it was shown before its wait is over was never heard of by anybody.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import takewhile
from typing import Final, NamedTuple

from agent.intent import USUAL_DAMPING
from agent.model import EndpointSlice, Key
from bgp.model import Family

MOVING_SECONDS: Final = 0.2
"""Time for the few writes of who sorts endpoints into slices anew, and no more: what leaves is to leave."""
MOVED_SECONDS: Final = 1.0
"""The same where these are many, or where the old slice was deleted first."""

_NOBODY: Final[frozenset[str]] = frozenset()


@dataclass(slots=True)
class _Waiting:
    heard: EndpointSlice
    until: dict[str, float] = field(default_factory=dict)
    """By node: when its change counts."""


class _Place(NamedTuple):
    """Where a service has an endpoint."""

    namespace: str
    service: str
    family: Family | None
    node: str


class Damper:
    def __init__(self) -> None:
        self.damping = USUAL_DAMPING
        self._waiting: dict[Key, _Waiting] = {}
        self._left: dict[_Place, tuple[Key, float]] = {}
        """Which slice a ready endpoint has gone from, and when, if that may be a move; the oldest first."""
        self._all_known = False
        """Before there was a complete list, no slice is new."""

    @property
    def next_at(self) -> float | None:
        return min((at for waiting in self._waiting.values() for at in waiting.until.values()), default=None)

    def take(
        self,
        key: Key,
        shown: EndpointSlice | None,
        heard: EndpointSlice,
        now: float,
        others: Iterable[EndpointSlice] = (),
    ) -> EndpointSlice:
        """The slice as it stands from now on. `shown` is what stood before, `others` what stands of its service now."""
        if shown is None and self._all_known:
            shown = replace(heard, ready=_NOBODY)
        if shown is None or shown.service != heard.service or shown.family is not heard.family:
            self._waiting.pop(key, None)
            return heard
        before = self._waiting.pop(key, None)
        waiting, was = _Waiting(heard), shown if before is None else before.heard
        alike = [other for other in others if other.family is heard.family]
        counted = _NOBODY.union(*(other.ready for other in alike))
        self._remember(key, was, _gone(shown.ready & was.ready, heard), now)
        for node in shown.ready ^ heard.ready:
            seconds = 0.0
            if node in heard.ready:
                seconds = 0.0 if self._has_moved(key, heard, node) else self.damping.announce_seconds
            elif node in heard.unready:
                seconds = self.damping.withdraw_seconds
            elif alike and node in _gone(shown.ready - was.unready, heard):
                seconds = min(MOVING_SECONDS, self.damping.withdraw_seconds)
            at = now + seconds if before is None else before.until.get(node, now + seconds)
            if seconds and at > now and node not in counted:
                waiting.until[node] = at
        if not waiting.until:
            return heard
        self._waiting[key] = waiting
        return _shown(waiting)

    def _remember(self, key: Key, of: EndpointSlice, nodes: Iterable[str], now: float) -> None:
        for place, _ in tuple(takewhile(lambda item: item[1][1] + MOVED_SECONDS <= now, self._left.items())):
            del self._left[place]
        for node in nodes:
            place = _place(of, node)
            self._left.pop(place, None)
            self._left[place] = key, now

    def _has_moved(self, key: Key, to: EndpointSlice, node: str) -> bool:
        left = self._left.get(_place(to, node))
        return left is not None and left[0] != key

    def due(self, now: float) -> Iterator[tuple[Key, EndpointSlice]]:
        """The slices in which something counts from now on."""
        for key, waiting in list(self._waiting.items()):
            over = {node for node, at in waiting.until.items() if at <= now}
            if not over:
                continue
            for node in over:
                del waiting.until[node]
            if not waiting.until:
                del self._waiting[key]
            yield key, _shown(waiting)

    def forget(self, key: Key, shown: EndpointSlice | None, now: float) -> None:
        """The slice is gone. `shown` is what stood before."""
        self._waiting.pop(key, None)
        if shown is not None:
            self._remember(key, shown, shown.ready, now)

    def forget_all(self) -> None:
        """All slices are known anew, as they are; what comes from now on is a change."""
        self._waiting.clear()
        self._left.clear()
        self._all_known = True


def _place(of: EndpointSlice, node: str) -> _Place:
    return _Place(of.namespace, of.service, of.family, node)


def _gone(nodes: Iterable[str], heard: EndpointSlice) -> frozenset[str]:
    """Those that nothing is heard of, not even that they terminate."""
    return frozenset(nodes) - heard.ready - heard.unready - heard.serving


def _shown(waiting: _Waiting) -> EndpointSlice:
    """Nodes that wait are still as they were: the opposite of what was heard."""
    return replace(waiting.heard, ready=waiting.heard.ready ^ waiting.until.keys())
