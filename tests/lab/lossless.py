"""A cluster whose pods and kernels are watched while who peers with whom changes: what was lost, packets and routes.

The judges are pods that send each other a packet every 10 ms, and each kernel, which tells of every route that goes;
the agents' own word counts for sessions only.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import combinations
from typing import Any

from tests.lab.minicluster import LAB_HOLD_SECONDS, MiniCluster, custom, node_object
from tests.lab.pods import serve_echo
from tests.lab.probe import Probe
from tests.lab.topology import Node, Pod
from tests.lab.wait import wait_until

ENDED_SECONDS = 120.0
"""Within this an old session has gone: 45 s after its replacement, on a slow machine."""


class Site:
    """A cluster whose nodes have a pod each, and its one BGPInstance."""

    def __init__(self, cluster: MiniCluster) -> None:
        self.cluster = cluster
        self.lab = cluster.lab
        self.nodes: list[Node] = []
        self.pods: dict[str, Pod] = {}
        for node in cluster.lab.nodes.values():
            self.add(node)

    def add(self, node: Node) -> None:
        self.nodes.append(node)
        self.pods[node.name] = node.add_pod()
        serve_echo(self.pods[node.name])

    def instance(self, *, mesh: Mapping[str, Any] | None = None, **spec: Any) -> None:
        mesh = {"mode": "FullMesh", "holdSeconds": LAB_HOLD_SECONDS, **(mesh or {})}
        self.cluster.api.apply(custom("BGPInstance", "default", {"mesh": mesh, **spec}))

    def node(self, node: Node, labels: Mapping[str, str], *, cordoned: bool = False, ready: bool = True) -> None:
        wanted = node_object(node, labels=labels)
        wanted["spec"]["unschedulable"] = cordoned
        wanted["status"]["conditions"] = [{"type": "Ready", "status": "True" if ready else "Unknown"}]
        self.cluster.api.apply(wanted)

    def secret(self, password: str) -> None:
        value = base64.b64encode(password.encode()).decode()
        metadata = {"namespace": "bgpilot-system", "name": "mesh"}
        self.cluster.api.apply({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": {"md5": value}})

    @property
    def all_pairs(self) -> set[str]:
        return {f"{here.index}-{there.index}" for here, there in combinations(self.nodes, 2)}

    def up(self) -> dict[str, dict[str, Any]]:
        """Of every node, what it says of its peers that are up."""
        return {
            name: {peer["description"]: peer for peer in agent.view("peers")["peers"].values() if peer["is_up"]}
            for name, agent in self.cluster.agents.items()
        }

    def problems(self) -> dict[str, set[str]]:
        """Of every node, the reason words of what it finds wrong."""
        return {
            name: {problem["reason"] for problem in agent.view("status")["problems"]}
            for name, agent in self.cluster.agents.items()
        }

    def flaps(self) -> dict[str, int]:
        """Node and peer → how often a session that is up has ended."""
        return {f"{name} {other}": peer["flaps"] for name, peers in self.up().items() for other, peer in peers.items()}

    def flapped(self) -> dict[str, Any]:
        """Node and peer → why its session ended, of those that are up and were before."""
        return {
            f"{name} {other}": peer["last_error"]
            for name, peers in self.up().items()
            for other, peer in peers.items()
            if peer["flaps"]
        }

    def flaps_without(self, node: Node) -> dict[str, int]:
        return {name: flaps for name, flaps in self.flaps().items() if node.name not in name}

    def pairs(self) -> set[str]:
        """The pairs of nodes with a session that both say is up, as `1-2`."""
        found = {
            (int(name.removeprefix("node-")), int(other.removeprefix("node/node-")))
            for name, peers in self.up().items()
            for other in peers
            if other.startswith("node/")
        }
        return {f"{here}-{there}" for here, there in found if here < there and (there, here) in found}

    def wait_pairs(self, *wanted: str) -> None:
        """These pairs have a session, and no other."""

        def there() -> bool:
            assert self.pairs() == set(wanted)
            return self.cluster.meshed()

        wait_until(there, within=ENDED_SECONDS, every=0.25)

    @contextmanager
    def all_restarted(self) -> Iterator[None]:
        """After the block every session of the mesh has ended, and is up again."""
        before = self.flaps()
        yield

        def restarted() -> bool:
            now = self.flaps()
            assert {name: flaps for name, flaps in now.items() if flaps > before[name]}.keys() == before.keys()
            return True

        wait_until(restarted, within=ENDED_SECONDS, every=0.25)
        self.wait_pairs(*self.all_pairs)

    def reflectors(self) -> set[str]:
        return {name for name, agent in self.cluster.agents.items() if agent.view("status")["identity"]["cluster_id"]}

    @contextmanager
    def probed(self) -> Iterator[Losses]:
        """What is lost until the end of the block is known after it."""
        losses = Losses(self)
        try:
            yield losses
        finally:
            losses.stop()

    @contextmanager
    def unharmed(self) -> Iterator[Losses]:
        with self.probed() as losses:
            yield losses
        assert losses.deleted == {}, losses.deleted
        assert losses.packets == {}, losses.packets


class Losses:
    """Counts from the moment it is made to `stop`, between the nodes that are there then; others by `watch_all`."""

    def __init__(self, site: Site) -> None:
        self.packets: dict[str, tuple[int, float]] = {}
        """Pair and family → how many packets were lost, and for how many ms."""
        self.deleted: dict[str, list[str]] = {}
        """Node → routes of pods that the kernel told were deleted."""
        self._site = site
        self._monitors = {}
        self._probes: dict[str, Probe] = {}
        self.watch_all()

    def watch_all(self) -> None:
        """Nodes and pairs that are new since. An echo goes both ways, so a pair needs one."""
        site = self._site
        for node in site.nodes:
            if node.name not in self._monitors:
                log = f"monitor-{time.monotonic_ns()}"
                self._monitors[node.name] = node.start(["ip", "monitor", "route"], log=log)
        for here, there in combinations(site.nodes, 2):
            for family in site.lab.families:
                if (name := f"{here.name} {there.name} {family}") not in self._probes:
                    self._probes[name] = Probe(site.pods[here.name], site.pods[there.name].address(family))

    def stop(self) -> None:
        for name, probe in self._probes.items():
            result = probe.stop()
            assert result.sent > 0, name
            if result.lost:
                self.packets[name] = (result.lost, result.longest_gap_ms)
        cidrs = [str(cidr) for node in self._site.nodes for cidr in node.pod_cidrs.values()]
        for name, monitor in self._monitors.items():
            monitor.stop()
            if ours := _deleted(monitor.output(), cidrs):
                self.deleted[name] = ours


def _deleted(told: str, cidrs: Sequence[str]) -> list[str]:
    gone = [line for line in told.splitlines() if line.startswith("Deleted")]
    return [line for line in gone if any(f" {cidr} " in line for cidr in cidrs)]
