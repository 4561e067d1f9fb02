"""What the agent would plan and explain, asked of a file: for whom, and of what it knows nothing there."""

from __future__ import annotations

from dataclasses import replace
from typing import Final, NamedTuple

from agent.model import Key, Kind
from agent.plan.definition import make_plan
from agent.plan.leaving import HERE
from agent.plan.model import NodePlan
from agent.scenario.form import Scenario, ScenarioError
from agent.scenario.restored import TAKEN_AT, restored
from agent.scenario.stage import Stage
from agent.status.explain import not_known
from agent.status.explain_unknown import explained as as_explained
from agent.status.peers import View

NODES_NAMED: Final = 5


class Planned(NamedTuple):
    stage: Stage
    plan: NodePlan
    notes: tuple[str, ...]
    """What whoever reads the plan should know of the file."""


def planned(scenario: Scenario, node: str = "") -> Planned:
    """Of the scenario's node, or of another one of its cluster. Raises ScenarioError when that is not there."""
    own = node or scenario.node
    found = scenario if own == scenario.node else _of_other(scenario, own)
    stage = Stage(found)
    stage.play(found.events)
    nodes = sorted(key.name for key in stage.world.records(Kind.NODE))
    if own != scenario.node and stage.world.get(Key(Kind.NODE, "", own)) is None:
        more = f" and {len(nodes) - NODES_NAMED} more" if len(nodes) > NODES_NAMED else ""
        raise ScenarioError(f"it has no Node {own}: name one of {', '.join(nodes[:NODES_NAMED])}{more}")
    return Planned(stage, make_plan(stage.picture), tuple(_notes(scenario, own)))


def explained(scenario: Scenario, subject: str) -> View:
    """As `bgpilot explain` said it at that moment. Raises ScenarioError, also for what it has nothing to say of."""
    found = planned(scenario)
    status = restored(scenario, found.stage, found.plan)
    if (view := as_explained(status, subject, TAKEN_AT)) is None:
        raise ScenarioError(not_known(status, subject))
    return view


def _of_other(scenario: Scenario, node: str) -> Scenario:
    """Of another node nobody has said what its interfaces are and what it was told."""
    return replace(
        scenario,
        node=node,
        events=tuple(event for event in scenario.events if not isinstance(event, tuple)),
        interfaces=(),
        gateways=(),
        written_before={},
        mesh={},
        identity=None,
        departure=HERE,
    )


def _notes(scenario: Scenario, node: str) -> list[str]:
    notes = [f"{count} {what} are left out of the file" for what, count in scenario.left_out if count]
    if node != scenario.node:
        notes.append(
            f"the file is of node {scenario.node}: of {node} neither interfaces nor what it was told are known, so "
            "its routes to others are not planned"
        )
    return notes
