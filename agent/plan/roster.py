"""Nodes, who this node is and the sessions, kept up to date: the first three stages of `agent.plan.planner`.

Remembers what each object came to and asks `claims`, `identity` and `sessions` again about those that changed. It
decides nothing itself.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Final, TypeAlias

from agent.intent import ExternalPeer, Instance
from agent.model import (
    Key,
    Kind,
    Node,
    Problem,
    Secret,
)
from agent.plan.claims import Claims, Touched
from agent.plan.external import Here, Wish, external_wish
from agent.plan.identity import Own, introspect
from agent.plan.imports import Teller
from agent.plan.leaving import Departure
from agent.plan.links import Exits, Links, reduce_exits, reduce_links
from agent.plan.merge import Contributions, Ledger
from agent.plan.mesh import Left, mesh_secrets, node_claim
from agent.plan.nodes import Member, Ranked, instance_of, member_of, rank, session_addresses, twins_problem
from agent.plan.picture import Dirty, Picture, every, one
from agent.plan.sessions import SessionClaim, settle
from agent.plan.steps import Steps
from agent.plan.topology import Area, Standpoint, Topology, retied
from bgp.model import Address, Peer

Problems: TypeAlias = Contributions[Problem, None]
"""By what was judged: a source of one stage never has the name of another's."""

_RARE: Final = frozenset({Kind.INSTANCE, Kind.SERVICE_CIDR, Kind.ADVERTISEMENT, Kind.PEER, Kind.SECRET})
"""Kinds that `introspect` looks at."""
_WISHES: Final = frozenset({Kind.PEER, Kind.SECRET})


class Nodes:
    """Stage 1: what each node is, and whose claims stand."""

    __slots__ = ("_by_router_id", "_problems", "_ranked", "claims", "excluded", "members", "topology")

    def __init__(self, problems: Problems) -> None:
        self.claims = Claims()
        self.members: dict[str, Member] = {}
        self.excluded = frozenset[str]()
        """Those of `members` that announce no service address."""
        self.topology = Topology()
        self._by_router_id: dict[tuple[int | None, IPv4Address], set[str]] = {}
        self._ranked: Ranked = ()
        self._problems = problems

    def update(self, picture: Picture, dirty: Dirty) -> Steps[Touched]:
        """The nodes that are now something else, and every prefix that nodes took up or gave up."""
        world = picture.world
        names = {key.name for key in dirty.keys if key.kind is Kind.NODE}
        if dirty.everything or any(key.kind is Kind.INSTANCE for key in dirty.keys):
            before, self._ranked = self._ranked, rank(found for _, found in every(world, Kind.INSTANCE, Instance))
            if dirty.everything or before != self._ranked:
                names.update(self.claims.names(), (key.name for key in world.records(Kind.NODE)))
        touched, changed = list[Touched](), set[str]()
        for name in names:
            touched.append(self._claim(name, one(world, Key(Kind.NODE, "", name), Node)))
            yield
        for name in names.union(*(part.nodes for part in touched)):
            if self._judge(name, one(world, Key(Kind.NODE, "", name), Node)):
                changed.add(name)
            yield
        if changed or dirty.everything:
            self._compare_router_ids(picture.node_name)
        return Touched(frozenset(changed), frozenset(prefix for part in touched for prefix in part.prefixes))

    def _claim(self, name: str, node: Node | None) -> Touched:
        if node is None:
            return self.claims.put(name, None)
        return self.claims.put(name, node, session_addresses(node, instance_of(node.labels, self._ranked)))

    def _judge(self, name: str, node: Node | None) -> bool:
        before, standing, member = self.members.get(name), self.claims.standing(name), None
        if node is not None and standing is not None:
            member = member_of(node, instance_of(node.labels, self._ranked), standing)
        if before == member:
            return False
        if (before is not None and before.excluded) != (member is not None and member.excluded):
            self.excluded ^= {name}
        if before is not None:
            del self.members[name]
            self._by_router_id[before.asn, before.router_id].discard(name)
            if not self._by_router_id[before.asn, before.router_id]:
                del self._by_router_id[before.asn, before.router_id]
        if member is not None:
            self.members[name] = member
            self._by_router_id.setdefault((member.asn, member.router_id), set()).add(name)
        self.topology.put(name, member)
        self._problems.put(("node", name), dict.fromkeys(member.problems) if member is not None else {})
        return True

    def _compare_router_ids(self, name: str) -> None:
        own = self.members.get(name)
        twins = self._by_router_id[own.asn, own.router_id] - {name} if own is not None else set[str]()
        self._problems.put("router id", dict.fromkeys(twins_problem(own, twins)) if own is not None else {})


@dataclass(frozen=True, slots=True)
class Pass:
    """One update, from the third stage on."""

    picture: Picture
    dirty: Dirty
    before: Own
    """What stage 2 said in the pass before."""
    own: Own
    stood: Standpoint
    """Among the other nodes."""
    retied: frozenset[str] | None
    """Nodes whose tie with this one may be another; None: all."""


class Introspection:
    """Stage 2: who this node is, and the frozen values that decide which later stages start anew."""

    __slots__ = ("_departure", "_excluded", "_links", "_nodes", "_problems", "_small", "own", "stood")

    def __init__(self, nodes: Nodes, problems: Problems) -> None:
        self.own = Own()
        self.stood = Standpoint()
        self._small: frozenset[Area] = frozenset()
        self._nodes = nodes
        self._excluded = frozenset[str]()
        self._links = Links()
        self._departure = Departure()
        self._problems = problems

    def update(self, picture: Picture, dirty: Dirty, changed: frozenset[str]) -> Pass:
        """`changed`: the nodes that are now something else."""
        before = self.own
        links = reduce_links(picture.interfaces) if dirty.interfaces or dirty.everything else self._links
        me = Key(Kind.NODE, "", picture.node_name)
        rare = dirty.everything or me in dirty.keys or any(key.kind in _RARE for key in dirty.keys)
        rare = rare or dirty.gateways or picture.departure != self._departure or self._nodes.excluded != self._excluded
        ended = me.name in picture.over
        if rare or links != self._links or ended or me.name in changed:
            self._links, self._departure, self._excluded = links, picture.departure, self._nodes.excluded
            member, was = self._nodes.members.get(me.name), before.identity if not ended else None
            self.own = introspect(
                me.name,
                picture.world,
                member,
                links,
                departure=picture.departure,
                gateways=picture.gateways,
                before=was,
                written_before=picture.written,
                excluded_nodes=self._nodes.excluded,
            )
            self._problems.put("own", dict.fromkeys(self.own.problems))
        turned = self._stand(picture, dirty, changed)
        return Pass(picture, dirty, before, self.own, self.stood, turned)

    def _stand(self, picture: Picture, dirty: Dirty, changed: frozenset[str]) -> frozenset[str] | None:
        before = self.stood
        if not changed and picture.small == self._small and not dirty.everything:
            return frozenset()
        self._small = picture.small
        self.stood = self._nodes.topology.look(picture.node_name, picture.small)
        self._problems.put("topology", dict.fromkeys(self.stood.problems))
        return retied(before, self.stood)


class Sessions:
    """Stage 3: the peers."""

    __slots__ = (
        "_exits",
        "_nodes",
        "_problems",
        "_wants",
        "_wished",
        "external",
        "holders",
        "left",
        "mesh",
        "peers",
        "secrets",
    )

    def __init__(self, nodes: Nodes, problems: Problems) -> None:
        self.peers = Ledger[Address, Peer]()
        self.holders: dict[Address, SessionClaim] = {}
        """Of each peer, the claim that won."""
        self.external: set[Address] = set()
        """Peers that are not of the mesh."""
        self.mesh: dict[str, SessionClaim] = {}
        self.left: dict[str, Left] = {}
        """What of `mesh` is there for a while only."""
        self.secrets: frozenset[str] = frozenset()
        self._exits = Exits()
        self._wants = Contributions[Address, SessionClaim]()
        self._wished: dict[Key, Wish] = {}
        self._nodes = nodes
        self._problems = problems

    def update(self, now: Pass, changed: Iterable[str]) -> Steps[dict[Address, SessionClaim | None]]:
        """The addresses whose session changed, or what it admits, with who held it before.

        `changed`: the nodes that are now something else.
        """
        anew, own, members = now.before.peering != now.own.peering, now.own, self._nodes.members
        touched, over = set[Address](), now.picture.over
        for name in (
            {*members, *now.picture.mesh, *changed} if anew or now.retied is None else {*now.retied, *changed, *over}
        ):
            touched |= self._mesh(now, name, members.get(name))
            yield
        exits_changed = self._look_for_exits(now)
        if anew or exits_changed or now.dirty.everything or any(key.kind in _WISHES for key in now.dirty.keys):
            touched |= yield from self._wish(now.picture, own)
        held = dict[Address, SessionClaim | None]()
        for address in touched:
            before = self.holders.get(address)
            self._settle(address)
            if before != self.holders.get(address):
                held[address] = before
            yield
        return held

    def teller(self, picture: Picture, address: Address) -> Teller | None:
        peer = self.peers.values.get(address)
        if peer is None or peer.held is not None:
            return None
        return Teller(self.holders[address], peer, picture.rib.heard_on(address), picture.rib.is_away(address))

    def _mesh(self, now: Pass, name: str, member: Member | None) -> set[Address]:
        """The session with one other node: wanted, kept for a while, or none."""
        peering, claim = now.own.peering, None
        self.left.pop(name, None)
        if peering is not None:
            before = now.picture.mesh.get(name) if name not in now.picture.over else None
            claim, left = node_claim(peering, now.stood, member, before)
            if left is not None:
                self.left[name] = left
        if claim is None:
            self.mesh.pop(name, None)
            return self._put(Key(Kind.NODE, "", name))
        self.mesh[name] = claim
        return self._put(Key(Kind.NODE, "", name), claim)

    def _look_for_exits(self, now: Pass) -> bool:
        dirty, before = now.dirty, self._exits
        if dirty.interfaces or dirty.gateways or dirty.everything:
            self._exits = reduce_exits(now.picture.interfaces, now.picture.gateways)
        return self._exits != before

    def _wish(self, picture: Picture, own: Own) -> Steps[set[Address]]:
        """All BGPPeers at once: a node has few, and Secrets and peers seldom change."""
        secrets = {record.name: record for _, record in every(picture.world, Kind.SECRET, Secret)}
        wished = {}
        if own.peering is not None:
            here = Here(own.peering, self._exits)
            for key, wanted in list(every(picture.world, Kind.PEER, ExternalPeer)):
                wished[key] = external_wish(here, wanted, secrets)
                yield
        touched = set[Address]()
        for key in self._wished.keys() | wished.keys():
            wish = wished.get(key, Wish())
            touched |= self._put(key, *wish.claims)
            self._problems.put(("wish", key), dict.fromkeys(wish.problems))
            yield
        self._wished = wished
        self.secrets = mesh_secrets(own.peering).union(
            wish.secret for wish in wished.values() if wish.secret is not None
        )
        return touched

    def _put(self, source: Key, *claims: SessionClaim) -> set[Address]:
        return self._wants.put(source, {claim.address: claim for claim in claims})

    def _settle(self, address: Address) -> None:
        holder, problems = settle(self._wants.of(address).values())
        peer = holder.peer if holder is not None else None
        self._problems.put(("session", address), dict.fromkeys(problems))
        self.peers.set(address, peer)
        if holder is None:
            self.holders.pop(address, None)
        else:
            self.holders[address] = holder
        if peer is None or peer.mesh:
            self.external.discard(address)
        else:
            self.external.add(address)
