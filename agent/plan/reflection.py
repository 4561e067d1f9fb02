"""What this node passes on as a route reflector, kept up to date: the last stage of `agent.plan.planner`.

One reflector of a thousand clients has a million places in its Adj-RIBs-Out, so none of them is kept: peers that hear
the same (`bgp.reflect.kind_of`) are one kind, a kind remembers only which prefixes are kept from all of it, and what
one peer is told is looked up when somebody asks. The route is one object for all of them. A changed path costs one
prefix and a key for each peer that hears of it; a new client costs the table.

It decides nothing itself. Which path is passed on is `agent.plan.imports`', by which rules `bgp.reflect`'s. What is
reflected leads to other nodes and not through this one, so it never waits for this node's kernel: the loop holds back
prefixes with a discard route only, and those are this node's own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address

from agent.plan.admission import Inbound
from agent.plan.imports import Teller
from agent.plan.roster import Pass, Sessions
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

    __slots__ = ("_changed", "_cluster_id", "_inbound", "_kinds", "_of_peer", "_sessions", "_what")

    def __init__(self, sessions: Sessions, inbound: Inbound) -> None:
        self._what: dict[Prefix, Reflected] = {}
        self._kinds: dict[Peer, _Kind] = {}
        """Those with members only; none while this node is no reflector."""
        self._of_peer: dict[Address, _Kind] = {}
        self._changed: set[RouteKey] = set()
        self._cluster_id: IPv4Address | None = None
        self._sessions = sessions
        self._inbound = inbound

    def update(self, now: Pass, held: Iterable[Address]) -> None:
        """`held`: the peers whose session changed."""
        before, cluster_id, peers = self._cluster_id, now.stood.cluster_id, self._sessions.peers.values
        if cluster_id is None and before is None:
            return
        self._cluster_id = cluster_id
        moved = _Moved(frozenset(held) if cluster_id is not None and before is not None else frozenset())
        if before is None:
            for address, peer in peers.items():
                self._place(address, peer)
        for prefix in self._inbound.judged:
            self._pass_on(prefix, self._look(now, prefix), moved)
        for address in moved.addresses:
            self._move(address, peers.get(address), moved)
        if cluster_id is None:
            self._kinds.clear()
            self._of_peer.clear()

    def take(self) -> frozenset[RouteKey]:
        """The places where a peer is told something else than at the last `take`."""
        changed, self._changed = self._changed, set()
        return frozenset(changed)

    def outcome(self, key: RouteKey) -> Route | Reason | None:
        """What the peer is told or why it is not; None: there is nothing to pass on, or the peer is not meant."""
        what, kind = self._what.get(key.prefix), self._of_peer.get(key.peer)
        return None if what is None or kind is None else _outcome(what, kind, key.peer)

    def route(self, key: RouteKey) -> Route | None:
        outcome = self.outcome(key)
        return outcome if isinstance(outcome, Route) else None

    def places(self) -> Iterator[RouteKey]:
        """All that have an outcome."""
        for address in self._of_peer:
            for prefix in self._what:
                yield RouteKey(address, prefix)

    def count(self) -> tuple[int, int]:
        """How many places have a route, and how many a reason, without a look at each."""
        told = 0
        for kind in self._kinds.values():
            for prefix, what in self._what.items():
                if prefix not in kind.kept:
                    told += len(kind.members) - len(kind.members.intersection(_kept_from(what)))
        return told, len(self._of_peer) * len(self._what) - told

    def _look(self, now: Pass, prefix: Prefix) -> Reflected | None:
        path = self._inbound.reflected(prefix)
        if path is None or self._cluster_id is None:
            return None
        teller = self._sessions.teller(now.picture, path.peer)
        return pass_on(prefix, path, teller, self._cluster_id) if teller is not None else None

    def _pass_on(self, prefix: Prefix, what: Reflected | None, moved: _Moved) -> None:
        before = self._what.get(prefix)
        if before == what:
            return
        if what is None:
            del self._what[prefix]
        else:
            self._what[prefix] = what
        for kind in self._kinds.values():
            kept = kind.kept.pop(prefix, None)
            why = kept_from_kind(what, kind.peer) if what is not None else None
            if why is not None:
                kind.kept[prefix] = why
            self._tell(kind, prefix, before if kept is None else None, what if why is None else None, moved)

    def _tell(
        self, kind: _Kind, prefix: Prefix, before: Reflected | None, what: Reflected | None, moved: _Moved
    ) -> None:
        """What its members heard and hear now, but for those whom the rules keep it from one by one."""
        singled_out = kind.members & {address for it in (before, what) if it is not None for address in _kept_from(it)}
        hearing = set[Address]()
        if (before and before.route) != (what and what.route):
            hearing = kind.members - singled_out
        told = {address: _told(before, address) for address in singled_out}
        hearing.update(address for address in singled_out if told[address] != _told(what, address))
        for address in hearing & moved.addresses:
            moved.told.setdefault(address, {})[prefix] = _told(before, address)
        self._changed.update([RouteKey(address, prefix) for address in hearing - moved.addresses])

    def _move(self, address: Address, peer: Peer | None, moved: _Moved) -> None:
        told = {prefix: self.route(RouteKey(address, prefix)) for prefix in self._what}
        told.update(moved.told.get(address, {}))
        self._place(address, peer)
        keys = ((RouteKey(address, prefix), route) for prefix, route in told.items())
        self._changed.update(key for key, route in keys if route != self.route(key))

    def _place(self, address: Address, peer: Peer | None) -> None:
        """In the kind that `peer` is of from now on."""
        before = self._of_peer.pop(address, None)
        if before is not None:
            before.members.remove(address)
            if not before.members:
                del self._kinds[before.peer]
        if peer is None or not hears(peer):
            return
        kind = self._kinds.get(alike := kind_of(peer))
        if kind is None:
            reasons = ((prefix, kept_from_kind(what, alike)) for prefix, what in self._what.items())
            kind = self._kinds[alike] = _Kind(alike, kept={prefix: why for prefix, why in reasons if why is not None})
        kind.members.add(address)
        self._of_peer[address] = kind


@dataclass(slots=True)
class _Moved:
    """The peers that come, go or change in one update, and what they were told of the prefixes that change with it."""

    addresses: frozenset[Address]
    told: dict[Address, dict[Prefix, Route | None]] = field(default_factory=dict)


def _kept_from(what: Reflected) -> tuple[Address, ...]:
    """All whom `kept_from_address` can mean."""
    return what.teller, what.route.next_hop


def _told(what: Reflected | None, address: Address) -> Route | None:
    return None if what is None or kept_from_address(what, address) else what.route


def _outcome(what: Reflected, kind: _Kind, address: Address) -> Route | Reason:
    return kept_from_address(what, address) or kind.kept.get(what.route.prefix) or what.route


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
