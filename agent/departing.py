"""How far this node has come in leaving: the clock of a drain (`agent.plan.leaving` says what each stage means).

A stage lasts as long as others need to see it: GRACEFUL_SHUTDOWN must have moved the traffic before the routes go, and
the withdrawals must have arrived before the sessions end. A taint goes no further than service addresses until the
agent itself is to end. It plans and ends nothing.

An agent that starts goes on where the one before it was: what that one still told, when somebody asked the node to go
meanwhile, routers hold, and it goes as from any other node. Then the first stage begins when they can hear of it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from agent.model import DISCARD_METRIC, FibKey, Node
from agent.plan.leaving import Cause, Leave, Progress

LASTS_SECONDS: Final = {Progress.ASKED: 2.0, Progress.SERVICES: 5.0, Progress.PODS: 0.5}
"""A router has chosen anew after 2 s; connections to pods that are about to end get 5 s; the last withdrawals are under
way for half a second, at least: also until ExaBGP has taken them."""
MEETING_SECONDS: Final = 10.0
"""How long an agent that starts with a reason to leave waits for its peers: one that is away must not keep the others.
"""


def told_before(in_kernel: Iterable[FibKey], own: Node | None) -> Progress:
    """How far an earlier agent had come: what somebody is told has its discard in the kernel, until nobody is."""
    pods = frozenset(own.pod_cidrs) if own is not None else frozenset()
    told = {key.prefix for key in in_kernel if key.metric == DISCARD_METRIC}
    if told - pods:
        return Progress.ASKED
    return Progress.SERVICES if told else Progress.OVER


class Departing:
    __slots__ = ("_leave", "_meeting", "_since", "ending", "progress", "uninstalled")

    def __init__(self) -> None:
        self.progress = Progress.OVER
        """If there is a reason to leave. At a start it may be an old one: what was withdrawn is not told again."""
        self._leave: Leave | None = None
        self._since = 0.0
        """When this stage began."""
        self._meeting = False
        """This stage has been found at the start, and peers may not know yet."""
        self.ending = False
        self.uninstalled = False

    @property
    def next_look_at(self) -> float | None:
        """When the next stage is due."""
        if self._leave is None or self.progress >= self._last:
            return None
        return self._since + (MEETING_SECONDS if self._meeting else LASTS_SECONDS[self.progress])

    @property
    def is_over(self) -> bool:
        """There is a reason to leave, and nothing of it is left to be done."""
        return self._leave is not None and self.progress >= self._last

    def found(self, progress: Progress) -> None:
        """At a start: how far an earlier agent had come, by what it had not withdrawn."""
        self.progress, self._meeting = progress, True

    def see(self, leave: Leave | None, now: float) -> None:
        """The reason to leave, as planned."""
        before, self._leave = self._leave, leave
        if leave is None:
            self.progress, self._meeting = Progress.ASKED, False
        elif before is None:
            self._since = now
        elif before.cause is Cause.TAINTED and leave.cause is not Cause.TAINTED:
            self._since = now  # pods are thought of only now
        self.progress = min(self.progress, self._last) if leave is not None else self.progress

    def end(self, now: float, *, uninstalled: bool = False) -> None:
        """The agent is about to end: nothing is waited for that is not needed.

        `uninstalled`: that is a reason to leave, and will be planned as one.
        """
        self.ending, self.uninstalled = True, uninstalled
        if (self._leave is not None or uninstalled) and self.progress < Progress.PODS:
            self.progress, self._since, self._meeting = Progress.PODS, now, False

    def go_on(self, now: float, *, told: bool, met: bool = True) -> Progress:
        """`told`: peers have been sent all that was planned. `met`: there is a session with each of them."""
        due_at = self.next_look_at
        if self._meeting:
            if due_at is not None and ((told and met) or due_at <= now):
                self._meeting, self._since = False, now
        elif due_at is not None and due_at <= now and (told or self.progress < Progress.PODS):
            self.progress, self._since = Progress(self.progress + 1), now
        return self.progress

    @property
    def _last(self) -> Progress:
        tainted = self._leave is not None and self._leave.cause is Cause.TAINTED
        return Progress.SERVICES if tainted and not self.ending else Progress.OVER
