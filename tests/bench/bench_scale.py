"""One real agent among many nodes: a full mesh of 200, and a route reflector with 1,000 clients.

The other nodes are speakers of one program over real TCP (`tests.lab.crowd`), with Node objects like any. What is
measured: time until every session is established and every table complete, processor time and memory of agent and
ExaBGP, and how long one client's new route takes to the last of the others. The crowd runs on this machine too.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from ipaddress import IPv4Network

from tests.bench.report import Table
from tests.bench.usage import cpu_seconds, program, rss_mib, tree
from tests.lab.crowd import Crowd
from tests.lab.minicluster import CLUSTER_ASN, Agent, MiniCluster, custom, node_object
from tests.lab.topology import Lab
from tests.lab.wait import wait_until

MESH_NODES = 200
CLIENTS = 1_000
NETWORK = IPv4Network("10.250.0.0/16")
PODS = IPv4Network("10.128.0.0/24")
NEW_ROUTE = "10.127.0.0/24"
HOLD_SECONDS = 90
ESTABLISHED_SECONDS = 180.0
COMPLETE_SECONDS = 900.0
REFLECTOR = {"bgpilot-reflector": "yes"}


def bench(mesh_nodes: int = MESH_NODES, clients: int = CLIENTS) -> None:
    _mesh(mesh_nodes)
    _reflector(clients)


def _mesh(nodes: int) -> None:
    table = Table(f"One agent in a full mesh of {nodes} nodes")
    with Lab(nodes=1, families=("ipv4",)) as lab, MiniCluster(lab) as cluster:
        node = lab.node(1)
        with _crowd(lab, cluster, nodes - 1, {}) as crowd:
            cluster.api.apply(custom("BGPInstance", "mesh", {"mesh": {"mode": "FullMesh"}}))
            agent, began_at = cluster.start_agent(node), time.monotonic()
            _established(table, crowd, began_at)
            wait_until(lambda: len(cluster.learned(node, "ipv4")) >= crowd.count, within=COMPLETE_SECONDS)
            table.add("every route in the kernel, after the agent's start", "s", time.monotonic() - began_at)
            _usage(table, agent)
    table.show()


def _reflector(clients: int) -> None:
    table = Table(f"One reflector with {clients} clients, one route of each")
    with Lab(nodes=1, families=("ipv4",)) as lab, MiniCluster(lab) as cluster:
        node = lab.node(1)
        with _crowd(lab, cluster, clients, REFLECTOR) as crowd:
            selector = {"nodeSelector": {"matchLabels": REFLECTOR}}
            spec = {"mesh": {"mode": "RouteReflector", "reflectors": selector}}
            cluster.api.apply(custom("BGPInstance", "reflected", spec))
            agent, began_at = cluster.start_agent(node), time.monotonic()
            _established(table, crowd, began_at)
            wait_until(lambda: crowd.ask()["least_told"] >= clients, within=COMPLETE_SECONDS)
            table.add(
                "every client has every route, after the agent's start", "s", _since(crowd, "last_told", began_at)
            )
            _usage(table, agent)
            _one_more(table, crowd)
            table.add("sessions lost meanwhile", "", crowd.ask()["ended"])
    table.show()


def _crowd(lab: Lab, cluster: MiniCluster, others: int, labels: Mapping[str, str]) -> Crowd:
    """The crowd, and Node objects for it and for the node under test, which has the lowest address: it dials."""
    node = lab.node(1)
    node.configure(ip=[f"addr add {NETWORK[1]}/{NETWORK.prefixlen} dev eth0"])
    crowd = Crowd(lab.host("crowd"), NETWORK, others, asn=CLUSTER_ASN, hold_seconds=HOLD_SECONDS, prefix=PODS)
    under_test = node_object(node, labels=labels)
    under_test["status"]["addresses"][0]["address"] = str(NETWORK[1])
    cluster.api.apply(under_test, *crowd.node_objects())
    return crowd


def _established(table: Table, crowd: Crowd, began_at: float) -> None:
    wait_until(lambda: crowd.ask()["established"] == crowd.count, within=ESTABLISHED_SECONDS)
    seconds = _since(crowd, "last_established", began_at)
    table.add("every session established, after the agent's start", "s", seconds)


def _since(crowd: Crowd, what: str, began_at: float) -> float:
    """The crowd's clock is ours: CLOCK_MONOTONIC is the machine's."""
    return float(crowd.ask()[f"{what}_at"]) - began_at


def _usage(table: Table, agent: Agent) -> None:
    pids = tree(agent.process.pid)
    exabgp = [pid for pid in pids if "bgp.launcher" in program(pid)]
    table.add("agent: processor time so far", "s", cpu_seconds(agent.process.pid))
    table.add("ExaBGP: processor time so far", "s", cpu_seconds(*exabgp))
    table.add("agent: memory", "MiB", rss_mib(agent.process.pid))
    table.add("ExaBGP: memory", "MiB", rss_mib(*exabgp))


def _one_more(table: Table, crowd: Crowd) -> None:
    told_at = crowd.ask(announce=NEW_ROUTE, member=str(crowd.members[0]))["at"]
    wait_until(lambda: crowd.ask(reached=NEW_ROUTE)["count"] >= crowd.count - 1, within=COMPLETE_SECONDS)
    table.add("one client's new route at the last client", "s", crowd.ask(reached=NEW_ROUTE)["at"] - told_at)
