"""Topology: what every node works out by itself must fit together, also when some of them look at an older picture.

`Fleet` is all nodes at once, each with its own view; routes travel in it by the rules of RFC 4456 alone.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from dataclasses import replace
from ipaddress import ip_address

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.intent import ControlPlane, Instance, Mesh, MeshMode, SecretRef, Selector
from agent.plan.nodes import CONTROL_PLANE_LABEL, Member
from agent.plan.topology import ZONE_LABEL, Area, Standpoint, Tie, Topology, retied, tie

AUTO = Instance(name="auto", mesh=Mesh(threshold=10))
MESHED = Instance(name="meshed", mesh=Mesh(mode=MeshMode.FULL_MESH, threshold=10))
SELECTED = Instance(
    name="selected", mesh=Mesh(mode=MeshMode.ROUTE_REFLECTOR, reflector_selector=Selector(labels=(("rr", "yes"),)))
)
SELECTED_TOO = replace(SELECTED, name="selected-too")
ALONE = Instance(name="alone", mesh=Mesh(mode=MeshMode.NONE))
INSTANCES = (AUTO, MESHED, SELECTED, SELECTED_TOO, ALONE)


def member(number: int, instance: Instance = AUTO, *, asn: int | None = 64512, **settings) -> Member:
    labels = settings.pop("labels", {})
    return Member(
        name=f"n{number}",
        created=0.0,
        instance=instance,
        asn=asn,
        router_id=ip_address(f"10.0.{number // 250}.{number % 250 + 1}"),
        router_id_source="InternalIP",
        addresses=settings.pop("addresses", (ip_address(f"10.0.{number // 250}.{number % 250 + 1}"),)),
        pod_cidrs=(),
        labels=tuple(sorted(labels.items())),
        ready=settings.pop("ready", True),
        cordoned=settings.pop("cordoned", False),
        problems=(),
        own_problems=(),
    )


def arranged(members: Iterable[Member]) -> Topology:
    topology = Topology()
    for one in members:
        topology.put(one.name, one)
    return topology


AREA = Area(64512, "auto")


def reflectors(members: Iterable[Member]) -> frozenset[str]:
    """Of mode Auto; nothing is remembered."""
    topology, names = arranged(members), [one.name for one in members]
    return topology.look(names[0], frozenset()).shapes[AREA].reflectors if names else frozenset()


class Fleet:
    """`views`: by name, what that node believes the nodes are, and which areas it remembers as small."""

    def __init__(self, views: Mapping[str, tuple[tuple[Member, ...], frozenset[Area]]]) -> None:
        self._ties: dict[str, dict[str, Tie]] = {}
        seen: dict[int, Topology] = {}
        for name, (members, small) in views.items():
            stood = seen.setdefault(id(members), arranged(members)).look(name, small)
            self._ties[name] = {one.name: found for one in members if (found := tie(stood, one)) is not None}

    def session(self, one: str, other: str) -> bool:
        """Both sides want it."""
        return other in self._ties.get(one, {}) and one in self._ties.get(other, {})

    def ties(self, name: str) -> Mapping[str, Tie]:
        return self._ties.get(name, {})

    def reached(self, origin: str) -> set[str]:
        """Who hears a route of `origin`."""
        heard = {origin}
        waiting = [(origin, None)]
        passed = set[tuple[str, bool]]()
        while waiting:
            node, teller = waiting.pop()
            from_client = teller is not None and self._ties[node][teller].client
            if teller is not None and (node, from_client) in passed:
                continue
            passed.add((node, from_client))
            for other, found in self._ties[node].items():
                own = teller is None
                if self.session(node, other) and other != teller and (own or from_client or found.client):
                    heard.add(other)
                    waiting.append((other, node))
        return heard


def fleet(members: tuple[Member, ...], small: frozenset[Area] = frozenset()) -> Fleet:
    return Fleet({one.name: (members, small) for one in members})


_LABELS = st.fixed_dictionaries(
    {},
    optional={
        ZONE_LABEL: st.sampled_from(("a", "b", "c")),
        CONTROL_PLANE_LABEL: st.just(""),
        "rr": st.sampled_from(("yes", "no")),
    },
)


def _members(instances: tuple[Instance, ...], least: int = 1, most: int = 16) -> st.SearchStrategy[tuple[Member, ...]]:
    one = st.tuples(
        st.sampled_from(instances),
        st.sampled_from((64512, 64512, 64512, 64513, None)) if len(instances) > 1 else st.just(64512),
        _LABELS,
        st.booleans(),
        st.booleans(),
    )
    return st.lists(one, min_size=least, max_size=most).map(
        lambda rows: tuple(
            member(number, instance, asn=asn, labels=labels, ready=ready, cordoned=cordoned)
            for number, (instance, asn, labels, ready, cordoned) in enumerate(rows)
        )
    )


_SMALL = st.frozensets(st.sampled_from([Area(64512, one.name) for one in INSTANCES]))
_ANY = st.one_of(
    _members((AUTO,), least=9), _members((SELECTED,)), _members((SELECTED, SELECTED_TOO)), _members(INSTANCES)
)
_MANY = settings(max_examples=settings().max_examples // 2, deadline=None)


@_MANY
@given(_ANY, _SMALL)
def test_both_sides_want_the_same_sessions_and_never_are_each_others_client(members, small):
    whole = fleet(members, small)
    for one in members:
        for name, found in whole.ties(one.name).items():
            back = whole.ties(name).get(one.name)

            assert back is not None
            assert not (found.client and back.client)


@_MANY
@given(_ANY, _SMALL)
def test_every_two_nodes_of_an_as_that_mesh_at_all_hear_each_other(members, small):
    whole = fleet(members, small)
    for one in members:
        others = {
            other.name
            for other in members
            if one.asn == other.asn is not None
            and MeshMode.NONE not in (one.instance.mesh.mode, other.instance.mesh.mode)
        }

        assert whole.reached(one.name) == others | {one.name}


@_MANY
@given(_ANY, _SMALL, st.randoms(use_true_random=False))
def test_neither_order_nor_history_shows(members, small, rng: random.Random):
    shuffled = list(members)
    rng.shuffle(shuffled)
    arrived = Topology()
    for one in shuffled:
        arrived.put(one.name, replace(one, instance=rng.choice(INSTANCES), ready=not one.ready))
    for one in rng.sample(shuffled, len(shuffled) // 2):
        arrived.put(one.name, None)
    for one in shuffled:
        arrived.put(one.name, one)

    for one in members:
        assert arrived.look(one.name, small) == arranged(members).look(one.name, small)


@_MANY
@given(_members((AUTO,), most=30), st.integers(0, 29), st.sampled_from(("join", "down", "cordoned", "zone")))
def test_one_node_changes_one_reflector_at_most(members, at, event):
    changed = members[at % len(members)]
    before = tuple(one for one in members if one != changed) if event == "join" else members
    after = tuple(_happen(event, one) if one is changed else one for one in members)

    old, new = reflectors(before), reflectors(after)

    if old and new:
        assert len(old - new) <= 1
        assert len(new - old) <= 1


def _happen(event: str, one: Member) -> Member:
    match event:
        case "down":
            return replace(one, ready=not one.ready)
        case "cordoned":
            return replace(one, cordoned=not one.cordoned)
        case "zone":
            return replace(one, labels=tuple({**dict(one.labels), ZONE_LABEL: "d"}.items()))
        case _:
            return one


@pytest.mark.parametrize("event", ["join", "leave", "down", "cordoned", "zone"])
@pytest.mark.parametrize("size", [3, 7, 8, 9, 10, 11, 12])
@pytest.mark.parametrize("was_small", [True, False])
def test_no_pair_loses_its_route_while_half_of_the_nodes_see_the_picture_before(size, event, was_small):
    """The threshold is 10. Each remembers what it has come to before the event, as a running agent does."""
    rng = random.Random(f"{size} {event} {was_small}")  # noqa: S311  # the same each time
    for _ in range(8):
        members = tuple(
            member(n, labels={ZONE_LABEL: rng.choice("abc")}, ready=rng.random() < 0.9) for n in range(size)
        )
        changed = rng.choice(members)
        without = tuple(one for one in members if one is not changed)
        happened = tuple(_happen(event, one) if one is changed else one for one in members)
        before, after = {"join": (without, members), "leave": (members, without)}.get(event, (members, happened))
        remembered = frozenset({AREA} if was_small else ())
        small = arranged(before).look(before[0].name, remembered).small
        whole = Fleet({one.name: (rng.choice((before, after)), small) for one in after})

        there_all_along = {one.name for one in before} & {one.name for one in after}
        for name in there_all_along:
            assert there_all_along <= whole.reached(name)


@_MANY
@given(_ANY, _ANY, st.sets(st.integers(0, 15), max_size=3), _SMALL)
def test_those_whose_tie_changed_are_named(before, others, changed, small):
    """`others` take the places of some, and follow after the last."""
    after = (*(others[at] if at in changed and at < len(others) else one for at, one in enumerate(before)),)
    after += others[len(before) :] if 0 in changed else ()
    common = [one for one in before if one in after]
    for one in common:
        old, new = arranged(before).look(one.name, small), arranged(after).look(one.name, small)
        named = retied(old, new)
        for other in common:
            if tie(old, other) != tie(new, other):
                assert named is None or other.name in named


def test_of_200_nodes_a_third_each_zone_has_its_reflector_and_none_is_of_the_control_plane():
    members = [
        member(n, labels={ZONE_LABEL: "abc"[n % 3], **({CONTROL_PLANE_LABEL: ""} if n < 9 else {})}) for n in range(300)
    ]

    chosen = reflectors(members)

    assert len(chosen) == 3
    assert {int(name[1:]) % 3 for name in chosen} == {0, 1, 2}
    assert min(int(name[1:]) for name in chosen) >= 9


@pytest.mark.parametrize(("size", "count"), [(11, 2), (200, 2), (201, 3), (500, 3), (501, 4), (1000, 4), (1001, 5)])
def test_there_are_more_reflectors_in_larger_clusters(size, count):
    assert len(reflectors([member(n) for n in range(size)])) == count


@pytest.mark.parametrize(
    ("control_plane", "chosen"),
    [(ControlPlane.AVOID, set(range(3, 20))), (ControlPlane.PREFER, {0, 1, 2}), (ControlPlane.ALLOW, set(range(20)))],
)
def test_the_control_plane_reflects_as_it_is_asked_to(control_plane, chosen):
    instance = replace(AUTO, mesh=replace(AUTO.mesh, control_plane=control_plane))
    members = [member(n, instance, labels={CONTROL_PLANE_LABEL: ""} if n < 3 else {}) for n in range(20)]

    assert {int(name[1:]) for name in reflectors(members)} <= chosen


@pytest.mark.parametrize("change", [{"ready": False}, {"cordoned": True}])
def test_a_reflector_that_is_going_is_replaced_while_it_is_there(change):
    members = [member(n) for n in range(20)]
    going = min(reflectors(members))

    after = [replace(one, **change) if one.name == going else one for one in members]

    assert going not in reflectors(after)
    assert len(reflectors(after)) == 2
    assert not problems(after)


def problems(members: Iterable[Member], name: str = "n0") -> dict[str, str]:
    return {found.reason: found.subject for found in arranged(members).look(name, frozenset()).problems}


def test_when_all_nodes_are_down_the_reflectors_are_the_same_and_it_is_said():
    members = [member(n) for n in range(20)]
    down = [replace(one, ready=False) for one in members]

    assert reflectors(down) == reflectors(members)
    assert problems(down) == {"reflectorsMissing": "BGPInstance auto"}


@pytest.mark.parametrize(
    ("size", "was_small", "meshed", "reflect"),
    [
        (7, True, True, False),
        (8, True, True, True),
        (9, True, True, True),
        (10, True, True, True),
        (11, True, False, True),
        (10, False, False, True),
        (9, False, False, True),
        (8, False, True, True),
        (7, False, True, False),
    ],
)
def test_the_mesh_is_left_above_the_threshold_and_entered_below_the_band(size, was_small, meshed, reflect):
    shape = arranged([member(n) for n in range(size)]).look("n0", frozenset({AREA} if was_small else ())).shapes[AREA]

    assert (shape.meshed, bool(shape.reflectors)) == (meshed, reflect)
    assert shape.small == meshed


def test_a_full_mesh_above_the_threshold_stays_and_says_so():
    members = [member(n, MESHED) for n in range(11)]

    assert problems(members) == {"meshTooLarge": "BGPInstance meshed"}
    assert problems(members[:10]) == {}
    assert fleet(tuple(members)).session("n3", "n9")


def _selected(count: int, size: int = 6, instance: Instance = SELECTED, start: int = 0) -> list[Member]:
    return [
        member(n, instance, labels={"rr": "yes" if n < start + count else "no"}) for n in range(start, start + size)
    ]


def test_clients_have_sessions_with_all_reflectors_and_with_nobody_else():
    whole = fleet(tuple(_selected(2)))

    assert whole.ties("n4") == {"n0": Tie(client=False), "n1": Tie(client=False)}
    assert whole.ties("n0") == {"n1": Tie(client=False), **{f"n{n}": Tie(client=True) for n in range(2, 6)}}
    assert problems(_selected(2)) == {}


def test_a_selector_that_matches_nobody_leaves_no_hole_and_is_a_problem():
    whole = fleet(tuple(_selected(0)))

    assert whole.session("n2", "n5")
    assert problems(_selected(0)) == {"reflectorsMissing": "BGPInstance selected"}
    assert problems(_selected(1)) == {"reflectorsMissing": "BGPInstance selected"}


def test_two_clusters_meet_in_their_reflectors_only():
    whole = fleet((*_selected(2), *_selected(2, instance=SELECTED_TOO, start=6)))

    assert whole.ties("n4").keys() == {"n0", "n1"}
    assert whole.ties("n10").keys() == {"n6", "n7"}
    assert whole.ties("n0").keys() == {f"n{n}" for n in range(1, 8)}
    assert not whole.ties("n0")["n6"].client


def test_one_cluster_id_for_two_clusters_is_a_problem():
    first, second = (
        replace(one, mesh=replace(one.mesh, cluster_id=ip_address("1.1.1.1"))) for one in (SELECTED, SELECTED_TOO)
    )
    both = [*_selected(2, instance=first), *_selected(2, instance=second, start=6)]

    assert problems(both) == {"clusterIDShared": "BGPInstance selected"}
    assert problems(_selected(2, instance=first)) == {}


def _with_password(instance: Instance, key: str | None) -> Instance:
    ref = None if key is None else SecretRef("mesh", key)
    return replace(instance, mesh=replace(instance.mesh, password_ref=ref))


@pytest.mark.parametrize(("key", "other"), [("old", "new"), ("old", None), (None, "new")])
def test_two_passwords_within_an_as_are_a_problem_on_both_sides_that_names_both_instances(key, other):
    first, second = _with_password(MESHED, key), _with_password(AUTO, other)
    topology = arranged([member(1, first), member(2, second), member(3, second, asn=64513)])

    for name, own, there in (("n1", "meshed", "auto"), ("n2", "auto", "meshed")):
        (problem,) = topology.look(name, frozenset()).problems
        assert (problem.reason, problem.subject) == ("meshPasswordsDiffer", f"BGPInstance {own}")
        assert f"BGPInstance {there}" in problem.message
        assert ("unless both hold the same" in problem.message) == (None not in (key, other))
        assert "mesh.passwordSecretRef" in problem.fix
    assert topology.look("n3", frozenset()).problems == ()


@pytest.mark.parametrize("other", [_with_password(MESHED, "old"), ALONE])
def test_the_same_password_or_no_session_between_the_two_is_no_problem(other):
    both = [member(1, _with_password(AUTO, "old")), member(2, other)]

    assert problems(both, "n1") == problems(both, "n2") == {}


def test_the_cluster_id_is_that_of_the_instance_or_the_reflectors_own_router_id():
    own = _selected(2)
    given = _selected(2, instance=replace(SELECTED, mesh=replace(SELECTED.mesh, cluster_id=ip_address("1.1.1.1"))))

    assert arranged(own).look("n1", frozenset()).cluster_id == own[1].router_id
    assert arranged(given).look("n1", frozenset()).cluster_id == ip_address("1.1.1.1")
    assert arranged(given).look("n4", frozenset()).cluster_id is None


def test_one_node_of_a_thousand_is_looked_at_alone_when_it_joins_or_goes():
    members = [member(n) for n in range(999)]
    topology = arranged(members)
    chosen = reflectors(members)
    client = next(one for one in members if one.name not in chosen)
    before = topology.look(client.name, frozenset())

    topology.put("n5000", member(999))
    after = topology.look(client.name, frozenset())

    assert retied(before, after) == before.shapes[AREA].reflectors ^ after.shapes[AREA].reflectors


def test_a_node_that_becomes_or_stops_being_a_reflector_looks_at_everybody():
    members = [member(n) for n in range(20)]
    best = min(reflectors(members))
    without = [one for one in members if one.name != best]
    displaced = min(reflectors(without) - reflectors(members))
    before, after = (arranged(some).look(displaced, frozenset()) for some in (without, members))

    assert retied(before, after) is None
    assert retied(after, before) is None


def test_a_node_of_both_families_reflects_rather_than_one_that_half_of_the_others_could_not_reach():
    both = {n: (ip_address(f"10.0.0.{n + 1}"), ip_address(f"fd00::{n + 1}")) for n in (4, 9)}
    members = [member(n, addresses=both[n]) if n in both else member(n) for n in range(20)]

    assert reflectors(members) == {"n4", "n9"}


def test_a_node_that_speaks_no_bgp_has_no_session():
    members = (member(0), member(1), member(2, asn=None), member(3, addresses=()))
    whole = fleet(members)

    assert whole.ties("n2") == whole.ties("n3") == {}
    assert whole.ties("n0").keys() == {"n1"}
    assert arranged(members).look("n9", frozenset()) == Standpoint("n9")
