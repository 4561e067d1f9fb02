"""Route reflectors on real parts: our nodes reflect; FRR, BIRD and GoBGP reflect to our nodes; FRR is our client.

The kernel of each node is the judge of where its packets go; FRR, as a client, of what a reflector says.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from tests.lab.bird import Bird
from tests.lab.frr import Frr
from tests.lab.gobgp import GoBgp
from tests.lab.minicluster import CLUSTER_ASN, LAB_HOLD_SECONDS, MiniCluster, Object, custom, node_object
from tests.lab.neighbor import Neighbor
from tests.lab.topology import Lab, Node
from tests.lab.wait import wait_until

pytestmark = pytest.mark.live

REFLECTOR = {"reflector": "yes"}
PARTED_SECONDS = 120.0
"""Within this an old session has gone: 45 s after its replacement, on a slow machine."""


class ReflectingBird(Bird):
    """Next hops stay: they are other nodes' (RFC 4456 10)."""

    def config(self) -> str:
        return super().config().replace("next hop self;", "next hop keep;")


def instance(name: str = "default", *, nodes: Mapping[str, str] | None = None, cluster_id: str = "") -> Object:
    reflectors: Object = {"nodeSelector": {"matchLabels": REFLECTOR}}
    if cluster_id:
        reflectors["clusterID"] = cluster_id
    spec: Object = {"mesh": {"mode": "RouteReflector", "holdSeconds": LAB_HOLD_SECONDS, "reflectors": reflectors}}
    if nodes is not None:
        spec["nodeSelector"] = {"matchLabels": dict(nodes)}
    return custom("BGPInstance", name, spec)


def established(cluster: MiniCluster, node: Node) -> dict[str, Any]:
    """By name, what the node says of its peers that are up."""
    peers = cluster.agent(node).view("peers")["peers"]
    return {peer["description"]: peer for peer in peers.values() if peer["is_up"]}


def sessions(cluster: MiniCluster) -> dict[str, set[str]]:
    return {name: set(established(cluster, cluster.lab.nodes[name])) for name in cluster.agents}


def has_all_routes(cluster: MiniCluster, *nodes: Node) -> bool:
    """Each of the nodes has every other pod CIDR of the lab in its kernel, by that node's own address."""
    for node in nodes:
        for family in cluster.lab.families:
            others = [other for other in cluster.lab.nodes.values() if other is not node]
            wanted = {str(other.pod_cidrs[family]): [str(other.address(family))] for other in others}
            assert cluster.learned(node, family) == wanted, f"{node.name}: {cluster.learned(node, family)}"
    return True


def test_two_of_four_nodes_reflect_and_frr_as_a_client_sees_whose_route_it_is(lab: Callable[..., Lab]) -> None:
    site = lab(nodes=4)
    first, second, client, stranger = (site.node(number) for number in range(1, 5))
    reflectors = (first, second)
    with MiniCluster(site) as cluster:
        cluster.api.apply(instance(), *(node_object(node, labels=REFLECTOR) for node in reflectors))
        cluster.api.apply(node_object(client), node_object(stranger))
        frr = Frr(
            stranger,
            asn=CLUSTER_ASN,
            router_id=str(stranger.address("ipv4")),
            neighbors=[Neighbor(str(node.address("ipv4")), CLUSTER_ASN) for node in reflectors],
            announce=[str(stranger.pod_cidrs["ipv4"])],
        )
        frr.configure(
            [
                f"router bgp {CLUSTER_ASN}",
                "address-family ipv6 unicast",
                f"network {stranger.pod_cidrs['ipv6']}",
                *(f"neighbor {node.address('ipv4')} route-map GLOBAL out" for node in reflectors),
                "exit-address-family",
                "exit",
                "route-map GLOBAL permit 10",
                f"set ipv6 next-hop global {stranger.address('ipv6')}",
            ]
        )
        for node in (*reflectors, client):
            cluster.start_agent(node)

        wait_until(lambda: has_all_routes(cluster, *reflectors, client), within=60.0)

        wanted = {
            first.name: {"node/node-2", "node/node-3", "node/node-4"},
            second.name: {"node/node-1", "node/node-3", "node/node-4"},
            client.name: {"node/node-1", "node/node-2"},
        }
        wait_until(lambda: sessions(cluster) == wanted, within=60.0)  # one reflector is enough for all routes
        for family in site.families:
            paths = wait_until(lambda family=family: both(frr, str(client.pod_cidrs[family])))
            for path, node in zip(paths, reflectors, strict=True):
                assert path["peer"]["peerId"] == str(node.address("ipv4"))
                assert path["originatorId"] == str(client.address("ipv4"))
                assert path["clusterList"]["list"] == [str(node.address("ipv4"))]
                assert path["nexthops"][0]["ip"] == str(client.address(family))
        own, passed_on = wait_until(lambda: both(frr, str(first.pod_cidrs["ipv4"])))
        assert "originatorId" not in own
        assert passed_on["originatorId"] == str(first.address("ipv4")), "from one reflector by the other to its clients"

        keep = str(stranger.pod_cidrs["ipv4"])
        monitor = client.start(["ip", "monitor", "route"], log="monitor")
        cluster.agents.pop(first.name).kill()
        wait_until(lambda: frr.established() == [str(second.address("ipv4"))], within=60.0)
        wait_until(lambda: sessions(cluster)[client.name] == {"node/node-2"}, within=60.0)

        assert cluster.learned(client, "ipv4")[keep] == [str(stranger.address("ipv4"))]
        assert f"Deleted {keep}" not in monitor.log.read_text(), "the other reflector had told it, too"


def both(frr: Frr, prefix: str) -> list[dict[str, Any]]:
    paths = sorted(frr.paths(prefix), key=lambda path: str(path["peer"]["peerId"]))
    assert len(paths) == 2, paths
    return paths


def test_two_clusters_of_one_as_meet_in_their_reflectors(lab: Callable[..., Lab]) -> None:
    site = lab(nodes=4, families=("ipv4",))
    nodes = [site.node(number) for number in range(1, 5)]
    sides = ({"side": "a"}, {"side": "b"})
    with MiniCluster(site) as cluster:
        cluster.api.apply(
            *(
                instance(f"side-{side['side']}", nodes=side, cluster_id=f"192.0.2.{number}")
                for number, side in enumerate(sides, start=1)
            )
        )
        for number, node in enumerate(nodes):
            reflects = REFLECTOR if number % 2 == 0 else {}
            cluster.api.apply(node_object(node, labels={**sides[number // 2], **reflects}))
        for node in nodes:
            cluster.start_agent(node)

        wait_until(lambda: has_all_routes(cluster, *nodes), within=60.0)

        wanted = {
            "node-1": {"node/node-2", "node/node-3"},
            "node-2": {"node/node-1"},
            "node-3": {"node/node-1", "node/node-4"},
            "node-4": {"node/node-3"},
        }
        wait_until(lambda: sessions(cluster) == wanted, within=60.0)
        assert cluster.flaps() == 0


def test_auto_chooses_two_reflectors_and_replaces_the_one_that_is_cordoned_without_a_route_lost(
    lab: Callable[..., Lab],
) -> None:
    site = lab(nodes=5, families=("ipv4",))
    nodes = list(site.nodes.values())
    mesh = {"mode": "Auto", "holdSeconds": LAB_HOLD_SECONDS, "reflectors": {"threshold": 3}}
    with MiniCluster(site) as cluster:
        cluster.api.apply(custom("BGPInstance", "default", {"mesh": mesh}))
        cluster.start()
        wait_until(lambda: has_all_routes(cluster, *nodes), within=60.0)
        before = wait_until(lambda: reflectors(cluster))
        monitors = {node.name: node.start(["ip", "monitor", "route"], log="monitor") for node in nodes}
        going = site.nodes[min(before)]

        cordoned = node_object(going)
        cordoned["spec"]["unschedulable"] = True
        cluster.api.apply(cordoned)

        after = wait_until(lambda: reflectors(cluster, without=going.name), within=PARTED_SECONDS)
        assert len(before & after) == 1
        assert has_all_routes(cluster, *nodes)
        for name, monitor in monitors.items():
            assert "Deleted" not in monitor.log.read_text(), name


def test_a_reflector_that_is_drained_is_replaced_before_it_leaves(lab: Callable[..., Lab]) -> None:
    site = lab(nodes=5, families=("ipv4",))
    nodes = list(site.nodes.values())
    mesh = {"mode": "Auto", "holdSeconds": LAB_HOLD_SECONDS, "reflectors": {"threshold": 3}}
    with MiniCluster(site) as cluster:
        cluster.api.apply(custom("BGPInstance", "default", {"mesh": mesh}))
        cluster.start()
        wait_until(lambda: has_all_routes(cluster, *nodes), within=60.0)
        going = site.nodes[min(wait_until(lambda: reflectors(cluster)))]
        others = [node for node in nodes if node is not going]
        monitors = {node.name: node.start(["ip", "monitor", "route"], log="monitor") for node in others}

        drained = node_object(going)
        drained["metadata"]["annotations"] = {"bgpilot.io/drain": "rack 7"}
        cluster.api.apply(drained)

        gone = str(going.pod_cidrs["ipv4"])
        wait_until(lambda: sessions(cluster)[going.name] == set(), within=PARTED_SECONDS)
        wait_until(lambda: not any(gone in cluster.learned(node, "ipv4") for node in others))
        cidrs = {str(node.pod_cidrs["ipv4"]) for node in others}
        for node in others:
            assert cluster.learned(node, "ipv4").keys() == cidrs - {str(node.pod_cidrs["ipv4"])}
        for name, monitor in monitors.items():
            deleted = [line.split()[1] for line in monitor.log.read_text().splitlines() if line.startswith("Deleted")]
            assert set(deleted) <= {gone}, name


def reflectors(cluster: MiniCluster, without: str = "") -> set[str]:
    """Two nodes with a session with everybody; the others have those two sessions and no other."""
    found = sessions(cluster)
    everybody = {name for name, peers in found.items() if len(peers) == len(found) - 1}
    assert len(everybody) == 2, found
    assert without not in everybody, found
    for name, peers in found.items():
        if name not in everybody:
            assert peers == {f"node/{reflector}" for reflector in everybody}, found
    return everybody


def with_all_of(cluster: MiniCluster, *routers: str) -> bool:
    """Every node has sessions with these, and with nobody else."""
    return all(found == {f"BGPPeer/{name}" for name in routers} for found in sessions(cluster).values())


GOBGP_CLIENTS = """[peer-groups.route-reflector.config]
route-reflector-client = true
route-reflector-cluster-id = "10.99.0.3\""""


def test_our_nodes_are_clients_of_routers_of_three_kinds_without_a_mesh(lab: Callable[..., Lab]) -> None:
    site = lab(nodes=3, routers=3, families=("ipv4",))
    nodes = list(site.nodes.values())

    def clients(*extra: str) -> list[Neighbor]:
        return [Neighbor(str(site.rack1.networks["ipv4"]), CLUSTER_ASN, families=("ipv4",), extra=extra)]

    first, second, third = site.routers
    routers: dict[str, Frr | Bird | GoBgp] = {
        "frr": Frr(first, asn=CLUSTER_ASN, router_id="10.99.0.1", neighbors=clients("route-reflector-client")),
        "bird": ReflectingBird(second, asn=CLUSTER_ASN, router_id="10.99.0.2", neighbors=clients("rr client;")),
        "gobgp": GoBgp(third, asn=CLUSTER_ASN, router_id="10.99.0.3", neighbors=clients(GOBGP_CLIENTS)),
    }
    with MiniCluster(site) as cluster:
        cluster.api.apply(custom("BGPInstance", "default", {"mesh": {"mode": "None"}}))
        for name, machine in zip(routers, site.routers, strict=True):
            spec = {"address": str(machine.address()), "asn": CLUSTER_ASN, "holdSeconds": LAB_HOLD_SECONDS}
            cluster.api.apply(custom("BGPPeer", name, spec))
        cluster.start()

        wait_until(lambda: has_all_routes(cluster, *nodes), within=60.0)
        wait_until(lambda: with_all_of(cluster, "frr", "bird", "gobgp"), within=60.0)
        routers["frr"].kill()
        wait_until(lambda: with_all_of(cluster, "bird", "gobgp"), within=60.0)
        assert has_all_routes(cluster, *nodes)
        routers["bird"].kill()
        wait_until(lambda: with_all_of(cluster, "gobgp"), within=60.0)
        assert has_all_routes(cluster, *nodes)
        assert len(routers["gobgp"].established()) == len(nodes)
