"""How one watch is doing: when it may ask again, what is wrong, how often it had to start over.

Every pause is here, so that what comes back from a server, however odd, can never become a hot loop: a failure is
followed by a pause of at least `backoff_least_seconds` that grows with each failure in a row. After a long outage the
pauses are long, and each watch has its own: the first that works again is told to the others, which then ask soon.

It refuses to know HTTP or watches; time is an argument.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from random import Random
from typing import Final

from agent.model import (
    ClusterChange,
    Key,
    Kind,
    Problem,
    WatchState,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """All bounds of a watch, in seconds. Tests make them small; nobody else changes them."""

    backoff_first_seconds: float = 0.8
    """Longest pause after the first failure; doubles with each in a row. The pause is random within (full jitter) …"""
    backoff_least_seconds: float = 0.1
    """… from this …"""
    backoff_most_seconds: float = 30.0
    """… to this."""
    retry_after_most_seconds: float = 120.0
    """A `Retry-After` beyond this counts as this."""
    resync_spread_seconds: float = 3.0
    """A first 410 hits every node of the cluster at once: lists are spread over this long."""
    return_spread_seconds: float = 3.0
    """One watch works again: those that wait because they failed ask within this long, each at a time of its own."""
    reopen_spread_seconds: float = 0.2
    """Pause, at most, between a stream that ended in order and the next."""
    absent_again_seconds: float = 30.0
    """How often to ask for a kind that the API server does not know."""
    short_seconds: float = 1.0
    """A stream that ends sooner is a failure, although its end was in order."""
    steady_seconds: float = 10.0
    """A stream that lived this long ends a row of failures."""
    silence_seconds: float = 200.0
    """No byte of a watch for this long: it is dead. kube-apiserver 1.36 sends a bookmark every 60 s, also when nothing
    changes; right after its own start the first one comes after 120 s (both measured)."""
    sync_silence_seconds: float = 90.0
    """No byte of a list for this long: kube-apiserver gives up on a request after 60."""
    connect_seconds: float = 30.0
    """No answer to a watch for this long: its header comes at once."""
    probe_seconds: float = 45.0
    """No answer to a question for one object for this long. A server that was about to end may have taken it and never
    answer, while the one in its place answers all others. A dead connection is noticed sooner, and says more."""
    fresh_seconds: float = 15.0
    """Signs of life are passed on at most this often."""
    watch_least_seconds: int = 300
    watch_most_seconds: int = 600
    """A watch asks the server to end it after a random time between the two."""


_BACKOFF_DOUBLINGS_MAX: Final = 16
_RETRY_AFTER_JITTER: Final = 0.25


class Health:
    def __init__(self, kind: Kind, only: Key | None, limits: Limits, random: Random) -> None:
        self.pause_until = float("-inf")
        self.problem: Problem | None = None
        self.failures = 0
        """In a row; restarts included."""
        self.restarts_in_row = 0
        self._kind = kind
        self._only = only
        self._limits = limits
        self._random = random
        self._counts: Counter[str] = Counter()
        self._fresh_at: float | None = None
        self._broken_at: float | None = None
        self._said_at: float | None = None
        self._uncounted = False
        """A restart has happened that was not said yet."""
        self._asked_until = float("-inf")
        """Before this the server does not want to be asked again (`Retry-After`)."""
        self._roused_at = float("-inf")

    def started(self, now: float) -> None:
        """From here on the age of the picture counts, even if nothing ever comes."""
        if self._fresh_at is None:
            self._fresh_at = now

    def alive(self, now: float) -> tuple[ClusterChange, ...]:
        """Something came. Worth saying only now and then."""
        self._fresh_at = now
        return self._say(now) if self.problem is None and self._is_due(now) else ()

    def good(self, now: float) -> tuple[ClusterChange, ...]:
        """The watch is as it should be."""
        self._fresh_at = now
        news = self.problem is not None or self._uncounted or self._is_due(now)
        self.problem = None
        return self._say(now) if news else ()

    def steady(self) -> None:
        """A watch lived long enough to say that the failures before it are over."""
        self.failures = 0
        self.restarts_in_row = 0

    def ended(self, reason: str, now: float) -> None:
        """A stream ended in order, as all do: no failure, but all nodes of the cluster may see it at once."""
        self._counts[reason] += 1
        self._uncounted = True
        self.pause_until = now + self._random.uniform(0, self._limits.reopen_spread_seconds)

    def restart(self, reason: str, now: float) -> None:
        """What is known is void through nobody's fault; in a row it counts as failures do."""
        spread = self._random.uniform(0, self._limits.resync_spread_seconds)
        self._count(reason, now, None)
        self.restarts_in_row += 1
        if self.restarts_in_row == 1:
            self.pause_until = now + spread

    def absent(self, now: float) -> None:
        """The kind does not exist yet."""
        again = self._limits.absent_again_seconds
        self.pause_until = now + self._random.uniform(again / 2, again)
        self.failures = 0

    def bad(self, problem: Problem, now: float, retry_after_seconds: float | None = None) -> tuple[ClusterChange, ...]:
        """A failure: pause, and say so; the same again only now and then."""
        self._count(problem.reason, now, retry_after_seconds)
        news = problem != self.problem or self._is_due(now)
        if self.problem is None:
            self._broken_at = now
        self.problem = problem
        return self._say(now) if news else ()

    def mended_elsewhere(self, now: float) -> None:
        """Another watch works again, so what keeps this one may be over as well: a new row of failures begins.

        Not more often than a failing watch asks by itself, or watches that come and go would keep each other awake.
        """
        if self.problem is None or now - self._roused_at < self._limits.backoff_most_seconds:
            return
        self._roused_at = now
        self.failures = 0
        spread = self._random.uniform(self._limits.backoff_least_seconds, self._limits.return_spread_seconds)
        self.pause_until = min(self.pause_until, max(self._asked_until, now + spread))

    def _count(self, reason: str, now: float, retry_after_seconds: float | None) -> None:
        self._counts[reason] += 1
        self._uncounted = True
        self.failures += 1
        doublings = min(self.failures - 1, _BACKOFF_DOUBLINGS_MAX)
        longest = min(self._limits.backoff_first_seconds * 2**doublings, self._limits.backoff_most_seconds)
        self.pause_until = now + self._random.uniform(self._limits.backoff_least_seconds, longest)
        if retry_after_seconds is not None:
            asked = min(retry_after_seconds, self._limits.retry_after_most_seconds)
            self._asked_until = now + asked * (1 + _RETRY_AFTER_JITTER * self._random.random())
            self.pause_until = max(self.pause_until, self._asked_until)

    def _is_due(self, now: float) -> bool:
        return self._said_at is None or now - self._said_at >= self._limits.fresh_seconds

    def _say(self, now: float) -> tuple[ClusterChange, ...]:
        state = WatchState(
            kind=self._kind,
            healthy=self.problem is None,
            fresh_at=now if self._fresh_at is None else self._fresh_at,
            problem=self.problem,
            only=self._only,
            restarts=tuple(sorted(self._counts.items())),
            broken_at=None if self.problem is None else self._broken_at,
        )
        self._said_at = now
        self._uncounted = False
        return (state,)
