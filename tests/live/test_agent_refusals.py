"""What an agent must never announce or install, seen from outside: the router's table and the nodes' kernels judge.

All that could be allowed is allowed here: any ExternalIP, any learned prefix. What is refused all the same is refused
for the reason that `bgpilot explain` names. None of it is a reason to lose a session.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.lab.minicluster import (
    LAB_HOLD_SECONDS,
    ROUTER_ASN,
    MiniCluster,
    custom,
    service_object,
    slice_object,
    tor,
    tor_peer,
)
from tests.lab.netns import Family
from tests.lab.topology import Lab, Node
from tests.lab.wait import wait_until

pytestmark = pytest.mark.live

ANYTHING = {"allowed": [{"prefix": "0.0.0.0/0", "ge": 0, "le": 32}, {"prefix": "::/0", "ge": 0, "le": 128}]}
INSTANCE = custom(
    "BGPInstance",
    "default",
    {"mesh": {"holdSeconds": LAB_HOLD_SECONDS}, "allowedExternalIPs": ["0.0.0.0/0", "::/0"]},
)
SERVICES = custom(
    "BGPAdvertisement",
    "services",
    {"type": "Service", "service": {"addresses": ["ExternalIP", "LoadBalancerIP"]}},
)
FAMILIES: tuple[Family, Family] = ("ipv4", "ipv6")
FINE = {"ipv4": "192.0.2.7", "ipv6": "2001:db8::7"}
"""ExternalIPs that nothing is wrong with: when these are told, the others have been thought about."""
LEARNED = {"ipv4": "198.51.100.0/24", "ipv6": "2001:db8:51::/48"}
"""Learned prefixes that nothing is wrong with."""
VIA_POD = {"ipv4": "203.0.113.0/24", "ipv6": "2001:db8:113::/48"}
"""What the router announces with a pod's address as next hop."""
POD_OF_NODE_1 = {"ipv4": "10.244.1.7", "ipv6": "fd10:244:1::7"}
ELSEWHERE = "10.99.0.77"
"""Of a router that is behind another: in no subnet of the nodes."""
HOST_LENGTH = {"ipv4": 32, "ipv6": 128}


class Scene:
    """Two nodes in a mesh, FRR as their router, every node peering with it in both families over IPv4."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.cluster = MiniCluster(lab)
        self.api = self.cluster.api
        peer: dict[str, Any] = {"import": ANYTHING}
        self.api.apply(INSTANCE, SERVICES, tor_peer(lab.router, **peer))
        self.frr = tor(lab.router)
        self.frr.configure(["bgp route-map delay-timer 0", *self._via_pod()])
        self.cluster.start()
        self.cluster.wait_meshed()
        wait_until(lambda: len(self.frr.established()) == len(lab.nodes))

    def _via_pod(self) -> list[str]:
        """`VIA_POD` is told with a next hop that is a pod of node 1."""
        lines = []
        groups = [f"range-{network}" for network in self.lab.router.subnet.networks.values()]
        names = ["".join(char if char.isalnum() else "-" for char in group) for group in groups]
        for family, ip in (("ipv4", "ip"), ("ipv6", "ipv6")):
            hop = "ip next-hop" if family == "ipv4" else "ipv6 next-hop global"
            lines += [
                f"{ip} prefix-list via-pod-{family} permit {VIA_POD[family]}",
                f"route-map {family} permit 10",
                f"match {ip} address prefix-list via-pod-{family}",
                f"set {hop} {POD_OF_NODE_1[family]}",
                "exit",
                f"route-map {family} permit 20",
                "exit",
            ]
            lines += [f"router bgp {ROUTER_ASN}", f"address-family {family} unicast"]
            lines += [f"neighbor {name} route-map {family} out" for name in names]
            lines += ["exit-address-family", "exit"]
        return lines

    def serve(self, name: str, *external_ips: str) -> None:
        """A Service with these ExternalIPs, and then one of which the router gets to know from both nodes."""
        self.api.apply(service_object(name, ["10.96.0.80"], external_ips=external_ips))
        self.api.apply(service_object("fine", ["10.96.0.81"], external_ips=list(FINE.values())))
        for family in FAMILIES:
            self.told(FINE[family], *self.lab.nodes.values(), family=family)

    def told(self, address: str, *nodes: Node, family: Family = "ipv4") -> None:
        """The router has the address from exactly these nodes, from now on or soon."""
        wanted = sorted(str(node.address(family)) for node in nodes)
        prefix = f"{address}/{HOST_LENGTH[family]}"
        wait_until(lambda: self.frr.routes(family).get(prefix, []) == wanted, within=60)

    def hosts_told(self) -> set[str]:
        """Addresses to which the router has host routes."""
        found = (prefix.rsplit("/", 1) for family in FAMILIES for prefix in self.frr.routes(family))
        return {address for address, length in found if length in ("32", "128")}

    def why(self, node: Node, subject: str) -> set[str]:
        """Reason words of the noes that `bgpilot explain` tells; its exit code says that there are some."""
        agent = self.cluster.agent(node)
        answer = agent.ask("explain", subject)
        assert agent.cli("explain", subject).returncode == (0 if answer["ok"] else 3)
        return {hop["reason"] for hop in answer["hops"] if not hop["ok"]}

    def heard(self, node: Node, *prefixes: str) -> None:
        """The router has told the node of these, from now on or soon."""
        peer = str(self.lab.router.address())

        def all_heard() -> bool:
            rows = self.cluster.agent(node).ask("routes", "--peer", peer)["rows"]
            return {row["prefix"] for row in rows} >= set(prefixes)

        wait_until(all_heard, within=60)

    def learned(self, node: Node, prefix: str, family: Family) -> None:
        """The kernel of the node has it through the router, from now on or soon."""
        wait_until(lambda: prefix in self.cluster.learned(node, family), within=60)

    def flaps(self) -> int:
        tables = [self.cluster.agent(node).ask("peers")["peers"].values() for node in self.lab.nodes.values()]
        return sum(peer["flaps"] for table in tables for peer in table)


@pytest.fixture(scope="module")
def scene() -> Iterator[Scene]:
    with Lab(nodes=2) as lab:
        built = Scene(lab)
        yield built
        assert built.flaps() == 0
        built.cluster.close()


@pytest.fixture
def nodes(scene: Scene) -> tuple[Node, Node]:
    return scene.lab.node(1), scene.lab.node(2)


@pytest.fixture(autouse=True)
def clean(scene: Scene) -> Iterator[None]:
    yield
    for kind in ("Service", "EndpointSlice"):
        for thing in scene.api.list(kind):
            scene.api.delete(kind, thing["metadata"]["name"], thing["metadata"]["namespace"])
    for family in FAMILIES:
        for prefix in [prefix for prefix, hops in scene.frr.routes(family).items() if not hops]:
            scene.frr.withdraw(prefix)
    wait_until(lambda: scene.hosts_told() == set())
    scene.cluster.wait_meshed()


@pytest.mark.parametrize("address", ["172.18.0.200", "fd18::200"])
def test_an_external_ip_inside_the_nodes_subnet_is_not_told(
    scene: Scene, nodes: tuple[Node, Node], address: str
) -> None:
    scene.serve("thief", address)

    assert scene.hosts_told() == set(FINE.values())
    for node in nodes:
        assert scene.why(node, address) == scene.why(node, "default/thief") == {"nodeSubnet"}


def test_an_external_ip_that_is_a_routers_is_not_told_as_long_as_the_router_is_a_peer(
    scene: Scene, nodes: tuple[Node, Node]
) -> None:
    scene.api.apply(custom("BGPPeer", "far", {"address": ELSEWHERE, "asn": ROUTER_ASN}))
    scene.serve("thief", ELSEWHERE, str(scene.lab.router.address()))

    assert scene.hosts_told() == set(FINE.values())
    for node in nodes:
        assert scene.why(node, f"{ELSEWHERE}/32") == scene.why(node, "default/thief") == {"peerAddress"}

    scene.api.delete("BGPPeer", "far")
    scene.told(ELSEWHERE, *nodes)


@pytest.mark.parametrize("address", ["10.244.2.9", "fd10:244:2::9"])
def test_an_external_ip_inside_another_nodes_pod_cidr_is_not_told(
    scene: Scene, nodes: tuple[Node, Node], address: str
) -> None:
    scene.serve("thief", address)

    assert scene.hosts_told() == set(FINE.values())
    for node in nodes:
        assert scene.why(node, "default/thief") == {"podRange"}


@pytest.mark.parametrize("family", FAMILIES)
def test_a_route_through_a_pod_is_not_installed(scene: Scene, nodes: tuple[Node, Node], family: Family) -> None:
    scene.frr.announce(VIA_POD[family], LEARNED[family])
    first, second = nodes

    for node, reason in ((first, "nextHopIsPod"), (second, "nextHopNotConnected")):
        scene.heard(node, VIA_POD[family])
        scene.learned(node, LEARNED[family], family)
        assert VIA_POD[family] not in node.kernel_routes(family)
        assert scene.why(node, VIA_POD[family]) == {reason}


@pytest.mark.parametrize(("family", "part"), [("ipv4", "10.244.2.128/25"), ("ipv6", "fd10:244:2:0:8000::/65")])
def test_a_part_of_another_nodes_pod_cidr_is_not_installed(
    scene: Scene, nodes: tuple[Node, Node], family: Family, part: str
) -> None:
    scene.frr.announce(part, LEARNED[family])
    first, second = nodes

    for node in nodes:
        scene.heard(node, part)
        scene.learned(node, LEARNED[family], family)
    assert part not in first.kernel_routes(family)
    (way,) = first.ip_json("route", "get", str(second.pod_cidrs[family][-2]))
    assert way["gateway"] == str(second.address(family))
    assert scene.why(first, part) == {"insidePodCIDR"}
    assert part not in second.kernel_routes(family)
    assert scene.why(second, part) == {"ownPodCIDR"}


def test_policy_local_looks_at_the_endpoints_of_the_addresses_own_family(
    scene: Scene, nodes: tuple[Node, Node]
) -> None:
    vip, vip6 = "192.0.2.80", "2001:db8::80"
    first, second = nodes
    pods = {"IPv4": {first.name: ["10.244.1.9"]}, "IPv6": {second.name: ["fd10:244:2::9"]}}
    scene.api.apply(
        service_object("web", ["10.96.0.80", "fd96::80"], load_balancer_ips=[vip, vip6], external_policy="Local"),
        *(slice_object("web", endpoints, family=family) for family, endpoints in pods.items()),
    )

    scene.told(vip, first)
    scene.told(vip6, second, family="ipv6")
    for node, silent in ((first, vip6), (second, vip)):
        (no,) = [hop for hop in scene.cluster.agent(node).ask("explain", "default/web")["hops"] if not hop["ok"]]
        assert (no["reason"], no["text"].split()[0]) == ("noLocalEndpoint", silent)

    scene.api.apply(slice_object("web", {second.name: ["10.244.2.9"]}))
    scene.told(vip, second)
    scene.told(vip6, second, family="ipv6")


@pytest.mark.parametrize(
    ("spec", "ingress", "reason"),
    [
        ({"clusterIP": "None", "clusterIPs": ["None"]}, {}, "headlessService"),
        ({"type": "ExternalName", "externalName": "example.org"}, {}, "externalName"),
        ({}, {"ip": "192.0.2.9", "ipMode": "Proxy"}, "ipModeProxy"),
        ({}, {"hostname": "lb.example.org"}, "hostnameOnly"),
    ],
)
def test_a_service_without_an_address_that_a_node_answers_for_says_what_it_is(
    scene: Scene, nodes: tuple[Node, Node], spec: dict[str, object], ingress: dict[str, str], reason: str
) -> None:
    service = service_object("odd", ["10.96.0.80"])
    service["spec"] |= spec
    service["status"] = {"loadBalancer": {"ingress": [ingress] if ingress else []}}
    scene.api.apply(service)

    scene.serve("usual")

    assert scene.hosts_told() == set(FINE.values())
    assert scene.why(nodes[0], "default/odd") == {reason}
