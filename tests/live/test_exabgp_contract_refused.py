"""How often ExaBGP asks a peer that refuses its OPEN: what our launcher replaces in it for that (5.0.15)."""

from dataclasses import replace
from itertools import pairwise

import pytest

from bgp.exatext import RELOAD
from tests.lab.exabgp import ExaBgp
from tests.lab.speaking import NODE_ASN, peer
from tests.lab.wait import eventually
from tests.lab.wirepeer import WirePeer
from tests.live.conftest import LabFactory

pytestmark = pytest.mark.live

TOR_ASN = 65001
BAD_PEER_AS, UNSUPPORTED_CAPABILITY = (2, 2), (2, 7)
CONNECTION_REJECTED, COLLISION = (6, 5), (6, 7)
QUICK_SECONDS = 15.0
"""A dozen attempts of one that does not wait take 6 s; of one that waits ever longer they take three minutes."""


@pytest.mark.parametrize("refusal", [BAD_PEER_AS, UNSUPPORTED_CAPABILITY, CONNECTION_REJECTED], ids=str)
async def test_a_router_that_refuses_our_open_is_asked_half_as_often_each_time_and_then_taken(
    lab: LabFactory, refusal: tuple[int, int]
) -> None:
    net = lab(nodes=1)
    one = peer(net.node(1), net.router.address(), asn=TOR_ASN)
    async with WirePeer(net.router, asn=TOR_ASN) as wire:
        wire.refusing = refusal
        async with ExaBgp(net.node(1), [one]) as exabgp:
            await eventually(lambda: len(wire.sessions) == 5 and wire.session.ended)
            wire.refusing = None
            await exabgp.up(one)

            began_at = [session.began_at for session in wire.sessions]
            waited = [later - earlier for earlier, later in pairwise(began_at)]
            assert [wait >= least for wait, least in zip(waited, (0.35, 0.7, 1.4, 2.8, 5.6), strict=True)] == [True] * 5


@pytest.mark.parametrize(("refusal", "node"), [(COLLISION, False), (CONNECTION_REJECTED, True)], ids=str)
async def test_a_collision_and_a_node_that_is_not_ready_yet_are_asked_again_soon(
    lab: LabFactory, refusal: tuple[int, int], node: bool
) -> None:
    net = lab(nodes=1)
    one = peer(net.node(1), net.router.address(), asn=NODE_ASN, mesh=node)
    async with WirePeer(net.router, asn=NODE_ASN) as wire:
        wire.refusing = refusal
        async with ExaBgp(net.node(1), [one]):
            await eventually(lambda: len(wire.sessions) == 12)

            assert wire.sessions[-1].began_at - wire.sessions[0].began_at < QUICK_SECONDS


async def test_a_change_of_its_configuration_is_tried_at_once(lab: LabFactory) -> None:
    net = lab(nodes=1)
    one = peer(net.node(1), net.router.address(), asn=TOR_ASN)
    async with WirePeer(net.router, asn=TOR_ASN) as wire:
        wire.refusing = UNSUPPORTED_CAPABILITY
        async with ExaBgp(net.node(1), [one]) as exabgp:
            await eventually(
                lambda: len(wire.sessions) == 6 and wire.session.ended
            )  # the next comes after 11 s or more
            exabgp.configure([replace(one, hold_seconds=30)])
            await exabgp.link.ask(RELOAD)
            await eventually(lambda: len(asked(wire)) == 8)

            assert asked(wire)[7] - asked(wire)[5] < 8.0


def asked(wire: WirePeer) -> list[float]:
    """When it was sent an OPEN: an attempt that a reload cuts short is none."""
    return [session.began_at for session in wire.sessions if session.open]
