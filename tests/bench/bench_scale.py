"""One real agent among many nodes: a full mesh of 200, a reflector with 1,000 clients, mode Auto as nodes come and go.

The other nodes are speakers of one program over real TCP (`tests.lab.members`), with Node objects like any. What is
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
STAGES = (3, 150, 90, 60)
"""Above the threshold of 100; inside the band where what was stays; below it."""
LOOK_SECONDS = 0.5
"""Between two questions to the agent, whose answers cost it time."""
NODES_AT_ONCE = 10
REFLECTING_FROM = 80
"""20 % under the threshold, as `agent.plan.topology` says."""
AUTO_REFLECTORS = (3, 4)
"""Members that are no reflectors, and have no Node, among the first nodes."""
SETTLED_SECONDS = 60.0
"""Longer than sessions that are wanted no more stay (`agent.farewell`)."""
HOLD_SECONDS = 90
ESTABLISHED_SECONDS = 180.0
COMPLETE_SECONDS = 900.0
CONTROL_PLANE_LABEL = "node-role.kubernetes.io/control-plane"
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
            table.add("sessions lost meanwhile", "", crowd.ask()["ended"])
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
    for name, pids in _programs(agent).items():
        table.add(f"{name}: processor time so far", "s", cpu_seconds(*pids))
        table.add(f"{name}: memory", "MiB", rss_mib(*pids))


def _one_more(table: Table, crowd: Crowd) -> None:
    changed = str(crowd.prefixes[0])
    told_at = crowd.ask(announce=changed, member=str(crowd.members[0]), preference=CHANGED_PREFERENCE)["at"]
    wait_until(lambda: crowd.ask(reached=changed)["count"] >= crowd.count - 1, within=COMPLETE_SECONDS)
    table.add("one client's changed route at the last client", "s", crowd.ask(reached=changed)["at"] - told_at)


def _automatic(stages: Sequence[int] = STAGES) -> None:
    """Nodes of mode Auto come and go, some at a time. Members with the label of the control plane reflect."""
    table = Table(f"Mode Auto, {' → '.join(map(str, stages))} nodes, one real agent")
    with Lab(nodes=1, families=("ipv4",)) as lab, MiniCluster(lab) as cluster:
        node = lab.node(1)
        with _crowd(lab, cluster, max(stages) - 1, {}) as crowd:
            mesh = {"mode": "Auto", "reflectors": {"controlPlane": "Prefer"}}
            cluster.api.apply(custom("BGPInstance", "auto", {"mesh": mesh}))
            grown = _Grown(cluster, crowd)
            grown.become(stages[0])
            grown.agent = cluster.start_agent(node)
            monitor = node.start(["ip", "monitor", "route"], log="monitor")
            wanted = _settled(grown.agent)
            for nodes in stages[1:]:
                stay, told = grown.routes(nodes), len(monitor.output())
                leave = grown.routes(max(stages)) - stay
                wanted = _one_stage(table, grown, nodes, wanted)
                output = monitor.output()[told:]
                table.add(f"{nodes} nodes: routes deleted of nodes that left", "", _deleted(output, leave))
                table.add(f"{nodes} nodes: routes deleted of nodes that stay", "", _deleted(output, stay))
    table.show()


def _one_stage(table: Table, grown: _Grown, nodes: int, before: set[str]) -> set[str]:
    """The sessions that there are after it."""
    agent, crowd, began_at = grown.agent, grown.crowd, time.monotonic()
    assert agent is not None
    ended_before, used_before = crowd.ask(ended=True), _used(agent)
    grown.become(nodes)
    wanted = _settled(agent)
    table.add(f"{nodes} nodes: settled after", "s", time.monotonic() - began_at - SETTLED_SECONDS)
    for name, seconds in _used(agent).items():
        table.add(f"{nodes} nodes: processor time of {name} meanwhile", "s", seconds - used_before[name])
    for name, pids in _programs(agent).items():
        table.add(f"{nodes} nodes: memory of {name}", "MiB", rss_mib(*pids))
    grown.reflect_if_needed()
    wait_until(grown.met, within=COMPLETE_SECONDS)
    ended = crowd.ask(ended=True)
    lost = sum(ended.get(it, 0) - ended_before.get(it, 0) for it in before & wanted)
    table.add(f"{nodes} nodes: sessions wanted", "", len(wanted))
    table.add(f"{nodes} nodes: sessions lost that stayed wanted", "", lost)
    return wanted


class _Grown:
    """A cluster of which more or fewer members of the crowd have a Node; two of them reflect."""

    def __init__(self, cluster: MiniCluster, crowd: Crowd) -> None:
        self.cluster, self.crowd = cluster, crowd
        self.agent: Agent | None = None
        self.members = 0
        self._reflecting = False
        self._objects = crowd.node_objects()
        for number in AUTO_REFLECTORS:
            self._objects[number - 1]["metadata"]["labels"] = {CONTROL_PLANE_LABEL: ""}

    def become(self, nodes: int) -> None:
        """So many nodes, the one under test among them: a few at a time, each time until the agent has met them."""
        while self.members != nodes - 1:
            before, step = self.members, min(NODES_AT_ONCE, abs(nodes - 1 - self.members))
            self.members += step if nodes - 1 > before else -step
            self._reflect(reflecting=self._reflecting or self.members >= REFLECTING_FROM)
            self.cluster.api.apply(*self._objects[before : self.members])
            for number in range(self.members + 1, before + 1):
                self.cluster.api.delete("Node", f"crowd-{number}")
            if self.agent is not None:
                wait_until(self.met, within=COMPLETE_SECONDS, every=LOOK_SECONDS)

    def reflect_if_needed(self) -> None:
        """Reflectors of a cluster that has become small go on for a while, and no longer."""
        self._reflect(reflecting=self.members >= REFLECTING_FROM)

    def routes(self, nodes: int) -> set[str]:
        """Of the members that have a Node now and would have one among so many nodes."""
        return {str(prefix) for prefix in self.crowd.prefixes[: min(self.members, nodes - 1)]}

    def met(self) -> bool:
        assert self.agent is not None
        peers = self.agent.view("peers")["peers"].values()
        routes = self.cluster.learned(self.cluster.lab.node(1), "ipv4").keys()
        return all(peer["is_up"] for peer in peers) and routes == self.routes(self.members + 1)

    def _reflect(self, *, reflecting: bool) -> None:
        self._reflecting = reflecting
        reflectors = [str(self.crowd.members[number - 1]) for number in AUTO_REFLECTORS]
        self.crowd.ask(reflect=reflectors, count=self.members if reflecting else 0)


def _used(agent: Agent) -> Mapping[str, float]:
    return {name: cpu_seconds(*pids) for name, pids in _programs(agent).items()}


def _programs(agent: Agent) -> Mapping[str, Sequence[int]]:
    exabgp = [pid for pid in tree(agent.process.pid) if "bgp.inside.launcher" in program(pid)]
    return {"agent": [agent.process.pid], "ExaBGP": exabgp}


def _deleted(told: str, prefixes: set[str]) -> int:
    """How many times the kernel told that a route of `prefixes` was deleted."""
    gone = (line for line in told.splitlines() if line.startswith("Deleted"))
    return sum(1 for line in gone if prefixes & set(line.split()))


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

    wait_until(still, within=COMPLETE_SECONDS, every=LOOK_SECONDS)
    return seen
