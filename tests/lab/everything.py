"""`make test`: every test, each part in a pytest of its own, two of them beside each other, and one summary.

Live and cluster tests mostly wait, and neither sees the other's namespaces, so two lanes of them share a machine. Each
line says of which part it is. The run passes when every part ran and nothing failed or was skipped.

It refuses to know what is a test or how it went: that is pytest's exit code, and what it says from `SUMMARY` on.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, STDOUT, Process
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

LIVE: Final = "live and not cluster"
EVERY_OTHER: Final = tuple(map(str, sorted(Path("tests/live").glob("test_*.py"))[1::2]))


class Part(NamedTuple):
    """Each test is of exactly one."""

    name: str
    marked: str
    where: tuple[str, ...]


LANES: Final = (
    (
        Part("unit", "not live and not cluster", ("tests",)),
        Part("live", LIVE, ("tests", *(f"--ignore={path}" for path in EVERY_OTHER))),
    ),
    (Part("cluster", "cluster", ("tests",)), Part("live-2", LIVE, EVERY_OTHER)),
)
SUMMARY: Final = "= tests by kind ="
LINE_MAX: Final = 2**26
"""What a failed assertion may print in one line; a longer one ends the run."""
INTERRUPTED: Final = 130


class Run:
    def __init__(self) -> None:
        self._running: list[Process] = []
        self._summaries: dict[str, list[str]] = {}
        self._codes: list[int] = []
        self._signals = 0

    async def all(self) -> int:
        """The exit code; each process has ended, whatever happened."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, self._interrupt)
        await asyncio.gather(*map(self._lane, LANES))
        for name in (part.name for lane in LANES for part in lane):
            print(f" {name} ".center(80, "="), *self._summaries.get(name, ["did not come to its end"]), sep="\n")
        return INTERRUPTED if self._signals else int(any(self._codes))

    async def _lane(self, parts: Sequence[Part]) -> None:
        for part in parts:
            if not self._signals:
                await self._pytest(part)

    async def _pytest(self, part: Part) -> None:
        # In a group of its own: Ctrl-C must reach it once, a second one would cut the cleaning up short.
        process = await asyncio.create_subprocess_exec(
            *("setpriv", "--pdeathsig", "KILL", sys.executable, "-um", "pytest", "-p", "no:cacheprovider"),
            *("--require-all", "-m", part.marked, *part.where),
            stdin=DEVNULL,
            stdout=PIPE,
            stderr=STDOUT,
            limit=LINE_MAX,
            process_group=0,
        )
        self._running.append(process)
        assert process.stdout is not None
        async for data in process.stdout:
            line = data.decode(errors="replace").rstrip("\n")
            print(f"{part.name:7} {line}", flush=True)
            if SUMMARY in line:
                self._summaries[part.name] = []
            elif part.name in self._summaries:
                self._summaries[part.name].append(line)
        self._codes.append(await process.wait())
        self._running.remove(process)

    def _interrupt(self) -> None:
        """The first time pytest may take its labs down; then their janitors have to."""
        self._signals += 1
        for process in self._running:
            process.send_signal(signal.SIGINT if self._signals == 1 else signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(asyncio.run(Run().all()))
