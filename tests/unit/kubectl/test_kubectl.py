"""What of kubectl comes to the user, and what comes to kubectl: flags, errors, and nothing that others could misuse."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from subprocess import PIPE

import pytest

from agent.kubectl.cluster import AT_ONCE, Cluster, Member
from agent.kubectl.pods import Pod
from tests.unit.kubectl.fakecluster import plugin

REFUSED = "The connection to the server 192.0.2.9:6443 was refused - did you specify the right host or port?"
KLOG = (
    'E1122 12:44:26.391484   30296 memcache.go:265] "Unhandled Error" err="couldn\'t get current server API group list"'
)
FORBIDDEN = 'Error from server (Forbidden): {} is forbidden: User "eve" cannot list resource "{}" at the cluster scope'


@pytest.mark.parametrize(
    ("error", "code", "fix"),
    [
        (f"{KLOG}\n{REFUSED}", 4, "see if `kubectl get nodes` works with the same --context and --kubeconfig"),
        ("Unable to connect to the server: net/http: TLS handshake timeout", 4, "see if `kubectl get nodes` works"),
        ("Unable to read: context deadline exceeded", 4, "see if `kubectl get nodes` works"),
        ("error: You must be logged in to the server (Unauthorized)", 1, "log in to the cluster again"),
        ("Error in configuration: context was not found for specified context: x", 1, "`kubectl config get-contexts`"),
        (FORBIDDEN.format("nodes", "nodes"), 1, "the rights that it takes are in the README under `kubectl bgpilot`"),
    ],
)
def test_what_kubectl_says_is_passed_on_with_what_to_do(cluster, error, code, fix):
    for kind in ("nodes", "states", "pods"):
        cluster.refuses(kind, error)
    done = cluster("peers")

    assert (done.returncode, done.stdout) == (code, "")
    words = error.splitlines()[-1].removeprefix("error: ")
    assert done.stderr.startswith(f"bgpilot: kubectl get nodes: {words.rstrip('. ')}. Fix: {fix}")


def test_without_kubectl_it_says_so(tmp_path):
    done = plugin("status", folder=tmp_path, path=str(tmp_path))

    assert (done.returncode, done.stderr.split(";")[0]) == (4, "bgpilot: there is no kubectl on PATH")


def test_without_bgpnodestates_agents_are_asked_and_status_says_what_is_missing(well):
    well.refuses("states", 'error: the server doesn\'t have a resource type "bgpnodestates"')

    done = well("peers")
    assert (done.returncode, done.stdout.count("Established")) == (0, 4)
    assert "agents are asked instead" in done.stdout
    code, out, err = well("status")
    assert (code, out) == (1, "")
    assert "the server doesn't have a resource type" in err
    assert "Fix: bgpilot is not in this cluster (`kubectl apply -f deploy/agent.yaml`), or this is not the right" in err


def test_who_may_not_list_nodes_sees_those_that_say_something(well):
    well.refuses("nodes", FORBIDDEN.format("nodes", "nodes"))

    done = well("status")
    assert done.returncode == 0
    assert [it.split()[0] for it in done.stdout.splitlines()[1:3]] == ["worker-1", "worker-3"]
    last = done.stdout.splitlines()[-1]
    assert last.startswith(f"! kubectl get nodes: {FORBIDDEN.format('nodes', 'nodes')}. Fix: the rights that it takes")
    assert last.endswith("; nodes of which nothing else is known are not shown")


def test_who_may_not_list_pods_still_sees_what_nodes_have_written(well):
    well.refuses("pods", FORBIDDEN.format("pods", "pods"))

    assert well("status").returncode == 0
    assert "no agent can be asked" in well("peers").stdout
    assert well("check").returncode == 1


@pytest.mark.parametrize(
    ("error", "reason", "fix"),
    [
        (
            'error: unable to upgrade connection: pods "x" is forbidden: cannot create resource "pods/exec"',
            "execFailed",
            "README",
        ),
        ('error: unable to upgrade connection: container not found ("agent")', "execFailed", "being replaced"),
        (
            "bgpilot: no agent answers on /run/x (refused)\ncommand terminated with exit code 4",
            "agentUnreachable",
            "logs",
        ),
    ],
)
def test_an_agent_that_cannot_be_asked_is_a_row_that_says_why(well, error, reason, fix):
    well.agent_says("worker-3", "peers", code=4 if "code 4" in error else 1, error=error)

    done = well("peers", "--all")
    assert done.returncode == 3
    assert done.stdout.count("worker-1 ") == 2
    last = done.stdout.splitlines()[-1]
    assert last.startswith(f"! worker-3: {reason}: ")
    assert fix in last.partition("Fix: ")[2]


def test_a_pod_that_does_not_answer_in_time_is_given_up(well, monkeypatch):
    monkeypatch.setattr("agent.kubectl.client.ANSWER_SECONDS", 0.2)
    (well.folder / "exec_bgpilot-system_bgpilot-worker-3_agent_bgpilot_peers_json.hangs").touch()

    last = well("peers", "--all").stdout.splitlines()[-1]
    assert last.startswith("! worker-3: execTimeout: pod bgpilot-worker-3 has not answered for 0 s")


def test_kubectl_may_ask_the_user_to_log_in(well):
    """As its plugins for credentials do: their words are shown while it waits, and what is typed comes to it."""
    well.publish()
    (well.folder / "get_nodes_json.asks").write_text(f"{KLOG}\nsign in\x1b[31m, code:\n")
    code = "from agent.kubectl import app, client; client.PATIENCE_SECONDS = 0.1; app.main()"
    environment = {"PATH": f"{well.folder / 'bin'}:{os.environ['PATH']}", "FAKE_KUBECTL": str(well.folder)}
    command = [sys.executable, "-c", code, "status", "-q"]
    with subprocess.Popen(command, stdin=PIPE, stdout=PIPE, stderr=PIPE, text=True, env=environment) as process:
        shown = process.stderr.readline()
        rest = process.communicate("7\n", timeout=60)

    assert shown == "sign in\N{REPLACEMENT CHARACTER}[31m, code:\n"
    assert (process.returncode, *rest) == (0, "", "")


# How kubectl is called.


@pytest.mark.parametrize(
    "arguments",
    [
        ["check", "--context", "prod", "--kubeconfig=/k", "-n", "bgp"],
        ["--context=prod", "--kubeconfig", "/k", "--namespace", "bgp", "ch"],
    ],
)
def test_kubectl_gets_the_users_flags_wherever_they_stand(well, arguments):
    assert well(*arguments).returncode == 1  # this kubectl knows no such namespace

    flags = "--context=prod --kubeconfig=/k"
    assert f"get {flags} nodes -o json --request-timeout=15s" in well.calls
    assert f"get {flags} pods -n bgp -l app.kubernetes.io/name=bgpilot -o json --request-timeout=15s" in well.calls


def test_what_is_asked_for_is_never_a_flag_of_kubectl_nor_of_the_agent(well):
    well("explain", "--", "--help")

    (asked, _) = (call for call in well.calls if call.startswith("exec"))
    assert asked.endswith("-c agent -- bgpilot explain -o json -- --help")


def test_what_others_write_cannot_move_the_cursor(well):
    peers = well.states["worker-1"]["status"]["peers"]
    peers[0] |= {"established": False, "reason": "notEstablished", "message": "\x1b[2J\x9b1m\u202egnp"}
    well.states["worker-1"]["status"]["problems"] = [{"reason": "x", "subject": "a\nb", "message": "\x07"}]

    for command in ("peers", "status", "peers -o yaml"):
        printed = well(*command.split()).stdout
        assert all(it.isprintable() for line in printed.splitlines() for it in line), printed


def test_of_two_pods_on_a_node_the_one_that_runs_is_asked(well):
    old, new = well.pods.pop("worker-1"), dict(well.pods["worker-3"])
    gone = {**old, "metadata": {"name": "bgpilot-old", "deletionTimestamp": "2027-01-01T00:00:00Z"}}
    well.pods |= {"a": gone, "b": old, "c": {**gone, "status": {"phase": "Failed"}}, "worker-3": new}

    assert well("check").returncode == 0
    assert not any("bgpilot-old" in call for call in well.calls)


def test_a_hundred_nodes_take_three_calls_and_stand_in_the_order_of_their_numbers(cluster, said):
    state, _ = said["worker-1"]
    for number in range(100):
        cluster.node(f"worker-{number}", state=state)
    cluster.publish()

    done = cluster("status")
    assert done.returncode == 0
    assert [it.split()[0] for it in done.stdout.splitlines()[1:101]] == [f"worker-{number}" for number in range(100)]
    assert len(cluster.calls) == 3


def test_agents_are_asked_at_the_same_time_and_never_more_than_some():
    meet, busy, most = threading.Barrier(AT_ONCE, timeout=30), threading.Semaphore(AT_ONCE), []

    class Agents:
        def ask(self, pod, *words):
            most.append(busy.acquire(blocking=False))
            meet.wait()  # until so many are asked
            busy.release()
            return {"pod": pod}

    members = [Member(f"n{it}", None, None, None, Pod(f"p{it}", True, ""), None) for it in range(2 * AT_ONCE)]
    said = Cluster(tuple(members), (), Agents(), {}).ask(members, "status")

    assert said == {f"n{it}": {"pod": f"p{it}"} for it in range(2 * AT_ONCE)}
    assert all(most)


def test_it_starts_without_what_only_the_agent_needs():
    code = (
        "import sys, agent.kubectl.app; print([it for it in sys.modules if it.partition('.')[0] in "
        "{'kubernetes', 'pyroute2', 'aiohttp', 'asyncio', 'yaml', 'msgspec', 'structlog', 'prometheus_client'}])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout == "[]\n"
