"""The only place where rooms are connected: builds every room, runs the loop until it is told to end.

What comes before, and how it all ends, is in `agent.start`.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import gc
import importlib.metadata
import time
from contextlib import AsyncExitStack
from typing import Any, Final

from agent.cluster.api import ApiServer
from agent.cluster.driver import Cluster
from agent.cluster.events import Events
from agent.cluster.kube import ClusterConfigError
from agent.cluster.nodestate import NodeState, Report
from agent.diary import Diary
from agent.inbox import Inbox
from agent.kernel.fib import Fib
from agent.kernel.forwarded import RoutesAndRules
from agent.kernel.forwarding import Forwarding
from agent.kernel.gateways import Gateways
from agent.kernel.links import Links
from agent.log import log
from agent.loop import Loop, Phase
from agent.model import (
    DrainOrdered,
    FibDrifted,
    ForwardingChanged,
    GatewaysChanged,
    InterfacesChanged,
    Key,
    Kind,
    Node,
    Problem,
)
from agent.orders import Orders
from agent.plan.planner import Planner
from agent.plan.printer import describe
from agent.plan.steps import Steps
from agent.scenario.take import Seen, scenario_steps
from agent.settings import Settings
from agent.start import StartError
from agent.status.bulletin import Bulletin, News, Topic
from agent.status.changes import Changes
from agent.status.lag import LoopLag
from agent.status.listening import ListenError
from agent.status.metrics import make_registry
from agent.status.news import ROUTE_NOT_ADVERTISED, find_news
from agent.status.nodestate import Stamp, is_settled, node_state
from agent.status.ordering import Commands
from agent.status.server import Answers, in_turns
from agent.status.serving import serving
from agent.status.status import Figures, Status
from bgp.model import Address, Family
from bgp.speaker import Speaker

LOOK_SECONDS: Final = 2.0
"""Between two looks for what has changed, however much changes."""
CHANGES_PER_TURN: Final = 500
"""Objects looked at before the event loop gets its turn: about 2 ms."""
LEAVE_SECONDS: Final = 1.5
"""What is left of a drain gets so long when the agent is stopped."""


class Agent:
    """All rooms of one agent."""

    def __init__(self, settings: Settings, *, inbox: Inbox, speaker: Speaker, diary: Diary, started_at: float) -> None:
        """The speaker runs already (but for `--dry-run`) and puts into the inbox; the log is told to the diary."""
        clock = time.monotonic
        self._settings = settings
        self._clock = clock
        self._started_at = started_at
        self._inbox = inbox
        self._speaker = speaker
        self._diary = diary
        self._kernel = RoutesAndRules(protocol=settings.route_protocol)
        self._fib = Fib(self._kernel, clock=clock)
        self._lag = LoopLag(clock=clock, worked=time.thread_time)
        self._orders = Orders(settings.run_dir)
        self._left = asyncio.Event()
        self._passed = asyncio.Event()
        """A pass has ended since the last look for changes."""
        self._uninstalled: bool | None = None
        """As logged last."""
        self._printed = ""
        self._frozen = False
        self._version = importlib.metadata.version("bgpilot")  # now: what is on disk may be replaced while we run

    async def run(self, rooms: AsyncExitStack, ended: asyncio.Event) -> bool:
        """Start from left to right and run until `ended`; what has been started is left in `rooms`, for its stop.

        True: it was uninstalled, and nothing of it is to stay on the node. Raises StartError.
        """
        try:
            cluster = await self._start(rooms)
        except (ClusterConfigError, ListenError) as error:
            raise StartError(str(error)) from error
        await self._serve(ended, cluster)
        return self._loop.departing.uninstalled

    async def _start(self, rooms: AsyncExitStack) -> Cluster:
        api = await ApiServer.open(self._settings.kubeconfig)
        rooms.push_async_callback(api.close)
        cluster = Cluster(api, self._inbox.put, self._settings.namespace)
        self._loop = Loop(
            node_name=self._settings.node_name,
            inbox=self._inbox,
            planner=Planner(),
            fib=self._fib,
            speaker=self._speaker,
            watch_secrets=cluster.watch_secrets,
            clock=self._clock,
            api_url=api.url,
            dry_run=self._settings.dry_run,
        )
        if (text := self._orders.drain()) is not None:
            self._inbox.put(DrainOrdered(text))
        log.info("starting", version=self._version, node=self._settings.node_name, api=api.url)
        node = self._settings.node_name
        self._events = Events(api, node, self._news, clock=self._clock, wall=time.time)
        self._node_state = NodeState(api, node, self._report, clock=self._clock, wall=time.time)
        links = Links(lambda interfaces: self._inbox.put(InterfacesChanged(interfaces)))
        await links.start()
        rooms.push_async_callback(links.stop)
        gateways = Gateways(lambda gateways: self._inbox.put(GatewaysChanged(gateways)))
        await gateways.start()
        rooms.push_async_callback(gateways.stop)
        forwarding = Forwarding(lambda off: self._inbox.put(ForwardingChanged(off)))
        await forwarding.start()
        rooms.push_async_callback(forwarding.stop)
        self._loop.after_pass(self._freeze_once)
        if self._settings.dry_run:
            self._loop.after_pass(self._print_plan)
        else:
            self._loop.after_pass(self._events.look)
            self._loop.after_pass(self._node_state.look)
            self._loop.after_pass(self._passed.set)
            self._loop.after_pass(self._see_if_left)
            self._loop.after_pass(self._see_if_uninstalled)
            await self._kernel.start(lambda: self._inbox.put(FibDrifted()))
            rooms.push_async_callback(self._kernel.stop)
            await rooms.enter_async_context(self._serving())
        await cluster.start()
        rooms.push_async_callback(cluster.stop)
        rooms.push_async_callback(self._say_stopped)
        if self._settings.cleanup_on_uninstall and not self._settings.dry_run:
            cluster.watch_daemon_set(self._settings.daemon_set)
        return cluster

    def _serving(self) -> contextlib.AbstractAsyncContextManager[None]:
        registry = make_registry(
            self.status, clock=self._clock, wall=time.time, mesh_peers=self._settings.metrics_mesh_peers
        )
        return serving(
            Answers(
                self.status,
                clock=self._clock,
                registry=registry,
                commands=Commands(self._order_drain, self._reset),
                scenario=self._scenario,
                diary=self._diary,
            ),
            socket_path=self._settings.socket_path,
            metrics_address=self._settings.metrics_address,
            health_address=self._settings.health_address,
        )

    async def _serve(self, ended: asyncio.Event, cluster: Cluster) -> None:
        """Until the signal, or until a room raises: then that is raised here."""
        tasks: set[asyncio.Future[Any]] = {
            asyncio.create_task(self._loop.run(), name="loop"),
            asyncio.create_task(self._lag.run(), name="lag"),
            asyncio.create_task(self._events.run(), name="events"),
            asyncio.create_task(self._node_state.run(), name="node state"),
            asyncio.create_task(self._log_changes(), name="changes"),
            asyncio.create_task(ended.wait(), name="signal"),
        }
        failed = {cluster.failed} if self._settings.dry_run else {cluster.failed, self._speaker.failed}
        done, _ = await asyncio.wait({*tasks, *failed}, return_when=asyncio.FIRST_COMPLETED)
        if ended.is_set() and not self._settings.dry_run:
            await self._take_leave({*tasks, *failed} - done)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for future in done:
            future.result()

    async def _take_leave(self, others: set[asyncio.Future[Any]]) -> None:
        """When nobody will be here after us: routers must forget this node now, not when a restart time is over."""
        uninstalled = self._inbox.world.uninstalled
        self._loop.departing.end(self._clock(), uninstalled=uninstalled)
        if self._loop.speaking_at is None or not (uninstalled or self._loop.plan.leave is not None):
            return
        log.info("leaving", within_seconds=LEAVE_SECONDS, uninstalled=uninstalled)
        self._left.clear()  # it may have left before, and come back
        self._inbox.wake()
        left = asyncio.create_task(self._left.wait(), name="left")
        await asyncio.wait({left, *others}, timeout=LEAVE_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        left.cancel()

    def _see_if_left(self) -> None:
        if self._loop.departing.is_over and all(state.up is None for state in self._speaker.states.values()):
            self._left.set()

    def _see_if_uninstalled(self) -> None:
        world = self._inbox.world
        if world.daemon_set_seen and world.uninstalled is not self._uninstalled:
            self._uninstalled = world.uninstalled
            log.info("daemon_set_deleted" if self._uninstalled else "daemon_set_found", name=self._settings.daemon_set)

    def _order_drain(self, text: str | None) -> bool:
        before = self._orders.drain() is not None
        self._orders.keep(text)
        log.info("drain_ordered" if text is not None else "undrain_ordered", text=text)
        self._inbox.put(DrainOrdered(text))
        return before

    def _reset(self, peer: Address, families: frozenset[Family]) -> None:
        log.info("reset_ordered", peer=str(peer), soft=bool(families))
        self._speaker.reset(peer, families)

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

    async def _log_changes(self) -> None:
        """What changes without a room that does it is logged some seconds later."""
        changes = Changes()
        while True:
            await self._passed.wait()
            self._passed.clear()
            if self._loop.speaking_at is not None:
                for change in await in_turns(changes.look(self.status(), self._inbox.world), CHANGES_PER_TURN):
                    (log.warning if change.warning else log.info)(change.event, **change.keys)
            await asyncio.sleep(LOOK_SECONDS)

    def _news(self, bulletin: Bulletin) -> Steps[dict[Topic, News]] | None:
        if self._loop.speaking_at is None:
            return None
        return find_news(self.status(), self._inbox.world, tuple(bulletin.told(ROUTE_NOT_ADVERTISED)))

    def _report(self, stamp: Stamp) -> Steps[Report] | None:
        """None: there is no Node that could own it."""
        world = self._inbox.world
        own = world.get(Key(Kind.NODE, "", self._settings.node_name))
        if self._settings.dry_run or world.own_node_gone or not isinstance(own, Node) or not own.uid:
            return None
        return self._reported(own.uid, stamp)

    def _reported(self, uid: str, stamp: Stamp) -> Steps[Report]:
        status, now = self.status(), self._clock()
        view = yield from node_state(status, self._inbox.world, now, stamp)
        return Report(uid, view, is_settled(status, now))

    async def _say_stopped(self) -> None:
        await self._node_state.stop(leave_nothing=self._loop.departing.uninstalled)

    def _scenario(self) -> Steps[bytes]:
        inbox, settings = self._inbox, dataclasses.asdict(self._settings)
        return scenario_steps(
            Seen(
                picture=self._loop.picture(),
                rib=inbox.rib,
                unread=inbox.world.unread,
                status=self.status(),
                settings={name: str(value) for name, value in settings.items()},
                now=self._clock(),
            )
        )

    def _problems(self) -> frozenset[Problem]:
        of_writers = (it for it in (self._events.writing.problem, self._node_state.writing.problem) if it is not None)
        return self._loop.problems().union(of_writers)

    def status(self) -> Status:
        """Everything there is to know now."""
        world, loop = self._inbox.world, self._loop
        own = world.get(Key(Kind.NODE, "", self._settings.node_name))
        return Status(
            node=self._settings.node_name,
            version=self._version,
            started_at=self._started_at,
            phase=str(loop.phase),
            picture_complete=world.complete,
            plan=loop.plan,
            progress=loop.departing.progress,
            awaited=loop.carrying.awaited,
            peers=self._speaker.states,
            held_by_speaker=self._speaker.held,
            wanted_at=self._speaker.wanted_at,
            rib=self._inbox.rib,
            outbox=self._speaker.outbox,
            fib=self._fib,
            problems=self._problems(),
            watches=world.watches.values(),
            services=world.records(Kind.SERVICE),
            nodes=world.records(Kind.NODE),
            routers=world.records(Kind.PEER),
            advertisements=world.records(Kind.ADVERTISEMENT),
            namespaces=world.records(Kind.NAMESPACE),
            interfaces=self._inbox.interfaces,
            own_labels=dict(own.labels) if isinstance(own, Node) else None,
            changed_at=self._inbox.changed_at,
            speaking_at=loop.speaking_at,
            pass_began_at=loop.pass_began_at,
            figures=Figures(
                passes=loop.figures.passes,
                plan_seconds=loop.figures.plan_seconds,
                longest_plan_seconds=loop.figures.longest_plan_seconds,
                lag_seconds=self._lag.lately,
                longest_lag_seconds=self._lag.longest,
                longest_own_lag_seconds=self._lag.longest_own,
                tasks=len(asyncio.all_tasks()),
                speaker_restarts=self._speaker.restarts,
                audit_corrected=self._speaker.audit_corrected,
                events=self._events.writing.results,
                events_dropped=self._events.dropped,
                configurations_refused=self._speaker.configurations_refused,
                configured_at=self._speaker.configured_at,
                latencies=loop.latencies,
                tally=self._speaker.tally,
            ),
            dry_run=self._settings.dry_run,
        )
