"""How far a session reaches: the TTL of what we send, and TTL security (GTSM) on the side that dials and the other."""

import re
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path
from typing import Self

import pytest

from bgp.exaevents import CameUp
from bgp.exatext import RELOAD
from bgp.model import Peer
from tests.lab.bird import Bird
from tests.lab.exabgp import ExaBgp
from tests.lab.frr import Frr
from tests.lab.machines import Host
from tests.lab.neighbor import Neighbor
from tests.lab.speaking import NODE_ASN, peer
from tests.lab.topology import Lab
from tests.lab.wait import eventually
from tests.live.conftest import LabFactory

pytestmark = pytest.mark.live

TOR_ASN = 65001
FAMILIES = ["ipv4", "ipv6"]
SIDES = pytest.mark.parametrize("passive", [False, True], ids=["dialing", "passive"])
PACKET = re.compile(r"(?:ttl|hlim) (\d+)[^>]*?\s(\S+)\.\d+ > \S+: Flags \[([^]]+)\]")


class Wire:
    """What arrives at a router's `eth0` of BGP, by sender: (TTL, TCP flags) of each packet."""

    def __init__(self, router: Host) -> None:
        self._log = router.run_dir / "wire.log"
        router.start(["tcpdump", "-i", "eth0", "-n", "-v", "-l", "tcp"], log="wire")

    async def __aenter__(self) -> Self:
        await eventually(lambda: "listening on eth0" in Path(self._log).read_text())
        return self

    async def __aexit__(self, *_: object) -> None:
        """It ends with the lab."""

    def sent_by(self, sender: object) -> list[tuple[int, str]]:
        found = PACKET.findall(re.sub(r"\n\s+", " ", Path(self._log).read_text()))
        return [(int(ttl), flags) for ttl, source, flags in found if source == str(sender)]


def frr(net: Lab, family: str, *extra: str, passive: bool = False, router: int = 0) -> Frr:
    one = Neighbor(address(net, family), NODE_ASN, extra=extra, passive=passive)
    return Frr(net.routers[router], asn=TOR_ASN, router_id=f"192.0.2.{router + 1}", neighbors=[one])


def address(net: Lab, family: str) -> str:
    return str(net.node(1).address(family))  # type: ignore[arg-type]  # a family


def tor(net: Lab, family: str, *, router: int = 0, **more: object) -> Peer:
    return peer(net.node(1), net.routers[router].address(family), asn=TOR_ASN, **more)  # type: ignore[arg-type]  # fields


@pytest.mark.parametrize("family", FAMILIES)
@SIDES
async def test_multihop_is_the_ttl_of_what_we_send_and_without_it_the_kernel_s(
    lab: LabFactory, family: str, passive: bool
) -> None:
    net = lab(nodes=1)
    router = frr(net, family, "ebgp-multihop 255", passive=not passive)
    one = tor(net, family, passive=passive)
    async with Wire(net.router) as wire, ExaBgp(net.node(1), [one]) as exabgp:
        await exabgp.up(one)
        await eventually(lambda: {ttl for ttl, _ in wire.sent_by(one.local_address)} == {64})

        before = len(wire.sent_by(one.local_address))
        exabgp.configure([replace(one, multihop=3)])
        await exabgp.link.ask(RELOAD)
        await eventually(lambda: len(exabgp.of(CameUp)) == 2)
        await eventually(lambda: router.established() == [address(net, family)])
        await eventually(lambda: 3 in {ttl for ttl, flags in wire.sent_by(one.local_address)[before:] if "P" in flags})


async def test_a_router_of_two_hops_away_needs_it_at_its_own_end_only(lab: LabFactory) -> None:
    """FRR sends eBGP with a TTL of 1 unless told otherwise; we send with that of the kernel."""
    net = lab(nodes=1, routers=2)
    far = "198.51.100.2"
    net.routers[1].configure(
        ip=[f"addr add {far}/32 dev lo", f"route add {address(net, 'ipv4')} via {net.router.address()}"]
    )
    net.node(1).configure(ip=[f"route add {far} via {net.router.address()}"])
    net.router.configure(ip=[f"route add {far} via {net.routers[1].address()}"])
    router = frr(net, "ipv4", "ebgp-multihop 2", f"update-source {far}", router=1)
    one = replace(tor(net, "ipv4"), address=ip_address(far))
    async with ExaBgp(net.node(1), [one]) as exabgp:
        await exabgp.up(one)
        await eventually(lambda: router.established() == [address(net, "ipv4")])


@pytest.mark.parametrize("family", FAMILIES)
@SIDES
async def test_ttl_security_comes_up_whoever_dials_and_all_we_send_has_a_ttl_of_255(
    lab: LabFactory, family: str, passive: bool
) -> None:
    net = lab(nodes=1)
    one = tor(net, family, passive=passive, ttl_security_hops=1)
    async with Wire(net.router) as wire, ExaBgp(net.node(1), [one]) as exabgp:
        router = frr(net, family, "ttl-security hops 1", passive=not passive)
        await exabgp.up(one)
        await eventually(lambda: router.established() == [address(net, family)])

        told = router.show_json("show bgp neighbors json")[address(net, family)]
        assert told["externalBgpNbrMaxHopsAway"] == 1
        # The kernel's own answers to what is refused (RST) have its own TTL.
        assert {ttl for ttl, flags in wire.sent_by(one.local_address) if "R" not in flags} == {255}


@SIDES
async def test_ttl_security_comes_up_with_bird(lab: LabFactory, passive: bool) -> None:
    net = lab(nodes=1)
    extra = ("ttl security on;", *([] if passive else ["passive on;"]))
    neighbor = Neighbor(address(net, "ipv4"), NODE_ASN, extra=extra)
    router = Bird(net.router, asn=TOR_ASN, router_id="192.0.2.1", neighbors=[neighbor])
    one = tor(net, "ipv4", passive=passive, ttl_security_hops=1)
    async with ExaBgp(net.node(1), [one]) as exabgp:
        await exabgp.up(one)
        await eventually(lambda: router.established() == [address(net, "ipv4")])


async def test_without_it_the_side_that_is_dialed_never_comes_up(lab: LabFactory) -> None:
    net = lab(nodes=1)
    one = tor(net, "ipv4", passive=True, ttl_security_hops=1)
    async with Wire(net.router) as wire, ExaBgp(net.node(1), [one], unchanged=True) as exabgp:
        frr(net, "ipv4", "ttl-security hops 1")
        await eventually(lambda: len([1 for ttl, flags in wire.sent_by(one.local_address) if flags == "S."]) >= 2)

        assert not exabgp.of(CameUp)
        assert {ttl for ttl, flags in wire.sent_by(one.local_address) if flags == "S."} == {64}


@pytest.mark.parametrize("family", FAMILIES)
async def test_who_dials_from_too_far_is_refused_and_a_neighbor_without_ttl_security_beside_it_is_not(
    lab: LabFactory, family: str
) -> None:
    net = lab(nodes=1, routers=2)
    strict = tor(net, family, passive=True, ttl_security_hops=1)
    other = tor(net, family, passive=True, router=1)
    async with Wire(net.routers[1]) as wire, ExaBgp(net.node(1), [strict, other]) as exabgp:
        far = frr(net, family, "ebgp-multihop 254")
        near = frr(net, family, router=1)
        await exabgp.up(other)
        await eventually(lambda: near.established() == [address(net, family)])
        tries = Path(net.router.run_dir / "bgpd.log")
        await eventually(lambda: tries.read_text().count("bgp_read_packet") + tries.read_text().count("closed") >= 2)

        assert far.established() == []
        assert [event.peer for event in exabgp.of(CameUp)] == [other.address]
        # Its SYN-ACK comes from the socket that both share; from then on it is as if there were no other.
        assert {ttl for ttl, flags in wire.sent_by(other.local_address) if "P" in flags} == {64}


@pytest.mark.parametrize("family", FAMILIES)
async def test_who_answers_from_too_far_is_not_heard(lab: LabFactory, family: str) -> None:
    net = lab(nodes=1)
    router = frr(net, family, "ebgp-multihop 254", passive=True)
    one = tor(net, family, ttl_security_hops=1)
    async with Wire(net.router) as wire, ExaBgp(net.node(1), [one]) as exabgp:
        # FRR's SYN-ACK has a TTL of 255 always; its OPEN, sent again and again, has not.
        await eventually(lambda: len([1 for ttl, flags in wire.sent_by(one.address) if ttl == 254]) >= 3)

        assert router.established() == []
        assert not exabgp.of(CameUp)
        exabgp.configure([replace(one, ttl_security_hops=2)])
        await exabgp.link.ask(RELOAD)
        await exabgp.up(one)
