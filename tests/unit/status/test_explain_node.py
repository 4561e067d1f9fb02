"""What is told of one node: its object, what is wrong with it, its sessions, and the way of its pod CIDRs."""

from __future__ import annotations

import pytest

from agent.model import Key, Kind, Node, Problem
from agent.status.explain import explain
from tests.unit.status.scene import MATE, MATE_PODS, OWN_PODS, US, Scene

OWN, OTHER = (
    Node(name="worker-1", addresses=(US,), pod_cidrs=(OWN_PODS,)),
    Node(name="worker-2", addresses=(MATE,), pod_cidrs=(MATE_PODS,)),
)
TWICE = Problem("podCIDRConflict", "Node worker-2", "its pod CIDR is another node's too", "Give it one of its own.")
EXCLUDED = Problem("nodeExcluded", "Node worker-1", "it has the label", "Remove it.")
NO_NODE = Problem("nodeNotFound", "Node worker-1", "there is no Node worker-1", "Give --node-name.")


@pytest.fixture
def scene():
    scene = Scene()
    scene.fields["nodes"] = {Key(Kind.NODE, "", node.name): node for node in (OWN, OTHER)}
    return scene


def told(scene, subject):
    view = explain(scene.status(), subject)
    assert view["kind"] == "node"
    return view["ok"], {hop["place"]: (hop["text"], hop["reason"], hop["fix"]) for hop in view["hops"]}


@pytest.mark.parametrize("subject", ["worker-2", "Node worker-2"])
def test_another_node_is_followed_from_its_object_over_its_session_to_the_kernel(scene, subject):
    ok, hops = told(scene, subject)

    assert ok
    assert hops["Node worker-2"][0] == f"the object exists; InternalIP {MATE}; pod CIDR {MATE_PODS}"
    assert hops[f"peer {MATE} (node/worker-2)"][0].startswith(f"{MATE_PODS} via {MATE} admitted, chosen")
    assert hops["kernel"][0].startswith(f"{MATE_PODS} via {MATE} installed")


def test_the_own_node_says_what_it_is_in_bgp_and_who_is_told_of_its_pods(scene):
    ok, hops = told(scene, "worker-1")

    assert ok
    assert hops["BGP"][0] == f"AS 64512, router id {US}; 2 of 3 sessions are up"
    assert any(f"{OWN_PODS} sent" in text for text, _, _ in hops.values())


def test_what_is_wrong_with_the_node_is_a_no_with_its_fix(scene):
    scene.problems.add(TWICE)
    ok, hops = told(scene, "worker-2")

    assert not ok
    assert hops["Node worker-2"] == (TWICE.message, TWICE.reason, TWICE.fix)


def test_what_keeps_the_own_node_out_of_bgp_is_said_once(scene):
    scene.identity = None
    scene.problems.add(NO_NODE)
    hops = explain(scene.status(), "worker-1")["hops"]

    assert [hop["reason"] for hop in hops].count("nodeNotFound") == 1


def test_what_somebody_wants_so_is_said_and_no_no(scene):
    scene.problems.add(EXCLUDED)
    view = explain(scene.status(), "worker-1")

    assert view["ok"]
    assert (EXCLUDED.message, EXCLUDED.reason) in [(hop["text"], hop["reason"]) for hop in view["hops"]]


def test_a_node_without_a_session_of_its_own_is_reached_by_others(scene):
    del scene.peers[MATE]
    _, hops = told(scene, "worker-2")

    assert hops["Node worker-2"][0].startswith("no session with it is wanted")


def test_while_this_node_is_nothing_in_bgp_that_is_what_is_said(scene):
    scene.identity = None
    scene.problems.add(NO_NODE)
    view = explain(scene.status(), "worker-2")

    assert not view["ok"]
    assert next(hop["reason"] for hop in view["hops"] if not hop["ok"]) == NO_NODE.reason
    assert not any(hop["place"] == "BGP" for hop in view["hops"])


def test_a_name_that_nobody_has_is_no_node(scene):
    assert explain(scene.status(), "worker-3") is None
