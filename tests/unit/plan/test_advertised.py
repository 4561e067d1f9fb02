"""What is told to each peer, and what ends on the node, against a second definition from the rules alone, for random
clusters.

Small pools, so that VIPs are shared, lie where they must not be, and are wanted by several advertisements at once. The
clusters come from a seed: a hundred times faster than strategies of parts; what fails is made small here.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from ipaddress import ip_address, ip_interface, ip_network
from random import Random
from typing import TypeVar

from hypothesis import example, given, settings
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
from agent.cluster.parse import SERVICE_NAME_LABEL, read_object
from agent.intent import ExternalPeer, Instance, PeerAs, PodRoutes, Selector, ServiceRoutes
from agent.model import (
    DISCARD_METRIC,
    EndpointSlice,
    Interface,
    Kind,
    Namespace,
    Node,
    Record,
    Service,
    ServiceCidr,
    TrafficPolicy,
)
from agent.plan.definition import make_plan
from agent.plan.planner import Planner
from bgp.model import Address, Community, Family, LargeCommunity, Prefix
from tests.unit.plan.histories import OWN, Cluster, key_of
from tests.unit.plan.slowly import Endpoint, Said, Slice, Truth, ended, told

T = TypeVar("T")

_MANY = settings(max_examples=settings().max_examples * 5, deadline=None)
_SOME = settings(max_examples=settings().max_examples, deadline=None)
_ETH0 = Interface(2, "eth0", up=True, addresses=(ip_interface("10.0.0.2/24"), ip_interface("fd00::2/64")))
_ETH1 = Interface(3, "eth1", up=True, addresses=(ip_interface("10.9.0.2/23"),))
_LABELS = ((), (("rack", "a"),), (("rack", "b"),))
_EXCLUDED = (("node.kubernetes.io/exclude-from-external-load-balancers", ""),)
_SELECTORS = (
    *[Selector()] * 5,
    Selector(labels=(("rack", "a"),)),
    Selector(expressions=(("rack", "NotIn", ("a",)),)),
)
_VIPS = tuple(map(ip_address, ("192.0.2.1", "192.0.2.2", "192.0.2.129", "10.9.0.200", "2001:db8::1")))
_NOT_VIPS = tuple(
    map(ip_address, ("10.0.0.3", "10.0.0.99", "10.0.0.251", "10.244.2.9", "10.96.0.9", "10.97.0.1", "fd00::99"))
)
"""Of a node, of its network, of a router, of pods, of a service range, of a Service (s1), of the network again."""
_NOWHERE = tuple(map(ip_address, ("127.0.0.9", "169.254.7.7", "224.0.0.9", "fe80::9")))
"""Of no network at all."""
_COME_AND_GO = (Service, Slice, Advertisement, ServiceCidr, ExternalPeer)
_CLUSTER_IPS = {
    "s0": ("10.96.0.1", "fd02::1"),
    "s1": ("10.97.0.1", "fd02::2"),
    "s2": ("10.96.7.1", "fd02:0:0:1::1"),
}
_HARMLESS = ("198.18.0.0/15", "192.0.2.0/24", "192.0.2.1/32", "2001:db8::/64", "10.244.0.0/16", "10.244.1.0/24")
_HARMFUL = ("10.244.1.0/25", "10.244.2.128/25", "10.0.0.128/25", "fd00::/80", "10.9.0.0/16")
"""Parts of pod CIDRs and of the node's own networks; and around a node and a router that are far away."""
_AROUND = ("10.0.0.0/24", "fd00::/48", "10.0.0.0/16")
_PREFIXES = tuple(map(ip_network, (*_HARMLESS, *_HARMFUL, *_AROUND)))
_AGGREGATIONS = ((), (), ((Family.IPV4, 24),), ((Family.IPV4, 31), (Family.IPV6, 64)), ((Family.IPV4, 8),))
_OTHER = Node(
    name="n2",
    addresses=(ip_address("10.0.0.3"), ip_address("fd00::3")),
    pod_cidrs=(ip_network("10.244.2.0/24"), ip_network("fd01:0:0:2::/64")),
)
_FAR = replace(_OTHER, name="n3", addresses=(ip_address("10.9.0.4"), ip_address("fd09::4")), pod_cidrs=())


def _some(random: Random, pool: Sequence[T], most: int) -> tuple[T, ...]:
    return tuple(random.sample(pool, random.randint(0, most)))


def _one_in(random: Random, times: int, rare: T, usual: T) -> T:
    return rare if random.randrange(times) == 0 else usual


def _cluster(random: Random) -> tuple[Record | Slice, ...]:
    return (
        _own(random),
        *_some(random, (_OTHER, _FAR), 2),
        *(Namespace(name=name, labels=random.choice(_LABELS)) for name in ("default", "prod")),
        *_some(random, (_instance(random),), 1),
        *_some(random, (ServiceCidr(name="kubernetes", cidrs=(ip_network("10.96.0.0/16"),)),), 1),
        *(_service(random, name) for name in _CLUSTER_IPS),
        *_slices(random),
        *(_advertisement(random, f"a{number}") for number in range(random.randint(1, 4))),
        *(_peer(random, address) for address in ("10.0.0.251", "10.0.0.252", "10.9.1.7", "fd00::fd")),
    )


def _own(random: Random) -> Node:
    return Node(
        name=OWN,
        addresses=(ip_address("10.0.0.2"), ip_address("fd00::2")),
        pod_cidrs=_some(random, (ip_network("10.244.1.0/24"), ip_network("fd01:0:0:1::/64")), 2),
        labels=_one_in(random, 8, _EXCLUDED, random.choice(_LABELS)),
        taints=_one_in(random, 6, random.choice((("node.kubernetes.io/out-of-service",), ("maintenance",))), ()),
    )


def _instance(random: Random) -> Instance:
    return Instance(
        name="all",
        pod_routes=_one_in(random, 4, PodRoutes.OFF, PodRoutes.BGP),
        service_routes=random.choice(list(ServiceRoutes)),
        allowed_external_ips=_some(
            random, [*map(ip_network, ("192.0.2.0/25", "2001:db8::/32", "10.0.0.0/8", "0.0.0.0/0"))], 3
        ),
        drain_on_taints=random.choice((Instance(name="").drain_on_taints, ("maintenance",), ())),
        service_cidrs=_some(random, [*map(ip_network, ("10.97.0.0/16", "192.0.2.2/32"))], 1),
    )


def _service(random: Random, name: str) -> Service:
    """Of two families, of one, or headless."""
    both = tuple(map(ip_address, _CLUSTER_IPS[name]))
    return Service(
        namespace=_one_in(random, 3, "prod", "default"),
        name=name,
        uid=random.choice(("1", "2")),
        cluster_ips=random.choice((both, both, both[:1], both[1:], ())),
        external_ips=(*_some(random, _VIPS, 2), *_some(random, (*_NOT_VIPS, *_NOWHERE), 1)),
        load_balancer_ips=(*_some(random, _VIPS, 2), *_some(random, (*_NOT_VIPS, *_NOWHERE), 1)),
        internal_policy=random.choice(list(TrafficPolicy)),
        external_policy=random.choice(list(TrafficPolicy)),
        labels=random.choice(_LABELS),
        load_balancer_class=random.choice(("", "", "bgpilot.io/bgp", "other", "third")),
        requested=_one_in(random, 3, _classes(random), None),
    )


def _classes(random: Random) -> frozenset[ServiceAddress]:
    return frozenset(_some(random, list(ServiceAddress), 3))


def _slices(random: Random) -> list[Slice]:
    """Every other one is a part of what the one before is a part of."""
    found = [_slice(random, "e0")]
    for number in range(1, random.randint(2, 6)):
        other = _slice(random, f"e{number}")
        found.append(_one_in(random, 2, found[-1]._replace(name=other.name, endpoints=other.endpoints), other))
    return found


def _slice(random: Random, name: str) -> Slice:
    """Of one of the Services, of none, or of one that there is not; with endpoints here, elsewhere and on no node."""
    return Slice(
        namespace=_one_in(random, 3, "prod", "default"),
        name=name,
        service=random.choice((*_CLUSTER_IPS, *_CLUSTER_IPS, "s9", "", None)),
        address_type=_one_in(random, 8, "FQDN", random.choice(("IPv4", "IPv6"))),
        endpoints=tuple(_endpoint(random) for _ in range(random.randint(0, 3))),
    )


def _endpoint(random: Random) -> Endpoint:
    """Mostly not ready, or those that are terminating would never matter."""
    ready = _one_in(random, 3, random.choice((True, None)), False)
    return Endpoint(random.choice((OWN, OWN, "n2", "", None)), ready, *random.choices((True, False, None), k=2))


def _advertisement(random: Random, name: str) -> Advertisement:
    kind = _one_in(random, 3, random.choice(list(AdvertisementType)), AdvertisementType.SERVICE)
    return Advertisement(
        name=name,
        type=kind,
        node_selector=random.choice(_SELECTORS),
        to_peers=ToPeers(random.choice(_SELECTORS), _terms(random)),
        service=ServiceChoice(
            addresses=_classes(random),
            on_request=_classes(random),
            selector=random.choice(_SELECTORS),
            namespace_selector=random.choice(_SELECTORS),
            load_balancer_classes=frozenset(_some(random, ("other",), 1)),
            when_no_endpoints=random.choice(list(WhenNoEndpoints)),
            aggregation=random.choice(_AGGREGATIONS),
        ),
        prefixes=_some(random, _PREFIXES, 4),
    )


def _terms(random: Random) -> Terms:
    return Terms(
        communities=frozenset(_some(random, (Community(64512, 1), Community(64512, 2)), 2)),
        large_communities=frozenset(_some(random, (LargeCommunity(64512, 1, 2),), 1)),
        local_pref=random.choice((None, None, 50, 200)),
        med=random.choice((None, None, 0, 7)),
        prepend=random.choice((0, 0, 1, 3)),
    )


def _peer(random: Random, address: str) -> ExternalPeer:
    asn, local_asn = random.choice(((65001, None), (65001, 64999), (64512, None), (PeerAs.INTERNAL, None)))
    return ExternalPeer(
        name=address,
        address=ip_address(address),
        asn=asn,
        local_asn=local_asn,
        labels=random.choice(_LABELS),
        node_selector=random.choice(_SELECTORS),
        families=frozenset(_one_in(random, 4, random.sample(list(Family), 1), ())),
    )


def _record(thing: Record | Slice) -> Record:
    """As the agent reads it."""
    if not isinstance(thing, Slice):
        return thing
    metadata = {"namespace": thing.namespace, "name": thing.name}
    endpoints = [
        {"nodeName": node, "conditions": {"ready": ready, "serving": serving, "terminating": terminating}}
        for node, ready, serving, terminating in thing.endpoints
    ]
    whole = {
        "metadata": {**metadata, "labels": {} if thing.service is None else {SERVICE_NAME_LABEL: thing.service}},
        "addressType": thing.address_type,
        "endpoints": endpoints,
    }
    read = read_object(Kind.ENDPOINT_SLICE, json.dumps(whole).encode()).outcome
    assert isinstance(read, EndpointSlice)
    return read


def _actual(things: tuple[Record | Slice, ...]) -> dict[Address, dict[Prefix, Said]]:
    """What the plan has every peer told."""
    cluster = Cluster(interfaces=(_ETH0,))
    for thing in things:
        cluster.set(_record(thing))
    plan = make_plan(cluster.picture)
    answer: dict[Address, dict[Prefix, Said]] = {address: {} for address in plan.peers}
    for (address, prefix), route in plan.routes.items():
        found, external = route.attributes, not plan.peers[address].internal
        answer[address][prefix] = Said(
            communities=found.communities,
            large_communities=found.large_communities,
            local_pref=found.local_pref,
            med=found.med,
            prepend=len(found.as_path) - external,
        )
    return answer


def _ending(things: tuple[Record | Slice, ...]) -> dict[Prefix, str]:
    """What the plan has the kernel discard."""
    cluster = Cluster(interfaces=(_ETH0,))
    for thing in things:
        cluster.set(_record(thing))
    fib = make_plan(cluster.picture).fib
    return {key.prefix: str(route.type) for key, route in fib.items() if key.metric == DISCARD_METRIC}


def _wanted(things: tuple[Record | Slice, ...]) -> dict[Address, dict[Prefix, Said]]:
    return told(Truth(OWN, [address.network for address in _ETH0.addresses], things))


def _smallest(things: tuple[Record | Slice, ...]) -> tuple[Record | Slice, ...]:
    """That still differs, when these do."""
    for thing in things[1:]:
        fewer = tuple(other for other in things if other is not thing)
        used = {found.namespace for found in fewer if isinstance(found, Service)}
        kept = {found.name for found in fewer if isinstance(found, Namespace)}
        if used <= kept and _actual(fewer) != _wanted(fewer):
            return _smallest(fewer)
    return things


@_MANY
@given(st.integers(0, 2**32))
def test_each_peer_is_told_exactly_what_the_rules_say(seed: int) -> None:
    things = _cluster(Random(seed))  # noqa: S311  # reproducible, not secret
    if _actual(things) == _wanted(things):
        return
    things = _smallest(things)

    assert _wanted(things) == _actual(things), things


@_MANY
@given(st.integers(0, 2**32))
@example(10010347)  # a Service's ClusterIP is its LoadBalancerIP too, of which an aggregate alone is announced
def test_what_is_for_nobody_ends_here_exactly_where_the_rules_say(seed: int) -> None:
    things = _cluster(Random(seed))  # noqa: S311  # reproducible, not secret
    subnets = [address.network for address in _ETH0.addresses]

    assert _ending(things) == ended(Truth(OWN, subnets, things)), things


@_SOME
@given(st.integers(0, 2**32))
def test_after_any_few_changes_the_plan_is_that_of_the_definition(seed: int) -> None:
    random = Random(seed)  # noqa: S311  # reproducible, not secret
    cluster, planner = Cluster(interfaces=(_ETH0,)), Planner()
    for thing in _cluster(random):
        cluster.set(_record(thing))
    for _ in range(8):
        for thing in _some(random, _cluster(random), 2):
            cluster.set(_record(thing))
        for node in _some(random, (_OTHER, _FAR), 1):
            cluster.remove(key_of(node))
        for thing in _some(random, [it for it in _cluster(random) if isinstance(it, _COME_AND_GO)], 2):
            cluster.remove(key_of(_record(thing)))
        cluster.link(random.choice(((_ETH0,), (_ETH0,), (_ETH0, _ETH1))))
        cluster.planned(planner.plan)
        planner.update(cluster.picture, cluster.take())

        assert planner.plan == make_plan(cluster.picture)
