"""Records shared by the rooms of the agent: cluster objects reduced to what matters, kernel routes, problems, changes.

Values only, all frozen and comparable: a record equal to the one before means that nothing changed for us.
Nothing here reads JSON (`agent.cluster.parse`), plans (`agent.plan`) or touches the outside world.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Interface, IPv6Interface
from typing import Final, NamedTuple, TypeAlias

from bgp.model import BGP_PORT, DEFAULT_HOLD_SECONDS, Address, BgpEvent, Family, Password, Prefix

DEFAULT_ASN: Final = 64512
"""First private AS number (RFC 6996): what kube-router and Calico use when nothing is said."""
BGPILOT_GROUP: Final = "bgpilot.io"
BGPILOT_VERSION: Final = "v1alpha1"


class Kind(enum.StrEnum):
    """Kinds of cluster objects that are watched."""

    NODE = "Node"
    SERVICE = "Service"
    ENDPOINT_SLICE = "EndpointSlice"
    SERVICE_CIDR = "ServiceCIDR"
    INSTANCE = "BGPInstance"
    PEER = "BGPPeer"
    ADVERTISEMENT = "BGPAdvertisement"
    SECRET = "Secret"  # noqa: S105  # the kind, not a password


ALWAYS_WATCHED: Final = frozenset(Kind) - {Kind.SECRET}
"""Kinds that must have been listed once before anything is done. Secrets are watched by name, as BGPPeers name them."""


class Key(NamedTuple):
    """Identity of an object. `namespace` is empty for cluster-scoped kinds."""

    kind: Kind
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}" if self.namespace else f"{self.kind} {self.name}"


@dataclass(frozen=True, slots=True)
class Problem:
    """Something the user should know and can mend. Equal problems are one problem."""

    reason: str
    """One camelCase word, the same in log, metric label, condition, event and CLI."""
    subject: str
    """The object, peer or route it is about: `Node worker-1`, `BGPPeer tor-a`, `Service default/web`."""
    message: str
    """What is wrong, with the field's name and its value (never a secret)."""
    fix: str = ""
    """What to do about it, in the imperative."""


# Cluster objects, reduced.


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    name: str
    uid: str = ""
    created: float = 0.0
    """creationTimestamp as Unix seconds."""
    addresses: tuple[Address, ...] = ()
    """InternalIPs in the object's order."""
    pod_cidrs: tuple[Prefix, ...] = ()
    labels: tuple[tuple[str, str], ...] = ()
    """Sorted."""


class TrafficPolicy(enum.StrEnum):
    CLUSTER = "Cluster"
    LOCAL = "Local"


class ServiceAddress(enum.StrEnum):
    """Classes of service addresses an advertisement can choose."""

    CLUSTER_IP = "ClusterIP"
    EXTERNAL_IP = "ExternalIP"
    LOAD_BALANCER_IP = "LoadBalancerIP"


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """Headless and ExternalName services have no address in any class."""

    namespace: str
    name: str
    cluster_ips: tuple[Address, ...] = ()
    external_ips: tuple[Address, ...] = ()
    load_balancer_ips: tuple[Address, ...] = ()
    """Ingress IPs with ipMode VIP."""
    internal_policy: TrafficPolicy = TrafficPolicy.CLUSTER
    external_policy: TrafficPolicy = TrafficPolicy.CLUSTER
    labels: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointSlice:
    """Reduced to the nodes that have endpoints: pod addresses that move within a node change nothing for routing."""

    namespace: str
    name: str
    service: str
    """Value of the label kubernetes.io/service-name; empty: belongs to no service."""
    family: Family | None
    """Of its addressType: it answers for the service's addresses of this family only. None for FQDN: for none."""
    ready: frozenset[str] = frozenset()
    """Names of nodes with a ready endpoint; the empty string stands for endpoints without a node."""
    serving: frozenset[str] = frozenset()
    """Names of nodes with an endpoint that is serving while terminating."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceCidr:
    name: str
    cidrs: tuple[Prefix, ...]


class PodRoutes(enum.StrEnum):
    BGP = "BGP"
    OFF = "Off"
    """Another CNI carries pods: no pod CIDR is announced, no pod or discard route installed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """BGPInstance. Without any, the defaults here hold."""

    name: str
    created: float = 0.0
    asn: int = DEFAULT_ASN
    pod_routes: PodRoutes = PodRoutes.BGP
    mesh_hold_seconds: int = DEFAULT_HOLD_SECONDS
    allowed_external_ips: tuple[Prefix, ...] = ()
    """ExternalIPs outside all of these are never announced (CVE-2020-8554)."""
    service_cidrs: tuple[Prefix, ...] = ()
    """Service ranges of clusters whose API has no ServiceCIDR objects; added to those it has."""


class SecretRef(NamedTuple):
    name: str
    key: str


@dataclass(frozen=True, slots=True)
class AllowedPrefix:
    """Matches a prefix inside `prefix` whose length is between `ge` and `le`."""

    prefix: Prefix
    ge: int
    le: int

    def admits(self, prefix: Prefix) -> bool:
        if prefix.version != self.prefix.version or not self.ge <= prefix.prefixlen <= self.le:
            return False
        outside = int(prefix.network_address) ^ int(self.prefix.network_address)
        return prefix.prefixlen >= self.prefix.prefixlen and not outside >> (
            prefix.max_prefixlen - self.prefix.prefixlen
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ExternalPeer:
    """BGPPeer: a router outside the cluster."""

    name: str
    created: float = 0.0
    address: Address
    asn: int
    node_selector: Selector = Selector()
    port: int = BGP_PORT
    hold_seconds: int = DEFAULT_HOLD_SECONDS
    password_ref: SecretRef | None = None
    import_pod_cidrs: bool = False
    import_allowed: tuple[AllowedPrefix, ...] = ()


class AdvertisementType(enum.StrEnum):
    POD_CIDR = "PodCIDR"
    SERVICE = "Service"


@dataclass(frozen=True, slots=True, kw_only=True)
class Advertisement:
    """BGPAdvertisement: what of ours external peers are told. No object of type PodCIDR: pod CIDRs are told to all."""

    name: str
    created: float = 0.0
    type: AdvertisementType
    node_selector: Selector = Selector()
    service_selector: Selector = Selector()
    addresses: frozenset[ServiceAddress] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Secret:
    """A Secret of the agent's namespace that a BGPPeer names. Values are passwords: they never print themselves."""

    name: str
    values: tuple[tuple[str, Password], ...] = field(default=())
    found: bool = True
    """False: the API server says it does not exist or we may not read it (`why`)."""
    why: str = ""


Record: TypeAlias = Node | Service | EndpointSlice | ServiceCidr | Instance | ExternalPeer | Advertisement | Secret


# Kernel.


class RouteType(enum.StrEnum):
    UNICAST = "unicast"
    UNREACHABLE = "unreachable"
    """Discards and answers with ICMP unreachable: what a discard route of a pod CIDR should do."""
    BLACKHOLE = "blackhole"


class NextHop(NamedTuple):
    """`interface` 0: the kernel finds it from the gateway."""

    gateway: Address
    interface: int = 0


class FibKey(NamedTuple):
    """What the kernel holds one route for, per table. Metric 0 means the family's default (IPv6: 1024)."""

    prefix: Prefix
    metric: int


@dataclass(frozen=True, slots=True)
class FibRoute:
    """One route of ours in the kernel. Several next hops, sorted, are one multipath route of equal weights."""

    prefix: Prefix
    next_hops: tuple[NextHop, ...] = ()
    type: RouteType = RouteType.UNICAST
    metric: int = 0

    @property
    def key(self) -> FibKey:
        return FibKey(self.prefix, self.metric)


DISCARD_METRIC: Final = 0xFFFF_FFF0
"""Metric of discard routes: any real route for the same prefix wins."""


@dataclass(frozen=True, slots=True)
class Interface:
    index: int
    name: str
    up: bool
    """Administratively up with carrier (operstate up or unknown)."""
    addresses: tuple[IPv4Interface | IPv6Interface, ...] = ()
    """With prefix length; sorted; link-local and host-scope ones included."""


# Changes: all that can enter the inbox. Bgp events come as they are.


@dataclass(frozen=True, slots=True)
class Listed:
    """A complete list of one kind (Secret: of one name) has arrived; it replaces what was known."""

    kind: Kind
    records: Mapping[Key, Record]
    malformed: Mapping[Key, Problem] = field(default_factory=dict)
    """Objects that exist but do not parse: their last good record stays."""
    only: Key | None = None
    """Set when the list covers this one object only (Secrets are watched by name)."""


@dataclass(frozen=True, slots=True)
class Applied:
    key: Key
    record: Record


@dataclass(frozen=True, slots=True)
class Gone:
    key: Key


@dataclass(frozen=True, slots=True)
class Malformed:
    """The object exists, this version of it does not parse; the last good record stays."""

    key: Key
    problem: Problem


@dataclass(frozen=True, slots=True)
class WatchState:
    """How the watch of one kind (or one Secret, by `only`) is doing.

    `fresh_at` is the monotonic second of the last sign of life.
    """

    kind: Kind
    healthy: bool
    fresh_at: float
    problem: Problem | None = None
    only: Key | None = None
    restarts: tuple[tuple[str, int], ...] = ()
    """(reason word, count) since start."""


@dataclass(frozen=True, slots=True)
class InterfacesChanged:
    interfaces: tuple[Interface, ...]


@dataclass(frozen=True, slots=True)
class FibDrifted:
    """The kernel told us of a change to routes that we did not make, or may have lost some silently: look again."""


@dataclass(frozen=True, slots=True)
class Retry:
    """Time to look again at what failed or was held back."""


ClusterChange: TypeAlias = Listed | Applied | Gone | Malformed | WatchState
Change: TypeAlias = ClusterChange | InterfacesChanged | FibDrifted | Retry | BgpEvent
