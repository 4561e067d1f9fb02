"""What the CLI and other programs are told, as plain values that JSON can hold: one function per question.

Keys of peers follow NAPALM's `get_bgp_neighbors`. Every answer names its schema with a version: keys are added within a
version, and never removed or given another meaning. Tables are bounded (`ROWS_MAX`); what was cut off is counted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain, islice
from typing import Any, Final, Literal, TypeAlias

from agent.model import FibKey, FibRoute, Problem
from agent.status.status import (
    FibFailure,
    Status,
    address_order,
    degraded,
    fib_state,
    installed_gateways,
    prefix_order,
    told_state,
)
from bgp.model import Address, AsPath, Attributes, Family, Path, Peer, PeerState, Prefix, RouteKey

ROWS_MAX: Final = 5_000
"""Rows of a table in one answer: about 2 MB and 50 ms."""

View: TypeAlias = dict[str, Any]
Side: TypeAlias = Literal["received", "accepted", "advertised"]
SIDES: Final[tuple[Side, ...]] = ("received", "accepted", "advertised")


def peers_view(status: Status, now: float) -> View:
    identity = status.plan.identity
    refused = status.refused_counts()
    return _answer(
        status,
        "peers",
        {
            "router_id": None if identity is None else str(identity.router_id),
            "local_as": None if identity is None else identity.asn,
            "peers": {str(peer.address): _peer(status, peer, refused, now) for peer in status.sessions()},
            "problems": problems_list(status.problems),
        },
    )


def peer_view(status: Status, address: Address, now: float) -> View:
    peer = status.plan.peers[address]
    about = {str(address), f"peer {address}", peer.name, peer.name.replace("/", " ", 1)}
    return _answer(
        status,
        "peer",
        {
            "address": str(address),
            **_peer(status, peer, status.refused_counts(), now),
            "problems": problems_list(problem for problem in status.problems if problem.subject in about),
        },
    )


def find_peer(status: Status, name: str) -> Address | None:
    """By address, by full name (`BGPPeer/tor-a`) or, where it is the only one, by the name alone (`tor-a`)."""
    found = [
        peer.address
        for peer in status.plan.peers.values()
        if name in (str(peer.address), peer.name) or peer.name.rpartition("/")[2] == name
    ]
    return found[0] if len(found) == 1 else None


def _peer(status: Status, peer: Peer, refused: Mapping[tuple[Address, Family], int], now: float) -> View:
    state = status.peer_state(peer.address)
    up = state.up
    is_up = status.is_up(peer.address)
    return {
        "is_up": is_up,
        "is_enabled": True,
        "description": peer.name,
        "uptime": int(now - state.since) if is_up else -1,
        "remote_as": peer.peer_asn,
        "remote_id": None if up is None or up.router_id is None else str(up.router_id),
        "local_as": peer.local_asn,
        "local_address": str(peer.local_address),
        "address_family": {family: _family(status, peer.address, family, refused) for family in status.families(peer)},
        "state": str(state.state),
        "state_seconds": int(now - state.since) if state.since else None,
        "mesh": peer.mesh,
        "internal": peer.internal,
        "passive": peer.passive,
        "hold_seconds": peer.hold_seconds if up is None else up.hold_seconds,
        "keepalive_seconds": (peer.hold_seconds if up is None else up.hold_seconds) // 3,
        "graceful_restart_seconds": None if up is None else up.restart_seconds,
        "flaps": state.flaps,
        "last_error": _error(state, now),
    }


def _family(status: Status, peer: Address, family: Family, refused: Mapping[tuple[Address, Family], int]) -> View:
    received = status.rib.count(peer, family)
    return {
        "received_prefixes": received,
        "accepted_prefixes": max(0, received - refused.get((peer, family), 0)),
        "sent_prefixes": status.outbox.told_count(peer, family) if status.is_up(peer) else 0,
        "end_of_rib_received": family in status.rib.synced(peer),
    }


def _error(state: PeerState, now: float) -> View | None:
    error = state.last_error
    if error is None:
        return None
    return {
        "direction": str(error.direction),
        "code": error.code,
        "subcode": error.subcode,
        "text": error.text,
        "age_seconds": int(now - error.at),
        "count": error.count,
    }


def routes_view(
    status: Status, side: Side, *, peer: Address | None = None, prefix: Prefix | None = None, limit: int = ROWS_MAX
) -> View:
    """Adj-RIB-In with the reason word of what is not admitted, what of it is admitted, or what is told to peers.

    `prefix` selects what is inside it, and when it is one host's what covers it.
    """
    if side == "advertised":
        mine = (key for table in (status.plan.routes, status.plan.refused_out) for key in table)
        keys = (key for key in mine if _selected(key, peer, prefix))
        return _table(
            status, "routes", keys, order=_route_order, row=lambda key: _advertised(status, key), limit=limit, side=side
        )
    heard = (key for key in _heard(status, peer) if _selected(key, peer, prefix))
    if side == "accepted":
        heard = (key for key in heard if key not in status.plan.refused_in)
    return _table(
        status, "routes", heard, order=_route_order, row=lambda key: _received(status, key), limit=limit, side=side
    )


def _heard(status: Status, peer: Address | None) -> Iterator[RouteKey]:
    for address in [peer] if peer is not None else status.plan.peers:
        for prefix in status.rib.heard_from(address):
            yield RouteKey(address, prefix)


def _selected(key: RouteKey, peer: Address | None, prefix: Prefix | None) -> bool:
    return peer in (None, key.peer) and (prefix is None or matches(key.prefix, prefix))


def matches(prefix: Prefix, asked: Prefix) -> bool:
    """Inside what was asked for; or around it, when one address was asked for."""
    if prefix.version != asked.version:
        return False
    if asked.prefixlen == asked.max_prefixlen:
        return asked.network_address in prefix
    return prefix.prefixlen >= asked.prefixlen and prefix.network_address in asked


def _received(status: Status, key: RouteKey) -> View:
    path: Path = status.rib.heard_from(key.peer)[key.prefix]
    reason = status.plan.refused_in.get(key)
    return {
        "prefix": str(key.prefix),
        "peer": str(key.peer),
        "next_hop": str(path.next_hop),
        **_attributes(path.attributes),
        "accepted": reason is None,
        "reason": reason,
        "installed": reason is None and path.next_hop in installed_gateways(status, key.prefix),
    }


def _advertised(status: Status, key: RouteKey) -> View:
    route = status.plan.routes.get(key)
    state, reason = told_state(status, key)
    origination = status.plan.originated.get(key.prefix)
    return {
        "prefix": str(key.prefix),
        "peer": str(key.peer),
        "next_hop": None if route is None else str(route.next_hop),
        **({} if route is None else _attributes(route.attributes)),
        "state": state,
        "reason": reason or None,
        "sources": [] if origination is None else list(origination.sources),
    }


def _attributes(attributes: Attributes) -> View:
    return {
        "as_path": _as_path(attributes.as_path),
        "origin": attributes.origin.name.lower(),
        "local_preference": attributes.local_pref,
        "med": attributes.med,
        "communities": sorted(f"{it.asn}:{it.value}" for it in attributes.communities),
        "large_communities": sorted(f"{it.admin}:{it.data1}:{it.data2}" for it in attributes.large_communities),
    }


def _as_path(as_path: AsPath) -> str:
    """As routers print it: sets in braces."""
    return " ".join(str(it) if isinstance(it, int) else "{" + ",".join(map(str, sorted(it))) + "}" for it in as_path)


def fib_view(status: Status, *, prefix: Prefix | None = None, limit: int = ROWS_MAX) -> View:
    """Routes of ours in the kernel, and those that should be there."""
    wanted, actual, failing = status.plan.fib, status.fib.actual, status.fib.failing
    keys = chain(wanted, (key for key in actual if key not in wanted))
    selected = (key for key in keys if prefix is None or matches(key.prefix, prefix))
    return _table(
        status, "fib", selected, order=_fib_order, row=lambda key: _kernel_route(status, failing, key), limit=limit
    )


def _kernel_route(status: Status, failing: Mapping[FibKey, FibFailure], key: FibKey) -> View:
    route: FibRoute = status.fib.actual.get(key) or status.plan.fib[key]
    state, details = fib_state(status, failing, key)
    return {
        "prefix": str(key.prefix),
        "type": str(route.type),
        "metric": key.metric,
        "next_hops": [str(next_hop.gateway) for next_hop in route.next_hops],
        "state": state,
        "details": details or None,
    }


def status_view(status: Status, now: float) -> View:
    plan, age = status.plan, status.picture_age(now)
    identity = plan.identity
    established = [peer for peer in plan.peers.values() if status.is_up(peer.address)]
    return _answer(
        status,
        "status",
        {
            "phase": status.phase,
            "dry_run": status.dry_run,
            "uptime_seconds": int(now - status.started_at),
            "healthy": not degraded(status),
            "degraded": list(degraded(status)),
            "identity": None
            if identity is None
            else {
                "instance": identity.instance or None,
                "asn": identity.asn,
                "router_id": str(identity.router_id),
                "router_id_source": identity.router_id_source,
                "addresses": [str(address) for address in identity.addresses],
                "pod_cidrs": [str(cidr) for cidr in identity.pod_cidrs],
                "pod_routes": str(identity.pod_routes),
            },
            "picture": {
                "complete": status.picture_complete,
                "age_seconds": None if age is None else round(age, 1),
                "unhealthy": sorted({str(watch.only or watch.kind) for watch in status.watches if not watch.healthy}),
            },
            "peers": {
                "configured": len(plan.peers),
                "established": len(established),
                "mesh_configured": sum(peer.mesh for peer in plan.peers.values()),
                "mesh_established": sum(peer.mesh for peer in established),
            },
            "routes": {
                "originated": len(plan.originated),
                "wanted": len(plan.routes),
                "told": sum(status.outbox.told_count(address, family) for address in plan.peers for family in Family),
                "refused": len(plan.refused_out),
                "failing": len(status.outbox.failing),
                "heard": len(status.rib.prefixes()),
                "not_admitted": len(plan.refused_in),
            },
            "fib": {
                "wanted": len(plan.fib),
                "installed": len(status.fib.actual),
                "failing": len(status.fib.failing),
                "conflicts": len(status.fib.conflicts),
                "drift": sum(status.fib.drift.values()),
            },
            "loop": {
                "passes": status.figures.passes,
                "longest_plan_ms": round(status.figures.longest_plan_seconds * 1000, 1),
                "longest_lag_ms": round(status.figures.longest_lag_seconds * 1000, 1),
            },
            "problems": problems_list(status.problems),
        },
    )


def problems_list(problems: Iterable[Problem]) -> list[View]:
    ordered = sorted(problems, key=lambda problem: (problem.subject, problem.reason, problem.message))
    return [
        {"reason": problem.reason, "subject": problem.subject, "message": problem.message, "fix": problem.fix}
        for problem in ordered
    ]


def _table(
    status: Status,
    name: str,
    keys: Iterator[Any],
    *,
    order: Callable[[Any], Any],
    row: Callable[[Any], View],
    limit: int,
    **more: str,
) -> View:
    """The first `limit` rows that are found, in order; when there are more, the rest is only counted."""
    chosen = list(islice(keys, limit))
    left_out = sum(1 for _ in keys)
    rows = [row(key) for key in sorted(chosen, key=order)]
    return _answer(status, name, {**more, "rows": rows, "left_out": left_out})


def _route_order(key: RouteKey) -> tuple[tuple[int, int, int], tuple[int, int]]:
    return prefix_order(key.prefix), address_order(key.peer)


def _fib_order(key: FibKey) -> tuple[tuple[int, int, int], int]:
    return prefix_order(key.prefix), key.metric


def _answer(status: Status, name: str, body: View) -> View:
    return {"schema": f"bgpilot.{name}/1", "version": status.version, "node": status.node, **body}
