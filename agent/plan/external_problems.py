"""What to tell the user when a BGPPeer does not come to the session that it asks for: one function per reason word.

It refuses to find out whether it is so: `agent.plan.external` and `agent.plan.external_router` do.
"""

from __future__ import annotations

from agent.intent import ExternalPeer, NodeValue
from agent.model import Gateway, Problem
from agent.plan.model import Identity
from agent.plan.nodes import place
from bgp.model import Address, Family, zone_of


def own_address(wanted: ExternalPeer, address: Address, own: Identity) -> Problem:
    return Problem(
        "peerIsThisNode",
        _subject(wanted),
        f"address {address} is that of Node {own.node} itself: there is no session with oneself",
        f"Correct {_where(wanted)}, or leave Node {own.node} out with spec.nodeSelector.",
    )


def no_address(wanted: ExternalPeer, address: Address, own: Identity, *, outside: bool) -> Problem:
    """`outside`: the node has an InternalIP of the family, which listenAddresses of its BGPInstance leaves out."""
    family = Family.of(address)
    inside = f" inside listenAddresses of BGPInstance {own.instance}" if outside else ""
    give = (
        f"Add its network to listenAddresses of BGPInstance {own.instance}" if outside else f"Give Node {own.node} one"
    )
    return Problem(
        "noAddressOfFamily",
        _subject(wanted),
        f"address {address} is {family}, and Node {own.node} has no {family} InternalIP{inside} to reach it from",
        f"{give}, or leave Node {own.node} out with spec.nodeSelector.",
    )


def multihop_internal(wanted: ExternalPeer, asn: int) -> Problem:
    return Problem(
        "noEffect",
        _subject(wanted),
        f"ebgpMultihop has no effect: AS {asn} is ours too, and a session inside an AS is not bound to one link",
        "Remove spec.ebgpMultihop, or correct spec.asn.",
    )


def family_without_address(wanted: ExternalPeer, family: Family, own: Identity) -> Problem:
    ways = "take the family out of spec.families, or set extendedNextHop"
    if family is not Family.IPV4:
        ways = "or take the family out of spec.families"
    return Problem(
        "noAddressOfFamily",
        _subject(wanted),
        f"families has {family}, and Node {own.node} has no {family} InternalIP to be the next hop of its routes",
        f"Give Node {own.node} an {family} address, {ways}.",
    )


def address_missing(wanted: ExternalPeer, where: NodeValue, node: str) -> Problem:
    name = place(where)
    return Problem(
        "peerAddressMissing",
        _subject(wanted),
        f"Node {node} has no {name}, which addressFrom names: there is no session",
        f"Set {name} of Node {node} to the router's address, or leave the node out with spec.nodeSelector.",
    )


def address_invalid(wanted: ExternalPeer, where: NodeValue, node: str, text: str, left: Address | None) -> Problem:
    """`left`: the address that was good before."""
    name = place(where)
    otherwise = f"it goes on with {left}, which it had, until the agent restarts" if left else "there is no session"
    hint = "" if where.annotation else " (a label cannot hold an IPv6 address: use an annotation)"
    return Problem(
        "peerAddressInvalid",
        _subject(wanted),
        f"{name} = {text!r} of Node {node}, which addressFrom names, is no unicast address that a "
        f"session can use: {otherwise}",
        f"Set {name} of Node {node} to an address such as 192.0.2.1 or 2001:db8::1{hint}.",
    )


def gateway_missing(wanted: ExternalPeer, family: Family, own: Identity) -> Problem:
    return Problem(
        "defaultGatewayMissing",
        _subject(wanted),
        f"Node {own.node} has no {family} default route with a next hop, which defaultGateway asks for: "
        "there is no session",
        f"Give Node {own.node} one (`ip -{_version(family)} route show default`), change spec.defaultGateway, or leave "
        "the node out with spec.nodeSelector.",
    )


def gateway_link_local(wanted: ExternalPeer, gateway: Gateway, own: Identity) -> Problem:
    """Of IPv4, or of IPv6 on an interface that there is no more, or not yet."""
    why = "sessions need an address that is unique beyond one link"
    if gateway.address.version == 6:
        why = f"and there is no interface {gateway.interface}"
    return Problem(
        "gatewayLinkLocal",
        _subject(wanted),
        f"the {gateway.family} default route of Node {own.node} leads to {gateway.address}, which is link-local: {why}",
        "Name the router's global or unique local address in spec.address, or with spec.addressFrom if it differs from "
        "node to node.",
    )


def link_unknown(wanted: ExternalPeer, address: Address) -> Problem:
    return Problem(
        "linkLocalWithoutInterface",
        _subject(wanted),
        f"{_where(wanted)} = {address} is link-local, which names a router only together with an interface: there is "
        "no session",
        "Set spec.sourceInterface to the interface that the router is reached through, or give the router's global or "
        "unique local address.",
    )


def link_without_address(wanted: ExternalPeer, address: Address, own: Identity) -> Problem:
    return Problem(
        "noLinkLocalAddress",
        _subject(wanted),
        f"Node {own.node} has no interface {zone_of(address)} with a link-local IPv6 address, from which to reach "
        f"{address}: the session stays down",
        f"See if the interface is there and up (`ip -6 address show dev {zone_of(address)}`; net.ipv6.conf.*.addr_gen_"
        f"mode and disable_ipv6), correct spec.sourceInterface, or leave Node {own.node} out with spec.nodeSelector.",
    )


def link_not_of_source(wanted: ExternalPeer, address: Address) -> Problem:
    return Problem(
        "sourceInterfaceOffLink",
        _subject(wanted),
        f"{address} is link-local and can be reached through its own interface only, not from sourceInterface "
        f"{wanted.reach.source_interface}: the session stays down",
        "Remove spec.sourceInterface, or name the router's global or unique local address in spec.address.",
    )


def link_local_passive(wanted: ExternalPeer, address: Address) -> Problem:
    return Problem(
        "linkLocalPassive",
        _subject(wanted),
        f"{address} is link-local, and sessions with such routers are dialed by the node alone: passive keeps this one "
        "down",
        "Remove spec.passive and let the router wait, or give the router's global or unique local address.",
    )


def source_family(wanted: ExternalPeer, address: Address) -> Problem:
    return Problem(
        "sourceAddressFamily",
        _subject(wanted),
        f"sourceAddress {wanted.reach.source_address} is not of the family of the router's address {address}: "
        "the session stays down",
        f"Set spec.sourceAddress to an {Family.of(address)} address, or remove it.{_on_link(address)}",
    )


def source_not_here(wanted: ExternalPeer, own: Identity) -> Problem:
    return Problem(
        "sourceAddressNotHere",
        _subject(wanted),
        f"Node {own.node} does not have sourceAddress {wanted.reach.source_address}: the session stays down",
        f"Add the address to an interface of Node {own.node}, use spec.sourceInterface, which differs from node to "
        "node, or leave the node out with spec.nodeSelector.",
    )


def source_interface(wanted: ExternalPeer, family: Family, own: Identity) -> Problem:
    name = wanted.reach.source_interface
    return Problem(
        "sourceInterfaceMissing",
        _subject(wanted),
        f"Node {own.node} has no interface {name} with an {family} address, which sourceInterface names: "
        "the session stays down",
        f"Give interface {name} an {family} address that is not link-local, correct spec.sourceInterface, or leave "
        f"Node {own.node} out with spec.nodeSelector.",
    )


def _on_link(address: Address) -> str:
    if not zone_of(address):
        return ""
    return " Without it a session with a link-local router starts from the node's address on that link."


def _subject(wanted: ExternalPeer) -> str:
    return f"BGPPeer {wanted.name}"


def _where(wanted: ExternalPeer) -> str:
    """The field that says which router."""
    if wanted.address_from is not None:
        return f"{place(wanted.address_from)} of the Node"
    return "spec.address" if wanted.address is not None else "the node's default route"


def _version(family: Family) -> int:
    return 4 if family is Family.IPV4 else 6
