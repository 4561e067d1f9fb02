"""Objects that mean no Node, kept up to date as nodes come, change and go."""

from __future__ import annotations

from ipaddress import ip_address

from agent.cluster.world import World
from agent.intent import ExternalPeer, Selector
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


def test_what_has_nothing_to_do_with_it_costs_nothing() -> None:
    scene = Scene()
    scene.apply(node("n1"))
    scene.apply(Applied(PEER, TOR))

    assert not list(scene.meant.update(scene.world, [Key(Kind.SERVICE, "default", "web")], everything=False))
