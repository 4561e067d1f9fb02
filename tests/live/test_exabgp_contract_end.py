"""How ExaBGP ends by SIGTERM: it says nothing of its sessions, in which nothing has happened but that it has gone.

And what it says when it begins, of what the machine was forwarding by meanwhile (RFC 4724 3).
"""

from dataclasses import replace

import pytest

from bgp.exaevents import WentDown
from bgp.exatext import RELOAD
from tests.lab.exabgp import ExaBgp
from tests.lab.speaking import peer
from tests.lab.topology import Lab
from tests.lab.wait import eventually
from tests.lab.wirepeer import WirePeer
from tests.live.conftest import LabFactory

pytestmark = pytest.mark.live

TOR_ASN = 65001


async def sessions_said_down(net: Lab, *, unchanged: bool) -> int:
    one = peer(net.node(1), net.router.address(), asn=TOR_ASN)
    async with (
        WirePeer(net.router, asn=TOR_ASN) as wire,
        ExaBgp(net.node(1), [one], unchanged=unchanged) as exabgp,
    ):
        await exabgp.up(one)
        before = len(exabgp.of(WentDown))
        exabgp.process.terminate()
        await eventually(lambda: not exabgp.link.connected)
        await eventually(lambda: wire.session.ended)
        assert not wire.session.of("notification")
        return len(exabgp.of(WentDown)) - before


async def test_its_end_is_not_told_as_the_end_of_every_session(lab: LabFactory) -> None:
    assert await sessions_said_down(lab(nodes=1), unchanged=False) == 0


async def test_without_it_every_session_is_told_to_be_down(lab: LabFactory) -> None:
    assert await sessions_said_down(lab(nodes=1), unchanged=True) == 1


async def test_its_open_says_that_forwarding_is_lost_until_a_reload_which_leaves_the_session(lab: LabFactory) -> None:
    net = lab(nodes=1)
    one = peer(net.node(1), net.router.address(), asn=TOR_ASN, forwarding_lost=True)
    async with WirePeer(net.router, asn=TOR_ASN) as wire, ExaBgp(net.node(1), [one]) as exabgp:
        await exabgp.up(one)
        exabgp.configure([replace(one, forwarding_lost=False)])
        await exabgp.link.ask(RELOAD)
        await exabgp.link.ask(RELOAD)  # the first has been carried out
        assert not wire.session.ended
        wire.session.writer.close()
        await eventually(lambda: len(wire.sessions) == 2 and wire.session.open)

        first, second = (session.graceful_restart() for session in wire.sessions)
        assert first == (True, {"ipv4": False, "ipv6": False})
        assert second == (False, {"ipv4": True, "ipv6": True})
