"""The driver's own rules, on the fake kernel: backoff, what it remembers, and what it does when it cannot read."""

from __future__ import annotations

import asyncio
import errno
from collections import Counter
from collections.abc import AsyncIterator
from ipaddress import IPv4Network

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.kernel.fib import RETRY_MAX_SECONDS, Fib
from agent.kernel.netlink import MAIN_TABLE
from agent.kernel.table import KernelError, RouteChange
from agent.model import FibKey, FibRoute
from tests.lab.fakekernel import FakeKernel
from tests.lab.kernelcontract import NOWHERE, Bench, by_key, discard, ours, route, running

A, B, C = (route(f"10.0.{number}.0/24", "192.0.2.2") for number in range(3))
A2 = route("10.0.0.0/24", "192.0.2.3")
REFUSED = KernelError(errno.ENOMEM, "Cannot allocate memory")


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    async with running(FakeKernel()) as bench:
        yield bench


async def test_what_fails_is_tried_again_after_1_2_4_seconds_up_to_a_minute(bench):
    bench.world.refuse[A.key] = REFUSED
    waits = []
    await bench.run(A)
    for _ in range(10):
        waits.append(bench.fib.next_retry_at - bench.now)
        bench.now = bench.fib.next_retry_at
        await bench.run(A, dirty=())

    assert waits == [1, 2, 4, 8, 16, 32, 60, 60, 60, RETRY_MAX_SECONDS]
    assert bench.fib.failing[A.key].since == 1000.0
    assert bench.fib.failing[A.key].attempts == 11


async def test_a_changed_wish_does_not_wait_for_the_old_ones_backoff(bench):
    bench.world.refuse[A.key] = REFUSED
    await bench.run(A)
    del bench.world.refuse[A.key]

    await bench.run(A2, dirty=[A.key])

    assert bench.fib.actual == by_key([A2])
    assert bench.fib.failing == {}


async def test_a_wish_withdrawn_takes_its_failure_along(bench):
    bench.world.refuse[A.key] = REFUSED
    await bench.run(A)
    await bench.run(dirty=[A.key])

    assert bench.fib.failing == {}
    assert bench.fib.next_retry_at is None


async def test_one_dirty_key_is_one_write(bench):
    others = [route(f"10.1.{number}.0/24", "192.0.2.2") for number in range(200)]
    await bench.run(A, *others)
    bench.world.writes.clear()

    await bench.run(A2, *others, dirty=[A.key])

    assert bench.world.writes == [RouteChange(A, A2)]


async def test_keys_that_are_not_dirty_are_left_alone(bench):
    await bench.run(A, B)

    await bench.run(C, dirty=[C.key])

    assert bench.fib.actual.keys() == {A.key, B.key, C.key}


async def test_install_removes_nothing(bench):
    await bench.run(A, B)

    await bench.fib.install(by_key([A]), None)

    assert bench.fib.actual.keys() == {A.key, B.key}


async def test_a_replacement_of_what_was_lost_unseen_adds_it(bench):
    await bench.run(A)
    bench.world.lose("10.0.0.0/24")

    await bench.run(A2, dirty=[A.key])

    assert bench.world.seen() == {ours("10.0.0.0/24", "192.0.2.3")}
    assert bench.fib.failing == {}


async def test_a_held_key_is_asked_for_again_by_each_prune_until_it_is_let_go(bench):
    asked: list[FibKey] = []

    def hold(key: FibKey) -> bool:
        asked.append(key)
        return len(asked) < 4

    await bench.run(A, B)
    await bench.run(B, dirty=[A.key], hold=hold)
    for _ in range(2):
        await bench.run(B, dirty=(), hold=hold)
    assert A.key in bench.fib.actual

    await bench.run(B, dirty=(), hold=hold)
    await bench.run(B, dirty=(), hold=hold)

    assert asked == [A.key] * 4
    assert bench.fib.actual == by_key([B])


async def test_a_deletion_that_fails_is_tried_again_when_due(bench):
    await bench.run(A)
    bench.world.refuse[A.key] = REFUSED
    await bench.run(dirty=[A.key])
    assert bench.fib.operations["delete", "failed"] == 1
    del bench.world.refuse[A.key]
    await bench.run(dirty=())
    assert bench.fib.failing[A.key].error == "Cannot allocate memory"

    bench.now = bench.fib.next_retry_at
    await bench.run(dirty=())

    assert bench.world.seen() == set()
    assert bench.fib.next_retry_at is None


async def test_a_failed_deletion_that_is_held_now_is_never_due(bench):
    await bench.run(A)
    bench.world.refuse[A.key] = REFUSED
    await bench.run(dirty=[A.key])
    bench.now = bench.fib.next_retry_at

    await bench.run(dirty=(), hold=lambda _key: True)

    assert bench.fib.next_retry_at is None
    assert bench.fib.actual == by_key([A])


async def test_a_held_key_that_is_wanted_again_stays(bench):
    await bench.run(A)
    await bench.run(dirty=[A.key], hold=lambda _key: True)
    await bench.run(A, dirty=[A.key])
    await bench.run(A, dirty=())

    assert bench.fib.actual == by_key([A])


async def test_a_claimed_route_is_removed_without_a_sweep(bench):
    await bench.run(A, B)
    bench.new_driver()
    await bench.fib.resync()
    assert bench.fib.adopted == {A.key, B.key}
    await bench.run(A, sweep=False)

    await bench.run(dirty=[A.key], sweep=False)

    assert bench.fib.actual == by_key([B])
    assert bench.fib.adopted == {B.key}


async def test_an_adopted_route_keeps_next_hops_that_nobody_has_claimed_yet_until_the_sweep(bench):
    both, one = route("10.0.0.0/24", "192.0.2.2", "192.0.2.3"), route("10.0.0.0/24", "192.0.2.2")
    await bench.run(both)
    bench.new_driver()
    await bench.fib.resync()
    bench.world.writes.clear()
    await bench.run(one, dirty=[A.key], sweep=False)
    assert bench.fib.actual == by_key([both])
    await bench.run(both, dirty=[A.key], sweep=False)
    assert bench.world.writes == []
    bench.new_driver()
    await bench.fib.resync()

    await bench.run(one, dirty=[A.key], sweep=True)
    assert bench.fib.next_retry_at == bench.now, "the sweep leaves the next install something to do"
    await bench.run(one, dirty=())

    assert bench.fib.actual == by_key([one])
    assert bench.fib.next_retry_at is None


async def test_the_sweep_heeds_what_is_held(bench):
    await bench.run(A, B)
    bench.new_driver()
    await bench.fib.resync()
    await bench.run(hold=lambda key: key == A.key, sweep=True)
    assert bench.fib.actual == by_key([A])

    await bench.run(dirty=())
    assert bench.fib.actual == {}


async def test_what_comes_and_goes_before_the_first_plan_is_what_was_there_and_no_drift(bench):
    bench.world.route("add 10.0.8.0/24 via 192.0.2.2 proto 179")
    await bench.drifted()
    bench.world.lose("10.0.8.0/24")
    bench.world.route("add 10.0.9.0/24 via 192.0.2.2 proto 179")
    await bench.drifted()
    assert {str(key.prefix) for key in bench.fib.adopted} == {"10.0.9.0/24"}
    assert (bench.fib.drift, bench.fib.next_retry_at) == ({}, None)

    await bench.run(A, sweep=False)

    assert bench.world.seen() == {ours("10.0.9.0/24", "192.0.2.2"), ours("10.0.0.0/24", "192.0.2.2")}


async def test_an_unexpected_route_of_ours_is_removed_and_counted(bench):
    await bench.run()
    bench.world.route("add 10.0.9.0/24 via 192.0.2.2 proto 179")
    await bench.drifted()
    await bench.run(dirty=(), sweep=False)

    assert bench.world.seen() == set()
    assert bench.fib.drift == {"unexpected": 1}


async def test_a_changed_route_of_ours_is_put_right_and_counted(bench):
    await bench.run(A)
    bench.world.route("replace 10.0.0.0/24 via 192.0.2.9 proto 179")
    await bench.drifted()
    await bench.run(A, dirty=())

    assert bench.world.seen() == {ours("10.0.0.0/24", "192.0.2.2")}
    assert bench.fib.drift == {"changed": 1}


async def test_a_conflict_is_tried_again_with_backoff(bench):
    bench.world.route("add 10.0.0.0/24 via 192.0.2.9 proto static")
    await bench.run(A)
    assert bench.fib.next_retry_at == bench.now + 1
    bench.now += 1
    await bench.run(A, dirty=())

    assert bench.fib.next_retry_at == bench.now + 2
    assert bench.fib.operations == {("add", "conflict"): 2}
    assert bench.fib.conflicts == {A.key: "protocol 4 (static)"}


async def test_nothing_is_written_before_the_table_was_read(bench):
    bench.world.failing_dumps = 1
    bench.new_driver()
    await bench.fib.resync()
    await bench.run(A)
    assert bench.world.writes == []
    assert "changed by others" in bench.fib.read_error

    bench.now = bench.fib.next_retry_at
    await bench.run(A, dirty=())

    assert bench.world.seen() == {ours("10.0.0.0/24", "192.0.2.2")}
    assert bench.fib.read_error is None


async def test_a_failed_later_dump_changes_nothing_and_is_repeated_when_due(bench):
    await bench.run(A, B)
    bench.world.lose("10.0.0.0/24")
    bench.world.failing_dumps = 2
    await bench.fib.resync()
    await bench.run(A, B, dirty=())
    assert bench.fib.drift == {}

    for _ in range(2):
        bench.now = bench.fib.next_retry_at
        await bench.run(A, B, dirty=())

    assert len(bench.world.seen()) == 2
    assert bench.fib.drift == {"missing": 1}
    assert bench.fib.next_retry_at is None


async def test_a_dump_waits_for_a_write_that_goes_on(bench):
    bench.world.slow_turns = 20  # the fake fails the test when it is asked while it is being asked
    await asyncio.gather(bench.run(A, B, C), bench.fib.resync(), bench.run(A, B), bench.fib.resync())

    assert bench.fib.drift == {}


async def test_a_route_that_is_ours_after_all_is_no_conflict(bench):
    await bench.run(A)
    other = Fib(bench.world, clock=lambda: bench.now)
    bench.world.lose("10.0.0.0/24")
    await other.resync()
    bench.world.route("add 10.0.0.0/24 via 192.0.2.3 proto 179")

    await other.install(by_key([A]), None)
    assert (other.conflicts, other.actual) == ({}, by_key([A2]))

    bench.now = other.next_retry_at
    await other.install(by_key([A]), ())
    assert bench.world.seen() == {ours("10.0.0.0/24", "192.0.2.2")}


KEYS = [
    FibKey(IPv4Network((0x0A000000 + number * 256, 24)), metric)
    for number in range(4)
    for metric in (0, discard("::/0").metric)
]
GATEWAYS = st.sampled_from([("192.0.2.2",), ("192.0.2.3",), ("192.0.2.2", "192.0.2.3"), (NOWHERE,)])
WISHES = st.dictionaries(st.sampled_from(KEYS), GATEWAYS)
EVENTS = st.one_of(
    st.tuples(st.just("want"), WISHES),
    st.tuples(st.just("lose"), st.sampled_from(KEYS)),
    st.tuples(st.just("link"), st.booleans()),
    st.tuples(st.just("foreign"), st.sampled_from(KEYS)),
    st.tuples(st.just("foreign goes"), st.sampled_from(KEYS)),
    st.tuples(st.just("restart"), st.none()),
    st.tuples(st.just("interrupt"), st.integers(1, 3)),
)


@given(st.lists(EVENTS, max_size=25), st.booleans())
@settings(deadline=None, max_examples=settings().max_examples * 3 // 5, suppress_health_check=[HealthCheck.too_slow])
async def test_whatever_happened_the_kernel_ends_up_as_wanted_and_foreign_routes_as_they_were(history, whole):
    async with running(FakeKernel()) as bench:
        wanted: dict[FibKey, FibRoute] = {}
        foreign: set[FibKey] = set()
        for event in history:
            wanted = await _happen(bench, event, wanted, foreign, whole=whole)
            assert +bench.fib.counts == Counter((key.prefix.version, MAIN_TABLE) for key in bench.fib.actual)
        bench.world.failing_dumps = 0
        bench.world.link(up=True)
        bench.now += 2 * RETRY_MAX_SECONDS
        await bench.fib.resync()
        for _ in range(2):  # a sweep makes the next hops that nobody claimed due at once, in a pass of their own
            await bench.run(*wanted.values(), dirty=None if whole else ())

        fib = bench.fib
        for key, found in wanted.items():
            if NOWHERE in str(found):
                assert key in fib.failing or key in fib.conflicts
            else:
                assert fib.actual.get(key) == found or (key in foreign and key in fib.conflicts)
        assert fib.actual.keys() <= wanted.keys()
        assert bench.world.seen() == {
            ours(str(key.prefix), *(str(hop.gateway) for hop in found.next_hops), metric=key.metric)
            for key, found in fib.actual.items()
        }
        assert {(seen.prefix, seen.metric) for seen in bench.world.seen(protocol="static")} == {
            (str(key.prefix), key.metric) for key in foreign
        }


async def _happen(bench, event, wanted, foreign, *, whole):
    match event:
        case ("want", gateways):
            new = {key: route(str(key.prefix), *found, metric=key.metric) for key, found in gateways.items()}
            dirty = None if whole else {key for key in new.keys() | wanted.keys() if new.get(key) != wanted.get(key)}
            await bench.run(*new.values(), dirty=dirty)
            return new
        case ("lose", key) if key not in foreign:
            bench.world.lose(str(key.prefix))
            foreign -= {there for there in foreign if there.prefix == key.prefix}
        case ("link", up):
            bench.world.link(up=up)
            foreign -= foreign if not up else set()
            await bench.drifted()
        case ("foreign", key) if key not in foreign:
            bench.world.route(f"prepend {key.prefix} via 192.0.2.9 proto static metric {key.metric}")
            foreign.add(key)
        case ("foreign goes", key) if key in foreign:
            bench.world.route(f"del {key.prefix} proto static metric {key.metric}")
            foreign.discard(key)
        case ("restart", _):
            bench.new_driver()
            await bench.fib.resync()
            await bench.run(*wanted.values())
        case ("interrupt", count):
            bench.world.failing_dumps += count
    return wanted
