"""What all who write to the API have in common: what came of it, what is wrong with it, and how long to leave it be.

It refuses to know what is written (`agent.cluster.events`, `agent.cluster.nodestate`).
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping
from random import Random
from typing import Any, Final, Protocol, TypeVar

import structlog

from agent.model import Problem
from agent.plan.steps import Steps

ANSWER_SECONDS: Final = 10.0
PAUSE_SECONDS: Final = 10.0
PAUSE_SECONDS_MAX: Final = 300.0
"""How long nothing is written after a failure: the first time, and at most. Half of it is left to chance."""
STEP_SECONDS: Final = 0.005
"""Work in one go."""
JSON: Final = "application/json"
MERGE: Final = "application/merge-patch+json"

log = structlog.get_logger()
T = TypeVar("T")


class Sender(Protocol):
    """`agent.cluster.api.ApiServer` fits."""

    async def send(self, method: str, path: str, content_type: str, body: Mapping[str, Any]) -> tuple[int, bytes]:
        """Answers HTTP status and the beginning of the body. Raises TransportError."""
        ...


class Writing:
    def __init__(self, random: Random | None = None) -> None:
        self.results: Counter[str] = Counter()
        """What came of it, by request."""
        self.problem: Problem | None = None
        self._random = random or Random()  # noqa: S311  # spreads load, keeps no secret
        self._pause = PAUSE_SECONDS

    def well(self) -> None:
        self._pause = PAUSE_SECONDS
        if self.problem is not None:
            log.info("problem_solved", reason=self.problem.reason, subject=self.problem.subject)
        self.problem = None

    def forbidden(self, problem: Problem) -> None:
        if self.problem is None:
            log.warning(
                "problem", reason=problem.reason, subject=problem.subject, message=problem.message, fix=problem.fix
            )
        self.problem = problem

    async def rest(self) -> None:
        """After a failure, each time longer, and not as long as others."""
        pause, self._pause = self._pause, min(2 * self._pause, PAUSE_SECONDS_MAX)
        await asyncio.sleep(self._random.uniform(pause / 2, pause))


async def rested(steps: Steps[T], clock: Callable[[], float]) -> T:
    """What the steps come to; others have turns between."""
    while True:
        began_at = clock()
        try:
            while clock() - began_at < STEP_SECONDS:
                next(steps)
        except StopIteration as end:
            found: T = end.value
            return found
        await asyncio.sleep(0)
