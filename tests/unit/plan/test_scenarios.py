"""Every scenario file: the cluster in, the plan out, in whatever order and portions it arrives.

The wanted plans are written anew with BGPILOT_REWRITE_SCENARIOS=1.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

from agent.plan.definition import make_plan
from agent.plan.picture import Dirty
from agent.plan.planner import Planner
from tests.lab.scenario import REWRITE_VARIABLE, Event, Stage, load, rewrite, undo

FILES = sorted((Path(__file__).parents[2] / "scenarios").glob("*.yaml"))
Portions = Iterator[tuple[Event, ...]]


def test_there_are_scenarios():
    assert FILES


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_the_scenario_leads_to_the_plan_it_says(file: Path):
    scenario = load(file)
    stage = Stage(scenario)
    stage.play(scenario.events)

    told = stage.tell(make_plan(stage.picture))
    if os.environ.get(REWRITE_VARIABLE):
        rewrite(file, told)
    else:
        assert told == scenario.wanted


def _squashed(events: tuple[Event, ...]) -> Portions:
    yield events


def _split(events: tuple[Event, ...]) -> Portions:
    for event in events:
        yield (event,)


def _reversed(events: tuple[Event, ...]) -> Portions:
    yield from _split(events[::-1])


def _shuffled(events: tuple[Event, ...]) -> Portions:
    rng = random.Random(len(events))  # noqa: S311  # reproducible, not secret
    for _ in range(3):
        yield from _split(tuple(rng.sample(events, len(events))))


def _duplicated(events: tuple[Event, ...]) -> Portions:
    for event in events:
        yield (event, event)
    yield events


def _with_empty_passes(events: tuple[Event, ...]) -> Portions:
    for event in events:
        yield from ((), (event,), ())


def _there_and_back(events: tuple[Event, ...]) -> Portions:
    yield from _split(events)
    yield from _split(undo(events))
    yield from _split(events)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
@pytest.mark.parametrize(
    "arrive", [_squashed, _split, _reversed, _shuffled, _duplicated, _with_empty_passes, _there_and_back]
)
def test_however_a_scenario_arrives_the_planner_comes_to_the_same_plan(
    file: Path, arrive: Callable[[tuple[Event, ...]], Portions]
):
    scenario = load(file)
    stage, planner = Stage(scenario), Planner()
    for portion in arrive(scenario.events):
        planner.update(stage.picture, stage.play(portion))
    planner.update(stage.settled, stage.play(()))

    assert _text(file) == stage.tell(planner.plan)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_when_every_object_of_a_scenario_is_gone_nothing_is_wanted(file: Path):
    scenario = load(file)
    stage, planner = Stage(scenario), Planner()
    planner.update(stage.picture, stage.play(scenario.events))
    planner.update(stage.picture, stage.play(undo(scenario.events)))

    assert not planner.plan.peers
    assert not planner.plan.routes
    assert not planner.plan.fib
    assert planner.update(stage.picture, Dirty(everything=True)).fib == frozenset()


@cache
def _text(file: Path) -> str:
    scenario = load(file)
    stage = Stage(scenario)
    stage.play(scenario.events)
    return stage.tell(make_plan(stage.picture))
