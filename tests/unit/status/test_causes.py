"""Why there is no session: every refusal names who has to change what, with this peer's own addresses and fields."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address

import pytest

from agent.cli import render
from agent.model import Problem
from agent.status.causes import cause
from agent.status.explain import explain
from agent.status.views import peer_view, peers_view
from bgp.endings import NO_HOST, NO_OPEN, NO_ROUTE, NOTIFICATIONS, REFUSED, TIMED_OUT, TRANSPORT_CLOSED
from bgp.model import Direction, Family, Held, Password, PeerState, SessionError, SessionState
from tests.unit.status.scene import NOW, TOR, TOR6, US, Scene, peer

SENT, RECEIVED, LOCAL = Direction.SENT, Direction.RECEIVED, Direction.LOCAL
ROUTER = replace(peer(TOR, "BGPPeer/tor-a", 65000), families=frozenset(Family))


def down(direction: Direction, code: int, subcode: int, text: str = "") -> PeerState:
    return PeerState(last_error=SessionError(direction, code, subcode, text, NOW))


@pytest.mark.parametrize(
    ("state", "happened", "fix"),
    [
        (
            down(SENT, 2, 2, "AS 65009"),
            "another AS than the one configured here (AS 65000): AS 65009",
            "`asn` of BGPPeer",
        ),
        (down(RECEIVED, 2, 2), "expects another AS of us than 64512", "192.0.2.1 (remote-as 64512)"),
        (down(RECEIVED, 2, 3), "router id 192.0.2.1 is not taken", "`routerID`"),
        (down(RECEIVED, 2, 6), "192.0.2.254 refuses the hold time", "`holdSeconds` of BGPPeer tor-a"),
        (down(SENT, 2, 6), "this node refuses the hold time", "`holdSeconds` of BGPPeer tor-a"),
        (down(RECEIVED, 2, 7), "no address family in common", "Activate ipv4, ipv6 in the router's neighbor statement"),
        (down(RECEIVED, 6, 1), "told more prefixes than it allows", "bgpilot routes advertised --peer 192.0.2.254"),
        (down(SENT, 6, 1), "has told more prefixes than it may", "`maxPrefixes` of BGPPeer tor-a"),
        (down(RECEIVED, 6, 2), "shut down by its administrator", "Ask there"),
        (down(RECEIVED, 6, 3), "does not have this node as a neighbor", "neighbor 192.0.2.1 with remote-as 64512"),
        (down(RECEIVED, 6, 5), "does not have this node as a neighbor", "neighbor 192.0.2.1 with remote-as 64512"),
        (down(RECEIVED, 6, 6), "has ended the session: Other Configuration Change", "here: without a password"),
        (down(RECEIVED, 6, 7), "keeps another connection that it has with 192.0.2.1", "something else on this node"),
        (down(SENT, 4, 0), "has been silent for the hold time", "TTL security"),
        (down(RECEIVED, 4, 0), "heard nothing of this node", "MTU"),
        (down(SENT, 1, 1, NO_OPEN), "takes the connection and then is silent", "`ttlSecurityHops` of BGPPeer tor-a"),
        (down(SENT, 1, 1, "no marker"), "sent 1/1 no marker", "192.0.2.254 TCP port 179 speaks BGP"),
        (down(SENT, 5, 1), "takes the connection and then is silent", "`ttlSecurityHops` of BGPPeer tor-a is not set"),
        (down(LOCAL, 0, 0, REFUSED), "refuses connections on TCP port 179", "192.0.2.1 as a neighbor"),
        (down(LOCAL, 0, 0, TIMED_OUT), "does not answer on TCP port 179", "here: without a password"),
        (down(LOCAL, 0, 0, NO_HOST), "nobody answers for 192.0.2.254", "ip neigh"),
        (down(LOCAL, 0, 0, NO_ROUTE), "no route to 192.0.2.254", "ip route get 192.0.2.254"),
        (down(LOCAL, 0, 0, TRANSPORT_CLOSED), "closes it without a word", "192.0.2.1 as a neighbor"),
        (
            down(LOCAL, 0, 0, "Could not bind to local ip 192.0.2.1 - [Errno 99] Cannot assign requested address"),
            "this node does not have 192.0.2.1",
            "`sourceAddress` of BGPPeer tor-a",
        ),
        (down(LOCAL, 0, 0, "ExaBGP ended with signal SIGKILL"), "SIGKILL: sessions end with it", "`exabgp:`"),
        (down(LOCAL, 0, 0, "there is no interface lo9"), "there is no interface lo9", "log"),
        (PeerState(state=SessionState.OPEN_SENT), "takes the connection and then is silent", "TTL security"),
    ],
)
def test_a_refusal_says_what_is_wrong_and_who_mends_it(state: PeerState, happened: str, fix: str) -> None:
    why = cause(ROUTER, state)

    assert why is not None
    assert happened in why.text
    assert fix in why.fix


@pytest.mark.parametrize(("passive", "fix"), [(False, "it is dialed again"), (True, "it dials again")])
def test_who_dials_again_after_a_session_that_the_router_ended_for_a_moment(*, passive: bool, fix: str) -> None:
    why = cause(replace(ROUTER, passive=passive), down(RECEIVED, 6, 6))

    assert why is not None
    assert fix in why.fix


@pytest.mark.parametrize("direction", [SENT, RECEIVED])
@pytest.mark.parametrize(("code", "subcode"), NOTIFICATIONS)
@pytest.mark.parametrize("mesh", [False, True])
def test_every_notification_has_a_cause_and_a_fix_and_none_names_a_field_of_a_node(
    direction: Direction, code: int, subcode: int, *, mesh: bool
) -> None:
    why = cause(replace(ROUTER, name="node/b" if mesh else ROUTER.name, mesh=mesh), down(direction, code, subcode))

    assert why is not None
    assert why.text
    assert why.fix.endswith(".")
    assert "Node b" not in why.text + why.fix


def test_a_session_that_was_lost_is_not_one_that_is_closed_again_and_again() -> None:
    lost = replace(down(LOCAL, 0, 0, TRANSPORT_CLOSED), flaps=1, since=NOW)
    why, later = cause(ROUTER, lost), cause(ROUTER, replace(lost, since=NOW - 9))

    assert why is not None
    assert later is not None
    assert "ended without a NOTIFICATION" in why.text
    assert "closes it without a word" in later.text


def test_settings_that_must_be_alike_are_named_with_what_they_are_here() -> None:
    secret = replace(ROUTER, password=Password("never shown"), ttl_security_hops=1)
    why = cause(secret, down(LOCAL, 0, 0, TIMED_OUT))

    assert why is not None
    assert "here: with a password, `ttlSecurityHops` of BGPPeer tor-a is 1 here" in why.fix
    assert "never shown" not in why.fix


def test_a_passive_session_that_nobody_dialed_says_for_whom_it_waits() -> None:
    why = cause(replace(ROUTER, passive=True), PeerState())

    assert why is not None
    assert why.text == f"waits for {TOR} to dial {US} port 179"


@pytest.mark.parametrize("why", [REFUSED, TIMED_OUT, NO_HOST, NO_ROUTE])
def test_how_dials_failed_says_nothing_of_a_session_that_has_become_passive(why: str) -> None:
    found = cause(replace(ROUTER, passive=True), down(LOCAL, 0, 0, why))

    assert found is not None
    assert found.text == f"waits for {TOR} to dial {US} port 179"


def test_a_passive_session_that_was_lost_is_not_dialed_from_here() -> None:
    secret = replace(ROUTER, passive=True, password=Password("never shown"))
    found = cause(secret, replace(down(LOCAL, 0, 0, TRANSPORT_CLOSED), flaps=1, since=NOW))

    assert found is not None
    assert "it dials again; else see why it does not, on its side (here: with a password" in found.fix


def test_a_session_that_waits_to_be_dialed_after_there_was_one_has_been_tried() -> None:
    scene = Scene()
    scene.peers[TOR6] = replace(scene.peers[TOR6], passive=True)
    scene.states[TOR6] = PeerState(flaps=1, since=NOW)
    answer = explain(scene.status(), "tor-b")

    assert answer is not None
    assert [hop["reason"] for hop in answer["hops"] if "waits for" in hop["text"]] == ["notEstablished"]


def test_a_session_of_which_exabgp_could_not_be_told_is_not_about_to_be_dialed() -> None:
    scene = Scene()
    scene.states[TOR6] = PeerState()
    scene.problems.add(Problem("configurationRefused", "ExaBGP", "cannot check the configuration: killed", "Wait."))
    text = render.peers(peers_view(scene.status(), NOW), wide=False, colour=False)
    answer = explain(scene.status(), "tor-b")

    assert "! BGPPeer/tor-b: it is not tried: cannot check the configuration: killed. Fix: Wait." in text.splitlines()
    assert answer is not None
    assert "it is not tried: cannot check" in str(answer["hops"])

    scene.states[TOR6] = PeerState(state=SessionState.OPEN_SENT)
    assert "not tried" not in render.peers(peers_view(scene.status(), NOW), wide=False, colour=False)


def test_below_the_table_is_a_line_for_each_session_that_should_be_up_and_is_not() -> None:
    scene = Scene()
    lines = render.peers(peers_view(scene.status(), NOW), wide=False, colour=False).splitlines()
    assert [line.partition(": ")[0] for line in lines if line.startswith("!")] == ["! BGPPeer/tor-b"]
    assert "! BGPPeer/tor-b: " in render.peer(peer_view(scene.status(), TOR6, NOW), colour=False)

    scene.peers[TOR6] = replace(scene.peers[TOR6], held=Held("shutdown"))
    assert "\n!" not in render.peers(peers_view(scene.status(), NOW), wide=False, colour=False)


def test_a_mesh_that_is_down_as_a_whole_is_not_a_wall_of_lines() -> None:
    scene = Scene()
    for number in range(1, 51):
        address = ip_address(f"198.18.0.{number}")
        scene.peers[address] = peer(address, f"node/n{number}", 64512, mesh=True)
    text = render.peers(peers_view(scene.status(), NOW), wide=False, colour=False)

    said = [line for line in text.splitlines() if line.startswith("!")]
    assert len(said) == render.CAUSES_MAX + 1
    assert said[-1] == "! … and 31 more: see `bgpilot explain PEER`"
