"""What an agent must never announce or install, seen from outside: two routers' tables and the nodes' kernels judge.

All that could be allowed is allowed here: any ExternalIP, any learned prefix. What is refused all the same is refused
for the reason that `bgpilot explain` names. None of it is a reason to lose a session. The cluster's service ranges are
those of its ServiceCIDR objects.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import pytest

from tests.lab.judges import Judges, both, hosts
from tests.lab.minicluster import (
    LAB_HOLD_SECONDS,
    ROUTER_ASN,
    MiniCluster,
    custom,
    service_object,
    slice_object,
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
CLUSTER_IPS = custom(
    "BGPAdvertisement",
    "cluster-ips",
    {"type": "Service", "service": {"addresses": ["ClusterIP"], "selector": {"matchLabels": {"odd": "yes"}}}},
)
FAMILIES: tuple[Family, Family] = ("ipv4", "ipv6")
FINE = ("192.0.2.7", "2001:db8::7")
"""ExternalIPs that nothing is wrong with: when these are told, the others have been thought about."""
TAKEN = {
    "10.96.7.7": "serviceRange",
    "fd96::7:7": "serviceRange",
    "10.97.0.9": "serviceRange",  # outside the range that is known, and the ClusterIP of another Service
    "fd97::9": "serviceRange",
    "10.244.2.9": "podRange",
    "fd10:244:2::9": "podRange",
    "172.18.0.12": "nodeAddress",
    "fd18::12": "nodeAddress",
    "172.18.0.1": "peerAddress",
    "fd18::1": "peerAddress",  # the router is no BGPPeer by its IPv6 address, but the nodes' default gateway
}
"""What is somebody's: no Service may have it, in whatever class."""
NODE_SUBNET = {"172.18.0.200": "nodeSubnet", "fd18::200": "nodeSubnet"}
"""Nobody's so far; LoadBalancerIPs may be given out of it."""
LEARNED = {"ipv4": "198.51.100.0/24", "ipv6": "2001:db8:51::/48"}
"""Learned prefixes that nothing is wrong with."""
VIA_POD = {"ipv4": "203.0.113.0/24", "ipv6": "2001:db8:113::/48"}
"""What FRR announces with a pod's address as next hop."""
POD_OF_NODE_1 = {"ipv4": "10.244.1.7", "ipv6": "fd10:244:1::7"}
ELSEWHERE = ("10.99.0.77", "fd99::77")
"""Of a router that is behind another: in no subnet of the nodes."""
LATER = ("198.19.0.7", "2001:db8:19::7")
"""Inside a service range that comes while all is running."""


class Scene:
    """Two nodes in a mesh, FRR and BIRD as their routers, every node peering with both in both families over IPv4."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.cluster = MiniCluster(lab)
        self.api = self.cluster.api
        self.judges = Judges(lab)
        self.frr = self.judges.frr
        self.api.apply(INSTANCE, SERVICES, CLUSTER_IPS, service_range("kubernetes", "10.96.0.0/16", "fd96::/64"))
        self.api.apply(self.judges.peer("frr", **{"import": ANYTHING}), self.judges.peer("bird"))
        self.frr.configure(["bgp route-map delay-timer 0", *self._via_pod()])
        self.cluster.start()
        self.cluster.wait_meshed()
        self.judges.wait_established()

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

    def serve(self, name: str, external_ips: Iterable[str] = (), load_balancer_ips: Iterable[str] = ()) -> None:
        """A Service with these addresses, and then one of which both routers get to know from both nodes."""
        thing = service_object(
            name, ["10.96.0.80"], external_ips=list(external_ips), load_balancer_ips=list(load_balancer_ips)
        )
        self.api.apply(thing)
        self.api.apply(service_object("fine", ["10.96.0.81"], external_ips=FINE))
        self.told(FINE, *self.lab.nodes.values())

    def told(self, addresses: Iterable[str], *nodes: Node) -> None:
        """Both routers have these addresses from exactly these nodes, from now on or soon."""
        self.judges.told(hosts(addresses), *nodes)

    def told_only(self, *addresses: str) -> bool:
        assert self.judges.hosts() == both(*addresses)
        return True

    def explained(self, node: Node, subject: str) -> list[dict[str, Any]]:
        """The hops of `bgpilot explain` that are noes."""
        answer = self.cluster.agent(node).view("explain", subject=subject)
        return [hop for hop in answer["hops"] if not hop["ok"]]

    def why(self, node: Node, subject: str) -> set[str]:
        """Their reason words."""
        return {hop["reason"] for hop in self.explained(node, subject)}

    def why_not(self, node: Node, service: str) -> dict[str, str]:
        """Address of the Service → reason word."""
        return {hop["text"].split()[0]: hop["reason"] for hop in self.explained(node, service)}

    def heard(self, node: Node, *prefixes: str) -> None:
        """FRR has told the node of these, from now on or soon."""
        peer = str(self.lab.router.address())

        def all_heard() -> bool:
            rows = self.cluster.agent(node).view("routes", peer=peer)["rows"]
            return {row["prefix"] for row in rows} >= set(prefixes)

        wait_until(all_heard, within=60)

    def learned(self, node: Node, prefix: str, family: Family) -> None:
        """The kernel of the node has it through the router, from now on or soon."""
        wait_until(lambda: prefix in self.cluster.learned(node, family), within=60)


def service_range(name: str, *cidrs: str) -> dict[str, Any]:
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "ServiceCIDR",
        "metadata": {"name": name},
        "spec": {"cidrs": list(cidrs)},
    }


@pytest.fixture(scope="module")
def scene() -> Iterator[Scene]:
    with Lab(nodes=2, routers=2) as lab:
        built = Scene(lab)
        yield built
        flaps = built.cluster.flaps()
        built.cluster.close()
        assert flaps == 0


@pytest.fixture
def nodes(scene: Scene) -> tuple[Node, Node]:
    return scene.lab.node(1), scene.lab.node(2)


@pytest.fixture(autouse=True)
def clean(scene: Scene) -> Iterator[None]:
    yield
    scene.cluster.delete_all("Service", "EndpointSlice")
    for kind, usual in (("BGPPeer", ("frr", "bird")), ("ServiceCIDR", ("kubernetes",))):
        for thing in scene.api.list(kind):
            if (name := thing["metadata"]["name"]) not in usual:
                scene.api.delete(kind, name)
    scene.frr.withdraw(*scene.frr.originated)
    wait_until(scene.told_only)
    scene.cluster.wait_meshed()


@pytest.mark.parametrize(
    ("class_", "refused"), [("external_ips", TAKEN | NODE_SUBNET), ("load_balancer_ips", TAKEN)], ids=["external", "lb"]
)
def test_an_address_that_is_somebody_elses_is_not_told_and_says_whose(
    scene: Scene, nodes: tuple[Node, Node], class_: str, refused: dict[str, str]
) -> None:
    scene.api.apply(service_object("victim", ["10.97.0.9", "fd97::9"]))
    scene.serve("thief", **{class_: refused})

    scene.told_only(*FINE)
    for node in nodes:
        assert scene.why_not(node, "default/thief") == refused


def test_a_refusal_is_an_exit_code_and_is_found_by_the_address_too(scene: Scene, nodes: tuple[Node, Node]) -> None:
    scene.serve("thief", external_ips=NODE_SUBNET)

    for address in NODE_SUBNET:
        assert scene.why(nodes[0], address) == {"nodeSubnet"}
    agent = scene.cluster.agent(nodes[0])
    assert (agent.cli("explain", "default/thief").returncode, agent.cli("explain", "default/fine").returncode) == (3, 0)


@pytest.mark.parametrize("class_", ["external_ips", "load_balancer_ips"])
def test_an_address_is_withdrawn_when_a_service_range_takes_it(
    scene: Scene, nodes: tuple[Node, Node], class_: str
) -> None:
    scene.serve("early", **{class_: LATER})
    scene.told(LATER, *nodes)

    scene.api.apply(service_range("more", "198.19.0.0/24", "2001:db8:19::/64"))
    scene.told(LATER)
    for node in nodes:
        assert scene.why(node, "default/early") == {"serviceRange"}

    scene.api.delete("ServiceCIDR", "more")
    scene.told(LATER, *nodes)


def test_an_external_ip_that_is_a_routers_is_not_told_as_long_as_the_router_is_a_peer(
    scene: Scene, nodes: tuple[Node, Node]
) -> None:
    for number, address in enumerate(ELSEWHERE):
        scene.api.apply(custom("BGPPeer", f"far-{number}", {"address": address, "asn": ROUTER_ASN}))
    for agent in scene.cluster.agents.values():  # or it hears of the Service first
        wait_until(lambda agent=agent: agent.view("peers")["peers"].keys() >= set(ELSEWHERE))
    scene.serve("thief", external_ips=ELSEWHERE)

    scene.told_only(*FINE)
    for node in nodes:
        assert scene.why_not(node, "default/thief") == dict.fromkeys(ELSEWHERE, "peerAddress")

    for number, _ in enumerate(ELSEWHERE):
        scene.api.delete("BGPPeer", f"far-{number}")
    scene.told(ELSEWHERE, *nodes)


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

    scene.told([vip], first)
    scene.told([vip6], second)
    wait_until(lambda: scene.why_not(first, "default/web") == {vip6: "noLocalEndpoint"})
    assert scene.why_not(second, "default/web") == {vip: "noLocalEndpoint"}

    scene.api.apply(slice_object("web", {second.name: ["10.244.2.9"]}))
    scene.told([vip, vip6], second)


VIPS, OUTSIDE = ["10.96.0.80", "fd96::80"], ["192.0.2.9", "2001:db8::9"]


def _given(*ingress: dict[str, str]) -> dict[str, Any]:
    return {"spec": {"type": "LoadBalancer"}, "status": {"loadBalancer": {"ingress": list(ingress)}}}


@pytest.mark.parametrize(
    ("change", "reason", "told"),
    [
        ({"spec": {"clusterIP": "None", "clusterIPs": ["None"], "externalIPs": OUTSIDE}}, "headlessService", []),
        ({"spec": {"type": "ExternalName", "externalName": "a.example", "externalIPs": OUTSIDE}}, "externalName", []),
        (_given(*({"ip": ip, "ipMode": "Proxy"} for ip in OUTSIDE)), "ipModeProxy", VIPS),
        (_given({"hostname": "lb.example.org"}), "hostnameOnly", VIPS),
    ],
    ids=["headless", "ExternalName", "ipMode Proxy", "hostname"],
)
def test_a_service_without_an_address_that_a_node_answers_for_says_what_it_is(
    scene: Scene, nodes: tuple[Node, Node], change: dict[str, dict[str, Any]], reason: str, told: list[str]
) -> None:
    service = service_object("odd", VIPS, labels={"odd": "yes"})
    for part, changed in change.items():
        service[part] |= changed
    scene.api.apply(service)

    scene.serve("usual")
    scene.told(told, *nodes)

    scene.told_only(*FINE, *told)
    for node in nodes:
        assert scene.why(node, "default/odd") == {reason}
