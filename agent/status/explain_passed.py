"""What becomes of a route that was heard here when it is passed on by this node, as a route reflector: to whom it goes
and to whom it does not, told by outcome, since a reflector may have a thousand clients.

Reads `Status` only. Routes that this node announces itself are followed to each peer (`agent.status.explain`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Final

from agent.status.hops import Hop
from agent.status.meanings import meaning_out
from agent.status.remedies import outward_remedy
from agent.status.status import Status, told_state
from bgp.check import Reason
from bgp.model import Peer, Prefix, RouteKey

PLACE: Final = "reflector"
NAMED: Final = 3
"""More peers of one outcome are counted."""
_AS_IT_SHOULD_BE: Final = frozenset(
    {Reason.NEITHER_CLIENT, Reason.NEXT_HOP_IS_PEER, Reason.NO_ADVERTISE, Reason.NOT_TRANSIT, Reason.TOLD_BY_PEER}
)


def passed_hops(status: Status, prefix: Prefix) -> Iterator[Hop]:
    if prefix in status.plan.originated:
        return
    outcomes = defaultdict[tuple[str, str], list[Peer]](list)
    for peer in status.sessions():
        key = RouteKey(peer.address, prefix)
        if key in status.plan.routes or key in status.plan.refused_out:
            outcomes[told_state(status, key)].append(peer)
    for (state, reason), peers in sorted(outcomes.items()):
        yield _passed(state, reason, _named(peers))


def _passed(state: str, reason: str, peers: str) -> Hop:
    match state, reason:
        case "sent", _:
            return Hop(PLACE, f"passed on to {peers}")
        case "pending", _:
            return Hop(PLACE, f"is about to be passed on to {peers}", reason="pending", neutral=True)
        case "held", "":
            return Hop(PLACE, f"will be passed on to {peers}: no session", reason="notEstablished", neutral=True)
        case _:
            neutral = state == "held" or reason in _AS_IT_SHOULD_BE
            text = f"not passed on to {peers}: {meaning_out(reason)}"
            return Hop(PLACE, text, ok=neutral, reason=reason, neutral=neutral, fix=outward_remedy(reason))


def _named(peers: Sequence[Peer]) -> str:
    names = ", ".join(peer.name for peer in peers[:NAMED])
    return names if len(peers) <= NAMED else f"{names} and {len(peers) - NAMED} others"
