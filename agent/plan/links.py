"""The node's interfaces as far as routing cares: which subnets are connected, whether a next hop is in one, and what
sessions with routers can start from and lead to.

What pods do to interfaces all day (a veth with a link-local address comes and goes with each) leaves `Links` equal, so
that no route is planned anew; only the few BGPPeers are looked at again. It decides on no route.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Interface, IPv6Interface
from typing import NamedTuple

from agent.model import Gateway, Interface
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
    mode keeps every service address on an interface that is down. With the other ends of point-to-point links."""
    addresses: frozenset[Address] = frozenset()
    """Own, of the same choice."""


def reduce_links(interfaces: tuple[Interface, ...]) -> Links:
    found = tuple(_addresses(interfaces))
    subnets = {Subnet(address.network, interface.index, interface.up) for interface, address in found}
    ends = ((interface, end) for interface in interfaces for end in interface.ends if not end.is_link_local)
    subnets.update(Subnet(end, interface.index, interface.up) for interface, end in ends)
    return Links(tuple(sorted(subnets, key=_by_network)), frozenset(address.ip for _, address in found))


def _addresses(interfaces: tuple[Interface, ...]) -> Iterator[tuple[Interface, IPv4Interface | IPv6Interface]]:
    """Those that `Links` speaks of."""
    for interface in interfaces:
        for address in interface.addresses:
            if address.ip.is_link_local or address.ip.is_loopback:
                continue
            if address.network.prefixlen == address.network.max_prefixlen and not interface.up:
                continue
            yield interface, address


def set_aside(interfaces: tuple[Interface, ...]) -> frozenset[Prefix]:
    """Host addresses of interfaces that are down: kube-proxy's IPVS mode so keeps the service addresses it answers for.

    Apart from `Links`, as they come and go with services.
    """
    return frozenset(
        address.network
        for interface in interfaces
        if not interface.up
        for address in interface.addresses
        if address.network.prefixlen == address.network.max_prefixlen
    )


@dataclass(frozen=True, slots=True)
class Link:
    """What sessions over link-local addresses may be had on."""

    name: str
    index: int
    up: bool
    address: Address | None
    """Our own link-local IPv6 address there; of several the lowest."""


@dataclass(frozen=True, slots=True)
class Exits:
    """What sessions with routers may start from and lead to.

    Apart from `Links`: routes that were learned need not be judged again when a default route changes.
    """

    sources: tuple[tuple[str, IPv4Interface | IPv6Interface], ...] = ()
    """Own addresses by name of the interface, of the same choice as `Links.addresses`; sorted."""
    gateways: tuple[Gateway, ...] = ()
    """Next hops of the default routes."""
    links: tuple[Link, ...] = ()
    """All interfaces, by index."""

    def link(self, name: str) -> Link | None:
        return next((link for link in self.links if link.name == name), None)

    def link_to(self, gateway: Gateway) -> Link | None:
        """The one that a gateway with a link-local address is on."""
        return next((link for link in self.links if link.index == gateway.interface), None)

    def has(self, address: Address) -> bool:
        return any(source.ip == address for _, source in self.sources)

    def on(self, name: str, version: int) -> tuple[IPv4Interface | IPv6Interface, ...]:
        """The addresses of one interface and IP version."""
        return tuple(source for found, source in self.sources if found == name and source.version == version)


def reduce_exits(interfaces: tuple[Interface, ...], gateways: tuple[Gateway, ...]) -> Exits:
    sources = {(interface.name, address) for interface, address in _addresses(interfaces)}
    ordered = tuple(sorted(sources, key=lambda found: (found[0], found[1].version, found[1])))
    return Exits(ordered, gateways, tuple(sorted(map(_link, interfaces), key=lambda link: link.index)))


def _link(interface: Interface) -> Link:
    own = [found.ip for found in interface.addresses if found.version == 6 and found.ip.is_link_local]
    return Link(interface.name, interface.index, interface.up, min(own, key=int, default=None))


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
        return self._index.covers(prefix)

    def is_neighbour(self, address: Address) -> bool:
        """`address` stands in a connected subnet whose interface is up, and is that of one machine there."""
        return any(subnet.up and not _is_broadcast(address, subnet.network) for subnet in self._around(address))

    def subnet_of(self, address: Address) -> Prefix | None:
        """The subnet that the node's own `address` stands in."""
        if address not in self.addresses:
            return None
        around = self._around(address)
        return max((subnet.network for subnet in around), key=lambda network: network.prefixlen, default=None)

    def _around(self, address: Address) -> Iterator[Subnet]:
        for network in self._index.around(address):
            yield from self._subnets[network]


def _is_broadcast(address: Address, network: Prefix) -> bool:
    """Linux refuses it as a gateway. A /31 has none (RFC 3021)."""
    return network.version == 4 and network.prefixlen < 31 and int(address) == int(network.broadcast_address)


def in_subnet(prefix: Prefix, subnet: Prefix | None) -> bool:
    return subnet is not None and contains(subnet, prefix)


def _by_network(subnet: Subnet) -> tuple[tuple[int, int, int], int, bool]:
    return by_family(subnet.network), subnet.interface, subnet.up
