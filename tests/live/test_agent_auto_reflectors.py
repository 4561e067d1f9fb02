"""Whom mode Auto takes as reflectors, and a full mesh that is too large, as the sessions and kernels show it.

Six real agents: a session counts when both ends have it. And one agent among 249 simulated nodes, which know what
sessions they have. Who comes first depends on the nodes' names, so a test asks who it is before it sets labels.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from ipaddress import IPv4Network
from itertools import combinations
from typing import Any

import pytest

from tests.lab.crowd import Crowd
from tests.lab.minicluster import CLUSTER_ASN, LAB_HOLD_SECONDS, Agent, MiniCluster, custom, node_object
from tests.lab.topology import Lab, Node
from tests.lab.wait import wait_until

pytestmark = pytest.mark.live

NODES = 6
THRESHOLD = 3
"""So that six nodes are many."""
ZONE, CONTROL_PLANE = "topology.kubernetes.io/zone", "node-role.kubernetes.io/control-plane"
PROBLEM = 'bgpilot_problems{reason="meshTooLarge"}'

MEMBERS = 249
NETWORK = IPv4Network("10.250.0.0/16")
PODS = IPv4Network("10.128.0.0/24")

Sessions = set[frozenset[str]]


class Small:
    """Six nodes, some of them in zone `a` and all others in zone `b`, or none in any."""

    def __init__(self, cluster: MiniCluster) -> None:
        self.cluster = cluster
        self.mesh()
        cluster.start()

    @property
    def nodes(self) -> Mapping[str, Node]:
        return self.cluster.lab.nodes

    @property
    def agents(self) -> Mapping[str, Agent]:
        return self.cluster.agents

    def mesh(self, mode: str = "Auto", **reflectors: Any) -> None:
        mesh = {"mode": mode, "holdSeconds": LAB_HOLD_SECONDS, "reflectors": {"threshold": THRESHOLD, **reflectors}}
        self.cluster.api.apply(custom("BGPInstance", "default", {"mesh": mesh}))

    def label(self, *, zone_a: Iterable[str], control_plane: Iterable[str] = ()) -> None:
        for name, node in self.nodes.items():
            labels = {ZONE: "a" if name in zone_a else "b", **({CONTROL_PLANE: ""} if name in control_plane else {})}
            self.cluster.api.apply(node_object(node, labels=labels))

    def sessions(self) -> Sessions:
        """Between two nodes that both have it and mean to keep it: an old one stays for the better part of a minute."""
        found = set[tuple[str, str]]()
        for name, agent in self.agents.items():
            for peer in agent.view("peers")["peers"].values():
                if peer["is_up"] and not peer["parting"]:
                    found.add((name, peer["name"].removeprefix("node/")))
        return {frozenset(pair) for pair in found if pair[::-1] in found}

    def choice(self, fits: Callable[[set[str]], bool]) -> set[str]:
        """The two reflectors, now or soon: all others have sessions with these alone, and every kernel every route."""

        def chosen() -> set[str]:
            found = self.sessions()
            reflectors = {name for name in self.nodes if sum(name in pair for pair in found) == len(self.nodes) - 1}
            assert len(reflectors) == 2, sorted(map(sorted, found))
            assert found == {pair for pair in self.pairs() if pair & reflectors}
            assert fits(reflectors), reflectors
            self.cluster.meshed()
            return reflectors

        return wait_until(chosen, within=120.0, every=0.25)

    def pairs(self) -> Sessions:
        return set(map(frozenset, combinations(self.nodes, 2)))

    def losses(self) -> int:
        """How often a session ended that is there now."""
        views = [agent.view("peers")["peers"].values() for agent in self.agents.values()]
        return sum(peer["flaps"] for peers in views for peer in peers if peer["is_up"])


@pytest.fixture(scope="module")
def small() -> Iterator[Small]:
    with Lab(nodes=NODES, families=("ipv4",), pod_bridge=False) as lab, MiniCluster(lab) as cluster:
        yield Small(cluster)


@pytest.fixture(scope="module")
def by_name(small: Small) -> set[str]:
    """Whom they take where no label says anything."""
    return small.choice(bool)


@pytest.fixture(scope="module")
def by_zone(small: Small, by_name: set[str]) -> set[str]:
    """Whom they take when those are in one zone and all others in another one."""
    small.label(zone_a=by_name)
    return small.choice(lambda found: found != by_name)


def test_two_reflectors_are_of_two_zones_and_no_kernel_loses_a_route_when_zones_are_given(
    small: Small, by_name: set[str], request: pytest.FixtureRequest
) -> None:
    monitors = {name: node.start(["ip", "monitor", "route"], log="monitor") for name, node in small.nodes.items()}

    found = request.getfixturevalue("by_zone")

    assert len(found & by_name) == 1
    for name, monitor in monitors.items():
        monitor.stop()
        assert "Deleted" not in monitor.output(), name
    assert small.losses() == 0


def test_nodes_of_the_control_plane_reflect_last_first_or_like_others_as_the_setting_says(
    small: Small, by_name: set[str], by_zone: set[str]
) -> None:
    """One that would reflect and one that would not are of the control plane, in different zones."""
    would = by_zone & by_name
    control_plane = would | {min(small.nodes.keys() - by_name - by_zone)}

    small.label(zone_a=by_name, control_plane=control_plane)
    small.choice(lambda found: not found & control_plane and len(found & by_name) == 1)
    small.mesh(controlPlane="Prefer")
    small.choice(lambda found: found == control_plane)
    small.mesh(controlPlane="Allow")
    small.choice(lambda found: found == by_zone)

    assert small.losses() == 0


def test_a_full_mesh_above_the_threshold_works_and_says_so_until_there_are_less_nodes(small: Small) -> None:
    small.mesh("FullMesh", threshold=NODES - 1)
    wait_until(lambda: all(PROBLEM + " 1.0" in metrics(node) for node in small.nodes.values()), within=120.0)
    wait_until(lambda: small.sessions() == small.pairs() and small.cluster.meshed(), within=120.0)
    agent = small.agents["node-1"]
    for command in ("status", "peers"):
        done = agent.cli(command)
        assert f"! BGPInstance default: more than {NODES - 1} nodes of AS {CLUSTER_ASN} are fully" in done.stdout
        assert done.returncode == 0, "all works"
    assert small.losses() == 0

    last = small.nodes[f"node-{NODES}"]
    small.cluster.forget(last)
    small.cluster.lab.remove_node(last)

    wait_until(lambda: not any(PROBLEM in metrics(node) for node in small.nodes.values()))
    wait_until(lambda: small.sessions() == small.pairs() and small.cluster.meshed())
    assert "fully meshed" not in agent.cli("status").stdout


def metrics(node: Node) -> str:
    return node.run(["curl", "-sS", "http://127.0.0.1:9817/metrics"]).stdout


def test_of_250_nodes_three_reflect_one_per_zone_and_none_or_only_of_the_control_plane_as_set() -> None:
    """Nobody has a session with any other node, and the kernel has the routes of all of them."""
    with (
        Lab(nodes=1, families=("ipv4",)) as lab,
        MiniCluster(lab) as cluster,
        Crowd(lab.host("crowd"), NETWORK, MEMBERS, asn=CLUSTER_ASN, hold_seconds=90, prefix=PODS) as crowd,
    ):
        node, labels = lab.node(1), dict[str, dict[str, str]]()
        node.configure(ip=[f"addr add {NETWORK[1]}/{NETWORK.prefixlen} dev eth0"])
        crowd.known_to(node)
        under_test = node_object(node, labels={ZONE: "a"})
        under_test["status"]["addresses"][0]["address"] = str(NETWORK[1])
        objects = crowd.node_objects()
        for number, one in enumerate(objects):
            labels[str(crowd.members[number])] = one["metadata"]["labels"] = {
                ZONE: "abc"[number % 3],
                **({CONTROL_PLANE: ""} if number % 4 == 0 else {}),
            }
        cluster.api.apply(under_test, *objects)
        everybody = {str(prefix) for prefix in crowd.prefixes}

        def three(*, control_plane: bool, besides: Collection[str] = ()) -> set[str]:
            found = {address for address, told in crowd.ask(told=True).items() if told}.difference(besides)
            assert sorted(labels[address][ZONE] for address in found) == ["a", "b", "c"], found
            assert {CONTROL_PLANE in labels[address] for address in found} == {control_plane}, found
            return found

        cluster.start_agent(node)
        avoiding = wait_until(lambda: three(control_plane=False), within=120.0)
        crowd.ask(reflect=sorted(avoiding), count=MEMBERS)
        wait_until(lambda: set(cluster.learned(node, "ipv4")) == everybody, within=120.0)
        cluster.api.apply(custom("BGPInstance", "default", {"mesh": {"reflectors": {"controlPlane": "Prefer"}}}))
        preferring = wait_until(lambda: three(control_plane=True, besides=avoiding), within=120.0)
        crowd.ask(reflect=sorted(avoiding | preferring), count=MEMBERS)

        assert set(cluster.learned(node, "ipv4")) == everybody
        seen = crowd.ask()
        assert (seen["sessions"], seen["ended"], seen["notifications"]) == (6, 0, [])
