"""What is in force while an object cannot be read that might say otherwise: never the defaults in its place."""

from __future__ import annotations

from dataclasses import replace

import pytest

from agent.advertising import Advertisement, AdvertisementType
from agent.cluster.world import World
from agent.intent import Instance, Selector
from agent.model import (
    ALWAYS_WATCHED,
    Applied,
    ClusterChange,
    Gone,
    Key,
    Kind,
    Listed,
    Malformed,
    Node,
    Problem,
    Record,
    UnreadPodCidrs,
)


def node_key(name: str) -> Key:
    return Key(Kind.NODE, "", name)


NONSENSE = Problem("malformedObject", "BGPInstance all", "spec.asn = 'x' is no AS number", "Mend it.")
UNREAD = Key(Kind.INSTANCE, "", "all")


def world_with(own: Node | None, *good: Instance) -> World:
    """Everything has been listed; among the BGPInstances was one that does not parse."""
    world = World("a")
    instances: dict[Key, Record] = {Key(Kind.INSTANCE, "", one.name): one for one in good}
    nodes: dict[Key, Record] = {node_key(own.name): own} if own is not None else {}
    world.apply(Listed(Kind.INSTANCE, instances, {UNREAD: NONSENSE}))
    world.apply(Listed(Kind.NODE, nodes))
    for kind in sorted(ALWAYS_WATCHED - {Kind.INSTANCE, Kind.NODE}):
        world.apply(Listed(kind, {}))
    return world


@pytest.mark.parametrize(
    "change",
    [
        Applied(UNREAD, Instance(name="all")),
        Gone(UNREAD),
        Listed(Kind.INSTANCE, {}),
        Applied(Key(Kind.INSTANCE, "", "new"), Instance(name="new")),
    ],
)
def test_defaults_are_not_taken_for_a_bgpinstance_that_cannot_be_read(change: ClusterChange) -> None:
    world = world_with(Node(name="a"))
    (problem,) = world.problems
    assert not world.complete
    assert problem.message.endswith("until it can be read or is gone, nothing here is changed")

    world.apply(change)
    assert world.complete


def test_a_bgpinstance_that_cannot_be_read_stops_nobody_whom_another_one_selects() -> None:
    others = Instance(name="rack", node_selector=Selector(labels=(("rack", "7"),)))

    assert not world_with(Node(name="a"), others).complete
    assert world_with(Node(name="a", labels=(("rack", "7"),)), others).complete
    assert world_with(Node(name="a"), Instance(name="any")).complete


PODS = Key(Kind.ADVERTISEMENT, "", "pods")
TO_TORS = Advertisement(name="pods", type=AdvertisementType.POD_CIDR)


def world_with_unread(problem: Problem, *good: Advertisement) -> World:
    """Everything has been listed; among the BGPAdvertisements was one that does not parse."""
    world = World("a")
    records: dict[Key, Record] = {Key(Kind.ADVERTISEMENT, "", one.name): one for one in good}
    world.apply(Listed(Kind.ADVERTISEMENT, records, {PODS: problem}))
    world.apply(Listed(Kind.NODE, {node_key("a"): Node(name="a")}))
    for kind in sorted(ALWAYS_WATCHED - {Kind.ADVERTISEMENT, Kind.NODE}):
        world.apply(Listed(kind, {}))
    return world


@pytest.mark.parametrize("change", [Applied(PODS, TO_TORS), Gone(PODS), Listed(Kind.ADVERTISEMENT, {})])
def test_pod_cidrs_are_not_told_to_all_in_place_of_an_advertisement_that_cannot_be_read(change: ClusterChange) -> None:
    world = world_with_unread(UnreadPodCidrs("malformedObject", "BGPAdvertisement pods", "spec.med", "Mend it."))
    (problem,) = world.problems
    assert not world.complete
    assert problem.message == (
        "spec.med: the object says who is told pod CIDRs: until it can be read or is gone, nothing here is changed"
    )

    world.apply(change)
    assert world.complete


def test_another_advertisement_that_cannot_be_read_stops_nobody() -> None:
    unread = UnreadPodCidrs("malformedObject", "BGPAdvertisement pods", "spec.med")

    assert world_with_unread(NONSENSE).complete
    assert world_with_unread(unread, replace(TO_TORS, name="others")).complete


def test_an_own_node_that_cannot_be_read_is_not_taken_for_a_deleted_one() -> None:
    world, good, spoiled = World("a"), Instance(name="any"), replace(NONSENSE, subject="Node a")
    world.apply(Listed(Kind.INSTANCE, {Key(Kind.INSTANCE, "", good.name): good}))
    for kind in sorted(ALWAYS_WATCHED - {Kind.INSTANCE, Kind.NODE}):
        world.apply(Listed(kind, {}))
    world.apply(Listed(Kind.NODE, {node_key("b"): Node(name="b")}, {node_key("a"): spoiled}))
    assert not world.complete
    assert [problem.message.endswith("nothing here is changed") for problem in world.problems] == [True]

    world.apply(Applied(node_key("a"), Node(name="a")))
    assert world.complete


def test_a_picture_that_was_complete_stays_so_when_a_bgpinstance_comes_that_cannot_be_read() -> None:
    world = World("a")
    for kind in sorted(ALWAYS_WATCHED):
        world.apply(Listed(kind, {}))

    for change in (Malformed(UNREAD, NONSENSE), Listed(Kind.INSTANCE, {}, {UNREAD: NONSENSE})):
        world.apply(change)
        assert world.complete
        assert [problem.message for problem in world.problems] == [f"{NONSENSE.message}: the whole object is not used"]


UNREAD_PODS = UnreadPodCidrs("malformedObject", "BGPAdvertisement pods", "spec.med", "Mend it.")
OTHERS = Key(Kind.ADVERTISEMENT, "", "others")
TO_OTHERS = replace(TO_TORS, name="others")
ANY, RACK = Key(Kind.INSTANCE, "", "any"), Selector(labels=(("rack", "7"),))


def in_force(world: World, kind: Kind) -> set[Record]:
    return set(world.records(kind).values())


@pytest.mark.parametrize(
    "change",
    [
        Gone(OTHERS),
        Listed(Kind.ADVERTISEMENT, {}, {PODS: UNREAD_PODS}),
        Applied(OTHERS, Advertisement(name="others", type=AdvertisementType.PREFIX)),
    ],
)
@pytest.mark.parametrize("end", [Gone(PODS), Applied(PODS, TO_TORS), Malformed(PODS, NONSENSE)])
def test_who_is_told_pod_cidrs_stays_so_until_the_one_that_would_say_it_can_be_read(
    change: ClusterChange, end: ClusterChange
) -> None:
    world = world_with_unread(UNREAD_PODS, TO_OTHERS)

    assert world.apply(change) == frozenset()
    assert in_force(world, Kind.ADVERTISEMENT) == {TO_OTHERS}
    (problem,) = world.problems
    assert problem.message == (
        "spec.med: the object says who is told pod CIDRs: until it can be read or is gone, "
        "BGPAdvertisement others stays in force as it was"
    )

    assert OTHERS in world.apply(end)
    assert TO_OTHERS not in in_force(world, Kind.ADVERTISEMENT)
    assert (PODS in world.records(Kind.ADVERTISEMENT)) == isinstance(end, Applied)


def test_what_was_put_off_is_forgotten_when_it_comes_again_or_another_one_comes() -> None:
    world, third = world_with_unread(UNREAD_PODS, TO_OTHERS), replace(TO_TORS, name="third")
    world.apply(Gone(OTHERS))
    changed = replace(TO_OTHERS, created=1.0)

    assert world.apply(Applied(OTHERS, changed)) == {OTHERS}
    assert world.apply(Gone(OTHERS)) == frozenset()
    third_key = Key(Kind.ADVERTISEMENT, "", "third")
    assert world.apply(Applied(third_key, third)) == {OTHERS, third_key}
    assert in_force(world, Kind.ADVERTISEMENT) == {third}


def test_one_that_is_put_off_and_comes_back_unreadable_is_named_too() -> None:
    world, spoiled = world_with_unread(UNREAD_PODS, TO_OTHERS), replace(UNREAD_PODS, subject=str(OTHERS))
    world.apply(Gone(OTHERS))
    world.apply(Malformed(OTHERS, spoiled))

    assert world.apply(Gone(PODS)) == frozenset()
    assert {problem.subject for problem in world.problems} == {str(OTHERS)}
    assert in_force(world, Kind.ADVERTISEMENT) == {TO_OTHERS}


def test_where_the_defaults_were_in_force_they_stay() -> None:
    world = world_with_unread(NONSENSE)
    world.apply(Malformed(PODS, UNREAD_PODS))

    assert world.apply(Gone(Key(Kind.ADVERTISEMENT, "", "never there"))) == frozenset()
    assert in_force(world, Kind.ADVERTISEMENT) == set()


def test_a_node_stays_what_it_is_until_the_bgpinstance_that_might_say_otherwise_can_be_read() -> None:
    of_all = Instance(name="any")
    world = world_with(Node(name="a"), of_all)

    assert world.apply(Applied(ANY, replace(of_all, node_selector=RACK))) == frozenset()
    assert in_force(world, Kind.INSTANCE) == {of_all}
    assert world.apply(Applied(node_key("a"), Node(name="a", labels=(("rack", "7"),)))) == {node_key("a"), ANY}
    assert in_force(world, Kind.INSTANCE) == {replace(of_all, node_selector=RACK)}

    assert world.apply(Gone(ANY)) == frozenset()
    assert world.apply(Gone(UNREAD)) == {ANY}
    assert in_force(world, Kind.INSTANCE) == set()
