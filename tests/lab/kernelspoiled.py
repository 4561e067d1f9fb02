"""More of what the kernel and the fake that stands in for it both pass: routes and rules of ours that somebody changed
into what we never write, and routes of which the kernel refuses a next hop. As `tests.lab.kernelcontract`.
"""

from __future__ import annotations

from ipaddress import IPv4Network, ip_address, ip_network

import pytest

from agent.kernel.partly import OF_A_NEXT_HOP
from agent.model import FibRoute, NextHop
from tests.lab.kernelcontract import G1, G2, H1, H2, NOWHERE, V4, V6, forwarded, ours, route, rules
from tests.lab.realkernel import Seen

NOWHERE6 = "fd09::1"


@pytest.mark.parametrize("words", ["prohibit {}", "{} dev e0"], ids=["type", "no gateway"])
@pytest.mark.parametrize(
    ("prefix", "hops", "other"),
    [(V4, (G1,), G2), (V4, (G1, G2), G2), (V6, (H1,), H2), (V6, (H1, H2), H2)],
    ids=["IPv4", "IPv4 multipath", "IPv6", "IPv6 multipath"],
)
class SpoiledRoutes:
    async def test_of_ours_are_put_right_and_count_as_changed(self, bench, prefix, hops, other, words):
        version = ip_network(prefix).version
        await bench.run(route(prefix, *hops))
        bench.world.route(f"replace {words.format(prefix)} proto 179", version=version)
        assert bench.world.seen() != {ours(prefix, *hops)}

        await bench.drifted()
        assert [problem.subject for problem in bench.fib.foreign] == [f"Route {prefix}"]
        await bench.run(route(prefix, *hops), dirty=())

        assert bench.world.seen(protocol=None) == {ours(prefix, *hops)}
        assert bench.fib.drift == {"changed": 1}
        assert (bench.fib.foreign, bench.fib.conflicts, bench.fib.failing) == ((), {}, {})

    async def test_are_left_alone_where_none_is_wanted_until_one_is(self, bench, prefix, hops, other, words):
        bench.world.route(f"add {words.format(prefix)} proto 179", version=ip_network(prefix).version)
        before = bench.world.seen()
        await bench.drifted()
        await bench.run()
        assert (bench.world.seen(), len(bench.fib.foreign)) == (before, 1)

        await bench.run(route(prefix, *hops))

        assert bench.world.seen(protocol=None) == {ours(prefix, *hops)}
        assert bench.fib.foreign == ()

    async def test_beside_that_of_another_protocol_are_not_touched_and_nor_is_that(
        self, bench, prefix, hops, other, words
    ):
        version = ip_network(prefix).version
        for gateway in (G1, G2):  # a replacement looks for the routes of others, and what comes later is heard of
            await bench.run(route("10.0.9.0/24", gateway))
        await bench.run()
        bench.world.route(f"add {prefix} via {other} proto static", version=version)
        bench.world.route(f"append {words.format(prefix)} proto 179", version=version)
        await bench.drifted()
        both = bench.world.seen(protocol=None)

        await bench.run(route(prefix, *hops))
        assert bench.world.seen(protocol=None) == both
        assert len(bench.fib.conflicts) == 1

        bench.world.route(f"del {prefix} proto static", version=version)
        await bench.drifted()
        await bench.run(route(prefix, *hops), dirty=())
        assert bench.world.seen(protocol=None) == {ours(prefix, *hops)}
        assert bench.fib.conflicts == {}


@pytest.mark.parametrize(
    ("prefix", "hop", "source"), [(V4, G1, "192.0.2.1"), (V6, H1, "fd00::1")], ids=["IPv4", "IPv6"]
)
class RoutesWithMore:
    """Than we write: somebody else set it, and it does not make them another's."""

    async def test_are_put_right_without_a_hole_and_count_as_changed(self, bench, prefix, hop, source):
        version = ip_network(prefix).version
        for extra in ("mtu 1300", f"src {source}"):
            await bench.run(route(prefix, hop))
            bench.world.route(f"replace {prefix} via {hop} proto 179 {extra}", version=version)
            assert bench.world.seen() == {ours(prefix, hop)._replace(extra=extra)}

            await bench.drifted()
            assert bench.fib.actual[route(prefix).key].extra == extra
            assert not bench.fib.holds(route(prefix, hop))
            await bench.run(route(prefix, hop), dirty=())

            assert bench.world.seen(protocol=None) == {ours(prefix, hop)}
        assert bench.fib.drift == {"changed": 2}
        assert bench.fib.operations == {("add", "ok"): 1, ("replace", "ok"): 2}
        assert (bench.fib.foreign, bench.fib.failing) == ((), {})

    async def test_are_put_right_at_start_and_go_when_none_is_wanted(self, bench, prefix, hop, source):
        version = ip_network(prefix).version
        for wanted in ((route(prefix, hop),), ()):
            bench.world.route(f"replace {prefix} via {hop} proto 179 mtu 1300", version=version)
            bench.new_driver()
            await bench.fib.resync()
            await bench.run(*wanted)

            assert bench.world.seen() == {ours(str(one.prefix), hop) for one in wanted}

    async def test_are_put_right_also_where_a_next_hop_is_refused(self, bench, prefix, hop, source):
        wanted = route(prefix, *in_order(hop, NOWHERE6 if ":" in prefix else NOWHERE))
        await bench.run(wanted)
        bench.world.route(f"replace {prefix} via {hop} proto 179 mtu 1300", version=ip_network(prefix).version)

        await bench.drifted()
        await bench.run(wanted, dirty=())

        assert bench.world.seen() == {ours(prefix, hop)}


@pytest.mark.parametrize("preference", [32764, 32765])
@pytest.mark.parametrize(("version", "prefix"), [(4, "10.96.0.0/16"), (6, "fd96::/48")], ids=["IPv4", "IPv6"])
class SpoiledRules:
    async def test_in_the_place_of_ours_are_removed_and_ours_are_back(self, bench, version, prefix, preference):
        await bench.run(forwarded(prefix))
        bench.world.rule(f"del pref {preference}", version=version)
        bench.world.rule(f"add pref {preference} from all lookup 99 protocol 179", version=version)

        await bench.drifted()
        await bench.run(forwarded(prefix), dirty=())

        assert bench.world.rules(version=version) == rules(int(prefix[-2:]))
        assert bench.fib.drift == {"changed": 1}
        assert bench.fib.foreign == ()

    async def test_beside_ours_are_removed_and_ours_stay(self, bench, version, prefix, preference):
        await bench.run(forwarded(prefix))
        bench.world.rule(f"add pref {preference} from all lookup 99 protocol 179", version=version)

        await bench.drifted()
        await bench.run(forwarded(prefix), dirty=())

        assert bench.world.rules(version=version) == rules(int(prefix[-2:]))

    async def test_are_left_alone_while_none_of_ours_is_wanted_and_elsewhere(self, bench, version, prefix, preference):
        bench.world.rule(f"add pref {preference} from all lookup 99 protocol 179", version=version)
        bench.world.rule("add pref 1000 from all lookup 99 protocol 179", version=version)
        odd = bench.world.rules(version=version)
        await bench.drifted()
        await bench.run()
        assert bench.world.rules(version=version) == odd
        odd_rules = {("foreignShapedRule", f"Rule {preference}"), ("foreignShapedRule", "Rule 1000")}
        assert {(one.reason, one.subject) for one in bench.fib.foreign} == odd_rules

        await bench.run(forwarded(prefix))

        kept = [rule for rule in odd if rule.startswith("1000:")]
        assert sorted(bench.world.rules(version=version)) == sorted(kept + rules(int(prefix[-2:])))

    async def test_of_another_number_are_left_alone(self, bench, version, prefix, preference):
        await bench.run(forwarded(prefix))
        bench.world.rule(f"add pref {preference} from all lookup 99 protocol static", version=version)
        bench.world.rule(f"add pref {preference} from all lookup 99 protocol 179", version=version)

        await bench.drifted()
        await bench.run(forwarded(prefix), dirty=())

        left = [rule for rule in bench.world.rules(version=version) if rule not in rules(int(prefix[-2:]))]
        assert left == [f"{preference}: from all lookup 99 proto static"]


@pytest.mark.parametrize(
    ("prefix", "first", "second", "nowhere"),
    [(V4, G1, G2, NOWHERE), (V6, H1, H2, NOWHERE6), (V4, H1, H2, NOWHERE6), (V4, G1, H1, NOWHERE)],
    ids=["IPv4", "IPv6", "IPv4 over IPv6", "IPv4 over both"],
)
class RefusedNextHops:
    async def test_leave_the_others_in_place_are_named_and_join_them_when_they_can(
        self, bench, prefix, first, second, nowhere
    ):
        wanted = route(prefix, *in_order(first, second, nowhere))
        await bench.run(wanted)
        assert bench.world.seen() == {ours(prefix, first, second)}
        (failing,) = bench.fib.failing.values()
        assert failing.error.startswith(f"{nowhere}: ")
        assert len(failing.error) > len(f"{nowhere}: ")
        assert (failing.errno in OF_A_NEXT_HOP, failing.attempts, failing.retry_at) == (True, 1, bench.now + 1)

        bench.world.address(f"{nowhere[:-1]}9/{64 if ':' in nowhere else 24}", present=True)
        await bench.run(wanted, dirty=())
        assert bench.world.seen() == {ours(prefix, first, second)}, "not due"

        bench.now = bench.fib.next_retry_at
        await bench.run(wanted, dirty=())
        assert bench.world.seen() == {ours(prefix, *sorted((first, second, nowhere)))}
        assert bench.fib.failing == {}

    async def test_do_not_disturb_the_route_that_is_there(self, bench, prefix, first, second, nowhere):
        await bench.run(route(prefix, first, second))
        bench.world.events()

        for _ in range(3):
            await bench.run(route(prefix, *in_order(first, second, nowhere)))
            bench.now = bench.fib.next_retry_at

        assert bench.world.events() == 0
        assert bench.world.seen() == {ours(prefix, first, second)}
        assert next(iter(bench.fib.failing.values())).attempts == 3

    async def test_may_be_all_but_one(self, bench, prefix, first, second, nowhere):
        also = f"{nowhere[:-1]}2"
        await bench.run(route(prefix, *in_order(first, nowhere, also)))

        assert bench.world.seen() == {ours(prefix, first)}
        (failing,) = bench.fib.failing.values()
        assert all(f"{hop}: " in failing.error for hop in (nowhere, also))

    async def test_do_not_keep_a_route_from_moving_to_the_others(self, bench, prefix, first, second, nowhere):
        await bench.run(route(prefix, first))
        await bench.run(route(prefix, *in_order(second, nowhere)))

        assert bench.world.seen() == {ours(prefix, second)}

    async def test_are_no_drift_and_go_with_the_route(self, bench, prefix, first, second, nowhere):
        wanted = route(prefix, *in_order(first, nowhere))
        await bench.run(wanted)
        await bench.fib.resync()
        assert bench.fib.drift == {}

        await bench.run()
        assert (bench.world.seen(), bench.fib.failing) == (set(), {})

    async def test_are_taken_alone_when_that_is_what_is_wanted(self, bench, prefix, first, second, nowhere):
        await bench.run(route(prefix, *in_order(first, nowhere)))
        await bench.run(route(prefix, first))

        assert bench.world.seen() == {ours(prefix, first)}
        assert bench.fib.failing == {}

    async def test_of_many_routes_stop_none_of_them(self, bench, prefix, first, second, nowhere):
        if ":" in prefix:
            many = [ip_network(f"fd01:0:0:{number:x}::/64") for number in range(1_000)]
        else:
            many = [IPv4Network((0x0A10_0000 + number, 32)) for number in range(1_000)]
        hops = tuple(NextHop(ip_address(hop)) for hop in in_order(first, nowhere))
        await bench.run(*(FibRoute(one, hops) for one in many), route("10.99.0.0/24", G1))

        wanted = {Seen(str(one), "179", (first,), "unicast", 0) for one in many}
        assert bench.world.seen() == wanted | {ours("10.99.0.0/24", G1)}
        assert len(bench.fib.failing) == 1_000

    async def test_are_not_why_a_route_of_another_protocol_is_replaced(self, bench, prefix, first, second, nowhere):
        version = ip_network(prefix).version
        bench.world.route(f"add unreachable {prefix} proto static", version=version)

        await bench.run(route(prefix, *in_order(first, nowhere)))

        assert bench.world.seen(protocol=None) == {Seen(prefix, "static", (), "unreachable", 0)}
        assert list(bench.fib.conflicts.values()) == ["protocol 4 (static)"]


def in_order(*gateways: str) -> tuple[str, ...]:
    """As routes have them."""
    return tuple(sorted(gateways, key=lambda gateway: (":" in gateway, int(ip_address(gateway)))))
