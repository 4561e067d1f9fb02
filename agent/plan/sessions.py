"""Who peers with whom: the mesh of nodes and the BGPPeers that select this node.

Every object that wants a session claims the peer's address; there is one session per address, and the oldest claim has
it, whether there may be a session yet or not. What is said on a session is decided in `agent.plan.adverts` and
`agent.plan.imports`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from agent.intent import AllowedPrefix
from agent.model import (
    Key,
    Kind,
    Problem,
)
from agent.plan.links import Link
from bgp.model import Address, Peer


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionClaim:
    """One object's wish for the session with `address`."""

    created: float
    source: Key
    address: Address
    peer: Peer
    """When it is held, the claim has the address all the same."""
    labels: tuple[tuple[str, str], ...] = ()
    """Of the BGPPeer: advertisements choose peers by them."""
    import_pod_cidrs: bool = False
    import_allowed: tuple[AllowedPrefix, ...] = ()
    link: Link | None = None
    """The one that the peer's link-local address is on, and with it the link-local next hops that it tells."""
    gone: bool = False
    """The other node's Node is no more, and it may be taking leave: it hears all from us and is not believed about
    itself. Whoever else claims its address has it."""


def settle(claims: Iterable[SessionClaim]) -> tuple[SessionClaim | None, tuple[Problem, ...]]:
    """Whose the session with an address is: the oldest, a Node before a BGPPeer of one second, then by name."""
    ranked = sorted(claims, key=_seniority)
    if not ranked:
        return None, ()
    holder, *others = ranked
    return holder, tuple(_taken(claim, holder) for claim in others if not claim.gone)


def _seniority(claim: SessionClaim) -> tuple[bool, float, bool, str]:
    return claim.gone, claim.created, claim.source.kind is not Kind.NODE, claim.source.name


def _taken(claim: SessionClaim, holder: SessionClaim) -> Problem:
    other = f"{holder.source.kind} {holder.source.name}"
    return Problem(
        "peerAddressConflict",
        f"{claim.source.kind} {claim.source.name}",
        f"address {claim.address} is also that of {other}, which is older and keeps the session",
        f"Delete one of the two, correct its address, or let their node selectors exclude each other ({other}).",
    )
