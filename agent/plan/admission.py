"""What is wanted in the kernel, kept up to date: the last stage of `agent.plan.planner`.

Remembers the verdict on each prefix heard and asks `agent.plan.imports` again about those whose inputs changed. It
decides nothing itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from agent.model import FibKey, FibRoute
from agent.plan.announcer import Announcements
from agent.plan.claims import Claims
from agent.plan.imports import Ground, Teller, Verdict, discards, judge
from agent.plan.merge import Ledger
from agent.plan.prefixes import supernets
from agent.plan.roster import Pass, Sessions
from agent.plan.vips import Known
from bgp.model import Address, Prefix, RouteKey

_NOT_HEARD: Final = Verdict()


class Inbound:
    """Stage 6: the kernel's routes."""

    __slots__ = ("_announcements", "_claims", "_sessions", "_tellers", "_verdicts", "fib", "refused")

    def __init__(self, claims: Claims, sessions: Sessions, announcements: Announcements) -> None:
        self.fib = Ledger[FibKey, FibRoute]()
        self.refused: dict[RouteKey, str] = {}
        self._claims = claims
        self._sessions = sessions
        self._announcements = announcements
        self._tellers: dict[Address, Teller | None] = {}
        """Of the peers met in this pass."""
        self._verdicts: dict[Prefix, Verdict] = {}

    def update(self, now: Pass, claimed: Iterable[Prefix], held: Iterable[Address], known: Iterable[Known]) -> None:
        """`claimed`, `held`, `known`: prefixes of nodes, sessions and service addresses that changed."""
        if now.before.identity != now.own.identity:
            for discard in discards(now.before.identity):
                self.fib.set(discard.key, None)
            for discard in discards(now.own.identity):
                self.fib.set(discard.key, discard)
        rib, prefixes = now.picture.rib, set(now.dirty.prefixes)
        if now.dirty.everything or now.before.importing != now.own.importing:
            prefixes.update(self._verdicts, rib.prefixes())
        else:
            prefixes.update(self._claims.overlapping(claimed))
            prefixes.update(prefix for peer in held for prefix in rib.heard_from(peer))
            prefixes.update(_around(known))
        self._tellers.clear()
        for prefix in prefixes:
            self._judge(now, prefix)

    def _judge(self, now: Pass, prefix: Prefix) -> None:
        paths, importing = now.picture.rib.paths(prefix), now.own.importing
        verdict = _NOT_HEARD
        if paths and importing is not None:
            ground = Ground(self._claims.owner_of(prefix), self._announcements.known.forbid(prefix))
            for address in paths:
                if address not in self._tellers:
                    self._tellers[address] = self._sessions.teller(now.picture, address)
            verdict = judge(importing, prefix, paths, self._tellers.get, ground)
        before = self._verdicts.get(prefix, _NOT_HEARD)
        if before == verdict:
            return
        self.fib.set(FibKey(prefix, 0), verdict.route)
        for peer in before.refused:
            del self.refused[RouteKey(peer, prefix)]
        self.refused.update({RouteKey(peer, prefix): why for peer, why in verdict.refused.items()})
        if verdict == _NOT_HEARD:
            del self._verdicts[prefix]
        else:
            self._verdicts[prefix] = verdict


def _around(known: Iterable[Known]) -> Iterator[Prefix]:
    """The prefixes that service addresses, which came or went, may forbid."""
    for part in known:
        yield from part.exact
        for prefix in part.unranged:
            yield from supernets(prefix)
