"""How a session ends: with a Cease and its text when it is over, without a word when we only restart.

The judge is the router: what it shows of the last NOTIFICATION, and whether the kernel routes it has made of ours are
ever deleted.
"""

from dataclasses import replace
from ipaddress import IPv4Address, ip_network
from pathlib import Path

import pytest

from bgp.commands import Announce, SendEndOfRib
from bgp.exaevents import CameUp, Notified
from bgp.exatext import RELOAD, command_line, session
from bgp.model import Direction, Family, Held, Peer, PeerRemoved, SessionUp
from bgp.rib import Rib
from tests.lab.bird import Bird
from tests.lab.exabgp import ExaBgp
from tests.lab.frr import Frr
from tests.lab.neighbor import Neighbor
from tests.lab.speaking import NODE_ASN, Speaking, peer, route
from tests.lab.topology import Lab
from tests.lab.wait import eventually
from tests.live.conftest import LabFactory

pytestmark = pytest.mark.live

TOR_ASN = 65001
PREFIX = "10.1.0.0/24"
TEXT = "Wartung für zwei Stunden, Ticket 4711"
FAMILIES = ["ipv4", "ipv6"]


class Bench:
    """One session to FRR, over which it has learned a route; `deleted` are kernel routes of it that ever went away."""

    def __init__(self, net: Lab, family: str = "ipv4", *, asn: int | str = NODE_ASN) -> None:
        self.net = net
        self.node = net.node(1)
        self.address = str(self.node.address(family))  # type: ignore[arg-type]  # a family
        neighbor = Neighbor(self.address, asn, passive=True)  # type: ignore[arg-type]  # FRR's own words
        self.router = Frr(net.router, asn=TOR_ASN, router_id="192.0.2.1", neighbors=[neighbor])
        self.one = peer(self.node, net.router.address(family), asn=TOR_ASN)  # type: ignore[arg-type]  # a family
        self._monitor = net.router.run_dir / "monitor.log"
        net.router.start(["ip", "-4", "monitor", "route"], log="monitor")

    async def learned(self, exabgp: ExaBgp, one: Peer) -> None:
        """The session is up, and the router has the route from it, with all that belongs to it."""
        await exabgp.up(one)
        self.tell(exabgp, one)
        await eventually(self.has_route)

    def tell(self, exabgp: ExaBgp, one: Peer) -> None:
        told = route(PREFIX, self.node.address("ipv4"), as_path=(one.local_asn,))
        exabgp.send(command_line(Announce((one.address,), told), [session(one)]))
        for family in sorted(one.families):
            exabgp.send(command_line(SendEndOfRib(one.address, family), [session(one)]))

    def has_route(self) -> bool:
        return PREFIX in self.net.router.kernel_routes("ipv4")

    def is_fresh(self) -> bool:
        return any(not path.get("stale") for path in self.router.paths(PREFIX))

    @property
    def deleted(self) -> bool:
        return f"Deleted {PREFIX}" in Path(self._monitor).read_text()

    def last_notification(self) -> tuple[str, str]:
        """What `show bgp neighbors` has of it: code and name, and the text."""
        shown = self.router.show_json("show bgp neighbors json")[self.address]
        reason = f"{shown.get('lastErrorCodeSubcode')} {shown.get('lastNotificationReason')}"
        return reason, shown.get("lastShutdownDescription", "")


@pytest.mark.parametrize("family", FAMILIES)
async def test_a_peer_that_is_removed_is_told_so_and_forgets_our_routes_at_once(lab: LabFactory, family: str) -> None:
    bench = Bench(lab(nodes=1), family)
    async with ExaBgp(bench.node, [bench.one]) as exabgp:
        await bench.learned(exabgp, bench.one)
        exabgp.configure([])
        await exabgp.link.ask(RELOAD)
        await eventually(lambda: not bench.has_route())

        assert bench.last_notification() == ("0603 Cease/Peer De-configured", "")
        (sent,) = await eventually(lambda: exabgp.of(Notified))
        assert (sent.direction, sent.code, sent.subcode) == (Direction.SENT, 6, 3)


async def test_without_it_the_router_keeps_the_routes_of_a_peer_that_is_gone(lab: LabFactory) -> None:
    bench = Bench(lab(nodes=1))
    async with ExaBgp(bench.node, [bench.one], unchanged=True) as exabgp:
        await bench.learned(exabgp, bench.one)
        exabgp.configure([])
        await exabgp.link.ask(RELOAD)
        await eventually(lambda: bench.router.established() == [] and not bench.is_fresh())

        assert bench.has_route()


@pytest.mark.parametrize("family", FAMILIES)
async def test_a_peer_that_is_shut_down_is_told_why_in_our_words(lab: LabFactory, family: str) -> None:
    bench = Bench(lab(nodes=1), family)
    async with ExaBgp(bench.node, [bench.one]) as exabgp:
        await bench.learned(exabgp, bench.one)
        exabgp.configure([replace(bench.one, held=Held("shutdown", TEXT))])
        await exabgp.link.ask(RELOAD)
        await eventually(lambda: not bench.has_route())

        # FRR 8.4 writes what is not ASCII as bytes.
        in_ascii = "".join(chr(byte) if byte < 128 else f"\\x{byte:02x}" for byte in TEXT.encode())
        assert bench.last_notification() == ("0602 Cease/Administrative Shutdown", in_ascii)


async def test_the_longest_text_is_what_the_rfc_allows_and_another_speaker_reads_it(lab: LabFactory) -> None:
    net = lab(nodes=1)
    bird = Bird(
        net.router, asn=TOR_ASN, router_id="192.0.2.1", neighbors=[Neighbor(str(net.node(1).address()), NODE_ASN)]
    )
    one = peer(net.node(1), net.router.address(), asn=TOR_ASN)
    async with ExaBgp(net.node(1), [one]) as exabgp:
        await exabgp.up(one)
        exabgp.configure([replace(one, held=Held("shutdown", "ü" * 200))])
        await exabgp.link.ask(RELOAD)
        await eventually(lambda: "ü" * 127 in bird.process.log.read_text())

        assert "ü" * 128 not in bird.process.log.read_text()
        assert "Administrative shutdown" in bird.birdc("show protocols all")


async def test_a_peer_over_its_prefix_limit_is_told_with_that_code(lab: LabFactory) -> None:
    bench = Bench(lab(nodes=1))
    async with ExaBgp(bench.node, [bench.one]) as exabgp:
        await bench.learned(exabgp, bench.one)
        exabgp.configure([replace(bench.one, held=Held("maxPrefixesExceeded", "not for the wire"))])
        await exabgp.link.ask(RELOAD)
        await eventually(lambda: not bench.has_route())

        assert bench.last_notification() == ("0601 Cease/Maximum Number of Prefixes Reached", "")


async def test_a_long_text_of_a_router_is_read(lab: LabFactory) -> None:
    """ExaBGP as it is takes 128 bytes and calls the rest invalid; RFC 9003 has 255."""
    bench = Bench(lab(nodes=1))
    async with ExaBgp(bench.node, [bench.one]) as exabgp:
        await bench.learned(exabgp, bench.one)
        words = " ".join(f"word{number}" for number in range(30))
        bench.router.configure([f"router bgp {TOR_ASN}", f"neighbor {bench.address} shutdown message {words}"])
        await eventually(lambda: exabgp.of(Notified))

        assert exabgp.of(Notified)[0].text == f'Shutdown Communication: "{words}"'


async def test_the_end_of_exabgp_is_no_farewell(lab: LabFactory) -> None:
    bench = Bench(lab(nodes=1))
    async with ExaBgp(bench.node, [bench.one]) as exabgp:
        await bench.learned(exabgp, bench.one)
        exabgp.process.terminate()
        await eventually(lambda: bench.router.established() == [] and not bench.is_fresh())

        assert bench.has_route()
        assert bench.last_notification() == ("None None", "")


@pytest.mark.parametrize("asn", [NODE_ASN, "external"], ids=["router id", "AS"])
async def test_a_session_whose_identity_changes_is_like_a_restart_to_the_router(
    lab: LabFactory, asn: int | str
) -> None:
    """Not a word, then the R bit, and F bits for all families: FRR as helper keeps what it has until End-of-RIB.

    A router that is told each AS must be told the new one, which resets the session at its end: with `remote-as
    external` it takes any.
    """
    bench = Bench(lab(nodes=1), asn=asn)
    changed = (
        replace(bench.one, router_id=IPv4Address("192.0.2.99"))
        if asn == NODE_ASN
        else replace(bench.one, local_asn=64999)
    )
    async with ExaBgp(bench.node, [bench.one]) as exabgp:
        await bench.learned(exabgp, bench.one)
        exabgp.configure([changed])
        await exabgp.link.ask(RELOAD)
        await eventually(lambda: len(exabgp.of(CameUp)) == 2)
        assert not bench.is_fresh()
        bench.tell(exabgp, changed)
        await eventually(bench.is_fresh)

        assert not bench.deleted
        assert bench.router.times_established(bench.address) == 2
        # Our new dial may overtake the end of the old session: FRR refuses it as a collision, and takes the next one.
        assert {(it.direction, it.code, it.subcode) for it in exabgp.of(Notified)} <= {(Direction.RECEIVED, 6, 7)}


async def test_neither_side_loses_a_route_when_our_identity_changes(lab: LabFactory) -> None:
    """The whole speaker: what we are told stays in the Rib as stale until the router has told it again."""
    net = lab(nodes=1)
    bench = Bench(net)
    bench.router.announce("10.50.0.0/24")
    async with Speaking(bench.node) as speaking:
        speaking.add_peer(bench.one)
        speaking.add_route(bench.one, route(PREFIX, bench.node.address()))
        await speaking.tell()
        await eventually(bench.has_route)
        await eventually(lambda: Family.IPV4 in speaking.speaker.states[bench.one.address].synced)
        speaking.add_peer(replace(bench.one, router_id=IPv4Address("192.0.2.99")))
        await speaking.tell()
        await eventually(lambda: len(speaking.heard(SessionUp)) == 2 and bench.is_fresh())
        await eventually(lambda: Family.IPV4 in speaking.speaker.states[bench.one.address].synced)

        assert not bench.deleted
        assert speaking.heard(PeerRemoved) == [PeerRemoved(bench.one.address, replaced=True)]
        rib, there = Rib(), []
        for event in speaking.events:
            rib.apply(event, 0.0)
            there.append(ip_network("10.50.0.0/24") in rib.heard_from(bench.one.address))
        assert all(there[there.index(True) :])
