"""The node's interfaces as far as routing cares: which subnets are connected, and whether a next hop is in one.

What pods do to interfaces all day (a veth with a link-local address comes and goes with each) leaves `Links` equal, so
that it costs no planning. It decides on no route.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from agent.model import Interface
from agent.plan.prefixes import PrefixIndex, by_family, contains
from bgp.model import Address, Prefix


class Subnet(NamedTuple):
    network: Prefix
    interface: int
    up: bool


@dataclass(frozen=True, slots=True)
class Links:
    subnets: tuple[Subnet, ...] = ()
    """Sorted. Without link-local and loopback ones; host addresses only of interfaces that are up: kube-proxy's IPVS
    mode keeps every service address on an interface that is down."""
    addresses: frozenset[Address] = frozenset()
    """Own, of the same choice."""


def reduce_links(interfaces: tuple[Interface, ...]) -> Links:
    subnets, addresses = set[Subnet](), set[Address]()
    for interface in interfaces:
        for address in interface.addresses:
            network: Prefix = address.network
            if address.ip.is_link_local or address.ip.is_loopback:
                continue
            if network.prefixlen == network.max_prefixlen and not interface.up:
                continue
            subnets.add(Subnet(network, interface.index, interface.up))
            addresses.add(address.ip)
    return Links(tuple(sorted(subnets, key=_by_network)), frozenset(addresses))


class Reach:
    """Answers from `Links` in time that does not grow with them."""

    __slots__ = ("_index", "_subnets", "addresses")

    def __init__(self, links: Links) -> None:
        self.addresses = links.addresses
        self._subnets: dict[Prefix, list[Subnet]] = {}
        for subnet in links.subnets:
            self._subnets.setdefault(subnet.network, []).append(subnet)
        self._index = PrefixIndex(self._subnets)

    def is_connected(self, prefix: Prefix) -> bool:
        """`prefix` is a connected subnet or part of one, whether its interface is up or not."""
        return next(self._index.covering(prefix), None) is not None

    def is_neighbour(self, address: Address) -> bool:
        """`address` stands in a connected subnet whose interface is up."""
        return any(subnet.up for subnet in self._around(address))

    def subnet_of(self, address: Address) -> Prefix | None:
        """The subnet that the node's own `address` stands in."""
        if address not in self.addresses:
            return None
        around = self._around(address)
        return max((subnet.network for subnet in around), key=lambda network: network.prefixlen, default=None)

    def _around(self, address: Address) -> Iterator[Subnet]:
        for network in self._index.around(address):
            yield from self._subnets[network]


def in_subnet(prefix: Prefix, subnet: Prefix | None) -> bool:
    return subnet is not None and contains(subnet, prefix)


def _by_network(subnet: Subnet) -> tuple[tuple[int, int, int], int, bool]:
    return by_family(subnet.network), subnet.interface, subnet.up
