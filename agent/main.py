"""The only place where rooms are connected: checks that this machine can be served, builds every room, runs the loop.

How it ends: SIGTERM or SIGINT within 2 s with exit code 0, leaving kernel routes as they are; a start that cannot be
with exit code 1 and one line that names the thing and the fix; a bug of ours with a traceback and exit code 1.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import importlib.metadata
import os
import signal
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final

import structlog

from agent.cluster.api import ApiServer
from agent.cluster.driver import Cluster
from agent.cluster.kube import ClusterConfigError
from agent.cluster.world import World
from agent.inbox import Inbox
from agent.kernel.fib import Fib
from agent.kernel.links import Links
from agent.kernel.lock import InstanceLock, LockedError, capability_advice, missing_capabilities
from agent.kernel.routes import KernelRoutes
from agent.log import set_up_logging
from agent.loop import Loop, Phase
from agent.model import FibDrifted, InterfacesChanged, Kind
from agent.plan.planner import Planner
from agent.plan.printer import describe
from agent.settings import Settings
from agent.status.lag import LoopLag
from agent.status.metrics import make_registry
from agent.status.server import Answers, ListenError, serving
from agent.status.status import Figures, Status
from bgp.launcher import UnusableError, require_version
from bgp.model import BgpEvent, SessionDown, SessionUp
from bgp.rib import Rib
from bgp.speaker import Speaker, SpeakerMode

STOP_SECONDS: Final = 1.9
"""What all rooms together get to stop; then the process ends as it is."""
GC_THRESHOLDS: Final = (100_000, 50, 1000)
"""A full table has a million long-lived objects: with Python's defaults, collections stall the loop for 100 ms."""

log = structlog.get_logger()


class StartError(Exception):
    """The agent cannot run here; the text says why and what to do."""


def run(settings: Settings) -> int:
    """`bgpilot run`: until SIGTERM. Answers with the exit code."""
    gc.set_threshold(*GC_THRESHOLDS)
    set_up_logging(log_format=settings.log_format, log_level=settings.log_level)
    try:
        with _lock_and_checks(settings):
            asyncio.run(_Agent(settings).run())
    except (StartError, LockedError, ClusterConfigError, UnusableError, ListenError) as error:
        log.error("cannot_start", reason=str(error))  # noqa: TRY400  # the text says it all, a traceback nothing
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
    _prepare_run_dir(settings.run_dir)
    with InstanceLock():
        yield


def _prepare_run_dir(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True, mode=0o755)
    except OSError as error:
        raise StartError(f"cannot make the run directory {path}: {error.strerror}. Give another --run-dir.") from error
    if not os.access(path, os.W_OK | os.X_OK):
        raise StartError(f"the run directory {path} is not writable. Mount it writable, or give another --run-dir.")
    probe = path / f".writable.{os.getpid()}"
    try:
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise StartError(
            f"the run directory {path} is not writable: {error.strerror}. Mount it writable, or give another --run-dir."
        ) from error


class _Agent:
    """All rooms of one agent."""

    def __init__(self, settings: Settings) -> None:
        clock = time.monotonic
        self._settings = settings
        self._clock = clock
        self._started_at = clock()
        self._inbox = Inbox(world=World(), rib=Rib(), clock=clock)
        self._kernel = KernelRoutes(protocol=settings.route_protocol)
        self._fib = Fib(self._kernel, clock=clock)
        self._speaker = Speaker(
            run_dir=settings.run_dir,
            mode=SpeakerMode(settings.speaker.value),
            put=self._heard,
            wake=self._inbox.wake,
            clock=clock,
        )
        self._lag = LoopLag(clock=clock)
        self._printed = ""
        self._frozen = False

    async def run(self) -> None:
        """Start from left to right, run, and stop from right to left."""
        ended = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, ended.set)
        api = await ApiServer.open(self._settings.kubeconfig)
        cluster = Cluster(api, self._inbox.put, self._settings.namespace)
        self._loop = Loop(
            node_name=self._settings.node_name,
            inbox=self._inbox,
            planner=Planner(),
            fib=self._fib,
            speaker=self._speaker,
            watch_secrets=cluster.watch_secrets,
            clock=self._clock,
            dry_run=self._settings.dry_run,
        )
        log.info("starting", version=_version(), node=self._settings.node_name, api=api.url)
        try:
            async with AsyncExitStack() as stack:
                await self._start(stack, cluster)
                async with asyncio.timeout(None) as leaving:
                    await self._serve(ended, cluster)
                    leaving.reschedule(asyncio.get_running_loop().time() + STOP_SECONDS)
        finally:
            await api.close()
        log.info("stopped")

    async def _start(self, stack: AsyncExitStack, cluster: Cluster) -> None:
        links = Links(lambda interfaces: self._inbox.put(InterfacesChanged(interfaces)))
        await links.start()
        stack.push_async_callback(links.stop)
        self._loop.after_pass(self._freeze_once)
        if self._settings.dry_run:
            self._loop.after_pass(self._print_plan)
        else:
            await self._kernel.start(lambda: self._inbox.put(FibDrifted()))
            stack.push_async_callback(self._kernel.stop)
            await stack.enter_async_context(self._serving())
            await self._speaker.start()
            stack.push_async_callback(self._speaker.stop)
        await cluster.start()
        stack.push_async_callback(cluster.stop)

    def _serving(self) -> contextlib.AbstractAsyncContextManager[None]:
        registry = make_registry(self.status, clock=self._clock, wall=time.time)
        return serving(
            Answers(self.status, clock=self._clock, registry=registry),
            socket_path=self._settings.socket_path,
            metrics_address=self._settings.metrics_address,
            health_address=self._settings.health_address,
        )

    async def _serve(self, ended: asyncio.Event, cluster: Cluster) -> None:
        """Until the signal, or until a room raises: then that is raised here."""
        tasks: set[asyncio.Future[Any]] = {
            asyncio.create_task(self._loop.run(), name="loop"),
            asyncio.create_task(self._lag.run(), name="lag"),
            asyncio.create_task(ended.wait(), name="signal"),
        }
        failed = {cluster.failed} if self._settings.dry_run else {cluster.failed, self._speaker.failed}
        done, _ = await asyncio.wait({*tasks, *failed}, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for future in done:
            future.result()

    def _heard(self, event: BgpEvent) -> None:
        match event:
            case SessionUp():
                log.info("peer_up", peer=str(event.peer), asn=event.peer_asn, hold_seconds=event.hold_seconds)
            case SessionDown():
                log.warning("peer_down", peer=str(event.peer), reason=event.reason)
            case _:
                pass
        self._inbox.put(event)

    def _freeze_once(self) -> None:
        """What the first plan is made of stays for good: the collector need not look at it ever again."""
        if not self._frozen and self._loop.phase is not Phase.LISTING:
            self._frozen = True
            gc.collect()
            gc.freeze()

    def _print_plan(self) -> None:
        text = describe(self._loop.plan)
        if self._inbox.world.complete and text != self._printed:
            print(text, flush=True)  # noqa: T201  # --dry-run: this is what it is for
            self._printed = text

    def status(self) -> Status:
        """Everything there is to know now."""
        world, loop = self._inbox.world, self._loop
        return Status(
            node=self._settings.node_name,
            version=_version(),
            started_at=self._started_at,
            phase=str(loop.phase),
            picture_complete=world.complete,
            plan=loop.plan,
            peers=self._speaker.states,
            rib=self._inbox.rib,
            outbox=self._speaker.outbox,
            fib=self._fib,
            problems=loop.problems(),
            watches=world.watches.values(),
            services=world.records(Kind.SERVICE),
            speaking_at=loop.speaking_at,
            pass_began_at=loop.pass_began_at,
            figures=Figures(
                passes=loop.figures.passes,
                plan_seconds=loop.figures.plan_seconds,
                longest_plan_seconds=loop.figures.longest_plan_seconds,
                lag_seconds=self._lag.lately,
                longest_lag_seconds=self._lag.longest,
                speaker_restarts=self._speaker.restarts,
                audit_corrected=self._speaker.audit_corrected,
            ),
            dry_run=self._settings.dry_run,
        )


def _version() -> str:
    return importlib.metadata.version("bgpilot")
