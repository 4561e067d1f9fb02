"""The picture: what goes in is what is there, whatever the order; and only the keys that changed are said to have."""

from collections.abc import Mapping
from dataclasses import replace
from ipaddress import ip_network

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.advertising import Advertisement, AdvertisementType
from agent.cluster.world import World
from agent.intent import Instance, Selector
from agent.model import (
    ALWAYS_WATCHED,
    Applied,
    ClusterChange,
    EndpointSlice,
    Gone,
    Key,
    Kind,
    Listed,
    Malformed,
    Node,
    Problem,
    Record,
    Secret,
    UnreadPodCidrs,
    WatchState,
)
from bgp.model import Family

BROKEN = Problem("malformedObject", "EndpointSlice default/a", "does not parse")


def slice_key(name: str) -> Key:
    return Key(Kind.ENDPOINT_SLICE, "default", name)


def slice_of(name: str, service: str = "web", *ready: str) -> EndpointSlice:
    return EndpointSlice(namespace="default", name=name, service=service, family=Family.IPV4, ready=frozenset(ready))


def node_key(name: str) -> Key:
    return Key(Kind.NODE, "", name)


def secret_key(name: str) -> Key:
    return Key(Kind.SECRET, "agent", name)


def watch(kind: Kind, fresh_at: float = 1.0, problem: Problem | None = None, only: Key | None = None) -> WatchState:
    return WatchState(kind=kind, healthy=problem is None, fresh_at=fresh_at, problem=problem, only=only)


def test_the_picture_is_complete_when_every_kind_was_listed_once() -> None:
    world = World()
    for kind in sorted(ALWAYS_WATCHED):
        assert not world.complete
        world.apply(Listed(kind, {}))

    assert world.complete


def test_a_secret_does_not_make_the_picture_complete_but_is_known() -> None:
    world = World()
    key = secret_key("tor")

    world.apply(Listed(Kind.SECRET, {key: Secret(name="tor", found=False)}, {}, key))

    assert not world.complete
    assert world.secrets_known(frozenset({"tor"}))
    assert not world.secrets_known(frozenset({"tor", "other"}))
    assert world.secrets_known(frozenset())


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
        "spec.med: it says who is told pod CIDRs: until it can be read or is gone, nothing here is changed"
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
        assert [problem.message for problem in world.problems] == [f"{NONSENSE.message}: it is left out"]


def test_only_keys_whose_record_changed_are_named() -> None:
    world = World()
    records = {node_key(name): Node(name=name) for name in "abc"}

    assert world.apply(Listed(Kind.NODE, records)) == set(records)
    assert world.apply(Listed(Kind.NODE, dict(records))) == frozenset()
    assert world.apply(Applied(node_key("a"), Node(name="a"))) == frozenset()
    changed = Node(name="a", pod_cidrs=(ip_network("10.0.0.0/24"),))
    assert world.apply(Applied(node_key("a"), changed)) == {node_key("a")}
    assert world.apply(Gone(node_key("z"))) == frozenset()
    assert world.apply(Gone(node_key("b"))) == {node_key("b")}
    assert world.apply(watch(Kind.NODE)) == frozenset()


def test_a_list_drops_what_it_lacks_and_nothing_of_other_kinds() -> None:
    world = World()
    world.apply(Listed(Kind.NODE, {node_key(name): Node(name=name) for name in "abc"}))
    world.apply(Listed(Kind.ENDPOINT_SLICE, {slice_key("a"): slice_of("a")}))

    changed = world.apply(Listed(Kind.NODE, {node_key("b"): Node(name="b")}))

    assert changed == {node_key("a"), node_key("c")}
    assert dict(world.records(Kind.NODE)) == {node_key("b"): Node(name="b")}
    assert world.get(slice_key("a")) == slice_of("a")


def test_an_object_that_does_not_parse_keeps_its_last_good_record_and_its_problem_stands_beside_it() -> None:
    world = World()
    key = slice_key("a")
    world.apply(Applied(key, slice_of("a")))

    assert world.apply(Malformed(key, BROKEN)) == frozenset()
    assert world.apply(Listed(Kind.ENDPOINT_SLICE, {}, {key: BROKEN})) == frozenset()
    assert world.get(key) == slice_of("a")
    assert world.problems == {replace(BROKEN, message="does not parse: its last good version stays in force")}


def test_an_object_that_never_parsed_is_said_to_be_left_out() -> None:
    world = World()
    world.apply(Malformed(slice_key("a"), BROKEN))

    assert world.problems == {replace(BROKEN, message="does not parse: it is left out")}


def test_a_secret_that_was_never_found_has_no_good_version() -> None:
    world, key = World(), Key(Kind.SECRET, "default", "a")
    world.apply(Applied(key, Secret(name="a", found=False)))
    world.apply(Malformed(key, BROKEN))

    assert [problem.message for problem in world.problems] == ["does not parse: it is left out"]


def test_an_object_that_parses_again_or_is_gone_has_no_problem() -> None:
    world = World()
    key = slice_key("a")
    for mended in (
        Applied(key, slice_of("a")),
        Gone(key),
        Listed(Kind.ENDPOINT_SLICE, {key: slice_of("a")}),
        Listed(Kind.ENDPOINT_SLICE, {}),
    ):
        world.apply(Malformed(key, BROKEN))
        assert len(world.problems) == 1
        world.apply(mended)
        assert world.problems == frozenset()


def test_slices_are_found_by_service_and_follow_it() -> None:
    world = World()
    world.apply(Listed(Kind.ENDPOINT_SLICE, {slice_key(name): slice_of(name) for name in "ab"}))
    world.apply(Applied(slice_key("b"), slice_of("b", "api")))
    world.apply(Applied(slice_key("c"), slice_of("c", "")))

    assert dict(world.slices_of("default", "web")) == {slice_key("a"): slice_of("a")}
    assert dict(world.slices_of("default", "api")) == {slice_key("b"): slice_of("b", "api")}
    assert dict(world.slices_of("default", "")) == {}
    assert dict(world.slices_of("other", "web")) == {}


def test_a_broken_watch_is_a_problem_until_it_is_mended() -> None:
    world = World()
    refused = Problem("apiForbidden", "watch of Node", "no")
    world.apply(watch(Kind.NODE, problem=refused))
    assert world.problems == {refused}

    world.apply(watch(Kind.NODE))

    assert world.problems == frozenset()
    assert world.watches[Kind.NODE, None].healthy


def test_the_picture_is_as_old_as_its_most_silent_watch() -> None:
    world = World()
    assert world.oldest_fresh_at is None

    world.apply(watch(Kind.NODE, 30.0))
    world.apply(watch(Kind.SERVICE, 20.0))
    world.apply(watch(Kind.NODE, 40.0))

    assert world.oldest_fresh_at == 20.0


def test_a_secret_that_nobody_needs_any_more_leaves_nothing() -> None:
    world = World()
    key = secret_key("tor")
    world.apply(Listed(Kind.SECRET, {key: Secret(name="tor")}, {}, key))
    world.apply(watch(Kind.SECRET, problem=BROKEN, only=key))

    assert world.apply(Gone(key)) == {key}
    assert world.problems == frozenset()
    assert not world.watches


NAMES = st.sampled_from("abcd")
SLICES = st.builds(slice_of, NAMES, st.sampled_from(["", "web", "api"]), st.sampled_from(["n1", "n2"])).map(
    lambda found: (slice_key(found.name), found)
)
CHANGES = st.lists(
    st.builds(lambda pair: Applied(*pair), SLICES)
    | st.builds(lambda name: Gone(slice_key(name)), NAMES)
    | st.builds(lambda name: Malformed(slice_key(name), BROKEN), NAMES)
    | st.builds(
        lambda records, bad: Listed(Kind.ENDPOINT_SLICE, dict(records), {slice_key(name): BROKEN for name in bad}),
        st.lists(SLICES),
        st.frozensets(NAMES, max_size=2),
    ),
    max_size=20,
)


def after(before: Mapping[Key, Record], change: ClusterChange) -> dict[Key, Record]:
    """What should be there, said in one line for each kind of change."""
    match change:
        case Applied(key=key, record=record):
            return {**before, key: record}
        case Gone(key=gone):
            return {key: record for key, record in before.items() if key != gone}
        case Listed(records=records, malformed=malformed):
            return {**{key: record for key, record in before.items() if key in malformed}, **records}
        case _:
            return dict(before)


@given(changes=CHANGES)
@settings(deadline=None)
def test_any_history_ends_in_its_last_state_and_names_each_key_that_changed(changes: list[ClusterChange]) -> None:
    world, wanted = World(), dict[Key, Record]()
    for change in changes:
        before, wanted = wanted, after(wanted, change)

        changed = world.apply(change)

        assert dict(world.records(Kind.ENDPOINT_SLICE)) == wanted
        assert changed == {key for key in before.keys() | wanted.keys() if before.get(key) != wanted.get(key)}
        for service in ("", "web", "api"):
            assert dict(world.slices_of("default", service)) == {
                key: found
                for key, found in wanted.items()
                if isinstance(found, EndpointSlice) and service and found.service == service
            }
