"""Why there is no session, for people: what the last error means on this session, and what to do about it.

The words of a NOTIFICATION or of the kernel say what happened; here is who has to change what, with the names and
numbers of this peer. Pure: a peer and its state in, two sentences out. It refuses to guess where more than one thing
may be wrong: then it names them all.

What each side sees, measured with ExaBGP 5.0.15 against FRR 8.4, BIRD 2.0.12 and GoBGP 4.8 on Linux: a password on one
side only, or two that differ, is silence (the SYN times out), as a filter is; TTL security on one side only is silence
after a connection that came about; a router that does not know us refuses, or takes the connection and closes it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

from agent.model import object_of
from bgp.endings import (
    EXABGP_GONE,
    NO_HOST,
    NO_OPEN,
    NO_ROUTE,
    NOT_OURS,
    REFUSED,
    TIMED_OUT,
    TRANSPORT_CLOSED,
    notification_name,
)
from bgp.model import Direction, Peer, PeerState, SessionError, SessionState


@dataclass(frozen=True, slots=True)
class Cause:
    text: str
    fix: str


_Maker: TypeAlias = Callable[[Peer, SessionError], Cause]


def cause(peer: Peer, state: PeerState) -> Cause | None:
    """None: there is a session."""
    if state.state is SessionState.ESTABLISHED:
        return None
    error = state.last_error
    if error is None or (peer.passive and error.text in _DIALS):
        return _nothing_yet(peer, state.state)
    if error.text == TRANSPORT_CLOSED and state.flaps and error.at == state.since:
        return _lost(peer)
    known = _NOTIFICATIONS.get((error.direction, error.code, error.subcode)) if error.code else _local(error.text)
    if known is not None:
        return known(peer, error)
    if (told := _CODES.get((error.direction, error.code))) is not None:
        return told(peer, error)
    return Cause(said(error), "Look at the log of both sides for more.")


def said(error: SessionError) -> str:
    """What happened, without a reading of it: `received 6/2 Shutdown Communication: "rack 7"`."""
    number = f" {error.code}/{error.subcode}" if error.code else ""
    return f"{error.direction}{number} {error.text or notification_name(error.code, error.subcode)}".rstrip()


def _nothing_yet(peer: Peer, state: SessionState) -> Cause:
    if state in {SessionState.OPEN_SENT, SessionState.OPEN_CONFIRM}:
        return _silent_after_connecting(peer)
    if peer.passive:
        return Cause(
            f"waits for {peer.address} to dial {peer.local_address} port {peer.listen_port}",
            f"Nothing to do if it is about to; else see why it does not, on its side{_settings(peer)}.",
        )
    return Cause("no attempt has ended yet", "Wait a moment: it is being dialed.")


def _silent_after_connecting(peer: Peer) -> Cause:
    return Cause(
        f"{peer.address} takes the connection and then is silent: what one side sends is dropped",
        f"Set TTL security on both sides or on neither ({_ttl(peer)}); look for a filter, or a BGP daemon that hangs.",
    )


def _ttl(peer: Peer) -> str:
    if peer.ttl_security_hops is None:
        return f"{_field(peer, 'ttlSecurityHops')} is not set here"
    return f"{_field(peer, 'ttlSecurityHops')} is {peer.ttl_security_hops} here; the router must send with TTL 255"


def _settings(peer: Peer) -> str:
    """What must be the same on both sides for a packet to be taken at all."""
    ours = "with a password" if peer.password is not None else "without a password"
    return f" (here: {ours}, {_ttl(peer)})"


def _field(peer: Peer, name: str) -> str:
    """Where it is set: a mesh session has no object of its own."""
    return f"`{name}` of {object_of(peer.name)}" if not peer.mesh else f"`{name}`"


def _remote(peer: Peer, statement: str) -> str:
    return (
        f"the router's neighbor statement for {peer.local_address} ({statement})" if not peer.mesh else "the other node"
    )


# No NOTIFICATION: the words are the kernel's, or ExaBGP's.


def _refused(peer: Peer, _error: SessionError) -> Cause:
    return Cause(
        f"{peer.address} refuses connections on TCP port {peer.port}: nothing listens there, or not for us",
        f"Start BGP on {peer.address}, correct {_field(peer, 'port')}, or see if the router has {peer.local_address} "
        "as a neighbor and listens on this address.",
    )


def _timed_out(peer: Peer, _error: SessionError) -> Cause:
    return Cause(
        f"{peer.address} does not answer on TCP port {peer.port}",
        f"See if it is there (`ping {peer.address}`, `ip neigh`), if a filter is in between, and if password and TTL "
        f"security are the same on both sides: where they differ, packets are dropped in silence{_settings(peer)}.",
    )


def _no_host(peer: Peer, _error: SessionError) -> Cause:
    return Cause(
        f"nobody answers for {peer.address} on the way to it (no ARP or ND answer, or a gateway says so)",
        f"Correct {_field(peer, 'address')}, or see if the router is up: `ip route get {peer.address}`, `ip neigh`.",
    )


def _no_route(peer: Peer, _error: SessionError) -> Cause:
    return Cause(
        f"this node has no route to {peer.address}",
        f"Add one (`ip route get {peer.address}` shows what is there), or correct {_field(peer, 'address')}.",
    )


def _lost(peer: Peer) -> Cause:
    return Cause(
        f"the session with {peer.address} ended without a NOTIFICATION: it crashed, restarted or was cut off",
        "Nothing to do if it restarts: it is dialed again; else see its log."
        if not peer.passive
        else f"Nothing to do if it restarts: it dials again; else see why it does not, on its side{_settings(peer)}.",
    )


def _closed(peer: Peer, _error: SessionError) -> Cause:
    return Cause(
        f"{peer.address} takes the connection and closes it without a word",
        f"See if it has {peer.local_address} as a neighbor, in this VRF and not shut down, and its BGP log.",
    )


def _not_ours(peer: Peer, _error: SessionError) -> Cause:
    return Cause(
        f"this node does not have {peer.local_address}, which it is to dial from",
        f"Add it again (`ip address`), or correct the InternalIP of the Node{_source(peer)}.",
    )


def _source(peer: Peer) -> str:
    return "" if peer.mesh else f" or {_field(peer, 'sourceAddress')}"


def _exabgp_gone(_peer: Peer, error: SessionError) -> Cause:
    return Cause(
        f"{error.text}: sessions end with it",
        "Nothing to do if it is back in seconds; else see its last words in the log (`exabgp:`).",
    )


def _local(text: str) -> _Maker | None:
    if text.startswith(NOT_OURS):
        return _not_ours
    return _exabgp_gone if EXABGP_GONE.fullmatch(text) else _LOCAL.get(text)


_LOCAL: Final[Mapping[str, _Maker]] = {
    REFUSED: _refused,
    TIMED_OUT: _timed_out,
    NO_HOST: _no_host,
    NO_ROUTE: _no_route,
    TRANSPORT_CLOSED: _closed,
}
_DIALS: Final = frozenset({REFUSED, TIMED_OUT, NO_HOST, NO_ROUTE})
"""Of a session that has become passive since then they say nothing any more."""


# A NOTIFICATION says why.


def _not_the_as_wanted(peer: Peer, error: SessionError) -> Cause:
    wanted = "any AS but ours" if peer.peer_asn is None else f"AS {peer.peer_asn}"
    return Cause(
        f"{peer.address} is in another AS than the one configured here ({wanted}): {error.text}",
        f"Correct {_field(peer, 'asn')}, or the router's own AS."
        if not peer.mesh
        else "See the other node's BGPInstance.",
    )


def _our_as_not_wanted(peer: Peer, _error: SessionError) -> Cause:
    return Cause(
        f"{peer.address} expects another AS of us than {peer.local_asn}",
        f"Correct {_remote(peer, f'remote-as {peer.local_asn}')}, or set {_field(peer, 'localASN')} to what it wants.",
    )


def _router_id(peer: Peer, _error: SessionError) -> Cause:
    return Cause(
        f"router id {peer.router_id} is not taken: {peer.address} has the same, or none that is valid",
        "Give one of the two another router id (`routerID` or `routerIDFrom` of the BGPInstance).",
    )


def _hold_time(peer: Peer, error: SessionError) -> Cause:
    who = str(peer.address) if error.direction is Direction.RECEIVED else "this node"
    return Cause(
        f"{who} refuses the hold time that is proposed to it; ours is {peer.hold_seconds} s",
        f"Change {_field(peer, 'holdSeconds')}, or the least hold time that the router takes.",
    )


def _capability(peer: Peer, error: SessionError) -> Cause:
    ours = ", ".join(sorted(peer.families))
    more = f" ({error.text})" if error.text else ""
    return Cause(
        f"the two sides have no address family in common, or one demands a capability; offered here: {ours}{more}",
        f"Activate {ours} in {_remote(peer, 'activate')}, or correct {_field(peer, 'families')}.",
    )


def _too_many(peer: Peer, _error: SessionError) -> Cause:
    return Cause(
        f"{peer.address} is told more prefixes than it allows (its maximum-prefix)",
        f"Raise the limit in {_remote(peer, 'maximum-prefix')} and clear the session there, or announce less: "
        f"`bgpilot routes advertised --peer {peer.address}`.",
    )


def _we_told_too_many(peer: Peer, _error: SessionError) -> Cause:
    return Cause(
        f"{peer.address} has told more prefixes than it may here",
        f"Find out why it tells so much, or raise {_field(peer, 'maxPrefixes')}.",
    )


def _shut_down(peer: Peer, error: SessionError) -> Cause:
    _, _, words = error.text.partition(": ")
    return Cause(
        f"{peer.address} has been shut down by its administrator" + (f", who says {words}" if words else ""),
        f"Ask there; the session comes back when the shutdown is removed from {_remote(peer, 'no shutdown')}.",
    )


def _unknown_there(peer: Peer, _error: SessionError) -> Cause:
    return Cause(
        f"{peer.address} does not have this node as a neighbor (any more)",
        f"Configure neighbor {peer.local_address} with remote-as {peer.local_asn} on it."
        if not peer.mesh
        else "See if the agent of that node runs, and what it says of us.",
    )


def _comes_back(peer: Peer, error: SessionError) -> Cause:
    name = notification_name(error.code, error.subcode)
    again = "it dials again" if peer.passive else "it is dialed again"
    return Cause(
        f"{peer.address} has ended the session: {name}",
        f"Nothing to do if it is back in seconds: {again}. Else password and TTL security must be the same on both "
        f"sides{_settings(peer)}.",
    )


def _taken(peer: Peer, _error: SessionError) -> Cause:
    who = "another agent, or what was there before it" if peer.mesh else "another agent, or another CNI's"
    return Cause(
        f"{peer.address} keeps another connection that it has with {peer.local_address}",
        f"Nothing to do if a session is there in seconds; else something else on this node speaks BGP with it ({who}): "
        "`ss -tnp '( sport = :179 or dport = :179 )'` shows it; stop it.",
    )


def _ended_here(_peer: Peer, error: SessionError) -> Cause:
    name = notification_name(error.code, error.subcode)
    return Cause(
        f"this node has ended the session: {name}", "Nothing to do: it comes back by itself where it is wanted."
    )


def _out_of_step(peer: Peer, error: SessionError) -> Cause:
    if error.text == NO_OPEN:
        return _silent_after_connecting(peer)
    return Cause(said(error), f"See if what answers on {peer.address} TCP port {peer.port} speaks BGP.")


def _silent(peer: Peer, _error: SessionError) -> Cause:
    return Cause(
        f"{peer.address} has been silent for the hold time",
        "See if it is there and not overloaded, if its link and ours are up, and if password and TTL security are the "
        f"same on both sides{_settings(peer)}.",
    )


def _unheard(peer: Peer, _error: SessionError) -> Cause:
    return Cause(
        f"{peer.address} has heard nothing of this node for the hold time",
        "See if packets get there in this direction (filter, MTU, TTL security), and if this node is overloaded.",
    )


_IN, _OUT = Direction.RECEIVED, Direction.SENT
_NOTIFICATIONS: Final[Mapping[tuple[Direction, int, int], _Maker]] = {
    (_OUT, 1, 1): _out_of_step,
    (_OUT, 2, 2): _not_the_as_wanted,
    (_IN, 2, 2): _our_as_not_wanted,
    (_OUT, 2, 3): _router_id,
    (_IN, 2, 3): _router_id,
    (_OUT, 2, 6): _hold_time,
    (_IN, 2, 6): _hold_time,
    (_OUT, 2, 7): _capability,
    (_IN, 2, 7): _capability,
    (_IN, 6, 1): _too_many,
    (_OUT, 6, 1): _we_told_too_many,
    (_IN, 6, 2): _shut_down,
    (_IN, 6, 3): _unknown_there,
    (_IN, 6, 5): _unknown_there,
    (_IN, 6, 7): _taken,
}
_CODES: Final[Mapping[tuple[Direction, int], _Maker]] = {
    (_OUT, 4): _silent,
    (_IN, 4): _unheard,
    (_OUT, 5): lambda peer, _: _silent_after_connecting(peer),
    (_IN, 6): _comes_back,
    (_OUT, 6): _ended_here,
}
