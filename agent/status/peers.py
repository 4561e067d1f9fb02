"""One peer as plain values that JSON can hold: its session now, and how the session is meant to be.

Keys follow NAPALM's `get_bgp_neighbors` where it has them, and FRR's `show bgp neighbors` for what is more. A peer that
must have no session (`Peer.held`) has the same keys as every other. Which peers there are is `agent.status.views`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, TypeAlias

from agent.model import Problem
from agent.plan import leaving
from agent.status.causes import Cause, cause
from agent.status.status import Status
from bgp.endings import notification_name
from bgp.model import BGP_PORT, Address, Family, Held, Peer, PeerState, PrefixLimit, SessionState

View: TypeAlias = dict[str, Any]
Counts: TypeAlias = Mapping[tuple[Address, Family], int]

EXTERNAL: Final = "external"
"""AS of a peer that may be in any AS but ours, as in its BGPPeer and as FRR says it."""
MEANT: Final = frozenset({"shutdown", *map(str, leaving.Cause)})
"""Reason words of sessions that are not there because somebody wants it so."""


UNTOLD: Final = frozenset({"configurationRefused", "speakerDown"})
"""Reason words: ExaBGP has not been told of peers that are new."""

PARTING: Final = "parting"
"""Reason word: the topology no longer wants the session, which stays until it is replaced."""


def peer_entry(status: Status, peer: Peer, refused: Counts, now: float) -> View:
    return {**_session(status, peer, refused, now), **_settings(status, peer)}


def _session(status: Status, peer: Peer, refused: Counts, now: float) -> View:
    state, held = status.peer_state(peer.address), status.held(peer)
    up, is_up = state.up, status.is_up(peer.address)
    hold_seconds = peer.hold_seconds if up is None else up.hold_seconds
    asn = peer_as(status, peer)
    stale_until = status.rib.stale_until(peer.address)
    return {
        "is_up": is_up,
        "is_enabled": held is None or held.reason not in MEANT,
        "description": peer.description or peer.name,
        "uptime": int(now - state.since) if is_up else -1,
        "remote_as": asn if isinstance(asn, int) else None,
        "remote_id": None if up is None or up.router_id is None else str(up.router_id),
        "local_as": peer.local_asn,
        "local_address": local_address(peer),
        "address_family": {family: _family(status, peer, family, refused) for family in status.families(peer)},
        "name": peer.name,
        "state": str(state.state),
        "state_seconds": int(now - state.since) if state.since else None,
        "reason": None if held is None else held.reason,
        "reason_text": None if held is None else held_words(status, peer, held),
        "hold_seconds": hold_seconds,
        "keepalive_seconds": _keepalive(peer, hold_seconds),
        "graceful_restart_seconds": None if up is None else up.restart_seconds,
        "restarting": status.rib.is_away(peer.address),
        "stale_prefixes": status.rib.stale_count(peer.address),
        "stale_seconds": None if stale_until is None else max(0, int(stale_until - now)),
        "flaps": state.flaps,
        "last_error": _error(state, now),
        "cause": None if held is not None or is_parting(status, peer) else _cause(status, peer),
    }


def _settings(status: Status, peer: Peer) -> View:
    """What the session is meant to be, whether there is one or not."""
    return {
        "mesh": peer.mesh,
        "parting": is_parting(status, peer),
        "internal": peer.internal,
        "configured_as": EXTERNAL if peer.peer_asn is None else peer.peer_asn,
        "configured_families": sorted(peer.families),
        "configured_hold_seconds": peer.hold_seconds,
        "passive": peer.passive,
        "port": peer.port,
        "listen_port": peer.listen_port,
        "connect_retry_seconds": peer.connect_retry_seconds,
        "multihop": peer.multihop,
        "ttl_security_hops": peer.ttl_security_hops,
        "source_interface": peer.source_interface or None,
        "password": peer.password is not None,
        "allowas_in": peer.allowas_in,
        "extended_next_hop": peer.extended_next_hop,
        "role": role(status, peer),
        "options": options(status, peer),
        "prefix_limits": {str(family): _limit(limit) for family, limit in sorted(peer.prefix_limits)},
    }


def local_address(peer: Peer) -> str | None:
    """None: the link that the session would be on has no address."""
    return None if peer.local_address.is_unspecified else str(peer.local_address)


def is_parting(status: Status, peer: Peer) -> bool:
    return peer.mesh and peer.name.partition("/")[2] in status.plan.parting


def role(status: Status, peer: Peer) -> str | None:
    """What the peer is where routes are reflected (RFC 4456): our `client`, a `reflector` of our own, or neither."""
    if peer.client:
        return "client"
    own = status.plan.standpoint
    shape = None if own.area is None else own.shapes.get(own.area)
    reflects = shape is not None and peer.mesh and peer.name.partition("/")[2] in shape.reflectors
    return "reflector" if reflects else None


def options(status: Status, peer: Peer) -> list[str]:
    """The settings that are not as usual, in few words."""
    part = role(status, peer)
    told: list[tuple[object, str]] = [
        (is_parting(status, peer), PARTING),
        (peer.passive, "passive"),
        (peer.port != BGP_PORT and not peer.passive, f"port {peer.port}"),
        (peer.listen_port != BGP_PORT, f"listen port {peer.listen_port}"),
        (peer.multihop is not None, f"multihop {peer.multihop}"),
        (peer.ttl_security_hops is not None, f"ttl-security hops {peer.ttl_security_hops}"),
        (peer.source_interface, f"interface {peer.source_interface}"),
        (peer.password is not None, "password"),
        (part, f"route-reflector-{part}" if part == "client" else "route-reflector"),
        (peer.allowas_in, f"allowas-in {peer.allowas_in}"),
        (peer.extended_next_hop, "extended-nexthop"),
        *((True, f"{family} limit {limit.prefixes}") for family, limit in sorted(peer.prefix_limits)),
    ]
    return [words for holds, words in told if holds]


def peer_as(status: Status, peer: Peer) -> int | str:
    """The peer's AS, where need be as its OPEN said it; `external` until then."""
    if peer.peer_asn is not None:
        return peer.peer_asn
    up = status.peer_state(peer.address).up
    return EXTERNAL if up is None else up.peer_asn or EXTERNAL


def held_words(status: Status, peer: Peer, held: Held) -> str:
    """Why there is no session: the words of the Problem that goes with it, else what the peer was told."""
    problem = held_problem(status, peer, held)
    return held.text if problem is None else problem.message


def held_problem(status: Status, peer: Peer, held: Held) -> Problem | None:
    """That of the peer's own object; or of the BGPInstance, which names the password of all mesh sessions."""
    instance = "" if status.plan.identity is None else f"BGPInstance {status.plan.identity.instance}"
    of_mesh = (problem for problem in status.problems if peer.mesh and problem.subject == instance)
    return next((it for it in (*status.problems_of(peer), *of_mesh) if it.reason == held.reason), None)


def _keepalive(peer: Peer, hold_seconds: int) -> int:
    """A third of the hold time (RFC 4271 10), or less when it is asked for."""
    third = hold_seconds // 3
    return third if peer.keepalive_seconds is None else min(third, peer.keepalive_seconds)


def _limit(limit: PrefixLimit) -> View:
    return {
        "prefixes": limit.prefixes,
        "warning_percent": limit.warning_percent,
        "restart_seconds": limit.restart_seconds,
        "warning_only": limit.warning_only,
    }


def _family(status: Status, peer: Peer, family: Family, refused: Counts) -> View:
    received = status.rib.count(peer.address, family)
    return {
        "received_prefixes": received,
        "accepted_prefixes": max(0, received - refused.get((peer.address, family), 0)),
        "sent_prefixes": status.sent_count(peer, family),
        "end_of_rib_received": family in status.rib.synced(peer.address),
    }


def why_not(status: Status, peer: Peer) -> Cause | None:
    """Why there is no session; None when there is one. One that ExaBGP knows nothing of is not about to be dialed."""
    state = status.peer_state(peer.address)
    untried = state.last_error is None and state.state is SessionState.IDLE
    if untried and (untold := {it.reason: it for it in status.problems if it.reason in UNTOLD}):
        problem = untold[min(untold)]
        return Cause(f"it is not tried: {problem.message.rstrip('.')}", problem.fix)
    return cause(peer, state)


def _cause(status: Status, peer: Peer) -> View | None:
    why = why_not(status, peer)
    return None if why is None else {"text": why.text, "fix": why.fix}


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
