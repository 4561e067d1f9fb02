"""Is this node well? The one place that says so: for `bgpilot status`, its exit code, and the metric `degraded`.

`no`: nothing can work here. No session can come up, or what is heard cannot get into the kernel. `degraded`: something
does not work, or is not kept up to date. What one peer lacks is neither: a router that is down, or a Problem of one
object, is shown where it stands.

Readiness is another question (`agent.status.status.Readiness`): a node that is not well may still count as rolled out.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from agent.model import Problem
from agent.status.peers import SHUTDOWN, held_words, is_parting
from agent.status.status import Status
from bgp.model import Held, Peer

SPEAKER: Final = "ExaBGP"
"""Subject of what is wrong with it."""
CONFIGURATION_REFUSED: Final = "configurationRefused"
"""The configuration before it stays in force."""
INCOMPLETE: Final = "pictureIncomplete"
NOT_PLANNED: Final = "nodeNotPlanned"
"""One word for whatever keeps the node from being anything in BGP: which it is says its Problem."""
_NO_BGP: Final = frozenset(
    {"nodeNotFound", "nodeWithoutAddress", "nodeAddressConflict", "notInListenAddresses", "asnMissing", "asnInvalid"}
)
"""Reason words of Problems with a Node that can keep it from speaking BGP."""


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
    """Nothing can work."""


def health_of(found: tuple[Ailment, ...]) -> Health:
    if not found:
        return Health.YES
    return Health.NO if any(ailment.fatal for ailment in found) else Health.DEGRADED


def ailments(status: Status) -> tuple[Ailment, ...]:
    """The fatal ones first."""
    found = {it.reason: it for it in (*_of_picture(status), *_of_kernel(status), *_of_speaker(status))}
    if not status.dry_run:
        found.update({it.reason: it for it in _of_sessions(status) if it.reason not in found})
    return tuple(sorted(found.values(), key=lambda it: not it.fatal))


def why_no_bgp(status: Status) -> list[Problem]:
    """What keeps this node from being anything in BGP; empty: nothing does."""
    own = f"Node {status.node}"
    if not status.picture_complete:
        fix = "Wait a moment; if it stays, `bgpilot status` shows which watch does not work."
        return [Problem(INCOMPLETE, own, "the cluster has not been listed completely: nothing is planned", fix)]
    if status.plan.identity is not None:
        return []
    known = [problem for problem in status.problems if problem.subject == own and problem.reason in _NO_BGP]
    fix = "Look at the Node object and at the BGPInstance that selects it."
    unknown = Problem(NOT_PLANNED, own, "the own Node object is missing, or has no address or no AS", fix)
    return sorted(known, key=lambda problem: (problem.reason, problem.message)) or [unknown]


def _of_picture(status: Status) -> Iterator[Ailment]:
    for problem in why_no_bgp(status):
        reason = INCOMPLETE if problem.reason == INCOMPLETE else NOT_PLANNED
        yield Ailment(reason, problem.message, fatal=True)
    if broken := [str(watch.only or watch.kind) for watch in status.watches if not watch.healthy]:
        yield Ailment("watchBroken", f"changes of these are not heard: {', '.join(sorted(broken))}")


def _of_kernel(status: Status) -> Iterator[Ailment]:
    if status.fib.read_error is not None:
        yield Ailment("kernelUnreadable", f"the kernel's routes cannot be read: {status.fib.read_error}", fatal=True)
    if failing := status.fib.failing:
        yield Ailment("kernelRefused", f"{len(failing)} routes: {next(iter(failing.values())).error}")
    if conflicts := status.fib.conflicts:
        yield Ailment("kernelConflict", f"the places of {len(conflicts)} routes are held by others")


def _of_speaker(status: Status) -> Iterator[Ailment]:
    up = _some_session(status)
    for problem in sorted(status.problems, key=lambda problem: (problem.reason, problem.message)):
        if problem.subject == SPEAKER:
            yield Ailment(problem.reason, problem.message, fatal=not up and problem.reason != CONFIGURATION_REFUSED)
    if failing := status.outbox.failing:
        yield Ailment("speakerRefused", f"ExaBGP does not take {len(failing)} routes")


def _of_sessions(status: Status) -> Iterator[Ailment]:
    """None is there of all that should be, or none between nodes may be. Nobody misses what has been shut down."""
    wanted = [(peer, status.held(peer)) for peer in status.plan.peers.values() if not is_parting(status, peer)]
    wanted = [(peer, held) for peer, held in wanted if held is None or held.reason != SHUTDOWN]
    mesh = [(peer, held) for peer, held in wanted if peer.mesh]
    up = _some_session(status)
    if (stopped := _all_held(wanted)) or (stopped := _all_held(mesh)):
        among = " between nodes" if len(stopped) < len(wanted) or len(mesh) == len(wanted) else ""
        why = {held.reason: held_words(status, peer, held) for peer, held in stopped}
        for reason, words in sorted(why.items()):
            yield Ailment(reason, f"no session{among} may come up: {words or reason}", fatal=not up)
    elif wanted and not up:
        yield Ailment("noSession", f"none of {len(wanted)} sessions is established")


def _all_held(sessions: list[tuple[Peer, Held | None]]) -> list[tuple[Peer, Held]]:
    """All of them, when there must be none; else nothing."""
    held = [(peer, why) for peer, why in sessions if why is not None]
    return held if len(held) == len(sessions) else []


def _some_session(status: Status) -> bool:
    return any(map(status.is_up, status.plan.peers))
