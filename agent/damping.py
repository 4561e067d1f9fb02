"""Endpoints whose readiness flips: what of an EndpointSlice's changes waits before it counts, and until when.

A probe that fails once should not move routes in every router of the site. So a node that loses its last ready endpoint
of a slice stays in it for a moment, as long as the endpoint is still there and only not ready; and a node that gains
its first may have to wait until it has been ready for a while, in a new slice too, unless another slice of the service
has it ready already: then an endpoint only moves from one to the other. What leaves (deleted, terminating, moved to
another node) never waits: nobody answers there any more.

Values in, values out; time is an argument. It refuses to know services and routes.

Invariants: what `take` and `due` answer differs from the slice as last heard only in `ready`, and only for nodes whose
wait is not over; a node that is back as it was shown before its wait is over was never heard of by anybody.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Final

from agent.intent import USUAL_DAMPING
from agent.model import EndpointSlice, Key

_NOBODY: Final[frozenset[str]] = frozenset()


@dataclass(slots=True)
class _Waiting:
    heard: EndpointSlice
    until: dict[str, float] = field(default_factory=dict)
    """By node: when its change counts."""


class Damper:
    def __init__(self) -> None:
        self.damping = USUAL_DAMPING
        self._waiting: dict[Key, _Waiting] = {}
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
        waiting = _Waiting(heard)
        counted = _NOBODY.union(*(other.ready for other in others if other.family is heard.family))
        for node in shown.ready ^ heard.ready:
            seconds = self._wait(node, shown, heard) if node not in counted else 0.0
            at = now + seconds if before is None else before.until.get(node, now + seconds)
            if seconds and at > now:
                waiting.until[node] = at
        if not waiting.until:
            return heard
        self._waiting[key] = waiting
        return _shown(waiting)

    def _wait(self, node: str, shown: EndpointSlice, heard: EndpointSlice) -> float:
        if node in heard.ready:
            return self.damping.announce_seconds
        return self.damping.withdraw_seconds if node in shown.ready and node in heard.unready else 0.0

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

    def forget(self, key: Key) -> None:
        self._waiting.pop(key, None)

    def forget_all(self) -> None:
        """All slices are known anew, as they are; what comes from now on is a change."""
        self._waiting.clear()
        self._all_known = True


def _shown(waiting: _Waiting) -> EndpointSlice:
    """Nodes that wait are still as they were: the opposite of what was heard."""
    return replace(waiting.heard, ready=waiting.heard.ready ^ waiting.until.keys())
