"""BGPPeer through real agents to real routers: which ones a node finds, in which AS, with which password, and when not.

The routers' own `show` commands say which sessions there are and how often they came up.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

import pytest

from agent.settings import DEFAULT_NAMESPACE
from bgp.driver.process import CONFIGURATION
from tests.lab.frr import Frr
from tests.lab.minicluster import CLUSTER_ASN, LAB_HOLD_SECONDS, Agent, MiniCluster, custom
from tests.lab.neighbor import Neighbor
from tests.lab.topology import Lab, Node
from tests.lab.wait import wait_until
from tests.lab.writes import Writes

pytestmark = pytest.mark.live

FIRST_ASN, SECOND_ASN = 64601, 64602
LOCAL_ASN = 64999
FOREIGN = "198.51.100.0/24"
ALLOWED = {"allowed": [{"prefix": FOREIGN}]}
RENEWED = """
ip route del default
ip route add default nexthop via {first} nexthop via {second}
"""
"""What a DHCP client may do when its lease is renewed: for some milliseconds there is no default route."""


class Scene:
    """Two nodes without a mesh, and two routers that take a session with any node, whatever its AS."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.cluster = MiniCluster(lab)
        self.api = self.cluster.api
        self.api.apply(custom("BGPInstance", "default", {"mesh": {"mode": "None"}}))
        self.first = _router(lab, 0, FIRST_ASN)
        self.second = _router(lab, 1, SECOND_ASN)
        self.cluster.start()

    def peer(self, name: str, **spec: Any) -> None:
        self.api.apply(custom("BGPPeer", name, {"asn": "external", "holdSeconds": LAB_HOLD_SECONDS, **spec}))

    def has(self, frr: Frr, *addresses: str) -> None:
        """The router has sessions from these addresses and no other, from now on or soon."""
        wait_until(lambda: frr.established() == sorted(addresses), within=30)

    def let_go(self) -> None:
        """No node has a session with a router, or is about to have one."""
        routers = [f"neighbor {self.router(number, family)} " for number in (0, 1) for family in ("ipv4", "ipv6")]

        def has_let_go(agent: Agent) -> bool:
            configured = (agent.run_dir / CONFIGURATION).read_text()
            return agent.view("status")["phase"] == "IN_SYNC" and not any(router in configured for router in routers)

        for node in self.lab.nodes.values():
            wait_until(lambda node=node: has_let_go(self.cluster.agent(node)))

    def router(self, number: int, family: str = "ipv4") -> str:
        return str(self.lab.routers[number].address(family))  # type: ignore[arg-type]  # one of the two

    def problems(self, node: Node) -> set[str]:
        return {problem["reason"] for problem in self.cluster.agent(node).view("peers")["problems"]}

    def last_error(self, node: Node, router: str) -> str:
        return str((self.status(node, router)["last_error"] or {}).get("text"))

    def status(self, node: Node, router: str) -> dict[str, Any]:
        found: dict[str, Any] = self.cluster.agent(node).view("peers")["peers"][router]
        return found


def _router(lab: Lab, number: int, asn: int) -> Frr:
    router = lab.routers[number]
    neighbors = [
        Neighbor(str(network), CLUSTER_ASN, hold_seconds=LAB_HOLD_SECONDS, extra=("remote-as external",))
        for network in router.subnet.networks.values()
    ]
    return Frr(router, asn=asn, router_id=f"10.99.0.{number + 1}", neighbors=neighbors)


@pytest.fixture(scope="module")
def scene() -> Iterator[Scene]:
    with Lab(nodes=2, routers=2) as lab:
        built = Scene(lab)
        yield built
        built.cluster.close()


@pytest.fixture(autouse=True)
def clean(scene: Scene) -> Iterator[None]:
    yield
    for peer in scene.api.list("BGPPeer"):
        scene.api.delete("BGPPeer", peer["metadata"]["name"])
    scene.let_go()
    for frr in (scene.first, scene.second):
        scene.has(frr)
        frr.withdraw(*frr.originated)
    for node in scene.lab.nodes.values():
        node.add_default_routes()


@pytest.fixture
def nodes(scene: Scene) -> tuple[Node, Node]:
    return scene.lab.node(1), scene.lab.node(2)


def test_the_next_hops_of_default_routes_are_followed_and_sessions_that_stay_are_not_touched(
    scene: Scene, nodes: tuple[Node, Node]
) -> None:
    node, other = nodes
    us, us6 = str(node.address("ipv4")), str(node.address("ipv6"))
    node.configure(ip=[f"route replace default nexthop via {scene.router(0)} nexthop via {scene.router(1)}"])
    node.configure(ip=[f"route replace ::/0 via {scene.router(1, 'ipv6')}"])
    other.configure(ip=["route del default", "route del ::/0"])
    scene.peer("gateways", defaultGateway="Dual")
    scene.has(scene.first, us)
    scene.has(scene.second, us, us6)
    wait_until(lambda: "defaultGatewayMissing" in scene.problems(other))
    assert str(node.pod_cidrs["ipv4"]) in scene.first.routes("ipv4")

    first, second = scene.first.times_established(us), scene.second.times_established(us)
    node.run(["sh", "-e"], stdin=RENEWED.format(first=scene.router(0), second=scene.router(1)) * 20)

    node.configure(ip=[f"route replace default via {scene.router(1)}"])
    scene.has(scene.first)
    assert scene.first.times_established(us) == first
    node.configure(ip=["route del ::/0"])
    scene.has(scene.second, us)
    other.configure(ip=[f"route replace default via {scene.router(0)}"])
    scene.has(scene.first, str(other.address("ipv4")))

    assert scene.second.times_established(us) == second


def test_each_node_has_the_router_that_is_written_on_it(scene: Scene, nodes: tuple[Node, Node]) -> None:
    node, other = nodes
    key = "example.com/router"
    scene.api.merge("Node", node.name, {"metadata": {"annotations": {key: scene.router(0, "ipv6")}}})
    scene.peer("written", addressFrom={"annotation": key})
    scene.has(scene.first, str(node.address("ipv6")))
    wait_until(lambda: "peerAddressMissing" in scene.problems(other))
    times = scene.first.times_established(str(node.address("ipv6")))

    scene.api.merge("Node", node.name, {"metadata": {"annotations": {key: "rack 7"}}})
    left = f"it goes on with {scene.router(0, 'ipv6')}, which it had, until the agent restarts"
    wait_until(lambda: left in scene.cluster.agent(node).cli("status").stdout)
    scene.api.merge("Node", other.name, {"metadata": {"annotations": {key: scene.router(0, "ipv6")}}})
    scene.has(scene.first, *(str(one.address("ipv6")) for one in nodes))
    assert scene.first.times_established(str(node.address("ipv6"))) == times

    scene.api.merge("Node", node.name, {"metadata": {"annotations": {key: scene.router(1)}}})
    scene.api.merge("Node", other.name, {"metadata": {"annotations": {key: scene.router(1)}}})

    scene.has(scene.first)
    scene.has(scene.second, str(node.address("ipv4")), str(other.address("ipv4")))
    scene.api.merge("Node", node.name, {"metadata": {"annotations": {key: None}}})
    scene.has(scene.second, str(other.address("ipv4")))


def test_a_router_sees_the_local_as_only_and_a_path_with_it_only_where_allowed(
    scene: Scene, nodes: tuple[Node, Node]
) -> None:
    node, us = nodes[0], str(nodes[0].address("ipv4"))
    prepend = ["route-map LOOP permit 10", f"set as-path prepend {LOCAL_ASN} 64777", "exit"]
    scene.first.configure([*prepend, *_out(scene.first, scene.lab, "route-map LOOP out")])
    scene.first.announce(FOREIGN)
    selector = {"matchLabels": {"local": "yes"}}
    scene.api.merge("Node", node.name, {"metadata": {"labels": {"local": "yes"}}})
    spec = {"address": scene.router(0), "asn": FIRST_ASN, "nodeSelector": selector, "import": ALLOWED}
    scene.peer("local", **spec, localASN=LOCAL_ASN)
    scene.has(scene.first, us)
    times = scene.first.times_established(us)

    pods = str(node.pod_cidrs["ipv4"])
    wait_until(lambda: [path["aspath"]["string"] for path in scene.first.paths(pods)] == [str(LOCAL_ASN)])
    assert scene.first.show_json("show bgp neighbors json")[us]["remoteAs"] == LOCAL_ASN
    wait_until(lambda: _refused(scene, node).get(FOREIGN) == "asLoop")
    scene.peer("local", **spec, localASN=LOCAL_ASN, allowASIn=1)
    wait_until(lambda: scene.cluster.learned(node, "ipv4") == {FOREIGN: [scene.router(0)]})

    assert scene.first.times_established(us) == times
    scene.first.configure(_out(scene.first, scene.lab, "route-map LOOP out", no="no "))


def test_what_a_router_told_in_another_as_than_it_is_said_to_be_in_leaves_the_kernel_at_once(
    scene: Scene, nodes: tuple[Node, Node]
) -> None:
    """The router helps with graceful restart: of a session that ends so its paths would stay for two minutes."""
    node, us, tor = nodes[0], str(nodes[0].address("ipv4")), scene.router(0)
    scene.first.announce(FOREIGN)
    scene.peer("tor", address=tor, asn=FIRST_ASN, **{"import": ALLOWED})
    wait_until(lambda: scene.cluster.learned(node, "ipv4") == {FOREIGN: [tor]})
    assert scene.status(node, tor)["graceful_restart_seconds"]

    scene.peer("tor", address=tor, asn=SECOND_ASN, **{"import": ALLOWED})
    wait_until(lambda: scene.cluster.learned(node, "ipv4") == {}, within=60)
    wait_until(lambda: "another AS than the one configured here" in str(scene.status(node, tor)["cause"]))
    assert us not in scene.first.established()
    assert scene.cluster.learned(node, "ipv4") == {}

    scene.peer("tor", address=tor, asn=FIRST_ASN, **{"import": ALLOWED})
    wait_until(lambda: scene.cluster.learned(node, "ipv4") == {FOREIGN: [tor]})


def test_another_setting_of_a_session_begins_it_anew_and_no_route_leaves_the_kernel_meanwhile(
    scene: Scene, nodes: tuple[Node, Node]
) -> None:
    node, us, tor = nodes[0], str(nodes[0].address("ipv4")), scene.router(0)
    scene.first.announce(FOREIGN)
    wanted = {"address": tor, "asn": FIRST_ASN, "import": ALLOWED}
    scene.peer("tor", **wanted)
    wait_until(lambda: scene.cluster.learned(node, "ipv4") == {FOREIGN: [tor]})
    times = scene.first.times_established(us)
    writes = Writes([node])

    scene.peer("tor", **wanted, holdSeconds=LAB_HOLD_SECONDS + 3)
    wait_until(lambda: scene.first.times_established(us) == times + 1)
    wait_until(lambda: scene.status(node, tor)["address_family"]["ipv4"]["end_of_rib_received"])
    wait_until(lambda: scene.status(node, tor)["stale_prefixes"] == 0)
    assert scene.cluster.learned(node, "ipv4") == {FOREIGN: [tor]}
    assert writes.stop() == {}


def test_a_session_is_reset_by_command_softly_or_by_its_end_and_no_route_leaves_the_kernel(
    scene: Scene, nodes: tuple[Node, Node]
) -> None:
    node, us, tor = nodes[0], str(nodes[0].address("ipv4")), scene.router(0)
    scene.first.announce(FOREIGN)
    scene.peer("tor", address=tor, asn=FIRST_ASN, **{"import": ALLOWED})
    wait_until(lambda: scene.cluster.learned(node, "ipv4") == {FOREIGN: [tor]})
    times, writes, agent = scene.first.times_established(us), Writes([node]), scene.cluster.agent(node)
    asked = _refreshes(scene.first, us)

    assert agent.cli("reset", "tor", "--soft").stdout == "BGPPeer/tor is asked to send all its routes again\n"
    wait_until(lambda: _refreshes(scene.first, us) == asked + 2)
    assert scene.first.times_established(us) == times

    assert agent.cli("reset", "tor").stdout == "BGPPeer/tor is established again\n"
    wait_until(lambda: scene.first.times_established(us) == times + 1)
    wait_until(lambda: scene.status(node, tor)["address_family"]["ipv4"]["end_of_rib_received"])
    wait_until(lambda: scene.status(node, tor)["stale_prefixes"] == 0)
    assert scene.cluster.learned(node, "ipv4") == {FOREIGN: [tor]}
    assert writes.stop() == {}


def _refreshes(frr: Frr, address: str) -> int:
    """How many ROUTE-REFRESH of both families it has had on this session."""
    found: int = frr.show_json("show bgp neighbors json")[address]["messageStats"]["routeRefreshRecv"]
    return found


@pytest.fixture
def reflector(scene: Scene) -> Iterator[Frr]:
    """The second router as a route reflector of the nodes' AS."""
    scene.second.stop()
    ranges = [str(network) for network in scene.lab.routers[1].subnet.networks.values()]
    neighbors = [Neighbor(network, CLUSTER_ASN, hold_seconds=LAB_HOLD_SECONDS) for network in ranges]
    frr = Frr(scene.lab.routers[1], asn=CLUSTER_ASN, router_id="10.99.0.2", neighbors=neighbors)
    client = [f"neighbor range-{network.translate(_DASHES)} route-reflector-client" for network in ranges]
    for family in ("ipv4", "ipv6"):
        frr.configure([f"router bgp {CLUSTER_ASN}", f"address-family {family} unicast", *client])
    yield frr
    frr.stop()
    scene.second = _router(scene.lab, 1, SECOND_ASN)


def test_routers_of_our_as_may_give_pod_cidrs_and_others_must_not_be_of_it(
    scene: Scene, nodes: tuple[Node, Node], reflector: Frr
) -> None:
    """An external route reflector in place of a mesh."""
    scene.peer("reflector", address=scene.router(1), asn="internal")
    scene.has(reflector, *(str(node.address("ipv4")) for node in nodes))
    for node, other in (nodes, nodes[::-1]):
        wanted = {str(other.pod_cidrs["ipv4"]): [str(other.address("ipv4"))]}
        wait_until(lambda node=node, wanted=wanted: scene.cluster.learned(node, "ipv4") == wanted)

    scene.peer("reflector", address=scene.router(1), asn="external")

    wait_until(lambda: "is our own" in scene.last_error(nodes[0], scene.router(1)))
    scene.has(reflector)


_DASHES = str.maketrans(dict.fromkeys("./:", "-"))


def test_without_its_secret_a_session_is_seen_and_down_and_a_changed_one_restarts_it_alone(
    scene: Scene, nodes: tuple[Node, Node]
) -> None:
    node, (us, other) = nodes[0], (str(it.address("ipv4")) for it in nodes)
    scene.first.configure(_range(scene.first, scene.lab, "password swordfish"))
    scene.peer("free", address=scene.router(1))
    scene.peer("guarded", address=scene.router(0), passwordSecretRef={"name": "tor", "key": "md5"})
    wait_until(lambda: us in scene.second.established())
    times = scene.second.times_established(us)
    wait_until(lambda: "secretMissing" in scene.problems(node))
    assert not scene.status(node, scene.router(0))["is_up"]
    assert scene.first.established() == []

    scene.api.apply(_secret("swordfish"))
    wait_until(lambda: us in scene.first.established(), within=30)
    scene.api.apply(_secret("mackerel"))
    wait_until(lambda: us not in scene.first.established(), within=30)
    scene.first.configure(_range(scene.first, scene.lab, "password mackerel"))

    scene.has(scene.first, us, other)
    scene.first.configure(_range(scene.first, scene.lab, "password mackerel", no="no "))
    free = scene.status(node, scene.router(1))
    assert (scene.second.times_established(us), free["flaps"]) == (times, 0), free["last_error"]


def test_a_peer_that_is_shut_down_says_why_to_the_router_and_comes_back(scene: Scene, nodes: tuple[Node, Node]) -> None:
    node, us = nodes[0], str(nodes[0].address("ipv4"))
    known = Neighbor(us, CLUSTER_ASN, hold_seconds=LAB_HOLD_SECONDS, passive=True)
    scene.first.add_neighbor(known)  # of the members of a range FRR forgets everything
    scene.peer("tor", address=scene.router(0))
    wait_until(lambda: us in scene.first.established())
    scene.peer("tor", address=scene.router(0), shutdown=True, shutdownText="until 18:00")
    scene.has(scene.first)
    status = scene.status(node, scene.router(0))
    told = scene.first.show_json("show bgp neighbors json")[us]

    assert not status["is_enabled"]
    assert told["lastNotificationReason"] == "Cease/Administrative Shutdown"
    assert told["lastShutdownDescription"] == "until 18:00"
    wait_until(lambda: str(node.pod_cidrs["ipv4"]) not in scene.first.routes("ipv4"))

    scene.peer("tor", address=scene.router(0), shutdownText="until 18:00")

    wait_until(lambda: us in scene.first.established(), within=30)
    wait_until(lambda: str(node.pod_cidrs["ipv4"]) in scene.first.routes("ipv4"))
    scene.first.remove_neighbor(known)


def _refused(scene: Scene, node: Node) -> dict[str, str]:
    rows = scene.cluster.agent(node).ask("routes", "--peer", "local")["rows"]
    return {row["prefix"]: row["reason"] for row in rows if not row["accepted"]}


def _range(frr: Frr, lab: Lab, setting: str, no: str = "") -> list[str]:
    """A setting of all nodes' sessions."""
    names = [str(network).translate(_DASHES) for network in lab.router.subnet.networks.values()]
    return [f"router bgp {frr.asn}", *(f"{no}neighbor range-{name} {setting}" for name in names)]


def _out(frr: Frr, lab: Lab, setting: str, no: str = "") -> list[str]:
    head, *lines = _range(frr, lab, setting, no)
    return [head, "address-family ipv4 unicast", lines[0]]


def _secret(password: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"namespace": DEFAULT_NAMESPACE, "name": "tor"},
        "data": {"md5": base64.b64encode(password.encode()).decode()},
    }
