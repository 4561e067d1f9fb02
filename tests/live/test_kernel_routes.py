"""What only the real kernel can show of `KernelRoutes`: its monitor, its errors, its bounds, and who is in the way."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from ipaddress import IPv4Network, ip_address, ip_network
from socket import if_nametoindex

import pytest

from agent.kernel.routes import KernelRoutes
from agent.kernel.table import RouteChange
from agent.model import (
    DISCARD_METRIC,
    FibKey,
    FibRoute,
    NextHop,
    RouteType,
    in_order,
)
from tests.lab.realkernel import RealKernel, fresh_netns, ip
from tests.lab.wait import eventually

pytestmark = pytest.mark.live

G1, G2 = "192.0.2.2", "192.0.2.3"


@dataclass
class Scene:
    kernel: RealKernel
    drifts: int = 0
    marks: int = 0

    def heard(self) -> None:
        self.drifts += 1

    async def add(self, *routes: FibRoute) -> None:
        assert await self.kernel.table.write([RouteChange(None, route) for route in routes]) == {}

    async def quiet(self) -> bool:
        """Nothing has been heard, although an event behind all others was."""
        before, self.marks = self.drifts, self.marks + 1
        ip(f"route add 203.0.113.{self.marks}/32 dev lo proto 179")
        await eventually(lambda: self.drifts > before)
        return self.drifts == before + 1


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    with fresh_netns():
        scene = Scene(RealKernel())
        await scene.kernel.table.start(scene.heard)
        try:
            yield scene
        finally:
            await scene.kernel.table.stop()
            scene.kernel.close()


def route(prefix: str, *gateways: str, interface: int = 0) -> FibRoute:
    return FibRoute(ip_network(prefix), tuple(NextHop(ip_address(gateway), interface) for gateway in gateways))


async def test_our_own_writes_are_not_heard(scene):
    await eventually(scene.quiet)
    scene.kernel.events()
    routes = [route("10.0.1.0/24", G1), route("10.0.2.0/24", G1, G2), route("fd01::/64", "fd00::2", "fd00::3")]
    await scene.add(*routes)
    await scene.kernel.table.write([RouteChange(routes[0], route("10.0.1.0/24", G2))])
    await scene.kernel.table.write([RouteChange(found, None) for found in routes])

    assert scene.kernel.events() >= 7
    assert await scene.quiet()


async def test_foreign_routes_that_do_not_concern_us_are_not_heard(scene):
    scene.kernel.table.concern(lambda key: key.prefix == ip_network("10.0.1.0/24"))
    await eventually(scene.quiet)
    ip(f"route add 10.0.2.0/24 via {G1} proto static")
    ip(f"route add 10.0.1.0/24 via {G1} proto static table 100")
    assert await scene.quiet()

    before = scene.drifts
    ip(f"route add 10.0.1.0/24 via {G1} proto static")
    await eventually(lambda: scene.drifts == before + 1)


@pytest.mark.parametrize(
    "command",
    ["link set e0 down", "link del e0", "addr del 198.51.100.1/24 dev e0", "addr add 203.0.113.1/24 dev e0"],
)
async def test_events_that_may_lose_or_allow_routes_are_drift(scene, command):
    ip(command)

    await eventually(lambda: scene.drifts)


async def test_lost_events_are_drift_and_the_socket_goes_on(scene):
    lines = "".join(
        f"route add 10.{n // 65536}.{n // 256 % 256}.{n % 256}/32 dev lo proto 179\n" for n in range(20_000)
    )
    ip("-batch -", stdin=lines)  # the event loop does not run meanwhile: more events than the buffer holds

    await eventually(lambda: scene.drifts)
    await eventually(scene.quiet)


async def test_the_kernels_words_come_with_the_right_key(scene):
    wanted = [route(f"10.0.{n}.0/24", G1 if n % 100 else "203.0.113.1") for n in range(256)]

    refused = await scene.kernel.table.write([RouteChange(None, found) for found in wanted])

    assert {str(key.prefix) for key in refused} == {"10.0.0.0/24", "10.0.100.0/24", "10.0.200.0/24"}
    assert set(refused.values()) == {(errno.ENETUNREACH, "Nexthop has invalid gateway")}


async def test_a_large_table_number_is_written_and_read_back(scene):
    table = KernelRoutes(table=100_000)
    await table.start(scene.heard)
    wanted = [route("10.0.1.0/24", G1), route("fd01::/64", "fd00::2")]
    await table.write([RouteChange(None, found) for found in wanted])
    dump = await table.dump()
    await table.stop()

    assert {key: len(found.next_hops) for key, found in dump.routes.items()} == {found.key: 1 for found in wanted}
    assert "10.0.1.0/24" in ip("route show table 100000 proto 179")
    assert {problem.subject for problem in (await scene.kernel.table.dump()).foreign} == {
        "Route 10.0.1.0/24",
        "Route fd01::/64",
    }


async def test_a_link_local_gateway_is_reached_by_its_interface(scene):
    index = int(ip("-o link show e0").split(":")[0])
    wanted = route("fd01::/64", "fe80::2", interface=index)
    await scene.add(wanted)

    assert (await scene.kernel.table.dump()).routes == {wanted.key: wanted}


async def test_what_the_dump_reads_is_what_was_written(scene):
    index = int(ip("-o link show e0").split(":")[0])
    wanted = [
        route("0.0.0.0/0", G1, interface=index),
        route("10.0.0.0/9", G1, G2, interface=index),
        route("10.0.0.1/32", G2, interface=index),
        route("::/0", "fd00::2", interface=index),
        route("fd01::/17", "fd00::2", "fd00::3", interface=index),
        route("fd01::1/128", "fd00::3", interface=index),
        *(
            FibRoute(ip_network(prefix), type=kind, metric=DISCARD_METRIC)
            for prefix, kind in (("10.0.0.0/9", RouteType.BLACKHOLE), ("fd02::/64", RouteType.UNREACHABLE))
        ),
    ]
    await scene.add(*wanted)

    assert (await scene.kernel.table.dump()).routes == {found.key: found for found in wanted}


async def test_holders_are_named(scene):
    ip(f"route add 10.0.1.0/24 via {G1} proto bird")
    ip(f"route add 10.0.2.0/24 via {G1} proto 77")
    ip("route add prohibit 10.0.3.0/24 proto 179")
    await scene.add(route("10.0.4.0/24", G1))
    keys = {FibKey(ip_network(f"10.0.{n}.0/24"), 0) for n in range(1, 6)}

    holders = await scene.kernel.table.holders(keys)

    assert {str(key.prefix): holder.name for key, holder in holders.items()} == {
        "10.0.1.0/24": "protocol 12 (bird)",
        "10.0.2.0/24": "protocol 77",
        "10.0.3.0/24": "protocol 179 (our number, but type prohibit)",
        "10.0.4.0/24": "protocol 179 (ours)",
    }


@pytest.mark.parametrize("gateways", [("fe80::7",), (G1, "fe80::7"), ("fe80::7", "fe80::8")])
@pytest.mark.parametrize("prefix", ["10.0.1.0/24", "fd01::/64"])
async def test_a_link_local_gateway_is_written_with_its_interface_and_read_back_as_it_was(scene, prefix, gateways):
    if ":" in prefix:
        gateways = tuple("fd00::2" if gateway == G1 else gateway for gateway in gateways)
    wanted = route(prefix, *gateways, interface=if_nametoindex("e0"))
    wanted = replace(wanted, next_hops=in_order(wanted.next_hops))
    await scene.add(wanted)

    assert (await scene.kernel.table.dump()).routes == {wanted.key: wanted}


@pytest.mark.parametrize(
    ("odd", "why"),
    [
        ("10.7.0.0/24 dev e0", "no gateway"),
        (f"10.7.0.0/24 nexthop via {G1} weight 1 nexthop via {G2} weight 5", "unequal weights"),
        (f"10.7.0.0/24 via {G1} metric 7", "metric 7"),
        (f"10.7.0.0/24 via {G1} table 7", "table 7"),
        (f"10.7.0.0/24 via {G1} tos 4", "TOS 0x4"),
        ("10.7.0.0/24 nhid 5", "a next-hop object"),
        ("throw 10.7.0.0/24", "type throw"),
    ],
)
async def test_shapes_that_we_never_write_are_foreign(scene, odd, why):
    ip(f"nexthop add id 5 via {G1} dev e0")
    ip(f"route add proto 179 {odd}")

    dump = await scene.kernel.table.dump()

    assert dump.routes == {}
    (problem,) = (*dump.foreign, *dump.odd.values())
    assert f"has {why}:" in problem.message
    assert "proto 179" in problem.fix


async def test_the_event_loop_has_its_turns_during_large_writes_and_dumps(scene):
    count = 36_864  # the kernel rebuilds its trie on the way
    hops = (NextHop(ip_address(G1)),)
    routes = [FibRoute(IPv4Network((0x0A00_0000 + n, 32)), hops) for n in range(count)]
    turns = 0

    async def take_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    taker = asyncio.create_task(take_turns())
    await scene.add(*routes)
    written, turns = turns, 0
    dump = await scene.kernel.table.dump()
    dumped, turns = turns, 0
    assert await scene.kernel.table.write([RouteChange(route, None) for route in routes]) == {}
    taker.cancel()

    assert len(dump.routes) == count
    assert scene.kernel.seen() == set()
    assert min(written, turns) >= count // 256
    assert dumped >= 20


async def test_a_foreign_route_prepended_before_the_start_survives_our_change(scene):
    await scene.add(route("10.0.1.0/24", G1))
    await scene.kernel.table.stop()
    ip(f"route prepend 10.0.1.0/24 via {G2} proto static")
    await scene.kernel.table.start(scene.heard)

    refused = await scene.kernel.table.write([RouteChange(route("10.0.1.0/24", G1), route("10.0.1.0/24", "192.0.2.4"))])

    assert [error.errno for error in refused.values()] == [errno.EEXIST]
    assert [seen.gateways for seen in scene.kernel.seen(protocol="static")] == [(G2,)]
    assert scene.kernel.seen() == set()


async def test_our_part_of_a_mixed_ipv6_multipath_route_goes_alone(scene):
    ours = route("fd01::/64", "fd00::2", "fd00::3")
    await scene.add(ours)
    ip("-6 route append fd01::/64 via fd00::9 proto static")

    assert await scene.kernel.table.write([RouteChange(ours, None)]) == {}

    assert {seen.gateways for seen in scene.kernel.seen(protocol=None)} == {("fd00::9",)}
