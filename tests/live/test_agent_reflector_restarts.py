"""A reflector's agent restarts beside its ExaBGP, or both do: what it has passed on stays with its clients while it is
true.

Nobody else reflects, so a client's kernel shows at once what its only teller has taken back.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.lab.minicluster import BGPILOT, LAB_HOLD_SECONDS, OUR_PROTOCOL, MiniCluster, custom, node_object
from tests.lab.procs import Process
from tests.lab.topology import Lab, Node
from tests.lab.wait import wait_until

pytestmark = pytest.mark.live

LABEL = {"reflector": "yes"}
INSTANCE = {
    "mesh": {
        "mode": "RouteReflector",
        "holdSeconds": LAB_HOLD_SECONDS,
        "reflectors": {"nodeSelector": {"matchLabels": LABEL}},
    }
}


@pytest.fixture(scope="module")
def speakers() -> dict[str, Process]:
    return {}


@pytest.fixture(scope="module")
def cluster(speakers: dict[str, Process]) -> Iterator[MiniCluster]:
    with Lab(nodes=4) as lab, MiniCluster(lab) as made:
        made.api.apply(custom("BGPInstance", "default", INSTANCE))
        for node in lab.nodes.values():
            made.api.apply(node_object(node, labels=LABEL if node.index == 1 else {}))
            made.start_agent(node, "--speaker=external")
            speakers[node.name] = start_speaker(made, node)
        made.wait_meshed()
        yield made


def start_speaker(cluster: MiniCluster, node: Node) -> Process:
    return node.start([BGPILOT, "speaker", f"--run-dir={cluster.agent(node).run_dir}"], log="speaker")


def lacks(cluster: MiniCluster, node: Node, gone: Node) -> bool:
    cidrs = {str(cidr) for cidr in gone.pod_cidrs.values()}
    return not cidrs & {to for family in cluster.lab.families for to in cluster.learned(node, family)}


@pytest.mark.parametrize("pod", [False, True], ids=["agent", "pod"])
def test_its_clients_kernels_are_not_touched(cluster: MiniCluster, speakers: dict[str, Process], pod: bool) -> None:
    lab, reflector = cluster.lab, cluster.lab.node(1)
    agent = cluster.agent(reflector)
    clients = [lab.node(number) for number in (2, 3, 4)]
    monitors = [node.start(["ip", "monitor", "route"], log=f"monitor-{pod}") for node in clients]

    agent.kill()
    if pod:
        speakers[reflector.name].kill()
        speakers[reflector.name] = start_speaker(cluster, reflector)
    reflector.ip(
        "route", "add", "198.51.100.0/24", "via", str(clients[0].address()), "proto", OUR_PROTOCOL
    )  # goes when all has been told
    agent.restart()
    wait_until(lambda: "198.51.100.0/24" not in reflector.kernel_routes("ipv4", "proto", OUR_PROTOCOL), within=60)
    wait_until(lambda: agent.view("status")["phase"] == "IN_SYNC", within=60)
    for node in clients:
        node.ip("route", "add", "192.0.2.1", "dev", "lo", "proto", "static")
    wait_until(lambda: all("192.0.2.1" in monitor.output() for monitor in monitors))
    for node in clients:
        node.ip("route", "del", "192.0.2.1", "dev", "lo")

    told = [monitor.output().splitlines() for monitor in monitors]
    assert [[line for line in lines if f"proto {OUR_PROTOCOL}" in line] for lines in told] == [[], [], []]
    assert cluster.meshed()


def test_what_a_client_had_told_goes_when_it_has_gone_meanwhile(cluster: MiniCluster) -> None:
    lab, reflector, gone = cluster.lab, cluster.lab.node(1), cluster.lab.node(4)

    cluster.agent(reflector).kill()
    cluster.agents.pop(gone.name)
    lab.remove_node(gone)
    cluster.api.delete("Node", gone.name)
    cluster.agent(reflector).restart()

    wait_until(lambda: all(lacks(cluster, lab.node(number), gone) for number in (1, 2, 3)), within=60)
    assert cluster.meshed()
