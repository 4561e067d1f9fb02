"""The BGPNodeState of each node, as two real agents keep it: what it says, when it is written, and when it is not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import takewhile
from typing import Any

import pytest

from agent.cluster.nodestate import JOIN_SECONDS, LEAST_SECONDS, PATH
from tests.lab.frr import Frr
from tests.lab.minicluster import Agent, MiniCluster, custom, service_object, tor, tor_peer
from tests.lab.topology import Lab, Node
from tests.lab.wait import wait_until

pytestmark = pytest.mark.live

SERVICES = custom("BGPAdvertisement", "services", {"type": "Service", "service": {"addresses": ["ClusterIP"]}})
SECONDS = 60.0


class Scene:
    """Two nodes and the router that both peer with."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.frr: Frr = tor(lab.router)
        self.cluster = MiniCluster(lab)
        self.api = self.cluster.api
        self.api.apply(tor_peer(lab.router), SERVICES, service_object("web", ["10.96.0.80"]))
        self.cluster.start()
        for node in lab.nodes.values():
            self.wait_well(node)

    def object(self, node: Node) -> dict[str, Any]:
        """AssertionError while there is none."""
        found = [it for it in self.api.list("BGPNodeState") if it["metadata"]["name"] == node.name]
        assert found, f"no BGPNodeState {node.name}"
        return found[0]

    def state(self, node: Node) -> Mapping[str, Any]:
        status: Mapping[str, Any] = self.object(node).get("status", {})
        return status

    def router(self, node: Node) -> Mapping[str, Any]:
        (told,) = (it for it in self.state(node).get("peers", ()) if it["name"] == "BGPPeer/tor")
        return dict(told)

    def conditions(self, node: Node, kind: str, name: str) -> dict[str, tuple[str, str]]:
        """Type → status and reason."""
        (found,) = (it for it in self.state(node)["resources"] if (it["kind"], it["name"]) == (kind, name))
        return {it["type"]: (it["status"], it["reason"]) for it in found["conditions"]}

    def ready(self, node: Node) -> tuple[str, str]:
        (found,) = self.state(node)["conditions"]
        return found["status"], found["reason"]

    def wait_well(self, node: Node) -> None:
        def well() -> None:
            assert self.state(node).get("summary", {}).get("peers") == "2/2", self.state(node)
            assert self.ready(node) == ("True", "Ready"), self.state(node)

        wait_until(lambda: well() is None, within=SECONDS)

    def versions(self, node: Node, since: str) -> list[Mapping[str, Any]]:
        """Status of each version after the resourceVersion `since`, up to now, as a watch tells them."""
        now = self.object(node)["metadata"]["resourceVersion"]
        if now == since:
            return []
        stream = self.api.client().watch(f"{PATH}?watch=1&resourceVersion={since}")
        things = (event["object"] for event in stream if event["type"] == "MODIFIED")
        own = (thing for thing in things if thing["metadata"]["name"] == node.name)
        found = list(takewhile(lambda thing: thing["metadata"]["resourceVersion"] != now, own))
        return [*(thing["status"] for thing in found), self.state(node)]


@pytest.fixture(scope="module")
def scene() -> Iterator[Scene]:
    with Lab(nodes=2) as lab:
        scene = Scene(lab)
        yield scene
        scene.cluster.close()


def test_each_node_has_one_that_is_owned_by_it_and_says_who_it_is(scene: Scene) -> None:
    for node in scene.lab.nodes.values():
        owner = scene.api.get("Node", node.name)["metadata"]["uid"]
        metadata, state = scene.object(node)["metadata"], scene.state(node)

        assert [it["uid"] for it in metadata["ownerReferences"]] == [owner]
        assert state["addresses"] == [str(address) for address in node.addresses]
        assert state["podCIDRs"] == [str(cidr) for cidr in node.pod_cidrs.values()]
        assert (state["mesh"]["configured"], state["mesh"]["established"]) == (1, 1)
        assert [it["name"] for it in state["peers"]] == ["BGPPeer/tor"]


def test_what_means_the_node_is_accepted_resolved_programmed_and_ready(scene: Scene) -> None:
    types = ("Accepted", "ResolvedRefs", "Programmed", "Ready")

    for node in scene.lab.nodes.values():
        for kind, name in (("BGPPeer", "tor"), ("BGPAdvertisement", "services")):
            wanted = {each: ("True", each) for each in types}
            wait_until(
                lambda node=node, kind=kind, name=name, wanted=wanted: scene.conditions(node, kind, name) == wanted,
                within=SECONDS,
            )


def test_nothing_but_a_heartbeat_is_written_while_nothing_worth_it_changes(scene: Scene) -> None:
    """The last change that is made is worth it, and shows; those before it are passes of the agents like any other."""
    node = scene.lab.node(1)
    before = scene.object(node)
    agent = scene.cluster.agent(node)
    passes = agent.view("status")["loop"]["passes"]

    for number in range(3):  # a new label of a Service makes a pass
        scene.api.merge("Service", "web", {"metadata": {"labels": {"turn": str(number)}}}, "default")
        wait_until(lambda number=number: agent.view("status")["loop"]["passes"] > passes + number, within=SECONDS)
    wait_looked(agent)
    scene.api.merge("BGPAdvertisement", "services", {"spec": {"service": {"addresses": ["ExternalIP"]}}})
    wait_until(lambda: generation(scene, node) == 2, within=SECONDS)

    *between, last = [without_time(it) for it in scene.versions(node, before["metadata"]["resourceVersion"])]
    assert all(it == without_time(before["status"]) for it in between)
    assert len(between) <= 1, "there is at most one heartbeat in so short a time"
    assert last != without_time(before["status"])


def wait_looked(agent: Agent) -> None:
    """What should stand there has been looked at since, and written if it was worth it."""
    looked = agent.view("status")["uptime_seconds"] + LEAST_SECONDS + 2 * max(JOIN_SECONDS)
    wait_until(lambda: agent.view("status")["uptime_seconds"] > looked, within=SECONDS)


def generation(scene: Scene, node: Node) -> int:
    resources = scene.state(node)["resources"]
    (found,) = (it["conditions"][-1] for it in resources if it["name"] == "services")
    return int(found["observedGeneration"])


def without_time(status: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in status.items() if key != "heartbeatTime"}


def test_a_router_that_is_taken_down_shows_within_seconds_with_the_error(scene: Scene) -> None:
    scene.frr.stop()

    for node in scene.lab.nodes.values():
        wait_until(lambda node=node: not scene.router(node)["established"], within=20)
        told = scene.router(node)
        assert told["reason"] == "notEstablished"
        assert told["lastError"]["text"]
        assert str(scene.lab.router.address()) in told["message"]
        assert scene.state(node)["summary"]["peers"] == "1/2"
        assert scene.conditions(node, "BGPPeer", "tor")["Ready"] == ("False", "notEstablished")
        assert scene.conditions(node, "BGPPeer", "tor")["Programmed"] == ("True", "Programmed")


def test_a_router_that_is_back_shows_too(scene: Scene) -> None:
    scene.frr = tor(scene.lab.router)

    for node in scene.lab.nodes.values():
        scene.wait_well(node)


def test_an_agent_that_is_stopped_says_so_and_one_that_is_back_keeps_the_times_of_what_has_not_changed(
    scene: Scene,
) -> None:
    node = scene.lab.node(2)
    before = scene.state(node)["resources"]
    agent = scene.cluster.agent(node)

    assert agent.stop() == 0
    assert scene.ready(node) == ("Unknown", "Stopped")
    assert scene.state(node)["summary"]["problems"] == "Stopped"
    assert scene.state(node)["resources"] == before
    agent.restart()
    scene.wait_well(node)

    assert scene.state(node)["resources"] == before


def test_an_agent_that_is_killed_keeps_them_too(scene: Scene) -> None:
    node = scene.lab.node(2)
    before = scene.state(node)
    agent = scene.cluster.agent(node)

    agent.kill()
    agent.restart()
    wait_until(lambda: scene.state(node)["agent"] != before["agent"], within=SECONDS)

    assert scene.state(node)["conditions"] == before["conditions"]
    assert scene.state(node)["resources"] == before["resources"]


def test_an_api_server_without_it_or_away_disturbs_no_session_and_is_told_later(scene: Scene) -> None:
    node = scene.lab.node(1)
    flaps = scene.cluster.flaps()

    scene.api.cut()
    scene.frr.stop()
    address = str(scene.lab.router.address())
    for agent in scene.cluster.agents.values():
        wait_until(lambda agent=agent: not agent.view("peers")["peers"][address]["is_up"], within=SECONDS)
    scene.api.restore()

    wait_until(lambda: not scene.router(node)["established"], within=SECONDS)
    assert scene.cluster.flaps() == flaps + len(scene.lab.nodes)
    assert scene.state(node)["mesh"]["established"] == 1


def test_a_node_that_is_gone_gets_no_other(scene: Scene) -> None:
    node = scene.lab.node(1)
    agent = scene.cluster.agent(node)
    scene.api.delete("Node", node.name)
    wait_until(lambda: agent.view("status")["leaving"] is not None, within=SECONDS)
    scene.api.delete("BGPNodeState", node.name)

    wait_looked(agent)
    assert agent.stop() == 0

    assert node.name not in {it["metadata"]["name"] for it in scene.api.list("BGPNodeState")}
