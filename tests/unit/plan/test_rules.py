"""Rules of the plan that a single scenario does not show: what happens over time, and what is never shown."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_interface, ip_network

import pytest

from agent.advertising import Advertisement, AdvertisementType, ServiceAddress, ServiceChoice
from agent.intent import (
    AllowedPrefix,
    ExternalPeer,
    Instance,
    SecretRef,
    ServiceRoutes,
)
from agent.model import (
    EndpointSlice,
    FibKey,
    Interface,
    Key,
    Kind,
    Node,
    Secret,
    Service,
    TrafficPolicy,
)
from agent.plan.model import PlanDelta
from agent.plan.picture import Dirty
from agent.plan.planner import Planner
from agent.plan.printer import describe
from bgp.model import Attributes, Family, Password, Path, PathsHeard, RouteKey
from tests.unit.plan.histories import Cluster

_OWN = Node(name="n1", created=1.0, addresses=(ip_address("10.0.0.2"),), pod_cidrs=(ip_network("10.244.1.0/24"),))
_OTHER = Node(name="n2", created=2.0, addresses=(ip_address("10.0.0.3"),), pod_cidrs=(ip_network("10.244.2.0/24"),))
_TOR = ExternalPeer(name="tor", address=ip_address("10.0.0.254"), asn=65001)
_ANYTHING = AllowedPrefix(ip_network("0.0.0.0/0"), 0, 32)
_SERVICES = Advertisement(
    name="all", type=AdvertisementType.SERVICE, service=ServiceChoice(addresses=frozenset(ServiceAddress))
)


def _planned(*records) -> tuple[Cluster, Planner]:
    cluster, planner = Cluster(), Planner()
    for record in records:
        cluster.set(record)
    planner.update(cluster.picture, cluster.take())
    return cluster, planner


def _update(cluster: Cluster, planner: Planner) -> PlanDelta:
    return planner.update(cluster.picture, cluster.take())


def test_a_route_is_installed_when_the_wider_claim_of_an_older_node_goes():
    older = Node(name="n0", created=0.0, addresses=(ip_address("10.0.0.1"),), pod_cidrs=(ip_network("10.244.2.0/23"),))
    cluster, planner = _planned(_OWN, _OTHER, older)
    peer = _OTHER.addresses[0]
    cluster.hear(PathsHeard(peer, (), ((Path(peer, peer, Attributes()), _OTHER.pod_cidrs),)))
    _update(cluster, planner)
    assert not any(route.next_hops for route in planner.plan.fib.values())

    cluster.remove(Key(Kind.NODE, "", "n0"))

    assert _update(cluster, planner).fib == {FibKey(_OTHER.pod_cidrs[0], 0)}


@pytest.mark.parametrize("cidr", ["10.244.2.0/23", "10.244.2.0/24", "10.244.2.0/26"])
def test_a_part_of_a_pod_cidr_leaves_the_kernel_when_its_node_joins_and_returns_when_it_goes(cidr: str):
    part = ip_network("10.244.2.5/32")
    all_admitted = replace(_TOR, import_allowed=(_ANYTHING,))
    cluster, planner = _planned(_OWN, all_admitted)
    cluster.hear(PathsHeard(_TOR.address, (), ((Path(_TOR.address, _TOR.address, Attributes()), (part,)),)))
    _update(cluster, planner)
    assert FibKey(part, 0) in planner.plan.fib

    cluster.set(replace(_OTHER, pod_cidrs=(ip_network(cidr, strict=False),)))
    _update(cluster, planner)
    assert FibKey(part, 0) not in planner.plan.fib
    assert planner.plan.refused_in[RouteKey(_TOR.address, part)] == "insidePodCIDR"

    cluster.remove(Key(Kind.NODE, "", _OTHER.name))
    _update(cluster, planner)
    assert FibKey(part, 0) in planner.plan.fib


def test_an_address_is_withdrawn_as_soon_as_it_is_the_cluster_ip_of_another_service():
    address = ip_address("192.0.2.1")
    cluster, planner = _planned(
        _OWN,
        _TOR,
        replace(_SERVICES, service=ServiceChoice(addresses=frozenset({ServiceAddress.LOAD_BALANCER_IP}))),
        Service(namespace="a", name="thief", load_balancer_ips=(address,)),
    )
    assert ip_network(address) in planner.plan.originated

    cluster.set(Service(namespace="a", name="owner", cluster_ips=(address,)))
    _update(cluster, planner)
    assert ip_network(address) not in planner.plan.originated

    cluster.remove(Key(Kind.SERVICE, "a", "owner"))
    _update(cluster, planner)
    assert ip_network(address) in planner.plan.originated


def test_with_everything_dirty_objects_that_are_gone_need_not_be_named():
    cluster, planner = _planned(
        _OWN, _TOR, _SERVICES, Service(namespace="a", name="b", cluster_ips=(ip_address("10.96.0.1"),))
    )
    cluster.remove(Key(Kind.SERVICE, "a", "b"))
    cluster.take()

    delta = planner.update(cluster.picture, Dirty(everything=True))

    assert delta.routes == {RouteKey(_TOR.address, ip_network("10.96.0.1/32"))}


@pytest.mark.parametrize(
    "unrelated",
    [
        Service(namespace="a", name="b", cluster_ips=(ip_address("10.96.0.1"),)),
        Node(name="n3", created=3.0, addresses=(ip_address("10.0.0.4"),)),
        ExternalPeer(name="tor-2", address=ip_address("10.0.0.253"), asn=65001),
        replace(_TOR, import_pod_cidrs=True),
        replace(_OTHER, pod_cidrs=(ip_network("10.244.9.0/24"),)),
        replace(_OWN, labels=(("rack", "a"),)),
        replace(_OWN, pod_cidrs=(ip_network("10.244.9.0/24"),)),
        Instance(name="main", allowed_external_ips=(ip_network("192.0.2.0/24"),)),
    ],
    ids=lambda record: f"{type(record).__name__} {record.name}",
)
def test_a_change_that_does_not_concern_a_session_leaves_it_as_it_is(unrelated):
    cluster, planner = _planned(_OWN, _OTHER, _TOR, _SERVICES)
    before = dict(planner.plan.peers)
    cluster.set(unrelated)
    _update(cluster, planner)

    assert before.items() <= planner.plan.peers.items()


def test_a_changed_secret_changes_only_the_sessions_that_use_it():
    with_password = replace(_TOR, name="other", address=ip_address("10.0.0.253"), password_ref=SecretRef("s", "k"))
    cluster, planner = _planned(_OWN, _OTHER, _TOR, with_password, Secret(name="s", values=(("k", Password("one")),)))
    before = dict(planner.plan.peers)
    cluster.set(Secret(name="s", values=(("k", Password("two")),)))
    _update(cluster, planner)

    after = planner.plan.peers
    assert {address for address in after if after[address] != before[address]} == {with_password.address}


def test_a_label_of_the_own_node_is_followed():
    cluster, planner = _planned(_OWN, _TOR)
    assert _TOR.address in planner.plan.peers
    selective = replace(_TOR, node_selector=replace(_TOR.node_selector, labels=(("rack", "a"),)))
    cluster.set(selective)
    _update(cluster, planner)
    assert _TOR.address not in planner.plan.peers

    cluster.set(replace(_OWN, labels=(("rack", "a"),)))

    assert _update(cluster, planner).peers
    assert _TOR.address in planner.plan.peers


def test_a_changed_next_hop_is_told_to_sessions_that_stay():
    dual = replace(_OWN, addresses=(*_OWN.addresses, ip_address("fd00::2")), pod_cidrs=(ip_network("fd01::/64"),))
    other = replace(_OTHER, addresses=(*_OTHER.addresses, ip_address("fd00::3")))
    cluster, planner = _planned(dual, other)
    cluster.set(replace(dual, addresses=(*_OWN.addresses, ip_address("fd00::7"))))

    delta = _update(cluster, planner)

    assert not delta.peers
    assert delta.routes == {RouteKey(_OTHER.addresses[0], ip_network("fd01::/64"))}


def test_one_prefix_lost_on_one_path_keeps_the_other_next_hop():
    second = replace(_OTHER, name="n3", addresses=(ip_address("10.0.0.4"),), pod_cidrs=())
    cluster, planner = _planned(_OWN, _OTHER, second)
    peers = (_OTHER.addresses[0], second.addresses[0])
    for peer in peers:
        cluster.hear(PathsHeard(peer, (), ((Path(peer, peer, Attributes()), _OTHER.pod_cidrs),)))
    _update(cluster, planner)
    cluster.hear(PathsHeard(peers[0], _OTHER.pod_cidrs))
    _update(cluster, planner)

    assert [hop.gateway for hop in planner.plan.fib[FibKey(_OTHER.pod_cidrs[0], 0)].next_hops] == [peers[1]]


_VIP = ip_network("10.96.0.1/32")
_WEB = Service(
    namespace="default",
    name="web",
    cluster_ips=(_VIP.network_address,),
    internal_policy=TrafficPolicy.LOCAL,
)


def _with_service_route() -> tuple[Cluster, Planner]:
    """Another node tells the address of a Service, and `serviceRoutes` is Import."""
    cluster, planner = _planned(
        _OWN, _OTHER, Instance(name="main", service_routes=ServiceRoutes.IMPORT), _SERVICES, _WEB
    )
    peer = _OTHER.addresses[0]
    cluster.hear(PathsHeard(peer, (), ((Path(peer, peer, Attributes()), (_VIP,)),)))
    _update(cluster, planner)
    assert FibKey(_VIP, 0) in planner.plan.fib
    return cluster, planner


def test_the_route_to_a_service_address_goes_with_an_endpoint_here_and_comes_back_without():
    cluster, planner = _with_service_route()
    here = EndpointSlice(namespace="default", name="e", service="web", family=Family.IPV4, ready=frozenset({_OWN.name}))

    cluster.set(here)
    _update(cluster, planner)
    assert planner.plan.refused_in[RouteKey(_OTHER.addresses[0], _VIP)] == "announcedHere"
    assert FibKey(_VIP, 0) not in planner.plan.fib

    cluster.remove(Key(Kind.ENDPOINT_SLICE, "default", "e"))
    _update(cluster, planner)
    assert FibKey(_VIP, 0) in planner.plan.fib


def test_the_route_to_a_service_address_goes_when_kube_proxy_has_it_on_an_interface_and_comes_back_without():
    cluster, planner = _with_service_route()
    before = cluster.interfaces

    cluster.link((*before, Interface(5, "kube-ipvs0", up=False, addresses=(ip_interface(str(_VIP)),))))
    _update(cluster, planner)
    assert planner.plan.refused_in[RouteKey(_OTHER.addresses[0], _VIP)] == "answeredHere"
    assert FibKey(_VIP, 0) not in planner.plan.fib

    cluster.link(before)
    _update(cluster, planner)
    assert FibKey(_VIP, 0) in planner.plan.fib


def test_of_prefixes_left_for_later_those_that_lead_to_a_lost_next_hop_come_first():
    """Where a living one is left beside it, the kernel goes on sending some packets to the lost one."""
    cluster, planner = Cluster(), Planner(judged_at_once=3)
    eth0, eth1 = (
        Interface(index, f"eth{index}", up=True, addresses=(ip_interface(address),))
        for index, address in ((2, "10.0.0.2/24"), (3, "172.20.0.2/24"))
    )
    far = replace(_TOR, name="far", address=ip_address("172.20.0.254"))
    for record in (_OWN, *(replace(router, import_allowed=(_ANYTHING,)) for router in (_TOR, far))):
        cluster.set(record)
    cluster.link((eth0, eth1))
    shared = [ip_network(f"198.18.{n}.0/24") for n in range(2)]
    alone = [ip_network(f"198.19.{n}.0/24") for n in range(9)]
    for router, prefixes in ((_TOR.address, [*alone, *shared]), (far.address, shared)):
        path = Path(router, router, Attributes(as_path=(65001,)))
        cluster.hear(PathsHeard(router, (), ((path, tuple(prefixes)),)))
    for late in _update(cluster, planner).unjudged:
        planner.update(cluster.picture, Dirty(prefixes=frozenset({late})))
    assert all(len(planner.plan.fib[FibKey(prefix, 0)].next_hops) == 2 for prefix in shared)

    cluster.link((eth0,))

    left = list(_update(cluster, planner).unjudged)
    assert left[:2] == shared
    assert sorted(left) == sorted([*shared, *alone])


@pytest.mark.parametrize("number", range(200))
def test_the_router_id_of_an_ipv6_node_is_stable_and_one_that_any_router_takes(number: int):
    address = IPv6Address("fd00::1") + number
    planned = [_planned(replace(_OWN, addresses=(address,)))[1].plan.identity for _ in range(2)]

    first, second = (identity.router_id for identity in planned if identity is not None)
    assert first == second
    assert IPv4Address("1.0.0.0") <= first < IPv4Address("224.0.0.0")


def test_a_password_is_not_printed():
    secret = Secret(name="s", values=(("k", Password("swordfish")),))
    _, planner = _planned(_OWN, replace(_TOR, password_ref=SecretRef("s", "k")), secret)

    assert "password" in describe(planner.plan)
    assert "swordfish" not in describe(planner.plan) + repr(planner.plan)
