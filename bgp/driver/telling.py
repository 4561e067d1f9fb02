"""What ExaBGP is told, on the wire of its API: pipelined routes, and the commands that need it to be quiet.

Joins the outbox (which command is next) with the link (lines and answers). It refuses to know where peers and routes
come from, to write configuration, and to decide when to reload or to look at the table (`bgp.speaker`).

Invariants:
- Routes go out only while `open`: between a read-back after the link came and the loss of the link.
- An exclusive command (reload, table, refresh) is sent only when no announce or withdraw is unanswered, and none is
  sent before its own answer.
- A reload is over when ExaBGP has read its file: the next configuration must not take its place before, or a peer that
  went in between would never have gone.
- `words` has the peers that ExaBGP has, and the outbox has the same ones present, each with its families, when a reload
  is over, or cut short; both change only with a reload.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from itertools import chain
from typing import Final

from bgp import exatext
from bgp.background import in_turns
from bgp.driver.link import CommandRefusedError, Link, LinkLostError
from bgp.exatext import NotUnderstoodError, SessionLine, TableEntry
from bgp.model import Address, Family, Prefix, Route, RouteKey, by_number
from bgp.outbox import Outbox
from bgp.retry import Failing

FORGET_SECONDS: Final = 5.0
"""How long peers that are to go may take to be told so."""
AUDIT_ROUTES: Final = 20_000
"""More are not compared in one audit: ExaBGP writes and we read a line for each, and no route is told meanwhile."""
KEYS_PER_TURN: Final = 250
"""Told before the event loop gets its turn: about 2 ms. One command may be more: 8 ms for a thousand peers."""
LINES_PER_TURN: Final = 200
"""Of a table read before the event loop gets its turn: about 5 ms."""
MANY: Final = 8
"""Fewer peers are always named one by one."""


class Telling:
    def __init__(self, link: Link, *, clock: Callable[[], float], changed: Callable[[], None]) -> None:
        """`changed` is called when all has been told, or something was refused."""
        self._link = link
        self._clock = clock
        self._changed = changed
        self.outbox = Outbox()
        self._words: dict[Address, str] = {}
        self._quiet = False
        self._turn = asyncio.Lock()
        self._quiet_now = asyncio.Event()
        self._idle_now = asyncio.Event()
        self._retry: asyncio.TimerHandle | None = None
        self._audited: Address | None = None
        """The last one whose table was compared by itself."""
        self._unjudged: Iterator[None] = iter(())
        """What the outbox still has to be told of the last reload."""
        self._losses = 0
        """How often the bridge has gone."""
        self.open = False
        self.corrected = 0
        """Entries of the table that were not what ExaBGP had been told, since start."""
        self.unreadable = 0
        """Lines of the table that could not be read, since start."""

    @property
    def idle(self) -> bool:
        return self.outbox.idle

    @property
    def failing(self) -> Mapping[RouteKey, Failing]:
        return self.outbox.failing

    @property
    def peers(self) -> AbstractSet[Address]:
        """What ExaBGP has."""
        return self._words.keys()

    def may_hold(self, prefix: Prefix) -> bool:
        return self.outbox.may_hold(prefix)

    def want(self, key: RouteKey, route: Route | None) -> None:
        """Takes effect with the next `pump`."""
        self.outbox.want(key, route)

    def pump(self) -> None:
        """Send what is due. Also called when the time of a retry has come."""
        if not self.open or self._quiet or not self._link.connected:
            return
        lines: list[str] = []
        keys = 0
        while keys < KEYS_PER_TURN and (command := self.outbox.next_command(self._clock())) is not None:
            lines.append(exatext.command_line(command, self._named(command.peers)))
            keys += len(command.peers)
        if keys >= KEYS_PER_TURN:
            asyncio.get_running_loop().call_soon(self.pump)
        if lines:
            self._link.send(lines)
        self._look()
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        if (at := self.outbox.next_retry_at) is not None:
            self._retry = asyncio.get_running_loop().call_later(max(0.0, at - self._clock()), self.pump)

    def _named(self, peers: Collection[Address]) -> Iterable[str]:
        """The words for these peers; all that ExaBGP has but the others, when these are the most of many."""
        if len(peers) >= MANY and 2 * len(peers) > len(self._words):
            others = self._words.keys() - set(peers) if len(peers) < len(self._words) else ()
            return (exatext.all_but(others),)
        return (self._words[peer] for peer in peers)

    def answered(self, ok: bool) -> None:
        """Call `pump` when no more answers are at hand."""
        self.outbox.answered(ok, self._clock())
        self._look()
        if self.outbox.idle or not ok:
            self._changed()

    def _look(self) -> None:
        for event, happened in ((self._quiet_now, not self.outbox.in_flight), (self._idle_now, self.outbox.idle)):
            if happened:
                event.set()
            else:
                event.clear()

    # Sessions, and the end of things.

    def session_up(self, peer: Address, families: Iterable[Family]) -> None:
        """End-of-RIB of these families is owed; ExaBGP sends its table of the peer by itself."""
        self.outbox.session_up(peer, families)
        self.pump()

    def session_down(self, peer: Address) -> None:
        self.outbox.session_down(peer)

    def link_lost(self) -> None:
        self.open = False
        self._losses += 1
        for _ in self._unjudged:  # what comes next begins with peers and words that are the same
            pass
        self.outbox.disconnected()
        self._look()

    def restarted(self) -> None:
        """ExaBGP is another than before: it has no table, and which peers it has will be seen after a reload."""
        self.outbox.restarted()
        self._words.clear()
        self._look()

    def stop(self) -> None:
        if self._retry is not None:
            self._retry.cancel()

    # Exclusive commands. All raise LinkLostError when the bridge goes away meanwhile.

    async def read_back(self, meanwhile: Callable[[Mapping[RouteKey, Route]], Iterable[None]]) -> None:
        """Compare the table with what it should be; the steps of `meanwhile` may change what is wanted before
        differences count.
        """
        async with self._alone():
            told: dict[RouteKey, Route] = {}
            for entry in await self._table(exatext.SHOW_TABLE):
                told[entry.key] = entry.route
                self._words.setdefault(entry.key.peer, entry.session)
            for count, _ in enumerate(meanwhile(told), 1):
                if count % KEYS_PER_TURN == 0:
                    await self._rest()
            await self._compare(told, list(self._words))
            self.open = True

    async def audit(self) -> None:
        """Compare the table with what ExaBGP was told; of a table that is large, some peers at each call."""
        if self.outbox.told_in_all <= AUDIT_ROUTES:
            await self.read_back(lambda _told: ())
            return
        left = AUDIT_ROUTES
        while left > 0 and self._words:
            async with self._alone():
                alike = exatext.whose_table(self._next_audited(), self._words)
                entries = await self._table(alike.command)
                await self._compare({entry.key: entry.route for entry in entries}, alike.peers)
                left -= max(1, len(entries))

    def _next_audited(self) -> Address:
        """In turn, by address."""
        order = sorted(self._words, key=by_number)
        last, self._audited = self._audited, order[0]
        for peer in order:
            if last is not None and by_number(peer) > by_number(last):
                self._audited = peer
                break
        return self._audited

    async def _table(self, command: str) -> list[TableEntry]:
        found: list[TableEntry] = []
        for count, line in enumerate(await self._link.ask(command), 1):
            if (entry := self._entry(line)) is not None:
                found.append(entry)
            if count % LINES_PER_TURN == 0:
                await self._rest()
        return found

    async def _compare(self, told: Mapping[RouteKey, Route], peers: Iterable[Address]) -> None:
        of_peer: dict[Address, dict[RouteKey, Route]] = {peer: {} for peer in peers}
        for count, (key, route) in enumerate(told.items(), 1):
            if key.peer in of_peer:
                of_peer[key.peer][key] = route
            if count % KEYS_PER_TURN == 0:
                await self._rest()
        for peer, entries in of_peer.items():
            self.corrected += self.outbox.read_back(entries, (peer,))
            await self._rest()

    async def _rest(self) -> None:
        """Others have their turn; what was read is void if the bridge goes away then."""
        losses = self._losses
        await asyncio.sleep(0)
        if losses != self._losses:
            raise LinkLostError("the bridge went away while its table was compared")

    def _entry(self, line: str) -> TableEntry | None:
        try:
            return exatext.read_table_line(line)
        except NotUnderstoodError:
            self.unreadable += 1
            return None

    async def forget(self) -> None:
        """Wait until all that is withdrawn has left for the peers, FORGET_SECONDS at most.

        `done` says that a withdrawal is in the table; it is written to the peer in the next turns of the reactor.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FORGET_SECONDS):
                self.pump()
                await self._idle_now.wait()
        async with self._alone():
            for _ in range(TURNS):
                await self._link.ask(exatext.NOTHING)

    async def reload(
        self, words: Mapping[Address, str], families: Mapping[Address, Collection[Family]], in_force: Callable[[], None]
    ) -> None:
        """ExaBGP has read its file on return; `words` are the peers in it, with these families. Raises
        CommandRefusedError.

        `in_force` is called when all that is read from then on is said with the new configuration in force: last words
        of peers that have gone, first ones of those that are new, which may stand right behind the answer.
        """

        def reloaded() -> None:
            self._reloaded(words, families)
            in_force()

        async with self._alone():
            await self._link.ask(exatext.RELOAD, at_done=reloaded)
            async for _ in in_turns(self._unjudged):
                pass
            await self._link.ask(exatext.NOTHING)  # `done` says that it will read its file; this, that it has

    def _reloaded(self, words: Mapping[Address, str], families: Mapping[Address, Collection[Family]]) -> None:
        before, self._words = self._words, dict(words)
        gone = [peer for peer in before if peer not in words]
        new = [peer for peer, session in words.items() if before.get(peer) != session]
        same = [peer for peer, session in words.items() if before.get(peer) == session]
        for peer in new:
            if peer in before:  # at once: the session of the one that it is now may come up before all is judged
                self.outbox.session_down(peer)
        self._unjudged = chain(
            chain.from_iterable(map(self.outbox.removing, gone)),
            chain.from_iterable(self.outbox.carrying(peer, families[peer]) for peer in same),
            chain.from_iterable(self.outbox.adding(peer, families[peer]) for peer in new),
        )

    async def refresh(self, wanted: Iterable[tuple[Address, Family]]) -> None:
        """Ask peers to send all they have again. A refusal means that the session has gone: nothing to ask."""
        async with self._alone():
            for peer, family in wanted:
                if peer in self._words:
                    with contextlib.suppress(CommandRefusedError):
                        await self._link.ask(exatext.ask_refresh(self._words[peer], family))

    async def ask_for_a_sign(self) -> None:
        """Whatever ExaBGP answers, it lives; that it does not is for others to notice (`bgp.silence`)."""
        async with self._alone():
            await self._link.ask(exatext.NOTHING)

    async def sessions(self) -> dict[Address, SessionLine]:
        """What ExaBGP itself says of its sessions."""
        async with self._alone():
            lines = await self._link.ask(exatext.SHOW_SESSIONS)
        found = (exatext.read_session_line(line) for line in lines)
        return {one.peer: one for one in found if one is not None}

    async def restart_session(self, peer: Address) -> None:
        async with self._alone():
            if peer in self._words:
                with contextlib.suppress(CommandRefusedError):
                    await self._link.ask(exatext.restart_session(self._words[peer]))

    @contextlib.asynccontextmanager
    async def _alone(self) -> AsyncIterator[None]:
        async with self._turn:
            self._quiet = True
            try:
                self._look()
                await self._quiet_now.wait()
                yield
            finally:
                self._quiet = False
                self.pump()


TURNS: Final = 40
"""A turn of ExaBGP's reactor writes UPDATES_PER_TURN messages to each peer: enough for 1,000 withdrawals of IPv6, which
take one message each, and for any number of IPv4, which share messages."""
