"""Which routers a BGPPeer means on this node: the address written in it, one on the Node, or the default gateways.

A router with a link-local address gets its interface as zone: that of the default route, or `sourceInterface`, without
which nobody could tell on which link it is. So two gateways `fe80::1` on two links are two routers.

It refuses to make sessions of them (`agent.plan.external`).
"""

from __future__ import annotations

from dataclasses import dataclass

from agent.intent import ExternalPeer, GatewayFamily, NodeValue, names_a_router, needs_a_link, router_in
from agent.model import Gateway, Problem
from agent.plan import external_problems as say
from agent.plan.identity import Peering
from agent.plan.links import Exits
from agent.plan.model import Identity
from agent.plan.written import text_at
from bgp.model import Address, Family, with_zone

_FAMILIES = {
    GatewayFamily.IPV4: (Family.IPV4,),
    GatewayFamily.IPV6: (Family.IPV6,),
    GatewayFamily.DUAL: (Family.IPV4, Family.IPV6),
}


@dataclass(frozen=True, slots=True)
class Found:
    addresses: tuple[Address, ...] = ()
    """Each once, link-local ones with their interface."""
    problems: tuple[Problem, ...] = ()


def find_routers(peering: Peering, exits: Exits, wanted: ExternalPeer) -> Found:
    """`wanted` selects the node."""
    if wanted.address is not None:
        return _placed(wanted, wanted.address)
    if wanted.address_from is not None:
        return _written_on(peering, wanted, wanted.address_from)
    if wanted.default_gateway is not None:
        return _gateways(peering.identity, exits, wanted, wanted.default_gateway)
    return Found()


def _written_on(peering: Peering, wanted: ExternalPeer, where: NodeValue) -> Found:
    node = peering.identity.node
    text = text_at(where, dict(peering.labels), dict(peering.annotations))
    if not text:
        return Found(problems=(say.address_missing(wanted, where, node),))
    address = router_in(text)
    if address is not None:
        return _placed(wanted, address)
    left = peering.written.get(wanted.name)
    found = _placed(wanted, left) if left is not None else Found()
    return Found(found.addresses, (say.address_invalid(wanted, where, node, text, left), *found.problems))


def _placed(wanted: ExternalPeer, address: Address) -> Found:
    if not needs_a_link(address):
        return Found((address,))
    if not wanted.reach.source_interface:
        return Found(problems=(say.link_unknown(wanted, address),))
    return Found((with_zone(address, wanted.reach.source_interface),))


def _gateways(own: Identity, exits: Exits, wanted: ExternalPeer, which: GatewayFamily) -> Found:
    """Of a family in which the node has no address nothing is expected."""
    spoken = {Family.of(address) for address in own.addresses}
    addresses, problems = dict[Address, None](), list[Problem]()
    for family in _FAMILIES[which]:
        found = [gateway for gateway in exits.gateways if gateway.family is family]
        for gateway in found:
            address = _router_at(exits, gateway)
            if address is None:
                problems.append(say.gateway_link_local(wanted, gateway, own))
            else:
                addresses[address] = None
        if not found and (family in spoken or which is not GatewayFamily.DUAL):
            problems.append(say.gateway_missing(wanted, family, own))
    return Found(tuple(addresses), tuple(dict.fromkeys(problems)))


def _router_at(exits: Exits, gateway: Gateway) -> Address | None:
    """None: no session can be had with it. The name of an interface that has just come is not known for a moment."""
    if not needs_a_link(gateway.address):
        return gateway.address if names_a_router(gateway.address) else None
    link = exits.link_to(gateway)
    return with_zone(gateway.address, link.name) if link is not None else None
