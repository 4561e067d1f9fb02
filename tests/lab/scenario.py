"""Scenario files of the tests (`agent.scenario.form` says what is in one), and the plan that must come of each.

It loads, plays and rewrites scenarios; what is right is in the files. `plan` stands last: rewriting keeps all above it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path as File
from typing import Final

from agent.model import Applied, Gone, Kind
from agent.plan.picture import Picture
from agent.scenario.form import Event, Scenario
from agent.scenario.read import read_text
from agent.scenario.stage import Stage as ScenarioStage

__all__ = ["REWRITE_VARIABLE", "Event", "Scenario", "Stage", "load", "rewrite", "undo"]

REWRITE_VARIABLE: Final = "BGPILOT_REWRITE_SCENARIOS"
"""Set in the environment: the wanted plans are written anew instead of compared. Read the diff before you commit."""
_WANTED: Final = "\nplan: |"


class Stage(ScenarioStage):
    @property
    def settled(self) -> Picture:
        """Later: sessions that are no longer wanted have ended."""
        nodes = frozenset(key.name for key in self.world.records(Kind.NODE))
        return replace(self.picture, over=nodes)


@cache
def load(file: File) -> Scenario:
    """As it was when first asked for: each file is played in many orders, and reading it takes longer than planning."""
    return read_text(file.read_text())


def rewrite(file: File, told: str) -> None:
    above = (file.read_text() + "\n").split(_WANTED, 1)[0].rstrip("\n")
    below = "".join(f"  {line}\n" for line in told.splitlines())
    file.write_text(f"{above}\n{_WANTED.removeprefix(chr(10))}\n{below}")


def undo(events: Sequence[Event]) -> tuple[Event, ...]:
    """The cluster's objects go again, in the same order."""
    return tuple(Gone(event.key) for event in events if isinstance(event, Applied))
