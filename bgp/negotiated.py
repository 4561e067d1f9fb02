"""What two OPENs agree on: the session that they make.

It refuses to know whether there is one (`bgp.sessions`).
"""

from __future__ import annotations

from collections.abc import Iterable

from bgp.exaevents import Heard, Opened
from bgp.model import Address, Direction, Family, SessionUp


def negotiated(peer: Address, sent: Opened | None, received: Opened | None) -> SessionUp:
    """RFC 4271 4.2: the smaller hold time holds, none if either says 0. RFC 4760 8: families that both have."""
    if received is None:
        # The bridge has forgotten the OPENs: it was started again while the session was up.
        families: frozenset[Family] = frozenset() if sent is None else sent.families
        return SessionUp(peer=peer, router_id=None, peer_asn=0, hold_seconds=0, families=families)
    ours = received.hold_seconds if sent is None else sent.hold_seconds
    return SessionUp(
        peer=peer,
        router_id=received.router_id,
        peer_asn=received.asn,
        hold_seconds=min(ours, received.hold_seconds),
        families=received.families if sent is None else sent.families & received.families,
        restart_seconds=received.restart_seconds,
        restart_families=received.restart_families,
        restarting=received.restarting,
        forwarding_kept=received.forwarding_kept,
        extended_next_hop=received.extended_next_hop and (sent is None or sent.extended_next_hop),
        offered=frozenset(Family) if sent is None else sent.families,
        extended_next_hop_offered=sent is None or sent.extended_next_hop,
        route_refresh=received.route_refresh,
    )


def reopened(peer: Address, opened: Iterable[Heard]) -> SessionUp | None:
    """The session that there was with these OPENs; None: the peer's is not known any more."""
    by_direction = {event.direction: event for event in opened if isinstance(event, Opened)}
    if Direction.RECEIVED not in by_direction:
        return None
    return negotiated(peer, by_direction.get(Direction.SENT), by_direction[Direction.RECEIVED])
