"""What each command prints in each state a node can be in, word for word: for people to read when it changes."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import asdict, replace
from ipaddress import ip_address, ip_network

import pytest

from agent.model import FibRoute, Kind, NextHop, Problem, Service, WatchState
from bgp.model import RouteKey
from tests.unit.cli.test_cli import Agent, bgpilot
from tests.unit.status.scene import (
    MATE_PODS,
    NOW,
    STRAY,
    TOR,
    TOR6,
    VIP,
    WEB,
    Failure,
    learned,
    missing_secret,
    peer,
    unheard,
)

COMMANDS = [
    "status",
    "peers",
    "peers -o wide",
    "peers --failed",
    "peer tor-a",
    "routes",
    "routes accepted",
    "routes advertised",
    "fib",
    "explain 10.244.2.9",
    "explain tor-b",
    "explain default/web",
    "check",
    "check --nagios",
    "diff",
    "events",
    "tor-config --vendor frr",
]
LINES_MAX = 20
"""Of a golden output; the middle of a longer one is counted."""


def healthy(agent):
    del agent.scene.peers[TOR6]
    agent.scene.services[WEB] = Service(namespace="default", name="web", external_ips=(VIP.network_address,))
    happened(agent, "starting", version="1.2.3")
    happened(agent, "phase", phase="IN_SYNC")
    happened(agent, "peer_up", peer=str(TOR), asn=65000, hold_seconds=9)


def degraded(agent):
    """A router is shut down, another has no password, one route is another's, one is refused, a watch is broken."""
    scene = agent.scene
    secretless = ip_address("192.0.2.253")
    scene.peers[secretless] = peer(secretless, "BGPPeer/tor-c", 65002)
    why = Problem("apiUnreachable", "watch of BGPPeer", "https://10.0.0.1:6443 does not answer", "See its log.")
    scene.watches.append(WatchState(Kind.PEER, healthy=False, fresh_at=NOW - 400, broken_at=NOW - 300, problem=why))
    scene.problems |= {replace(missing_secret(), subject="BGPPeer tor-c"), why}
    scene.want_in_kernel(FibRoute(STRAY, (NextHop(TOR),)), there=False)
    scene.kernel.conflicts[learned(STRAY)] = "protocol 4 (static)"
    scene.kernel.failing[learned(MATE_PODS)] = Failure("Network is unreachable")
    del scene.kernel.actual[learned(MATE_PODS)]
    scene.refused_in.clear()
    scene.refused_out[RouteKey(TOR, VIP)] = "messageTooLong"
    del scene.routes[RouteKey(TOR, VIP)]
    scene.announce(TOR6, VIP, answer=None)
    scene.not_advertised[WEB, "198.51.100.8"] = "externalIPNotAllowed"
    happened(agent, "peer_down", peer=str(TOR6), reason='received 6/2 "tea"', level="warning")
    happened(agent, "problem", **asdict(why), level="warning")
    happened(agent, "drift_repaired", missing=2)


def starting(agent):
    """The cluster has not been listed yet."""
    empty(agent)
    agent.scene.identity, agent.scene.kernel.is_read = None, False
    agent.scene.watches = [WatchState(Kind.NODE, healthy=True, fresh_at=NOW - 1)]
    agent.fields = {"picture_complete": False, "phase": "LISTING", "speaking_at": None}
    happened(agent, "starting", version="1.2.3")


def unheard_of(agent):
    """The API server has been away since the agent was started; the kernel has what it had."""
    agent.fields = unheard(agent.scene)
    happened(agent, "starting", version="1.2.3")


def empty(agent):
    """The only node of a cluster, without routers."""
    scene = agent.scene
    for some in (scene.peers, scene.originated, scene.routes, scene.fib, scene.kernel.actual, scene.refused_in):
        some.clear()
    scene.services.clear()
    scene.outbox, scene.rib = scene.outbox.__class__(), scene.rib.__class__()


def huge(agent):
    """1,000 sessions between nodes, and 100,000 routes that they tell."""
    scene = agent.scene
    for number in range(1_000):
        address = ip_address(0x0A000001 + number)
        scene.peers[address] = peer(address, f"node/worker-{number}", 64512, mesh=True)
        scene.session_up(address)
        prefixes = [ip_network((0x64000000 + (number * 100 + one << 8), 24)) for one in range(100)]
        scene.hear(address, *prefixes)
        for prefix in prefixes:
            scene.want_in_kernel(FibRoute(prefix, (NextHop(address),)), there=number < 900)
    for number in range(2_000):
        happened(agent, "problem_solved", subject=f"Service default/web-{number}", reason="annotationInvalid")


STATES = {make.__name__: make for make in (healthy, degraded, starting, unheard_of, empty, huge)}


def happened(agent, event, **keys):
    agent.diary.hear({"event": event, "level": "info", "timestamp": "2026-01-02T03:04:05.678901Z", **keys})


@pytest.fixture(scope="module")
def agents(tmp_path_factory):
    """By state, made when the first asks."""
    with ExitStack() as stack:
        made = {}

        def of(state):
            if state not in made:
                agent = Agent(tmp_path_factory.mktemp(state))
                STATES[state](agent)
                made[state] = stack.enter_context(agent)
            return made[state]

        yield of


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("command", COMMANDS)
def test_what_is_printed(agents, snapshot, command, state):
    done = bgpilot(*command.split(), BGPILOT_RUN_DIR=str(agents(state).run_dir))

    lines = [f"exit code {done.returncode}", *(done.stdout + done.stderr).splitlines()]
    if (more := len(lines) - LINES_MAX) > 0:
        half = LINES_MAX // 2
        lines[half:-half] = [f"[{more} lines]"]
    assert "\n".join(lines) == snapshot
