"""`bgpilot speaker`: ExaBGP beside an agent that comes and goes.

It keeps ExaBGP running (`bgp.driver.process`), tells the agent what is wrong with it, and ends it when the agent says
that it hangs. It refuses to talk to ExaBGP, and to know peers: which ones there are is the agent's to say.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import sys
from functools import partial
from pathlib import Path
from typing import Final

from bgp.background import in_background
from bgp.driver import process
from bgp.driver.notes import Trouble, read_hung, tell_trouble
from bgp.driver.process import CONFIGURATION, SOCKET, ExaProcess
from bgp.driver.rundir import SharedError

ASK_SECONDS: Final = 1.0
"""An agent that lives has taken a connection by then."""
HUNG_LOOK_SECONDS: Final = 1.0
HUNG_LOOKS: Final = 3
"""So often in a row an ExaBGP must be said to hang before it is ended. Looks are counted, not seconds: who was stopped
together with it, as with all of the pod, hears that it goes on before he has looked again."""

_log: Final = logging.getLogger(__name__)


def prepare(run_dir: Path) -> None:
    """Make the run directory, and the configuration that ExaBGP starts with. Raises OSError, SharedError."""
    process.prepare(run_dir, keep=is_vouched_for(run_dir), beside=True)


def is_vouched_for(run_dir: Path) -> bool:
    """Whether the configuration that is there is that of an agent that lives: put in place since it has its socket.

    ExaBGP does not start with another one's: it may not be what the next agent wants, and a session that ends a second
    time before its routes are told anew costs those that routers have kept (RFC 4724 4.2).
    """
    try:
        put_at, came_at = ((run_dir / name).stat().st_mtime_ns for name in (CONFIGURATION, SOCKET))
        with socket.socket(socket.AF_UNIX) as asked:
            asked.settimeout(ASK_SECONDS)
            asked.connect(str(run_dir / SOCKET))
    except OSError:
        return False
    return put_at >= came_at


async def run_external(run_dir: Path, ended: asyncio.Event) -> None:
    """Until SIGTERM or SIGINT, or `ended`. The run directory is prepared."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    tell_trouble(run_dir, None)
    exabgp = ExaProcess(
        run_dir,
        die_with_parent=True,
        on_end=partial(_prepare_for_another, run_dir),
        on_trouble=lambda trouble: _tell_agent(run_dir, trouble),
    )
    exabgp.start()
    obeying = in_background(_end_what_hangs(exabgp, run_dir), name="hung")
    await ended.wait()
    obeying.cancel()
    await exabgp.stop()


def _prepare_for_another(run_dir: Path, reason: str) -> None:
    """ExaBGP has ended, and its agent may be no more either. On a full disk the next one starts with what is there."""
    print(f"exabgp: {reason}", file=sys.stderr)  # noqa: T201 - its log
    try:
        prepare(run_dir)
    except (OSError, SharedError) as error:
        _log.warning("cannot prepare the run directory: %s", error)


def _tell_agent(run_dir: Path, trouble: Trouble | None) -> None:
    """On a full disk it goes unsaid: ExaBGP is started again all the same."""
    try:
        tell_trouble(run_dir, trouble)
    except OSError as error:
        _log.warning("cannot tell the agent what is wrong with ExaBGP: %s", error)


async def _end_what_hangs(exabgp: ExaProcess, run_dir: Path) -> None:
    """End an ExaBGP that the agent says hangs."""
    stood = 0
    while True:
        await asyncio.sleep(HUNG_LOOK_SECONDS)
        hung = read_hung(run_dir)
        stood = stood + 1 if hung is not None and hung.instance == exabgp.instance else 0
        if hung is not None and stood >= HUNG_LOOKS:
            exabgp.kill(hung.trouble)
            stood = 0
