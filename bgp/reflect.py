"""Route reflection (RFC 4456): what becomes of the best path to a prefix when it is passed on, and to whom it is not.

Decides by BGP's own rules only. Which paths may be believed is `bgp.check.path_refusal`, which one is best
`bgp.bestpath`, and who is a client and who reflects is `agent.plan.topology`. It keeps no state.

- From a client to all other iBGP peers; from a non-client to clients only (RFC 4456 6). Never to, or from, another AS:
  nodes are not transit.
- ORIGINATOR_ID is set when there is none, our cluster id goes in front of CLUSTER_LIST (8). Next hop, AS_PATH,
  LOCAL_PREF, MED and communities stay as they are (10). An absent LOCAL_PREF, against the rules, is written as the 100
  that it counts as: ExaBGP 5.0 would add it by itself, and its table would then not be what it was told.
- Not back to who told us. RFC 4456 leaves a path that comes home by way of another reflector to the loop check of its
  originator; with nodes it stays here already, as its next hop is that peer.
- Attributes that `bgp.model.Attributes` does not have are not passed on.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, replace
from ipaddress import IPv4Address
from typing import Final

from bgp.check import Reason, refusal
from bgp.model import DEFAULT_LOCAL_PREF, Address, Community, Path, Peer, Prefix, Route

NO_ADVERTISE: Final = Community(0xFFFF, 0xFF02)
_NOBODY: Final = IPv4Address(0)


class Role(enum.StrEnum):
    """What a peer is to a route reflector."""

    CLIENT = "client"
    NON_CLIENT = "nonClient"
    EXTERNAL = "external"

    @classmethod
    def of(cls, peer: Peer) -> Role:
        if not peer.internal:
            return cls.EXTERNAL
        return cls.CLIENT if peer.client else cls.NON_CLIENT


@dataclass(frozen=True, slots=True)
class Reflected:
    """The best path to a prefix as it is passed on: the same for all who hear it."""

    route: Route
    teller: Address
    role: Role
    """Of the teller."""
    why: Reason | None = None
    """Set: nobody hears it."""


def reflected(
    prefix: Prefix, path: Path, *, role: Role, router_id: IPv4Address | None, cluster_id: IPv4Address
) -> Reflected:
    """`role` and `router_id` are those of the peer that told us; `cluster_id` is ours."""
    said = path.attributes
    why: Reason | None = None
    if role is Role.EXTERNAL:
        why = Reason.NOT_TRANSIT
    elif NO_ADVERTISE in said.communities:
        why = Reason.NO_ADVERTISE
    elif said.originator_id is None and router_id is None:
        why = Reason.ORIGINATOR_UNKNOWN
    attributes = replace(
        said,
        local_pref=DEFAULT_LOCAL_PREF if said.local_pref is None else said.local_pref,
        originator_id=said.originator_id or router_id,
        cluster_list=(cluster_id, *said.cluster_list),
    )
    return Reflected(Route(prefix, path.next_hop, attributes), path.peer, role, why)


def kept_from(what: Reflected, peer: Peer) -> Reason | None:
    """Why `peer` does not hear it, None if it does."""
    return kept_from_address(what, peer.address) or kept_from_kind(what, kind_of(peer))


def kept_from_address(what: Reflected, address: Address) -> Reason | None:
    """The part of `kept_from` that differs between peers of one kind."""
    if what.teller == address:
        return Reason.TOLD_BY_PEER
    return Reason.NEXT_HOP_IS_PEER if what.route.next_hop == address else None


def kept_from_kind(what: Reflected, kind: Peer) -> Reason | None:
    """The part that all peers of one kind (`kind_of`) share: asked once for a thousand clients."""
    if what.why is not None:
        return what.why
    role = Role.of(kind)
    if role is Role.EXTERNAL:
        return Reason.NOT_TRANSIT
    if role is Role.NON_CLIENT and what.role is Role.NON_CLIENT:
        return Reason.NEITHER_CLIENT
    return refusal(kind, what.route)


def kind_of(peer: Peer) -> Peer:
    """What is left of a peer without that which tells it from others: equal for peers that hear the same."""
    return replace(
        peer,
        address=_NOBODY,
        name="",
        description="",
        local_address=_NOBODY,
        passive=False,
        held=None,
        password=None,
    )
