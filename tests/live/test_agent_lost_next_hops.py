"""Next hops that go: a link, an address of ours, a session. The node's kernel is the judge, and what it says of writes.

The node has two cables, each to another router; both tell it thousands of prefixes, equally good, so that each is one
multipath route; some more only the first one tells. What leads over the second cable alone is lost, and nothing else is
written.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping

import pytest

from tests.lab.bird import Bird
from tests.lab.minicluster import CLUSTER_ASN, OUR_PROTOCOL, ROUTER_ASN, MiniCluster, custom
from tests.lab.neighbor import Neighbor
from tests.lab.netns import Family
from tests.lab.topology import Lab, Node
from tests.lab.wait import wait_until
from tests.live.test_agent_process import kernel_writes

pytestmark = pytest.mark.live

BOTH: dict[Family, list[str]] = {
    "ipv4": [f"198.18.{number // 256}.{number % 256}/32" for number in range(3_000)],
    "ipv6": [f"2001:db8:0:{number:x}::/64" for number in range(1, 1_001)],
}
ONE: dict[Family, list[str]] = {
    "ipv4": [f"198.19.0.{number}/32" for number in range(200)],
    "ipv6": [f"2001:db8:1:{number:x}::/64" for number in range(1, 101)],
}
OTHER: dict[Family, list[str]] = {"ipv4": ["198.19.1.0/24"], "ipv6": ["2001:db8:2:1::/64"]}
HOLD_SECONDS = 90
"""Longer than any wait here: what moves does not do so because a session is found dead."""
ALLOWED = [{"prefix": "198.18.0.0/15", "le": 32}, {"prefix": "2001:db8::/32", "le": 64}]


class Scene:
    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.node: Node = lab.node(1)
        self.node.attach("eth1", lab.rack2)
        self.cluster = MiniCluster(lab)
        self.subnets = (lab.rack1, lab.rack2)
        told = ([*_all(BOTH), *_all(ONE)], [*_all(BOTH), *_all(OTHER)])
        self.birds = [self._bird(number, prefixes) for number, prefixes in enumerate(told)]
        self.cluster.api.apply(custom("BGPInstance", "default", {"mesh": {"mode": "None"}}))
        self.cluster.api.apply(self._peer(0, "eth0"), self._peer(1, "eth1"))
        self.cluster.start()

    def hop(self, number: int, family: Family) -> str:
        """The router's address on the cable between the node and it."""
        return str(self.subnets[number].address(self.lab.routers[number].number, family))

    def _bird(self, number: int, prefixes: list[str]) -> Bird:
        node = str(self.subnets[number].address(self.node.number, "ipv4"))
        session = Neighbor(node, CLUSTER_ASN, hold_seconds=HOLD_SECONDS, passive=True)
        router_id = f"10.99.0.{number + 1}"
        return Bird(
            self.lab.routers[number], asn=ROUTER_ASN, router_id=router_id, neighbors=[session], announce=prefixes
        )

    def _peer(self, number: int, interface: str) -> dict[str, object]:
        spec = {"address": self.hop(number, "ipv4"), "asn": ROUTER_ASN, "holdSeconds": HOLD_SECONDS}
        spec |= {"sourceInterface": interface, "import": {"allowed": ALLOWED}}
        return custom("BGPPeer", f"router-{number + 1}", spec)

    def wanted(self, family: Family, *, second: bool) -> Mapping[str, list[str]]:
        first, other = [self.hop(0, family)], [self.hop(1, family)]
        found = dict.fromkeys(BOTH[family], sorted(first + (other if second else []), key=_numeric))
        found |= dict.fromkeys(ONE[family], first)
        return found | dict.fromkeys(OTHER[family] if second else [], other)

    def has(self, *, second: bool) -> bool:
        """The kernel has exactly what both routers tell, or the first alone."""
        for family in self.lab.families:
            assert self.cluster.learned(self.node, family) == self.wanted(family, second=second), family
        return True

    def speaks_with_the_second(self) -> bool:
        peer = self.cluster.agent(self.node).ask("peers")["peers"].get(self.hop(1, "ipv4"))
        return peer is not None and bool(peer["is_up"])

    def free_of_the_second(self) -> bool:
        """No route of the kernel has the second router as a next hop, dead or alive."""
        flags: dict[Family, str] = {"ipv4": "-4", "ipv6": "-6"}
        for family, flag in flags.items():
            shown = self.node.run(["ip", flag, "route", "show", "proto", OUR_PROTOCOL]).stdout
            if f"via {self.hop(1, family)} " in shown:
                return False
        return True


def _all(prefixes: Mapping[Family, list[str]]) -> Iterator[str]:
    for of_family in prefixes.values():
        yield from of_family


def _numeric(address: str) -> tuple[bool, str]:
    return ":" in address, address


@pytest.fixture(scope="module")
def built() -> Iterator[Scene]:
    with Lab(nodes=1, routers=2) as lab:
        scene = Scene(lab)
        yield scene
        scene.cluster.close()


@pytest.fixture
def scene(built: Scene) -> Scene:
    wait_until(lambda: built.has(second=True), within=120, every=0.5)
    return built


def _link_down(scene: Scene) -> None:
    scene.node.ip("link", "set", "eth1", "down")


def _link_up(scene: Scene) -> None:
    scene.node.ip("link", "set", "eth1", "up")


def _address_gone(scene: Scene) -> None:
    for family in scene.lab.families:
        scene.node.ip("addr", "del", str(scene.lab.rack2.interface(scene.node.number, family)), "dev", "eth1")
    wait_until(lambda: not scene.speaks_with_the_second())  # else its session ends after the address is back


def _address_back(scene: Scene) -> None:
    for family in scene.lab.families:
        scene.node.ip("addr", "add", str(scene.lab.rack2.interface(scene.node.number, family)), "dev", "eth1")


def _session_gone(scene: Scene) -> None:
    scene.birds[1].birdc("disable all")


def _session_back(scene: Scene) -> None:
    scene.birds[1].birdc("enable all")


def _cable_out(scene: Scene) -> None:
    scene.node.unplug(scene.lab.rack2)


def _cable_in(scene: Scene) -> None:
    scene.node.plug(scene.lab.rack2)


@pytest.mark.parametrize(
    ("goes", "comes"),
    [(_link_down, _link_up), (_cable_out, _cable_in), (_address_gone, _address_back), (_session_gone, _session_back)],
    ids=["link", "cable", "address", "session"],
)
def test_each_route_moves_away_from_the_lost_next_hop_and_back_in_one_write_each_and_no_other_is_written(
    scene: Scene, goes: Callable[[Scene], None], comes: Callable[[Scene], None]
) -> None:
    with kernel_writes(scene.node) as writes:
        goes(scene)
        wait_until(scene.free_of_the_second, every=0.02)
        assert scene.has(second=False)

        comes(scene)
        wait_until(lambda: scene.has(second=True), within=60, every=0.2)
        written = _written(writes.so_far())
    assert {prefix: written.pop(prefix, 0) for prefix in _all(BOTH)} == dict.fromkeys(_all(BOTH), 2)
    assert written.keys() <= set(_all(OTHER))


def _written(lines: list[str]) -> Counter[str]:
    return Counter(_prefix(line.split()) for line in lines)


def _prefix(words: list[str]) -> str:
    """`ip` leaves the length of a host route away."""
    found = words[1] if words[0] == "Deleted" else words[0]
    return found if "/" in found else f"{found}/{128 if ':' in found else 32}"
