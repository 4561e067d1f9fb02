"""Who this node is: the BGPInstance in force, its addresses, pod CIDRs and router id, and what of the cluster's rare
objects applies to it.

`introspect` makes one frozen value per stage of planning; a stage plans all anew when its value differs, and only what
changed when it does not. It plans no session and no route.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from typing import Final

from agent.intent import (
    Advertisement,
    AdvertisementType,
    ExternalPeer,
    Instance,
    PodRoutes,
)
from agent.model import (
    Key,
    Kind,
    Node,
    Problem,
    ServiceCidr,
)
from agent.plan.claims import Standing
from agent.plan.links import Links, Reach, in_subnet
from agent.plan.model import Identity
from agent.plan.picture import World, every, one
from agent.plan.prefixes import by_family
from bgp.model import Address, Prefix

_FIRST_ROUTER_ID: Final = int(IPv4Address("1.0.0.0"))
_ROUTER_IDS: Final = int(IPv4Address("224.0.0.0")) - _FIRST_ROUTER_ID
"""Hashed router ids are of classes A to C: routers that follow RFC 4271 rather than RFC 6286 refuse others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Peering:
    """What sessions depend on besides the peer's own object."""

    identity: Identity
    labels: tuple[tuple[str, str], ...]
    own_addresses: frozenset[Address]
    """All InternalIPs of the own Node."""
    mesh_hold_seconds: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Announcing:
    """What service routes depend on besides the service and its endpoints."""

    node: str
    advertisements: tuple[Advertisement, ...]
    """Of type Service, that select this node."""
    allowed_external_ips: tuple[Prefix, ...]
    service_ranges: tuple[Prefix, ...]
    subnets: frozenset[Prefix]
    """Connected to this node: whoever may create a Service must not draw its neighbours' traffic."""
    peer_addresses: frozenset[Address]
    """Of all BGPPeers, of other nodes' too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Importing:
    """What may be installed depends on this, besides the path, its peer and the other nodes."""

    identity: Identity
    own_addresses: frozenset[Address]
    service_ranges: tuple[Prefix, ...]
    links: Links
    reach: Reach = field(compare=False)
    """Made from `links`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Own:
    """None everywhere: this node is not in the cluster or has no address; nothing is wanted."""

    identity: Identity | None = None
    pods_to_external: bool = False
    peering: Peering | None = None
    announcing: Announcing | None = None
    importing: Importing | None = None
    problems: tuple[Problem, ...] = ()


def introspect(node_name: str, world: World, standing: Standing | None, links: Links) -> Own:
    instance, problems = choose_instance(record for _, record in every(world, Kind.INSTANCE, Instance))
    node = one(world, Key(Kind.NODE, "", node_name), Node)
    reach = Reach(links)
    identity, own_problems = identify(node_name, standing, instance, reach)
    problems += own_problems
    if node is None or identity is None:
        return Own(problems=problems)
    labels = dict(node.labels)
    advertisements = sorted((record for _, record in every(world, Kind.ADVERTISEMENT, Advertisement)), key=_by_name)
    pods = [advertisement for advertisement in advertisements if advertisement.type is AdvertisementType.POD_CIDR]
    here = tuple(advertisement for advertisement in advertisements if advertisement.node_selector.matches(labels))
    ranges = _service_ranges(world, instance)
    own_addresses = frozenset(node.addresses)
    return Own(
        identity=identity,
        pods_to_external=not pods or any(advertisement in here for advertisement in pods),
        peering=Peering(
            identity=identity,
            labels=node.labels,
            own_addresses=own_addresses,
            mesh_hold_seconds=instance.mesh.hold_seconds,
        ),
        announcing=Announcing(
            node=node_name,
            advertisements=tuple(found for found in here if found.type is AdvertisementType.SERVICE),
            allowed_external_ips=instance.allowed_external_ips,
            service_ranges=ranges,
            subnets=frozenset(subnet.network for subnet in links.subnets),
            peer_addresses=frozenset(
                record.address for _, record in every(world, Kind.PEER, ExternalPeer) if record.address is not None
            ),
        ),
        importing=Importing(
            identity=identity,
            own_addresses=own_addresses | links.addresses,
            service_ranges=ranges,
            links=links,
            reach=reach,
        ),
        problems=problems,
    )


def choose_instance(instances: Iterable[Instance]) -> tuple[Instance, tuple[Problem, ...]]:
    """The oldest, then the first by name: a newcomer never changes who a running node is."""
    ranked = sorted(instances, key=lambda instance: (instance.created, instance.name))
    if not ranked:
        return Instance(name=""), ()
    chosen, *others = ranked
    return chosen, tuple(
        Problem(
            "instanceConflicted",
            f"BGPInstance {other.name}",
            f"BGPInstance {other.name} is not used: BGPInstance {chosen.name} is older and in force",
            f"Delete one of the two; to replace {chosen.name}, change it in place.",
        )
        for other in others
    )


def identify(
    node_name: str, standing: Standing | None, instance: Instance, reach: Reach
) -> tuple[Identity | None, tuple[Problem, ...]]:
    if standing is None:
        return None, (_unknown_node(node_name),)
    if not standing.addresses:
        return None, ()
    pod_cidrs, problems = standing.pod_cidrs, list[Problem]()
    if instance.pod_routes is PodRoutes.BGP:
        subnets = [reach.subnet_of(address) for address in standing.addresses]
        within = {cidr: subnet for cidr in pod_cidrs for subnet in subnets if in_subnet(cidr, subnet)}
        problems += [_in_node_subnet(node_name, cidr, subnet) for cidr, subnet in within.items()]
        if not pod_cidrs and not any(problem.reason == "podCIDRConflict" for problem in standing.problems):
            problems.append(_without_pod_cidr(node_name))
        pod_cidrs = tuple(cidr for cidr in pod_cidrs if cidr not in within)
    router_id, source = _router_id(standing.addresses)
    identity = Identity(
        node=node_name,
        instance=instance.name,
        asn=instance.asn,
        router_id=router_id,
        router_id_source=source,
        addresses=standing.addresses,
        pod_cidrs=tuple(sorted(pod_cidrs, key=by_family)),
        pod_routes=instance.pod_routes,
    )
    return identity, tuple(problems)


def _router_id(addresses: tuple[Address, ...]) -> tuple[IPv4Address, str]:
    """The node's IPv4 address, or a number that depends on its IPv6 address only, so that a restart changes nothing."""
    first = addresses[0]
    if isinstance(first, IPv4Address):
        return first, "InternalIP"
    digest = int.from_bytes(hashlib.blake2s(first.packed, digest_size=8).digest(), "big")
    return IPv4Address(_FIRST_ROUTER_ID + digest % _ROUTER_IDS), f"hash of {first}"


def _service_ranges(world: World, instance: Instance) -> tuple[Prefix, ...]:
    ranges = {cidr for _, record in every(world, Kind.SERVICE_CIDR, ServiceCidr) for cidr in record.cidrs}
    return tuple(sorted(ranges.union(instance.service_cidrs), key=by_family))


def _by_name(advertisement: Advertisement) -> str:
    return advertisement.name


def _unknown_node(name: str) -> Problem:
    return Problem(
        "nodeNotFound",
        f"Node {name}",
        f"there is no Node {name} in the cluster: nothing is announced and no route is installed",
        "Give --node-name the name that `kubectl get nodes` shows for this machine.",
    )


def _without_pod_cidr(name: str) -> Problem:
    return Problem(
        "nodeWithoutPodCIDR",
        f"Node {name}",
        f"Node {name} has no spec.podCIDRs: no route to its pods is announced",
        "Run kube-controller-manager with --allocate-node-cidrs and --cluster-cidr; if another CNI gives pods their "
        "addresses, set podRoutes: Off in a BGPInstance.",
    )


def _in_node_subnet(name: str, cidr: Prefix, subnet: Prefix | None) -> Problem:
    return Problem(
        "podCIDRInNodeSubnet",
        f"Node {name}",
        f"pod CIDR {cidr} of Node {name} lies in {subnet}, the subnet of the node itself: it is not announced",
        "Choose a --cluster-cidr outside the network of the nodes.",
    )
