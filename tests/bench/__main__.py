"""`make bench`: measures bgpilot beside other routers in the same run; `python -m tests.bench NAME …` runs some of it.

It judges nothing: its exit code says only whether every figure could be had.
"""

from __future__ import annotations

import os
import platform
import sys
import time
from collections.abc import Callable, Mapping

from tests.bench import (
    bench_idle,
    bench_join,
    bench_learning,
    bench_planner,
    bench_scale,
    bench_service,
    bench_sync,
)
from tests.lab import procs

KERNEL_ROUTES = 50_000
KERNEL_SECONDS = 180.0


def _kernel() -> None:
    """In a process of its own: it changes its network namespace and how garbage is collected."""
    print("\nThe kernel's route path alone", flush=True)
    print(
        procs.run([sys.executable, "-m", "tests.bench.bench_kernel", str(KERNEL_ROUTES)], timeout=KERNEL_SECONDS).stdout
    )


BENCHES: Mapping[str, Callable[[], None]] = {
    "planner": bench_planner.bench,
    "sync": bench_sync.bench,
    "kernel": _kernel,
    "learning": bench_learning.bench,
    "service": bench_service.bench,
    "join": bench_join.bench,
    "idle": bench_idle.bench,
    "scale": bench_scale.bench,
}


def main(names: list[str]) -> int:
    unknown = [name for name in names if name not in BENCHES]
    if unknown:
        print(f"no such bench: {', '.join(unknown)} (there are: {', '.join(BENCHES)})", file=sys.stderr)
        return 2
    print(f"Linux {platform.release()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    print("Median (least…greatest) of several runs; a ratio below 1 means that bgpilot needs less.", flush=True)
    failed = [name for name in names or BENCHES if not _ran(name)]
    if failed:
        print(f"without figures: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def _ran(name: str) -> bool:
    """False: something did not happen in time, or a program would not run; the other benches go on."""
    busy, began_at = os.getloadavg()[0], time.monotonic()
    try:
        BENCHES[name]()
    except (AssertionError, OSError) as error:
        print(f"\n{name}: {type(error).__name__}: {error}", file=sys.stderr)
        return False
    print(f"  [{name}: {time.monotonic() - began_at:.0f} s; load of the machine before it {busy:.1f}]", flush=True)
    return True


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
