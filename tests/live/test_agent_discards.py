"""What is announced and not in use ends on the node, for packets from elsewhere: they would go back to the router.

FRR sends, and the node counts how often one packet comes to it. The node has kube-proxy's way with services: NAT in
PREROUTING for what comes, in OUTPUT for what the node itself sends.
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_network
from typing import Any

import pytest

from tests.lab.minicluster import MiniCluster, custom, service_object, slice_object, tor, tor_peer
from tests.lab.netns import FAMILY_FLAG, Family
from tests.lab.pods import curl, serve_http
from tests.lab.topology import Lab
from tests.lab.wait import wait_until

pytestmark = pytest.mark.live

FAMILIES: tuple[Family, ...] = ("ipv4", "ipv6")
VIPS: dict[Family, str] = {"ipv4": "10.96.0.1", "ipv6": "fd96::1"}
UNUSED: dict[Family, str] = {"ipv4": "10.96.0.99", "ipv6": "fd96::99"}
AGGREGATES: dict[Family, str] = {"ipv4": "10.96.0.0/24", "ipv6": "fd96::/64"}
STATIC: dict[Family, str] = {"ipv4": "203.0.112.0/23", "ipv6": "2001:db8:7::/48"}
BALANCED: dict[Family, str] = {"ipv4": "192.0.2.80", "ipv6": "2001:db8:2::80"}
EXTERNAL: dict[Family, str] = {"ipv4": "192.0.2.81", "ipv6": "2001:db8:2::81"}
LOCAL: dict[Family, str] = {"ipv4": "192.0.2.82", "ipv6": "2001:db8:2::82"}
"""With policy Local."""
ELSEWHERE: dict[Family, str] = {"ipv4": "198.18.0.9", "ipv6": "2001:db8:ffff::9"}
RULES = (32764, 32765)
MARK = "198.51.100.254"


class Scene:
    def __init__(self, lab: Lab) -> None:
        self.lab, self.node, self.router = lab, lab.node(1), lab.router
        self.pod, self.other = self.node.add_pod("web"), self.node.add_pod("other")
        serve_http(self.pod, "web")
        self._translate()
        self.cluster = MiniCluster(lab)
        self.api = self.cluster.api
        instance = {"mesh": {"mode": "None"}, "allowedExternalIPs": ["192.0.2.0/24", "2001:db8:2::/64"]}
        self.api.apply(custom("BGPInstance", "default", instance), tor_peer(lab.router))
        self.api.apply(*self._services())
        self.frr = tor(lab.router)
        self.cluster.start()
        wait_until(self.frr.established, within=90)

    def _services(self) -> Iterator[dict[str, Any]]:
        yield service_object("web", tuple(VIPS.values()))
        outside = {"load_balancer_ips": tuple(BALANCED.values()), "external_ips": tuple(EXTERNAL.values())}
        yield service_object("balanced", ("10.96.0.2", "fd96::2"), **outside)
        local = {"load_balancer_ips": tuple(LOCAL.values()), "external_policy": "Local"}
        yield service_object("local", ("10.96.0.3", "fd96::3"), **local)
        for kind, family in (("IPv4", FAMILIES[0]), ("IPv6", FAMILIES[1])):
            yield slice_object("local", {self.node.name: [str(self.pod.address(family))]}, family=kind)

    def _translate(self) -> None:
        nat = "".join(
            f"{word} daddr {vips[family]} tcp dport 80 dnat {word} to "
            f"{f'[{self.pod.address(family)}]' if family == 'ipv6' else self.pod.address(family)}:80\n"
            for family, word in (("ipv4", "ip"), ("ipv6", "ip6"))
            for vips in (VIPS, BALANCED, EXTERNAL, LOCAL)
        )
        counted = "".join(f"counter c{number} {{ }}\n" for number in range(len(self._counted())))
        count = "".join(
            f'iifname "eth0" {"ip6" if ":" in address else "ip"} daddr {address} counter name c{number}\n'
            for number, address in enumerate(self._counted())
        )
        chains = (
            f"chain came {{ type filter hook prerouting priority raw\n{count}}}\n"
            f"chain from_elsewhere {{ type nat hook prerouting priority -100\n{nat}}}\n"
            f"chain from_here {{ type nat hook output priority -100\n{nat}}}\n"
        )
        self.node.run(["nft", "-f", "-"], stdin=f"table inet lab {{\n{counted}{chains}}}\n")

    @staticmethod
    def _counted() -> list[str]:
        return [address for each in (UNUSED, ELSEWHERE, BALANCED, EXTERNAL, LOCAL) for address in each.values()]

    def advertise(self, name: str, **spec: Any) -> None:
        self.api.apply(custom("BGPAdvertisement", name, spec))

    def advertise_aggregates(self) -> None:
        self.advertise(
            "services", type="Service", service={"addresses": ["ClusterIP"], "aggregation": {"ipv4": 24, "ipv6": 64}}
        )
        self.heard(AGGREGATES)

    def advertise_from_outside(self) -> None:
        self.advertise("outside", type="Service", service={"addresses": ["LoadBalancerIP", "ExternalIP"]})
        for vips in (BALANCED, EXTERNAL, LOCAL):
            self.heard({family: str(ip_network(vip)) for family, vip in vips.items()})

    def heard(self, prefixes: dict[Family, str]) -> None:
        """FRR has them in its kernel, too."""
        for family, prefix in prefixes.items():
            wait_until(lambda family=family, prefix=prefix: prefix in self.router.kernel_routes(family), within=30)  # type: ignore[misc]

    def comings(self, address: str) -> int:
        return self.sent(address)[0]

    def told_unreachable(self, address: str) -> bool:
        said = self.told(address)
        return "nreachable" in said and any(f"From {own}" in said for own in map(str, self.node.addresses))

    def sent(self, address: str) -> tuple[int, str]:
        """How often one packet from the client came to the node, and what the client was told."""
        counter = f"c{self._counted().index(address)}"
        self.node.run(["nft", "reset", "counter", "inet", "lab", counter])
        said = self.told(address)
        words = self.node.run(["nft", "list", "counter", "inet", "lab", counter]).stdout.split()
        return int(words[words.index("packets") + 1]), said

    def told(self, address: str) -> str:
        return self.lab.client.run(["ping", "-n", "-c1", "-W2", address], check=False).stdout

    def rules(self, family: Family) -> list[tuple[int, str]]:
        """But those that every namespace begins with."""
        rules = self.node.ip_json(FAMILY_FLAG[family], "rule", "show")
        usual = (0, 32766, 32767)
        return [(rule["priority"], rule.get("protocol", "")) for rule in rules if rule["priority"] not in usual]

    def has_rules(self, *wanted: int) -> None:
        def as_wanted() -> bool:
            found = {family: self.rules(family) for family in FAMILIES}
            assert found == {family: [(it, "179") for it in wanted] for family in FAMILIES}, found
            return True

        wait_until(as_wanted, within=30)


@pytest.fixture(scope="module")
def built() -> Iterator[Scene]:
    with Lab(nodes=1) as lab:
        scene = Scene(lab)
        yield scene
        scene.cluster.close()


@pytest.fixture
def scene(built: Scene) -> Iterator[Scene]:
    yield built
    for thing in built.api.list("BGPAdvertisement"):
        built.api.delete("BGPAdvertisement", thing["metadata"]["name"])
    built.has_rules()


def test_a_packet_to_an_address_of_an_aggregate_that_is_not_in_use_comes_once(scene: Scene) -> None:
    for family in FAMILIES:
        wide = "198.18.0.0/24" if family == "ipv4" else "2001:db8:ffff::/64"
        scene.router.ip(FAMILY_FLAG[family], "route", "add", wide, "via", str(scene.node.address(family)))
        assert scene.comings(ELSEWHERE[family]) > 10, "without a discard it goes in circles"

    scene.advertise_aggregates()

    for family in FAMILIES:
        assert scene.comings(UNUSED[family]) == 1
        assert scene.told_unreachable(UNUSED[family])


def test_service_addresses_of_an_aggregate_are_reached_from_the_node_its_pods_and_elsewhere(scene: Scene) -> None:
    scene.advertise_aggregates()
    scene.has_rules(*RULES)

    for vip in VIPS.values():
        for sender in (scene.node, scene.other, scene.lab.client):
            assert curl(sender, vip) == "web", f"{sender} to {vip}"


@pytest.mark.parametrize("vips", [BALANCED, EXTERNAL], ids=["LoadBalancerIP", "ExternalIP"])
def test_what_is_for_no_port_of_an_announced_address_comes_once_and_is_answered(
    scene: Scene, vips: dict[Family, str]
) -> None:
    for family, vip in vips.items():
        way = (FAMILY_FLAG[family], "route", "add", vip, "via", str(scene.node.address(family)), "metric", "9")
        scene.router.ip(*way)
        assert scene.comings(vip) > 10, "without a discard it goes in circles"
        scene.router.ip(*(word if word != "add" else "del" for word in way))

    scene.advertise_from_outside()

    for vip in vips.values():
        assert scene.comings(vip) == 1
        assert scene.told_unreachable(vip)


def test_with_policy_local_it_comes_once_and_nobody_answers_so_that_clients_try_again(scene: Scene) -> None:
    scene.advertise_from_outside()

    for vip in LOCAL.values():
        comings, said = scene.sent(vip)
        assert (comings, "From " in said) == (1, False)


def test_the_ports_of_announced_addresses_answer_the_node_its_pods_and_others(scene: Scene) -> None:
    scene.advertise_from_outside()
    scene.has_rules(*RULES)

    for vips in (BALANCED, EXTERNAL, LOCAL):
        for vip in vips.values():
            for sender in (scene.node, scene.other, scene.lab.client):
                assert curl(sender, vip) == "web", f"{sender} to {vip}"


def test_a_static_prefix_ends_packets_only_where_the_node_has_no_route_that_is_as_long(scene: Scene) -> None:
    scene.advertise("lab", type="Prefix", prefixes=list(STATIC.values()))
    scene.heard(STATIC)
    inside: dict[Family, str] = {"ipv4": "203.0.113.80", "ipv6": "2001:db8:7::80"}
    for family, address in inside.items():
        assert scene.told_unreachable(address)
        length = scene.pod.address(family).max_prefixlen
        scene.pod.ip("addr", "add", f"{address}/{length}", "dev", "lo")
        scene.node.ip("route", "add", f"{address}/{length}", "via", str(scene.pod.address(family)))
        assert curl(scene.lab.client, address) == "web"


def test_an_agent_that_starts_again_writes_none_of_it_again(scene: Scene) -> None:
    scene.advertise_aggregates()
    scene.has_rules(*RULES)
    monitor = scene.node.start(["ip", "monitor", "rule", "route"], log="monitor")
    agent, times = scene.cluster.agent(scene.node), scene.frr.times_established(str(scene.node.address()))
    agent.stop()

    agent.restart()
    wait_until(lambda: scene.frr.times_established(str(scene.node.address())) > times, within=60)
    wait_until(lambda: agent.view("status")["phase"] == "IN_SYNC", within=60)
    wait_until(lambda: _marked(scene, monitor), within=30)

    assert [line for line in monitor.output().splitlines() if "179" in line and MARK not in line] == []
    monitor.kill()


def _marked(scene: Scene, monitor: Any) -> bool:
    scene.node.ip("route", "replace", "blackhole", MARK)
    return MARK in monitor.output()


def test_a_rule_that_somebody_removed_is_back_and_others_rules_are_left_alone(scene: Scene) -> None:
    for family in FAMILIES:
        scene.node.ip(FAMILY_FLAG[family], "rule", "add", "pref", "32763", "lookup", "main", "protocol", "static")

    def as_wanted() -> bool:
        wanted = [(32763, "static"), *((it, "179") for it in RULES)]
        assert {family: scene.rules(family) for family in FAMILIES} == dict.fromkeys(FAMILIES, wanted)
        return True

    try:
        scene.advertise_aggregates()
        wait_until(as_wanted)
        for preference in RULES:
            scene.node.ip("rule", "del", "pref", str(preference))
        wait_until(as_wanted)
        scene.api.delete("BGPAdvertisement", "services")
        wait_until(lambda: scene.rules("ipv4") == scene.rules("ipv6") == [(32763, "static")])
    finally:
        for family in FAMILIES:
            scene.node.ip(FAMILY_FLAG[family], "rule", "del", "pref", "32763")


def test_the_discard_is_seen_in_explain_and_fib(scene: Scene) -> None:
    scene.advertise_aggregates()

    for aggregate in AGGREGATES.values():
        said = scene.cluster.agent(scene.node).cli("explain", aggregate).stdout
        assert f"unreachable-forwarded {aggregate} metric 4294967280 installed" in said
    rows = scene.cluster.agent(scene.node).view("fib")["rows"]
    assert {row["prefix"] for row in rows if row["type"] == "unreachable-forwarded"} == set(AGGREGATES.values())
