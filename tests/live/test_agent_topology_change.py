"""Every change of who peers with whom, and of what a session is, on a running cluster of real agents: nothing is lost.

The judges are pods that send each other a packet every 10 ms on all pairs of nodes, and each kernel, which tells of
every route that goes; the agents' own word counts for sessions only.
"""

from __future__ import annotations

import base64
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import combinations
from typing import Any

import pytest

from tests.lab.frr import Frr
from tests.lab.minicluster import CLUSTER_ASN, LAB_HOLD_SECONDS, ROUTER_ASN, MiniCluster, custom, node_object, tor_peer
from tests.lab.neighbor import Neighbor
from tests.lab.pods import serve_echo
from tests.lab.probe import Probe
from tests.lab.topology import Lab, Node
from tests.lab.wait import wait_until

pytestmark = pytest.mark.live

REFLECTOR = {"reflector": "yes"}
ALL_PAIRS = ("1-2", "1-3", "1-4", "2-3", "2-4", "3-4")
RACK_ASN = 65001
LISTEN_PORT = 1790
WITH_PASSWORD = {"passwordSecretRef": {"name": "mesh", "key": "md5"}}
ENDED_SECONDS = 120.0
"""Within this an old session has gone: 45 s after its replacement, on a slow machine."""
OUTAGE_SECONDS = 0.3


class Site:
    """A cluster whose nodes have a pod each, and its one BGPInstance."""

    def __init__(self, cluster: MiniCluster) -> None:
        self.cluster = cluster
        self.lab = cluster.lab
        self.nodes = list(cluster.lab.nodes.values())
        self.pods = {node.name: node.add_pod() for node in self.nodes}
        for pod in self.pods.values():
            serve_echo(pod)

    def instance(self, *, mesh: Mapping[str, Any] | None = None, **spec: Any) -> None:
        mesh = {"mode": "FullMesh", "holdSeconds": LAB_HOLD_SECONDS, **(mesh or {})}
        self.cluster.api.apply(custom("BGPInstance", "default", {"mesh": mesh, **spec}))

    def node(self, node: Node, labels: Mapping[str, str], *, cordoned: bool = False) -> None:
        wanted = node_object(node, labels=labels)
        wanted["spec"]["unschedulable"] = cordoned
        self.cluster.api.apply(wanted)

    def secret(self, password: str) -> None:
        value = base64.b64encode(password.encode()).decode()
        metadata = {"namespace": "bgpilot-system", "name": "mesh"}
        self.cluster.api.apply({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": {"md5": value}})

    def up(self) -> dict[str, dict[str, Any]]:
        """Of every node, what it says of its peers that are up."""
        return {
            name: {peer["description"]: peer for peer in agent.view("peers")["peers"].values() if peer["is_up"]}
            for name, agent in self.cluster.agents.items()
        }

    def flaps(self) -> dict[str, int]:
        """Node and peer → how often a session that is up has ended."""
        return {f"{name} {other}": peer["flaps"] for name, peers in self.up().items() for other, peer in peers.items()}

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
        self.wait_pairs(*ALL_PAIRS)

    def reflectors(self) -> set[str]:
        return {name for name, agent in self.cluster.agents.items() if agent.view("status")["identity"]["cluster_id"]}

    @contextmanager
    def probed(self) -> Iterator[Losses]:
        """What is lost until the end of the block is known after it. An echo goes both ways, so a pair needs one."""
        losses = Losses(self)
        try:
            yield losses
        finally:
            losses.stop()

    @contextmanager
    def unharmed(self) -> Iterator[None]:
        with self.probed() as losses:
            yield
        assert losses.deleted == {}
        assert losses.packets == {}


class Losses:
    """Counts from the moment it is made to `stop`."""

    def __init__(self, site: Site) -> None:
        self.packets: dict[str, tuple[int, float]] = {}
        """Pair and family → how many packets were lost, and for how many ms."""
        self.deleted: dict[str, list[str]] = {}
        """Node → routes of pods that the kernel told were deleted."""
        self._cidrs = [str(cidr) for node in site.nodes for cidr in node.pod_cidrs.values()]
        self._monitors = {
            node.name: node.start(["ip", "monitor", "route"], log=f"monitor-{time.monotonic_ns()}")
            for node in site.nodes
        }
        self._probes = {
            f"{here.name} {there.name} {family}": Probe(site.pods[here.name], site.pods[there.name].address(family))
            for here, there in combinations(site.nodes, 2)
            for family in site.lab.families
        }

    def stop(self) -> None:
        for name, probe in self._probes.items():
            result = probe.stop()
            assert result.sent > 0, name
            if result.lost:
                self.packets[name] = (result.lost, result.longest_gap_ms)
        for name, monitor in self._monitors.items():
            monitor.stop()
            gone = [line for line in monitor.output().splitlines() if line.startswith("Deleted")]
            if ours := [line for line in gone if any(f" {cidr} " in line for cidr in self._cidrs)]:
                self.deleted[name] = ours


@contextmanager
def site_of(lab: Lab) -> Iterator[Site]:
    with MiniCluster(lab) as cluster:
        site = Site(cluster)
        site.instance()
        cluster.start()
        site.wait_pairs(*ALL_PAIRS)
        yield site


def test_mesh_to_reflectors_one_of_them_moved_one_cordoned_and_back_to_a_mesh(lab: Callable[..., Lab]) -> None:
    with site_of(lab(nodes=4)) as site:
        first, second, third, _ = site.nodes
        site.node(first, REFLECTOR)
        site.node(second, REFLECTOR)
        selected = {"nodeSelector": {"matchLabels": REFLECTOR}}

        with site.unharmed():
            site.instance(mesh={"mode": "RouteReflector", "reflectors": selected})
            site.wait_pairs("1-2", "1-3", "1-4", "2-3", "2-4")
        with site.unharmed():
            site.node(second, {})
            site.node(third, REFLECTOR)
            wait_until(lambda: "node-3" in site.reflectors())
        with site.unharmed():  # while the change before is under way: node-2 has a session that parts
            site.instance(mesh={"mode": "Auto", "reflectors": {"threshold": 3}})
            wait_until(lambda: site.reflectors() >= {"node-1", "node-2", "node-3"})
            site.node(first, {}, cordoned=True)
            site.wait_pairs("1-2", "1-4", "2-3", "2-4", "3-4")
            assert site.reflectors() == {"node-2", "node-4"}
        with site.unharmed():
            site.instance()
            site.wait_pairs(*ALL_PAIRS)
        assert set(site.flaps().values()) == {0}


@pytest.fixture(scope="module")
def routed() -> Iterator[Site]:
    """A cluster with a router that passes on what the nodes tell it, whatever their AS.

    Its neighbors are named one by one: FRR forgets a dynamic one, routes and all, as soon as its session ends. No node
    has a default route: the router would be another way for packets that a node has no route for.
    """
    with Lab(nodes=4, routers=1, families=("ipv4",)) as lab:
        Frr(
            lab.router,
            asn=ROUTER_ASN,
            router_id="10.99.0.1",
            neighbors=[
                Neighbor(
                    str(node.address()), CLUSTER_ASN, passive=True, families=("ipv4",), extra=("remote-as external",)
                )
                for node in lab.nodes.values()
            ],
        )
        for node in lab.nodes.values():
            node.ip("route", "del", "default")
        with site_of(lab) as site:
            yield site


@pytest.mark.parametrize(
    "spec",
    [
        {"mesh": {"holdSeconds": 12}},
        {"listenPort": LISTEN_PORT},
        {"asn": RACK_ASN},
    ],
    ids=["hold time", "port", "as"],
)
def test_what_all_sessions_are_changes_and_changes_back(routed: Site, spec: dict[str, Any]) -> None:
    for wanted in (spec, {}):
        with routed.unharmed(), routed.all_restarted():
            routed.instance(**wanted)


def test_a_password_that_changes_restarts_the_mesh_and_loses_nothing(routed: Site) -> None:
    routed.secret("swordfish")
    with routed.unharmed(), routed.all_restarted():
        routed.instance(mesh=WITH_PASSWORD)
    with routed.unharmed(), routed.all_restarted():
        routed.secret("hunter2")
    with routed.unharmed(), routed.all_restarted():
        routed.instance()


def test_a_node_whose_as_changes_leaves_the_mesh_for_the_router_and_comes_back(routed: Site) -> None:
    leaving = routed.nodes[3]
    spec = {"asnFrom": {"label": "asn"}}
    for node in routed.nodes:
        routed.node(node, {"asn": str(CLUSTER_ASN)})
    with routed.unharmed():
        routed.instance(**spec)
        peer = tor_peer(routed.lab.router, allowASIn=1)
        peer["spec"]["import"] = {"podCIDRs": True}
        routed.cluster.api.apply(peer)
        wait_until(lambda: all("BGPPeer/tor" in peers for peers in routed.up().values()), within=60.0)
        routed.wait_pairs(*ALL_PAIRS)
    others = routed.flaps_without(leaving)

    with routed.unharmed():
        routed.node(leaving, {"asn": str(RACK_ASN)})
        routed.wait_pairs("1-2", "1-3", "2-3")
    with routed.unharmed():
        routed.node(leaving, {"asn": str(CLUSTER_ASN)})
        routed.wait_pairs(*ALL_PAIRS)

    assert routed.flaps_without(leaving) == others


def test_the_probe_and_the_kernels_see_a_route_that_is_away_for_a_moment(routed: Site) -> None:
    node, other = routed.nodes[:2]
    agent = routed.cluster.agent(node).process.popen
    with routed.probed() as losses:
        agent.send_signal(signal.SIGSTOP)
        node.ip("route", "del", str(other.pod_cidrs["ipv4"]), "proto", "179")
        ends_at = time.monotonic() + OUTAGE_SECONDS
        wait_until(lambda: time.monotonic() > ends_at)
        agent.send_signal(signal.SIGCONT)
        wait_until(routed.cluster.meshed)

    assert losses.packets.keys() == {f"{node.name} {other.name} ipv4"}
    assert len(losses.deleted[node.name]) == 1
