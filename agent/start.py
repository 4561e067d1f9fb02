"""What comes before the rooms: that this machine can be served, the lock, ExaBGP; then the rooms are loaded and run.

Client libraries are most of an agent's start (0.6 of 1 s of CPU), and ExaBGP takes nearly as long. So it is started as
soon as nothing speaks against it, and starts on another core while `agent.main` is loaded here. It has no peer until
the first plan: that it runs early changes nothing for anybody.

It refuses to connect rooms, and imports at its top only what must be there before ExaBGP.

How it ends: SIGTERM or SIGINT within 2 s with exit code 0, leaving kernel routes as they are, unless its DaemonSet is
deleted and it is to clean up then (`CLEANUP_SECONDS` more); a start that cannot be
with exit code 1 and one line that names the thing and the fix; a bug of ours, wherever it raises (`Bugs`), with
one line that has the traceback and exit code 1.

Invariant: an agent that does not hold the lock of its network namespace has started nothing and written nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import importlib
import os
import signal
import time
from collections.abc import Iterable, Iterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from agent.bugs import OWN_BUG, Bugs, OwnBugError
from agent.cluster.world import World
from agent.diary import Diary
from agent.inbox import Inbox
from agent.kernel.lock import InstanceLock, LockedError, capability_advice, missing_capabilities
from agent.log import log, set_up_logging
from agent.settings import Settings
from bgp.driver.rundir import SharedError, make_run_dir
from bgp.inside.launcher import UnusableError, require_version
from bgp.inside.secrecy import keep_memory
from bgp.model import BgpEvent, PeerRemoved, SessionDown, SessionUp
from bgp.rib import Rib
from bgp.speaker import Speaker, SpeakerMode

STOP_SECONDS: Final = 1.9
"""What all rooms together get to stop; then the process ends as it is."""
CLEANUP_SECONDS: Final = 3.0
"""What an agent that was uninstalled gets on top of that, and of what taking leave takes, to empty the kernel's tables:
the pod has 10 s for all containers."""
CLEANUP_FIX: Final = "Run `bgpilot cleanup` on the node."
CLEANUP_TOLD_MAX: Final = 10
GC_THRESHOLDS: Final = (5_000, 10, 100)
"""A full table has a million long-lived objects: with Python's defaults collections stall the loop for 100 ms, with a
larger first threshold each of the small ones does for 20 ms."""
LOADED_IN_TURN: Final = ("aiohttp", "agent.cluster.kube", "agent.kernel.links", "agent.status.metrics", "agent.main")
"""What is loaded for `agent.main`, the slow ones by themselves: between two of them a signal is heard."""
TURNS: Final = 3
"""Of the event loop between two of them: a signal that has come is handled in the second, ExaBGP is started in the
first."""


class StartError(Exception):
    """The agent cannot run here; the text says why and what to do."""


def run(settings: Settings) -> int:
    """`bgpilot run`: until SIGTERM. Answers with the exit code."""
    gc.set_threshold(*GC_THRESHOLDS)
    keep_memory()
    diary = Diary(f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%fZ}")
    set_up_logging(log_format=settings.log_format, log_level=settings.log_level, hear=diary.hear)
    try:
        with _lock_and_checks(settings):
            asyncio.run(_run(settings, diary))
    except (StartError, LockedError, UnusableError) as error:
        log.error("cannot_start", reason=str(error))  # the text says it all, a traceback nothing
        return 1
    except OwnBugError:  # logged when it happened
        return 1
    except Exception:  # noqa: BLE001  # the top of main: our own bug
        log.exception(OWN_BUG)
        return 1
    return 0


@contextlib.contextmanager
def _lock_and_checks(settings: Settings) -> Iterator[None]:
    """What must hold before anything is touched."""
    if settings.dry_run:
        yield
        return
    if missing := missing_capabilities():
        raise StartError(capability_advice(missing))
    require_version()
    with InstanceLock():
        _prepare_run_dir(settings.run_dir)
        yield


def _prepare_run_dir(path: Path) -> None:
    try:
        make_run_dir(path)
    except SharedError as error:
        raise StartError(str(error)) from error
    except OSError as error:
        raise StartError(f"cannot make the run directory {path}: {error.strerror}. Give another --run-dir.") from error
    if not os.access(path, os.W_OK | os.X_OK):
        raise StartError(f"the run directory {path} is not writable. Mount it writable, or give another --run-dir.")
    probe = path / ".writable"
    try:
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise StartError(
            f"the run directory {path} is not writable: {error.strerror}. Mount it writable, or give another --run-dir."
        ) from error


async def _run(settings: Settings, diary: Diary) -> None:
    """ExaBGP first, then everything else; and all of it stops in the other order."""
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    bugs = Bugs(ended.set)
    loop.set_exception_handler(bugs.happened)
    started_at = time.monotonic()
    inbox = Inbox(world=World(settings.node_name), rib=Rib(), clock=time.monotonic)
    speaker = Speaker(
        run_dir=settings.run_dir,
        mode=SpeakerMode(settings.speaker.value),
        put=lambda event: _heard(event, inbox),
        wake=inbox.wake,
        clock=time.monotonic,
    )
    rooms = AsyncExitStack()
    uninstalled = False
    try:
        if not settings.dry_run:
            await speaker.start()
            rooms.push_async_callback(speaker.stop)
        if await load(LOADED_IN_TURN, ended):
            from agent.main import Agent  # noqa: PLC0415  # just loaded

            gc.freeze()  # the first collection is soon: it need not look at what modules are made of
            agent = Agent(settings, inbox=inbox, speaker=speaker, diary=diary, started_at=started_at)
            uninstalled = await agent.run(rooms, ended)
    finally:
        await stop_all(rooms, within=STOP_SECONDS)
    if bugs.found:
        raise OwnBugError
    if uninstalled:
        await _clean_up(settings)
    log.info("stopped")


async def _clean_up(settings: Settings) -> None:
    """Nobody writes any more: the rooms have stopped, and the lock is still ours."""
    from agent.cleanup import clean_up  # noqa: PLC0415  # for this end only

    try:
        async with asyncio.timeout(CLEANUP_SECONDS):
            done = await clean_up(protocol=settings.route_protocol, run_dir=settings.run_dir)
    except TimeoutError:
        log.error("cleanup_incomplete", reason=f"not done within {CLEANUP_SECONDS:g} s", fix=CLEANUP_FIX)
        return
    log.info("cleaned_up", removed=len(done.removed))
    if done.refused:
        log.error("cleanup_incomplete", reason="; ".join(done.refused[:CLEANUP_TOLD_MAX]), fix=CLEANUP_FIX)


async def load(modules: Iterable[str], ended: asyncio.Event) -> bool:
    """Import them, unless it ends before. False: it ended."""
    for name in modules:
        for _ in range(TURNS):
            await asyncio.sleep(0)
        if ended.is_set():
            return False
        importlib.import_module(name)
    return True


async def stop_all(rooms: AsyncExitStack, *, within: float) -> None:
    """The last that was started is the first to stop; what takes too long is left as it is."""
    try:
        async with asyncio.timeout(within) as bound:
            await rooms.aclose()
    except TimeoutError:
        if not bound.expired():
            raise
        log.warning("stopped_late", within_seconds=within)


def _heard(event: BgpEvent, inbox: Inbox) -> None:
    match event:
        case SessionUp():
            log.info("peer_up", peer=str(event.peer), asn=event.peer_asn, hold_seconds=event.hold_seconds)
        case SessionDown(was_up=False):  # once for each reason: a peer may be away for days
            log.warning("peer_attempt_failed", peer=str(event.peer), reason=event.reason)
        case SessionDown():
            log.warning("peer_down", peer=str(event.peer), reason=event.reason)
        case PeerRemoved():  # not wanted any more, held, or wanted otherwise: a session that was up has ended
            log.info("peer_removed", peer=str(event.peer), replaced=event.replaced)
        case _:
            pass
    inbox.put(event)
