"""State of every session, from what ExaBGP says of it: `PeerState` for status, session events for the agent.

Values in, values out: it refuses to do I/O, to know the time, and to know routes (they pass through).

Invariants:
- Why attempts fail is told once for each reason, until a session comes up: a peer that is away for a day, or that fails
  in two ways by turns, is no news.
- A session between two nodes ends when a setting of it changes, and both go on forwarding: routes that must go are
  withdrawn before a session is ended on purpose (`bgp.driver.chores`). So with another node that is still wanted, an
  end without NOTIFICATION or with one of CHANGED is no reason to believe nothing of it any more. Nor is one that we
  make ourselves to begin anew with a router: it is we who restart, and it goes on forwarding (RFC 4724 4.1).
- What we do ourselves to begin anew (a reload) is the cause of nothing: an attempt that ends so leaves the last error
  as it was, and after a session that ends so there is none until something else has failed.
- A peer that is held is Idle with the reason as its last error, from the moment that ExaBGP does not have it.

What it relies on (ExaBGP 5.0.15): an attempt that fails is told as down, like a session that was lost; only one that
was up counts as a flap. The cause stands in the event of a NOTIFICATION just before `down`; without one the transport
ended. Of a dial that failed the reason is in the kernel's words (`bgp.inside.sockets.say_outcome`); of a connection
that there was, ExaBGP's reason says nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final, assert_never

from bgp.endings import ENDED_HERE, NO_HOST, NO_ROUTE, REFUSED, TIMED_OUT, TRANSPORT_CLOSED, describe, is_ours
from bgp.exaevents import CameUp, Heard, Notified, Opened, Refreshed, StateChanged, WentDown
from bgp.model import (
    Address,
    BgpEvent,
    Direction,
    EndOfRib,
    Held,
    PathsHeard,
    Peer,
    PeerState,
    SessionDown,
    SessionError,
    SessionState,
)
from bgp.negotiated import negotiated, reopened
from bgp.over import CHANGED, Ended
from bgp.tally import Tally

REASONS_MAX: Final = 16
"""Reasons of failed attempts remembered as told; then they are told anew. More than RFC 4271 has for an OPEN."""
OF_A_SESSION: Final = (PathsHeard, EndOfRib, Refreshed)
"""What has no meaning without an established session (RFC 4271 8.2.2)."""
_CLOSED: Final = (Direction.LOCAL, 0, 0, TRANSPORT_CLOSED)
_DIAL_FAILED: Final = frozenset(
    (Direction.LOCAL, 0, 0, why) for why in (TRANSPORT_CLOSED, REFUSED, TIMED_OUT, NO_HOST, NO_ROUTE)
)


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
        self._held: dict[Address, SessionError] = {}
        self._nodes: frozenset[Address] = frozenset()
        self._told: dict[Address, set[tuple[object, ...]]] = {}
        self._before_silence: dict[Address, PeerState] = {}
        self._ended = Ended()
        self._wanted_at: dict[Address, float] = {}
        self.tally = Tally()
        self.configured = 0
        """How often ExaBGP was given its peers."""

    @property
    def states(self) -> Mapping[Address, PeerState]:
        """A live view. Until peers are configured, those ExaBGP has spoken of."""
        return MappingProxyType(self._states)

    @property
    def wanted_at(self) -> Mapping[Address, float]:
        """Since when there shall be a session with each peer that is not held."""
        return MappingProxyType(self._wanted_at)

    def configure(self, peers: Iterable[Address]) -> None:
        """Peers that ExaBGP has from now on; others are forgotten.

        To be called between what was said before the reload and what is said after it: of a peer that is not here
        nothing is heard, not even that its session is up.
        """
        self.configured += 1
        self._configured = wanted = frozenset(peers)
        for peer in self._states.keys() - wanted:
            self._forget(peer)
        for peer in wanted - self._states.keys():
            self._states[peer] = PeerState()

    def want(self, peers: Mapping[Address, Peer], now: float) -> None:
        """Peers of the plan, held ones too: these are not to be configured.

        What ExaBGP still has is shown as it is until `configure`.
        """
        free = {peer: wanted for peer, wanted in peers.items() if wanted.held is None}
        self._wanted_at = {peer: self._wanted_at.get(peer, now) for peer in free}
        self._nodes = frozenset(peer for peer, wanted in free.items() if wanted.mesh)
        self.tally.forget_but(peers.keys())
        self._hold({peer: wanted.held for peer, wanted in peers.items() if wanted.held is not None}, now)

    def _hold(self, held: Mapping[Address, Held], now: float) -> None:
        before, self._held = self._held, {}
        for peer, why in held.items():
            error = SessionError(Direction.LOCAL, 0, 0, f"{why.reason}: {why.text}" if why.text else why.reason, now)
            known = before.get(peer)
            self._held[peer] = known if known is not None and _what(known) == _what(error) else error
            state = self._states.get(peer)
            if peer not in (self._configured or ()) and (state is None or state.up is None):
                self._forget(peer)
        for peer in before.keys() - held.keys():
            state = self._states.get(peer)
            if state is not None and state.last_error == before[peer]:
                self._states[peer] = replace(state, last_error=None)

    def _forget(self, peer: Address) -> None:
        """ExaBGP does not have the peer."""
        state = self._states.pop(peer, PeerState())
        self._sessions.pop(peer, None)
        self._told.pop(peer, None)
        self._ended.forget(peer)
        if (why := self._held.get(peer)) is not None:
            since = state.since if state.up is None else why.at
            self._states[peer] = PeerState(since=since, flaps=state.flaps, last_error=why)

    def over_at(self, peer: Address) -> float | None:
        """From when on nothing counts that it told on its last session, also if it was another agent that heard it.

        None: there is a session, or nobody knows how the last one ended.
        """
        return self._ended.over_at(peer, node=peer in self._nodes)

    def can_refresh(self, peer: Address) -> bool:
        """The peer takes ROUTE-REFRESH (RFC 2918)."""
        session = self._sessions.get(peer)
        return session is not None and session.received is not None and session.received.route_refresh

    def heard(self, event: Heard, now: float) -> list[BgpEvent]:
        """What it means for the agent, in order. A session already known to be up comes up only once."""
        state = self._states.get(event.peer)
        gone = self._configured is not None and event.peer not in self._configured
        if gone and (state is None or state.up is None):
            return []  # last words of a peer that has just been removed
        if isinstance(event, OF_A_SESSION) and (state is None or state.up is None):
            return []  # ExaBGP hands over what comes before OPEN and KEEPALIVE as well, and then ends the attempt
        self.tally.count(event)
        meant = self._heard(event, now)
        if gone and not self._states[event.peer].up:
            self._forget(event.peer)
        return meant

    def remember(
        self, peer: Address, flaps: int, past: Iterable[tuple[float, Iterable[Heard]]], opened: Iterable[Heard] = ()
    ) -> None:
        """What came of the peer before our time: how its last session ended, and how an attempt failed since then.

        It shows in the state and means nothing any more but for `over_at`. With flaps, the first of `past` is the end
        of a session, and `opened` are the OPENs of it.
        """
        ends = [(at, list(events)) for at, events in past]
        self._states[peer] = PeerState(flaps=flaps, since=ends[0][0] if flaps and ends else 0.0)
        for number, (at, events) in enumerate(ends):
            for event in events:
                self._heard(event, at)
            if flaps and not number and (error := self._states[peer].last_error) is not None:
                self._ended.put(peer, error, reopened(peer, opened))
        self._told.pop(peer, None)
        if peer in self._held:
            self._forget(peer)

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

    def silent(self, reason: str, now: float) -> None:
        """ExaBGP says nothing: nothing is known of any session, until `lost` or `speaks_again`."""
        self._before_silence = dict(self._states)
        error = SessionError(Direction.LOCAL, 0, 0, reason, now)
        for peer, state in self._before_silence.items():
            if state.up is not None:
                self._states[peer] = PeerState(since=now, flaps=state.flaps, last_error=error)

    def speaks_again(self) -> None:
        """Sessions are as they were: what has become of them meanwhile is about to be told."""
        before, self._before_silence = self._before_silence, {}
        for peer, state in before.items():
            if peer in self._states and state.up is not None:
                self._states[peer] = state

    def lost(self, reason: str, now: float) -> None:
        """ExaBGP is gone: every session is down."""
        self.speaks_again()
        self._told.clear()
        self._ended.clear()
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
        self._told.pop(event.peer, None)
        self._ended.forget(event.peer)
        up = negotiated(event.peer, session.sent, session.received)
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
        if is_ours(error):
            return self._ended_here(event.peer, state, error)
        last, what = state.last_error, _what(error)
        known = last is not None and _what(last) not in _DIAL_FAILED
        ended = state.flaps or (last is not None and (last.direction, last.code) == (Direction.RECEIVED, 6))
        if state.up is None and known and (what == _CLOSED or (ended and what in _DIAL_FAILED)):
            # A dial that fails says nothing new: what ended the session is worth more, until there is another. And who
            # has said why, and then just closes (GoBGP 4.8, FRR 8.4 when shut down), still means it; after a Cease,
            # who no longer listens (BIRD 2.0.12 without another neighbor).
            self._states[event.peer] = replace(state, state=SessionState.IDLE)
            return []
        if last is not None and _what(last) == what:
            error = replace(error, count=last.count + 1)
        self._states[event.peer] = _down(state, error, now)
        was_up = state.up is not None
        if not was_up and not self._is_news(event.peer, what):
            return []
        if was_up:
            self._ended.put(event.peer, error, state.up)
        return [self._down(event.peer, error, was_up=was_up)]

    def _ended_here(self, peer: Address, state: PeerState, error: SessionError) -> list[BgpEvent]:
        if state.up is None:
            self._states[peer] = replace(state, state=SessionState.IDLE)
            return []
        self._states[peer] = replace(_down(state, error, error.at), last_error=None)
        anew = peer in self._wanted_at and peer not in self._nodes
        down = self._down(peer, error if error.code else replace(error, text=ENDED_HERE), was_up=True)
        return [replace(down, begun_anew=anew)]

    def _down(self, peer: Address, error: SessionError, *, was_up: bool) -> SessionDown:
        without = error.code == 0
        stays = was_up and peer in self._nodes and (without or (error.code, error.subcode) in CHANGED)
        return SessionDown(peer, describe(error), without, was_up, returning=stays)

    def _is_news(self, peer: Address, reason: tuple[object, ...]) -> bool:
        told = self._told.setdefault(peer, set())
        if reason in told:
            return False
        if len(told) >= REASONS_MAX:
            told.clear()
        told.add(reason)
        return True


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
