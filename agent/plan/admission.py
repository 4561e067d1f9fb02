"""What is wanted in the kernel, kept up to date: the last stage of `agent.plan.planner`.

Remembers the verdict on each prefix heard and asks `agent.plan.imports` again about those whose inputs changed. It
decides nothing itself.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from ipaddress import IPv4Address
from typing import Final

from agent.model import DISCARD_METRIC, FibKey, FibRoute
from agent.plan.adverts import discard
from agent.plan.announcer import Announcements
from agent.plan.claims import Claims
from agent.plan.imports import Verdict, View, ground_of, judge, look_at
from agent.plan.links import set_aside
from agent.plan.merge import Ledger
from agent.plan.prefixes import contains
from agent.plan.refused import Refused
from agent.plan.roster import Pass, Sessions
from agent.plan.steps import Steps
from agent.plan.vips import Known
from bgp.model import Address, Path, Prefix, RouteKey

_NOT_HEARD: Final = Verdict()
"""Of a prefix without paths, and of no other: where there is a path there is a route or a refusal."""
JUDGED_AT_ONCE: Final = 2_000
"""When a peer, or what may be imported at all, has changed, and this many prefixes or fewer were heard, they are judged
in the same pass; else `unjudged` says which are to be judged in others: their routes stay as they are until then. A
route reflector judges all: its clients are told of a change of its role at once."""
_BLOCK: Final = {4: 24, 6: 64}
"""Lengths of pod CIDRs by default, by version."""


class Inbound:
    """Stage 6: the kernel's routes."""

    __slots__ = (
        "_announcements",
        "_aside",
        "_at_once",
        "_blocks",
        "_claims",
        "_cluster_id",
        "_lengths",
        "_looked_at",
        "_sessions",
        "_verdicts",
        "_views",
        "fib",
        "judged",
        "refused",
        "unjudged",
    )

    def __init__(
        self, claims: Claims, sessions: Sessions, announcements: Announcements, *, at_once: int = JUDGED_AT_ONCE
    ) -> None:
        self.fib = Ledger[FibKey, FibRoute]()
        self.refused = Refused()
        self.judged: frozenset[Prefix] = frozenset()
        """In the last pass."""
        self.unjudged: Collection[Prefix] = ()
        """Those that the last pass should have judged as well, had they not been too many."""
        self._at_once = at_once
        self._cluster_id: IPv4Address | None = None
        self._aside: frozenset[Prefix] = frozenset()
        """Addresses of ours on interfaces that are down; none while no service routes are taken."""
        self._claims = claims
        self._sessions = sessions
        self._announcements = announcements
        self._views: dict[int, View] = {}
        self._looked_at: list[Path] = []
        """Of the peers met in this pass."""
        self._verdicts: dict[Prefix, Verdict] = {}
        self._lengths: dict[tuple[int, int], int] = {}
        """How many of `_verdicts` there are of each version and length."""
        self._blocks: dict[Prefix, set[Prefix]] = {}
        """Those of `_verdicts` that are longer than a block, by the block: few, whatever peers give."""

    def update(
        self,
        now: Pass,
        *,
        claimed: Iterable[Prefix],
        held: Iterable[Address],
        known: Iterable[Known],
        originated: Mapping[Prefix, object],
    ) -> Steps[None]:
        """What changed: prefixes of nodes, sessions, service addresses, and prefixes of our own."""
        for prefix in originated:
            self.fib.set(FibKey(prefix, DISCARD_METRIC), discard(self._announcements.originated.get(prefix)))
            yield
        rib, prefixes = now.picture.rib, {*now.dirty.prefixes, *self._verdicts.keys() & originated}
        may_wait = self._cluster_id is None and now.stood.cluster_id is None
        anew = now.before.importing != now.own.importing or self._cluster_id != now.stood.cluster_id
        self._cluster_id = now.stood.cluster_id
        if now.dirty.interfaces or now.dirty.everything or anew:
            prefixes |= self._look_aside(now)
        if now.dirty.everything or anew:
            more = [*self._verdicts, *rib.prefixes()]
        else:
            for prefix in claimed:
                prefixes.update(self._claims.overlapping((prefix,)), self._inside(prefix))
                yield
            for part in known:
                prefixes.update(self._around(part))
                yield
            more = [prefix for peer in held for prefix in rib.heard_from(peer)]
        self.unjudged = ()
        if may_wait and len(more) > self._at_once:
            self.unjudged = yield from self._lost_first(now, more)
        for prefix in () if self.unjudged else more:
            prefixes.add(prefix)
            yield
        self._views.clear()
        self._looked_at.clear()
        self.judged = frozenset(prefixes)
        for prefix in prefixes:
            self._judge(now, prefix)
            yield

    def _lost_first(self, now: Pass, prefixes: Iterable[Prefix]) -> Steps[Collection[Prefix]]:
        """The same, each once; first those that lead to a next hop that is none any more."""
        lost, others, importing = dict[Prefix, None](), dict[Prefix, None](), now.own.importing
        gone = dict[Address, bool]()
        for prefix in prefixes:
            route = self._verdicts.get(prefix, _NOT_HEARD).route
            for gateway, _ in route.next_hops if route is not None else ():
                if gateway not in gone:
                    # What leads to a link-local one depends on the session alone, which says itself what it had told.
                    gone[gateway] = not (
                        gateway.is_link_local or (importing is not None and importing.reach.is_neighbour(gateway))
                    )
                if gone[gateway]:
                    lost[prefix] = None
            if prefix not in lost:
                others[prefix] = None
            yield
        return [*lost, *others]

    def reflected(self, prefix: Prefix) -> Path | None:
        """The path to pass on, when this node is a route reflector."""
        return self._verdicts.get(prefix, _NOT_HEARD).reflected

    def _look_aside(self, now: Pass) -> set[Prefix]:
        """The prefixes heard that are set aside now and were not, or the other way."""
        importing, before = now.own.importing, self._aside
        wanted = importing is not None and importing.service_routes
        self._aside = set_aside(now.picture.interfaces) if wanted else frozenset()
        return self._verdicts.keys() & (before ^ self._aside)

    def _around(self, known: Known) -> Iterator[Prefix]:
        """The prefixes heard that service addresses, which came or went, may forbid or admit."""
        yield from known.exact
        yield from known.reachable
        for prefix in known.unranged:
            for version, length in self._lengths:
                if version == prefix.version and length <= prefix.prefixlen:
                    yield prefix.supernet(new_prefix=length)

    def _inside(self, claimed: Prefix) -> Iterator[Prefix]:
        """The prefixes heard that are parts of a pod CIDR. All are gone through for one that is wider than usual."""
        if claimed.prefixlen == claimed.max_prefixlen:
            return
        length = _BLOCK[claimed.version]
        among: Iterable[Prefix] = self._verdicts
        if claimed.prefixlen >= length:
            among = self._blocks.get(claimed.supernet(new_prefix=length), ())
        yield from (heard for heard in among if contains(claimed, heard))

    def _view_of(self, path: Path) -> View:
        return self._views[id(path)]

    def _judge(self, now: Pass, prefix: Prefix) -> None:
        paths, importing = now.picture.rib.paths_to(prefix), now.own.importing
        verdict = _NOT_HEARD
        if paths and importing is not None:
            ground = ground_of(
                prefix,
                self._claims,
                self._announcements.known,
                originated=self._announcements.originated,
                aside=self._aside,
            )
            for path in paths:
                if id(path) not in self._views:
                    teller = self._sessions.teller(now.picture, path.peer)
                    self._views[id(path)] = look_at(importing, path, teller, cluster_id=self._cluster_id)
                    self._looked_at.append(path)
            verdict = judge(importing, prefix, paths, self._view_of, ground, reflects=self._cluster_id is not None)
        before = self._verdicts.get(prefix, _NOT_HEARD)
        if before is verdict or (before is not _NOT_HEARD and before == verdict):
            return
        self.fib.set(FibKey(prefix, 0), verdict.route)
        for peer, why in before.refused.items():
            del self.refused[key := RouteKey(peer, prefix)]
            self.refused.count(key, why, -1)
        for peer, why in verdict.refused.items():
            self.refused[key := RouteKey(peer, prefix)] = why
            self.refused.count(key, why, +1)
        if verdict is _NOT_HEARD:
            del self._verdicts[prefix]
            self._count(prefix, -1)
        else:
            if before is _NOT_HEARD:
                self._count(prefix, +1)
            self._verdicts[prefix] = verdict

    def _count(self, prefix: Prefix, change: int) -> None:
        kind = prefix.version, prefix.prefixlen
        self._lengths[kind] = self._lengths.get(kind, 0) + change
        if not self._lengths[kind]:
            del self._lengths[kind]
        length = _BLOCK[prefix.version]
        if prefix.prefixlen > length:
            block = prefix.supernet(new_prefix=length)
            members = self._blocks.setdefault(block, set())
            (members.add if change > 0 else members.discard)(prefix)
            if not members:
                del self._blocks[block]
