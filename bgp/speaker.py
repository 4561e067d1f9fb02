"""The driver of ExaBGP: makes its peers and routes what the plan says, and hands over what comes from peers.

    apply(plan) ─ peers ─→ Upkeep ─→ configuration file, validate, reload ─────────────┐
                └ routes → Telling ─→ Outbox ─→ commands ─→ Link ─→ socket ─→ bridge ─→ ExaBGP
    put(event) ←─ Upkeep ←─ Sessions ←─ JSON events ←────── Link ←─ socket ←─ bridge ←─────┘

It refuses to plan, to judge routes, and to wait in `apply` for ExaBGP. It raises for nothing that ExaBGP does: what
fails is kept, retried and shown (`problems`, `failing`).

Invariants:
- A route held back is neither announced nor changed: what a peer is told of it stays.
- A peer that is held is told nothing, and is not in ExaBGP's configuration. Besides those that the plan holds, these
  are the ones that have told more prefixes than they may (`held`).
- One bad peer never stops the others: what ExaBGP would not take is left out, and said (`problems`).
- After a start of the agent: read back what is told, correct it, ask every peer for its routes again. An agent that
  restarts with nothing changed sends nothing but ROUTE-REFRESH.
- What was reflected before the agent's start stays told until the plan says something about it, or all peers have told
  all they have (`sweep`).
"""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Callable, Collection, Container, Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Final

from bgp import exaconfig
from bgp.driver.chores import RETRY_SECONDS
from bgp.driver.upkeep import SILENT, SPEAKER_SILENT, Upkeep
from bgp.limits import Limits
from bgp.model import (
    Address,
    BgpEvent,
    Family,
    Held,
    PathsHeard,
    Peer,
    PeerRemoved,
    PeerState,
    Prefix,
    Route,
    RouteKey,
    SessionUp,
    SpeakerPlan,
)
from bgp.outbox import Outbox
from bgp.problems import SpeakerProblem, lacks, malformed, near_limit, over_limit
from bgp.retry import Failing
from bgp.tally import Tally

AUDIT_SECONDS: Final = 300.0
KEYS_PER_TURN: Final = 250
"""Routes taken over before the event loop gets its turn: about 4 ms."""


class SpeakerMode(enum.StrEnum):
    CHILD = "child"
    EXTERNAL = "external"
    """ExaBGP is started by `bgpilot speaker` and outlives the agent."""


class Speaker:
    def __init__(
        self,
        *,
        run_dir: Path,
        mode: SpeakerMode,
        put: Callable[[BgpEvent], None],
        wake: Callable[[], None],
        clock: Callable[[], float],
        audit_seconds: float = AUDIT_SECONDS,
        retry_seconds: float = RETRY_SECONDS,
    ) -> None:
        """`put` takes what comes from peers, in order; `wake` is called when something here has changed."""
        self._mode = mode
        self._put = put
        self._wake = wake
        self._configured = 0
        self._not_taken: str | None = None
        self.configurations_refused = 0
        """Each time for another reason."""
        self.configured_at: float | None = None
        """Monotonic second of the last time that ExaBGP took a configuration."""
        self._clock = clock
        self._limits = Limits()
        self._limited: Mapping[Address, Held] = {}
        self._next_try: asyncio.TimerHandle | None = None
        self._upkeep = Upkeep(
            run_dir=run_dir,
            child=mode is SpeakerMode.CHILD,
            put=self._hear,
            wake=self._woken,
            clock=clock,
            audit_seconds=audit_seconds,
            retry_seconds=retry_seconds,
            before_correcting=self._keep,
        )
        self._peers: dict[Address, Peer] | None = None
        self._forwarding_lost = False
        self._refused: tuple[SpeakerProblem, ...] = ()
        self._held: frozenset[Address] = frozenset()
        self._held_back: set[RouteKey] = set()
        self._inherited: set[RouteKey] = set()
        """What ExaBGP held when the agent started, reflected from others, until the plan has it or `sweep` gives it up.
        """
        self._inheriting = True
        """Until the table has been read once."""
        self._disowned: set[RouteKey] | None = None
        """While what was read is gone through: what the plan has meanwhile said must not be told."""
        self._swept = False
        self._malformed: dict[Address, PathsHeard] = {}
        """The first UPDATE of each session that was treated as a withdrawal."""

    def _woken(self) -> None:
        if (times := self._upkeep.sessions.configured) != self._configured:
            self._configured, self.configured_at = times, self._clock()
        if (why := self._upkeep.refused) != self._not_taken:
            self._not_taken = why
            self.configurations_refused += why is not None
        self._wake()

    async def start(self) -> None:
        """Raises OSError when the run directory cannot be written."""
        await self._upkeep.start()

    async def stop(self) -> None:
        """Within 2 s. A child ends without NOTIFICATION; an external ExaBGP goes on as it is."""
        if self._next_try is not None:
            self._next_try.cancel()
        await self._upkeep.stop()

    async def apply(
        self,
        plan: SpeakerPlan,
        *,
        peers_changed: bool,
        dirty: Iterable[RouteKey] | None,
        hold_back: Callable[[RouteKey], bool],
        end_of_rib_waits: bool = False,
        not_all_told: Collection[Address] = (),
    ) -> None:
        """Take over the plan; nothing here waits for ExaBGP. `dirty` None: compare everything.

        A route held back is not announced (nor changed) yet, and asked for again at the next call. With
        `end_of_rib_waits` End-of-RIB to its peer comes after it, or the peer would drop what it has of it from before.
        To those in `not_all_told` it is not sent yet: there are routes to come.
        """
        turned: frozenset[Address] = frozenset()
        self._limits.expire(self._clock())
        judged = peers_changed or self._peers is None or self._limits.held != self._limited
        if judged:
            turned = self._take_peers(plan.peers)
        # Spelled out while it is gone through, and never all for nothing: a reflector's plan has a million.
        keys: Iterable[RouteKey]
        if dirty is None:
            keys = chain(self._asked(), plan.routes)
        else:
            keys = chain(self._asked(but=plan.peers) if judged else (), tuple(self._held_back), dirty)
        await self._take_routes(keys, plan.routes, hold_back, pumping=dirty is not None)
        if turned and dirty is not None:
            await self._take_routes(plan.routes, plan.routes, hold_back, only=turned)
        waiting = {key.peer for key in self._held_back} if end_of_rib_waits else set[Address]()
        self.outbox.put_off_end_of_rib(waiting.union(not_all_told))
        if judged:
            self._hand_over_peers()
        self._upkeep.telling.pump()

    def forwarding(self, *, lost: bool) -> None:
        """Whether OPENs to routers say from now on that what we forwarded by is lost (RFC 4724 3); at first, not."""
        if lost != self._forwarding_lost:
            self._forwarding_lost = lost
            self._hand_over_peers()

    def _hand_over_peers(self) -> None:
        if self._peers is None:
            return
        peers = self._peers
        if self._forwarding_lost:
            peers = {address: replace(peer, forwarding_lost=not peer.mesh) for address, peer in peers.items()}
        self._upkeep.take_peers(peers)

    async def _take_routes(
        self,
        keys: Iterable[RouteKey],
        routes: Mapping[RouteKey, Route],
        hold_back: Callable[[RouteKey], bool],
        *,
        only: Container[Address] | None = None,
        pumping: bool = False,
    ) -> None:
        """`pumping`: tell meanwhile, each prefix as a whole, so that one command tells it to many peers."""
        last: Prefix | None = None
        due = False
        for count, key in enumerate(keys, 1):
            if due and key.prefix != last:
                self._upkeep.telling.pump()
                due = False
            last = key.prefix
            if only is None or key.peer in only:
                self._take_route(key, routes, hold_back)
            if count % KEYS_PER_TURN == 0:
                await asyncio.sleep(0)
                due = pumping

    def _take_route(
        self, key: RouteKey, routes: Mapping[RouteKey, Route], hold_back: Callable[[RouteKey], bool]
    ) -> None:
        route = None if key.peer in self._held else routes.get(key)
        if self._inherited:
            self._inherited.discard(key)
        if route is None and self._disowned is not None:
            self._disowned.add(key)
        if route is not None and hold_back(key):
            self._held_back.add(key)
            return
        if self._held_back:
            self._held_back.discard(key)
        self._want(key, route)

    def _take_peers(self, peers: Mapping[Address, Peer]) -> frozenset[Address]:
        """Answers with the peers that are held from now on, or are not held any more."""
        free = {address: peer for address, peer in peers.items() if peer.held is None}  # others are not configured
        refused = {address: why for address, peer in free.items() if (why := exaconfig.refusal(peer)) is not None}
        self._refused = tuple(
            SpeakerProblem("peerRefused", peers[address].name, why, "Correct it; the other peers are not affected.")
            for address, why in refused.items()
        )
        self._peers = {address: peer for address, peer in peers.items() if address not in refused}
        self._limit(self._peers)
        held = frozenset(address for address, peer in self._peers.items() if peer.held is not None)
        before, self._held = self._held, held
        return before ^ held

    def _limit(self, peers: dict[Address, Peer]) -> None:
        """Hold those that have told too much, until they may try again."""
        for event in self._limits.configure(peers, self._clock()):
            self._put(event)
        self._upkeep.repeat(self._limits.uncounted)
        self._limited = self._limits.held
        for address, held in self._limited.items():
            if peers[address].held is None:
                peers[address] = replace(peers[address], held=held)
        if self._next_try is not None:
            self._next_try.cancel()
            self._next_try = None
        if (at := self._limits.next_expiry_at) is not None:
            self._next_try = asyncio.get_running_loop().call_later(max(0.0, at - self._clock()), self._wake)

    def _hear(self, event: BgpEvent) -> None:
        match event:
            case PathsHeard(peer=peer, malformed=why) if why and peer not in self._malformed:
                self._malformed[peer] = event
                self._wake()
            case SessionUp(peer=peer) | PeerRemoved(peer=peer):
                self._malformed.pop(peer, None)
            case _:
                pass
        for meant in self._limits.hear(event, self._clock()):
            self._put(meant)
        if len(self._limits.exceeded) > len(self._limited):
            self._wake()

    def _want(self, key: RouteKey, route: Route | None) -> None:
        self._upkeep.telling.want(key, route)

    def _asked(self, but: Container[Address] = ()) -> Iterator[RouteKey]:
        """All that the plan has asked for so far, for any peer `but` these."""
        for peer in self.outbox.wanted_for():
            if peer not in but:
                yield from (RouteKey(peer, prefix) for prefix in self.outbox.wanted(peer))

    def _keep(self, told: Mapping[RouteKey, Route]) -> Iterator[None]:
        """ExaBGP holds routes from before the agent's start: those held back now stay as they are.

        So do reflected ones at first: nobody has told this agent yet what it could pass on. A step for each route;
        between two of them the plan may say what it likes.
        """
        self._disowned = set()
        try:
            for key, route in told.items():
                if key in self._held_back:
                    self._want(key, route)
                elif self._inheriting and not self._swept and _is_reflected(route) and self._is_unspoken_of(key):
                    self._inherited.add(key)
                    self._want(key, route)
                yield
            self._inheriting = False
        finally:
            self._disowned = None

    def _is_unspoken_of(self, key: RouteKey) -> bool:
        return key not in (self._disowned or ()) and not self.outbox.is_wanted(key)

    def sweep(self, routes: Mapping[RouteKey, Route]) -> None:
        """Every peer has told all it has, and the plan knows it: what was kept from before the agent's start goes."""
        self._swept = True
        for key in self._inherited:
            self._want(key, None if key.peer in self._held else routes.get(key))
        if self._inherited:
            self._inherited.clear()
            self._upkeep.telling.pump()

    def reset(self, peer: Address, families: Collection[Family]) -> None:
        """Have the peer send all it has of these again; without any, end the session, which comes again."""
        if families:
            self._upkeep.repeat([(peer, family) for family in families])
        else:
            self._upkeep.restart(peer)

    # What is known, for status and for the other drivers.

    @property
    def failed(self) -> asyncio.Future[None]:
        """Completes only with the exception of a bug of ours, for the owner to raise. Exists once started."""
        return self._upkeep.failed

    @property
    def states(self) -> Mapping[Address, PeerState]:
        """A live view."""
        return self._upkeep.sessions.states

    @property
    def wanted_at(self) -> Mapping[Address, float]:
        """Since when there shall be a session with each peer that is not held."""
        return self._upkeep.sessions.wanted_at

    @property
    def held(self) -> Mapping[Address, Held]:
        """Peers of the plan that there must be no session with for now, whatever the plan says, and why."""
        return self._limits.held

    @property
    def in_sync(self) -> bool:
        """ExaBGP has the peers and routes of the plan, and says so."""
        telling = self._upkeep.telling
        return self._upkeep.settled and telling.idle and not telling.failing and not self._held_back

    @property
    def failing(self) -> Mapping[RouteKey, Failing]:
        """A live view."""
        return self._upkeep.telling.failing

    @property
    def outbox(self) -> Outbox:
        """To be read only."""
        return self._upkeep.telling.outbox

    def over_at(self, peer: Address) -> float | None:
        """From when on nothing counts that it told on its last session; None: there is one, or nobody knows."""
        return self._upkeep.sessions.over_at(peer)

    def nodes_before(self, peers: Container[Address]) -> Collection[Peer]:
        """Of these, the other nodes that an agent before this one had sessions with; to be asked before `apply`."""
        return self._upkeep.nodes_before(peers)

    def may_hold(self, prefix: Prefix) -> bool:
        """Some peer is, or may be, told of it: its kernel route must stay."""
        return self._upkeep.telling.may_hold(prefix)

    def has_told(self, key: RouteKey) -> bool:
        """ExaBGP has said that it holds what the plan wants of this key; or nobody shall tell it yet."""
        return key.peer in self._held or (key not in self._held_back and self.outbox.is_told(key))

    @property
    def tally(self) -> Tally:
        """A live view."""
        return self._upkeep.sessions.tally

    @property
    def restarts(self) -> int:
        """How often another ExaBGP was found than before."""
        return self._upkeep.restarts

    @property
    def audit_corrected(self) -> int:
        """Entries of ExaBGP's table that were not what it had been told, since start."""
        return self._upkeep.telling.corrected

    @property
    def dropped(self) -> int:
        """Lines lost while no agent, or one that was too slow, was connected."""
        return self._upkeep.dropped

    @property
    def malformed(self) -> int:
        """Lines of ExaBGP that could not be read, since start."""
        return self._upkeep.link.malformed + self._upkeep.telling.unreadable

    @property
    def problems(self) -> frozenset[SpeakerProblem]:
        found = set(self._refused)
        if (trouble := self._upkeep.trouble) is not None:
            found.add(SpeakerProblem(trouble.reason, "ExaBGP", trouble.message, trouble.fix))
        elif self._upkeep.silent:
            fix = "It is killed and started again; if it does not come back, restart `bgpilot speaker` (its container)."
            found.add(SpeakerProblem(SPEAKER_SILENT, "ExaBGP", f"{SILENT}: nothing is known of any session", fix))
        elif self._upkeep.away and self._mode is SpeakerMode.EXTERNAL and not self._upkeep.settling:
            fix = "Start `bgpilot speaker` with the same run directory."
            found.add(SpeakerProblem("speakerDown", "ExaBGP", "no ExaBGP has connected", fix))
        if (why := self._upkeep.refused) is not None:
            fix = "The last good configuration stays in force."
            found.add(SpeakerProblem("configurationRefused", "ExaBGP", why, fix))
        found.update(map(over_limit, self._limits.exceeded), map(near_limit, self._limits.near))
        for address, update in self._malformed.items():
            if (peer := (self._peers or {}).get(address)) is not None:
                found.add(malformed(peer, update))
        for address, state in self.states.items():
            if state.up is not None and (peer := (self._peers or {}).get(address)) is not None:
                found.update(lacks(peer, state.up))
        return frozenset(found)


def _is_reflected(route: Route) -> bool:
    return route.attributes.originator_id is not None
