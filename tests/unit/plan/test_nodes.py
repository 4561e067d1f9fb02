"""What each node is in BGP, over time and as seen from every node."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, ip_address, ip_network

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.intent import DRAIN_TAINTS, ExternalPeer, Instance, Mesh, MeshMode, NodeValue, SecretRef, Selector
from agent.model import Key, Kind, Node, Problem, Secret
from agent.plan.definition import make_plan
from agent.plan.leaving import DRAIN_ANNOTATION
from agent.plan.model import Identity, NodePlan
from agent.plan.picture import Picture
from agent.plan.planner import Planner
from bgp.model import Address, Password
from tests.unit.plan.histories import NODES, OWN, Cluster, instances, nodes

_ASN = NodeValue(annotation=False, key="asn")
_LABELS = (("rack", "a"),), (("rack", "b"),)
_RACK_B = Selector(labels=(("rack", "b"),))


def _node(number: int, **spec: object) -> Node:
    cidr = ip_network(f"10.244.{number}.0/24")
    node = Node(name=f"n{number}", created=1.0, addresses=(ip_address(f"10.0.0.{number}"),), pod_cidrs=(cidr,))
    return replace(node, **spec)


_ALL = (_node(1), _node(2), _node(3))
_TOR = ExternalPeer(name="tor", address=ip_address("10.0.0.254"), asn=65001)


def _planned(*records: object) -> tuple[Cluster, Planner]:
    cluster, planner = Cluster(), Planner()
    for record in records:
        cluster.set(record)
    planner.update(cluster.picture, cluster.take())
    cluster.planned(planner.plan)
    return cluster, planner


def _changed(cluster: Cluster, planner: Planner, *records: object) -> set[Address]:
    """The sessions that are others than before."""
    before = dict(planner.plan.peers)
    for record in records:
        cluster.set(record)
    planner.update(cluster.picture, cluster.take())
    cluster.planned(planner.plan)
    after = planner.plan.peers
    return {address for address in before.keys() | after.keys() if before.get(address) != after.get(address)}


def _identity(plan: NodePlan) -> Identity:
    assert plan.identity is not None
    return plan.identity


def _conflicts(plan: NodePlan) -> set[str]:
    return {problem.subject for problem in plan.problems if problem.reason == "instanceConflicted"}


def test_a_newcomer_of_the_same_priority_changes_no_session_and_a_restarted_agent_sees_it_alike():
    incumbent = Instance(name="z-incumbent", created=10.0, asn=65010)
    newcomer = Instance(name="a-newcomer", created=11.0, asn=65011)
    cluster, planner = _planned(*_ALL, incumbent)

    assert _changed(cluster, planner, newcomer) == set()
    assert _conflicts(planner.plan) == {"BGPInstance a-newcomer"}

    restarted = Planner()
    restarted.update(cluster.picture, cluster.take())
    assert restarted.plan == planner.plan


def test_an_instance_of_higher_priority_takes_over_and_gives_back():
    incumbent = Instance(name="incumbent", created=10.0, asn=65010)
    stronger = Instance(name="stronger", created=11.0, asn=65011, priority=1)
    cluster, planner = _planned(*_ALL, incumbent)

    _changed(cluster, planner, stronger)
    assert _identity(planner.plan).asn == 65011
    assert _conflicts(planner.plan) == {"BGPInstance incumbent"}

    cluster.remove(Key(Kind.INSTANCE, "", "stronger"))
    _changed(cluster, planner)
    assert _identity(planner.plan).asn == 65010
    assert _conflicts(planner.plan) == set()


def test_a_node_that_changes_its_as_leaves_and_no_other_session_is_touched():
    labels = (("asn", "65001"),)
    cluster, planner = _planned(
        *(replace(node, labels=labels) for node in _ALL), _TOR, Instance(name="racks", asn=None, asn_from=_ASN)
    )
    assert len(planner.plan.peers) == 3

    away = _ALL[2].addresses[0]
    assert _changed(cluster, planner, _node(3, labels=(("asn", "65002"),))) == set(), "it stays while it is parting"
    assert planner.plan.parting == {_ALL[2].name}
    cluster.let_go(planner.plan.parting)
    assert _changed(cluster, planner) == {away}
    assert _changed(cluster, planner, _node(3, labels=labels)) == {away}


def test_a_node_that_loses_its_own_as_speaks_no_bgp_after_a_while_until_it_has_one_again():
    cluster, planner = _planned(_node(1, labels=(("asn", "65001"),)), Instance(name="racks", asn=None, asn_from=_ASN))
    assert _identity(planner.plan).asn == 65001

    cluster.let_go(frozenset({"n1"}))
    _changed(cluster, planner, _node(1))
    assert planner.plan.identity is None
    assert {problem.reason for problem in planner.plan.problems} == {"asnMissing"}
    assert not planner.plan.fib

    _changed(cluster, planner, _node(1, labels=(("asn", "1.0"),)))
    assert _identity(planner.plan).asn == 65536
    assert planner.plan.problems == frozenset()


def test_another_port_of_some_nodes_changes_the_sessions_with_these_only():
    elsewhere = Instance(name="b", node_selector=_RACK_B, listen_port=1790)
    cluster, planner = _planned(*_ALL[:2], _node(3, labels=(("rack", "b"),)))

    assert _changed(cluster, planner, elsewhere) == {_ALL[2].addresses[0]}
    assert planner.plan.peers[_ALL[2].addresses[0]].port == 1790


def test_a_changed_mesh_secret_changes_the_sessions_between_nodes_only():
    password = Instance(name="main", mesh=Mesh(password_ref=SecretRef("s", "k")))
    cluster, planner = _planned(*_ALL, _TOR, password, Secret(name="s", values=(("k", Password("one")),)))
    others = {_ALL[1].addresses[0], _ALL[2].addresses[0]}
    assert planner.plan.secrets == {"s"}

    assert _changed(cluster, planner, Secret(name="s", values=(("k", Password("two")),))) == others
    assert _changed(cluster, planner, Secret(name="s", values=(("k", Password("two")), ("other", Password("x"))))) == (
        set()
    )
    assert _changed(cluster, planner, Secret(name="s", found=False)) == others
    assert {planner.plan.peers[address].held is not None for address in others} == {True}


def test_without_a_mesh_its_secret_is_not_asked_for():
    lonely = Instance(name="main", mesh=Mesh(mode=MeshMode.NONE, password_ref=SecretRef("s", "k")))
    _, planner = _planned(*_ALL, lonely)

    assert planner.plan.secrets == frozenset()
    assert planner.plan.problems == frozenset()


@pytest.mark.parametrize(
    "sign",
    [
        {"cordoned": True},
        {"ready": False},
        {"annotations": ((DRAIN_ANNOTATION, "rack 7"),)},
        {"taints": (DRAIN_TAINTS[0],)},
    ],
    ids=["cordoned", "not-ready", "drained", "tainted"],
)
def test_a_reflector_that_is_about_to_go_is_replaced_as_all_nodes_can_see(sign: dict[str, object]):
    several = [_node(number) for number in range(1, 6)]
    auto = Instance(name="i0", mesh=Mesh(mode=MeshMode.AUTO, threshold=2))
    cluster, planner = _planned(auto, *several)
    before = _reflectors(planner.plan)
    going = next(node for node in several if node.name in before and node.name != OWN)
    _changed(cluster, planner, replace(going, **sign))

    after = _reflectors(planner.plan)
    assert len(after) == len(before)
    assert going.name not in after
    assert before - {going.name} <= after


def _reflectors(plan: NodePlan) -> frozenset[str]:
    (shape,) = plan.standpoint.shapes.values()
    return shape.reflectors


def test_a_router_id_that_two_nodes_share_is_a_problem_as_long_as_they_do():
    shared = Instance(name="main", router_id=IPv4Address("192.0.2.1"))
    cluster, planner = _planned(_ALL[0], shared)
    assert planner.plan.problems == frozenset()

    _changed(cluster, planner, _ALL[1], _ALL[2])
    (problem,) = planner.plan.problems
    assert problem.reason == "duplicateRouterID"
    assert "192.0.2.1 of Node n1" in problem.message
    assert "also that of Node n2 and 1 more" in problem.message
    assert "AS 64512" in problem.message

    for name in ("n2", "n3"):
        cluster.remove(Key(Kind.NODE, "", name))
    _changed(cluster, planner)
    assert planner.plan.problems == frozenset[Problem]()


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(nodes, max_size=3), st.lists(instances, max_size=3))
def test_two_nodes_always_agree_on_their_session(some_nodes, some_instances):
    """It is wanted on both sides or none, over the same addresses and AS, one side dials, and finds the other there."""
    cluster = Cluster()
    racks = (_node(number + 1, name=name, labels=_LABELS[number % 2]) for number, name in enumerate(NODES))
    for record in (*racks, *some_nodes, *some_instances):
        cluster.set(record)
    plans = {name: make_plan(Picture(name, cluster.world, cluster.rib, cluster.interfaces)) for name in NODES}

    for plan in plans.values():
        for peer in plan.peers.values():
            other = plans[peer.name.removeprefix("node/")]
            (back,) = [found for found in other.peers.values() if found.address == peer.local_address]
            assert (back.local_address, back.local_asn) == (peer.address, peer.peer_asn)
            assert (back.families, back.passive) == (peer.families, not peer.passive)
            assert (back.listen_port, back.port) == (peer.port, peer.listen_port)
            assert other.identity is not None
            assert other.identity.asn == peer.peer_asn
