"""A dial that fails says why: what our launcher replaces in ExaBGP for it, and that ExaBGP still needs it (5.0.15).

A test named "without it" shows the fault in ExaBGP as it is: when upstream mends it, the test fails and the replacement
can go.
"""

from ipaddress import ip_address

import pytest

from bgp.endings import NO_ROUTE, REFUSED, TIMED_OUT
from bgp.exaevents import WentDown
from bgp.model import Password, Peer
from tests.lab.exabgp import ExaBgp
from tests.lab.speaking import peer
from tests.lab.topology import Lab
from tests.lab.wait import eventually
from tests.live.conftest import LabFactory

pytestmark = pytest.mark.live

TOR_ASN = 65001


async def first_reason(net: Lab, one: Peer, *, unchanged: bool = False) -> str:
    async with ExaBgp(net.node(1), [one], unchanged=unchanged) as exabgp:
        await eventually(lambda: exabgp.of(WentDown))
        return exabgp.of(WentDown)[0].reason


async def test_a_port_on_which_nothing_listens_is_a_refusal(lab: LabFactory) -> None:
    net = lab(nodes=1)

    assert await first_reason(net, peer(net.node(1), net.router.address(), asn=TOR_ASN)) == REFUSED


async def test_without_it_a_refusal_is_a_connection_that_closes(lab: LabFactory) -> None:
    net = lab(nodes=1)
    one = peer(net.node(1), net.router.address(), asn=TOR_ASN)

    assert await first_reason(net, one, unchanged=True) == "closing connection"


async def test_a_peer_that_drops_what_we_send_is_a_timeout(lab: LabFactory) -> None:
    net = lab(nodes=1)
    net.router.run(["nft", "add table inet drops; add chain inet drops in { type filter hook input priority 0; }"])
    net.router.run(["nft", "add rule inet drops in tcp dport 179 drop"])

    assert await first_reason(net, peer(net.node(1), net.router.address(), asn=TOR_ASN)) == TIMED_OUT


@pytest.mark.parametrize("password", [None, Password("swordfish")])
async def test_a_missing_route_is_not_blamed_on_the_password(lab: LabFactory, password: Password | None) -> None:
    net = lab(nodes=1)
    net.node(1).configure(ip=["route del default"])
    far = peer(net.node(1), ip_address("203.0.113.9"), asn=TOR_ASN, password=password, multihop=3)

    assert await first_reason(net, far) == NO_ROUTE
