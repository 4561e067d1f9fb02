"""What `Links` says of the interfaces, against what iproute2 made of them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from ipaddress import ip_interface, ip_network

import pytest

from agent.kernel.links import Links
from agent.model import Interface
from tests.lab.realkernel import RealKernel, fresh_netns, ip
from tests.lab.wait import eventually

pytestmark = pytest.mark.live


class Follower:
    """Keeps all that `Links` said."""

    def __init__(self) -> None:
        self.said: list[tuple[Interface, ...]] = []
        self.links = Links(self.said.append)

    def now(self, name: str) -> Interface | None:
        return next((interface for interface in self.said[-1] if interface.name == name), None)


@pytest.fixture
async def follower() -> AsyncIterator[Follower]:
    with fresh_netns():
        kernel = RealKernel()
        follower = Follower()
        await follower.links.start()
        try:
            yield follower
        finally:
            await follower.links.stop()
            kernel.close()


async def test_all_interfaces_are_told_before_start_returns(follower):
    assert [interface.name for interface in follower.said[0]] == ["lo", "e1", "e0"]
    e0 = follower.now("e0")
    assert e0.addresses[:2] == (ip_interface("192.0.2.1/24"), ip_interface("198.51.100.1/24"))
    assert ip_interface("fd00::1/64") in e0.addresses


async def test_an_interface_that_goes_down_and_up_is_told(follower):
    await eventually(lambda: follower.now("e0").up)

    ip("link set e0 down")
    await eventually(lambda: not follower.now("e0").up)

    ip("link set e0 up")
    await eventually(lambda: follower.now("e0").up)


async def test_loss_of_carrier_is_down(follower):
    await eventually(lambda: follower.now("e0").up)

    ip("link set e1 down")

    await eventually(lambda: not follower.now("e0").up)


async def test_an_address_that_comes_and_goes_is_told(follower):
    ip("addr add 203.0.113.1/25 dev e0")
    await eventually(lambda: ip_interface("203.0.113.1/25") in follower.now("e0").addresses)

    ip("addr del 203.0.113.1/25 dev e0")
    await eventually(lambda: ip_interface("203.0.113.1/25") not in follower.now("e0").addresses)


@pytest.mark.parametrize(
    ("own", "other", "network"),
    [
        ("10.1.1.1", "10.1.1.2/32", "10.1.1.2/32"),
        ("10.1.1.1", "10.1.2.2/24", "10.1.2.0/24"),
        ("fd01::1", "fd02::2/128", "fd02::2/128"),
    ],
)
async def test_of_a_point_to_point_address_our_own_end_and_the_network_of_the_other_are_told(
    follower, own, other, network
):
    ip(f"addr add {own} peer {other} dev e0")

    await eventually(lambda: follower.now("e0").ends == (ip_network(network),))
    assert ip_interface(own) in follower.now("e0").addresses
    to = network.removesuffix("/32").removesuffix("/128")
    await eventually(lambda: f"{to} dev e0" in ip("route show proto kernel") + ip("-6 route show proto kernel"))


async def test_a_link_that_is_made_and_deleted_is_told(follower):
    ip("link add e2 type veth peer name e3")
    await eventually(lambda: follower.now("e2"))

    ip("link del e2")
    await eventually(lambda: follower.now("e2") is None)


async def test_a_burst_of_events_is_few_readings_and_the_last_state_is_told(follower):
    for number in range(100):
        ip(f"addr add 203.0.113.{number}/32 dev e0")
    await eventually(
        lambda: sum(a in ip_interface("203.0.113.0/24").network for a in follower.now("e0").addresses) == 100
    )

    assert len(follower.said) < 100
