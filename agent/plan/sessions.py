"""Who peers with whom: the mesh of nodes and the BGPPeers that select this node.

Every object that wants a session claims the peer's address; there is one session per address, and the oldest claim has
it. Passwords are taken from the Secret or the session does not exist; it is never tried without. What is said on a
session is decided in `agent.plan.adverts` and `agent.plan.imports`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from agent.model import AllowedPrefix, ExternalPeer, Key, Kind, Problem, Secret
from agent.plan.claims import Standing
from agent.plan.identity import Peering
from agent.plan.model import Identity
from bgp.model import Address, Family, Password, Peer


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionClaim:
    """One object's wish for the session with `address`."""

    created: float
    source: Key
    address: Address
    peer: Peer | None
    """None: it holds the address, but there is no session yet (its password is not known)."""
    import_pod_cidrs: bool = False
    import_allowed: tuple[AllowedPrefix, ...] = ()


@dataclass(frozen=True, slots=True)
class Wish:
    """What one BGPPeer comes to on this node."""

    claim: SessionClaim | None = None
    problems: tuple[Problem, ...] = ()
    secret: str | None = None
    """Name of the Secret it needs."""


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
            families=_families(own) & frozenset(map(Family.of, other.addresses)),
            passive=int(local) > int(remote),
            hold_seconds=peering.mesh_hold_seconds,
            mesh=True,
        )
        source = Key(Kind.NODE, "", other.name)
        return SessionClaim(created=other.created, source=source, address=remote, peer=peer)
    return None


def external_wish(peering: Peering, wanted: ExternalPeer, secrets: Mapping[str, Secret]) -> Wish:
    if not wanted.node_selector.matches(dict(peering.labels)):
        return Wish()
    own = peering.identity
    if wanted.address in peering.own_addresses:
        return Wish(problems=(_own_address(wanted, own),))
    family = Family.of(wanted.address)
    local = next((address for address in own.addresses if Family.of(address) is family), None)
    if local is None:
        return Wish(problems=(_no_address(wanted, own, family),))
    password, problem = _password(wanted, secrets)
    peer = Peer(
        address=wanted.address,
        name=f"BGPPeer/{wanted.name}",
        local_address=local,
        local_asn=own.asn,
        peer_asn=wanted.asn,
        router_id=own.router_id,
        families=_families(own),
        port=wanted.port,
        hold_seconds=wanted.hold_seconds,
        password=password,
    )
    claim = SessionClaim(
        created=wanted.created,
        source=Key(Kind.PEER, "", wanted.name),
        address=wanted.address,
        peer=peer if wanted.password_ref is None or password is not None else None,
        import_pod_cidrs=wanted.import_pod_cidrs,
        import_allowed=wanted.import_allowed,
    )
    secret = wanted.password_ref.name if wanted.password_ref is not None else None
    return Wish(claim, (problem,) if problem is not None else (), secret)


def settle(claims: Iterable[SessionClaim]) -> tuple[SessionClaim | None, tuple[Problem, ...]]:
    """Whose the session with an address is: the oldest, a Node before a BGPPeer of one second, then by name."""
    ranked = sorted(claims, key=lambda claim: (claim.created, claim.source.kind is not Kind.NODE, claim.source.name))
    if not ranked:
        return None, ()
    holder, *others = ranked
    return holder, tuple(_taken(claim, holder) for claim in others)


def _families(own: Identity) -> frozenset[Family]:
    return frozenset(map(Family.of, own.addresses))


def _password(wanted: ExternalPeer, secrets: Mapping[str, Secret]) -> tuple[Password | None, Problem | None]:
    """(None, None): none is asked for, or the Secret has not been listed yet."""
    ref = wanted.password_ref
    secret = secrets.get(ref.name) if ref is not None else None
    if ref is None or secret is None:
        return None, None
    subject = f"BGPPeer {wanted.name}"
    if not secret.found:
        why = f" ({secret.why})" if secret.why else ""
        return None, Problem(
            "secretMissing",
            subject,
            f"passwordSecretRef names Secret {ref.name}, which cannot be read{why}: the session stays down",
            f"Create Secret {ref.name} with key {ref.key} in the agent's namespace, and let the agent read it.",
        )
    password = dict(secret.values).get(ref.key)
    if password is None or not password.reveal():
        what = "has no key" if password is None else "has nothing under key"
        return None, Problem(
            "secretKeyMissing",
            subject,
            f"Secret {ref.name} {what} {ref.key}, which passwordSecretRef names: the session stays down",
            f"Add key {ref.key} to Secret {ref.name}, or correct passwordSecretRef.key.",
        )
    return password, None


def _own_address(wanted: ExternalPeer, own: Identity) -> Problem:
    return Problem(
        "peerIsThisNode",
        f"BGPPeer {wanted.name}",
        f"address {wanted.address} is that of Node {own.node} itself: there is no session with oneself",
        f"Correct spec.address, or leave Node {own.node} out with spec.nodeSelector.",
    )


def _no_address(wanted: ExternalPeer, own: Identity, family: Family) -> Problem:
    return Problem(
        "noAddressOfFamily",
        f"BGPPeer {wanted.name}",
        f"address {wanted.address} is {family}, and Node {own.node} has no {family} InternalIP to reach it from",
        f"Give Node {own.node} an {family} address, or leave it out with spec.nodeSelector.",
    )


def _taken(claim: SessionClaim, holder: SessionClaim) -> Problem:
    other = f"{holder.source.kind} {holder.source.name}"
    return Problem(
        "peerAddressConflict",
        f"{claim.source.kind} {claim.source.name}",
        f"address {claim.address} is also that of {other}, which is older and keeps the session",
        f"Delete one of the two, correct its address, or let their node selectors exclude each other ({other}).",
    )
