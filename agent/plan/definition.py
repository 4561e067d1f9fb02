"""The plan of a node by definition: from the whole picture, nothing remembered.

`make_plan` says what is right; `agent.plan.planner.Planner` must always have the same plan and only gets there with
less work. Both ask the same functions about single objects (`claims`, `identity`, `sessions`, `adverts`, `imports`);
here they are asked about every object.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from ipaddress import IPv4Address

from agent.intent import ExternalPeer, Instance
from agent.model import (
    Key,
    Kind,
    Namespace,
    Node,
    Problem,
    Secret,
    Service,
)
from agent.plan.adverts import (
    Part,
    Share,
    aggregate_part,
    discard,
    merge_parts,
    pod_parts,
    request_problem,
    selects_nothing,
    starving,
    static_parts,
    told,
)
from agent.plan.claims import Claims
from agent.plan.external import Here, external_wish
from agent.plan.guards import static_problems, too_wide
from agent.plan.identity import Own, introspect
from agent.plan.imports import Teller, Verdict, ground_of, judge, look_at
from agent.plan.links import Exits, reduce_exits, reduce_links, set_aside
from agent.plan.mesh import Left, mesh_secrets, names, node_claim, still_reflecting
from agent.plan.model import NodePlan, Origination
from agent.plan.nodes import Member, rank, survey, twins_problem
from agent.plan.picture import Picture, World, every, one
from agent.plan.reflection import hears, pass_on
from agent.plan.selectors import idle
from agent.plan.services import Subject, Taken, service_offer
from agent.plan.sessions import SessionClaim, settle
from agent.plan.topology import Standpoint, Topology
from agent.plan.vips import ClusterIPs, ServiceAddresses, known_addresses
from bgp.model import Address, Path, Peer, Prefix, Route, RouteKey
from bgp.reflect import kept_from


def make_plan(picture: Picture) -> NodePlan:
    world = picture.world
    ranked = rank(instance for _, instance in every(world, Kind.INSTANCE, Instance))
    claims, members = survey((node for _, node in every(world, Kind.NODE, Node)), ranked)
    me = members.get(picture.node_name)
    before = picture.identity if picture.node_name not in picture.over else None
    own = introspect(
        picture.node_name,
        world,
        me,
        reduce_links(picture.interfaces),
        departure=picture.departure,
        gateways=picture.gateways,
        before=before,
        written_before=picture.written,
        excluded_nodes=frozenset(name for name, member in members.items() if member.excluded),
    )
    problems = {problem for member in members.values() for problem in member.problems}.union(own.problems)
    problems.update(_twins(me, members.values()), idle(world))
    exits = reduce_exits(picture.interfaces, picture.gateways)
    stood = _stand(picture, members)
    sessions = _sessions(own, stood, members, picture, exits)
    stood = still_reflecting(stood, own.identity, (sessions.mesh[name] for name in sessions.left))
    announced = _announced(own, claims, world)
    routes, refused_out = _told(own, sessions.claims, announced.originated)
    tellers = _tellers(sessions, picture)
    verdicts = _verdicts(own, stood, picture, tellers, claims=claims, originated=announced.originated)
    if stood.cluster_id is not None:
        paths = {prefix: verdict.reflected for prefix, verdict in verdicts.items()}
        _reflect(routes, refused_out, paths, tellers, stood.cluster_id)
    guards = [guard for origination in announced.originated.values() if (guard := discard(origination)) is not None]
    fib = [*guards, *(verdict.route for verdict in verdicts.values() if verdict.route is not None)]
    return NodePlan(
        identity=own.identity,
        leave=own.leave,
        standpoint=stood,
        peers=sessions.peers,
        mesh=sessions.mesh,
        parting=names(sessions.left, Left.SESSION) | own.parting,
        written=own.written,
        former_clients=names(sessions.left, Left.CLIENT),
        originated=announced.originated,
        damping=own.damping,
        aggregates=announced.aggregates,
        routes=routes,
        refused_out=refused_out,
        fib={route.key: route for route in fib},
        refused_in={
            RouteKey(peer, prefix): why for prefix, verdict in verdicts.items() for peer, why in verdict.refused.items()
        },
        not_advertised=announced.silent,
        problems=frozenset(problems | sessions.problems | announced.problems).union(stood.problems),
        secrets=frozenset(sessions.secrets),
    )


def _twins(me: Member | None, members: Iterable[Member]) -> tuple[Problem, ...]:
    if me is None:
        return ()
    mine = me.asn, me.router_id
    return twins_problem(
        me, (other.name for other in members if other is not me and mine == (other.asn, other.router_id))
    )


@dataclass(slots=True)
class _Sessions:
    peers: dict[Address, Peer] = field(default_factory=dict)
    claims: dict[Address, SessionClaim] = field(default_factory=dict)
    problems: set[Problem] = field(default_factory=set)
    secrets: set[str] = field(default_factory=set)
    mesh: dict[str, SessionClaim] = field(default_factory=dict)
    left: dict[str, Left] = field(default_factory=dict)


def _stand(picture: Picture, members: Mapping[str, Member]) -> Standpoint:
    topology = Topology()
    for name, member in members.items():
        topology.put(name, member)
    return topology.look(picture.node_name, picture.small)


def _sessions(own: Own, stood: Standpoint, members: Mapping[str, Member], picture: Picture, exits: Exits) -> _Sessions:
    sessions = _Sessions()
    if own.peering is None:
        return sessions
    world = picture.world
    for name in dict.fromkeys([*members, *picture.mesh]):
        before = picture.mesh.get(name) if name not in picture.over else None
        claim, left = node_claim(own.peering, stood, members.get(name), before)
        if left is not None:
            sessions.left[name] = left
        if claim is not None:
            sessions.mesh[name] = claim
    claims = list(sessions.mesh.values())
    sessions.secrets.update(mesh_secrets(own.peering))
    secrets = {record.name: record for _, record in every(world, Kind.SECRET, Secret)}
    here = Here(own.peering, exits)
    for _, wanted in every(world, Kind.PEER, ExternalPeer):
        wish = external_wish(here, wanted, secrets)
        sessions.problems.update(wish.problems)
        claims += wish.claims
        if wish.secret is not None:
            sessions.secrets.add(wish.secret)
    by_address = defaultdict[Address, list[SessionClaim]](list)
    for claim in claims:
        by_address[claim.address].append(claim)
    for address, rivals in by_address.items():
        holder, problems = settle(rivals)
        sessions.problems.update(problems)
        if holder is not None:
            sessions.peers[address] = holder.peer
            sessions.claims[address] = holder
    return sessions


@dataclass(slots=True)
class _Announced:
    originated: dict[Prefix, Origination] = field(default_factory=dict)
    silent: dict[tuple[Key, str], str] = field(default_factory=dict)
    aggregates: dict[Key, frozenset[Prefix]] = field(default_factory=dict)
    problems: set[Problem] = field(default_factory=set)


def _announced(own: Own, claims: Claims, world: World) -> _Announced:
    announced = _Announced()
    harmful = tuple(static_problems(own, claims))
    announced.problems.update(problem for _, problem in harmful)
    requests = (request_problem(service) for _, service in every(world, Kind.SERVICE, Service))
    announced.problems.update(problem for problem in requests if problem is not None)
    found: list[Mapping[Prefix, Part]] = [pod_parts(own.identity, own.pods_to_peers, own.leaving)]
    found += [static_parts(one, {prefix for prefix, _ in harmful}) for one in own.static]
    if own.announcing is not None:
        shares, selecting, by_name = (
            set[Share](),
            set[str](),
            {one.name: one for one in own.announcing.advertisements},
        )
        cluster_ips = ClusterIPs()
        for key, service in every(world, Kind.SERVICE, Service):
            cluster_ips.put(key, service)
        taken = Taken(claims.taken, cluster_ips.of_another, partial(too_wide, claims))
        for _, service in every(world, Kind.SERVICE, Service):
            slices = tuple(world.slices_of(service.namespace, service.name).values())
            namespace = one(world, Key(Kind.NAMESPACE, "", service.namespace), Namespace)
            subject = Subject(service, namespace, slices)
            offer = service_offer(own.announcing, subject, taken)
            announced.silent.update(offer.silent)
            shares |= offer.shares
            if offer.shares:
                announced.aggregates[subject.key] = offer.aggregates
            selecting |= offer.selected_by
            found.append(offer.parts)
        found += [{share.aggregate: aggregate_part(by_name[share.advertisement])} for share in shares]
        announced.problems |= {selects_nothing(one) for name, one in by_name.items() if name not in selecting}
    parts = defaultdict[Prefix, list[Part]](list)
    for offered in found:
        for prefix, part in offered.items():
            parts[prefix].append(part)
    for prefix, wanted in parts.items():
        origination = merge_parts(prefix, wanted)
        if origination is not None:
            announced.originated[prefix] = origination
            announced.problems.update(starving(origination))
    return announced


def _told(
    own: Own, claims: Mapping[Address, SessionClaim], originated: Mapping[Prefix, Origination]
) -> tuple[dict[RouteKey, Route], dict[RouteKey, str]]:
    routes, refused = dict[RouteKey, Route](), dict[RouteKey, str]()
    if own.identity is None:
        return routes, refused
    for_mesh = {prefix: origination for prefix, origination in originated.items() if origination.to_mesh}
    for address, claim in claims.items():
        for prefix, origination in (for_mesh if claim.peer.mesh else originated).items():
            key, outcome = RouteKey(address, prefix), told(own.identity, claim, origination, own.leaving)
            if isinstance(outcome, Route):
                routes[key] = outcome
            elif outcome is not None:
                refused[key] = outcome
    return routes, refused


def _tellers(sessions: _Sessions, picture: Picture) -> dict[Address, Teller]:
    rib = picture.rib
    return {
        address: Teller(sessions.claims[address], peer, rib.heard_on(address), rib.is_away(address))
        for address, peer in sessions.peers.items()
        if peer.held is None
    }


def _reflect(
    routes: dict[RouteKey, Route],
    refused: dict[RouteKey, str],
    paths: Mapping[Prefix, Path | None],
    tellers: Mapping[Address, Teller],
    cluster_id: IPv4Address,
) -> None:
    """`tellers` are all peers that are not held."""
    for prefix, path in paths.items():
        if path is None:
            continue
        what = pass_on(prefix, path, tellers[path.peer], cluster_id)
        for teller in filter(lambda teller: hears(teller.peer), tellers.values()):
            key, why = RouteKey(teller.peer.address, prefix), kept_from(what, teller.peer)
            if why is None:
                routes[key] = what.route
            else:
                refused[key] = why


def _verdicts(
    own: Own,
    stood: Standpoint,
    picture: Picture,
    tellers: Mapping[Address, Teller],
    *,
    claims: Claims,
    originated: Mapping[Prefix, Origination],
) -> dict[Prefix, Verdict]:
    importing, announcing, cluster_id = own.importing, own.announcing, stood.cluster_id
    if importing is None or announcing is None:
        return {}
    addresses, rib = ServiceAddresses(), picture.rib
    aside = set_aside(picture.interfaces) if importing.service_routes else frozenset()
    for key, service in every(picture.world, Kind.SERVICE, Service):
        addresses.put(key, known_addresses(announcing, service))
    return {
        prefix: judge(
            importing,
            prefix,
            rib.paths_to(prefix),
            lambda path: look_at(importing, path, tellers.get(path.peer), cluster_id=cluster_id),
            ground_of(prefix, claims, addresses, originated=originated, aside=aside),
            reflects=cluster_id is not None,
        )
        for prefix in rib.prefixes()
    }
