"""What an explanation is made of: one station on the way of a route, service or session.

It refuses to find them: that is `agent.status.explain` and `agent.status.explain_peer`.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address, ip_network

from agent.plan.prefixes import host
from agent.status.peers import View
from agent.status.remedies import remedy
from bgp.model import Address, Peer, Prefix, without_zone


@dataclass(frozen=True, slots=True)
class Hop:
    """One station on the way."""

    place: str
    """Who speaks: `Service default/web`, `peer 10.0.0.1 (node/b)`, `kernel`."""
    text: str
    ok: bool = True
    reason: str = ""
    """Reason word of a "no"."""
    neutral: bool = False
    """A "no" that keeps nothing from working: it is ok and needs no remedy."""
    fix: str = ""
    """What to do about it, when more is known than the remedy of the reason word."""


def as_plain(hop: Hop) -> View:
    """For an answer."""
    return {
        "place": hop.place,
        "ok": hop.ok,
        "neutral": hop.neutral,
        "text": hop.text,
        "reason": hop.reason or None,
        "fix": None if hop.ok else hop.fix or remedy(hop.reason) or None,
    }


def place_of(peer: Peer) -> str:
    return f"peer {peer.address} ({peer.name})"


def parse_prefix(text: str) -> Prefix | None:
    """A prefix, or an address as its host prefix; host bits, blanks around and the zone of an address are forgiven."""
    text = text.strip()
    try:
        return host(without_zone(ip_address(text))) if "%" in text else ip_network(text, strict=False)
    except ValueError:
        return None


def via(prefix: Prefix, next_hop: Address) -> str:
    """The next hop as `ip route` prints it: with its family, where that is not the prefix's (RFC 8950)."""
    return str(next_hop) if next_hop.version == prefix.version else f"inet6 {next_hop}"
