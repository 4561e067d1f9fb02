"""A real cluster that changes while it runs, as a router sees it: nodes, endpoints, addresses, passwords, API server.

Each test leaves the cluster as it found it, and each says what must not move meanwhile: `undisturbed`.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

from tests.lab.frr import Frr
from tests.lab.minicluster import CLUSTER_ASN, ROUTER_ASN, custom, tor_peer
from tests.lab.neighbor import Neighbor
from tests.lab.netns import Family
from tests.lab.pods import curl
from tests.lab.realcluster import (
    AGENT_NAMESPACE,
    SERVICES,
    SERVICES_ADVERTISED,
    RealCluster,
    host_prefix,
    web_service,
)
from tests.lab.topology import Lab, Node
from tests.lab.wait import wait_until

pytestmark = pytest.mark.cluster

SECONDS = 60.0
HOLD_SECONDS = 90
LOAD_BALANCER: Mapping[Family, str] = {"ipv4": "192.0.2.10", "ipv6": "2001:db8:2::10"}
EXTERNAL_IP = "198.51.100.7"
UPSTREAM: Mapping[Family, str] = {"ipv4": "203.0.113.0/24", "ipv6": "2001:db8:7::/48"}
CHANGED_NUMBER = 114
"""Host number that node 4 moves to."""
API = "/apis/bgpilot.io/v1alpha1"
SECRETS = f"/api/v1/namespaces/{AGENT_NAMESPACE}/secrets"


@dataclass(frozen=True, slots=True)
class Scene:
    """Three nodes, and FRR that also knows the addresses of a fourth."""

    lab: Lab
    cluster: RealCluster
    tor: Frr

    def next_hops(self, prefix: str) -> list[str]:
        """On the router; none: it does not have the route."""
        return self.tor.routes("ipv6" if ":" in prefix else "ipv4").get(prefix, [])

    def wait_for(self, prefix: str, *nodes: Node) -> None:
        """Until the router has the route from exactly these nodes."""
        family: Family = "ipv6" if ":" in prefix else "ipv4"
        wanted = [str(node.address(family)) for node in nodes]

        def as_wanted() -> bool:
            actual = self.next_hops(prefix)
            assert actual == wanted, f"{prefix}: {actual} instead of {wanted}"
            return True

        wait_until(as_wanted, within=SECONDS)


@pytest.fixture(scope="module")
def scene() -> Iterator[Scene]:
    with Lab(nodes=3, routers=2, pod_bridge=False) as lab, RealCluster(lab) as cluster:
        nodes = [*lab.nodes.values()]
        numbers = [*(node.number for node in nodes), nodes[-1].number + 1, CHANGED_NUMBER]
        addresses = [str(lab.rack1.address(number, "ipv4")) for number in numbers]
        neighbors = [Neighbor(address, CLUSTER_ASN, passive=True, hold_seconds=HOLD_SECONDS) for address in addresses]
        tor = Frr(lab.router, asn=ROUTER_ASN, router_id="10.99.0.1", neighbors=neighbors, announce=[*UPSTREAM.values()])
        cluster.join(*nodes)
        for node in nodes:
            cluster.run_pod(node, f"web-{node.index}", app="web")
        cluster.apply(
            tor_peer(lab.router, holdSeconds=HOLD_SECONDS), SERVICES_ADVERTISED, web_service("web", app="web")
        )
        scene = Scene(lab, cluster, tor)
        cluster.wait_meshed()
        for address in cluster.cluster_ips("web").values():
            scene.wait_for(host_prefix(address), *nodes)
        yield scene


@contextmanager
def undisturbed(scene: Scene) -> Iterator[None]:
    """Sessions that are up now are up at the end, and were never down, by the agents' word and by the router's."""
    flaps = scene.cluster.flaps()
    came_up = {address: scene.tor.times_established(address) for address in scene.tor.established()}
    yield
    after = scene.cluster.flaps()
    assert {session: after.get(session) for session in flaps} == flaps
    assert {address: scene.tor.times_established(address) for address in came_up} == came_up
    assert came_up.keys() <= set(scene.tor.established())


# Services.


def test_with_policy_local_only_nodes_with_a_ready_endpoint_announce_wherever_it_moves(scene: Scene) -> None:
    first, second, third = scene.lab.nodes.values()
    prefixes = [host_prefix(address) for address in LOAD_BALANCER.values()]

    def announced_by(*nodes: Node) -> None:
        for prefix in prefixes:
            scene.wait_for(prefix, *nodes)

    with undisturbed(scene):
        one = scene.cluster.run_pod(first, "local-1", app="local")
        service = web_service("local", app="local", type="LoadBalancer", externalTrafficPolicy="Local")
        scene.cluster.apply(service)
        scene.cluster.set_ingress("local", *LOAD_BALANCER.values())
        announced_by(first)
        for address in LOAD_BALANCER.values():
            assert wait_until(lambda address=address: curl(scene.lab.client, address), within=SECONDS) == "local-1"

        two = scene.cluster.run_pod(second, "local-2", app="local", ready=False)
        scene.cluster.set_ready("local-2", ready=True)
        announced_by(first, second)
        scene.cluster.terminate("local-2")
        announced_by(first)
        scene.cluster.set_ready("local-1", ready=False)
        announced_by(second)  # nobody is ready anywhere: then whoever still serves while terminating counts (KEP-1669)
        for address in LOAD_BALANCER.values():
            wait_until(lambda address=address: curl(scene.lab.client, address) == "local-2", within=SECONDS)
        scene.cluster.remove_pod(two, "local-2")
        announced_by()
        for address in scene.cluster.cluster_ips("local").values():
            scene.wait_for(host_prefix(address), first, second, third)
        scene.cluster.remove_pod(one, "local-1")
        scene.cluster.discard(f"{SERVICES}/local")


def test_an_external_ip_is_announced_only_inside_the_allow_list(scene: Scene) -> None:
    nodes = scene.lab.nodes.values()
    with undisturbed(scene):
        scene.cluster.apply(web_service("claimed", app="web", externalIPs=[EXTERNAL_IP]))
        scene.wait_for(host_prefix(scene.cluster.cluster_ips("claimed")["ipv4"]), *nodes)
        for node in nodes:
            told = scene.cluster.agent(node).cli("explain", "default/claimed").stdout
            assert "externalIPNotAllowed" in told
        assert scene.next_hops(host_prefix(EXTERNAL_IP)) == []

        scene.cluster.apply(custom("BGPInstance", "default", {"allowedExternalIPs": ["198.51.100.0/24"]}))
        scene.wait_for(host_prefix(EXTERNAL_IP), *nodes)
        assert wait_until(lambda: curl(scene.lab.client, EXTERNAL_IP), within=SECONDS)

        scene.cluster.discard(f"{API}/bgpinstances/default")
        scene.wait_for(host_prefix(EXTERNAL_IP))
        scene.cluster.discard(f"{SERVICES}/claimed")


# Configuration.


def test_what_the_router_announces_is_installed_only_where_import_allows_it(scene: Scene) -> None:
    wanted = {UPSTREAM[family]: [str(scene.lab.router.address(family))] for family in scene.lab.families}

    def installed() -> Mapping[str, list[str]]:
        known = [scene.cluster.learned(scene.lab.node(1), family) for family in scene.lab.families]
        return {prefix: hops for table in known for prefix, hops in table.items() if prefix in wanted}

    assert installed() == {}
    with undisturbed(scene):
        allowed = {"allowed": [{"prefix": prefix} for prefix in UPSTREAM.values()]}
        scene.cluster.apply(tor_peer(scene.lab.router, holdSeconds=HOLD_SECONDS, **{"import": allowed}))
        wait_until(lambda: installed() == wanted, within=SECONDS)

        scene.cluster.apply(tor_peer(scene.lab.router, holdSeconds=HOLD_SECONDS))
        wait_until(lambda: installed() == {}, within=SECONDS)


NONSENSE = [
    ({"address": "172.18.0.256"}, "must be an IPv4 or IPv6 address without a prefix length or zone"),
    ({"asn": 23456}, "23456 is AS_TRANS, a placeholder that no speaker may use as its own"),
    ({"holdSecond": 9}, "field not declared in schema"),
]


def test_nonsense_is_refused_at_the_door_and_changes_nothing(scene: Scene) -> None:
    with undisturbed(scene):
        for spec, message in NONSENSE:
            with pytest.raises(subprocess.CalledProcessError) as refused:
                scene.cluster.apply(tor_peer(scene.lab.router, **spec))
            assert message in refused.value.stderr


# A password.


@pytest.fixture
def second_router(scene: Scene) -> Iterator[Frr]:
    """It peers with node 1 alone, with a password; the BGPPeer `locked` and its Secret are gone afterwards."""
    machine = scene.lab.routers[1]
    neighbor = Neighbor(str(scene.lab.node(1).address()), CLUSTER_ASN, password="tulip-1", passive=True)
    router = Frr(machine, asn=ROUTER_ASN, router_id="10.99.0.2", neighbors=[neighbor])
    yield router
    scene.cluster.discard(f"{API}/bgppeers/locked")
    scene.cluster.discard(f"{SECRETS}/tor")
    router.stop()


def test_a_password_is_followed_from_missing_to_changed_and_only_its_session_restarts(
    scene: Scene, second_router: Frr
) -> None:
    agent = scene.cluster.agent(scene.lab.node(1))
    node = str(scene.lab.node(1).address())
    missing = ("secretMissing", "BGPPeer locked")
    reference = {"name": "tor", "key": "md5"}
    only_first = {"matchLabels": {"kubernetes.io/hostname": "node-1"}}
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "tor"}, "stringData": {"md5": "tulip-1"}}

    with undisturbed(scene):
        locked = {"passwordSecretRef": reference, "nodeSelector": only_first}
        scene.cluster.apply(tor_peer(scene.lab.routers[1], name="locked", **locked))
        wait_until(lambda: missing in scene.cluster.problems(agent), within=SECONDS)
        assert second_router.established() == []

        scene.cluster.api.post(SECRETS, secret)
        wait_until(lambda: second_router.established() == [node], within=SECONDS)
        wait_until(lambda: missing not in scene.cluster.problems(agent), within=SECONDS)

        second_router.configure([f"router bgp {ROUTER_ASN}", f"neighbor {node} password tulip-2"])
        scene.cluster.api.patch(f"{SECRETS}/tor", {"stringData": {"md5": "tulip-2"}})
        wait_until(lambda: second_router.times_established(node) == 2, within=SECONDS)
        wait_until(lambda: second_router.established() == [node], within=SECONDS)
        assert "tulip" not in agent.process.output()


# Nodes.


@pytest.fixture
def newcomer(scene: Scene) -> Iterator[Node]:
    """A machine that is no Node yet; gone afterwards, with its Node object if that is still there."""
    node = scene.lab.add_node(4)
    yield node
    scene.cluster.leave(node)
    scene.lab.remove_node(node)
    scene.cluster.wait_meshed(within=SECONDS)


def test_a_node_that_joins_and_leaves_moves_no_session_of_the_others(scene: Scene, newcomer: Node) -> None:
    with undisturbed(scene):
        scene.cluster.join(newcomer)
        pod = scene.cluster.run_pod(newcomer, "web-4", app="new")
        scene.cluster.wait_meshed(within=SECONDS)
        for family, cidr in newcomer.pod_cidrs.items():
            scene.wait_for(str(cidr), newcomer)
            assert wait_until(lambda family=family: curl(scene.lab.client, pod.address(family)), within=SECONDS)

        scene.cluster.remove_pod(pod, "web-4")
        scene.cluster.unregister(newcomer)
        for cidr in newcomer.pod_cidrs.values():
            scene.wait_for(str(cidr))
        wait_until(lambda: not any(_learned_from(scene, newcomer, node) for node in _others(scene)), within=SECONDS)


def test_a_node_whose_pod_cidr_and_address_change_is_followed(scene: Scene, newcomer: Node) -> None:
    with undisturbed(scene):
        scene.cluster.join(newcomer)
        scene.cluster.wait_meshed(within=SECONDS)
        before = newcomer.pod_cidrs

        scene.cluster.unregister(newcomer)
        scene.cluster.register(newcomer)
        assert set(before.values()).isdisjoint(newcomer.pod_cidrs.values()), "it must be another, or nothing is shown"
        scene.cluster.wait_meshed(within=SECONDS)
        for old, new in zip(before.values(), newcomer.pod_cidrs.values(), strict=True):
            scene.wait_for(str(old))
            scene.wait_for(str(new), newcomer)

        changed = scene.lab.rack1.interface(CHANGED_NUMBER, "ipv4")
        cidr = str(newcomer.pod_cidrs["ipv4"])
        newcomer.ip("address", "add", str(changed), "dev", "eth0")
        scene.cluster.set_addresses(newcomer, str(changed.ip), str(newcomer.address("ipv6")))
        for node in _others(scene):
            wait_until(
                lambda node=node: scene.cluster.learned(node, "ipv4").get(cidr) == [str(changed.ip)], within=SECONDS
            )
        wait_until(lambda: scene.next_hops(cidr) == [str(changed.ip)], within=SECONDS)


def _others(scene: Scene) -> list[Node]:
    return [node for node in scene.lab.nodes.values() if node.index <= 3]


def _learned_from(scene: Scene, other: Node, node: Node) -> list[str]:
    cidrs = {family: str(cidr) for family, cidr in other.pod_cidrs.items()}
    return [cidr for family, cidr in cidrs.items() if cidr in scene.cluster.learned(node, family)]


# The API server.


def test_nothing_is_withdrawn_while_the_api_server_is_away(scene: Scene) -> None:
    machines = [*scene.lab.nodes.values(), scene.lab.router]
    tables = {family: scene.tor.show_json(f"show bgp {family} unicast json") for family in scene.lab.families}
    monitors = [machine.start(["ip", "monitor", "route"], log="monitor") for machine in machines]
    address = scene.cluster.cluster_ips("web")["ipv4"]

    with undisturbed(scene):
        with scene.cluster.api_server_away():
            for agent in scene.cluster.agents.values():
                wait_until(lambda agent=agent: agent.view("status")["picture"]["unhealthy"], within=SECONDS)
            assert curl(scene.lab.client, address)
        for agent in scene.cluster.agents.values():
            wait_until(lambda agent=agent: not agent.view("status")["picture"]["unhealthy"], within=SECONDS)

    for machine, monitor in zip(machines, monitors, strict=True):
        monitor.stop()
        assert monitor.output() == "", f"{machine.name} saw its routes change"
    for family, table in tables.items():
        now = scene.tor.show_json(f"show bgp {family} unicast json")
        assert now["tableVersion"] == table["tableVersion"]

    scene.cluster.apply(web_service("after", app="web"))
    scene.wait_for(host_prefix(scene.cluster.cluster_ips("after")["ipv4"]), *scene.lab.nodes.values())
    scene.cluster.discard(f"{SERVICES}/after")
