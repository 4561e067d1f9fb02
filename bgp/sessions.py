"""State of every session, from what ExaBGP says of it: `PeerState` for status, session events for the agent.

Values in, values out: it refuses to do I/O, to know the time, and to know routes (they pass through).

What it relies on (ExaBGP 5.0.15): a refused dial is told as connected, then down, like a session that was lost; only
one that was up counts as a flap. The cause stands in the event of a NOTIFICATION just before `down`; without one the
transport ended, and the reason ExaBGP gives says little.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final, assert_never

from bgp.exaevents import CameUp, Heard, Notified, Opened, Refreshed, StateChanged, WentDown
from bgp.model import (
    Address,
    BgpEvent,
    Direction,
    EndOfRib,
    Family,
    PathsHeard,
    PeerState,
    SessionDown,
    SessionError,
    SessionState,
    SessionUp,
)

TRANSPORT_CLOSED: Final = "connection refused, closed or reset"
_REFUSED: Final = (Direction.LOCAL, 0, 0, TRANSPORT_CLOSED)


@dataclass(slots=True)
class _Session:
    sent: Opened | None = None
    received: Opened | None = None
    notified: Notified | None = None
    up_at: str = ""
    """ExaBGP's time of `up`: the identity of the session."""


class Sessions:
    def __init__(self) -> None:
        self._states: dict[Address, PeerState] = {}
        self._sessions: dict[Address, _Session] = {}
        self._configured: frozenset[Address] | None = None

    @property
    def states(self) -> Mapping[Address, PeerState]:
        """A live view. Until peers are configured, those ExaBGP has spoken of."""
        return MappingProxyType(self._states)

    def configure(self, peers: Iterable[Address]) -> None:
        """Peers that ExaBGP has from now on; others are forgotten."""
        self._configured = wanted = frozenset(peers)
        for peer in self._states.keys() - wanted:
            del self._states[peer]
            self._sessions.pop(peer, None)
        for peer in wanted - self._states.keys():
            self._states[peer] = PeerState()

    def can_refresh(self, peer: Address) -> bool:
        """The peer takes ROUTE-REFRESH (RFC 2918)."""
        session = self._sessions.get(peer)
        return session is not None and session.received is not None and session.received.route_refresh

    def heard(self, event: Heard, now: float) -> list[BgpEvent]:
        """What it means for the agent, in order. A session already known to be up comes up only once."""
        meant = self._heard(event, now)
        if self._configured is not None and event.peer not in self._configured and not self._states[event.peer].up:
            del self._states[event.peer]  # last words of a peer that has just been removed
            self._sessions.pop(event.peer, None)
        return meant

    def _heard(self, event: Heard, now: float) -> list[BgpEvent]:
        session = self._sessions.setdefault(event.peer, _Session())
        state = self._states.setdefault(event.peer, PeerState())
        match event:
            case PathsHeard():
                return [event]
            case EndOfRib(peer, family) | Refreshed(peer, family):
                self._states[peer] = replace(state, synced=state.synced | {family})
                return [EndOfRib(peer, family)]
            case Opened():
                if event.direction is Direction.SENT:
                    session.sent, session.received, session.notified = event, None, None
                else:
                    session.received = event
                return []
            case Notified():
                session.notified = event
                return []
            case StateChanged():
                if state.up is None:
                    self._states[event.peer] = replace(state, state=event.state)
                return []
            case CameUp():
                return self._came_up(event, session, state, now)
            case WentDown():
                return self._went_down(event, session, state, now)
            case _:
                assert_never(event)

    def lost(self, reason: str, now: float) -> None:
        """ExaBGP is gone: every session is down."""
        for peer, state in self._states.items():
            self._sessions.pop(peer, None)
            if state.up is not None:
                error = SessionError(Direction.LOCAL, 0, 0, reason, now)
                self._states[peer] = _down(state, error, now)
            else:
                self._states[peer] = replace(state, state=SessionState.IDLE)

    def _came_up(self, event: CameUp, session: _Session, state: PeerState, now: float) -> list[BgpEvent]:
        if state.up is not None and session.up_at == event.at:
            return []
        session.up_at, session.notified = event.at, None
        up = _negotiated(event.peer, session)
        self._states[event.peer] = replace(
            state,
            state=SessionState.ESTABLISHED,
            since=now,
            up=up,
            synced=frozenset(),
            last_error=state.last_error if state.flaps else None,  # attempts before the first session are history
        )
        return [up]

    def _went_down(self, event: WentDown, session: _Session, state: PeerState, now: float) -> list[BgpEvent]:
        error = _error(event, session.notified, now)
        self._sessions[event.peer] = _Session()
        last = state.last_error
        if state.up is None and state.flaps and last is not None and _what(error) == _REFUSED:
            # A dial that fails says nothing new: what ended the session is worth more, until there is another.
            self._states[event.peer] = _down(state, last, now)
            return []
        same = last is not None and _what(last) == _what(error)
        if last is not None and same:
            error = replace(error, count=last.count + 1)
        self._states[event.peer] = _down(state, error, now)
        if state.up is None and same:
            return []  # one more attempt that failed as the one before
        return [SessionDown(event.peer, describe(error), without_notification=error.code == 0)]


def describe(error: SessionError) -> str:
    """One line for people: `received 6/2 Administrative Shutdown: maintenance`."""
    if error.code == 0:
        return error.text
    name = notification_name(error.code, error.subcode)
    return f"{error.direction} {error.code}/{error.subcode} {name}{f': {error.text}' if error.text else ''}".strip()


def notification_name(code: int, subcode: int) -> str:
    """Name of the subcode, else that of the code; empty for what the RFCs do not have."""
    return NOTIFICATIONS.get((code, subcode)) or NOTIFICATIONS.get((code, 0), "")


def _error(event: WentDown, notified: Notified | None, now: float) -> SessionError:
    if notified is None:
        text = TRANSPORT_CLOSED if event.reason == "closing connection" else event.reason
        return SessionError(Direction.LOCAL, 0, 0, text, now)
    return SessionError(notified.direction, notified.code, notified.subcode, notified.text, now)


def _what(error: SessionError) -> tuple[object, ...]:
    return error.direction, error.code, error.subcode, error.text


def _down(state: PeerState, error: SessionError, now: float) -> PeerState:
    was_up = state.up is not None
    return PeerState(
        state=SessionState.IDLE,
        since=now if was_up else state.since,
        flaps=state.flaps + was_up,
        last_error=error,
    )


def _negotiated(peer: Address, session: _Session) -> SessionUp:
    """RFC 4271 4.2: the smaller hold time holds, none if either says 0. RFC 4760 8: families that both have."""
    sent, received = session.sent, session.received
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
    )


NOTIFICATIONS: Final[Mapping[tuple[int, int], str]] = {
    (1, 0): "Message Header Error",
    (2, 0): "OPEN Message Error",
    (2, 1): "Unsupported Version Number",
    (2, 2): "Bad Peer AS",
    (2, 3): "Bad BGP Identifier",
    (2, 4): "Unsupported Optional Parameter",
    (2, 6): "Unacceptable Hold Time",
    (2, 7): "Unsupported Capability",
    (3, 0): "UPDATE Message Error",
    (3, 1): "Malformed Attribute List",
    (3, 9): "Optional Attribute Error",
    (3, 11): "Malformed AS_PATH",
    (4, 0): "Hold Timer Expired",
    (5, 0): "Finite State Machine Error",
    (6, 0): "Cease",
    (6, 1): "Maximum Number of Prefixes Reached",
    (6, 2): "Administrative Shutdown",
    (6, 3): "Peer De-configured",
    (6, 4): "Administrative Reset",
    (6, 5): "Connection Rejected",
    (6, 6): "Other Configuration Change",
    (6, 7): "Connection Collision Resolution",
    (6, 8): "Out of Resources",
    (6, 9): "Hard Reset",
    (6, 10): "BFD Down",
}
"""RFC 4271 4.5, RFC 4486, RFC 8538, RFC 9384; subcode 0 is the name of the code."""
