"""Sessions that are lost: whose routes stay in the kernel for a while, and whose go at once."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.lab.frr import Frr
from tests.lab.judges import Watch
from tests.lab.minicluster import (
    BGPILOT,
    CLUSTER_ASN,
    LAB_HOLD_SECONDS,
    OUR_PROTOCOL,
    ROUTER_ASN,
    MiniCluster,
    node_object,
    tor_peer,
)
from tests.lab.neighbor import Neighbor
from tests.lab.procs import run
from tests.lab.topology import Lab, Node
from tests.lab.wait import wait_until

pytestmark = pytest.mark.live

STAYS, GOES = "198.51.100.0/24", "203.0.113.0/24"
RESTART_SECONDS = 10
CAN_RESTART = ("bgp graceful-restart", "bgp graceful-restart preserve-fw-state")


@pytest.fixture
def cluster(lab: Callable[..., Lab]) -> Iterator[MiniCluster]:
    site = lab(nodes=1, families=("ipv4",))
    with MiniCluster(site) as cluster:
        allowed = [{"prefix": STAYS}, {"prefix": GOES}]
        cluster.api.apply(tor_peer(site.router, **{"import": {"allowed": allowed}}))
        cluster.start()
        yield cluster


def router(cluster: MiniCluster, *prefixes: str, lines: tuple[str, ...] = CAN_RESTART) -> Frr:
    place = cluster.lab.router
    nodes = Neighbor(str(place.subnet.networks["ipv4"]), CLUSTER_ASN, families=("ipv4",), hold_seconds=LAB_HOLD_SECONDS)
    return Frr(place, asn=ROUTER_ASN, router_id="10.99.0.1", neighbors=[nodes], announce=prefixes, lines=lines)


def wait_learned(cluster: MiniCluster, node: Node, *prefixes: str) -> None:
    wait_until(lambda: set(cluster.learned(node, "ipv4")) == set(prefixes), within=60)


def is_up(cluster: MiniCluster, node: Node) -> bool:
    peers = cluster.agent(node).view("peers")["peers"]
    return bool(peers[str(cluster.lab.router.address())]["is_up"])


def test_a_router_that_restarts_keeps_its_routes_until_it_has_told_all_it_still_has(cluster: MiniCluster) -> None:
    node = cluster.lab.node(1)
    frr = router(cluster, STAYS, GOES)
    wait_learned(cluster, node, STAYS, GOES)
    monitor = node.start(["ip", "-4", "monitor", "route"], log="monitor")

    frr.kill()
    wait_until(lambda: not is_up(cluster, node))
    assert set(cluster.learned(node, "ipv4")) == {STAYS, GOES}
    router(cluster, STAYS)

    wait_learned(cluster, node, STAYS)
    assert is_up(cluster, node)
    wait_until(lambda: f"Deleted {GOES} " in monitor.output())
    written = [line for line in monitor.output().splitlines() if f"proto {OUR_PROTOCOL} " in line]
    assert [line.split()[:2] for line in written] == [["Deleted", GOES]]


def test_the_routes_of_a_router_that_does_not_come_back_go_when_its_restart_time_is_over(cluster: MiniCluster) -> None:
    node = cluster.lab.node(1)
    frr = router(cluster, STAYS, lines=(*CAN_RESTART, "bgp graceful-restart restart-time 10"))
    wait_learned(cluster, node, STAYS)

    frr.kill()
    wait_until(lambda: not is_up(cluster, node))
    assert set(cluster.learned(node, "ipv4")) == {STAYS}

    wait_learned(cluster, node)


def test_the_routes_of_a_router_that_cannot_restart_go_with_its_session(cluster: MiniCluster) -> None:
    node = cluster.lab.node(1)
    frr = router(cluster, STAYS, lines=())
    wait_learned(cluster, node, STAYS)

    frr.kill()

    wait_learned(cluster, node)


def test_the_routes_of_a_router_that_is_dead_go_when_its_hold_time_is_over(cluster: MiniCluster) -> None:
    """It could restart; but the session ends with a NOTIFICATION of ours (RFC 4724 4.2)."""
    node, place = cluster.lab.node(1), cluster.lab.router
    router(cluster, STAYS)
    wait_learned(cluster, node, STAYS)

    place.cut()

    wait_learned(cluster, node)


def test_an_agent_that_comes_back_believes_no_longer_what_routers_have_told_than_one_that_was_there(
    lab: Callable[..., Lab],
) -> None:
    """One is silent for its hold time meanwhile, and one is killed, which may be a restart."""
    site = lab(nodes=1, families=("ipv4",))
    node, (lives, silent, killed) = site.node(1), [site.host(name) for name in ("lives", "silent", "killed")]
    restart = (*CAN_RESTART, f"bgp graceful-restart restart-time {RESTART_SECONDS}")
    ours = Neighbor(str(site.router.subnet.networks["ipv4"]), CLUSTER_ASN, families=("ipv4",), hold_seconds=3)
    announced = {lives: [STAYS], silent: [STAYS], killed: [STAYS, GOES]}
    routers = {
        place: Frr(
            place, asn=ROUTER_ASN, router_id=str(place.address()), neighbors=[ours], announce=prefixes, lines=restart
        )
        for place, prefixes in announced.items()
    }
    with MiniCluster(site) as cluster, Watch(node, log="own") as kernel:
        allowed = [{"prefix": STAYS}, {"prefix": GOES}]
        cluster.api.apply(
            node_object(node),
            *(tor_peer(place, name=place.name, **{"import": {"allowed": allowed}}) for place in routers),
        )
        agent = cluster.start_agent(node, "--speaker=external")
        node.start([BGPILOT, "speaker", f"--run-dir={agent.run_dir}"], log="speaker")
        every = [str(place.address()) for place in routers]
        learned = {STAYS: sorted(every), GOES: [str(killed.address())]}
        wait_until(
            lambda: {to: sorted(hops) for to, hops in cluster.learned(node, "ipv4").items()} == learned, within=60
        )
        wait_until(lambda: agent.view("status")["phase"] == "IN_SYNC")

        agent.kill()
        killed_at = datetime.now(UTC)
        routers[killed].kill()
        silent.cut()
        wait_until(lambda: sessions(node) == {str(lives.address())})
        agent.restart()

        wait_until(lambda: cluster.learned(node, "ipv4") == {STAYS: [str(lives.address())]}, within=60)
        wait_until(lambda: kernel.changes(GOES)[0][-1][1] == "deleted")
        ((*_, (gone_at, _)),) = kernel.changes(GOES)
        assert (gone_at - killed_at).total_seconds() > RESTART_SECONDS - 1


def sessions(node: Node) -> set[str]:
    """Whom it has TCP connections of BGP with."""
    lines = node.run(["ss", "-Htn", "state", "established", "( sport = :179 or dport = :179 )"]).stdout.splitlines()
    return {line.split()[-1].rpartition(":")[0] for line in lines}


def test_a_bridge_that_is_killed_touches_no_kernel_route(cluster: MiniCluster) -> None:
    node = cluster.lab.node(1)
    frr = router(cluster, STAYS)
    wait_learned(cluster, node, STAYS)
    wait_until(lambda: cluster.agent(node).view("status")["phase"] == "IN_SYNC")
    monitor = node.start(["ip", "-4", "monitor", "route"], log="monitor")
    run_dir = str(cluster.agent(node).run_dir)

    def bridges() -> list[int]:
        pids = run(["ip", "netns", "pids", node.full_name]).stdout.split()
        words = {int(pid): Path(f"/proc/{pid}/cmdline") for pid in pids}
        return [pid for pid, path in words.items() if path.exists() and f"bridge.py\0{run_dir}" in path.read_text()]

    (bridge,) = bridges()
    os.kill(bridge, signal.SIGKILL)
    wait_until(lambda: bridges() not in ([], [bridge]))
    frr.announce(GOES)

    wait_learned(cluster, node, STAYS, GOES)
    assert [line for line in monitor.output().splitlines() if STAYS in line] == []
