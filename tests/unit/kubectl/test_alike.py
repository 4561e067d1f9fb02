"""What several nodes say alike stands once, with their names: a router that is down is down for all of them."""

from __future__ import annotations

import json

import pytest

from agent.kubectl.alike import OWN, Said, alike
from agent.kubectl.options import NAMES_MAX, named
from agent.kubectl.peers import NODES_MAX
from tests.unit.kubectl.fakecluster import router_down, state_of


@pytest.mark.parametrize(
    ("text", "own", "general"),
    [
        ("the statement for 192.0.2.1 (no shutdown)", "192.0.2.1", f"the statement for {OWN} (no shutdown)"),
        ("from 192.0.2.1: 192.0.2.1.", "192.0.2.1", f"from {OWN}: {OWN}."),
        ("192.0.2.10, 192.0.2.1/32, 1.192.0.2.1, 192.0.2.1.5", "192.0.2.1", None),
        ("fd00::1 and fd00::1:2 and fd00::10", "fd00::1", f"{OWN} and fd00::1:2 and fd00::10"),
    ],
)
def test_only_the_nodes_own_address_makes_no_difference(text, own, general):
    other = text.replace(own, "X") if general is None else general.replace(OWN, "198.51.100.9")
    said = alike([Said("a", text, [own]), Said("b", other, ["198.51.100.9"])])

    assert said == ([(["a"], text), (["b"], other)] if general is None else [(["a", "b"], general)])


def test_what_one_node_alone_says_is_said_in_its_words():
    assert alike([Said("a", "from 192.0.2.1", ["192.0.2.1"])]) == [(["a"], "from 192.0.2.1")]


@pytest.fixture
def two(cluster):
    """Each says the same of a router, with its own address."""
    for number in (1, 2):
        name, own = f"n{number}", f"192.0.2.{number}"
        router = router_down("tor", "192.0.2.9", message=f"Remove the shutdown of {own}.") | {"localAddress": own}
        cluster.node(name, state={**state_of(router), "addresses": [own]})
        hop = {"place": "peer", "ok": False, "neutral": False, "text": f"wanted from {own}", "reason": "x", "fix": "y"}
        said = {"node": name, "version": name, "subject": "tor", "kind": "peer", "ok": False, "hops": [hop]}
        cluster.agent_says(name, "explain tor", json.dumps({"schema": "bgpilot.explain/1", **said}), code=3)
        fault = {"text": f"tor: down from {own}", "fix": "", "reason": "x"}
        check = {"name": "sessions", "good": "", "faults": [fault], "notes": []}
        cluster.agent_says(name, "check", json.dumps({"schema": "bgpilot.check/1", "checks": [check]}), code=3)
    return cluster


def test_so_is_every_answer(two):
    assert f"! all 2 nodes: BGPPeer/tor: Remove the shutdown of {OWN}." in two("peers").stdout
    assert two("explain", "tor").stdout == f"peer tor on all 2 nodes:\nNO  peer   wanted from {OWN}  x\n! x: y\n"
    assert f"FAIL  sessions  all 2 nodes: tor: down from {OWN}." in two("check").stdout
    assert "! n1: BGPPeer/tor: Remove the shutdown of 192.0.2.1." in two("peers", "--node", "n1").stdout


def test_a_node_that_misses_all_others_names_the_first(cluster):
    missing = [router_down(f"node/m{number}", f"10.0.0.{number}", message="No.") for number in range(NODES_MAX + 7)]
    cluster.node("n1", state=state_of(*missing))

    lines = [it for it in cluster("peers").stdout.splitlines() if it.startswith("!")]
    assert lines[0] == "! n1: node/m0: No."
    assert lines[NODES_MAX:] == ["! n1: and sessions with 7 more nodes are missing."]


def test_of_many_nodes_the_first_are_named():
    assert named(["a", "b"], 3) == "a, b"
    assert named(["a"], 1) == "a"
    assert named([str(number) for number in range(NAMES_MAX + 2)], 100) == "0, 1, 2, 3, 4, 5 and 2 more"
