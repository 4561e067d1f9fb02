"""The plan of a node by definition: from the whole picture, nothing remembered.

`make_plan` says what is right; `agent.plan.planner.Planner` must always have the same plan and only gets there with
less work. Both ask the same functions about single objects (`claims`, `identity`, `sessions`, `adverts`, `imports`);
here they are asked about every object.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from agent.intent import ExternalPeer
from agent.model import (
    Key,
    Kind,
    Node,
    Problem,
    Secret,
    Service,
)
from agent.plan.adverts import Part, Taken, merge_parts, pod_offer, service_offer, told
from agent.plan.claims import Claims, Standing
from agent.plan.external import external_wish
from agent.plan.identity import Announcing, Importing, Own, introspect
from agent.plan.imports import Ground, Teller, Verdict, discards, judge, look_at
from agent.plan.links import reduce_links
from agent.plan.mesh import mesh_claim
from agent.plan.model import NodePlan, Origination
from agent.plan.picture import Picture, World, every
from agent.plan.sessions import SessionClaim, settle
from agent.plan.vips import ClusterIPs, ServiceAddresses, known_addresses
from bgp.model import Address, Peer, Prefix, Route, RouteKey


def make_plan(picture: Picture) -> NodePlan:
    world = picture.world
    claims = Claims()
    for key, node in every(world, Kind.NODE, Node):
        claims.put(key.name, node)
    standings = [standing for name in claims.names() if (standing := claims.standing(name)) is not None]
    standing = next((standing for standing in standings if standing.name == picture.node_name), None)
    own = introspect(picture.node_name, world, standing, reduce_links(picture.interfaces))
    problems = {problem for standing in standings for problem in standing.problems}.union(own.problems)
    sessions = _sessions(own, standings, world)
    announced = _announced(own, claims, world)
    routes, refused_out = _told(own, sessions.peers, announced.originated)
    verdicts = _verdicts(own.importing, own.announcing, picture, sessions, claims)
    fib = [*discards(own.identity), *(verdict.route for verdict in verdicts.values() if verdict.route is not None)]
    return NodePlan(
        identity=own.identity,
        peers=sessions.peers,
        originated=announced.originated,
        routes=routes,
        refused_out=refused_out,
        fib={route.key: route for route in fib},
        refused_in={
            RouteKey(peer, prefix): why for prefix, verdict in verdicts.items() for peer, why in verdict.refused.items()
        },
        not_advertised=announced.silent,
        problems=frozenset(problems | sessions.problems),
        secrets=frozenset(sessions.secrets),
    )


@dataclass(slots=True)
class _Sessions:
    peers: dict[Address, Peer] = field(default_factory=dict)
    claims: dict[Address, SessionClaim] = field(default_factory=dict)
    problems: set[Problem] = field(default_factory=set)
    secrets: set[str] = field(default_factory=set)


def _sessions(own: Own, standings: Iterable[Standing], world: World) -> _Sessions:
    sessions = _Sessions()
    if own.peering is None:
        return sessions
    claims = [claim for standing in standings if (claim := mesh_claim(own.peering, standing)) is not None]
    secrets = {record.name: record for _, record in every(world, Kind.SECRET, Secret)}
    for _, wanted in every(world, Kind.PEER, ExternalPeer):
        wish = external_wish(own.peering, wanted, secrets)
        sessions.problems.update(wish.problems)
        if wish.claim is not None:
            claims.append(wish.claim)
        if wish.secret is not None:
            sessions.secrets.add(wish.secret)
    by_address = defaultdict[Address, list[SessionClaim]](list)
    for claim in claims:
        by_address[claim.address].append(claim)
    for address, rivals in by_address.items():
        holder, problems = settle(rivals)
        sessions.problems.update(problems)
        if holder is not None and holder.peer is not None:
            sessions.peers[address] = holder.peer
            sessions.claims[address] = holder
    return sessions


@dataclass(slots=True)
class _Announced:
    originated: dict[Prefix, Origination] = field(default_factory=dict)
    silent: dict[tuple[Key, str], str] = field(default_factory=dict)


def _announced(own: Own, claims: Claims, world: World) -> _Announced:
    announced = _Announced()
    offers = [pod_offer(own.identity, to_external=own.pods_to_external)]
    if own.announcing is not None:
        cluster_ips = ClusterIPs()
        for key, service in every(world, Kind.SERVICE, Service):
            cluster_ips.put(key, service)
        taken = Taken(claims.taken, cluster_ips.of_another)
        for _, service in every(world, Kind.SERVICE, Service):
            slices = world.slices_of(service.namespace, service.name).values()
            offers.append(service_offer(own.announcing, service, slices, taken))
    parts = defaultdict[Prefix, list[Part]](list)
    for offer in offers:
        announced.silent.update(offer.silent)
        for prefix, part in offer.parts.items():
            parts[prefix].append(part)
    for prefix, wanted in parts.items():
        origination = merge_parts(prefix, wanted)
        if origination is not None:
            announced.originated[prefix] = origination
    return announced


def _told(
    own: Own, peers: Mapping[Address, Peer], originated: Mapping[Prefix, Origination]
) -> tuple[dict[RouteKey, Route], dict[RouteKey, str]]:
    routes, refused = dict[RouteKey, Route](), dict[RouteKey, str]()
    if own.identity is None:
        return routes, refused
    for_mesh = {prefix: origination for prefix, origination in originated.items() if origination.to_mesh}
    for peer in peers.values():
        for prefix, origination in (for_mesh if peer.mesh else originated).items():
            key, outcome = RouteKey(peer.address, prefix), told(own.identity, peer, origination)
            if isinstance(outcome, Route):
                routes[key] = outcome
            elif outcome is not None:
                refused[key] = outcome
    return routes, refused


def _verdicts(
    importing: Importing | None,
    announcing: Announcing | None,
    picture: Picture,
    sessions: _Sessions,
    claims: Claims,
) -> dict[Prefix, Verdict]:
    if importing is None or announcing is None:
        return {}
    addresses, rib = ServiceAddresses(), picture.rib
    for key, service in every(picture.world, Kind.SERVICE, Service):
        addresses.put(key, known_addresses(announcing, service))
    tellers = {
        address: Teller(sessions.claims[address], peer, rib.heard_on(address), rib.is_away(address))
        for address, peer in sessions.peers.items()
    }
    return {
        prefix: judge(
            importing,
            prefix,
            rib.paths_to(prefix),
            lambda path: look_at(importing, path, tellers.get(path.peer)),
            Ground(claims.owner_of(prefix), claims.is_part(prefix), addresses.forbid(prefix)),
        )
        for prefix in rib.prefixes()
    }
