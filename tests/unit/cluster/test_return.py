"""An API server that was away and is back: the first watch that works wakes the others, in virtual time.

The machine alone, then the watches of one agent, then of many agents that must not come all at once.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from random import Random

import pytest

from agent.cluster.driver import Cluster
from agent.cluster.reflector import Answer, TransportError
from agent.cluster.request import Pause
from agent.cluster.world import World
from agent.model import ALWAYS_WATCHED, Kind
from tests.unit.cluster.machine import EXPIRED, LIMITS, TOR, Run, event, node
from tests.unit.cluster.test_driver import EMPTY, Memory, Reply

OUTAGE_SECONDS = 150.0
"""Pauses are as long as they get after 50."""
NODES = 30
IN_A_ROW = 12
"""Failures after which pauses are as long as they get."""


def failing(seed: int = 1) -> Run:
    """A watch that was well, and has long pauses by now."""
    run = Run(seed=seed).sync(node("a", 3))
    for _ in range(IN_A_ROW):
        run.took(run.machine.broke("apiUnreachable", "Connect call failed", run.now))
        run.ask()
    run.took(run.machine.broke("apiUnreachable", "Connect call failed", run.now))
    return run


def longest(seed: int) -> Run:
    """One that would ask in more than ten seconds."""
    while not (
        isinstance(step := (run := failing(seed)).machine.next_step(run.now), Pause) and step.until > run.now + 10
    ):
        seed += 1000
    return run


def test_a_watch_that_waits_for_long_asks_within_seconds_when_another_works_again() -> None:
    pauses = []
    for seed in range(50):
        run = longest(seed)
        run.machine.mended_elsewhere(run.now)
        pauses.append(run.pause)

    assert LIMITS.backoff_least_seconds <= min(pauses)
    assert max(pauses) <= LIMITS.return_spread_seconds
    assert len({round(pause, 1) for pause in pauses}) > 15, "not all at one time"


def test_a_watch_that_would_ask_sooner_still_does() -> None:
    run = Run().sync(node("a", 3))
    run.took(run.machine.broke("apiUnreachable", "Connect call failed", run.now))
    run.machine.mended_elsewhere(run.now)

    assert run.pause <= LIMITS.backoff_first_seconds


def test_what_is_refused_once_more_while_the_api_server_starts_is_asked_for_again_within_seconds() -> None:
    run = failing()
    run.machine.mended_elsewhere(run.now)
    returned_at = run.now
    for _ in range(3):
        run.ask()
        run.refuse(503)
    run.ask()

    assert run.now - returned_at <= LIMITS.return_spread_seconds + 0.8 + 1.6 + 3.2


def test_the_time_that_the_server_asked_for_is_waited_out_whatever_others_say() -> None:
    run = Run().sync(node("a", 3))
    run.end(after=400)
    run.ask()
    run.refuse(429, retry_after=20)
    run.machine.mended_elsewhere(run.now)

    assert run.pause >= 20


def test_a_watch_that_is_well_waits_as_it_would_have() -> None:
    def expired(told: bool) -> float:
        run = Run().sync(node("a", 3))
        run.hear(event("ERROR", EXPIRED))
        if told:
            run.machine.mended_elsewhere(run.now)
        return run.pause

    assert expired(told=True) == expired(told=False)


def test_others_that_come_and_go_do_not_keep_a_watch_awake() -> None:
    run = failing()
    began_at, asked = run.now, len(run.asked)
    while run.now < began_at + 600:
        run.machine.mended_elsewhere(run.now)
        run.ask()
        run.refuse(500)

    assert len(run.asked) - asked < 200, "one request in three seconds at most, on average"


class Away:
    """A transport's answers: refused until `back_at`, then every kind is there and empty."""

    def __init__(self) -> None:
        self.back_at = float("inf")

    def __call__(self) -> Answer:
        if asyncio.get_running_loop().time() < self.back_at:
            raise TransportError("apiUnreachable", "Connect call failed")
        return Reply(EMPTY)


async def returned(clusters: int) -> tuple[Counter[int], list[float]]:
    """Requests in each second after the return, and how long after it each agent had all of its watches again."""
    away = Away()
    worlds = [World() for _ in range(clusters)]
    transports = [Memory(away) for _ in worlds]
    running = []
    for number, (world, transport) in enumerate(zip(worlds, transports, strict=True)):
        running.append(Cluster(transport, world.apply, "agent", random=Random(number)))  # noqa: S311
        await running[-1].start()
    await asyncio.sleep(OUTAGE_SECONDS)
    away.back_at = asyncio.get_running_loop().time()
    await asyncio.sleep(60)
    for cluster in running:
        await cluster.stop()
    late = [[at - away.back_at for at, *_ in transport.asked if at >= away.back_at] for transport in transports]
    assert all(world.complete for world in worlds)
    return Counter(int(at) for times in late for at in times), [max(times) for times in late]


@pytest.mark.looptime
async def test_after_a_long_time_without_an_api_server_all_watches_are_back_within_seconds() -> None:
    _, seconds = await returned(15)

    assert sorted(seconds)[len(seconds) // 2] < 6, "of most agents"
    assert max(seconds) < 15, "each alone would take up to 30 s"


@pytest.mark.looptime
async def test_the_agents_of_many_nodes_do_not_come_all_at_once() -> None:
    by_second, seconds = await returned(NODES)
    asked = sum(by_second.values())

    assert asked == NODES * len(ALWAYS_WATCHED), "no watch asks twice"
    assert max(by_second.values()) < asked / 3
    assert max(seconds) < 20


class Flapping:
    """200 and all there is, and then the end, again and again: each answer mends a watch, each end breaks it."""

    status = 200
    retry_after_seconds = None

    async def chunks(self) -> AsyncIterator[bytes]:
        yield EMPTY


@pytest.mark.looptime
async def test_watches_that_all_break_again_and_again_do_not_keep_each_other_awake() -> None:
    transport = Memory(Flapping)
    cluster = Cluster(transport, World().apply, "agent", random=Random(1))  # noqa: S311
    await cluster.start()
    await asyncio.sleep(OUTAGE_SECONDS)
    await cluster.stop()

    assert len(transport.asked) / len(ALWAYS_WATCHED) < OUTAGE_SECONDS / 3


@pytest.mark.looptime
async def test_the_watch_of_a_secret_is_back_with_the_others() -> None:
    away, world = Away(), World()
    transport = Memory(away)
    cluster = Cluster(transport, world.apply, "agent", random=Random(1))  # noqa: S311
    await cluster.start()
    cluster.watch_secrets(frozenset({TOR.name}))
    await asyncio.sleep(OUTAGE_SECONDS)
    away.back_at = asyncio.get_running_loop().time()
    await asyncio.sleep(15)
    await cluster.stop()

    assert world.watches[Kind.SECRET, TOR].healthy
