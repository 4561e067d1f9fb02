"""When ExaBGP dials a peer again: in place of a delay that grows to 60 s and cannot be shortened from outside.

Runs inside ExaBGP (`bgp.inside.launcher`). It refuses to know ExaBGP; only the clock is read here.
"""

from __future__ import annotations

import random
import time
from typing import Final

AWAY_CAPS: Final = ((30.0, 0.5), (600.0, 2.0), (3600.0, 10.0), (float("inf"), 30.0))
"""(away for at most, longest delay between two dials), seconds. A node that joins is dialed from the moment the others
know it, a few seconds before it listens."""
DIAL_FIRST_SECONDS: Final = 0.25
REFUSED_FIRST_SECONDS: Final = 0.5
REFUSED_MAX_SECONDS: Final = 60.0
REFUSED_BY_NODE_MAX_SECONDS: Final = 3.0
"""Two nodes soon see the same cluster, and then they agree."""
FLAP_FIRST_SECONDS: Final = 0.5
FLAP_MAX_SECONDS: Final = 60.0
FLAP_FORGET_SECONDS: Final = 300.0

OPEN_ERROR: Final = 2
CEASE: Final = 6
SOON: Final = frozenset({4, 6, 7})
"""Subcodes of Cease (RFC 4486) of one that takes the next connection: it was reset, has another configuration, or there
was a collision."""


def dial_delay(failures: int, away_seconds: float) -> float:
    """Seconds to the next dial after so many refused or unanswered ones in a row."""
    cap = next(cap for longest, cap in AWAY_CAPS if away_seconds <= longest)
    return float(min(cap, DIAL_FIRST_SECONDS * 2.0 ** min(failures - 1, 16)))


def refusal_delay(refusals: int, *, node: bool) -> float:
    """Seconds to the next dial after so many answers in a row that were a NOTIFICATION."""
    longest = REFUSED_BY_NODE_MAX_SECONDS if node else REFUSED_MAX_SECONDS
    return float(min(longest, REFUSED_FIRST_SECONDS * 2.0 ** min(refusals - 1, 16)))


def is_refusal(code: int, subcode: int, *, node: bool) -> bool:
    """Whether this NOTIFICATION, sent or received before there was a session, says that the next OPEN is refused too.

    Other codes also stand for silence (hold timer, FSM), which takes its time by itself. A node says Cease as well when
    it has not heard of us yet, which it soon will.
    """
    return code == OPEN_ERROR or (code == CEASE and not node and subcode not in SOON)


def flap_delay(losses: int) -> float:
    """Seconds to the next dial after the so-manieth loss of an established session; the first is dialed at once."""
    return 0.0 if losses <= 1 else float(min(FLAP_MAX_SECONDS, FLAP_FIRST_SECONDS * 2.0 ** min(losses - 2, 16)))


class Patience:
    """In place of `exabgp.reactor.delay.Delay`, whose delay grows to 60 s and cannot be shortened from outside.

    A peer that was away is back within about 3 s; one that is away for long is dialed less often; one that refuses, or
    whose sessions come up and fall, is left alone for longer each time. Same methods as Delay, and what ended the
    attempt or session that is about to be closed: `refused`, `forgive`, `lost`.
    """

    def __init__(self) -> None:
        self.cap_seconds: float | None = None
        """No delay is longer than this, whatever the reason for it."""
        self._until = 0.0
        self._failures = 0
        self._away_at: float | None = None
        self._refusals = 0
        self._refused_by_node: bool | None = None
        """Of the attempt that is about to be closed; None: it was not refused."""
        self._losses = 0
        self._lost_at = 0.0
        self._lost_now = False

    def reset(self) -> None:
        """Called when a session is up or comes in, and before one is restarted on purpose.

        One that comes in may be refused as those before it.
        """
        self._until, self._failures, self._away_at = 0.0, 0, None

    def refused(self, *, node: bool) -> None:
        """An attempt ends with a NOTIFICATION (`is_refusal`)."""
        self._refusals += 1
        self._refused_by_node = node

    def forgive(self) -> None:
        """There was a session, or its configuration has changed: refusals before that say nothing any more."""
        self._refusals = 0

    def lost(self) -> None:
        now = time.monotonic()
        self._losses = 1 if now - self._lost_at > FLAP_FORGET_SECONDS else self._losses + 1
        self._lost_at, self._lost_now = now, True

    def increase(self) -> None:
        """Called when a connection is closed, however far it had come."""
        now = time.monotonic()
        if self._lost_now:
            self._lost_now = False
            delay = flap_delay(self._losses)
        elif self._refused_by_node is not None:
            delay = refusal_delay(self._refusals, node=self._refused_by_node)
            self._refused_by_node, self._failures, self._away_at = None, 0, None
        else:
            self._failures += 1
            self._away_at = self._away_at or now
            delay = dial_delay(self._failures, now - self._away_at)
        if self.cap_seconds is not None:
            delay = min(delay, self.cap_seconds)
        # Jitter: nodes that lost the same peer at the same time must not all dial it at the same time.
        self._until = now + delay * random.uniform(0.7, 1.0)  # noqa: S311 - not for cryptography

    def backoff(self) -> bool:
        return time.monotonic() < self._until
