"""The planner alone: what one change costs among few and many objects, and what a plan from scratch costs.

Pure computation in this process; no agent, no kernel, no API. Memory is what the process grew by.
"""

from __future__ import annotations

import gc
import itertools
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterable
from ipaddress import IPv4Network

from agent.model import Applied, Gone
from agent.plan.definition import make_plan
from agent.plan.picture import Dirty, Picture
from agent.plan.planner import Planner
from bgp.model import Attributes, Path, PathsHeard, Prefix
from tests.bench import pictures, usage
from tests.bench.report import Table
from tests.lab import procs

SIZES = (10, 1_000, 10_000)
NODES = 100
CHANGES = 200
LARGE_NODES, LARGE_SERVICES = 1_000, 10_000
RUNS = 3
SCRATCH_SECONDS = 120.0
LEARNED = 20_000
PREFIXES_PER_PASS = 2_000
MICROSECONDS = 1e6


def bench() -> None:
    table = Table(f"One change in Planner.update, {NODES} nodes, one router", *(f"{size:,} services" for size in SIZES))
    for size in SIZES:
        who = f"{size:,} services"
        for what, seconds in _one_change(size).items():
            table.add(what, "µs", seconds * MICROSECONDS, who=who)
    table.show()
    table = Table(f"The first plan: {LARGE_NODES:,} nodes, {LARGE_SERVICES:,} services, and learned routes")
    for _ in range(RUNS):  # each in a process that has done nothing yet
        done = procs.run([sys.executable, "-m", __name__], timeout=SCRATCH_SECONDS)
        for what, unit, figure in json.loads(done.stdout):
            table.add(what, unit, figure)
    table.show()


def _one_change(services: int) -> dict[str, float]:
    """What → median seconds."""
    picture = pictures.cluster(NODES, services)
    pictures.hear_mesh(picture.rib, NODES)  # type: ignore[arg-type]
    pictures.hear_router(picture.rib, LEARNED)  # type: ignore[arg-type]
    planner = Planner()
    planner.update(picture, Dirty(everything=True))
    gc.collect()
    gc.freeze()
    figures = {
        "endpoints move to another node": _timed(planner, picture, _moves(picture, services)),
        "a service comes, and goes": _timed(planner, picture, _services(picture, services)),
        "a node comes, and goes": _timed(planner, picture, _nodes(picture)),
        "one route is heard, and withdrawn": _timed(planner, picture, _routes(picture)),
    }
    gc.unfreeze()
    return figures


def _timed(planner: Planner, picture: Picture, changes: Iterable[Callable[[], Dirty]]) -> float:
    seconds = []
    for change in changes:
        dirty = change()
        began_at = time.perf_counter()
        planner.update(picture, dirty)
        seconds.append(time.perf_counter() - began_at)
    return statistics.median(seconds)


def _apply(picture: Picture, change: Applied | Gone) -> Callable[[], Dirty]:
    return lambda: Dirty(keys=picture.world.apply(change))  # type: ignore[attr-defined]


def _moves(picture: Picture, services: int) -> Iterable[Callable[[], Dirty]]:
    for number, target in zip(itertools.cycle(range(services)), range(CHANGES), strict=False):
        moved = pictures.slice_of(number, target % NODES, (target + 7) % NODES)
        yield _apply(picture, Applied(pictures.key_of(moved), moved))


def _services(picture: Picture, services: int) -> Iterable[Callable[[], Dirty]]:
    for number in range(services, services + CHANGES // 2):
        new = pictures.service(number)
        yield _apply(picture, Applied(pictures.key_of(new), new))
        yield _apply(picture, Gone(pictures.key_of(new)))


def _nodes(picture: Picture) -> Iterable[Callable[[], Dirty]]:
    for number in range(NODES, NODES + CHANGES // 2):
        new = pictures.node(number)
        yield _apply(picture, Applied(pictures.key_of(new), new))
        yield _apply(picture, Gone(pictures.key_of(new)))


def _routes(picture: Picture) -> Iterable[Callable[[], Dirty]]:
    path = Path(pictures.ROUTER, pictures.ROUTER, Attributes(as_path=(pictures.ROUTER_ASN,)))
    for prefix in itertools.islice(IPv4Network("50.0.0.0/8").subnets(new_prefix=24), CHANGES // 2):
        yield _hear(picture, PathsHeard(pictures.ROUTER, (), ((path, (prefix,)),)))
        yield _hear(picture, PathsHeard(pictures.ROUTER, (prefix,), ()))


def _hear(picture: Picture, event: PathsHeard) -> Callable[[], Dirty]:
    return lambda: Dirty(prefixes=frozenset[Prefix](picture.rib.apply(event, 0.0)))  # type: ignore[attr-defined]


def _from_scratch() -> list[tuple[str, str, float]]:
    picture = pictures.cluster(LARGE_NODES, LARGE_SERVICES)
    pictures.hear_mesh(picture.rib, LARGE_NODES)  # type: ignore[arg-type]
    gc.collect()
    figures = []
    before = usage.rss_mib(os.getpid())
    began_at = time.perf_counter()
    planner = Planner()
    planner.update(picture, Dirty(everything=True))
    figures.append(("Planner, the first update", "ms", (time.perf_counter() - began_at) * 1000))
    figures.append(("  memory for it", "MiB", usage.rss_mib(os.getpid()) - before))
    began_at = time.perf_counter()
    make_plan(picture)
    figures.append(("make_plan, the definition", "ms", (time.perf_counter() - began_at) * 1000))
    pictures.hear_router(picture.rib, LEARNED)  # type: ignore[arg-type]
    learned = iter([prefix for prefix in picture.rib.prefixes() if prefix.subnet_of(pictures.LEARNED_NETWORK)])
    passes = []
    while chunk := frozenset(itertools.islice(learned, PREFIXES_PER_PASS)):
        began_at = time.perf_counter()
        planner.update(picture, Dirty(prefixes=chunk))
        passes.append((time.perf_counter() - began_at) / len(chunk))
    figures.append(("each further route heard, 2,000 a pass", "µs", statistics.median(passes) * MICROSECONDS))
    return figures


if __name__ == "__main__":
    print(json.dumps(_from_scratch()))
