"""Every change of who peers with whom, and of what a session is, on a running cluster of real agents: nothing is lost.

The judges are pods that send each other a packet every 10 ms on all pairs of nodes, and each kernel, which tells of
every route that goes; the agents' own word counts for sessions only.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.lab.frr import Frr
from tests.lab.lossless import Site
from tests.lab.minicluster import CLUSTER_ASN, ROUTER_ASN, MiniCluster, tor_peer
from tests.lab.neighbor import Neighbor
from tests.lab.topology import Lab
from tests.lab.wait import wait_until

pytestmark = pytest.mark.live

REFLECTOR = {"reflector": "yes"}
ALL_PAIRS = ("1-2", "1-3", "1-4", "2-3", "2-4", "3-4")
RACK_ASN = 65001
LISTEN_PORT = 1790
WITH_PASSWORD = {"passwordSecretRef": {"name": "mesh", "key": "md5"}}
OUTAGE_SECONDS = 0.3


@contextmanager
def site_of(lab: Lab) -> Iterator[Site]:
    with MiniCluster(lab) as cluster:
        site = Site(cluster)
        site.instance()
        cluster.start()
        site.wait_pairs(*ALL_PAIRS)
        yield site


def test_mesh_to_reflectors_one_of_them_moved_one_cordoned_and_back_to_a_mesh(lab: Callable[..., Lab]) -> None:
    with site_of(lab(nodes=4)) as site:
        first, second, third, _ = site.nodes
        site.node(first, REFLECTOR)
        site.node(second, REFLECTOR)
        selected = {"nodeSelector": {"matchLabels": REFLECTOR}}

        with site.unharmed():
            site.instance(mesh={"mode": "RouteReflector", "reflectors": selected})
            site.wait_pairs("1-2", "1-3", "1-4", "2-3", "2-4")
        with site.unharmed():
            site.node(second, {})
            site.node(third, REFLECTOR)
            wait_until(lambda: "node-3" in site.reflectors())
        with site.unharmed():  # while the change before is under way: node-2 has a session that parts
            site.instance(mesh={"mode": "Auto", "reflectors": {"threshold": 3}})
            wait_until(lambda: site.reflectors() >= {"node-1", "node-2", "node-3"})
            site.node(first, {}, cordoned=True)
            site.wait_pairs("1-2", "1-4", "2-3", "2-4", "3-4")
            wait_until(lambda: site.reflectors() == {"node-2", "node-4"})
        with site.unharmed():
            site.instance()
            site.wait_pairs(*ALL_PAIRS)
        assert site.flapped() == {}


@pytest.fixture(scope="module")
def routed() -> Iterator[Site]:
    """A cluster with a router that passes on what the nodes tell it, whatever their AS.

    Its neighbors are named one by one: FRR forgets a dynamic one, routes and all, as soon as its session ends. No node
    has a default route: the router would be another way for packets that a node has no route for.
    """
    with Lab(nodes=4, routers=1, families=("ipv4",)) as lab:
        Frr(
            lab.router,
            asn=ROUTER_ASN,
            router_id="10.99.0.1",
            neighbors=[
                Neighbor(
                    str(node.address()), CLUSTER_ASN, passive=True, families=("ipv4",), extra=("remote-as external",)
                )
                for node in lab.nodes.values()
            ],
        )
        for node in lab.nodes.values():
            node.ip("route", "del", "default")
        with site_of(lab) as site:
            yield site


@pytest.mark.parametrize(
    "spec",
    [
        {"mesh": {"holdSeconds": 12}},
        {"listenPort": LISTEN_PORT},
        {"asn": RACK_ASN},
    ],
    ids=["hold time", "port", "as"],
)
def test_what_all_sessions_are_changes_and_changes_back(routed: Site, spec: dict[str, Any]) -> None:
    for wanted in (spec, {}):
        with routed.unharmed(), routed.all_restarted():
            routed.instance(**wanted)


def test_a_password_that_changes_restarts_the_mesh_and_loses_nothing(routed: Site) -> None:
    routed.secret("swordfish")
    with routed.unharmed(), routed.all_restarted():
        routed.instance(mesh=WITH_PASSWORD)
    with routed.unharmed(), routed.all_restarted():
        routed.secret("hunter2")
    with routed.unharmed(), routed.all_restarted():
        routed.instance()


def test_a_node_whose_as_changes_leaves_the_mesh_for_the_router_and_comes_back(routed: Site) -> None:
    leaving = routed.nodes[3]
    spec = {"asnFrom": {"label": "asn"}}
    for node in routed.nodes:
        routed.node(node, {"asn": str(CLUSTER_ASN)})
    with routed.unharmed():
        routed.instance(**spec)
        peer = tor_peer(routed.lab.router, allowASIn=1)
        peer["spec"]["import"] = {"podCIDRs": True}
        routed.cluster.api.apply(peer)
        wait_until(lambda: all("BGPPeer/tor" in peers for peers in routed.up().values()), within=60.0)
        routed.wait_pairs(*ALL_PAIRS)
    others = routed.flaps_without(leaving)

    with routed.unharmed():
        routed.node(leaving, {"asn": str(RACK_ASN)})
        routed.wait_pairs("1-2", "1-3", "2-3")
    with routed.unharmed():
        routed.node(leaving, {"asn": str(CLUSTER_ASN)})
        routed.wait_pairs(*ALL_PAIRS)

    assert routed.flaps_without(leaving) == others


def test_an_as_that_nodes_name_later_than_it_is_asked_for_ends_no_session(routed: Site) -> None:
    for node in routed.nodes:
        routed.node(node, {})
    routed.instance()
    routed.wait_pairs(*ALL_PAIRS)
    before = routed.flaps()

    with routed.unharmed():
        routed.instance(asnFrom={"label": "asn"})
        wait_until(lambda: all("asnMissing" in found for found in routed.problems().values()))
        for node in routed.nodes:
            routed.node(node, {"asn": str(CLUSTER_ASN)})
        wait_until(lambda: not any("asnMissing" in found for found in routed.problems().values()))
        routed.wait_pairs(*ALL_PAIRS)

    assert routed.flaps() == before


def test_the_probe_and_the_kernels_see_a_route_that_is_away_for_a_moment(routed: Site) -> None:
    node, other = routed.nodes[:2]
    agent = routed.cluster.agent(node).process.popen
    with routed.probed() as losses:
        agent.send_signal(signal.SIGSTOP)
        node.ip("route", "del", str(other.pod_cidrs["ipv4"]), "proto", "179")
        ends_at = time.monotonic() + OUTAGE_SECONDS
        wait_until(lambda: time.monotonic() > ends_at)
        agent.send_signal(signal.SIGCONT)
        wait_until(routed.cluster.meshed)

    assert losses.packets.keys() == {f"{node.name} {other.name} ipv4"}
    assert len(losses.deleted[node.name]) == 1
