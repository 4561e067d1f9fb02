"""`bgpilot tor-config` at real routers: FRR and BIRD take what it prints, and the session and the routes are there.

The routers have no neighbor before, and their tables are the judges of what they take of the node, and of nothing else.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator

import pytest

from agent.cli.tor.dialects import PASSWORD
from agent.settings import DEFAULT_NAMESPACE
from tests.lab.bird import Bird
from tests.lab.frr import Frr
from tests.lab.minicluster import LAB_HOLD_SECONDS, MiniCluster, custom
from tests.lab.topology import Lab, Node
from tests.lab.wait import wait_until

pytestmark = pytest.mark.live

FRR_ASN, BIRD_ASN = 64601, 64602
SECRET = "s3cret-of-the-tor"
LATER = "198.51.100.0/24"


class Scene:
    """A node that has two routers as peers, of which neither knows it yet."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.node: Node = lab.node(1)
        self.cluster = MiniCluster(lab)
        api = self.cluster.api
        api.apply(custom("BGPInstance", "default", {"mesh": {"mode": "None"}}))
        password = {"name": "tor", "key": "password"}
        data = {"password": base64.b64encode(SECRET.encode()).decode()}
        api.apply(
            {
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": {"name": "tor", "namespace": DEFAULT_NAMESPACE},
                "data": data,
            }
        )
        for number, (name, asn) in enumerate((("frr", FRR_ASN), ("bird", BIRD_ASN))):
            for family in ("ipv4", "ipv6"):
                spec = {"address": str(lab.routers[number].address(family)), "asn": asn, "passwordSecretRef": password}
                gtsm = {"ttlSecurityHops": 1} if family == "ipv4" else {}
                more = {"holdSeconds": LAB_HOLD_SECONDS, "families": ["IPv4" if family == "ipv4" else "IPv6"]}
                api.apply(custom("BGPPeer", f"{name}-{family}", {**spec, **gtsm, **more}))
        self.frr = Frr(lab.routers[0], asn=FRR_ASN, router_id="10.99.0.1")
        self.bird = Bird(lab.routers[1], asn=BIRD_ASN, router_id="10.99.0.2")
        self.cluster.start()

    def printed(self, vendor: str, family: str) -> list[str]:
        done = self.cluster.agent(self.node).cli("tor-config", f"{vendor}-{family}", "--vendor", vendor)
        assert done.returncode == 0, done.stderr
        assert SECRET not in done.stdout
        return done.stdout.replace(PASSWORD, SECRET).splitlines()

    def load_frr(self) -> None:
        for family in ("ipv4", "ipv6"):
            self.frr.configure(self.printed("frr", family))

    def load_bird(self) -> None:
        self.bird.lines = tuple(line for family in ("ipv4", "ipv6") for line in self.printed("bird", family))
        self.bird.configure()

    def announced(self, *, frr: bool) -> set[str]:
        router = self.frr if frr else self.bird
        return {prefix for family in ("ipv4", "ipv6") for prefix in router.routes(family)}


@pytest.fixture(scope="module")
def scene() -> Iterator[Scene]:
    with Lab(nodes=1, routers=2) as lab:
        built = Scene(lab)
        told = f"{lab.node(1).pod_cidrs['ipv4']}"
        wait_until(lambda: told in str(built.printed("frr", "ipv4")), within=60)
        yield built
        built.cluster.close()


@pytest.fixture
def pods(scene: Scene) -> set[str]:
    return {str(cidr) for cidr in scene.node.pod_cidrs.values()}


def test_frr_takes_its_lines_and_has_the_session_and_the_routes(scene: Scene, pods: set[str]) -> None:
    scene.load_frr()

    ours = sorted(str(scene.node.address(family)) for family in ("ipv4", "ipv6"))
    wait_until(lambda: scene.frr.established() == ours, within=60)
    wait_until(lambda: scene.announced(frr=True) == pods)


def test_bird_takes_its_lines_and_has_the_session_and_the_routes(scene: Scene, pods: set[str]) -> None:
    scene.load_bird()

    ours = sorted(str(scene.node.address(family)) for family in ("ipv4", "ipv6"))
    wait_until(lambda: scene.bird.established() == ours, within=60)
    wait_until(lambda: scene.announced(frr=False) == pods)


@pytest.mark.parametrize("frr", [True, False])
def test_what_the_node_announces_later_is_taken_with_the_lines_of_then(
    scene: Scene, pods: set[str], *, frr: bool
) -> None:
    vendor = "frr" if frr else "bird"
    scene.cluster.api.apply(custom("BGPAdvertisement", "later", {"type": "Prefix", "prefixes": [LATER]}))
    agent, router = scene.cluster.agent(scene.node), str(scene.lab.routers[0 if frr else 1].address())

    def sent() -> bool:
        rows = agent.view("routes", side="advertised", peer=router)["rows"]
        return any(row["prefix"] == LATER and row["state"] == "sent" for row in rows)

    wait_until(sent, within=60)
    assert scene.announced(frr=frr) == pods, vendor
    scene.load_frr() if frr else scene.load_bird()
    wait_until(lambda: scene.announced(frr=frr) == {*pods, LATER}, within=60)

    scene.cluster.api.delete("BGPAdvertisement", "later")
    wait_until(lambda: scene.announced(frr=frr) == pods, within=60)
    scene.load_frr() if frr else scene.load_bird()
