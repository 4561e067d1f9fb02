"""An endpoint whose readiness flips: what routers hear of it, and when. FRR's versions and BIRD's log judge.

No test waits for a time to pass. That nothing is told is shown behind a mark, with waits that are longer than the test;
that something waited, by what BIRD wrote down: not so soon after the endpoint changed.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

import pytest

from tests.lab.announced import FAMILIES, FIRST, GONE, LEAVING, READY, SECOND, UNREADY, Scene, of, slice_, two_nodes
from tests.lab.minicluster import Object

pytestmark = pytest.mark.live

LONG = 60_000
"""Milliseconds: `Scene.told` gives up before."""
VIPS = ("198.51.100.80", "2001:db8::80")
"""Of `of(80)`."""
LEAVES: dict[str, list[tuple[str, Object]]] = {
    "deleted": [(SECOND, READY)],
    "terminating": [(FIRST, LEAVING), (SECOND, READY)],
    "terminated": [(FIRST, GONE), (SECOND, READY)],
}
"""How the first node's endpoint leaves."""
leaves = pytest.mark.parametrize("left", LEAVES.values(), ids=LEAVES)


@pytest.fixture(scope="module")
def built() -> Iterator[Scene]:
    yield from two_nodes()


@pytest.fixture
def scene(built: Scene) -> Iterator[Scene]:
    """With a Service under policy Local."""
    built.local("web", 80)
    yield built
    built.clear()


# Not ready any more.


def test_a_readiness_that_comes_back_before_the_wait_is_over_is_told_to_nobody(scene: Scene) -> None:
    scene.damp(withdrawMilliseconds=LONG)
    scene.ready("web", FIRST, SECOND)
    scene.told(of(80, FIRST, SECOND))
    before = scene.heard(*VIPS)

    scene.endpoints("web", (FIRST, UNREADY), (SECOND, READY))
    scene.told(of(80, FIRST, SECOND))
    scene.ready("web", FIRST, SECOND)
    scene.told(of(80, FIRST, SECOND))

    assert scene.heard(*VIPS) == before


def test_each_flip_is_told_where_nothing_is_to_wait(scene: Scene) -> None:
    scene.damp(withdrawMilliseconds=0)
    scene.ready("web", FIRST, SECOND)
    scene.told(of(80, FIRST, SECOND))

    scene.endpoints("web", (FIRST, UNREADY), (SECOND, READY))
    scene.told(of(80, SECOND))

    scene.ready("web", FIRST, SECOND)
    scene.told(of(80, FIRST, SECOND))


def test_a_lost_readiness_counts_half_a_second_later_when_nothing_is_said(scene: Scene) -> None:
    scene.damp()
    scene.ready("web", FIRST)
    scene.told(of(80, FIRST))

    began_at = _now()
    scene.endpoints("web", (FIRST, UNREADY))
    scene.told({})

    for deleted_at in _heard_last(scene, "removed"):
        assert deleted_at - began_at >= timedelta(milliseconds=500)


# Ready for the first time.


def test_a_readiness_is_told_to_nobody_before_it_has_settled(scene: Scene) -> None:
    scene.damp()
    scene.endpoints("web", (FIRST, UNREADY), (SECOND, READY))
    scene.told(of(80, SECOND))
    scene.damp(announceMilliseconds=LONG)
    before = scene.heard(*VIPS)

    scene.ready("web", FIRST, SECOND)
    scene.told(of(80, SECOND))
    scene.endpoints("web", (FIRST, UNREADY), (SECOND, READY))
    scene.told(of(80, SECOND))

    assert scene.heard(*VIPS) == before


def test_what_is_ready_in_a_new_slice_has_to_settle_as_well(scene: Scene) -> None:
    scene.damp(announceMilliseconds=LONG)

    scene.ready("web", FIRST, SECOND)

    scene.told({})


def test_a_readiness_that_moves_to_a_new_slice_need_not_settle(scene: Scene) -> None:
    scene.damp()
    scene.ready("web", FIRST, SECOND)
    scene.told(of(80, FIRST, SECOND))
    scene.damp(announceMilliseconds=LONG)
    before = scene.heard(*VIPS)

    scene.ready("web", FIRST, slice_name="new")
    scene.ready("web", SECOND)
    scene.told(of(80, FIRST, SECOND))

    assert scene.heard(*VIPS) == before


def test_a_readiness_that_moves_is_not_lost_when_the_old_slice_is_written_first(scene: Scene) -> None:
    """Both slices are there already, as when one who has many endpoints is sorted anew."""
    scene.damp()
    scene.ready("web", FIRST, SECOND)
    scene.ready("web", SECOND, slice_name="new")
    scene.told(of(80, FIRST, SECOND))
    scene.damp(announceMilliseconds=LONG)
    before = scene.heard(*VIPS)

    for family in FAMILIES:
        old = slice_("web", family, (SECOND, READY))
        new = slice_("web", family, (FIRST, READY), (SECOND, READY), slice_name="new")
        scene.api.apply(old, new)
    scene.told(of(80, FIRST, SECOND))

    assert scene.heard(*VIPS) == before


def test_a_readiness_that_moves_need_not_settle_when_the_old_slice_is_deleted_first(scene: Scene) -> None:
    scene.damp()
    scene.ready("web", FIRST, SECOND)
    scene.told(of(80, FIRST, SECOND))
    scene.damp(announceMilliseconds=LONG)

    scene.drop_slices()
    scene.ready("web", FIRST, SECOND, slice_name="new")

    scene.told(of(80, FIRST, SECOND))


def test_an_endpoint_that_is_gone_from_one_of_several_slices_is_withdrawn_all_the_same(scene: Scene) -> None:
    scene.damp(withdrawMilliseconds=LONG, announceMilliseconds=0)
    scene.ready("web", FIRST, SECOND)
    scene.ready("web", SECOND, slice_name="new")
    scene.told(of(80, FIRST, SECOND))

    scene.ready("web", SECOND)

    scene.told(of(80, SECOND))


def test_a_readiness_that_lasts_is_told_when_it_has_settled(scene: Scene) -> None:
    scene.damp(announceMilliseconds=1000)
    scene.endpoints("web", (FIRST, UNREADY))
    scene.told({})

    began_at = _now()
    scene.ready("web", FIRST)
    scene.told(of(80, FIRST))

    for new_at in _heard_last(scene, "added"):
        assert new_at - began_at >= timedelta(seconds=1)


# Gone.


@leaves
def test_an_endpoint_that_leaves_never_waits(scene: Scene, left: list[tuple[str, Object]]) -> None:
    scene.damp()
    scene.ready("web", FIRST, SECOND)
    scene.told(of(80, FIRST, SECOND))
    scene.damp(withdrawMilliseconds=LONG, announceMilliseconds=LONG)

    scene.endpoints("web", *left)
    scene.told(of(80, SECOND))


@leaves
def test_an_endpoint_that_leaves_after_its_readiness_does_not_wait_for_the_rest(
    scene: Scene, left: list[tuple[str, Object]]
) -> None:
    scene.damp(withdrawMilliseconds=LONG)
    scene.ready("web", FIRST, SECOND)
    scene.told(of(80, FIRST, SECOND))
    scene.endpoints("web", (FIRST, UNREADY), (SECOND, READY))
    scene.told(of(80, FIRST, SECOND))

    scene.endpoints("web", *left)
    scene.told(of(80, SECOND))


@pytest.mark.parametrize("what", ["Service", "EndpointSlice", "label"])
def test_neither_services_nor_slices_wait(scene: Scene, what: str) -> None:
    scene.damp(withdrawMilliseconds=LONG)
    scene.ready("web", FIRST, SECOND)
    scene.told(of(80, FIRST, SECOND))

    match what:
        case "Service":
            scene.api.delete("Service", "web", "default")
        case "EndpointSlice":
            scene.drop_slices()
        case _:
            scene.ready("shop", FIRST, SECOND)
    scene.told({})


def _heard_last(scene: Scene, what: str) -> list[datetime]:
    """When BIRD was told so of each address, last of all."""
    last = [scene.said_to_bird(vip)[-1] for vip in VIPS]
    assert [said for _, said in last] == [what] * len(VIPS)
    return [at for at, _ in last]


def _now() -> datetime:
    """As BIRD writes it down: local time, cut off to milliseconds."""
    now = datetime.now()  # noqa: DTZ005
    return now.replace(microsecond=now.microsecond // 1000 * 1000)
