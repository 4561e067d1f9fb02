"""One real agent among many nodes: a full mesh of 200, a reflector with 1,000 clients, mode Auto as nodes come and go.

The other nodes are speakers of one program over real TCP (`tests.lab.crowd`), with Node objects like any. What is
measured: time until every session is established and every table complete, processor time and memory of agent and
ExaBGP, how long one client's changed route takes to the last of the others, and whether sessions that stay wanted
stay up while mode Auto goes from a mesh to reflectors and back. The crowd runs on this machine too.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
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
CHANGED_PREFERENCE = 200
STAGES = (3, 150, 90)
SETTLED_SECONDS = 60.0
"""Longer than sessions that are wanted no more stay (`agent.farewell`)."""
HOLD_SECONDS = 90
ESTABLISHED_SECONDS = 180.0
COMPLETE_SECONDS = 900.0
REFLECTOR = {"bgpilot-reflector": "yes"}


def bench(mesh_nodes: int = MESH_NODES, clients: int = CLIENTS) -> None:
    _mesh(mesh_nodes)
    _reflector(clients)
    _automatic()


def _mesh(nodes: int) -> None:
    table = Table(f"One agent in a full mesh of {nodes} nodes")
    with Lab(nodes=1, families=("ipv4",)) as lab, MiniCluster(lab) as cluster:
        node = lab.node(1)
        with _crowd(lab, cluster, nodes - 1, {}) as crowd:
            cluster.api.apply(*crowd.node_objects())
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
            cluster.api.apply(*crowd.node_objects())
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
    crowd.known_to(node)
    cluster.api.apply(under_test)
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
    exabgp = [pid for pid in pids if "bgp.inside.launcher" in program(pid)]
    table.add("agent: processor time so far", "s", cpu_seconds(agent.process.pid))
    table.add("ExaBGP: processor time so far", "s", cpu_seconds(*exabgp))
    table.add("agent: memory", "MiB", rss_mib(agent.process.pid))
    table.add("ExaBGP: memory", "MiB", rss_mib(*exabgp))


def _one_more(table: Table, crowd: Crowd) -> None:
    changed = str(crowd.prefixes[0])
    told_at = crowd.ask(announce=changed, member=str(crowd.members[0]), preference=CHANGED_PREFERENCE)["at"]
    wait_until(lambda: crowd.ask(reached=changed)["count"] >= crowd.count - 1, within=COMPLETE_SECONDS)
    table.add("one client's changed route at the last client", "s", crowd.ask(reached=changed)["at"] - told_at)


def _automatic(stages: Sequence[int] = STAGES) -> None:
    """Nodes of mode Auto come and go; the others do not reflect, so only sessions are looked at."""
    table = Table(f"Mode Auto, {' → '.join(map(str, stages))} nodes, one real agent")
    with Lab(nodes=1, families=("ipv4",)) as lab, MiniCluster(lab) as cluster:
        node = lab.node(1)
        with _crowd(lab, cluster, max(stages) - 1, {}) as crowd:
            there, wanted, lost = 0, set[str](), 0
            agent = None
            for nodes in stages:
                began_at = time.monotonic()
                cluster.api.apply(*crowd.node_objects()[there : nodes - 1])
                for number in range(nodes, there + 1):
                    cluster.api.delete("Node", f"crowd-{number}")
                there = nodes - 1
                agent = agent or cluster.start_agent(node)
                before, wanted, ended = wanted, _settled(agent), crowd.ask(ended=True)
                lost += sum(count for address, count in ended.items() if address in before & wanted)
                seconds = time.monotonic() - began_at - SETTLED_SECONDS
                table.add(f"{nodes} nodes: sessions wanted", "", len(wanted))
                table.add(f"{nodes} nodes: settled after", "s", seconds)
            table.add("sessions lost that stayed wanted", "", lost)
    table.show()


def _settled(agent: Agent) -> set[str]:
    """The peers, once they have all been up and the same for a while."""
    seen, since = set[str](), time.monotonic()

    def still() -> bool:
        nonlocal seen, since
        peers = agent.view("peers")["peers"]
        up = {address for address, peer in peers.items() if peer["is_up"]}
        if up != seen or len(up) < len(peers):
            seen, since = up, time.monotonic()
        return bool(seen) and time.monotonic() - since >= SETTLED_SECONDS

    wait_until(still, within=COMPLETE_SECONDS)
    return seen
