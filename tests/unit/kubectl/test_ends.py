"""How it ends, with the exit codes of the node's CLI: what is asked, and what of it comes back, is no trouble or is."""

from __future__ import annotations

import pytest

from agent.kubectl.peers import WANTED_SO
from agent.status.peers import MEANT, PARTING
from tests.unit.kubectl.fakecluster import CRASHED


@pytest.mark.parametrize("command", ["status", "peers", "peers --all", "explain 10.244.2.9", "check"])
def test_a_cluster_that_is_well_is_exit_code_0(well, command):
    assert well(*command.split()).returncode == 0
    assert well(*command.split(), "-q") == (0, "", "")


@pytest.mark.parametrize("command", ["status", "peers", "explain 10.244.2.9", "check"])
def test_one_node_that_is_not_heard_of_makes_it_3(well, command):
    well.node("worker-7", pod=None)

    assert well(*command.split(), "-q").returncode == 3


def test_a_session_that_somebody_wants_down_is_no_trouble(well):
    for name, reason, code in (("worker-1", "shutdown", 0), ("worker-3", "secretMissing", 3)):
        router = {**well.states[name]["status"]["peers"][0], "established": False, "state": "Idle", "reason": reason}
        well.states[name]["status"]["peers"] = [router]

        assert well("peers").returncode == code


def test_the_words_for_that_are_those_of_the_node():
    assert {*MEANT, PARTING} == WANTED_SO


@pytest.mark.parametrize("command", ["peers --all", "explain 10.244.2.9", "check"])
def test_no_agent_that_answers_is_4(cluster, said, command):
    cluster.node("worker-1", pod=CRASHED)
    cluster.node("worker-2", pod=CRASHED)

    done = cluster(*command.split())
    assert (done.returncode, done.stdout) == (4, "")
    assert done.stderr.startswith(
        "bgpilot: no agent answers: agentNotRunning: pod bgpilot-worker-1 does not run (agent: "
    )
    assert done.stderr.endswith(" see `kubectl -n bgpilot-system describe pod bgpilot-worker-1` (and 1 more)\n")


def test_a_subject_that_no_node_knows_is_1_in_the_agents_words(well):
    for name in ("worker-1", "worker-3"):
        well.agent_says(
            name, "explain nobody", code=1, error="bgpilot: 'nobody' is no node\ncommand terminated with exit code 1"
        )

    assert well("explain", "nobody") == (1, "", "bgpilot: 'nobody' is no node\n")


@pytest.mark.parametrize(
    "arguments", [["explain"], ["peers", "-o", "xml"], ["nonsense"], ["status", "-w", "-q"], ["peers", "--frob"]]
)
def test_wrong_usage_is_2(well, arguments):
    assert well(*arguments).returncode == 2


def test_a_node_that_nobody_has_is_1_and_those_that_there_are_are_named(well):
    assert well("status", "--node", "worker-9") == (
        1,
        "",
        "bgpilot: there is no node 'worker-9'; there are worker-1, worker-3\n",
    )
