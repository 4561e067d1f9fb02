"""How far this node has come in leaving: the clock of a drain (`agent.plan.leaving` says what each stage means).

A stage lasts as long as others need to see it: GRACEFUL_SHUTDOWN must have moved the traffic before the routes go, and
the withdrawals must have arrived before the sessions end. A taint goes no further than service addresses until the
agent itself is to end. It plans and ends nothing.
"""

from __future__ import annotations

from typing import Final

from agent.plan.leaving import Cause, Leave, Progress

LASTS_SECONDS: Final = {Progress.ASKED: 2.0, Progress.SERVICES: 5.0, Progress.PODS: 0.5}
"""A router has chosen anew after 2 s; connections to pods that are about to end get 5 s; the last withdrawals are under
way for half a second, at least: also until ExaBGP has taken them."""


class Departing:
    __slots__ = ("_leave", "_since", "ending", "progress", "uninstalled")

    def __init__(self) -> None:
        self.progress = Progress.OVER
        """If there is a reason to leave. At a start it is an old one: what was withdrawn is not told again."""
        self._leave: Leave | None = None
        self._since = 0.0
        """When this stage began."""
        self.ending = False
        self.uninstalled = False

    @property
    def next_look_at(self) -> float | None:
        """When the next stage is due."""
        return (
            None if self._leave is None or self.progress >= self._last else self._since + LASTS_SECONDS[self.progress]
        )

    @property
    def is_over(self) -> bool:
        """There is a reason to leave, and nothing of it is left to be done."""
        return self._leave is not None and self.progress >= self._last

    def see(self, leave: Leave | None, now: float) -> None:
        """The reason to leave, as planned."""
        before, self._leave = self._leave, leave
        if leave is None:
            self.progress = Progress.ASKED
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
            self.progress, self._since = Progress.PODS, now

    def go_on(self, now: float, *, told: bool) -> Progress:
        """`told`: peers have been sent all that was planned."""
        due_at = self.next_look_at
        if due_at is not None and due_at <= now and (told or self.progress < Progress.PODS):
            self.progress, self._since = Progress(self.progress + 1), now
        return self.progress

    @property
    def _last(self) -> Progress:
        tainted = self._leave is not None and self._leave.cause is Cause.TAINTED
        return Progress.SERVICES if tainted and not self.ending else Progress.OVER
