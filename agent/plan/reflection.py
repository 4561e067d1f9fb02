"""What this node passes on as a route reflector, kept up to date: the last stage of `agent.plan.planner`.

One reflector of a thousand clients has a million places in its Adj-RIBs-Out, so none of them is kept: peers that hear
the same (`bgp.reflect.kind_of`) are one kind, a kind remembers only which prefixes are kept from all of it, and what
one peer is told is looked up when somebody asks. The route is one object for all of them. What changed is a prefix for
all, or a peer for the whole table, and spelled out by whoever tells them (`Changed`).

It decides nothing itself. Which path is passed on is `agent.plan.imports`', by which rules `bgp.reflect`'s. What is
reflected leads to other nodes and not through this one, so it never waits for this node's kernel: the loop holds back
prefixes with a discard route only, and those are this node's own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from ipaddress import IPv4Address

from agent.plan.admission import Inbound
from agent.plan.imports import Teller
from agent.plan.roster import Pass, Sessions
from agent.plan.steps import Steps
from bgp.check import Reason
from bgp.model import Address, Path, Peer, Prefix, Route, RouteKey
from bgp.reflect import Reflected, Role, kept_from_address, kept_from_kind, kind_of, reflected


def pass_on(prefix: Prefix, path: Path, teller: Teller, cluster_id: IPv4Address) -> Reflected:
    router_id = teller.session.router_id if teller.session is not None else None
    return reflected(prefix, path, role=Role.of(teller.peer), router_id=router_id, cluster_id=cluster_id)


def hears(peer: Peer) -> bool:
    """Routers of another AS are told what is ours and nothing else: no reason is given for each route either."""
    return peer.internal and peer.held is None


@dataclass(slots=True)
class _Kind:
    peer: Peer
    """As `kind_of` says."""
    members: set[Address] = field(default_factory=set)
    kept: dict[Prefix, Reason] = field(default_factory=dict)
    """Of the prefixes reflected, those that nobody of this kind hears of."""


class Reflection:
    """Stage 7. Its parts of the plan are `Told` and `Kept`, over what is here."""

    __slots__ = ("_cluster_id", "_inbound", "_kinds", "_moved", "_of_peer", "_prefixes", "_sessions", "_what")

    def __init__(self, sessions: Sessions, inbound: Inbound) -> None:
        self._what: dict[Prefix, Reflected] = {}
        self._kinds: dict[Peer, _Kind] = {}
        """Those with members only; none while this node is no reflector."""
        self._of_peer: dict[Address, _Kind] = {}
        self._prefixes: set[Prefix] = set()
        """Of which what is passed on, or that it is, has changed since the last `take`; and of `_moved`, all."""
        self._moved: set[Address] = set()
        self._cluster_id: IPv4Address | None = None
        self._sessions = sessions
        self._inbound = inbound

    def update(self, now: Pass, held: Iterable[Address]) -> Steps[None]:
        """`held`: the peers whose session changed."""
        before, cluster_id, peers = self._cluster_id, now.stood.cluster_id, self._sessions.peers.values
        if cluster_id is None and before is None:
            return
        self._cluster_id = cluster_id
        for address in [*peers, *self._of_peer] if cluster_id is None or before is None else held:
            yield from self._place(address, peers.get(address) if cluster_id is not None else None)
            yield
        for prefix in self._inbound.judged:
            self._pass_on(prefix, self._look(now, prefix))
            yield

    def take(self, own: Mapping[Prefix, AbstractSet[Address]]) -> Changed:
        """Where peers may be told something else than at the last `take`; `own`: of what is announced from here."""
        prefixes, self._prefixes = self._prefixes, set()
        moved, self._moved = self._moved, set()
        return Changed(own, prefixes, moved, self._of_peer.keys(), self._what.keys())

    def outcome(self, key: RouteKey) -> Route | Reason | None:
        """What the peer is told or why it is not; None: there is nothing to pass on, or the peer is not meant."""
        what, kind = self._what.get(key.prefix), self._of_peer.get(key.peer)
        return None if what is None or kind is None else _outcome(what, kind, key.peer)

    def route(self, key: RouteKey) -> Route | None:
        outcome = self.outcome(key)
        return outcome if isinstance(outcome, Route) else None

    def places(self) -> Iterator[RouteKey]:
        """All that have an outcome."""
        for prefix in self._what:
            for address in self._of_peer:
                yield RouteKey(address, prefix)

    def count(self) -> tuple[int, int]:
        """How many places have a route, and how many a reason, without a look at each."""
        told = 0
        for kind in self._kinds.values():
            for prefix, what in self._what.items():
                if prefix not in kind.kept:
                    told += len(kind.members) - len(kind.members.intersection(_kept_from(what)))
        return told, len(self._of_peer) * len(self._what) - told

    def reasons(self) -> Counter[str]:
        """Of the places with a reason, how many have which, without a look at each."""
        found = Counter[str]()
        for kind in self._kinds.values():
            for prefix, what in self._what.items():
                named = kind.members.intersection(_kept_from(what))
                found.update(str(why) for it in named if isinstance(why := _outcome(what, kind, it), Reason))
                if (of_all := kind.kept.get(prefix)) is not None:
                    found[str(of_all)] += len(kind.members) - len(named)
        return found

    def _look(self, now: Pass, prefix: Prefix) -> Reflected | None:
        path = self._inbound.reflected(prefix)
        if path is None or self._cluster_id is None:
            return None
        teller = self._sessions.teller(now.picture, path.peer)
        return pass_on(prefix, path, teller, self._cluster_id) if teller is not None else None

    def _pass_on(self, prefix: Prefix, what: Reflected | None) -> None:
        if self._what.get(prefix) == what:
            return
        self._prefixes.add(prefix)
        if what is None:
            del self._what[prefix]
        else:
            self._what[prefix] = what
        for kind in self._kinds.values():
            kind.kept.pop(prefix, None)
            why = kept_from_kind(what, kind.peer) if what is not None else None
            if why is not None:
                kind.kept[prefix] = why

    def _place(self, address: Address, peer: Peer | None) -> Steps[None]:
        """In the kind that `peer` is of from now on."""
        before, alike = self._of_peer.get(address), kind_of(peer) if peer is not None and hears(peer) else None
        if (before.peer if before is not None else None) == alike:
            return
        self._moved.add(address)
        if before is not None:
            del self._of_peer[address]
            before.members.remove(address)
            if not before.members:
                del self._kinds[before.peer]
        if alike is None:
            return
        kind = self._kinds.get(alike)
        if kind is None:
            kind = _Kind(alike)
            for prefix, what in list(self._what.items()):
                if (why := kept_from_kind(what, alike)) is not None:
                    kind.kept[prefix] = why
                yield
            self._kinds[alike] = kind
        kind.members.add(address)
        self._of_peer[address] = kind


def _kept_from(what: Reflected) -> tuple[Address, ...]:
    """All whom `kept_from_address` can mean."""
    return what.teller, what.route.next_hop


def _outcome(what: Reflected, kind: _Kind, address: Address) -> Route | Reason:
    return kept_from_address(what, address) or kind.kept.get(what.route.prefix) or what.route


class Changed(AbstractSet[RouteKey]):
    """Places where a peer may be told something else than before, spelled out by going through them: prefix by prefix.

    Of what is announced from here, those and no others. Of what is passed on, more: a prefix is named for all peers, or
    a peer for all prefixes; who finds nothing changed there has nothing to do.
    """

    __slots__ = ("_hearing", "_moved", "_own", "_passed_on", "_reflected")

    def __init__(
        self,
        own: Mapping[Prefix, AbstractSet[Address]],
        passed_on: AbstractSet[Prefix],
        moved: AbstractSet[Address],
        hearing: AbstractSet[Address],
        reflected: AbstractSet[Prefix],
    ) -> None:
        """`passed_on` has changed for all who hear or `moved`; `hearing` and `reflected`: all there are, live."""
        self._own = own
        self._passed_on = passed_on
        self._moved = moved
        self._hearing = hearing
        self._reflected = reflected

    def __contains__(self, key: object) -> bool:
        return isinstance(key, RouteKey) and key.peer in self._peers(key.prefix)

    def __iter__(self) -> Iterator[RouteKey]:
        for prefix in self._prefixes():
            for peer in self._peers(prefix):
                yield RouteKey(peer, prefix)

    def __len__(self) -> int:
        return sum(len(self._peers(prefix)) for prefix in self._prefixes())

    def _prefixes(self) -> Iterator[Prefix]:
        yield from self._own
        yield from (prefix for prefix in self._passed_on if prefix not in self._own)
        if self._moved:
            named = (self._own, self._passed_on)
            yield from (prefix for prefix in self._reflected if not any(prefix in some for some in named))

    def _peers(self, prefix: Prefix) -> AbstractSet[Address]:
        found = self._own.get(prefix, frozenset())
        if prefix in self._passed_on:
            return {*found, *self._hearing, *self._moved}
        return {*found, *self._moved} if prefix in self._reflected else found


class Told(Mapping[RouteKey, Route]):
    """What each peer is told: what is ours, and what is reflected. Live.

    No key is in both: what is announced from here, `agent.plan.imports` takes from nobody.
    """

    __slots__ = ("_own", "_reflection")

    def __init__(self, own: Mapping[RouteKey, Route], reflection: Reflection) -> None:
        self._own = own
        self._reflection = reflection

    def __getitem__(self, key: RouteKey) -> Route:
        route = self._own.get(key) or self._reflection.route(key)
        if route is None:
            raise KeyError(key)
        return route

    def __iter__(self) -> Iterator[RouteKey]:
        yield from self._own
        yield from (key for key in self._reflection.places() if self._reflection.route(key) is not None)

    def __len__(self) -> int:
        return len(self._own) + self._reflection.count()[0]


class Kept(Mapping[RouteKey, str]):
    """The reason words for what they are not told. Live; no key is in both."""

    __slots__ = ("_own", "_reflection")

    def __init__(self, own: Mapping[RouteKey, str], reflection: Reflection) -> None:
        self._own = own
        self._reflection = reflection

    def __getitem__(self, key: RouteKey) -> str:
        why = self._own.get(key) or self._reflection.outcome(key)
        if not isinstance(why, str):
            raise KeyError(key)
        return why

    def __iter__(self) -> Iterator[RouteKey]:
        yield from self._own
        yield from (key for key in self._reflection.places() if isinstance(self._reflection.outcome(key), str))

    def __len__(self) -> int:
        return len(self._own) + self._reflection.count()[1]

    def reasons(self) -> Counter[str]:
        """How many have which."""
        return Counter(map(str, self._own.values())) + self._reflection.reasons()
