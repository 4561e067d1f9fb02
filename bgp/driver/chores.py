"""What is done for ExaBGP when it is due, one thing after the other: its file, what it holds, its sessions.

One background task does the chores in a fixed order (`_all_due`); whoever notices something only says what is due
(`bgp.driver.upkeep`). A chore that is cut short by the loss of the bridge is not resumed: the next hello makes all of
them due again. It refuses to know the plan's routes (`bgp.speaker`), to match answers (`bgp.driver.link`), and to
notice anything.

Invariants:
- Peers that are to go are told to forget our routes first, and then that the session is over (`bgp.inside.patches`):
  ExaBGP as it is closes without a word, and a peer that helps with graceful restart would keep the routes of a node
  that is gone (ExaBGP 5.0.15; `teardown` is as silent).
- A session's state is corrected only when nothing was heard of it while ExaBGP was asked: events are right, and newer.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Final, Protocol

from bgp import exaconfig
from bgp.driver.link import CommandRefusedError, Link, LinkLostError
from bgp.driver.peersfile import PeersFile
from bgp.driver.telling import Telling
from bgp.driver.timers import Timers
from bgp.exaevents import WentDown
from bgp.model import Address, Family, Peer, PeerRemoved, PeerState, Route, RouteKey, by_number
from bgp.sessions import Sessions

RETRY_SECONDS: Final = 10.0
"""When ExaBGP could not listen, refused a reload, or the file could not be written."""
RECOUNT_SECONDS: Final = 3.0
"""How much ExaBGP's count of a session's seconds may differ from ours; a younger session may not have been told yet."""
ENDED_UNHEARD: Final = "ended while the agent was not connected"

log: Final = logging.getLogger(__name__)


class Chore(enum.Enum):
    LISTEN = enum.auto()
    """Our socket has no name any more: a bridge that comes would not find us."""
    CONFIGURE = enum.auto()
    """Write the file: peers have changed."""
    RESYNC = enum.auto()
    """The bridge has come: find out what ExaBGP holds."""
    RELOAD = enum.auto()
    RECOUNT = enum.auto()
    """Lines may have been lost: find out which sessions ExaBGP has."""
    AUDIT = enum.auto()
    REFRESH = enum.auto()
    ASK = enum.auto()
    """Nothing has been heard for a while: ask for a sign of life."""


class Owner(Protocol):
    """Who says what is due (`bgp.driver.upkeep.Upkeep`), and is told what came of it."""

    def put(self, event: PeerRemoved) -> None: ...
    def heard(self, event: WentDown) -> None: ...
    def before_correcting(self, told: Mapping[RouteKey, Route]) -> Iterable[None]:
        """The table, before anything in it is corrected."""

    def reloading(self) -> None: ...
    def reloaded(self) -> None: ...
    def wake(self) -> None: ...


class Chores:
    def __init__(
        self,
        owner: Owner,
        *,
        link: Link,
        telling: Telling,
        sessions: Sessions,
        file: PeersFile,
        timers: Timers,
        clock: Callable[[], float],
        retry_seconds: float,
    ) -> None:
        self._owner = owner
        self._link = link
        self._telling = telling
        self._sessions = sessions
        self._file = file
        self._timers = timers
        self._clock = clock
        self._retry_seconds = retry_seconds
        self._due: set[Chore] = set()
        self._refresh: set[tuple[Address, Family]] = set()
        self._restart: set[Address] = set()
        self._unheard = ""
        """Why nobody can connect to us, as logged."""
        self._work = asyncio.Event()
        self._working = False
        self._task: asyncio.Task[None] | None = None
        self.failed: asyncio.Future[None]
        """Made by `start`; completes only with an exception: a bug of ours."""
        self.peers: Mapping[Address, Peer] | None = None
        """Those wanted. None: nothing is to be done yet."""

    def start(self) -> None:
        self.failed = asyncio.get_running_loop().create_future()
        self._task = asyncio.create_task(self._drive(), name="speaker")
        self._task.add_done_callback(self._ended)

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None and not self.failed.done():
            self.failed.set_exception(error)

    @property
    def settled(self) -> bool:
        """What the peers need has been done."""
        return not (self._working or self._due & {Chore.CONFIGURE, Chore.RESYNC, Chore.RELOAD})

    def do(self, *chores: Chore) -> None:
        self._due.update(chores)
        self._work.set()

    def look(self) -> None:
        """Whether somebody has deleted what is to be in the run directory."""
        if self._link.lost:
            self.do(Chore.LISTEN)
        if self._file.lost:
            self._file.forget()
            log.warning("ExaBGP's configuration is no longer what was written to the run directory: it is written anew")
            self.do(Chore.CONFIGURE)

    def refresh(self, wanted: Iterable[tuple[Address, Family]]) -> None:
        """Have these peers send again all that they have."""
        self._refresh.update(wanted)
        self.do(Chore.REFRESH)

    def restart(self, peer: Address) -> None:
        """End the session with the peer: it comes again."""
        self._restart.add(peer)
        self.do(Chore.REFRESH)

    async def _drive(self) -> None:
        while True:
            await self._work.wait()
            self._work.clear()
            self._working = not self._due <= {Chore.ASK}  # nobody waits for a sign of life
            try:
                await self._all_due()
            except LinkLostError:
                pass  # the next hello makes it all due again
            except CommandRefusedError as error:
                log.warning("ExaBGP is asked again in %.0f s: %s", self._retry_seconds, error)
                self._timers.later("again", self._retry_seconds, lambda: self.do(Chore.RESYNC, Chore.RELOAD))
            if self._working:
                self._working = False
                self._owner.wake()

    async def _all_due(self) -> None:
        if self._take(Chore.LISTEN):
            await self._listen_anew()
        if self.peers is None:
            return
        if self._take(Chore.CONFIGURE):
            await self._configure(self.peers)
        if not self._link.connected:
            return
        if self._take(Chore.RESYNC):
            await self._telling.read_back(self._owner.before_correcting)
        if Chore.RELOAD in self._due:
            await self._reload()
        if self._telling.open:
            await self._look()
        if self._take(Chore.REFRESH):
            await self._ask_refresh()
        if self._take(Chore.ASK):
            await self._telling.ask_for_a_sign()

    def _take(self, chore: Chore) -> bool:
        due = chore in self._due
        self._due.discard(chore)
        return due

    async def _listen_anew(self) -> None:
        try:
            await self._link.start()
        except OSError as error:
            if str(error) != self._unheard:
                log.warning("the bridge's socket is no longer in the run directory and cannot be made anew: %s", error)
            self._unheard = str(error)
        else:
            self._unheard = ""
            log.warning("the bridge's socket was no longer in the run directory: it has been made anew")
            self._file.forget()  # who starts an ExaBGP asks which is newer (`bgp.driver.beside.is_vouched_for`)
            self.do(Chore.CONFIGURE)

    async def _configure(self, peers: Mapping[Address, Peer]) -> None:
        try:
            gone = await self._file.put(peers)
        except OSError:  # `refused` says it
            self._timers.later("configure", self._retry_seconds, lambda: self.do(Chore.CONFIGURE))
            return
        if gone is not None:
            for removed in gone:
                self._owner.put(removed)  # now: after the reload the new session may be up already
            self.do(Chore.RELOAD)

    async def _reload(self) -> None:
        """Bring ExaBGP to what is in the file."""
        peers = self._file.peers
        if peers is None or not self._telling.open:
            self._due.discard(Chore.RELOAD)
            return
        if not self._telling.peers <= peers.keys():
            await self._telling.forget()
        self._owner.reloading()
        self._due.discard(Chore.RELOAD)
        try:
            await self._telling.reload(
                {address: exaconfig.identity(peer) for address, peer in peers.items()},
                {address: peer.families for address, peer in peers.items()},
                in_force=lambda: self._sessions.configure(peers),
            )
        except CommandRefusedError:
            self._timers.later("reload", self._retry_seconds, lambda: self.do(Chore.RELOAD))
            return
        self._owner.reloaded()

    async def _look(self) -> None:
        recount, audit = self._take(Chore.RECOUNT), self._take(Chore.AUDIT)
        if recount or audit:
            await self._recount()
        if audit:
            await self._telling.audit()

    async def _recount(self) -> None:
        """Correct what we believe of sessions whose last lines were lost, with the bridge that had them."""
        before, asked_at = dict(self._sessions.states), self._clock()
        for peer, said in (await self._telling.sessions()).items():
            state = self._sessions.states.get(peer, PeerState())
            if before.get(peer) is not self._sessions.states.get(peer):
                continue
            if said.up_seconds is None:
                if state.up is not None:
                    self._owner.heard(WentDown(peer, ENDED_UNHEARD))
            elif said.up_seconds >= RECOUNT_SECONDS:
                another = asked_at - said.up_seconds > state.since + RECOUNT_SECONDS
                if state.up is None or another:  # what was negotiated on it nobody can tell
                    await self._telling.restart_session(peer)

    async def _ask_refresh(self) -> None:
        wanted, self._refresh = self._refresh, set()
        ended, self._restart = self._restart, set()
        in_turn = sorted(wanted, key=lambda one: (by_number(one[0]), one[1]))
        takers = [(peer, family) for peer, family in in_turn if self._sessions.can_refresh(peer)]
        await self._telling.refresh(takers)
        for peer in ended | {peer for peer, _ in wanted} - {peer for peer, _ in takers}:
            await self._telling.restart_session(peer)  # it cannot repeat itself but in a new session
