"""Endpoints that flip: what waits, how long, and what never does."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.damping import Damper
from agent.intent import Damping
from agent.model import EndpointSlice, Key, Kind
from bgp.model import Family

KEY = Key(Kind.ENDPOINT_SLICE, "default", "web-1")
NODES = ("a", "b")


def heard(ready: str = "", unready: str = "", serving: str = "") -> EndpointSlice:
    return EndpointSlice(
        namespace="default",
        name="web-1",
        service="web",
        family=Family.IPV4,
        ready=frozenset(ready),
        unready=frozenset(unready),
        serving=frozenset(serving),
    )


class Line:
    """A slice as it stands, while news of it comes."""

    def __init__(self, *, announce_seconds: float = 0.0) -> None:
        self.damper = Damper()
        self.damper.damping = Damping(withdraw_seconds=0.5, announce_seconds=announce_seconds)
        self.shown: EndpointSlice | None = None

    def hear(self, news: EndpointSlice, now: float) -> frozenset[str]:
        self.pass_time(now)
        self.shown = self.damper.take(KEY, self.shown, news, now)
        return self.shown.ready

    def pass_time(self, now: float) -> frozenset[str]:
        for _, record in self.damper.due(now):
            self.shown = record
        return self.shown.ready if self.shown is not None else frozenset()


def test_a_readiness_that_comes_back_in_time_was_never_gone():
    line = Line()
    assert line.hear(heard(ready="ab"), 0.0) == {"a", "b"}

    assert line.hear(heard(ready="a", unready="b"), 1.0) == {"a", "b"}
    assert line.hear(heard(ready="ab"), 1.4) == {"a", "b"}

    assert line.damper.next_at is None


def test_a_readiness_that_stays_away_counts_after_its_wait_and_not_later():
    line = Line()
    line.hear(heard(ready="ab"), 0.0)
    line.hear(heard(ready="a", unready="b"), 1.0)
    line.hear(heard(ready="a", unready="b"), 1.3)

    assert line.damper.next_at == 1.5
    assert line.pass_time(1.5) == {"a"}
    assert line.damper.next_at is None


def test_an_endpoint_that_goes_or_terminates_never_waits():
    for gone in (heard(ready="a"), heard(ready="a", serving="b")):
        line = Line()
        line.hear(heard(ready="ab"), 0.0)

        assert line.hear(gone, 1.0) == {"a"}


def test_an_endpoint_that_terminates_while_its_unreadiness_waits_is_gone_at_once():
    line = Line()
    line.hear(heard(ready="ab"), 0.0)
    line.hear(heard(ready="a", unready="b"), 1.0)

    assert line.hear(heard(ready="a", serving="b"), 1.1) == {"a"}


def test_the_first_readiness_settles_when_it_is_asked_to():
    line = Line(announce_seconds=2.0)
    line.hear(heard(ready="a"), 0.0)

    assert line.hear(heard(ready="ab"), 1.0) == {"a"}
    assert line.pass_time(3.0) == {"a", "b"}


def test_what_is_ready_in_a_new_slice_settles_as_well_once_all_slices_are_known():
    line = Line(announce_seconds=2.0)
    line.damper.forget_all()

    assert line.hear(heard(ready="a"), 1.0) == frozenset()
    assert line.hear(heard(ready="ab"), 2.0) == frozenset()
    assert line.pass_time(3.0) == {"a"}
    assert line.pass_time(4.0) == {"a", "b"}


def test_an_endpoint_that_another_slice_of_the_service_has_ready_only_moves_and_need_not_settle():
    line = Line(announce_seconds=2.0)
    line.damper.forget_all()

    taken = line.damper.take(KEY, None, heard(ready="ab"), 1.0, [heard(ready="a")])

    assert taken.ready == {"a"}


def test_a_slice_of_the_other_family_has_nothing_ready_for_this_one():
    line = Line(announce_seconds=2.0)
    line.damper.forget_all()

    taken = line.damper.take(KEY, None, heard(ready="a"), 1.0, [replace(heard(ready="a"), family=Family.IPV6)])

    assert taken.ready == frozenset()


class Moving:
    """Two slices of one service, `a` is ready in the old one; what routers would be told, as time goes on."""

    def __init__(self, *, withdraw_seconds: float = 0.5, announce_seconds: float = 60.0) -> None:
        self.damper, self.now = Damper(), 10.0
        self.damper.damping = Damping(withdraw_seconds=withdraw_seconds, announce_seconds=announce_seconds)
        self.slices = {OLD: heard(ready="a"), NEW: heard()}
        self.damper.forget_all()
        self.told = [self.usable()]

    def usable(self) -> frozenset[str]:
        return frozenset[str]().union(*(slice_.ready for slice_ in self.slices.values()))

    def write(self, key: Key, news: EndpointSlice) -> None:
        others = [slice_ for of, slice_ in self.slices.items() if of != key]
        self.slices[key] = self.damper.take(key, self.slices.get(key), news, self.now, others)
        self.told.append(self.usable())

    def delete(self, key: Key) -> None:
        self.damper.forget(key, self.slices.pop(key), self.now)
        self.told.append(self.usable())

    def wait(self, seconds: float) -> None:
        self.now += seconds
        for key, slice_ in self.damper.due(self.now):
            self.slices[key] = slice_
            self.told.append(self.usable())


OLD, NEW = (Key(Kind.ENDPOINT_SLICE, "default", name) for name in ("web-old", "web-new"))


@pytest.mark.parametrize("writes", list(permutations([(OLD, ""), (NEW, "a")])), ids=["old-first", "new-first"])
def test_an_endpoint_that_moves_to_another_slice_never_leaves_whichever_is_written_first(
    writes: tuple[tuple[Key, str], ...],
) -> None:
    moving = Moving()

    for key, ready in writes:
        moving.write(key, heard(ready=ready))
        moving.wait(0.15)
    moving.wait(100)

    assert set(moving.told) == {frozenset("a")}
    assert moving.slices == {OLD: heard(), NEW: heard(ready="a")}


def test_other_news_of_the_old_slice_does_not_end_the_move() -> None:
    moving = Moving()

    moving.write(OLD, heard())
    moving.write(OLD, heard(unready="b"))
    moving.write(NEW, heard(ready="a"))

    assert set(moving.told) == {frozenset("a")}


def test_what_is_gone_from_one_of_several_slices_is_gone_when_it_had_the_time_to_move() -> None:
    moving = Moving()

    moving.write(OLD, heard())
    moving.wait(0.15)
    assert moving.usable() == {"a"}
    moving.wait(0.05)

    assert moving.usable() == frozenset()


@pytest.mark.parametrize("left", [heard(serving="a"), heard(serving="a", unready="b")])
def test_what_terminates_in_one_of_several_slices_does_not_wait(left: EndpointSlice) -> None:
    moving = Moving()

    moving.write(OLD, left)

    assert moving.usable() == frozenset()


def test_what_was_not_ready_any_more_and_is_gone_does_not_wait_for_a_move() -> None:
    moving = Moving(withdraw_seconds=60.0)
    moving.write(OLD, heard(unready="a"))

    moving.write(OLD, heard())

    assert moving.usable() == frozenset()


def test_where_no_flip_is_to_wait_a_move_does_not_either() -> None:
    moving = Moving(withdraw_seconds=0.0)

    moving.write(OLD, heard())

    assert moving.usable() == frozenset()


@pytest.mark.parametrize(("pause", "counts"), [(0.9, True), (1.1, False)])
def test_what_has_left_with_its_slice_need_not_settle_in_another_one_soon_after(pause: float, *, counts: bool) -> None:
    moving = Moving()

    moving.delete(OLD)
    moving.wait(pause)
    moving.write(NEW, heard(ready="a"))

    assert (moving.usable() == {"a"}) is counts


def test_what_comes_back_in_the_same_slice_has_not_moved_and_settles() -> None:
    moving = Moving()

    moving.delete(OLD)
    moving.write(OLD, heard(ready="a"))

    assert moving.usable() == frozenset()


def test_what_has_not_settled_yet_has_nothing_to_take_along() -> None:
    moving = Moving()
    moving.write(OLD, heard(ready="ab"))

    moving.write(OLD, heard(ready="a"))
    moving.write(NEW, heard(ready="b"))

    assert moving.usable() == {"a"}


def test_a_slice_that_becomes_another_services_counts_as_it_is():
    line = Line()
    line.hear(heard(ready="ab"), 0.0)
    moved = EndpointSlice(namespace="default", name="web-1", service="api", family=Family.IPV4, unready=frozenset("ab"))

    assert line.hear(moved, 1.0) == frozenset()


def test_what_is_gone_is_not_told_again():
    line = Line()
    line.hear(heard(ready="ab"), 0.0)
    line.hear(heard(ready="a", unready="b"), 1.0)

    line.damper.forget(KEY, line.shown, 1.1)

    assert list(line.damper.due(9.0)) == []


_SLICES = st.builds(
    heard, *(st.lists(st.sampled_from(NODES), unique=True).map("".join) for _ in ("ready", "unready", "serving"))
)


@given(st.lists(st.tuples(_SLICES, st.sampled_from((0.1, 0.5, 3.0))), min_size=1), st.sampled_from((0.0, 2.0)))
def test_whatever_comes_the_slice_as_heard_counts_when_every_wait_is_over(
    news: list[tuple[EndpointSlice, float]], announce_seconds: float
) -> None:
    line, now = Line(announce_seconds=announce_seconds), 0.0
    for slice_, pause in news:
        now += pause
        line.hear(slice_, now)
        assert line.shown is not None
        assert line.shown.serving == slice_.serving

    line.pass_time(now + 2.0)

    assert line.shown == news[-1][0]
    assert line.damper.next_at is None
