"""What can be set of a session, as the router at the other end sees it: AS, timers, ports, interface, next hops.

TTLs are in test_session_ttl.py, how sessions end in test_session_end.py, passwords and hold times in
test_speaker_sessions.py.
"""

import itertools
import sys
import time
from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest

from bgp.commands import Announce, Withdraw
from bgp.exaevents import CameUp, Notified, Opened, WentDown
from bgp.exatext import (
    RELOAD,
    SHOW_SESSIONS,
    SHOW_TABLE,
    command_line,
    read_session_line,
    read_table_line,
    session,
)
from bgp.model import Direction, Family, PathsHeard, Peer
from tests.lab.bird import Bird
from tests.lab.exabgp import ExaBgp
from tests.lab.frr import Frr
from tests.lab.neighbor import Neighbor
from tests.lab.speaking import NODE_ASN, peer, route
from tests.lab.topology import Lab
from tests.lab.wait import eventually
from tests.lab.wirepeer import WirePeer
from tests.live.conftest import LabFactory

pytestmark = pytest.mark.live

TOR_ASN = 65001
LARGE_ASN = 4200000001


def frr(net: Lab, family: str = "ipv4", *, asn: int = TOR_ASN, **neighbor: object) -> Frr:
    one = Neighbor(address(net, family), NODE_ASN, **neighbor)  # type: ignore[arg-type]  # fields of Neighbor
    return Frr(net.router, asn=asn, router_id="192.0.2.1", neighbors=[one], announce=["10.50.0.0/24", "fd50::/64"])


def bird(net: Lab, *, extra: tuple[str, ...]) -> Bird:
    one = Neighbor(address(net), NODE_ASN, extra=extra)
    return Bird(net.router, asn=TOR_ASN, router_id="192.0.2.1", neighbors=[one], announce=["10.50.0.0/24"])


def address(net: Lab, family: str = "ipv4") -> str:
    return str(net.node(1).address(family))  # type: ignore[arg-type]


def tor(net: Lab, family: str = "ipv4", **more: object) -> Peer:
    wanted: dict[str, object] = {"asn": TOR_ASN, **more}
    return peer(net.node(1), net.router.address(family), **wanted)  # type: ignore[arg-type]  # fields of Peer


def heard(exabgp: ExaBgp) -> dict[str, str]:
    return {
        str(prefix): str(path.next_hop)
        for event in exabgp.of(PathsHeard)
        for path, found in event.announced
        for prefix in found
    }


# Any external AS.


@pytest.mark.parametrize("passive", [False, True], ids=["dialing", "passive"])
@pytest.mark.parametrize("family", ["ipv4", "ipv6"])
async def test_any_external_as_is_taken_and_learned_from_its_open(lab: LabFactory, family: str, passive: bool) -> None:
    net = lab(nodes=1)
    router, one = frr(net, family, asn=LARGE_ASN), tor(net, family, asn=None, passive=passive)
    async with ExaBgp(net.node(1), [one]) as exabgp:
        await exabgp.up(one)
        exabgp.send(command_line(Announce((one.address,), route("10.1.0.0/24", address(net))), [session(one)]))
        await eventually(lambda: "10.1.0.0/24" in router.routes("ipv4"))
        await eventually(lambda: {"10.50.0.0/24", "fd50::/64"} <= heard(exabgp).keys())
        await eventually(lambda: exabgp.answers == [True])

        assert router.paths("10.1.0.0/24")[0]["aspath"]["string"] == str(NODE_ASN)
        assert [it.asn for it in exabgp.of(Opened) if it.direction is Direction.RECEIVED][-1] == LARGE_ASN
        assert [read_table_line(line).session for line in await exabgp.link.ask(SHOW_TABLE)] == [session(one)]
        (shown,) = filter(None, map(read_session_line, await exabgp.link.ask(SHOW_SESSIONS)))
        assert shown.up_seconds is not None
        exabgp.send(command_line(Withdraw((one.address,), ip_network("10.1.0.0/24")), [session(one)]))
        await eventually(lambda: "10.1.0.0/24" not in router.routes("ipv4"))
        assert not exabgp.link.malformed


async def test_our_own_as_is_refused_where_an_external_one_is_expected(lab: LabFactory) -> None:
    net = lab(nodes=1)
    router, one = frr(net, asn=NODE_ASN), tor(net, asn=None)
    async with ExaBgp(net.node(1), [one]) as exabgp:
        await eventually(lambda: exabgp.of(Notified))
        await eventually(lambda: "Bad Peer AS" in router.vtysh(f"show bgp neighbors {address(net)}"))

        refused = exabgp.of(Notified)[0]
        assert (refused.direction, refused.code, refused.subcode) == (Direction.SENT, 2, 2)
        assert not exabgp.of(CameUp)


async def test_without_it_our_own_as_comes_up_and_nothing_said_of_it_can_be_read(lab: LabFactory) -> None:
    net = lab(nodes=1)
    router, one = frr(net, asn=NODE_ASN), tor(net, asn=None)
    async with ExaBgp(net.node(1), [one], unchanged=True) as exabgp:
        await eventually(lambda: router.established() == [address(net)])
        await eventually(lambda: exabgp.link.malformed > 0)

        assert not exabgp.events


# Timers.


async def test_keepalives_come_as_often_as_asked_for_and_a_change_needs_no_new_session(lab: LabFactory) -> None:
    net = lab(nodes=1)
    router, one = frr(net, hold_seconds=90), tor(net, hold_seconds=90, keepalive_seconds=1)

    def keepalives() -> int:
        statistics = router.show_json("show bgp neighbors json")[address(net)]["messageStats"]
        return int(statistics["keepalivesRecv"])

    async with ExaBgp(net.node(1), [one]) as exabgp:
        await exabgp.up(one)
        before = keepalives()
        await eventually(lambda: keepalives() >= before + 5, within=20)

        exabgp.configure([replace(one, keepalive_seconds=None)])
        await exabgp.link.ask(RELOAD)
        later, started_at = keepalives(), time.monotonic()
        await eventually(lambda: time.monotonic() - started_at > 6.0, every=0.5)
        assert keepalives() - later <= 2
        assert router.times_established(address(net)) == 1


async def test_connect_retry_is_the_longest_delay_between_two_dials(lab: LabFactory) -> None:
    """A peer that takes every session and ends it would be left alone for 8 s before the last of these dials."""
    net = lab(nodes=1)
    one = tor(net, connect_retry_seconds=1)
    async with WirePeer(net.router, asn=TOR_ASN) as wire, ExaBgp(net.node(1), [one]) as exabgp:
        ups: list[float] = []
        for count in range(1, 8):
            await eventually(lambda count=count: len(exabgp.of(CameUp)) == count)
            ups.append(time.monotonic())
            wire.notify(6, 4)

        gaps = [later - earlier for earlier, later in itertools.pairwise(ups)]
        assert max(gaps) < 5.0
        assert gaps[-1] > 0.6


async def test_timers_of_9_and_3_seconds_hold_on_a_busy_node(lab: LabFactory) -> None:
    """Four programs that never rest beside it, for more than two hold times."""
    net = lab(nodes=1)
    router, one = frr(net, hold_seconds=9), tor(net, hold_seconds=9)
    async with ExaBgp(net.node(1), [one]) as exabgp:
        await exabgp.up(one)
        busy = [net.node(1).start([sys.executable, "-S", "-c", "while True: pass"], log="busy") for _ in range(4)]
        started_at = time.monotonic()
        await eventually(lambda: time.monotonic() - started_at > 20.0, every=1.0, within=60)
        for program in busy:
            program.kill()

        assert router.times_established(address(net)) == 1
        assert router.established() == [address(net)]
        assert not exabgp.of(WentDown)


# Ports and interfaces.


async def test_two_peers_are_listened_for_on_two_ports_of_one_address(lab: LabFactory) -> None:
    net = lab(nodes=1, routers=2)
    node = net.node(1)
    routers = [
        Frr(
            router,
            asn=TOR_ASN,
            router_id="192.0.2.1",
            neighbors=[Neighbor(address(net), NODE_ASN, extra=(f"port {port}",))],
        )
        for router, port in zip(net.routers, (1790, 1791), strict=True)
    ]
    peers = [
        peer(node, router.address(), asn=TOR_ASN, passive=True, listen_port=port)
        for router, port in zip(net.routers, (1790, 1791), strict=True)
    ]
    async with ExaBgp(node, peers) as exabgp:
        for one in peers:
            await exabgp.up(one)
        for router in routers:
            await eventually(lambda router=router: router.established() == [address(net)])

        listening = node.run(["ss", "-Hltn"]).stdout
        assert f"{address(net)}:1790" in listening
        assert f"{address(net)}:1791" in listening
        assert ":179 " not in listening


async def test_a_peer_on_another_port_is_dialed_there(lab: LabFactory) -> None:
    net = lab(nodes=1)
    router = bird(net, extra=("local port 1799;", "passive on;"))
    one = tor(net, port=1799)
    async with ExaBgp(net.node(1), [one]) as exabgp:
        await exabgp.up(one)
        await eventually(lambda: router.established() == [address(net)])


@pytest.mark.parametrize("family", ["ipv4", "ipv6"])
@pytest.mark.parametrize("passive", [False, True], ids=["dialing", "passive"])
async def test_a_session_is_bound_to_its_interface_and_a_reload_binds_it_to_another(
    lab: LabFactory, family: str, passive: bool
) -> None:
    net = lab(nodes=1)
    node = net.node(1)
    router, one = frr(net, family), tor(net, family, passive=passive)

    def bound_to(interface: str) -> bool:
        sessions = node.run(["ss", "-Htn", "state", "established"]).stdout
        return f"{address(net, family)}{']' if family == 'ipv6' else ''}%{interface}:" in sessions

    async with ExaBgp(node, [one]) as exabgp:
        await exabgp.up(one)
        assert not bound_to("eth0")
        exabgp.configure([replace(one, source_interface="eth0")])
        await exabgp.link.ask(RELOAD)
        await eventually(lambda: router.established() == [address(net, family)] and bound_to("eth0"))


async def test_an_interface_or_address_that_is_not_there_is_told_with_the_reason(lab: LabFactory) -> None:
    net = lab(nodes=1)
    one = tor(net, source_interface="nope0")
    other = replace(tor(net), local_address=ip_address("172.18.0.222"))

    def reasons() -> list[str]:
        return [event.reason for event in exabgp.of(WentDown)]

    async with ExaBgp(net.node(1), [one]) as exabgp:
        await eventually(lambda: "there is no interface nope0" in reasons())
        exabgp.configure([other])
        await exabgp.link.ask(RELOAD)
        await eventually(lambda: any("Could not bind to local ip 172.18.0.222" in reason for reason in reasons()))


async def test_without_it_nothing_is_told_of_an_interface_that_is_not_there(lab: LabFactory) -> None:
    net = lab(nodes=1)
    async with ExaBgp(net.node(1), [tor(net, source_interface="nope0")], unchanged=True) as exabgp:
        log = net.node(1).run_dir / "exabgp.log"
        await eventually(lambda: "nope0" in log.read_text())

        assert not exabgp.of(WentDown)


# Families and next hops.


@pytest.mark.parametrize("families", [(Family.IPV4, Family.IPV6), (Family.IPV4,)], ids=["both", "ipv4"])
async def test_ipv4_routes_have_ipv6_next_hops_where_both_sides_have_it(
    lab: LabFactory, families: tuple[Family, ...]
) -> None:
    net = lab(nodes=1)
    names = tuple(str(family) for family in families)
    router = frr(net, "ipv6", families=names, extra=("capability extended-nexthop",))
    one = tor(net, "ipv6", families=families, extended_next_hop=True)
    net.router.configure(ip=["addr flush dev eth0 scope global", f"addr add {net.router.address('ipv6')}/64 dev eth0"])
    async with ExaBgp(net.node(1), [one]) as exabgp:
        await exabgp.up(one)
        hop = address(net, "ipv6")
        exabgp.send(command_line(Announce((one.address,), route("10.1.0.0/24", hop)), [session(one)]))
        await eventually(lambda: router.routes("ipv4").get("10.1.0.0/24") == [hop])
        await eventually(lambda: heard(exabgp).get("10.50.0.0/24") == str(net.router.address("ipv6")))

        opens = exabgp.of(Opened)
        assert {it.direction: it.extended_next_hop for it in opens} == dict.fromkeys(
            (Direction.SENT, Direction.RECEIVED), True
        )


async def no_extended_next_hop(net: Lab, *, unchanged: bool) -> tuple[int, int]:
    """Sessions and routes at a router that has not agreed to RFC 8950 and is told such a route and a plain one."""
    one = tor(net, extended_next_hop=True)
    async with WirePeer(net.router, asn=TOR_ASN) as wire, ExaBgp(net.node(1), [one], unchanged=unchanged) as exabgp:
        await exabgp.up(one)
        for prefix, hop in (("10.1.0.0/24", address(net, "ipv6")), ("10.2.0.0/24", address(net))):
            exabgp.send(command_line(Announce((one.address,), route(prefix, hop)), [session(one)]))
        await eventually(
            lambda: any("10.2.0.0/24" in sent.prefixes for sent in wire.session.of("announce")),
        )
        return len(wire.sessions), len(wire.session.of("announce"))


async def test_an_ipv6_next_hop_is_not_sent_where_it_was_not_negotiated(lab: LabFactory) -> None:
    assert await no_extended_next_hop(lab(nodes=1), unchanged=False) == (1, 1)


async def test_without_it_the_route_is_sent_all_the_same(lab: LabFactory) -> None:
    assert await no_extended_next_hop(lab(nodes=1), unchanged=True) == (1, 2)
