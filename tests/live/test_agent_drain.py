"""A node that leaves, seen from the router, from its other peers and from who uses a service: nothing is lost.

FRR's log is the judge of what was said and in which order, its table of what is left, a probe every 10 ms from behind
it of what it meant for the users of a service that the other node serves as well.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_address
from typing import Any

import pytest

from tests.lab.frr import Frr
from tests.lab.minicluster import (
    BGPILOT,
    MiniCluster,
    custom,
    node_object,
    service_object,
    slice_object,
    tor,
    tor_peer,
)
from tests.lab.pods import serve_echo
from tests.lab.probe import Probe
from tests.lab.topology import Lab, Node
from tests.lab.wait import wait_until

pytestmark = pytest.mark.live

VIP = {"ipv4": "203.0.113.7", "ipv6": "2001:db8:77::7"}
TAINT = "node.cloudprovider.kubernetes.io/shutdown"
FLOWS = 16
"""So many that both nodes serve some."""
AWAITED = "podRoutesAwaited"
BEHIND_OTHER = """
table inet kubeproxy {{
  chain nat {{ type nat hook prerouting priority dstnat; ip daddr {vip} dnat ip to {pod}; }}
  chain back {{ type nat hook postrouting priority srcnat; ct status dnat masquerade; }}
}}
"""
NO_MESH = """
table inet nomesh {{
  chain first {{
    type filter hook prerouting priority raw
    ip saddr {ipv4} tcp sport 179 drop
    ip saddr {ipv4} tcp dport 179 drop
    ip6 saddr {ipv6} tcp sport 179 drop
    ip6 saddr {ipv6} tcp dport 179 drop
  }}
}}
"""


class Scene:
    """Two nodes that both serve a VIP from themselves, and a router that spreads over them."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.router = lab.router
        self.node, self.other = lab.node(1), lab.node(2)
        for node in lab.nodes.values():
            for address in VIP.values():
                node.ip("address", "add", address, "dev", "lo")
            serve_echo(node)
        self.behind = self.other.pod_cidrs["ipv4"][9]
        """A pod of the other node that the router has a way to through the first, as one that picks it all the same."""
        self.other.ip("address", "add", str(self.behind), "dev", "lo")
        self.router.ip("route", "add", f"{self.behind}/32", "via", str(self.node.address()))
        self.tor: Frr = tor(self.router)
        self.tor.configure(["log stdout debugging", "debug bgp updates in", "debug bgp neighbor-events"])
        self.cluster = MiniCluster(lab)
        self.api = self.cluster.api
        self.api.apply(
            tor_peer(self.router),
            custom("BGPInstance", "default", {"mesh": {"holdSeconds": 9}}),
            custom("BGPAdvertisement", "vips", {"type": "Service", "service": {"addresses": ["LoadBalancerIP"]}}),
            service_object("web", ["10.96.0.7", "fd02::7"], load_balancer_ips=list(VIP.values())),
            *(
                slice_object("web", {n.name: ["10.0.0.1"] for n in lab.nodes.values()}, family=f)
                for f in ("IPv4", "IPv6")
            ),
        )
        self.api.apply(*map(node_object, lab.nodes.values()))
        self.agent = self.cluster.start_agent(self.node)
        run_dir = self.cluster.start_agent(self.other, "--speaker=external").run_dir
        self.other.start([BGPILOT, "speaker", f"--run-dir={run_dir}"], log="speaker")
        wait_until(lambda: self.tells(self.node) and self.tells(self.other), within=60)
        self.cluster.wait_meshed()

    def table(self, node: Node) -> set[str]:
        """What the router has from this node."""
        own = {str(address) for address in node.addresses}
        found = {**self.tor.routes("ipv4"), **self.tor.routes("ipv6")}
        return {prefix for prefix, hops in found.items() if own & set(hops)}

    def services(self) -> set[str]:
        return {f"{VIP['ipv4']}/32", f"{VIP['ipv6']}/128"}

    def pods(self, node: Node) -> set[str]:
        return {str(cidr) for cidr in node.pod_cidrs.values()}

    def tells(self, node: Node) -> bool:
        assert self.table(node) == self.services() | self.pods(node)
        return True

    def session(self) -> dict[str, Any]:
        return self.tor.show_json("show bgp neighbors json")[str(self.node.address())]

    def is_up(self) -> bool:
        return self.tor.neighbors().get(str(self.node.address())) == "Established"

    def wait_gone(self) -> None:
        """The router has nothing of the node any more, and no session with it; the other one is as it was."""

        def gone() -> bool:
            assert self.table(self.node) == set()
            return not self.is_up() and self.tells(self.other)

        wait_until(gone, within=60)

    def wait_back(self) -> None:
        wait_until(lambda: self.is_up() and self.tells(self.node) and self.tells(self.other), within=60)
        wait_until(lambda: self.agent.view("status")["leaving"] is None)
        self.cluster.wait_meshed()

    def story(self, since: int) -> list[str]:
        """What the router heard from the node, in order, each thing of a family once."""
        told = list[str]()
        for line in self.tor.bgpd.output()[since:].splitlines():
            if str(self.node.address()) in line and (word := self._word(line)) and word not in told:
                told.append(word)
        return told

    def heard(self, since: int, wanted: list[str]) -> bool:
        assert self.story(since) == wanted
        return True

    def _word(self, line: str) -> str:
        if "%NOTIFICATION" in line:
            return "cease" if "6/2" in line else "other notification"
        if "graceful-shutdown" in line:
            return "last resort"
        if found := re.search(r"UPDATE about (\S+) .*withdrawn", line):
            return "services withdrawn" if found[1] in self.services() else "pods withdrawn"
        return ""

    def mark(self) -> int:
        return len(self.tor.bgpd.output())

    def reasons(self, subject: str) -> set[str]:
        return {hop["reason"] for hop in self.agent.view("explain", subject=subject)["hops"]}

    @contextmanager
    def endpoint_on_other(self) -> Iterator[None]:
        """The node passes on what comes for the service to a pod on the other node, as kube-proxy does."""
        pod = self.other.add_pod()
        serve_echo(pod)
        with self.rules("kubeproxy", BEHIND_OTHER.format(vip=VIP["ipv4"], pod=pod.address("ipv4"))):
            yield
        self.other.remove_pod(pod)

    @contextmanager
    def rules(self, table: str, text: str) -> Iterator[None]:
        self.node.run(["nft", "-f", "-"], stdin=text)
        try:
            yield
        finally:
            self.node.run(["nft", "delete", "table", "inet", table])

    def annotate(self, text: str | None) -> None:
        wanted = node_object(self.node)
        if text is not None:
            wanted["metadata"]["annotations"] = {"bgpilot.io/drain": text}
        self.api.apply(wanted)

    def taint(self, *taints: str) -> None:
        wanted = node_object(self.node)
        wanted["spec"]["taints"] = [{"key": taint, "effect": "NoSchedule"} for taint in taints]
        self.api.apply(wanted)


@pytest.fixture(scope="module")
def scene() -> Iterator[Scene]:
    with Lab(nodes=2) as lab:
        built = Scene(lab)
        yield built
        built.cluster.close()


WHOLE = ["last resort", "services withdrawn", "pods withdrawn", "cease"]


def test_drain_says_each_stage_to_the_router_and_loses_nothing_of_a_service_that_another_node_serves(
    scene: Scene,
) -> None:
    since = scene.mark()
    probes = [Probe(scene.router, ip_address(VIP[family]), flows=FLOWS) for family in VIP]

    done = scene.agent.cli("drain", "rack 7")

    assert done.returncode == 0, done.stdout + done.stderr
    assert [line.partition(" ")[0] for line in done.stdout.splitlines()] == [
        "everything",
        "service",
        "pod",
        "all",
        "drained:",
    ]
    scene.wait_gone()
    wait_until(lambda: scene.heard(since, WHOLE))
    assert "drained: rack 7" in scene.tor.bgpd.output()[since:]
    assert [probe.stop().lost for probe in probes] == [0, 0]
    wait_until(lambda: scene.cluster.learned(scene.other, "ipv4") == {})


def test_it_stays_drained_over_a_restart_of_the_agent(scene: Scene) -> None:
    times, since = scene.tor.show_json("show bgp neighbors json"), scene.mark()
    scene.agent.stop()
    scene.agent.restart()

    wait_until(lambda: scene.agent.view("status")["phase"] == "IN_SYNC", within=60)
    assert scene.agent.view("status")["leaving"]["stage"] == "over"
    assert scene.story(since) == []
    assert times.keys() == scene.tor.show_json("show bgp neighbors json").keys()


def test_status_and_explain_say_why_nothing_is_announced(scene: Scene) -> None:
    assert "Leaving" in scene.agent.cli("status").stdout
    done = scene.agent.cli("explain", "default/web")
    assert done.returncode == 3
    assert "nodeDrained" in done.stdout
    assert "nodeDrained" in scene.agent.cli("explain", "tor").stdout


def test_undrain_brings_everything_back_and_services_when_the_node_can_pass_on_what_comes_for_them(
    scene: Scene,
) -> None:
    addresses = {family: str(scene.other.address(family)) for family in VIP}
    with scene.endpoint_on_other():
        probe = Probe(scene.router, ip_address(VIP["ipv4"]), flows=FLOWS)
        with scene.rules("nomesh", NO_MESH.format(**addresses)):
            done = scene.agent.cli("undrain")
            assert (done.returncode, done.stdout) == (0, "undrained\n")
            wait_until(lambda: all(AWAITED in scene.reasons(vip) for vip in VIP.values()))
            wait_until(lambda: scene.table(scene.node) == scene.pods(scene.node))

        scene.wait_back()

        assert probe.stop().lost == 0
    assert not any(AWAITED in scene.reasons(vip) for vip in VIP.values())


def test_an_annotation_of_the_node_drains_it_as_well(scene: Scene) -> None:
    since = scene.mark()
    scene.annotate("moving out")
    scene.wait_gone()

    wait_until(lambda: scene.heard(since, WHOLE))
    assert "drained: moving out" in scene.tor.bgpd.output()[since:]
    done = scene.agent.cli("undrain")
    assert done.returncode == 1
    assert "kubectl annotate node node-1 bgpilot.io/drain-" in done.stderr
    scene.annotate(None)
    scene.wait_back()


def test_it_goes_stage_by_stage_when_it_is_asked_while_the_agent_is_away(scene: Scene) -> None:
    since = scene.mark()
    probes = [Probe(scene.router, ip_address(VIP[family]), flows=FLOWS) for family in VIP]
    scene.agent.kill()
    scene.annotate("meanwhile")
    scene.agent.restart()
    scene.wait_gone()

    wait_until(lambda: scene.heard(since, WHOLE))
    assert [probe.stop().lost for probe in probes] == [0, 0]
    scene.annotate(None)
    scene.wait_back()


def test_a_taint_takes_service_addresses_only_and_the_rest_goes_when_the_agent_is_stopped(scene: Scene) -> None:
    since = scene.mark()
    scene.taint(TAINT)
    wait_until(lambda: scene.table(scene.node) == scene.pods(scene.node), within=60)
    wait_until(lambda: scene.heard(since, WHOLE[:2]))
    assert scene.is_up()

    assert scene.agent.stop() == 0

    scene.wait_gone()
    wait_until(lambda: scene.heard(since, WHOLE))
    scene.agent.restart()
    wait_until(lambda: scene.table(scene.node) == scene.pods(scene.node), within=60)
    scene.taint()
    scene.wait_back()


def test_a_node_that_is_deleted_takes_leave_and_comes_back_when_it_is_made_again(scene: Scene) -> None:
    since = scene.mark()
    probes = [Probe(scene.router, ip_address(VIP[family]), flows=FLOWS) for family in VIP]
    through = Probe(scene.router, scene.behind)
    scene.api.delete("Node", scene.node.name)
    wait_until(lambda: scene.heard(since, WHOLE[:2]))
    assert through.stop().lost == 0, "it forwards to pods of other nodes for as long as it announces services of them"
    scene.wait_gone()

    wait_until(lambda: scene.heard(since, WHOLE))
    assert [probe.stop().lost for probe in probes] == [0, 0]
    wait_until(lambda: scene.cluster.agent(scene.other).view("peers")["peers"].keys() == {str(scene.router.address())})
    scene.api.apply(node_object(scene.node))
    scene.wait_back()


def test_a_node_that_is_deleted_while_the_agent_of_another_is_away_forwards_to_that_until_it_has_taken_leave(
    scene: Scene,
) -> None:
    since, agent = scene.mark(), scene.cluster.agent(scene.other)
    agent.kill()
    scene.api.delete("Node", scene.node.name)
    through = Probe(scene.router, scene.behind)
    agent.restart()

    wait_until(lambda: WHOLE[2] in scene.story(since) or agent.view("status")["phase"] == "IN_SYNC")

    assert through.stop().lost == 0
    wait_until(lambda: scene.heard(since, WHOLE))
    wait_until(lambda: agent.view("peers")["peers"].keys() == {str(scene.router.address())}, within=60)
    scene.api.apply(node_object(scene.node))
    scene.wait_back()


def test_a_stop_without_a_reason_to_leave_says_no_goodbye(scene: Scene) -> None:
    since = scene.mark()
    scene.agent.stop()
    scene.agent.restart()
    wait_until(lambda: scene.agent.view("status")["phase"] == "IN_SYNC", within=60)

    assert "cease" not in scene.story(since)
    assert "pods withdrawn" not in scene.story(since)
    scene.wait_back()


def test_control_a_node_that_does_not_take_leave_loses_packets(scene: Scene) -> None:
    target = ip_address(VIP["ipv4"])
    probe = Probe(scene.router, target, flows=FLOWS)
    scene.node.ip("address", "del", VIP["ipv4"], "dev", "lo")
    try:
        wait_until(lambda: Probe(scene.router, target, flows=FLOWS).stop().lost)
    finally:
        scene.node.ip("address", "add", VIP["ipv4"], "dev", "lo")

    assert probe.stop().lost > 0
