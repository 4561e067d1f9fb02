"""IPv4 over an IPv6 fabric (RFC 8950): neither the node nor its routers have an IPv4 address on the link between them.

The node's kernel is the judge of what was learned, the router's own table of what was announced, and a packet there and
back of both.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from ipaddress import ip_address
from typing import Any

import pytest

from tests.lab.frr import Frr
from tests.lab.minicluster import (
    CLUSTER_ASN,
    LAB_HOLD_SECONDS,
    OUR_PROTOCOL,
    ROUTER_ASN,
    Agent,
    MiniCluster,
    node_object,
    tor_peer,
)
from tests.lab.neighbor import Neighbor
from tests.lab.pods import curl, ping, serve_http
from tests.lab.topology import Host, Lab
from tests.lab.wait import wait_until
from tests.live.conftest import LabFactory
from tests.live.test_agent_process import kernel_writes

pytestmark = pytest.mark.live

OUTSIDE, SERVER = "198.51.100.0/24", ip_address("198.51.100.10")
STALE = "203.0.113.0/24"
SWITCH = "capability extended-nexthop"


class Fabric:
    """One node with a pod, and routers between it and the client, where `OUTSIDE` is."""

    def __init__(self, lab: Lab, *, extra: Sequence[str] = (SWITCH,)) -> None:
        self.lab = lab
        self.node = self.lab.node(1)
        self.pod = self.node.add_pod()
        for machine in (self.node, *self.lab.routers):
            machine.configure(ip=[f"addr del {machine.subnet.interface(machine.number, 'ipv4')} dev eth0"])
        client = self.lab.client.address("ipv4")
        back = f"{self.node.pod_cidrs['ipv4']} via {lab.outside.address(lab.router.number, 'ipv4')} src {SERVER}"
        self.lab.client.configure(ip=[f"addr add {SERVER}/32 dev lo", f"route add {back}"])
        for router in self.lab.routers:
            router.configure(ip=[f"route add {OUTSIDE} via {client}"])
        self.cluster = MiniCluster(self.lab)
        self.frrs = [self._frr(router, extra) for router in self.lab.routers]
        for router in self.lab.routers:
            allowed = {"allowed": [{"prefix": OUTSIDE}]}
            self.cluster.api.apply(tor_peer(router, name=router.name, extendedNextHop=True, **{"import": allowed}))
        node = node_object(self.node)
        node["status"]["addresses"] = [{"type": "InternalIP", "address": str(self.node.address("ipv6"))}]
        self.cluster.api.apply(node)
        self.agent: Agent = self.cluster.start_agent(self.node)

    def _frr(self, router: Host, extra: Sequence[str]) -> Frr:
        range_ = str(router.subnet.networks["ipv6"])
        one = Neighbor(range_, CLUSTER_ASN, hold_seconds=LAB_HOLD_SECONDS, extra=tuple(extra))
        return Frr(router, asn=ROUTER_ASN, router_id=f"192.0.2.{router.number}", neighbors=[one])

    def hops(self) -> list[str]:
        """Next hops of `OUTSIDE` in the node's kernel."""
        return self.cluster.learned(self.node, "ipv4").get(OUTSIDE, [])

    def routers(self) -> list[str]:
        return sorted(str(router.address("ipv6")) for router in self.lab.routers)

    def sent(self) -> tuple[int, int]:
        """How many prefixes of each family the agent says to have sent to the first router."""
        peer = self.agent.view("peers")["peers"][str(self.lab.router.address("ipv6"))]
        return tuple(peer["address_family"][family]["sent_prefixes"] for family in ("ipv4", "ipv6"))


@pytest.fixture(scope="module")
def fabric() -> Iterator[Fabric]:
    with Lab(nodes=1, routers=2, families=("ipv6", "ipv4")) as lab:
        built = Fabric(lab)
        yield built
        built.cluster.close()


@pytest.fixture
def both(fabric: Fabric) -> Fabric:
    """Both routers announce `OUTSIDE`."""
    for frr in fabric.frrs:
        frr.announce(OUTSIDE)
    wait_until(lambda: fabric.hops() == fabric.routers(), within=60)
    return fabric


def test_two_routers_are_one_multipath_route_as_ip_route_and_the_agent_print_it(both: Fabric) -> None:
    printed = both.node.run(["ip", "route", "show", OUTSIDE, "proto", OUR_PROTOCOL]).stdout

    for hop in both.routers():
        assert f"nexthop via inet6 {hop} dev eth0" in printed
        assert f"inet6 {hop}" in both.agent.cli("fib").stdout
        assert f"{OUTSIDE} via inet6 {hop} admitted, chosen" in both.agent.cli("explain", OUTSIDE).stdout


def test_pods_and_the_node_reach_what_is_behind_the_routers_and_are_reached(both: Fabric) -> None:
    serve_http(both.lab.client, "behind the routers")
    serve_http(both.pod, "in the pod")

    wait_until(lambda: curl(both.pod, SERVER) == "behind the routers")
    assert ping(both.node, SERVER)
    assert curl(both.lab.client, both.pod.address("ipv4")) == "in the pod"


@pytest.mark.parametrize("end", [Agent.stop, Agent.kill])
def test_a_restart_with_nothing_changed_writes_nothing_to_the_kernel(both: Fabric, end: Any) -> None:
    """But a route that nobody claims any more is swept, once all peers have said what they have."""
    end(both.agent)
    both.node.ip("route", "add", STALE, "via", "inet6", both.routers()[0], "proto", OUR_PROTOCOL)
    with kernel_writes(both.node) as writes:
        both.agent.restart()

        wait_until(lambda: STALE not in both.cluster.learned(both.node, "ipv4"), within=60)
        assert [line for line in writes.so_far() if STALE not in line] == []
    assert both.hops() == both.routers()


def test_one_router_that_goes_leaves_the_other(both: Fabric) -> None:
    first, second = both.lab.routers
    both.frrs[0].withdraw(OUTSIDE)
    wait_until(lambda: both.hops() == [str(second.address("ipv6"))])

    both.frrs[0].announce(OUTSIDE)
    wait_until(lambda: both.hops() == both.routers())
    both.frrs[1].withdraw(OUTSIDE)

    wait_until(lambda: both.hops() == [str(first.address("ipv6"))])
    wait_until(lambda: ping(both.node, SERVER))


def test_what_the_router_has_not_agreed_to_is_neither_sent_nor_said_to_be_until_it_agrees(lab: LabFactory) -> None:
    fabric = Fabric(lab(nodes=1, families=("ipv6", "ipv4")), extra=())
    with fabric.cluster:
        prefix, prefix6 = (str(fabric.node.pod_cidrs[family]) for family in ("ipv4", "ipv6"))
        frr, node = fabric.frrs[0], str(fabric.node.address("ipv6"))

        def told() -> tuple[Any, Any]:
            rows = fabric.agent.ask("routes", "advertised")["rows"]
            return next((row["state"], row["reason"]) for row in rows if row["prefix"] == prefix)

        wait_until(lambda: prefix6 in frr.routes("ipv6"), within=60)
        assert told() == ("refused", "nextHopNotNegotiated")
        wait_until(lambda: fabric.sent() == (0, 1))
        assert "nextHopNotNegotiated" in fabric.agent.cli("explain", prefix).stdout
        assert prefix not in frr.routes("ipv4")

        group = "range-" + "".join(it if it.isalnum() else "-" for it in str(fabric.lab.rack1.networks["ipv6"]))
        frr.configure([f"router bgp {ROUTER_ASN}", f"neighbor {group} {SWITCH}"])
        frr.vtysh("clear bgp *")

        wait_until(lambda: frr.routes("ipv4").get(prefix) == [node], within=60)
        wait_until(lambda: told() == ("sent", None))
        assert fabric.sent() == (1, 1)
