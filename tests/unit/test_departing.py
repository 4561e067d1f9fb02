"""The clock of a drain (`agent.departing`)."""

from __future__ import annotations

import pytest

from agent.departing import LASTS_SECONDS, MEETING_SECONDS, Departing
from agent.plan.leaving import Cause, Leave, Progress

ASKED, TAINTED = Leave(Cause.DRAINED, "rack 7"), Leave(Cause.TAINTED, "shutdown")


def _staying() -> Departing:
    """An agent that has planned, and does not leave."""
    departing = Departing()
    departing.see(None, 0.0)
    return departing


def _stages(departing: Departing, leave: Leave, *, until: float) -> list[tuple[float, Progress]]:
    """When which stage began, looking whenever the next one is due."""
    found, now = [(0.0, departing.progress)], 0.0
    departing.see(leave, now)
    while (due_at := departing.next_look_at) is not None and due_at <= until:
        now = due_at
        found.append((now, departing.go_on(now, told=True)))
        departing.see(leave, now)
    return found


def test_each_stage_lasts_as_long_as_others_need_to_see_it():
    assert _stages(_staying(), ASKED, until=60.0) == [
        (0.0, Progress.ASKED),
        (2.0, Progress.SERVICES),
        (7.0, Progress.PODS),
        (7.5, Progress.OVER),
    ]


def test_sessions_end_only_when_all_withdrawals_have_been_sent():
    departing = _staying()
    _stages(departing, ASKED, until=7.0)

    assert departing.go_on(60.0, told=False) is Progress.PODS
    assert not departing.is_over
    assert departing.go_on(60.0, told=True) is Progress.OVER
    assert departing.is_over


def test_a_taint_goes_no_further_than_service_addresses_until_the_agent_ends():
    departing = _staying()

    assert _stages(departing, TAINTED, until=600.0) == [(0.0, Progress.ASKED), (2.0, Progress.SERVICES)]
    departing.end(600.0)
    assert departing.progress is Progress.PODS
    assert departing.go_on(600.0 + LASTS_SECONDS[Progress.PODS], told=True) is Progress.OVER


def test_an_agent_that_starts_with_a_reason_to_leave_tells_nothing_again():
    departing = Departing()
    assert departing.go_on(0.0, told=False) is Progress.OVER
    departing.see(ASKED, 0.0)

    assert departing.is_over
    assert departing.next_look_at is None


def test_an_agent_that_starts_tainted_keeps_its_pod_cidrs():
    departing = Departing()
    departing.see(TAINTED, 0.0)

    assert departing.go_on(1.0, told=True) is Progress.SERVICES


def test_who_is_asked_to_go_after_a_taint_gives_pods_their_time():
    departing = _staying()
    _stages(departing, TAINTED, until=60.0)
    departing.see(ASKED, 60.0)

    assert departing.go_on(60.0, told=True) is Progress.SERVICES
    assert departing.next_look_at == 60.0 + LASTS_SECONDS[Progress.SERVICES]


@pytest.mark.parametrize("until", [0.0, 2.0, 7.0, 60.0])
def test_who_stays_after_all_leaves_from_the_beginning_the_next_time(until: float):
    departing = _staying()
    _stages(departing, ASKED, until=until)
    departing.see(None, until)
    departing.see(ASKED, 100.0)

    assert departing.go_on(100.0, told=True) is Progress.ASKED
    assert departing.next_look_at == 102.0


def test_an_agent_that_ends_waits_for_nothing_but_its_last_withdrawals():
    departing = _staying()
    departing.see(ASKED, 0.0)
    departing.end(0.1)

    assert departing.progress is Progress.PODS
    assert departing.next_look_at == 0.1 + LASTS_SECONDS[Progress.PODS]


def test_an_agent_that_ends_and_stays_on_its_node_leaves_nothing():
    departing = _staying()
    departing.end(0.1)

    assert departing.progress is Progress.ASKED
    assert not departing.is_over


def test_an_agent_that_ends_and_is_uninstalled_withdraws_all_at_once_and_then_ends_the_sessions():
    departing = _staying()
    departing.end(60.0, uninstalled=True)
    first = departing.go_on(60.0, told=False)
    departing.see(Leave(Cause.UNINSTALLED), 60.0)
    over_at = 60.0 + LASTS_SECONDS[Progress.PODS]

    assert first is Progress.PODS
    assert departing.go_on(over_at, told=False) is Progress.PODS
    assert departing.go_on(over_at, told=True) is Progress.OVER
    assert departing.is_over


def test_an_agent_that_ends_without_a_reason_tells_all_as_usual():
    departing = _staying()
    departing.end(60.0)

    assert departing.go_on(60.0, told=True) is Progress.ASKED
    assert not departing.is_over


@pytest.mark.parametrize("found", [Progress.ASKED, Progress.SERVICES])
def test_an_agent_that_starts_where_routers_hold_what_was_told_goes_on_from_there_when_it_has_met_them(
    found: Progress,
):
    departing = Departing()
    departing.found(found)
    departing.see(ASKED, 0.0)

    assert departing.go_on(5.0, told=True, met=False) is found
    assert departing.go_on(6.0, told=False, met=True) is found
    assert departing.next_look_at == MEETING_SECONDS
    assert departing.go_on(7.0, told=True, met=True) is found
    assert departing.next_look_at == 7.0 + LASTS_SECONDS[found]
    assert departing.go_on(7.0 + LASTS_SECONDS[found], told=True) is Progress(found + 1)


def test_an_agent_that_starts_does_not_wait_for_ever_for_a_router_that_is_away():
    departing = Departing()
    departing.found(Progress.ASKED)
    departing.see(ASKED, 0.0)
    departing.go_on(MEETING_SECONDS, told=False, met=False)

    assert departing.next_look_at == MEETING_SECONDS + LASTS_SECONDS[Progress.ASKED]


def test_an_agent_that_starts_and_ends_at_once_waits_for_nobody():
    departing = Departing()
    departing.found(Progress.ASKED)
    departing.see(ASKED, 0.0)
    departing.end(1.0)

    assert departing.go_on(1.0 + LASTS_SECONDS[Progress.PODS], told=True, met=False) is Progress.OVER


def test_an_agent_that_starts_tainted_withdraws_service_addresses_when_others_have_been_chosen():
    departing = Departing()
    departing.found(Progress.ASKED)

    assert _stages(departing, TAINTED, until=60.0) == [
        (0.0, Progress.ASKED),
        (MEETING_SECONDS, Progress.ASKED),
        (MEETING_SECONDS + LASTS_SECONDS[Progress.ASKED], Progress.SERVICES),
    ]
