"""The lag meter notices a stall of the event loop."""

from __future__ import annotations

import asyncio

from agent.status.lag import TICK_SECONDS, LoopLag


async def test_a_stall_is_measured_and_remembered():
    now, worked = [0.0], [0.0]
    lag = LoopLag(clock=lambda: now[0], worked=lambda: worked[0])
    task = asyncio.create_task(lag.run())
    await asyncio.sleep(0)

    worked[0] += 0.2
    now[0] += TICK_SECONDS + 0.5  # the loop comes back half a second late by this clock
    async with asyncio.timeout(30):
        while not lag.longest:
            await asyncio.sleep(TICK_SECONDS / 4)
    task.cancel()

    assert abs(lag.longest - 0.5) < 1e-9
    assert abs(lag.lately - 0.5) < 1e-9
    assert abs(lag.longest_own - 0.2) < 1e-9, "the rest was other programs' time"
