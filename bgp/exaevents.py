"""ExaBGP's JSON events, decoded: what a line of its API says happened.

One typed decoding per line; prefixes and attribute sets that come again are taken from a cache. It refuses to remember
sessions (`bgp.sessions`), to do I/O, and to raise for a line it cannot read: the answer is then `Malformed`.

What it relies on (ExaBGP 5.0.15, encoder json, `exabgp.api.compact`):
- Lines are either JSON objects with `type` and `neighbor`, or answers and tables (`bgp.exatext`), which do not begin
  with a brace.
- OPENs sent and received come before `up`. Capabilities are keyed by name in ours and by number in the peer's, so they
  are told apart by their `name`. The AS in the OPEN is 23456 when the real one, in capability asn4, has four bytes.
- Names of graceful restart flags are swapped: `restart-flags: [forwarding]` is the R bit, a family's `[restart]` its
  F bit.
- An UPDATE that must be treated as a withdrawal (RFC 7606) is written as one.
- An IPv6 next hop of a session over IPv4 may be written as an IPv4-mapped address.
- A global next hop with a link-local one beside it (RFC 2545 3; FRR always sends both) comes as two next hops, each
  with all prefixes of the UPDATE. On a session over a link-local address the link-local one counts, with the peer's
  zone: it is on the link of the session whatever else the router has there. On others it names the same router on a
  link that nobody names, and the global one counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Final, TypeAlias, TypeVar

import msgspec

from bgp import exajson
from bgp.model import (
    Address,
    AsPath,
    Attributes,
    Community,
    Direction,
    EndOfRib,
    Family,
    LargeCommunity,
    Origin,
    Path,
    PathsHeard,
    Prefix,
    SessionState,
    heard_prefix,
    known_address,
    with_zone,
    zone_of,
)

CACHE_MAX: Final = 262_144
"""Prefixes (and addresses, and attribute sets) remembered; a full cache is emptied. About 60 MB of prefixes at most."""

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


_Key = TypeVar("_Key")
_Value = TypeVar("_Value")

Heard: TypeAlias = Opened | StateChanged | CameUp | WentDown | Notified | PathsHeard | EndOfRib | Refreshed


class EventReader:
    """Reads one line after the other; what it keeps is caches only."""

    def __init__(self) -> None:
        self._addresses: dict[str, Address] = {}
        self._prefixes: dict[str, Prefix] = {}
        self._attributes: dict[bytes, Attributes] = {}

    def read(self, line: bytes) -> Heard | Malformed | None:
        """None: a line that says nothing to us."""
        try:
            return self._heard(_DECODER.decode(line))
        except (msgspec.DecodeError, ValueError, KeyError) as error:
            return Malformed(f"{type(error).__name__}: {error}"[:200])

    def _heard(self, line: exajson.Line) -> Heard | None:
        said = line.neighbor
        if said is None:
            return None
        peer = self._address(said.address.peer)
        match line.type:
            case "update" if said.message is not None:
                return self._update(peer, said.message)
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
                return Refreshed(peer, Family(said.refresh.afi)) if said.refresh.safi == "unicast" else None
            case _:
                return None

    def _update(self, peer: Address, message: exajson.Message) -> PathsHeard | EndOfRib | None:
        if message.eor is not None:
            return EndOfRib(peer, Family(message.eor.afi)) if message.eor.safi == "unicast" else None
        update = message.update
        if update is None:
            return None
        withdrawn = [
            self._prefix(text) for name, found in update.withdraw.items() if name in _FAMILIES for text in found
        ]
        attributes = self._attribute_set(bytes(update.attribute))
        announced = [
            (Path(peer, hop, attributes), tuple(map(self._prefix, found)))
            for name, by_hop in update.announce.items()
            if name in _FAMILIES
            for hop, found in self._next_hops(peer, by_hop)
        ]
        return PathsHeard(peer, tuple(withdrawn), tuple(announced)) if withdrawn or announced else None

    def _next_hops(self, peer: Address, by_hop: dict[str, list[str]]) -> Iterator[tuple[Address, list[str]]]:
        zone = zone_of(peer)
        if not zone and len(by_hop) == 1:  # nearly always
            yield from ((self._address(text), found) for text, found in by_hop.items())
            return
        hops = [(self._address(text), found) for text, found in by_hop.items()]
        on_link = any(_link_local(hop) for hop, _ in hops) if zone else False
        for hop, found in hops:
            if len(hops) == 1 or _link_local(hop) == on_link:
                yield (with_zone(hop, zone) if zone and _link_local(hop) else hop), found

    def _address(self, text: str) -> Address:
        found = self._addresses.get(text)
        if found is None:
            found = _remember(self._addresses, text, known_address(text))
        return found

    def _prefix(self, text: str) -> Prefix:
        found = self._prefixes.get(text)
        if found is None:
            # Bits behind the length have no meaning (RFC 4271 4.3) and may be set on the wire.
            prefix = heard_prefix(text)
            found = _remember(self._prefixes, text, prefix)
        return found

    def _attribute_set(self, raw: bytes) -> Attributes:
        found = self._attributes.get(raw)
        if found is None:
            found = _remember(self._attributes, raw, _attributes(_ATTRIBUTES_DECODER.decode(raw) if raw else _NONE))
        return found


def _link_local(address: Address) -> bool:
    return address.version == 6 and address.is_link_local


def _remember(cache: dict[_Key, _Value], key: _Key, value: _Value) -> _Value:
    if len(cache) >= CACHE_MAX:
        cache.clear()
    cache[key] = value
    return value


_DECODER: Final = msgspec.json.Decoder(exajson.Line)
_ATTRIBUTES_DECODER: Final = msgspec.json.Decoder(exajson.Attributes)
_NONE: Final = exajson.Attributes()
_NO_CAPABILITY: Final = exajson.Capability()

_FAMILIES: Final = frozenset({"ipv4 unicast", "ipv6 unicast"})
_DIRECTIONS: Final = {"send": Direction.SENT, "receive": Direction.RECEIVED}
_ORIGINS: Final = {"igp": Origin.IGP, "egp": Origin.EGP, "incomplete": Origin.INCOMPLETE}
_STATES: Final = {
    "IDLE": SessionState.IDLE,
    "ACTIVE": SessionState.ACTIVE,
    "CONNECT": SessionState.CONNECT,
    "OPENSENT": SessionState.OPEN_SENT,
    "OPENCONFIRM": SessionState.OPEN_CONFIRM,
}


def _attributes(found: exajson.Attributes) -> Attributes:
    return Attributes(
        origin=_ORIGINS[found.origin],
        as_path=_as_path(found.as_path),
        local_pref=found.local_preference,
        med=found.med,
        communities=frozenset(Community(*pair) for pair in found.community),
        large_communities=frozenset(LargeCommunity(*three) for three in found.large_community),
        originator_id=None if found.originator_id is None else IPv4Address(found.originator_id),
        cluster_list=tuple(map(IPv4Address, found.cluster_list)),
    )


def _as_path(segments: dict[str, exajson.Segment]) -> AsPath:
    """Segments are numbered; confederation segments are both called `as-sequence` and are taken as such."""
    path: list[int | frozenset[int]] = []
    for number in sorted(segments, key=int):
        segment = segments[number]
        if segment.element == "as-set":
            path.append(frozenset(segment.value))
        else:
            path.extend(segment.value)
    return tuple(path)


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
