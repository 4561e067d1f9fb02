"""The real kernel, in a network namespace of its own, does what the driver relies on."""

from __future__ import annotations

from collections.abc import AsyncIterator
from ipaddress import ip_network

import pytest

from tests.lab.realkernel import RealKernel, fresh_netns, ip

pytest.register_assert_rewrite("tests.lab.kernelcontract", "tests.lab.kernelspoiled")

from tests.lab.kernelcontract import (  # noqa: E402
    G1,
    G2,
    H1,
    H2,
    V4,
    V6,
    Bench,
    DiscardsForForwardedPackets,
    OneRouteOfEachFamily,
    WholeTable,
    ours,
    route,
    running,
)
from tests.lab.kernelspoiled import RefusedNextHops, SpoiledRoutes, SpoiledRules  # noqa: E402

pytestmark = pytest.mark.live


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    with fresh_netns():
        async with running(RealKernel()) as bench:
            yield bench


class TestOneRouteOfEachFamily(OneRouteOfEachFamily):
    pass


class TestWholeTable(WholeTable):
    pass


class TestDiscardsForForwardedPackets(DiscardsForForwardedPackets):
    pass


class TestSpoiledRoutes(SpoiledRoutes):
    pass


@pytest.mark.parametrize(
    "words",
    ["nexthop via {} weight 2 nexthop via {}", "nhid 7", "dev lo scope link"],
    ids=["weights", "next-hop object", "lo"],
)
@pytest.mark.parametrize(("prefix", "hops"), [(V4, (G1, G2)), (V6, (H1, H2))], ids=["IPv4", "IPv6"])
async def test_every_shape_that_we_never_write_is_put_right(
    bench: Bench, prefix: str, hops: tuple[str, str], words: str
) -> None:
    await bench.run(route(prefix, *hops))
    ip(f"nexthop add id 7 via {hops[0]} dev e0")
    version = ip_network(prefix).version
    bench.world.route(f"replace {prefix} proto 179 {words.format(*hops)}", version=version)

    await bench.drifted()
    await bench.run(route(prefix, *hops), dirty=())

    assert bench.world.seen() == {ours(prefix, *hops)}
    shown = ip(f"-{version} route show {prefix}")
    assert not [word for word in ("weight 2", "nhid", "dev lo") if word in shown]
    assert bench.fib.drift == {"changed": 1}


@pytest.mark.parametrize(
    ("prefix", "hops", "words", "shown"),
    [
        (V4, (G1,), "via {} mtu 1400", "mtu 1400"),
        (V4, (G1,), "via {} src 198.51.100.1", "src 198"),
        (V4, (G1,), "via {} dev e0 onlink", "onlink"),
        (V4, (G1,), "via {} realm 7", "realm 7"),
        (V4, (G1, G2), "nexthop via {} dev e0 onlink nexthop via {}", "onlink"),
        (V6, (H1,), "via {} mtu 1400", "mtu 1400"),
        (V6, (H1,), "via {} src fd00::1", "src fd00::1"),
        (V6, (H1,), "via {} pref high", "pref high"),
        (V6, (H1, H2), "nexthop via {} dev e0 onlink nexthop via {}", "onlink"),
    ],
)
async def test_what_somebody_added_to_a_route_of_ours_is_taken_off(
    bench: Bench, prefix: str, hops: tuple[str, ...], words: str, shown: str
) -> None:
    await bench.run(route(prefix, *hops))
    version = ip_network(prefix).version
    bench.world.route(f"replace {prefix} proto 179 {words.format(*hops)}", version=version)
    assert shown in ip(f"-{version} route show {prefix}")

    await bench.drifted()
    await bench.run(route(prefix, *hops), dirty=())

    assert bench.world.seen() == {ours(prefix, *hops)}
    assert shown not in ip(f"-{version} route show {prefix}")
    assert bench.fib.drift == {"changed": 1}
    assert bench.fib.foreign == ()


async def test_one_with_a_tos_stands_beside_ours_and_is_left_alone(bench: Bench) -> None:
    await bench.run(route(V4, G1))
    bench.world.route(f"replace {V4} tos 0x10 via {G2} proto 179")

    await bench.drifted()
    await bench.run(route(V4, G1))
    assert bench.world.seen() == {ours(V4, G1), ours(V4, G2)}
    await bench.run(route(V4, G2))

    assert f"{V4} tos 0x10 via {G2}" in ip("route show proto 179")
    assert bench.world.seen() == {ours(V4, G2)}
    assert [problem.reason for problem in bench.fib.foreign] == ["foreignShapedRoute"]


class TestSpoiledRules(SpoiledRules):
    pass


class TestRefusedNextHops(RefusedNextHops):
    pass
