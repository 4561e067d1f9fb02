"""The plan of one node, as a value: what the drivers are handed and what status explains.

The mappings of a `NodePlan` may be live views of the planner's state: readers read them between two steps of a pass
and neither keep nor change them; while a plan is made, some of it is that of the plan before. Nothing here computes.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from ipaddress import IPv4Address

from agent.advertising import ToPeers
from agent.intent import USUAL_DAMPING, Damping, PodRoutes
from agent.model import (
    FibKey,
    FibRoute,
    Key,
    Problem,
    RouteType,
)
from agent.plan.leaving import Leave
from agent.plan.sessions import SessionClaim
from agent.plan.topology import Standpoint
from bgp.model import BGP_PORT, Address, Peer, Prefix, Route, RouteKey


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Who this node is in BGP."""

    node: str
    instance: str
    """Name of the BGPInstance in force, empty for the defaults."""
    asn: int
    router_id: IPv4Address
    router_id_source: str
    """Where it comes from, for people: `InternalIP`, `hash of fd00::1`."""
    addresses: tuple[Address, ...]
    """At most one per family, the first InternalIP of each: the next hop of what we announce."""
    pod_cidrs: tuple[Prefix, ...]
    """Own pod CIDRs that are valid and uncontested."""
    pod_routes: PodRoutes
    listen_port: int = BGP_PORT


@dataclass(frozen=True, slots=True)
class Origination:
    """A prefix this node announces of its own, and the objects it does so for."""

    prefix: Prefix
    sources: tuple[str, ...]
    """Sorted, for people: `Node worker-1`, `Service default/web (ClusterIP)`."""
    to_mesh: bool = False
    to_peers: frozenset[ToPeers] = frozenset()
    """Which external peers are told, and what is said of it."""
    discarded: RouteType | None = None
    """It is not announced without this discard route: what of it is not in use must end here, not go in circles."""
    starved: tuple[str, ...] = ()
    """Services with this address and traffic policy Local that have no endpoint here: others have it announced."""
    pods: bool = False
    """It is a pod CIDR of this node."""
    local: bool = False
    """What comes for it goes to no other node: a pod CIDR, or traffic policy Local."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodePlan:
    identity: Identity | None = None
    """None: our own Node is unknown or has no address; then nothing is wanted."""
    leave: Leave | None = None
    """Set: this node is about to go."""
    standpoint: Standpoint = field(default_factory=Standpoint)
    """Where this node stands among the others; its cluster id, if it is a route reflector."""
    peers: Mapping[Address, Peer] = field(default_factory=dict)
    mesh: Mapping[str, SessionClaim] = field(default_factory=dict)
    """Sessions with other nodes, by the node's name: those that are wanted, and those that are parting."""
    parting: frozenset[str] = frozenset()
    """Of `mesh`, the nodes with which no session is wanted any more; and this node, while nobody says its AS."""
    former_clients: frozenset[str] = frozenset()
    """Of `mesh`, the nodes for which this one still reflects, and need not any more."""
    written: Mapping[str, Address] = field(default_factory=dict)
    """By BGPPeer, the router's address that is written in it or on the Node, or was last."""
    originated: Mapping[Prefix, Origination] = field(default_factory=dict)
    damping: Damping = USUAL_DAMPING
    aggregates: Mapping[Key, frozenset[Prefix]] = field(default_factory=dict)
    """By Service, the prefixes that are announced instead of its addresses."""
    routes: Mapping[RouteKey, Route] = field(default_factory=dict)
    refused_out: Mapping[RouteKey, str] = field(default_factory=dict)
    """Routes that may not go to a peer, with the reason word of `bgp.check`: ours, and those that are reflected."""
    fib: Mapping[FibKey, FibRoute] = field(default_factory=dict)
    refused_in: Mapping[RouteKey, str] = field(default_factory=dict)
    """Paths heard (peer, prefix) that are not admitted, with the reason word of `agent.plan.imports`."""
    not_advertised: Mapping[tuple[Key, str], str] = field(default_factory=dict)
    """(Service, address or address class) → reason word why it is not announced from here. With a BGPAdvertisement
    behind the address (`agent.plan.services.what_of`): only this one does not announce it, or for another reason."""
    problems: frozenset[Problem] = frozenset()
    secrets: frozenset[str] = frozenset()
    """Names of the Secrets that peers of this node need."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanDelta:
    """What differs from the plan before: keys to look up in the new plan (absent there: removed)."""

    peers: bool = False
    routes: AbstractSet[RouteKey] = frozenset()
    """All of a prefix together. Live, like a plan; a reflector's may have millions, also some that do not differ."""
    fib: AbstractSet[FibKey] = frozenset()
    unjudged: Collection[Prefix] = ()
    """Prefixes heard that are too many for one update: their routes are as before, and they are dirty still."""
    problems: bool = False
    secrets: bool = False
