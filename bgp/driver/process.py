"""ExaBGP as a process: started through the launcher, watched, started again; and the file it is configured by.

It refuses to know peers and routes (the text of the configuration is handed in) and to talk to ExaBGP
(`bgp.driver.link`).

What it relies on (ExaBGP 5.0.15): SIGTERM closes sessions without NOTIFICATION, so that peers that know graceful
restart keep our routes. A port that cannot be bound ends ExaBGP when it starts, and is only logged on a reload. After a
reload that does not parse every later one fails too, so nothing is put in place before `validate` has passed it
(`bgp.driver.validator`).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import bgp
from bgp.background import in_background
from bgp.driver.notes import Trouble, write_private
from bgp.driver.rundir import make_run_dir
from bgp.exaconfig import configuration
from bgp.inside.bridge import instance_of
from bgp.inside.launcher import EXIT_UNUSABLE

SOCKET: Final = "speaker.sock"
CONFIGURATION: Final = "exabgp.conf"
RESTART_NEXT_SECONDS: Final = 1.0
"""After the first restart, which is at once: routers that do not help with graceful restart have nothing meanwhile."""
RESTART_MAX_SECONDS: Final = 30.0
STEADY_SECONDS: Final = 60.0
"""ExaBGP that ran for so long starts its backoff anew when it ends."""
STOP_SECONDS: Final = 1.5
"""What SIGTERM gets before SIGKILL: the agent ends within 2 s."""
SETTLED_SECONDS: Final = 3.0
"""What cannot start (no port, no configuration) has ended by then."""
LAST_WORDS_SECONDS: Final = 1.0
CANNOT_LISTEN: Final = "cannotListen"
LOG_LINE_MAX: Final = 64 * 1024
LOG_REPEAT_SECONDS: Final = 60.0
LOG_KINDS_MAX: Final = 256

_log: Final = logging.getLogger(__name__)
"""In the agent one stream and one form with its own log; in `bgpilot speaker`, which sets up none, plain lines."""
_PACKAGE: Final = Path(bgp.__file__).resolve().parent
_NUMBERS: Final = re.compile(r"[0-9a-f.:]*[0-9:][0-9a-f.:]*")
"""Addresses of both families too."""
_QUOTE: Final = re.compile(r"(invalid syntax line \d+): .*|.*md5-.*")
_CANNOT_BIND: Final = re.compile(r"can not bind to (\S+) \((.*)\)")


def bridge_command(run_dir: Path) -> list[str]:
    """`-I -S`: no site packages and no environment, which halves the time to start."""
    return [sys.executable, "-I", "-S", str(_PACKAGE / "inside" / "bridge.py"), str(run_dir / SOCKET)]


def empty_configuration(run_dir: Path) -> str:
    return configuration([], bridge=bridge_command(run_dir))


class ExaProcess:
    """Keeps one ExaBGP running. `on_end` is told each end, `on_trouble` each change of what is wrong."""

    def __init__(
        self,
        run_dir: Path,
        *,
        die_with_parent: bool,
        on_end: Callable[[str], None],
        on_trouble: Callable[[Trouble | None], None],
    ) -> None:
        self._command = launcher([*(_with_us() if die_with_parent else []), str(run_dir / CONFIGURATION)])
        self._on_end = on_end
        self._on_trouble = on_trouble
        self._process: asyncio.subprocess.Process | None = None
        self._task: asyncio.Task[None] | None = None
        self._trouble: Trouble | None = None
        self._logged: dict[str, float] = {}
        self.starts = 0

    @property
    def pid(self) -> int | None:
        return None if self._process is None else self._process.pid

    @property
    def instance(self) -> str | None:
        """Which one runs, as the bridge names it."""
        try:
            return None if self.pid is None else instance_of(self.pid)
        except OSError:  # it has just ended
            return None

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.returncode is None

    def start(self) -> None:
        self._task = in_background(self._keep(), name="exabgp")

    async def stop(self) -> None:
        """SIGTERM: sessions end without NOTIFICATION."""
        if self._task is None:
            return
        process, self._process = self._process, None
        self._task.cancel()
        if process is not None and process.returncode is None:
            _signal(process, signal.SIGTERM)
            try:
                async with asyncio.timeout(STOP_SECONDS):
                    await process.wait()
            except TimeoutError:
                _signal(process, signal.SIGKILL)
                await process.wait()
            except asyncio.CancelledError:  # no time to wait
                _signal(process, signal.SIGKILL)
                raise
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        self._task = None

    def kill(self, trouble: Trouble) -> None:
        """End an ExaBGP that hangs, whatever it is doing: it is started again, and `trouble` stands until that runs."""
        if self._process is not None and self.running:
            self._say(trouble)
            _signal(self._process, signal.SIGKILL)

    def listening(self) -> None:
        """Since the last reload no socket has been complained of."""
        self._say(None)

    async def _keep(self) -> None:
        delay = 0.0
        while True:
            started_at = time.monotonic()
            reason = await self._run()
            if time.monotonic() - started_at > STEADY_SECONDS:
                delay = 0.0
            self._on_end(reason)
            await asyncio.sleep(delay)
            delay = min(RESTART_MAX_SECONDS, max(RESTART_NEXT_SECONDS, delay * 2))

    async def _run(self) -> str:
        process = await asyncio.create_subprocess_exec(
            *self._command,
            stdin=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            env=environment(),
            limit=LOG_LINE_MAX,
        )
        self._process = process
        self.starts += 1
        steady = asyncio.get_running_loop().call_later(SETTLED_SECONDS, self._settled)
        watch = in_background(self._watch(process.stderr), name="exabgp log") if process.stderr is not None else None
        try:
            code = await process.wait()
            if watch is not None:  # the last words; a bridge that hangs must not keep us waiting for them
                await asyncio.wait([watch], timeout=LAST_WORDS_SECONDS)
        finally:
            steady.cancel()
            if watch is not None:
                watch.cancel()
        reason = f"ExaBGP ended with {f'signal {signal.Signals(-code).name}' if code < 0 else f'exit code {code}'}"
        if code and self._trouble is None:
            self._say(Trouble("speakerDown", reason, "Read its log; it is started again."))
        elif code == EXIT_UNUSABLE and self._trouble is not None:
            return self._trouble.message
        return reason

    async def _watch(self, log: asyncio.StreamReader) -> None:
        """ExaBGP's log goes on to ours; each line but once a minute, numbers and addresses apart: it repeats itself a
        lot, and has two lines for each connection that anybody makes.
        """
        while True:
            try:
                line = (await log.readline()).decode(errors="replace")
            except ValueError:  # longer than LOG_LINE_MAX; the reader has dropped it
                continue
            if not line:
                return
            line = without_quotes(line)
            self._understand(line)
            if not line.startswith("advice") and self._is_news(_NUMBERS.sub("0", line)):
                _log.warning("exabgp: %s", line.rstrip())

    def _is_news(self, kind: str) -> bool:
        now = time.monotonic()
        if now - self._logged.get(kind, float("-inf")) < LOG_REPEAT_SECONDS:
            return False
        if len(self._logged) >= LOG_KINDS_MAX:
            self._logged.clear()
        self._logged[kind] = now
        return True

    def _understand(self, line: str) -> None:
        if found := _CANNOT_BIND.search(line):
            fix = "Stop the other BGP daemon on this node, or give it other addresses: `ss -ltnp` shows who listens."
            if "requires root" in found[2]:
                fix = "Add NET_BIND_SERVICE to securityContext.capabilities.add and keep runAsUser 0."
            elif "in use" not in found[2]:
                fix = "Give the node this address, or correct the node's InternalIP."
            self._say(Trouble(CANNOT_LISTEN, f"cannot listen on {found[1]}: {found[2]}", fix))
        elif line.startswith("bgpilot: "):
            message, _, fix = line.removeprefix("bgpilot: ").strip().partition(": ")
            self._say(Trouble("exabgpUnusable", message, fix))

    def _settled(self) -> None:
        """It runs: whatever kept it from starting is over. A socket lost on a reload is another matter."""
        if self._trouble is not None and self._trouble.reason != CANNOT_LISTEN:
            self._say(None)

    def _say(self, trouble: Trouble | None) -> None:
        self._trouble = trouble
        self._on_trouble(trouble)


def without_quotes(line: str) -> str:
    """A line of ExaBGP's (5.0.15) without what it quotes of its configuration, where passwords stand."""
    return _QUOTE.sub(lambda found: found[1] or "a line of the configuration with a password is wrong", line)


def _signal(process: asyncio.subprocess.Process, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):  # it has just ended, even if `wait` does not know yet
        process.send_signal(number)


def prepare(run_dir: Path, *, keep: bool, beside: bool = False) -> None:
    """Make the run directory and a configuration without peers in it, or keep the one that is there.

    `beside`: as `write_private` has it.

    Raises OSError, SharedError.
    """
    make_run_dir(run_dir)
    if not (keep and (run_dir / CONFIGURATION).exists()):
        write_private(run_dir / CONFIGURATION, empty_configuration(run_dir), beside=beside)


def launcher(arguments: Sequence[str]) -> list[str]:
    """The command line of `bgp.inside.launcher`."""
    return [sys.executable, "-m", "bgp.inside.launcher", *arguments]


def _with_us() -> list[str]:
    return ["--die-with-parent", str(os.getpid())]


def environment() -> dict[str, str]:
    """For it: with the folder of our packages on the path, wherever the agent was started from."""
    path = os.pathsep.join(filter(None, [str(_PACKAGE.parent), os.environ.get("PYTHONPATH", "")]))
    return {**os.environ, "PYTHONPATH": path}
