"""What a program and its children use: memory and processor time, from proc(5).

Memory is RSS, as `ps` shows it; pages that a program shares with its children count in each.
"""

from __future__ import annotations

import os
from pathlib import Path

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


def tree(pid: int) -> list[int]:
    """`pid` and all that descends from it."""
    found, unseen = [], [pid]
    while unseen:
        parent = unseen.pop()
        found.append(parent)
        for children in Path(f"/proc/{parent}/task").glob("*/children"):
            try:
                unseen += map(int, children.read_text().split())
            except (FileNotFoundError, ProcessLookupError):
                continue  # a thread that ended while we looked
    return found


def rss_mib(*pids: int) -> float:
    return sum(_status_kib(pid, "VmRSS") for pid in pids) / 1024


def peak_rss_mib(*pids: int) -> float:
    return sum(_status_kib(pid, "VmHWM") for pid in pids) / 1024


def cpu_seconds(*pids: int) -> float:
    """User and system time since each started."""
    return sum(_ticks(pid) for pid in pids) / TICKS_PER_SECOND


def program(pid: int) -> str:
    """Its command line."""
    return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ").strip()


def _status_kib(pid: int, name: str) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1])
    return 0  # a zombie has no memory


def _ticks(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])
