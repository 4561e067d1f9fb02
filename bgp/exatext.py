"""ExaBGP's language, except configuration and events: commands, answers, and the table it reads out.

With `bgp.exaconfig` (the configuration file) and `bgp.exaevents` (its JSON) this is the only room with ExaBGP's words
in it. It refuses to do I/O and to judge routes (`bgp.check`): what it is handed, it writes down verbatim.

What it relies on (ExaBGP 5.0.15, each with a test in tests/live/test_exabgp_contract*.py):
- A command is one line, answered by exactly one line `done` or `error`. Announces, withdraws and End-of-RIB are
  answered in the order sent; other commands may overtake them.
- Commands are found by substring (a community `graceful-shutdown` would shut the daemon down), so everything here is
  written in numbers. Teardown codes above 9 kill the daemon.
- `neighbor P` alone means every session with that address; with local-ip, local-as and peer-as it means one. A peer
  whose AS is learned from its OPEN is `peer-as auto`, before and after.
- An AS path that is given goes out verbatim, and so does an empty one; without one, eBGP would get the local AS.
- An AS path is written `[ sequence ] ( set )` and read out as `( sequence ) [ set ]`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Network, ip_address
from typing import Final, assert_never

from bgp.commands import Announce, Command, SendEndOfRib, Withdraw
from bgp.inside.addressees import ALL_BUT, BETWEEN
from bgp.model import (
    Address,
    AsPath,
    Attributes,
    Community,
    Family,
    LargeCommunity,
    Origin,
    Peer,
    Prefix,
    Route,
    RouteKey,
)

DONE: Final = "done"
ERROR: Final = "error"
ANSWERS: Final = frozenset({DONE, ERROR})
RELOAD: Final = "reload"
NOTHING: Final = "version"
"""Changes nothing and is answered in the turn of the reactor in which it is read."""
SHOW_TABLE: Final = "show adj-rib out extensive"
SHOW_SESSIONS: Final = "show neighbor summary"

UPDATES_PER_TURN: Final = 25
"""How many UPDATE messages one turn of ExaBGP's reactor writes to each peer, at least."""

_ORIGINS: Final = {Origin.IGP: "igp", Origin.EGP: "egp", Origin.INCOMPLETE: "incomplete"}
_ORIGIN_OF: Final = {word: origin for origin, word in _ORIGINS.items()}


def command_line(command: Command, words: Iterable[str]) -> str:
    """One line, without its newline; `words` select the sessions it is for, one by one (`session`)."""
    sessions = BETWEEN.join(words)
    match command:
        case Announce(_, route):
            return f"{sessions} announce {_route_words(route)}"
        case Withdraw(_, prefix):
            return f"{sessions} withdraw route {prefix}"
        case SendEndOfRib(_, family):
            return f"{sessions} announce eor {family} unicast"
        case _:
            assert_never(command)


def ask_refresh(words: str, family: Family) -> str:
    """ROUTE-REFRESH (RFC 2918): the peer is asked to send all of the family again."""
    return f"{words} announce route-refresh {family} unicast"


def restart_session(words: str) -> str:
    """Cease 6/4; silent when graceful restart is negotiated, as it always is with a peer that knows it."""
    return f"{words} teardown 4"


def session(peer: Peer) -> str:
    """The words that select one session and no other."""
    peer_asn = "auto" if peer.peer_asn is None else peer.peer_asn
    return (
        f"neighbor {peer.address} local-ip {peer.local_address} local-as {peer.local_asn} peer-as {peer_asn} "
        f"router-id {peer.router_id}"
    )


def all_but(addresses: Iterable[Address]) -> str:
    """The words for every session that ExaBGP has but those with these addresses."""
    return " ".join([ALL_BUT, *map(str, addresses)])


@dataclass(frozen=True, slots=True)
class TableOf:
    """What asks for the table of a peer, and of those whose address begins like its own: ExaBGP compares no more."""

    command: str
    peers: tuple[Address, ...]


def whose_table(peer: Address, words: Mapping[Address, str]) -> TableOf:
    """`words` are those of all sessions there are."""
    alike = tuple(one for one, name in words.items() if f"neighbor {peer}" in name)
    return TableOf(f"show adj-rib out {peer} extensive", alike)


def _route_words(route: Route) -> str:
    attributes = route.attributes
    words = [
        f"route {route.prefix} next-hop {route.next_hop}",
        f"origin {_ORIGINS[attributes.origin]}",
        f"as-path {_as_path_words(attributes.as_path)}",
    ]
    if attributes.med is not None:
        words.append(f"med {attributes.med}")
    if attributes.local_pref is not None:
        words.append(f"local-preference {attributes.local_pref}")
    if attributes.communities:
        words.append(f"community {_bracketed(f'{one.asn}:{one.value}' for one in sorted(attributes.communities))}")
    if attributes.large_communities:
        numbers = (f"{one.admin}:{one.data1}:{one.data2}" for one in sorted(attributes.large_communities))
        words.append(f"large-community {_bracketed(numbers)}")
    if attributes.originator_id is not None:
        words.append(f"originator-id {attributes.originator_id}")
    if attributes.cluster_list:
        words.append(f"cluster-list {_bracketed(map(str, attributes.cluster_list))}")
    return " ".join(words)


def _bracketed(words: Iterator[str]) -> str:
    return f"[ {' '.join(words)} ]"


def _as_path_words(path: AsPath) -> str:
    segments: list[str] = []
    sequence: list[int] = []
    for hop in path:
        if isinstance(hop, int):
            sequence.append(hop)
            continue
        if sequence:
            segments.append(_bracketed(map(str, sequence)))
            sequence = []
        segments.append(f"( {' '.join(map(str, sorted(hop)))} )")
    if sequence or not segments:
        segments.append(_bracketed(map(str, sequence)))
    return " ".join(segments)


class NotUnderstoodError(ValueError):
    """A line that ExaBGP 5.0 does not write; the text says what was wrong with it."""


@dataclass(frozen=True, slots=True)
class TableEntry:
    """One line of the table. The session it was told to is named by all that makes up its identity."""

    key: RouteKey
    route: Route
    session: str


def read_table_line(line: str) -> TableEntry:
    """Line of `SHOW_TABLE`: `neighbor P local-ip L local-as A peer-as B router-id R family-allowed … ipv4 unicast …`.

    Raises NotUnderstoodError.
    """
    try:
        return _read_table_line(line)
    except (ValueError, KeyError, IndexError) as error:
        raise NotUnderstoodError(f"not a line of the table: {line[:200]!r}") from error


def _read_table_line(line: str) -> TableEntry:
    named, rest = line.split(" family-allowed ")
    neighbor, peer = named.split()[:2]
    _, family, kind, text, *words = rest.split()
    if (neighbor, kind) != ("neighbor", "unicast"):
        raise NotUnderstoodError("neither a neighbor nor a unicast route")
    prefix: Prefix = IPv4Network(text) if family == Family.IPV4 else IPv6Network(text)
    return TableEntry(RouteKey(ip_address(peer), prefix), _read_route(prefix, words), named)


_KEYWORDS: Final = frozenset(
    {"next-hop", "origin", "as-path", "med", "local-preference", "community", "large-community"}
    | {"originator-id", "cluster-list"}
)


def _read_route(prefix: Prefix, words: list[str]) -> Route:
    found: dict[str, list[str]] = {}
    values: list[str] = []
    for word in words:
        if word in _KEYWORDS:
            values = found[word] = []
        else:
            values.append(word)
    attributes = Attributes(
        origin=_ORIGIN_OF[found["origin"][0]] if "origin" in found else Origin.IGP,
        as_path=_read_as_path(found.get("as-path", [])),
        med=int(found["med"][0]) if "med" in found else None,
        local_pref=int(found["local-preference"][0]) if "local-preference" in found else None,
        communities=frozenset(map(_community, _unbracketed(found.get("community", [])))),
        large_communities=frozenset(map(_large_community, _unbracketed(found.get("large-community", [])))),
        originator_id=IPv4Address(found["originator-id"][0]) if "originator-id" in found else None,
        cluster_list=tuple(map(IPv4Address, _unbracketed(found.get("cluster-list", [])))),
    )
    return Route(prefix, ip_address(found["next-hop"][0]), attributes)


def _unbracketed(words: list[str]) -> list[str]:
    """`[ a b ]`, or one value without brackets."""
    return words[1:-1] if words[:1] == ["["] else words


def _read_as_path(words: list[str]) -> AsPath:
    path: list[int | frozenset[int]] = []
    members: list[int] = []
    for word in words:
        match word:
            case "(" | "[":
                members = []
            case ")":
                path.extend(members)
            case "]":
                path.append(frozenset(members))
            case _:
                members.append(int(word))
    return tuple(path)


@dataclass(frozen=True, slots=True)
class SessionLine:
    """One line of SHOW_SESSIONS: the session is established, and for how many seconds."""

    peer: Address
    up_seconds: int | None
    """None: it is not established."""


_UP_FOR: Final = re.compile(r"(?:(\d+) days?, )?(\d+):(\d\d):(\d\d)")


def read_session_line(line: str) -> SessionLine | None:
    """`192.0.2.1 65001 1 day, 0:00:12 established 3 4`, or `… down idle 0 0`. None for its head, or what is neither."""
    words = line.split()
    try:
        peer, up_for, state = ip_address(words[0]), " ".join(words[2:-3]), words[-3]
    except (ValueError, IndexError):
        return None
    if state != "established":
        return SessionLine(peer, None)
    found = _UP_FOR.fullmatch(up_for)
    days, hours, minutes, seconds = (int(number or 0) for number in found.groups()) if found else (0, 0, 0, 0)
    return SessionLine(peer, ((days * 24 + hours) * 60 + minutes) * 60 + seconds)


_NAMED_COMMUNITIES: Final = {
    "no-export": Community(0xFFFF, 0xFF01),
    "no-advertise": Community(0xFFFF, 0xFF02),
    "no-export-subconfed": Community(0xFFFF, 0xFF03),
    "no-peer": Community(0xFFFF, 0xFF04),
    "blackhole": Community(0xFFFF, 666),
}
"""What ExaBGP reads out as a word (RFC 1997, RFC 3765, RFC 7999)."""


def _community(text: str) -> Community:
    if text in _NAMED_COMMUNITIES:
        return _NAMED_COMMUNITIES[text]
    asn, value = text.split(":")
    return Community(int(asn), int(value))


def _large_community(text: str) -> LargeCommunity:
    admin, data1, data2 = text.split(":")
    return LargeCommunity(int(admin), int(data1), int(data2))
