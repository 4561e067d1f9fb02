"""Many nodes at once: what holds for three nodes holds for twenty real agents, and for one among hundreds."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv4Network
from typing import Any

import pytest

from tests.lab.crowd import Crowd
from tests.lab.minicluster import CLUSTER_ASN, MiniCluster, custom, node_object
from tests.lab.topology import Lab
from tests.lab.wait import wait_until

pytestmark = pytest.mark.live

NODES = 20
MEMBERS = 60
CLIENTS = 40
REFLECTOR = {"bgpilot-reflector": "yes"}
NETWORK = IPv4Network("10.250.0.0/16")
PODS = IPv4Network("10.128.0.0/24")


def test_twenty_agents_that_start_at_once_lose_no_session(lab: Callable[..., Lab]) -> None:
    built = lab(nodes=NODES, families=("ipv4",), pod_bridge=False)
    with MiniCluster(built) as cluster:
        cluster.start()
        cluster.wait_meshed(within=240.0)

        lost = {name: _flaps(agent.ask("peers")) for name, agent in cluster.agents.items()}

    assert lost == dict.fromkeys(lost, 0)


def test_sixty_nodes_that_were_there_before_are_peers_within_one_life(lab: Callable[..., Lab]) -> None:
    """The crowd counts from the other side: every member has one session, and none ends."""
    built = lab(nodes=1, families=("ipv4",))
    node = built.node(1)
    node.configure(ip=[f"addr add {NETWORK[1]}/{NETWORK.prefixlen} dev eth0"])
    with (
        MiniCluster(built) as cluster,
        Crowd(built.host("crowd"), NETWORK, MEMBERS, asn=CLUSTER_ASN, hold_seconds=90, prefix=PODS) as crowd,
    ):
        under_test = node_object(node)
        under_test["status"]["addresses"][0]["address"] = str(NETWORK[1])
        cluster.api.apply(under_test, *crowd.node_objects())
        crowd.known_to(node)
        cluster.start_agent(node)

        wait_until(lambda: set(cluster.learned(node, "ipv4")) == {str(prefix) for prefix in crowd.prefixes}, within=120)
        wait_until(lambda: crowd.ask()["least_told"] == crowd.ask()["most_told"] == 1, within=60)
        seen = crowd.ask()

    assert (seen["sessions"], seen["ended"], seen["notifications"]) == (MEMBERS, 0, [])


def test_forty_clients_of_one_reflector_hear_each_other_and_never_themselves(lab: Callable[..., Lab]) -> None:
    """RFC 4456: with the ORIGINATOR_ID of whom it comes from; and what is the reflector's own, without."""
    built = lab(nodes=1, families=("ipv4",))
    node = built.node(1)
    node.configure(ip=[f"addr add {NETWORK[1]}/{NETWORK.prefixlen} dev eth0"])
    with (
        MiniCluster(built) as cluster,
        Crowd(built.host("crowd"), NETWORK, CLIENTS, asn=CLUSTER_ASN, hold_seconds=90, prefix=PODS) as crowd,
    ):
        crowd.known_to(node)
        under_test = node_object(node, labels=REFLECTOR)
        under_test["status"]["addresses"][0]["address"] = str(NETWORK[1])
        selector = {"nodeSelector": {"matchLabels": REFLECTOR}}
        spec = {"mesh": {"mode": "RouteReflector", "reflectors": selector}}
        cluster.api.apply(under_test, *crowd.node_objects(), custom("BGPInstance", "reflected", spec))
        cluster.start_agent(node)
        wait_until(lambda: crowd.ask()["least_told"] >= CLIENTS and crowd.ask()["synced"] == CLIENTS, within=180)
        told, seen = crowd.ask(told=True), crowd.ask()

    own = {str(address): str(prefix) for address, prefix in zip(crowd.members, crowd.prefixes, strict=True)}
    expected = {
        me: {str(node.pod_cidrs["ipv4"]): None} | {prefix: other for other, prefix in own.items() if other != me}
        for me in own
    }
    assert told == expected
    assert (seen["sessions"], seen["ended"], seen["notifications"]) == (CLIENTS, 0, [])


def _flaps(peers: Any) -> int:
    return sum(peer["flaps"] for peer in peers["peers"].values())
