"""Best path and multipath: RFC 4271 9.1.2 with RFC 4456 section 9, over the paths to one prefix.

Chooses among paths that may all be believed: loops, unusable next hops and policy are weeded out before
(`bgp.check.path_refusal`, the planner). It keeps no state, so the answer depends on the set of paths alone, never on
the order in which they came: there is no "oldest path wins" and nothing to flap.

The choices RFC 4271 leaves open:
- A path of a peer that is away is only used if there is no other: RFC 4724 4.2 would not tell them apart, but whether
  the peer still forwards is its promise of long ago, and the other is there.
- LOCAL_PREF counts on iBGP paths only; absent, and on eBGP paths, it is 100 (5.1.5: an external peer's is ignored),
  or 0 on those with GRACEFUL_SHUTDOWN: their router is about to go (RFC 8326 4.2).
- MULTI_EXIT_DISC is compared among paths of the same neighbour AS, over whole groups at once ("deterministic MED"):
  pairwise comparison would make the answer depend on the order. Absent means 0, as 9.1.2.2 c says. The neighbour AS is
  the first of AS_PATH; of a path without one (from inside the AS, or starting with an AS_SET) the AS of the peer.
- Every next hop of this node's peers is equally near: steps that compare the interior cost decide nothing.
- Multipath takes what is equal up to there: AS paths of equal length, not equal content ("multipath-relax"), because
  each rack may have an AS of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Final

from bgp.model import DEFAULT_LOCAL_PREF, GRACEFUL_SHUTDOWN, Address, Path, by_number

MULTIPATH_LIMIT: Final = 16
"""Next hops of one route at most."""
LAST_RESORT: Final = 0
"""LOCAL_PREF of what is about to be withdrawn (RFC 8326 4.1)."""
_LAST_ROUTER_ID: Final = IPv4Address("255.255.255.255")
"""A peer whose identifier is not known loses the tie."""


@dataclass(frozen=True, slots=True)
class PeerInfo:
    """What of a peer decides between its paths and those of others."""

    internal: bool
    router_id: IPv4Address | None
    asn: int
    away: bool = False
    """Lost, and perhaps restarting: RFC 4724 4.2 keeps its paths."""


@dataclass(frozen=True, slots=True)
class _Candidate:
    path: Path
    peer: PeerInfo


def best(
    paths: Iterable[Path], *, peer_of: Callable[[Address], PeerInfo], limit: int = MULTIPATH_LIMIT
) -> tuple[Path, ...]:
    """The paths to use together, the best one first: at most `limit`, each with another next hop. Empty for no path."""
    left = [_Candidate(path, peer_of(path.peer)) for path in paths]
    if len(left) > 1:
        left = _lowest(left, lambda it: it.peer.away)
        left = _lowest(left, lambda it: -_local_pref(it))
        left = _lowest(left, lambda it: len(it.path.attributes.as_path))
        left = _lowest(left, lambda it: it.path.attributes.origin)
        left = _lowest_med_of_each_neighbour(left)
        left = _lowest(left, lambda it: it.peer.internal)
        left.sort(key=_tie)
    chosen: dict[Address, Path] = {}
    for candidate in left:
        chosen.setdefault(candidate.path.next_hop, candidate.path)
    return tuple(chosen.values())[:limit]


def _lowest(candidates: list[_Candidate], measure: Callable[[_Candidate], int]) -> list[_Candidate]:
    lowest = min(map(measure, candidates))
    return [it for it in candidates if measure(it) == lowest]


def _local_pref(candidate: _Candidate) -> int:
    attributes = candidate.path.attributes
    if candidate.peer.internal:
        return DEFAULT_LOCAL_PREF if attributes.local_pref is None else attributes.local_pref
    return LAST_RESORT if GRACEFUL_SHUTDOWN in attributes.communities else DEFAULT_LOCAL_PREF


def _lowest_med_of_each_neighbour(candidates: list[_Candidate]) -> list[_Candidate]:
    lowest: dict[int, int] = {}
    for it in candidates:
        neighbour, med = _neighbour(it), it.path.attributes.med or 0
        lowest[neighbour] = min(med, lowest.get(neighbour, med))
    return [it for it in candidates if (it.path.attributes.med or 0) == lowest[_neighbour(it)]]


def _neighbour(candidate: _Candidate) -> int:
    as_path = candidate.path.attributes.as_path
    return as_path[0] if as_path and isinstance(as_path[0], int) else candidate.peer.asn


def _tie(candidate: _Candidate) -> tuple[IPv4Address, int, int, int, str]:
    """RFC 4271 9.1.2.2 f and g; ORIGINATOR_ID stands for the identifier, then the shorter CLUSTER_LIST (RFC 4456 9)."""
    attributes, address = candidate.path.attributes, candidate.path.peer
    identifier = attributes.originator_id or candidate.peer.router_id or _LAST_ROUTER_ID
    return identifier, len(attributes.cluster_list), *by_number(address)
