"""Clusters of any size as the planner sees them: records of nodes, services and slices, and a router's routes.

Sizes alone decide what is in them, so that two runs plan the same. Nothing here is an API object (`apiobjects`).
"""

from __future__ import annotations

import itertools
from ipaddress import IPv4Address, IPv4Interface, IPv4Network

from agent.advertising import Advertisement, AdvertisementType, ServiceAddress, ServiceChoice
from agent.cluster.world import World
from agent.intent import (
    AllowedPrefix,
    ExternalPeer,
)
from agent.model import (
    ALWAYS_WATCHED,
    EndpointSlice,
    Interface,
    Key,
    Kind,
    Listed,
    Node,
    Record,
    Service,
    ServiceCidr,
)
from agent.plan.picture import Picture
from bgp.model import Attributes, Family, Path, PathsHeard, SessionUp
from bgp.rib import Rib

NODE_NETWORK = IPv4Network("172.16.0.0/16")
POD_NETWORK = IPv4Network("10.128.0.0/9")
SERVICE_NETWORK = IPv4Network("10.96.0.0/12")
ROUTER = IPv4Address("172.16.255.254")
ROUTER_ASN = 64600
EVERYTHING = IPv4Network("0.0.0.0/0")
LEARNED_NETWORK = IPv4Network("32.0.0.0/7")
ROUTES_PER_UPDATE = 500


def node(number: int) -> Node:
    return Node(
        name=f"node-{number}",
        created=float(number),
        addresses=(NODE_NETWORK[number + 1],),
        pod_cidrs=(IPv4Network((int(POD_NETWORK[0]) + (number << 8), 24)),),
        labels=(("kubernetes.io/hostname", f"node-{number}"), ("kubernetes.io/os", "linux")),
    )


def service(number: int) -> Service:
    return Service(
        namespace=f"ns-{number % 50}",
        name=f"service-{number}",
        cluster_ips=(SERVICE_NETWORK[number + 10],),
        labels=(("app", f"app-{number}"),),
    )


def slice_of(number: int, *nodes: int) -> EndpointSlice:
    return EndpointSlice(
        namespace=f"ns-{number % 50}",
        name=f"service-{number}-abcde",
        service=f"service-{number}",
        family=Family.IPV4,
        ready=frozenset(f"node-{each}" for each in nodes),
    )


def key_of(record: Node | Service | EndpointSlice) -> Key:
    match record:
        case Node():
            return Key(Kind.NODE, "", record.name)
        case Service():
            return Key(Kind.SERVICE, record.namespace, record.name)
        case EndpointSlice():
            return Key(Kind.ENDPOINT_SLICE, record.namespace, record.name)


def cluster(nodes: int, services: int) -> Picture:
    """As node-0 sees it: full mesh, one router that gets all ClusterIPs and may announce everything."""
    world = World()
    lists: dict[Kind, dict[Key, Record]] = {kind: {} for kind in ALWAYS_WATCHED}
    for record in itertools.chain(
        map(node, range(nodes)),
        map(service, range(services)),
        (slice_of(number, number % nodes, (number + 1) % nodes) for number in range(services)),
    ):
        key = key_of(record)
        lists[key.kind][key] = record
    lists[Kind.SERVICE_CIDR][Key(Kind.SERVICE_CIDR, "", "kubernetes")] = ServiceCidr(
        name="kubernetes", cidrs=(SERVICE_NETWORK,)
    )
    everything = AllowedPrefix(EVERYTHING, 1, 32)
    lists[Kind.PEER][Key(Kind.PEER, "", "router")] = ExternalPeer(
        name="router", address=ROUTER, asn=ROUTER_ASN, import_allowed=(everything,)
    )
    lists[Kind.ADVERTISEMENT][Key(Kind.ADVERTISEMENT, "", "services")] = Advertisement(
        name="services",
        type=AdvertisementType.SERVICE,
        service=ServiceChoice(addresses=frozenset({ServiceAddress.CLUSTER_IP})),
    )
    for kind, records in lists.items():
        world.apply(Listed(kind, records))
    own = IPv4Interface(f"{node(0).addresses[0]}/{NODE_NETWORK.prefixlen}")
    return Picture("node-0", world, Rib(), (Interface(2, "eth0", up=True, addresses=(own,)),))


def hear_mesh(rib: Rib, nodes: int) -> None:
    """Every other node has told its pod CIDR."""
    for number in range(1, nodes):
        other = node(number)
        _come_up(rib, other.addresses[0], 64512)
        path = Path(other.addresses[0], other.addresses[0], Attributes(local_pref=100))
        rib.apply(PathsHeard(other.addresses[0], (), ((path, other.pod_cidrs),)), 0.0)


def hear_router(rib: Rib, routes: int) -> None:
    """The router has told so many routes."""
    _come_up(rib, ROUTER, ROUTER_ASN)
    prefixes = itertools.islice(LEARNED_NETWORK.subnets(new_prefix=24), routes)
    number = 0
    while chunk := tuple(itertools.islice(prefixes, ROUTES_PER_UPDATE)):
        path = Path(ROUTER, ROUTER, Attributes(as_path=(ROUTER_ASN, 65100 + number % 10)))
        rib.apply(PathsHeard(ROUTER, (), ((path, chunk),)), 0.0)
        number += 1


def _come_up(rib: Rib, peer: IPv4Address, asn: int) -> None:
    rib.apply(
        SessionUp(peer=peer, router_id=peer, peer_asn=asn, hold_seconds=90, families=frozenset({Family.IPV4})), 0.0
    )
