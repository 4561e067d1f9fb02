"""A node whose ExaBGP, or whole pod, ends and comes back, and who has routes of it: another node, FRR and BIRD.

What is lost meanwhile is known by a packet every 10 ms, between pods and from a client behind the routers to a pod and
to addresses of a service (its answers need a route that the node has learned), and by the kernels of the other node
and of the routers, which tell of every route that goes.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from bgp.driver.process import CONFIGURATION
from tests.lab.bird import Bird
from tests.lab.frr import Frr
from tests.lab.minicluster import (
    BGPILOT,
    CLUSTER_ASN,
    OUR_PROTOCOL,
    ROUTER_ASN,
    MiniCluster,
    custom,
    node_object,
    service_object,
    slice_object,
    tor_peer,
)
from tests.lab.neighbor import Neighbor
from tests.lab.netns import Family
from tests.lab.pods import serve_echo
from tests.lab.probe import Probe, ProbeResult
from tests.lab.procs import Process, run
from tests.lab.topology import Host, Lab, Node
from tests.lab.wait import wait_until

BY_FRR, BY_BIRD = "203.0.113.7", "198.51.100.7"
"""Addresses of the service: the client has the first by FRR, the second by BIRD."""
GOES = "203.0.113.9"
"""Address of a service that loses its endpoint while nobody is there to say so."""
MARK = "192.0.2.253"
"""A route to this shows that all that was changed before it has been written down."""
WIRE_ASN = 64700
HOLD_SECONDS = 90
"""The default, and longer than it takes to notice an ExaBGP that hangs."""
BACK_SECONDS = 90.0
MORTAL = {"mortal": "yes"}
ONLY_HERE = {"nodeSelector": {"matchLabels": MORTAL}}


@dataclass(slots=True)
class Losses:
    probes: dict[str, ProbeResult] = field(default_factory=dict)
    deleted: dict[str, list[str]] = field(default_factory=dict)
    """Machine → routes that its kernel told were deleted."""

    @property
    def lost(self) -> dict[str, int]:
        return {name: probe.lost for name, probe in self.probes.items() if probe.lost}

    def deleted_prefixes(self) -> dict[str, list[str]]:
        return {name: [line.split()[1] for line in lines] for name, lines in self.deleted.items()}

    def __str__(self) -> str:
        return ", ".join(f"{name} {probe.lost} ({probe.longest_gap_ms:.0f} ms)" for name, probe in self.probes.items())


class Mortal:
    """Node 1, whose ExaBGP dies; node 2, FRR and BIRD, which have its routes."""

    come_and_go = frozenset({f"{GOES}/32"})
    """Of its routes to addresses of Services, those that are there or not when all is well."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.node, self.other = lab.node(1), lab.node(2)
        self.here, self.there = (node.add_pod() for node in (self.node, self.other))
        for address in (BY_FRR, BY_BIRD):
            self.node.ip("address", "add", address, "dev", "lo")
        for place in (self.node, self.here, self.there):
            serve_echo(place)
        for node in lab.nodes.values():  # else a packet without a learned route would find a router all the same
            node.ip("route", "del", "default")
        lab.client.ip("route", "add", f"{BY_BIRD}/32", "via", str(lab.outside.address(lab.routers[1].number, "ipv4")))
        self.outside = str(lab.outside.networks["ipv4"])
        self.frr = Frr(
            lab.routers[0],
            asn=ROUTER_ASN,
            router_id="10.99.0.1",
            neighbors=[neighbor_of(node) for node in lab.nodes.values()],
            announce=[self.outside],
        )
        self.bird = Bird(
            lab.routers[1],
            asn=ROUTER_ASN,
            router_id="10.99.0.2",
            neighbors=[neighbor_of(node) for node in lab.nodes.values()],
            announce=[self.outside],
        )
        self.cluster = MiniCluster(lab)
        self.api = self.cluster.api
        self.routers_hold_for(HOLD_SECONDS)
        self.api.apply(
            custom("BGPInstance", "default", {"serviceRoutes": "Import"}),
            custom("BGPPeer", "wire", {"address": str(lab.routers[2].address()), "asn": WIRE_ASN, **ONLY_HERE}),
            custom("BGPAdvertisement", "vips", {"type": "Service", "service": {"addresses": ["LoadBalancerIP"]}}),
            service_object("web", ["10.96.0.7"], load_balancer_ips=[BY_FRR, BY_BIRD], external_policy="Local"),
            slice_object("web", {self.node.name: [str(self.here.address("ipv4"))]}),
            service_object("goes", ["10.96.0.9"], load_balancer_ips=[GOES], external_policy="Local"),
            node_object(self.node, labels=MORTAL),
            node_object(self.other),
        )
        self.serve_goes_on([self.node])
        self.cluster.start_agent(self.other)
        self.agent = self.cluster.start_agent(self.node, "--speaker=external")
        self.speaker = self._start_speaker()
        self.wait_well()

    # What ends, and comes back.

    def kill_exabgp(self) -> None:
        os.kill(self.exabgp(), signal.SIGKILL)

    def replace_speaker(self) -> None:
        self.speaker.stop()
        self.speaker = self._start_speaker()

    def kill_pod(self) -> None:
        self.agent.kill()
        self.speaker.kill()
        self.start_pod()

    def reboot(self) -> None:
        """What the pod sees of it: there is nothing of ours in the kernel."""
        self.agent.kill()
        self.speaker.kill()
        for family in ("-4", "-6"):
            self.node.ip(family, "route", "flush", "table", "all", "proto", OUR_PROTOCOL)
        self.start_pod()

    def says_that_forwarding_is_lost(self) -> bool:
        """In the next OPENs, as ExaBGP is configured."""
        return "forwarding-lost" in (self.agent.run_dir / CONFIGURATION).read_text()

    def replace_pod(self) -> None:
        self.agent.stop()
        self.speaker.stop()
        self.start_pod()

    def start_pod(self) -> None:
        self.speaker = self._start_speaker()
        self.agent.restart()

    def kill_bridge(self) -> None:
        (bridge,) = self._pids("bridge.py")
        os.kill(bridge, signal.SIGKILL)
        wait_until(lambda: self._pids("bridge.py") not in ([], [bridge]))

    def hang_exabgp(self) -> None:
        os.kill(self.exabgp(), signal.SIGSTOP)

    def exabgp(self) -> int:
        (exabgp,) = self._pids("--die-with-parent")
        return exabgp

    @contextmanager
    def as_child(self) -> Iterator[None]:
        """ExaBGP is the agent's child meanwhile."""
        self.agent.stop()
        self.speaker.stop()
        self.agent = self.cluster.start_agent(self.node)
        try:
            self.wait_well()
            yield
        finally:
            self.agent.stop()
            self.agent = self.cluster.start_agent(self.node, "--speaker=external")
            self.speaker = self._start_speaker()
        self.wait_well()

    @contextmanager
    def routers(self, *, frr: str, bird: str) -> Iterator[None]:
        """They have this line more meanwhile."""
        self._routers_anew(frr, (bird,))
        try:
            self.wait_well()
            yield
        finally:
            self._routers_anew(f"no {frr}", ())
        self.wait_well()

    def _routers_anew(self, frr: str, bird: tuple[str, ...]) -> None:
        self.frr.configure([f"router bgp {ROUTER_ASN}", frr])
        self.frr.vtysh("clear bgp *")
        self.bird.peers = {address: replace(peer, extra=bird) for address, peer in self.bird.peers.items()}
        self.bird.configure()

    def routers_hold_for(self, seconds: int) -> None:
        """As both BGPPeers want it."""
        spec = {"import": {"allowed": [{"prefix": self.outside}]}, "holdSeconds": seconds}
        for router, name in zip(self.lab.routers, ("frr", "bird"), strict=False):
            self.api.apply(tor_peer(router, name=name, **spec))

    def serve_goes_on(self, nodes: Collection[Node]) -> None:
        self.api.apply(slice_object("goes", {node.name: [str(self.here.address("ipv4"))] for node in nodes}))

    # What is seen of it.

    @contextmanager
    def watched(self, *, ends: bool = True) -> Iterator[Losses]:
        """Until all is well again after the block, in which sessions end, or do not."""
        losses, before = Losses(), self.times_up()
        machines = [self.other, *self.lab.routers[:2]]
        monitors = {machine.name: machine.start(["ip", "monitor", "route"], log="monitor") for machine in machines}
        marks = {name: len(monitor.output()) for name, monitor in monitors.items()}
        client = self.lab.client
        probes = {
            "pod to pod": Probe(self.here, self.there.address("ipv4")),
            "pod to pod, IPv6": Probe(self.here, self.there.address("ipv6")),
            "pod to service": Probe(self.there, ip_address(BY_FRR)),
            "by FRR to pod": Probe(client, self.here.address("ipv4")),
            "by FRR to service": Probe(client, ip_address(BY_FRR)),
            "by BIRD to service": Probe(client, ip_address(BY_BIRD)),
        }
        try:
            yield losses
        except BaseException:  # the next test begins with its own
            for running in (*probes.values(), *monitors.values()):
                running.stop()
            raise
        wait_until(lambda: self.times_up() == before + ends, within=BACK_SECONDS)
        self.wait_well()
        losses.probes = {name: probe.stop() for name, probe in probes.items()}
        for machine in machines:
            wait_until(lambda machine=machine: _shows(machine, monitors[machine.name]))
        for name, monitor in monitors.items():
            monitor.stop()
            told = monitor.output()[marks[name] :].splitlines()
            if gone := [line for line in told if line.startswith("Deleted") and self._is_watched(line)]:
                losses.deleted[name] = gone
        print(losses)

    def times_up(self) -> int:
        return self.frr.times_established(str(self.node.address()))

    def wait_well(self) -> None:
        wait_until(self._is_well, within=BACK_SECONDS)

    def _is_well(self) -> bool:
        for router in (self.frr, self.bird):
            assert len(router.established()) == 2, router.neighbors()
            found = {prefix for prefix, hops in router.routes("ipv4").items() if hops == [str(self.node.address())]}
            assert found - self.come_and_go == self.routes("ipv4") - self.come_and_go, f"{router}: {found}"
        assert not [path for path in self.frr.paths(f"{BY_FRR}/32") if path.get("stale")]
        for node in (self.node, self.other):
            agent = self.cluster.agent(node)
            assert agent.view("status")["phase"] == "IN_SYNC"
            peers = {peer["description"]: peer for peer in agent.view("peers")["peers"].values()}
            assert all(peer["is_up"] for name, peer in peers.items() if "wire" not in name), peers
            assert not any(peer["stale_prefixes"] for peer in peers.values()), peers
        missing = set(map(str, self.node.pod_cidrs.values())) - self.learned_there()
        assert not missing, missing
        return True

    def session_of_nodes(self) -> dict[str, Any]:
        """What node 2 says of the one with node 1."""
        peers = self.cluster.agent(self.other).view("peers")["peers"]
        return dict(peers[str(self.node.address())])

    def learned_there(self) -> set[str]:
        """What node 2 has in its kernel by way of node 1."""
        both = {**self.cluster.learned(self.other, "ipv4"), **self.cluster.learned(self.other, "ipv6")}
        return {prefix for prefix, hops in both.items() if set(hops) & set(map(str, self.node.addresses))}

    def routes(self, family: Family) -> set[str]:
        """What node 1 tells everybody."""
        services = {f"{address}/32" for address in (BY_FRR, BY_BIRD, GOES)} if family == "ipv4" else set()
        return {str(self.node.pod_cidrs[family])} | services

    def _is_watched(self, line: str) -> bool:
        watched = [*map(str, self.node.pod_cidrs.values()), BY_FRR, BY_BIRD, GOES]
        return any(line.startswith(f"Deleted {prefix} ") for prefix in watched)

    def _start_speaker(self) -> Process:
        return self.node.start([BGPILOT, "speaker", f"--run-dir={self.agent.run_dir}"], log="speaker")

    def _pids(self, word: str) -> list[int]:
        found = []
        for pid in run(["ip", "netns", "pids", self.node.full_name]).stdout.split():
            path = Path("/proc", pid, "cmdline")
            if path.exists() and word in (line := path.read_text()) and str(self.agent.run_dir) in line:
                found.append(int(pid))
        return found


def _shows(machine: Host, monitor: Process) -> bool:
    """A change that was made just now, and with it all before."""
    for verb in ("add", "del"):
        machine.ip("route", verb, MARK, "dev", "lo", "proto", "static")
    return f"Deleted {MARK} " in monitor.output()


def neighbor_of(node: Node) -> Neighbor:
    """By address: FRR forgets a member of a range, routes and all, as soon as its session ends."""
    return Neighbor(str(node.address()), CLUSTER_ASN, families=("ipv4",), hold_seconds=HOLD_SECONDS)
