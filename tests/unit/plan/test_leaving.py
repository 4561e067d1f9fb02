"""Why a node leaves and what of it is told at each stage (`agent.plan.leaving`)."""

from __future__ import annotations

import pytest

from agent.intent import Instance
from agent.model import Node
from agent.plan.leaving import (
    DRAIN_ANNOTATION,
    HERE,
    TEXT_MAX,
    Cause,
    Departure,
    Leave,
    Leaving,
    Progress,
    Telling,
    farewell,
    is_leaving,
    leaving,
    problem_of,
    reason_to_leave,
)

INSTANCE = Instance(name="")
TAINT = INSTANCE.drain_on_taints[0]
NODE, TAINTED = Node(name="n1"), Node(name="n1", taints=(TAINT, "other"))
ANNOTATED = Node(name="n1", annotations=((DRAIN_ANNOTATION, "rack 7"),), taints=(TAINT,))
USUAL, LAST, NOTHING = Telling.USUAL, Telling.LAST_RESORT, Telling.NOTHING


@pytest.mark.parametrize(
    ("node", "departure", "wanted"),
    [
        (NODE, HERE, None),
        (Node(name="n1", taints=("other",)), HERE, None),
        (TAINTED, HERE, Leave(Cause.TAINTED, TAINT)),
        (TAINTED, Departure(deleted=True), Leave(Cause.DELETED)),
        (ANNOTATED, Departure(deleted=True), Leave(Cause.DRAINED, "rack 7")),
        (ANNOTATED, Departure(ordered=""), Leave(Cause.DRAINED)),
        (NODE, Departure(uninstalled=True, ending=True), Leave(Cause.UNINSTALLED)),
        (NODE, Departure(uninstalled=True, deleted=True), Leave(Cause.DELETED)),
        (TAINTED, Departure(uninstalled=True), Leave(Cause.UNINSTALLED)),
    ],
)
def test_an_order_counts_before_the_annotation_and_that_before_a_deleted_node_and_a_taint(node, departure, wanted):
    assert reason_to_leave(node, INSTANCE, departure) == wanted


def test_other_nodes_see_who_is_about_to_go_by_annotation_and_taint():
    assert [is_leaving(node, INSTANCE) for node in (NODE, TAINTED, ANNOTATED)] == [False, True, True]


@pytest.mark.parametrize("cause", [Cause.DRAINED, Cause.DELETED, Cause.UNINSTALLED])
def test_who_leaves_is_the_last_resort_first_and_says_farewell_last(cause: Cause):
    stages = [leaving("n1", Leave(cause, "x"), Departure(progress=progress)) for progress in Progress]

    assert [(stage.services, stage.pods) for stage in stages] == [
        (LAST, LAST),
        (NOTHING, LAST),
        (NOTHING, NOTHING),
        (NOTHING, NOTHING),
    ]
    assert [stage.farewell is not None for stage in stages] == [False, False, False, True]


@pytest.mark.parametrize("progress", Progress)
def test_a_taint_leaves_pods_and_sessions_alone_until_the_agent_ends(progress: Progress):
    leave = Leave(Cause.TAINTED, TAINT)
    stays = leaving("n1", leave, Departure(progress=progress))
    ends = leaving("n1", leave, Departure(progress=progress, ending=True))

    assert (stays.pods, stays.farewell) == (USUAL, None)
    asked = leaving("n1", Leave(Cause.DELETED), Departure(progress=progress))
    assert (ends.services, ends.pods) == (asked.services, asked.pods)
    assert (ends.farewell is None) == (asked.farewell is None)


def test_who_has_no_reason_to_leave_says_all_as_usual_even_when_the_agent_ends():
    assert leaving("n1", None, Departure(ending=True)) == Leaving()


@pytest.mark.parametrize(
    ("leave", "text"),
    [
        (Leave(Cause.DRAINED), "drained"),
        (Leave(Cause.DRAINED, "rack 7"), "drained: rack 7"),
        (Leave(Cause.DELETED), "Node n1 is deleted"),
        (Leave(Cause.UNINSTALLED), "bgpilot is uninstalled from Node n1"),
        (Leave(Cause.TAINTED, TAINT), f"Node n1 has taint {TAINT}"),
    ],
)
def test_routers_are_told_why(leave: Leave, text: str):
    assert farewell("n1", leave) == text


def test_a_long_text_is_cut_between_two_characters():
    text = farewell("n1", Leave(Cause.DRAINED, "ü" * 255))

    assert text == "drained: " + "ü" * 123
    assert len(text.encode()) == TEXT_MAX


@pytest.mark.parametrize(
    ("leave", "reason", "says"),
    [
        (Leave(Cause.DRAINED, "rack 7"), "nodeDrained", "is drained (rack 7)"),
        (Leave(Cause.DELETED), "nodeDeleted", "is deleted"),
        (Leave(Cause.UNINSTALLED), "agentUninstalled", "the DaemonSet of the agent on Node n1 is deleted"),
        (Leave(Cause.TAINTED, TAINT), "nodeDraining", f"has the taint {TAINT}"),
    ],
)
def test_the_problem_names_the_node_the_cause_and_a_way_back(leave: Leave, reason: str, says: str):
    problem = problem_of("n1", leave)

    assert (problem.reason, problem.subject) == (reason, "Node n1")
    assert says in problem.message
    assert problem.fix
