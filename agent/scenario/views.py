"""A plan as plain values that JSON can hold, with keys as the agent's own answers have them; as text: its printer's."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final, TypeAlias

from agent.model import FibRoute, Problem
from agent.plan.model import Identity, NodePlan, Origination
from agent.plan.prefixes import by_family
from bgp.model import Attributes, Peer, Route, RouteKey, by_number

View: TypeAlias = dict[str, Any]
SCHEMA: Final = "bgpilot.plan/1"


def plan_view(node: str, version: str, plan: NodePlan, not_read: Iterable[Problem]) -> View:
    """In stable order, IPv4 before IPv6."""
    return {
        "schema": SCHEMA,
        "version": version,
        "node": node,
        "identity": None if plan.identity is None else _identity(plan, plan.identity),
        "leaving": None if plan.leave is None else {"reason": str(plan.leave.cause), "text": plan.leave.what},
        "peers": [_peer(plan, plan.peers[address]) for address in sorted(plan.peers, key=by_number)],
        "announced": [_origination(plan.originated[prefix]) for prefix in sorted(plan.originated, key=by_family)],
        "told": [_route(key, plan.routes[key]) for key in _in_order(plan.routes)],
        "not_told": [_refused(key, plan.refused_out[key]) for key in _in_order(plan.refused_out)],
        "kernel": list(_kernel(plan.fib.values())),
        "not_installed": [_refused(key, plan.refused_in[key]) for key in _in_order(plan.refused_in)],
        "not_advertised": [
            {"subject": str(key), "what": what, "reason": str(reason)}
            for (key, what), reason in sorted(plan.not_advertised.items())
        ],
        "secrets": sorted(plan.secrets),
        "problems": _problems(plan.problems),
        "not_read": _problems(not_read),
    }


def _in_order(keys: Iterable[RouteKey]) -> list[RouteKey]:
    return sorted(keys, key=lambda key: (*by_number(key.peer), *by_family(key.prefix)))


def _identity(plan: NodePlan, identity: Identity) -> View:
    cluster_id = plan.standpoint.cluster_id
    return {
        "asn": identity.asn,
        "instance": identity.instance or None,
        "router_id": str(identity.router_id),
        "router_id_source": identity.router_id_source,
        "addresses": list(map(str, identity.addresses)),
        "pod_cidrs": list(map(str, identity.pod_cidrs)),
        "pod_routes": str(identity.pod_routes),
        "cluster_id": None if cluster_id is None else str(cluster_id),
    }


def _peer(plan: NodePlan, peer: Peer) -> View:
    return {
        "address": str(peer.address),
        "name": peer.name,
        "remote_as": peer.peer_asn,
        "local_as": peer.local_asn,
        "local_address": None if peer.local_address.is_unspecified else str(peer.local_address),
        "families": sorted(map(str, peer.families)),
        "mesh": peer.mesh,
        "client": peer.client,
        "passive": peer.passive,
        "port": peer.port,
        "hold_seconds": peer.hold_seconds,
        "password": peer.password is not None,
        "held": None if peer.held is None else str(peer.held.reason),
        "parting": peer.mesh and peer.name.partition("/")[2] in plan.parting,
    }


def _origination(found: Origination) -> View:
    return {
        "prefix": str(found.prefix),
        "sources": list(found.sources),
        "to_mesh": found.to_mesh,
        "to_routers": bool(found.to_peers),
    }


def _route(key: RouteKey, route: Route) -> View:
    return {
        "peer": str(key.peer),
        "prefix": str(route.prefix),
        "next_hop": str(route.next_hop),
        **_attributes(route.attributes),
    }


def _attributes(said: Attributes) -> View:
    return {
        "as_path": [step if isinstance(step, int) else sorted(step) for step in said.as_path],
        "local_preference": said.local_pref,
        "med": said.med,
        "communities": sorted(f"{it.asn}:{it.value}" for it in said.communities),
        "large_communities": sorted(f"{it.admin}:{it.data1}:{it.data2}" for it in said.large_communities),
        "originator_id": None if said.originator_id is None else str(said.originator_id),
        "cluster_list": list(map(str, said.cluster_list)),
    }


def _refused(key: RouteKey, reason: str) -> View:
    return {"peer": str(key.peer), "prefix": str(key.prefix), "reason": str(reason)}


def _kernel(routes: Iterable[FibRoute]) -> Iterator[View]:
    for route in sorted(routes, key=lambda route: (*by_family(route.prefix), route.metric)):
        yield {
            "prefix": str(route.prefix),
            "type": str(route.type),
            "metric": route.metric,
            "next_hops": [str(hop.gateway) for hop in route.next_hops],
        }


def _problems(problems: Iterable[Problem]) -> list[View]:
    ordered = sorted(problems, key=lambda problem: (problem.subject, problem.reason, problem.message))
    return [
        {"reason": str(problem.reason), "subject": problem.subject, "message": problem.message, "fix": problem.fix}
        for problem in ordered
    ]
