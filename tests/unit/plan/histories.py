"""Random histories of a small cluster: objects, peers and interfaces that change, in a world where they collide often.

What the tests of the planner draw from. It knows nothing of plans.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from ipaddress import ip_address, ip_interface, ip_network

from hypothesis import strategies as st

from agent.advertising import (
    Advertisement,
    AdvertisementType,
    ServiceAddress,
    ServiceChoice,
    Terms,
    ToPeers,
    WhenNoEndpoints,
)
from agent.cluster.world import World
from agent.intent import (
    AllowedPrefix,
    Damping,
    ExternalPeer,
    GatewayFamily,
    Instance,
    Mesh,
    MeshMode,
    NodeValue,
    PeerAs,
    PeerReach,
    PodRoutes,
    SecretRef,
    Selector,
    ServiceRoutes,
)
from agent.model import (
    Applied,
    EndpointSlice,
    Gateway,
    Gone,
    Interface,
    Key,
    Kind,
    Namespace,
    Node,
    Record,
    Secret,
    Service,
    ServiceCidr,
    TrafficPolicy,
)
from agent.plan.leaving import DRAIN_ANNOTATION, HERE, Departure, Progress
from agent.plan.model import Identity, NodePlan
from agent.plan.picture import Dirty, Picture
from agent.plan.sessions import SessionClaim
from agent.plan.topology import Area
from bgp.model import (
    Address,
    Attributes,
    BgpEvent,
    Community,
    EndOfRib,
    Family,
    Password,
    Path,
    PathsHeard,
    PeerRemoved,
    PrefixLimit,
    SessionDown,
    SessionUp,
    SpeakerLost,
)
from bgp.rib import Rib

NODES = ("n0", "n1", "n2", "n3")
OWN = "n1"

_NODE_ADDRESSES = tuple(
    map(ip_address, ("10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4", "fd00::1", "fd00::2", "fd00::3"))
)
_TOR = ip_address("10.0.0.254")
_PEER_ADDRESSES = (*_NODE_ADDRESSES, _TOR, ip_address("fd00::fe"))
_ON_LINKS = (ip_address("fe80::1%eth0"), ip_address("fe80::1%veth1"))
_TELLERS = (*_PEER_ADDRESSES, *_ON_LINKS)
_CIDRS = tuple(
    map(ip_network, ("10.244.0.0/24", "10.244.1.0/24", "10.244.0.0/23", "10.0.0.0/26", "fd01::/64", "fd01:0:0:1::/64"))
)
_SERVICE_ADDRESSES = tuple(
    map(ip_address, ("10.96.0.1", "10.96.0.2", "192.0.2.1", "10.0.0.2", "10.244.1.5", "fd02::1", "fd00::2"))
)
_RANGES = tuple(map(ip_network, ("10.96.0.0/24", "192.0.2.0/24", "fd02::/64", "10.244.0.0/16", "0.0.0.0/0")))
_HEARD = tuple(
    map(
        ip_network,
        (
            "0.0.0.0/0",
            "10.96.0.0/24",
            "10.96.0.1/32",
            "192.0.2.1/32",
            "10.0.0.0/24",
            "10.0.0.2/32",
            "172.16.0.0/12",
            "10.244.0.7/32",
            "10.244.1.0/25",
            "fd01::7/128",
            "fd02::1/128",
            "::/0",
        ),
    )
)
_NEXT_HOPS = (*_TELLERS, ip_address("172.31.0.1"))
_LABELS = ((), (("rack", "a"),), (("rack", "b"),))
_SELF_VALUES = ((), (("asn", "0.64512"),), (("asn", "65000"), ("id", "9.9.9.9")), (("asn", "none"), ("id", "none")))
"""What instances may ask nodes for."""
_SELECTORS = (Selector(), Selector(labels=(("rack", "a"),)))
_AGES = (0.0, 1.0, 2.0)
_ROUTERS: tuple[dict[str, object], ...] = (
    *({"address": address} for address in _PEER_ADDRESSES),
    {"address_from": NodeValue(annotation=False, key="tor")},
    {"address_from": NodeValue(annotation=True, key="tor")},
    *({"default_gateway": family} for family in GatewayFamily),
    {"address": ip_address("fe80::1")},
)
_GATEWAYS = tuple(
    Gateway(family, ip_address(address), interface)
    for family, address, interface in (
        (Family.IPV4, "10.0.0.254", 2),
        (Family.IPV4, "10.0.0.253", 2),
        (Family.IPV4, "10.0.0.3", 2),
        (Family.IPV4, "169.254.0.1", 2),
        (Family.IPV4, "fe80::1", 2),
        (Family.IPV6, "fd00::fe", 2),
        (Family.IPV6, "fe80::1", 2),
        (Family.IPV6, "fe80::1", 7),
    )
)
_TOR_VALUES = ((), (("tor", "10.0.0.253"),), (("tor", "10.0.0.3"),), (("tor", "nonsense"),))
_ATTRIBUTES = (
    Attributes(),
    Attributes(local_pref=200),
    Attributes(as_path=(65001,)),
    Attributes(as_path=(65001, 64512)),
    Attributes(originator_id=ip_address("3.3.3.3"), cluster_list=(ip_address("4.4.4.4"),)),
    Attributes(cluster_list=(ip_address("1.1.1.1"),)),
    Attributes(communities=frozenset({Community(0xFFFF, 0xFF02)})),
)
_DRAINED = ((), (), (), ((DRAIN_ANNOTATION, "rack 7"),))
_departures = st.builds(
    Departure,
    ordered=st.sampled_from((None, None, "", "rack 7")),
    deleted=st.booleans(),
    ending=st.booleans(),
    progress=st.sampled_from(Progress),
)
_AREAS = tuple(Area(64512, name) for name in ("", "i0", "i1"))


def _some(pool: tuple[object, ...], most: int = 3) -> st.SearchStrategy[tuple]:
    return st.lists(st.sampled_from(pool), max_size=most, unique=True).map(tuple)


def _home(name: str) -> tuple:
    """Where the node usually is."""
    return tuple(address for address in _NODE_ADDRESSES if int(address) % 16 == int(name[1]) + 1)


def _joined(parts: tuple) -> tuple:
    return tuple(sorted(entry for part in parts for entry in part))


nodes = st.sampled_from(NODES).flatmap(
    lambda name: st.builds(
        Node,
        name=st.just(name),
        created=st.sampled_from(_AGES),
        addresses=st.one_of(st.just(_home(name)), st.just(_home(name)), _some(_NODE_ADDRESSES)),
        pod_cidrs=_some(_CIDRS, 2),
        labels=st.builds(lambda *parts: parts[0] + parts[1], st.sampled_from(_LABELS), st.sampled_from(_TOR_VALUES)),
        annotations=st.tuples(*map(st.sampled_from, (_TOR_VALUES, _SELF_VALUES, _DRAINED))).map(_joined),
        ready=st.sampled_from((True, True, False)),
        cordoned=st.sampled_from((False, False, True)),
        taints=st.sampled_from(((), (), ("node.kubernetes.io/out-of-service",))),
    )
)
_services = st.builds(
    Service,
    namespace=st.just("default"),
    name=st.sampled_from(("s0", "s1", "s2")),
    cluster_ips=_some(_SERVICE_ADDRESSES, 2),
    external_ips=_some(_SERVICE_ADDRESSES, 2),
    load_balancer_ips=_some(_SERVICE_ADDRESSES, 2),
    internal_policy=st.sampled_from(TrafficPolicy),
    external_policy=st.sampled_from(TrafficPolicy),
    labels=st.sampled_from(_LABELS),
    load_balancer_class=st.sampled_from(("", "", "other")),
    requested=st.one_of(st.none(), st.none(), st.frozensets(st.sampled_from(ServiceAddress))),
)
_slices = st.builds(
    EndpointSlice,
    namespace=st.just("default"),
    name=st.sampled_from(("e0", "e1", "e2")),
    service=st.sampled_from(("s0", "s1", "s2", "")),
    family=st.sampled_from((*Family, None)),
    ready=st.frozensets(st.sampled_from((*NODES, "")), max_size=2),
    serving=st.frozensets(st.sampled_from((*NODES, "")), max_size=2),
)
instances = st.builds(
    Instance,
    name=st.sampled_from(("i0", "i1")),
    created=st.sampled_from(_AGES),
    node_selector=st.sampled_from((_SELECTORS[0], *_SELECTORS)),
    priority=st.sampled_from((0, 0, 1)),
    asn=st.sampled_from((64512, 64512, 65000, None)),
    asn_from=st.sampled_from((None, None, NodeValue(annotation=True, key="asn"))),
    router_id=st.sampled_from((None, None, ip_address("9.9.9.9"))),
    router_id_from=st.sampled_from((None, None, NodeValue(annotation=True, key="id"))),
    listen_port=st.sampled_from((179, 1790)),
    listen_addresses=st.sampled_from(((), (), (ip_network("10.0.0.2/31"),), (ip_network("fd00::/64"),))),
    pod_routes=st.sampled_from(PodRoutes),
    service_routes=st.sampled_from((ServiceRoutes.OFF, ServiceRoutes.ANNOUNCE, *[ServiceRoutes.IMPORT] * 2)),
    damping=st.sampled_from((Damping(), Damping(), Damping(withdraw_seconds=9.0))),
    maximum_paths=st.sampled_from((16, 16, 1)),
    mesh=st.builds(
        Mesh,
        mode=st.sampled_from((*MeshMode, MeshMode.ROUTE_REFLECTOR, MeshMode.AUTO)),
        hold_seconds=st.sampled_from((9, 90)),
        reflector_selector=st.sampled_from(_SELECTORS),
        cluster_id=st.sampled_from((None, ip_address("1.1.1.1"))),
        threshold=st.sampled_from((1, 2, 3, 100)),
        password_ref=st.sampled_from((None, None, SecretRef("x", "password"))),
    ),
    allowed_external_ips=_some(_RANGES, 2),
    service_cidrs=_some(_RANGES[:3], 1),
)
_peers = st.builds(
    lambda router, **settings: ExternalPeer(**router, **settings),
    st.one_of(st.sampled_from(_ROUTERS[: len(_PEER_ADDRESSES)]), st.sampled_from(_ROUTERS)),
    name=st.sampled_from(("p0", "p1", "p2")),
    created=st.sampled_from(_AGES),
    labels=st.sampled_from(_LABELS),
    asn=st.sampled_from((64512, 65001, *PeerAs)),
    local_asn=st.sampled_from((None, None, 64512, 64999)),
    allowas_in=st.sampled_from((0, 0, 1)),
    reach=st.builds(
        PeerReach,
        multihop=st.sampled_from((None, 2)),
        source_address=st.sampled_from((None, None, None, *_NODE_ADDRESSES[:2], ip_address("172.31.0.1"))),
        source_interface=st.sampled_from(("", "", "", "eth0", "eth0", "veth1", "lo", "absent")),
        passive=st.sampled_from((False, False, False, True)),
    ),
    families=st.one_of(st.just(frozenset()), st.frozensets(st.sampled_from(Family))),
    extended_next_hop=st.booleans(),
    prefix_limits=st.sampled_from(((), ((Family.IPV4, PrefixLimit(prefixes=9)),))),
    shutdown=st.sampled_from((None, None, None, "", "away")),
    node_selector=st.sampled_from(_SELECTORS),
    password_ref=st.sampled_from((None, None, SecretRef("x", "password"), SecretRef("y", "password"))),
    import_pod_cidrs=st.booleans(),
    import_allowed=_some(tuple(AllowedPrefix(prefix, prefix.prefixlen, prefix.max_prefixlen) for prefix in _RANGES), 2),
)
_advertisements = st.builds(
    Advertisement,
    name=st.sampled_from(("a0", "a1", "a2")),
    type=st.sampled_from(AdvertisementType),
    node_selector=st.sampled_from(_SELECTORS),
    to_peers=st.builds(
        ToPeers,
        st.sampled_from(_SELECTORS),
        st.sampled_from(
            (Terms(), Terms(med=5, communities=frozenset({Community(64512, 1)})), Terms(prepend=1, local_pref=50))
        ),
    ),
    service=st.builds(
        ServiceChoice,
        addresses=st.frozensets(st.sampled_from(ServiceAddress)),
        on_request=st.frozensets(st.sampled_from(ServiceAddress)),
        selector=st.sampled_from(_SELECTORS),
        namespace_selector=st.sampled_from((_SELECTORS[0], *_SELECTORS)),
        load_balancer_classes=st.sampled_from((frozenset(), frozenset({"other"}))),
        when_no_endpoints=st.sampled_from(WhenNoEndpoints),
        aggregation=st.sampled_from(((), (), ((Family.IPV4, 24),), ((Family.IPV4, 31), (Family.IPV6, 64)))),
    ),
    prefixes=_some((*_CIDRS[:3], *_RANGES[:3]), 2),
)
_namespaces = st.builds(Namespace, name=st.just("default"), labels=st.sampled_from(_LABELS))
_secrets = st.builds(
    Secret,
    name=st.sampled_from(("x", "y")),
    values=st.sampled_from(((), (("password", Password("one")),), (("password", Password("two")),))),
    found=st.booleans(),
)
_ranges = st.builds(ServiceCidr, name=st.sampled_from(("kubernetes", "more")), cidrs=_some(_RANGES[:3], 1))
_records = st.one_of(
    nodes,
    nodes,
    _services,
    _services,
    _slices,
    _slices,
    instances,
    _peers,
    _peers,
    _advertisements,
    _namespaces,
    _secrets,
    _ranges,
)
_KINDS: dict[type, Kind] = {
    Node: Kind.NODE,
    Service: Kind.SERVICE,
    EndpointSlice: Kind.ENDPOINT_SLICE,
    Instance: Kind.INSTANCE,
    ExternalPeer: Kind.PEER,
    Advertisement: Kind.ADVERTISEMENT,
    Namespace: Kind.NAMESPACE,
    Secret: Kind.SECRET,
    ServiceCidr: Kind.SERVICE_CIDR,
}


def key_of(record: Record) -> Key:
    return Key(_KINDS[type(record)], getattr(record, "namespace", ""), record.name)


_paths = st.sampled_from((*_TELLERS, *_home("n2"), *_home("n2"), _TOR, _TOR)).flatmap(
    lambda peer: st.builds(
        Path,
        peer=st.just(peer),
        next_hop=st.one_of(st.just(peer), st.just(peer), st.sampled_from(_NEXT_HOPS)),
        attributes=st.sampled_from(_ATTRIBUTES),
    )
)


def _heard(path: Path, announced: tuple, withdrawn: tuple) -> PathsHeard:
    return PathsHeard(path.peer, withdrawn, ((path, announced),))


_events = st.one_of(
    st.builds(_heard, _paths, _some((*_CIDRS, *_HEARD), 6), _some((*_CIDRS, *_HEARD), 2)),
    st.builds(_heard, _paths, _some((*_CIDRS, *_HEARD), 6), st.just(())),
    st.builds(
        SessionUp,
        peer=st.sampled_from(_TELLERS),
        router_id=st.sampled_from((None, ip_address("1.1.1.1"), ip_address("2.2.2.2"))),
        peer_asn=st.just(64512),
        hold_seconds=st.just(90),
        families=st.just(frozenset(Family)),
        restart_seconds=st.sampled_from((None, 60)),
        restart_families=st.just(frozenset(Family)),
        forwarding_kept=st.sampled_from((frozenset(), frozenset(Family))),
    ),
    st.builds(SessionDown, peer=st.sampled_from(_TELLERS), reason=st.just("gone"), without_notification=st.booleans()),
    st.builds(EndOfRib, st.sampled_from(_TELLERS), st.sampled_from(tuple(Family))),
    st.builds(PeerRemoved, st.sampled_from(_TELLERS)),
    st.just(SpeakerLost("gone")),
)
_ETH0 = Interface(2, "eth0", up=True, addresses=(ip_interface("10.0.0.2/24"), ip_interface("fd00::2/64")))
_LINKED = replace(_ETH0, addresses=(*_ETH0.addresses, ip_interface("fe80::2/64")))
_INTERFACES = (
    (_ETH0,),
    (_LINKED,),
    (replace(_LINKED, up=False),),
    (replace(_LINKED, index=7),),
    (_LINKED, Interface(7, "veth1", up=True, addresses=(ip_interface("fe80::3/64"),))),
    (_ETH0, Interface(7, "veth1", up=True, addresses=(ip_interface("fe80::1/64"),))),
    (_ETH0, Interface(8, "br0", up=True, addresses=(ip_interface("10.244.1.1/24"),))),
    (_ETH0, Interface(9, "lo", up=True, addresses=(ip_interface("127.0.0.1/8"), ip_interface("172.31.0.1/32")))),
    (replace(_ETH0, up=False),),
    (_ETH0, Interface(5, "kube-ipvs0", up=False, addresses=tuple(map(ip_interface, ("10.96.0.1/32", "fd02::1/128"))))),
    (),
)


@dataclass(slots=True)
class Cluster:
    """The picture a history plays on, and what of it is dirty since `take`."""

    world: World = field(default_factory=World)
    rib: Rib = field(default_factory=Rib)
    interfaces: tuple[Interface, ...] = (_ETH0,)
    gateways: tuple[Gateway, ...] = ()
    small: frozenset[Area] = frozenset()
    mesh: Mapping[str, SessionClaim] = field(default_factory=dict)
    identity: Identity | None = None
    over: frozenset[str] = frozenset()
    written: Mapping[str, Address] = field(default_factory=dict)
    departure: Departure = HERE
    dirty: Dirty = field(default_factory=Dirty)

    @property
    def picture(self) -> Picture:
        return Picture(
            OWN,
            self.world,
            self.rib,
            self.interfaces,
            self.gateways,
            small=self.small,
            mesh=self.mesh,
            identity=self.identity,
            over=self.over,
            written=self.written,
            departure=self.departure,
        )

    def set(self, record: Record) -> None:
        changed = self.world.apply(Applied(key_of(record), record))
        self.dirty = replace(self.dirty, keys=self.dirty.keys | changed)

    def remove(self, key: Key) -> None:
        self.dirty = replace(self.dirty, keys=self.dirty.keys | self.world.apply(Gone(key)))

    def hear(self, event: BgpEvent) -> None:
        self.dirty = replace(self.dirty, prefixes=self.dirty.prefixes | frozenset(self.rib.apply(event, 0.0)))

    def link(self, interfaces: tuple[Interface, ...]) -> None:
        self.interfaces = interfaces
        self.dirty = replace(self.dirty, interfaces=True)

    def lead(self, gateways: tuple[Gateway, ...]) -> None:
        """Where the default routes lead now."""
        self.gateways = gateways
        self.dirty = replace(self.dirty, gateways=True)

    def remember(self, small: frozenset[Area]) -> None:
        """Never dirty: the planner sees it by itself."""
        self.small = small

    def let_go(self, over: frozenset[str]) -> None:
        """Sessions with these nodes end when they are no longer wanted; never dirty."""
        self.over = over

    def leave(self, departure: Departure) -> None:
        """What of leaving is not in the cluster's objects; never dirty."""
        self.departure = departure

    def planned(self, plan: NodePlan) -> None:
        """What the next plan starts from."""
        self.mesh, self.identity, self.written = dict(plan.mesh), plan.identity, plan.written

    def suspect_everything(self) -> None:
        """Then nothing else needs to be named."""
        self.dirty = Dirty(everything=True)

    def touch(self, record: Record) -> None:
        """Called dirty without being so."""
        self.dirty = replace(self.dirty, keys=self.dirty.keys | {key_of(record)})

    def take(self) -> Dirty:
        dirty, self.dirty = self.dirty, Dirty()
        return dirty


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that happens; a failing test prints it."""

    what: str
    thing: object

    def __call__(self, cluster: Cluster) -> None:
        act: Callable[..., None] = getattr(cluster, self.what)
        act(*(() if self.thing is None else (self.thing,)))


steps = st.one_of(
    st.builds(Step, st.just("set"), _records),
    st.builds(Step, st.just("set"), _records),
    st.builds(Step, st.just("set"), _records),
    st.builds(Step, st.just("hear"), _events),
    st.builds(Step, st.just("hear"), _events),
    st.builds(Step, st.just("remove"), _records.map(key_of)),
    st.builds(Step, st.just("touch"), _records),
    st.builds(Step, st.just("link"), st.sampled_from(_INTERFACES)),
    st.builds(Step, st.just("lead"), _some(_GATEWAYS)),
    st.builds(Step, st.just("suspect_everything"), st.none()),
    st.builds(Step, st.just("remember"), st.frozensets(st.sampled_from(_AREAS))),
    st.builds(Step, st.just("let_go"), st.frozensets(st.sampled_from(NODES))),
    st.builds(Step, st.just("leave"), _departures),
)
_SEED = (
    Node(name="n1", created=1.0, addresses=_home("n1"), pod_cidrs=(_CIDRS[1], _CIDRS[5]), labels=_TOR_VALUES[1]),
    Node(name="n2", created=1.0, addresses=_home("n2"), pod_cidrs=(_CIDRS[0],)),
    Advertisement(
        name="a0", type=AdvertisementType.SERVICE, service=ServiceChoice(addresses=frozenset(ServiceAddress))
    ),
    Instance(name="i0", allowed_external_ips=_RANGES[1:2]),
    ExternalPeer(
        name="p0", address=_TOR, asn=65001, import_pod_cidrs=True, import_allowed=(AllowedPrefix(_RANGES[-1], 0, 32),)
    ),
    ExternalPeer(name="p1", address_from=NodeValue(annotation=False, key="tor"), asn=65001),
    Service(
        namespace="default",
        name="s0",
        cluster_ips=_SERVICE_ADDRESSES[:1],
        external_ips=_SERVICE_ADDRESSES[2:4],
        load_balancer_ips=_SERVICE_ADDRESSES[4:5],
        external_policy=TrafficPolicy.LOCAL,
    ),
    EndpointSlice(namespace="default", name="e0", service="s0", family=Family.IPV4, ready=frozenset({OWN})),
)
SEED = (
    *(Step("set", record) for record in _SEED),
    Step("hear", _heard(Path(_home("n2")[0], _home("n2")[0], Attributes()), _CIDRS[:4], ())),
    Step("hear", _heard(Path(_TOR, _TOR, Attributes(as_path=(65001,))), (*_CIDRS[:4], *_HEARD[:7]), ())),
)
"""A cluster that works, so that most histories have something to break."""
histories = st.lists(st.lists(steps, min_size=1, max_size=3), min_size=1, max_size=20)
