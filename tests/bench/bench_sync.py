"""The first sync of a large cluster: 5,000 Nodes as a kubelet writes them (13 kB each), until the picture is whole.

The agent's cluster room alone, in a process of its own, against the embedded API server. How long it takes is mostly
the server's time; what counts is processor time, memory and the longest stall of the event loop.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from agent.cluster.api import ApiServer
from agent.cluster.driver import Cluster
from agent.cluster.world import World
from agent.model import ClusterChange, Kind
from tests.bench import usage
from tests.bench.report import Table
from tests.lab import procs
from tests.lab.api import EmbeddedApi

NODES = 5_000
RUNS = 3
IMAGES = 50
TICK_SECONDS = 0.001
SYNC_SECONDS = 120.0


def bench() -> None:
    table = Table(f"First sync of {NODES:,} Nodes")
    with EmbeddedApi() as api, TemporaryDirectory(prefix="bgpilot-bench-") as folder:
        kubeconfig = api.kubeconfig(Path(folder) / "kubeconfig")
        size = 0
        for number in range(NODES):
            thing = _node(number)
            size += len(json.dumps(thing))
            api.apply(thing)
        table.add("JSON of it", "MiB", size / (1 << 20))
        for _ in range(RUNS):
            done = procs.run([sys.executable, "-m", __name__, kubeconfig], timeout=SYNC_SECONDS)
            for what, unit, figure in json.loads(done.stdout):
                table.add(what, unit, figure)
    table.show()


async def _sync(kubeconfig: Path) -> list[tuple[str, str, float]]:
    world, whole, longest = World(), asyncio.Event(), 0.0

    def put(change: ClusterChange) -> None:
        world.apply(change)
        if world.complete:
            whole.set()

    async def tick() -> None:
        nonlocal longest
        while True:
            began_at = time.perf_counter()
            await asyncio.sleep(TICK_SECONDS)
            longest = max(longest, time.perf_counter() - began_at - TICK_SECONDS)

    api = await ApiServer.open(kubeconfig)
    cluster, ticking = Cluster(api, put, "bgpilot"), asyncio.create_task(tick())
    gc.collect()
    me = os.getpid()
    memory, cpu, began_at = usage.rss_mib(me), time.process_time(), time.perf_counter()
    await cluster.start()
    await asyncio.wait_for(whole.wait(), SYNC_SECONDS)
    took, cpu = time.perf_counter() - began_at, time.process_time() - cpu
    found = len(world.records(Kind.NODE))
    if found != NODES:
        raise RuntimeError(f"{found} Nodes instead of {NODES}")
    figures = [
        ("until the picture is whole", "ms", took * 1000),
        ("processor time", "ms", cpu * 1000),
        ("memory before", "MiB", memory),
        ("memory after", "MiB", usage.rss_mib(me)),
        ("memory at most", "MiB", usage.peak_rss_mib(me)),
        ("longest stall of the event loop", "ms", longest * 1000),
    ]
    ticking.cancel()
    await cluster.stop()
    await api.close()
    return figures


def _node(number: int) -> dict[str, Any]:
    """As large as the real thing: most of a Node is its list of images."""
    digest = f"{number:064x}"
    images = [
        {"names": [f"registry.example/team-{image}/app@sha256:{digest}", f"registry.example/app:{image}"]}
        | {"sizeBytes": 100_000_000 + image}
        for image in range(IMAGES)
    ]
    condition = {"status": "False", "lastHeartbeatTime": "2026-01-01T00:00:00Z", "message": "kubelet has no pressure"}
    kinds = ("MemoryPressure", "DiskPressure", "PIDPressure", "Ready")
    address = f"172.{16 + number // 65536}.{number // 256 % 256}.{number % 256}"
    cidr = f"10.{128 + number // 256}.{number % 256}.0/24"
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": f"node-{number}",
            "creationTimestamp": "2026-01-01T00:00:00Z",
            "labels": {f"example.io/label-{label}": f"value-{number}" for label in range(20)},
            "annotations": {f"example.io/annotation-{which}": "x" * 100 for which in range(20)},
        },
        "spec": {"podCIDR": cidr, "podCIDRs": [cidr]},
        "status": {
            "addresses": [{"type": "InternalIP", "address": address}],
            "conditions": [{"type": kind, **condition} for kind in kinds],
            "images": images,
        },
    }


if __name__ == "__main__":
    print(json.dumps(asyncio.run(_sync(Path(sys.argv[1])))))
