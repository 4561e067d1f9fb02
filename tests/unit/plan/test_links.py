"""Interfaces reduced to what routing cares about."""

from __future__ import annotations

from ipaddress import ip_address, ip_interface, ip_network

import pytest

from agent.model import Interface
from agent.plan.links import Link, Reach, reduce_exits, reduce_links


def _interface(index: int, *addresses: str, up: bool = True) -> Interface:
    return Interface(index, f"if{index}", up=up, addresses=tuple(map(ip_interface, addresses)))


_ETH0 = _interface(2, "10.0.0.1/24", "fd00::1/64", "fe80::1/64")


@pytest.mark.parametrize(
    "more",
    [
        _interface(9, "fe80::2/64"),
        _interface(9, "169.254.1.1/32"),
        _interface(1, "127.0.0.1/8", "::1/128"),
        _interface(9, "10.96.0.1/32", "10.96.0.10/32", "fd02::1/128", up=False),
    ],
    ids=["a pod's veth", "a link-local service", "loopback", "the addresses of kube-proxy's IPVS mode"],
)
def test_interfaces_that_no_route_depends_on_change_nothing(more: Interface):
    assert reduce_links((_ETH0, more)) == reduce_links((_ETH0,))


def test_the_order_of_interfaces_is_of_no_account():
    other = _interface(3, "10.1.0.1/16")

    assert reduce_links((_ETH0, other)) == reduce_links((other, _ETH0))


@pytest.mark.parametrize("prefix", ["10.0.0.0/24", "10.0.0.128/25", "10.0.0.7/32", "fd00::/64", "fd00::7/128"])
def test_a_connected_subnet_stays_connected_while_its_interface_is_down(prefix: str):
    down = _interface(2, "10.0.0.1/24", "fd00::1/64", up=False)

    assert Reach(reduce_links((_ETH0,))).is_connected(ip_network(prefix))
    assert Reach(reduce_links((down,))).is_connected(ip_network(prefix))


def test_the_other_end_of_a_point_to_point_link_is_connected_and_a_neighbour_while_the_link_is_up():
    own, other = (ip_interface("10.7.0.1/32"),), (ip_network("10.8.0.5/32"), ip_network("fe80::5/128"))
    up, down = (
        Reach(reduce_links((_ETH0, Interface(3, "ppp0", up=up, addresses=own, ends=other)))) for up in (True, False)
    )

    assert (up.is_connected(other[0]), down.is_connected(other[0])) == (True, True)
    assert (up.is_neighbour(ip_address("10.8.0.5")), down.is_neighbour(ip_address("10.8.0.5"))) == (True, False)
    assert not up.is_neighbour(ip_address("fe80::5"))


def test_what_only_holds_a_connected_subnet_is_not_connected():
    assert not Reach(reduce_links((_ETH0,))).is_connected(ip_network("10.0.0.0/23"))


def test_a_neighbour_is_in_the_subnet_of_an_interface_that_is_up():
    reach = Reach(reduce_links((_ETH0, _interface(3, "10.5.0.1/24", up=False))))

    assert [
        text for text in ("10.0.0.9", "fd00::9", "10.5.0.9", "10.6.0.9") if reach.is_neighbour(ip_address(text))
    ] == [
        "10.0.0.9",
        "fd00::9",
    ]


def test_the_subnet_of_an_own_address_is_the_one_it_stands_in():
    reach = Reach(reduce_links((_ETH0, _interface(3, "10.0.0.250/16"))))

    assert reach.subnet_of(ip_address("10.0.0.1")) == ip_network("10.0.0.0/24")
    assert reach.subnet_of(ip_address("10.0.0.2")) is None


def test_of_several_link_local_addresses_the_lowest_is_the_one_of_the_link():
    several = _interface(2, "fe80::9/64", "fe80::a/64", "fd00::1/64", "169.254.0.1/16", up=False)

    assert reduce_exits((several,), ()).link("if2") == Link("if2", 2, up=False, address=ip_address("fe80::9"))
