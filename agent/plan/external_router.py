"""Which routers a BGPPeer means on this node: the address written in it, one on the Node, or the default gateways.

It refuses to make sessions of them (`agent.plan.external`).
"""

from __future__ import annotations

from dataclasses import dataclass

from agent.intent import ExternalPeer, GatewayFamily, NodeValue, names_a_router, router_in
from agent.model import Problem
from agent.plan import external_problems as say
from agent.plan.identity import Peering
from agent.plan.links import Exits
from agent.plan.model import Identity
from bgp.model import Address, Family

_FAMILIES = {
    GatewayFamily.IPV4: (Family.IPV4,),
    GatewayFamily.IPV6: (Family.IPV6,),
    GatewayFamily.DUAL: (Family.IPV4, Family.IPV6),
}


@dataclass(frozen=True, slots=True)
class Found:
    addresses: tuple[Address, ...] = ()
    """Each once."""
    problems: tuple[Problem, ...] = ()


def find_routers(peering: Peering, exits: Exits, wanted: ExternalPeer) -> Found:
    """`wanted` selects the node."""
    if wanted.address is not None:
        return Found((wanted.address,))
    if wanted.address_from is not None:
        return _written_on(peering, wanted, wanted.address_from)
    if wanted.default_gateway is not None:
        return _gateways(peering.identity, exits, wanted, wanted.default_gateway)
    return Found()


def _written_on(peering: Peering, wanted: ExternalPeer, where: NodeValue) -> Found:
    node = peering.identity.node
    text = dict(peering.annotations if where.annotation else peering.labels).get(where.key)
    if not text:
        return Found(problems=(say.address_missing(wanted, where, node),))
    address = router_in(text)
    if address is None:
        return Found(problems=(say.address_invalid(wanted, where, node, text),))
    return Found((address,))


def _gateways(own: Identity, exits: Exits, wanted: ExternalPeer, which: GatewayFamily) -> Found:
    """Of a family in which the node has no address nothing is expected."""
    spoken = {Family.of(address) for address in own.addresses}
    addresses, problems = dict[Address, None](), list[Problem]()
    for family in _FAMILIES[which]:
        found = [gateway for gateway in exits.gateways if gateway.family is family]
        usable = [gateway for gateway in found if names_a_router(gateway.address)]
        addresses.update(dict.fromkeys(gateway.address for gateway in usable))
        problems += [say.gateway_link_local(wanted, gateway, own) for gateway in found if gateway not in usable]
        if not found and (family in spoken or which is not GatewayFamily.DUAL):
            problems.append(say.gateway_missing(wanted, family, own))
    return Found(tuple(addresses), tuple(dict.fromkeys(problems)))
