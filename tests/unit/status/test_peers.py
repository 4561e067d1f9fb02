"""Peers that must have no session, that restart, or that are other than usual: told wherever peers are shown."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client.exposition import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from agent.cli import glance, render
from agent.model import Problem, object_of
from agent.plan.topology import Area, Shape, Standpoint
from agent.status.explain import explain
from agent.status.metrics import make_registry
from agent.status.readiness import Readiness
from agent.status.remedies import REMEDIES
from agent.status.tables import routes_view
from agent.status.views import peer_view, peers_view, status_view
from bgp.model import Family, Held, PeerState, PrefixLimit, Route, RouteKey, SessionDown, SessionState, SpeakerLost
from tests.unit.status.scene import MATE, NOW, OWN_PODS, STRAY, TOR, TOR6, US, Scene, missing_secret

HELD = {
    "secretMissing": Held("secretMissing"),
    "shutdown": Held("shutdown", "moved to rack 7"),
    "fromTomorrow": Held("fromTomorrow"),
}


@pytest.fixture
def scene():
    return Scene()


def hold(scene, held):
    """As planner and speaker leave it: the peer is planned, and ExaBGP has never heard of it."""
    scene.peers[TOR6] = replace(scene.peers[TOR6], held=held)
    del scene.states[TOR6]
    if held.reason == "secretMissing":
        scene.problems.add(missing_secret())
    return scene.status()


def samples(scene, name):
    registry = make_registry(scene.status, clock=lambda: NOW, wall=lambda: NOW)
    families = text_string_to_metric_families(generate_latest(registry).decode())
    return {it.labels["peer"]: it for family in families for it in family.samples if it.name == f"bgpilot_{name}"}


def last_cell(text, address):
    return next(line for line in text.splitlines() if line.startswith(f"{address} ")).split("  ")[-1].strip()


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        ("secretMissing", "secretMissing: Secret bgpilot/tor-b does not exist."),
        ("shutdown", "shutdown: moved to rack 7"),
        ("fromTomorrow", "fromTomorrow"),
    ],
)
def test_a_held_peer_has_a_row_that_is_idle_and_says_why(scene, reason, words):
    view = peers_view(hold(scene, HELD[reason]), NOW)
    row = view["peers"][str(TOR6)]

    assert (row["state"], row["is_up"], row["reason"], row["last_error"]) == ("Idle", False, reason, None)
    assert row["is_enabled"] is (reason != "shutdown")
    assert last_cell(render.peers(view, wide=False, colour=False), TOR6) == words


def test_a_held_peer_keeps_its_series(scene):
    before = samples(scene, "bgp_peer_info")[str(TOR6)]
    hold(scene, HELD["shutdown"])

    assert samples(scene, "bgp_peer_up")[str(TOR6)].value == 0
    assert samples(scene, "bgp_peer_info")[str(TOR6)] == before
    assert {peer: it.labels["reason"] for peer, it in samples(scene, "bgp_peer_held").items()} == {
        str(TOR6): "shutdown"
    }


def test_a_peer_that_the_speaker_holds_for_what_it_told_is_shown_like_one_that_the_plan_holds(scene):
    text = "101 ipv4 prefixes, 100 allowed"
    scene.problems.add(Problem("maxPrefixesExceeded", "BGPPeer tor-b", f"{text}: no session", "Look there."))
    scene.fields["held_by_speaker"] = {TOR6: Held("maxPrefixesExceeded", text)}
    row = peers_view(scene.status(), NOW)["peers"][str(TOR6)]

    assert (row["reason"], row["reason_text"], row["is_enabled"]) == (
        "maxPrefixesExceeded",
        f"{text}: no session",
        True,
    )
    assert explain(scene.status(), "tor-b")["hops"][-1]["fix"] == "Look there."
    assert samples(scene, "bgp_peer_held")[str(TOR6)].labels["reason"] == "maxPrefixesExceeded"
    assert status_view(scene.status(), NOW)["peers"]["held"] == 1


def test_the_short_answer_counts_a_held_peer_as_not_up(scene):
    view = status_view(hold(scene, HELD["secretMissing"]), NOW)

    assert (view["peers"]["configured"], view["peers"]["established"], view["peers"]["held"]) == (3, 2, 1)
    assert "2 of 3 established (mesh 1 of 1, 1 must have no session)" in glance.status(view)


def test_a_held_peer_is_explained_by_reason_and_remedy(scene):
    hop = explain(hold(scene, HELD["shutdown"]), "tor-b")["hops"][-1]

    assert (hop["place"], hop["ok"], hop["reason"]) == ("BGPPeer tor-b", False, "shutdown")
    assert hop["text"] == "moved to rack 7"
    assert "spec.shutdown" in hop["fix"]


def test_the_problem_of_a_held_peer_is_told_once_with_its_own_fix(scene):
    hops = explain(hold(scene, HELD["secretMissing"]), "tor-b")["hops"]

    assert [(hop["reason"], hop["text"], hop["fix"]) for hop in hops[1:]] == [
        ("secretMissing", "Secret bgpilot/tor-b does not exist.", "Create it.")
    ]


def test_a_mesh_session_without_its_password_is_explained_by_the_instance_that_names_it(scene):
    scene.identity = replace(scene.identity, instance="default")
    scene.peers[MATE] = replace(scene.peers[MATE], held=Held("secretMissing"))
    scene.problems.add(
        Problem("secretMissing", "BGPInstance default", "mesh.passwordSecretRef names a ghost", "Do it.")
    )
    del scene.states[MATE]

    assert peers_view(scene.status(), NOW)["peers"][str(MATE)]["reason_text"] == "mesh.passwordSecretRef names a ghost"
    (hop,) = [hop for hop in explain(scene.status(), "worker-2")["hops"] if not hop["ok"]]
    assert (hop["place"], hop["reason"], hop["fix"]) == ("BGPInstance default", "secretMissing", "Do it.")


@pytest.mark.parametrize("name", ["lost", "BGPPeer/lost", "BGPPeer lost"])
def test_a_bgppeer_of_which_no_peer_comes_is_explained_by_its_problem(scene, name):
    scene.problems.add(Problem("peerAddressMissing", "BGPPeer lost", "the node has no label rack", "Set it."))
    view = explain(scene.status(), name)

    assert [(hop["reason"], hop["fix"]) for hop in view["hops"]] == [("peerAddressMissing", "Set it.")]


def test_a_route_for_a_held_peer_is_not_about_to_be_told(scene):
    key = RouteKey(TOR6, OWN_PODS)
    scene.routes[key] = Route(OWN_PODS, US)
    status = hold(scene, HELD["shutdown"])

    row = next(row for row in routes_view(status, NOW, "advertised")["rows"] if row["peer"] == str(TOR6))
    assert (row["state"], row["reason"]) == ("held", "shutdown")
    assert explain(status, str(OWN_PODS))["hops"][-1]["reason"] == "shutdown"


def test_a_start_does_not_wait_for_a_peer_that_must_have_no_session(scene):
    scene.fields["speaking_at"] = NOW - 1
    assert "peerNotSynced: BGPPeer/tor-b" in Readiness().reasons(scene.status(), NOW)[0]

    assert Readiness().reasons(hold(scene, HELD["shutdown"]), NOW) == ()


def test_every_reason_to_hold_a_peer_has_a_remedy():
    sources = (Path(__file__).parents[3] / "agent" / "plan").glob("*.py")
    words = {word for path in sources for word in re.findall(r'Held\("(\w+)"', path.read_text())}

    assert words | {"shutdown", "secretMissing", "secretKeyMissing"} <= REMEDIES.keys()


def go_away(scene, address):
    up = scene.rib.session(address)
    scene.rib.apply(replace(up, restart_families=up.families), NOW - 50)
    scene.hear(address, STRAY, as_path=(65000,))
    scene.rib.apply(SessionDown(address, "closed", without_notification=True), NOW - 20)
    scene.states[address] = PeerState(state=SessionState.ACTIVE)
    return scene.status()


def test_a_peer_that_may_be_restarting_says_how_much_of_it_is_kept_and_for_how_long(scene):
    status = go_away(scene, TOR)
    view = peers_view(status, NOW)
    row = view["peers"][str(TOR)]

    assert (row["restarting"], row["stale_prefixes"], row["stale_seconds"]) == (True, 1, 100)
    assert "restarting, 1 path kept for 100s at most" in render.peers(view, wide=False, colour=False)
    assert status_view(status, NOW)["peers"]["restarting"] == 1
    hop = explain(status, "tor-a")["hops"][-1]
    assert (hop["reason"], hop["neutral"]) == ("gracefulRestart", True)
    assert {peer: it.value for peer, it in samples(scene, "bgp_graceful_restart_active").items()} == {
        str(TOR): 1,
        str(TOR6): 0,
    }


def test_paths_kept_while_exabgp_is_away_are_told_and_the_peers_are_not_blamed(scene):
    scene.rib.apply(SpeakerLost("died"), NOW)
    row = peers_view(scene.status(), NOW)["peers"][str(MATE)]

    assert (row["restarting"], row["stale_prefixes"]) == (False, 1)


def test_nothing_is_stale_on_a_quiet_day(scene):
    for row in peers_view(scene.status(), NOW)["peers"].values():
        assert (row["restarting"], row["stale_prefixes"], row["stale_seconds"]) == (False, 0, None)


def dressed(scene):
    """The second router with every setting there is."""
    scene.peers[TOR6] = replace(
        scene.peers[TOR6],
        peer_asn=None,
        description="rack 7, top",
        passive=True,
        listen_port=1790,
        keepalive_seconds=5,
        connect_retry_seconds=7,
        multihop=3,
        source_interface="eth1",
        allowas_in=2,
        extended_next_hop=True,
        client=True,
        prefix_limits=((Family.IPV4, PrefixLimit(prefixes=100, restart_seconds=30)),),
    )
    return scene.status()


def test_every_setting_of_a_session_is_shown(scene):
    row = peer_view(dressed(scene), TOR6, NOW)

    wanted = {
        "description": "rack 7, top",
        "name": "BGPPeer/tor-b",
        "passive": True,
        "listen_port": 1790,
        "keepalive_seconds": 5,
        "connect_retry_seconds": 7,
        "multihop": 3,
        "ttl_security_hops": None,
        "source_interface": "eth1",
        "allowas_in": 2,
        "extended_next_hop": True,
        "role": "client",
        "configured_families": ["ipv4", "ipv6"],
        "prefix_limits": {
            "ipv4": {"prefixes": 100, "warning_percent": 75, "restart_seconds": 30, "warning_only": False}
        },
    }
    assert {name: row[name] for name in wanted} == wanted
    assert "100, warning at 75 %, teardown for 30 s" in render.peer(row, colour=False)
    options = "passive, listen port 1790, multihop 3, interface eth1, route-reflector-client, allowas-in 2, "
    assert f"{options}extended-nexthop, ipv4 limit 100" in render.peer(row, colour=False)
    assert f"; {options[:-2].replace(', ', '; ')}" in explain(scene.status(), "tor-b")["hops"][0]["text"]


def test_who_reflects_is_told_of_the_peer_and_of_the_node_itself(scene):
    area = Area(64512, "")
    shapes = {area: Shape(meshed=False, reflectors=frozenset({"worker-2", "worker-1"}))}
    assert "Reflector" not in glance.status(status_view(scene.status(), NOW))

    scene.standpoint = Standpoint(name="worker-1", area=area, shapes=shapes, cluster_id=US)
    rows = peers_view(scene.status(), NOW)["peers"]
    assert {address: row["role"] for address, row in rows.items() if row["role"]} == {str(MATE): "reflector"}
    assert "Reflector: cluster id 192.0.2.1" in glance.status(status_view(scene.status(), NOW))
    scene.peers[MATE] = replace(scene.peers[MATE], client=True)

    row = peer_view(scene.status(), MATE, NOW)
    assert (row["role"], row["options"]) == ("client", ["route-reflector-client"])


def test_the_usual_table_is_no_wider_for_all_these_settings(scene):
    def header(wide):
        return render.peers(peers_view(scene.status(), NOW), wide=wide, colour=False).splitlines()[0]

    before = header(wide=False).split()
    dressed(scene)

    assert header(wide=False).split() == before
    assert {"DESCRIPTION", "OPTIONS"} <= set(header(wide=True).split()) - set(before)
    wide = render.peers(peers_view(scene.status(), NOW), wide=True, colour=False)
    assert "rack 7, top" in wide
    assert "multihop 3" in wide


def test_an_as_that_is_not_configured_is_external_until_the_peer_says_it(scene):
    dressed(scene)
    row = peers_view(scene.status(), NOW)["peers"][str(TOR6)]
    assert (row["remote_as"], row["configured_as"]) == (None, "external")
    assert "external  Active" in render.peers(peers_view(scene.status(), NOW), wide=False, colour=False)

    scene.session_up(TOR6)
    scene.states[TOR6] = replace(scene.states[TOR6], up=replace(scene.states[TOR6].up, peer_asn=65077))
    view = peer_view(scene.status(), TOR6, NOW)

    assert (view["remote_as"], view["configured_as"]) == (65077, "external")
    assert "65077, learned, ours 64512" in render.peer(view, colour=False)
    assert "to AS 65077 (learned)" in explain(scene.status(), "tor-b")["hops"][0]["text"]
    assert samples(scene, "bgp_peer_up")[str(TOR6)].labels["peer_as"] == "external"


def test_a_family_that_the_peer_does_not_speak_is_said_and_is_no_fault(scene):
    scene.session_up(TOR6)
    view = explain(scene.status(), "tor-b")

    assert [(hop["reason"], hop["neutral"]) for hop in view["hops"] if hop["reason"]] == [("familyNotSpoken", True)]
    assert view["ok"] is True


@pytest.mark.parametrize(
    ("name", "subject"),
    [("BGPPeer/tor-b", "BGPPeer tor-b"), ("node/worker-2", "Node worker-2"), ("ExaBGP", "ExaBGP")],
)
def test_problems_call_an_object_by_one_name_wherever_they_come_from(name, subject):
    assert object_of(name) == subject


def test_a_problem_of_the_other_node_stands_with_its_session(scene):
    scene.problems.add(Problem("peerRefused", "Node worker-2", "it is wrong", "Correct it."))

    assert [it["reason"] for it in peer_view(scene.status(), MATE, NOW)["problems"]] == ["peerRefused"]


def test_a_session_that_is_parting_says_so_wherever_it_is_shown(scene):
    scene.parting = frozenset({"worker-2"})
    view = peers_view(scene.status(), NOW)

    assert {address: row["parting"] for address, row in view["peers"].items()} == {
        str(MATE): True,
        str(TOR): False,
        str(TOR6): False,
    }
    wide = render.peers(view, wide=True, colour=False).splitlines()
    assert [line.split()[0] for line in wide if "parting" in line] == [str(MATE)]
    assert "Established (parting:" in render.peer(peer_view(scene.status(), MATE, NOW), colour=False)
    explained = explain(scene.status(), "worker-2")
    assert [(hop["reason"], hop["ok"]) for hop in explained["hops"][:2]] == [(None, True), ("parting", True)]
    assert "no longer wanted" in explained["hops"][0]["text"]


def test_a_parting_session_that_is_down_is_no_trouble(scene):
    scene.parting = frozenset({"worker-2"})
    scene.states[MATE] = PeerState()

    assert explain(scene.status(), "worker-2")["ok"]
    assert peers_view(scene.status(), NOW)["peers"][str(MATE)]["cause"] is None
