"""The real kernel, in a network namespace of its own, does what the driver relies on."""

from __future__ import annotations

from collections.abc import AsyncIterator
from ipaddress import ip_network

import pytest

from agent.kernel.netlink import DISCARD_TABLE
from tests.lab.realkernel import RealKernel, fresh_netns, ip
from tests.lab.wait import eventually

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
    forwarded,
    ours,
    route,
    running,
)
from tests.lab.kernelspoiled import RefusedNextHops, RoutesWithMore, SpoiledRoutes, SpoiledRules  # noqa: E402

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


EXTRAS = {
    4: ("advmss 500", "onlink", "realm 5", "initcwnd 20", "congestion reno", "scope site"),
    6: ("advmss 500", "onlink", "pref high", "initcwnd 20", "hoplimit 5"),
}


@pytest.mark.parametrize(
    ("prefix", "hop", "extra"),
    [(V4, G1, extra) for extra in EXTRAS[4]] + [(V6, H1, extra) for extra in EXTRAS[6]],
)
async def test_all_that_we_never_write_is_taken_off_a_route_of_ours(
    bench: Bench, prefix: str, hop: str, extra: str
) -> None:
    words = extra.replace("congestion", "congctl")
    await bench.run(route(prefix, hop))
    bench.world.route(f"replace {prefix} via {hop} dev e0 proto 179 {words}", version=ip_network(prefix).version)
    assert bench.world.seen() == {ours(prefix, hop)._replace(extra=extra)}

    await bench.drifted()
    assert bench.fib.actual[route(prefix).key].extra == words
    await bench.run(route(prefix, hop), dirty=())

    assert bench.world.seen(protocol=None) == {ours(prefix, hop)}
    assert bench.fib.drift == {"changed": 1}


@pytest.mark.parametrize(
    ("prefix", "hops", "of_a_hop"),
    [(V4, (G1, G2), "onlink realm 4"), (V6, (H1, H2), "onlink")],
    ids=["IPv4", "IPv6"],
)
async def test_so_is_what_one_of_several_next_hops_has(
    bench: Bench, prefix: str, hops: tuple[str, str], of_a_hop: str
) -> None:
    first, second = hops
    version = ip_network(prefix).version
    await bench.run(route(prefix, *hops))
    several = f"nexthop via {first} dev e0 nexthop via {second} dev e0 {of_a_hop}"
    bench.world.route(f"replace {prefix} proto 179 {several}", version=version)

    await bench.drifted()
    assert bench.fib.actual[route(prefix).key].extra == of_a_hop
    await bench.run(route(prefix, *hops), dirty=())

    assert not [word for word in ("onlink", "realm") if word in ip(f"-{version} route show {prefix}")]
    assert bench.fib.drift == {"changed": 1}


@pytest.mark.parametrize("prefix", ["10.96.0.0/16", "fd96::/48"], ids=["IPv4", "IPv6"])
@pytest.mark.parametrize("rule_too", [False, True], ids=["alone", "with its rule"])
async def test_a_discard_for_forwarded_packets_is_put_right_as_well(bench: Bench, prefix: str, rule_too: bool) -> None:
    wanted = forwarded(prefix)
    version = wanted.prefix.version
    await bench.run(wanted)
    if rule_too:
        bench.world.rule("del pref 32764", version=version)
    where = f"table {DISCARD_TABLE} metric {wanted.metric} proto 179"
    bench.world.route(f"replace unreachable {prefix} {where} mtu 1300", version=version)

    await bench.drifted()
    await bench.run(wanted, dirty=())

    assert "mtu" not in ip(f"-{version} route show table {DISCARD_TABLE}")
    assert (bench.world.discards(), len(bench.world.rules(version=version))) == ({prefix}, 2)
    assert bench.fib.drift == {"changed": 1}


async def test_what_the_kernel_says_of_routes_by_itself_is_no_drift(bench: Bench) -> None:
    wanted = [route(V4, G1), route("10.0.2.0/24", G1, H1), route(V6, H1), route("fd02::/64", H1, H2)]
    await bench.run(*wanted)
    ip("link set e0 mtu 1400")
    ip("link set e1 down")  # dead carrier
    await eventually(lambda: "linkdown" in ip("route show proto 179") and "linkdown" in ip("-6 route show proto 179"))
    await bench.fib.resync()
    await bench.run(*wanted)

    assert bench.fib.drift == {}
    assert bench.fib.operations == {("add", "ok"): 4}


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


class TestRoutesWithMore(RoutesWithMore):
    pass


class TestSpoiledRules(SpoiledRules):
    pass


class TestRefusedNextHops(RefusedNextHops):
    pass
