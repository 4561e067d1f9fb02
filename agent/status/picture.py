"""Why there is no picture of the cluster yet: the words for it, the same in every answer.

Whether there is one says `Status.has_picture`. Before, nothing is planned, told or written, and what is not known looks
as if it did not exist: peers, objects, routes. So whoever answers asks here first, and says this instead.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Final

from agent.model import ALWAYS_WATCHED, Kind, Problem, WatchState
from agent.status.status import Status

INCOMPLETE: Final = "pictureIncomplete"
MALFORMED: Final = "malformedObject"
DECIDING: Final = (f"{Kind.INSTANCE} ", f"{Kind.ADVERTISEMENT} ")
"""How subjects begin that may keep the picture from being complete, beside the own Node (`agent.cluster.world`)."""
WAIT: Final = "Wait a moment; if it stays, see the API server's log."
_SUBJECTS_MAX: Final = 3


def no_picture(status: Status, now: float | None = None) -> Problem | None:
    """None: there is one. Without `now` nothing in the words changes with time: for what is written down."""
    if status.has_picture:
        return None
    why, fix = next(_of_watches(status, now), None) or next(_of_objects(status), None) or _of_lists(status, now)
    what = "the first plan is not made yet" if status.picture_complete else "the cluster is not known yet"
    return Problem(INCOMPLETE, f"Node {status.node}", f"{what}, so nothing is changed here: {why}", fix)


def _of_watches(status: Status, now: float | None) -> Iterator[tuple[str, str]]:
    """What most of them fail with: an API server that is away fails all in the same words."""
    alike = defaultdict[tuple[str, str, str], list[WatchState]](list)
    said = {it.subject: it for it in status.problems}
    for watch in status.watches:
        needed = watch.only is None if not status.picture_complete else watch.kind is Kind.SECRET
        problem = said.get(f"watch of {watch.only or watch.kind}", watch.problem)
        if needed and not watch.healthy and problem is not None:
            alike[problem.reason, _words(watch, problem), problem.fix].append(watch)
    for (reason, words, fix), watches in sorted(alike.items(), key=lambda it: (-len(it[1]), it[0])):
        lasts = _lasts((it.broken_at for it in watches), now)
        more = len(alike) - 1
        others = f"; {more} more in other words: `bgpilot status`" if more else ""
        yield f"{_named(watches)} cannot be listed: {words.rstrip('.')} ({reason}{lasts}){others}", fix or WAIT


def _words(watch: WatchState, problem: Problem) -> str:
    """Without which watch it is, which is said for all of them."""
    what = str(watch.only) if watch.only else f"all {watch.kind} objects"
    return problem.message.removeprefix(f"cannot watch {what}: ")


def _named(watches: list[WatchState]) -> str:
    if len(watches) == len(ALWAYS_WATCHED):
        return "its objects"
    names = sorted(str(it.only or it.kind) for it in watches)
    more = len(names) - _SUBJECTS_MAX
    return ", ".join(names[:_SUBJECTS_MAX]) + (f" and {more} more" if more > 0 else "")


def _of_objects(status: Status) -> Iterator[tuple[str, str]]:
    """All is listed, and something is there that says what this node is, and that nobody can read."""
    if status.picture_complete:
        return
    unread = sorted(
        (it.subject, it.message, it.fix)
        for it in status.problems
        if it.reason == MALFORMED and (it.subject == f"Node {status.node}" or it.subject.startswith(DECIDING))
    )
    if unread:
        words = "; ".join(f"{subject}: {message.rstrip('.')}" for subject, message, _ in unread[:_SUBJECTS_MAX])
        yield f"{words} ({MALFORMED})", unread[0][2] or WAIT


def _of_lists(status: Status, now: float | None) -> tuple[str, str]:
    """Nothing is wrong yet."""
    lasts = _lasts([status.started_at], now)
    return ("it is being made" if status.picture_complete else "its objects are being listed") + lasts, WAIT


def _lasts(since: Iterator[float | None] | list[float], now: float | None) -> str:
    known = [at for at in since if at is not None]
    if now is None or not known:
        return ""
    seconds = int(now - min(known))
    for unit, size in (("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f", for {seconds // size} {unit}"
    return f", for {seconds} s"
