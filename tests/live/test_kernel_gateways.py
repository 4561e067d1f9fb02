"""What `Gateways` says of the default routes, against what iproute2 made of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from ipaddress import ip_address

import pytest

from agent.kernel.defaults import GONE_SECONDS
from agent.kernel.gateways import Gateways
from agent.model import Gateway
from bgp.model import Family
from tests.lab.realkernel import RealKernel, fresh_netns, ip
from tests.lab.wait import eventually

pytestmark = pytest.mark.live

CHURN = 20_000


class Follower:
    """Keeps all that `Gateways` said."""

    def __init__(self, kernel: RealKernel) -> None:
        self.kernel = kernel
        self.said: list[tuple[Gateway, ...]] = []
        self.gateways = Gateways(self.said.append)

    def now(self, family: Family = Family.IPV4) -> list[str]:
        return [str(gateway.address) for gateway in self.said[-1] if gateway.family is family]

    async def until(self, *wanted: str, family: Family = Family.IPV4) -> None:
        await eventually(lambda: self.now(family) == [*wanted], within=30)


@pytest.fixture
async def follower() -> AsyncIterator[Follower]:
    with fresh_netns():
        kernel = RealKernel()
        follower = Follower(kernel)
        kernel.route("add default via 192.0.2.7")
        await follower.gateways.start()
        try:
            yield follower
        finally:
            await follower.gateways.stop()
            kernel.close()


async def test_all_next_hops_of_an_ecmp_route_are_told_and_followed(follower: Follower) -> None:
    assert follower.now() == ["192.0.2.7"]
    follower.kernel.route("replace default nexthop via 192.0.2.8 weight 3 nexthop via 198.51.100.9")
    await follower.until("192.0.2.8", "198.51.100.9")

    follower.kernel.route("del default")
    await follower.until()


async def test_a_next_hop_that_is_gone_for_a_moment_is_there_all_the_time(follower: Follower) -> None:
    for _ in range(3):
        before = follower.gateways.readings
        follower.kernel.route("del default")
        await eventually(lambda: follower.gateways.readings > before, within=30)  # noqa: B023  # used at once
        follower.kernel.route("add default via 192.0.2.7")
    follower.kernel.route("replace default nexthop via 192.0.2.7 nexthop via 192.0.2.8")
    await follower.until("192.0.2.7", "192.0.2.8")

    assert all("192.0.2.7" in {str(gateway.address) for gateway in said} for said in follower.said)


async def test_with_its_interface_a_next_hop_is_gone_at_once(follower: Follower) -> None:
    ip("link add e2 type veth peer name e3")
    ip("link set e3 up")
    ip("link set e2 up")
    follower.kernel.route("replace default via fe80::1 dev e2", version=6)
    await follower.until("fe80::1", family=Family.IPV6)
    ip("link del e2")
    deleted_at = asyncio.get_running_loop().time()

    await follower.until(family=Family.IPV6)
    assert asyncio.get_running_loop().time() - deleted_at < GONE_SECONDS


async def test_next_hops_of_ipv6_are_told_one_by_one(follower: Follower) -> None:
    follower.kernel.route("add default via fd00::7", version=6)
    await follower.until("fd00::7", family=Family.IPV6)
    follower.kernel.route("append default via fd00::8", version=6)
    await follower.until("fd00::7", "fd00::8", family=Family.IPV6)
    follower.kernel.route("del default via fd00::7", version=6)
    await follower.until("fd00::8", family=Family.IPV6)

    follower.kernel.route("replace default via fe80::1 dev e0", version=6)

    await eventually(lambda: Gateway(Family.IPV6, ip_address("fe80::1"), _index()) in follower.said[-1])


def _index() -> int:
    return int(ip("-o link show e0").split(":")[0])


async def test_an_ipv6_router_of_an_ipv4_route_is_told(follower: Follower) -> None:
    follower.kernel.route("replace default via inet6 fd00::9 dev e0")

    await follower.until("fd00::9")


async def test_of_routes_with_different_metrics_the_lowest_counts_and_our_own_never(follower: Follower) -> None:
    follower.kernel.route("add default via 192.0.2.9 metric 100")
    follower.kernel.route("add default via 192.0.2.10 table 100")
    follower.kernel.route("del default via 192.0.2.7")
    await follower.until("192.0.2.9")

    follower.kernel.route("add default via 192.0.2.11 proto 179")
    follower.kernel.route("add default via 192.0.2.12 metric 50")
    await follower.until("192.0.2.12")

    assert all(str(gateway.address) != "192.0.2.11" for said in follower.said for gateway in said)


async def test_what_goes_silently_with_its_link_is_missed(follower: Follower) -> None:
    ip("link set e0 down")

    await follower.until()


async def test_what_goes_silently_with_its_addresses_is_missed(follower: Follower) -> None:
    ip("addr del 198.51.100.1/24 dev e0")
    ip("addr del 192.0.2.1/24 dev e0")

    await follower.until()


async def test_a_dead_next_hop_is_left_out_and_returns_with_its_link(follower: Follower) -> None:
    ip("link add e2 type veth peer name e3")
    ip("link set e3 up")
    ip("link set e2 up")
    ip("addr add 203.0.113.1/24 dev e2")
    follower.kernel.route("replace default nexthop via 192.0.2.8 nexthop via 203.0.113.8")
    await follower.until("192.0.2.8", "203.0.113.8")

    ip("link set e2 down")
    await follower.until("192.0.2.8")

    ip("link set e2 up")
    await follower.until("192.0.2.8", "203.0.113.8")


async def test_a_next_hop_object_that_changes_is_followed(follower: Follower) -> None:
    ip("nexthop add id 7 via 192.0.2.9 dev e0")
    follower.kernel.route("replace default nhid 7")
    await follower.until("192.0.2.9")

    ip("nexthop replace id 7 via 192.0.2.10 dev e0")
    await follower.until("192.0.2.10")
    ip("nexthop del id 7")
    await follower.until()


@pytest.mark.parametrize(
    "route",
    ["route {} 10.9.0.0/24 via 192.0.2.7", "route {} default via 192.0.2.11 proto 179 metric 5"],
    ids=["no default route", "our own default route"],
)
async def test_routes_that_do_not_count_come_and_go_and_wake_nobody(follower: Follower, route: str) -> None:
    before = follower.gateways.readings
    lines = "".join(f"{route.format(verb)}\n" for _ in range(CHURN // 2) for verb in ("add", "del"))
    churn = await asyncio.create_subprocess_exec("ip", "-batch", "-", stdin=asyncio.subprocess.PIPE)
    await churn.communicate(lines.encode())

    assert churn.returncode == 0
    assert follower.gateways.readings == before
    follower.kernel.route("replace default via 192.0.2.8")
    await follower.until("192.0.2.8")


async def test_a_default_route_is_found_among_many_others(follower: Follower) -> None:
    _batch(*(f"route add 10.{n >> 8}.{n & 255}.0/24 via 192.0.2.7" for n in range(CHURN)))
    _batch(*(f"route add fd01:{n:x}::/64 via fd00::7" for n in range(1000)), version=6)
    follower.kernel.route("add default via fd00::7", version=6)
    follower.kernel.route("replace default via 192.0.2.8")

    await follower.until("192.0.2.8")
    await follower.until("fd00::7", family=Family.IPV6)


def _batch(*lines: str, version: int = 4) -> None:
    ip(f"-{version} -batch -", stdin="".join(f"{line}\n" for line in lines))
