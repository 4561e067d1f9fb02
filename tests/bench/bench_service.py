"""One service comes or goes: from the write to the API until the route is in the kernel of the router.

The whole way: API server's watch, agent, ExaBGP, BIRD on the router, the router's kernel; with 10, 1,000 and 10,000
services there already. The cost of one change must not grow with their number.
"""

from __future__ import annotations

import time
from ipaddress import IPv4Address, IPv4Network

from tests.bench import usage
from tests.bench.kernelwatch import RouteCount, RouteWatch
from tests.bench.report import Add, Table
from tests.lab.bird import Bird
from tests.lab.minicluster import (
    CLUSTER_ASN,
    LAB_HOLD_SECONDS,
    ROUTER_ASN,
    MiniCluster,
    custom,
    service_object,
    slice_object,
    tor_peer,
)
from tests.lab.neighbor import Neighbor
from tests.lab.topology import Host, Lab, Node
from tests.lab.wait import wait_until

SIZES = (10, 1_000, 10_000)
CHANGES = 20
PAUSE_SECONDS = 0.2
"""Longer than the agent waits for a burst's end: single changes are what is measured."""
ANNOUNCE_SECONDS = 120.0
CHANGE_SECONDS = 30.0
SERVICES = IPv4Network("10.96.0.0/12")


def bench() -> None:
    table = Table(
        "A service comes or goes: API write to kernel route on the router", *(f"{size:,} services" for size in SIZES)
    )
    with Lab(nodes=1, families=("ipv4",)) as lab, MiniCluster(lab) as cluster:
        node, count = lab.node(1), RouteCount(lab.router)
        _router(lab, node)
        cluster.api.apply(
            custom("BGPAdvertisement", "services", {"type": "Service", "service": {"addresses": ["ClusterIP"]}}),
            tor_peer(lab.router),
            {
                "apiVersion": "networking.k8s.io/v1",
                "kind": "ServiceCIDR",
                "metadata": {"name": "kubernetes"},
                "spec": {"cidrs": [str(SERVICES)]},
            },
        )
        cluster.start(node)
        before, there = count.now(), 0
        with RouteWatch(lab.router) as watch:
            for size in SIZES:
                who = f"{size:,} services"
                began_at = time.monotonic()
                _add(cluster, node, range(there, size))
                written_at = time.monotonic()
                arrived_at = count.wait_for(before + size, within=ANNOUNCE_SECONDS)
                table.add("all of them written to the API", "ms", (written_at - began_at) * 1000, who=who)
                table.add("… and on the router after the last write", "ms", (arrived_at - written_at) * 1000, who=who)
                wait_until(lambda: cluster.agent(node).ask("status")["phase"] == "IN_SYNC", within=ANNOUNCE_SECONDS)
                there = size
                _change(table.column(who), cluster, node, watch, lab.router)
                pids = usage.tree(cluster.agent(node).process.pid)
                stall = float(cluster.agent(node).ask("status")["loop"]["longest_own_lag_ms"])
                table.add("longest stall of the event loop so far", "ms", stall, who=who)
                table.add("CPU of agent and ExaBGP so far", "s", usage.cpu_seconds(*pids), who=who)
                table.add("memory of agent and ExaBGP", "MiB", usage.rss_mib(*pids), who=who)
        count.close()
    table.show()


def _router(lab: Lab, node: Node) -> Bird:
    neighbor = Neighbor(str(node.address()), CLUSTER_ASN, families=("ipv4",), hold_seconds=LAB_HOLD_SECONDS)
    return Bird(lab.router, asn=ROUTER_ASN, router_id="10.99.0.1", neighbors=[neighbor])


def _change(add: Add, cluster: MiniCluster, node: Node, watch: RouteWatch, router: Host) -> None:
    address = IPv4Address(SERVICES[-2])
    prefix = IPv4Network(address)
    for number in range(CHANGES):
        name = f"changing-{number}"
        service = service_object(name, [str(address)])
        cluster.api.apply(slice_object(name, {node.name: ["10.244.1.2"]}))
        time.sleep(PAUSE_SECONDS)
        watch.forget()
        began_at = time.monotonic()
        cluster.api.apply(service)
        came_at = watch.wait_came(router, prefix, within=CHANGE_SECONDS)
        add("a service comes", "ms", (came_at - began_at) * 1000)
        time.sleep(PAUSE_SECONDS)
        began_at = time.monotonic()
        cluster.api.delete("Service", name, "default")
        went_at = watch.wait_went(router, prefix, within=CHANGE_SECONDS)
        add("a service goes", "ms", (went_at - began_at) * 1000)
        cluster.api.delete("EndpointSlice", f"{name}-ipv4", "default")


def _add(cluster: MiniCluster, node: Node, numbers: range) -> None:
    for number in numbers:
        name = f"service-{number}"
        cluster.api.apply(
            service_object(name, [str(SERVICES[number + 10])]), slice_object(name, {node.name: ["10.244.1.2"]})
        )
