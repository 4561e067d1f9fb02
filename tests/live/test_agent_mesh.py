"""Real agents on a lab with no configuration at all: who peers with whom, what is in every kernel, what follows what.

The kernel of each node is the judge of a learned route; the agents' own word counts for sessions only.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.lab.minicluster import LAB_HOLD_SECONDS, MiniCluster, custom, node_object
from tests.lab.netns import Family
from tests.lab.topology import Lab, Node
from tests.lab.wait import wait_until

pytestmark = pytest.mark.live

SHORT_HOLD = custom("BGPInstance", "default", {"mesh": {"holdSeconds": LAB_HOLD_SECONDS}})


def established(cluster: MiniCluster, node: Node) -> dict[str, Any]:
    """Peers of the node that are up, by name."""
    peers = cluster.agent(node).ask("peers")["peers"]
    return {peer["description"]: peer for peer in peers.values() if peer["is_up"]}


def reasons(cluster: MiniCluster, node: Node) -> set[tuple[str, str]]:
    return {(told["reason"], told["subject"]) for told in cluster.agent(node).ask("status")["problems"]}


@pytest.mark.parametrize("families", [("ipv4", "ipv6"), ("ipv4",), ("ipv6",)], ids=["dual", "v4", "v6"])
def test_without_any_configuration_every_kernel_has_every_pod_cidr(
    lab: Callable[..., Lab], families: tuple[Family, ...]
) -> None:
    site = lab(nodes=3, families=families)
    with MiniCluster(site) as cluster:
        cluster.start()

        cluster.wait_meshed()

        for node in site.nodes.values():
            peers = wait_until(lambda node=node: established(cluster, node))
            assert len(peers) == 2, "one session per pair of nodes"
            for peer in peers.values():
                assert set(peer["address_family"]) == set(families)
                assert peer["hold_seconds"] == 90
            for family in families:
                own = node.kernel_routes(family, "type", "unreachable")
                assert own == {str(node.pod_cidrs[family]): []}


def test_exactly_one_side_of_each_pair_dials(lab: Callable[..., Lab]) -> None:
    site = lab(nodes=3)
    with MiniCluster(site) as cluster:
        cluster.start()
        cluster.wait_meshed()

        passive = {
            (node.name, name): peer["passive"]
            for node in site.nodes.values()
            for name, peer in established(cluster, node).items()
        }

        assert len(passive) == 6
        for node in site.nodes.values():
            for other in site.nodes.values():
                if node is not other:
                    assert passive[node.name, f"node/{other.name}"] != passive[other.name, f"node/{node.name}"]


def test_a_node_that_joins_or_leaves_touches_no_other_session_and_no_other_route(lab: Callable[..., Lab]) -> None:
    site = lab(nodes=3)
    with MiniCluster(site) as cluster:
        cluster.api.apply(SHORT_HOLD)
        cluster.start()
        cluster.wait_meshed()
        first, second = site.node(1), site.node(2)
        monitor = first.start(["ip", "monitor", "route"], log="monitor")

        def flaps() -> dict[str, int]:
            return {name: peer["flaps"] for name, peer in established(cluster, first).items()}

        since = flaps()
        fourth = site.add_node()
        cluster.start(fourth)
        cluster.wait_meshed()
        site.remove_node(fourth)
        cluster.forget(fourth)
        cluster.wait_meshed()

        # The session of a Node that is no more is kept for what it still tells, until it ends.
        wait_until(lambda: set(flaps()) == set(since), within=60)
        assert flaps() == since
        changed = [line for line in monitor.output().splitlines() if "proto 179" in line]
        about_others = [line for line in changed if str(second.pod_cidrs["ipv4"]) in line]
        assert about_others == []
        assert [line for line in changed if str(fourth.pod_cidrs["ipv4"]) in line], "the monitor sees what does change"


def test_a_changed_pod_cidr_is_followed_without_a_session_restart(lab: Callable[..., Lab]) -> None:
    site = lab(nodes=2)
    with MiniCluster(site) as cluster:
        cluster.start()
        cluster.wait_meshed()
        first, second = site.node(1), site.node(2)
        renumbered = node_object(second)
        renumbered["spec"] = {"podCIDR": "10.244.77.0/24", "podCIDRs": ["10.244.77.0/24", "fd10:244:77::/64"]}

        cluster.api.apply(renumbered)

        wait_until(lambda: cluster.learned(first, "ipv4") == {"10.244.77.0/24": [str(second.address("ipv4"))]})
        wait_until(lambda: cluster.learned(first, "ipv6") == {"fd10:244:77::/64": [str(second.address("ipv6"))]})
        assert established(cluster, first)["node/node-2"]["flaps"] == 0
        wait_until(lambda: set(second.kernel_routes("ipv4", "type", "unreachable")) == {"10.244.77.0/24"})


def test_a_changed_address_restarts_that_nodes_sessions_only(lab: Callable[..., Lab]) -> None:
    site = lab(nodes=3, families=("ipv4",))
    with MiniCluster(site) as cluster:
        cluster.api.apply(SHORT_HOLD)
        cluster.start()
        cluster.wait_meshed()
        first, second, third = (site.node(index) for index in (1, 2, 3))
        third.ip("addr", "add", "172.18.0.99/24", "dev", "eth0")
        moved = node_object(third)
        moved["status"] = {"addresses": [{"type": "InternalIP", "address": "172.18.0.99"}]}

        cluster.api.apply(moved)

        cidr = str(third.pod_cidrs["ipv4"])
        wait_until(lambda: cluster.learned(first, "ipv4").get(cidr) == ["172.18.0.99"], within=60)
        wait_until(lambda: cluster.learned(second, "ipv4").get(cidr) == ["172.18.0.99"], within=60)
        assert established(cluster, first)["node/node-2"]["flaps"] == 0
        assert "172.18.0.13" not in cluster.agent(first).ask("peers")["peers"]


def test_a_dead_nodes_routes_leave_with_the_hold_time_and_come_back_with_the_node(lab: Callable[..., Lab]) -> None:
    site = lab(nodes=3)
    with MiniCluster(site) as cluster:
        cluster.api.apply(SHORT_HOLD)
        cluster.start()
        cluster.wait_meshed()
        dead = site.node(3)

        site.remove_node(dead)
        cluster.agents.pop(dead.name)
        wait_until(lambda: str(dead.pod_cidrs["ipv4"]) not in cluster.learned(site.node(1), "ipv4"), within=60)
        cluster.wait_meshed()
        cluster.start(site.add_node(3))

        cluster.wait_meshed()


def test_two_nodes_with_one_pod_cidr_the_older_keeps_it_and_both_are_named(lab: Callable[..., Lab]) -> None:
    site = lab(nodes=3)
    with MiniCluster(site) as cluster:
        cluster.start()
        cluster.wait_meshed()
        first, second, third = (site.node(index) for index in (1, 2, 3))
        thief = node_object(third)
        thief["spec"] = {"podCIDR": str(second.pod_cidrs["ipv4"]), "podCIDRs": [str(second.pod_cidrs["ipv4"])]}

        cluster.api.apply(thief)

        wait_until(lambda: str(third.pod_cidrs["ipv4"]) not in cluster.learned(first, "ipv4"))
        assert cluster.learned(first, "ipv4") == {str(second.pod_cidrs["ipv4"]): [str(second.address("ipv4"))]}
        told = [problem for problem in cluster.agent(first).ask("status")["problems"] if "node-3" in str(problem)]
        assert told
        assert any("node-2" in str(problem) for problem in told)


def test_a_node_without_pod_cidr_is_said_and_keeps_its_sessions(lab: Callable[..., Lab]) -> None:
    site = lab(nodes=2)
    with MiniCluster(site) as cluster:
        bare = node_object(site.node(2))
        bare["spec"] = {}
        cluster.api.apply(node_object(site.node(1)), bare)
        for node in site.nodes.values():
            cluster.start_agent(node)

        wait_until(lambda: established(cluster, site.node(2)))
        assert ("nodeWithoutPodCIDR", "Node node-2") in reasons(cluster, site.node(2))
        assert cluster.learned(site.node(1), "ipv4") == {}


def test_a_pod_cidr_inside_the_nodes_own_subnet_is_refused(lab: Callable[..., Lab]) -> None:
    site = lab(nodes=2, families=("ipv4",))
    with MiniCluster(site) as cluster:
        wrong = node_object(site.node(2))
        wrong["spec"] = {"podCIDR": "172.18.0.128/25", "podCIDRs": ["172.18.0.128/25"]}
        cluster.api.apply(node_object(site.node(1)), wrong)
        for node in site.nodes.values():
            cluster.start_agent(node)

        wait_until(lambda: established(cluster, site.node(2)))
        wait_until(lambda: "podCIDRInNodeSubnet" in {reason for reason, _ in reasons(cluster, site.node(2))})
        assert cluster.learned(site.node(1), "ipv4") == {}
        other = {str(site.node(1).pod_cidrs["ipv4"]): [str(site.node(1).address())]}
        wait_until(lambda: site.node(2).kernel_routes("ipv4", "proto", "179") == other)


def test_someone_deletes_our_route_and_it_is_back(lab: Callable[..., Lab]) -> None:
    site = lab(nodes=2)
    with MiniCluster(site) as cluster:
        cluster.start()
        cluster.wait_meshed()
        node = site.node(1)

        node.ip("route", "flush", "proto", "179")
        node.ip("-6", "route", "flush", "proto", "179")

        cluster.wait_meshed()
        wait_until(lambda: cluster.agent(node).ask("status")["fib"]["drift"] >= 2)


def test_a_link_that_bounces_loses_no_route_for_good(lab: Callable[..., Lab]) -> None:
    site = lab(nodes=2)
    with MiniCluster(site) as cluster:
        cluster.start()
        cluster.wait_meshed()
        node = site.node(1)

        node.link_down()
        node.link_up()

        cluster.wait_meshed()


def test_a_route_of_another_protocol_is_never_touched(lab: Callable[..., Lab]) -> None:
    site = lab(nodes=2, families=("ipv4",))
    with MiniCluster(site) as cluster:
        node, other = site.node(1), site.node(2)
        prefix = str(other.pod_cidrs["ipv4"])
        node.ip("route", "add", prefix, "via", "172.18.0.1", "proto", "static")

        cluster.start()
        wait_until(lambda: cluster.agent(node).ask("status")["fib"]["conflicts"] == 1, within=60)

        assert node.kernel_routes("ipv4", "proto", "static")[prefix] == ["172.18.0.1"]
        node.ip("route", "del", prefix, "proto", "static")
        cluster.wait_meshed()


def test_routes_with_our_number_that_we_would_never_write_are_reported_and_stay(lab: Callable[..., Lab]) -> None:
    site = lab(nodes=2, families=("ipv4",))
    with MiniCluster(site) as cluster:
        node = site.node(1)
        node.ip("route", "add", "198.51.100.0/24", "via", "172.18.0.1", "proto", "179", "metric", "77")
        node.ip("route", "add", "203.0.113.0/24", "via", "172.18.0.1", "proto", "179", "table", "100")

        cluster.start()
        cluster.wait_meshed(besides=frozenset({"198.51.100.0/24"}))

        told = str(cluster.agent(node).ask("status")["problems"])
        assert "198.51.100.0/24" in told
        assert "203.0.113.0/24" in told
        assert "198.51.100.0/24" in node.kernel_routes("ipv4", "proto", "179")
        assert "203.0.113.0/24" in node.kernel_routes("ipv4", "proto", "179", "table", "100")
