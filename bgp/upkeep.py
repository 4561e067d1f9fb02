"""Upkeep of ExaBGP: its configuration, its sessions, and whatever is to be done when it or the bridge comes and goes.

One background task does chores in a fixed order (`_chores`); events only note what is due. A chore that is cut short by
the loss of the bridge is not resumed: the next hello makes all of them due again. It refuses to know the plan's routes
(`bgp.speaker`) and to match answers (`bgp.link`).

Invariants:
- Peers that are to go are told to forget our routes first: ExaBGP closes them without a word, and a peer that helps
  with graceful restart would keep the routes of a node that is gone (ExaBGP 5.0.15; `teardown` is as silent).
- Nothing is put in place that ExaBGP's own `validate` has not passed.
- What was heard of a session is complete from its SessionUp on: whenever a line may have been lost, SessionUp comes
  again and the peer is asked to repeat itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from bgp import exaconfig, process
from bgp.exaevents import Heard, WentDown
from bgp.link import CommandRefusedError, Hello, Link, LinkLostError
from bgp.model import Address, BgpEvent, Family, Peer, PeerRemoved, Route, RouteKey, SessionDown, SessionUp, SpeakerLost
from bgp.process import CANNOT_LISTEN, ExaProcess, Trouble
from bgp.sessions import Sessions
from bgp.telling import Telling

LINK_GRACE_SECONDS: Final = 3.0
"""A bridge that died is back at once; after this long without one, ExaBGP counts as gone."""
RETRY_SECONDS: Final = 10.0
"""When ExaBGP could not listen, refused a reload, or the file could not be written."""
LISTEN_SECONDS: Final = 1.0
"""A socket that could not be bound in a reload has been complained of by then."""
TROUBLE_SECONDS: Final = 1.0
"""How often the reason for ExaBGP's absence is looked up when somebody else starts it."""

log: Final = logging.getLogger(__name__)


class Chore(enum.Enum):
    CONFIGURE = enum.auto()
    """Write the file: peers have changed."""
    RESYNC = enum.auto()
    """The bridge has come: find out what ExaBGP holds."""
    RELOAD = enum.auto()
    REFRESH = enum.auto()
    AUDIT = enum.auto()


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
        before_correcting: Callable[[Mapping[RouteKey, Route]], None],
    ) -> None:
        """`before_correcting` is shown the table before anything in it is corrected."""
        self._run_dir = run_dir
        self._child = child
        self._put = put
        self._wake = wake
        self._clock = clock
        self._audit_seconds = audit_seconds
        self._before_correcting = before_correcting
        self.sessions = Sessions()
        self.link = Link(
            run_dir / process.SOCKET,
            on_hello=self._greeted,
            on_event=self._heard,
            on_answer=self._answered,
            on_pause=self._paused,
            on_lost=self._link_lost,
        )
        self.telling = Telling(self.link, clock=clock, changed=wake)
        self._process = ExaProcess(run_dir, die_with_parent=True, on_end=self._gone, on_trouble=self._troubled)
        self._task: asyncio.Task[None] | None = None
        self.failed: asyncio.Future[None]
        """Made by `start`; completes only with an exception: a bug of ours."""
        self._work = asyncio.Event()
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._peers: Mapping[Address, Peer] | None = None  # None: no plan yet
        self._due: set[Chore] = set()
        self._refresh: set[tuple[Address, Family]] = set()
        self._working = False
        self._text = ""
        self._in_file: Mapping[Address, Peer] | None = None
        self._instance = ""
        self._bridge = ""
        self.away = True
        """ExaBGP is not there; said so with SpeakerLost."""
        self.trouble: Trouble | None = None
        self.refused: str | None = None
        """Why the configuration of the last plan is not in force."""
        self.restarts = 0
        self.dropped = 0

    async def start(self) -> None:
        self.failed = asyncio.get_running_loop().create_future()
        process.prepare(self._run_dir, keep=not self._child)
        await self.link.start()
        if self._child:
            self._process.start()
        else:
            self._look_for_trouble()
        self._later("audit", self._audit_seconds, self._audit)
        self._task = asyncio.create_task(self._drive(), name="speaker")
        self._task.add_done_callback(self._ended)

    async def stop(self) -> None:
        for timer in self._timers.values():
            timer.cancel()
        self.telling.stop()
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        if self._child:
            await self._process.stop()
        await self.link.stop()

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None and not self.failed.done():
            self.failed.set_exception(error)

    def take_peers(self, peers: Mapping[Address, Peer]) -> None:
        self._peers = peers
        self._do(Chore.CONFIGURE)

    @property
    def settled(self) -> bool:
        """ExaBGP has the peers of the plan, and what it holds is known."""
        waiting = self._working or self._due & {Chore.CONFIGURE, Chore.RESYNC, Chore.RELOAD}
        return self._peers is not None and self.telling.open and not waiting and self.refused is None

    # What happens.

    def _greeted(self, hello: Hello) -> None:
        same = hello.instance == self._instance
        complete = same and hello.bridge == self._bridge and not hello.dropped and not self.away
        if not same:
            if self._instance:
                self.restarts += 1
                self._gone("another ExaBGP has been started")
            self._instance = hello.instance
            self.telling.restarted()
        self.dropped += hello.dropped
        self._cancel("lost")
        was_up = {peer for peer, state in self.sessions.states.items() if state.up is not None}
        if hello.bridge == self._bridge:
            for peer in was_up - {kept.peer for one in hello.peers.values() for kept in self.link.remembered(one)}:
                self._heard(WentDown(peer, "ended while the agent was not connected"))
        self._bridge, self.away = hello.bridge, False
        for one in hello.peers.values():
            told = {Family(family) for family in one.told}
            for event in self.link.remembered(one):
                self._heard(event, told=frozenset(told))
        if not complete:
            self._repeat(was_up)
        self._do(Chore.RESYNC, Chore.RELOAD)
        self._wake()

    def _repeat(self, was_up: set[Address]) -> None:
        """Have every session's routes sent again: some may have gone unheard."""
        for peer, state in self.sessions.states.items():
            if (up := state.up) is None:
                continue
            if peer in was_up:
                self._put(up)
            self._refresh.update((peer, family) for family in up.families)
        self._do(Chore.REFRESH)

    def _heard(self, event: Heard, told: frozenset[Family] = frozenset()) -> None:
        for meant in self.sessions.heard(event, self._clock()):
            match meant:
                case SessionUp():
                    self.telling.session_up(meant.peer, meant.families - told)
                    self._wake()
                case SessionDown():
                    self.telling.session_down(meant.peer)
                    self._wake()
                case _:
                    pass
            self._put(meant)

    def _answered(self, ok: bool) -> None:
        self.telling.answered(ok)

    def _paused(self) -> None:
        self.telling.pump()

    def _link_lost(self) -> None:
        self.telling.link_lost()
        self._later("lost", LINK_GRACE_SECONDS, lambda: self._gone("ExaBGP's bridge has not come back"))
        self._wake()

    def _gone(self, reason: str) -> None:
        if not self.away:
            self.away = True
            self.sessions.lost(reason, self._clock())
            self._put(SpeakerLost(reason))
        self._wake()

    def _troubled(self, trouble: Trouble | None) -> None:
        if trouble != self.trouble:
            self.trouble = trouble
            self._wake()
        if trouble is not None and trouble.reason == CANNOT_LISTEN and self.link.connected:
            self._cancel("listening")
            self._later("listen", RETRY_SECONDS, lambda: self._do(Chore.RELOAD))

    def _look_for_trouble(self) -> None:
        self._troubled(process.read_trouble(self._run_dir))
        self._later("trouble", TROUBLE_SECONDS, self._look_for_trouble)

    def _audit(self) -> None:
        self._do(Chore.AUDIT)
        self._later("audit", self._audit_seconds, self._audit)

    # What is done about it.

    def _do(self, *chores: Chore) -> None:
        self._due.update(chores)
        self._work.set()

    def _later(self, name: str, seconds: float, call: Callable[[], None]) -> None:
        self._cancel(name)
        self._timers[name] = asyncio.get_running_loop().call_later(seconds, call)

    def _cancel(self, name: str) -> None:
        if (timer := self._timers.pop(name, None)) is not None:
            timer.cancel()

    async def _drive(self) -> None:
        while True:
            await self._work.wait()
            self._work.clear()
            self._working = True
            try:
                await self._chores()
            except LinkLostError:
                pass  # the next hello makes it all due again
            except CommandRefusedError as error:
                log.warning("ExaBGP is asked again in %.0f s: %s", RETRY_SECONDS, error)
                self._later("again", RETRY_SECONDS, lambda: self._do(Chore.RESYNC, Chore.RELOAD))
            self._working = False
            self._wake()

    async def _chores(self) -> None:
        if self._peers is None:
            return
        if self._take(Chore.CONFIGURE):
            await self._configure(self._peers)
        if not self.link.connected:
            return
        if self._take(Chore.RESYNC):
            await self.telling.read_back(self._before_correcting)
        if Chore.RELOAD in self._due:
            await self._reload()
        if self._take(Chore.AUDIT) and self.telling.open:
            await self.telling.read_back(lambda _told: None)
        if self._take(Chore.REFRESH):
            await self._ask_refresh()

    def _take(self, chore: Chore) -> bool:
        due = chore in self._due
        self._due.discard(chore)
        return due

    async def _configure(self, peers: Mapping[Address, Peer]) -> None:
        text = exaconfig.configuration(peers.values(), bridge=process.bridge_command(self._run_dir))
        if text == self._text:
            self.refused = None
            return
        try:
            self.refused = await process.put_configuration(self._run_dir, text)
        except OSError as error:
            self.refused = f"cannot write the configuration: {error}"
            self._later("configure", RETRY_SECONDS, lambda: self._do(Chore.CONFIGURE))
        if self.refused is None:
            for address, peer in (self._in_file or {}).items():
                if address not in peers or exaconfig.identity(peers[address]) != exaconfig.identity(peer):
                    self._put(PeerRemoved(address))  # now: after the reload the new session may be up already
            self._in_file, self._text = peers, text
            self._do(Chore.RELOAD)

    async def _reload(self) -> None:
        """Bring ExaBGP to what is in the file."""
        peers = self._in_file
        if peers is None or not self.telling.open:
            self._due.discard(Chore.RELOAD)
            return
        if not self.telling.peers <= peers.keys():
            await self.telling.forget()
        if not self._child:
            process.tell_trouble(self._run_dir, None)
        self._due.discard(Chore.RELOAD)
        try:
            await self.telling.reload({address: exaconfig.identity(peer) for address, peer in peers.items()})
        except CommandRefusedError:
            self._later("reload", RETRY_SECONDS, lambda: self._do(Chore.RELOAD))
            return
        self.sessions.configure(peers)
        if self.trouble is not None and self.trouble.reason == CANNOT_LISTEN:
            self._later("listening", LISTEN_SECONDS, self._process.listening)

    async def _ask_refresh(self) -> None:
        wanted, self._refresh = self._refresh, set()
        takers = [(peer, family) for peer, family in sorted(wanted) if self.sessions.can_refresh(peer)]
        await self.telling.refresh(takers)
        for peer in {peer for peer, _ in wanted} - {peer for peer, _ in takers}:
            await self.telling.restart_session(peer)  # it cannot repeat itself but in a new session
