"""What the CLI and other programs are told of agent and peers, as plain values that JSON can hold.

Keys of peers follow NAPALM's `get_bgp_neighbors`. Every answer names its schema with a version: keys are added within a
version, and never removed or given another meaning. Tables of routes are in `agent.status.tables`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final, TypeAlias

from agent.model import Problem
from agent.status.status import Status, degraded, kernel_problems
from bgp.model import Address, Family, Peer, PeerState
from bgp.sessions import notification_name

View: TypeAlias = dict[str, Any]

CONFLICTS_MAX: Final = 20
"""Conflicts in the kernel that the short answer names; `fib` shows all."""


def peers_view(status: Status, now: float) -> View:
    identity = status.plan.identity
    refused = status.refused_counts()
    return answer(
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
    return answer(
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
        "text": error.text or notification_name(error.code, error.subcode),
        "age_seconds": int(now - error.at),
        "count": error.count,
    }


def status_view(status: Status, now: float) -> View:
    plan, age = status.plan, status.picture_age(now)
    identity = plan.identity
    established = [peer for peer in plan.peers.values() if status.is_up(peer.address)]
    return answer(
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
                "told": sum(status.outbox.told_count(it.address, family) for it in established for family in Family),
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
            "problems": problems_list([*status.problems, *kernel_problems(status, CONFLICTS_MAX)]),
        },
    )


def problems_list(problems: Iterable[Problem]) -> list[View]:
    ordered = sorted(problems, key=lambda problem: (problem.subject, problem.reason, problem.message))
    return [
        {"reason": problem.reason, "subject": problem.subject, "message": problem.message, "fix": problem.fix}
        for problem in ordered
    ]


def answer(status: Status, name: str, body: View) -> View:
    return {"schema": f"bgpilot.{name}/1", "version": status.version, "node": status.node, **body}
