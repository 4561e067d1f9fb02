"""Which sessions this node has with other nodes, and what stays of those that it had: make before break.

What a change of topology takes away stays for a while, until what replaces it is in place: a session that is no longer
wanted, and a client that is no longer one. A reflector that is not needed any more so goes on reflecting while its
clients' sessions with each other come up. A node whose Node is deleted takes leave, and forwards by what it hears from
us until it has. And a session is what it was as long as its new password is on its way.

It refuses to know routers outside (`agent.plan.external`), to settle rival claims (`agent.plan.sessions`) and to say
how long a session that is no longer wanted stays (`agent.farewell`).
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from dataclasses import replace

from agent.intent import MeshMode
from agent.model import Key, Kind
from agent.plan.identity import Peering
from agent.plan.model import Identity
from agent.plan.nodes import Member
from agent.plan.passwords import PENDING
from agent.plan.sessions import SessionClaim
from agent.plan.topology import Standpoint, tie
from bgp.model import Family, Peer


class Left(enum.Enum):
    """What of a session is left of the plan before, and ends when its time is over."""

    SESSION = enum.auto()
    """All of it: it is wanted no more."""
    CLIENT = enum.auto()
    """The session is wanted, but the node is no client of ours any more."""


def node_claim(
    peering: Peering, stood: Standpoint, other: Member | None, before: SessionClaim | None
) -> tuple[SessionClaim | None, Left | None]:
    """The session with `other`, and what of it is only left of `before`: the claim of the plan before.

    `other` is None when there is no such Node any more; `before` when there was none, or when its time is over.
    """
    if other is None:
        kept = gone_claim(peering, before)
        return kept, Left.SESSION if kept is not None else None
    claim = mesh_claim(peering, stood, other)
    if claim is None:
        kept = kept_claim(peering, other, before)
        return kept, Left.SESSION if kept is not None else None
    if claim.peer.held == PENDING:
        return kept_claim(peering, other, before) or claim, None
    if before is not None and before.peer.client and not claim.peer.client:
        return replace(claim, peer=replace(claim.peer, client=True)), Left.CLIENT
    return claim, None


def mesh_claim(peering: Peering, stood: Standpoint, other: Member) -> SessionClaim | None:
    """One session per pair of nodes, over the first family both have; the side with the lower address dials."""
    own, found = peering.identity, tie(stood, other)
    if found is None:
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
            port=other.instance.listen_port,
            listen_port=own.listen_port,
            hold_seconds=peering.mesh.hold_seconds,
            password=peering.mesh_password.password,
            held=peering.farewell or peering.mesh_password.held,
            mesh=True,
            client=found.client,
        )
        source = Key(Kind.NODE, "", other.name)
        return SessionClaim(created=other.created, source=source, address=remote, peer=peer)
    return None


def kept_claim(peering: Peering, other: Member, before: SessionClaim | None) -> SessionClaim | None:
    """The session with `other` as it was in the plan before, while both nodes are where they were then.

    A session that the topology no longer wants is not ended at once: what replaces it must be in place first.
    """
    if before is None or before.peer.held is not None or peering.farewell is not None:
        return None
    there = before.address in other.addresses and before.peer.local_address in peering.identity.addresses
    return replace(before, gone=False) if there else None


def gone_claim(peering: Peering, before: SessionClaim | None) -> SessionClaim | None:
    """The session with a node whose Node is no more, as it was in the plan before: it may be taking leave."""
    if before is None or before.peer.held is not None or peering.farewell is not None:
        return None
    return replace(before, gone=True) if before.peer.local_address in peering.identity.addresses else None


def still_reflecting(stood: Standpoint, identity: Identity | None, left: Iterable[SessionClaim]) -> Standpoint:
    """A reflector that is one no longer goes on for those that still are its clients."""
    if identity is None or stood.cluster_id is not None or not any(claim.peer.client for claim in left):
        return stood
    return replace(stood, cluster_id=identity.router_id)


def names(left: Mapping[str, Left], what: Left) -> frozenset[str]:
    """The nodes of which this is left."""
    return frozenset(name for name, found in left.items() if found is what)


def mesh_secrets(peering: Peering | None) -> frozenset[str]:
    """Names of the Secrets that sessions with other nodes need."""
    if peering is None or not meshes(peering.mesh.mode) or peering.mesh.password_ref is None:
        return frozenset()
    return frozenset((peering.mesh.password_ref.name,))


def meshes(mode: MeshMode) -> bool:
    return mode is not MeshMode.NONE


def families(own: Identity) -> frozenset[Family]:
    return frozenset(map(Family.of, own.addresses))
