"""The whole job on real parts: from a host behind the router to pods and services of a real cluster, over real BGP.

Each cluster has its own router program and families. What follows a change is in test_end_to_end_changes.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.lab.bird import Bird
from tests.lab.cni import CniPod
from tests.lab.frr import Frr
from tests.lab.minicluster import CLUSTER_ASN, LAB_HOLD_SECONDS, OUR_PROTOCOL, ROUTER_ASN, Agent, tor_peer
from tests.lab.neighbor import Neighbor
from tests.lab.netns import Family
from tests.lab.pods import curl, traceroute
from tests.lab.realcluster import SERVICES_ADVERTISED, RealCluster, host_prefix, web_service
from tests.lab.topology import Lab
from tests.lab.wait import wait_until

pytestmark = pytest.mark.cluster

SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Scene:
    lab: Lab
    cluster: RealCluster
    router: Frr | Bird
    pods: dict[str, CniPod]
    """One on each node, by its name; all are endpoints of the Service `web`."""


SCENES: dict[str, tuple[type[Frr | Bird], tuple[Family, ...]]] = {
    "dual-frr": (Frr, ("ipv4", "ipv6")),
    "ipv4-bird": (Bird, ("ipv4",)),
    "ipv6-bird": (Bird, ("ipv6",)),
}


@pytest.fixture(scope="module", params=SCENES)
def scene(request: pytest.FixtureRequest) -> Iterator[Scene]:
    program, families = SCENES[request.param]
    with Lab(nodes=3, families=families, pod_bridge=False) as lab, RealCluster(lab) as cluster:
        nodes = lab.nodes.values()
        neighbors = [
            Neighbor(str(node.address()), CLUSTER_ASN, passive=True, families=families, hold_seconds=LAB_HOLD_SECONDS)
            for node in nodes
        ]
        router = program(lab.router, asn=ROUTER_ASN, router_id="10.99.0.1", neighbors=neighbors)
        cluster.join(*nodes)
        pods = {f"web-{node.index}": cluster.run_pod(node, f"web-{node.index}", app="web") for node in nodes}
        cluster.apply(tor_peer(lab.router), SERVICES_ADVERTISED, web_service("web", app="web"))
        yield Scene(lab, cluster, router, pods)


def test_every_node_has_the_pod_routes_of_the_others_under_our_protocol_number(scene: Scene) -> None:
    scene.cluster.wait_meshed(within=SECONDS)

    for node in scene.lab.nodes.values():
        for family, flag in (("ipv4", "-4"), ("ipv6", "-6")):
            if family in scene.lab.families:
                shown = node.run(["ip", flag, "route", "show", "proto", OUR_PROTOCOL]).stdout
                assert len(shown.splitlines()) == 3, f"two nodes and the discard route of its own: {shown}"


def test_pods_of_two_nodes_reach_each_other_over_plain_hops(scene: Scene) -> None:
    scene.cluster.wait_meshed(within=SECONDS)
    here, there = scene.pods["web-1"], scene.pods["web-2"]

    for family in scene.lab.families:
        assert wait_until(lambda family=family: curl(here, there.address(family)), within=SECONDS) == "web-2"
        gateway = scene.lab.node(1).pod_cidrs[family][1]
        expected = [gateway, there.node.address(family), there.address(family)]
        assert traceroute(here, there.address(family)) == [str(hop) for hop in expected]


def test_a_host_behind_the_router_gets_an_answer_from_every_pod(scene: Scene) -> None:
    for name, pod in scene.pods.items():
        for family in scene.lab.families:
            address = pod.address(family)
            assert wait_until(lambda address=address: curl(scene.lab.client, address), within=SECONDS) == name


def test_traceroute_from_outside_shows_router_node_and_pod(scene: Scene) -> None:
    for family in scene.lab.families:
        for pod in scene.pods.values():
            expected = [scene.lab.outside.address(scene.lab.router.number, family), pod.node.address(family)]
            hops = [str(hop) for hop in (*expected, pod.address(family))]
            wait_until(
                lambda pod=pod, family=family, hops=hops: traceroute(scene.lab.client, pod.address(family)) == hops,
                within=SECONDS,
            )


def test_the_router_has_every_node_as_a_next_hop_of_a_cluster_ip(scene: Scene) -> None:
    for family, address in scene.cluster.cluster_ips("web").items():
        prefix = host_prefix(address)
        everyone = [str(node.address(family)) for node in scene.lab.nodes.values()]

        wait_until(
            lambda family=family, prefix=prefix, everyone=everyone: scene.router.routes(family).get(prefix) == everyone,
            within=SECONDS,
        )
        wait_until(
            lambda family=family, prefix=prefix: len(scene.lab.router.kernel_routes(family)[prefix]) == 3,
            within=SECONDS,
        )


def test_a_host_behind_the_router_gets_answers_from_all_pods_behind_a_cluster_ip(scene: Scene) -> None:
    for address in scene.cluster.cluster_ips("web").values():
        answers: set[str | None] = set()

        def all_have_answered(address: str = address, answers: set[str | None] = answers) -> bool:
            answers.add(curl(scene.lab.client, address))
            return answers >= scene.pods.keys()

        wait_until(all_have_answered, within=SECONDS, every=0.0)


def test_each_agent_is_in_order_with_nothing_but_the_rights_of_the_manifest(scene: Scene) -> None:
    for agent in scene.cluster.agents.values():

        def in_order(agent: Agent = agent) -> bool:
            told = agent.ask("status")
            assert (told["problems"], told["picture"]["unhealthy"]) == ([], [])
            return bool(told["healthy"] and told["phase"] == "IN_SYNC")

        wait_until(in_order, within=SECONDS)
