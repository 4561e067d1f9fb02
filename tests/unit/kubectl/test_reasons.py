"""Why nothing is known of a node: each reason word stands in the README, and here is what it takes to be said."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path

import pytest

from agent.status.nodestate import stopped
from tests.unit.cli.test_golden import healthy, unheard_of
from tests.unit.cli.test_schemas import complaints
from tests.unit.kubectl.fakecluster import CRASHED, said_of, state_of

ROOT = Path(__file__).parents[3]
README = (ROOT / "README.md").read_text()
STATE = state_of()


def said_by_the_code():
    for path in (ROOT / "agent" / "kubectl").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.Call(func=ast.Name(id="NoAnswer"), args=[ast.Constant(value=str(word)), *_]):
                    yield word
                case ast.AnnAssign(target=ast.Name(id="REFUSED"), value=ast.Constant(value=word)):
                    yield word


def said_by_the_readme():
    table = README.split("Why nothing is known of a node:")[1].split("\n\n")[1]
    return [word for row in table.splitlines()[2:] for word in re.findall(r"`(\w+)`", row.split("|")[1])]


def test_each_stands_in_the_table_once():
    assert sorted(said_by_the_readme()) == sorted(set(said_by_the_code()))


def test_each_is_in_a_test():
    texts = "".join(path.read_text() for path in Path(__file__).parent.rglob("*") if path.suffix in {".py", ".ambr"})

    assert [word for word in said_by_the_readme() if word not in texts] == []


@pytest.mark.parametrize(
    ("node", "reason", "words"),
    [
        ({"pod": None}, "noAgentPod", "none in namespace bgpilot-system"),
        ({"pod": CRASHED}, "agentNotRunning", "(agent: CrashLoopBackOff, back-off 5m0s restarting failed container)"),
        ({"state": STATE, "age": 241}, "stateOld", "wrote last 4 minutes ago, though it runs"),
        ({"state": STATE, "age": 241, "pod": CRASHED}, "agentNotRunning", "CrashLoopBackOff"),
        ({}, "stateMissing", "there is no BGPNodeState of it, though its agent runs"),
        ({"state": stopped(STATE)}, "agentStopped", "has been stopped, and is starting again"),
        ({"state": stopped(STATE), "pod": None}, "noAgentPod", "no agent runs there"),
        ({"state": STATE, "age": 999, "ready": False}, "nodeNotReady", "not Ready (Kubelet stopped posting)"),
    ],
)
def test_why_nothing_is_known_of_a_node(cluster, node, reason, words):
    cluster.node("n1", **node)

    assert silent(cluster)[0] == reason
    assert words in silent(cluster)[1]


def silent(cluster):
    (row,) = json.loads(cluster("status", "-o", "json").stdout)["nodes"]
    return None if row["silent"] is None else (row["silent"]["reason"], row["silent"]["text"])


def test_an_agent_that_writes_once_a_minute_may_be_late_three_times(cluster):
    cluster.node("n1", state=STATE, age=240, ready=False)

    assert silent(cluster) is None


def test_a_node_that_is_gone_is_no_mystery(cluster):
    cluster.node("n1", state=STATE, age=999)
    del cluster.nodes["n1"]

    assert silent(cluster) == ("nodeGone", "its agent wrote last 16 minutes ago, and there is no such Node")


def test_who_may_not_list_pods_is_not_told_that_there_are_none(cluster):
    cluster.node("n1", pod=None)
    cluster.refuses("pods", "Error from server (Forbidden): pods is forbidden")

    assert silent(cluster) == ("agentUnknown", "there is no BGPNodeState of it")


def test_a_pod_that_answers_what_is_no_answer_is_said_to(cluster):
    cluster.node("n1")
    cluster.agent_says("n1", "check", "bgpilot 0.0.1")

    assert "answerUnreadable: pod bgpilot-n1 answers no JSON" in cluster("check").stderr

    cluster.agent_says("n1", "check", json.dumps({"schema": "bgpilot.check/2", "version": "9.1"}))
    told = "answerUnreadable: pod bgpilot-n1 answers bgpilot.check/2 (bgpilot 9.1), not bgpilot.check/1. Fix: use the"
    assert told in cluster("check").stderr


def test_an_agent_without_a_picture_knows_of_no_session_and_its_checks_neither_pass_nor_fail(cluster, tmp_path):
    for name, change in (("n1", healthy), ("n2", unheard_of)):
        folder = tmp_path / name
        folder.mkdir()
        _, answers = said_of(folder, change, node=name)
        cluster.node(name)
        for question, done in answers.items():
            cluster.agent_says(name, question, done.stdout, code=done.returncode)
    shown, checked = cluster("peers", "-o", "json"), cluster("check")
    first, second = json.loads(shown.stdout)["nodes"]

    assert (shown.returncode, checked.returncode) == (3, 3)
    assert (first["silent"], second["silent"]["reason"]) == (None, "pictureIncomplete")
    assert complaints(json.loads(cluster("check", "-o", "json").stdout)) == []
    assert re.findall(r"^(\w+)  (\w+)", checked.stdout, re.MULTILINE) == [
        ("PASS", "agents"),
        ("FAIL", "picture"),
        *(("PASS", name) for name in ("node", "plan", "sessions", "kernel", "services", "objects", "other")),
    ]
    assert "n2: the cluster is not known yet" in checked.stdout
    alone = cluster("check", "--node", "n2").stdout
    assert len(re.findall(r"^SKIP ", alone, re.MULTILINE)) == 7, alone


def test_who_may_not_list_nodes_is_not_told_that_one_is_gone(cluster):
    cluster.node("n1", state=STATE, age=999)
    cluster.refuses("nodes", "Error from server (Forbidden): nodes is forbidden")

    assert silent(cluster)[0] == "stateOld"
