"""What each node is in BGP: which BGPInstance is in force there, its AS, router id and addresses.

Every node computes this of every node, from the same Node and BGPInstance objects and nothing else, so that two nodes
always agree on what each of them is. It refuses to know which of them is our own (`agent.plan.identity`) and who has
sessions with whom (`agent.plan.mesh`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from ipaddress import AddressValueError, IPv4Address
from typing import Final, NamedTuple, TypeAlias

from agent.intent import Instance, NodeValue
from agent.model import Node, Problem
from agent.plan.claims import Claims, Standing
from agent.plan.leaving import is_leaving
from agent.plan.prefixes import host, inside_any
from bgp.asn import read_asn
from bgp.model import Address, Family, Prefix

EXCLUDED_LABEL: Final = "node.kubernetes.io/exclude-from-external-load-balancers"
CONTROL_PLANE_LABEL: Final = "node-role.kubernetes.io/control-plane"
DEFAULTS: Final = Instance(name="")
"""In force where no BGPInstance selects the node."""
_FIRST_ROUTER_ID: Final = int(IPv4Address("1.0.0.0"))
_ROUTER_IDS: Final = int(IPv4Address("224.0.0.0")) - _FIRST_ROUTER_ID
"""Router ids are of classes A to C: routers that follow RFC 4271 rather than RFC 6286 refuse others."""
_ABOUT_THE_AS: Final = frozenset({"asnMissing", "asnInvalid"})

Ranked: TypeAlias = tuple[Instance, ...]
"""All BGPInstances, the strongest first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One node, as far as BGP is concerned."""

    name: str
    created: float
    instance: Instance
    """In force there: its mesh settings, listen port and pod routes."""
    asn: int | None
    """None: nobody says what it is, and it speaks no BGP."""
    router_id: IPv4Address
    router_id_source: str
    """Where it comes from, for people: `InternalIP`, `hash of fd00::1`."""
    addresses: tuple[Address, ...]
    """For sessions and as next hops: at most one per family, IPv4 first."""
    pod_cidrs: tuple[Prefix, ...]
    """Uncontested."""
    labels: tuple[tuple[str, str], ...]
    """Sorted."""
    ready: bool
    cordoned: bool
    """Or about to go: nobody should depend on it."""
    problems: tuple[Problem, ...]
    """What every node says of it: whose claims it contests."""
    own_problems: tuple[Problem, ...]
    """What it says of itself only: its configuration."""

    @property
    def excluded(self) -> bool:
        """It announces no service address."""
        return EXCLUDED_LABEL in dict(self.labels)

    def address_of(self, family: Family) -> Address | None:
        return next((address for address in self.addresses if Family.of(address) is family), None)


def rank(instances: Iterable[Instance]) -> Ranked:
    """Priority, then age, then name: of equals a newcomer never changes who a running node is."""
    return tuple(sorted(instances, key=lambda instance: (-instance.priority, instance.created, instance.name)))


def instance_of(labels: tuple[tuple[str, str], ...], ranked: Ranked) -> Instance:
    of_node = dict(labels)
    return next((instance for instance in ranked if instance.node_selector.matches(of_node)), DEFAULTS)


def session_addresses(node: Node, instance: Instance) -> tuple[Address, ...]:
    """The first InternalIP of each family, IPv4 first, whatever the order in the object."""
    usable = node.addresses
    if instance.listen_addresses:
        usable = tuple(address for address in usable if inside_any(host(address), instance.listen_addresses))
    firsts = (next((a for a in usable if Family.of(a) is family), None) for family in Family)
    return tuple(address for address in firsts if address is not None)


def member_of(node: Node, instance: Instance, standing: Standing) -> Member:
    asn, problems = _asn(node, instance)
    found = _router_id(node, instance, standing.addresses)
    if not standing.addresses and node.addresses and not any(map(_of_addresses, standing.problems)):
        problems += (_not_listening(node, instance),)
    return Member(
        name=node.name,
        created=node.created,
        instance=instance,
        asn=asn,
        router_id=found.router_id,
        router_id_source=found.source,
        addresses=standing.addresses,
        pod_cidrs=standing.pod_cidrs,
        labels=node.labels,
        ready=node.ready,
        cordoned=node.cordoned or is_leaving(node, instance),
        problems=standing.problems,
        own_problems=(*problems, *found.problems),
    )


def survey(nodes: Iterable[Node], ranked: Ranked) -> tuple[Claims, dict[str, Member]]:
    """All nodes at once, by name."""
    claims, chosen = Claims(), {node.name: (node, instance_of(node.labels, ranked)) for node in nodes}
    for node, instance in chosen.values():
        claims.put(node.name, node, session_addresses(node, instance))
    members = {}
    for node, instance in chosen.values():
        if (standing := claims.standing(node.name)) is not None:
            members[node.name] = member_of(node, instance, standing)
    return claims, members


def twins_problem(member: Member, twins: Iterable[str]) -> tuple[Problem, ...]:
    """`twins`: the other nodes of its AS with its router id."""
    names = sorted(twins)
    if not names or member.asn is None:
        return ()
    others = " and ".join([f"Node {names[0]}", *([f"{len(names) - 1} more"] if len(names) > 1 else [])])
    return (
        Problem(
            "duplicateRouterID",
            f"Node {member.name}",
            f"router id {member.router_id} of Node {member.name} ({member.router_id_source}) is also that of {others}: "
            f"within AS {member.asn} it must be one node's own (RFC 6286), and they refuse each other's sessions",
            "Give each node an id of its own with routerIDFrom, or leave routerID out: it is the node's IPv4 address.",
        ),
    )


def in_its_old_as(problems: Iterable[Problem], asn: int) -> tuple[Problem, ...]:
    """What is said of a node that nobody names an AS of, while it goes on in the one that it had."""
    for_now = f"; it goes on in AS {asn}, which it had, for two minutes at most"
    return tuple(
        replace(one, message=one.message + for_now) if one.reason in _ABOUT_THE_AS else one for one in problems
    )


def _asn(node: Node, instance: Instance) -> tuple[int | None, tuple[Problem, ...]]:
    """Never guessed: what `asnFrom` does not give is what `asn` says, if it says anything."""
    if instance.asn_from is None:
        return instance.asn, ()
    text = _value(node, instance.asn_from)
    if text is None:
        return instance.asn, (_asn_missing(node, instance, instance.asn_from),)
    try:
        return read_asn(text), ()
    except ValueError as error:
        return instance.asn, (_asn_invalid(node, instance, instance.asn_from, text, str(error)),)


class _RouterId(NamedTuple):
    router_id: IPv4Address
    source: str
    problems: tuple[Problem, ...] = ()


def _router_id(node: Node, instance: Instance, addresses: tuple[Address, ...]) -> _RouterId:
    wanted = instance.router_id_from
    if wanted is None and instance.router_id is not None:
        return _RouterId(instance.router_id, f"routerID of BGPInstance {instance.name}")
    router_id, source = _derived_router_id(node, addresses)
    if wanted is None:
        return _RouterId(router_id, source)
    text = _value(node, wanted)
    if text is None:
        return _RouterId(router_id, f"{source}, without {place(wanted)}")
    try:
        return _RouterId(_usable_router_id(text), place(wanted))
    except AddressValueError:
        return _RouterId(router_id, source, (_router_id_invalid(node, wanted, text, router_id),))


def _derived_router_id(node: Node, addresses: tuple[Address, ...]) -> tuple[IPv4Address, str]:
    """The node's IPv4 address, or a number that depends on its IPv6 address only, so that a restart changes nothing."""
    if not addresses:
        return _hashed(node.name.encode()), f"hash of {node.name}"
    first = addresses[0]
    if isinstance(first, IPv4Address):
        return first, "InternalIP"
    return _hashed(first.packed), f"hash of {first}"


def _hashed(seed: bytes) -> IPv4Address:
    digest = int.from_bytes(hashlib.blake2s(seed, digest_size=8).digest(), "big")
    return IPv4Address(_FIRST_ROUTER_ID + digest % _ROUTER_IDS)


def _usable_router_id(text: str) -> IPv4Address:
    router_id = IPv4Address(text)
    if not 0 <= int(router_id) - _FIRST_ROUTER_ID < _ROUTER_IDS:
        raise AddressValueError
    return router_id


def _value(node: Node, where: NodeValue) -> str | None:
    values: Mapping[str, str] = dict(node.annotations if where.annotation else node.labels)
    return values.get(where.key)


def place(where: NodeValue) -> str:
    """For people: `annotation example.com/asn`."""
    return f"{'annotation' if where.annotation else 'label'} {where.key}"


def _of_addresses(problem: Problem) -> bool:
    return problem.reason == "nodeAddressConflict"


def _otherwise(instance: Instance) -> str:
    return (
        f"AS {instance.asn} of its spec.asn is used" if instance.asn is not None else "without an AS it speaks no BGP"
    )


def _asn_missing(node: Node, instance: Instance, where: NodeValue) -> Problem:
    return Problem(
        "asnMissing",
        f"Node {node.name}",
        f"Node {node.name} has no {place(where)}, which asnFrom of BGPInstance {instance.name} names: "
        f"{_otherwise(instance)}",
        f"Set {place(where)} of Node {node.name} to its AS number, or leave it out with spec.nodeSelector.",
    )


def _asn_invalid(node: Node, instance: Instance, where: NodeValue, text: str, why: str) -> Problem:
    return Problem(
        "asnInvalid",
        f"Node {node.name}",
        f"{place(where)} = {text!r} of Node {node.name}, which asnFrom of BGPInstance {instance.name} names, {why}: "
        f"{_otherwise(instance)}",
        f"Set {place(where)} of Node {node.name} to a number such as 4200000001, or 64086.59905.",
    )


def _router_id_invalid(node: Node, where: NodeValue, text: str, instead: IPv4Address) -> Problem:
    return Problem(
        "routerIDInvalid",
        f"Node {node.name}",
        f"{place(where)} = {text!r} of Node {node.name} is no router id: {instead} is used",
        f"Set {place(where)} of Node {node.name} to an IPv4 address from 1.0.0.0 to 223.255.255.255 of its own.",
    )


def _not_listening(node: Node, instance: Instance) -> Problem:
    inside = ", ".join(map(str, instance.listen_addresses))
    return Problem(
        "notInListenAddresses",
        f"Node {node.name}",
        f"no InternalIP of Node {node.name} is inside listenAddresses of BGPInstance {instance.name} ({inside}): "
        "there is no session with it",
        "Add the network of its InternalIPs to listenAddresses, or leave the node out with spec.nodeSelector.",
    )
