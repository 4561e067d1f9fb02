"""Views: NAPALM's keys, stable order, bounded tables, and nothing that JSON cannot hold."""

from __future__ import annotations

import json
from ipaddress import ip_address, ip_network

import pytest

from agent.cli import glance, render
from agent.model import Kind, Problem, WatchState
from agent.status.explain import explain
from agent.status.tables import SIDES, fib_view, routes_view
from agent.status.views import CONFLICTS_MAX, peer_view, peers_named, peers_view, status_view
from bgp.model import Direction, PeerState, SessionError, SpeakerLost
from tests.unit.status.scene import (
    MATE,
    MATE_PODS,
    NOW,
    TOR,
    TOR6,
    Failure,
    Scene,
    learned,
    missing_secret,
    peer,
)


@pytest.fixture
def scene():
    return Scene()


def test_every_view_is_json_and_names_its_schema(scene):
    status = scene.status()
    views = [
        status_view(status, NOW),
        peers_view(status, NOW),
        peer_view(status, TOR6, NOW),
        fib_view(status, NOW),
        explain(status, "default/web"),
        *(routes_view(status, NOW, side) for side in SIDES),
    ]

    for view in views:
        assert json.loads(json.dumps(view)) == view
        assert view["schema"].startswith("bgpilot.")
        assert (view["version"], view["node"]) == ("1.2.3", "worker-1")


def test_peers_have_napalms_keys_in_numeric_order_ipv4_first(scene):
    peers = peers_view(scene.status(), NOW)["peers"]

    assert list(peers) == ["192.0.2.2", "192.0.2.254", "2001:db8::fe"]
    napalm = {"is_up", "is_enabled", "description", "uptime", "remote_as", "remote_id", "local_as", "address_family"}
    assert all(napalm <= set(peer) for peer in peers.values())
    assert peers["192.0.2.254"]["uptime"] == 3661
    assert peers["192.0.2.254"]["remote_id"] == "9.9.9.9"
    assert peers["192.0.2.254"]["address_family"] == {
        "ipv4": {"received_prefixes": 1, "accepted_prefixes": 0, "sent_prefixes": 2, "end_of_rib_received": True}
    }


def test_a_session_that_is_down_has_no_uptime_its_wanted_families_and_its_last_error(scene):
    down = peer_view(scene.status(), TOR6, NOW)

    assert (down["is_up"], down["uptime"], down["state"], down["state_seconds"]) == (False, -1, "Active", None)
    assert list(down["address_family"]) == ["ipv4", "ipv6"]
    assert down["last_error"] == {
        "direction": "received",
        "code": 6,
        "subcode": 2,
        "text": 'Shutdown Communication: "tea"',
        "age_seconds": 90,
        "count": 3,
    }


def test_a_peers_problems_stand_with_it(scene):
    scene.problems.add(missing_secret())

    assert [it["reason"] for it in peer_view(scene.status(), TOR6, NOW)["problems"]] == ["secretMissing"]
    assert peer_view(scene.status(), TOR, NOW)["problems"] == []


@pytest.mark.parametrize(
    ("name", "addresses"),
    [
        ("192.0.2.254", [TOR]),
        ("2001:db8:0::fe", [TOR6]),
        ("BGPPeer/tor-a", [TOR]),
        ("tor-a", [TOR]),
        ("worker-2", [MATE]),
        ("nobody", []),
    ],
)
def test_a_peer_is_found_by_address_and_by_name(scene, name, addresses):
    assert [found.address for found in peers_named(scene.status(), name)] == addresses


def test_a_name_of_two_peers_finds_both_and_the_full_name_one(scene):
    other = ip_address("192.0.2.253")
    scene.peers[other] = peer(other, "node/tor-a", 64512, mesh=True)

    assert [found.address for found in peers_named(scene.status(), "tor-a")] == [other, TOR]
    assert [found.address for found in peers_named(scene.status(), "node/tor-a")] == [other]


def test_a_link_local_address_finds_the_peers_on_all_links_and_with_an_interface_the_one_there(scene):
    links = [ip_address(f"fe80::1%{name}") for name in ("eth0", "eth1")]
    for address in links:
        scene.peers[address] = peer(address, "BGPPeer/spine", 65001)

    assert [found.address for found in peers_named(scene.status(), "fe80::1")] == links
    assert [found.address for found in peers_named(scene.status(), "fe80::1%eth1")] == links[1:]


def rows(view):
    return [(row["prefix"], row["peer"]) for row in view["rows"]]


def test_received_routes_tell_which_were_refused_and_which_are_installed(scene):
    view = routes_view(scene.status(), NOW, "received")

    assert [(row["prefix"], row["accepted"], row["installed"], row["reason"]) for row in view["rows"]] == [
        ("10.244.2.0/24", True, True, None),
        ("203.0.113.0/24", False, False, "importNotAllowed"),
    ]
    assert view["rows"][1]["as_path"] == "65000 {1,2}"
    assert rows(routes_view(scene.status(), NOW, "accepted")) == [("10.244.2.0/24", "192.0.2.2")]
    assert rows(routes_view(scene.status(), NOW, "received", peer=TOR)) == [("203.0.113.0/24", "192.0.2.254")]


def reasons(scene, prefix):
    return [
        (row["installed"], row["reason"]) for row in routes_view(scene.status(), NOW, "accepted", prefix=prefix)["rows"]
    ]


def test_an_admitted_route_that_is_not_the_best_says_so(scene):
    scene.hear(TOR, MATE_PODS)

    assert reasons(scene, MATE_PODS) == [(True, None), (False, "notBest")]


@pytest.mark.parametrize(
    ("failing", "conflicts", "reason"),
    [
        ({learned(MATE_PODS): Failure("Network is unreachable")}, {}, "kernelRefused"),
        ({}, {learned(MATE_PODS): "static"}, "kernelConflict"),
        ({}, {}, "notInstalled"),
    ],
)
def test_a_chosen_route_that_is_not_in_the_kernel_says_why(scene, failing, conflicts, reason):
    scene.kernel.actual.clear()
    scene.kernel.failing, scene.kernel.conflicts = failing, conflicts

    assert reasons(scene, MATE_PODS) == [(False, reason)]


def test_a_route_kept_without_a_session_is_marked(scene):
    scene.rib.apply(SpeakerLost("died"), 0.0)

    (row,) = routes_view(scene.status(), NOW, "received", prefix=MATE_PODS)["rows"]
    assert (row["kept"], row["installed"]) == (True, True)
    assert "kept: session down" in render.routes(routes_view(scene.status(), NOW, "received"), wide=False, colour=False)


def test_the_short_answer_names_the_first_twenty_conflicts_with_holder_and_fix(scene):
    prefixes = [ip_network((n << 8, 24)) for n in range(30, 0, -1)]
    scene.kernel.conflicts = {learned(prefix): "static" for prefix in prefixes}
    scene.problems.add(missing_secret())
    view = status_view(scene.status(), NOW)

    conflicts = [it for it in view["problems"] if it["reason"] == "kernelConflict"]
    assert len(conflicts) == CONFLICTS_MAX
    assert "route 0.0.1.0/24" in {it["subject"] for it in conflicts}
    assert "route 0.0.30.0/24" not in {it["subject"] for it in conflicts}
    assert all("held by static" in it["message"] and it["fix"].startswith("Remove") for it in conflicts)
    assert len(view["problems"]) == CONFLICTS_MAX + 1


def test_routes_of_a_peer_that_is_down_are_not_told(scene):
    scene.states[TOR] = scene.down_state()

    assert status_view(scene.status(), NOW)["routes"]["told"] == 1


def test_an_error_without_words_is_named_as_the_rfc_does(scene):
    scene.states[TOR6] = PeerState(last_error=SessionError(Direction.SENT, 4, 0, "", NOW - 5))
    error = peer_view(scene.status(), TOR6, NOW)["last_error"]

    assert error["text"] == "Hold Timer Expired"
    assert render.last_error(error) == "sent 4/0 Hold Timer Expired (5s ago)"


def test_the_short_answer_counts_everything_once(scene):
    view = status_view(scene.status(), NOW)

    assert view["peers"] == {
        "configured": 3,
        "established": 2,
        "mesh_configured": 1,
        "mesh_established": 1,
        "held": 0,
        "restarting": 0,
        "parting": 0,
    }
    assert view["routes"] == {
        "originated": 2,
        "wanted": 3,
        "told": 3,
        "refused": 0,
        "failing": 0,
        "heard": 2,
        "not_admitted": 1,
    }
    assert view["picture"] == {
        "complete": True,
        "age_seconds": 4.0,
        "heard_seconds": 4.0,
        "unchanged_seconds": None,
        "unhealthy": [],
        "broken": [],
    }
    assert (view["health"], view["healthy"], view["degraded"]) == ("degraded", False, ["sessionDown"])
    assert view["identity"]["router_id"] == "192.0.2.1"


def picture(*watches, changed_at=None):
    view = status_view(Scene().status(watches=watches, changed_at=changed_at), NOW)
    lines = glance.status(view).split("\n")
    at = next(number for number, line in enumerate(lines) if line.startswith("Picture:"))
    return view["picture"], lines[at].removeprefix("Picture:").strip(), lines[at + 1].strip()


def test_a_quiet_cluster_is_not_an_old_picture():
    nodes, services = (WatchState(Kind.NODE, healthy=True, fresh_at=NOW - seconds) for seconds in (12, 58))
    told, line, _ = picture(nodes, services, changed_at=NOW - 900)

    assert line == "complete, watches alive (last heard 12s ago, each within 58s), unchanged for 15m"
    assert (told["heard_seconds"], told["age_seconds"], told["unchanged_seconds"]) == (12, 58, 900)


def test_a_watch_that_is_broken_says_which_since_when_and_why():
    problem = Problem("streamSilent", "watch of Service", "cannot watch all Service objects: nothing comes", "Check.")
    alive = WatchState(Kind.NODE, healthy=True, fresh_at=NOW - 1)
    broken = WatchState(Kind.SERVICE, healthy=False, fresh_at=NOW - 300, problem=problem, broken_at=NOW - 180)
    told, line, more = picture(alive, broken)

    assert line == "complete"
    assert more == "not watched for 3m (streamSilent): Service; the last that was heard holds"
    assert told["unhealthy"] == ["Service"]
    assert told["broken"] == [
        {"watch": "Service", "seconds": 180.0, "reason": "streamSilent", "text": problem.message, "fix": "Check."},
    ]
