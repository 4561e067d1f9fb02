"""A peer's machine that has rebooted is noticed: what our launcher sets on connections for it (ExaBGP 5.0.15)."""

from __future__ import annotations

import pytest

from bgp.exaevents import WentDown
from tests.lab.exabgp import ExaBgp
from tests.lab.speaking import NODE_ASN, peer
from tests.lab.wait import eventually
from tests.live.conftest import LabFactory

pytestmark = pytest.mark.live

HOLD_SECONDS = 3600
"""The next KEEPALIVE is far away."""


@pytest.mark.parametrize("rebooted", ["who is dialed", "who dials"])
async def test_the_session_with_a_machine_that_is_back_without_its_connections_ends_soon(
    lab: LabFactory, rebooted: str
) -> None:
    net = lab(nodes=2)
    stays, goes = net.node(1), net.node(2)
    one = peer(stays, goes.address(), asn=NODE_ASN, hold_seconds=HOLD_SECONDS, passive=rebooted == "who dials")
    other = peer(goes, stays.address(), asn=NODE_ASN, hold_seconds=HOLD_SECONDS, passive=rebooted == "who is dialed")
    async with ExaBgp(stays, [one]) as exabgp, ExaBgp(goes, [other]) as gone:
        await exabgp.up(one)
        await gone.up(other)
        exabgp.events.clear()

        net.remove_node(goes)
        net.add_node(goes.index)
        await eventually(lambda: exabgp.of(WentDown), within=60)
