"""What one change costs: counted in calls of functions of `agent.plan`, so that a busy machine changes nothing."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from ipaddress import IPv4Interface, IPv4Network, ip_address, ip_network
from pathlib import Path as File
from types import FrameType

import pytest

from agent.advertising import Advertisement, AdvertisementType, ServiceAddress, ServiceChoice
from agent.intent import (
    AllowedPrefix,
    ExternalPeer,
)
from agent.model import (
    Applied,
    EndpointSlice,
    Interface,
    Key,
    Kind,
    Node,
    Record,
    Service,
    TrafficPolicy,
)
from agent.plan import planner as planner_file
from agent.plan.planner import Planner
from bgp.model import Attributes, Family, Path, PathsHeard
from tests.unit.plan.histories import OWN, Cluster, key_of

_ROOM = str(File(planner_file.__file__).parent)
_TOR = ip_address("10.0.255.254")
_PATH = Path(_TOR, _TOR, Attributes(as_path=(65001,)))
_SLACK = 1.25
"""Binary searches take a step more in a longer list."""


def _node(number: int) -> Node:
    cidr = IPv4Network((int(ip_address("10.128.0.0")) + 256 * number, 24))
    return Node(name=f"n{number}", created=1.0, addresses=(ip_address("10.0.0.1") + number,), pod_cidrs=(cidr,))


def _service(number: int) -> Service:
    return Service(
        namespace="default",
        name=f"s{number}",
        cluster_ips=(ip_address("10.96.0.1") + number,),
        load_balancer_ips=(ip_address("100.64.0.1") + number,),
        external_policy=TrafficPolicy.LOCAL,
    )


def _slice(number: int, node: str) -> EndpointSlice:
    return EndpointSlice(
        namespace="default", name=f"e{number}", service=f"s{number}", family=Family.IPV4, ready=frozenset({node})
    )


def _prefix(number: int) -> IPv4Network:
    return IPv4Network((int(ip_address("20.0.0.0")) + 256 * number, 24))


def _cluster(size: int) -> Cluster:
    cluster = Cluster(interfaces=(Interface(2, "eth0", up=True, addresses=(IPv4Interface("10.0.0.2/16"),)),))
    anything = (AllowedPrefix(ip_network("0.0.0.0/0"), 8, 32),)
    records: list[Record] = [
        Advertisement(
            name="a", type=AdvertisementType.SERVICE, service=ServiceChoice(addresses=frozenset(ServiceAddress))
        ),
        ExternalPeer(name="tor", address=_TOR, asn=65001, import_allowed=anything),
    ]
    for number in range(size):
        records += [_node(number), _service(number), _slice(number, OWN)]
    for record in records:
        cluster.world.apply(Applied(key_of(record), record))
    cluster.hear(PathsHeard(_TOR, (), ((_PATH, tuple(map(_prefix, range(size)))),)))
    return cluster


def _calls(run: Callable[[], object]) -> int:
    count = 0

    def see(frame: FrameType, event: str, _: object) -> None:
        nonlocal count
        count += event == "call" and frame.f_code.co_filename.startswith(_ROOM)

    sys.setprofile(see)
    try:
        run()
    finally:
        sys.setprofile(None)
    return count


CHANGES: dict[str, Callable[[Cluster], None]] = {
    "a service changes": lambda cluster: cluster.set(replace(_service(5), external_policy=TrafficPolicy.CLUSTER)),
    "a service goes": lambda cluster: cluster.remove(Key(Kind.SERVICE, "default", "s5")),
    "an endpoint moves": lambda cluster: cluster.set(_slice(5, "n2")),
    "a node changes its pod CIDR": lambda cluster: cluster.set(replace(_node(5), pod_cidrs=(_prefix(99_999),))),
    "a node joins": lambda cluster: cluster.set(_node(50_000)),
    "a node goes": lambda cluster: cluster.remove(Key(Kind.NODE, "", "n5")),
    "a prefix comes": lambda cluster: cluster.hear(PathsHeard(_TOR, (), ((_PATH, (_prefix(99_999),)),))),
    "a prefix goes": lambda cluster: cluster.hear(PathsHeard(_TOR, (_prefix(5),))),
    "a pod's interface comes": lambda cluster: cluster.link((*cluster.interfaces, Interface(9, "veth", up=True))),
}


@pytest.fixture(scope="module")
def clusters() -> tuple[tuple[Cluster, Planner], ...]:
    """A small and a large one, planned."""
    planned = []
    for size in (20, 2_000):
        cluster, planner = _cluster(size), Planner()
        planner.update(cluster.picture, cluster.take())
        planned.append((cluster, planner))
    return tuple(planned)


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_one_change_costs_the_same_in_a_cluster_of_20_and_of_2000(clusters, change):
    costs = []
    for cluster, planner in clusters:
        change(cluster)
        dirty = cluster.take()
        costs.append(
            _calls(lambda cluster=cluster, planner=planner, dirty=dirty: planner.update(cluster.picture, dirty))
        )

    small, large = costs
    assert 0 < large <= small * _SLACK
