"""What the lab promises to the tests that use it: its wires carry, its pods answer, its probe sees loss."""

import signal
import time
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address

import pytest

from tests.lab.machines import Node
from tests.lab.netns import Family, Namespace
from tests.lab.pods import curl, ping, serve_echo, serve_http, traceroute
from tests.lab.probe import Probe
from tests.lab.procs import CommandFailedError
from tests.lab.topology import DUAL_STACK
from tests.lab.wait import wait_until
from tests.live.conftest import LabFactory

pytestmark = pytest.mark.live


@pytest.mark.parametrize("family", DUAL_STACK)
def test_a_packet_between_pods_visits_exactly_the_two_nodes(lab: LabFactory, family: Family) -> None:
    net = lab(nodes=2)
    here, there = (node.add_pod() for node in net.nodes.values())
    net.add_static_pod_routes()

    hops = _hops(here, there.address(family))

    assert hops == [str(net.node(1).pod_cidrs[family][1]), str(net.node(2).address(family)), str(there.address(family))]


@pytest.mark.parametrize("family", DUAL_STACK)
def test_a_pod_in_the_second_subnet_is_reached_through_the_router(lab: LabFactory, family: Family) -> None:
    net = lab(nodes=1, nodes_in_second_subnet=1)
    here, there = (node.add_pod() for node in net.nodes.values())
    net.add_static_pod_routes()

    hops = _hops(here, there.address(family))

    assert hops[1:3] == [str(net.router.address(family)), str(net.node(2).address(family))]


@pytest.mark.parametrize("family", DUAL_STACK)
def test_the_client_reaches_a_pod_through_the_router(lab: LabFactory, family: Family) -> None:
    net = lab(nodes=1)
    pod = net.node(1).add_pod()
    net.add_static_pod_routes()

    hops = _hops(net.client, pod.address(family))

    assert len(hops) == 3
    assert hops[1] == str(net.node(1).address(family))


@pytest.mark.parametrize("families", [("ipv4",), ("ipv6",)])
def test_a_lab_of_one_family_has_no_address_of_the_other(lab: LabFactory, families: tuple[Family, ...]) -> None:
    net = lab(nodes=1, families=families)
    pod = net.node(1).add_pod()
    net.add_static_pod_routes()

    assert ping(net.client, pod.address())
    other = {"ipv4": "inet6", "ipv6": "inet"}[families[0]]
    addresses = [
        address["local"]
        for link in pod.ip_json("addr", "show", "dev", "eth0")
        for address in link["addr_info"]
        if address["family"] == other
    ]
    assert addresses == []


def test_without_a_route_a_pod_on_another_node_is_out_of_reach(lab: LabFactory) -> None:
    net = lab(nodes=2)
    here, there = (node.add_pod() for node in net.nodes.values())

    assert not ping(here, there.address())


def test_a_dead_node_is_silent_and_comes_back_with_its_addresses(lab: LabFactory) -> None:
    net = lab(nodes=2)
    gone = net.node(2)
    wait_until(lambda: ping(net.node(1), gone.address()))

    net.remove_node(gone)

    assert not ping(net.node(1), gone.address())
    assert not gone.path.exists()

    back = net.add_node(2)

    assert back.addresses == gone.addresses
    wait_until(lambda: ping(net.node(1), back.address()))


def test_a_pulled_cable_cuts_off_a_node_and_leaves_its_routes(lab: LabFactory) -> None:
    net = lab(nodes=2)
    node = net.node(1)
    before = {family: node.kernel_routes(family) for family in DUAL_STACK}

    node.unplug()

    assert not ping(node, net.node(2).address())
    assert node.kernel_routes("ipv4") == before["ipv4"]

    node.plug()

    wait_until(lambda: ping(node, net.node(2).address()))
    wait_until(lambda: {family: node.kernel_routes(family) for family in DUAL_STACK} == before)


def test_a_link_taken_down_and_up_has_its_addresses_and_default_routes_again(lab: LabFactory) -> None:
    net = lab(nodes=1)
    node = net.node(1)
    before = {family: node.kernel_routes(family) for family in DUAL_STACK}

    node.link_down()

    assert "0.0.0.0/0" not in node.kernel_routes("ipv4")

    node.link_up()

    wait_until(lambda: {family: node.kernel_routes(family) for family in DUAL_STACK} == before)


def test_the_kernel_routes_of_a_namespace_are_those_that_packets_take(lab: LabFactory) -> None:
    net = lab(nodes=1)
    node = net.node(1)
    node.configure(
        ip=[
            "route add 203.0.113.0/24 metric 10 via 172.18.0.1",
            "route add 203.0.113.0/24 metric 5 nexthop via 172.18.0.3 nexthop via 172.18.0.2",
            "route add blackhole 198.51.100.1 proto 179",
            "route add 2001:db8::/32 nexthop via fd18::1 nexthop via fd18::2",
        ]
    )

    assert node.kernel_routes("ipv4")["203.0.113.0/24"] == ["172.18.0.2", "172.18.0.3"]
    assert node.kernel_routes("ipv4", "proto", "179") == {"198.51.100.1/32": []}
    assert node.kernel_routes("ipv6")["2001:db8::/32"] == ["fd18::1", "fd18::2"]


def test_a_plain_host_on_the_switch_reaches_nodes_and_client(lab: LabFactory) -> None:
    net = lab(nodes=1)
    api = net.host("api")

    assert ping(api, net.node(1).address())
    assert ping(api, net.client.address("ipv6"))


@pytest.mark.parametrize("family", DUAL_STACK)
def test_a_pod_answers_http_with_its_name(lab: LabFactory, family: Family) -> None:
    net = lab(nodes=1)
    pod = net.node(1).add_pod("web")
    net.add_static_pod_routes()
    serve_http(pod)

    assert curl(net.client, pod.address(family)) == "node-1.web"


def test_curl_gets_nothing_where_nobody_listens(lab: LabFactory) -> None:
    net = lab(nodes=1)

    assert curl(net.client, net.router.address()) is None


def test_a_failed_command_tells_what_it_printed(lab: LabFactory) -> None:
    net = lab(nodes=1)

    with pytest.raises(CommandFailedError, match=r"exit 3\nbecause"):
        net.node(1).run(["sh", "-c", "echo because >&2; exit 3"])


def test_a_program_that_ignores_sigterm_is_killed_after_the_bound(lab: LabFactory) -> None:
    net = lab(nodes=1)
    stubborn = net.node(1).start(["sh", "-c", "trap '' TERM; echo ready; while :; do :; done"], log="stubborn")
    wait_until(lambda: "ready" in stubborn.output())

    assert stubborn.stop(within=0.2) == -signal.SIGKILL


@pytest.mark.parametrize("family", DUAL_STACK)
def test_the_probe_loses_nothing_while_nothing_happens_and_sees_a_route_gone_for_200_ms(
    lab: LabFactory, family: Family
) -> None:
    net = lab(nodes=2)
    here, there = (node.add_pod() for node in net.nodes.values())
    net.add_static_pod_routes()
    serve_echo(there)

    with Probe(here, there.address(family), flows=4) as calm:
        wait_until(_passed(0.5))
        undisturbed = calm.stop()
    with Probe(here, there.address(family), flows=4) as probe:
        _remove_route_for(net.node(1), net.node(2), family, seconds=0.2)
        disturbed = probe.stop()

    assert undisturbed.lost == 0
    assert undisturbed.sent > 0
    assert disturbed.lost > 0
    assert disturbed.longest_gap_ms > 150


def _hops(source: Namespace, target: IPv4Address | IPv6Address) -> list[str]:
    """The way once every hop answered: the first packets may find a neighbour not resolved yet."""

    def complete() -> list[str]:
        hops = traceroute(source, target)
        assert "*" not in hops
        assert hops[-1] == str(target)
        return hops

    return wait_until(complete)


def _passed(seconds: float) -> Callable[[], bool]:
    ends_at = time.monotonic() + seconds
    return lambda: time.monotonic() >= ends_at


def _remove_route_for(source: Node, target: Node, family: Family, *, seconds: float) -> None:
    route = [str(target.pod_cidrs[family]), "via", str(target.address(family))]
    source.ip("route", "del", *route)
    source.ip("route", "add", "unreachable", route[0])
    wait_until(_passed(seconds), every=0.01)
    source.ip("route", "del", "unreachable", route[0])
    source.ip("route", "add", *route)
