"""Peers that are configured and held: no session, and the reason to be seen."""

from dataclasses import replace

import pytest

from bgp.model import Held, PeerRemoved, SessionState
from tests.lab.speaking import Speaking, peer, route
from tests.lab.wait import eventually
from tests.lab.wirepeer import WirePeer
from tests.live.conftest import LabFactory

pytestmark = pytest.mark.live

TOR_ASN = 65001
SHUTDOWN = Held("shutdown", "back at noon")


async def test_a_peer_that_is_held_from_the_start_is_not_dialed_and_says_why(lab: LabFactory) -> None:
    net = lab(nodes=1, routers=2)
    node = net.node(1)
    async with (
        WirePeer(net.routers[0], asn=TOR_ASN) as first,
        WirePeer(net.routers[1], asn=TOR_ASN) as second,
        Speaking(node) as speaking,
    ):
        one = peer(node, net.routers[0].address(), asn=TOR_ASN)
        speaking.add_peer(replace(one, held=Held("secretMissing")))
        speaking.add_route(one, route("10.1.0.0/24", node.address()))
        other = speaking.add_peer(peer(node, net.routers[1].address(), asn=TOR_ASN))
        await speaking.tell()
        await eventually(lambda: len(second.session.of("end-of-rib")) == 2)

        state = speaking.speaker.states[one.address]
        assert state.state is SessionState.IDLE
        assert state.last_error is not None
        assert state.last_error.text == "secretMissing"
        await eventually(lambda: speaking.speaker.in_sync)  # what is held back on purpose is not missing
        assert not speaking.speaker.may_hold(route("10.1.0.0/24", node.address()).prefix)
        assert not first.sessions
        assert speaking.state(other) is SessionState.ESTABLISHED


async def test_a_session_whose_peer_becomes_held_is_ended_and_comes_back_with_its_routes(lab: LabFactory) -> None:
    net = lab(nodes=1, routers=2)
    node = net.node(1)
    async with (
        WirePeer(net.routers[0], asn=TOR_ASN) as first,
        WirePeer(net.routers[1], asn=TOR_ASN) as second,
        Speaking(node) as speaking,
    ):
        one = speaking.add_peer(peer(node, net.routers[0].address(), asn=TOR_ASN))
        other = speaking.add_peer(peer(node, net.routers[1].address(), asn=TOR_ASN))
        for told in (one, other):
            speaking.add_route(told, route("10.1.0.0/24", node.address("ipv4")))
            speaking.add_route(told, route("fd01::/64", node.address("ipv6")))
        await speaking.tell()
        await eventually(lambda: all(len(wire.session.of("end-of-rib")) == 2 for wire in (first, second)))
        speaking.add_peer(replace(one, held=SHUTDOWN))
        # The planner's delta names no route: they are what they were.
        await speaking.apply(dirty=())
        await eventually(lambda: first.session.ended and speaking.speaker.in_sync)

        assert {sent.prefixes for sent in first.session.of("withdraw")} == {("10.1.0.0/24",), ("fd01::/64",)}
        state = speaking.speaker.states[one.address]
        assert state.state is SessionState.IDLE
        assert state.up is None
        assert state.flaps == 0, "ended on purpose"
        assert state.last_error is not None
        assert state.last_error.text == "shutdown: back at noon"
        assert speaking.heard(PeerRemoved) == [PeerRemoved(one.address)]

        speaking.add_peer(one)
        await speaking.apply(dirty=())
        await eventually(lambda: len(first.sessions) == 2 and len(first.session.of("end-of-rib")) == 2)
        assert {prefix for sent in first.session.of("announce") for prefix in sent.prefixes} == {
            "10.1.0.0/24",
            "fd01::/64",
        }
        await speaking.established(one)
        assert speaking.speaker.states[one.address].last_error is None
        assert len(second.sessions) == 1
