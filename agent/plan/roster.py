"""Nodes, this node's own standing and the sessions, kept up to date: the first three stages of `agent.plan.planner`.

Remembers what each object came to and asks `claims`, `identity` and `sessions` again about those that changed. It
decides nothing itself.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, TypeAlias

from agent.intent import ExternalPeer
from agent.model import (
    Key,
    Kind,
    Node,
    Problem,
    Secret,
)
from agent.plan.claims import Claims, Standing, Touched
from agent.plan.external import Wish, external_wish
from agent.plan.identity import Own, introspect
from agent.plan.imports import Teller
from agent.plan.links import Links, reduce_links
from agent.plan.merge import Contributions, Ledger
from agent.plan.mesh import mesh_claim
from agent.plan.picture import Dirty, Picture, every, one
from agent.plan.sessions import SessionClaim, settle
from bgp.model import Address, Peer

Problems: TypeAlias = Contributions[Problem, None]
"""By what was judged: a source of one stage never has the name of another's."""

_RARE: Final = frozenset({Kind.INSTANCE, Kind.SERVICE_CIDR, Kind.ADVERTISEMENT, Kind.PEER})
"""Kinds that `introspect` looks at."""
_WISHES: Final = frozenset({Kind.PEER, Kind.SECRET})


class Nodes:
    """Stage 1: whose claims stand."""

    __slots__ = ("_problems", "claims", "standings")

    def __init__(self, problems: Problems) -> None:
        self.claims = Claims()
        self.standings: dict[str, Standing] = {}
        self._problems = problems

    def update(self, picture: Picture, dirty: Dirty) -> Touched:
        """The nodes whose standing changed, and every prefix that nodes took up or gave up."""
        names = {key.name for key in dirty.keys if key.kind is Kind.NODE}
        if dirty.everything:
            names.update(self.claims.names(), (key.name for key in picture.world.records(Kind.NODE)))
        touched = [self.claims.put(name, one(picture.world, Key(Kind.NODE, "", name), Node)) for name in names]
        affected = {name for part in touched for name in part.nodes}
        changed = frozenset(name for name in affected if self._judge(name))
        return Touched(changed, frozenset(prefix for part in touched for prefix in part.prefixes))

    def _judge(self, name: str) -> bool:
        before, standing = self.standings.get(name), self.claims.standing(name)
        if before == standing:
            return False
        if standing is None:
            del self.standings[name]
        else:
            self.standings[name] = standing
        self._problems.put(("node", name), dict.fromkeys(standing.problems) if standing is not None else {})
        return True


@dataclass(frozen=True, slots=True)
class Pass:
    """One update, from the third stage on."""

    picture: Picture
    dirty: Dirty
    before: Own
    """What stage 2 said in the pass before."""
    own: Own


class Introspection:
    """Stage 2: who this node is, and the frozen values that decide which later stages start anew."""

    __slots__ = ("_links", "_nodes", "_problems", "own")

    def __init__(self, nodes: Nodes, problems: Problems) -> None:
        self.own = Own()
        self._nodes = nodes
        self._links = Links()
        self._problems = problems

    def update(self, picture: Picture, dirty: Dirty, changed: frozenset[str]) -> Pass:
        """`changed`: the nodes whose standing changed."""
        before = self.own
        links = reduce_links(picture.interfaces) if dirty.interfaces or dirty.everything else self._links
        me = Key(Kind.NODE, "", picture.node_name)
        rare = dirty.everything or me in dirty.keys or any(key.kind in _RARE for key in dirty.keys)
        if rare or links != self._links or me.name in changed:
            self._links = links
            self.own = introspect(me.name, picture.world, self._nodes.standings.get(me.name), links)
            self._problems.put("own", dict.fromkeys(self.own.problems))
        return Pass(picture, dirty, before, self.own)


class Sessions:
    """Stage 3: the peers."""

    __slots__ = ("_nodes", "_problems", "_wants", "_wished", "external", "holders", "peers", "secrets")

    def __init__(self, nodes: Nodes, problems: Problems) -> None:
        self.peers = Ledger[Address, Peer]()
        self.holders: dict[Address, SessionClaim] = {}
        """Of each peer, the claim that won."""
        self.external: set[Address] = set()
        """Peers that are not of the mesh."""
        self.secrets: frozenset[str] = frozenset()
        self._wants = Contributions[Address, SessionClaim]()
        self._wished: dict[Key, Wish] = {}
        self._nodes = nodes
        self._problems = problems

    def update(self, now: Pass, changed: Iterable[str]) -> dict[Address, SessionClaim | None]:
        """The addresses whose session changed, or what it admits, with who held it before.

        `changed`: the nodes whose standing changed.
        """
        anew, own, standings = now.before.peering != now.own.peering, now.own, self._nodes.standings
        touched = set[Address]()
        for name in {*standings, *changed} if anew else changed:
            standing, claim = standings.get(name), None
            if own.peering is not None and standing is not None:
                claim = mesh_claim(own.peering, standing)
            touched |= self._put(Key(Kind.NODE, "", name), claim)
        if anew or now.dirty.everything or any(key.kind in _WISHES for key in now.dirty.keys):
            touched |= self._wish(now.picture, own)
        held = {address: self.holders.get(address) for address in touched}
        for address in touched:
            self._settle(address)
        return {address: holder for address, holder in held.items() if holder != self.holders.get(address)}

    def teller(self, picture: Picture, address: Address) -> Teller | None:
        peer = self.peers.values.get(address)
        if peer is None:
            return None
        return Teller(self.holders[address], peer, picture.rib.heard_on(address), picture.rib.is_away(address))

    def _wish(self, picture: Picture, own: Own) -> set[Address]:
        """All BGPPeers at once: a node has few, and Secrets and peers seldom change."""
        secrets = {record.name: record for _, record in every(picture.world, Kind.SECRET, Secret)}
        wished = {}
        if own.peering is not None:
            for key, wanted in every(picture.world, Kind.PEER, ExternalPeer):
                wished[key] = external_wish(own.peering, wanted, secrets)
        touched = set[Address]()
        for key in self._wished.keys() | wished.keys():
            wish = wished.get(key, Wish())
            touched |= self._put(key, wish.claim)
            self._problems.put(("wish", key), dict.fromkeys(wish.problems))
        self._wished = wished
        self.secrets = frozenset(wish.secret for wish in wished.values() if wish.secret is not None)
        return touched

    def _put(self, source: Key, claim: SessionClaim | None) -> set[Address]:
        return self._wants.put(source, {claim.address: claim} if claim is not None else {})

    def _settle(self, address: Address) -> None:
        holder, problems = settle(self._wants.of(address).values())
        peer = holder.peer if holder is not None else None
        self._problems.put(("session", address), dict.fromkeys(problems))
        self.peers.set(address, peer)
        if holder is None or peer is None:
            self.holders.pop(address, None)
        else:
            self.holders[address] = holder
        if peer is None or peer.mesh:
            self.external.discard(address)
        else:
            self.external.add(address)
