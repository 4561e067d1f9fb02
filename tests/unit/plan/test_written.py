"""What becomes of a router whose address on the Node is changed to nonsense (`agent.plan.written`)."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address

import pytest

from agent.intent import ExternalPeer, Instance, NodeValue, Selector
from agent.model import Key, Kind, Node
from agent.plan.definition import make_plan
from agent.plan.planner import Planner
from bgp.model import Address
from tests.unit.plan.histories import OWN, Cluster

_HERE = Node(name=OWN, created=1.0, addresses=(ip_address("10.0.0.2"),), labels=(("tor", "10.0.0.254"),))
_TOR = ExternalPeer(name="tor", address_from=NodeValue(annotation=False, key="tor"), asn=65001)
_SPOILED = replace(_HERE, labels=(("tor", "rack 7"),))
_ROUTER = ip_address("10.0.0.254")


class _Running:
    def __init__(self, *records: Node | ExternalPeer) -> None:
        self.cluster, self.planner = Cluster(), Planner()
        self.then(*records)

    def then(self, *records: Node | ExternalPeer | Instance) -> set[Address]:
        """The routers after these changes, made at once."""
        for record in records:
            self.cluster.set(record)
        picture = self.cluster.picture
        self.planner.update(picture, self.cluster.take())
        assert self.planner.plan == make_plan(picture)
        self.cluster.planned(self.planner.plan)
        return set(self.planner.plan.peers)

    def said(self) -> list[str]:
        return [problem.message for problem in self.planner.plan.problems if problem.reason == "peerAddressInvalid"]


def test_a_router_whose_address_is_spoiled_stays_for_as_long_as_it_is_and_the_problem_says_so() -> None:
    running = _Running(_HERE, _TOR)
    before = dict(running.planner.plan.peers)

    for _ in range(3):
        running.then(_SPOILED)
        assert running.planner.plan.peers == before
        (said,) = running.said()
        assert said.endswith(": it goes on with 10.0.0.254, which it had, until the agent restarts")


@pytest.mark.parametrize("labels", [(), (("tor", ""),)], ids=["removed", "emptied"])
@pytest.mark.parametrize("before", [_HERE, _SPOILED], ids=["a good one", "a spoiled one"])
def test_a_label_that_is_taken_away_ends_the_session(before: Node, labels: tuple[tuple[str, str], ...]) -> None:
    running = _Running(_HERE, _TOR)
    running.then(before)

    assert running.then(replace(_HERE, labels=labels)) == set()
    assert running.then(_SPOILED) == set()


def test_a_spoiled_address_that_is_corrected_names_the_new_router_alone() -> None:
    running = _Running(_HERE, _TOR)
    running.then(_SPOILED)

    assert running.then(replace(_HERE, labels=(("tor", "10.0.0.253"),))) == {ip_address("10.0.0.253")}
    assert running.said() == []


def test_a_peer_that_is_pointed_at_a_label_with_nonsense_keeps_its_router() -> None:
    running = _Running(replace(_HERE, labels=(*_HERE.labels, ("other", "rack 7"))), _TOR)

    assert running.then(replace(_TOR, address_from=NodeValue(annotation=False, key="other"))) == {_ROUTER}

    fixed = replace(_TOR, address=_ROUTER, address_from=None)
    running.then(fixed)
    assert running.then(replace(_TOR, address_from=NodeValue(annotation=False, key="other"))) == {_ROUTER}


def test_a_peer_that_did_not_select_the_node_in_between_or_was_gone_has_forgotten_its_router() -> None:
    running = _Running(_HERE, _TOR)
    running.then(_SPOILED, replace(_TOR, node_selector=Selector(labels=(("rack", "a"),))))
    assert running.then(_TOR) == set()

    running.then(_HERE)
    running.cluster.remove(Key(Kind.PEER, "", "tor"))
    running.then(_SPOILED)
    assert running.then(_TOR) == set()


def test_an_agent_that_starts_with_nonsense_on_its_node_has_no_session_and_says_why() -> None:
    running = _Running(_SPOILED, _TOR)

    assert running.planner.plan.peers == {}
    (said,) = running.said()
    assert said.endswith(": there is no session")
