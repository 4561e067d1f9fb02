"""A real cluster that changes while it runs, as a router sees it: nodes, endpoints, addresses, passwords, API server.

Each test leaves the cluster as it found it, and each says what must not move meanwhile: `undisturbed`.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import ip_address

import pytest

from tests.lab.frr import Frr
from tests.lab.minicluster import CLUSTER_ASN, OUR_PROTOCOL, ROUTER_ASN, custom, tor_peer
from tests.lab.neighbor import Neighbor
from tests.lab.netns import Family
from tests.lab.pods import curl, traceroute
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
EXTERNAL_IP, AROUND_IT = "198.51.100.7", "198.51.100.0/28"
CLOSED = 81
"""A port of no Service."""
IN_SERVICE_CIDR: Mapping[Family, str] = {"ipv4": "10.96.200.200", "ipv6": "fd00:10:96::c8c8"}
"""Addresses of no Service, in the range that the API server was started with."""
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


def test_an_external_ip_in_a_range_of_the_api_servers_service_cidr_objects_is_refused(scene: Scene) -> None:
    """The API server makes the first of them itself; nothing but them tells the agents of ranges here."""
    nodes = [*scene.lab.nodes.values()]

    def reasons(address: str) -> list[str]:
        """Of each node's noes to it."""
        told = [scene.cluster.agent(node).ask("explain", address)["hops"] for node in nodes]
        return [hop["reason"] for hops in told for hop in hops if not hop["ok"]]

    with undisturbed(scene):
        scene.cluster.apply(custom("BGPInstance", "default", {"allowedExternalIPs": ["0.0.0.0/0", "::/0"]}))
        scene.cluster.apply(web_service("claimed", app="web", externalIPs=[*IN_SERVICE_CIDR.values(), EXTERNAL_IP]))
        scene.wait_for(host_prefix(EXTERNAL_IP), *nodes)
        for address in IN_SERVICE_CIDR.values():
            assert scene.next_hops(host_prefix(address)) == []
            assert reasons(address) == ["serviceRange"] * len(nodes)

        more = {"metadata": {"name": "more"}, "spec": {"cidrs": [AROUND_IT]}}
        scene.cluster.apply({"apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR", **more})
        scene.wait_for(host_prefix(EXTERNAL_IP))
        assert reasons(EXTERNAL_IP) == ["serviceRange"] * len(nodes)

        scene.cluster.discard("/apis/networking.k8s.io/v1/servicecidrs/more")
        scene.wait_for(host_prefix(EXTERNAL_IP), *nodes)

        scene.cluster.discard(f"{SERVICES}/claimed")
        scene.cluster.discard(f"{API}/bgpinstances/default")
        scene.wait_for(host_prefix(EXTERNAL_IP))


@pytest.mark.parametrize("policy", ["Cluster", "Local"])
def test_what_comes_for_a_port_that_a_service_does_not_have_ends_on_the_node(scene: Scene, policy: str) -> None:
    """Kube-proxy lets it pass. With policy Local nobody answers, as kube-proxy does not where there is no endpoint."""
    first, *others = scene.lab.nodes.values()
    announcing = [first] if policy == "Local" else [first, *others]
    pod = scene.cluster.run_pod(first, "few-1", app="few")
    scene.cluster.apply(custom("BGPInstance", "default", {"allowedExternalIPs": ["198.51.100.0/24"]}))
    spec = {"type": "LoadBalancer", "externalTrafficPolicy": policy, "externalIPs": [EXTERNAL_IP]}
    scene.cluster.apply(web_service("few", app="few", **spec))
    scene.cluster.set_ingress("few", *LOAD_BALANCER.values())

    for family, vip in (*LOAD_BALANCER.items(), ("ipv4", EXTERNAL_IP)):
        scene.wait_for(host_prefix(vip), *announcing)
        assert wait_until(lambda vip=vip: curl(scene.lab.client, vip), within=SECONDS) == "few-1"
        router, *hops = traceroute(scene.lab.client, ip_address(vip), port=CLOSED)
        assert router == str(scene.lab.outside.address(scene.lab.router.number, family))
        ends = [{"*"}] if policy == "Local" else [{str(node.address(family))} for node in announcing]
        assert set(hops) in ends, hops

    scene.cluster.remove_pod(pod, "few-1")
    scene.cluster.discard(f"{SERVICES}/few")
    scene.cluster.discard(f"{API}/bgpinstances/default")
    for vip in (*LOAD_BALANCER.values(), EXTERNAL_IP):
        scene.wait_for(host_prefix(vip))


def test_a_service_address_learned_from_another_node_is_in_no_way_of_kube_proxy(scene: Scene) -> None:
    """Its own rules come first, for pods and for the node itself: nothing is sent to the node that announces it."""
    first, *others = scene.lab.nodes.values()
    only = {"nodeSelector": {"matchLabels": {"kubernetes.io/hostname": first.name}}}
    vips = scene.cluster.cluster_ips("web")
    asking = [scene.cluster.run_pod(node, f"asking-{node.index}", app="asking") for node in others]
    scene.cluster.apply(custom("BGPAdvertisement", "services", SERVICES_ADVERTISED["spec"] | only))
    scene.cluster.apply(custom("BGPInstance", "default", {"serviceRoutes": "Import"}))
    for family, vip in vips.items():
        wanted = [str(first.address(family))]
        for node in others:
            wait_until(
                lambda node=node, family=family, vip=vip, wanted=wanted: (
                    node.kernel_routes(family, "proto", OUR_PROTOCOL).get(host_prefix(vip)) == wanted
                ),
                within=SECONDS,
            )

    first.run(["nft", "-f", "-"], stdin=REFUSING.format(**vips))
    for vip in vips.values():
        for where in (*asking, *others):
            answers = {curl(where, vip) for _ in range(5)}
            assert answers <= {"web-1", "web-2", "web-3"}, where.name
    assert _came_for_it(first) == 0
    curl(scene.lab.client, vips["ipv4"])
    assert _came_for_it(first) > 0, "by the router's route it would have come"

    first.run(["nft", "delete", "table", "inet", "refusing"])
    scene.cluster.apply(SERVICES_ADVERTISED)
    scene.cluster.discard(f"{API}/bgpinstances/default")
    for pod, node in zip(asking, others, strict=True):
        scene.cluster.remove_pod(pod, f"asking-{node.index}")
    for vip in vips.values():
        scene.wait_for(host_prefix(vip), first, *others)


REFUSING = """
table inet refusing {{
  counter came {{ }}
  chain first {{
    type filter hook prerouting priority raw
    ip daddr {ipv4} counter name came drop
    ip6 daddr {ipv6} counter name came drop
  }}
}}
"""


def _came_for_it(node: Node) -> int:
    """Packets to the service's addresses, of whoever sent them."""
    (_, found) = json.loads(node.run(["nft", "--json", "list", "counters", "table", "inet", "refusing"]).stdout)[
        "nftables"
    ]
    return int(found["counter"]["packets"])


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
