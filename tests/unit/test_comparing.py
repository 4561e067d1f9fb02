"""When the kernel's table is read again: after the plan has caught up, and not too late."""

from __future__ import annotations

from agent.comparing import DRIFT_SECONDS, FULL_COMPARE_SECONDS, UNJUDGED_SECONDS, Comparing


def compared() -> Comparing:
    """At second 0."""
    comparing = Comparing()
    comparing.done(0.0)
    return comparing


def test_the_first_time_it_is_due_at_once() -> None:
    assert Comparing().is_due(0.0)


def test_without_a_word_of_the_kernel_it_is_due_every_few_minutes() -> None:
    comparing = compared()

    assert not comparing.is_due(FULL_COMPARE_SECONDS - 1)
    assert comparing.rest(1.0) == FULL_COMPARE_SECONDS - 1
    assert comparing.is_due(FULL_COMPARE_SECONDS)


def test_what_the_kernel_says_of_routes_waits_a_moment_for_what_it_says_of_their_link() -> None:
    comparing = compared()

    comparing.hear(1.0, kernel=True, interfaces=False)
    assert not comparing.is_due(1.0)
    assert comparing.is_due(1.0 + DRIFT_SECONDS)

    comparing.hear(1.0, kernel=False, interfaces=True)
    assert comparing.is_due(1.0)


def test_more_words_of_the_kernel_do_not_put_it_off() -> None:
    comparing = compared()
    comparing.hear(1.0, kernel=True, interfaces=False)

    comparing.hear(1.0 + DRIFT_SECONDS, kernel=True, interfaces=False)

    assert comparing.is_due(1.0 + DRIFT_SECONDS)


def test_prefixes_that_wait_to_be_judged_come_first() -> None:
    comparing = compared()
    comparing.hear(1.0, kernel=False, interfaces=True)
    comparing.put_off(1.0, unjudged=True, more=True)
    comparing.put_off(1.1, unjudged=False, more=True)
    assert not comparing.is_due(1.1)

    comparing.put_off(1.2, unjudged=False, more=False)

    assert comparing.is_due(1.2)


def test_a_link_that_flaps_puts_it_off_for_a_while_only() -> None:
    comparing = compared()
    comparing.hear(1.0, kernel=False, interfaces=True)

    for second in range(1, 8):
        comparing.put_off(float(second), unjudged=True, more=True)

    assert comparing.is_due(1.0 + UNJUDGED_SECONDS)


def test_other_changes_that_wait_do_not_put_it_off() -> None:
    comparing = compared()
    comparing.hear(1.0, kernel=True, interfaces=True)

    comparing.put_off(1.0, unjudged=False, more=True)

    assert comparing.is_due(1.0)
