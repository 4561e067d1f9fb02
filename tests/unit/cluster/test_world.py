"""The picture: what goes in is what is there, whatever the order; and only the keys that changed are said to have."""

from collections.abc import Mapping
from dataclasses import replace
from ipaddress import ip_network

from hypothesis import given, settings
from hypothesis import strategies as st

from agent.cluster.world import World
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
    assert world.problems == {
        replace(BROKEN, message="does not parse: the object's last readable version stays in force")
    }


def test_an_object_that_never_parsed_is_said_not_to_be_used_as_a_whole() -> None:
    world = World()
    world.apply(Malformed(slice_key("a"), BROKEN))

    assert world.problems == {replace(BROKEN, message="does not parse: the whole object is not used")}


def test_a_secret_that_was_never_found_has_no_good_version() -> None:
    world, key = World(), Key(Kind.SECRET, "default", "a")
    world.apply(Applied(key, Secret(name="a", found=False)))
    world.apply(Malformed(key, BROKEN))

    assert [problem.message for problem in world.problems] == ["does not parse: the whole object is not used"]


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
