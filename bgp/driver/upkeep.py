"""What becomes of ExaBGP: it comes, goes, hangs, has trouble, and speaks of its peers. Here it is noticed.

What follows for the agent is put at once (`put`); what must be done for ExaBGP is said to be due
(`bgp.driver.chores`). It refuses to know the plan's routes (`bgp.speaker`), to match answers (`bgp.driver.link`), and
to do chores.

Invariants:
- What was heard of a session is complete from its SessionUp on: whenever a line may have been lost, SessionUp comes
  again and the peer is asked to repeat itself.
- An ExaBGP that hangs counts as gone, and is killed and started again, one beside us by whoever started it. Should that
  one not do it, it has all its sessions again when it speaks again, but for those whose end it then tells.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Collection, Container, Iterable, Mapping
from collections.abc import Set as AbstractSet
from ipaddress import ip_address
from pathlib import Path
from typing import Final

from bgp.driver import notes, process
from bgp.driver.chores import ENDED_UNHEARD, Chore, Chores
from bgp.driver.link import Hello, Link, Remembered
from bgp.driver.notes import Hung, Trouble
from bgp.driver.peersfile import PeersFile
from bgp.driver.process import CANNOT_LISTEN, ExaProcess
from bgp.driver.telling import Telling
from bgp.driver.timers import Timers
from bgp.exaevents import Heard, WentDown
from bgp.model import Address, BgpEvent, Family, Peer, Route, RouteKey, SessionDown, SessionUp, SpeakerLost
from bgp.sessions import Sessions
from bgp.silence import SILENT_SECONDS, Silence, Verdict

LINK_GRACE_SECONDS: Final = 3.0
"""A bridge that died is back at once; after this long without one, ExaBGP counts as gone."""
LISTEN_SECONDS: Final = 1.0
"""A socket that could not be bound in a reload has been complained of by then."""
TROUBLE_SECONDS: Final = 1.0
"""How often the reason for ExaBGP's absence is looked up when somebody else starts it."""
SETTLING_SECONDS: Final = 5.0
"""An ExaBGP that runs beside us has connected by then."""

CONNECT_SECONDS: Final = 30
"""A child that runs has connected by then, or hangs."""

SPEAKER_SILENT: Final = "speakerSilent"
SILENT: Final = f"ExaBGP has not answered for {SILENT_SECONDS} s"
KILLED_FIX: Final = "Nothing to do: it is started again. If it comes again, see its log, and what the node is short of."


class Upkeep:
    def __init__(
        self,
        *,
        run_dir: Path,
        child: bool,
        put: Callable[[BgpEvent], None],
        wake: Callable[[], None],
        clock: Callable[[], float],
        audit_seconds: float,
        retry_seconds: float,
        before_correcting: Callable[[Mapping[RouteKey, Route]], Iterable[None]],
    ) -> None:
        """`before_correcting` is shown the table, and has its steps done, before anything in it is corrected."""
        self._run_dir = run_dir
        self._child = child
        self._clock = clock
        self._audit_seconds = audit_seconds
        self._retry_seconds = retry_seconds
        self.put = put
        self.wake = wake
        self.before_correcting = before_correcting
        self.sessions = Sessions()
        self.link = Link(
            run_dir / process.SOCKET,
            on_hello=self._greeted,
            on_event=self.heard,
            on_answer=self._answered,
            on_pause=self._paused,
            on_lost=self._link_lost,
        )
        self.telling = Telling(self.link, clock=clock, changed=wake)
        self._process = ExaProcess(run_dir, die_with_parent=True, on_end=self._gone, on_trouble=self._troubled)
        self._timers = Timers()
        self._file = PeersFile(run_dir)
        self._chores = Chores(
            self,
            link=self.link,
            telling=self.telling,
            sessions=self.sessions,
            file=self._file,
            timers=self._timers,
            clock=clock,
            retry_seconds=retry_seconds,
        )
        self._silence = Silence()
        self._unconnected = 0
        self._instance = ""
        self._bridge = ""
        self.away = True
        """ExaBGP is not there; said so with SpeakerLost."""
        self.silent = False
        """ExaBGP is there and hangs; said so with SpeakerLost."""
        self.settling = True
        """The agent has just started: what is missing has not had the time to come."""
        self.trouble: Trouble | None = None
        self.restarts = 0
        self.dropped = 0

    async def start(self) -> None:
        process.prepare(self._run_dir, keep=not self._child)
        await self.link.start()
        if self._child:
            self._process.start()
        else:
            notes.tell_hung(self._run_dir, None)  # of an agent before us; we shall see
            self._look_for_trouble()
        self._file.start()
        self._timers.later("audit", self._audit_seconds, self._audit)
        self._timers.later("watch", 1.0, self._watch)
        self._timers.later("settling", SETTLING_SECONDS, self._settle)
        self._chores.start()

    async def stop(self) -> None:
        self._timers.stop()
        self.telling.stop()
        await self._chores.stop()
        await self._file.stop()
        if self._child:
            await self._process.stop()
        await self.link.stop()

    def take_peers(self, peers: Mapping[Address, Peer]) -> None:
        self._chores.peers = peers
        self.sessions.want(peers, self._clock())
        self._chores.do(Chore.CONFIGURE)

    def nodes_before(self, wanted: Container[Address]) -> Collection[Peer]:
        """Of these, the other nodes that ExaBGP was given before the first `take_peers`."""
        return self._file.nodes_before(wanted)

    def repeat(self, wanted: Collection[tuple[Address, Family]]) -> None:
        """Have these peers send again all that they have."""
        if wanted:
            self._chores.refresh(wanted)

    def restart(self, peer: Address) -> None:
        """End the session with the peer: it comes again."""
        self._chores.restart(peer)

    @property
    def failed(self) -> asyncio.Future[None]:
        """Exists once started; completes only with the exception of a bug of ours."""
        return self._chores.failed

    @property
    def refused(self) -> str | None:
        """Why the configuration of the last plan is not in force."""
        return self._file.refused

    @property
    def settled(self) -> bool:
        """ExaBGP has the peers of the plan, and what it holds is known."""
        there = self.telling.open and not (self.silent or self.away)
        return there and self._chores.peers is not None and self._chores.settled and self.refused is None

    # ExaBGP comes.

    def _greeted(self, hello: Hello) -> None:
        first, new_bridge = not self._bridge, hello.bridge != self._bridge
        complete = not (new_bridge or hello.dropped or self.away or self.silent)
        if hello.instance != self._instance:
            if self._instance:
                self.restarts += 1
                self._gone("another ExaBGP has been started")
            self._instance = hello.instance
            self.telling.restarted()
            if self._file.peers is not None:  # it has begun with the file as it is: what it says of new peers counts
                self.sessions.configure(self._file.peers)
                self._chores.do(Chore.CONFIGURE)  # or as it was before
        self._alive()
        self.dropped += hello.dropped
        self._timers.cancel("lost")
        was_up = self._up()
        kept = {ip_address(peer): one for peer, one in hello.peers.items()}
        if not new_bridge:
            self._catch_up(kept, was_up)
        for peer, one in kept.items():
            self._take_over(peer, one, with_past=first)
        self._bridge, self.away = hello.bridge, False
        if new_bridge:
            self._chores.do(Chore.RECOUNT)
        if not complete:
            self._repeat(was_up)
        self._chores.do(Chore.RESYNC, Chore.RELOAD)
        self.wake()

    def _catch_up(self, kept: Mapping[Address, Remembered], was_up: AbstractSet[Address]) -> None:
        """Sessions that have ended since this bridge was cut off, whatever has come after them."""
        for peer in was_up:
            one = kept.get(peer)
            if one is not None and one.ended_at is not None and one.ended_at > self.sessions.states[peer].since:
                for event in self.link.remembered(one.ended):
                    self.heard(event, at=one.ended_at)
            elif one is None or not one.lines:
                self.heard(WentDown(peer, ENDED_UNHEARD))

    def _take_over(self, peer: Address, one: Remembered, *, with_past: bool) -> None:
        if with_past:
            past = ((one.ended_at, one.ended), (one.failed_at, one.failed))
            ends = [(at, self.link.remembered(lines)) for at, lines in past if at is not None]
            self.sessions.remember(peer, one.flaps, ends, self.link.remembered(one.opened))
        told = frozenset(Family(family) for family in one.told)
        for event in self.link.remembered(one.lines):
            self.heard(event, told=told, at=one.up_at)

    def _up(self) -> set[Address]:
        return {peer for peer, state in self.sessions.states.items() if state.up is not None}

    def _repeat(self, was_up: AbstractSet[Address]) -> None:
        """Have every session's routes sent again: some may have gone unheard."""
        for peer, state in self.sessions.states.items():
            if (up := state.up) is None:
                continue
            if peer in was_up:
                self.put(up)
            self._chores.refresh((peer, family) for family in up.families)

    # ExaBGP speaks.

    def heard(self, event: Heard, told: frozenset[Family] = frozenset(), at: float | None = None) -> None:
        """`told`: families whose End-of-RIB the session has had; `at`: when it was, if that is not now."""
        self._alive()
        for meant in self.sessions.heard(event, self._clock() if at is None else at):
            match meant:
                case SessionUp():
                    self.telling.session_up(meant.peer, meant.families - told)
                    self.wake()
                case SessionDown():
                    self.telling.session_down(meant.peer)
                    self.wake()
                case _:
                    pass
            self.put(meant)

    def _answered(self, ok: bool) -> None:
        self.telling.answered(ok)

    def _paused(self) -> None:
        self._alive()
        self.telling.pump()

    def _alive(self) -> None:
        """ExaBGP has said something. After a silence its sessions are what they were, until it tells their end."""
        if self.silent:
            self._no_longer_silent()
            self.sessions.speaks_again()
            self._repeat(self._up())
            self.wake()

    # ExaBGP goes, hangs, or is in trouble.

    def _link_lost(self) -> None:
        self.telling.link_lost()
        self._timers.later("lost", LINK_GRACE_SECONDS, lambda: self._gone("ExaBGP's bridge has not come back"))
        self.wake()

    def _gone(self, reason: str) -> None:
        if not self.away:
            self.away = True
            self._no_longer_silent()
            self.sessions.lost(reason, self._clock())
            self.put(SpeakerLost(reason))
        self.wake()

    def _watch(self) -> None:
        self._timers.later("watch", 1.0, self._watch)
        self._chores.look()
        match self._silence.tick(heard=self.link.heard, unanswered=self.link.unanswered):
            case Verdict.ASK:
                self._chores.do(Chore.ASK)
            case Verdict.SILENT if self._child:
                self._kill(SILENT)
            case Verdict.SILENT if not self.silent and not self.away:
                self.silent = True
                with contextlib.suppress(OSError):  # a full disk: that it hangs is seen all the same (`silent`)
                    notes.tell_hung(self._run_dir, Hung(self._instance, _killed(SILENT)))
                self.sessions.silent(SILENT, self._clock())
                self.put(SpeakerLost(SILENT))
                self.wake()
            case _:
                pass
        self._unconnected = 0 if self.link.connected or not self._process.running else self._unconnected + 1
        if self._unconnected >= CONNECT_SECONDS:
            self._kill(f"ExaBGP has not connected for {CONNECT_SECONDS} s")

    def _no_longer_silent(self) -> None:
        if self.silent:
            self.silent = False
            notes.tell_hung(self._run_dir, None)

    def _kill(self, why: str) -> None:
        self._gone(why)
        self._process.kill(_killed(why))

    def _settle(self) -> None:
        self.settling = False
        self.wake()

    def _troubled(self, trouble: Trouble | None) -> None:
        if trouble != self.trouble:
            self.trouble = trouble
            self.wake()
        if trouble is not None and trouble.reason == CANNOT_LISTEN and self.link.connected:
            self._timers.cancel("listening")
            self._timers.later("listen", self._retry_seconds, lambda: self._chores.do(Chore.RELOAD))

    def _look_for_trouble(self) -> None:
        self._troubled(notes.read_trouble(self._run_dir))
        self._timers.later("trouble", TROUBLE_SECONDS, self._look_for_trouble)

    def reloading(self) -> None:
        """What ExaBGP complains of from here on is of the new configuration."""
        if not self._child:
            notes.tell_trouble(self._run_dir, None)

    def reloaded(self) -> None:
        if self.trouble is not None and self.trouble.reason == CANNOT_LISTEN:
            self._timers.later("listening", LISTEN_SECONDS, self._process.listening)

    def _audit(self) -> None:
        self._chores.do(Chore.AUDIT)
        self._timers.later("audit", self._audit_seconds, self._audit)


def _killed(why: str) -> Trouble:
    return Trouble(SPEAKER_SILENT, f"{why}: it was killed", KILLED_FIX)
