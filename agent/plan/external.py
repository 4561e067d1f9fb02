"""What each BGPPeer comes to on this node: a session with a router outside, or the reason why there is none.

It refuses to know other nodes (`agent.plan.mesh`) and to settle rival claims (`agent.plan.sessions`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from agent.intent import ExternalPeer
from agent.model import Key, Kind, Problem, Secret
from agent.plan.identity import Peering
from agent.plan.mesh import families
from agent.plan.model import Identity
from agent.plan.sessions import SessionClaim
from bgp.model import Family, Password, Peer


@dataclass(frozen=True, slots=True)
class Wish:
    """What one BGPPeer comes to on this node."""

    claim: SessionClaim | None = None
    problems: tuple[Problem, ...] = ()
    secret: str | None = None
    """Name of the Secret it needs."""


def external_wish(peering: Peering, wanted: ExternalPeer, secrets: Mapping[str, Secret]) -> Wish:
    if wanted.address is None or not wanted.node_selector.matches(dict(peering.labels)):
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
        peer_asn=wanted.asn if isinstance(wanted.asn, int) else None,
        router_id=own.router_id,
        families=families(own),
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
