"""Whatever happens, in whatever order: when it is over, kernels, routers and plans are what they must be, and no more.

The seed is printed, and BGPILOT_SEED replays its course. BGPILOT_SOAK=1 makes it BGPILOT_SOAK_SECONDS long (1800), on
more nodes, with a seed of its own each time, and judges memory too.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable, Iterable

import pytest

from tests.lab.soak.course import Course, Step
from tests.lab.soak.figures import Usage, grown, least, lived_on, look
from tests.lab.soak.judgement import Judgement
from tests.lab.soak.site import Site
from tests.lab.soak.state import Cast, Who
from tests.lab.topology import Lab
from tests.lab.wait import wait_until

pytestmark = pytest.mark.live

SOAK = bool(os.environ.get("BGPILOT_SOAK"))
SOAK_SECONDS = float(os.environ.get("BGPILOT_SOAK_SECONDS", "1800"))
SEED = int(os.environ.get("BGPILOT_SEED") or (secrets.randbelow(1_000_000) if SOAK else 11))
SHORT = Cast(
    nodes=(1, 2, 3, 4),
    beside=frozenset({2}),
    agent_ends=frozenset({2, 4}),
    exabgp_ends=frozenset({3, 4}),
    leaves=frozenset({4}),
)
LONG = Cast(
    nodes=(1, 2, 3, 4, 5),
    beside=frozenset({2, 5}),
    agent_ends=frozenset({2, 4, 5}),
    exabgp_ends=frozenset({3, 4, 5}),
    leaves=frozenset({4, 5}),
)
EVENTS = 30
"""Of the short form, and of a round of the long one three times as many."""
QUIET_SECONDS = 180.0
"""Longer than a router keeps what a dead node has told it (120 s after the hold time)."""
DRAWN = 200
LOOKS = 5
LOOK_EVERY_SECONDS = 0.2


class Soak:
    def __init__(self, lab: Lab, cast: Cast) -> None:
        self.course = Course(SEED, cast)
        self.site = Site(lab, self.course.state)
        self._began_at = time.monotonic()
        print(f"BGPILOT_SEED={SEED}")

    def happen(self, steps: Iterable[Step]) -> None:
        for step in steps:
            self._say(repr(step.event))
            step.event.apply(self.site)
            self.site.require_well()
            time.sleep(step.rest_seconds)

    def judge(self) -> None:
        """Once all that was wrong is over."""
        self.happen(self.course.calm())
        self._say("quiet")
        wait_until(Judgement(self.site).stands, within=QUIET_SECONDS, every=0.5)
        self._say("judged; " + ", ".join(f"{who} {it.memory_kb} kB" for who, it in look(self.site).items()))

    def go_home(self) -> None:
        """With all nodes and peers there: then what is used can be compared."""
        self.happen(self.course.calm())
        self.happen(self.course.home())
        self.judge()
        wait_until(Judgement(self.site).has_met, within=QUIET_SECONDS, every=0.5)

    def used(self) -> Usage:
        looks = []
        for _ in range(LOOKS):
            looks.append(look(self.site))
            time.sleep(LOOK_EVERY_SECONDS)
        return least(looks)

    def has_not_grown(self, before: Usage) -> bool:
        """What is never ended is the same process as before."""
        now = self.used()
        for name, (then, here) in lived_on(before, now).items():
            print(name, then, here)
        assert {f"{who} of node-1" for who in Who} <= lived_on(before, now).keys()
        found = grown(before, now, memory=SOAK)
        assert not found, found
        return True

    def _say(self, what: str) -> None:
        print(f"{time.monotonic() - self._began_at:7.1f} {what}", flush=True)


def test_after_any_events_kernels_routers_and_plans_agree_and_nothing_has_grown(lab: Callable[..., Lab]) -> None:
    cast = LONG if SOAK else SHORT
    soak = Soak(lab(nodes=len(cast.nodes), routers=2), cast)
    soak.go_home()

    if not SOAK:
        before = soak.used()
        soak.happen(soak.course.draw(EVENTS))
    else:
        before = soak_for(soak, SOAK_SECONDS / 2)
        soak_for(soak, SOAK_SECONDS / 2)
    soak.go_home()

    wait_until(lambda: soak.has_not_grown(before))
    soak.site.close()


def soak_for(soak: Soak, seconds: float) -> Usage:
    """Rounds of events, each judged where it ends; answers with what is used once all are home after that."""
    ends_at = time.monotonic() + seconds
    while True:
        soak.happen(soak.course.draw(EVENTS * 3))
        soak.judge()
        if time.monotonic() > ends_at:
            break
    soak.go_home()
    return soak.used()


def test_a_seed_stands_for_one_course() -> None:
    first, again, other = (list(Course(seed, LONG).draw(DRAWN)) for seed in (SEED, SEED, SEED + 1))

    assert again == first
    assert other != first
