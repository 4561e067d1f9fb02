"""Who this node is: the BGPInstance in force, its addresses, pod CIDRs and router id, and what of the cluster's rare
objects applies to it.

`introspect` makes one frozen value per stage of planning; a stage plans all anew when its value differs, and only what
changed when it does not. It plans no session and no route.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from agent.advertising import Advertisement, AdvertisementType, ToPeers
from agent.intent import (
    USUAL_DAMPING,
    Damping,
    Instance,
    Mesh,
    MeshMode,
    PodRoutes,
    ServiceRoutes,
)
from agent.model import (
    Gateway,
    Key,
    Kind,
    Node,
    Problem,
    Secret,
    ServiceCidr,
)
from agent.plan.adverts import pod_wishes
from agent.plan.leaving import (
    STAYING,
    Departure,
    Leave,
    Leaving,
    Telling,
    leaving,
    problem_of,
    reason_to_leave,
)
from agent.plan.links import Links, Reach, in_subnet
from agent.plan.model import Identity
from agent.plan.nodes import CONTROL_PLANE_LABEL, EXCLUDED_LABEL, Member, in_its_old_as, rank
from agent.plan.passwords import Lookup, look_up
from agent.plan.picture import World, every, one
from agent.plan.prefixes import by_family
from agent.plan.written import written_anywhere, written_for
from bgp.model import Address, Held, Prefix


@dataclass(frozen=True, slots=True, kw_only=True)
class Peering:
    """What sessions depend on besides the peer's own object."""

    identity: Identity
    labels: tuple[tuple[str, str], ...]
    annotations: tuple[tuple[str, str], ...]
    own_addresses: frozenset[Address]
    """All InternalIPs of the own Node."""
    mesh: Mesh
    mesh_password: Lookup
    written: Mapping[str, Address] = field(default_factory=dict)
    """By BGPPeer, the router's address in it or on the Node; the last one there while what is there now is none."""
    farewell: Held | None = None
    """Set: every session ends with it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Announcing:
    """What service routes depend on besides the service and its endpoints."""

    node: str
    excluded: str | None
    """The reason word why no service address is announced from here at all."""
    excluded_nodes: frozenset[str]
    """Nodes, this one or others, that announce no service address by their label."""
    advertisements: tuple[Advertisement, ...]
    """Of type Service, that select this node."""
    allowed_external_ips: tuple[Prefix, ...]
    service_ranges: tuple[Prefix, ...]
    subnets: frozenset[Prefix]
    """Connected to this node: whoever may create a Service must not draw its neighbours' traffic."""
    router_addresses: frozenset[Address]
    """Of all BGPPeers, of other nodes' too, as far as they are written in the BGPPeer or on the own Node, or were; and
    the own default gateways."""
    to_mesh: bool
    """Other nodes are told as well."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Importing:
    """What may be installed depends on this, besides the path, its peer and the other nodes."""

    identity: Identity
    own_addresses: frozenset[Address]
    service_ranges: tuple[Prefix, ...]
    maximum_paths: int
    service_routes: bool
    """Host routes to service addresses are taken from other nodes."""
    links: Links
    reach: Reach = field(compare=False)
    """Made from `links`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Own:
    """None everywhere: this node is not in the cluster or has no address; nothing is wanted."""

    identity: Identity | None = None
    leave: Leave | None = None
    leaving: Leaving = STAYING
    pods_to_peers: frozenset[ToPeers] = frozenset()
    damping: Damping = USUAL_DAMPING
    static: tuple[Advertisement, ...] = ()
    """Of type Prefix, that select this node."""
    peering: Peering | None = None
    announcing: Announcing | None = None
    importing: Importing | None = None
    problems: tuple[Problem, ...] = ()
    parting: frozenset[str] = frozenset()
    """This node itself, while its AS is only left of the plan before."""

    @property
    def written(self) -> Mapping[str, Address]:
        return self.peering.written if self.peering is not None else {}


def introspect(
    node_name: str,
    world: World,
    member: Member | None,
    links: Links,
    *,
    departure: Departure,
    gateways: Iterable[Gateway] = (),
    before: Identity | None = None,
    written_before: Mapping[str, Address],
    excluded_nodes: frozenset[str],
) -> Own:
    """`before`: who it was in the plan before; None when there was none, or when its time is over.

    An AS that is to come from the Node and is not there may be on its way: Node and BGPInstance are watched apart, and
    the order in which two changes of them arrive says nothing. So the node stays what it was for a while.
    """
    node = one(world, Key(Kind.NODE, "", node_name), Node)
    if node is None or member is None:
        return Own(problems=(_unknown_node(node_name),))
    left = before if member.asn is None else None
    if left is not None:
        own = in_its_old_as(member.own_problems, left.asn)
        member = replace(member, asn=left.asn, own_problems=own)
    reach, instance = Reach(links), member.instance
    identity, problems = identify(member, reach)
    password = _mesh_password(world, instance)
    problems += member.own_problems + conflicts(node, world) + password.problems
    if identity is None:
        return Own(problems=problems)
    labels = dict(node.labels)
    advertisements = sorted((record for _, record in every(world, Kind.ADVERTISEMENT, Advertisement)), key=_by_name)
    here = tuple(advertisement for advertisement in advertisements if advertisement.node_selector.matches(labels))
    ranges, leave = _service_ranges(world, instance), reason_to_leave(node, instance, departure)
    going = leaving(node_name, leave, departure)
    silenced = _silenced(node, leave, going)
    own_addresses, written = frozenset(node.addresses), written_for(node, world, written_before)
    routers = frozenset(written_anywhere(node, world)).union(written.values(), (found.address for found in gateways))
    return Own(
        identity=identity,
        leave=leave,
        leaving=going,
        pods_to_peers=pod_wishes(advertisements, here),
        damping=instance.damping,
        static=()
        if going.services is Telling.NOTHING
        else tuple(found for found in here if found.type is AdvertisementType.PREFIX),
        peering=Peering(
            identity=identity,
            labels=node.labels,
            annotations=node.annotations,
            own_addresses=own_addresses,
            mesh=instance.mesh,
            mesh_password=password,
            written=written,
            farewell=None if going.farewell is None or leave is None else Held(leave.cause, going.farewell),
        ),
        announcing=Announcing(
            node=node_name,
            advertisements=tuple(found for found in here if found.type is AdvertisementType.SERVICE),
            allowed_external_ips=instance.allowed_external_ips,
            service_ranges=ranges,
            excluded=silenced,
            excluded_nodes=excluded_nodes,
            subnets=frozenset(subnet.network for subnet in links.subnets),
            router_addresses=routers,
            to_mesh=instance.service_routes is not ServiceRoutes.OFF,
        ),
        importing=Importing(
            identity=identity,
            own_addresses=own_addresses | links.addresses,
            service_ranges=ranges,
            maximum_paths=instance.maximum_paths,
            service_routes=instance.service_routes is ServiceRoutes.IMPORT,
            links=links,
            reach=reach,
        ),
        problems=(*problems, *_exclusions(node, leave)),
        parting=frozenset((node_name,)) if left is not None else frozenset(),
    )


def conflicts(node: Node, world: World) -> tuple[Problem, ...]:
    """One for each BGPInstance that selects the node and is not in force there."""
    labels = dict(node.labels)
    ranked = rank(record for _, record in every(world, Kind.INSTANCE, Instance))
    here = [instance for instance in ranked if instance.node_selector.matches(labels)]
    return tuple(_conflicted(node, other, here[0]) for other in here[1:])


def identify(member: Member, reach: Reach) -> tuple[Identity | None, tuple[Problem, ...]]:
    """None: this node speaks no BGP, and a Problem of `member` says why."""
    if not member.addresses or member.asn is None:
        return None, ()
    instance, pod_cidrs, problems = member.instance, member.pod_cidrs, list[Problem]()
    if instance.pod_routes is PodRoutes.BGP:
        subnets = [reach.subnet_of(address) for address in member.addresses]
        within = {cidr: subnet for cidr in pod_cidrs for subnet in subnets if in_subnet(cidr, subnet)}
        problems += [_in_node_subnet(member.name, cidr, subnet) for cidr, subnet in within.items()]
        if not pod_cidrs and not any(problem.reason == "podCIDRConflict" for problem in member.problems):
            problems.append(_without_pod_cidr(member.name))
        pod_cidrs = tuple(cidr for cidr in pod_cidrs if cidr not in within)
    identity = Identity(
        node=member.name,
        instance=instance.name,
        asn=member.asn,
        router_id=member.router_id,
        router_id_source=member.router_id_source,
        addresses=member.addresses,
        pod_cidrs=tuple(sorted(pod_cidrs, key=by_family)),
        pod_routes=instance.pod_routes,
        listen_port=instance.listen_port,
    )
    return identity, tuple(problems)


EXCLUDED: Final = frozenset({"nodeExcluded", "controlPlaneExcluded"})
"""Reason words: the second is as kubeadm leaves each control plane, the first somebody's doing."""


def _excluded(node: Node) -> str | None:
    labels = dict(node.labels)
    if EXCLUDED_LABEL not in labels:
        return None
    return "controlPlaneExcluded" if CONTROL_PLANE_LABEL in labels else "nodeExcluded"


def _silenced(node: Node, leave: Leave | None, going: Leaving) -> str | None:
    """The reason word why no service address is announced from this node."""
    if (excluded := _excluded(node)) is not None:
        return excluded
    return leave.cause if leave is not None and going.services is Telling.NOTHING else None


def _exclusions(node: Node, leave: Leave | None) -> Iterator[Problem]:
    if (excluded := _excluded(node)) is not None:
        subject, fix = f"Node {node.name}", f"kubectl label node {node.name} {EXCLUDED_LABEL}- if it should."
        message = f"{subject} has the label {EXCLUDED_LABEL}: it announces no service address"
        wanted = ", as kubeadm wants of control planes" if excluded == "controlPlaneExcluded" else ""
        yield Problem(excluded, subject, message + wanted, fix)
    if leave is not None:
        yield problem_of(node.name, leave)


def _mesh_password(world: World, instance: Instance) -> Lookup:
    if instance.mesh.mode is MeshMode.NONE or instance.mesh.password_ref is None:
        return Lookup()
    secrets = {record.name: record for _, record in every(world, Kind.SECRET, Secret)}
    subject = f"BGPInstance {instance.name}"
    return look_up(instance.mesh.password_ref, secrets, subject=subject, field="mesh.passwordSecretRef")


def _service_ranges(world: World, instance: Instance) -> tuple[Prefix, ...]:
    ranges = {cidr for _, record in every(world, Kind.SERVICE_CIDR, ServiceCidr) for cidr in record.cidrs}
    return tuple(sorted(ranges.union(instance.service_cidrs), key=by_family))


def _by_name(advertisement: Advertisement) -> str:
    return advertisement.name


def _conflicted(node: Node, other: Instance, winner: Instance) -> Problem:
    if winner.priority != other.priority:
        why = f"has the higher priority ({winner.priority} over {other.priority})"
    else:
        why = "is older" if winner.created != other.created else "is of the same age and comes first by name"
    return Problem(
        "instanceConflicted",
        f"BGPInstance {other.name}",
        f"BGPInstance {other.name} is not used on Node {node.name}: BGPInstance {winner.name} {why}",
        f"Let their node selectors exclude each other, or delete one of the two; to change what is in force on Node "
        f"{node.name}, change {winner.name} in place.",
    )


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
