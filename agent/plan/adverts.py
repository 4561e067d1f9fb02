"""What this node announces of its own, and the route each peer is told: pod CIDRs, static prefixes, service addresses.

Only what the node originates is announced here; what was learned is passed on by route reflectors alone, inside the AS
(`agent.plan.reflection`). Which addresses of a Service are announced is `agent.plan.services`; what peers say is judged
in `agent.plan.imports`.

Pod CIDRs have a discard route for all packets. One for service addresses, alone or as an aggregate, would take them
from the node itself (`agent.kernel.rules`): it, and one for a static prefix, is for packets from elsewhere only.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple

from agent.advertising import (
    TO_ALL_PEERS,
    Advertisement,
    AdvertisementType,
    ServiceAddress,
    Terms,
    ToPeers,
    overlapping,
)
from agent.intent import PodRoutes
from agent.model import DISCARD_METRIC, FibRoute, Key, Kind, Problem, RouteType, Service
from agent.plan.leaving import STAYING, Leaving, Telling
from agent.plan.model import Identity, Origination
from agent.plan.sessions import SessionClaim
from bgp.bestpath import LAST_RESORT
from bgp.check import refusal
from bgp.model import DEFAULT_LOCAL_PREF, GRACEFUL_SHUTDOWN, Address, Attributes, Family, Peer, Prefix, Route


class Part(NamedTuple):
    """What one object adds to an origination."""

    sources: tuple[str, ...]
    to_peers: frozenset[ToPeers] = frozenset()
    to_mesh: bool = False
    discarded: RouteType | None = None
    """What of it is not in use must end here (`Origination.discarded`)."""
    starved: str = ""
    """A Service that would drop what comes here for it (`Origination.starved`). A part without sources adds no more."""
    pods: bool = False
    local: bool = False
    """As `Origination.local`."""


class Share(NamedTuple):
    """Some address that an advertisement announces as part of an aggregate."""

    advertisement: str
    aggregate: Prefix


@dataclass(frozen=True, slots=True)
class Offer:
    """What one object announces from this node, and what of it is not announced and why."""

    parts: Mapping[Prefix, Part] = field(default_factory=dict)
    silent: Mapping[tuple[Key, str], str] = field(default_factory=dict)
    """As `NodePlan.not_advertised`."""
    shares: frozenset[Share] = frozenset()
    """The aggregates that stay announced as long as it has an address in them."""
    considered: frozenset[Prefix] = frozenset()
    """All aggregates that would hold one of its addresses, also those that may not be."""
    selected_by: frozenset[str] = frozenset()
    """Names of the advertisements that select it."""

    @property
    def aggregates(self) -> frozenset[Prefix]:
        return frozenset(share.aggregate for share in self.shares)


NOTHING: Final = Offer()
_INTERNAL: Final = Attributes(local_pref=DEFAULT_LOCAL_PREF)


def pod_wishes(advertisements: Iterable[Advertisement], here: Iterable[Advertisement]) -> frozenset[ToPeers]:
    """Who is told of pod CIDRs besides the mesh. `here` are those of `advertisements` that select this node."""
    if not any(one.type is AdvertisementType.POD_CIDR for one in advertisements):
        return frozenset({TO_ALL_PEERS})
    return frozenset(one.to_peers for one in here if one.type is AdvertisementType.POD_CIDR)


def pod_parts(identity: Identity | None, to_peers: frozenset[ToPeers], going: Leaving = STAYING) -> dict[Prefix, Part]:
    if identity is None or identity.pod_routes is not PodRoutes.BGP or going.pods is Telling.NOTHING:
        return {}
    part = Part(
        (f"{Kind.NODE} {identity.node}",),
        to_peers,
        to_mesh=True,
        discarded=RouteType.UNREACHABLE,
        pods=True,
        local=True,
    )
    return dict.fromkeys(identity.pod_cidrs, part)


def static_parts(advertisement: Advertisement, harmful: Container[Prefix]) -> dict[Prefix, Part]:
    """`harmful`: those that may not be announced from here (`agent.plan.guards`)."""
    source = f"{Kind.ADVERTISEMENT} {advertisement.name}"
    part = Part((source,), frozenset({advertisement.to_peers}), discarded=RouteType.UNREACHABLE_FORWARDED)
    return {prefix: part for prefix in advertisement.prefixes if prefix not in harmful}


def aggregate_part(advertisement: Advertisement) -> Part:
    name = f"{Kind.ADVERTISEMENT} {advertisement.name} (aggregate)"
    return Part((name,), frozenset({advertisement.to_peers}), discarded=RouteType.UNREACHABLE_FORWARDED)


def selects_nothing(advertisement: Advertisement) -> Problem:
    return Problem(
        "advertisementSelectsNothing",
        f"{Kind.ADVERTISEMENT} {advertisement.name}",
        f"BGPAdvertisement {advertisement.name} selects no Service: nothing is announced for it",
        "Compare spec.service.selector and namespaceSelector with `kubectl get services -A --show-labels`.",
    )


def request_problem(service: Service) -> Problem | None:
    """What is wrong with the annotation of the Service."""
    if not service.request_error:
        return None
    return Problem(
        "annotationInvalid",
        str(Key(Kind.SERVICE, service.namespace, service.name)),
        f"{service.request_error}: it counts as not there",
        f'Set it to "true", "false", or some of {", ".join(ServiceAddress)}, with commas between; or remove it.',
    )


def merge_parts(prefix: Prefix, parts: Iterable[Part]) -> Origination | None:
    """One route for all objects that want it; it stays as long as one of them does."""
    every = tuple(parts)
    merged = [part for part in every if part.sources]
    if not merged:
        return None
    return Origination(
        prefix=prefix,
        sources=tuple(sorted({source for part in merged for source in part.sources})),
        to_mesh=any(part.to_mesh for part in merged),
        to_peers=frozenset[ToPeers]().union(*(part.to_peers for part in merged)),
        discarded=next((kind for kind in _DISCARDS if any(part.discarded is kind for part in merged)), None),
        starved=tuple(sorted(part.starved for part in every if part.starved)),
        pods=any(part.pods for part in merged),
        local=all(part.local for part in merged),
    )


def starving(origination: Origination | None) -> Iterator[Problem]:
    """Services that share the address with one that has it announced from here, and have no endpoint here."""
    if origination is None:
        return
    address = origination.prefix.network_address
    for name in origination.starved:
        yield Problem(
            "sharedWithoutEndpoint",
            name,
            f"{address} of {name} is also announced for {', '.join(origination.sources)}, from nodes without an "
            f"endpoint of {name} as well: its traffic policy is Local, so what comes there for it is dropped",
            "Give the Services that share the address the same endpoints, or an address each; or set the traffic "
            f"policy of {name} to Cluster.",
        )


def discard(origination: Origination | None) -> FibRoute | None:
    """Packets to what of the prefix is not in use end here, or they would go back to the router that sent them.

    A default route, which no peer is told, has none: it would end everything.
    """
    if origination is None or origination.discarded is None or origination.prefix.prefixlen == 0:
        return None
    return FibRoute(origination.prefix, type=origination.discarded, metric=DISCARD_METRIC)


_DISCARDS: Final = (RouteType.UNREACHABLE, RouteType.UNREACHABLE_FORWARDED, RouteType.BLACKHOLE_FORWARDED)
"""The first of them that some part wants covers the others."""


def told(
    identity: Identity, claim: SessionClaim, origination: Origination, going: Leaving = STAYING
) -> Route | str | None:
    """The route the peer is told, the reason word why it may not be told, or None: it is not meant for this peer."""
    peer = claim.peer
    terms = None if peer.held is not None else _terms(claim, origination)
    if terms is None:
        return None
    next_hop = _next_hop(identity, peer, Family.of(origination.prefix))
    if next_hop is None:
        return "noAddressOfFamily"
    attributes = _attributes(peer, terms)
    if going.of(pods=origination.pods) is Telling.LAST_RESORT:
        attributes = _as_last_resort(peer, attributes)
    route = Route(origination.prefix, next_hop, attributes)
    return refusal(peer, route) or route


def _terms(claim: SessionClaim, origination: Origination) -> Terms | None:
    if claim.peer.mesh:
        return Terms() if origination.to_mesh else None
    labels = dict(claim.labels)
    meant = [wish.terms for wish in origination.to_peers if wish.selector.matches(labels)]
    return overlapping(meant) if meant else None


def _attributes(peer: Peer, terms: Terms) -> Attributes:
    if peer.internal and terms == _PLAIN:
        return _INTERNAL
    local_pref = DEFAULT_LOCAL_PREF if terms.local_pref is None else terms.local_pref
    return Attributes(
        as_path=() if peer.internal else (peer.local_asn,) * (1 + terms.prepend),
        local_pref=local_pref if peer.internal else None,
        med=terms.med,
        communities=terms.communities,
        large_communities=terms.large_communities,
    )


def _as_last_resort(peer: Peer, attributes: Attributes) -> Attributes:
    """RFC 8326 4.1: the community for other ASes, and for our own the lowest LOCAL_PREF that there is."""
    return replace(
        attributes,
        local_pref=LAST_RESORT if peer.internal else None,
        communities=attributes.communities | {GRACEFUL_SHUTDOWN},
    )


_PLAIN: Final = Terms()


def _next_hop(identity: Identity, peer: Peer, family: Family) -> Address | None:
    """Of the prefix's own family whatever the session runs over; an IPv6 one for IPv4 only where there is no other."""
    own = {Family.of(address): address for address in identity.addresses}
    if family is Family.IPV4 and peer.extended_next_hop:
        return own.get(Family.IPV4) or own.get(Family.IPV6)
    return own.get(family)
