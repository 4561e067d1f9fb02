"""Which addresses of a Service this node announces, to whom, and why not the others.

An address is announced as soon as one advertisement has it; what several say of it is merged later
(`agent.plan.adverts`). A service's address goes to external peers, and into the mesh only where the BGPInstance says
so (`serviceRoutes`), for kube-proxy answers for it on every node; there each address is a host route, also one that
routers are told as part of an aggregate. It refuses to know peers and routes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple, TypeAlias

from agent.advertising import OWN_LOAD_BALANCER_CLASS, Advertisement, ServiceAddress, ToPeers, WhenNoEndpoints
from agent.model import EndpointSlice, Key, Kind, Namespace, RouteType, Service, TrafficPolicy
from agent.plan.adverts import NOTHING, Offer, Part, Share
from agent.plan.identity import Announcing
from agent.plan.prefixes import host, inside_any
from bgp.check import Reason, martian
from bgp.model import Address, Family, Prefix


class Taken(NamedTuple):
    """What says that an address cannot be this service's."""

    by_node: Callable[[Address], str | None]
    """`Claims.taken`: the reason word."""
    by_other_service: Callable[[Key, Address], bool]
    """`ClusterIPs.of_another`."""
    by_anybody: Callable[[Announcing, Prefix], bool]
    """`guards.too_wide`, of an aggregate."""


@dataclass(frozen=True, slots=True)
class Subject:
    """One Service, with all that is decided by."""

    service: Service
    namespace: Namespace | None
    slices: tuple[EndpointSlice, ...]

    @property
    def key(self) -> Key:
        return Key(Kind.SERVICE, self.service.namespace, self.service.name)


def service_offer(announcing: Announcing, subject: Subject, taken: Taken) -> Offer:
    wishes = _wishes(announcing, subject)
    if not wishes:
        return NOTHING
    case = _Case(announcing, subject, taken, _endpoints(announcing, subject.slices))
    sources, to_peers = defaultdict[Prefix, list[str]](list), defaultdict[Prefix, set[ToPeers]](set)
    shares, considered, ends = set[Share](), set[Prefix](), dict[Prefix, RouteType | None]()
    abroad = set[Prefix]()
    silent, in_vain = defaultdict[Address, _Said](dict), dict[Address, str]()
    unserved = set[Address]()
    to_mesh = announcing.to_mesh
    for class_, address in _addresses(subject.service):
        asked = [wish for wish in wishes if class_ in wish.classes or class_ in wish.declined]
        why = case.silence(class_, address) if asked else None
        if why in _UNSERVED:
            unserved.add(address)
        judged = [
            (wish.by, case.not_meant(wish, class_) or why or case.not_by(wish, class_, address)) for wish in asked
        ]
        considered.update(found for wish in asked if (found := _aggregate(wish.by, address)) is not None)
        for advertisement, no in judged:
            if no is not None:
                silent[address].setdefault(advertisement.name, no)
                continue
            silent[address][advertisement.name] = None
            sources[host(address)].append(f"{subject.key} ({class_})")
            if case.policy(class_) is not TrafficPolicy.LOCAL:
                abroad.add(host(address))
            if (aggregate := _aggregate(advertisement, address)) is not None:
                shares.add(Share(advertisement.name, aggregate))
            else:
                to_peers[host(address)].add(advertisement.to_peers)
            if aggregate is None or to_mesh:
                ends[host(address)] = case.discarded(class_)
        if not judged and _is_in_vain(wishes, class_, subject.service.requested):
            in_vain[address] = "requestNotAllowed"
    parts = {
        prefix: Part(
            tuple(dict.fromkeys(sources[prefix])),
            frozenset(to_peers[prefix]),
            to_mesh,
            ends[prefix],
            local=prefix not in abroad,
        )
        for prefix in (sources if to_mesh else to_peers)
    }
    starved = [address for address in unserved if None not in silent[address].values()]
    parts.update((host(address), Part((), starved=str(subject.key))) for address in starved)
    silent.update((address, {"": no}) for address, no in in_vain.items() if address not in silent)
    return Offer(
        parts,
        {(subject.key, what): no for what, no in _not_announced(wishes, subject.service, silent)},
        frozenset(shares),
        frozenset(considered),
        frozenset(wish.by.name for wish in wishes),
    )


_Said: TypeAlias = dict[str, str | None]
"""What each advertisement says of one address: the reason word, or None: it announces it."""


def _not_announced(
    wishes: Iterable[_Wish], service: Service, silent: Mapping[Address, _Said]
) -> Iterator[tuple[str, str]]:
    yield from _without_address(wishes, service)
    for address, said in silent.items():
        yield from _refusals(address, said)


def _refusals(address: Address, said: _Said) -> Iterator[tuple[str, str]]:
    """All of them say the same; or each says its own, beside those that announce the address."""
    if len(words := set(said.values())) == 1:
        yield from ((str(address), no) for no in words if no is not None)
        return
    for name, no in said.items():
        if no is not None:
            yield what_of(address, name), no


def what_of(address: Address, advertisement: str) -> str:
    """What is not announced, where this holds for one of several advertisements only: see `NodePlan.not_advertised`."""
    return f"{address} ({Kind.ADVERTISEMENT} {advertisement})"


def split_what(what: str) -> tuple[str, str]:
    """The address, or whatever else stands for it, and the name of the one advertisement, if it is one only."""
    address, _, rest = what.partition(f" ({Kind.ADVERTISEMENT} ")
    return address, rest.removesuffix(")")


def _without_address(wishes: Iterable[_Wish], service: Service) -> Iterator[tuple[str, str]]:
    """What advertisements ask for and no node answers for, or has not been given yet."""
    for what, no in service.left_out:
        class_ = ServiceAddress.CLUSTER_IP if no in _NEVER else ServiceAddress.LOAD_BALANCER_IP
        if any(class_ in wish.classes and _may_have(wish.by, service, class_) for wish in wishes):
            yield what, no


_NEVER: Final = frozenset({"headlessService", "externalName"})
"""Reason words of Services without any address."""


def _may_have(by: Advertisement, service: Service, class_: ServiceAddress) -> bool:
    """The advertisement does not leave this class of addresses of the Service to others."""
    known = _OURS | by.service.load_balancer_classes
    return class_ is not ServiceAddress.LOAD_BALANCER_IP or service.load_balancer_class in known


class _Wish(NamedTuple):
    by: Advertisement
    classes: frozenset[ServiceAddress]
    declined: frozenset[ServiceAddress]
    """Those that the advertisement has and the Service itself does not want announced."""


def _wishes(announcing: Announcing, subject: Subject) -> tuple[_Wish, ...]:
    labels = dict(subject.service.labels)
    around = dict(subject.namespace.labels) if subject.namespace is not None else {}
    return tuple(
        _wish(advertisement, subject.service.requested)
        for advertisement in announcing.advertisements
        if advertisement.service.selector.matches(labels) and advertisement.service.namespace_selector.matches(around)
    )


def wanted_classes(by: Advertisement, requested: frozenset[ServiceAddress] | None) -> frozenset[ServiceAddress]:
    """Which classes of addresses it announces of a Service whose annotation says `requested`."""
    return _wish(by, requested).classes


def _wish(by: Advertisement, requested: frozenset[ServiceAddress] | None) -> _Wish:
    if requested is None:
        return _Wish(by, by.service.addresses, frozenset())
    wanted = (by.service.addresses | by.service.on_request) & requested
    return _Wish(by, wanted, by.service.addresses - wanted)


def _is_in_vain(wishes: Iterable[_Wish], class_: ServiceAddress, requested: frozenset[ServiceAddress] | None) -> bool:
    """The Service asks for the class, and no advertisement that selects it has it.

    Who asks for all classes means those that there are: it is in vain only when there is none.
    """
    if requested is None or class_ not in requested:
        return False
    return requested != frozenset(ServiceAddress) or not any(wish.classes for wish in wishes)


class _Endpoints(NamedTuple):
    """Families with a usable endpoint."""

    here: frozenset[Family]
    anywhere: frozenset[Family]
    announced: frozenset[Family]
    """On a node that may announce."""

    def lacking_here(self, family: Family) -> str | None:
        """The reason word why an address with traffic policy Local is not announced from here."""
        if family not in self.anywhere:
            return "noEndpoint"
        if family not in self.announced:
            return "endpointsExcluded"
        return None if family in self.here else "noLocalEndpoint"


_UNSERVED: Final = frozenset({"endpointsExcluded", "noEndpoint", "noLocalEndpoint"})
"""Under policy Local what comes for the address here is dropped."""


def _endpoints(announcing: Announcing, slices: Iterable[EndpointSlice]) -> _Endpoints:
    """Each family for itself, as kube-proxy does (KEP-1669).

    Usable is who is ready; or, when none is ready anywhere, who is serving while terminating.
    """
    found = tuple(slices)
    ready_somewhere = {part.family for part in found if part.ready}
    usable = [
        (part.family, part.ready if part.family in ready_somewhere else part.serving)
        for part in found
        if part.family is not None
    ]
    return _Endpoints(
        here=frozenset(family for family, nodes in usable if announcing.node in nodes),
        anywhere=frozenset(family for family, nodes in usable if nodes),
        announced=frozenset(family for family, nodes in usable if nodes - announcing.excluded_nodes),
    )


_OURS: Final = frozenset({"", OWN_LOAD_BALANCER_CLASS})


@dataclass(frozen=True, slots=True)
class _Case:
    """One Service on this node."""

    announcing: Announcing
    subject: Subject
    taken: Taken
    endpoints: _Endpoints

    def silence(self, class_: ServiceAddress, address: Address) -> str | None:
        """The reason word why no advertisement whatever can announce the address from here."""
        announcing = self.announcing
        if announcing.excluded is not None:
            return announcing.excluded
        if martian(host(address)):
            return Reason.MARTIAN_PREFIX
        if class_ is not ServiceAddress.CLUSTER_IP and (why := self._occupied(address)):
            return why  # LoadBalancerIPs too: some controllers (k3s' servicelb) give a service the addresses of nodes
        if class_ is ServiceAddress.EXTERNAL_IP:
            prefix = host(address)
            if inside_any(prefix, announcing.subnets):
                return "nodeSubnet"
            if not inside_any(prefix, announcing.allowed_external_ips):
                return "externalIPNotAllowed"
        if self.policy(class_) is TrafficPolicy.LOCAL:
            return self.endpoints.lacking_here(Family.of(address))
        return None

    def not_meant(self, wish: _Wish, class_: ServiceAddress) -> str | None:
        """The reason word why this advertisement leaves the Service's addresses of the class alone."""
        if class_ in wish.declined:
            return "optedOut"
        return None if _may_have(wish.by, self.subject.service, class_) else "otherLoadBalancerClass"

    def not_by(self, wish: _Wish, class_: ServiceAddress, address: Address) -> str | None:
        """The reason word why this advertisement does not announce an address that it means."""
        choice, family = wish.by.service, Family.of(address)
        if choice.when_no_endpoints is WhenNoEndpoints.WITHDRAW and family not in self.endpoints.anywhere:
            return "noEndpoint"
        if (aggregate := _aggregate(wish.by, address)) is None:
            return None
        if self.policy(class_) is TrafficPolicy.LOCAL:
            return "aggregateOfLocal"
        if self.taken.by_anybody(self.announcing, aggregate):
            return "aggregateTooWide"
        return None

    def discarded(self, class_: ServiceAddress) -> RouteType | None:
        """How what comes for the address ends that kube-proxy leaves alone, such as what is for no port of the Service.

        Not of ClusterIPs: most ways of kube-proxy end that themselves, and some networks have a route to their range
        that must go on to count. With policy Local kube-proxy drops what no endpoint here is for, so that the client
        tries again, and comes to another node: an answer would have it give up.
        """
        if class_ is ServiceAddress.CLUSTER_IP:
            return None
        local = self.policy(class_) is TrafficPolicy.LOCAL
        return RouteType.BLACKHOLE_FORWARDED if local else RouteType.UNREACHABLE_FORWARDED

    def policy(self, class_: ServiceAddress) -> TrafficPolicy:
        service = self.subject.service
        return service.internal_policy if class_ is ServiceAddress.CLUSTER_IP else service.external_policy

    def _occupied(self, address: Address) -> str | None:
        """The reason word why `address` is somebody else's already, whoever gave it to the service."""
        if why := self.taken.by_node(address):
            return why
        if address in self.announcing.router_addresses:
            return "peerAddress"
        if inside_any(host(address), self.announcing.service_ranges):
            return "serviceRange"
        return "serviceRange" if self.taken.by_other_service(self.subject.key, address) else None


def _aggregate(advertisement: Advertisement, address: Address) -> Prefix | None:
    """What is announced instead of the address itself, if anything."""
    length = dict(advertisement.service.aggregation).get(Family.of(address))
    return None if length is None else host(address).supernet(new_prefix=length)


def _addresses(service: Service) -> Iterator[tuple[ServiceAddress, Address]]:
    yield from ((ServiceAddress.CLUSTER_IP, address) for address in service.cluster_ips)
    yield from ((ServiceAddress.EXTERNAL_IP, address) for address in service.external_ips)
    yield from ((ServiceAddress.LOAD_BALANCER_IP, address) for address in service.load_balancer_ips)
