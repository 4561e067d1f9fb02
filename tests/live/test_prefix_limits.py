"""Prefix limits in both directions: a router that tells too much, and one that will not take as much from us."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from bgp.endings import describe
from bgp.model import Family, PathsHeard, Peer, PrefixLimit, SessionDown, SessionState
from bgp.rib import Rib
from tests.lab.frr import Frr
from tests.lab.neighbor import Neighbor
from tests.lab.speaking import NODE_ASN, Speaking, peer, route
from tests.lab.topology import Lab
from tests.lab.wait import eventually
from tests.lab.wirepeer import WirePeer
from tests.live.conftest import LabFactory

pytestmark = pytest.mark.live

TOR_ASN = 65001


def limited(net: Lab, count: int, **more: object) -> Peer:
    limit = PrefixLimit(prefixes=count, **more)  # type: ignore[arg-type]  # fields of PrefixLimit
    limits = ((Family.IPV4, limit), (Family.IPV6, limit))
    return peer(net.node(1), net.router.address(), asn=TOR_ASN, prefix_limits=limits, name="BGPPeer/tor")


def frr(net: Lab, *, announce: list[str], extra: tuple[str, ...] = ()) -> Frr:
    one = Neighbor(str(net.node(1).address()), NODE_ASN, extra=extra)
    return Frr(net.router, asn=TOR_ASN, router_id="192.0.2.1", neighbors=[one], announce=announce)


def prefixes(family: Family, count: int) -> list[str]:
    return [f"10.50.{n}.0/24" if family is Family.IPV4 else f"fd50:0:0:{n:x}::/64" for n in range(count)]


def reasons(speaking: Speaking) -> set[str]:
    return {problem.reason for problem in speaking.speaker.problems}


async def passing(speaking: Speaking, check: Callable[[], bool]) -> None:
    """`eventually`, with a pass like the agent's whenever the speaker wakes it, and only then."""
    seen = -1

    async def look() -> bool:
        nonlocal seen
        if speaking.woken != seen:
            seen = speaking.woken
            await speaking.apply(peers_changed=False, dirty=())
        return check()

    await eventually(look)


@pytest.mark.parametrize("family", Family)
async def test_a_router_that_tells_too_much_is_told_6_1_and_comes_back_after_the_restart_time(
    lab: LabFactory, family: Family
) -> None:
    net = lab(nodes=1)
    node = net.node(1)
    router = frr(net, announce=prefixes(family, 4))
    address = str(node.address())
    async with Speaking(node) as speaking:
        one = speaking.add_peer(limited(net, 5, restart_seconds=10))
        speaking.add_route(one, route("10.1.0.0/24", node.address()))
        await speaking.tell()
        await eventually(lambda: "10.1.0.0/24" in router.routes("ipv4"))
        await eventually(lambda: reasons(speaking) == {"maxPrefixesNear"})
        router.announce(*prefixes(family, 6))

        def last_notification() -> str:
            return str(router.show_json("show bgp neighbors json")[address].get("lastNotificationReason"))

        await passing(speaking, lambda: last_notification() == "Cease/Maximum Number of Prefixes Reached")
        await passing(speaking, lambda: speaking.state(one) is SessionState.IDLE)
        assert reasons(speaking) == {"maxPrefixesExceeded"}
        assert speaking.speaker.held.keys() == {one.address}
        error = speaking.speaker.states[one.address].last_error
        assert error is not None
        assert describe(error).startswith("maxPrefixesExceeded: it has told more than the 5 IPv")
        await passing(speaking, lambda: "10.1.0.0/24" not in router.routes("ipv4"))

        router.withdraw(*prefixes(family, 6)[3:])
        await passing(speaking, lambda: not speaking.speaker.held)
        await passing(speaking, lambda: "10.1.0.0/24" in router.routes("ipv4"))
        assert not speaking.speaker.problems


async def test_a_flood_is_not_kept_while_the_session_is_being_ended(lab: LabFactory) -> None:
    net = lab(nodes=1)
    flood = [f"10.{n >> 8}.{n & 0xFF}.0/24" for n in range(20_000)]
    async with WirePeer(net.router, asn=TOR_ASN) as wire, Speaking(net.node(1)) as speaking:
        one = speaking.add_peer(limited(net, 1_000))
        await speaking.tell()
        await speaking.established(one)
        for start in range(0, len(flood), 500):
            wire.announce(flood[start : start + 500], next_hop="172.18.0.1")
        await passing(speaking, lambda: wire.session.ended)

        assert [sent.data[:2] for sent in wire.session.of("notification")] == [b"\x06\x01"]
        rib = Rib()
        most = 0
        for event in speaking.events:
            rib.apply(event, 0.0)
            most = max(most, rib.count(one.address, Family.IPV4))
        assert most <= 1_000
        while rib.expire(0.0):
            pass
        assert rib.count(one.address, Family.IPV4) == 0
        assert len([event for event in speaking.events if isinstance(event, PathsHeard)]) <= 2
        assert len(wire.sessions) == 1


async def test_a_limit_that_is_set_on_a_session_counts_what_was_told_before(lab: LabFactory) -> None:
    net = lab(nodes=1)
    router = frr(net, announce=prefixes(Family.IPV4, 6))
    async with Speaking(net.node(1)) as speaking:
        one = speaking.add_peer(replace(limited(net, 5), prefix_limits=()))
        await speaking.tell()
        await eventually(lambda: Family.IPV4 in speaking.speaker.states[one.address].synced)
        speaking.add_peer(limited(net, 5))
        await speaking.apply()
        await eventually(lambda: one.address in speaking.speaker.held)

        assert router.times_established(str(net.node(1).address())) == 1
        assert [event.reason for event in speaking.heard(SessionDown) if event.was_up] == [
            "maxPrefixesExceeded: it has told more than the 5 IPv4 prefixes that it may"
        ]


async def test_a_router_that_takes_no_more_of_us_is_reported_with_its_code(lab: LabFactory) -> None:
    net = lab(nodes=1)
    node = net.node(1)
    router = frr(net, announce=[])
    router.configure(
        [f"router bgp {TOR_ASN}", "address-family ipv4 unicast", f"neighbor {node.address()} maximum-prefix 2"]
    )
    async with Speaking(node) as speaking:
        one = speaking.add_peer(peer(node, net.router.address(), asn=TOR_ASN))
        for number in range(4):
            speaking.add_route(one, route(f"10.1.{number}.0/24", node.address()))
        await speaking.apply()

        def told() -> bool:
            error = speaking.speaker.states[one.address].last_error
            return error is not None and describe(error).startswith("received 6/1 Maximum Number of Prefixes Reached")

        await eventually(told)
