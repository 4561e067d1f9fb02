"""`make bench`: measures bgpilot beside other routers in the same run; `python -m tests.bench NAME …` runs some of it."""

from __future__ import annotations

import os
import platform
import sys
import time
from collections.abc import Callable, Mapping

from tests.bench import bench_learning

BENCHES: Mapping[str, Callable[[], None]] = {
    "learning": bench_learning.bench,
}


def main(names: list[str]) -> int:
    unknown = [name for name in names if name not in BENCHES]
    if unknown:
        print(f"no such bench: {', '.join(unknown)} (there are: {', '.join(BENCHES)})", file=sys.stderr)
        return 2
    began_at = time.monotonic()
    print(f"Linux {platform.release()}, {os.cpu_count()} cores, Python {platform.python_version()}", flush=True)
    print("Median (least…greatest); a ratio below 1 means that bgpilot needs less.", flush=True)
    for name in names or BENCHES:
        BENCHES[name]()
    print(f"{time.monotonic() - began_at:.0f} s in all")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
