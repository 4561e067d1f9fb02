"""When ExaBGP dials a peer again: apart from ExaBGP."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bgp.inside.patience import FLAP_MAX_SECONDS, Patience, dial_delay, flap_delay, is_refusal, refusal_delay


@pytest.mark.parametrize(
    ("failures", "away_seconds", "delay"),
    [
        (1, 0, 0.25),
        (2, 1, 0.5),
        (3, 1, 0.5),
        (4, 2, 0.5),
        (100, 29, 0.5),
        (100, 31, 2.0),
        (100, 599, 2.0),
        (100, 601, 10.0),
        (9999, 1e6, 30.0),
    ],
)
def test_a_peer_that_is_away_is_dialed_often_at_first(failures: int, away_seconds: float, delay: float) -> None:
    assert dial_delay(failures, away_seconds) == delay


@pytest.mark.parametrize(("losses", "delay"), [(1, 0.0), (2, 0.5), (3, 1.0), (8, 32.0), (9, 60.0), (10_000, 60.0)])
def test_a_session_that_falls_again_and_again_waits_longer_each_time(losses: int, delay: float) -> None:
    assert flap_delay(losses) == delay


@pytest.mark.parametrize(("refusals", "delay"), [(1, 0.5), (2, 1.0), (5, 8.0), (7, 32.0), (8, 60.0), (10_000, 60.0)])
def test_who_refuses_again_and_again_is_asked_less_often_each_time_and_a_node_every_three_seconds(
    refusals: int, delay: float
) -> None:
    assert refusal_delay(refusals, node=False) == delay
    assert refusal_delay(refusals, node=True) == min(delay, 3.0)


@pytest.mark.parametrize(
    ("code", "subcode", "of_a_router", "of_a_node"),
    [
        (2, 2, True, True),
        (2, 7, True, True),
        (6, 2, True, False),
        (6, 3, True, False),
        (6, 5, True, False),
        (6, 4, False, False),
        (6, 6, False, False),
        (6, 7, False, False),
        (1, 1, False, False),
        (4, 0, False, False),
        (5, 1, False, False),
    ],
)
def test_neither_silence_nor_a_collision_nor_a_node_that_has_not_heard_of_us_is_a_refusal(
    code: int, subcode: int, of_a_router: bool, of_a_node: bool
) -> None:
    assert is_refusal(code, subcode, node=False) == of_a_router
    assert is_refusal(code, subcode, node=True) == of_a_node


@given(st.integers(min_value=1, max_value=10**6), st.floats(min_value=0, max_value=1e9))
def test_no_delay_is_longer_than_a_minute(count: int, away_seconds: float) -> None:
    assert 0 <= dial_delay(count, away_seconds) <= FLAP_MAX_SECONDS
    assert 0 <= flap_delay(count) <= FLAP_MAX_SECONDS
    assert 0 <= refusal_delay(count, node=False) <= FLAP_MAX_SECONDS


def test_a_new_peer_is_dialed_at_once_and_a_failed_dial_is_not_repeated_at_once() -> None:
    patience = Patience()
    assert not patience.backoff()

    patience.increase()
    assert patience.backoff()

    patience.reset()
    assert not patience.backoff()


def test_the_first_loss_of_a_session_is_followed_by_a_dial_at_once_and_the_second_is_not() -> None:
    patience = Patience()
    patience.lost()
    patience.increase()
    assert not patience.backoff()

    patience.reset()
    patience.lost()
    patience.increase()
    assert patience.backoff()


def waits(patience: Patience) -> float:
    return patience._until - time.monotonic()


def refused(patience: Patience, times: int) -> Patience:
    for _ in range(times):
        patience.refused(node=False)
        patience.increase()
    return patience


def test_refusals_count_until_there_was_a_session_or_its_configuration_has_changed() -> None:
    assert waits(refused(Patience(), 6)) > 11

    patience = refused(Patience(), 5)
    patience.forgive()
    assert waits(refused(patience, 1)) < 1


def test_a_connection_that_comes_in_is_taken_at_once_and_refused_as_those_before_it() -> None:
    patience = refused(Patience(), 5)
    patience.reset()
    assert not patience.backoff()

    assert waits(refused(patience, 1)) > 11


def test_a_router_that_goes_away_after_it_has_refused_is_dialed_often() -> None:
    patience = refused(Patience(), 9)
    patience.increase()

    assert waits(patience) < 1


def test_no_delay_is_longer_than_the_cap_whatever_the_reason_for_it() -> None:
    patience = Patience()
    patience.cap_seconds = 0.001
    for _ in range(8):
        patience.lost()
        patience.increase()
        patience.increase()
        patience.refused(node=False)
        patience.increase()
    ends_at = time.monotonic() + 0.001

    while time.monotonic() < ends_at:
        pass
    assert not patience.backoff()
