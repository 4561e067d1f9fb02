"""Real agents in two racks, one FRR above each, only these two linked: what a BGPInstance says, seen from the routers.

The routers' own tables are the judge of AS, router id and port, each kernel of the routes, and a ping of the whole.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

import pytest

from tests.lab.frr import Frr
from tests.lab.minicluster import LAB_HOLD_SECONDS, MiniCluster, custom, node_object
from tests.lab.neighbor import Neighbor
from tests.lab.topology import Lab, Node
from tests.lab.wait import wait_until

pytestmark = pytest.mark.live

RACK_A, RACK_B = 4200000001, 65002
"""The ASes of the nodes: in the label of rack A as asdot."""
TOR_A, TOR_B = 65101, 65102
LABELS = {"a": {"rack": "a", "asn": "64086.59905"}, "b": {"rack": "b", "asn": str(RACK_B)}}
ROUTER_IDS = {"node-1": "192.0.2.1", "node-2": "192.0.2.2"}
LISTEN_PORT = 1790
SHARED = "198.51.100.0/24"
"""Announced by several nodes, as an aggregate of service addresses is."""
PASSWORD, OTHER_PASSWORD = "mesh swordfish", "mesh hunter2"


class Racks:
    """node-1 and node-2 in rack A, node-3 in rack B, whose BGP all listens on another port."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.a1, self.a2, self.b1 = (lab.node(index) for index in (1, 2, 3))
        self.router_a, self.router_b = lab.routers
        links = [str(lab.outside.address(number, "ipv4")) for number in (1, 2)]
        self.router_a.ip("link", "set", "eth2", "down")
        self.router_a.ip("route", "add", str(lab.rack2.networks["ipv4"]), "via", links[1])
        self.router_b.ip("link", "set", "eth0", "down")
        self.router_b.ip("route", "add", str(lab.rack1.networks["ipv4"]), "via", links[0])
        self.b1.ip("route", "replace", "default", "via", str(lab.rack2.address(2, "ipv4")))
        self.tor_a = Frr(
            self.router_a,
            asn=TOR_A,
            router_id="10.99.0.1",
            neighbors=[Neighbor("172.18.0.0/24", RACK_A, families=("ipv4",)), Neighbor(links[1], TOR_B)],
        )
        self.tor_b = Frr(
            self.router_b,
            asn=TOR_B,
            router_id="10.99.0.2",
            neighbors=[
                Neighbor(str(self.b1.address()), RACK_B, families=("ipv4",), extra=(f"port {LISTEN_PORT}",)),
                Neighbor(links[0], TOR_A),
            ],
        )
        self.cluster = MiniCluster(lab)
        self.api = self.cluster.api
        self.instance()
        self.api.apply(
            _peer("tor-a", str(self.router_a.address()), TOR_A, "a", allowASIn=1),
            _peer("tor-b", str(lab.rack2.address(2, "ipv4")), TOR_B, "b", passive=True),
        )
        for node in lab.nodes.values():
            wanted = node_object(node, labels=LABELS["b" if node is self.b1 else "a"])
            wanted["metadata"]["annotations"] = {"example.com/id": ROUTER_IDS.get(node.name, "")}
            self.api.apply(wanted)
            self.cluster.start_agent(node)

    def instance(self, **mesh: Any) -> None:
        spec = {
            "asnFrom": {"label": "asn"},
            "routerIDFrom": {"annotation": "example.com/id"},
            "listenPort": LISTEN_PORT,
            "mesh": {"holdSeconds": LAB_HOLD_SECONDS, **mesh},
        }
        self.api.apply(custom("BGPInstance", "racks", spec))

    def secret(self, password: str) -> None:
        value = base64.b64encode(password.encode()).decode()
        self.api.apply(
            {
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": {"namespace": "bgpilot-system", "name": "mesh"},
                "data": {"md5": value},
            }
        )

    def peers(self, node: Node) -> dict[str, Any]:
        """What the agent says of its sessions, by name."""
        peers = self.cluster.agent(node).ask("peers")["peers"].values()
        return {peer["description"]: peer for peer in peers}

    def mesh_is(self, node: Node, *, up: bool) -> bool:
        return [peer["is_up"] for name, peer in self.peers(node).items() if name.startswith("node/")] == [up]

    def without_password(self) -> None:
        """Take the mesh password away, and wait until the session between the two has gone and come for that."""
        before = self.peers(self.a1)["node/node-2"]["flaps"]
        self.instance()
        wait_until(lambda: self.peers(self.a1)["node/node-2"]["flaps"] > before, within=60)
        for node in (self.a1, self.a2):
            wait_until(lambda node=node: self.mesh_is(node, up=True), within=60)

    def problems(self, node: Node) -> set[tuple[str, str]]:
        told = self.cluster.agent(node).ask("status")["problems"]
        return {(problem["reason"], problem["subject"]) for problem in told}

    def said_of(self, node: Node, prefix: str) -> dict[str, str | None]:
        """By router or node that tells it, the reason word why the route is not used."""
        rows = self.cluster.agent(node).ask("routes", prefix)["rows"]
        return {row["peer"]: row["reason"] for row in rows if row["prefix"] == prefix}

    def to_routers(self) -> dict[str, int]:
        """How often each node's session with its router came up."""
        rack_a = {node.name: self.tor_a.times_established(str(node.address())) for node in (self.a1, self.a2)}
        return {**rack_a, self.b1.name: self.tor_b.times_established(str(self.b1.address()))}

    def wait_routes(self, *, second_hop: str) -> None:
        """Every pod CIDR in every kernel; `second_hop` is how node-1 gets to node-2."""
        near, far = str(self.router_a.address()), str(self.lab.rack2.address(2, "ipv4"))
        of = {node.name: str(node.pod_cidrs["ipv4"]) for node in self.lab.nodes.values()}
        wanted = {
            self.a1: {of["node-2"]: [second_hop], of["node-3"]: [near]},
            self.b1: {of["node-1"]: [far], of["node-2"]: [far]},
        }

        def there() -> bool:
            for node, routes in wanted.items():
                assert self.cluster.learned(node, "ipv4") == routes, node.name
            return True

        wait_until(there, within=90)


def _peer(name: str, address: str, asn: int, rack: str, **spec: Any) -> dict[str, Any]:
    return custom(
        "BGPPeer",
        name,
        {
            "address": address,
            "asn": asn,
            "holdSeconds": LAB_HOLD_SECONDS,
            "nodeSelector": {"matchLabels": {"rack": rack}},
            "import": {"podCIDRs": True},
            **spec,
        },
    )


@pytest.fixture(scope="module")
def racks() -> Iterator[Racks]:
    with Lab(nodes=2, nodes_in_second_subnet=1, routers=2, families=("ipv4",)) as lab:
        built = Racks(lab)
        try:
            built.wait_routes(second_hop=str(built.a2.address()))
            yield built
        finally:
            built.cluster.close()


@pytest.fixture(autouse=True)
def _as_before(racks: Racks) -> Iterator[None]:
    """Also after a test that failed half-way."""
    yield
    for kind, usual in (("BGPAdvertisement", ()), ("BGPInstance", ("racks",))):
        for thing in racks.api.list(kind):
            if (name := thing["metadata"]["name"]) not in usual:
                racks.api.delete(kind, name)
    racks.instance()


def test_each_rack_has_its_as_from_the_label_and_no_session_with_the_other(racks: Racks) -> None:
    assert set(racks.peers(racks.a1)) == {"node/node-2", "BGPPeer/tor-a"}
    assert set(racks.peers(racks.b1)) == {"BGPPeer/tor-b"}
    wait_until(lambda: racks.mesh_is(racks.a1, up=True))

    seen = racks.tor_a.show_json("show bgp neighbors json")[str(racks.a1.address())]
    assert (seen["remoteAs"], seen["remoteRouterId"]) == (RACK_A, ROUTER_IDS["node-1"])
    (path,) = racks.tor_b.paths(str(racks.a1.pod_cidrs["ipv4"]))
    assert path["aspath"]["string"] == f"{TOR_A} {RACK_A}"


def test_a_router_and_a_node_reach_a_node_at_its_listen_port(racks: Racks) -> None:
    seen = racks.tor_b.show_json("show bgp neighbors json")[str(racks.b1.address())]
    assert (seen["bgpState"], seen["portForeign"]) == ("Established", LISTEN_PORT)

    wait_until(lambda: racks.mesh_is(racks.a1, up=True))
    dialed = racks.a1.run(["ss", "-Htn", "state", "established", "dst", f"{racks.a2.address()}:{LISTEN_PORT}"]).stdout
    listening = racks.a1.run(["ss", "-Hltn"]).stdout
    assert len(dialed.splitlines()) == 1
    assert f"{racks.a1.address()}:{LISTEN_PORT}" in listening
    assert ":179 " not in listening


def test_pods_reach_pods_across_racks(racks: Racks) -> None:
    here, there = racks.a1.add_pod(), racks.b1.add_pod()
    try:
        for source, target in ((here, there), (there, here)):
            wait_until(
                lambda source=source, target=target: (
                    source.run(["ping", "-c", "1", "-W", "1", str(target.address())]).stdout
                )
            )
    finally:
        racks.a1.remove_pod(here)
        racks.b1.remove_pod(there)


def test_what_other_nodes_announce_too_ends_on_each_and_goes_to_the_router_from_who_does_not(racks: Racks) -> None:
    """The router tells each node of the rack, which take their own AS, what the other one has announced."""
    router, nodes = str(racks.router_a.address()), (racks.a1, racks.a2)
    everything = {"podCIDRs": True, "allowed": [{"prefix": "0.0.0.0/0", "ge": 8}]}
    peer = {"allowASIn": 1, "import": everything}
    racks.api.apply(
        _peer("tor-a", router, TOR_A, "a", **peer),
        custom("BGPAdvertisement", "shared", {"type": "Prefix", "prefixes": [SHARED]}),
    )
    wait_until(lambda: [racks.said_of(node, SHARED) for node in nodes] == [{router: "announcedHere"}] * 2)
    assert [racks.cluster.learned(node, "ipv4").get(SHARED) for node in nodes] == [None, None]
    hops = sorted(str(node.address()) for node in nodes)
    wait_until(lambda: racks.router_a.kernel_routes("ipv4").get(SHARED) == hops)
    for number in range(1, 5):  # who is asked oftener answers once a second (net.ipv4.route.error_burst)
        way = racks.router_a.run(["traceroute", "-n", "-N", "1", "-q", "1", "-m", "4", f"198.51.100.{number}"]).stdout
        assert len(way.splitlines()[1:]) == 1, way

    spec = {"type": "Prefix", "prefixes": [SHARED], "nodeSelector": {"matchLabels": {"rack": "b"}}}
    racks.api.apply(custom("BGPAdvertisement", "shared", spec))
    wait_until(lambda: [racks.cluster.learned(node, "ipv4").get(SHARED) for node in nodes] == [[router]] * 2)

    racks.api.delete("BGPAdvertisement", "shared")
    racks.api.apply(_peer("tor-a", router, TOR_A, "a", allowASIn=1))
    wait_until(lambda: [racks.said_of(node, SHARED) for node in nodes] == [{}, {}])


def test_a_newcomer_of_the_same_priority_changes_nothing_but_says_that_it_is_not_used(racks: Racks) -> None:
    before = racks.to_routers()
    racks.api.apply(custom("BGPInstance", "a-newcomer", {"asn": 64999}))
    wait_until(lambda: ("instanceConflicted", "BGPInstance a-newcomer") in racks.problems(racks.a1))

    racks.cluster.agent(racks.a1).kill()
    racks.cluster.agent(racks.a1).restart()
    wait_until(lambda: ("instanceConflicted", "BGPInstance a-newcomer") in racks.problems(racks.a1), within=90)
    racks.wait_routes(second_hop=str(racks.a2.address()))

    identity = racks.cluster.agent(racks.a1).ask("status")["identity"]
    assert (identity["asn"], identity["instance"]) == (RACK_A, "racks")
    assert (identity["router_id"], identity["router_id_source"]) == ("192.0.2.1", "annotation example.com/id")
    assert {**racks.to_routers(), "node-1": 0} == {**before, "node-1": 0}, "the agents beside it lost nothing"
    racks.api.delete("BGPInstance", "a-newcomer")
    wait_until(lambda: racks.problems(racks.a1) == set())


def test_the_mesh_password_is_demanded_waited_for_and_followed_by_the_mesh_alone(racks: Racks) -> None:
    before = racks.to_routers()
    racks.instance(passwordSecretRef={"name": "mesh", "key": "md5"})
    for node in (racks.a1, racks.a2):
        wait_until(lambda node=node: racks.mesh_is(node, up=False))
        wait_until(lambda node=node: ("secretMissing", "BGPInstance racks") in racks.problems(node))

    racks.secret(PASSWORD)
    wait_until(lambda: racks.mesh_is(racks.a1, up=True), within=60)
    assert racks.problems(racks.a1) == set()
    flaps = racks.peers(racks.a1)["node/node-2"]["flaps"]

    racks.secret(OTHER_PASSWORD)
    wait_until(lambda: racks.peers(racks.a1)["node/node-2"]["flaps"] > flaps, within=60)
    wait_until(lambda: racks.mesh_is(racks.a1, up=True), within=60)

    racks.without_password()
    assert racks.to_routers() == before


def test_with_another_password_on_one_side_there_is_no_session_between_the_two(racks: Racks) -> None:
    before = racks.to_routers()
    racks.secret(PASSWORD)
    racks.instance(passwordSecretRef={"name": "mesh", "key": "md5"})
    wait_until(lambda: racks.mesh_is(racks.a1, up=True), within=60)
    odd = node_object(racks.a2, labels={**LABELS["a"], "odd": ""})
    odd["metadata"]["annotations"] = {"example.com/id": ROUTER_IDS["node-2"]}
    spec = {
        "priority": 1,
        "nodeSelector": {"matchLabels": {"odd": ""}},
        "asnFrom": {"label": "asn"},
        "routerIDFrom": {"annotation": "example.com/id"},
        "listenPort": LISTEN_PORT,
        "mesh": {"holdSeconds": LAB_HOLD_SECONDS},
    }
    racks.api.apply(custom("BGPInstance", "odd", spec), odd)

    wait_until(lambda: racks.mesh_is(racks.a1, up=False), within=60)
    wait_until(lambda: racks.mesh_is(racks.a2, up=False), within=60)

    spec["mesh"] = {"holdSeconds": LAB_HOLD_SECONDS, "passwordSecretRef": {"name": "mesh", "key": "md5"}}
    racks.api.apply(custom("BGPInstance", "odd", spec))
    wait_until(lambda: racks.mesh_is(racks.a1, up=True), within=60)
    assert racks.to_routers() == before

    odd["metadata"]["labels"] = LABELS["a"]
    racks.api.apply(odd)
    racks.api.delete("BGPInstance", "odd")
    racks.without_password()


def test_mode_none_ends_the_mesh_when_it_has_parted_and_the_router_carries_what_it_carried(racks: Racks) -> None:
    """The session stays for a while, and says so: the other node may not have seen the new BGPInstance yet."""
    before, cidr = racks.to_routers(), str(racks.a2.pod_cidrs["ipv4"])
    monitor = racks.a1.start(["ip", "monitor", "route"], log="mode-none")
    since = racks.peers(racks.a1)["node/node-2"]["flaps"]

    racks.instance(mode="None")

    wait_until(lambda: racks.peers(racks.a1)["node/node-2"]["parting"])
    parting = racks.peers(racks.a1)["node/node-2"]
    assert (parting["is_up"], parting["flaps"]) == (True, since)
    told = racks.cluster.agent(racks.a1).cli
    assert "2 of 2 established (mesh 1 of 1, 1 parting)" in told("status").stdout
    assert [line for line in told("peers").stdout.splitlines() if "node/node-2" in line and "parting" in line]
    wait_until(lambda: set(racks.peers(racks.a1)) == {"BGPPeer/tor-a"}, within=120)
    wait_until(lambda: set(racks.peers(racks.a2)) == {"BGPPeer/tor-a"}, within=120)
    racks.wait_routes(second_hop=str(racks.a2.address()))
    assert f"Deleted {cidr}" not in monitor.output()
    assert racks.to_routers() == before

    monitor.stop()
    racks.instance()
    wait_until(lambda: racks.mesh_is(racks.a1, up=True), within=60)
