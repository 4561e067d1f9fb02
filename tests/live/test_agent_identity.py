"""Who a node is to routers: the addresses on which its BGP listens, and the router id of a node that has IPv6 only.

The kernel's list of listening sockets, FRR and BIRD are the judges.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator, Mapping

import pytest

from tests.lab.bird import Bird
from tests.lab.frr import Frr
from tests.lab.minicluster import CLUSTER_ASN, LAB_HOLD_SECONDS, ROUTER_ASN, MiniCluster, custom, node_object
from tests.lab.neighbor import Neighbor
from tests.lab.netns import Family
from tests.lab.topology import Lab, Node
from tests.lab.wait import wait_until

pytestmark = pytest.mark.live

FIRST = {"ipv4": "172.18.0.11", "ipv6": "fd18::11"}
OTHER = {"ipv4": "172.18.0.111", "ipv6": "fd18::111"}
FAMILY = {"ipv4": "IPv4", "ipv6": "IPv6"}
INSIDE = {"ipv4": "172.18.0.96/27", "ipv6": "fd18::100/120"}
"""Networks that have the other address in them, and not the first one."""


class Listening:
    """A node with two addresses in each family, which waits to be dialed; FRR dials all four of them.

    A second node has sessions with it, and FRR's sessions with the node are for the family that they run over.
    """

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.node, self.neighbor = lab.node(1), lab.node(2)
        self.node.configure(ip=[f"addr add {OTHER['ipv4']}/24 dev eth0", f"addr add {OTHER['ipv6']}/64 dev eth0 nodad"])
        self.cluster = MiniCluster(lab)
        for family in lab.families:
            spec = {"address": str(lab.router.address(family)), "asn": ROUTER_ASN, "holdSeconds": LAB_HOLD_SECONDS}
            choice = {"nodeSelector": {"matchLabels": {"dialed": "yes"}}, "passive": True, "families": [FAMILY[family]]}
            self.cluster.api.apply(custom("BGPPeer", family, {**spec, **choice}))
        dialed = node_object(self.node, labels={"dialed": "yes"})
        dialed["status"]["addresses"] += [{"type": "InternalIP", "address": it} for it in OTHER.values()]
        self.cluster.api.apply(dialed, node_object(self.neighbor))
        self.frr = Frr(
            lab.router,
            asn=ROUTER_ASN,
            router_id="10.99.0.1",
            neighbors=[
                Neighbor(addresses[family], CLUSTER_ASN, families=(family,))
                for addresses in (FIRST, OTHER)
                for family in lab.families
            ],
            # FRR 8.4 does not dial while it waits for a neighbor to restart, and to it every change looks like that.
            lines=["bgp graceful-restart-disable"],
        )
        for node in (self.node, self.neighbor):
            self.cluster.start_agent(node)

    def listen(self, *networks: str) -> None:
        """The second node has no address inside any of `INSIDE`: its own are always among them."""
        if networks:
            networks += tuple(f"{address}/{address.max_prefixlen}" for address in self.neighbor.addresses)
        self.cluster.api.apply(
            custom(
                "BGPInstance",
                "default",
                {"listenAddresses": list(networks), "mesh": {"mode": "FullMesh", "holdSeconds": LAB_HOLD_SECONDS}},
            )
        )

    def sockets(self) -> set[str]:
        """The addresses of the node on which somebody listens on port 179."""
        lines = self.node.run(["ss", "-Hltn", "sport = :179"]).stdout.splitlines()
        return {line.split()[3].removesuffix(":179").strip("[]") for line in lines}

    def used(self, *addresses: str) -> None:
        """These and no others are listened on, have a session and are next hops, and all others refuse the router."""
        wanted = {("ipv6" if ":" in address else "ipv4"): address for address in addresses}

        def as_wanted() -> bool:
            assert self.sockets() == set(addresses)
            assert self.frr.established() == sorted(addresses)
            for family in self.lab.families:
                prefix = str(self.node.pod_cidrs[family])
                hops = [wanted[family]] if family in wanted else []
                assert self.frr.routes(family).get(prefix, []) == hops
                assert self.cluster.learned(self.neighbor, family).get(prefix, []) == hops
            return True

        wait_until(as_wanted, within=120.0, every=0.25)
        for address in {*FIRST.values(), *OTHER.values()} - set(addresses):
            with pytest.raises(ConnectionRefusedError):
                self.dial(address)

    def dial(self, address: str) -> None:
        """As the router would, on its machine."""

        def plain() -> socket.socket:
            return socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)

        with self.lab.router.make(plain) as connection:
            connection.settimeout(10.0)
            connection.connect((address, 179))


@pytest.fixture(scope="module")
def listening() -> Iterator[Listening]:
    with Lab(nodes=2) as lab:
        scene = Listening(lab)
        yield scene
        scene.cluster.close()


def test_bgp_listens_on_the_first_address_of_each_family_alone(listening: Listening) -> None:
    listening.listen()
    listening.used(*FIRST.values())


def test_listen_addresses_say_which_address_it_is_also_while_the_agent_runs(listening: Listening) -> None:
    listening.listen(*INSIDE.values())
    listening.used(*OTHER.values())

    listening.listen(INSIDE["ipv4"], "fd18::/64")
    listening.used(OTHER["ipv4"], FIRST["ipv6"])


@pytest.mark.parametrize("family", ["ipv4", "ipv6"])
def test_a_family_without_listen_address_is_not_spoken(listening: Listening, family: Family) -> None:
    listening.listen(INSIDE[family])
    listening.used(OTHER[family])


def test_a_node_without_any_listen_address_has_no_session_and_says_so(listening: Listening) -> None:
    listening.listen("192.0.2.0/24")  # and the other node's
    agent, said = listening.cluster.agent(listening.node), "! Node node-1: no InternalIP of Node node-1 is inside"

    shown = wait_until(lambda: shown if said in (shown := agent.cli("status")).stdout else None, within=120.0)

    assert shown is not None
    assert shown.returncode == 3
    listening.used()


NEIGHBOR_ID = re.compile(r"Neighbor address: (\S+)\n(?:.*\n)*?\s+Neighbor ID:\s+(\S+)")


class Ids:
    """Two nodes that have IPv6 addresses only, and FRR and BIRD, which they dial."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.cluster = MiniCluster(lab)
        neighbors = [Neighbor(str(node.address("ipv6")), CLUSTER_ASN) for node in lab.nodes.values()]
        self.frr = Frr(lab.routers[0], asn=ROUTER_ASN, router_id="10.99.0.1", neighbors=neighbors)
        self.bird = Bird(lab.routers[1], asn=ROUTER_ASN, router_id="10.99.0.2", neighbors=neighbors)
        for router in lab.routers:
            spec = {"address": str(router.address("ipv6")), "asn": ROUTER_ASN, "holdSeconds": LAB_HOLD_SECONDS}
            self.cluster.api.apply(custom("BGPPeer", router.name, spec))
        self.cluster.start()

    def seen(self) -> dict[str, str]:
        """By node, the router id that both routers have from its OPEN."""
        told = self.frr.show_json("show bgp neighbors json")
        by_frr = {
            address: peer["remoteRouterId"] for address, peer in told.items() if peer["bgpState"] == "Established"
        }
        by_bird = dict(NEIGHBOR_ID.findall(self.bird.birdc("show protocols all")))
        assert by_frr == by_bird
        return {name: by_frr[str(node.address("ipv6"))] for name, node in self.lab.nodes.items()}

    def told(self, node: Node) -> Mapping[str, str]:
        identity: Mapping[str, str] = self.cluster.agent(node).ask("status")["identity"]
        return identity


@pytest.fixture(scope="module")
def ids() -> Iterator[Ids]:
    with Lab(nodes=2, routers=2, families=("ipv6",)) as lab:
        scene = Ids(lab)
        yield scene
        scene.cluster.close()


def test_two_nodes_with_ipv6_only_have_router_ids_of_their_own_and_say_where_from(ids: Ids) -> None:
    seen = wait_until(ids.seen, within=120.0)

    assert len(set(seen.values())) == 2
    for name, node in ids.lab.nodes.items():
        source = f"hash of {node.address('ipv6')}"
        told = ids.told(node)
        assert (told["router_id"], told["router_id_source"]) == (seen[name], source)
        assert f"{seen[name]} ({source})" in ids.cluster.agent(node).cli("status").stdout
    ids.cluster.wait_meshed()


def test_the_router_id_of_a_node_with_ipv6_only_is_the_same_after_a_restart(ids: Ids) -> None:
    before, node = wait_until(ids.seen, within=120.0), ids.lab.node(1)
    sessions = ids.frr.times_established(str(node.address()))
    agent = ids.cluster.agent(node)

    agent.stop()
    agent.restart()

    wait_until(lambda: ids.frr.times_established(str(node.address())) > sessions, within=120.0)
    assert wait_until(ids.seen, within=120.0) == before
