"""Sessions over link-local addresses, with FRR and BIRD: found by the default route or written with their interface.

The routers' own tables say which sessions there are and what they were told; the kernel says what was learned.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest

from agent.settings import DEFAULT_NAMESPACE
from tests.lab.bird import Bird
from tests.lab.frr import Frr
from tests.lab.minicluster import (
    BGPILOT,
    CLUSTER_ASN,
    LAB_HOLD_SECONDS,
    OUR_PROTOCOL,
    MiniCluster,
    custom,
    node_object,
)
from tests.lab.neighbor import Neighbor
from tests.lab.pods import curl, serve_http
from tests.lab.topology import Host, Lab
from tests.lab.wait import wait_until

pytestmark = pytest.mark.live

FIRST_ASN, SECOND_ASN = 64601, 64602
FOREIGN = "2001:db8:99::/48"
ANYTHING = {"allowed": [{"prefix": "::/0", "le": 64}]}
FIRST, SECOND = "fe80::1", "fe80::2"


class Scene:
    """A node, and two routers on its link: FRR is fe80::1, BIRD is fe80::2, and fe80::1 on another link of the node."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.node = lab.node(1)
        self.node.attach("eth1", lab.rack2)
        first, second = lab.routers
        first.configure(ip=[f"addr add {FIRST}/64 dev eth0 nodad"])
        second.configure(ip=[f"addr add {SECOND}/64 dev eth0 nodad", f"addr add {FIRST}/64 dev eth2 nodad"])
        self.near, self.far = link_local(self.node, "eth0"), link_local(self.node, "eth1")
        self.frr = Frr(first, asn=FIRST_ASN, router_id="10.99.0.1", neighbors=[_neighbor(self.near, "interface eth0")])
        self.bird = Bird(
            second,
            asn=SECOND_ASN,
            router_id="10.99.0.2",
            neighbors=[_neighbor(f"{self.near}%eth0"), _neighbor(f"{self.far}%eth2")],
        )
        self.cluster = MiniCluster(lab)
        self.cluster.api.apply(node_object(self.node), custom("BGPInstance", "default", {"mesh": {"mode": "None"}}))
        agent = self.cluster.start_agent(self.node, "--speaker=external")
        self.speaker = self.node.start([BGPILOT, "speaker", f"--run-dir={agent.run_dir}"], log="speaker")

    def peer(self, **spec: Any) -> None:
        spec = {"asn": "external", "holdSeconds": LAB_HOLD_SECONDS, "import": ANYTHING, **spec}
        self.cluster.api.apply(custom("BGPPeer", "tor", spec))

    def sessions(self) -> dict[str, bool]:
        found = self.cluster.agent(self.node).view("peers")["peers"]
        return {address: peer["is_up"] for address, peer in found.items()}

    def has(self, *addresses: str) -> None:
        """The node has sessions with these and no other, from now on or soon."""
        wait_until(lambda: self.sessions() == dict.fromkeys(addresses, True), within=30)

    def logged(self) -> list[str]:
        lines = self.cluster.agent(self.node).process.output().splitlines()
        return [json.loads(line)["event"] for line in lines if line.startswith("{")]

    def problems(self) -> set[str]:
        return {problem["reason"] for problem in self.cluster.agent(self.node).view("peers")["problems"]}

    def default(self, *hops: str) -> None:
        hops = tuple(f"nexthop {hop}" for hop in hops) if len(hops) > 1 else hops
        self.node.configure(ip=[f"route replace ::/0 {' '.join(hops)}"])

    def learned(self, prefix: str) -> list[tuple[str, str]]:
        """Gateway and interface of each next hop of our route in the node's kernel."""
        for route in self.node.ip_json("-6", "route", "show", prefix, "proto", OUR_PROTOCOL):
            return sorted((hop["gateway"], hop.get("dev", route.get("dev"))) for hop in route.get("nexthops", [route]))
        return []


def _neighbor(address: str, *extra: str) -> Neighbor:
    """It dials too, in vain."""
    return Neighbor(address, CLUSTER_ASN, hold_seconds=LAB_HOLD_SECONDS, extra=extra)


def link_local(host: Host, device: str) -> str:
    """The one that comes with the link."""
    found = host.ip_json("-6", "addr", "show", "dev", device, "scope", "link")
    addresses = [info["local"] for link in found for info in link.get("addr_info", ()) if "local" in info]
    return str(next(address for address in addresses if address not in (FIRST, SECOND)))


@pytest.fixture(scope="module")
def scene() -> Iterator[Scene]:
    with Lab(nodes=1, routers=2) as lab:
        built = Scene(lab)
        yield built
        built.cluster.close()


@pytest.fixture(autouse=True)
def clean(scene: Scene) -> Iterator[None]:
    yield
    for peer in scene.cluster.api.list("BGPPeer"):
        scene.cluster.api.delete("BGPPeer", peer["metadata"]["name"])
    scene.has()
    scene.node.add_default_routes()
    for router in (scene.frr, scene.bird):
        wait_until(lambda router=router: not router.established())


def test_the_link_local_next_hop_of_the_default_route_is_the_router_and_another_one_is_followed(scene: Scene) -> None:
    scene.frr.announce(FOREIGN)
    scene.bird.announce(FOREIGN)
    scene.default(f"via {FIRST} dev eth0")
    scene.peer(defaultGateway="IPv6")
    scene.has(f"{FIRST}%eth0")
    node = scene.node
    for family in ("ipv4", "ipv6"):
        wanted = {str(node.pod_cidrs[family]): [str(node.address(family))]}
        wait_until(lambda family=family, wanted=wanted: scene.frr.routes(family).items() >= wanted.items())
    wait_until(lambda: scene.learned(FOREIGN) == [(FIRST, "eth0")])
    assert scene.frr.established() == [scene.near]

    scene.default(f"via {SECOND} dev eth0")

    scene.has(f"{SECOND}%eth0")
    wait_until(lambda: scene.bird.routes("ipv6").get(str(node.pod_cidrs["ipv6"])) == [str(node.address("ipv6"))])
    second = link_local(scene.lab.routers[1], "eth0")
    wait_until(lambda: scene.learned(FOREIGN) in ([(SECOND, "eth0")], [(second, "eth0")]))
    wait_until(lambda: not scene.frr.established())


def test_a_written_one_carries_traffic_and_an_agent_that_restarts_finds_all_as_it_was(scene: Scene) -> None:
    outside = str(scene.lab.outside.networks["ipv6"])
    scene.frr.announce(outside)
    pod = scene.node.add_pod("web")
    serve_http(pod)
    scene.node.configure(ip=["route del ::/0"])
    scene.peer(address=FIRST, sourceInterface="eth0")
    scene.has(f"{FIRST}%eth0")
    wait_until(lambda: scene.learned(outside) == [(FIRST, "eth0")])
    wait_until(lambda: curl(scene.lab.client, pod.address("ipv6")) is not None)
    agent, times = scene.cluster.agent(scene.node), scene.frr.times_established(scene.near)

    def shown() -> list[tuple[str, bool, str | None]]:
        rows = agent.ask("routes", "--peer", f"{FIRST}%eth0", outside)["rows"]
        return [(row["next_hop"], row["accepted"], row["reason"]) for row in rows]

    agent.kill()
    agent.restart()
    scene.has(f"{FIRST}%eth0")
    wait_until(lambda: agent.view("status")["phase"] == "IN_SYNC")

    assert scene.learned(outside) == [(FIRST, "eth0")]
    wait_until(lambda: shown() == [(f"{FIRST}%eth0", True, None)])
    assert curl(scene.lab.client, pod.address("ipv6")) is not None
    assert scene.frr.times_established(scene.near) == times
    scene.frr.withdraw(outside)
    wait_until(lambda: scene.learned(outside) == [])


def test_two_gateways_with_one_address_on_two_links_are_two_routers_and_share_a_route(scene: Scene) -> None:
    scene.frr.announce(FOREIGN)
    scene.bird.announce(FOREIGN)
    scene.default(f"via {FIRST} dev eth0", f"via {FIRST} dev eth1")
    scene.peer(defaultGateway="IPv6")
    scene.has(f"{FIRST}%eth0", f"{FIRST}%eth1")
    second = link_local(scene.lab.routers[1], "eth2")
    both = ([(FIRST, "eth0"), (FIRST, "eth1")], sorted([(FIRST, "eth0"), (second, "eth1")]))
    wait_until(lambda: scene.learned(FOREIGN) in both)

    scene.default(f"via {FIRST} dev eth1")

    scene.has(f"{FIRST}%eth1")
    wait_until(lambda: scene.learned(FOREIGN) in ([(FIRST, "eth1")], [(second, "eth1")]))
    wait_until(lambda: not scene.frr.established())
    assert scene.bird.established()


def test_the_session_follows_its_link_and_our_address_on_it(scene: Scene) -> None:
    before = len(scene.logged())
    scene.frr.announce(FOREIGN)
    scene.peer(address=FIRST, sourceInterface="eth0")
    scene.has(f"{FIRST}%eth0")
    wait_until(lambda: scene.learned(FOREIGN) == [(FIRST, "eth0")])

    scene.node.link_down()
    wait_until(lambda: scene.problems() == {"noLinkLocalAddress"})
    wait_until(lambda: scene.learned(FOREIGN) == [])
    scene.node.link_up()
    scene.has(f"{FIRST}%eth0")
    wait_until(lambda: scene.learned(FOREIGN) == [(FIRST, "eth0")])

    other = "fe80::77"
    scene.frr.add_neighbor(_neighbor(other, "interface eth0"))
    scene.node.configure(ip=[f"addr del {scene.near}/64 dev eth0", f"addr add {other}/64 dev eth0 nodad"])
    wait_until(lambda: scene.frr.established() == [other])
    wait_until(lambda: scene.learned(FOREIGN) == [(FIRST, "eth0")])
    problems = scene.problems()
    logged = [event for event in scene.logged()[before:] if event in {"peer_up", "peer_down", "peer_removed"}]
    scene.node.configure(ip=[f"addr add {scene.near}/64 dev eth0 nodad", f"addr del {other}/64 dev eth0"])
    scene.has(f"{FIRST}%eth0")

    assert problems == set()
    assert logged.count("peer_up") > 1
    assert ("peer_up", "peer_up") not in pairwise(logged), "what ended the first session is not in the log"


def test_a_password_and_ttl_security_hold_there_too(scene: Scene) -> None:
    head, settings = f"router bgp {FIRST_ASN}", ("password swordfish", "ttl-security hops 1")
    scene.frr.configure([head, *(f"neighbor {scene.near} {setting}" for setting in settings)])
    spec = {"address": FIRST, "sourceInterface": "eth0", "passwordSecretRef": {"name": "tor", "key": "md5"}}
    try:
        scene.cluster.api.apply(_secret("mackerel"))
        scene.peer(**spec, ttlSecurityHops=1)
        wait_until(lambda: scene.sessions() == {f"{FIRST}%eth0": False})
        wait_until(lambda: scene.cluster.agent(scene.node).view("status")["phase"] == "IN_SYNC")
        assert scene.frr.established() == []

        scene.cluster.api.apply(_secret("swordfish"))
        wait_until(lambda: scene.frr.established() == [scene.near])

        told = scene.frr.show_json("show bgp neighbors json")[scene.near]
        assert told["externalBgpNbrMaxHopsAway"] == 1
    finally:
        scene.frr.configure([head, *(f"no neighbor {scene.near} {setting}" for setting in settings)])


def test_a_session_that_is_shut_down_tells_the_router_why(scene: Scene) -> None:
    spec = {"address": FIRST, "sourceInterface": "eth0"}
    scene.peer(**spec)
    scene.has(f"{FIRST}%eth0")

    scene.peer(**spec, shutdown=True, shutdownText="until 18:00")

    wait_until(lambda: not scene.frr.established())
    told = scene.frr.show_json("show bgp neighbors json")[scene.near]
    assert told["lastNotificationReason"] == "Cease/Administrative Shutdown"
    assert told["lastShutdownDescription"] == "until 18:00"


def _secret(password: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"namespace": DEFAULT_NAMESPACE, "name": "tor"},
        "data": {"md5": base64.b64encode(password.encode()).decode()},
    }
