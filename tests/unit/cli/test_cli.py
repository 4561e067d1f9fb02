"""The CLI as a user meets it: the real program against a real socket with a known agent behind it."""

from __future__ import annotations

import asyncio
import io
import json
import os
import pty
import socket
import subprocess
import sys
import termios
import threading
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import asdict, replace
from ipaddress import ip_address, ip_network
from typing import NamedTuple

import pytest
import yaml

from agent.cli.app import main
from agent.cli.invariants import FAULTS_MAX, LATELY_SECONDS
from agent.cli.invariants import OF_THE_NODE as SAID_OF_THE_NODE
from agent.diary import Diary
from agent.model import FibRoute, Key, Kind, NextHop, Problem, WatchState
from agent.plan.leaving import Cause, Leave, Progress
from agent.status.metrics import make_registry
from agent.status.news import OF_THE_NODE
from agent.status.ordering import Commands
from agent.status.server import Answers
from agent.status.serving import serving
from agent.status.tables import ROWS_MAX
from bgp.model import Held, RouteKey
from tests.unit.status.scene import (
    MATE_PODS,
    NOW,
    OWN_PODS,
    STRAY,
    TOR,
    TOR6,
    VIP,
    WEB,
    Failure,
    Scene,
    learned,
    missing_secret,
)


class Agent:
    """A server in a thread of its own; `fields` change what it says."""

    def __init__(self, run_dir):
        self.run_dir = run_dir
        self.scene = Scene()
        self.fields = {}
        self.orders = []
        self.diary = Diary("2026-01-02T03:00:00Z")
        self.obeys = True
        self.on_order = {}
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()))

    def _order(self, text):
        before = next((it is not None for it in reversed(self.orders)), False)
        self.orders.append(text)
        self.fields = self.on_order
        return before

    def _reset(self, peer, families):
        self.orders.append((str(peer), sorted(families)))
        if not families and self.obeys:
            state = self.scene.states[peer]
            self.scene.states[peer] = replace(state, flaps=state.flaps + 1)

    async def _serve(self):
        self._loop, self._ended = asyncio.get_running_loop(), asyncio.Event()

        def current():
            return self.scene.status(**self.fields)

        answers = Answers(
            current,
            clock=lambda: NOW,
            registry=make_registry(current, clock=lambda: NOW, wall=lambda: NOW),
            commands=Commands(self._order, self._reset),
            diary=self.diary,
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
    assert agent("peers", code=3).split("\n") == [
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
    assert agent("peers", "--failed", "-o", "name", code=3) == "2001:db8::fe\n"
    assert agent("pe", "-o", "name", code=3) == "192.0.2.2\n192.0.2.254\n2001:db8::fe\n"
    assert "ROUTER-ID" in agent("peers", "-o", "wide", code=3)


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
    "command", [["peers"], ["peer", "tor-a"], ["routes"], ["fib"], ["diff"], ["explain", "tor-a"], ["status"]]
)
def test_every_answer_is_there_as_json(agent, command):
    del agent.scene.peers[TOR6]  # all is well
    assert json.loads(agent(*command, "-o", "json"))["schema"].startswith("bgpilot.")


def test_check_passes_line_by_line_when_all_is_well(agent):
    del agent.scene.peers[TOR6]

    assert agent("check").split("\n") == [
        "PASS  picture    complete, each watch heard of within 4 s",
        "PASS  node       AS 64512, router id 192.0.2.1",
        "PASS  plan told  3 routes told",
        "PASS  sessions   2 of 2 established, the others as asked for",
        "PASS  kernel     2 routes, as planned",
        "PASS  services   none unannounced for want of an endpoint",
        "PASS  objects    no fault in them",
        "PASS  other      nothing else is wrong",
        "",
    ]
    assert agent("check", "--nagios") == (
        "BGPILOT OK - 2 of 2 sessions | established=2 configured=2 routes=3 fib_failing=0\n"
    )


def test_check_fails_with_cause_and_fix(agent):
    agent.scene.problems.add(missing_secret())
    del agent.scene.kernel.actual[learned(MATE_PODS)]
    text = agent("check", code=3)

    assert "FAIL  sessions   BGPPeer/tor-b (2001:db8::fe): 2001:db8::fe has been shut down by" in text
    assert "FAIL  kernel     10.244.2.0/24: missing" in text
    assert "FAIL  objects    BGPPeer tor-b: Secret bgpilot/tor-b does not exist. Fix: Create it." in text
    assert agent("check", "-o", "name", code=3) == "sessions\nkernel\nobjects\n"
    assert agent("check", "--nagios", code=1).startswith("BGPILOT WARNING - BGPPeer/tor-b (2001:db8::fe): ")


def test_check_says_once_why_the_cluster_is_not_heard_and_each_rule_that_lacks(agent):
    def unheard(kind, reason, text, fix):
        problem = Problem(reason, f"watch of {kind}", f"cannot watch all {kind} objects: {text}", fix)
        agent.scene.problems.add(problem)
        return WatchState(kind, healthy=False, fresh_at=NOW - 9, problem=problem, broken_at=NOW - 8)

    del agent.scene.peers[TOR6]
    away = [unheard(kind, "apiUnreachable", "refused", "See.") for kind in (Kind.NODE, Kind.SERVICE)]
    agent.scene.watches = [*away, unheard(Kind.PEER, "apiForbidden", "no", "Grant bgppeers.")]
    lines = agent("check", code=3).splitlines()

    assert [line for line in lines if not line.startswith("PASS")] == [
        "FAIL  picture    changes of BGPPeer are not heard, the last that was holds: no. Fix: Grant bgppeers.",
        "FAIL  picture    changes of Node, Service are not heard, the last that was holds: refused. Fix: See.",
    ]
    for command in ("peers", "status"):
        assert [line for line in agent(command, code=3 * (command == "status")).splitlines() if "! watch" in line] == [
            "! watch of BGPPeer: cannot watch all BGPPeer objects: no. Fix: Grant bgppeers.",
            "! watch of Node, Service: refused. Fix: See.",
        ]


def test_check_says_why_a_node_is_nothing_in_bgp_in_its_first_line(agent):
    agent.scene.identity = None
    agent.scene.problems.add(
        Problem("nodeAddressConflict", "Node worker-1", "its address is taken.", "Give it another.")
    )

    assert "FAIL  node       this node is nothing in BGP: its address is taken. Fix: Give it another." in agent(
        "check", code=3
    )


def test_check_waits_for_nothing_when_the_kernel_refuses_a_route_for_good(agent):
    agent.fields = {"phase": "WORKING"}
    assert "FAIL  plan told  the plan is not carried out yet (phase WORKING)" in agent("check", code=3)
    agent.scene.kernel.failing[learned(MATE_PODS)] = Failure("Nexthop has invalid gateway")
    del agent.scene.kernel.actual[learned(MATE_PODS)]

    assert agent("check", "-o", "name", code=3) == "sessions\nkernel\n"


def test_what_begins_with_its_subject_is_not_said_to_be_about_it(agent):
    label = Problem("nodeExcluded", "Node worker-1", "Node worker-1 has the label", "Remove it.")
    agent.scene.problems.add(label)

    assert "! Node worker-1 has the label. Fix: Remove it." in agent("status", code=3).splitlines()
    assert "FAIL  objects    Node worker-1 has the label. Fix: Remove it." in agent("check", code=3)


def test_monitoring_calls_nobody_for_a_node_that_somebody_has_excluded(agent):
    del agent.scene.peers[TOR6]
    agent.scene.problems.add(Problem("nodeExcluded", "Node worker-1", "Node worker-1 has the label", "Remove it."))

    agent("check", code=3)
    assert agent("check", "--nagios").startswith("BGPILOT OK")


def test_status_counts_the_drift_that_there_was(agent):
    assert "0 conflicts\n" in agent("status", code=3)
    agent.scene.kernel.drift = {"missing": 2, "changed": 1}

    assert "0 conflicts; drift since the start: 3\n" in agent("status", code=3)


def test_check_notes_what_keeps_nothing_from_working_and_passes(agent):
    del agent.scene.peers[TOR6]
    agent.scene.problems.add(Problem("controlPlaneExcluded", "BGPAdvertisement a", "it has the label", "Remove it."))
    hints = (Problem("noPeer", f"BGPAdvertisement {n}", "is told to nobody") for n in range(12))
    agent.scene.problems.update(hints)
    lines = agent("check").splitlines()

    assert sum(line.startswith("NOTE  objects    BGPAdvertisement ") for line in lines) == 10
    assert "NOTE  objects    3 more, see `bgpilot status`" in lines
    assert json.loads(agent("check", "-o", "json"))["passed"]


def test_check_tells_for_a_while_of_drift_that_was_put_right(agent):
    del agent.scene.peers[TOR6]
    agent.scene.kernel.last_drift = NOW - LATELY_SECONDS, {"missing": 2}
    assert (
        "FAIL  kernel     routes of this node were found other than it had left them 30 s ago, and put right: "
        "2 missing. Fix: if no link went down,"
    ) in agent("check", code=3)
    assert json.loads(agent("status", "-o", "json"))["healthy"]

    agent.scene.kernel.last_drift = NOW - LATELY_SECONDS - 1, {"missing": 2}
    agent("check")


def test_check_fails_for_a_service_that_no_node_announces_and_counts_those_that_others_do(agent):
    del agent.scene.peers[TOR6]
    silent = agent.scene.not_advertised
    silent.update(
        {(Key(Kind.SERVICE, "default", f"there-{n}"), f"198.51.100.{n}"): "noLocalEndpoint" for n in range(3)}
    )
    assert (
        "PASS  services   none unannounced for want of an endpoint; not announced from here: noLocalEndpoint 3"
        in agent("check")
    )

    silent.update({(Key(Kind.SERVICE, "default", f"web-{n:02}"), f"203.0.113.{n}"): "noEndpoint" for n in range(22)})
    lines = [line for line in agent("check", code=3).splitlines() if line.startswith("FAIL")]
    assert lines[0] == (
        "FAIL  services   Service default/web-00: 203.0.113.0 is not announced for it: no endpoint of its IP family, "
        "on any node, can be used. Fix: Run a ready pod of the Service that has an address of this family; under "
        "traffic policy Cluster `service.whenNoEndpoints: Keep` announces it all the same."
    )
    assert lines[-1].startswith("FAIL  services   2 Services more. Fix: see `kubectl get events -A ")
    assert json.loads(agent("status", "-o", "json"))["healthy"]
    assert agent("check", "--nagios").startswith("BGPILOT OK"), "of no node, and a tenant's own"


def test_check_looks_at_no_service_where_the_node_announces_none(agent):
    del agent.scene.peers[TOR6]
    agent.scene.not_advertised[Key(Kind.SERVICE, "default", "web"), "203.0.113.1"] = "controlPlaneExcluded"

    line = "SKIP  services   not looked at: this node announces none (controlPlaneExcluded 1)"
    assert line in agent("check").splitlines()


def test_the_words_of_nodes_that_announce_no_service_are_those_of_the_agent():
    assert SAID_OF_THE_NODE == OF_THE_NODE


def test_an_address_that_another_advertisement_announces_is_not_silent(agent):
    del agent.scene.peers[TOR6]
    what = (WEB, f"{VIP.network_address} (BGPAdvertisement strict)")
    agent.scene.not_advertised[what] = "noEndpoint"

    assert "PASS  services   none unannounced for want of an endpoint\n" in agent("check")
    assert json.loads(agent("status", "-o", "json"))["not_advertised"] == []
    del agent.scene.originated[VIP]
    assert f"Service default/web: {what[1]} is not announced for it" in agent("check", code=3)


def test_check_fails_for_an_object_that_does_nothing_though_the_node_is_well(agent):
    del agent.scene.peers[TOR6]
    agent.scene.problems.add(
        Problem("advertisementSelectsNothing", "BGPAdvertisement a", "it fits nothing", "Mend it.")
    )

    assert "FAIL  objects    BGPAdvertisement a: it fits nothing. Fix: Mend it." in agent("check", code=3).splitlines()
    assert json.loads(agent("status", "-o", "json"))["healthy"]
    assert agent("check", "--nagios", code=1).startswith("BGPILOT WARNING - BGPAdvertisement a: it fits nothing")


def test_check_and_fib_fail_for_a_route_that_is_not_among_those_that_are_shown(agent):
    for number in range(ROWS_MAX + 30):
        prefix = ip_network((0x64000000 + (number << 8), 24))
        agent.scene.want_in_kernel(FibRoute(prefix, (NextHop(TOR),)), there=number < ROWS_MAX)
    del agent.scene.peers[TOR6]

    assert "missing" not in agent("fib", code=3)
    lines = agent("check", code=3).splitlines()
    assert [line.startswith("FAIL  kernel") for line in lines].count(True) == FAULTS_MAX + 1
    assert "10 routes more. Fix: see `bgpilot diff`." in lines[3 + FAULTS_MAX + 1]


def test_check_fails_whenever_the_node_is_unwell(agent):
    for fields in ({"picture_complete": False}, {"speaking_at": None, "phase": "PLANNED"}):
        agent.fields = fields
        assert not json.loads(agent("status", "-o", "json", code=3))["healthy"]
        assert not json.loads(agent("check", "-o", "json", code=3))["passed"]
        assert agent("check", "--nagios", code=2).startswith("BGPILOT CRITICAL - ")


def test_nagios_does_not_know_without_an_agent(tmp_path):
    done = bgpilot("check", "--nagios", "--run-dir", str(tmp_path))

    assert done.returncode == 3
    assert done.stdout.startswith("BGPILOT UNKNOWN - no agent answers")


def test_diff_says_in_a_sentence_that_nothing_differs(agent):
    assert agent("diff") == "No difference: kernel and peers have what is planned.\n"
    assert agent("diff", "-o", "name") == ""


def test_diff_names_what_differs_with_reason_and_fix_apart_from_what_is_on_its_way(agent):
    scene = agent.scene
    scene.want_in_kernel(FibRoute(STRAY, (NextHop(TOR),)), there=False)
    scene.kernel.conflicts[learned(STRAY)] = "protocol 4 (static)"
    scene.announce(TOR, MATE_PODS, answer=None)

    fix = "Remove the other route, or stop the daemon that writes it: routes of others are never replaced."
    assert agent("diff", code=3).split("\n") == [
        "WHERE        PREFIX          STATE     REASON          WHAT",
        "kernel       203.0.113.0/24  conflict  kernelConflict  held by protocol 4 (static)",
        "On its way:",
        "192.0.2.254  10.244.2.0/24   notTold   pending         -",
        f"! kernelConflict: {fix}",
        "",
    ]
    assert agent("diff", "-o", "name", code=3) == "203.0.113.0/24\n"
    assert "BGPPeer/tor-a" in agent("diff", "-o", "wide", code=3)
    del scene.fib[learned(STRAY)]
    assert agent("diff").endswith("No difference but this.\n")


def happen(agent, second, event, **keys):
    agent.diary.hear({"event": event, "level": "info", "timestamp": f"2026-01-02T03:04:{second:02}.123456Z", **keys})


def test_events_are_told_with_their_times_the_newest_last(agent):
    assert agent("events") == "Nothing has happened yet.\n"
    happen(agent, 1, "peer_up", peer=str(TOR), asn=65000, hold_seconds=9)
    happen(agent, 2, "problem", level="warning", **asdict(missing_secret()))

    about = "Secret bgpilot/tor-b does not exist."
    assert agent("events").split("\n") == [
        "2026-01-02T03:04:01Z  peer_up                 BGPPeer/tor-a             established: AS 65000, hold time 9 s",
        f"2026-01-02T03:04:02Z  problem                 BGPPeer tor-b             secretMissing: {about}",
        "",
    ]
    assert f"{about} Fix: Create it." in agent("events", "-o", "wide")
    assert agent("events", "-o", "name") == "192.0.2.254\nBGPPeer tor-b\n"
    assert agent("events", "-n", "1").startswith("… 1 earlier: see --last\n2026-01-02T03:04:02Z")
    assert json.loads(agent("events", "-o", "json"))["rows"][1]["reason"] == "secretMissing"


def test_the_fix_of_an_event_is_a_sentence_of_its_own(agent):
    happen(agent, 0, "problem", reason="noPeer", subject="BGPAdvertisement a", message="nobody is told", fix="Add one.")

    assert "noPeer: nobody is told. Fix: Add one.\n" in agent("events", "-o", "wide")


def test_events_are_followed_over_a_restart_of_the_agent(agent):
    happen(agent, 1, "phase", phase="IN_SYNC")
    program = [sys.executable, "-c", "from agent.cli.app import main; main()"]
    command = [*program, "events", "-w", "--run-dir", str(agent.run_dir)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert "reached IN_SYNC" in process.stdout.readline()
        happen(agent, 2, "undrain_ordered")
        assert "ordered to come back from draining" in process.stdout.readline()
        agent.diary.began = "2026-01-02T03:04:03Z"
        agent.diary.hear({"event": "starting", "timestamp": "2026-01-02T03:04:03Z", "version": "1.2.4"})
        assert [process.stdout.readline()[22:30] for _ in range(3)] == ["phase   ", "undrain_", "starting"]
        process.terminate()


def test_yaml_says_what_json_says(agent):
    del agent.scene.peers[TOR6]
    assert yaml.safe_load(agent("peers", "-o", "yaml")) == json.loads(agent("peers", "-o", "json"))
    assert agent("status", "-o", "yaml").startswith("schema: bgpilot.")


def test_quiet_says_it_by_the_exit_code_alone(agent):
    assert agent("peers", "-q", code=3) == ""
    assert agent("peer", "tor-b", "-q", code=3) == ""
    assert agent("peer", "tor-a", "-q") == ""
    assert agent("status", "-q", code=3) == ""

    agent.scene.peers[TOR6] = replace(agent.scene.peers[TOR6], held=Held("shutdown", "back at noon"))
    assert agent("peers", "-q") == "", "down because somebody wants it so"
    assert agent("events", "-q") == ""
    for command in ("peers", "events"):
        assert bgpilot(command, "-q", "-w").returncode == 2


@pytest.fixture
def watching(agent):
    """`bgpilot peers -w` as a process on a terminal of 12 lines; what it has drawn so far."""
    ours, its = pty.openpty()
    termios.tcsetwinsize(its, (12, 200))
    with_keys = ["setsid", "--ctty", sys.executable, "-c", "from agent.cli.app import main; main()"]
    process = subprocess.Popen([*with_keys, "peers", "-w", "--run-dir", str(agent.run_dir)], stdin=its, stdout=its)
    os.close(its)
    yield Watching(process, ours)
    process.kill()
    process.wait()
    os.close(ours)


class Watching:
    def __init__(self, process, terminal):
        self.process = process
        self.drawn = ""
        self._terminal = terminal

    def sees(self, text):
        """Waits until it has been drawn since the last time."""
        while text not in self.drawn:
            self.drawn += os.read(self._terminal, 65536).decode()
        self.drawn = ""

    def type(self, keys):
        os.write(self._terminal, keys)


def test_watch_draws_the_screen_anew_until_ctrl_c(agent, watching):
    watching.sees("\x1b[H\x1b[1mPEER")
    agent.scene.peers[TOR] = replace(agent.scene.peers[TOR], name="BGPPeer/renamed")
    watching.sees("BGPPeer/renamed")
    watching.type(b"\x03")

    assert watching.process.wait(30) == 0


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


def test_undrain_takes_the_order_back_and_says_when_there_is_none(agent):
    agent("drain", "--wait=0")
    assert agent("undrain") == "undrained\n"
    assert agent("undrain") == "no drain was ordered here: nothing to take back\n"
    assert agent.orders == ["", None, None]


def test_status_shows_how_far_a_node_has_come_in_leaving(agent):
    agent.fields = _leaving(agent.scene, Progress.PODS)

    assert "Leaving" in agent("status", code=3)
    assert "nodeDrained (rack 7): pod CIDRs are withdrawn" in agent("status", code=3)


def test_reset_ends_a_session_and_waits_for_its_return(agent):
    assert agent("reset", "tor-a") == "BGPPeer/tor-a is established again\n"
    assert agent.orders == [(str(TOR), [])]

    agent.obeys = False
    assert agent("reset", "tor-a", "--wait", "0") == ""
    done = bgpilot("reset", "tor-a", "--wait", "0.1", "--run-dir", str(agent.run_dir))
    assert done.returncode == 1
    assert done.stderr == "bgpilot: not established again after 0.1 s; `bgpilot explain tor-a` says why\n"


def test_a_soft_reset_asks_for_all_routes_again_where_the_peer_can(agent):
    said = bgpilot("reset", "tor-a", "--soft", "--run-dir", str(agent.run_dir))
    assert (said.returncode, said.stderr) == (
        1,
        "bgpilot: the peer does not take ROUTE-REFRESH (RFC 2918): only without --soft\n",
    )
    state = agent.scene.states[TOR]
    agent.scene.states[TOR] = replace(state, up=replace(state.up, route_refresh=True))

    assert agent("reset", "tor-a", "--soft") == "BGPPeer/tor-a is asked to send all its routes again\n"
    assert agent.orders == [(str(TOR), ["ipv4"])]


def test_a_session_that_is_not_there_cannot_be_reset(agent):
    done = bgpilot("reset", "tor-b", "--run-dir", str(agent.run_dir))

    assert (done.returncode, agent.orders) == (1, [])
    assert done.stderr == "bgpilot: there is no session; `bgpilot explain 2001:db8::fe` says why\n"


def test_a_reflector_is_drained_by_annotation_or_by_force(agent):
    agent.scene.standpoint = replace(agent.scene.standpoint, cluster_id=ip_address("192.0.2.1"))

    refused = bgpilot("drain", BGPILOT_RUN_DIR=str(agent.run_dir))
    assert refused.returncode == 1
    assert "kubectl annotate node" in refused.stderr
    assert agent.orders == []
    agent("drain", "--force", "--wait=0")
    assert agent.orders == [""]
