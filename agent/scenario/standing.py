"""How far a plan was carried out, as the `standing` part of a scenario: sessions, what peers have been told, what is in
the kernel, what is wrong. With it a file answers as the agent would have at that moment (`agent.scenario.restored`).

    standing:
      phase: IN_SYNC
      complete: true                    # the picture of the cluster
      startedAgo: 7.5                   # seconds
      broken:                           # watches that fail; why is among the problems
        - {kind: Node, since: 312.1}    # of one object also name and namespace
      sessions:                         # seconds are before the moment at which this was taken
        - {peer: 10.0.0.2, state: Established, since: 3661.2, flaps: 1, up: {…}, lastError: {…}}
      held: [{peer: 10.0.0.254, reason: maxPrefixesExceeded, text: …}]
      pending: [{peer: 10.0.0.2, prefixes: [10.244.1.0/24]}]     # wanted, and not told: all else is
      refused: [{peer: 10.0.0.2, prefixes: [192.0.2.1/32]}]      # by ExaBGP
      leaving: [{peer: 10.0.0.2, prefixes: [192.0.2.7/32]}]      # told, and not wanted any more
      kernel: [{prefixes: [10.244.2.0/24], type: unicast, metric: 0, via: [{gateway: 10.0.0.2, interface: 2}]}]
      #   also extra: mtu 1300            # what somebody else set
      kernelRefused: [{prefix: …, metric: 0, error: …, attempts: 3}]
      kernelConflicts: [{prefix: …, metric: 0, holder: …}]
      problems: [{reason: …, subject: …, message: …, fix: …}]
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any, Final, TypeAlias

from agent.model import FibRoute, Problem, WatchState
from agent.plan.steps import Steps
from agent.scenario.sessions import session_of
from agent.status.status import Status
from bgp.model import Address, Family, Held, PeerState, RouteKey, SessionError

Part: TypeAlias = dict[str, Any]
KERNEL_MAX: Final = 200_000
"""Routes written; the others are counted."""
PROBLEMS_MAX: Final = 10_000


def standing_steps(status: Status, now: float) -> Steps[tuple[Part, dict[str, int]]]:
    """The part, and what there was too much of. All is as it was at the begin, but for what is told meanwhile."""
    kernel = list(status.fib.actual.values())
    refused = dict(status.fib.failing)
    conflicts = dict(status.fib.conflicts)
    peers, held = dict(status.peers), dict(status.held_by_speaker)
    problems = sorted(status.problems, key=lambda it: (it.subject, it.reason, it.message))
    yield
    told = yield from _told(status)
    routes = yield from _kernel(kernel[:KERNEL_MAX])
    yield
    part = {
        "phase": status.phase,
        "complete": status.picture_complete,
        "startedAgo": _ago(status.started_at, now),
        "broken": [_broken(watch, now) for watch in status.watches if watch.broken_at is not None],
        "sessions": [_session(peer, state, now) for peer, state in peers.items()],
        "held": [_held(peer, why) for peer, why in held.items()],
        **told,
        "kernel": routes,
        "kernelRefused": [
            {"prefix": str(key.prefix), "metric": key.metric, "error": it.error, "attempts": it.attempts}
            for key, it in refused.items()
        ],
        "kernelConflicts": [
            {"prefix": str(key.prefix), "metric": key.metric, "holder": holder} for key, holder in conflicts.items()
        ],
        "problems": [_problem(it) for it in problems[:PROBLEMS_MAX]],
    }
    left = {"kernelRoutes": len(kernel) - KERNEL_MAX, "problems": len(problems) - PROBLEMS_MAX}
    return part, {what: count for what, count in left.items() if count > 0}


def _broken(watch: WatchState, now: float) -> Part:
    only = {} if watch.only is None else {"namespace": watch.only.namespace, "name": watch.only.name}
    return {"kind": str(watch.kind), **only, "since": _ago(watch.broken_at or now, now)}


def _session(peer: Address, state: PeerState, now: float) -> Part:
    return {
        "peer": str(peer),
        "state": str(state.state),
        **({"since": _ago(state.since, now)} if state.since else {}),
        "flaps": state.flaps,
        **({"up": session_of(state.up)} if state.up is not None else {}),
        **({"lastError": _error(state.last_error, now)} if state.last_error is not None else {}),
    }


def _error(error: SessionError, now: float) -> Part:
    return {
        "direction": str(error.direction),
        "code": error.code,
        "subcode": error.subcode,
        "text": error.text,
        "at": _ago(error.at, now),
        "count": error.count,
    }


def _ago(at: float, now: float) -> float:
    """Of one instant always the same number: two that are equal stay so."""
    return round(now - at, 3)


def _held(peer: Address, held: Held) -> Part:
    return {"peer": str(peer), "reason": str(held.reason), "text": held.text}


def _problem(problem: Problem) -> Part:
    return {
        "reason": str(problem.reason),
        "subject": problem.subject,
        "message": problem.message,
        "fix": problem.fix,
    }


def _told(status: Status) -> Steps[dict[str, list[Part]]]:
    """What is not as planned. Keys may come and go while it is looked for."""
    found: dict[str, dict[RouteKey, None]] = {"pending": {}, "refused": {}, "leaving": {}}
    found["refused"].update(dict.fromkeys(status.outbox.failing))
    for key in status.outbox.unsettled():
        found["pending" if status.outbox.is_wanted(key) else "leaving"][key] = None
        yield
    for key in _untold(status):
        if key not in status.outbox.failing and key in status.plan.routes and not status.outbox.is_told(key):
            found["pending"][key] = None
        yield
    return {what: _by_peer(keys) for what, keys in found.items()}


def _untold(status: Status) -> Iterator[RouteKey]:
    """What may be neither told nor about to be: of ours all; of what is passed on, for those who are told nothing."""
    originated = list(status.plan.originated)
    passed = list(status.rib.prefixes()) if status.plan.standpoint.cluster_id is not None else []
    for peer in list(status.plan.peers):
        nothing = not any(status.outbox.told_count(peer, family) for family in Family)
        for prefix in chain(originated, passed if nothing else ()):
            yield RouteKey(peer, prefix)


def _by_peer(keys: Iterable[RouteKey]) -> list[Part]:
    peers = defaultdict[Address, list[str]](list)
    for peer, prefix in keys:
        peers[peer].append(str(prefix))
    return [{"peer": str(peer), "prefixes": prefixes} for peer, prefixes in peers.items()]


def _kernel(routes: Iterable[FibRoute]) -> Steps[list[Part]]:
    together: dict[tuple[object, ...], tuple[FibRoute, list[str]]] = {}
    for route in routes:
        place = route.type, route.metric, route.next_hops, route.extra
        together.setdefault(place, (route, []))[1].append(str(route.prefix))
        yield
    return [
        {
            "prefixes": prefixes,
            "type": str(route.type),
            "metric": route.metric,
            "via": [{"gateway": str(hop.gateway), "interface": hop.interface} for hop in route.next_hops],
            **({"extra": route.extra} if route.extra else {}),
        }
        for route, prefixes in together.values()
    ]
