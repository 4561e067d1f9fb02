"""When the kernel's table is read again and compared with what we believe it holds.

Never before the plan has caught up with the event that raised the doubt. A link that goes down takes routes from the
kernel without a word, and makes others lead nowhere: to move these comes first, and to compare the kernel with the plan
of before would put back what has just gone. Reading and writing are the loop's.
"""

from __future__ import annotations

from typing import Final

FULL_COMPARE_SECONDS: Final = 300.0
"""How often the table is compared as a whole, events or not."""
DRIFT_SECONDS: Final = 0.1
"""After a word of the kernel's about routes: what it says of the link that they were on takes longer to read."""
UNJUDGED_SECONDS: Final = 5.0
"""So long at most prefixes that wait to be judged come first: a link that flaps must not keep the rest unmended."""


class Comparing:
    __slots__ = ("_at", "_put_off_until")

    def __init__(self) -> None:
        self._at: float | None = None
        """None: it was never done."""
        self._put_off_until: float | None = None
        """Set while prefixes wait to be judged."""

    def hear(self, now: float, *, kernel: bool, interfaces: bool) -> None:
        """`kernel`: its routes may be others than we believe; `interfaces`: the plan knows of these changes already."""
        if self._at is not None and (kernel or interfaces):
            self._at = min(self._at, now if interfaces else now + DRIFT_SECONDS)

    def put_off(self, now: float, *, unjudged: bool, more: bool) -> None:
        """`unjudged`: what changed concerns more prefixes than were judged in this pass; `more`: something waits."""
        if unjudged and self._put_off_until is None:
            self._put_off_until = now + UNJUDGED_SECONDS
        elif not unjudged and not more:
            self._put_off_until = None

    def is_due(self, now: float) -> bool:
        if self._at is None:
            return True
        return self._at <= now and (self._put_off_until is None or self._put_off_until <= now)

    def done(self, now: float) -> None:
        self._at = now + FULL_COMPARE_SECONDS

    def rest(self, now: float) -> float:
        """Seconds until it is due; while prefixes wait there are passes anyway."""
        return FULL_COMPARE_SECONDS if self._at is None else self._at - now
