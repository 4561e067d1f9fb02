"""Nodes whose pod of the agent, or whose machine, ends and comes back, of one, some or all of them; and what is lost.

Odd nodes have the DaemonSet's two containers, even ones run ExaBGP as the agent's child. FRR and BIRD have a session
with each by its address, so that they help with graceful restart, and announce the client's network. Each node serves
addresses of its own, so that no other can stand in for it, and has no default route, which could lead around a gap.
"""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any

from tests.lab.addresses import Address, family_of
from tests.lab.judges import hosts
from tests.lab.minicluster import (
    BGPILOT,
    LAB_HOLD_SECONDS,
    ROUTER_ASN,
    Agent,
    MiniCluster,
    custom,
    node_object,
    service_object,
    slice_object,
)
from tests.lab.netns import Family, Namespace
from tests.lab.pods import serve_echo
from tests.lab.probe import Probe, ProbeResult
from tests.lab.procs import Process
from tests.lab.topology import Lab, Node, Pod
from tests.lab.tworouters import TwoRouters, peer_of
from tests.lab.wait import wait_until
from tests.lab.writes import Writes

WHOLE_SECONDS = 300.0
FEW = 4
"""Of so many nodes everything is measured."""
VIPS = ("198.51.100.{}", "2001:db8:77::{}")
"""Of the node with this number."""
VALID, STALE = re.compile(r'"valid":\s*true'), re.compile(r'"stale":\s*true')
ADJACENCY = re.compile(r"%ADJCHANGE: neighbor (?P<peer>[^( ]+).* (?P<what>Up|Down)\b")


class AgentPod:
    """What the DaemonSet runs on a node: an agent with ExaBGP in a container beside it, or as its child."""

    def __init__(self, cluster: MiniCluster, node: Node) -> None:
        self.beside = bool(node.index % 2)
        self._cluster = cluster
        self._node = node
        self._agent: Agent | None = None
        self._speaker: Process | None = None

    def start(self) -> None:
        """Its run directory is an emptyDir; the sidecar starts first."""
        run_dir = self._node.run_dir / "bgpilot"
        shutil.rmtree(run_dir, ignore_errors=True)
        run_dir.mkdir(mode=0o700)
        if self.beside:
            self._speaker = self._node.start([BGPILOT, "speaker", f"--run-dir={run_dir}"], log="speaker")
        flags = ["--speaker=external"] if self.beside else []
        self._agent = self._cluster.start_agent(self._node, *flags)

    def stop(self) -> None:
        """SIGTERM; the sidecar stops last."""
        assert self._agent is not None
        self._agent.stop()
        if self._speaker is not None:
            self._speaker.stop()

    def kill(self) -> None:
        assert self._agent is not None
        self._agent.kill()
        if self._speaker is not None:
            self._speaker.kill()


@dataclass(slots=True)
class Losses:
    probes: dict[str, ProbeResult] = field(default_factory=dict)
    written: dict[str, list[str]] = field(default_factory=dict)
    """Machine → changes of its kernel's routes and rules."""

    @property
    def lost(self) -> dict[str, int]:
        return {name: probe.lost for name, probe in self.probes.items() if probe.lost}

    def __str__(self) -> str:
        sent, longest = (
            sum(one.sent for one in self.probes.values()),
            max(self.probes.values(), key=lambda one: one.longest_gap_ms),
        )
        return f"{sum(self.lost.values())} of {sent} packets lost, {longest.longest_gap_ms:.0f} ms at most; {self.lost}"


class Rolling(TwoRouters):
    def __init__(self, lab: Lab) -> None:
        super().__init__(lab)
        self.outside = str(lab.outside.networks["ipv4"])
        self.pods: dict[str, Pod] = {}
        self.agents: dict[str, AgentPod] = {}
        self.off_at = 0.0
        """When a machine was last powered off."""
        allowed = {"import": {"allowed": [{"prefix": self.outside}]}}
        self.api.apply(
            peer_of("frr", lab.routers[0], **allowed),
            peer_of("bird", lab.routers[1], **allowed),
            custom("BGPAdvertisement", "vips", {"type": "Service", "service": {"addresses": ["LoadBalancerIP"]}}),
        )
        self.hold(LAB_HOLD_SECONDS)
        self.frr.configure([f"router bgp {ROUTER_ASN}", "bgp log-neighbor-changes"])
        self.frr.announce(self.outside)
        self.bird.announce(self.outside)
        for node in self.nodes:
            self._set_up(node)
            self.api.apply(node_object(node), *service_objects(node))
        for node in self.nodes:
            self.agents[node.name].start()
        self.wait_whole()

    @property
    def nodes(self) -> list[Node]:
        return sorted(self.lab.nodes.values(), key=lambda node: node.index)

    def hold(self, seconds: int) -> None:
        """Hold time of sessions between nodes."""
        self.api.apply(custom("BGPInstance", "default", {"mesh": {"holdSeconds": seconds}}))

    def holds(self, seconds: int) -> bool:
        """All of them have it."""
        found = {peer["hold_seconds"] for node in self.nodes for peer in self._mesh(node).values()}
        assert found == {seconds}, found
        return True

    def _set_up(self, node: Node) -> None:
        self.pods[node.name] = node.add_pod()
        self.agents[node.name] = AgentPod(self.cluster, node)
        for place in (node, self.pods[node.name]):
            serve_echo(place)
        for flag in ("-4", "-6"):
            node.ip(flag, "route", "del", "default")
        for address in vips(node):
            node.ip("address", "add", address, "dev", "lo")

    # What ends, and comes back.

    def power_off(self, node: Node) -> None:
        """Without a word; nothing is left of its kernel, nor of what it ran."""
        self.lab.remove_node(node)
        self.off_at = time.monotonic()
        self.cluster.agents.pop(node.name)

    def boot(self, index: int) -> Node:
        """With the name and the addresses it had; its agent is yet to be started."""
        node = self.lab.add_node(index)
        self._set_up(node)
        return node

    def roll(self) -> Iterator[AgentPod]:
        """One after the other, as soon as the one before is ready."""
        for node in self.nodes:
            yield self.agents[node.name]
            wait_until(lambda: self.is_ready(node), within=WHOLE_SECONDS)  # noqa: B023  # it is waited for here

    def is_ready(self, node: Node) -> bool:
        return node.run(["curl", "-sS", "http://127.0.0.1:9818/readyz"], check=False).stdout == "ok\n"

    # What is seen of it.

    @contextmanager
    def watched(self, *, dies: Node | None = None) -> Iterator[Losses]:
        """Until all is well again after the block. `dies`: a machine that will not be the same one then."""
        losses = Losses()
        machines = [*(node for node in self.nodes if node is not dies), *self.lab.routers]
        writes = Writes(machines)
        probes = {name: Probe(source, target) for name, source, target in self._targets(dies)}
        yield losses
        self.wait_whole()
        losses.probes = {name: probe.stop() for name, probe in probes.items()}
        losses.written = writes.stop()
        print(losses)

    def _targets(self, dies: Node | None) -> Iterator[tuple[str, Namespace, Address]]:
        """Each pod with the next one's: an echo takes both ways. From the routers, and through FRR, to each node.

        Of many nodes each gets a share in turn: more probes than that slow down what they measure.
        """
        ring = self.nodes
        for here, there in zip(ring, [*ring[1:], ring[0]], strict=True):
            source, target = (there, here) if here is dies else (here, there)
            for family in self.probed(here):
                where = self.pods[target.name].address(family)
                yield f"{source.name} to {target.name}, {family}", self.pods[source.name], where
        for node in ring:
            ipv4, ipv6 = map(ip_address, vips(node))
            several: list[tuple[str, Namespace, Address]] = [
                (f"FRR to pod of {node.name}", self.lab.routers[0], self.pods[node.name].address("ipv4")),
                (f"BIRD to service of {node.name}", self.lab.routers[1], ipv6),
                (f"client to service of {node.name}", self.lab.client, ipv4),
            ]
            yield from several if len(ring) <= FEW else [several[node.index % len(several)]]

    def probed(self, node: Node) -> Sequence[Family]:
        """The families in which its pod asks that of the next node."""
        families = self.lab.families
        return families if len(self.nodes) <= FEW else [families[node.index % len(families)]]

    def in_kernels(self, node: Node) -> set[str]:
        """The other nodes that have a route to its pods."""
        cidrs = set(map(str, node.pod_cidrs.values()))
        others = {other for other in self.nodes if other.name != node.name}
        return {
            other.name
            for other in others
            for family in self.lab.families
            if cidrs & set(self.cluster.learned(other, family))
        }

    def in_tables(self, node: Node) -> bool:
        """A router has a route to something of it."""
        return any(frr or bird for frr, bird in self.tellers(*announced(node)).values())

    def lost_by_all(self, node: Node) -> bool:
        """The session of no other node with it is up."""
        return not any(self._mesh(other)[node.name]["is_up"] for other in self.nodes)

    def times_up(self) -> dict[str, int]:
        """Node → how often its session with FRR came up."""
        return {node.name: self.frr.times_established(str(node.address())) for node in self.nodes}

    def frr_log(self) -> list[tuple[str, str]]:
        """Sessions that came up or went, in order: node, Up or Down."""
        names = {str(node.address()): node.name for node in self.nodes}
        found = (ADJACENCY.search(line) for line in self.frr.bgpd.output().splitlines())
        return [(names[match["peer"]], match["what"]) for match in found if match and match["peer"] in names]

    def flaps(self, *without: Node) -> dict[str, int]:
        """Sessions between nodes, but for those of some, → how often they have ended."""
        names = {node.name for node in self.nodes} - {node.name for node in without}
        return {
            f"{node.name} {other}": peer["flaps"]
            for node in self.nodes
            for other, peer in self._mesh(node).items()
            if {node.name, other} <= names
        }

    def _mesh(self, node: Node) -> dict[str, dict[str, Any]]:
        """What it says of its sessions with nodes, by the other's name."""
        peers = self.cluster.agents[node.name].view("peers")["peers"].values()
        named = ((peer["description"].partition("/"), peer) for peer in peers)
        return {name: peer for (kind, _, name), peer in named if kind == "node"}

    def wait_whole(self) -> None:
        wait_until(self._is_whole, within=WHOLE_SECONDS, every=0.2)

    def _is_whole(self) -> bool:
        for node in self.nodes:
            agent = self.cluster.agents[node.name]
            assert agent.view("status")["phase"] == "IN_SYNC"
            peers: Collection[dict[str, Any]] = agent.view("peers")["peers"].values()
            assert all(peer["is_up"] and not peer["stale_prefixes"] for peer in peers), peers
            assert len(peers) == len(self.nodes) + 1
            held = self.cluster.learned(node, "ipv4").get(self.outside)
            assert held == [str(router.address()) for router in self.lab.routers], f"{node.name}: {held}"
        wanted = {prefix: ([node.name], [node.name]) for node in self.nodes for prefix in announced(node)}
        found = self.tellers(*wanted)
        assert found == wanted, found
        for router in self.lab.routers:  # whose kernel follows its table
            missing = wanted.keys() - {to for family in self.lab.families for to in router.kernel_routes(family)}
            assert not missing, f"{router.name}: {missing}"
        families = {prefix: family_of(prefix.partition("/")[0]) for prefix in wanted}
        paths = self.frr.vtysh(*(f"show bgp {family} unicast {prefix} json" for prefix, family in families.items()))
        assert len(VALID.findall(paths)) == len(wanted)
        assert not STALE.findall(paths)
        return self.cluster.meshed(besides=frozenset([self.outside]))


def vips(node: Node) -> list[str]:
    return [vip.format(node.index) for vip in VIPS]


def announced(node: Node) -> list[str]:
    """What this node alone tells routers."""
    return [*hosts(vips(node)), *map(str, node.pod_cidrs.values())]


def service_objects(node: Node) -> list[dict[str, Any]]:
    name, clusters = f"web-{node.index}", [f"10.96.0.{node.index}", f"fd02::{node.index}"]
    slices = (slice_object(name, {node.name: ["10.0.0.1"]}, family=family) for family in ("IPv4", "IPv6"))
    return [service_object(name, clusters, load_balancer_ips=vips(node), external_policy="Local"), *slices]
