"""How ExaBGP ends by SIGTERM: it says nothing of its sessions, in which nothing has happened but that it has gone."""

import pytest

from bgp.exaevents import WentDown
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
