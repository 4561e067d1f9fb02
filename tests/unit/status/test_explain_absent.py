"""Explain: what exists and has no part in this node, and a node that is nothing in BGP."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest

from agent.intent import ExternalPeer, NodeValue, Selector
from agent.model import FibRoute, Key, Kind, NextHop, Problem
from agent.status.explain import explain
from tests.lab.scenario import Stage, load
from tests.unit.status.scene import TOR, TOR6, Scene

SCENARIOS = Path(__file__).parents[2] / "scenarios"
SPINE = Key(Kind.PEER, "", "spine")
ADDRESS = ip_address("192.0.2.99")
NO_AS = Problem("asnMissing", "Node worker-1", "Node worker-1 has no label asn: the node speaks no BGP", "Set it.")


@pytest.fixture
def scene():
    return Scene()


def status_with(scene, **fields):
    spine = ExternalPeer(name="spine", asn=65000, **{"address": ADDRESS, **fields})
    return scene.status(routers={SPINE: spine}, own_labels={"rack": "a", "old": "yes"})


@pytest.mark.parametrize("name", ["spine", "BGPPeer/spine", "BGPPeer spine", "192.0.2.99"])
def test_a_bgppeer_that_does_not_select_the_node_says_so_by_whatever_name_it_is_asked_for(scene, name):
    view = explain(status_with(scene, node_selector=Selector(labels=(("rack", "b"),))), name)

    assert (view["kind"], view["ok"]) == ("peer", False)
    exists, no = view["hops"]
    assert (exists["ok"], exists["text"]) == (True, "the object exists, for 192.0.2.99 AS 65000")
    assert (no["place"], no["reason"]) == ("BGPPeer spine", "nodeNotSelected")
    assert no["text"].endswith("does not select Node worker-1: it wants rack=b, and the node has rack=a")
    assert "`kubectl label --overwrite node worker-1 rack=b`" in no["fix"]


@pytest.mark.parametrize(
    ("selector", "wants", "has", "label"),
    [
        (Selector(labels=(("rack", "a"), ("zone", "x"))), "zone=x", "no label zone", "zone=x"),
        (Selector(expressions=(("rack", "In", ("b", "c")),)), "rack in (b,c)", "rack=a", "rack=b"),
        (Selector(expressions=(("rack", "NotIn", ("a",)),)), "rack notin (a)", "rack=a", "rack-"),
        (Selector(expressions=(("zone", "Exists", ()),)), "zone", "no label zone", "zone=VALUE"),
        (Selector(expressions=(("old", "DoesNotExist", ()),)), "!old", "old=yes", "old-"),
        (
            Selector(labels=(("rack", "b"),), expressions=(("old", "DoesNotExist", ()), ("rack", "Exists", ()))),
            "rack=b, !old",
            "rack=a, old=yes",
            "rack=b old-",
        ),
    ],
)
def test_only_the_terms_that_do_not_hold_are_named_with_what_would_change_them(scene, selector, wants, has, label):
    no = explain(status_with(scene, node_selector=selector), "spine")["hops"][-1]

    assert no["text"].endswith(f"it wants {wants}, and the node has {has}")
    assert f"node worker-1 {label}`" in no["fix"]


def test_a_bgppeer_that_is_left_out_for_a_problem_shows_the_problem_behind_the_object(scene):
    scene.problems.add(Problem("peerAddressMissing", "BGPPeer spine", "Node worker-1 has no label tor", "Set it."))
    view = explain(status_with(scene, address=None, address_from=NodeValue(annotation=False, key="tor")), "spine")

    assert [(hop["ok"], hop["reason"]) for hop in view["hops"]] == [(True, None), (False, "peerAddressMissing")]
    assert view["hops"][0]["text"] == "the object exists, for the address in label tor of each Node, AS 65000"


@pytest.mark.parametrize("name", ["broken", "BGPPeer/broken", "BGPPeer broken"])
def test_a_bgppeer_that_cannot_be_read_is_there_and_no_session_comes_of_it(name):
    scene, stage = Scene(), Stage(load(SCENARIOS / "malformed-beside-good.yaml"))
    stage.play(load(SCENARIOS / "malformed-beside-good.yaml").events)
    view = explain(scene.status(problems=stage.world.problems), name)
    (hop,) = view["hops"]

    assert (view["kind"], hop["place"], hop["reason"]) == ("peer", "BGPPeer broken", "malformedObject")
    assert hop["text"].startswith("no session comes of it: spec.address = ")
    assert hop["text"].endswith(": the whole object is not used")
    assert hop["fix"].startswith("Mend the object: ")


@pytest.mark.parametrize("name", ["worker-7", "Node worker-7", "node/worker-7"])
def test_a_node_that_cannot_be_read_is_there(scene, name):
    scene.problems.add(Problem("malformedObject", "Node worker-7", "the whole object is not used", "Mend it."))
    view = explain(scene.status(), name)

    assert (view["kind"], [hop["reason"] for hop in view["hops"]]) == ("node", ["malformedObject"])


def test_a_bgppeer_on_a_node_that_is_nothing_in_bgp_says_that(scene):
    scene.identity, scene.problems = None, {NO_AS}
    view = explain(status_with(scene), "spine")

    assert [(hop["place"], hop["reason"]) for hop in view["hops"][1:]] == [("node worker-1", "asnMissing")]


def test_a_bgppeer_that_is_about_to_come_does_not_say_ok(scene):
    assert explain(status_with(scene), "spine")["hops"][-1]["reason"] == "pending"


def test_a_bgppeer_with_two_sessions_is_explained_by_both(scene):
    scene.peers[TOR] = replace(scene.peers[TOR], name="BGPPeer/tor")
    scene.peers[TOR6] = replace(scene.peers[TOR6], name="BGPPeer/tor")
    hops = explain(scene.status(), "tor")["hops"]

    wanted = [hop["place"] for hop in hops if hop["text"].startswith("external session wanted")]
    assert wanted == [f"peer {address} (BGPPeer/tor)" for address in (TOR, TOR6)]


@pytest.mark.parametrize("subject", ["100.64.0.0/10", "default/web"])
def test_on_a_node_that_is_nothing_in_bgp_nothing_is_looked_for_elsewhere(scene, subject):
    scene.identity, scene.problems = None, {NO_AS}
    scene.originated.clear()
    (hop,) = explain(scene.status(), subject)["hops"]

    assert (hop["place"], hop["ok"], hop["reason"], hop["fix"]) == ("node worker-1", False, "asnMissing", "Set it.")
    assert hop["text"] == f"speaks no BGP, so it neither announces nor hears anything: {NO_AS.message}"


def test_a_route_that_is_left_of_what_a_node_was_in_bgp_says_first_that_it_is_nothing_any_more(scene):
    scene.identity, scene.problems = None, {NO_AS}
    left_over = FibRoute(ip_network("100.64.0.0/10"), (NextHop(TOR),))
    scene.kernel.actual[left_over.key] = left_over
    no, left = explain(scene.status(), "100.64.0.0/10")["hops"]

    assert (no["place"], no["ok"], no["reason"]) == ("node worker-1", False, "asnMissing")
    assert (left["place"], left["neutral"], left["reason"]) == ("kernel", True, "leaving")
    assert left["text"].endswith("is there, and stays for 120 s at most: routers may still send here")


def test_before_the_cluster_is_listed_a_prefix_says_that_nothing_is_planned(scene):
    scene.identity = None
    (hop,) = explain(scene.status(picture_complete=False), "100.64.0.0/10")["hops"]

    assert hop["reason"] == "pictureIncomplete"
