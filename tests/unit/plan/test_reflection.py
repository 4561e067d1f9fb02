"""Route reflection in the plan: what a reflector passes on, against the definition and at the cost of what changed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network, ip_address, ip_network
from itertools import groupby

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.intent import ExternalPeer, Instance, Mesh, MeshMode, PodRoutes, Selector
from agent.model import FibKey, Key, Kind, Node
from agent.plan.definition import make_plan
from agent.plan.model import NodePlan, PlanDelta
from agent.plan.picture import Dirty
from agent.plan.planner import Planner
from agent.plan.refused import reasons
from bgp.model import Attributes, Community, Family, Path, PathsHeard, RouteKey, SessionDown, SessionUp
from tests.unit.plan.histories import Cluster, Step, histories

_US, _REFLECTOR, *_CLIENTS = (ip_address(f"10.0.0.{n}") for n in range(2, 7))
_ROUTER = ip_address("10.0.0.254")
_INSTANCE = Instance(
    name="i0",
    mesh=Mesh(mode=MeshMode.ROUTE_REFLECTOR, reflector_selector=Selector(labels=(("rack", "a"),))),
)
_EXTERNAL_REFLECTOR = ExternalPeer(name="p1", address=_ROUTER, asn=64512)


def _cidr(address: IPv4Address) -> IPv4Network:
    return IPv4Network((int(ip_address("10.244.0.0")) + 256 * (int(address) & 0xFF), 24))


def _node(address: IPv4Address, *, reflector: bool = False) -> Node:
    return Node(
        name=f"n{(int(address) & 0xFF) - 1}",
        created=1.0,
        addresses=(address,),
        pod_cidrs=(_cidr(address),),
        labels=(("rack", "a" if reflector else "b"),),
    )


def _up(peer: IPv4Address, router_id: IPv4Address | None = None) -> SessionUp:
    return SessionUp(
        peer=peer,
        router_id=router_id or peer,
        peer_asn=64512,
        hold_seconds=90,
        families=frozenset({Family.IPV4}),
    )


def _tells(peer: IPv4Address, *prefixes: IPv4Network, next_hop: IPv4Address | None = None, **attributes) -> PathsHeard:
    path = Path(peer, next_hop or peer, Attributes(**{"local_pref": 100, **attributes}))
    return PathsHeard(peer, (), ((path, prefixes),))


_SEED = (
    Step("set", _node(_US, reflector=True)),
    Step("set", _node(_REFLECTOR, reflector=True)),
    *(Step("set", _node(address)) for address in _CLIENTS),
    Step("set", _INSTANCE),
    Step("set", _EXTERNAL_REFLECTOR),
    *(Step("hear", _up(address)) for address in (_REFLECTOR, *_CLIENTS[:2], _ROUTER)),
    *(Step("hear", _tells(address, _cidr(address))) for address in (_REFLECTOR, *_CLIENTS[:2])),
)


def _planned(*steps: Step) -> tuple[Cluster, Planner]:
    cluster, planner = Cluster(), Planner()
    for step in (*_SEED, *steps):
        step(cluster)
    planner.update(cluster.picture, cluster.take())
    return cluster, planner


def _then(cluster: Cluster, planner: Planner, *steps: Step) -> PlanDelta:
    for step in steps:
        step(cluster)
    return planner.update(cluster.picture, cluster.take())


def _told(plan: NodePlan, prefix: IPv4Network) -> set[IPv4Address]:
    return {key.peer for key in plan.routes if key.prefix == prefix}


def test_a_clients_route_goes_to_everyone_else_and_another_reflectors_to_clients_only():
    _, planner = _planned()
    plan = planner.plan

    assert _told(plan, _cidr(_CLIENTS[0])) == {_REFLECTOR, _ROUTER, *_CLIENTS[1:]}
    assert _told(plan, _cidr(_REFLECTOR)) == set(_CLIENTS)
    assert _told(plan, _cidr(_US)) == {_REFLECTOR, _ROUTER, *_CLIENTS}
    route = plan.routes[RouteKey(_CLIENTS[1], _cidr(_CLIENTS[0]))]
    assert route.next_hop == route.attributes.originator_id == _CLIENTS[0]
    assert route.attributes.cluster_list == (_US,)
    assert plan.refused_out[RouteKey(_CLIENTS[0], _cidr(_CLIENTS[0]))] == "toldByPeer"
    assert plan.refused_out[RouteKey(_ROUTER, _cidr(_REFLECTOR))] == "neitherClient"


def test_routers_of_another_as_hear_nothing_of_it():
    _, planner = _planned(Step("set", replace(_EXTERNAL_REFLECTOR, asn=65001)))

    assert {key.prefix for key in planner.plan.routes if key.peer == _ROUTER} == {_cidr(_US)}


def test_a_path_of_another_as_that_is_preferred_here_does_not_hide_the_clients_from_other_clients():
    prefix = _cidr(_CLIENTS[0])
    _, planner = _planned(
        Step("set", replace(_EXTERNAL_REFLECTOR, asn=65001, import_pod_cidrs=True)),
        Step("hear", _tells(_CLIENTS[0], prefix, local_pref=50)),
        Step("hear", _tells(_ROUTER, prefix, local_pref=None, as_path=(65001,))),
    )

    assert [hop.gateway for hop in planner.plan.fib[FibKey(prefix, 0)].next_hops] == [_ROUTER]
    assert planner.plan.routes[RouteKey(_CLIENTS[1], prefix)].next_hop == _CLIENTS[0]


def test_a_client_reflects_nothing():
    _, planner = _planned(Step("set", replace(_node(_US), labels=())))

    assert planner.plan.standpoint.cluster_id is None
    assert {key.prefix for key in planner.plan.routes} == {_cidr(_US)}
    assert {peer.name for peer in planner.plan.peers.values() if peer.mesh} == {"node/n2"}


def test_a_route_whose_next_hop_is_in_another_zone_is_passed_on_though_it_is_of_no_use_here():
    far = ip_address("10.9.0.1")
    _, planner = _planned(Step("hear", _tells(_CLIENTS[0], _cidr(_CLIENTS[0]), next_hop=far)))
    plan = planner.plan

    assert FibKey(_cidr(_CLIENTS[0]), 0) not in plan.fib
    assert plan.refused_in[RouteKey(_CLIENTS[0], _cidr(_CLIENTS[0]))] == "nextHopNotConnected"
    assert plan.routes[RouteKey(_CLIENTS[1], _cidr(_CLIENTS[0]))].next_hop == far


def test_a_reflector_that_installs_no_pod_routes_passes_them_on():
    _, planner = _planned(Step("set", replace(_INSTANCE, pod_routes=PodRoutes.OFF)))

    assert not planner.plan.fib
    assert _told(planner.plan, _cidr(_CLIENTS[0])) == {_REFLECTOR, _ROUTER, *_CLIENTS[1:]}


@pytest.mark.parametrize(
    "said",
    [
        {"cluster_list": (_US,)},
        {"originator_id": _US},
        {"communities": frozenset({Community(65535, 65282)})},
        {"next_hop": _US},
        {"as_path": (64512,)},
    ],
)
def test_what_may_not_be_believed_or_is_for_us_alone_is_passed_on_to_nobody(said):
    _, planner = _planned(Step("hear", _tells(_CLIENTS[0], _cidr(_CLIENTS[0]), **said)))

    assert not _told(planner.plan, _cidr(_CLIENTS[0]))


def test_a_prefix_that_is_no_pod_cidr_is_not_passed_on():
    stray = ip_network("172.16.0.0/24")
    _, planner = _planned(Step("hear", _tells(_CLIENTS[0], stray)))

    assert not _told(planner.plan, stray)


def test_the_route_of_a_client_that_is_gone_is_passed_on_no_more():
    cluster, planner = _planned()
    prefix = _cidr(_CLIENTS[0])
    heard = _told(planner.plan, prefix)

    delta = _then(cluster, planner, Step("hear", SessionDown(_CLIENTS[0], "gone")))

    assert {key.prefix for key in delta.routes} == {prefix}
    assert {key.peer for key in delta.routes} >= heard
    assert not _told(planner.plan, prefix)


def test_the_next_best_path_is_passed_on_and_the_delta_names_all_who_hear_another_route():
    prefix = _cidr(_CLIENTS[0])
    elsewhere = _tells(_REFLECTOR, prefix, next_hop=_CLIENTS[0], originator_id=_CLIENTS[0], cluster_list=(_REFLECTOR,))
    cluster, planner = _planned(Step("hear", elsewhere))
    assert _told(planner.plan, prefix) == {_REFLECTOR, _ROUTER, *_CLIENTS[1:]}

    delta = _then(cluster, planner, Step("hear", SessionDown(_CLIENTS[0], "gone")))

    assert _told(planner.plan, prefix) == {*_CLIENTS[1:]}
    assert planner.plan.routes[RouteKey(_CLIENTS[1], prefix)].attributes.cluster_list == (_US, _REFLECTOR)
    assert {key.prefix for key in delta.routes} == {prefix}
    assert {key.peer for key in delta.routes} >= {_REFLECTOR, _ROUTER, *_CLIENTS[1:]}


def test_all_clients_share_one_route():
    _, planner = _planned()
    routes = [planner.plan.routes[RouteKey(address, _cidr(_CLIENTS[0]))] for address in _CLIENTS[1:]]

    assert all(route is routes[0] for route in routes)


_EVERYBODY = (_REFLECTOR, *_CLIENTS, _ROUTER)
_PREFIXES = tuple(map(_cidr, (_US, _REFLECTOR, *_CLIENTS)))


def _some_paths(peer: IPv4Address) -> st.SearchStrategy[PathsHeard]:
    return st.builds(
        lambda path, prefixes, withdrawn: PathsHeard(peer, withdrawn, ((path, prefixes),)),
        st.builds(
            Path,
            st.just(peer),
            st.sampled_from((peer, peer, *_CLIENTS, ip_address("10.9.0.1"))),
            st.builds(
                Attributes,
                local_pref=st.sampled_from((None, 100, 200)),
                originator_id=st.sampled_from((None, None, _CLIENTS[0], _US)),
                cluster_list=st.sampled_from(((), (_REFLECTOR,), (_US,), (ip_address("1.1.1.1"),))),
            ),
        ),
        st.lists(st.sampled_from(_PREFIXES), max_size=4, unique=True).map(tuple),
        st.lists(st.sampled_from(_PREFIXES), max_size=1).map(tuple),
    )


_steps = st.one_of(
    st.builds(Step, st.just("hear"), st.sampled_from(_EVERYBODY).flatmap(_some_paths)),
    st.builds(Step, st.just("hear"), st.sampled_from(_EVERYBODY).flatmap(_some_paths)),
    st.builds(
        Step,
        st.just("hear"),
        st.builds(_up, st.sampled_from(_EVERYBODY), st.sampled_from((None, ip_address("7.7.7.7")))),
    ),
    st.builds(Step, st.just("hear"), st.builds(SessionDown, st.sampled_from(_EVERYBODY), st.just("gone"))),
    st.builds(
        Step,
        st.just("set"),
        st.builds(_node, st.sampled_from((_US, _REFLECTOR, *_CLIENTS)), reflector=st.booleans()),
    ),
    st.builds(
        Step,
        st.just("set"),
        st.builds(
            lambda cluster_id, mode: replace(
                _INSTANCE, mesh=replace(_INSTANCE.mesh, mode=mode, cluster_id=cluster_id, threshold=1)
            ),
            st.sampled_from((None, ip_address("1.1.1.1"))),
            st.sampled_from((MeshMode.ROUTE_REFLECTOR, MeshMode.ROUTE_REFLECTOR, MeshMode.AUTO, MeshMode.FULL_MESH)),
        ),
    ),
    st.builds(Step, st.just("set"), st.sampled_from((_EXTERNAL_REFLECTOR, replace(_EXTERNAL_REFLECTOR, asn=65001)))),
    st.builds(Step, st.just("remove"), st.sampled_from([Key(Kind.NODE, "", f"n{n}") for n in range(2, 6)])),
)
_histories = st.lists(st.lists(_steps, min_size=1, max_size=4), min_size=1, max_size=15)
_MANY = settings(
    max_examples=settings().max_examples * 3 // 5, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)


@_MANY
@given(st.one_of(_histories, _histories, histories))
def test_after_any_history_of_a_reflector_the_plan_is_that_of_the_definition_and_deltas_lead_to_it(history):
    cluster, planner = _planned()
    followed = dict(planner.plan.routes)
    for steps in history:
        cluster.planned(planner.plan)
        delta = _then(cluster, planner, *steps)
        plan, right = planner.plan, make_plan(cluster.picture)
        _follow(followed, plan, delta)

        assert plan == right
        assert dict(plan.routes) == right.routes == followed
        assert len(plan.routes) == len(right.routes)
        assert len(plan.refused_out) == len(right.refused_out)
        assert reasons(plan.refused_out) == reasons(right.refused_out)
        assert plan.routes.get(RouteKey(_US, _cidr(_US))) is None
        assert RouteKey(_US, _cidr(_US)) not in plan.refused_out


def _follow(followed: dict, plan: NodePlan, delta: PlanDelta) -> None:
    keys = list(delta.routes)
    assert len(set(keys)) == len(keys) == len(delta.routes)
    assert [prefix for prefix, _ in groupby(key.prefix for key in keys)] == list(
        dict.fromkeys(key.prefix for key in keys)
    )
    for key in keys:
        assert key in delta.routes
        followed.pop(key, None)
        if key in plan.routes:
            followed[key] = plan.routes[key]


def _many(clients: int) -> Iterable[Step]:
    """A reflector, and clients that each tell a pod CIDR."""
    yield Step("set", _node(_US, reflector=True))
    yield Step("set", _INSTANCE)
    for number in range(clients):
        address = ip_address("10.1.0.0") + number
        cidr = _cidr_of(number)
        yield Step("set", Node(name=f"c{number}", created=2.0, addresses=(address,), pod_cidrs=(cidr,)))
        yield Step("hear", _up(address))
        yield Step("hear", _tells(address, cidr))


def test_the_memory_of_a_reflector_does_not_grow_with_clients_times_prefixes():
    cluster, planner = Cluster(), Planner()
    for step in _many(300):
        step(cluster)
    planner.update(cluster.picture, cluster.take())
    plan = planner.plan

    assert len(plan.routes) == 300 * 299 + 300
    assert len({id(route) for route in plan.routes.values()}) == 300 + 300
    assert planner.update(cluster.picture, Dirty(everything=True)) == PlanDelta()


def test_one_path_is_named_for_each_client_and_one_client_for_the_table():
    cluster, planner = Cluster(), Planner()
    for step in _many(50):
        step(cluster)
    planner.update(cluster.picture, cluster.take())
    changed, joined = ip_address("10.1.0.7"), ip_address("10.1.1.7")
    cidr = _cidr_of(7)

    delta = _then(cluster, planner, Step("hear", _tells(changed, cidr, med=5)))
    assert {key.prefix for key in delta.routes} == {cidr}
    assert len(delta.routes) == 50

    delta = _then(cluster, planner, Step("set", Node(name="c999", created=3.0, addresses=(joined,))))
    assert {key.peer for key in delta.routes} == {joined}
    assert len(delta.routes) == 51


@pytest.mark.parametrize("what", ["a path", "all paths", "a client"])
def test_the_planner_does_as_much_for_a_change_among_few_clients_as_among_many(what):
    """What each of them is told of it is spelled out by whoever tells them."""
    changed, joined = ip_address("10.1.0.7"), ip_address("10.1.1.7")
    steps = []
    for clients in (20, 200):
        cluster, planner = Cluster(), Planner()
        for step in _many(clients):
            step(cluster)
        planner.update(cluster.picture, cluster.take())
        if what == "a client":
            cluster.set(Node(name="c999", created=3.0, addresses=(joined,)))
        else:
            cidrs = [_cidr_of(number) for number in range(1 if what == "a path" else 20)]
            cluster.hear(_tells(changed, *cidrs, med=5, next_hop=changed))
        steps.append(sum(1 for _ in planner.steps(cluster.picture, cluster.take())))

    assert steps[0] == steps[1]


def _cidr_of(number: int) -> IPv4Network:
    return IPv4Network((int(ip_address("10.128.0.0")) + 256 * number, 24))
