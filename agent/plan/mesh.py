"""Which sessions this node has with other nodes.

It refuses to know routers outside (`agent.plan.external`) and to settle rival claims (`agent.plan.sessions`).
"""

from __future__ import annotations

from agent.model import Key, Kind
from agent.plan.claims import Standing
from agent.plan.identity import Peering
from agent.plan.model import Identity
from agent.plan.sessions import SessionClaim
from bgp.model import Family, Peer


def mesh_claim(peering: Peering, other: Standing) -> SessionClaim | None:
    """One session per pair of nodes, over the first family both have; the side with the lower address dials."""
    own = peering.identity
    if other.name == own.node:
        return None
    for local in own.addresses:
        remote = other.address_of(Family.of(local))
        if remote is None:
            continue
        peer = Peer(
            address=remote,
            name=f"node/{other.name}",
            local_address=local,
            local_asn=own.asn,
            peer_asn=own.asn,
            router_id=own.router_id,
            families=families(own) & frozenset(map(Family.of, other.addresses)),
            passive=int(local) > int(remote),
            hold_seconds=peering.mesh_hold_seconds,
            mesh=True,
        )
        source = Key(Kind.NODE, "", other.name)
        return SessionClaim(created=other.created, source=source, address=remote, peer=peer)
    return None


def families(own: Identity) -> frozenset[Family]:
    return frozenset(map(Family.of, own.addresses))
