"""An agent at rest: processor time and memory of agent and ExaBGP with 3 and with 100 mesh peers.

The peers are real BGP sessions over real TCP; the other nodes' speakers are played by one thread of the bench, each
with an address and a route of its own. Nothing changes while it is measured but keepalives and Node heartbeats.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from datetime import UTC, datetime
from ipaddress import IPv4Address, IPv4Network
from typing import Any

from tests.bench import bgpwire, usage
from tests.bench.kernelwatch import RouteCount
from tests.bench.peers import Peers
from tests.bench.report import Add, Table
from tests.lab.minicluster import CLUSTER_ASN, MiniCluster, custom
from tests.lab.topology import Host, Lab

SIZES = (3, 100)
REST_SECONDS = 20.0
SETTLE_SECONDS = 5.0
LEARN_SECONDS = 60.0
HEARTBEAT_SECONDS = 1.0
"""100 nodes with the kubelet's status update every 5 min would send one every 3 s."""
HOLD_SECONDS = 90
FIRST_NUMBER = 100
"""Addresses behind the lab's nodes: so our node has the lowest and dials them all."""
POD_NETWORK = IPv4Network("10.245.0.0/16")


def bench(sizes: Iterable[int] = SIZES) -> None:
    table = Table("At rest: agent and ExaBGP together", *(f"{size} peers" for size in sizes))
    for size in sizes:
        with Lab(nodes=1, families=("ipv4",)) as lab:
            others = lab.host("others")
            addresses = _addresses(others, size)
            words = {address: _first_words(address, number) for number, address in enumerate(addresses)}
            with Peers(others, asn=CLUSTER_ASN, first_words=words.__getitem__) as peers, MiniCluster(lab) as cluster:
                _measure(table.column(f"{size} peers"), lab, cluster, peers, addresses)
    table.show()


def _measure(add: Add, lab: Lab, cluster: MiniCluster, peers: Peers, addresses: list[IPv4Address]) -> None:
    node, count = lab.node(1), RouteCount(lab.node(1))
    before = count.now()
    cluster.api.apply(
        custom("BGPInstance", "default", {"mesh": {"holdSeconds": HOLD_SECONDS}}),
        *(_node_object(number, address) for number, address in enumerate(addresses)),
    )
    began_at = time.monotonic()
    cluster.start(node)
    peers.wait_for(len(addresses))
    add("agent's start to all sessions up", "ms", (time.monotonic() - began_at) * 1000)
    at = count.wait_for(before + len(addresses), within=LEARN_SECONDS)
    add("agent's start to all routes in the kernel", "ms", (at - began_at) * 1000)
    time.sleep(SETTLE_SECONDS)
    agent, *speaker = usage.tree(cluster.agent(node).process.pid)
    cpu_before = usage.cpu_seconds(agent), usage.cpu_seconds(*speaker)
    rested_at = time.monotonic()
    beats = 0
    while time.monotonic() - rested_at < REST_SECONDS:
        _beat(cluster, beats % len(addresses))
        beats += 1
        time.sleep(HEARTBEAT_SECONDS)
    rested = time.monotonic() - rested_at
    add("CPU of the agent", "% of a core", (usage.cpu_seconds(agent) - cpu_before[0]) / rested * 100)
    add("CPU of ExaBGP", "% of a core", (usage.cpu_seconds(*speaker) - cpu_before[1]) / rested * 100)
    add("memory of the agent", "MiB", usage.rss_mib(agent))
    add("memory of ExaBGP and its bridge", "MiB", usage.rss_mib(*speaker))
    lag = float(cluster.agent(node).ask("status")["loop"]["longest_own_lag_ms"])
    add("longest stall of the event loop since its start", "ms", lag)
    count.close()


def _addresses(host: Host, size: int) -> list[IPv4Address]:
    network = IPv4Network(host.subnet.networks["ipv4"])
    numbers = [number for number in range(FIRST_NUMBER, FIRST_NUMBER + size + 1) if network[number] != host.address()]
    addresses = [network[number] for number in numbers][:size]
    host.configure(ip=[f"addr add {address}/{network.prefixlen} dev eth0" for address in addresses])
    return addresses


def _pod_cidr(number: int) -> IPv4Network:
    return IPv4Network((int(POD_NETWORK[0]) + (number << 8), 24))


def _first_words(address: IPv4Address, number: int) -> bytes:
    return bgpwire.announcement([_pod_cidr(number)], address, local_pref=100) + bgpwire.end_of_rib()


def _node_object(number: int, address: IPv4Address) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": f"other-{number}", "creationTimestamp": "2026-01-02T00:00:00Z"},
        "spec": {"podCIDR": str(_pod_cidr(number)), "podCIDRs": [str(_pod_cidr(number))]},
        "status": {"addresses": [{"type": "InternalIP", "address": str(address)}]},
    }


def _beat(cluster: MiniCluster, number: int) -> None:
    """What a kubelet writes when nothing has changed."""
    condition = {"type": "Ready", "status": "True", "lastHeartbeatTime": datetime.now(UTC).isoformat()}
    cluster.api.merge("Node", f"other-{number}", {"status": {"conditions": [condition]}})
