"""Kubernetes Events as kubectl shows them: which ones the agents of a cluster write, on which object, and how often."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.lab.frr import Frr
from tests.lab.minicluster import Agent, MiniCluster, custom, service_object, tor, tor_peer
from tests.lab.topology import Lab
from tests.lab.wait import wait_until

pytestmark = pytest.mark.live

EXTERNAL = "198.51.100.7"
SERVICES = custom("BGPAdvertisement", "services", {"type": "Service", "service": {"addresses": ["ExternalIP"]}})
REFUSED = ("203.0.113.0/24", "2001:db8:113::/48")
"""The router announces them from the start: it takes half a minute until that is worth an Event."""
NOBODY = {"matchLabels": {"nobody": "has-this"}}
IDLE = {
    "advertisementSelectsNothing": custom(
        "BGPAdvertisement", "idle", {"type": "Service", "service": {"addresses": ["ClusterIP"], "selector": NOBODY}}
    ),
    "peerSelectorSelectsNothing": custom("BGPAdvertisement", "unheard", {"type": "PodCIDR", "peerSelector": NOBODY}),
    "nodeSelectorSelectsNothing": custom(
        "BGPPeer", "nowhere", {"address": "198.51.100.254", "asn": 65010, "nodeSelector": NOBODY}
    ),
}
"""By the reason word that is said of it."""


class Scene:
    """Two nodes and the router that both peer with."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.frr: Frr = tor(lab.router)
        self.frr.announce(*REFUSED)
        self.cluster = MiniCluster(lab)
        self.api = self.cluster.api
        self.api.apply(tor_peer(lab.router), SERVICES)
        self.cluster.start()
        wait_until(lambda: self.of("Node") == {("BGPPeerEstablished", name) for name in lab.nodes}, within=90)

    def events(self) -> list[dict[str, Any]]:
        return list(self.api.list("Event"))

    def on(self, kind: str, name: str) -> list[dict[str, Any]]:
        about = ("kind", kind), ("name", name)
        return [one for one in self.events() if all(one["involvedObject"][key] == value for key, value in about)]

    def of(self, kind: str) -> set[tuple[str, str]]:
        """Reason and name of the object."""
        found = (one for one in self.events() if one["involvedObject"]["kind"] == kind)
        return {(one["reason"], one["involvedObject"]["name"]) for one in found}

    def expose(self, name: str, address: str) -> None:
        self.api.apply(service_object(name, ["10.96.0.80"], external_ips=[address]))


@pytest.fixture(scope="module")
def built() -> Iterator[Scene]:
    with Lab(nodes=2) as lab:
        scene = Scene(lab)
        yield scene
        scene.cluster.close()


@pytest.fixture
def scene(built: Scene) -> Iterator[Scene]:
    yield built
    for service in built.api.list("Service"):
        built.api.delete("Service", service["metadata"]["name"], "default")
    there = {
        (kind, one["metadata"]["name"]) for kind in ("BGPAdvertisement", "BGPPeer") for one in built.api.list(kind)
    }
    for idle in IDLE.values():
        if (idle["kind"], idle["metadata"]["name"]) in there:
            built.api.delete(idle["kind"], idle["metadata"]["name"])


def test_a_service_that_no_node_announces_gets_one_event_with_the_reason(scene: Scene) -> None:
    scene.expose("web", EXTERNAL)
    scene.expose("shop", "198.51.100.8")

    wait_until(lambda: scene.on("Service", "web") and scene.on("Service", "shop"))
    (event,) = scene.on("Service", "web")
    service = scene.api.get("Service", "web", "default")
    assert (event["type"], event["reason"], event["count"]) == ("Warning", "RouteNotAdvertised", 1)
    assert event["message"].startswith(f"externalIPNotAllowed: {EXTERNAL} is not announced")
    assert event["involvedObject"]["uid"] == service["metadata"]["uid"]
    assert event["metadata"]["namespace"] == "default"


def test_the_end_of_a_refusal_is_told_too(scene: Scene) -> None:
    scene.expose("mended", EXTERNAL)
    wait_until(lambda: scene.on("Service", "mended"))

    scene.api.apply(custom("BGPInstance", "default", {"allowedExternalIPs": [f"{EXTERNAL}/32"]}))

    wait_until(lambda: ("RouteAdvertised", "mended") in scene.of("Service"))
    scene.api.delete("BGPInstance", "default")


def test_each_object_that_selects_nothing_gets_one_event_with_the_reason(scene: Scene) -> None:
    scene.expose("busy", EXTERNAL)  # so that the other BGPAdvertisement selects something
    scene.api.apply(*IDLE.values())

    for reason, idle in IDLE.items():
        kind, name = idle["kind"], idle["metadata"]["name"]
        wait_until(lambda kind=kind, name=name: scene.on(kind, name))
        (event,) = scene.on(kind, name)
        assert (event["type"], event["reason"], event["count"]) == ("Warning", "ConfigInvalid", 1)
        assert event["message"].startswith(f"{reason}: ")
        for agent in scene.cluster.agents.values():  # the Event is of one of them
            sample = f'bgpilot_problems{{reason="{reason}"}} 1.0'
            wait_until(lambda agent=agent, sample=sample: sample in metrics_of(agent))
            assert f"{kind} {name}" in agent.cli("status").stdout
    wait_until(lambda: scene.on("Service", "busy"))  # or it comes while others look


def test_a_route_that_is_not_used_gets_one_event_on_the_bgppeer_with_the_reason(scene: Scene) -> None:
    """Of both routes and on both nodes: the BGPPeer is what would be changed."""

    def refused() -> list[dict[str, Any]]:
        return [one for one in scene.on("BGPPeer", "tor") if one["reason"] == "RouteRefused"]

    wait_until(refused, within=60)
    (event,) = refused()
    assert (event["type"], event["count"]) == ("Normal", 1)
    assert event["message"].startswith("importNotAllowed: a route it announces is not used, such as ")
    assert any(prefix in event["message"] for prefix in REFUSED)
    for agent in scene.cluster.agents.values():
        assert 'bgpilot_routes_refused{direction="in",reason="importNotAllowed"} 2.0' in metrics_of(agent)
        for prefix in REFUSED:
            assert "importNotAllowed" in agent.cli("explain", prefix).stdout


def test_nothing_is_written_while_nothing_worth_it_changes(scene: Scene) -> None:
    scene.expose("standing", EXTERNAL)
    wait_until(lambda: scene.on("Service", "standing"))
    before = scene.events()

    for number in range(20):  # each is a pass of both agents
        scene.api.merge("Service", "standing", {"metadata": {"labels": {"turn": str(number)}}}, "default")
    scene.expose("last", "198.51.100.9")
    wait_until(lambda: scene.on("Service", "last"))

    fence = scene.on("Service", "last")
    assert [one for one in scene.events() if one not in fence] == before


def test_an_agent_that_is_restarted_does_not_repeat_what_stands(scene: Scene) -> None:
    scene.expose("known", EXTERNAL)
    wait_until(lambda: scene.on("Service", "known"))
    before = scene.on("Service", "known")

    for agent in scene.cluster.agents.values():
        agent.stop()
        agent.restart()

    for node in scene.lab.nodes.values():
        wait_until(lambda node=node: repeated(scene, node.name) > 0, within=60)
    assert scene.on("Service", "known") == before


def repeated(scene: Scene, node: str) -> int:
    """How many Events this agent was about to write and found there."""
    text = metrics_of(scene.cluster.agents[node])
    counts = [
        line.split()[1] for line in text.splitlines() if line.startswith('bgpilot_events_total{result="repeated"')
    ]
    return int(float(counts[0])) if counts else 0


def metrics_of(agent: Agent) -> str:
    return agent.namespace.run(["curl", "-s", "http://127.0.0.1:9817/metrics"]).stdout


def test_a_session_that_is_lost_is_told_on_the_node_with_the_error(scene: Scene) -> None:
    scene.frr.stop()

    for name in scene.lab.nodes:
        wait_until(lambda name=name: ("BGPPeerDown", name) in scene.of("Node"))
        (event,) = (one for one in scene.on("Node", name) if one["reason"] == "BGPPeerDown")
        assert event["message"].startswith(f"BGPPeer tor ({scene.lab.router.address()}): ")
        assert scene.cluster.agents[name].view("peers")["peers"][str(scene.lab.router.address())]["last_error"]


def test_an_advertisement_that_reaches_no_router_gets_one_event_with_the_reason(scene: Scene) -> None:
    def found() -> list[dict[str, Any]]:
        return [one for one in scene.on("BGPAdvertisement", "services") if one["message"].startswith("noPeer: ")]

    scene.expose("web", EXTERNAL)
    wait_until(lambda: scene.on("Service", "web"))
    assert found() == []

    scene.api.delete("BGPPeer", "tor")

    wait_until(found)
    (event,) = found()
    assert (event["type"], event["reason"], event["count"]) == ("Warning", "ConfigInvalid", 1)
    assert "BGPAdvertisement services is for routers, and there is no BGPPeer" in event["message"]
    for agent in scene.cluster.agents.values():  # the Event is of one of them
        wait_until(lambda agent=agent: problems_of(agent) == [("noPeer", "BGPAdvertisement services")])
        assert 'bgpilot_problems{reason="noPeer"} 1.0' in metrics_of(agent)


def problems_of(agent: Agent) -> list[tuple[str, str]]:
    return [(one["reason"], one["subject"]) for one in agent.ask("status")["problems"]]
