"""Objects that mean no Node, kept up to date as nodes come, change and go."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from agent.advertising import Advertisement, AdvertisementType
from agent.cluster.world import World
from agent.intent import ExternalPeer, Instance, Mesh, MeshMode, Selector, ServiceRoutes
from agent.model import Applied, Gone, Key, Kind, Node, Problem
from agent.plan.merge import Contributions
from agent.plan.selectors import Meant, idle
from agent.plan.steps import finish

RACK = (("rack", "a"),)
PEER = Key(Kind.PEER, "", "tor")
TOR = ExternalPeer(name="tor", address=ip_address("192.0.2.1"), asn=65001, node_selector=Selector(labels=RACK))


class Scene:
    def __init__(self) -> None:
        self.world, self.problems = World(), Contributions[Problem, None]()
        self.meant = Meant(self.problems)

    def apply(self, change: Applied | Gone) -> set[str]:
        """The reason words after it, which must be those that a look at everything finds."""
        finish(self.meant.update(self.world, self.world.apply(change), everything=False))
        assert {*self.problems.keys()} == {*idle(self.world)}
        return {problem.reason for problem in {*self.problems.keys()}}


def node(name: str, *labels: tuple[str, str]) -> Applied:
    return Applied(Key(Kind.NODE, "", name), Node(name=name, labels=labels))


def test_an_object_means_nobody_when_the_last_node_it_meant_has_other_labels_or_is_gone() -> None:
    scene, nothing = Scene(), {"nodeSelectorSelectsNothing"}
    scene.apply(node("n1", *RACK))
    scene.apply(node("n2", *RACK))
    assert scene.apply(Applied(PEER, TOR)) == set()

    assert scene.apply(node("n1")) == set()
    assert scene.apply(node("n2")) == nothing
    assert scene.apply(node("n1", *RACK)) == set()
    assert scene.apply(Gone(Key(Kind.NODE, "", "n1"))) == nothing
    assert scene.apply(Gone(PEER)) == set()


def advertisement(of: AdvertisementType, *labels: tuple[str, str]) -> Applied:
    key = Key(Kind.ADVERTISEMENT, "", "services")
    return Applied(key, Advertisement(name="services", type=of, node_selector=Selector(labels=labels)))


def instance(
    *labels: tuple[str, str], routes: ServiceRoutes = ServiceRoutes.ANNOUNCE, mesh: MeshMode = MeshMode.AUTO
) -> Applied:
    selector = Selector(labels=labels)
    found = Instance(name="main", node_selector=selector, service_routes=routes, mesh=Mesh(mode=mesh))
    return Applied(Key(Kind.INSTANCE, "", "main"), found)


@pytest.mark.parametrize("of", [AdvertisementType.SERVICE, AdvertisementType.PREFIX])
def test_an_advertisement_for_all_routers_is_for_nobody_while_there_is_none_on_a_node_of_its_own(
    of: AdvertisementType,
) -> None:
    scene, nobody = Scene(), {"noPeer"}
    scene.apply(node("n1", *RACK))
    scene.apply(node("n2"))
    assert scene.apply(advertisement(of)) == nobody

    assert scene.apply(Applied(PEER, TOR)) == set()
    assert scene.apply(node("n1")) == {"nodeSelectorSelectsNothing", "noPeer"}
    assert scene.apply(node("n2", *RACK)) == set()
    assert scene.apply(Gone(PEER)) == nobody
    assert scene.apply(Gone(Key(Kind.ADVERTISEMENT, "", "services"))) == set()


def test_an_advertisement_of_pod_cidrs_needs_no_router() -> None:
    scene = Scene()
    scene.apply(node("n1"))

    assert scene.apply(advertisement(AdvertisementType.POD_CIDR)) == set()


def test_an_advertisement_of_services_needs_no_router_where_nodes_tell_each_other() -> None:
    scene = Scene()
    scene.apply(node("n1", *RACK))
    scene.apply(advertisement(AdvertisementType.SERVICE, *RACK))

    assert scene.apply(instance(*RACK)) == set()
    assert scene.apply(instance(*RACK, mesh=MeshMode.NONE)) == {"noPeer"}
    assert scene.apply(instance(*RACK, routes=ServiceRoutes.OFF)) == {"noPeer"}
    assert scene.apply(instance(("rack", "b"))) == {"nodeSelectorSelectsNothing", "noPeer"}


def test_static_prefixes_go_to_routers_only_so_that_nodes_which_tell_each_other_do_not_help() -> None:
    scene = Scene()
    scene.apply(node("n1", *RACK))
    scene.apply(instance(*RACK))

    assert scene.apply(advertisement(AdvertisementType.PREFIX, *RACK)) == {"noPeer"}


def test_what_has_nothing_to_do_with_it_costs_nothing() -> None:
    scene = Scene()
    scene.apply(node("n1"))
    scene.apply(Applied(PEER, TOR))

    assert not list(scene.meant.update(scene.world, [Key(Kind.SERVICE, "default", "web")], everything=False))
