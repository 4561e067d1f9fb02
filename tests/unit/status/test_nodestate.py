"""What the BGPNodeState of a node says: rendered from the same Status as all else, and taken whole by its schema."""

from __future__ import annotations

import copy
import json
from dataclasses import replace

import pytest

from agent.plan.leaving import Cause, Leave
from agent.plan.steps import finish
from agent.status.conditions import TEXT_MAX
from agent.status.health import ailments
from agent.status.nodestate import PEERS_MAX, PROBLEMS_MAX, is_settled, node_state, stopped
from bgp.model import Held, PeerState, SessionState
from tests.lab.apikinds import completed, custom_resources
from tests.unit.status.nodestates import biggest, crowd, sent, stamp, told, usual_world
from tests.unit.status.scene import MATE, NOW, TOR, TOR6, Scene, missing_secret

ETCD_BYTES = 1.5 * 2**20
"""Of one request, unless etcd is told otherwise."""


@pytest.fixture
def scene():
    return Scene()


@pytest.fixture
def world():
    return usual_world()


def as_stored(view):
    """What an API server keeps of it, and what it was sent. Refused: the schema does not take it."""
    (kind,) = (it for it in custom_resources() if it.kind == "BGPNodeState")
    whole = sent(view)
    body = {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": {"name": "worker-1"}, "status": whole}
    return completed(kind, copy.deepcopy(body))["status"], whole


def test_the_schema_takes_all_of_it_and_drops_nothing(scene, world):
    scene.problems.add(missing_secret())
    scene.kernel.drift["missing"] = 1

    kept, wanted = as_stored(told(scene, world))

    assert kept == wanted == json.loads(json.dumps(wanted))


def test_it_says_who_the_node_is(scene, world):
    state = told(scene, world, own_labels={"topology.kubernetes.io/zone": "rack-7"})

    assert (state["asn"], state["routerID"], state["zone"]) == (64512, "192.0.2.1", "rack-7")
    assert (state["addresses"], state["podCIDRs"]) == (["192.0.2.1"], ["10.244.1.0/24"])
    assert state["agent"] == {"version": "1.2.3", "startTime": stamp(NOW - 200)}


def test_a_node_that_is_nothing_in_bgp_says_why(scene, world):
    scene.identity = None
    scene.peers.clear()

    state = told(scene, world)

    (ready,) = state["conditions"]
    assert (ready["type"], ready["status"], ready["reason"]) == ("Ready", "False", "nodeNotPlanned")
    assert state["health"] == "no"
    assert "asn" not in state
    as_stored(state)


def test_the_columns_answer_health_at_a_glance(scene, world):
    assert told(scene, world)["summary"] == {"peers": "2/3", "routes": "2/2", "problems": "sessionDown"}
    scene.problems.add(missing_secret())

    assert told(scene, world)["summary"]["problems"] == "sessionDown (+1)"


def test_a_node_that_does_its_job_is_ready_though_something_is_to_be_mended(scene, world):
    state = told(scene, world)

    (ready,) = state["conditions"]
    assert (ready["status"], ready["reason"], state["health"]) == ("True", "sessionDown", "degraded")


def test_a_router_is_told_with_what_kubectl_needs_to_explain_it(scene, world):
    state = told(scene, world)

    by_name = {it["name"]: it for it in state["peers"]}
    assert by_name["BGPPeer/tor-b"] == {
        "name": "BGPPeer/tor-b",
        "address": "2001:db8::fe",
        "localAddress": "192.0.2.1",
        "asn": 65001,
        "established": False,
        "state": "Active",
        "families": ["ipv4", "ipv6"],
        "reason": "notEstablished",
        "message": by_name["BGPPeer/tor-b"]["message"],
        "lastError": {
            "direction": "received",
            "code": 6,
            "subcode": 2,
            "text": 'Shutdown Communication: "tea"',
            "time": stamp(NOW - 90),
        },
        "received": 0,
        "sent": 0,
    }
    assert "has been shut down by its administrator" in by_name["BGPPeer/tor-b"]["message"]
    tor = by_name["BGPPeer/tor-a"]
    assert (tor["established"], tor["since"], tor["received"], tor["sent"]) == (True, stamp(NOW - 3661), 1, 2)


def test_a_session_that_must_not_be_says_why(scene, world):
    scene.peers[TOR6] = replace(scene.peers[TOR6], held=Held("secretMissing"))
    scene.problems.add(missing_secret())

    (told_of,) = (it for it in told(scene, world)["peers"] if it["name"] == "BGPPeer/tor-b")

    assert (told_of["reason"], told_of["message"]) == ("secretMissing", "Secret bgpilot/tor-b does not exist.")


def test_sessions_between_nodes_are_summed_up_and_named_while_they_are_missing(scene, world):
    names = [it["name"] for it in told(scene, world)["peers"]]
    scene.states[MATE] = PeerState(state=SessionState.IDLE, since=NOW - 5, flaps=1)

    state = told(scene, world)

    assert names == ["BGPPeer/tor-a", "BGPPeer/tor-b"]
    assert [it["name"] for it in state["peers"]] == ["node/worker-2", *names]
    assert (state["mesh"]["configured"], state["mesh"]["established"]) == (1, 0)


def test_nothing_that_time_alone_changes_is_in_it(scene, world):
    before = told(scene, world, now=NOW)

    assert told(scene, world, now=NOW + 86_400) == before


def test_a_node_that_leaves_says_how_far_it_has_come(scene, world):
    status = scene.status()
    leaving = replace(status, plan=replace(status.plan, leave=Leave(Cause.DRAINED, "disk")))

    state = finish(node_state(leaving, world, NOW, stamp))

    assert state["leaving"] == {"reason": "nodeDrained", "message": "disk", "stage": "over"}
    as_stored(state)


# Bounds.


def test_the_biggest_is_taken_by_the_schema_and_by_etcd():
    kept, wanted = as_stored(biggest())

    assert kept == wanted
    assert (len(kept["peers"]), kept["peersOmitted"]) == (PEERS_MAX, 300)
    assert len(kept["problems"]) == PROBLEMS_MAX
    assert kept["problemsOmitted"] == PEERS_MAX + 300 - PROBLEMS_MAX
    assert kept["resourcesOmitted"] == PEERS_MAX + 302 - len(kept["resources"])
    assert len(json.dumps(kept)) < 0.9 * ETCD_BYTES


def test_of_too_many_peers_those_that_are_not_there_are_named(scene, world):
    crowd(scene, world, PEERS_MAX)
    scene.peers |= Scene().peers
    scene.session_up(TOR)

    names = {it["name"] for it in told(scene, world)["peers"]}

    assert "BGPPeer/tor-a" not in names


def test_texts_are_cut(scene, world):
    crowd(scene, world, 1)

    (told_of,) = told(scene, world)["peers"]

    assert len(told_of["lastError"]["text"]) == TEXT_MAX


# Start and end.


def test_a_start_is_settled_when_every_session_is_there_or_has_had_its_time(scene):
    early = {"started_at": NOW - 10}

    assert not is_settled(scene.status(**early), NOW)
    assert is_settled(scene.status(**early), NOW + 30)
    scene.peers.pop(TOR6)
    assert is_settled(scene.status(**early), NOW)
    assert not is_settled(scene.status(**early, speaking_at=None), NOW)


def test_the_end_of_the_agent_is_a_condition_and_all_else_stays(scene, world):
    before = told(scene, world)

    after = stopped(before)

    (ready,) = after["conditions"]
    assert (ready["type"], ready["status"], ready["reason"]) == ("Ready", "Unknown", "Stopped")
    assert (after["summary"]["problems"], after["summary"]["peers"]) == ("Stopped", "2/3")
    assert after["peers"] == before["peers"]
    as_stored(after)


def test_ailments_are_those_of_bgpilot_status(scene, world):
    reasons = [it["reason"] for it in told(scene, world)["ailments"]]

    assert reasons == [it.reason for it in ailments(scene.status(), NOW)] == ["sessionDown"]
