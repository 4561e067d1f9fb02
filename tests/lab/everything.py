"""`make test`: every test, each part in a pytest of its own, two of them beside each other, and one summary.

Live and cluster tests mostly wait, and neither sees the other's namespaces, so two of them share a machine; whichever
lane is free takes the next part, the long ones first. Each line says of which part it is. The run passes when every
part ran and nothing failed or was skipped.

It refuses to know what is a test or how it went: that is pytest's exit code, and what it says from `SUMMARY` on.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, STDOUT, Process
from pathlib import Path
from typing import Final, NamedTuple

LANES: Final = 2
LIVE: Final = "live and not cluster"
LIVE_FILES: Final = tuple(map(str, sorted(Path("tests/live").glob("test_*.py"))))
LIVE_PARTS: Final = 8
"""So many that no lane works on alone for long; each costs the start of a pytest."""


class Part(NamedTuple):
    """Each test is of exactly one."""

    name: str
    marked: str
    where: tuple[str, ...]


PARTS: Final = (
    Part("unit", "not live and not cluster", ("tests",)),
    Part("cluster", "cluster", ("tests",)),
    *(Part(f"live-{n}", LIVE, LIVE_FILES[n - 1 :: LIVE_PARTS]) for n in range(1, LIVE_PARTS + 1)),
    Part("live", LIVE, ("tests", "--ignore=tests/live")),
)
SUMMARY: Final = "= tests by kind ="
LINE_MAX: Final = 2**26
"""What a failed assertion may print in one line; a longer one ends the run."""
INTERRUPTED: Final = 130


class Run:
    def __init__(self) -> None:
        self._waiting = list(PARTS)
        self._running: list[Process] = []
        self._summaries: dict[str, list[str]] = {}
        self._codes: list[int] = []
        self._signals = 0

    async def all(self) -> int:
        """The exit code; each process has ended, whatever happened."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, self._interrupt)
        await asyncio.gather(*(self._lane() for _ in range(LANES)))
        for part in PARTS:
            said = self._summaries.get(part.name, ["did not come to its end"])
            print(f" {part.name} ".center(80, "="), *said, sep="\n")
        return INTERRUPTED if self._signals else int(any(self._codes))

    async def _lane(self) -> None:
        while self._waiting and not self._signals:
            await self._pytest(self._waiting.pop(0))

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
