"""A full table goes through the loop in bounded passes: others have their turn, and nothing is swept before its end."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from ipaddress import IPv4Network, ip_address, ip_interface, ip_network
from itertools import pairwise

import pytest

from agent.advertising import Advertisement, AdvertisementType, ServiceAddress, ServiceChoice
from agent.inbox import KEYS_PER_PASS, PREFIXES_PER_PASS
from agent.intent import AllowedPrefix, ExternalPeer
from agent.kernel.table import RouteChange
from agent.loop import STEP_SECONDS
from agent.model import (
    ALWAYS_WATCHED,
    Applied,
    FibDrifted,
    FibKey,
    FibRoute,
    Interface,
    InterfacesChanged,
    Key,
    Kind,
    Listed,
    NextHop,
    Service,
)
from bgp.model import Attributes, EndOfRib, Family, Path, PathsHeard, SessionDown, SessionUp
from tests.lab.wait import eventually
from tests.unit.test_loop import ADDRESS, CIDR, OTHER, OWN, Scene, key_of

ROUTER = ip_address("192.0.2.254")
PASSES = 12
SERVICES = 2_000
PREFIXES = tuple(IPv4Network((0x14000000 + (n << 8), 24)) for n in range(PASSES * PREFIXES_PER_PASS))
PATH = Path(ROUTER, ROUTER, Attributes(as_path=(65001,)))
FULL_TABLE = PathsHeard(ROUTER, (), ((PATH, PREFIXES),))


def router(*allowed: AllowedPrefix) -> Applied:
    peer = ExternalPeer(name="router", address=ROUTER, asn=65001, import_allowed=allowed)
    return Applied(Key(Kind.PEER, "", "router"), peer)


EVERYTHING = AllowedPrefix(ip_network("0.0.0.0/0"), 1, 32)


def up(address):
    return SessionUp(peer=address, router_id=None, peer_asn=65001, hold_seconds=90, families=frozenset({Family.IPV4}))


@contextlib.asynccontextmanager
async def running(scene: Scene) -> AsyncIterator[Scene]:
    """Of two nodes; everything is listed, and nobody has said anything."""
    task = asyncio.create_task(scene.loop.run())
    nodes = {key_of(node): node for node in (OWN, OTHER)}
    lists = [Listed(kind, nodes if kind is Kind.NODE else {}) for kind in sorted(ALWAYS_WATCHED)]
    await scene.put(*lists, InterfacesChanged((Interface(2, "eth0", True, (ip_interface("192.0.2.2/24"),)),)))
    yield scene
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    async with running(Scene()) as scene:
        yield scene


async def done(scene: Scene, count: int) -> None:
    """So many routes of the table are wanted and in the kernel, beside our discard route."""
    await eventually(lambda: len(scene.loop.plan.fib) == len(scene.fib.actual) == count + 1, within=30)


@pytest.fixture
async def longest_batch(scene: Scene) -> list[int]:
    """How many routes the plan changed by, pass by pass."""
    sizes, before = [], [len(scene.loop.plan.fib)]

    def see() -> None:
        now = len(scene.loop.plan.fib)
        sizes.append(abs(now - before[0]))
        before[0] = now

    scene.loop.after_pass(see)
    return sizes


async def test_a_full_table_is_learned_and_lost_in_passes_of_bounded_work(scene: Scene, longest_batch: list[int]):
    await scene.put(router(EVERYTHING), up(ROUTER))
    await scene.put(FULL_TABLE)
    await done(scene, len(PREFIXES))
    await scene.put(SessionDown(ROUTER, "x"))
    await done(scene, 0)

    assert 0 < max(longest_batch) <= PREFIXES_PER_PASS


async def test_a_rule_that_admits_a_full_table_is_applied_in_passes_of_bounded_work(
    scene: Scene, longest_batch: list[int]
):
    await scene.put(router(), up(ROUTER))
    await scene.put(FULL_TABLE)
    await eventually(lambda: len(scene.loop.plan.refused_in) == len(PREFIXES), within=30)

    await scene.put(router(EVERYTHING))
    await done(scene, len(PREFIXES))
    await scene.put(router())
    await done(scene, 0)

    assert 0 < max(longest_batch) <= PREFIXES_PER_PASS


async def test_what_led_over_a_lost_link_moves_before_the_kernel_is_read_again(scene: Scene) -> None:
    """Who read first would compare the kernel with a plan that knows nothing of it, and put back what has just gone."""
    await scene.put(router(EVERYTHING), up(ROUTER))
    await scene.put(FULL_TABLE)
    await done(scene, len(PREFIXES))
    dumps, writes = len(scene.kernel.dumps), len(scene.kernel.writes)

    await scene.put(FibDrifted())
    await scene.put(InterfacesChanged((Interface(2, "eth0", False, (ip_interface("192.0.2.2/24"),)),)))

    await eventually(lambda: len(scene.kernel.dumps) > dumps, within=30)
    assert scene.kernel.dumps[dumps] - writes >= len(PREFIXES) - PREFIXES_PER_PASS, "all but what the last pass prunes"
    assert all(change.new is None for change in scene.kernel.writes[writes:])


async def test_each_pass_leaves_the_others_a_turn_even_when_no_driver_waits(scene: Scene) -> None:
    await scene.put(router(), up(ROUTER))
    turns = []

    async def other() -> None:
        while True:
            turns.append(len(scene.loop.plan.refused_in))
            await asyncio.sleep(0)

    task = asyncio.create_task(other())
    await scene.put(FULL_TABLE)
    await eventually(lambda: len(scene.loop.plan.refused_in) == len(PREFIXES), within=30)
    task.cancel()

    assert len(set(turns)) >= PASSES


async def test_routes_of_an_earlier_life_stay_until_all_that_peers_have_told_is_planned(scene: Scene) -> None:
    """End-of-RIB is heard at once, while most of the table before it waits to be planned."""
    old = {FibKey(prefix, 0): FibRoute(prefix, (NextHop(ROUTER),)) for prefix in PREFIXES}
    fresh = Scene()
    await fresh.kernel.write([RouteChange(None, route) for route in old.values()])
    async with running(fresh):
        removed = []
        fresh.loop.after_pass(lambda: removed.append(len(old.keys() - fresh.fib.actual.keys())))

        await fresh.put(router(EVERYTHING), up(ADDRESS), EndOfRib(ADDRESS, Family.IPV4))
        assert not fresh.loop.sweeping.done
        await fresh.put(up(ROUTER), FULL_TABLE, EndOfRib(ROUTER, Family.IPV4))
        await eventually(lambda: fresh.loop.sweeping.done, within=30)

    assert set(removed) == {0}


async def test_routes_of_an_earlier_life_stay_when_they_are_confirmed_while_a_pass_goes_on() -> None:
    fresh = Scene()
    key, route = FibKey(CIDR, 0), FibRoute(CIDR, (NextHop(ADDRESS),))
    await fresh.kernel.write([RouteChange(None, route)])
    path = Path(ADDRESS, ADDRESS, Attributes())

    def confirm() -> None:
        if fresh.inbox.rib.session(ADDRESS) is not None and not fresh.inbox.rib.synced_peers():
            fresh.inbox.put(PathsHeard(ADDRESS, (), ((path, (CIDR,)),)))
            fresh.inbox.put(EndOfRib(ADDRESS, Family.IPV4))

    fresh.speaker.meanwhile = confirm
    async with running(fresh):
        there = []
        fresh.loop.after_pass(lambda: there.append(key in fresh.fib.actual))

        await fresh.put(up(ADDRESS))
        await eventually(lambda: fresh.loop.sweeping.done)

    assert all(there)


class SlowScene(Scene):
    """Each look at the clock finds it a millisecond later."""

    @property
    def now(self) -> float:
        self._now += 0.001
        return self._now

    @now.setter
    def now(self, now: float) -> None:
        self._now = now


async def test_a_rule_that_many_services_depend_on_is_planned_in_one_pass_that_leaves_the_others_their_turns():
    services = {
        Key(Kind.SERVICE, "default", f"s{n}"): Service(
            namespace="default", name=f"s{n}", cluster_ips=(ip_address("10.96.0.1") + n,)
        )
        for n in range(SERVICES)
    }
    chosen = ServiceChoice(addresses=frozenset({ServiceAddress.CLUSTER_IP}))
    rule = Advertisement(name="all", type=AdvertisementType.SERVICE, service=chosen)
    async with running(SlowScene()) as scene:
        await scene.put(router(), Listed(Kind.SERVICE, services))
        await eventually(lambda: scene.loop.figures.passes > SERVICES // KEYS_PER_PASS, within=30)
        planned, passes, turns = scene.loop.plan.originated, scene.passes, [0]
        scene.inbox.put(Applied(Key(Kind.ADVERTISEMENT, "", "all"), rule))
        while len(planned) < SERVICES:
            await asyncio.sleep(0)
            turns.append(len(planned))

        assert max(after - before for before, after in pairwise(turns)) <= STEP_SECONDS * 1000
        assert scene.passes <= passes + 1
