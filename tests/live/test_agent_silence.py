"""What people and the kubelet see while the ExaBGP beside the agent hangs: a problem, a node that is not ready, and
traffic that goes on.

`bgpilot speaker` ends an ExaBGP that hangs, 3 s after the agent has said so (`test_agent_speaker_dies`): too soon to
look at it. So it stands still together with it, as when all of a pod is frozen, and goes on after it.
"""

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.frr import Frr
from tests.lab.minicluster import BGPILOT, CLUSTER_ASN, ROUTER_ASN, MiniCluster, custom, node_object, tor_peer
from tests.lab.neighbor import Neighbor
from tests.lab.netns import Namespace
from tests.lab.topology import Lab
from tests.lab.wait import wait_until

pytestmark = pytest.mark.live

OUTSIDE = "203.0.113.0/24"
HOLD_SECONDS = 90
"""Longer than the test takes to notice: the router keeps the session."""
NOTICED_SECONDS = 90.0


def exabgp_of(node: Namespace, run_dir: Path) -> int:
    wanted = str(run_dir / "exabgp.conf")
    for path in Path("/proc").iterdir():
        try:
            words = (path / "cmdline").read_bytes().decode(errors="replace").rstrip("\0").split("\0")
        except OSError:
            continue
        if path.name.isdigit() and "bgp.inside.launcher" in words and words[-1] == wanted:
            return int(path.name)
    raise LookupError(f"no ExaBGP in {node}")


@pytest.fixture
def lab() -> Iterator[Lab]:
    with Lab(nodes=1, routers=1, families=("ipv4",)) as lab:
        yield lab


def test_a_hanging_exabgp_makes_the_node_unready_and_is_named_and_no_route_is_lost(lab: Lab) -> None:
    node, router = lab.node(1), lab.router
    neighbor = Neighbor(str(node.address()), CLUSTER_ASN, hold_seconds=HOLD_SECONDS, families=("ipv4",))
    frr = Frr(router, asn=ROUTER_ASN, router_id="10.99.0.1", neighbors=[neighbor], announce=[OUTSIDE])
    with MiniCluster(lab) as cluster:
        peer = tor_peer(router, holdSeconds=HOLD_SECONDS, **{"import": {"allowed": [{"prefix": OUTSIDE}]}})
        cluster.api.apply(custom("BGPInstance", "default", {}), peer, node_object(node))
        agent = cluster.start_agent(node, "--speaker=external")
        speaker = node.start([BGPILOT, "speaker", f"--run-dir={agent.run_dir}"], log="speaker")

        def ready() -> str:
            return node.run(["curl", "-sS", "http://127.0.0.1:9818/readyz"], check=False).stdout

        def problems() -> set[str]:
            return {problem["reason"] for problem in agent.ask("status")["problems"]}

        wait_until(lambda: ready() == "ok\n", within=60)
        wait_until(lambda: OUTSIDE in node.kernel_routes("ipv4"))
        wait_until(lambda: str(node.pod_cidrs["ipv4"]) in frr.routes("ipv4"))
        exabgp = exabgp_of(node, agent.run_dir)
        os.kill(speaker.pid, signal.SIGSTOP)
        os.kill(exabgp, signal.SIGSTOP)
        try:
            wait_until(lambda: "speakerSilent" in problems(), within=NOTICED_SECONDS)
            wait_until(lambda: "speakerSilent: ExaBGP has not answered" in ready())
            assert "Established" not in json.dumps(agent.ask("peers"))
            assert agent.ask("status")["phase"] != "IN_SYNC"
            assert OUTSIDE in node.kernel_routes("ipv4")
            assert str(node.pod_cidrs["ipv4"]) in frr.routes("ipv4")
        finally:
            os.kill(exabgp, signal.SIGCONT)
        wait_until(lambda: ready() == "ok\n" and problems() == set(), within=60)
        os.kill(speaker.pid, signal.SIGCONT)
        wait_until(lambda: agent.ask("status")["phase"] == "IN_SYNC")
        assert "Established" in json.dumps(agent.ask("peers"))
        assert frr.times_established(str(node.address())) == 1
        assert OUTSIDE in node.kernel_routes("ipv4")
