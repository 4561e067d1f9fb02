"""What the probes answer: whether the process should go on, and whether the node may count as rolled out.

Neither asks if the node is well (`agent.status.health`): one that is not may count as rolled out, so that the rollout
of its own fix goes on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from agent.status.health import why_no_bgp
from agent.status.status import SETTLE_SECONDS, Status

PASS_SECONDS_MAX: Final = 60.0
"""A pass that takes longer hangs: the agent is restarted."""
SPEAKER_SILENT: Final = "speakerSilent"
"""Reason word of the speaker's problem with an ExaBGP that hangs."""


def not_alive(status: Status, now: float) -> tuple[str, ...]:
    """Why the process should be restarted. Depends on nothing outside it: neither the API server nor any peer."""
    if status.pass_began_at is not None and now - status.pass_began_at > PASS_SECONDS_MAX:
        return (f"loopHangs: a pass has been going on for {now - status.pass_began_at:.0f} s",)
    return ()


@dataclass(slots=True)
class Readiness:
    """Whether this node may count as rolled out. Remembers what was reached, so that later trouble elsewhere (a router
    that dies) does not stop the rollout of its own fix.
    """

    kernel_reached: bool = False
    peers_reached: bool = False

    def reasons(self, status: Status, now: float) -> tuple[str, ...]:
        """Why not, each starting with its reason word; empty: ready."""
        if nothing := why_no_bgp(status):
            return tuple(f"{problem.reason}: {problem.message}" for problem in nothing)
        if status.dry_run:
            return ()
        if status.speaking_at is None:
            return ("notSpeaking: the speaker has not been handed a plan yet",)
        silent = tuple(f"{one.reason}: {one.message}" for one in status.problems if one.reason == SPEAKER_SILENT)
        return (*silent, *self._kernel(status), *self._peers(status, now - status.speaking_at))

    def _kernel(self, status: Status) -> tuple[str, ...]:
        if status.fib.read_error is not None:
            return (f"kernelUnreadable: {status.fib.read_error}",)
        if failing := status.fib.failing:
            key, failure = next(iter(failing.items()))
            return (f"kernelRefused: {len(failing)} routes, first {key.prefix}: {failure.error}",)
        missing = [key for key in status.missing_in_kernel() if key not in status.fib.conflicts]
        self.kernel_reached = self.kernel_reached or not missing
        return () if self.kernel_reached else (f"kernelNotInSync: {len(missing)} routes are not installed yet",)

    def _peers(self, status: Status, speaking_seconds: float) -> tuple[str, ...]:
        waiting = [] if self.peers_reached or speaking_seconds >= SETTLE_SECONDS else status.not_yet_heard()
        self.peers_reached = not waiting
        rest = SETTLE_SECONDS - speaking_seconds
        return tuple(f"peerNotSynced: {peer.name} ({peer.address}), for {rest:.0f} s at most" for peer in waiting)
