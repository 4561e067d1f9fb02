"""A cluster as `kubectl` tells of it: a program of that name on PATH, which answers from files and notes each call.

What BGPNodeStates and agents say is made by the agent's own code, from the scenes that the node's CLI is tested with.
"""

from __future__ import annotations

import io
import json
import os
import sys
from contextlib import redirect_stderr, redirect_stdout
from copy import deepcopy
from datetime import UTC, datetime

import pytest

from agent.kubectl.app import main
from tests.unit.cli.test_cli import Agent, Done, bgpilot
from tests.unit.status.nodestates import sent, told, usual_world
from tests.unit.status.scene import NOW

WALL = 1_800_000_000 + NOW
"""When the BGPNodeStates were written, in seconds since 1970."""
LATER = 25
CRASHED = {"reason": "CrashLoopBackOff", "message": "back-off 5m0s restarting failed container."}
QUESTIONS = ("peers", "check", "explain 10.244.2.9", "explain tor-b")
PROGRAM = """#!/bin/sh
echo "$*" >>"$FAKE_KUBECTL/calls"
key=
for word; do case $word in -*) ;; *) key="$key $word" ;; esac; done
key=$(echo $key | tr ' /' '_+')
cd "$FAKE_KUBECTL" || exit 9
[ -e "$key.hangs" ] && exec sleep 600
[ -e "$key.asks" ] && { cat "$key.asks" >&2; read -r answer || exit 8; }
[ -e "$key.err" ] && cat "$key.err" >&2
[ -e "$key.out" ] || [ -e "$key.err" ] || { echo "nothing is known of $key" >&2; exit 9; }
[ -e "$key.out" ] && cat "$key.out"
exit $(cat "$key.code" 2>/dev/null || echo 0)
"""


class FakeCluster:
    """Call it for what the plugin prints."""

    def __init__(self, folder):
        self.folder = folder
        self.nodes, self.states, self.pods = {}, {}, {}
        program = folder / "bin" / "kubectl"
        program.parent.mkdir()
        program.write_text(PROGRAM)
        program.chmod(0o755)

    def node(self, name, *, state=None, pod=True, age=7, ready=True, labels=None):
        """A Node; its BGPNodeState, written so many seconds ago; and its agent's pod, or what is wrong with that."""
        conditions = [] if ready else [{"type": "Ready", "status": "Unknown", "message": "Kubelet stopped posting."}]
        self.nodes[name] = thing(name, {"conditions": conditions}, labels=labels)
        if state is not None:
            self.states[name] = thing(name, {**deepcopy(state), "heartbeatTime": ago(age)})
        if pod:
            told = {"running": {}} if pod is True else {"waiting": pod}
            self.pods[name] = {
                **thing(pod_of(name), {"phase": "Running", "containerStatuses": [{"name": "agent", "state": told}]}),
                "spec": {"nodeName": name},
            }

    def agent_says(self, node, question, said="", *, code=0, error=""):
        self.says(f"exec bgpilot-system {pod_of(node)} agent bgpilot {_asked(question)}", said, code=code, error=error)

    def says(self, words, said="", *, code=0, error=""):
        """What kubectl answers to these words, flags left out."""
        path = self.folder / words.replace(" ", "_").replace("/", "+")
        for ending, text in ((".out", said), (".err", error), (".code", str(code))):
            file = path.with_name(path.name + ending)
            file.unlink(missing_ok=True)
            if text:
                file.write_text(text)

    def refuses(self, kind, error):
        self.says(GET[kind], code=1, error=error)

    def publish(self):
        """Objects as they are now; what has been refused stays so."""
        for kind, things in (("nodes", self.nodes), ("states", self.states), ("pods", self.pods)):
            if not (self.folder / f"{GET[kind].replace(' ', '_').replace('/', '+')}.err").exists():
                self.says(GET[kind], json.dumps({"kind": "List", "items": list(things.values())}))

    def __call__(self, *arguments):
        self.publish()
        return plugin(*arguments, folder=self.folder)

    @property
    def calls(self):
        return (self.folder / "calls").read_text().splitlines()


GET = {
    "nodes": "get nodes json",
    "states": "get bgpnodestates.bgpilot.io json",
    "pods": "get pods bgpilot-system app.kubernetes.io/name=bgpilot json",
}


def plugin(*arguments, folder, path=None):
    """What the program would do as a process, without the time to start one."""
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.setattr(sys, "argv", ["kubectl-bgpilot", *arguments])
        patch.setattr("time.time", lambda: WALL + LATER)
        patch.setenv("PATH", path or f"{folder / 'bin'}:{os.environ['PATH']}")
        patch.setenv("FAKE_KUBECTL", str(folder))
        patch.setenv("COLUMNS", "200")
        with pytest.raises(SystemExit) as ended:
            main()
    return Done(int(ended.value.code or 0), out.getvalue(), err.getvalue())


PAST = "1d01h52m"
"""For how long a router's session has been there."""


def state_of(*peers, health="yes"):
    """A BGPNodeState that names these."""
    ready = {"type": "Ready", "status": "True", "reason": "Ready", "lastTransitionTime": ago(4000)}
    return {"health": health, "asn": 64512, "conditions": [ready], "peers": list(peers)}


def router_up(name, address):
    counts = {"received": 12, "sent": 3}
    return {**_peer(name, address), "established": True, "state": "Established", "since": ago(93_123), **counts}


def router_down(name, address, *, text="", code=6, reason="notEstablished", message="as its BGPPeer has it"):
    """Or another node, if it is named so."""
    direction = "received" if code else "local"
    error = {"direction": direction, "code": code, "subcode": 3 if code else 0, "text": text, "time": ago(65)}
    why = {"established": False, "state": "Active", "since": ago(400), "reason": reason, "message": message}
    return {**_peer(name, address), **why, "lastError": error}


def _peer(name, address):
    mesh = name.startswith("node/")
    return {"name": name if mesh else f"BGPPeer/{name}", "address": address, "asn": 64600, "mesh": mesh}


def ago(seconds):
    """An instant as Kubernetes writes it."""
    return f"{datetime.fromtimestamp(WALL + LATER - seconds, UTC):%Y-%m-%dT%H:%M:%SZ}"


def thing(name, status, *, labels=None):
    return {"metadata": {"name": name, "labels": labels or {}}, "status": status}


def pod_of(node):
    return f"bgpilot-{node}"


def _asked(question):
    """`explain tor-b`, as the plugin asks it: options before what the user gave."""
    command, *rest = question.split()
    return " ".join([command, "json", *rest])


def said_of(folder, *changes, node):
    """A BGPNodeState and what the agent says, of a node like this."""
    with Agent(folder) as agent:
        agent.fields = {"node": node}
        for change in changes:
            change(agent)
        state = sent(told(agent.scene, usual_world(), **agent.fields))
        answers = {it: bgpilot(*it.split(), "-o", "json", BGPILOT_RUN_DIR=str(folder)) for it in QUESTIONS}
    return state, answers
