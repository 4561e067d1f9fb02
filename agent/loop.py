"""The one loop: take what changed, plan, and let the drivers close the difference, in the order that loses no packet.

    changes → picture → plan → fib.install → speaker.apply → fib.prune → status

A route is in the kernel before it is announced, and withdrawn before it leaves the kernel. Nothing is done before every
kind has been listed once. The loop never acts on an event: an event only changes the picture. What a driver could not
do stays with that driver, which says when to look again.

A large change comes as many passes of bounded work (`agent.inbox`), and what cannot be parted (a rule that all depends
on) is planned in steps: between two of either the event loop has a turn.
Nothing that nobody seems to want any more is swept before the last of them: the plan is not whole until then.
"""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Callable, Collection, Container, Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from typing import Final, Protocol

import structlog

from agent.carrying import Carrying, waits
from agent.comparing import Comparing
from agent.departing import Departing, told_before
from agent.farewell import Farewells
from agent.gathering import Gathering
from agent.inbox import Dirt, Inbox
from agent.kernel.fib import Fib, parts
from agent.kernel.forwarding import forwarding_problems
from agent.latencies import MEASURED_MAX, Latencies
from agent.meeting import ended, has_met_all, left_behind, mesh_in_place
from agent.model import DISCARD_METRIC, FibKey, Key, Kind, Node, Problem, object_of
from agent.plan.leaving import Departure, Progress
from agent.plan.model import NodePlan, PlanDelta
from agent.plan.planner import Dirty, Picture, Planner
from agent.plan.steps import Steps
from agent.plan.way import with_own_way
from agent.sweeping import Sweeping
from bgp.model import Address, Family, Peer, Prefix, Route, RouteKey, SpeakerPlan
from bgp.problems import SpeakerProblem

UNJUDGED_PER_TURN: Final = 10_000
"""Prefixes handed back to the inbox before the event loop gets its turn: about 3 ms."""
STEP_SECONDS: Final = 0.005
"""How long a plan is worked on before the event loop gets its turn."""
STAGE_SECONDS_MIN: Final = 0.05
"""Between two looks at whether the last withdrawals of a drain have been sent."""

log = structlog.get_logger()


class Phase(enum.StrEnum):
    """Start-up as named states (in order), then IN_SYNC ⇄ WORKING."""

    LISTING = "LISTING"
    PLANNED = "PLANNED"
    FIB_IN_PLACE = "FIB_IN_PLACE"
    SPEAKING = "SPEAKING"
    IN_SYNC = "IN_SYNC"
    WORKING = "WORKING"


class SpeakerDriver(Protocol):
    """What the loop asks of `bgp.speaker.Speaker`."""

    @property
    def in_sync(self) -> bool: ...
    @property
    def problems(self) -> Iterable[SpeakerProblem]: ...
    async def apply(
        self,
        plan: SpeakerPlan,
        *,
        peers_changed: bool,
        dirty: Iterable[RouteKey] | None,
        hold_back: Callable[[RouteKey], bool],
        end_of_rib_waits: bool,
        not_all_told: Collection[Address],
    ) -> None: ...
    def forwarding(self, *, lost: bool) -> None: ...
    def sweep(self, routes: Mapping[RouteKey, Route]) -> None: ...
    def over_at(self, peer: Address) -> float | None: ...
    def nodes_before(self, peers: Container[Address]) -> Iterable[Peer]: ...
    def may_hold(self, prefix: Prefix) -> bool: ...
    def has_told(self, key: RouteKey) -> bool: ...


@dataclass(slots=True, kw_only=True)
class PassFigures:
    """What the last passes cost, in seconds; without the turns of others."""

    passes: int = 0
    plan_seconds: float = 0.0
    longest_plan_seconds: float = 0.0


class Loop:
    """Owns nothing but the order of things; state lives in picture, planner and drivers."""

    def __init__(
        self,
        *,
        node_name: str,
        inbox: Inbox,
        planner: Planner,
        fib: Fib,
        speaker: SpeakerDriver,
        watch_secrets: Callable[[frozenset[str]], None],
        clock: Callable[[], float],
        api_url: str = "",
        dry_run: bool = False,
    ) -> None:
        """With `dry_run` the plan is made and kept up to date, and no driver is asked to do anything."""
        self.inbox = inbox
        self.phase = Phase.LISTING
        self.figures = PassFigures()
        self.latencies = Latencies()
        self.speaking_at: float | None = None
        """Monotonic second of the first time that the speaker was handed a plan."""
        self.pass_began_at: float | None = None
        """Monotonic second; None between two passes."""
        self._node_name = node_name
        self._planner = planner
        self._fib = fib
        self._speaker = speaker
        self._watch_secrets = watch_secrets
        self._clock = clock
        self._api_url = api_url
        self._dry_run = dry_run
        self._comparing = Comparing()
        self._missing: set[FibKey] = set()
        """Wanted and not in the kernel, nor held by somebody else."""
        self._said: frozenset[Problem] = frozenset()
        self._farewells = Farewells()
        self.departing = Departing()
        self.carrying = Carrying()
        self.sweeping = Sweeping()
        self._gathering = Gathering()
        self._after_pass: list[Callable[[], None]] = []

    @property
    def plan(self) -> NodePlan:
        return self._planner.plan

    def after_pass(self, call: Callable[[], None]) -> None:
        """Call `call` at the end of every pass; it must not block."""
        self._after_pass.append(call)

    async def run(self) -> None:
        """Pass after pass until cancelled."""
        while True:
            dirt = await self.inbox.take(within=self._rest())
            self.pass_began_at = self._clock()
            await self._one_pass(dirt)
            self.latencies.look(self._clock(), wanted=self._is_wanted, told=self._speaker.has_told)
            self._say_problems()
            for call in self._after_pass:
                call()
            self.pass_began_at = None

    def problems(self) -> frozenset[Problem]:
        """Everything the user should mend, from every room."""
        told = (Problem(p.reason, object_of(p.subject), p.message, p.fix) for p in self._speaker.problems)
        used = () if self.plan.identity is None else {Family.of(it) for it in self.plan.identity.addresses}
        still = forwarding_problems(self._node_name, self.inbox.not_forwarded, used)
        every = (*self.inbox.world.problems, *self.plan.problems, *self._fib.foreign, *still, *told)
        return with_own_way(every, self.plan, self._api_url)

    async def _one_pass(self, dirt: Dirt) -> None:
        # Before anything else: what is heard while this pass goes on, the next one plans.
        idle = self.sweeping.done and self.carrying.is_over and self._gathering.is_over
        synced = frozenset[Address]() if idle else self.inbox.rib.synced_peers()
        delta = await self._make_plan(dirt)
        await asyncio.sleep(0)  # drivers may have nothing to wait for
        if delta is None:
            if not self._dry_run:
                await self._look_at_kernel(dirt)
            return
        for part in parts(list(delta.unjudged), UNJUDGED_PER_TURN):
            self.inbox.touch(part)
            await asyncio.sleep(0)
        if self._dry_run:
            return
        whole = not (dirt.more or delta.unjudged)
        first = self.phase in {Phase.LISTING, Phase.PLANNED}
        if not first:  # before anything is read: what led to a next hop that is gone moves at once
            await self._fib.install(self.plan.fib, delta.fib)
            self.latencies.programmed(self._in_place(dirt, delta), dirt.heard_at, self._clock())
        everything = await self._compare_kernel(dirt, unjudged=bool(delta.unjudged)) or first
        if everything:
            await self._fib.install(self.plan.fib, None)
        self._reach(Phase.FIB_IN_PLACE)
        heard = synced if whole else frozenset[Address]()
        self._look_whether_it_carries(heard)
        self._speaker.forwarding(lost=bool(self.carrying.awaited))
        await self._speaker.apply(
            SpeakerPlan(peers=self.plan.peers, routes=self.plan.routes),
            peers_changed=delta.peers or first,
            dirty=None if first else delta.routes,
            hold_back=lambda key: waits(self.plan, self.carrying.awaited, key) or self._not_in_kernel(key),
            end_of_rib_waits=bool(self.carrying.awaited) and self.plan.leave is None,
            not_all_told=self._gathering.look(
                self._clock(),
                self.plan,
                self.inbox.world,
                kernel=self._fib.actual,
                rib=self.inbox.rib,
                synced=heard,
            ),
        )
        if self.speaking_at is None:
            self.speaking_at = self._clock()
        elif dirt.asked_at is not None:
            self.latencies.announcing(filter(self._is_wanted, islice(delta.routes, MEASURED_MAX)), dirt.asked_at)
        self._reach(Phase.SPEAKING)
        if whole and not self.sweeping.done:
            self._look_whether_to_sweep(synced, self.speaking_at)
        dirty = None if everything else delta.fib
        await self._fib.prune(self.plan.fib, dirty, hold=self._still_told, sweep=self.sweeping.done)
        await self._settle_phase(None if everything else delta.fib)

    async def _make_plan(self, dirt: Dirt) -> PlanDelta | None:
        """Bring the plan up to date; None while the picture is not whole."""
        world = self.inbox.world
        if self.phase is Phase.LISTING:
            self.inbox.forget()  # everything will be planned anew
        if not world.complete or not self.inbox.interfaces:
            return None
        if self.phase is Phase.LISTING and not self._dry_run:
            await self._fib.read()
            own = world.get(Key(Kind.NODE, "", self._node_name))
            before = told_before(self._fib.actual, own if isinstance(own, Node) else None)
            self.departing.found(before)
            self.carrying.found(told=before is not Progress.OVER)
        began_at = self._clock()
        nodes = (key.name for key in dirt.keys if key.kind is Kind.NODE)
        gone = ended(self.plan, world, self.inbox.rib, self.plan.parting.union(nodes))
        over = gone | self._over(began_at)
        told, met = self._speaker.in_sync, has_met_all(self.plan, self.inbox.rib)
        picture = self.picture(over=over, progress=self.departing.go_on(began_at, told=told, met=met))
        if self.phase is Phase.LISTING:
            parted = left_behind(world, self.inbox.rib, self._speaker.nodes_before)
            picture = replace(picture, mesh={**parted, **picture.mesh})
        steps = self._planner.steps(
            picture,
            Dirty(
                keys=dirt.keys,
                prefixes=dirt.prefixes,
                interfaces=dirt.interfaces,
                gateways=dirt.gateways,
                everything=self.phase is Phase.LISTING,
            ),
        )
        delta = await self._finish(steps)
        self._over(self._clock())  # what parts from now on has its time from now on
        self.departing.see(self.plan.leave, self._clock())
        self.inbox.damper.damping = self.plan.damping
        self._watch_secrets(self.plan.secrets)
        if self.phase is Phase.LISTING and not world.secrets_known(self.plan.secrets):
            return None
        self._reach(Phase.PLANNED)
        return delta

    def _over(self, now: float) -> frozenset[str]:
        left = self.plan.parting | self.plan.former_clients
        return self._farewells.over(left, now, replaced=bool(left) and mesh_in_place(self.plan, self.inbox.rib))

    def picture(self, *, over: frozenset[str] = frozenset(), progress: Progress | None = None) -> Picture:
        """As it is now, with what the plan remembers of itself."""
        inbox, plan = self.inbox, self.plan
        return Picture(
            self._node_name,
            inbox.world,
            inbox.rib,
            inbox.interfaces,
            inbox.gateways,
            small=plan.standpoint.small,
            mesh=plan.mesh,
            identity=plan.identity,
            written=plan.written,
            over=over,
            departure=Departure(
                ordered=inbox.drain_ordered,
                deleted=inbox.world.own_node_gone,
                ending=self.departing.ending,
                uninstalled=self.departing.uninstalled,
                progress=self.departing.progress if progress is None else progress,
            ),
        )

    async def _finish(self, steps: Steps[PlanDelta]) -> PlanDelta:
        """All of them, with a turn for the others every STEP_SECONDS."""
        took = 0.0
        while True:
            began_at = self._clock()
            try:
                while (now := self._clock()) - began_at < STEP_SECONDS:
                    next(steps)
            except StopIteration as end:
                delta: PlanDelta = end.value
                took += self._clock() - began_at
                self.figures.passes += 1
                self.figures.plan_seconds += took
                self.figures.longest_plan_seconds = max(self.figures.longest_plan_seconds, took)
                return delta
            took += now - began_at
            await asyncio.sleep(0)

    async def _look_at_kernel(self, dirt: Dirt) -> None:
        """While there is no plan: who asks is shown what is there, which stays as it is."""
        if not await self._compare_kernel(dirt, unjudged=False):
            await self._fib.read()

    async def _compare_kernel(self, dirt: Dirt, *, unjudged: bool) -> bool:
        """Read the kernel's table when it may differ from what we believe; True when it was read."""
        now = self._clock()
        self._comparing.hear(now, kernel=dirt.kernel, interfaces=dirt.interfaces)
        self._comparing.put_off(now, unjudged=unjudged, more=dirt.more)
        if not self._comparing.is_due(now):
            return False
        await self._fib.resync()
        self._comparing.done(now)
        return True

    def _in_place(self, dirt: Dirt, delta: PlanDelta) -> list[FibKey]:
        """Some of the routes that the kernel has because of what was heard."""
        wanted, actual = self.plan.fib, self._fib.actual
        some = islice(delta.fib, MEASURED_MAX) if dirt.heard_at else ()
        return [key for key in some if key in wanted and key in actual and not self._fib.is_refused(key)]

    def _is_wanted(self, key: RouteKey) -> bool:
        """Somebody is to be told of it who can be."""
        peer = self.plan.peers.get(key.peer)
        return peer is not None and peer.held is None and key in self.plan.routes

    def _look_whether_it_carries(self, synced: frozenset[Address]) -> None:
        if self.plan.leave is not None and self.departing.progress is Progress.OVER:
            self.carrying.gone()
            return
        self.carrying.look(
            self._clock(),
            self.plan,
            self.inbox.world,
            kernel=self._fib.actual,
            rib=self.inbox.rib,
            synced=synced,
        )

    def _not_in_kernel(self, key: RouteKey) -> bool:
        """The discard route of a prefix of ours is wanted and not in place: the prefix cannot be announced yet.

        Where the kernel refuses that of a single address, the address is: that packets which nobody wants go in circles
        is a smaller harm than a Service that is away.
        """
        guard = FibKey(key.prefix, DISCARD_METRIC)
        if (wanted := self.plan.fib.get(guard)) is None:
            return False
        actual = self._fib.actual.get(guard)
        in_place = actual is not None and actual.type is wanted.type
        single = key.prefix.prefixlen == key.prefix.max_prefixlen
        return not in_place and not (single and self._fib.is_refused(guard))

    def _still_told(self, key: FibKey) -> bool:
        return key.metric == DISCARD_METRIC and self._speaker.may_hold(key.prefix)

    def _look_whether_to_sweep(self, synced: frozenset[Address], since: float) -> None:
        self.sweeping.look(
            self._clock(),
            self.plan,
            since=since,
            synced=synced,
            over_at=self._speaker.over_at,
            told=self._speaker.in_sync,
        )
        if self.sweeping.narrowing:
            self._fib.narrow(self.plan.fib)
        if self.sweeping.done:
            self._speaker.sweep(self.plan.routes)

    async def _settle_phase(self, changed: Iterable[FibKey] | None) -> None:
        """`changed` None: look at every route; else at those that changed, and those that were missing before.

        One whose place somebody else holds is settled too: it is reported, and waiting is no use.
        """
        wanted, actual, conflicts = self.plan.fib, self._fib.actual, self._fib.conflicts
        looked_at = wanted if changed is None else self._missing.union(changed)
        self._missing = set()
        for part in parts(list(looked_at)):
            left = (key for key in part if key in wanted and key not in actual and key not in conflicts)
            self._missing.update(left)
            await asyncio.sleep(0)
        if self._speaker.in_sync and not self._fib.failing and not self._missing:
            self._reach(Phase.IN_SYNC)
        elif self.phase is Phase.IN_SYNC:
            self.phase = Phase.WORKING

    def _reach(self, phase: Phase) -> None:
        """Start-up states only go forward; IN_SYNC is reached again and again."""
        order = tuple(Phase)
        if phase is Phase.IN_SYNC or order.index(self.phase) < order.index(phase):
            if phase is not self.phase and self.phase is not Phase.WORKING:
                log.info("phase", phase=str(phase))
            self.phase = phase

    def _rest(self) -> float:
        """Seconds until there is something to do even when nothing happens."""
        now = self._clock()
        clocks = (self.sweeping, self._farewells, self.carrying, self._gathering)
        instants = (self._fib.next_retry_at, self.inbox.next_due_at, *(clock.next_look_at for clock in clocks))
        rests = [self._comparing.rest(now), *(at - now for at in instants if at is not None)]
        if (stage_at := self.departing.next_look_at) is not None:
            rests.append(max(stage_at - now, STAGE_SECONDS_MIN))
        return max(min(rests), 0.0)

    def _say_problems(self) -> None:
        """One line when a problem appears and one when it is gone."""
        now = self.problems()
        for problem in sorted(now - self._said, key=repr):
            log.warning(
                "problem", reason=problem.reason, subject=problem.subject, message=problem.message, fix=problem.fix
            )
        for problem in sorted(self._said - now, key=repr):
            log.info("problem_solved", reason=problem.reason, subject=problem.subject)
        self._said = now
