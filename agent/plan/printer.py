"""A plan as text: for `--dry-run`, for people, and for the expected side of scenario tests.

The same plan is always the same text: sorted, IPv4 before IPv6, no section without lines. Passwords are not shown. It
explains nothing that the plan does not say.
"""

from __future__ import annotations

from collections.abc import Iterator

from agent.advertising import ToPeers
from agent.model import FibRoute
from agent.plan.model import Identity, NodePlan, Origination
from agent.plan.prefixes import by_family
from bgp.model import BGP_PORT, Peer, Route, RouteKey, by_number


def describe(plan: NodePlan) -> str:
    """Ends with a newline."""
    sections = (
        ("node", _node(plan)),
        ("peers", _peers(plan)),
        ("announced", _originated(plan)),
        ("told", _routes(plan)),
        ("not told", _refused_out(plan)),
        ("kernel", _fib(plan)),
        ("not installed", _refused_in(plan)),
        ("not advertised", _silent(plan)),
        ("secrets", iter(sorted(plan.secrets))),
        ("problems", _problems(plan)),
    )
    lines: list[str] = []
    for title, section in sections:
        if found := list(section):
            lines += [f"{title}:", *(f"  {line}" for line in found)]
    return "\n".join(lines) + "\n"


def _node(plan: NodePlan) -> Iterator[str]:
    yield from _identity(plan.identity)
    if plan.standpoint.cluster_id is not None:
        yield f"route reflector, cluster id {plan.standpoint.cluster_id}"


def _identity(identity: Identity | None) -> Iterator[str]:
    if identity is None:
        yield "unknown, without address or without AS: nothing is wanted"
        return
    instance = f"BGPInstance {identity.instance}" if identity.instance else "defaults"
    yield f"{identity.node} AS {identity.asn} router id {identity.router_id} ({identity.router_id_source}), {instance}"
    port = f" port {identity.listen_port}" if identity.listen_port != BGP_PORT else ""
    yield f"addresses {' '.join(map(str, identity.addresses))}{port}"
    yield f"pod routes {identity.pod_routes}, pod CIDRs {' '.join(map(str, identity.pod_cidrs)) or 'none'}"


def _peers(plan: NodePlan) -> Iterator[str]:
    for address in sorted(plan.peers, key=by_number):
        peer = plan.peers[address]
        yield _peer(peer) + (", PARTING" if peer.mesh and peer.name.partition("/")[2] in plan.parting else "")


def _peer(peer: Peer) -> str:
    port = f" port {peer.port}" if peer.port != BGP_PORT else ""
    return (
        f"{peer.address} {peer.name} AS {'external' if peer.peer_asn is None else peer.peer_asn}{port} "
        f"from {peer.local_address} AS {peer.local_asn}, "
        f"{'listens' if peer.passive else 'dials'}, hold {peer.hold_seconds}, {' '.join(sorted(peer.families))}"
        f"{', password' if peer.password is not None else ''}{', mesh' if peer.mesh else ''}"
        f"{', client' if peer.client else ''}" + "".join(f", {setting}" for setting in _settings(peer))
    )


def _settings(peer: Peer) -> Iterator[str]:
    """What is not as usual."""
    numbers = (
        ("keepalive", peer.keepalive_seconds),
        ("connect retry", peer.connect_retry_seconds),
        ("multihop", peer.multihop),
        ("TTL security hops", peer.ttl_security_hops),
        ("allows our AS", peer.allowas_in or None),
        ("listens on port", peer.listen_port if peer.listen_port != BGP_PORT else None),
    )
    yield from (f"{name} {number}" for name, number in numbers if number is not None)
    if peer.source_interface:
        yield f"bound to {peer.source_interface}"
    if peer.extended_next_hop:
        yield "extended next hop"
    for family, limit in peer.prefix_limits:
        again = f", again after {limit.restart_seconds}" if limit.restart_seconds is not None else ""
        end = "only warns" if limit.warning_only else f"ends{again}"
        yield f"{family} limit {limit.prefixes} (warns at {limit.warning_percent} %, {end})"
    if peer.description:
        yield f'"{peer.description}"'
    if peer.held is not None:
        yield f"HELD: {peer.held.reason}" + (f' "{peer.held.text}"' if peer.held.text else "")


def _originated(plan: NodePlan) -> Iterator[str]:
    for prefix in sorted(plan.originated, key=by_family):
        yield f"{prefix} {_audience(plan.originated[prefix])} for {', '.join(plan.originated[prefix].sources)}"


def _audience(origination: Origination) -> str:
    audiences = ["mesh"] if origination.to_mesh else []
    audiences += sorted(set(map(_wish, origination.to_peers)))
    return "to " + (" and ".join(audiences) or "nobody")


def _wish(wish: ToPeers) -> str:
    chosen = wish.selector
    conditions = [f"{key}={value}" for key, value in chosen.labels]
    conditions += [" ".join((key, operator, *values)) for key, operator, values in chosen.expressions]
    return "external peers" + (f" with {', '.join(conditions)}" if conditions else "")


def _routes(plan: NodePlan) -> Iterator[str]:
    for key in sorted(plan.routes, key=_by_route):
        yield f"{key.peer} {_route(plan.routes[key])}"


def _route(route: Route) -> str:
    attributes = route.attributes
    local_pref = f", local-pref {attributes.local_pref}" if attributes.local_pref is not None else ""
    as_path = f", AS path {' '.join(map(str, attributes.as_path))}" if attributes.as_path else ""
    if attributes.med is not None:
        as_path += f", MED {attributes.med}"
    if attributes.communities:
        as_path += f", communities {' '.join(f'{a}:{b}' for a, b in sorted(attributes.communities))}"
    if attributes.large_communities:
        as_path += f", large {' '.join(':'.join(map(str, one)) for one in sorted(attributes.large_communities))}"
    originator = f", originator {attributes.originator_id}" if attributes.originator_id is not None else ""
    clusters = f", clusters {' '.join(map(str, attributes.cluster_list))}" if attributes.cluster_list else ""
    return f"{route.prefix} next hop {route.next_hop}{as_path}{local_pref}{originator}{clusters}"


def _refused_out(plan: NodePlan) -> Iterator[str]:
    for key in sorted(plan.refused_out, key=_by_route):
        yield f"{key.peer} {key.prefix}: {plan.refused_out[key]}"


def _fib(plan: NodePlan) -> Iterator[str]:
    for route in sorted(plan.fib.values(), key=lambda route: (*by_family(route.prefix), route.metric)):
        yield _kernel_route(route)


def _kernel_route(route: FibRoute) -> str:
    target = " ".join(
        f"via {hop.gateway}{f' interface {hop.interface}' if hop.interface else ''}" for hop in route.next_hops
    )
    metric = f" metric {route.metric}" if route.metric else ""
    return f"{route.prefix} {target or route.type}{metric}"


def _refused_in(plan: NodePlan) -> Iterator[str]:
    for key in sorted(plan.refused_in, key=_by_route):
        yield f"{key.peer} {key.prefix}: {plan.refused_in[key]}"


def _silent(plan: NodePlan) -> Iterator[str]:
    for (key, what), why in sorted(plan.not_advertised.items()):
        yield f"{key} {what}: {why}"


def _problems(plan: NodePlan) -> Iterator[str]:
    for problem in sorted(plan.problems, key=lambda problem: (problem.subject, problem.reason, problem.message)):
        yield f"{problem.reason} ({problem.subject}): {problem.message}. {problem.fix}"


def _by_route(key: RouteKey) -> tuple[object, ...]:
    return *by_number(key.peer), *by_family(key.prefix)
