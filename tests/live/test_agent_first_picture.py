"""What an agent does before it knows the whole cluster: nothing. The tables of FRR and BIRD and the kernel are judges.

The API server sends the objects of one kind but not that these are all: an agent that went on without them would
announce what must not be, or take away what is there. BIRD's session has a password, so the Secret counts too.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

import pytest

from agent.model import ALWAYS_WATCHED, DISCARD_METRIC, Kind
from bgp.driver.process import SOCKET
from tests.lab.minicluster import (
    BGPILOT,
    LAB_HOLD_SECONDS,
    OUR_PROTOCOL,
    Agent,
    custom,
    node_object,
    service_object,
    slice_object,
)
from tests.lab.netns import Family
from tests.lab.procs import Process
from tests.lab.topology import Lab, Node
from tests.lab.tworouters import UP_SECONDS, TwoRouters, peer_of
from tests.lab.wait import wait_until

pytestmark = pytest.mark.live

FAMILIES: tuple[Family, Family] = ("ipv4", "ipv6")
VIPS = ("10.96.0.80", "fd96::80")
"""ClusterIPs of a Service of policy Local, with an endpoint on node 1."""
EXTERNAL = ("192.0.2.80", "2001:db8::80")
"""ExternalIPs that the BGPInstance allows."""
SHARED = ("10.96.0.81", "fd96::81")
"""ClusterIPs that every node announces."""
THIEVES = ("10.96.0.99", "fd96::99")
"""ExternalIPs of the same Service, in a ServiceCIDR."""
PASSWORD = {"name": "bird", "key": "password"}
NEEDED = (Kind.NODE, Kind.PEER, Kind.ENDPOINT_SLICE, Kind.SECRET)
"""Without these an agent that comes back would withdraw or remove: all, what is told to a router, a policy Local's."""
MISLEADING = (Kind.ADVERTISEMENT, Kind.SERVICE_CIDR)
"""Without the first a node that is new would announce its pod CIDR, without the second what is stolen."""


class Scene(TwoRouters):
    """Node 1 runs ExaBGP beside the agent, node 2 as its child."""

    def __init__(self, lab: Lab) -> None:
        super().__init__(lab, bird_password="kolibri")
        self.node, self.other = lab.node(1), lab.node(2)
        self.prefixes = (
            *(str(cidr) for cidr in self.node.pod_cidrs.values()),
            *_hosts(*VIPS, *EXTERNAL),
        )
        """What node 1 alone announces to routers."""
        self.api.apply(*_objects(lab), *(node_object(node) for node in lab.nodes.values()))
        self.advertise(
            "services",
            type="Service",
            service={
                "addresses": ["ClusterIP", "ExternalIP"],
                "namespaceSelector": {"matchLabels": {"public": "yes"}},
            },
        )
        self.api.apply(PODS)
        self.agent = self.cluster.start_agent(self.node, "--speaker=external")
        self.speaker = self.start_speaker()
        self.cluster.start_agent(self.other)
        wait_until(lambda: self.established(self.node, self.other), within=UP_SECONDS)
        self.whole()

    def start_speaker(self) -> Process:
        return self.node.start([BGPILOT, "speaker", f"--run-dir={self.agent.run_dir}"], log="speaker")

    def whole(self) -> None:
        """All is as it should be, from now on or soon."""
        self.told_by([self.node], *self.prefixes)
        self.told(*_hosts(*SHARED))
        self.told_by([], *_hosts(*THIEVES))
        self.cluster.wait_meshed()
        wait_until(lambda: self.agent.view("status")["phase"] == "IN_SYNC")

    def waits_for(self, agent: Agent, node: Node, kind: Kind) -> None:
        """The agent knows all but the kind."""
        others = {str(other) for other in ALWAYS_WATCHED - {kind}}
        wait_until(lambda: others <= self.api.listed(str(node.address())), within=60)
        wait_until(lambda: agent.view("status")["picture"]["complete"] is (kind is Kind.SECRET))

    def ours(self, node: Node) -> dict[Family, Any]:
        """Routes with our protocol number in the node's kernel."""
        return {family: node.kernel_routes(family, "proto", OUR_PROTOCOL) for family in FAMILIES}

    def known_of(self, node: Node) -> set[str]:
        """Prefixes that a router has from the node."""
        own = {str(address) for address in node.addresses}
        tables = (router.routes(family) for router in (self.frr, self.bird) for family in FAMILIES)
        return {prefix for table in tables for prefix, hops in table.items() if own & set(hops)}


INSTANCE = custom(
    "BGPInstance",
    "default",
    {"mesh": {"holdSeconds": LAB_HOLD_SECONDS}, "allowedExternalIPs": ["::/0", "0.0.0.0/0"]},
)
NOT_QUIET = {"matchExpressions": [{"key": "quiet", "operator": "DoesNotExist"}]}
PODS = custom("BGPAdvertisement", "pods", {"type": "PodCIDR", "nodeSelector": NOT_QUIET, "attributes": {"med": 7}})


def _objects(lab: Lab) -> Iterator[dict[str, Any]]:
    yield INSTANCE
    yield peer_of("frr", lab.routers[0])
    yield peer_of("bird", lab.routers[1], passwordSecretRef=PASSWORD)
    yield {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"namespace": "bgpilot-system", "name": PASSWORD["name"]},
        "data": {PASSWORD["key"]: base64.b64encode(b"kolibri").decode()},
    }
    yield {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "default", "labels": {"public": "yes"}}}
    yield {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "ServiceCIDR",
        "metadata": {"name": "kubernetes"},
        "spec": {"cidrs": ["10.96.0.0/16", "fd96::/112"]},
    }
    yield service_object("web", VIPS, external_ips=EXTERNAL, internal_policy="Local", external_policy="Local")
    yield service_object("shared", SHARED, external_ips=THIEVES)
    for family, cidr in lab.node(1).pod_cidrs.items():
        yield slice_object("web", {"node-1": [str(cidr[9])]}, family=family.replace("ip", "IP"))


def _hosts(*ips: str) -> list[str]:
    return [f"{ip}/{32 if '.' in ip else 128}" for ip in ips]


@pytest.fixture(scope="module")
def built() -> Iterator[Scene]:
    with Lab(nodes=2, routers=2) as lab:
        scene = Scene(lab)
        yield scene
        scene.close()


@pytest.fixture
def scene(built: Scene) -> Iterator[Scene]:
    built.whole()
    yield built
    built.api.release()


@pytest.mark.parametrize("kind", NEEDED)
def test_an_agent_that_comes_back_leaves_all_as_it_is_until_the_last_list_is_there(scene: Scene, kind: Kind) -> None:
    before, sessions = scene.marks(*scene.prefixes), scene.sessions()
    scene.agent.stop()
    monitor = scene.node.start(["ip", "monitor", "route"], log=f"monitor-{kind}")
    scene.api.withhold(kind)

    scene.agent.restart()
    scene.waits_for(scene.agent, scene.node, kind)
    assert scene.agent.view("status")["phase"] == "LISTING"
    assert scene.unchanged(before)

    scene.api.release(kind)
    scene.whole()
    assert scene.unchanged(before)
    assert scene.sessions() == sessions
    assert [line for line in monitor.output().splitlines() if f"proto {OUR_PROTOCOL} " in line] == []
    monitor.stop()


def test_an_exabgp_that_comes_back_beside_the_agent_has_no_session_until_the_last_list_is_there(scene: Scene) -> None:
    """Nobody vouches for those that it had; routers keep the routes meanwhile (RFC 4724)."""
    times, kernel = scene.sessions()[0], scene.ours(scene.node)
    scene.agent.kill()
    scene.speaker.kill()
    scene.api.withhold(Kind.ENDPOINT_SLICE)

    scene.speaker = scene.start_speaker()
    scene.agent.restart()
    scene.waits_for(scene.agent, scene.node, Kind.ENDPOINT_SLICE)
    wait_until(lambda: SOCKET in scene.node.run(["ss", "-xH", "state", "connected"]).stdout)  # ExaBGP's bridge is there
    assert scene.agent.view("peers")["peers"] == {}
    assert all(path["stale"] for prefix in scene.prefixes for path in scene.frr.paths(prefix))
    scene.told_by([scene.node], *scene.prefixes)
    assert scene.ours(scene.node) == kernel

    scene.api.release(Kind.ENDPOINT_SLICE)
    wait_until(lambda: scene.sessions()[0] > times and scene.established(scene.node), within=UP_SECONDS)
    wait_until(lambda: not any(path.get("stale") for prefix in scene.prefixes for path in scene.frr.paths(prefix)))
    assert scene.ours(scene.node) == kernel


def test_an_agent_that_comes_back_with_its_exabgp_has_no_session_until_the_last_list_is_there(scene: Scene) -> None:
    """Routers keep its routes meanwhile (RFC 4724): in their kernels nothing moves, nor in its own."""
    agent, pods = scene.cluster.agent(scene.other), [str(cidr) for cidr in scene.other.pod_cidrs.values()]
    kernel = scene.ours(scene.other)
    agent.stop()
    machines = (scene.other, *scene.lab.routers)
    monitors = [it.start(["ip", "monitor", "route"], log="monitor-child") for it in machines]
    scene.api.withhold(Kind.PEER)

    agent.restart()
    scene.waits_for(agent, scene.other, Kind.PEER)
    assert agent.view("peers")["peers"] == {}
    assert all(path["stale"] for prefix in pods for path in scene.frr.paths(prefix))
    scene.told_by([scene.other], *pods)
    scene.told(*_hosts(*SHARED))

    scene.api.release(Kind.PEER)
    wait_until(lambda: not any(path.get("stale") for prefix in pods for path in scene.frr.paths(prefix)), within=60)
    scene.whole()
    assert scene.ours(scene.other) == kernel
    for monitor in monitors:
        monitor.stop()
    own, *others = (monitor.output().splitlines() for monitor in monitors)
    assert [line for line in own if f"proto {OUR_PROTOCOL} " in line] == []
    assert [line for lines in others for line in lines if any(f" {prefix} " in f" {line} " for prefix in pods)] == []


@pytest.fixture
def joining(scene: Scene) -> Iterator[Node]:
    """A node that no router has heard of."""
    node = scene.add_node()
    yield node
    scene.remove_node(node)


@pytest.mark.parametrize("kind", MISLEADING)
def test_a_node_that_joins_is_silent_until_the_last_list_is_there(scene: Scene, joining: Node, kind: Kind) -> None:
    scene.api.apply(node_object(joining, labels={"quiet": "yes"}))  # its pod CIDR is for no router
    scene.api.withhold(kind)

    agent = scene.cluster.start_agent(joining)
    scene.waits_for(agent, joining, kind)
    assert agent.view("peers")["peers"] == {}
    assert (scene.known_of(joining), scene.ours(joining)) == (set(), {"ipv4": {}, "ipv6": {}})

    scene.api.release(kind)
    wait_until(lambda: scene.known_of(joining) == {*_hosts(*SHARED)}, within=UP_SECONDS)
    wait_until(lambda: agent.view("status")["phase"] == "IN_SYNC")
    assert scene.known_of(joining) == {*_hosts(*SHARED)}


@pytest.fixture
def unreadable(scene: Scene, request: pytest.FixtureRequest) -> Iterator[None]:
    """What says what node 1 is, or who is told what, turns bad: the agent of node 2 has its last good version."""
    node = node_object(scene.node)
    bad_node = node | {"status": {"addresses": [{"type": "InternalIP", "address": "nowhere"}]}}
    bad = {
        "BGPInstance": custom("BGPInstance", "default", {"asn": "sixty"}),
        "BGPAdvertisement": custom("BGPAdvertisement", "pods", PODS["spec"] | {"attributes": {"med": "seven"}}),
        "Node": bad_node,
    }
    scene.api.apply(bad[request.param], checked=False)
    yield
    scene.api.apply(INSTANCE, PODS, node)


def refuses_to_guess(scene: Scene, agent: Agent, node: Node) -> bool:
    """It knows all but what its settings are."""
    listed = scene.api.listed(str(node.address())) >= set(map(str, ALWAYS_WATCHED))
    problems = agent.view("status")["problems"]
    return listed and any("nothing here is changed" in problem["message"] for problem in problems)


@pytest.mark.usefixtures("unreadable")
@pytest.mark.parametrize("unreadable", ["BGPInstance", "BGPAdvertisement", "Node"], indirect=True)
def test_an_agent_that_comes_back_leaves_all_as_it_is_until_it_can_read_what_its_node_is(scene: Scene) -> None:
    before, sessions, kernel = scene.marks(*scene.prefixes), scene.sessions(), scene.ours(scene.node)
    scene.agent.stop()

    scene.agent.restart()
    wait_until(lambda: refuses_to_guess(scene, scene.agent, scene.node), within=UP_SECONDS)
    assert scene.agent.view("status")["phase"] == "LISTING"
    assert scene.cluster.agent(scene.other).view("status")["phase"] == "IN_SYNC"

    scene.api.apply(INSTANCE, PODS, node_object(scene.node))
    scene.whole()
    assert scene.unchanged(before)
    assert scene.sessions() == sessions
    assert scene.ours(scene.node) == kernel


@pytest.mark.usefixtures("unreadable")
@pytest.mark.parametrize("unreadable", ["BGPInstance"], indirect=True)
def test_a_node_that_joins_is_silent_while_its_settings_cannot_be_read(scene: Scene, joining: Node) -> None:
    agent = scene.cluster.start_agent(joining)
    wait_until(lambda: refuses_to_guess(scene, agent, joining), within=UP_SECONDS)
    assert agent.view("peers")["peers"] == {}
    assert (scene.known_of(joining), scene.ours(joining)) == (set(), {"ipv4": {}, "ipv6": {}})

    scene.api.apply(INSTANCE)
    known = {*map(str, joining.pod_cidrs.values()), *_hosts(*SHARED)}
    wait_until(lambda: scene.known_of(joining) == known, within=UP_SECONDS)


def test_a_pod_cidr_is_told_once_the_node_does_not_send_back_what_is_not_in_use(scene: Scene, joining: Node) -> None:
    """Somebody else's routes are in the place of the discard routes."""
    for cidr in joining.pod_cidrs.values():
        joining.ip("route", "add", "blackhole", str(cidr), "metric", str(DISCARD_METRIC), "proto", "static")
    scene.cluster.start_agent(joining)
    known = {*_hosts(*SHARED)}
    wait_until(lambda: scene.known_of(joining) == known, within=UP_SECONDS)

    for family, cidr in joining.pod_cidrs.items():
        assert scene.known_of(joining) == known
        joining.ip("route", "del", "blackhole", str(cidr), "metric", str(DISCARD_METRIC))
        known.add(str(cidr))
        wait_until(lambda: scene.known_of(joining) == known)
        assert str(cidr) in scene.ours(joining)[family]
