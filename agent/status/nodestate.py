"""The status of this node's BGPNodeState: what `kubectl` can know of the node without asking it.

Bounded, whatever there is: no prefixes; sessions between nodes are summed up, and named only while they are not there,
since the objects of all nodes together would else grow with the square of the nodes. Nothing that only time changes: an
instant is that of the last change, never an age. What is read by nobody is not there.

Pure. Which of it is worth a write is in `agent.status.standing`; who writes it is `agent.cluster.nodestate`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final

from agent.model import Problem
from agent.plan.picture import World
from agent.plan.steps import Steps
from agent.status.conditions import RESOURCES_MAX, bounded, resources, session_no
from agent.status.health import Ailment, Health, ailments, health_of
from agent.status.peers import View, is_parting, local_address, peer_as
from agent.status.status import SETTLE_SECONDS, Status
from agent.status.weights import Weight, weight_of
from bgp.endings import notification_name
from bgp.model import Family, Peer, SessionError

PEERS_MAX: Final = 500
PROBLEMS_MAX: Final = 20
AILMENTS_MAX: Final = 64
POD_CIDRS_MAX: Final = 16
NAMES_MAX: Final = 8
"""Reflectors that are named."""
STOPPED: Final = "Stopped"
"""Reason of the condition Ready once the agent has ended."""
ZONE_LABEL: Final = "topology.kubernetes.io/zone"

Stamp = Callable[[float], str]
"""A monotonic second → RFC 3339, in UTC."""


def node_state(status: Status, world: World, now: float, stamp: Stamp) -> Steps[View]:
    """Without `heartbeatTime`, and without the times of conditions."""
    found = ailments(status, now)
    yield
    told = yield from resources(status, world, found)
    kept, sessions = _told_of(told, RESOURCES_MAX), [it for it in status.sessions() if _is_named(status, it)]
    peers: list[View] = []
    for peer in _chosen(status, sessions):
        peers.append(_peer(status, peer, stamp))
        yield
    return {
        "agent": {"version": status.version, "startTime": stamp(status.started_at)},
        "health": str(health_of(found)),
        "summary": _summary(status, found),
        "conditions": [_ready(found)],
        **_identity(status),
        "mesh": _mesh(status),
        "routes": _routes(status),
        "peers": peers,
        "peersOmitted": len(sessions) - len(peers),
        "resources": kept,
        "resourcesOmitted": len(told) - len(kept),
        "ailments": [
            {"reason": it.reason, "message": bounded(it.text), "fatal": it.fatal} for it in found[:AILMENTS_MAX]
        ],
        **_problems(status.problems),
    }


def is_settled(status: Status, now: float) -> bool:
    """The agent has not just started: what is not there yet is missing."""
    if now - status.started_at >= SETTLE_SECONDS:
        return True
    return status.speaking_at is not None and all(
        status.is_up(peer.address) or status.held(peer) is not None for peer in _wanted(status)
    )


def stopped(before: View) -> View:
    """What it comes to when the agent ends: what is there besides is as it was then."""
    words = "the agent has ended: all else here is as it was then. Routes of the kernel stay, and what ExaBGP tells."
    condition = {"type": "Ready", "status": "Unknown", "reason": STOPPED, "message": words}
    return {**before, "summary": {**before.get("summary", {}), "problems": STOPPED}, "conditions": [condition]}


def _ready(found: tuple[Ailment, ...]) -> View:
    """True: the node does its job, be it with something to mend (`degraded`)."""
    fatal = health_of(found) is Health.NO
    first = next(iter(found), None)
    return {
        "type": "Ready",
        "status": "False" if fatal else "True",
        "reason": "Ready" if first is None else first.reason,
        "message": "" if first is None else bounded(first.text),
    }


def _summary(status: Status, found: tuple[Ailment, ...]) -> View:
    """For the columns of `kubectl get`."""
    wanted = _wanted(status)
    up = sum(status.is_up(peer.address) for peer in wanted)
    more = f" (+{len(found) - 1})" if len(found) > 1 else ""
    return {
        "peers": f"{up}/{len(wanted)}",
        "routes": f"{len(status.plan.fib) - _missing(status)}/{len(status.plan.fib)}",
        "problems": f"{found[0].reason}{more}" if found else "",
    }


def _wanted(status: Status) -> list[Peer]:
    return [peer for peer in status.plan.peers.values() if not is_parting(status, peer)]


def _missing(status: Status) -> int:
    """Routes that are wanted and not in the kernel, near enough: those that are known to fail, or not to be there."""
    return max(len(status.plan.fib) - len(status.fib.actual), len(status.fib.failing) + len(status.fib.conflicts), 0)


def _identity(status: Status) -> View:
    identity, labels = status.plan.identity, status.own_labels or {}
    told: View = {}
    if (zone := labels.get(ZONE_LABEL)) is not None:
        told["zone"] = zone
    if status.plan.leave is not None:
        leave = status.plan.leave
        told["leaving"] = {
            "reason": str(leave.cause),
            "message": bounded(leave.what),
            "stage": status.progress.name.lower(),
        }
    if identity is None:
        return told
    if identity.instance:
        told["instance"] = identity.instance
    if status.plan.standpoint.cluster_id is not None:
        told["clusterID"] = str(status.plan.standpoint.cluster_id)
    return told | {
        "asn": identity.asn,
        "routerID": str(identity.router_id),
        "addresses": [str(address) for address in identity.addresses],
        "podCIDRs": [str(cidr) for cidr in identity.pod_cidrs[:POD_CIDRS_MAX]],
    }


def _mesh(status: Status) -> View:
    own = status.plan.standpoint
    wanted = [peer for peer in _wanted(status) if peer.mesh]
    shape = None if own.area is None else own.shapes.get(own.area)
    reflectors = sorted(shape.reflectors) if shape is not None and not shape.meshed else []
    role = "Member" if not reflectors else "Reflector" if own.name in reflectors else "Client"
    return {
        "role": role if wanted else "None",
        "configured": len(wanted),
        "established": sum(status.is_up(peer.address) for peer in wanted),
        "reflectors": reflectors[:NAMES_MAX],
    }


def _routes(status: Status) -> View:
    plan = status.plan
    return {
        "announced": len(plan.originated),
        "heard": len(status.rib.prefixes()),
        "refused": len(plan.refused_in),
        "wanted": len(plan.fib),
        "installed": len(status.fib.actual),
        "failing": len(status.fib.failing),
        "conflicts": len(status.fib.conflicts),
    }


def _is_named(status: Status, peer: Peer) -> bool:
    return not peer.mesh or not status.is_up(peer.address)


def _chosen(status: Status, sessions: Sequence[Peer]) -> list[Peer]:
    """In their order; of too many, those first that are not there, routers before nodes."""
    if len(sessions) <= PEERS_MAX:
        return list(sessions)
    first = sorted(sessions, key=lambda peer: (status.is_up(peer.address), peer.mesh))[:PEERS_MAX]
    chosen = {peer.address for peer in first}
    return [peer for peer in sessions if peer.address in chosen]


def _peer(status: Status, peer: Peer, stamp: Stamp) -> View:
    state, asn, no = status.peer_state(peer.address), peer_as(status, peer), session_no(status, peer)
    told: View = {
        "name": peer.name,
        "address": str(peer.address),
        "localAddress": local_address(peer),
        "asn": asn if isinstance(asn, int) else None,
        "established": status.is_up(peer.address),
        "state": str(state.state),
        "since": stamp(state.since) if state.since else None,
        "flaps": state.flaps or None,
        "mesh": peer.mesh or None,
        "families": [str(family) for family in status.families(peer)],
        "reason": None if no is None else no[0],
        "message": None if no is None else bounded(no[1]) or None,
        "lastError": None if state.last_error is None else _error(state.last_error, stamp),
        "received": sum(status.rib.count(peer.address, family) for family in Family),
        "sent": sum(status.sent_count(peer, family) for family in status.families(peer)),
    }
    return {key: value for key, value in told.items() if value is not None}


def _error(error: SessionError, stamp: Stamp) -> View:
    return {
        "direction": str(error.direction),
        **({"code": error.code, "subcode": error.subcode} if error.code else {}),
        "text": bounded(error.text or notification_name(error.code, error.subcode)),
        "time": stamp(error.at),
    }


def _problems(problems: Iterable[Problem]) -> View:
    """What matters to this node first, hints last."""
    every = sorted(problems, key=lambda it: (weight_of(it.reason) is Weight.NOTE, it.subject, it.reason, it.message))
    kept = [
        {
            "reason": problem.reason,
            "subject": bounded(problem.subject),
            "message": bounded(problem.message),
            "fix": bounded(problem.fix),
        }
        for problem in every[:PROBLEMS_MAX]
    ]
    return {"problems": kept, "problemsOmitted": len(every) - len(kept)}


def _told_of(told: list[View], most: int) -> list[View]:
    """In their order; of too many, those first that are not ready."""
    if len(told) <= most:
        return told
    first = sorted(range(len(told)), key=lambda at: told[at]["conditions"][-1]["status"] == "True")[:most]
    return [told[at] for at in sorted(first)]
