"""One text for all scrapes of about the same time, and how old it may be."""

from __future__ import annotations

import asyncio

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily

from agent.status.scrapes import CROWD, CROWD_SECONDS, Scrapes


class Figures:
    """Each time it is read it is one more; a failure comes once."""

    def __init__(self):
        self.now = 100.0
        self.read = 0
        self.seconds = 0.0
        self.failure = None
        registry = CollectorRegistry(auto_describe=False)
        registry.register(self)
        self.scrapes = Scrapes(registry, lambda: self.now)

    def collect(self):
        self.read += 1
        self.now += self.seconds
        if self.failure is not None:
            failure, self.failure = self.failure, None
            raise failure
        yield GaugeMetricFamily("reading", "", value=self.read)

    async def reading(self):
        return float((await self.scrapes.text()).split()[-1])


async def test_all_who_ask_while_it_is_made_share_it_however_long_that_takes():
    figures = Figures()
    figures.seconds = 60.0

    assert await asyncio.gather(*(figures.reading() for _ in range(20))) == [1.0] * 20


async def test_who_asks_later_is_told_what_is_true_then():
    figures = Figures()

    assert [await figures.reading() for _ in range(CROWD)] == [*range(1, CROWD + 1)]


async def test_a_crowd_that_goes_on_asking_has_the_last_text_for_a_moment():
    figures = Figures()
    assert [await figures.reading() for _ in range(CROWD + 300)] == [*range(1, CROWD + 1), *[CROWD] * 300]

    figures.now += CROWD_SECONDS

    assert await figures.reading() == CROWD + 1


async def test_one_that_fails_is_nobody_elses():
    figures = Figures()
    figures.failure = LookupError("ours")

    first, second = asyncio.create_task(figures.reading()), asyncio.create_task(figures.reading())

    with pytest.raises(LookupError):
        await first
    assert await second == 2
