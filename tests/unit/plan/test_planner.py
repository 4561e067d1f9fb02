"""The incremental planner against the definition of the plan, over random histories."""

from __future__ import annotations

import json
import random
from copy import copy
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.cluster.parse import read_object
from agent.model import Applied, Kind
from agent.plan.definition import make_plan
from agent.plan.model import NodePlan, PlanDelta
from agent.plan.nodes import EXCLUDED_LABEL
from agent.plan.picture import Dirty
from agent.plan.planner import Planner
from agent.plan.refused import by_peer, reasons
from tests.lab.scenario import Stage, load
from tests.unit.plan.histories import NODES, SEED, Cluster, Step, histories

SCENARIOS = Path(__file__).parents[2] / "scenarios"
_QUIET = [HealthCheck.too_slow, HealthCheck.data_too_large]
_MANY = settings(max_examples=settings().max_examples * 3 // 2, deadline=None, suppress_health_check=_QUIET)
_OFTEN = 0.3
_SOME = settings(max_examples=settings().max_examples * 2 // 5, deadline=None, suppress_health_check=_QUIET)


class Copy:
    """A driver's view: the plan as it follows from deltas alone."""

    def __init__(self) -> None:
        self.routes, self.fib, self.reflected = {}, {}, False

    def follow(self, plan: NodePlan, delta: PlanDelta) -> None:
        """Of what is passed on, a delta may name more than has changed."""
        before, self.reflected = self.reflected, plan.standpoint.cluster_id is not None
        for table, source, keys in ((self.routes, plan.routes, delta.routes), (self.fib, plan.fib, delta.fib)):
            for key in keys:
                more_is_named = table is self.routes and (before or self.reflected)
                assert more_is_named or table.get(key) != source.get(key), f"{key} is in the delta and did not change"
                if key in source:
                    table[key] = source[key]
                else:
                    table.pop(key, None)


def _run(history: list[list[Step]]) -> Planner:
    cluster, planner, follower = Cluster(), Planner(), Copy()
    for steps in [SEED, *history]:
        for step in steps:
            step(cluster)
        before = planner.plan
        peers = dict(before.peers)
        cluster.planned(before)
        delta = planner.update(cluster.picture, cluster.take())
        follower.follow(planner.plan, delta)

        assert planner.plan == (right := make_plan(cluster.picture))
        assert reasons(planner.plan.refused_in) == reasons(right.refused_in)
        assert by_peer(planner.plan.refused_in) == by_peer(right.refused_in)
        assert follower.routes == planner.plan.routes
        assert follower.fib == planner.plan.fib
        assert delta.peers == (peers != planner.plan.peers)
        assert delta.problems == (before.problems != planner.plan.problems)
        assert delta.secrets == (before.secrets != planner.plan.secrets)
    _finish(cluster, planner)
    return planner


def _finish(cluster: Cluster, planner: Planner) -> None:
    """Sessions that are parting, and routers that were written on the node, are a memory of how it came: end them."""
    cluster.let_go(frozenset(NODES))
    cluster.written = {}
    planner.update(cluster.picture, cluster.take())


@_MANY
@given(histories)
def test_after_every_step_of_any_history_the_plan_is_that_of_the_definition_and_deltas_lead_to_it(history):
    _run(history)


@_MANY
@given(histories)
def test_prefixes_left_for_later_keep_their_routes_until_they_are_judged_and_then_the_plan_is_that_of_the_definition(
    history,
):
    cluster, planner = Cluster(), Planner(judged_at_once=0)
    for steps in [SEED, *history]:
        for step in steps:
            step(cluster)
        cluster.planned(planner.plan)
        delta, wanted = planner.update(cluster.picture, cluster.take()), make_plan(cluster.picture)

        wrong = {key.prefix for key, _ in planner.plan.fib.items() ^ wanted.fib.items()}
        assert wrong <= set(delta.unjudged)
        for prefix in delta.unjudged:
            late = planner.update(cluster.picture, Dirty(prefixes=frozenset({prefix})))
            assert not late.unjudged
        assert planner.plan == wanted


@_SOME
@given(histories, st.randoms(use_true_random=False))
def test_what_changes_while_a_plan_is_made_is_planned_by_the_next_one(history, rng: random.Random):
    cluster, planner = Cluster(), Planner()
    waiting = [step for steps in [SEED, *history] for step in steps]
    while waiting or cluster.dirty != Dirty():
        if waiting:
            waiting.pop(0)(cluster)
        cluster.planned(planner.plan)
        for _ in planner.steps(cluster.picture, cluster.take()):
            while waiting and rng.random() < _OFTEN:
                waiting.pop(0)(cluster)

    cluster.planned(planner.plan)
    planner.update(cluster.picture, Dirty())
    assert planner.plan == make_plan(cluster.picture)


@_SOME
@given(histories)
def test_a_history_in_one_pass_comes_to_the_same_plan_as_step_by_step(history):
    stepwise = _run(history)

    squashed = _run([[step for steps in history for step in steps]])

    assert squashed.plan == stepwise.plan


@_SOME
@given(histories, st.randoms(use_true_random=False))
def test_the_order_of_arrival_does_not_show_in_the_plan(history, rng: random.Random):
    finished = Cluster()
    for steps in [SEED, *history]:
        for step in steps:
            step(finished)
    everything = [(kind, item) for kind in finished.world._records for item in finished.world.records(kind).items()]
    rng.shuffle(everything)
    arriving, planner = copy(finished), Planner()
    arriving.world = type(finished.world)()
    arriving.dirty = Dirty()
    for _, (_, record) in everything * 2:
        arriving.set(record)
        planner.update(arriving.picture, arriving.take())

    _finish(arriving, planner)
    finished.let_go(frozenset(NODES))
    assert planner.plan == make_plan(finished.picture)


@_SOME
@given(histories)
def test_nothing_dirty_is_nothing_changed(history):
    cluster, planner = Cluster(), Planner()
    for steps in [SEED, *history]:
        for step in steps:
            step(cluster)
    planner.update(cluster.picture, cluster.take())

    assert planner.update(cluster.picture, Dirty(everything=True, interfaces=True)) == PlanDelta()


def test_a_delta_names_what_is_announced_before_what_is_gone():
    scenario = load(SCENARIOS / "service-refused-by-one-advertisement.yaml")
    stage, planner = Stage(scenario), Planner()
    planner.update(stage.picture, stage.play(scenario.events))
    for instead in ("198.51.100.11", "198.51.100.77"):
        status = {"loadBalancer": {"ingress": [{"ip": instead}]}}
        body = {"metadata": {"namespace": "default", "name": "cluster"}, "spec": {"type": "LoadBalancer"}}
        parsed = read_object(Kind.SERVICE, json.dumps({**body, "status": status}).encode())
        delta = planner.update(stage.picture, stage.play([Applied(parsed.key, parsed.outcome)]))

        there = [key in planner.plan.routes for key in delta.routes]
        assert there == sorted(there, reverse=True)
    assert set(there) == {True, False}


def test_services_are_judged_anew_when_another_node_is_excluded_and_when_it_is_not_any_more():
    scenario = load(SCENARIOS / "policy-local-endpoints-excluded.yaml")
    stage, planner = Stage(scenario), Planner()
    planner.update(stage.picture, stage.play(scenario.events))
    metadata, status = {"name": "worker-2"}, {"addresses": [{"type": "InternalIP", "address": "10.0.0.2"}]}
    said = set()
    for labels in ({}, {EXCLUDED_LABEL: ""}, {}):
        body = {"metadata": {**metadata, "labels": labels}, "spec": {"podCIDRs": ["10.244.2.0/24"]}, "status": status}
        parsed = read_object(Kind.NODE, json.dumps(body).encode())
        planner.update(stage.picture, stage.play([Applied(parsed.key, parsed.outcome)]))

        assert planner.plan.not_advertised == make_plan(stage.picture).not_advertised
        said |= set(planner.plan.not_advertised.values())
    assert said == {"endpointsExcluded", "noLocalEndpoint"}
