"""What stays of sessions between nodes when they are wanted otherwise (`agent.plan.mesh`): make before break."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, ip_address, ip_interface, ip_network
from typing import Final

import pytest

from agent.intent import Instance, Mesh, MeshMode, NodeValue, SecretRef, Selector, ServiceRoutes
from agent.model import Interface, Key, Kind, Node, Secret, Service
from agent.plan.definition import make_plan
from agent.plan.model import NodePlan
from agent.plan.planner import Dirty, Planner
from bgp.model import Address, Attributes, Held, Password, Path, PathsHeard, RouteKey
from tests.unit.plan.histories import Cluster

_NODES = tuple(
    Node(
        name=f"n{number}",
        created=1.0,
        addresses=(ip_address(f"10.0.0.{number}"),),
        pod_cidrs=(ip_network(f"10.244.{number}.0/24"),),
        labels=(("reflector", "yes"),) if number == 1 else (),
    )
    for number in (1, 2, 3)
)
_OTHERS = {node.addresses[0] for node in _NODES[1:]}
_MESHED = Instance(name="all", created=1.0, mesh=Mesh(mode=MeshMode.FULL_MESH))
_REFLECTED = replace(
    _MESHED, mesh=Mesh(mode=MeshMode.ROUTE_REFLECTOR, reflector_selector=Selector(labels=(("reflector", "yes"),)))
)
_AS_FROM_LABEL = replace(_MESHED, asn=None, asn_from=NodeValue(annotation=False, key="asn"))
_WITH_PASSWORD = replace(_MESHED, mesh=replace(_MESHED.mesh, password_ref=SecretRef("mesh", "md5")))


class _Running:
    """The planner of n1."""

    def __init__(self, instance: Instance) -> None:
        self.cluster, self.planner = Cluster(), Planner()
        self.then(*_NODES, instance)

    def then(self, *records: Node | Instance | Secret | Service) -> None:
        for record in records:
            self.cluster.set(record)
        picture = self.cluster.picture
        self.planner.update(picture, self.cluster.take())
        assert self.planner.plan == make_plan(picture)
        self.cluster.planned(self.planner.plan)

    @property
    def clients(self) -> set[Address]:
        return {address for address, peer in self.planner.plan.peers.items() if peer.client}

    def reflects(self) -> bool:
        return self.planner.plan.standpoint.cluster_id is not None


def test_a_reflector_that_is_needed_no_more_goes_on_until_its_clients_have_had_time_to_meet() -> None:
    running = _Running(_REFLECTED)
    assert running.clients == _OTHERS

    running.then(_MESHED)
    assert running.clients == _OTHERS
    assert running.reflects()
    assert running.planner.plan.former_clients == {"n2", "n3"}
    assert running.planner.plan.parting == frozenset()

    running.cluster.let_go(running.planner.plan.former_clients)
    running.then()
    assert running.clients == set()
    assert running.planner.plan.peers.keys() == _OTHERS
    assert not running.reflects()
    assert running.planner.plan.former_clients == frozenset()


def test_a_reflector_that_is_needed_again_has_nothing_that_parts() -> None:
    running = _Running(_REFLECTED)

    running.then(_MESHED)
    running.then(_REFLECTED)

    assert running.clients == _OTHERS
    assert running.planner.plan.former_clients == frozenset()


def test_a_session_is_what_it_was_while_its_new_password_is_on_its_way() -> None:
    running = _Running(_MESHED)
    before = dict(running.planner.plan.peers)

    running.then(_WITH_PASSWORD)
    assert running.planner.plan.peers == before
    assert running.planner.plan.secrets == {"mesh"}

    running.then(Secret(name="mesh", values=(("md5", Password("swordfish")),)))
    assert {peer.password for peer in running.planner.plan.peers.values()} == {Password("swordfish")}


def test_a_session_whose_secret_turns_out_to_be_missing_goes_down() -> None:
    running = _Running(_MESHED)

    running.then(_WITH_PASSWORD)
    running.then(Secret(name="mesh", found=False))

    assert {peer.held for peer in running.planner.plan.peers.values()} == {Held("secretMissing")}


def test_a_session_that_never_was_waits_for_its_password() -> None:
    running = _Running(_WITH_PASSWORD)

    assert {peer.held for peer in running.planner.plan.peers.values()} == {Held("secretPending")}


def test_a_node_whose_as_nobody_names_any_more_stays_what_it_was_until_its_time_is_over() -> None:
    running = _Running(_MESHED)
    before = dict(running.planner.plan.peers)

    running.then(_AS_FROM_LABEL)
    assert running.planner.plan.peers == before
    assert running.planner.plan.parting == {"n1", "n2", "n3"}
    assert "asnMissing" in {problem.reason for problem in running.planner.plan.problems}

    running.cluster.let_go(running.planner.plan.parting)
    running.then()
    assert running.planner.plan.identity is None
    assert not running.planner.plan.peers
    assert running.planner.plan.parting == frozenset()


_FOR_NOW: Final = "; it goes on in AS 64512, which it had, for two minutes at most"


@pytest.mark.parametrize("named", [None, "rack 7"], ids=["missing", "invalid"])
def test_that_a_node_goes_on_in_the_as_that_it_had_is_said_for_as_long_as_it_does(named: str | None) -> None:
    running = _Running(_MESHED)

    running.then(_AS_FROM_LABEL, *([] if named is None else [replace(_NODES[0], labels=(("asn", named),))]))
    going_on = _about_the_as(running)
    running.cluster.let_go(running.planner.plan.parting)
    running.then()

    assert going_on.endswith("without an AS it speaks no BGP" + _FOR_NOW)
    assert _about_the_as(running) == going_on.removesuffix(_FOR_NOW)


def _about_the_as(running: _Running) -> str:
    (found,) = (one.message for one in running.planner.plan.problems if one.reason in {"asnMissing", "asnInvalid"})
    return found


def test_a_node_that_never_had_an_as_is_given_none() -> None:
    running = _Running(_AS_FROM_LABEL)

    assert running.planner.plan.identity is None


_LEFT: Final = _NODES[1].addresses[0]
"""The address of n2, whose Node is deleted."""


def _delete(running: _Running, *then: Node) -> NodePlan:
    running.cluster.remove(Key(Kind.NODE, "", "n2"))
    running.then(*then)
    return running.planner.plan


def test_a_node_that_is_deleted_is_told_all_until_its_time_is_over() -> None:
    running = _Running(_MESHED)
    told = {key for key in running.planner.plan.routes if key.peer == _LEFT}

    plan = _delete(running)
    assert told
    assert told <= plan.routes.keys()
    assert plan.parting == {"n2"}

    running.cluster.let_go(plan.parting)
    running.then()
    assert running.planner.plan.peers.keys() == _OTHERS - {_LEFT}
    assert running.planner.plan.parting == frozenset()


def test_the_session_with_a_node_that_was_deleted_before_a_start_is_as_one_that_was_there() -> None:
    running = _Running(_MESHED)
    wanted = _delete(running)
    picture, fresh = running.cluster.picture, Planner()

    fresh.update(picture, Dirty(everything=True))

    assert fresh.plan == make_plan(picture) == wanted
    assert fresh.plan.parting == {"n2"}


def test_nothing_leads_to_a_node_that_is_deleted_but_what_it_passes_on_stays() -> None:
    running = _Running(replace(_MESHED, service_routes=ServiceRoutes.IMPORT))
    vip, of_n3 = ip_network("10.96.0.7/32"), _NODES[2].pod_cidrs[0]
    own = Path(_LEFT, _LEFT, Attributes(local_pref=100))
    passed_on = Path(_LEFT, _NODES[2].addresses[0], replace(own.attributes, originator_id=IPv4Address("10.0.0.3")))
    running.cluster.link((Interface(2, "eth0", up=True, addresses=(ip_interface("10.0.0.1/24"),)),))
    running.then(Service(namespace="default", name="web", cluster_ips=(vip[0],)))
    running.cluster.hear(PathsHeard(_LEFT, announced=((own, (vip, _NODES[1].pod_cidrs[0])), (passed_on, (of_n3,)))))
    running.then()
    before = {key.prefix for key in running.planner.plan.fib}
    assert {vip, of_n3} < before

    plan = _delete(running)
    assert {key.prefix for key in plan.fib} == before - {vip, _NODES[1].pod_cidrs[0]}
    assert plan.refused_in[RouteKey(_LEFT, vip)] == "peerUnknown"


def test_whoever_has_the_address_of_a_node_that_is_deleted_gets_the_session() -> None:
    running = _Running(_MESHED)

    plan = _delete(running, replace(_NODES[1], name="n9", created=2.0))
    assert plan.peers[_LEFT].name == "node/n9"
    assert "peerAddressConflict" not in {problem.reason for problem in plan.problems}


def test_a_node_that_is_made_again_parts_no_more() -> None:
    running = _Running(_MESHED)
    before = dict(running.planner.plan.peers)

    _delete(running)
    running.then(_NODES[1])
    assert running.planner.plan.peers == before
    assert running.planner.plan.parting == frozenset()
    assert not running.planner.plan.mesh["n2"].gone
