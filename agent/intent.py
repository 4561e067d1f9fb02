"""What users ask for: BGPInstance and BGPPeer of bgpilot.io/v1alpha1, reduced to what planning needs.

Values only, frozen and comparable. Nothing here reads JSON (`agent.cluster.parse`) or decides what comes of a wish
(`agent.plan`). What is to be announced is `agent.advertising`.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final, NamedTuple

from bgp.bestpath import MULTIPATH_LIMIT
from bgp.model import BGP_PORT, DEFAULT_HOLD_SECONDS, Address, Family, Prefix, PrefixLimit

DEFAULT_ASN: Final = 64512
"""First private AS number (RFC 6996): what kube-router and Calico use when nothing is said."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Selector:
    """A LabelSelector. Empty selects everything."""

    labels: tuple[tuple[str, str], ...] = ()
    expressions: tuple[tuple[str, str, tuple[str, ...]], ...] = ()
    """(key, operator, values) with operator In, NotIn, Exists or DoesNotExist."""

    def matches(self, labels: Mapping[str, str]) -> bool:
        return all(labels.get(key) == value for key, value in self.labels) and all(
            _holds(key, operator, values, labels) for key, operator, values in self.expressions
        )


def _holds(key: str, operator: str, values: tuple[str, ...], labels: Mapping[str, str]) -> bool:
    match operator:
        case "In":
            return labels.get(key) in values
        case "NotIn":
            return labels.get(key) not in values
        case "Exists":
            return key in labels
        case "DoesNotExist":
            return key not in labels
        case _:
            raise ValueError(f"unknown selector operator {operator!r}")


DRAIN_TAINTS: Final = (
    "ToBeDeletedByClusterAutoscaler",
    "node.cloudprovider.kubernetes.io/shutdown",
    "node.kubernetes.io/out-of-service",
)
"""Taints of nodes that are about to go, by whoever takes them away."""


EVERYTHING: Final = Selector()


class PodRoutes(enum.StrEnum):
    BGP = "BGP"
    OFF = "Off"
    """Another CNI carries pods: no pod CIDR is announced, no pod or discard route installed."""


class ServiceRoutes(enum.StrEnum):
    """What of service addresses goes from node to node."""

    OFF = "Off"
    """Nothing: kube-proxy answers for them on every node."""
    ANNOUNCE = "Announce"
    """The other nodes are told those that this one announces, each as a host route."""
    IMPORT = "Import"
    """That, and what other nodes tell is installed: for nodes without kube-proxy."""


class NodeValue(NamedTuple):
    """Where on the Node a value that differs from node to node is written."""

    annotation: bool
    """True: in an annotation; else in a label."""
    key: str


class SecretRef(NamedTuple):
    name: str
    key: str


class MeshMode(enum.StrEnum):
    """Which nodes have sessions with each other."""

    FULL_MESH = "FullMesh"
    ROUTE_REFLECTOR = "RouteReflector"
    """Nodes that `reflector_selector` selects reflect to all others (RFC 4456)."""
    AUTO = "Auto"
    """Full mesh in small clusters; in large ones reflectors that every node chooses alike."""
    NONE = "None"


class ControlPlane(enum.StrEnum):
    """What being a control-plane node means when reflectors are chosen."""

    AVOID = "Avoid"
    ALLOW = "Allow"
    PREFER = "Prefer"


DEFAULT_MESH_THRESHOLD: Final = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Mesh:
    """The sessions between nodes. There are some only between nodes of the same AS."""

    mode: MeshMode = MeshMode.AUTO
    hold_seconds: int = DEFAULT_HOLD_SECONDS
    password_ref: SecretRef | None = None
    reflector_selector: Selector | None = None
    """Of mode RouteReflector."""
    cluster_id: IPv4Address | None = None
    """CLUSTER_ID of the reflectors this instance selects. None: each reflector's own router id (RFC 4456 7)."""
    threshold: int = DEFAULT_MESH_THRESHOLD
    """Mode Auto: the most nodes that are still fully meshed."""
    control_plane: ControlPlane = ControlPlane.AVOID


@dataclass(frozen=True, slots=True, kw_only=True)
class Damping:
    """How long a change of an endpoint's readiness waits before it counts, seconds."""

    withdraw_seconds: float = 0.5
    announce_seconds: float = 0.0


USUAL_DAMPING: Final = Damping()


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """BGPInstance. Without any, the defaults here hold."""

    name: str
    uid: str = ""
    created: float = 0.0
    generation: int = 0
    """metadata.generation: which version of its spec this is."""
    node_selector: Selector = Selector()
    priority: int = 0
    """The highest of those that select a node is in force there; then the oldest, then the first by name."""
    asn: int | None = DEFAULT_ASN
    """None: `asn_from` alone says it."""
    asn_from: NodeValue | None = None
    """Stands over `asn`, on nodes that have it."""
    router_id: IPv4Address | None = None
    router_id_from: NodeValue | None = None
    """Of these two at most one is set."""
    listen_port: int = BGP_PORT
    listen_addresses: tuple[Prefix, ...] = ()
    """Sessions use only node addresses inside these. Empty: any InternalIP."""
    mesh: Mesh = Mesh()
    pod_routes: PodRoutes = PodRoutes.BGP
    service_routes: ServiceRoutes = ServiceRoutes.OFF
    allowed_external_ips: tuple[Prefix, ...] = ()
    """ExternalIPs outside all of these are never announced (CVE-2020-8554)."""
    maximum_paths: int = MULTIPATH_LIMIT
    """Next hops of one route at most; 1 switches multipath off."""
    damping: Damping = USUAL_DAMPING
    drain_on_taints: tuple[str, ...] = DRAIN_TAINTS
    """Keys of taints; a node that has one of them announces no service address."""
    service_cidrs: tuple[Prefix, ...] = ()
    """Service ranges of clusters whose API has no ServiceCIDR objects; added to those it has."""


@dataclass(frozen=True, slots=True)
class AllowedPrefix:
    """Matches a prefix inside `prefix` whose length is between `ge` and `le`."""

    prefix: Prefix
    ge: int
    le: int

    def admits(self, prefix: Prefix) -> bool:
        within, length = self.prefix, prefix.prefixlen
        shortest = within.prefixlen
        if not self.ge <= length <= self.le or length < shortest or prefix.version != within.version:
            return False
        if shortest == 0:
            return True
        return not (int(prefix.network_address) ^ int(within.network_address)) >> (prefix.max_prefixlen - shortest)


def names_a_router(address: Address) -> bool:
    """Sessions can be had with it: unicast, not of 0.0.0.0/8 (RFC 1122), and without having to say on which link."""
    nobody = address.is_unspecified or (address.version == 4 and int(address) >> 24 == 0)
    broadcast = address.version == 4 and int(address) == 0xFFFF_FFFF
    return not (nobody or address.is_multicast or address.is_link_local or broadcast)


def needs_a_link(address: Address) -> bool:
    """It names a router only together with the interface that it is reached through (RFC 4291 2.5.6)."""
    return address.version == 6 and address.is_link_local


def router_in(text: str) -> Address | None:
    """The router that is written on a Node, without its link; None: no address, or one that nobody can have."""
    try:
        address = ip_address(text)
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    zoned = isinstance(address, IPv6Address) and address.scope_id is not None
    return address if (names_a_router(address) or needs_a_link(address)) and not zoned else None


class PeerAs(enum.StrEnum):
    """An AS that is not written as a number."""

    EXTERNAL = "external"
    """Any but ours, learned from the OPEN."""
    INTERNAL = "internal"
    """Ours."""


class GatewayFamily(enum.StrEnum):
    """Which default routes name the router."""

    IPV4 = "IPv4"
    IPV6 = "IPv6"
    DUAL = "Dual"


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerReach:
    """How packets of a session with a router go."""

    multihop: int | None = None
    ttl_security_hops: int | None = None
    source_address: Address | None = None
    source_interface: str = ""
    passive: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ExternalPeer:
    """BGPPeer: a router outside the cluster. One of `address`, `address_from` and `default_gateway` says which."""

    name: str
    uid: str = ""
    created: float = 0.0
    generation: int = 0
    """metadata.generation: which version of its spec this is."""
    labels: tuple[tuple[str, str], ...] = ()
    """Sorted; advertisements choose peers by them."""
    address: Address | None = None
    address_from: NodeValue | None = None
    default_gateway: GatewayFamily | None = None
    asn: int | PeerAs
    local_asn: int | None = None
    """What we are to this peer, instead of the instance's AS (nothing is prepended)."""
    allowas_in: int = 0
    node_selector: Selector = Selector()
    port: int = BGP_PORT
    hold_seconds: int = DEFAULT_HOLD_SECONDS
    keepalive_seconds: int | None = None
    connect_retry_seconds: int | None = None
    password_ref: SecretRef | None = None
    reach: PeerReach = PeerReach()
    families: frozenset[Family] = frozenset()
    """Empty: those of which the node has an address."""
    extended_next_hop: bool = False
    prefix_limits: tuple[tuple[Family, PrefixLimit], ...] = ()
    description: str = ""
    shutdown: str | None = None
    """Set: administratively shut down, with this text (may be empty) for the router (RFC 9003)."""
    import_pod_cidrs: bool = False
    import_allowed: tuple[AllowedPrefix, ...] = ()
