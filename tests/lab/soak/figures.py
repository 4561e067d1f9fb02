"""What the processes use: memory, file descriptors, tasks; and by how much that of one process has grown.

Only what lives on can be said to grow: processes are known by their pid.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from agent.settings import SOCKET_NAME
from tests.lab.soak.site import Site
from tests.lab.soak.state import Who

MEMORY_GROWTH = 1.05
RESIDENT = re.compile(r"^VmRSS:\s+(\d+) kB$", re.MULTILINE)
TASKS = re.compile(r"^bgpilot_event_loop_tasks (\S+)$", re.MULTILINE)


class Used(NamedTuple):
    pid: int
    memory_kb: int
    descriptors: int
    tasks: int
    """0 for ExaBGP, which has no such thing."""


Usage = Mapping[str, Used]
"""By process."""


def look(site: Site) -> Usage:
    found = {}
    for node in sorted(site.state.machines):
        agent = site.agent_process(node).pid
        found[f"{Who.AGENT} of node-{node}"] = used(agent, tasks=_tasks(site, node))
        if (exabgp := site.exabgp(node)) is not None:
            found[f"{Who.EXABGP} of node-{node}"] = used(exabgp)
    return found


def used(pid: int, *, tasks: int = 0) -> Used:
    memory = RESIDENT.search(Path(f"/proc/{pid}/status").read_text())
    assert memory is not None
    return Used(pid, int(memory[1]), len(list(Path(f"/proc/{pid}/fd").iterdir())), tasks)


def least(looks: list[Usage]) -> Usage:
    """Of several looks in a row: what a question that is just being answered takes does not count."""
    return {
        name: Used(
            last.pid,
            *(min(column) for column in zip(*(look[name][1:] for look in looks if name in look), strict=True)),
        )
        for name, last in looks[-1].items()
    }


def grown(before: Usage, now: Usage, *, memory: bool) -> list[str]:
    """What each process that has lived on uses more than it may."""
    found = []
    for name, (then, here) in lived_on(before, now).items():
        if memory and here.memory_kb > then.memory_kb * MEMORY_GROWTH:
            found.append(f"{name}: {then.memory_kb} kB, now {here.memory_kb} kB")
        if here.descriptors > then.descriptors:
            found.append(f"{name}: {then.descriptors} file descriptors, now {here.descriptors}")
        if here.tasks > then.tasks:
            found.append(f"{name}: {then.tasks} tasks, now {here.tasks}")
    return found


def lived_on(before: Usage, now: Usage) -> Mapping[str, tuple[Used, Used]]:
    both = {name: (before[name], now[name]) for name in before.keys() & now.keys()}
    return {name: pair for name, pair in sorted(both.items()) if pair[0].pid == pair[1].pid}


def _tasks(site: Site, node: int) -> int:
    run_dir = site.cluster.agent(site.lab.node(node)).run_dir
    text = (
        site.lab.node(node).run(["curl", "-sS", "--unix-socket", str(run_dir / SOCKET_NAME), "http://x/metrics"]).stdout
    )
    found = TASKS.search(text)
    assert found is not None, text
    return int(float(found[1]))
