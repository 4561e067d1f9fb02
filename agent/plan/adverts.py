"""What this node announces of its own, and the route each peer is told: pod CIDRs and service addresses.

Only what the node originates is announced here; what was learned is passed on by route reflectors alone, inside the AS
(`agent.plan.reflection`). A service's address goes to external peers and never into the mesh: kube-proxy answers for it
on every node. What peers say is judged in `agent.plan.imports`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from agent.intent import PodRoutes, ServiceAddress
from agent.model import (
    EndpointSlice,
    Key,
    Kind,
    Service,
    TrafficPolicy,
)
from agent.plan.identity import Announcing
from agent.plan.model import Identity, Origination
from agent.plan.prefixes import host, inside_any
from bgp.check import refusal
from bgp.model import DEFAULT_LOCAL_PREF, Address, Attributes, Family, Peer, Prefix, Route


class Taken(NamedTuple):
    """What says that an address cannot be this service's."""

    by_node: Callable[[Address], str | None]
    """`Claims.taken`: the reason word."""
    by_other_service: Callable[[Key, Address], bool]
    """`ClusterIPs.of_another`."""


class Part(NamedTuple):
    """What one object adds to an origination."""

    sources: tuple[str, ...]
    to_mesh: bool
    to_external: bool


@dataclass(frozen=True, slots=True)
class Offer:
    """What one object announces from this node, and what of it is not announced and why."""

    parts: Mapping[Prefix, Part] = field(default_factory=dict)
    silent: Mapping[tuple[Key, str], str] = field(default_factory=dict)


NOTHING: Final = Offer()
_INTERNAL: Final = Attributes(local_pref=DEFAULT_LOCAL_PREF)


def pod_offer(identity: Identity | None, *, to_external: bool) -> Offer:
    if identity is None or identity.pod_routes is not PodRoutes.BGP:
        return NOTHING
    part = Part((f"{Kind.NODE} {identity.node}",), to_mesh=True, to_external=to_external)
    return Offer(dict.fromkeys(identity.pod_cidrs, part))


def service_offer(announcing: Announcing, service: Service, slices: Iterable[EndpointSlice], taken: Taken) -> Offer:
    """A class of addresses is announced when any advertisement that selects the service has it."""
    if not announcing.advertisements:
        return NOTHING
    labels = dict(service.labels)
    chosen = {
        address
        for advertisement in announcing.advertisements
        if advertisement.service_selector.matches(labels)
        for address in advertisement.addresses
    }
    key = Key(Kind.SERVICE, service.namespace, service.name)
    local = _families_with_local_endpoint(announcing.node, slices)
    sources: dict[Prefix, list[str]] = {}
    silent: dict[tuple[Key, str], str] = {}
    for class_, address in _addresses(service):
        why: str | None = _UNASKED
        if class_ in chosen:
            why = _silence(announcing, service, class_, address, local=Family.of(address) in local, taken=taken)
        if why is None:
            sources.setdefault(host(address), []).append(f"{Kind.SERVICE} {key.namespace}/{key.name} ({class_})")
        elif why is not _UNASKED:
            silent.setdefault((key, str(address)), why)
    for prefix in sources:
        silent.pop((key, str(prefix.network_address)), None)
    parts = {prefix: Part(tuple(names), to_mesh=False, to_external=True) for prefix, names in sources.items()}
    return Offer(parts, silent) if parts or silent else NOTHING


_UNASKED: Final = "notSelected"


def _silence(
    announcing: Announcing,
    service: Service,
    class_: ServiceAddress,
    address: Address,
    *,
    local: bool,
    taken: Taken,
) -> str | None:
    """The reason word why one address that is asked for is not announced from here, None when it is."""
    if class_ is ServiceAddress.CLUSTER_IP:
        policy = service.internal_policy
    else:
        policy = service.external_policy
        # Also for LoadBalancerIPs: some controllers (k3s' servicelb) give a service the addresses of nodes.
        key = Key(Kind.SERVICE, service.namespace, service.name)
        if why := _occupied(announcing, key, address, taken):
            return why
    if class_ is ServiceAddress.EXTERNAL_IP:
        prefix = host(address)
        if inside_any(prefix, announcing.service_ranges):
            return "serviceRange"
        if inside_any(prefix, announcing.subnets):
            return "nodeSubnet"
        if not inside_any(prefix, announcing.allowed_external_ips):
            return "externalIPNotAllowed"
    if policy is TrafficPolicy.LOCAL and not local:
        return "noLocalEndpoint"
    return None


def _occupied(announcing: Announcing, key: Key, address: Address, taken: Taken) -> str | None:
    """The reason word why `address` is somebody else's already, whoever gave it to the service."""
    if why := taken.by_node(address):
        return why
    if address in announcing.peer_addresses:
        return "peerAddress"
    return "serviceRange" if taken.by_other_service(key, address) else None


def merge_parts(prefix: Prefix, parts: Iterable[Part]) -> Origination | None:
    """One route for all objects that want it; it stays as long as one of them does."""
    merged = tuple(parts)
    if not merged:
        return None
    return Origination(
        prefix=prefix,
        sources=tuple(sorted({source for part in merged for source in part.sources})),
        to_mesh=any(part.to_mesh for part in merged),
        to_external=any(part.to_external for part in merged),
    )


def told(identity: Identity, peer: Peer, origination: Origination) -> Route | str | None:
    """The route `peer` is told, the reason word why it may not be told, or None: it is not meant for this peer."""
    if peer.held is not None or not (origination.to_mesh if peer.mesh else origination.to_external):
        return None
    next_hop = _next_hop(identity, peer, Family.of(origination.prefix))
    if next_hop is None:
        return "noAddressOfFamily"
    attributes = _INTERNAL if peer.internal else Attributes(as_path=(peer.local_asn,))
    route = Route(origination.prefix, next_hop, attributes)
    return refusal(peer, route) or route


def _next_hop(identity: Identity, peer: Peer, family: Family) -> Address | None:
    """Of the prefix's own family whatever the session runs over; an IPv6 one for IPv4 only where there is no other."""
    own = {Family.of(address): address for address in identity.addresses}
    if family is Family.IPV4 and peer.extended_next_hop:
        return own.get(Family.IPV4) or own.get(Family.IPV6)
    return own.get(family)


def _families_with_local_endpoint(node: str, slices: Iterable[EndpointSlice]) -> frozenset[Family]:
    """Each family for itself, as kube-proxy does (KEP-1669).

    Ready here; or, when none is ready anywhere, serving here while terminating.
    """
    found = tuple(slices)
    ready_somewhere = {part.family for part in found if part.ready}
    return frozenset(
        part.family
        for part in found
        if part.family is not None and node in (part.ready if part.family in ready_somewhere else part.serving)
    )


def _addresses(service: Service) -> Iterator[tuple[ServiceAddress, Address]]:
    yield from ((ServiceAddress.CLUSTER_IP, address) for address in service.cluster_ips)
    yield from ((ServiceAddress.EXTERNAL_IP, address) for address in service.external_ips)
    yield from ((ServiceAddress.LOAD_BALANCER_IP, address) for address in service.load_balancer_ips)
