"""A node joins a running mesh: from the start of its agent until its route is in every kernel, and all routes in its.

Two ways of joining: agent and Node object at the same moment, and a Node that has been there for a while, so that the
others have tried to reach it in vain. Every agent and every ExaBGP of the cluster runs on this one machine, from byte
code, as in the image: to compile our modules takes a fifth of an agent's start.
"""

from __future__ import annotations

import compileall
import time
from collections.abc import Iterable
from ipaddress import IPv4Network
from pathlib import Path

import agent
import bgp
from tests.bench.kernelwatch import RouteWatch
from tests.bench.report import Table
from tests.lab.minicluster import MiniCluster, node_object
from tests.lab.topology import Lab, Node

SIZES = (3, 10)
RUNS = 2
NODE_WITHOUT_AGENT_SECONDS = 8.0
MESH_SECONDS = 180.0
JOIN_SECONDS = 60.0


def bench(sizes: Iterable[int] = SIZES, runs: int = RUNS) -> None:
    table = Table("A node joins a running mesh: agent's start to routes", *(f"{size} nodes" for size in sizes))
    for package in (agent, bgp):
        compileall.compile_dir(Path(*package.__path__), quiet=1)
    for size in sizes:
        who = f"{size} nodes"
        with Lab(nodes=size, families=("ipv4",)) as lab, MiniCluster(lab) as cluster:
            began_at = time.monotonic()
            cluster.start()
            cluster.wait_meshed(within=MESH_SECONDS)
            table.add("all agents started at once: mesh in place", "ms", (time.monotonic() - began_at) * 1000, who=who)
            for number in range(runs):
                # Never the same node again: it would have the addresses of the one that has just died.
                _join(table, who, lab, cluster, lab.add_node(size + 2 * number + 1), waited=0.0)
                newcomer = lab.add_node(size + 2 * number + 2)
                _join(table, who, lab, cluster, newcomer, waited=NODE_WITHOUT_AGENT_SECONDS)
    table.show()


def _join(table: Table, who: str, lab: Lab, cluster: MiniCluster, node: Node, *, waited: float) -> None:
    how = f"node there {waited:g} s before its agent" if waited else "node and agent at once"
    running = [other for other in lab.nodes.values() if other is not node]
    with RouteWatch(node, *running) as watch:
        cluster.api.apply(node_object(node))
        time.sleep(waited)
        began_at = time.monotonic()
        cluster.start_agent(node)
        there_at = watch.wait_all([(other, _pod_cidr(node)) for other in running], within=JOIN_SECONDS)
        table.add(f"{how}: its route in every kernel", "ms", (there_at - began_at) * 1000, who=who)
        learned_at = watch.wait_all([(node, _pod_cidr(other)) for other in running], within=JOIN_SECONDS)
        table.add(f"{how}: every route in its kernel", "ms", (learned_at - began_at) * 1000, who=who)
    lab.remove_node(node)
    cluster.forget(node)


def _pod_cidr(node: Node) -> IPv4Network:
    return IPv4Network(node.pod_cidrs["ipv4"])
