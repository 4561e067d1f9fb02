"""`make demo`: a small cluster does the whole job before your eyes, with a figure and PASS or FAIL per scene.

Three nodes, one router and a client, all network namespaces on this machine; real agents, real ExaBGP, real kernel
routes, a real FRR as the router; only the API server is embedded. Exit code 0: every scene passed.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

from tests.lab.frr import Frr
from tests.lab.minicluster import (
    LAB_HOLD_SECONDS,
    MiniCluster,
    custom,
    service_object,
    slice_object,
    tor,
    tor_peer,
)
from tests.lab.pods import curl, serve_http, traceroute
from tests.lab.topology import Lab, Node
from tests.lab.wait import wait_until

SCENE_SECONDS = 60.0
SERVICE_IP = "10.96.0.80"
LOCAL_IP = "192.0.2.10"

WIDTH = 78


@dataclass(slots=True)
class Stage:
    """The cluster and the score."""

    lab: Lab
    cluster: MiniCluster
    router: Frr
    failed: int = 0

    def scene(self, title: str, act: Callable[[], str]) -> None:
        """Play one scene: `act` returns what was seen, or raises AssertionError."""
        began_at = time.monotonic()
        try:
            seen = act()
            word = "PASS"
        except AssertionError as error:
            seen, word = str(error), "FAIL"
            self.failed += 1
        print(f"{word}  {title}  [{time.monotonic() - began_at:.2f} s]")
        for line in seen.splitlines():
            print(f"      {line}")
        print(flush=True)

    def show(self, node: Node, *words: str) -> None:
        done = self.cluster.agent(node).cli(*words)
        print(f"{node.name}$ bgpilot {' '.join(words)}")
        for line in (done.stdout + done.stderr).rstrip().splitlines():
            print(f"  {line}")
        print(flush=True)


def main() -> int:
    began_at = time.monotonic()
    print("Building three nodes with pods, a router and a client, each a network namespace …", flush=True)
    with Lab(nodes=3) as lab, MiniCluster(lab) as cluster:
        for node in lab.nodes.values():
            serve_http(node.add_pod())
        router = tor(lab.router)
        stage = Stage(lab, cluster, router)
        print(
            f"Hold time is {LAB_HOLD_SECONDS} s in the demo, so that a dead node is noticed soon; the default is 90 s."
        )
        print("─" * WIDTH, flush=True)
        cluster.api.apply(custom("BGPInstance", "default", {"asn": 64512, "mesh": {"holdSeconds": LAB_HOLD_SECONDS}}))
        _meet(stage)
        _reach_from_outside(stage)
        _announce_service(stage)
        _come_and_go(stage)
        print("─" * WIDTH)
        verdict = "all scenes passed" if not stage.failed else f"{stage.failed} scenes FAILED"
        print(f"{verdict}; {time.monotonic() - began_at:.0f} s in all")
        return 1 if stage.failed else 0


def _meet(stage: Stage) -> None:
    lab, cluster = stage.lab, stage.cluster
    first, second = lab.node(1), lab.node(2)

    def mesh_up() -> str:
        cluster.start()
        cluster.wait_meshed(within=SCENE_SECONDS)
        routes = first.run(["ip", "route", "show", "proto", "179"]).stdout.rstrip()
        return f"every node has every other node's pod CIDRs\n{first.name}$ ip route show proto 179\n{routes}"

    def pod_to_pod() -> str:
        source, target = first.pods[0], second.pods[0]
        seen = []
        for family in lab.families:
            assert curl(source, target.address(family)) == target.name, f"no answer from {target.address(family)}"
            hops = traceroute(source, target.address(family))
            assert hops[-1] == str(target.address(family)), hops
            seen.append(f"{source.address(family)} → " + " → ".join(hops))
        return "\n".join(seen)

    stage.scene("three agents start with no configuration: full mesh, pod routes in every kernel", mesh_up)
    stage.scene("traceroute from pod to pod shows plain IP hops", pod_to_pod)


def _reach_from_outside(stage: Stage) -> None:
    lab, cluster, router = stage.lab, stage.cluster, stage.router

    def peered() -> str:
        cluster.api.apply(tor_peer(lab.router))
        wanted = {str(node.pod_cidrs["ipv4"]): [str(node.address("ipv4"))] for node in lab.nodes.values()}
        wait_until(lambda: router.routes("ipv4") == wanted, within=SCENE_SECONDS)
        pod = lab.node(3).pods[0]
        wait_until(lambda: curl(lab.client, pod.address()) == pod.name, within=SCENE_SECONDS)
        return f"router: {router.routes('ipv4')}\nclient: curl http://{pod.address()}/ → {pod.name}"

    stage.scene("one BGPPeer object: every node peers with the router, a client behind it reaches a pod", peered)


def _announce_service(stage: Stage) -> None:
    lab, cluster, router = stage.lab, stage.cluster, stage.router
    everyone = sorted(str(node.address("ipv4")) for node in lab.nodes.values())

    def announced() -> str:
        cluster.api.apply(
            service_object("web", [SERVICE_IP], labels={"advertise": "yes"}),
            slice_object("web", {node.name: [str(node.pods[0].address())] for node in lab.nodes.values()}),
            custom(
                "BGPAdvertisement",
                "services",
                {
                    "type": "Service",
                    "service": {
                        "addresses": ["ClusterIP", "LoadBalancerIP"],
                        "selector": {"matchLabels": {"advertise": "yes"}},
                    },
                },
            ),
        )
        hops = wait_until(lambda: router.routes("ipv4").get(f"{SERVICE_IP}/32") == everyone, within=SCENE_SECONDS)
        assert hops
        return f"router: {SERVICE_IP}/32 via {', '.join(everyone)}"

    def endpoint_goes() -> str:
        first, second = lab.node(1), lab.node(2)
        cluster.api.apply(
            service_object(
                "local",
                ["10.96.0.81"],
                load_balancer_ips=[LOCAL_IP],
                external_policy="Local",
                labels={"advertise": "yes"},
            ),
            slice_object("local", {node.name: [str(node.pods[0].address())] for node in (first, second)}),
        )
        both = sorted(str(node.address("ipv4")) for node in (first, second))
        wait_until(lambda: router.routes("ipv4").get(f"{LOCAL_IP}/32") == both, within=SCENE_SECONDS)
        began_at = time.monotonic()
        cluster.api.apply(slice_object("local", {second.name: [str(second.pods[0].address())]}))
        only = [str(second.address("ipv4"))]
        wait_until(lambda: router.routes("ipv4").get(f"{LOCAL_IP}/32") == only, within=SCENE_SECONDS, every=0.01)
        took = time.monotonic() - began_at
        return f"{LOCAL_IP}/32 (policy Local) via {both} → {only}, {took * 1000:.0f} ms after the endpoint was gone"

    stage.scene("a service address reaches the router with three next hops", announced)
    stage.scene("a service's endpoint goes: that node stops announcing it, the others do not move", endpoint_goes)
    stage.show(lab.node(1), "peers")
    stage.show(lab.node(1), "explain", "default/web")
    stage.show(lab.node(1), "explain", str(lab.node(2).pod_cidrs["ipv4"]))


def _come_and_go(stage: Stage) -> None:
    lab, cluster, router = stage.lab, stage.cluster, stage.router

    def joins() -> str:
        node = lab.add_node()
        serve_http(node.add_pod())
        began_at = time.monotonic()
        cluster.start(node)
        cluster.wait_meshed(within=SCENE_SECONDS)
        took = time.monotonic() - began_at
        return f"{node.name}: routes to and from it in every kernel {took:.1f} s after its agent was started"

    def dies() -> str:
        node = lab.node(4)
        cidr = str(node.pod_cidrs["ipv4"])
        lab.remove_node(node)
        cluster.agents.pop(node.name)
        began_at = time.monotonic()
        wait_until(
            lambda: (
                all(cidr not in cluster.learned(other, "ipv4") for other in lab.nodes.values())
                and cidr not in router.routes("ipv4")
            ),
            within=SCENE_SECONDS,
        )
        took = time.monotonic() - began_at
        cluster.wait_meshed(within=SCENE_SECONDS)
        held = f"(hold {LAB_HOLD_SECONDS} s)"
        return f"{node.name} lost power: gone from every kernel and the router after {took:.1f} s {held}"

    stage.scene("a node joins the running cluster", joins)
    stage.scene("a node dies without a word: its routes go, all others stay", dies)


if __name__ == "__main__":
    sys.exit(main())
