"""What each command prints for programs, in each state a node can be in, is as `bgpilot schema` says."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from ipaddress import ip_address

import pytest
import yaml

from agent.cli.client import order
from agent.model import Kind, WatchState
from agent.plan.leaving import Cause, Leave, Progress
from agent.status.explain_unknown import explained
from agent.status.tables import SIDES, fib_view, routes_view
from agent.status.views import peer_view, peers_view, status_view
from bgp.model import Family, Held, LargeCommunity, Origin, PrefixLimit
from tests.unit.cli import test_golden
from tests.unit.cli.test_cli import Agent, bgpilot
from tests.unit.cli.test_schemas import SHAPES, complaints, plain
from tests.unit.status.scene import MATE, NOW, STRAY, TOR, TOR6, VIP, Scene, peer, unheard
from tests.unit.status.test_peers import go_away

QUESTIONS = [
    "status",
    "peers",
    "peers --failed",
    "peer tor-a",
    "peer tor-b",
    "routes",
    "routes accepted",
    "routes advertised",
    "fib",
    "explain 10.244.2.9",
    "explain tor-b",
    "explain default/web",
    "check",
    "diff",
    "events",
]
CUT_OFF = {"routes", "fib", "diff", "events"}
"""The answers that are other ones in a huge cluster: they have no room for all."""
CASES = [(it, state) for state in test_golden.STATES for it in QUESTIONS if state != "huge" or it in CUT_OFF]
ALIKE = 50
"""Of more rows than this, some are looked at: they are made alike, and each takes 0.3 ms."""
agents = test_golden.agents


@pytest.mark.parametrize(("question", "state"), CASES)
def test_an_answer_is_as_its_schema_says(agents, question, state):
    done = bgpilot(*question.split(), "-o", "json", BGPILOT_RUN_DIR=str(agents(state).run_dir))
    if done.returncode == 1:
        assert "'tor-" in done.stderr  # which is not there in each state
        return
    if not done.stdout:
        assert "pictureIncomplete" in done.stderr  # in which nobody knows whether it is there
        return

    answer = json.loads(done.stdout)
    assert answer["schema"] == f"bgpilot.{question.split()[0]}/1"
    if "rows" in answer:
        answer["rows"] = answer["rows"][:: len(answer["rows"]) // ALIKE + 1]
    assert complaints(answer) == []


@pytest.mark.parametrize("question", SHAPES)
def test_yaml_is_the_same_document(agents, question):
    said = {
        how: bgpilot(*question.split(), "-o", how, BGPILOT_RUN_DIR=str(agents("degraded").run_dir)).stdout
        for how in ("json", "yaml")
    }

    assert yaml.safe_load(said["yaml"]) == json.loads(said["json"])


def test_what_the_socket_answers_to_orders_is_as_its_schema_says(tmp_path):
    with Agent(tmp_path) as agent:
        tor = agent.scene.states[TOR]
        agent.scene.states[TOR] = replace(tor, up=replace(tor.up, route_refresh=True))
        asked = partial(order, tmp_path / "bgpilot.sock")
        said = [asked("drain", "rack 7"), asked("undrain"), asked("reset/tor-a"), asked("reset/tor-a?soft=1")]

    assert [complaints(one) for one in said] == [[]] * 4


# What is rarely there.


def leaving(scene):
    plan = replace(scene.status().plan, leave=Leave(Cause.DRAINED, "rack 7"))
    return {"plan": plan, "progress": Progress.PODS, "dry_run": True, "changed_at": NOW - 7}


def nothing(scene):
    scene.identity = None
    return {"watches": [WatchState(Kind.NODE, healthy=False, fresh_at=NOW)]}


def unwatched(scene):
    return {"watches": []}


def dressed(scene):
    """Every setting of a session."""
    limits = (
        (Family.IPV4, PrefixLimit(prefixes=100, restart_seconds=30)),
        (Family.IPV6, PrefixLimit(prefixes=1, warning_only=True)),
    )
    scene.peers[TOR6] = replace(
        scene.peers[TOR6],
        peer_asn=None,
        description="rack 7, top",
        connect_retry_seconds=7,
        multihop=3,
        source_interface="eth1",
        client=True,
        prefix_limits=limits,
    )
    scene.peers[MATE] = replace(scene.peers[MATE], local_address=ip_address("0.0.0.0"), ttl_security_hops=1)
    return {}


def link_local(scene):
    """A router that has no other address, and what it tells."""
    address = ip_address("fe80::1%eth0")
    scene.peers[address] = peer(address, "BGPPeer/tor-l", 65003)
    scene.session_up(address, extended_next_hop=True)
    scene.hear(address, STRAY, as_path=(65003, frozenset({5, 6})), origin=Origin.EGP, med=0)
    scene.announce(address, VIP, large_communities=frozenset({LargeCommunity(64512, 1, 2)}), local_pref=0)
    return {}


def restarting(scene):
    """A router that is away, and whose routes are kept."""
    go_away(scene, TOR)
    return {}


def shut_down(scene):
    scene.peers[TOR6] = replace(scene.peers[TOR6], held=Held("shutdown", "tea"))
    return {}


RARE = (leaving, nothing, unheard, unwatched, dressed, link_local, restarting, shut_down)


def answers(status):
    yield status_view(status, NOW)
    yield peers_view(status, NOW)
    yield from (peer_view(status, address, NOW) for address in status.plan.peers)
    yield from (routes_view(status, NOW, side) for side in SIDES)
    yield fib_view(status, NOW)
    yield from (
        explained(status, subject, NOW) for subject in ("worker-2", str(STRAY), str(VIP), "tor-b", "default/web")
    )


@pytest.mark.parametrize("make", RARE)
def test_what_is_rarely_there_is_as_its_schema_says(make):
    scene = Scene()
    fields = make(scene)

    assert [told for it in answers(scene.status(**fields)) for told in complaints(plain(it))] == []


def test_each_key_of_a_session_is_something_at_some_time():
    rows = []
    for make in RARE:
        scene = Scene()
        fields = make(scene)
        rows += peers_view(scene.status(**fields), NOW)["peers"].values()

    assert {key for key in rows[0] if all(row[key] in (None, {}) for row in rows)} == set()
