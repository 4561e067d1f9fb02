"""The CLI as a user meets it: the real program against a real socket with a known agent behind it."""

from __future__ import annotations

import asyncio
import io
import json
import os
import socket
import subprocess
import sys
import threading
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import replace
from ipaddress import ip_address
from typing import NamedTuple

import pytest

from agent.cli.app import COMMANDS, full_name, main
from agent.model import FibRoute, NextHop
from agent.plan.leaving import Cause, Leave, Progress
from agent.status.metrics import make_registry
from agent.status.server import Answers, serving
from bgp.model import RouteKey
from tests.unit.status.scene import NOW, OWN_PODS, STRAY, TOR, TOR6, Failure, Scene, learned, missing_secret


class Agent:
    """A server in a thread of its own; `fields` change what it says."""

    def __init__(self, run_dir):
        self.run_dir = run_dir
        self.scene = Scene()
        self.fields = {}
        self.orders = []
        self.on_order = {}
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()))

    def _order(self, text):
        self.orders.append(text)
        self.fields = self.on_order

    async def _serve(self):
        self._loop, self._ended = asyncio.get_running_loop(), asyncio.Event()

        def current():
            return self.scene.status(**self.fields)

        answers = Answers(
            current,
            clock=lambda: NOW,
            registry=make_registry(current, clock=lambda: NOW, wall=lambda: NOW),
            order_drain=self._order,
        )
        async with serving(
            answers, socket_path=self.run_dir / "bgpilot.sock", metrics_address=None, health_address=None
        ):
            self._ready.set()
            await self._ended.wait()

    def __enter__(self):
        self._thread.start()
        assert self._ready.wait(30)
        return self

    def __exit__(self, *_):
        self._loop.call_soon_threadsafe(self._ended.set)
        self._thread.join(30)

    def __call__(self, *arguments, code=0):
        done = bgpilot(*arguments, BGPILOT_RUN_DIR=str(self.run_dir))
        assert done.returncode == code, done.stderr
        return done.stdout


class Done(NamedTuple):
    returncode: int
    stdout: str
    stderr: str


def bgpilot(*arguments, **environment):
    """What the program would do as a process, without the quarter of a second to start one."""
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.setattr(sys, "argv", ["bgpilot", *arguments])
        for name in [name for name in os.environ if name.startswith("BGPILOT_")]:
            patch.delenv(name)
        for name, value in {"COLUMNS": "200", **environment}.items():
            patch.setenv(name, value)
        with pytest.raises(SystemExit) as ended:
            main()
    return Done(int(ended.value.code or 0), out.getvalue(), err.getvalue())


@pytest.fixture
def agent(tmp_path):
    with Agent(tmp_path) as agent:
        yield agent


def test_peers_is_the_table_network_engineers_expect(agent):
    agent.scene.problems.add(missing_secret())

    error = 'received 6/2 Shutdown Communication: "tea" (90s ago ×3)'
    why = '! BGPPeer/tor-b: 2001:db8::fe has been shut down by its administrator, who says "tea". Fix: Ask there; the'
    where = "session comes back when the shutdown is removed from the router's neighbor statement for 192.0.2.1"
    assert agent("peers").split("\n") == [
        "PEER          NAME              AS  STATE        UP/DOWN   HOLD/KA  FAMILY  RCVD  ACPT  SENT  LAST-ERROR",
        "192.0.2.2     node/worker-2  64512  Established  01:01:01  9/3      ipv4       1     1     1  -",
        "192.0.2.254   BGPPeer/tor-a  65000  Established  01:01:01  9/3      ipv4       1     0     2  -",
        f"2001:db8::fe  BGPPeer/tor-b  65001  Active       never     90/30    ipv4       0     0     0  {error}",
        f"2001:db8::fe  BGPPeer/tor-b  65001  Active       never     90/30    ipv6       0     0     0  {error}",
        f"{why} {where} (no shutdown).",
        "! BGPPeer tor-b: Secret bgpilot/tor-b does not exist. Fix: Create it.",
        "",
    ]


def test_peers_can_be_narrowed_to_those_in_trouble_and_named(agent):
    assert agent("peers", "--failed", "-o", "name") == "2001:db8::fe\n"
    assert agent("pe", "-o", "name") == "192.0.2.2\n192.0.2.254\n2001:db8::fe\n"
    assert "ROUTER-ID" in agent("peers", "-o", "wide")


def test_one_peer_is_shown_in_full(agent):
    text = agent("peer", "tor-a")

    assert "Peer:             192.0.2.254 (BGPPeer/tor-a)" in text
    assert "Router id:        9.9.9.9" in text
    assert "ipv4       1     0     2  yes" in text


def test_routes_heard_show_what_was_refused_and_why(agent):
    assert agent("routes").split("\n") == [
        "PREFIX          PEER         NEXT-HOP     AS-PATH      ACCEPTED  INSTALLED  REASON",
        "10.244.2.0/24   192.0.2.2    192.0.2.2    -            yes       yes        -",
        "203.0.113.0/24  192.0.2.254  192.0.2.254  65000 {1,2}  no        no         importNotAllowed",
        "",
    ]
    assert "203.0.113.0/24" not in agent("routes", "acc")
    assert agent("routes", "10.0.0.0/8", "-o", "name") == "10.244.2.0/24\n"


def test_routes_told_say_for_which_object(agent):
    agent.scene.refused_out[RouteKey(TOR6, STRAY)] = "familyNotSpoken"

    assert agent("routes", "advertised", "198.51.100.7", "--peer", "tor-a").split("\n") == [
        "PREFIX           PEER         NEXT-HOP   AS-PATH  STATE  REASON  FOR",
        "198.51.100.7/32  192.0.2.254  192.0.2.1    64512  sent   -       Service default/web (ExternalIP)",
        "",
    ]
    assert "refused  familyNotSpoken" in agent("routes", "adv")
    assert "64512:7" in agent("routes", "adv", "-o", "wide")


def test_fib_tells_by_its_exit_code_that_kernel_and_plan_differ(agent):
    assert agent("fib").split("\n")[1:3] == [
        "10.244.1.0/24  unreachable  -          4294967280  installed  -",
        "10.244.2.0/24  unicast      192.0.2.2           0  installed  -",
    ]
    agent.scene.kernel.failing[learned(STRAY)] = Failure("Network is unreachable")
    agent.scene.fib[learned(STRAY)] = FibRoute(STRAY, (NextHop(TOR),))

    assert "failing    Network is unreachable" in agent("fib", code=3)


def test_fib_says_an_ipv6_next_hop_of_an_ipv4_route_as_ip_route_does(agent):
    agent.scene.want_in_kernel(FibRoute(STRAY, (NextHop(TOR), NextHop(TOR6))))

    assert f"  {TOR}, inet6 {TOR6}  " in agent("fib")


def test_explain_names_the_hop_that_says_no_and_the_fix(agent):
    what = "203.0.113.0/24 via 192.0.2.254 not admitted: `import` of the BGPPeer does not admit it"
    assert agent("explain", "203.0.113.9", code=3).split("\n") == [
        "route 203.0.113.9 on node worker-1:",
        f"NO  peer 192.0.2.254 (BGPPeer/tor-a)  {what}  importNotAllowed",
        "! importNotAllowed: Add the prefix to `import.allowed`, or set `import.podCIDRs: true`, in the BGPPeer.",
        "",
    ]
    assert agent("explain", "10.244.2.9").startswith("route 10.244.2.9 on node worker-1:\nok  peer 192.0.2.2")


def test_explain_marks_a_route_that_comes_back_as_neither_yes_nor_no_and_succeeds(agent):
    agent.scene.hear(TOR, OWN_PODS, as_path=(65000, 64512), reason="asLoop")
    shown = agent("explain", str(OWN_PODS))

    (line,) = [line for line in shown.split("\n") if "asLoop" in line]
    assert line.startswith("--")
    assert "! " not in shown


def test_status_says_what_a_glance_needs_and_is_degraded_by_exit_code(agent):
    agent.fields = {"wanted_at": {TOR6: NOW - 1}}
    text = agent("status")
    assert "Phase:     IN_SYNC" in text
    assert "Healthy:   yes" in text
    assert "Peers:     2 of 3 established (mesh 1 of 1)" in text

    agent.fields = {}
    assert "Healthy:   degraded: sessionDown: 1 of 3 sessions is not established" in agent("status", code=3)

    agent.fields = {"picture_complete": False}
    assert "Healthy:   no: pictureIncomplete" in agent("status", code=3)


@pytest.mark.parametrize(
    "command", [["peers"], ["peer", "tor-a"], ["routes"], ["fib"], ["explain", "tor-a"], ["status"]]
)
def test_every_answer_is_there_as_json(agent, command):
    del agent.scene.peers[TOR6]  # all is well
    assert json.loads(agent(*command, "-o", "json"))["schema"].startswith("bgpilot.")


def test_what_the_agent_refuses_is_an_error_with_its_words(agent):
    agent("peer", "nobody", code=1)
    done = bgpilot("routes", "--peer", "nobody", "--run-dir", str(agent.run_dir))

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "bgpilot: no peer is called 'nobody'; `bgpilot peers` lists them\n"


def test_no_agent_is_exit_code_four_and_says_where_it_looked(tmp_path):
    program = [sys.executable, "-c", "from agent.cli.app import main; main()", "peers", "--run-dir", str(tmp_path)]
    done = subprocess.run(program, capture_output=True, text=True, timeout=60, check=False)

    assert done.returncode == 4
    assert f"no agent answers on {tmp_path}/bgpilot.sock" in done.stderr


def test_an_agent_that_hangs_up_is_exit_code_four(tmp_path):
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "bgpilot.sock"))
        listening.listen(1)
        hang_up = threading.Thread(target=accept_and_close, args=[listening])
        hang_up.start()
        done = bgpilot("status", "--run-dir", str(tmp_path))
        hang_up.join(30)

    assert done.returncode == 4


def accept_and_close(listening):
    listening.accept()[0].close()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["sideways"], "sideways"),
        (["routes", "sideways"], "received, accepted, advertised"),
        (["routes", "adv", "10.0.0.0/8", "10.0.0.0/9"], "one prefix at most"),
        (["peers", "-o", "xml"], "xml"),
        (["run", "--node-name", "a", "--speaker", "frr"], "--speaker 'frr' is not one of child, external"),
    ],
)
def test_nonsense_is_exit_code_two(arguments, says):
    done = bgpilot(*arguments)

    assert done.returncode == 2
    assert says in done.stderr


def test_every_flag_of_run_is_an_environment_variable_too():
    text = bgpilot("run", "--help").stdout.replace("\n", " ")

    for flag in (
        "node-name",
        "kubeconfig",
        "run-dir",
        "metrics-address",
        "health-address",
        "speaker",
        "route-protocol",
        "log-format",
        "log-level",
        "dry-run",
    ):
        assert f"--{flag} " in text
        assert f"BGPILOT_{flag.upper().replace('-', '_')}" in text


@pytest.mark.parametrize(
    ("command", "name", "value", "says"),
    [
        ("run", "route-protocol", "12", "12 is the number of `bird`"),
        ("run", "metrics-address", "nowhere", "'nowhere' is not HOST:PORT"),
        ("run", "node-name", "_", "'_' is not a node's name"),
        ("run", "speaker", "frr", "'frr' is not one of child, external"),
        ("run", "run-dir", "here", "'here' is not an absolute path"),
        ("speaker", "run-dir", "here", "'here' is not an absolute path"),
        ("cleanup", "run-dir", "here", "'here' is not an absolute path"),
        ("cleanup", "route-protocol", "12", "12 is the number of `bird`"),
    ],
)
def test_a_wrong_value_is_looked_for_where_it_stands(command, name, value, says):
    flag, variable = f"--{name}", f"BGPILOT_{name.upper().replace('-', '_')}"

    by_flag = bgpilot(command, flag, value, **{variable: "/fine"})
    by_variable = bgpilot(command, **{variable: value})

    assert (by_flag.returncode, by_variable.returncode) == (2, 2)
    assert by_flag.stderr.startswith(f"bgpilot: {flag} {says}")
    assert by_variable.stderr.startswith(f"bgpilot: {variable} {says}")


def test_a_unique_beginning_of_a_command_is_enough():
    assert full_name(["pe", "-o", "json"]) == ["peers", "-o", "json"]
    assert full_name(["e", "x"]) == ["explain", "x"]
    assert full_name(["peer", "x"]) == ["peer", "x"]
    assert full_name(["s"]) == ["s"]
    assert full_name(["--help"]) == ["--help"]
    assert full_name([]) == []
    assert all(full_name([name]) == [name] for name in COMMANDS)


def test_showing_something_loads_no_room_of_the_agent():
    code = "import sys, agent.cli.app; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    slow = {"asyncio", "aiohttp", "kubernetes", "pyroute2", "prometheus_client", "rich", "structlog", "exabgp", "bgp"}

    assert slow & {name.partition(".")[0] for name in done.stdout.split()} == set()


def _leaving(scene, progress):
    plan = replace(scene.status().plan, leave=Leave(Cause.DRAINED, "rack 7"))
    return {"plan": plan, "progress": progress, "peers": {}}


def test_drain_gives_the_order_and_shows_the_stages_until_no_session_is_left(agent):
    agent.on_order = _leaving(agent.scene, Progress.OVER)

    assert agent("drain", "rack 7").splitlines()[-1] == "drained: no session is left"
    assert agent.orders == ["rack 7"]


def test_drain_that_is_not_over_in_time_says_so(agent):
    agent.on_order = _leaving(agent.scene, Progress.SERVICES)

    done = bgpilot("drain", "--wait=0.3", BGPILOT_RUN_DIR=str(agent.run_dir))

    assert done.returncode == 1
    assert "service addresses are withdrawn" in done.stdout
    assert "not over after 0.3 s" in done.stderr


def test_undrain_takes_the_order_back(agent):
    assert agent("undrain") == "undrained\n"
    assert agent.orders == [None]


def test_status_shows_how_far_a_node_has_come_in_leaving(agent):
    agent.fields = _leaving(agent.scene, Progress.PODS)

    assert "Leaving" in agent("status", code=3)
    assert "nodeDrained (rack 7): pod CIDRs are withdrawn" in agent("status", code=3)


def test_a_reflector_is_drained_by_annotation_or_by_force(agent):
    agent.scene.standpoint = replace(agent.scene.standpoint, cluster_id=ip_address("192.0.2.1"))

    refused = bgpilot("drain", BGPILOT_RUN_DIR=str(agent.run_dir))
    assert refused.returncode == 1
    assert "kubectl annotate node" in refused.stderr
    assert agent.orders == []
    agent("drain", "--force", "--wait=0")
    assert agent.orders == [""]
