"""When routes go that an agent found in the kernel at its start, and that nobody has claimed since.

They are of an earlier life, and so is what a reflector had passed on (`Speaker.sweep`). Whoever told of them may tell
again: they wait for every peer to have sent all it has, but for those that nothing is believed of any more. A peer that
has no session now and may be restarting keeps them for what is left of its restart time (RFC 4724 4.2); where others
have told of the same prefix, it is these that count meanwhile, as in an agent that was there when the session ended.

A node that is nothing in BGP now has nobody to speak as: for their restart time routers may send what the agent before
drew. One without a peer goes on until ExaBGP, which that agent may have told of its routes, is told.

It removes nothing, and plans nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from collections.abc import Set as AbstractSet
from typing import Final

from agent.plan.model import NodePlan
from bgp.model import Address

SWEEP_CAP_SECONDS: Final = 120.0
"""How long they wait at most."""


class Sweeping:
    __slots__ = ("done", "narrowing", "next_look_at")

    def __init__(self) -> None:
        self.done = False
        """Nobody is waited for any more."""
        self.narrowing = False
        """Only for peers that have no session: what others have told is all there is to know of a prefix."""
        self.next_look_at: float | None = None
        """When it may be over although nothing happens."""

    def look(
        self,
        now: float,
        plan: NodePlan,
        *,
        since: float,
        synced: AbstractSet[Address],
        over_at: Callable[[Address], float | None],
        told: bool,
    ) -> None:
        """`since`: when the peers were first asked for; `synced`: who has sent all they have, of which all is planned;
        `over_at`: when nothing counts any more that a peer without a session has told, if that is known; `told`:
        ExaBGP has the peers and routes of the plan.
        """
        cap = since + SWEEP_CAP_SECONDS
        awaited = {peer: over_at(peer) for peer in _awaited(plan) if peer not in synced}
        instants = [cap if at is None else min(at, cap) for at in awaited.values()]
        if plan.identity is None or not (plan.peers or told):
            instants.append(cap)
        self.narrowing = None not in awaited.values()
        over_at_last = max(instants, default=now)
        self.done = over_at_last <= now
        self.next_look_at = None if self.done else over_at_last


def _awaited(plan: NodePlan) -> Iterator[Address]:
    """Peers that may claim something; a node whose Node is gone cannot (`SessionClaim.gone`)."""
    gone = (claim for claim in plan.mesh.values() if claim.gone)
    left = {claim.address for claim in gone if plan.peers.get(claim.address) is claim.peer}
    return (address for address, peer in plan.peers.items() if peer.held is None and address not in left)
