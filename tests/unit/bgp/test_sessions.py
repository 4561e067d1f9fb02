"""What becomes of a peer's state as ExaBGP's events come in."""

from ipaddress import IPv4Address, ip_address
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bgp.endings import NO_HOST, NO_ROUTE, REFUSED, TIMED_OUT, TRANSPORT_CLOSED, describe
from bgp.exaevents import CameUp, Heard, Notified, Opened, Refreshed, StateChanged, WentDown
from bgp.model import (
    Address,
    Direction,
    EndOfRib,
    Family,
    Held,
    PathsHeard,
    Peer,
    SessionDown,
    SessionError,
    SessionState,
    SessionUp,
)
from bgp.sessions import Sessions

PEER = ip_address("192.0.2.1")


def opened(direction: Direction, **more: Any) -> Opened:
    said: dict[str, Any] = {
        "peer": PEER,
        "direction": direction,
        "asn": 65001,
        "hold_seconds": 90,
        "router_id": IPv4Address("192.0.2.1"),
        "families": frozenset(Family),
        "restart_seconds": 120,
        "restarting": False,
        "restart_families": frozenset(),
        "forwarding_kept": frozenset(),
        "route_refresh": True,
    }
    return Opened(**{**said, **more})


def wanted(**more: Any) -> Peer:
    said: dict[str, Any] = {"name": "node/x", "local_asn": 64512, "peer_asn": 64512, "families": frozenset(Family)}
    local = IPv4Address("192.0.2.9")
    return Peer(address=PEER, local_address=local, router_id=local, **{**said, **more})


SENT = opened(Direction.SENT, asn=64512)
RECEIVED = opened(Direction.RECEIVED)
UP = CameUp(PEER, "1.0")


def after(*events: Heard) -> Sessions:
    sessions = Sessions()
    sessions.configure([PEER])
    for now, event in enumerate(events):
        sessions.heard(event, float(now))
    return sessions


def test_a_session_goes_through_the_states_of_the_rfc() -> None:
    sessions = Sessions()
    sessions.configure([PEER])
    seen = [sessions.states[PEER].state]
    steps: list[Heard] = [StateChanged(PEER, state) for state in (SessionState.CONNECT, SessionState.OPEN_SENT)]
    for event in [*steps, SENT, RECEIVED, StateChanged(PEER, SessionState.OPEN_CONFIRM), UP, WentDown(PEER, "x")]:
        sessions.heard(event, 0.0)
        if sessions.states[PEER].state != seen[-1]:
            seen.append(sessions.states[PEER].state)

    assert seen == [
        SessionState.IDLE,
        SessionState.CONNECT,
        SessionState.OPEN_SENT,
        SessionState.OPEN_CONFIRM,
        SessionState.ESTABLISHED,
        SessionState.IDLE,
    ]


@pytest.mark.parametrize(("ours", "theirs", "held"), [(90, 9, 9), (9, 90, 9), (0, 90, 0), (90, 0, 0)])
def test_the_smaller_hold_time_holds_and_zero_means_none(ours: int, theirs: int, held: int) -> None:
    sent, received = opened(Direction.SENT, hold_seconds=ours), opened(Direction.RECEIVED, hold_seconds=theirs)
    up = after(sent, received, UP).states[PEER].up

    assert up is not None
    assert up.hold_seconds == held


def test_families_are_those_that_both_have() -> None:
    received = opened(Direction.RECEIVED, families=frozenset({Family.IPV6}))
    up = after(SENT, received, UP).states[PEER].up

    assert up is not None
    assert up.families == frozenset({Family.IPV6})


def test_a_session_told_twice_comes_up_once_and_another_one_again() -> None:
    sessions = after(SENT, RECEIVED)

    assert [type(event) for event in sessions.heard(UP, 1.0)] == [SessionUp]
    assert sessions.heard(UP, 2.0) == []
    assert [type(event) for event in sessions.heard(CameUp(PEER, "2.0"), 3.0)] == [SessionUp]


@pytest.mark.parametrize(
    ("notified", "without"),
    [([], True), ([Notified(PEER, Direction.SENT, 4, 0, "")], False)],
    ids=["none", "hold-timer"],
)
def test_a_session_that_ends_says_whether_there_was_a_notification(notified: list[Heard], without: bool) -> None:
    (down,) = after(SENT, RECEIVED, UP, *notified).heard(WentDown(PEER, "x"), 9.0)

    assert isinstance(down, SessionDown)
    assert down.without_notification is without


@pytest.mark.parametrize(
    ("code", "subcode", "returning"),
    [
        *((*kept, True) for kept in [(0, 0), (6, 3), (6, 4), (6, 6)]),
        *((*ended, False) for ended in [(6, 2), (6, 5), (6, 9), (4, 0), (1, 3), (2, 4), (3, 4), (5, 3)]),
    ],
)
@pytest.mark.parametrize("direction", [Direction.SENT, Direction.RECEIVED])
def test_another_node_that_only_changes_its_session_returns(
    direction: Direction, code: int, subcode: int, returning: bool
) -> None:
    notified = [Notified(PEER, direction, code, subcode, "")] if code else []
    for peers, expected in (
        ({PEER: wanted(mesh=True)}, returning),
        ({PEER: wanted()}, False),
        ({PEER: wanted(mesh=True, held=Held("shutdown"))}, False),
        ({}, False),
    ):
        sessions = after(SENT, RECEIVED, UP, *notified)
        sessions.want(peers, 8.0)
        (down,) = sessions.heard(WentDown(PEER, "x"), 9.0)

        assert isinstance(down, SessionDown)
        assert down.returning is expected


RECONFIGURED = "its configuration has changed"
"""Ours (`bgp.inside.patches`)."""


@pytest.mark.parametrize(
    ("peers", "direction", "subcode", "anew"),
    [
        *(({PEER: wanted()}, Direction.SENT, subcode, True) for subcode in (0, 3, 4, 6)),
        *(({PEER: wanted()}, Direction.SENT, subcode, False) for subcode in (1, 2, 5, 9)),
        ({PEER: wanted()}, Direction.RECEIVED, 6, False),
        ({PEER: wanted(mesh=True)}, Direction.SENT, 6, False),
        ({PEER: wanted(held=Held("maxPrefixesExceeded"))}, Direction.SENT, 3, False),
        ({}, Direction.SENT, 3, False),
    ],
)
def test_a_session_with_a_router_that_we_end_for_another_setting_is_begun_anew(
    peers: dict[Address, Peer], direction: Direction, subcode: int, anew: bool
) -> None:
    notified = [Notified(PEER, direction, 6, subcode, "")] if subcode else []
    sessions = after(SENT, RECEIVED, UP, *notified)
    sessions.want(peers, 8.0)
    (down,) = sessions.heard(WentDown(PEER, "x" if subcode else RECONFIGURED), 9.0)

    assert isinstance(down, SessionDown)
    assert down.begun_anew is anew


def test_a_lost_session_is_a_flap_with_the_notification_as_its_cause() -> None:
    sessions = after(SENT, RECEIVED, UP, Notified(PEER, Direction.RECEIVED, 6, 2, "maintenance"))
    (down,) = sessions.heard(WentDown(PEER, "notification received (6,2)"), 9.0)

    state = sessions.states[PEER]
    assert down == SessionDown(PEER, "received 6/2 Administrative Shutdown: maintenance")
    assert (state.flaps, state.since, state.up) == (1, 9.0, None)
    assert state.last_error == SessionError(Direction.RECEIVED, 6, 2, "maintenance", 9.0)


OUR_WORDS = [
    "closing",
    "its configuration has changed",
    "stop, message [removed]",
    "graceful restarted negotiated, closing without sending any notification",
]
BY_US: list[list[Heard]] = [[WentDown(PEER, words)] for words in OUR_WORDS]
BY_US += [[Notified(PEER, Direction.SENT, 6, code, ""), WentDown(PEER, "notification sent")] for code in (3, 4, 6)]


@pytest.mark.parametrize("ending", BY_US, ids=str)
def test_a_session_that_we_end_to_begin_anew_is_lost_and_has_no_cause(ending: list[Heard]) -> None:
    sessions = after(SENT, RECEIVED, UP)
    (down,) = [meant for event in ending for meant in sessions.heard(event, 9.0)]
    assert isinstance(down, SessionDown)
    assert down.was_up
    assert "message" not in down.reason
    state = sessions.states[PEER]
    assert (state.flaps, state.since, state.last_error) == (1, 9.0, None)


@pytest.mark.parametrize("ending", BY_US, ids=str)
def test_an_attempt_that_we_end_to_begin_anew_is_no_news_and_hides_nothing(ending: list[Heard]) -> None:
    sessions = after(WentDown(PEER, TIMED_OUT))
    told = [meant for event in ending for meant in sessions.heard(event, 9.0)]
    assert told == []

    error = sessions.states[PEER].last_error
    assert error == SessionError(Direction.LOCAL, 0, 0, TIMED_OUT, 0.0)


def test_what_fails_after_we_have_begun_anew_is_the_cause() -> None:
    sessions = after(SENT, RECEIVED, UP, *BY_US[-1], WentDown(PEER, "closing"))
    sessions.heard(WentDown(PEER, TIMED_OUT), 9.0)

    assert sessions.states[PEER].last_error == SessionError(Direction.LOCAL, 0, 0, TIMED_OUT, 9.0)


@pytest.mark.parametrize(("code", "subcode"), [(6, 1), (6, 2), (2, 2), (4, 0)])
def test_what_we_say_of_the_state_of_things_is_a_cause(code: int, subcode: int) -> None:
    sessions = after(SENT, RECEIVED, UP, Notified(PEER, Direction.SENT, code, subcode, ""), WentDown(PEER, "x"))
    error = sessions.states[PEER].last_error

    assert error is not None
    assert (error.code, error.subcode) == (code, subcode)


def test_the_cause_of_one_session_is_not_that_of_the_next() -> None:
    hold_timer = Notified(PEER, Direction.SENT, 4, 0, "")
    sessions = after(SENT, RECEIVED, UP, hold_timer, WentDown(PEER, "x"), SENT, RECEIVED, CameUp(PEER, "2.0"))
    sessions.heard(WentDown(PEER, "closing connection"), 9.0)

    error = sessions.states[PEER].last_error
    assert error == SessionError(Direction.LOCAL, 0, 0, TRANSPORT_CLOSED, 9.0)


def test_dials_that_fail_do_not_hide_what_ended_the_session() -> None:
    sessions = after(SENT, RECEIVED, UP, Notified(PEER, Direction.SENT, 4, 0, ""), WentDown(PEER, "x"))
    cause, since = sessions.states[PEER].last_error, sessions.states[PEER].since
    reasons = ("closing connection", REFUSED, TIMED_OUT, NO_HOST, NO_ROUTE)
    told = [sessions.heard(WentDown(PEER, reason), 9.0) for reason in reasons]

    state = sessions.states[PEER]
    assert not any(told)
    assert cause is not None
    assert (cause.code, cause.at) == (4, since)
    assert (state.last_error, state.since, state.flaps) == (cause, since, 1)


def test_after_a_session_that_was_cut_off_it_shows_why_dials_fail_and_is_told_once() -> None:
    sessions = after(SENT, RECEIVED, UP, WentDown(PEER, "closing connection"))
    told = [sessions.heard(WentDown(PEER, REFUSED), now) for now in (9.0, 10.0)]

    assert [len(events) for events in told] == [1, 0]
    assert sessions.states[PEER].last_error == SessionError(Direction.LOCAL, 0, 0, REFUSED, 10.0, count=2)


def test_who_has_said_why_and_then_just_closes_still_means_it_until_nobody_is_there() -> None:
    sessions = after(SENT, Notified(PEER, Direction.RECEIVED, 2, 2, ""), WentDown(PEER, "x"))
    sessions.heard(WentDown(PEER, "closing connection"), 9.0)
    error = sessions.states[PEER].last_error
    assert error is not None
    assert (error.code, error.subcode) == (2, 2)

    sessions.heard(WentDown(PEER, REFUSED), 10.0)
    assert sessions.states[PEER].last_error == SessionError(Direction.LOCAL, 0, 0, REFUSED, 10.0)


def test_a_cease_is_worth_more_than_the_refusals_after_it() -> None:
    sessions = after(SENT, Notified(PEER, Direction.RECEIVED, 6, 1, ""), WentDown(PEER, "x"), WentDown(PEER, REFUSED))

    error = sessions.states[PEER].last_error
    assert error is not None
    assert (error.code, error.subcode) == (6, 1)


def test_a_notification_that_answers_a_dial_is_news_after_a_lost_session() -> None:
    sessions = after(SENT, RECEIVED, UP, WentDown(PEER, "closing connection"))
    sessions.heard(Notified(PEER, Direction.RECEIVED, 2, 2, ""), 8.0)
    sessions.heard(WentDown(PEER, "x"), 9.0)

    assert sessions.states[PEER].last_error == SessionError(Direction.RECEIVED, 2, 2, "", 9.0)


def test_attempts_before_the_first_session_are_no_error_once_it_is_up_and_the_end_of_a_session_stays() -> None:
    sessions = after(WentDown(PEER, "closing connection"), SENT, RECEIVED, UP)
    assert sessions.states[PEER].last_error is None

    for event in (WentDown(PEER, "closing connection"), SENT, RECEIVED, CameUp(PEER, "2.0")):
        sessions.heard(event, 9.0)
    assert sessions.states[PEER].last_error == SessionError(Direction.LOCAL, 0, 0, TRANSPORT_CLOSED, 9.0)


def test_attempts_that_fail_alike_are_counted_and_told_once() -> None:
    sessions = after()
    told = [sessions.heard(WentDown(PEER, "closing connection"), float(now)) for now in range(3)]

    assert [len(events) for events in told] == [1, 0, 0]
    assert sessions.states[PEER].last_error == SessionError(Direction.LOCAL, 0, 0, TRANSPORT_CLOSED, 2.0, count=3)
    assert sessions.states[PEER].flaps == 0


def test_end_of_rib_and_the_end_of_a_refresh_both_mean_that_all_has_been_heard() -> None:
    sessions = after(SENT, RECEIVED, UP)

    assert sessions.heard(EndOfRib(PEER, Family.IPV4), 1.0) == [EndOfRib(PEER, Family.IPV4)]
    assert sessions.heard(Refreshed(PEER, Family.IPV6), 1.0) == [EndOfRib(PEER, Family.IPV6)]
    assert sessions.states[PEER].synced == frozenset(Family)
    sessions.heard(WentDown(PEER, "x"), 2.0)
    assert sessions.states[PEER].synced == frozenset()


def test_paths_pass_through() -> None:
    heard = PathsHeard(PEER)

    assert after(SENT, RECEIVED, UP).heard(heard, 0.0) == [heard]


@pytest.mark.parametrize("event", [PathsHeard(PEER), EndOfRib(PEER, Family.IPV4), Refreshed(PEER, Family.IPV4)])
def test_what_comes_before_the_session_is_up_or_after_its_end_means_nothing(event: Heard) -> None:
    for before in ([], [SENT], [SENT, RECEIVED], [SENT, RECEIVED, UP, WentDown(PEER, "x")]):
        sessions = after(*before)

        assert sessions.heard(event, 9.0) == []
        assert sessions.states[PEER].synced == frozenset()


def test_when_exabgp_is_lost_every_session_is_down_and_comes_up_anew() -> None:
    sessions = after(SENT, RECEIVED, UP)
    sessions.lost("ExaBGP ended with signal SIGKILL", 5.0)

    state = sessions.states[PEER]
    assert (state.state, state.up, state.flaps, state.since) == (SessionState.IDLE, None, 1, 5.0)
    assert [type(event) for event in sessions.heard(UP, 6.0)] == [SessionUp]


def test_a_removed_peer_is_forgotten_with_its_last_words() -> None:
    sessions = after(SENT, RECEIVED, UP)
    sessions.configure([])
    for event in (WentDown(PEER, "stop, message [removed]"), StateChanged(PEER, SessionState.IDLE)):
        sessions.heard(event, 9.0)

    assert PEER not in sessions.states


def test_peers_that_stay_keep_their_state() -> None:
    sessions = after(SENT, RECEIVED, UP)
    sessions.configure([PEER, ip_address("192.0.2.2")])

    assert sessions.states[PEER].state is SessionState.ESTABLISHED
    assert sessions.states[ip_address("192.0.2.2")].state is SessionState.IDLE


def test_a_session_whose_opens_were_forgotten_is_up_all_the_same() -> None:
    state = after(UP).states[PEER]

    assert state.up is not None
    assert state.up.router_id is None


def test_an_unknown_subcode_is_described_by_its_code() -> None:
    assert describe(SessionError(Direction.SENT, 2, 99, "", 0.0)) == "sent 2/99 OPEN Message Error"
    assert describe(SessionError(Direction.SENT, 99, 1, "x", 0.0)) == "sent 99/1 : x"


EVENTS = [
    SENT,
    RECEIVED,
    UP,
    CameUp(PEER, "2.0"),
    WentDown(PEER, "closing connection"),
    Notified(PEER, Direction.SENT, 4, 0, ""),
    StateChanged(PEER, SessionState.CONNECT),
    EndOfRib(PEER, Family.IPV4),
]


@given(st.lists(st.sampled_from(EVENTS), max_size=30))
def test_up_is_known_exactly_while_the_state_says_established(events: list[Heard]) -> None:
    sessions = Sessions()
    sessions.configure([PEER])
    up = False
    for event in events:
        for meant in sessions.heard(event, 0.0):
            if isinstance(meant, SessionUp):
                up = True
            elif isinstance(meant, SessionDown):
                up = False
        state = sessions.states[PEER]
        assert (state.state is SessionState.ESTABLISHED) == (state.up is not None) == up


def test_attempts_that_fail_in_two_ways_by_turns_are_told_once_for_each_until_a_session_comes_up() -> None:
    sessions = after()
    attempts: list[list[Heard]] = [
        [WentDown(PEER, "closing connection")],
        [Notified(PEER, Direction.RECEIVED, 2, 2, ""), WentDown(PEER, "x")],
    ]
    told = [meant for attempt in attempts * 3 for event in attempt for meant in sessions.heard(event, 1.0)]

    assert [(down.reason, down.was_up) for down in told if isinstance(down, SessionDown)] == [
        (TRANSPORT_CLOSED, False),
        ("received 2/2 Bad Peer AS", False),
    ]
    for event in (SENT, RECEIVED, UP):
        sessions.heard(event, 2.0)
    (lost,) = sessions.heard(WentDown(PEER, "closing connection"), 3.0)
    assert isinstance(lost, SessionDown)
    assert lost.was_up
    (anew,) = [meant for event in attempts[1] for meant in sessions.heard(event, 4.0)]
    assert isinstance(anew, SessionDown)
    assert not anew.was_up


def test_a_peer_that_is_held_is_idle_with_the_reason_and_forgets_it_when_released() -> None:
    sessions = Sessions()
    sessions.want({PEER: wanted(held=Held("shutdown", "back at noon"))}, 5.0)
    sessions.configure([])

    assert sessions.states[PEER].last_error == SessionError(Direction.LOCAL, 0, 0, "shutdown: back at noon", 5.0)
    sessions.want({PEER: wanted(held=Held("shutdown", "back at noon"))}, 6.0)
    assert sessions.states[PEER].last_error == SessionError(Direction.LOCAL, 0, 0, "shutdown: back at noon", 5.0)
    sessions.want({PEER: wanted(held=Held("secretMissing"))}, 7.0)
    assert sessions.states[PEER].last_error == SessionError(Direction.LOCAL, 0, 0, "secretMissing", 7.0)
    sessions.want({}, 8.0)
    assert sessions.states[PEER].last_error is None


def test_a_session_whose_peer_becomes_held_is_shown_until_exabgp_has_it_no_more_and_is_no_flap() -> None:
    sessions = after(SENT, RECEIVED, UP)
    sessions.want({PEER: wanted(held=Held("shutdown"))}, 5.0)
    assert sessions.states[PEER].state is SessionState.ESTABLISHED

    sessions.configure([])
    last_words = [event for said in (WentDown(PEER, "x"), SENT) for event in sessions.heard(said, 6.0)]

    state = sessions.states[PEER]
    assert last_words == []
    assert (state.state, state.up, state.flaps, state.since) == (SessionState.IDLE, None, 0, 5.0)
    assert state.last_error == SessionError(Direction.LOCAL, 0, 0, "shutdown", 5.0)


def test_while_exabgp_is_silent_nothing_is_known_and_afterwards_sessions_are_what_they_were() -> None:
    sessions = after(SENT, RECEIVED, UP)
    before = sessions.states[PEER]
    sessions.silent("no answer", 9.0)

    state = sessions.states[PEER]
    assert (state.state, state.up, state.flaps, state.since) == (SessionState.IDLE, None, 0, 9.0)
    assert state.last_error == SessionError(Direction.LOCAL, 0, 0, "no answer", 9.0)
    sessions.speaks_again()
    assert sessions.states[PEER] == before
    assert [type(event) for event in sessions.heard(WentDown(PEER, "x"), 10.0)] == [SessionDown]


def test_an_exabgp_that_dies_in_its_silence_has_lost_its_sessions() -> None:
    sessions = after(SENT, RECEIVED, UP)
    sessions.silent("no answer", 9.0)
    sessions.lost("killed", 10.0)
    sessions.speaks_again()

    state = sessions.states[PEER]
    assert (state.state, state.flaps) == (SessionState.IDLE, 1)
    assert state.last_error == SessionError(Direction.LOCAL, 0, 0, "killed", 10.0)


def test_what_the_bridge_remembers_makes_the_state_that_an_agent_without_a_restart_has() -> None:
    shut = Notified(PEER, Direction.RECEIVED, 6, 2, "maintenance")
    refused = Notified(PEER, Direction.RECEIVED, 6, 5, "")
    past: list[tuple[float, list[Heard]]] = [(3.0, [shut, WentDown(PEER, "x")]), (5.0, [refused, WentDown(PEER, "x")])]
    lived, told = Sessions(), Sessions()
    for sessions in (lived, told):
        sessions.configure([PEER])
    for event in (SENT, RECEIVED, UP):
        lived.heard(event, 1.0)
    for at, events in past:
        for event in events:
            lived.heard(event, at)
    told.remember(PEER, 1, past)
    assert told.states[PEER] == lived.states[PEER]

    for sessions in (lived, told):
        for event in (SENT, RECEIVED, CameUp(PEER, "2.0")):
            sessions.heard(event, 7.0)
    assert told.states[PEER] == lived.states[PEER]
    assert told.states[PEER].flaps == 1


def test_a_peer_of_before_that_is_held_now_says_so() -> None:
    sessions = Sessions()
    sessions.want({PEER: wanted(held=Held("shutdown"))}, 5.0)
    sessions.remember(PEER, 2, [(3.0, [WentDown(PEER, "closing connection")])])

    state = sessions.states[PEER]
    assert (state.flaps, state.since) == (2, 3.0)
    assert state.last_error == SessionError(Direction.LOCAL, 0, 0, "shutdown", 5.0)


def test_a_session_is_wanted_since_it_was_asked_for_or_may_be_again() -> None:
    sessions = Sessions()
    sessions.want({PEER: wanted()}, 5.0)
    sessions.want({PEER: wanted()}, 6.0)
    assert sessions.wanted_at == {PEER: 5.0}

    sessions.want({PEER: wanted(held=Held("shutdown"))}, 7.0)
    assert sessions.wanted_at == {}

    sessions.want({PEER: wanted()}, 8.0)
    assert sessions.wanted_at == {PEER: 8.0}


SILENT = Notified(PEER, Direction.SENT, 4, 0, "")
DOWN = WentDown(PEER, "closing connection")


CAN_RESTART = {"restart_seconds": 30, "restart_families": frozenset({Family.IPV4})}


@pytest.mark.parametrize(
    ("ended", "node", "peers_open", "over_at"),
    [
        ([SILENT, DOWN], False, CAN_RESTART, 4.0),
        ([Notified(PEER, Direction.RECEIVED, 6, 2, "maintenance"), DOWN], True, CAN_RESTART, 4.0),
        ([Notified(PEER, Direction.RECEIVED, 6, 3, ""), DOWN], False, CAN_RESTART, 4.0),
        ([Notified(PEER, Direction.RECEIVED, 6, 3, ""), DOWN], True, CAN_RESTART, 34.0),
        ([DOWN], False, CAN_RESTART, 34.0),
        ([DOWN], False, {"restart_seconds": None}, 4.0),
        ([DOWN], False, {"restart_seconds": 30, "restart_families": frozenset()}, 4.0),
    ],
    ids=["silent", "shut down", "router", "node", "may be restarting", "cannot restart", "only helps others"],
)
def test_what_a_peer_has_told_counts_until_the_same_second_for_the_next_agent_as_for_the_one_that_heard_it(
    ended: list[Heard], node: bool, peers_open: dict[str, Any], over_at: float
) -> None:
    opens = [SENT, opened(Direction.RECEIVED, **peers_open)]
    refused = [Notified(PEER, Direction.RECEIVED, 6, 5, ""), DOWN]
    lived, told = Sessions(), Sessions()
    for event in (*opens, UP):
        lived.heard(event, 1.0)
    for at, events in ((4.0, ended), (5.0, refused)):
        for event in events:
            lived.heard(event, at)
    told.remember(PEER, 1, [(4.0, ended), (5.0, refused)], opens)
    for sessions in (lived, told):
        sessions.want({PEER: wanted(mesh=node)}, 6.0)

    assert (lived.over_at(PEER), told.over_at(PEER)) == (over_at, over_at)
    for sessions in (lived, told):
        for event in (SENT, RECEIVED, CameUp(PEER, "2.0")):
            sessions.heard(event, 7.0)
        assert sessions.over_at(PEER) is None


def test_of_a_session_of_which_nobody_knows_the_opens_it_is_not_said_for_how_long_it_counts() -> None:
    sessions = Sessions()
    sessions.remember(PEER, 1, [(4.0, [DOWN])])

    assert sessions.over_at(PEER) is None


@pytest.mark.parametrize("reason", ["its configuration has changed", "stop, message [restart]"])
def test_a_session_that_we_have_ended_to_begin_anew_is_not_over(reason: str) -> None:
    lived, told = after(SENT, RECEIVED, UP, WentDown(PEER, reason)), Sessions()
    told.remember(PEER, 1, [(4.0, [WentDown(PEER, reason)])], [SENT, RECEIVED])

    assert (lived.over_at(PEER), told.over_at(PEER)) == (None, None)


def test_of_another_exabgp_no_session_is_over() -> None:
    sessions = after(SENT, RECEIVED, UP, SILENT, DOWN)
    sessions.lost("ExaBGP is gone", 2.0)

    assert sessions.over_at(PEER) is None
