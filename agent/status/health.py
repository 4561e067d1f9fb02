"""Is this node well? The one place that says so: for `bgpilot status`, its exit code, and the metric `degraded`.

`no`: the node cannot do its job. It has no picture, is nothing in BGP, has no session though some are wanted, or its
kernel takes no route. `degraded`: it does its job, and something does not work that somebody has asked for: a session
is not there, an object is not used, a route is refused, changes are not heard. `yes`: neither.

A session is missed once it has not been there for `SETTLE_SECONDS`, or at once when there must be none; one that an
administrator has shut down, that the topology no longer wants, or with a Node that is drained or not Ready, is not
missed. What each Problem counts is in `agent.status.weights`. A peer that tells nothing is no trouble.

Readiness is another question (`agent.status.readiness`): a node that is not well may still count as rolled out.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator, Sequence, Sized
from dataclasses import dataclass
from typing import Final

from agent.model import Key, Kind, Node, Problem, object_of
from agent.status.peers import MEANT, held_words, is_parting
from agent.status.picture import no_picture
from agent.status.status import SETTLE_SECONDS, Status
from agent.status.weights import Weight, weight_of
from bgp.check import Reason
from bgp.model import Direction, Held, Peer

SPEAKER: Final = "ExaBGP"
"""Subject of what is wrong with it."""
NOT_PLANNED: Final = "nodeNotPlanned"
"""The node is nothing in BGP, and no Problem says why."""
PENDING: Final = "secretPending"
"""Reason of a hold that ends by itself in a moment."""
NAMED_MAX: Final = 3
"""Sessions that a line names."""


class Health(enum.StrEnum):
    YES = "yes"
    DEGRADED = "degraded"
    NO = "no"


@dataclass(frozen=True, slots=True)
class Ailment:
    """One reason why the node is not well."""

    reason: str
    """The word; each once."""
    text: str
    fatal: bool = False
    """The node cannot do its job."""


def health_of(found: tuple[Ailment, ...]) -> Health:
    if not found:
        return Health.YES
    return Health.NO if any(ailment.fatal for ailment in found) else Health.DEGRADED


def ailments(status: Status, now: float) -> tuple[Ailment, ...]:
    """The fatal ones first."""
    found: dict[str, Ailment] = {}
    for ailment in _all(status, now):
        found.setdefault(ailment.reason, ailment)
    return tuple(sorted(found.values(), key=lambda it: not it.fatal))


def _all(status: Status, now: float) -> Iterator[Ailment]:
    """What says more stands first: of each reason the first counts."""
    yield from _of_picture(status)
    yield from _of_kernel(status)
    yield from _of_speaker(status)
    if not status.dry_run:
        yield from _of_sessions(status, now)
    yield from _of_problems(status)


def why_no_bgp(status: Status, now: float | None = None) -> list[Problem]:
    """What keeps this node from being anything in BGP; empty: nothing does. `now` as for `no_picture`."""
    own = f"Node {status.node}"
    if (none := no_picture(status, now)) is not None:
        return [none]
    if status.plan.identity is not None:
        return []
    known = [
        problem for problem in status.problems if problem.subject == own and weight_of(problem.reason) is Weight.NO_BGP
    ]
    fix = "Look at the Node object and at the BGPInstance that selects it."
    unknown = Problem(NOT_PLANNED, own, "the own Node object is missing, or has no address or no AS", fix)
    return sorted(known, key=lambda problem: (problem.reason, problem.message)) or [unknown]


def _of_picture(status: Status) -> Iterator[Ailment]:
    nothing = why_no_bgp(status)
    yield from (Ailment(problem.reason, problem.message, fatal=True) for problem in nothing)
    if not nothing and status.speaking_at is None and not status.dry_run:
        yield Ailment("notSpeaking", "ExaBGP has not been handed a plan yet", fatal=True)
    if broken := [str(watch.only or watch.kind) for watch in status.watches if not watch.healthy]:
        yield Ailment("watchBroken", f"changes of these are not heard: {', '.join(sorted(broken))}")


def _of_kernel(status: Status) -> Iterator[Ailment]:
    if status.fib.read_error is not None:
        yield Ailment("kernelUnreadable", f"the kernel's routes cannot be read: {status.fib.read_error}", fatal=True)
    if failing := status.fib.failing:
        none = not any(key in status.fib.actual for key in status.plan.fib)
        yield Ailment("kernelRefused", f"{_routes(failing)}: {next(iter(failing.values())).error}", fatal=none)
    if conflicts := status.fib.conflicts:
        yield Ailment("kernelConflict", f"others hold the place of {_routes(conflicts)}")


def _routes(some: Sized) -> str:
    return "1 route" if len(some) == 1 else f"{len(some)} routes"


def _of_speaker(status: Status) -> Iterator[Ailment]:
    up = _some_session(status)
    for problem in _sorted(status):
        if weight_of(problem.reason) is Weight.SPEAKER:
            yield Ailment(problem.reason, problem.message, fatal=not up)
    if failing := status.outbox.failing:
        yield Ailment("speakerRefused", f"ExaBGP does not take {_routes(failing)}")


def _of_sessions(status: Status, now: float) -> Iterator[Ailment]:
    every = [peer for peer in status.sessions() if not is_parting(status, peer) and not is_away(status, peer)]
    wanted = [(peer, held) for peer in every if (held := status.held(peer)) is None or held.reason not in MEANT]
    stopped = [(peer, held) for peer, held in wanted if held is not None and held.reason != PENDING]
    down = [peer for peer, held in wanted if held is None and not status.is_up(peer.address)]
    missed = [peer for peer in down if now - status.missed_at(peer) >= SETTLE_SECONDS]
    up = _some_session(status)
    fatal = not up and len(stopped) + len(missed) == len(wanted)
    yield from _of_stopped(status, stopped, [peer for peer, _ in wanted], fatal=fatal)
    if down and not up:
        yield Ailment("noSession", f"none of {len(wanted)} sessions is established", fatal=fatal)
    elif missed:
        are = "is" if len(missed) == 1 else "are"
        what = f"{len(missed)} of {len(wanted)} sessions {are} not established, for {SETTLE_SECONDS:.0f} s or longer"
        yield Ailment("sessionDown", f"{what}: {_named(missed)}")


def is_away(status: Status, peer: Peer) -> bool:
    """There is no session with a node that is drained, or of which the cluster itself says that it is not Ready."""
    if not peer.mesh or status.is_up(peer.address):
        return False
    node = status.nodes.get(Key(Kind.NODE, "", peer.name.partition("/")[2]))
    error = status.peer_state(peer.address).last_error
    drained = error is not None and (error.direction, error.code, error.subcode) == (Direction.RECEIVED, 6, 2)
    return drained or (isinstance(node, Node) and not node.ready)


def _of_stopped(
    status: Status, stopped: Sequence[tuple[Peer, Held]], wanted: Sequence[Peer], *, fatal: bool
) -> Iterator[Ailment]:
    """Sessions that must not be, by reason."""
    mesh = [peer for peer in wanted if peer.mesh]
    for reason in sorted({held.reason for _, held in stopped}):
        held = [(peer, why) for peer, why in stopped if why.reason == reason]
        peers = [peer for peer, _ in held]
        words = held_words(status, *held[0]) or reason
        if len(peers) < len(wanted) and peers != mesh:
            which = f"{len(peers)} of {len(wanted)} sessions may not come up ({_named(peers)})"
        else:
            which = f"no session{' between nodes' if peers == mesh else ''} may come up"
        yield Ailment(reason, f"{which}: {words}", fatal=fatal)


def _of_problems(status: Status) -> Iterator[Ailment]:
    """Of many with the same reason word the first speaks."""
    found: dict[str, list[Problem]] = {}
    for problem in _sorted(status):
        if _counts(status, problem):
            found.setdefault(problem.reason, []).append(problem)
    for reason, problems in found.items():
        first, more = problems[0], len(problems) - 1
        who = f"{first.subject}: " if weight_of(reason) is Weight.FAULT and first.subject != SPEAKER else ""
        yield Ailment(reason, f"{who}{first.message}{f' (and {more} more)' if more else ''}")


def _counts(status: Status, problem: Problem) -> bool:
    match weight_of(problem.reason):
        case Weight.NO_BGP | Weight.OWN:
            return problem.subject == f"Node {status.node}"
        case Weight.FAULT if problem.reason == Reason.NEXT_HOP_NOT_NEGOTIATED:
            of = (peer for peer in status.plan.peers.values() if object_of(peer.name) == problem.subject)
            return any(map(status.needs_next_hops, of))
        case weight:
            return weight is Weight.FAULT


def _sorted(status: Status) -> list[Problem]:
    return sorted(status.problems, key=lambda problem: (problem.reason, problem.subject, problem.message))


def _named(peers: Sequence[Peer]) -> str:
    names = [f"{peer.name} ({peer.address})" for peer in peers[:NAMED_MAX]]
    more = len(peers) - NAMED_MAX
    return ", ".join(names) + (f" and {more} more" if more > 0 else "")


def _some_session(status: Status) -> bool:
    return any(map(status.is_up, status.plan.peers))
