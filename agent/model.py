"""Records shared by the rooms of the agent: cluster objects reduced to what matters, kernel routes, problems, changes.

Values only, all frozen and comparable: a record equal to the one before means that nothing changed for us.
Nothing here reads JSON (`agent.cluster.parse`), plans (`agent.plan`) or touches the outside world.
"""

from __future__ import annotations

import enum
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Interface, IPv6Interface
from typing import Final, NamedTuple, TypeAlias

from agent.advertising import Advertisement, ServiceAddress
from agent.intent import ExternalPeer, Instance
from bgp.model import Address, BgpEvent, Family, Password, Prefix

BGPILOT_GROUP: Final = "bgpilot.io"
BGPILOT_VERSION: Final = "v1alpha1"


class Kind(enum.StrEnum):
    """Kinds of cluster objects that are watched."""

    NODE = "Node"
    NAMESPACE = "Namespace"
    SERVICE = "Service"
    ENDPOINT_SLICE = "EndpointSlice"
    SERVICE_CIDR = "ServiceCIDR"
    INSTANCE = "BGPInstance"
    PEER = "BGPPeer"
    ADVERTISEMENT = "BGPAdvertisement"
    SECRET = "Secret"  # noqa: S105  # the kind, not a password
    DAEMON_SET = "DaemonSet"


ALWAYS_WATCHED: Final = frozenset(Kind) - {Kind.SECRET, Kind.DAEMON_SET}
"""Kinds that must have been listed once before anything is done. Secrets are watched by name, as BGPPeers name them;
the DaemonSet that the agent is of only where its end matters.
"""


class Key(NamedTuple):
    """Identity of an object. `namespace` is empty for cluster-scoped kinds."""

    kind: Kind
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}" if self.namespace else f"{self.kind} {self.name}"


def object_of(peer_name: str) -> str:
    """How Problems call the object that a peer comes of: `BGPPeer/tor-a` is BGPPeer tor-a, `node/b` is Node b."""
    kind, slash, name = peer_name.partition("/")
    return f"{Kind.NODE if kind == 'node' else kind} {name}" if slash else peer_name


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


@dataclass(frozen=True, slots=True)
class UnreadPodCidrs(Problem):
    """A BGPAdvertisement of type PodCIDR exists and does not parse: to whom pod CIDRs are told, it would say."""


# Cluster objects, reduced.


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
    annotations: tuple[tuple[str, str], ...] = ()
    """Sorted; only short ones (an AS number, an address)."""
    ready: bool = True
    """Condition Ready is not False or Unknown."""
    cordoned: bool = False
    """spec.unschedulable."""
    taints: tuple[str, ...] = ()
    """Keys, sorted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Namespace:
    name: str
    labels: tuple[tuple[str, str], ...] = ()
    """Sorted."""


class TrafficPolicy(enum.StrEnum):
    CLUSTER = "Cluster"
    LOCAL = "Local"


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """Headless and ExternalName services have no address in any class."""

    namespace: str
    name: str
    uid: str = ""
    cluster_ips: tuple[Address, ...] = ()
    external_ips: tuple[Address, ...] = ()
    load_balancer_ips: tuple[Address, ...] = ()
    """Ingress IPs with ipMode VIP."""
    internal_policy: TrafficPolicy = TrafficPolicy.CLUSTER
    external_policy: TrafficPolicy = TrafficPolicy.CLUSTER
    labels: tuple[tuple[str, str], ...] = ()
    load_balancer_class: str = ""
    requested: frozenset[ServiceAddress] | None = None
    """The classes that its annotation wants announced, of those that an advertisement allows. None: it says nothing."""
    left_out: tuple[tuple[str, str], ...] = ()
    """(what, reason word): addresses, hostnames or classes of it that no node answers for, such as `headlessService`,
    `externalName`, `ipModeProxy`, `hostnameOnly` or `noLoadBalancer`; and a LoadBalancerIP that it is to have
    (`noAddressYet`)."""
    request_error: str = ""
    """What is wrong with the annotation; it counts as not there then, so that all else of the Service is followed."""


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
    unready: frozenset[str] = frozenset()
    """Names of nodes with an endpoint that is not ready and not terminating: it may be ready again in a moment."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceCidr:
    name: str
    cidrs: tuple[Prefix, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Secret:
    """A Secret of the agent's namespace that a BGPPeer names. Values are passwords: they never print themselves."""

    name: str
    values: tuple[tuple[str, Password], ...] = field(default=())
    found: bool = True
    """False: the API server says it does not exist or we may not read it (`why`)."""
    why: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class DaemonSet:
    """The one that the agent is of."""

    name: str
    found: bool = True
    """False: a complete answer of the API server does not have it."""
    deleting: bool = False
    """It has a deletionTimestamp: its pods go first."""


Record: TypeAlias = (
    Node
    | Namespace
    | Service
    | EndpointSlice
    | ServiceCidr
    | Instance
    | ExternalPeer
    | Advertisement
    | Secret
    | DaemonSet
)


# Kernel.


class RouteType(enum.StrEnum):
    UNICAST = "unicast"
    UNREACHABLE = "unreachable"
    """Discards and answers with ICMP unreachable: what a discard route of a pod CIDR should do."""
    BLACKHOLE = "blackhole"
    UNREACHABLE_FORWARDED = "unreachable-forwarded"
    """The same for packets that come from elsewhere; this node's own go where they would without it.

    As such it ends only what no route of table main leads to that is as long as it (`agent.kernel.rules`).
    """
    BLACKHOLE_FORWARDED = "blackhole-forwarded"
    """The same without an answer, so that who tries again finds another node."""
    INCOMPLETE = "incomplete"
    """Never wanted: a discard for forwarded packets that was found without the rules that it needs."""
    ODD = "odd"
    """Never wanted: found with our protocol number at a key where ours may be, in a shape that we never write."""


class NextHop(NamedTuple):
    """`interface` 0: the kernel finds it from the gateway."""

    gateway: Address
    """IPv6 also of an IPv4 route (RFC 8950); of an IPv6 route the kernel takes no other.

    A link-local one that is wanted has its zone (`fe80::1%eth0`), for people: the kernel goes by `interface`.
    """
    interface: int = 0


def in_order(hops: Collection[NextHop]) -> tuple[NextHop, ...]:
    """As a `FibRoute` has them: IPv4 gateways first, then by number and interface."""
    if len(hops) < 2:  # nearly always, and asked for each route of a table
        return tuple(hops)
    return tuple(sorted(hops, key=lambda hop: (hop.gateway.version, int(hop.gateway), hop.interface)))


class FibKey(NamedTuple):
    """What the kernel holds one route for, per table. Metric 0 means the family's default (IPv6: 1024)."""

    prefix: Prefix
    metric: int


@dataclass(frozen=True, slots=True)
class FibRoute:
    """One route of ours in the kernel. Several next hops, `in_order`, are one multipath route of equal weights."""

    prefix: Prefix
    next_hops: tuple[NextHop, ...] = ()
    type: RouteType = RouteType.UNICAST
    metric: int = 0
    extra: str = ""
    """Of a wanted one always empty: what it was found with that we never write, as `ip route` says it (`mtu 1300`)."""

    @property
    def key(self) -> FibKey:
        return FibKey(self.prefix, self.metric)


LEARNED_METRIC: Final = 0
"""Metric of routes learned from peers; discard routes have another."""
DISCARD_METRIC: Final = 0xFFFF_FFF0
"""Metric of discard routes: any real route for the same prefix wins."""


@dataclass(frozen=True, slots=True)
class Interface:
    index: int
    name: str
    up: bool
    """Administratively up with carrier (operstate up or unknown)."""
    addresses: tuple[IPv4Interface | IPv6Interface, ...] = ()
    """With prefix length, of point-to-point links as host addresses; sorted; link-local and host scope ones too."""
    ends: tuple[Prefix, ...] = ()
    """The networks of the other ends of point-to-point links; sorted."""


class Gateway(NamedTuple):
    """A next hop of a default route in table main that is not ours."""

    family: Family
    """Of the route; an IPv4 route may lead over an IPv6 router (RFC 5549)."""
    address: Address
    """May be link-local."""
    interface: int


# Changes: all that can enter the inbox. Bgp events come as they are.


@dataclass(frozen=True, slots=True)
class Listed:
    """A complete list of one kind (or of one name of it) has arrived; it replaces what was known."""

    kind: Kind
    records: Mapping[Key, Record]
    malformed: Mapping[Key, Problem] = field(default_factory=dict)
    """Objects that exist but do not parse: their last good record stays."""
    only: Key | None = None
    """Set when the list covers this one object only (Secrets and DaemonSets are watched by name)."""


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
    broken_at: float | None = None
    """Monotonic second of the first failure since it last was healthy; None: it is."""


@dataclass(frozen=True, slots=True)
class InterfacesChanged:
    interfaces: tuple[Interface, ...]


@dataclass(frozen=True, slots=True)
class GatewaysChanged:
    gateways: tuple[Gateway, ...]
    """Sorted, each once."""


@dataclass(frozen=True, slots=True)
class ForwardingChanged:
    off: frozenset[Family]
    """The kernel drops packets of these that are not for the node itself."""


@dataclass(frozen=True, slots=True)
class FibDrifted:
    """The kernel told us of a change to routes that we did not make, or may have lost some silently: look again."""


@dataclass(frozen=True, slots=True)
class DrainOrdered:
    """Somebody on this node wants it out of all routing."""

    text: str | None
    """What routers are told; None: no more."""


@dataclass(frozen=True, slots=True)
class Retry:
    """Time to look again at what failed or was held back."""


ClusterChange: TypeAlias = Listed | Applied | Gone | Malformed | WatchState
Change: TypeAlias = (
    ClusterChange
    | InterfacesChanged
    | GatewaysChanged
    | ForwardingChanged
    | FibDrifted
    | DrainOrdered
    | Retry
    | BgpEvent
)
