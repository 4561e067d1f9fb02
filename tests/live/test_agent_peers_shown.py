"""What the agent tells of its peers: which have no session and why, which restart, and how each one is set up."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.lab.frr import Frr
from tests.lab.minicluster import CLUSTER_ASN, LAB_HOLD_SECONDS, ROUTER_ASN, MiniCluster, custom, tor_peer
from tests.lab.neighbor import Neighbor
from tests.lab.topology import Lab, Node
from tests.lab.wait import wait_until

pytestmark = pytest.mark.live

LEARNED = "198.51.100.0/24"
SHUT, SECRETLESS = "10.99.0.7", "10.99.0.8"
CAN_RESTART = ("bgp graceful-restart", "bgp graceful-restart preserve-fw-state")


@pytest.fixture
def cluster(lab: Callable[..., Lab]) -> Iterator[MiniCluster]:
    with MiniCluster(lab(nodes=1, families=("ipv4",))) as cluster:
        yield cluster


def router(cluster: MiniCluster) -> Frr:
    place = cluster.lab.router
    node = Neighbor(str(place.subnet.networks["ipv4"]), CLUSTER_ASN, families=("ipv4",), hold_seconds=LAB_HOLD_SECONDS)
    return Frr(place, asn=ROUTER_ASN, router_id="10.99.0.1", neighbors=[node], announce=[LEARNED], lines=CAN_RESTART)


def peers(cluster: MiniCluster, node: Node) -> Any:
    return cluster.agent(node).view("peers")["peers"]


def samples(node: Node, name: str) -> dict[str, float]:
    """Peer → value of its sample."""
    lines = node.run(["curl", "-sS", "http://127.0.0.1:9817/metrics"]).stdout.splitlines()
    found = [line.rpartition(" ") for line in lines if line.startswith(f"bgpilot_{name}{{")]
    return {labels.partition('peer="')[2].partition('"')[0]: float(value) for labels, _, value in found}


def test_a_peer_that_must_have_no_session_is_shown_with_its_reason_wherever_peers_are(cluster: MiniCluster) -> None:
    node = cluster.lab.node(1)
    cluster.api.apply(
        tor_peer(cluster.lab.router),
        custom(
            "BGPPeer", "shut", {"address": SHUT, "asn": ROUTER_ASN, "shutdown": True, "shutdownText": "rack 7 moves"}
        ),
        custom(
            "BGPPeer",
            "secretless",
            {"address": SECRETLESS, "asn": ROUTER_ASN, "passwordSecretRef": {"name": "none", "key": "password"}},
        ),
    )
    router(cluster)
    cluster.start()
    up = str(cluster.lab.router.address())
    wait_until(lambda: peers(cluster, node)[up]["is_up"], within=60)
    wait_until(lambda: peers(cluster, node)[SECRETLESS]["reason"] == "secretMissing")
    agent = cluster.agent(node)

    rows = peers(cluster, node)
    shown = {address: (row["state"], row["is_enabled"], row["reason"]) for address, row in rows.items()}
    assert shown == {
        up: ("Established", True, None),
        SHUT: ("Idle", False, "shutdown"),
        SECRETLESS: ("Idle", True, "secretMissing"),
    }
    table = agent.cli("peers").stdout
    assert "shutdown: rack 7 moves" in table
    assert "secretMissing: passwordSecretRef names Secret none, which cannot be read" in table
    assert "1 of 3 established (mesh 0 of 0, 2 must have no session)" in agent.cli("status").stdout
    assert samples(node, "bgp_peer_up") == {up: 1, SHUT: 0, SECRETLESS: 0}
    assert set(samples(node, "bgp_peer_info")) == {up, SHUT, SECRETLESS}
    for name, reason, fix in (
        ("shut", "shutdown", "Remove `spec.shutdown`"),
        ("secretless", "secretMissing", "Create"),
    ):
        explained = agent.cli("explain", name)
        assert explained.returncode == 3
        assert f"! {reason}: {fix}" in explained.stdout
    assert agent.cli("peers", "--failed", "-o", "name").stdout.split() == [SHUT, SECRETLESS]
    wait_until(lambda: node.run(["curl", "-sS", "http://127.0.0.1:9818/readyz"]).stdout == "ok\n")


def test_a_router_that_restarts_is_shown_as_such_with_what_is_kept_of_it(cluster: MiniCluster) -> None:
    node, address = cluster.lab.node(1), str(cluster.lab.router.address())
    allowed: dict[str, Any] = {"import": {"allowed": [{"prefix": LEARNED}]}}
    cluster.api.apply(tor_peer(cluster.lab.router, **allowed))
    frr = router(cluster)
    cluster.start()
    wait_until(lambda: LEARNED in cluster.learned(node, "ipv4"), within=60)
    wait_until(lambda: samples(node, "bgp_graceful_restart_active") == {address: 0})
    wait_until(lambda: peers(cluster, node)[address]["address_family"]["ipv4"]["received_prefixes"] == 2)

    frr.kill()
    row = wait_until(lambda: row if (row := peers(cluster, node)[address])["restarting"] else {})

    kept = row["stale_prefixes"]
    assert (row["is_up"], kept) == (False, 2), "what it announced, and our own route that it sends back"
    assert 0 < row["stale_seconds"] <= 120
    assert samples(node, "bgp_graceful_restart_active") == {address: 1}
    assert f"restarting, {kept} paths kept for" in cluster.agent(node).cli("peers").stdout
    assert "1 restarting" in cluster.agent(node).cli("status").stdout
    assert LEARNED in cluster.learned(node, "ipv4")
    router(cluster)

    wait_until(lambda: peers(cluster, node)[address]["is_up"], within=60)
    wait_until(lambda: samples(node, "bgp_graceful_restart_active") == {address: 0})
    assert peers(cluster, node)[address]["stale_prefixes"] == 0


def test_an_as_that_is_learned_is_the_one_the_router_says_it_has(cluster: MiniCluster) -> None:
    node, address = cluster.lab.node(1), str(cluster.lab.router.address())
    spec: dict[str, Any] = {"asn": "external", "description": "top of rack 7", "keepaliveSeconds": 2}
    cluster.api.apply(tor_peer(cluster.lab.router, **spec))
    cluster.start()
    wait_until(lambda: peers(cluster, node)[address]["configured_as"] == "external", within=60)
    assert peers(cluster, node)[address]["remote_as"] is None
    frr = router(cluster)

    wait_until(lambda: peers(cluster, node)[address]["is_up"], within=60)

    theirs = frr.show_json("show bgp neighbors json")[str(node.address())]
    row = peers(cluster, node)[address]
    assert (row["remote_as"], row["local_as"]) == (theirs["localAs"], theirs["remoteAs"])
    assert row["hold_seconds"] * 1000 == theirs["bgpTimerHoldTimeMsecs"]
    assert row["remote_id"] == "10.99.0.1"
    assert row["keepalive_seconds"] == 2
    wide = cluster.agent(node).cli("peers", "-o", "wide").stdout
    assert "top of rack 7" in wide
    assert str(ROUTER_ASN) in wide
