"""Adj-RIB-Out as wanted and told: which command ExaBGP should get next, and what it may hold by now.

Two sides of one diff: `want` changes what should be told, answers change what is told, and `next_command` closes the
difference. It refuses to read or write anything, to speak ExaBGP's language (`bgp.exatext`), to know the time, or to
judge whether a route is legal on a session (`bgp.check`).

What it relies on (ExaBGP 5.0.15): announces and withdraws are answered in the order sent; an announce replaces the
route of the same prefix; a withdraw of an unknown prefix is accepted but goes out as an UPDATE each time; the table of
a peer survives its session and the API process, but not ExaBGP itself; a command answered `error` changed nothing; nor
did a route of a family that the peer does not have, though the answer is `done`, and what was held of a family is gone
with the reload that takes the family away.

Invariants:
- `held` has a key from before its announce is handed out until its withdraw was answered: `may_hold` never says no too
  early. A value of None means that nobody knows what ExaBGP holds: settled by telling again.
- A key has at most one command in flight; what is wanted meanwhile is looked at when the answer is there.
- One command is for as many peers as are to be told the same of one prefix: a reflector tells a thousand clients the
  same, and reading a command costs ExaBGP ten times what one more peer in it does. Its answer is that of all its keys.
- A key is dirty exactly when its peer is there with its family, wanted and held differ, it is not in flight and not
  waiting to be tried again. `next_command` costs the same whatever the size of the table.
- End-of-RIB of a session is handed out only while no key of that peer is dirty or in flight: all that is wanted has
  been answered. A refused route does not hold it back: it was answered too. Nor while it is put off.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

from bgp.adjout import Table, Tables
from bgp.check import Reason
from bgp.commands import Announce, Command, SendEndOfRib, Withdraw
from bgp.model import Address, Family, Prefix, Route, RouteKey
from bgp.queues import Queue, Queues, put, take, take_all
from bgp.retry import Failing, Retries

WINDOW: Final = 64
"""Commands in flight at most …"""
WINDOW_KEYS: Final = 4096
"""… and keys they are about, but for the last command: their answers may all come together, and are taken in one go."""
PEERS_PER_COMMAND: Final = 2048
"""About 350 kB, if each is named; ExaBGP takes no line of more than 1 MiB (5.0.15)."""

KEYS_PER_STEP: Final = 250
"""Judged before others may have their turn: about 1 ms."""

VERSIONS: Final = {Family.IPV4: 4, Family.IPV6: 6}


@dataclass(slots=True, eq=False)
class _Sent:
    command: Command
    before: Mapping[Address, Route | None] = field(default_factory=dict)
    """What each peer's table held of the prefix before: what it still holds if the command is refused."""
    void: set[Address] = field(default_factory=set)
    """Peers of which the answer says nothing any more: they, or their session, have been replaced meanwhile."""


class Outbox:
    """Not safe for use from several threads; every method is cheap but those that name a whole peer."""

    def __init__(self, *, keys_per_step: int = KEYS_PER_STEP) -> None:
        self._keys_per_step = keys_per_step
        self._tables = Tables()
        self._dirty = Queues()
        self._sent: deque[_Sent] = deque()
        self._busy = 0
        """Keys in flight."""
        self._end_of_rib_ready: dict[Address, None] = {}
        self._put_off: frozenset[Address] = frozenset()
        self._retries: Retries[RouteKey] = Retries()
        self._marker_retries: Retries[SendEndOfRib] = Retries()

    # What is wanted, and what happens to peers, sessions and ExaBGP.

    def want(self, key: RouteKey, route: Route | None) -> None:
        """Change the wanted side of one key; None: nothing shall be told. Telling the same again changes nothing."""
        peer, prefix = key
        table = self._tables.of(peer)
        before = table.wanted.get(prefix)
        if before is not route and before != route:
            if route is None:
                del table.wanted[prefix]
            else:
                table.wanted[prefix] = route
            if before is None or route is None:
                table.unsettled -= take(self._dirty.leaving if before is None else self._dirty.announcing, peer, prefix)
            self._forget(peer, prefix)
            self._judge(peer, prefix, table)
        if not table.present:
            self._tables.drop_if_empty(peer)

    def peer_added(self, peer: Address) -> None:
        """ExaBGP has this peer since its last reload, with an empty table."""
        for _ in self.adding(peer):
            pass

    def adding(self, peer: Address, families: Iterable[Family] = Family) -> Iterator[None]:
        """`peer_added` in steps of a few keys. No command may be asked for before the last one."""
        table = self._tables.of(peer)
        if table.present:
            yield from self._empty(peer, table)
        table.present, table.versions = True, _versions(families)
        for sent in self._sent:
            # Sent before: it may have gone to the table that was, or to the one that is.
            if not isinstance(sent.command, SendEndOfRib) and peer in sent.command.peers:
                sent.void.add(peer)
                self._tables.hold(table, sent.command.prefix, None)
        yield from self._judging(peer, table)

    def carrying(self, peer: Address, families: Iterable[Family]) -> Iterator[None]:
        """ExaBGP has these families for the peer since its last reload; in steps, as `adding`. Nothing is in flight."""
        table, versions = self._tables.get(peer), _versions(families)
        if table is None or table.versions == versions:
            return
        table.versions = versions
        for prefix in [prefix for prefix in table.held if prefix.version not in versions]:
            self._tables.release(table, prefix)
        yield from self._judging(peer, table)

    def peer_removed(self, peer: Address) -> None:
        """ExaBGP has forgotten this peer and its table; what is wanted for it stays wanted."""
        for _ in self.removing(peer):
            pass

    def removing(self, peer: Address) -> Iterator[None]:
        """`peer_removed` in steps, as `adding`."""
        table = self._tables.get(peer)
        if table is None:
            return
        self.session_down(peer)
        yield from self._empty(peer, table)
        table.present = False
        for sent in self._sent:
            sent.void.add(peer)
        yield from self._judging(peer, table)
        self._tables.drop_if_empty(peer)

    def session_up(self, peer: Address, families: Iterable[Family]) -> None:
        """Owe End-of-RIB of each family, once all wanted has been answered. ExaBGP resends its table itself."""
        self.session_down(peer)
        table = self._tables.of(peer)
        table.owed.update(families)
        self._weigh_end_of_rib(peer, table)
        self._tables.drop_if_empty(peer)

    def session_down(self, peer: Address) -> None:
        """Nothing is owed to a session that is gone. The table stays in ExaBGP."""
        for sent in self._sent:
            if isinstance(sent.command, SendEndOfRib) and sent.command.peer == peer:
                sent.void.add(peer)
        for family in Family:
            self._marker_retries.forget(SendEndOfRib(peer, family))
        if table := self._tables.get(peer):
            table.owed.clear()
            self._weigh_end_of_rib(peer, table)
            self._tables.drop_if_empty(peer)

    def put_off_end_of_rib(self, peers: Iterable[Address]) -> None:
        """From these peers, and from no others, routes are kept for now that must come before End-of-RIB."""
        before, self._put_off = self._put_off, frozenset(peers)
        for peer in before ^ self._put_off:
            if table := self._tables.get(peer):
                self._weigh_end_of_rib(peer, table)

    def restarted(self) -> None:
        """ExaBGP started anew: it has no peers, nothing is told, nothing in flight, no session up."""
        self._sent.clear()
        self._busy = 0
        self._dirty.clear()
        self._end_of_rib_ready.clear()
        self._retries.clear()
        self._marker_retries.clear()
        self._tables.forget_told()

    def disconnected(self) -> None:
        """The bridge is gone: commands in flight may or may not have been carried out, and no answer will come.

        Do not ask for commands before the bridge is back.
        """
        while self._sent:
            sent = self._sent.popleft()
            if not isinstance(sent.command, SendEndOfRib):
                for peer in sent.command.peers:
                    self._no_longer_busy(peer, sent.command.prefix, self._tables.of(peer))
            elif sent.command.peer not in sent.void:
                self._owe(sent.command)

    def read_back(self, told: Mapping[RouteKey, Route], peers: Iterable[Address]) -> int:
        """Take what ExaBGP really holds for `peers`; how many entries differed from what was believed.

        Peers not known before are from now on (the agent restarted, ExaBGP did not); they and entries that were unknown
        do not count. Entries of other peers, and keys in flight, are not looked at.
        """
        actual: dict[Address, dict[Prefix, Route]] = {peer: {} for peer in peers}
        for key, route in told.items():
            if key.peer in actual:
                actual[key.peer][key.prefix] = route
        return sum(self._correct(peer, routes) for peer, routes in actual.items())

    def _correct(self, peer: Address, actual: Mapping[Prefix, Route]) -> int:
        table = self._tables.of(peer)
        believed = dict(table.held)
        differed = 0
        for prefix in believed.keys() | actual.keys():
            if prefix in table.busy:
                continue
            route = actual.get(prefix)
            known = prefix not in believed or believed[prefix] is not None
            differed += table.present and known and believed.get(prefix) != route
            if route is None:
                self._tables.release(table, prefix)
            else:
                self._tables.hold(table, prefix, route)
        for prefix in believed.keys() - actual.keys():
            self._judge(peer, prefix, table)  # perhaps it was to be withdrawn, and now need not be
        table.present = True
        self._judge_all(peer, table)
        return differed

    # Commands and answers.

    def next_command(self, now: float) -> Command | None:
        """Hand out one command, in flight from now on. None: nothing to do, window full, or only retries wait."""
        for key in self._retries.take_due(now):
            self._judge(key.peer, key.prefix, self._tables.of(key.peer))
        for marker in self._marker_retries.take_due(now):
            self._owe(marker)
        if len(self._sent) >= WINDOW or self._busy >= WINDOW_KEYS:
            return None
        if self._end_of_rib_ready:
            return self._take_end_of_rib()
        return self._take_change(self._dirty.next_queue()) if self._dirty else None

    def _take_change(self, queue: Queue) -> Announce | Withdraw:
        """The prefix that has been in it for longest, for all peers that are to be told the same of it."""
        prefix, dirty = next(iter(queue.items()))
        route = self._tables.of(next(iter(dirty))).wanted.get(prefix)
        peers = tuple(islice(self._wanting(dirty, prefix, route), PEERS_PER_COMMAND))
        before = self._tables.doubt(prefix, peers)
        self._busy += len(peers)
        take_all(queue, peers, prefix)
        command = Withdraw(peers, prefix) if route is None else Announce(peers, route)
        self._sent.append(_Sent(command, before))
        return command

    def _wanting(self, peers: Iterable[Address], prefix: Prefix, route: Route | None) -> Iterator[Address]:
        for peer in peers:
            wanted = self._tables.of(peer).wanted.get(prefix)
            if wanted is route or wanted == route:
                yield peer

    def _take_end_of_rib(self) -> SendEndOfRib:
        peer = next(iter(self._end_of_rib_ready))
        table = self._tables.of(peer)
        command = SendEndOfRib(peer, min(table.owed))
        table.owed.discard(command.family)
        self._weigh_end_of_rib(peer, table)
        self._sent.append(_Sent(command))
        return command

    def answered(self, ok: bool, now: float) -> None:
        """The answer to the oldest command in flight. Raises ValueError when there is none."""
        if not self._sent:
            raise ValueError("an answer came while nothing was in flight")
        sent = self._sent.popleft()
        command = sent.command
        if isinstance(command, SendEndOfRib):
            if not ok and command.peer not in sent.void:
                self._marker_retries.fail(command, Reason.SPEAKER_REFUSED, now)
            return
        prefix, said = command.prefix, command.route if isinstance(command, Announce) else None
        if ok and not sent.void and not self._retries:
            self._carried_out(prefix, said, command.peers)
            return
        for peer in command.peers:
            table = self._tables.of(peer)
            if peer not in sent.void:
                held = said if ok else sent.before.get(peer)
                if held is not None or (not ok and peer in sent.before):
                    self._tables.hold(table, prefix, held)
                else:
                    self._tables.release(table, prefix)
                if ok:
                    self._forget(peer, prefix)
                elif table.wanted.get(prefix) == said:
                    self._retries.fail(RouteKey(peer, prefix), Reason.SPEAKER_REFUSED, now)
            self._no_longer_busy(peer, prefix, table)

    def _carried_out(self, prefix: Prefix, said: Route | None, peers: Collection[Address]) -> None:
        """What `answered` does when all went well, at half the cost: it is done for a thousand peers in one go.

        Keys in flight are not dirty, and none waits to be tried again.
        """
        for peer in peers:
            table = self._tables.of(peer)
            if said is None:
                self._tables.release(table, prefix)
            else:
                table.held[prefix] = said  # in place of None, since it went into flight
                table.told[prefix.version] += 1
            table.busy.remove(prefix)
            table.unsettled -= 1
            wanted = table.wanted.get(prefix)
            if wanted is not said:
                self._judge(peer, prefix, table)
            elif table.owed:
                self._weigh_end_of_rib(peer, table)
        self._busy -= len(peers)

    @property
    def in_flight(self) -> int:
        return len(self._sent)

    @property
    def idle(self) -> bool:
        """Nothing is in flight and nothing can be sent now; what is failing waits for its time (`next_retry_at`)."""
        return not (self._sent or self._dirty or self._end_of_rib_ready)

    @property
    def failing(self) -> Mapping[RouteKey, Failing]:
        """A live view."""
        return self._retries.failing

    @property
    def refusals(self) -> int:
        """How often a command was refused, ever."""
        return self._retries.failures + self._marker_retries.failures

    @property
    def next_retry_at(self) -> float | None:
        times = [at for at in (self._retries.next_at, self._marker_retries.next_at) if at is not None]
        return min(times, default=None)

    def may_hold(self, prefix: Prefix) -> bool:
        """Some peer is, or may be, told of it: its kernel route must stay."""
        return self._tables.may_hold(prefix)

    @property
    def told_in_all(self) -> int:
        """For all peers together."""
        return sum(sum(table.told.values()) for _, table in self._tables.all())

    def wanted_for(self) -> list[Address]:
        """The peers that something is wanted for."""
        return [peer for peer, table in self._tables.all() if table.wanted]

    def wanted(self, peer: Address) -> list[Prefix]:
        table = self._tables.get(peer)
        return [] if table is None else list(table.wanted)

    def is_wanted(self, key: RouteKey) -> bool:
        table = self._tables.get(key.peer)
        return table is not None and key.prefix in table.wanted

    def is_told(self, key: RouteKey) -> bool:
        """What is wanted of this key is what ExaBGP surely holds."""
        table = self._tables.get(key.peer)
        return table is not None and key.prefix in table.wanted and not table.differs(key.prefix)

    def is_settled(self, key: RouteKey) -> bool:
        """ExaBGP surely holds what is wanted of this key, be it nothing."""
        table = self._tables.get(key.peer)
        return table is None or not table.differs(key.prefix)

    def unsettled(self) -> Iterator[RouteKey]:
        """What is to be told or withdrawn, and what is not answered yet; without what waits to be tried again.

        Keys may come and go between two of them.
        """
        for queue in (self._dirty.announcing, self._dirty.leaving):
            for prefix in list(queue):
                for peer in list(queue.get(prefix, ())):
                    yield RouteKey(peer, prefix)
        for sent in list(self._sent):
            if not isinstance(sent.command, SendEndOfRib):
                for peer in sent.command.peers:
                    yield RouteKey(peer, sent.command.prefix)

    def told_count(self, peer: Address, family: Family) -> int:
        """How many prefixes ExaBGP surely holds for the peer; costs nothing."""
        table = self._tables.get(peer)
        return 0 if table is None else table.told[VERSIONS[family]]

    def told_to(self, peer: Address, family: Family) -> Iterator[Route]:
        """Those that `told_count` counts."""
        table = self._tables.get(peer)
        held = () if table is None else table.held.values()
        return (route for route in held if route is not None and route.prefix.version == VERSIONS[family])

    # One place for each kind of change.

    def _judge(self, peer: Address, prefix: Prefix, table: Table) -> None:
        """Make the key dirty or clean; call after any change of wanted, held, present, in flight or waiting."""
        queue = self._queue(prefix, table)
        differs = table.present and table.differs(prefix)
        busy = prefix in table.busy
        carried = prefix.version in table.versions
        if differs and carried and not busy and not (self._retries and self._retries.waits(RouteKey(peer, prefix))):
            table.unsettled += put(queue, peer, prefix)
        else:
            table.unsettled -= take(queue, peer, prefix)
        if not differs and not busy:
            self._forget(peer, prefix)
        if table.owed:
            self._weigh_end_of_rib(peer, table)

    def _judge_all(self, peer: Address, table: Table) -> None:
        for _ in self._judging(peer, table):
            pass

    def _judging(self, peer: Address, table: Table) -> Iterator[None]:
        fresh = table.present and not (table.held or table.unsettled or self._retries)
        for count, prefix in enumerate(list(table.prefixes()), 1):
            if fresh:
                self._judge_fresh(peer, prefix, table)
            else:
                self._judge(peer, prefix, table)
            if count % self._keys_per_step == 0:
                yield
        self._weigh_end_of_rib(peer, table)
        yield

    def _judge_fresh(self, peer: Address, prefix: Prefix, table: Table) -> None:
        """`_judge` where nothing is held, dirty, in flight or waiting, at a third of its cost: what is wanted is."""
        if prefix in table.wanted and prefix.version in table.versions:
            table.unsettled += put(self._dirty.announcing, peer, prefix)

    def _no_longer_busy(self, peer: Address, prefix: Prefix, table: Table) -> None:
        table.busy.remove(prefix)
        self._busy -= 1
        table.unsettled -= 1
        self._judge(peer, prefix, table)
        if not table.present:
            self._tables.drop_if_empty(peer)

    def _forget(self, peer: Address, prefix: Prefix) -> None:
        if self._retries:
            self._retries.forget(RouteKey(peer, prefix))

    def _weigh_end_of_rib(self, peer: Address, table: Table) -> None:
        if table.owed and table.present and not table.unsettled and peer not in self._put_off:
            self._end_of_rib_ready[peer] = None
        else:
            self._end_of_rib_ready.pop(peer, None)

    def _owe(self, command: SendEndOfRib) -> None:
        table = self._tables.of(command.peer)
        table.owed.add(command.family)
        self._weigh_end_of_rib(command.peer, table)

    def _empty(self, peer: Address, table: Table) -> Iterator[None]:
        """ExaBGP's table of the peer is gone; keys are to be judged afterwards."""
        for count, prefix in enumerate(list(table.prefixes()), 1):
            if count % self._keys_per_step == 0:
                yield
            self._tables.release(table, prefix)
            self._forget(peer, prefix)
            table.unsettled -= take(self._queue(prefix, table), peer, prefix)

    def _queue(self, prefix: Prefix, table: Table) -> Queue:
        """The one that the key is in, if it is dirty."""
        return self._dirty.announcing if prefix in table.wanted else self._dirty.leaving


def _versions(families: Iterable[Family]) -> frozenset[int]:
    return frozenset(VERSIONS[family] for family in families)
