"""How fast routes get into the kernel and out of it, and how long the event loop stands still meanwhile.

`python -m tests.bench.bench_kernel [ROUTES]` prints thousands of routes per second for `KernelRoutes` alone, for the
driver on top of it, and for `ip -batch`. The longest stall is the longest time between two turns of the event loop, by
the clock and (on a busy machine the better number) by our own processor time. It runs in a network namespace of its own
and needs root. It judges nothing: numbers of one machine at one time.
"""

from __future__ import annotations

import asyncio
import gc
import resource
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from ipaddress import IPv4Network, IPv6Network, ip_address

from agent.kernel.fib import Fib
from agent.kernel.table import RouteChange
from agent.model import FibKey, FibRoute, NextHop
from tests.lab.realkernel import RealKernel, fresh_netns, ip

ROUTES = 100_000
GATEWAYS = {4: ("192.0.2.2", "192.0.2.3"), 6: ("fd00::2", "fd00::3")}


def routes(version: int, count: int, gateway: str) -> list[FibRoute]:
    hops = (NextHop(ip_address(gateway)),)
    if version == 4:
        return [FibRoute(IPv4Network((0x0A00_0000 + number, 32)), hops) for number in range(count)]
    return [FibRoute(IPv6Network(((0xFD01 << 112) + (number << 64), 64)), hops) for number in range(count)]


async def measured(name: str, count: int, work: Callable[[], Awaitable[object]]) -> None:
    stall = own = 0.0

    async def watch() -> None:
        nonlocal stall, own
        while True:
            at, own_at = time.perf_counter(), time.thread_time()
            await asyncio.sleep(0)
            stall, own = max(stall, time.perf_counter() - at), max(own, time.thread_time() - own_at)

    watcher = asyncio.create_task(watch())
    await asyncio.sleep(0)
    started_at, cpu_at = time.perf_counter(), time.process_time()
    await work()
    seconds, cpu = time.perf_counter() - started_at, time.process_time() - cpu_at
    watcher.cancel()
    said(name, count, seconds, cpu, f"   stall {stall * 1000:6.1f} ms, own {own * 1000:5.1f} ms")


def said(name: str, count: int, seconds: float, cpu: float, more: str = "") -> None:
    print(f"{name:42}{count / seconds / 1000:6.0f} k/s {cpu / count * 1e6:7.2f} µs CPU each{more}", flush=True)


async def kernel_alone(kernel: RealKernel, version: int, count: int) -> None:
    first, second = (routes(version, count, gateway) for gateway in GATEWAYS[version])
    table = kernel.table
    for name, changes in (
        ("add", [RouteChange(None, new) for new in first]),
        ("move to another gateway", [RouteChange(old, new) for old, new in zip(first, second, strict=True)]),
        ("dump", None),
        ("delete", [RouteChange(old, None) for old in second]),
    ):
        work = table.dump if changes is None else lambda changes=changes: table.write(changes)
        await measured(f"IPv{version} KernelRoutes {name}", count, work)


async def driver(kernel: RealKernel, version: int, count: int) -> None:
    first, second = ({route.key: route for route in routes(version, count, gw)} for gw in GATEWAYS[version])
    fib = Fib(kernel.table, clock=time.monotonic)
    await fib.resync()

    def install(wanted: Mapping[FibKey, FibRoute]) -> Callable[[], Awaitable[None]]:
        return lambda: fib.install(wanted, None)

    await measured(f"IPv{version} Fib install", count, install(first))
    await measured(f"IPv{version} Fib install, nothing changed", count, install(first))
    await measured(f"IPv{version} Fib install, other gateway", count, install(second))
    await measured(f"IPv{version} Fib resync", count, fib.resync)
    await measured(f"IPv{version} Fib prune", count, lambda: fib.prune({}, None, hold=lambda _key: False, sweep=True))
    await one_change(fib, next(iter(first.values())))


async def one_change(fib: Fib, route: FibRoute) -> None:
    times = []
    for _ in range(100):
        started_at = time.perf_counter()
        await fib.install({route.key: route}, [route.key])
        times.append(time.perf_counter() - started_at)
        await fib.prune({}, [route.key], hold=lambda _key: False, sweep=True)
    print(f"{'one route, Fib to kernel (median)':42}{sorted(times)[50] * 1e6:8.0f} µs")


async def iproute(version: int, count: int) -> None:
    first, second = (routes(version, count, gateway) for gateway in GATEWAYS[version])
    for name, verb, some in (
        ("add", "add", first),
        ("move to another gateway", "replace", second),
        ("delete", "del", second),
    ):
        lines = "".join(f"route {verb} {route.prefix} via {route.next_hops[0].gateway}\n" for route in some)
        started_at, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
        ip(f"-{version} -batch -", stdin=lines)
        seconds, after = time.perf_counter() - started_at, resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        said(f"IPv{version} ip -batch {name}", count, seconds, cpu)


async def main(count: int) -> None:
    gc.freeze()
    gc.set_threshold(100_000, 50, 1000)  # a full collection stops everything for 100 ms and more at 100,000 routes
    for version in (4, 6):
        for part in (kernel_alone, driver):
            with fresh_netns():
                kernel = RealKernel()
                await kernel.table.start(lambda: None)
                await part(kernel, version, count)
                await kernel.table.stop()
                kernel.close()
        with fresh_netns():
            RealKernel().close()
            await iproute(version, count)


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else ROUTES))
