"""What users can mend of sessions, in words: limits that were exceeded, malformed UPDATEs, what was not agreed to.

It refuses to find out (`bgp.speaker`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from bgp.check import Reason, carries, carries_extended_next_hops
from bgp.exaconfig import MAX_PREFIXES_EXCEEDED
from bgp.limits import MAX_PREFIXES_NEAR, Excess
from bgp.model import Family, PathsHeard, Peer, SessionUp

NO_COMMON_FAMILY: Final = "noCommonFamily"
FAMILY_NOT_NEGOTIATED: Final = "familyNotNegotiated"
MALFORMED_UPDATE: Final = "malformedUpdate"


@dataclass(frozen=True, slots=True)
class SpeakerProblem:
    """Something the user can mend; equal problems are one."""

    reason: str
    subject: str
    message: str
    fix: str


def over_limit(excess: Excess) -> SpeakerProblem:
    again = "It may try again when the limit or another setting of the session is changed, or after `shutdown: true`."
    if excess.limit.restart_seconds is not None:
        again = f"It may try again {excess.limit.restart_seconds} s after the session was ended."
    fix = f"Find out why it tells so much, or give it a higher limit. {again}"
    return SpeakerProblem(MAX_PREFIXES_EXCEEDED, excess.peer.name, f"{excess.text}: there is no session with it", fix)


def near_limit(excess: Excess) -> SpeakerProblem:
    share = f"{excess.limit.warning_percent} % or more of the {excess.limit.prefixes} {excess.family_name} prefixes"
    then = "nothing but this follows" if excess.limit.warning_only else "at more than all of them the session is ended"
    fix = "Find out why it tells so much, or give it a higher limit."
    return SpeakerProblem(MAX_PREFIXES_NEAR, excess.peer.name, f"it has told {share} that it may: {then}", fix)


def malformed(peer: Peer, update: PathsHeard) -> SpeakerProblem:
    prefix, *others = update.withdrawn
    what = f"{prefix} and {len(others)} others are" if others else f"{prefix} is"
    message = f"it has told a malformed UPDATE ({update.malformed}): {what} taken for withdrawn (RFC 7606)"
    fix = "Look on the peer for where the route has its attributes from. It says so until the session ends."
    return SpeakerProblem(MALFORMED_UPDATE, peer.name, message, fix)


def lacks(peer: Peer, up: SessionUp) -> Iterator[SpeakerProblem]:
    """What the other side has not agreed to on the session that there is."""
    missing = sorted(family for family in peer.families & up.offered if not carries(up, family))
    if missing:
        yield _no_families(peer, missing)
    if peer.extended_next_hop and up.extended_next_hop_offered and not carries_extended_next_hops(up):
        yield _no_next_hops(peer)


def _no_families(peer: Peer, missing: list[Family]) -> SpeakerProblem:
    """Most routers refuse a session without any family (NOTIFICATION 2/7); GoBGP 4.8 has it all the same."""
    names = ", ".join(missing)
    if len(missing) == len(peer.families):
        reason, what = NO_COMMON_FAMILY, f"there is a session with no address family in common; offered here: {names}"
    else:
        reason, what = FAMILY_NOT_NEGOTIATED, f"the session does not carry {names}, which the peer has not agreed to"
    fix = f"Activate {names} in the router's neighbor statement for {peer.local_address}, or correct `families` here."
    if peer.mesh:
        fix = "Nothing to do when a node's addresses have just changed; else see `bgpilot peers` on the other node."
    return SpeakerProblem(reason, peer.name, f"{what}: no such route goes either way", fix)


def _no_next_hops(peer: Peer) -> SpeakerProblem:
    fix = "Switch it on at the peer (FRR: `neighbor ... capability extended-nexthop`), or off here."
    message = "it has not agreed to IPv6 next hops of IPv4 routes (RFC 8950): routes that need it are not sent"
    return SpeakerProblem(Reason.NEXT_HOP_NOT_NEGOTIATED, peer.name, message, fix)
