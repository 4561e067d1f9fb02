"""What is announced and what each peer is told, kept up to date: stages 4 and 5 of `agent.plan.planner`.

Reshares what each service came to and asks `agent.plan.adverts` again about those whose inputs changed. It decides
nothing itself.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from functools import partial

from agent.model import EndpointSlice, Key, Kind, Namespace, Service
from agent.plan.adverts import (
    NOTHING,
    Offer,
    Part,
    Share,
    aggregate_part,
    merge_parts,
    pod_parts,
    request_problem,
    selects_nothing,
    starving,
    static_parts,
    told,
)
from agent.plan.claims import Claims
from agent.plan.guards import static_problems, too_wide
from agent.plan.identity import Own
from agent.plan.merge import Contributions, Ledger
from agent.plan.model import Origination
from agent.plan.picture import World, one
from agent.plan.prefixes import PrefixIndex, host
from agent.plan.roster import Pass, Problems, Sessions
from agent.plan.services import Subject, Taken, service_offer
from agent.plan.sessions import SessionClaim
from agent.plan.steps import Steps
from agent.plan.vips import ClusterIPs, Known, ServiceAddresses, known_addresses
from bgp.model import Address, Prefix, Route, RouteKey


class Announcements:
    """Stage 4: the prefixes this node originates."""

    __slots__ = (
        "_claims",
        "_cluster_ips",
        "_owner_of_slice",
        "_parts",
        "_problems",
        "_seen",
        "_selected",
        "_shares",
        "_silent",
        "_taken",
        "_users",
        "aggregates",
        "known",
        "originated",
        "silent",
        "to_mesh",
    )

    def __init__(self, claims: Claims, problems: Problems) -> None:
        self.originated: dict[Prefix, Origination] = {}
        self.to_mesh: set[Prefix] = set()
        """The few of `originated` that go to the mesh."""
        self.silent: dict[tuple[Key, str], str] = {}
        self.aggregates: dict[Key, frozenset[Prefix]] = {}
        self.known = ServiceAddresses()
        self._cluster_ips = ClusterIPs()
        self._claims = claims
        self._taken = Taken(claims.taken, self._cluster_ips.of_another, partial(too_wide, claims))
        self._parts = Contributions[Prefix, Part]()
        self._shares = Contributions[Share, None]()
        self._selected = Contributions[str, None]()
        """Advertisements, by the services that they select."""
        self._problems = problems
        self._seen: set[Key] = set()
        """Services that there were when they were last looked at."""
        self._silent: dict[Key, Mapping[tuple[Key, str], str]] = {}
        self._users = _Users()
        self._owner_of_slice: dict[Key, Key] = {}

    def update(
        self, now: Pass, claimed: Collection[Prefix]
    ) -> Steps[tuple[dict[Prefix, Origination | None], list[Known]]]:
        """The prefixes whose origination changed with what it was, and service addresses that came or went.

        `claimed`: prefixes that nodes took up or gave up.
        """
        touched, joined, known = set[Prefix](), set[Share](), list[Known]()
        selecting = set[str]()
        for key in (yield from self._services(now, claimed)):
            service = one(now.picture.world, key, Service)
            (self._seen.discard if service is None else self._seen.add)(key)
            offer = self._offer(now, key, service)
            touched |= self._parts.put(key, offer.parts)
            joined |= self._shares.put(key, dict.fromkeys(offer.shares))
            self._say_aggregates(key, offer)
            selecting |= self._selected.put(key, dict.fromkeys(offer.selected_by))
            self._users.put(key, service, offer.considered)
            known.append(self._know(now, key, service))
            wrong = request_problem(service) if service is not None else None
            self._problems.put(key, {} if wrong is None else {wrong: None})
            yield
        touched |= self._of_the_node(now, claimed)
        touched |= self._aggregate(now, joined)
        self._say_what_selects_nothing(now, selecting)
        changed = dict[Prefix, Origination | None]()
        for prefix in touched:
            old = self.originated.get(prefix)
            if old != (new := self._merge(prefix)):
                changed[prefix] = old
                self._problems.put(prefix, dict.fromkeys(starving(new)))
            yield
        return changed, known

    def _services(self, now: Pass, claimed: Iterable[Prefix]) -> Steps[set[Key]]:
        """Those of which an input may have changed."""
        dirty, world = now.dirty, now.picture.world
        services = {key for key in dirty.keys if key.kind is Kind.SERVICE}
        namespaces = {key.name for key in dirty.keys if key.kind is Kind.NAMESPACE}
        if namespaces:
            services.update(key for key in world.records(Kind.SERVICE) if key.namespace in namespaces)
        slices = {key for key in dirty.keys if key.kind is Kind.ENDPOINT_SLICE}
        if dirty.everything:
            slices.update(self._owner_of_slice, world.records(Kind.ENDPOINT_SLICE))
        for key in slices:
            services.update(self._owners(world, key))
            yield
        for prefix in claimed:
            services.update(self._users.overlapping(prefix))
            yield
        if dirty.everything or now.before.announcing != now.own.announcing:
            services.update(self._seen, world.records(Kind.SERVICE))
        moved = set[Address]()
        for key in services:
            moved |= self._cluster_ips.put(key, one(world, key, Service))
            yield
        for address in moved:
            services.update(self._users.inside(host(address)))
            yield
        return services

    def _owners(self, world: World, slice_key: Key) -> Iterator[Key]:
        """The service a slice was of and the one it is of now."""
        before = self._owner_of_slice.pop(slice_key, None)
        if before is not None:
            yield before
        found = one(world, slice_key, EndpointSlice)
        if found is not None and found.service:
            owner = Key(Kind.SERVICE, found.namespace, found.service)
            self._owner_of_slice[slice_key] = owner
            yield owner

    def _of_the_node(self, now: Pass, claimed: Collection[Prefix]) -> set[Prefix]:
        """Pod CIDRs and static prefixes."""
        before, own = now.before, now.own
        touched = set[Prefix]()
        if _pods(before) != (pods := _pods(own)):
            touched |= self._parts.put("pods", pods)
        around = (before.announcing, before.importing) != (own.announcing, own.importing)
        if before.static != own.static or (own.static and (claimed or around)):
            harmful = tuple(static_problems(own, self._claims))
            self._problems.put("static prefixes", dict.fromkeys(problem for _, problem in harmful))
            wanted = {one.name: static_parts(one, {prefix for prefix, _ in harmful}) for one in own.static}
            for name in wanted.keys() | {one.name for one in before.static}:
                touched |= self._parts.put(("static", name), wanted.get(name, {}))
        return touched

    def _aggregate(self, now: Pass, joined: set[Share]) -> set[Prefix]:
        """`joined`: shares that some service came to, or left."""
        announcing, touched = now.own.announcing, set[Prefix]()
        if now.before.announcing != announcing:
            joined |= {*self._shares.keys()}
        by_name = {one.name: one for one in announcing.advertisements} if announcing is not None else {}
        for member in joined:
            by = by_name.get(member.advertisement) if self._shares.of(member) else None
            touched |= self._parts.put(member, {member.aggregate: aggregate_part(by)} if by is not None else {})
        return touched

    def _say_what_selects_nothing(self, now: Pass, selecting: set[str]) -> None:
        """`selecting`: advertisements that some service came to, or left."""
        if now.before.announcing == now.own.announcing and not selecting:
            return
        here = now.own.announcing.advertisements if now.own.announcing is not None else ()
        idle = [selects_nothing(one) for one in here if not self._selected.of(one.name)]
        self._problems.put("advertisements", dict.fromkeys(idle))

    def _offer(self, now: Pass, key: Key, service: Service | None) -> Offer:
        offer = NOTHING
        if service is not None and now.own.announcing is not None:
            world = now.picture.world
            slices = tuple(world.slices_of(key.namespace, key.name).values())
            namespace = one(world, Key(Kind.NAMESPACE, "", key.namespace), Namespace)
            offer = service_offer(now.own.announcing, Subject(service, namespace, slices), self._taken)
        self._say_silent(key, offer)
        return offer

    def _say_aggregates(self, key: Key, offer: Offer) -> None:
        if offer.shares:
            self.aggregates[key] = offer.aggregates
        else:
            self.aggregates.pop(key, None)

    def _say_silent(self, key: Key, offer: Offer) -> None:
        for said in self._silent.pop(key, ()):
            del self.silent[said]
        if offer.silent:
            self._silent[key] = offer.silent
            self.silent.update(offer.silent)

    def _know(self, now: Pass, key: Key, service: Service | None) -> Known:
        known = Known()
        if service is not None and now.own.announcing is not None:
            known = known_addresses(now.own.announcing, service)
        return self.known.put(key, known)

    def _merge(self, prefix: Prefix) -> Origination | None:
        origination = merge_parts(prefix, self._parts.of(prefix).values())
        if origination is None:
            self.originated.pop(prefix, None)
        else:
            self.originated[prefix] = origination
        if origination is not None and origination.to_mesh:
            self.to_mesh.add(prefix)
        else:
            self.to_mesh.discard(prefix)
        return origination


class _Users:
    """Which services have an address that no node may have: to look at them again when nodes change."""

    __slots__ = ("_addresses", "_index", "_services")

    def __init__(self) -> None:
        self._addresses: dict[Key, frozenset[Prefix]] = {}
        self._services: dict[Prefix, set[Key]] = {}
        self._index = PrefixIndex()

    def put(self, key: Key, service: Service | None, aggregates: frozenset[Prefix]) -> None:
        """`aggregates`: that would hold one of its addresses."""
        wanted = aggregates
        if service is not None:
            wanted = aggregates.union(map(host, (*service.external_ips, *service.load_balancer_ips)))
        before = self._addresses.get(key, frozenset())
        for prefix in before - wanted:
            self._services[prefix].discard(key)
            if not self._services[prefix]:
                del self._services[prefix]
                self._index.drop(prefix)
        for prefix in wanted - before:
            self._services.setdefault(prefix, set()).add(key)
            self._index.put(prefix)
        if wanted:
            self._addresses[key] = wanted
        else:
            self._addresses.pop(key, None)

    def inside(self, prefix: Prefix) -> Iterator[Key]:
        for found in self._index.inside(prefix):
            yield from self._services[found]

    def overlapping(self, prefix: Prefix) -> Iterator[Key]:
        for found in self._index.overlapping(prefix):
            yield from self._services[found]


def _pods(own: Own) -> dict[Prefix, Part]:
    return pod_parts(own.identity, own.pods_to_peers, own.leaving)


class Outbound:
    """Stage 5: the route each peer is told."""

    __slots__ = ("_announcements", "_sessions", "refused", "routes")

    def __init__(self, sessions: Sessions, announcements: Announcements) -> None:
        self.routes = Ledger[RouteKey, Route]()
        self.refused: dict[RouteKey, str] = {}
        self._sessions = sessions
        self._announcements = announcements

    def update(
        self,
        now: Pass,
        held: Mapping[Address, SessionClaim | None],
        changed: Mapping[Prefix, Origination | None],
    ) -> Steps[None]:
        """`held` and `changed`: what of sessions and originations changed, and what it was."""
        peers, originated, to_mesh = (
            self._sessions.peers.values,
            self._announcements.originated,
            self._announcements.to_mesh,
        )
        for_mesh = set[Prefix]()
        for prefix, before in changed.items():
            if prefix in to_mesh or (before is not None and before.to_mesh):
                for_mesh.add(prefix)
            yield
        was, own = now.before, now.own
        other = (was.identity, was.leaving) != (own.identity, own.leaving)
        anew = {*peers, *held} if other else held.keys()
        for address in anew:
            old, new = held.get(address), peers.get(address)
            ever_external = (new is not None and not new.mesh) or (old is not None and not old.peer.mesh)
            prefixes = {*originated, *changed} if ever_external else to_mesh | for_mesh
            yield from self._tell(now.own, [address], prefixes)
        if for_mesh:
            yield from self._tell(now.own, peers.keys() - anew, for_mesh)
        yield from self._tell(now.own, self._sessions.external - anew, changed)

    def take(self) -> Steps[dict[Prefix, set[Address]]]:
        """Who is told something else of which prefix than at the last `take`; what is announced before what is gone."""
        changed, gone = dict[Prefix, set[Address]](), dict[Prefix, set[Address]]()
        for key in (yield from self.routes.take()):
            there = key.prefix in self._announcements.originated
            (changed if there else gone).setdefault(key.prefix, set()).add(key.peer)
            yield
        return {**changed, **gone}

    def _tell(self, own: Own, peers: Iterable[Address], prefixes: Collection[Prefix]) -> Steps[None]:
        identity = own.identity
        for address in peers:
            claim = self._sessions.holders.get(address)
            for prefix in prefixes:
                key, origination = RouteKey(address, prefix), self._announcements.originated.get(prefix)
                outcome = None
                if identity is not None and claim is not None and origination is not None:
                    outcome = told(identity, claim, origination, own.leaving)
                self.routes.set(key, outcome if isinstance(outcome, Route) else None)
                if isinstance(outcome, str):
                    self.refused[key] = outcome
                else:
                    self.refused.pop(key, None)
                yield
