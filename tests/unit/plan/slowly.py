"""What each peer of a node should be told, written down a second time: from the rules for users alone, and slowly.

One pass over the records for every question, and nothing shared with `agent.plan`. It knows one node whose addresses,
pod CIDRs and sessions nobody contests; who has those is tested elsewhere.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import ip_network
from typing import NamedTuple, TypeVar

from agent.advertising import Advertisement, AdvertisementType, ServiceAddress, Terms, WhenNoEndpoints
from agent.intent import ExternalPeer, Instance, PeerAs, PodRoutes, Selector, ServiceRoutes
from agent.model import Namespace, Node, Record, Service, ServiceCidr, TrafficPolicy
from bgp.model import Address, Community, Family, LargeCommunity, Prefix

R = TypeVar("R", bound=Record)


class Said(NamedTuple):
    communities: frozenset[Community] = frozenset()
    large_communities: frozenset[LargeCommunity] = frozenset()
    local_pref: int | None = None
    med: int | None = None
    prepend: int = 0


class Wish(NamedTuple):
    prefix: Prefix
    peers: Selector
    terms: Terms


class Vip(NamedTuple):
    """An address of a Service that is announced, as it is or in an aggregate."""

    wish: Wish
    address: Address
    kind: ServiceAddress
    local: bool
    """Its external policy."""
    together: bool


class Endpoint(NamedTuple):
    """As Kubernetes has it, None where it says nothing."""

    node: str | None
    ready: bool | None
    serving: bool | None
    terminating: bool | None


class Slice(NamedTuple):
    """An EndpointSlice as Kubernetes has it, with the Service that its label names."""

    namespace: str
    name: str
    service: str | None
    address_type: str
    endpoints: tuple[Endpoint, ...]


@dataclass(frozen=True, slots=True)
class Truth:
    """All there is, as one node sees it."""

    own: str
    subnets: Collection[Prefix]
    """That the node is connected to."""
    things: Collection[Record | Slice]

    def every(self, kind: type[R]) -> list[R]:
        return [thing for thing in self.things if isinstance(thing, kind)]

    @property
    def node(self) -> Node:
        return next(node for node in self.every(Node) if node.name == self.own)

    @property
    def instance(self) -> Instance:
        return next(iter(self.every(Instance)), Instance(name=""))

    def here(self, kind: AdvertisementType) -> list[Advertisement]:
        labels = dict(self.node.labels)
        return [it for it in self.every(Advertisement) if it.type is kind and it.node_selector.matches(labels)]


def told(truth: Truth) -> dict[Address, Mapping[Prefix, Said]]:
    services = [*_services(truth)]
    wishes = [*_pods(truth), *_prefixes(truth), *(vip.wish for vip in services)]
    answer: dict[Address, Mapping[Prefix, Said]] = {}
    for peer in truth.every(ExternalPeer):
        if peer.address is not None and peer.node_selector.matches(dict(truth.node.labels)):
            answer[peer.address] = _told_to(peer, wishes, truth.instance)
    for node in truth.every(Node):
        if node.name != truth.own:
            mesh = [*truth.node.pod_cidrs] if truth.instance.pod_routes is PodRoutes.BGP else []
            if truth.instance.service_routes is not ServiceRoutes.OFF:
                mesh += [ip_network(vip.address) for vip in services]
            answer[node.addresses[0]] = {prefix: Said(local_pref=100) for prefix in mesh}
    return answer


def ended(truth: Truth) -> dict[Prefix, str]:
    """Where packets for nobody end here, or they would go in circles: the type of the kernel's route, `-forwarded`
    where it is for what comes from elsewhere only.
    """
    found = defaultdict[Prefix, set[str]](set)
    for cidr in truth.node.pod_cidrs if truth.instance.pod_routes is PodRoutes.BGP else ():
        found[cidr].add("unreachable")
    for wish in _prefixes(truth):
        found[wish.prefix].add("unreachable-forwarded")
    for vip in _services(truth):
        if vip.together:
            found[vip.wish.prefix].add("unreachable-forwarded")
        alone = not vip.together or truth.instance.service_routes is not ServiceRoutes.OFF
        if alone and vip.kind is not ServiceAddress.CLUSTER_IP:
            found[ip_network(vip.address)].add("blackhole-forwarded" if vip.local else "unreachable-forwarded")
    strongest = ("unreachable", "unreachable-forwarded", "blackhole-forwarded")
    return {prefix: min(kinds, key=strongest.index) for prefix, kinds in found.items() if prefix.prefixlen}


def _told_to(peer: ExternalPeer, wishes: Collection[Wish], instance: Instance) -> dict[Prefix, Said]:
    internal = peer.asn is PeerAs.INTERNAL or peer.asn == (peer.local_asn or instance.asn)
    wanted = defaultdict[Prefix, list[Terms]](list)
    for wish in wishes:
        if wish.peers.matches(dict(peer.labels)) and Family.of(wish.prefix) in (peer.families or frozenset(Family)):
            wanted[wish.prefix].append(wish.terms)
    return {prefix: _joined(terms, internal) for prefix, terms in wanted.items()}


def _joined(terms: Collection[Terms], internal: bool) -> Said:
    prefs = [one.local_pref for one in terms if one.local_pref is not None]
    meds = [one.med for one in terms if one.med is not None]
    return Said(
        communities=frozenset(community for one in terms for community in one.communities),
        large_communities=frozenset(community for one in terms for community in one.large_communities),
        local_pref=max(prefs or [100]) if internal else None,
        med=min(meds) if meds else None,
        prepend=0 if internal else max(one.prepend for one in terms),
    )


def _pods(truth: Truth) -> Iterator[Wish]:
    if truth.instance.pod_routes is not PodRoutes.BGP:
        return
    for cidr in truth.node.pod_cidrs:
        if not any(it.type is AdvertisementType.POD_CIDR for it in truth.every(Advertisement)):
            yield Wish(cidr, Selector(), Terms())
        for advertisement in truth.here(AdvertisementType.POD_CIDR):
            yield Wish(cidr, *advertisement.to_peers)


def _is_tainted(truth: Truth) -> bool:
    return bool(set(truth.node.taints) & set(truth.instance.drain_on_taints))


def _prefixes(truth: Truth) -> Iterator[Wish]:
    if _is_tainted(truth):
        return
    for advertisement in truth.here(AdvertisementType.PREFIX):
        for prefix in advertisement.prefixes:
            if not _would_draw(truth, prefix):
                yield Wish(prefix, *advertisement.to_peers)


def _would_draw(truth: Truth, prefix: Prefix) -> bool:
    """Routers would come here for neighbours, for other nodes' pods, or for nodes and routers far away."""
    if any(prefix in node.pod_cidrs for node in truth.every(Node) if node.name != truth.own):
        return True
    pods = [cidr for node in truth.every(Node) for cidr in node.pod_cidrs]
    others = [address for node in truth.every(Node) if node.name != truth.own for address in node.addresses]
    others += [peer.address for peer in truth.every(ExternalPeer) if peer.address is not None]
    far = [one for one in map(ip_network, others) if not any(_within(one, subnet) for subnet in truth.subnets)]
    return any(_within(prefix, other) and prefix != other for other in (*truth.subnets, *pods)) or any(
        _within(one, prefix) for one in far
    )


def _services(truth: Truth) -> Iterator[Vip]:
    if any(key == "node.kubernetes.io/exclude-from-external-load-balancers" for key, _ in truth.node.labels):
        return
    if _is_tainted(truth):
        return
    for service in truth.every(Service):
        for advertisement in truth.here(AdvertisementType.SERVICE):
            for kind, address in _addresses(service):
                if _is_wanted(truth, advertisement, service, kind) and _may_be(truth, service, kind, address):
                    for wish in _service_wishes(truth, advertisement, service, kind, address):
                        local = service.external_policy is TrafficPolicy.LOCAL
                        together = Family.of(address) in dict(advertisement.service.aggregation)
                        yield Vip(wish, address, kind, local, together)


def _addresses(service: Service) -> Iterator[tuple[ServiceAddress, Address]]:
    for kind, addresses in (
        (ServiceAddress.CLUSTER_IP, service.cluster_ips),
        (ServiceAddress.EXTERNAL_IP, service.external_ips),
        (ServiceAddress.LOAD_BALANCER_IP, service.load_balancer_ips),
    ):
        for address in addresses:
            yield kind, address


def _is_wanted(truth: Truth, advertisement: Advertisement, service: Service, kind: ServiceAddress) -> bool:
    choice = advertisement.service
    labels = next(dict(it.labels) for it in truth.every(Namespace) if it.name == service.namespace)
    if not choice.selector.matches(dict(service.labels)) or not choice.namespace_selector.matches(labels):
        return False
    known = {"", "bgpilot.io/bgp", *choice.load_balancer_classes}
    if kind is ServiceAddress.LOAD_BALANCER_IP and service.load_balancer_class not in known:
        return False
    if service.requested is None:
        return kind in choice.addresses
    return kind in service.requested and (kind in choice.addresses or kind in choice.on_request)


def _may_be(truth: Truth, service: Service, kind: ServiceAddress, address: Address) -> bool:
    """Nobody may draw, by a Service, the traffic of somebody else."""
    if address.is_loopback or address.is_link_local or address.is_multicast:
        return False
    if kind is ServiceAddress.CLUSTER_IP:
        return True
    alone = ip_network(address)
    claimed = [
        *(cidr for node in truth.every(Node) for cidr in node.pod_cidrs),
        *(ip_network(its) for node in truth.every(Node) for its in node.addresses),
        *(ip_network(peer.address) for peer in truth.every(ExternalPeer) if peer.address is not None),
        *(cidr for ranges in truth.every(ServiceCidr) for cidr in ranges.cidrs),
        *truth.instance.service_cidrs,
        *(ip_network(its) for other in truth.every(Service) if other != service for its in other.cluster_ips),
    ]
    if kind is ServiceAddress.EXTERNAL_IP:
        claimed += truth.subnets
        if not any(_within(alone, allowed) for allowed in truth.instance.allowed_external_ips):
            return False
    return not any(_within(alone, other) for other in claimed)


def _service_wishes(
    truth: Truth, advertisement: Advertisement, service: Service, kind: ServiceAddress, address: Address
) -> Iterator[Wish]:
    policy = service.internal_policy if kind is ServiceAddress.CLUSTER_IP else service.external_policy
    length = dict(advertisement.service.aggregation).get(Family.of(address))
    anywhere, here = _usable(truth, service, Family.of(address))
    if policy is TrafficPolicy.LOCAL and (length is not None or not here):
        return
    if advertisement.service.when_no_endpoints is WhenNoEndpoints.WITHDRAW and not anywhere:
        return
    if length is None:
        yield Wish(ip_network(address), *advertisement.to_peers)
        return
    aggregate = ip_network(address).supernet(new_prefix=length)
    nodes = [*truth.subnets, *(ip_network(its) for node in truth.every(Node) for its in node.addresses)]
    nodes += [ip_network(peer.address) for peer in truth.every(ExternalPeer) if peer.address is not None]
    pods = [cidr for node in truth.every(Node) for cidr in node.pod_cidrs]
    if not any(_within(other, aggregate) or _within(aggregate, other) for other in (*nodes, *pods)):
        yield Wish(aggregate, *advertisement.to_peers)


def _usable(truth: Truth, service: Service, family: Family) -> tuple[bool, bool]:
    """Whether an endpoint can be used anywhere, and on this node."""
    endpoints = [
        endpoint
        for it in truth.things
        if isinstance(it, Slice) and (it.namespace, it.service) == (service.namespace, service.name)
        if it.address_type == {Family.IPV4: "IPv4", Family.IPV6: "IPv6"}[family]
        for endpoint in it.endpoints
    ]
    ready = [endpoint for endpoint in endpoints if endpoint.ready in {True, None}]
    going = [it for it in endpoints if it.terminating and it.serving in {True, None}]
    usable = ready or going
    return bool(usable), any(endpoint.node == truth.own for endpoint in usable)


def _within(inner: Prefix, outer: Prefix) -> bool:
    return inner.version == outer.version and inner.subnet_of(outer)  # type: ignore[arg-type]  # of one version
