"""What each BGPPeer comes to on this node: sessions with routers outside, or the reason why there is none.

A session that must not be, or not yet, is a peer that is held: status shows it, and nobody dials. It refuses to know
other nodes (`agent.plan.mesh`) and to settle rival claims (`agent.plan.sessions`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv6Address
from typing import Final, NamedTuple

from agent.intent import ExternalPeer, PeerAs
from agent.model import Key, Kind, Problem, Secret
from agent.plan import external_problems as say
from agent.plan.external_router import find_routers
from agent.plan.identity import Peering
from agent.plan.links import Exits
from agent.plan.model import Identity
from agent.plan.passwords import look_up
from agent.plan.sessions import SessionClaim
from bgp.model import Address, Family, Held, Peer, zone_of

_NO_ADDRESS: Final = IPv6Address(0)
"""Where the address of a link would stand that has none."""


@dataclass(frozen=True, slots=True)
class Here:
    """All that sessions with routers depend on besides BGPPeers and Secrets."""

    peering: Peering
    exits: Exits


@dataclass(frozen=True, slots=True)
class Wish:
    """What one BGPPeer comes to on this node."""

    claims: tuple[SessionClaim, ...] = ()
    """Of different addresses."""
    problems: tuple[Problem, ...] = ()
    secret: str | None = None
    """Name of the Secret it needs."""


def external_wish(here: Here, wanted: ExternalPeer, secrets: Mapping[str, Secret]) -> Wish:
    if not wanted.node_selector.matches(dict(here.peering.labels)):
        return Wish()
    found = find_routers(here.peering, here.exits, wanted)
    claims, problems = list[SessionClaim](), [*found.problems]
    for address in found.addresses:
        claim, said = _session(here, wanted, address, secrets)
        problems += said
        if claim is not None:
            claims.append(claim)
    secret = wanted.password_ref.name if wanted.password_ref is not None and claims else None
    return Wish(tuple(claims), tuple(problems), secret)


class _Source(NamedTuple):
    """Where a session starts."""

    address: Address
    interface: str = ""
    problem: Problem | None = None


def _session(
    here: Here, wanted: ExternalPeer, address: Address, secrets: Mapping[str, Secret]
) -> tuple[SessionClaim | None, list[Problem]]:
    own = here.peering.identity
    if address in here.peering.own_addresses:
        return None, [say.own_address(wanted, address, own)]
    source = _source(here, wanted, address)
    if source is None:
        outside = any(found.version == address.version for found in here.peering.own_addresses)
        return None, [say.no_address(wanted, address, own, outside=outside)]
    families, without = _families(wanted, own)
    secret = look_up(wanted.password_ref, secrets, subject=f"BGPPeer {wanted.name}", field="passwordSecretRef")
    problems = [*secret.problems, *([source.problem] if source.problem is not None else [])]
    problems += [say.family_without_address(wanted, family, own) for family in without]
    held = Held(source.problem.reason) if source.problem is not None else secret.held
    if not families:
        held = Held(problems[-1].reason)
    if here.peering.farewell is not None:
        held = here.peering.farewell
    if wanted.shutdown is not None:
        held = Held("shutdown", wanted.shutdown)
    local_asn = wanted.local_asn if wanted.local_asn is not None else own.asn
    internal = _peer_asn(wanted, local_asn) == local_asn
    if internal and wanted.reach.multihop is not None:
        problems.append(say.multihop_internal(wanted, local_asn))
    peer = Peer(
        address=address,
        name=f"BGPPeer/{wanted.name}",
        local_address=source.address,
        local_asn=local_asn,
        peer_asn=_peer_asn(wanted, local_asn),
        router_id=own.router_id,
        families=families or wanted.families,
        passive=wanted.reach.passive,
        port=wanted.port,
        hold_seconds=wanted.hold_seconds,
        password=secret.password,
        held=held,
        description=wanted.description,
        keepalive_seconds=wanted.keepalive_seconds,
        connect_retry_seconds=wanted.connect_retry_seconds,
        multihop=None if internal else wanted.reach.multihop,
        ttl_security_hops=wanted.reach.ttl_security_hops,
        source_interface=source.interface,
        listen_port=own.listen_port,
        allowas_in=wanted.allowas_in,
        extended_next_hop=wanted.extended_next_hop,
        prefix_limits=wanted.prefix_limits,
    )
    return _claim(here, wanted, peer), problems


def _claim(here: Here, wanted: ExternalPeer, peer: Peer) -> SessionClaim:
    return SessionClaim(
        created=wanted.created,
        source=Key(Kind.PEER, "", wanted.name),
        address=peer.address,
        peer=peer,
        labels=wanted.labels,
        import_pod_cidrs=wanted.import_pod_cidrs,
        import_allowed=wanted.import_allowed,
        link=here.exits.link(zone) if (zone := zone_of(peer.address)) else None,
    )


def _peer_asn(wanted: ExternalPeer, local_asn: int) -> int | None:
    match wanted.asn:
        case PeerAs.EXTERNAL:
            return None
        case PeerAs.INTERNAL:
            return local_asn
        case number:
            return number


def _source(here: Here, wanted: ExternalPeer, address: Address) -> _Source | None:
    """None: the node has no address from which the router could be reached.

    The session is bound to `sourceInterface` only if the router is on that link. Else only the interface's address is
    used: packets from the address of a loopback or dummy interface leave by another.
    """
    own, reach = here.peering.identity, wanted.reach
    if zone_of(address):
        return _source_on_link(here, wanted, address)
    usual = next((found for found in own.addresses if found.version == address.version), None)
    if reach.source_address is not None:
        chosen = reach.source_address
        if chosen.version != address.version:
            problem = say.source_family(wanted, address)
            return _Source(usual, problem=problem) if usual is not None else None
        here_too = chosen in here.peering.own_addresses or here.exits.has(chosen)
        return _Source(chosen, problem=None if here_too else say.source_not_here(wanted, own))
    if reach.source_interface:
        found = here.exits.on(reach.source_interface, address.version)
        if found:
            first = next((one.ip for one in found if one.ip == usual), found[0].ip)
            on_link = any(address in one.network for one in found)
            return _Source(first, reach.source_interface if on_link else "")
        if usual is not None:
            return _Source(usual, problem=say.source_interface(wanted, Family.of(address), own))
        return None
    return _Source(usual) if usual is not None else None


def _source_on_link(here: Here, wanted: ExternalPeer, address: Address) -> _Source:
    """The session is bound to the link of the router, and starts from our link-local address there.

    Which address it starts from says nothing about next hops: those are the node's own (RFC 2545 3 wants a global one).
    """
    zone, reach = zone_of(address), wanted.reach
    link = here.exits.link(zone)
    local = link.address if link is not None else None
    problem = None
    if reach.passive:
        problem = say.link_local_passive(wanted, address)
    elif reach.source_interface not in ("", zone):
        problem = say.link_not_of_source(wanted, address)
    elif reach.source_address is not None and reach.source_address.version == 4:
        problem = say.source_family(wanted, address)
    elif reach.source_address is not None:
        here_too = reach.source_address in here.peering.own_addresses or here.exits.has(reach.source_address)
        local, problem = reach.source_address, None if here_too else say.source_not_here(wanted, here.peering.identity)
    elif local is None:
        problem = say.link_without_address(wanted, address, here.peering.identity)
    return _Source(local or _NO_ADDRESS, zone, problem)


def _families(wanted: ExternalPeer, own: Identity) -> tuple[frozenset[Family], tuple[Family, ...]]:
    """The families spoken, and those wanted of which the node has no address to be the next hop."""
    possible = frozenset(map(Family.of, own.addresses))
    if wanted.extended_next_hop and Family.IPV6 in possible:
        possible |= {Family.IPV4}
    chosen = wanted.families or possible
    return chosen & possible, tuple(sorted(chosen - possible))
