"""Bad objects beside good ones, Secrets that are not there, an API server that goes away: the rest works on.

The embedded API is told not to check schemas, so that nonsense gets through to the agents as it would in a cluster with
other CRDs than ours.
The routers' own tables are the judge of sessions: none that was not meant may flap in this whole file.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

import pytest

from tests.lab.frr import Frr
from tests.lab.minicluster import (
    CLUSTER_ASN,
    LAB_HOLD_SECONDS,
    ROUTER_ASN,
    MiniCluster,
    custom,
    node_object,
    service_object,
    tor_peer,
)
from tests.lab.neighbor import Neighbor
from tests.lab.topology import Lab
from tests.lab.wait import wait_until

pytestmark = pytest.mark.live

INSTANCE = custom("BGPInstance", "default", {"mesh": {"holdSeconds": LAB_HOLD_SECONDS}})
SERVICES = custom("BGPAdvertisement", "services", {"type": "Service", "service": {"addresses": ["ClusterIP"]}})
VIP = "10.96.0.80"
PASSWORD, OTHER_PASSWORD = "first-word-of-the-router", "second-word-of-the-router"


class Scene:
    """Two nodes, and two routers as their peers; the second one wants a password."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.cluster = MiniCluster(lab)
        self.api = self.cluster.api
        self.api.apply(*self.good())
        self.frr, self.strict = self._frr(1), self._frr(2, password=PASSWORD)
        self.cluster.start()
        self.cluster.wait_meshed()
        wait_until(lambda: len(self.frr.established()) == 2)

    def _frr(self, number: int, password: str = "") -> Frr:
        router = self.lab.routers[number - 1]
        nodes = Neighbor(str(router.subnet.networks["ipv4"]), CLUSTER_ASN, password=password, families=("ipv4",))
        return Frr(router, asn=ROUTER_ASN, router_id=f"10.99.0.{number}", neighbors=[nodes])

    def good(self) -> list[dict[str, Any]]:
        """The objects that all is well with."""
        nodes = [node_object(node) for node in self.lab.nodes.values()]
        return [INSTANCE, SERVICES, tor_peer(self.lab.router), service_object("web", [VIP]), *nodes]

    def strict_peer(self, key: str = "password") -> dict[str, Any]:
        return tor_peer(self.lab.routers[1], name="strict", passwordSecretRef={"name": "strict", "key": key})

    def problems(self, node: int = 1) -> dict[tuple[str, str], str]:
        """(reason, subject) → message and fix."""
        told = self.cluster.agent(self.lab.node(node)).ask("status")["problems"]
        return {(one["reason"], one["subject"]): f"{one['message']} | {one['fix']}" for one in told}

    def all_problems(self, count: int, node: int) -> dict[tuple[str, str], str]:
        """When there are so many, from now on or soon."""
        return wait_until(lambda: told if len(told := self.problems(node)) == count else {})

    def problem(self, reason: str, subject: str, node: int = 1) -> str:
        """Its text, from now on or soon."""
        return wait_until(lambda: self.problems(node)[reason, subject])

    def wait_mended(self) -> None:
        wait_until(self.mended, within=60)

    def mended(self) -> bool:
        """No agent has anything left to complain of."""
        assert [self.problems(node) for node in (1, 2)] == [{}, {}]
        return True

    def times_established(self) -> list[int]:
        return [self.frr.times_established(str(node.address())) for node in self.lab.nodes.values()]

    def told_by_all(self, address: str) -> bool:
        hops = sorted(str(node.address()) for node in self.lab.nodes.values())
        return self.frr.routes("ipv4").get(f"{address}/32") == hops


@pytest.fixture(scope="module")
def site() -> Iterator[Lab]:
    with Lab(nodes=2, routers=2, families=("ipv4",)) as lab:
        yield lab


@pytest.fixture(scope="module")
def scene(site: Lab) -> Iterator[Scene]:
    built = Scene(site)
    yield built
    built.cluster.close()


@pytest.fixture(autouse=True)
def _good_again(scene: Scene) -> Iterator[None]:
    """Every test begins and ends with good objects only, all of them in force, and has lost no session."""
    wait_until(lambda: scene.told_by_all(VIP))
    yield
    good = {(thing["kind"], thing["metadata"]["name"]) for thing in scene.good()}
    for kind in ("BGPInstance", "BGPPeer", "BGPAdvertisement", "Service", "Secret", "Node"):
        for thing in scene.api.list(kind):
            meta = thing["metadata"]
            if (kind, meta["name"]) not in good:
                scene.api.delete(kind, meta["name"], meta.get("namespace", ""))
    scene.api.apply(*scene.good())
    scene.wait_mended()
    scene.cluster.wait_meshed()
    assert scene.times_established() == [1, 1]


NONSENSE: list[tuple[str, Any, str]] = [
    ("BGPPeer", {"address": "192.0.2.1"}, "spec.asn is missing"),
    ("BGPPeer", {"address": "192.0.2.1", "asn": "many"}, "spec.asn = 'many' is no AS number"),
    ("BGPPeer", {"address": "192.0.2.1", "asn": "65536.1"}, "spec.asn = '65536.1' has a half greater than 65535"),
    ("BGPPeer", {"address": "192.0.2.1", "asn": 4294967296}, "set it to a number from 1 to 4294967295"),
    ("BGPPeer", {"address": "tor.example", "asn": 1}, "spec.address = 'tor.example' is not an IP address"),
    ("BGPPeer", {"address": "224.0.0.5", "asn": 1}, "spec.address = '224.0.0.5' is no unicast address"),
    (
        "BGPPeer",
        {"address": "192.0.2.1", "asn": 1, "holdSeconds": 2},
        "spec.holdSeconds = 2 is shorter than BGP allows",
    ),
    ("BGPPeer", {"address": "192.0.2.1", "asn": 1, "nodeSelector": []}, "spec.nodeSelector = [] is not an object"),
    (
        "BGPPeer",
        {"address": "192.0.2.1", "asn": 1, "passwordSecretRef": "pw"},
        "spec.passwordSecretRef is not an object",
    ),
    ("BGPPeer", "nonsense", "spec = 'nonsense' is not an object"),
    ("BGPPeer", None, "spec.address is missing"),
    ("BGPAdvertisement", {"type": "Everything"}, "set it to one of PodCIDR, Service"),
    ("BGPAdvertisement", {"type": "Service"}, "spec.service.addresses is missing"),
    ("BGPAdvertisement", {"type": "Service", "service": {"addresses": ["Any"]}}, "spec.service.addresses[0] = 'Any'"),
    ("BGPInstance", {"asn": 23456}, "spec.asn = 23456 is AS_TRANS"),
    ("BGPInstance", {"allowedExternalIPs": ["10.0.0.1/8"]}, "did you mean 10.0.0.0/8?"),
    ("BGPInstance", {"podRoutes": "Maybe"}, "spec.podRoutes = 'Maybe' is not known"),
]


def test_malformed_objects_are_named_with_field_value_and_fix_and_the_good_ones_work(scene: Scene) -> None:
    scene.api.apply(
        *(custom(kind, f"bad-{number}", spec) for number, (kind, spec, _) in enumerate(NONSENSE)), checked=False
    )
    broken_node = node_object(scene.lab.node(2))
    broken_node["metadata"] = {"name": "node-9"}
    broken_node["status"] = {"addresses": [{"type": "InternalIP", "address": "nowhere"}]}
    scene.api.apply(broken_node, service_object("odd", ["10.96.0.81"], internal_policy="Sometimes"))
    scene.api.apply(service_object("new", ["10.96.0.82"]))

    wait_until(lambda: scene.told_by_all("10.96.0.82"))

    expected = {f"{kind} bad-{number}": says for number, (kind, _, says) in enumerate(NONSENSE)}
    expected["Node node-9"] = "status.addresses[0].address = 'nowhere' is not an IP address"
    expected["Service default/odd"] = "spec.internalTrafficPolicy = 'Sometimes' is not known"
    for node in (1, 2):
        told = scene.all_problems(len(expected), node)
        for subject, says in expected.items():
            assert says in told["malformedObject", subject]
            assert ": the whole object is not used | Mend the object: " in told["malformedObject", subject]
    assert not scene.told_by_all("10.96.0.81")


def test_a_good_object_that_turns_bad_keeps_its_last_good_version_in_force_and_says_so(scene: Scene) -> None:
    bad_node = node_object(scene.lab.node(2))
    bad_node["spec"] = {"podCIDR": "many", "podCIDRs": ["many"]}
    bad_service = service_object("web", ["not-an-address"])
    scene.api.apply(
        custom("BGPInstance", "default", {"asn": "sixty"}),
        custom("BGPPeer", "tor", {"address": "tor.example", "asn": ROUTER_ASN}),
        custom("BGPAdvertisement", "services", {"type": "Everything"}),
        bad_node,
        bad_service,
        checked=False,
    )

    for subject, field in {
        "BGPInstance default": "spec.asn = 'sixty'",
        "BGPPeer tor": "spec.address = 'tor.example'",
        "BGPAdvertisement services": "spec.type = 'Everything'",
        "Node node-2": "spec.podCIDRs[0] = 'many'",
        "Service default/web": "spec.clusterIPs[0] = 'not-an-address'",
    }.items():
        text = scene.problem("malformedObject", subject)
        assert field in text
        assert ": the object's last readable version stays in force | Mend the object: " in text
    scene.api.apply(service_object("later", ["10.96.0.83"]))
    wait_until(lambda: scene.told_by_all("10.96.0.83"))
    assert scene.told_by_all(VIP)
    assert scene.cluster.meshed()
    assert scene.cluster.agent(scene.lab.node(1)).ask("status")["identity"]["asn"] == CLUSTER_ASN


def test_a_password_that_is_not_there_keeps_the_session_down_and_its_coming_brings_it_up(scene: Scene) -> None:
    address = str(scene.lab.routers[1].address())
    scene.api.apply(scene.strict_peer())

    text = scene.problem("secretMissing", "BGPPeer strict")
    assert "passwordSecretRef names Secret strict, which cannot be read" in text
    assert "| Create Secret strict with key password in the agent's namespace" in text
    scene.api.apply(secret({"other": PASSWORD}))
    text = scene.problem("secretKeyMissing", "BGPPeer strict")
    assert "Secret strict has no key password" in text
    assert "| Add key password to Secret strict, or correct passwordSecretRef.key." in text
    scene.api.apply(secret({"password": ""}))
    wait_until(lambda: "has nothing under key password" in scene.problem("secretKeyMissing", "BGPPeer strict"))
    scene.api.apply(secret({"password": "x" * 81}))
    wait_until(lambda: "has 81 bytes under key password" in scene.problem("passwordTooLong", "BGPPeer strict"))
    assert "xxx" not in str(scene.problems())
    assert scene.strict.established() == []

    scene.api.apply(secret({"password": PASSWORD}))

    wait_until(lambda: len(scene.strict.established()) == 2)
    wait_until(lambda: scene.problems() == {})
    wait_until(lambda: scene.cluster.agent(scene.lab.node(1)).ask("peers")["peers"][address]["is_up"])


def test_a_password_changed_on_both_sides_restarts_that_session_only(scene: Scene) -> None:
    scene.api.apply(secret({"password": PASSWORD}), scene.strict_peer())
    wait_until(lambda: len(scene.strict.established()) == 2)
    node = scene.lab.node(1)
    flaps = {name: peer["flaps"] for name, peer in scene.cluster.agent(node).ask("peers")["peers"].items()}
    strict = str(scene.lab.routers[1].address())

    scene.api.apply(secret({"password": OTHER_PASSWORD}))
    wait_until(lambda: scene.strict.established() == [], within=60)
    network = str(scene.lab.routers[1].subnet.networks["ipv4"])
    scene.strict.add_neighbor(Neighbor(network, CLUSTER_ASN, password=OTHER_PASSWORD, families=("ipv4",)))

    wait_until(lambda: len(scene.strict.established()) == 2, within=60)
    peers = scene.cluster.agent(node).ask("peers")["peers"]
    assert {name: peer["flaps"] for name, peer in peers.items() if name != strict} == {
        name: count for name, count in flaps.items() if name != strict
    }


def test_a_peer_of_an_address_that_is_taken_or_our_own_gets_no_session_and_costs_none(scene: Scene) -> None:
    first, second = scene.lab.node(1), scene.lab.node(2)
    scene.api.apply(
        custom("BGPPeer", "mesh-node", {"address": str(second.address()), "asn": CLUSTER_ASN}),
        tor_peer(scene.lab.router, name="tor-again", holdSeconds=30),
    )

    text = scene.problem("peerAddressConflict", "BGPPeer mesh-node", node=1)
    assert f"address {second.address()} is also that of Node node-2, which is older and keeps the session | " in text
    text = scene.problem("peerIsThisNode", "BGPPeer mesh-node", node=2)
    assert f"address {second.address()} is that of Node node-2 itself" in text
    assert "| Correct spec.address, or leave Node node-2 out with spec.nodeSelector." in text
    for node in (1, 2):
        text = scene.problem("peerAddressConflict", "BGPPeer tor-again", node)
        assert "is also that of BGPPeer tor, which is older and keeps the session | Delete one of the two" in text
    peers = scene.cluster.agent(first).ask("peers")["peers"]
    assert {peer["description"] for peer in peers.values()} == {"node/node-2", "BGPPeer/tor"}


def test_a_second_instance_changes_nothing_and_is_told_which_is_in_force(scene: Scene) -> None:
    scene.api.apply(custom("BGPInstance", "another", {"asn": 65001}))

    for node in (1, 2):
        text = scene.problem("instanceConflicted", "BGPInstance another", node)
        assert f"is not used on Node node-{node}: BGPInstance default is older | " in text
        assert "or delete one of the two" in text
        assert f"to change what is in force on Node node-{node}, change default in place." in text
    assert scene.cluster.agent(scene.lab.node(1)).ask("status")["identity"]["asn"] == CLUSTER_ASN


def test_while_the_api_server_is_away_nothing_changes_and_then_what_was_missed_is_followed(scene: Scene) -> None:
    node, agent = scene.lab.node(1), scene.cluster.agent(scene.lab.node(1))
    watches = [place.start(["ip", "monitor", "route"], log="cut") for place in (node, scene.lab.router)]
    before = scene.frr.routes("ipv4")
    scene.api.cut()

    wait_until(lambda: agent.ask("status")["picture"]["age_seconds"] > 5)  # the age is told
    wait_until(lambda: "apiUnreachable" in {reason for reason, _ in scene.problems()})
    wait_until(lambda: "Node" in agent.ask("status")["picture"]["unhealthy"])
    metrics = node.run(["curl", "-sS", "http://127.0.0.1:9817/metrics"]).stdout
    (age,) = [line for line in metrics.splitlines() if line.startswith("bgpilot_kubernetes_picture_age_seconds ")]
    assert float(age.split()[1]) > 5
    assert node.run(["curl", "-sS", "http://127.0.0.1:9818/livez"]).stdout == "ok\n"
    assert node.run(["curl", "-sS", "http://127.0.0.1:9818/readyz"]).stdout == "ok\n"
    scene.api.delete("Service", "web", "default")
    scene.api.apply(service_object("during", ["10.96.0.84"]))
    assert scene.frr.routes("ipv4") == before
    assert scene.cluster.meshed()
    assert [
        line for watch in watches for line in watch.output().splitlines() if "proto 179" in line or VIP in line
    ] == []
    scene.api.restore()

    wait_until(lambda: scene.told_by_all("10.96.0.84"), within=60)
    wait_until(lambda: f"{VIP}/32" not in scene.frr.routes("ipv4"))
    scene.wait_mended()
    scene.api.apply(service_object("after", ["10.96.0.85"]))
    wait_until(lambda: scene.told_by_all("10.96.0.85"))
    for watch in watches:
        watch.stop()


def secret(values: dict[str, str]) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"namespace": "bgpilot-system", "name": "strict"},
        "data": {key: base64.b64encode(value.encode()).decode() for key, value in values.items()},
    }
