"""Whether ExaBGP still answers: when to ask it for a sign of life, and when its silence has lasted too long.

Counts and words only. It refuses to ask, to know the time (it is told of each second, `tick`), and to decide what
follows.

Seconds are counted, not measured: when this process itself stands still (stopped, frozen, starved), what ExaBGP said
meanwhile waits to be read, and one tick is all that passes.
"""

from __future__ import annotations

import enum
from typing import Final

ASK_SECONDS: Final = 5
"""Nothing was heard for so long, and nothing is unanswered: ask."""
SILENT_SECONDS: Final = 15
"""Something is unanswered, and nothing at all was heard for so long. Well under the usual hold time (RFC
4271 suggests 90 s), and far over the longest turn of a busy ExaBGP (0.5 s for a reload with 1,000 peers, 5.0.15)."""


class Verdict(enum.Enum):
    FINE = enum.auto()
    ASK = enum.auto()
    SILENT = enum.auto()


class Silence:
    def __init__(self) -> None:
        self._heard = 0
        self._idle = 0
        self._waiting = 0

    def tick(self, *, heard: int, unanswered: bool) -> Verdict:
        """A second has passed. `heard` grows with whatever comes from ExaBGP; `unanswered`: it owes us an answer."""
        if heard != self._heard:
            self._heard, self._idle, self._waiting = heard, 0, 0
            return Verdict.FINE
        self._idle += 1
        if not unanswered:
            self._waiting = 0
            return Verdict.ASK if self._idle >= ASK_SECONDS else Verdict.FINE
        self._waiting += 1
        return Verdict.SILENT if self._waiting >= SILENT_SECONDS else Verdict.FINE
