"""The lab's routers are real ones that peer, learn, forward and are changed while they run: FRR and BIRD."""

from collections.abc import Callable, Mapping
from functools import partial
from ipaddress import ip_network

import pytest

from tests.lab.bird import Bird
from tests.lab.frr import Frr
from tests.lab.machines import Node
from tests.lab.neighbor import Neighbor
from tests.lab.netns import Family, Namespace
from tests.lab.pods import curl, serve_http
from tests.lab.procs import CommandFailedError
from tests.lab.topology import DUAL_STACK, Lab
from tests.lab.wait import wait_until
from tests.live.conftest import LabFactory

pytestmark = pytest.mark.live

SERVICE: dict[Family, str] = {"ipv4": "10.96.0.10/32", "ipv6": "fd96::10/128"}
OUTSIDE: dict[Family, str] = {"ipv4": "10.99.0.0/24", "ipv6": "fd99::/64"}
PASSWORD = "only-the-lab-knows"


def test_frr_learns_a_service_from_three_birds_with_three_next_hops(lab: LabFactory) -> None:
    net = lab(nodes=3)
    tor = _tor(net)
    for node in net.nodes.values():
        _bird(net, node)

    _wait_for(
        tor.routes,
        SERVICE,
        {family: [str(node.address(family)) for node in net.nodes.values()] for family in DUAL_STACK},
    )
    for family in DUAL_STACK:
        wait_until(partial(_next_hops_in_kernel, net.router, family, count=3))


def test_the_client_of_a_service_on_three_nodes_is_served_by_all_of_them(lab: LabFactory) -> None:
    net = lab(nodes=3)
    tor = _tor(net)
    for node in net.nodes.values():
        node.ip("addr", "add", SERVICE["ipv4"], "dev", "lo")
        serve_http(node)
        _bird(net, node)
    wait_until(lambda: len(tor.established()) == 3)

    served_by: set[str | None] = set()

    def by_all() -> bool:
        served_by.add(curl(net.client, ip_network(SERVICE["ipv4"])[0]))
        return served_by >= set(net.nodes)

    wait_until(by_all, every=0)


def test_bird_learns_from_two_frr_routers_with_two_next_hops(lab: LabFactory) -> None:
    net = lab(nodes=1, routers=2)
    neighbors = []
    for number, router in enumerate(net.routers, start=1):
        Frr(
            router,
            asn=65000,
            router_id=f"192.0.2.{number}",
            neighbors=[Neighbor(str(net.node(1).address()), 64512)],
            announce=list(OUTSIDE.values()),
        )
        neighbors.append(Neighbor(str(router.address()), 65000))
    bird = Bird(net.node(1), asn=64512, router_id="192.0.2.11", neighbors=neighbors)

    wanted = {family: [str(router.address(family)) for router in net.routers] for family in DUAL_STACK}
    _wait_for(bird.routes, OUTSIDE, wanted)
    _wait_for(net.node(1).kernel_routes, OUTSIDE, wanted)


@pytest.mark.parametrize("family", DUAL_STACK)
def test_a_session_with_a_password_comes_up_over_each_family(lab: LabFactory, family: Family) -> None:
    net = lab(nodes=1)
    node, router = net.node(1), net.router
    tor = Frr(
        router,
        asn=65000,
        router_id="192.0.2.1",
        neighbors=[Neighbor(str(node.address(family)), 64512, password=PASSWORD, passive=True)],
        announce=list(OUTSIDE.values()),
    )
    neighbor = Neighbor(str(router.address(family)), 65000, password=PASSWORD)
    bird = Bird(node, asn=64512, router_id="192.0.2.11", neighbors=[neighbor], announce=list(SERVICE.values()))

    wait_until(lambda: tor.established() == [str(node.address(family))])
    wait_until(lambda: bird.established() == [str(router.address(family))])
    _wait_for(tor.routes, SERVICE, {each: [str(node.address(each))] for each in DUAL_STACK})
    _wait_for(bird.routes, OUTSIDE, {each: [str(router.address(each))] for each in DUAL_STACK})


def test_a_wrong_password_keeps_the_session_down(lab: LabFactory) -> None:
    net = lab(nodes=1)
    right = _tor(net, password=PASSWORD)
    bird = _bird(net, net.node(1), password=PASSWORD)
    wait_until(right.established)

    bird.peers = {address: Neighbor(address, 65000, password="wrong") for address in bird.peers}
    bird.configure()

    wait_until(lambda: not bird.established() and not right.established())
    wait_until(lambda: _md5_failures(net.router) > 0)
    assert not bird.established()


def test_bird_accepts_peers_out_of_a_range(lab: LabFactory) -> None:
    net = lab(nodes=2)
    tor = Bird(net.router, asn=65000, router_id="192.0.2.1", neighbors=[Neighbor("172.18.0.0/24", 64512)])
    for node in net.nodes.values():
        _bird(net, node)

    wait_until(lambda: tor.established() == [str(node.address()) for node in net.nodes.values()])
    wait_until(lambda: len(tor.routes("ipv6").get(SERVICE["ipv6"], [])) == 2)


def test_a_neighbor_added_and_one_removed_leave_the_third_session_alone(lab: LabFactory) -> None:
    net = lab(nodes=3)
    first, second, third = (Neighbor(str(node.address()), 64512) for node in net.nodes.values())
    tor = Frr(net.router, asn=65000, router_id="192.0.2.1", neighbors=[first, second])
    for node in net.nodes.values():
        _bird(net, node)
    wait_until(lambda: tor.established() == [first.address, second.address])

    tor.add_neighbor(third)
    tor.remove_neighbor(second)

    wait_until(lambda: tor.established() == [first.address, third.address])
    assert tor.times_established(first.address) == 1


def test_prefixes_are_announced_and_withdrawn_while_running(lab: LabFactory) -> None:
    net = lab(nodes=1)
    tor = _tor(net)
    bird = _bird(net, net.node(1))
    wait_until(tor.established)

    tor.announce("198.51.100.0/24")
    bird.announce("203.0.113.0/24")

    wait_until(lambda: "198.51.100.0/24" in bird.routes("ipv4"))
    wait_until(lambda: "203.0.113.0/24" in tor.routes("ipv4"))

    tor.withdraw("198.51.100.0/24")
    bird.withdraw("203.0.113.0/24")

    wait_until(lambda: "198.51.100.0/24" not in bird.routes("ipv4"))
    wait_until(lambda: "203.0.113.0/24" not in tor.routes("ipv4"))


def test_a_line_that_frr_does_not_know_is_a_failure(lab: LabFactory) -> None:
    net = lab(nodes=0)

    with pytest.raises(CommandFailedError, match="frobnicate"):
        Frr(net.router, asn=65000, router_id="192.0.2.1", lines=["bgp frobnicate"])


def test_a_configuration_that_bird_does_not_know_is_a_failure(lab: LabFactory) -> None:
    net = lab(nodes=0)
    bird = Bird(net.router, asn=65000, router_id="192.0.2.1")
    bird.lines = ("frobnicate;",)

    with pytest.raises(CommandFailedError, match="syntax error"):
        bird.configure()


def _wait_for(
    routes: Callable[[Family], Mapping[str, list[str]]],
    prefixes: Mapping[Family, str],
    next_hops: Mapping[Family, list[str]],
) -> None:
    """Until each family's prefix has exactly these next hops."""

    def learned() -> bool:
        for family, prefix in prefixes.items():
            assert routes(family).get(prefix) == next_hops[family]
        return True

    wait_until(learned)


def _next_hops_in_kernel(router: Namespace, family: Family, *, count: int) -> bool:
    """Counted only: FRR gives the kernel the link-local next hops of IPv6 peers."""
    return len(router.kernel_routes(family)[SERVICE[family]]) == count


def _tor(net: Lab, password: str = "") -> Frr:
    if password:
        neighbors = [Neighbor(str(node.address()), 64512, password=password) for node in net.nodes.values()]
    else:
        neighbors = [Neighbor("172.18.0.0/24", 64512)]
    return Frr(net.router, asn=65000, router_id="192.0.2.1", neighbors=neighbors, announce=list(OUTSIDE.values()))


def _bird(net: Lab, node: Node, password: str = "") -> Bird:
    return Bird(
        node,
        asn=64512,
        router_id=f"192.0.2.{10 + node.index}",
        neighbors=[Neighbor(str(net.router.address()), 65000, password=password)],
        announce=list(SERVICE.values()),
    )


def _md5_failures(router: Namespace) -> int:
    counters = router.run(["cat", "/proc/net/netstat"]).stdout.splitlines()
    names, values = (line.split() for line in counters if line.startswith("TcpExt:"))
    return int(values[names.index("TCPMD5Failure")])
