"""When a route that is wanted is the one that the kernel has."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest

from agent.kernel.table import fulfils, narrows
from agent.model import FibRoute, NextHop


def _route(*hops: tuple[str, int]) -> FibRoute:
    return FibRoute(ip_network("fd01::/64"), tuple(NextHop(ip_address(gateway), index) for gateway, index in hops))


@pytest.mark.parametrize(
    ("wanted", "actual", "same"),
    [
        (_route(("fd00::1", 0)), _route(("fd00::1", 2)), True),
        (_route(("fe80::1%eth0", 2)), _route(("fe80::1", 2)), True),
        (_route(("fe80::1%eth0", 2)), _route(("fe80::1", 3)), False),
        (_route(("fe80::1%eth0", 2), ("fe80::1%eth1", 3)), _route(("fe80::1", 2), ("fe80::1", 3)), True),
        (_route(("fe80::1%eth0", 2), ("fe80::1%eth1", 3)), _route(("fe80::1", 2), ("fe80::1", 4)), False),
    ],
)
def test_the_kernel_knows_links_by_number_and_not_by_name(wanted: FibRoute, actual: FibRoute, same: bool) -> None:
    assert fulfils(wanted, actual) is same


def test_one_link_less_only_takes_a_next_hop_away() -> None:
    both = _route(("fe80::1", 2), ("fe80::1", 3))

    assert narrows(_route(("fe80::1%eth0", 2)), both)
    assert not narrows(_route(("fe80::1%eth2", 4)), both)
