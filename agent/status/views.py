"""What the CLI and other programs are told of agent and peers, as plain values that JSON can hold.

Keys of peers follow NAPALM's `get_bgp_neighbors`. Every answer names its schema with a version: keys are added within a
version, and never removed or given another meaning; `agent/cli/schemas` says what each is. Tables of routes are in
`agent.status.tables`.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from ipaddress import ip_address
from typing import Final

from agent.model import Problem
from agent.plan.steps import Steps, finish
from agent.status.health import ailments, health_of
from agent.status.peers import View, is_parting, peer_entry
from agent.status.picture import no_picture
from agent.status.remedies import remedy
from agent.status.silent import silent_view
from agent.status.status import DRIFT_KINDS, Status, prefix_order
from bgp.model import Address, Family, Peer, without_zone

CONFLICTS_MAX: Final = 20
"""Conflicts in the kernel that the short answer names; `fib` shows all."""


def peers_view(status: Status, now: float) -> View:
    return finish(peers_steps(status, now))


def peers_steps(status: Status, now: float) -> Steps[View]:
    """Peer by peer: a reflector has a thousand."""
    identity = status.plan.identity
    refused = status.refused_counts()
    yield
    peers: View = {}
    for peer in status.sessions():
        peers[str(peer.address)] = peer_entry(status, peer, refused, now)
        yield
    return answer(
        status,
        "peers",
        {
            "router_id": None if identity is None else str(identity.router_id),
            "local_as": None if identity is None else identity.asn,
            "peers": peers,
            "problems": problems_list([*status.problems, *unanswered(status, now)]),
        },
    )


def peer_view(status: Status, address: Address, now: float) -> View:
    peer = status.plan.peers[address]
    return answer(
        status,
        "peer",
        {
            "address": str(address),
            **peer_entry(status, peer, status.refused_counts(), now),
            "problems": problems_list(status.problems_of(peer)),
        },
    )


def peers_named(status: Status, name: str) -> list[Peer]:
    """All with this address, full name (`BGPPeer/tor-a`) or name (`tor-a`): one may stand for two default gateways.

    A link-local address without an interface means all that have it, on whatever link.
    """
    address = _address(name)
    return [
        peer
        for peer in status.sessions()
        if address in (peer.address, without_zone(peer.address)) or name in (peer.name, peer.name.rpartition("/")[2])
    ]


def _address(text: str) -> Address | None:
    try:
        return ip_address(text)
    except ValueError:
        return None


def status_view(status: Status, now: float) -> View:
    plan, found = status.plan, ailments(status, now)
    identity = plan.identity
    established = [peer for peer in plan.peers.values() if status.is_up(peer.address)]
    return answer(
        status,
        "status",
        {
            "phase": status.phase,
            "dry_run": status.dry_run,
            "uptime_seconds": int(now - status.started_at),
            "health": str(health_of(found)),
            "healthy": not found,
            "degraded": [ailment.reason for ailment in found],
            "ailments": [{"reason": it.reason, "text": it.text, "fatal": it.fatal} for it in found],
            "identity": None
            if identity is None
            else {
                "instance": identity.instance or None,
                "asn": identity.asn,
                "router_id": str(identity.router_id),
                "router_id_source": identity.router_id_source,
                "cluster_id": None if plan.standpoint.cluster_id is None else str(plan.standpoint.cluster_id),
                "addresses": [str(address) for address in identity.addresses],
                "pod_cidrs": [str(cidr) for cidr in identity.pod_cidrs],
                "pod_routes": str(identity.pod_routes),
            },
            "leaving": None
            if plan.leave is None
            else {
                "reason": str(plan.leave.cause),
                "text": plan.leave.what,
                "stage": status.progress.name.lower(),
                "sessions": len(established),
            },
            "picture": _picture(status, now),
            "peers": {
                "configured": len(plan.peers),
                "established": len(established),
                "mesh_configured": sum(peer.mesh for peer in plan.peers.values()),
                "mesh_established": sum(peer.mesh for peer in established),
                "held": sum(status.held(peer) is not None for peer in plan.peers.values()),
                "restarting": sum(status.rib.is_away(address) for address in plan.peers),
                "parting": sum(is_parting(status, peer) for peer in plan.peers.values()),
            },
            "routes": {
                "originated": len(plan.originated),
                "wanted": len(plan.routes),
                "told": sum(status.sent_count(it, family) for it in established for family in Family),
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
                "last_drift": _last_drift(status, now),
            },
            "not_advertised": silent_view(status),
            "loop": {
                "passes": status.figures.passes,
                "longest_plan_ms": round(status.figures.longest_plan_seconds * 1000, 1),
                "longest_lag_ms": round(status.figures.longest_lag_seconds * 1000, 1),
                "longest_own_lag_ms": round(status.figures.longest_own_lag_seconds * 1000, 1),
            },
            "problems": problems_list(
                [*status.problems, *unanswered(status, now), *_kernel_problems(status, CONFLICTS_MAX)]
            ),
        },
    )


def _last_drift(status: Status, now: float) -> View | None:
    if status.fib.last_drift is None:
        return None
    found_at, drift = status.fib.last_drift
    return {"seconds": _seconds(now - found_at), **{kind: drift.get(kind, 0) for kind in DRIFT_KINDS}}


def _picture(status: Status, now: float) -> View:
    """How old what we know of the cluster is: a quiet watch is alive (bookmarks), a broken one is not."""
    broken = [(str(watch.only or watch.kind), watch) for watch in status.watches if not watch.healthy]
    broken.sort(key=lambda found: found[0])
    return {
        "complete": status.picture_complete,
        "age_seconds": _seconds(status.picture_age(now)),
        "heard_seconds": _seconds(status.heard_age(now)),
        "unchanged_seconds": None if status.changed_at is None else _seconds(now - status.changed_at),
        "unhealthy": [name for name, _ in broken],
        "broken": [
            {
                "watch": name,
                "seconds": None if watch.broken_at is None else _seconds(now - watch.broken_at),
                "reason": None if watch.problem is None else watch.problem.reason,
                "text": None if watch.problem is None else watch.problem.message,
                "fix": None if watch.problem is None else watch.problem.fix,
            }
            for name, watch in broken
        ],
    }


def _seconds(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 1)


def _kernel_problems(status: Status, limit: int) -> list[Problem]:
    """The first conflicts in the kernel's table: what holds the place of which route, and what to do."""
    conflicts = status.fib.conflicts
    found = heapq.nsmallest(limit, conflicts, key=lambda key: (prefix_order(key.prefix), key.metric))
    return [
        Problem(
            "kernelConflict",
            f"route {key.prefix}",
            f"{key.prefix} is not installed: its place in the kernel's table is held by {conflicts[key]}.",
            remedy("kernelConflict"),
        )
        for key in found
    ]


def unanswered(status: Status, now: float) -> list[Problem]:
    """Why an answer is not whole, or nothing at all: there is no picture. Else empty."""
    none = no_picture(status, now)
    return [] if none is None else [none]


def problems_list(problems: Iterable[Problem]) -> list[View]:
    ordered = sorted(problems, key=lambda problem: (problem.subject, problem.reason, problem.message))
    return [
        {"reason": problem.reason, "subject": problem.subject, "message": problem.message, "fix": problem.fix}
        for problem in ordered
    ]


def answer(status: Status, name: str, body: View) -> View:
    return {"schema": f"bgpilot.{name}/1", "version": status.version, "node": status.node, **body}
