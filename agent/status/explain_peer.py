"""Follows one session: how it is meant to be, what keeps it from being there, and what came over it.

Reads `Status` only; it refuses to explain routes (`agent.status.explain`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from agent.model import Kind, object_of
from agent.status.causes import said
from agent.status.hops import Hop, place_of
from agent.status.peers import PARTING, held_problem, held_words, is_parting, local_address, options, peer_as, why_not
from agent.status.status import Status
from agent.status.weights import Weight, weight_of
from bgp.check import Reason
from bgp.model import Address, Family, Held, Peer, PrefixLimit, SessionState

_BEGUN: Final = frozenset({SessionState.OPEN_SENT, SessionState.OPEN_CONFIRM})


def peer_hops(status: Status, peer: Peer) -> Iterator[Hop]:
    yield _wanted(status, peer)
    if is_parting(status, peer):
        stays = f"stays until {_until(status, peer)}, two minutes at most"
        yield Hop(object_of(peer.name), stays, reason=PARTING, neutral=True)
    held = status.held(peer)
    yield from _no_as(status)
    for problem in status.problems_of(peer):
        if held is None or problem.reason != held.reason:
            idle = problem.reason == Reason.NEXT_HOP_NOT_NEGOTIATED and not status.needs_next_hops(peer)
            words = f"{problem.message}; none does" if idle else problem.message
            yield Hop(problem.subject, words, ok=idle, reason=problem.reason, fix=problem.fix, neutral=idle)
    if held is not None:
        yield _held(status, peer, held)
    elif not status.is_up(peer.address):
        yield _not_established(status, peer)
    yield from _kept(status, peer)
    if status.is_up(peer.address):
        yield from _families(status, peer)


def _until(status: Status, peer: Peer) -> str:
    claim = status.plan.mesh.get(peer.name.partition("/")[2])
    if claim is not None and claim.gone:
        return "the other node, which is deleted, has taken leave"
    return "the sessions that replace it have brought everything"


def _not_established(status: Status, peer: Peer) -> Hop:
    """What happened last, what it means, and what to do about it."""
    state, place = status.peer_state(peer.address), place_of(peer)
    why, error = why_not(status, peer), state.last_error
    words = f"{state.state}: {said(error)} (× {error.count})" if error is not None else str(state.state)
    if why is None or is_parting(status, peer):
        return Hop(place, words, reason="notEstablished", neutral=True)
    reason = "notEstablished" if error is not None or state.flaps or state.state in _BEGUN else "neverTried"
    return Hop(place, f"{words}: {why.text}", ok=False, reason=reason, fix=why.fix)


def problem_hops(status: Status, name: str) -> list[Hop]:
    """What is wrong with an object of which no peer comes: `tor-a`, `BGPPeer/tor-a`, `BGPPeer tor-a`, or a Node."""
    for about in (f"{Kind.PEER} {name}", object_of(name), f"{Kind.NODE} {name}"):
        found = sorted((it for it in status.problems if it.subject == about), key=lambda it: (it.reason, it.message))
        if found:
            words = "no session comes of it: " if about.startswith(f"{Kind.PEER} ") else ""
            return [Hop(about, f"{words}{it.message}", ok=False, reason=it.reason, fix=it.fix) for it in found]
    return []


def _held(status: Status, peer: Peer, held: Held) -> Hop:
    words, problem = held_words(status, peer, held) or "there must be no session", held_problem(status, peer, held)
    place, fix = (object_of(peer.name), "") if problem is None else (problem.subject, problem.fix)
    return Hop(place, words, ok=False, reason=held.reason, fix=fix)


def _wanted(status: Status, peer: Peer) -> Hop:
    """How the session is meant to be."""
    kind = "mesh" if peer.mesh else "external"
    asn = peer_as(status, peer)
    known = asn if asn == peer.peer_asn or not isinstance(asn, int) else f"{asn} (learned)"
    wanted = "no longer wanted" if is_parting(status, peer) else "wanted"
    local = local_address(peer)
    start = f"{kind} session {wanted}, AS" if local is None else f"{kind} session {wanted} from {local} AS"
    return Hop(place_of(peer), "; ".join([f"{start} {peer.local_asn} to AS {known}", *options(status, peer)]))


def _no_as(status: Status) -> Iterator[Hop]:
    """Nobody says any more which AS the node is in: all its sessions are about to end."""
    if status.node in status.plan.parting:
        own = f"Node {status.node}"
        words = (it for it in status.problems if it.subject == own and weight_of(it.reason) is Weight.NO_BGP)
        yield from (Hop(own, it.message, ok=False, reason=it.reason, fix=it.fix) for it in words)


def _kept(status: Status, peer: Peer) -> Iterator[Hop]:
    """Paths that nobody vouches for now."""
    if count := status.rib.stale_count(peer.address):
        why = "the peer may be restarting" if status.rib.is_away(peer.address) else "until the peer has told them again"
        reason = "gracefulRestart"
        yield Hop(place_of(peer), f"paths of it that are kept: {count}, {why}", reason=reason, neutral=True)


def _families(status: Status, peer: Peer) -> Iterator[Hop]:
    place, families = place_of(peer), status.families(peer)
    yield Hop(place, f"{status.peer_state(peer.address).state}, families {', '.join(families) or 'none'}")
    refused = status.refused_counts()
    limits = dict(peer.prefix_limits)
    for family in families:
        text = _counted(status, peer, family, refused, limits.get(family))
        if family in status.rib.synced(peer.address):
            yield Hop(place, text)
        else:
            yield Hop(place, f"{text}; End-of-RIB not received", ok=False, reason="endOfRibMissing")
    for family in sorted(peer.families - set(families)):
        text = f"{family} is wanted, and the peer does not speak it"
        yield Hop(place, text, reason="familyNotSpoken", neutral=True)


def _counted(
    status: Status,
    peer: Peer,
    family: Family,
    refused: Mapping[tuple[Address, Family], int],
    limit: PrefixLimit | None,
) -> str:
    received = status.rib.count(peer.address, family)
    accepted = received - refused.get((peer.address, family), 0)
    of = "" if limit is None else f" (limit {limit.prefixes})"
    return f"{family}: {received} received{of}, {accepted} accepted, {status.sent_count(peer, family)} sent"
