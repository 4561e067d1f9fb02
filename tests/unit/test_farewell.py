"""When sessions that are no longer wanted may end (`agent.farewell`)."""

from __future__ import annotations

from agent.farewell import PARTING_CAP_SECONDS, PARTING_SECONDS, Farewells

ALL = frozenset({"node-1", "node-2"})


def test_a_session_outlives_its_replacement_by_as_long_as_a_picture_may_be_behind() -> None:
    farewells = Farewells()

    assert farewells.over(ALL, 100.0, replaced=True) == frozenset()
    assert farewells.next_look_at == 100.0 + PARTING_SECONDS
    assert farewells.over(ALL, 100.0 + PARTING_SECONDS - 0.1, replaced=True) == frozenset()
    assert farewells.over(ALL, 100.0 + PARTING_SECONDS, replaced=True) == ALL


def test_a_session_whose_replacement_is_not_in_place_stays_until_the_cap() -> None:
    farewells = Farewells()
    farewells.over(ALL, 0.0, replaced=False)

    assert farewells.over(ALL, PARTING_CAP_SECONDS - 0.1, replaced=False) == frozenset()
    assert farewells.next_look_at == PARTING_CAP_SECONDS
    assert farewells.over(ALL, PARTING_CAP_SECONDS, replaced=False) == ALL


def test_each_session_has_a_clock_of_its_own() -> None:
    farewells = Farewells()
    farewells.over({"node-1"}, 0.0, replaced=True)

    assert farewells.over(ALL, PARTING_SECONDS, replaced=True) == {"node-1"}
    assert farewells.next_look_at == 2 * PARTING_SECONDS


def test_a_session_that_was_wanted_again_starts_anew() -> None:
    farewells = Farewells()
    farewells.over({"node-1"}, 0.0, replaced=True)
    farewells.over((), 10.0, replaced=True)

    assert farewells.next_look_at is None
    assert farewells.over({"node-1"}, PARTING_SECONDS, replaced=True) == frozenset()
