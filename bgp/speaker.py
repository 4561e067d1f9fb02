"""The driver of ExaBGP: makes its peers and routes what the plan says, and hands over what comes from peers.

    apply(plan) ─ peers ─→ Upkeep ─→ configuration file, validate, reload ─────────────┐
                └ routes → Telling ─→ Outbox ─→ commands ─→ Link ─→ socket ─→ bridge ─→ ExaBGP
    put(event) ←─ Upkeep ←─ Sessions ←─ JSON events ←────── Link ←─ socket ←─ bridge ←─────┘

It refuses to plan, to judge routes, and to wait in `apply` for ExaBGP. It raises for nothing that ExaBGP does: what
fails is kept, retried and shown (`problems`, `failing`).

Invariants:
- A route held back is neither announced nor changed: what a peer is told of it stays.
- One bad peer never stops the others: what ExaBGP would not take is left out, and said (`problems`).
- After a start of the agent: read back what is told, correct it, ask every peer for its routes again. An agent that
  restarts with nothing changed sends nothing but ROUTE-REFRESH.
"""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bgp import exaconfig
from bgp.model import Address, BgpEvent, Peer, PeerState, Prefix, Route, RouteKey, SpeakerPlan
from bgp.outbox import Outbox
from bgp.retry import Failing
from bgp.upkeep import Upkeep

AUDIT_SECONDS: Final = 300.0


class SpeakerMode(enum.StrEnum):
    CHILD = "child"
    EXTERNAL = "external"
    """ExaBGP is started by `bgpilot speaker` and outlives the agent."""


@dataclass(frozen=True, slots=True)
class SpeakerProblem:
    """Something the user can mend; equal problems are one."""

    reason: str
    subject: str
    message: str
    fix: str


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
    ) -> None:
        """`put` takes what comes from peers, in order; `wake` is called when something here has changed."""
        self._mode = mode
        self._upkeep = Upkeep(
            run_dir=run_dir,
            child=mode is SpeakerMode.CHILD,
            put=put,
            wake=wake,
            clock=clock,
            audit_seconds=audit_seconds,
            before_correcting=self._keep_held_back,
        )
        self._peers: dict[Address, Peer] | None = None
        self._refused: tuple[SpeakerProblem, ...] = ()
        self._asked: set[RouteKey] = set()
        self._held_back: set[RouteKey] = set()

    async def start(self) -> None:
        """Raises OSError when the run directory cannot be written."""
        await self._upkeep.start()

    async def stop(self) -> None:
        """Within 2 s. A child ends without NOTIFICATION; an external ExaBGP goes on as it is."""
        await self._upkeep.stop()

    async def apply(
        self,
        plan: SpeakerPlan,
        *,
        peers_changed: bool,
        dirty: Iterable[RouteKey] | None,
        hold_back: Callable[[RouteKey], bool],
    ) -> None:
        """Take over the plan; nothing here waits for ExaBGP. `dirty` None: compare everything.

        A route held back is not announced (nor changed) yet, and asked for again at the next call.
        """
        if peers_changed or self._peers is None:
            self._take_peers(plan.peers)
        if dirty is None:
            keys: Iterable[RouteKey] = [*plan.routes, *(self._asked - plan.routes.keys())]
        else:
            keys = self._held_back.union(dirty)
        for key in keys:
            route = plan.routes.get(key)
            if route is not None and hold_back(key):
                self._held_back.add(key)
                continue
            self._held_back.discard(key)
            self._want(key, route)
        self._upkeep.telling.pump()

    def _take_peers(self, peers: Mapping[Address, Peer]) -> None:
        refused = {address: why for address, peer in peers.items() if (why := exaconfig.refusal(peer)) is not None}
        self._refused = tuple(
            SpeakerProblem("peerRefused", peers[address].name, why, "Correct it; the other peers are not affected.")
            for address, why in refused.items()
        )
        self._peers = {address: peer for address, peer in peers.items() if address not in refused}
        for key in [key for key in self._asked if key.peer not in peers]:
            self._want(key, None)
        self._upkeep.take_peers(self._peers)

    def _want(self, key: RouteKey, route: Route | None) -> None:
        self._upkeep.telling.want(key, route)
        if route is None:
            self._asked.discard(key)
        else:
            self._asked.add(key)

    def _keep_held_back(self, told: Mapping[RouteKey, Route]) -> None:
        """ExaBGP holds routes from before the agent's start: those held back now stay as they are."""
        for key in self._held_back & told.keys():
            self._want(key, told[key])

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

    def may_hold(self, prefix: Prefix) -> bool:
        """Some peer is, or may be, told of it: its kernel route must stay."""
        return self._upkeep.telling.may_hold(prefix)

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
        elif self._upkeep.away and self._mode is SpeakerMode.EXTERNAL:
            fix = "Start `bgpilot speaker` with the same run directory."
            found.add(SpeakerProblem("speakerDown", "ExaBGP", "no ExaBGP has connected", fix))
        if (why := self._upkeep.refused) is not None:
            fix = "The last good configuration stays in force."
            found.add(SpeakerProblem("configurationRefused", "ExaBGP", why, fix))
        return frozenset(found)
