"""What ExaBGP makes of ROUTE-REFRESH: only a request is answered, not the marks around what it asked for (RFC 7313)."""

import struct

import pytest

from bgp.commands import Announce
from bgp.exatext import command_line, session
from tests.lab.exabgp import ExaBgp
from tests.lab.speaking import peer, route
from tests.lab.topology import Lab
from tests.lab.wait import eventually
from tests.lab.wirepeer import ROUTE_REFRESH, WirePeer
from tests.live.conftest import LabFactory

pytestmark = pytest.mark.live

TOR_ASN = 65001
V4 = "172.18.0.11"
REQUEST, BEGIN, END = (struct.pack("!HBB", 1, subtype, 1) for subtype in range(3))


async def times_told(net: Lab, *received: bytes, unchanged: bool = False, enhanced: bool = True) -> int:
    """How often a route was announced when these were received, and then the same route was changed."""
    one = peer(net.node(1), net.router.address(), asn=TOR_ASN)
    async with (
        WirePeer(net.router, asn=TOR_ASN, enhanced_refresh=enhanced) as wire,
        ExaBgp(net.node(1), [one], unchanged=unchanged) as exabgp,
    ):
        await exabgp.up(one)
        exabgp.send(command_line(Announce((one.address,), route("10.1.0.0/24", V4)), [session(one)]))
        await eventually(lambda: wire.session.of("announce"))
        if not enhanced:
            wire.send(ROUTE_REFRESH, *received)
            await eventually(lambda: len(wire.session.of("announce")) > 1)
            return len(wire.session.of("announce"))
        for kind in received:
            wire.send(ROUTE_REFRESH, kind)
        wire.send(ROUTE_REFRESH, REQUEST)
        await eventually(lambda: len(wire.session.of("route-refresh")) == 2)  # around the answer to the request
        return len(wire.session.of("announce"))


async def test_the_end_of_a_peers_answer_is_not_answered(lab: LabFactory) -> None:
    assert await times_told(lab(nodes=1), BEGIN, END) == 2


async def test_without_it_our_whole_table_is_sent_for_each_mark(lab: LabFactory) -> None:
    assert await times_told(lab(nodes=1), BEGIN, END, unchanged=True) > 2


async def test_a_peer_that_knows_no_marks_is_answered(lab: LabFactory) -> None:
    assert await times_told(lab(nodes=1), REQUEST, enhanced=False) == 2
