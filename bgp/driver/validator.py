"""ExaBGP's `validate`: what it has against a configuration, before the running ExaBGP gets to see it.

Most of the time of a run goes into loading ExaBGP (0.25 of 0.3 s of CPU). So a run can begin before there is anything
to validate (`warm_up`) and waits for the name of the file on its standard input; when that is closed, it ends.

It refuses to write the file and to put it in place (`bgp.driver.peersfile`).
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bgp.driver.process import environment, launcher, without_quotes

VALIDATE_SECONDS: Final = 30.0
WARM_SECONDS: Final = 60.0
"""So long a run waits for its file; it holds 40 MB."""


class NoVerdictError(OSError):
    """Nothing is known of the file: `validate` was killed or took too long, on a machine that is short of something."""


@dataclass(frozen=True, slots=True)
class _Verdict:
    complaint: str | None


class Validator:
    """Of one ExaBGP; one question at a time."""

    def __init__(self) -> None:
        self._warm: asyncio.Task[asyncio.subprocess.Process] | None = None
        self._cooling: asyncio.TimerHandle | None = None

    def warm_up(self) -> None:
        """Begin the run that will answer the next question."""
        if self._warm is None:
            self._warm = asyncio.create_task(_begin(), name="validate")
            self._cooling = asyncio.get_running_loop().call_later(WARM_SECONDS, self._cool_down)

    async def stop(self) -> None:
        """End the run that nobody has asked anything."""
        with contextlib.suppress(OSError):  # it could not even begin
            if (process := await self._take()) is not None:
                await _end(process)

    async def complaint(self, path: Path) -> str | None:
        """Why ExaBGP would not take this file; None: it would. Raises OSError when it cannot be run, NoVerdictError."""
        verdict = await _ask(await self._take() or await _begin(), path) or await _ask(await _begin(), path)
        if verdict is None:
            raise NoVerdictError("`validate` was killed before it had an answer")
        return verdict.complaint

    async def _take(self) -> asyncio.subprocess.Process | None:
        if self._cooling is not None:
            self._cooling.cancel()
        warm, self._warm, self._cooling = self._warm, None, None
        return None if warm is None else await warm

    def _cool_down(self) -> None:
        if self._warm is not None and self._warm.done() and self._warm.exception() is None:
            with contextlib.suppress(ProcessLookupError):  # it has ended by itself
                self._warm.result().kill()


async def _begin() -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *launcher(["--validate", "-"]),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        env=environment(),
    )


async def _ask(process: asyncio.subprocess.Process, path: Path) -> _Verdict | None:
    """None: somebody has killed it, before or meanwhile; that says nothing about the file. Raises NoVerdictError."""
    try:
        async with asyncio.timeout(VALIDATE_SECONDS):
            _, said = await process.communicate(f"{path}\n".encode())
    except TimeoutError:
        raise NoVerdictError(f"no answer of `validate` within {VALIDATE_SECONDS:g} s") from None
    finally:
        await _end(process)
    if process.returncode is None or process.returncode < 0:
        return None
    return _Verdict(None if process.returncode == 0 else _complaint(said.decode(errors="replace")))


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


def _complaint(said: str) -> str:
    """The lines that say what is wrong, without what they quote of the file, which may be a password."""
    lines = [without_quotes(line.strip()) for line in said.splitlines()]
    kept = [line for line in lines if line and not line.startswith(("advice", "line "))]
    return " ".join(kept)[-500:] or "ExaBGP gave no reason"
