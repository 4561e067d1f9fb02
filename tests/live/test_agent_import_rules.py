"""Import rules that ordinary routers seldom come across: peers on the wire tell what is refused; the kernel judges.

One of the peers is of another AS and may tell anything; one is of our own AS, like a node or a route reflector that is
wrong. What is refused says why in `bgpilot explain`.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator
from ipaddress import ip_address, ip_network
from typing import Any

import pytest

from tests.lab.hostile import ASN, ORIGIN, US, Builder, HostilePeer, mp_reach, segment, update
from tests.lab.machines import Host
from tests.lab.minicluster import LAB_HOLD_SECONDS, MiniCluster, custom, node_object, tor_peer
from tests.lab.topology import Lab
from tests.lab.wait import eventually
from tests.lab.wirepeer import attribute

pytestmark = pytest.mark.live

SERVICES = ["10.96.0.0/16", "fd96::/108"]
INSTANCE = custom("BGPInstance", "default", {"mesh": {"holdSeconds": LAB_HOLD_SECONDS}, "serviceCIDRs": SERVICES})
ANYTHING = {"allowed": [{"prefix": "0.0.0.0/0", "ge": 0, "le": 32}, {"prefix": "::/0", "ge": 0, "le": 128}]}
SOME = {"allowed": [{"prefix": "198.51.0.0/16", "ge": 20, "le": 24}, {"prefix": "2001:db8::/32", "ge": 40, "le": 48}]}
LABELS = {"wire": "yes"}
HOLD_SECONDS = 90
"""The peers on the wire live in the test's own thread, and say nothing while it asks others: seconds, if it is busy."""
ONE_NODE: dict[str, Any] = {
    "nodeSelector": {"matchLabels": LABELS},
    "connectRetrySeconds": 1,
    "holdSeconds": HOLD_SECONDS,
}
LOCAL_PREF = attribute(0x40, 5, bytes([0, 0, 0, 100]))
FINE = ("203.0.113.0/24", "2001:db8:113::/48")
"""What nothing is wrong with, sent last: once it is in the kernel, all before it has been judged."""


class Scene:
    def __init__(self, lab: Lab) -> None:
        self.lab, self.node = lab, lab.node(1)
        self.outside, self.inside = lab.routers
        self.cluster = MiniCluster(lab)
        self.cluster.api.apply(INSTANCE)
        self.cluster.start()
        self.cluster.api.apply(node_object(self.node, labels=LABELS))
        self.allow(ANYTHING)
        self.cluster.api.apply(tor_peer(self.inside, name="inside", **{**ONE_NODE, "asn": US}))
        self.cluster.wait_meshed()
        self.agent = self.cluster.agent(self.node)

    def allow(self, what: dict[str, Any]) -> None:
        wanted: dict[str, Any] = {**ONE_NODE, "asn": ASN, "import": what}
        self.cluster.api.apply(tor_peer(self.outside, name="outside", **wanted))

    def learned(self) -> set[str]:
        """Of both families, but the other node's pod CIDRs."""
        mesh = {str(cidr) for cidr in self.lab.node(2).pod_cidrs.values()}
        return {*self.cluster.learned(self.node, "ipv4"), *self.cluster.learned(self.node, "ipv6")} - mesh

    def has_learned(self, wanted: set[str]) -> bool:
        assert self.learned() == wanted, self.refused(self.outside)
        return True

    def refused(self, peer: Host) -> dict[str, str]:
        """Prefix → reason word of all that the peer has told; of what is used the reason is empty."""
        rows = self.agent.view("routes", peer=str(peer.address()))["rows"]
        return {row["prefix"]: row["reason"] or "" for row in rows}


@pytest.fixture(scope="module")
def scene() -> Iterator[Scene]:
    with Lab(nodes=2, routers=2) as lab:
        built = Scene(lab)
        yield built
        built.cluster.close()


@contextlib.asynccontextmanager
async def speaking(scene: Scene, host: Host, asn: int) -> AsyncIterator[HostilePeer]:
    """With a session that is not the one of the test before, whose end the agent may not have noticed yet."""

    def is_up() -> bool:
        return bool(scene.agent.view("peers")["peers"][str(host.address())]["is_up"])

    await eventually(lambda: not is_up(), within=60)
    async with HostilePeer(host, asn=asn, restart_seconds=None) as wire:
        await eventually(is_up, within=60)
        yield wire


@pytest.fixture
async def outside(scene: Scene) -> AsyncIterator[HostilePeer]:
    async with speaking(scene, scene.outside, ASN) as wire:
        yield wire
    scene.allow(ANYTHING)
    await eventually(lambda: scene.has_learned(set()))


@pytest.fixture
async def inside(scene: Scene) -> AsyncIterator[HostilePeer]:
    async with speaking(scene, scene.inside, US) as wire:
        yield wire


def told(host: Host, asn: int, prefix: str, *, path: bytes | None = None, more: bytes = b"") -> bytes:
    """An UPDATE with the host's own address as next hop."""
    network, build = ip_network(prefix), Builder(host)
    nlri = bytes([network.prefixlen]) + network.network_address.packed[: (network.prefixlen + 7) // 8]
    start = ORIGIN + attribute(0x40, 2, segment(asn) if path is None else path)
    if network.version == 4:
        return update(start + build.hop + more, nlri)
    return update(start + more + mp_reach(build.address6, nlri), b"")


OURS = {
    "0.0.0.0/8": "martianPrefix",
    "127.0.0.1/32": "martianPrefix",
    "169.254.0.0/16": "martianPrefix",
    "224.0.0.0/4": "martianPrefix",
    "240.0.0.0/4": "martianPrefix",
    "255.255.255.255/32": "martianPrefix",
    "::1/128": "martianPrefix",
    "fe80::/10": "martianPrefix",
    "ff02::1/128": "martianPrefix",
    "10.244.1.0/24": "ownPodCIDR",
    "10.244.1.7/32": "ownPodCIDR",
    "fd10:244:1::/64": "ownPodCIDR",
    "fd10:244:1::7/128": "ownPodCIDR",
    "172.18.0.0/24": "connectedSubnet",
    "172.18.0.1/32": "connectedSubnet",
    "fd18::/64": "connectedSubnet",
    "172.18.0.11/32": "ownAddress",
    "fd18::11/128": "ownAddress",
    "10.96.0.0/16": "serviceRange",
    "10.96.0.9/32": "serviceRange",
    "fd96::/108": "serviceRange",
    "fd96::9/128": "serviceRange",
    "10.244.2.0/25": "insidePodCIDR",
    "fd10:244:2:0:8000::/65": "insidePodCIDR",
}


async def test_what_is_ours_or_may_not_be_routed_is_never_installed_whatever_is_allowed(
    scene: Scene, outside: HostilePeer
) -> None:
    for prefix in (*OURS, *FINE):
        outside.update(told(scene.outside, ASN, prefix))
    await eventually(lambda: scene.has_learned(set(FINE)))

    await eventually(lambda: scene.refused(scene.outside) == {**OURS, **dict.fromkeys(FINE, "")})
    assert scene.learned() == set(FINE)


async def test_a_default_route_is_installed_where_its_entry_names_it_and_nobody_else_has_one(
    scene: Scene, outside: HostilePeer
) -> None:
    defaults = ("0.0.0.0/0", "::/0")
    scene.allow({"allowed": [{"prefix": "0.0.0.0/0", "ge": 8, "le": 32}, {"prefix": "::/0", "ge": 8, "le": 128}]})
    for prefix in (*defaults, *FINE):
        outside.update(told(scene.outside, ASN, prefix))
    await eventually(lambda: scene.has_learned(set(FINE)))
    assert [scene.refused(scene.outside)[prefix] for prefix in defaults] == ["defaultRoute"] * 2

    scene.allow({"allowed": [{"prefix": prefix} for prefix in defaults]})
    await eventually(lambda: {scene.refused(scene.outside)[prefix] for prefix in defaults} == {"kernelConflict"})
    for family in ("-4", "-6"):
        scene.node.ip(family, "route", "del", "default")  # somebody else's, which is never replaced
    await eventually(lambda: scene.has_learned(set(defaults)))
    for family, address in (("-4", "8.8.8.8"), ("-6", "2001:4860::8888")):
        (way,) = scene.node.ip_json(family, "route", "get", address)
        assert ip_address(way["gateway"]) in [scene.outside.address("ipv4"), scene.outside.address("ipv6")]


async def test_another_as_may_tell_what_allowed_says_by_prefix_and_length_only(
    scene: Scene, outside: HostilePeer
) -> None:
    scene.allow(SOME)
    good = {"198.51.96.0/20", "198.51.100.0/24", "2001:db8:100::/40", "2001:db8:1::/48"}
    bad = ["198.51.0.0/16", "198.51.100.0/25", "192.0.2.0/24", "2001:db8::/32", "2001:db8:1:1::/64", "2001:db9::/48"]
    pods = ["10.244.2.0/24", "fd10:244:2::/64"]
    for prefix in (*bad, *pods, *sorted(good)):
        outside.update(told(scene.outside, ASN, prefix))
    await eventually(lambda: scene.has_learned(good))

    refused = scene.refused(scene.outside)
    assert {refused[prefix] for prefix in (*bad, *pods)} == {"importNotAllowed"}
    hops = {**scene.cluster.learned(scene.node, "ipv4"), **scene.cluster.learned(scene.node, "ipv6")}
    assert [hops[prefix] for prefix in pods] == [["172.18.0.12"], ["fd18::12"]]  # from the node itself


async def test_ipv4_with_an_ipv6_next_hop_is_refused_where_it_was_not_agreed_to(
    scene: Scene, outside: HostilePeer
) -> None:
    long = attribute(0x40, 3, scene.outside.address("ipv6").packed)
    outside.update(update(ORIGIN + attribute(0x40, 2, segment(ASN)) + long, bytes.fromhex("18c63364")))
    for prefix in FINE:
        outside.update(told(scene.outside, ASN, prefix))
    await eventually(lambda: scene.has_learned(set(FINE)))

    assert scene.refused(scene.outside)["198.51.100.0/24"] == "nextHopFamily"


INSIDE = {
    "198.51.100.0/24": "notAPodCIDR",
    "2001:db8:51::/48": "notAPodCIDR",
    "10.244.0.0/16": "notAPodCIDR",
    "fd10:244::/32": "notAPodCIDR",
    "0.0.0.0/0": "defaultRoute",
    "::/0": "defaultRoute",
    "10.244.1.0/24": "ownPodCIDR",
    "fd10:244:1::/64": "ownPodCIDR",
}


async def test_our_own_as_may_tell_pod_cidrs_of_other_nodes_and_nothing_else(scene: Scene, inside: HostilePeer) -> None:
    for prefix in INSIDE:
        inside.update(told(scene.inside, US, prefix, path=b"", more=LOCAL_PREF))
    await eventually(lambda: scene.refused(scene.inside) == INSIDE)
    assert scene.learned() == set()


async def test_a_pod_cidr_that_comes_back_to_its_reflector_or_with_our_as_is_not_believed(
    scene: Scene, inside: HostilePeer
) -> None:
    """Preferred over the node's own word by LOCAL_PREF, would they be believed."""
    best = attribute(0x40, 5, bytes([0, 0, 1, 0]))
    back = best + attribute(0x80, 9, bytes([172, 18, 0, 11])) + attribute(0x80, 10, bytes([9, 9, 9, 9]))
    second = scene.lab.node(2)
    v4, v6 = str(second.pod_cidrs["ipv4"]), str(second.pod_cidrs["ipv6"])
    inside.update(told(scene.inside, US, v4, path=b"", more=back))
    inside.update(told(scene.inside, US, v6, path=segment(65001, US), more=best))
    await eventually(lambda: scene.refused(scene.inside) == {v4: "originatedHere", v6: "asLoop"})
    scene.cluster.wait_meshed()
