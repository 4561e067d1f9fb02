"""What should be and is not, in one view: the kernel's routes and what peers are told, each against the plan.

A difference is what does not go away by itself, or stands for longer than its kind takes. What is on its way is shown
and marked (`waiting`): what the pass in progress writes; what ExaBGP is about to take, unless something is known to be
wrong with it; routes found at start, which stay until the peers have told all they have (120 s at most); a session that
has not been missed for long (`agent.status.health`). Not here at all: what somebody wants so (a peer that is shut down,
a family that a router does not speak), and what is not planned (`explain` says why).

The walk goes over every route, in steps; others have turns between, so what was found is judged once more at its end.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Final, NamedTuple, TypeAlias

from agent.model import DISCARD_METRIC, FibKey, FibRoute, Problem
from agent.plan.steps import Steps
from agent.status.health import PENDING, is_away, why_no_bgp
from agent.status.hops import via
from agent.status.meanings import meaning_out
from agent.status.news import AS_WANTED, EXPECTED
from agent.status.peers import MEANT, View, held_words, is_parting, why_not
from agent.status.remedies import kernel_remedy, outward_remedy, remedy
from agent.status.status import SETTLE_SECONDS, Status, address_order, prefix_order, told_state
from agent.status.views import answer, problems_list
from agent.status.weights import Weight, weight_of
from bgp.model import Address, Peer, RouteKey

ROWS_MAX: Final = 500
"""Rows of one answer; all are counted."""
ADOPTED_TEXT: Final = "found at start: goes when no peer has told it again, 120 s after it at most"

Place: TypeAlias = FibKey | RouteKey | Address
"""Where it differs: a route of the kernel, a route for a peer, or all that a peer without a session should be told."""


class Kind(NamedTuple):
    """What differences have in common that are counted together."""

    where: str
    """`kernel` or `peer`."""
    state: str
    reason: str
    waiting: bool


@dataclass(frozen=True, slots=True)
class Difference:
    kind: Kind
    text: str = ""
    fix: str = ""
    routes: int = 1


def diff_steps(current: Callable[[], Status], now: Callable[[], float]) -> Steps[View]:
    """`current` is asked at the begin and at the end."""
    status = current()
    found = _Found()
    for place, difference in _walk(status, now()):
        if difference is not None:
            found.add(place, difference)
        yield
    begun, status = status, current()
    facts = _Facts(status, begun)
    for place in found.kept():
        found.judge_again(place, _judged(facts, place, now()))
        yield
    return _view(status, found, now())


class _Facts:
    """What costs something to ask, once for all keys."""

    def __init__(self, status: Status, begun: Status | None = None) -> None:
        self.status = status
        self.failing = status.fib.failing
        self.adopted = status.fib.adopted
        self.busy = any(it.pass_began_at is not None for it in (status, begun) if it is not None)
        """A pass is going on, or was when the walk began."""
        of_speaker = (problem for problem in status.problems if weight_of(problem.reason) is Weight.SPEAKER)
        self.speaker = min(of_speaker, key=lambda problem: (problem.reason, problem.message), default=None)
        """What is wrong with ExaBGP."""


class _Found:
    """Counts all, and keeps as many as can be shown: differences, and apart from them what is on its way."""

    def __init__(self) -> None:
        self.counts: Counter[Kind] = Counter()
        self.differing: dict[Place, Difference] = {}
        self.waiting: dict[Place, Difference] = {}

    def add(self, place: Place, difference: Difference) -> None:
        self.counts[difference.kind] += difference.routes
        rows = self.waiting if difference.kind.waiting else self.differing
        if len(rows) < ROWS_MAX:
            rows[place] = difference

    def kept(self) -> list[Place]:
        return [*self.differing, *self.waiting]

    def judge_again(self, place: Place, difference: Difference | None) -> None:
        before = self.differing.pop(place, None) or self.waiting.pop(place)
        self.counts[before.kind] -= before.routes
        if difference is not None:
            self.add(place, difference)


def _walk(status: Status, now: float) -> Iterator[tuple[Place, Difference | None]]:
    """Every key of which there may be a difference; the mappings may change between two of them."""
    if not status.has_picture:
        return
    facts = _Facts(status)
    for key in list(status.plan.fib):
        yield key, _in_kernel(facts, key)
    for key in list(status.fib.actual):
        yield key, _in_kernel(facts, key) if key not in status.plan.fib else None
    for told in list(status.outbox.failing):
        yield told, _told(facts, told)
    for told in status.outbox.unsettled():
        yield told, _told(facts, told) if told not in status.outbox.failing else None
    for peer in status.sessions():
        yield peer.address, _session(status, peer, now)
        for prefix in list(status.plan.originated):
            told = RouteKey(peer.address, prefix)
            unseen = told not in status.outbox.failing and status.outbox.is_settled(told)
            yield told, _told(facts, told) if unseen else None


def _judged(facts: _Facts, place: Place, now: float) -> Difference | None:
    match place:
        case FibKey():
            return _in_kernel(facts, place)
        case RouteKey():
            return _told(facts, place)
        case _:
            peer = facts.status.plan.peers.get(place)
            return None if peer is None else _session(facts.status, peer, now)


def _in_kernel(facts: _Facts, key: FibKey) -> Difference | None:
    status = facts.status
    wanted, actual = status.plan.fib.get(key), status.fib.actual.get(key)
    if (wanted is None and actual is None) or (wanted is not None and status.fib.holds(wanted)):
        return None
    if (holder := status.fib.conflicts.get(key)) is not None:
        return _of_kernel("conflict", "kernelConflict", f"held by {holder}")
    if (failure := facts.failing.get(key)) is not None:
        fix = kernel_remedy([] if wanted is None else [hop.gateway for hop in wanted.next_hops])
        return replace(_of_kernel("refused", "kernelRefused", failure.error), fix=fix)
    if wanted is None:
        return _unexpected(facts, key)
    if actual is None:
        return _of_kernel("missing", "notInstalled", waiting=facts.busy)
    text = f"is {_words(actual)}, should be {_words(wanted)}"
    return _of_kernel("changed", "notInstalled", text, waiting=facts.busy or key in facts.adopted)


def _unexpected(facts: _Facts, key: FibKey) -> Difference:
    if key in facts.adopted:
        return _of_kernel("unexpected", "leaving", ADOPTED_TEXT, waiting=True)
    if key.metric == DISCARD_METRIC and facts.status.outbox.may_hold(key.prefix):
        return _of_kernel("unexpected", "leaving", "goes when no peer is told of it any more", waiting=True)
    return _of_kernel("unexpected", "leaving", "is no longer wanted", waiting=facts.busy)


def _of_kernel(state: str, reason: str, text: str = "", *, waiting: bool = False) -> Difference:
    return Difference(Kind("kernel", state, reason, waiting), text, "" if waiting else remedy(reason))


def _words(route: FibRoute) -> str:
    hops = ", ".join(via(route.prefix, hop.gateway) for hop in route.next_hops)
    return f"{f'via {hops}' if hops else route.type} {route.extra}".rstrip()


def _told(facts: _Facts, key: RouteKey) -> Difference | None:
    status = facts.status
    if key not in status.plan.routes and key not in status.plan.refused_out:
        return None if status.outbox.is_settled(key) else _pending(facts, "notWithdrawn")
    match told_state(status, key):
        case "refused", reason if reason in EXPECTED or (reason in AS_WANTED["out"] and key in status.plan.refused_out):
            return None
        case "refused" | "failing", reason:
            return Difference(
                Kind("peer", "refused", reason, waiting=False), meaning_out(reason), outward_remedy(reason)
            )
        case "pending", str(reason) if reason:
            return Difference(Kind("peer", "notTold", reason, waiting=True), meaning_out(reason))
        case "pending", _:
            return _held_back(facts, key) or _pending(facts, "notTold")
    return None  # sent, or there is no session: said once for all its routes


def _pending(facts: _Facts, state: str) -> Difference:
    if facts.speaker is None:
        return Difference(Kind("peer", state, "pending", waiting=True))
    wrong = facts.speaker
    return Difference(Kind("peer", state, wrong.reason, waiting=False), wrong.message, wrong.fix)


def _held_back(facts: _Facts, key: RouteKey) -> Difference | None:
    """Its discard route must be in the kernel before it is told, and is not (`Loop._not_in_kernel`)."""
    guard = _in_kernel(facts, FibKey(key.prefix, DISCARD_METRIC))
    if guard is None or facts.status.outbox.is_wanted(key):
        return None
    kind = Kind("peer", "notTold", guard.kind.reason, guard.kind.waiting)
    return Difference(kind, "its discard route is not in the kernel", guard.fix)


def _session(status: Status, peer: Peer, now: float) -> Difference | None:
    """All of our own routes for a peer with which there is no session, and should be."""
    held = status.held(peer)
    meant = is_parting(status, peer) or (held is not None and held.reason in MEANT)
    if status.is_up(peer.address) or meant:
        return None
    routes = sum(RouteKey(peer.address, prefix) in status.plan.routes for prefix in status.plan.originated)
    if not routes:
        return None
    if held is not None:
        kind = Kind("peer", "noSession", held.reason, waiting=held.reason == PENDING)
        return Difference(kind, held_words(status, peer, held), remedy(held.reason), routes)
    why = why_not(status, peer)
    waiting = is_away(status, peer) or now - status.missed_at(peer) < SETTLE_SECONDS
    kind = Kind("peer", "noSession", "notEstablished", waiting)
    return Difference(kind, why.text if why else "", why.fix if why else "", routes)


def _view(status: Status, found: _Found, now: float) -> View:
    rows = [
        _row(status, place, difference)
        for some in (found.differing, found.waiting)
        for place, difference in sorted(some.items(), key=lambda item: _order(item[0]))
    ][:ROWS_MAX]
    counts = {kind: count for kind, count in sorted(found.counts.items()) if count > 0}
    problems = why_no_bgp(status, now)
    if status.fib.read_error is not None:
        problems = [*problems, Problem("kernelUnreadable", "kernel", status.fib.read_error)]
    return answer(
        status,
        "diff",
        {
            "differs": bool(problems) or any(not kind.waiting for kind in counts),
            "rows": rows,
            "counts": [{**kind._asdict(), "routes": count} for kind, count in counts.items()],
            "left_out": sum(counts.values()) - sum(row["routes"] for row in rows),
            "problems": problems_list(problems),
        },
    )


def _row(status: Status, place: Place, difference: Difference) -> View:
    address = None if isinstance(place, FibKey) else place.peer if isinstance(place, RouteKey) else place
    peer = None if address is None else status.plan.peers.get(address)
    return {
        "prefix": str(place.prefix) if isinstance(place, FibKey | RouteKey) else None,
        "metric": place.metric if isinstance(place, FibKey) else None,
        "peer": None if address is None else str(address),
        "name": None if peer is None else peer.name,
        **difference.kind._asdict(),
        "text": difference.text or None,
        "fix": difference.fix or None,
        "routes": difference.routes,
    }


def _order(place: Place) -> tuple[object, ...]:
    """The kernel first; then peer by peer, what is about all its routes first."""
    match place:
        case FibKey():
            return 0, prefix_order(place.prefix), place.metric
        case RouteKey():
            return 1, address_order(place.peer), 1, prefix_order(place.prefix)
        case _:
            return 1, address_order(place), 0
