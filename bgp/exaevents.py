"""ExaBGP's JSON events, decoded: what a line of its API says happened.

One typed decoding per line. It refuses to remember sessions (`bgp.sessions`), to do I/O, and to raise for a line it
cannot read: the answer is then `Malformed`.

What it relies on (ExaBGP 5.0.15, encoder json, `exabgp.api.compact`):
- Lines are either JSON objects with `type` and `neighbor`, or answers and tables (`bgp.exatext`), which do not begin
  with a brace.
- OPENs sent and received come before `up`. Capabilities are keyed by name in ours and by number in the peer's, so they
  are told apart by their `name`. The AS in the OPEN is 23456 when the real one, in capability asn4, has four bytes.
- Names of graceful restart flags are swapped: `restart-flags: [forwarding]` is the R bit, a family's `[restart]` its
  F bit.
- What it writes of an UPDATE is read by `bgp.exaupdate`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Final, TypeAlias

import msgspec

from bgp import exajson
from bgp.exaupdate import UpdateReader
from bgp.model import (
    Address,
    Direction,
    EndOfRib,
    Family,
    PathsHeard,
    SessionState,
)

CEASE: Final = 6
"""Error code of NOTIFICATION (RFC 4271 4.5)."""
TEXT_MAX: Final = 255
"""Characters kept of the text in a NOTIFICATION (RFC 9003: at most 255 bytes)."""

DEFAULT_FAMILIES: Final = frozenset({Family.IPV4})
"""What a peer without the multiprotocol capability speaks (RFC 4760 8)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """An OPEN, ours (`sent`) or the peer's (`received`)."""

    peer: Address
    direction: Direction
    asn: int
    hold_seconds: int
    router_id: IPv4Address
    families: frozenset[Family]
    restart_seconds: int | None
    restarting: bool
    restart_families: frozenset[Family]
    forwarding_kept: frozenset[Family]
    route_refresh: bool
    extended_next_hop: bool = False
    """IPv4 routes with IPv6 next hops (RFC 8950)."""


@dataclass(frozen=True, slots=True)
class StateChanged:
    """The state machine moved; ESTABLISHED comes as `CameUp`."""

    peer: Address
    state: SessionState


@dataclass(frozen=True, slots=True)
class CameUp:
    peer: Address
    at: str
    """ExaBGP's time of it: two sessions with one peer never have the same."""


@dataclass(frozen=True, slots=True)
class WentDown:
    """A session ended, or (when it was not up) an attempt failed, a refused dial included."""

    peer: Address
    reason: str


@dataclass(frozen=True, slots=True)
class Notified:
    """NOTIFICATION (RFC 4271 4.5); `WentDown` follows."""

    peer: Address
    direction: Direction
    code: int
    subcode: int
    text: str


@dataclass(frozen=True, slots=True)
class Refreshed:
    """End of a refresh we asked for (RFC 7313 EoRR): the peer has sent again all it has of the family."""

    peer: Address
    family: Family


@dataclass(frozen=True, slots=True)
class Malformed:
    """A line that could not be read; `why` is for the log, without the line itself."""

    why: str


Heard: TypeAlias = Opened | StateChanged | CameUp | WentDown | Notified | PathsHeard | EndOfRib | Refreshed


class EventReader:
    """Reads one line after the other; what it keeps is caches only."""

    def __init__(self) -> None:
        self._updates = UpdateReader()

    def read(self, line: bytes) -> Heard | Malformed | None:
        """None: a line that says nothing to us."""
        try:
            return self._heard(_DECODER.decode(line))
        except (msgspec.DecodeError, ValueError, KeyError, RecursionError) as error:
            return Malformed(f"{type(error).__name__}: {error}"[:200])

    def _heard(self, line: exajson.Line) -> Heard | None:
        said = line.neighbor
        if said is None:
            return None
        peer = self._updates.address(said.address.peer)
        match line.type:
            case "update" if said.message is not None:
                return self._update(peer, said, said.message)
            case "open" if said.open is not None:
                return _opened(peer, _DIRECTIONS[said.direction], said.open)
            case "notification" if said.notification is not None:
                told = said.notification
                return _notified(peer, _DIRECTIONS[said.direction], told)
            case "state":
                if said.state == "up":
                    return CameUp(peer, bytes(line.time).decode())
                return WentDown(peer, said.reason) if said.state == "down" else None
            case "fsm" if said.state in _STATES:
                return StateChanged(peer, _STATES[said.state])
            case "refresh" if said.refresh is not None and said.refresh.subtype == "end":
                family = _UNICAST.get((said.refresh.afi, said.refresh.safi))
                return None if family is None else Refreshed(peer, family)
            case _:
                return None

    def _update(self, peer: Address, said: exajson.Neighbor, message: exajson.Message) -> PathsHeard | EndOfRib | None:
        if message.eor is not None:
            family = _UNICAST.get((message.eor.afi, message.eor.safi))
            return None if family is None else EndOfRib(peer, family)
        if message.update is None:
            return None
        return self._updates.read(peer, message.update, internal=said.asn.peer == said.asn.local is not None)


_DECODER: Final = msgspec.json.Decoder(exajson.Line)
_NO_CAPABILITY: Final = exajson.Capability()
_UNICAST: Final = {(str(family), "unicast"): family for family in Family}

_DIRECTIONS: Final = {"send": Direction.SENT, "receive": Direction.RECEIVED}
_STATES: Final = {
    "IDLE": SessionState.IDLE,
    "ACTIVE": SessionState.ACTIVE,
    "CONNECT": SessionState.CONNECT,
    "OPENSENT": SessionState.OPEN_SENT,
    "OPENCONFIRM": SessionState.OPEN_CONFIRM,
}


def _opened(peer: Address, direction: Direction, found: exajson.Open) -> Opened:
    by_name = {capability.name: capability for capability in found.capabilities.values()}
    families = by_name.get("multiprotocol", _NO_CAPABILITY).families
    four_bytes = by_name.get("asn4", _NO_CAPABILITY).asn4
    graceful = by_name.get("graceful restart")
    flags = {} if graceful is None else graceful.address_family_flags
    return Opened(
        peer=peer,
        direction=direction,
        asn=found.asn if four_bytes is None else four_bytes,
        hold_seconds=found.hold_time,
        router_id=IPv4Address(found.router_id),
        families=DEFAULT_FAMILIES if families is None else _families(families),
        restart_seconds=None if graceful is None else graceful.time,
        restarting=graceful is not None and "forwarding" in graceful.restart_flags,
        restart_families=_families(flags),
        forwarding_kept=_families(name for name, kept in flags.items() if kept),
        route_refresh="route-refresh" in by_name,
        extended_next_hop="ipv4/unicast/ipv6" in by_name.get("nexthop", _NO_CAPABILITY).conversion,
    )


def _notified(peer: Address, direction: Direction, told: exajson.Notification) -> Notified:
    """Of what a peer sends along only a Cease has words (RFC 9003); all else is bytes of the message it is about."""
    words = told.message if direction is Direction.SENT or told.code == CEASE else ""
    return Notified(peer, direction, told.code, told.subcode, _printable(words))


def _families(names: Iterable[str]) -> frozenset[Family]:
    known = {f"{family}/unicast": family for family in Family}
    return frozenset(known[name] for name in names if name in known)


def _printable(text: str) -> str:
    """A peer's own words (RFC 9003), fit for a terminal: no control characters, one line, bounded."""
    return "".join(char if char.isprintable() else " " for char in text).strip()[:TEXT_MAX]
