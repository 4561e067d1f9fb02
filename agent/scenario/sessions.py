"""What peers said, and on which session, to the `heard` part of a scenario and back.

A Rib is written as what is in it now, and comes back by the events that lead there: a path that was kept without
anybody vouching for it is kept so again. When such a path goes is not said.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from ipaddress import IPv4Address, ip_address
from typing import Any, Final

from agent.cluster.fields import Field
from bgp.model import (
    Address,
    AsPath,
    Attributes,
    BgpEvent,
    Community,
    EndOfRib,
    Family,
    LargeCommunity,
    Origin,
    Path,
    PathsHeard,
    Prefix,
    SessionDown,
    SessionUp,
    heard_prefix,
)
from bgp.rib import Rib

RESTARTING: Final = "restarting"
LOST: Final = "lost"
_ASN_MAX: Final = 0xFFFF_FFFF
_SECONDS_MAX: Final = 0xFFFF


def address(field: Field) -> Address:
    """Also one with a zone, as the peers on a link have it."""
    try:
        return ip_address(field.text())
    except ValueError:
        raise field.error("is not an IP address", "write an IPv4 or IPv6 address without a prefix length") from None


def ipv4(field: Field) -> IPv4Address:
    found = address(field)
    if not isinstance(found, IPv4Address):
        raise field.error("is no id in the form of an IPv4 address", "write it as 192.0.2.1")
    return found


def families(field: Field, default: frozenset[Family]) -> frozenset[Family]:
    return frozenset(family(item) for item in field.items()) if field else default


def family(field: Field) -> Family:
    if field.value not in list(Family):
        raise field.error("is no address family", f"set it to {' or '.join(Family)}")
    return Family(field.text())


def number(field: Field, most: int = _ASN_MAX) -> int | None:
    return field.number(0, most) if field else None


# In.


def read_heard(heard: Field) -> tuple[BgpEvent, ...]:
    peer, session = address(heard["peer"]), heard["session"]
    up = read_session(peer, session)
    fresh = list[tuple[Path, tuple[Prefix, ...]]]()
    kept = list[tuple[Path, tuple[Prefix, ...]]]()
    for route in heard["routes"].items():
        told = _path(peer, route), tuple(map(prefix, route["prefixes"].items()))
        (kept if route["kept"].flag(default=False) else fresh).append(told)
    said = PathsHeard(peer, (), tuple(fresh))
    match session["ended"].value:
        case None:
            before = (up, PathsHeard(peer, (), tuple(kept))) if kept else ()
            synced = families(session["endOfRIB"], frozenset())
            return (*before, up, said, *(EndOfRib(peer, one) for one in sorted(synced)))
        case str() as ended if ended in {RESTARTING, LOST}:
            said = PathsHeard(peer, (), (*kept, *fresh))
            away = ended == RESTARTING
            return up, said, SessionDown(peer, ended, without_notification=away, begun_anew=not away)
        case _:
            raise session["ended"].error("is not known", f"set it to {RESTARTING} or {LOST}, or remove it")


def prefix(field: Field) -> Prefix:
    """As it was told: unlike those of objects, IPv4 in IPv6's clothes stays what it is."""
    try:
        return heard_prefix(field.text())
    except ValueError:
        raise field.error("is not a prefix", "write a prefix such as 192.0.2.0/24 or 2001:db8::/64") from None


def read_session(peer: Address, session: Field) -> SessionUp:
    return SessionUp(
        peer=peer,
        router_id=ipv4(session["routerID"]) if session["routerID"] else None,
        peer_asn=session["asn"].number(0, _ASN_MAX, 64512),
        hold_seconds=session["holdSeconds"].number(0, _SECONDS_MAX, 90),
        families=families(session["families"], frozenset(Family)),
        restart_seconds=number(session["restartSeconds"], _SECONDS_MAX),
        restart_families=families(session["restartFamilies"], frozenset()),
        restarting=session["restarting"].flag(default=False),
        forwarding_kept=families(session["forwardingKept"], frozenset()),
        extended_next_hop=session["extendedNextHop"].flag(default=False),
        offered=families(session["offered"], frozenset(Family)),
        extended_next_hop_offered=session["extendedNextHopOffered"].flag(default=True),
        route_refresh=session["routeRefresh"].flag(default=False),
    )


def _path(peer: Address, route: Field) -> Path:
    origin = route["origin"]
    if origin and origin.value not in Origin.__members__:
        raise origin.error("is no ORIGIN", f"set it to one of {', '.join(Origin.__members__)}")
    return Path(
        peer,
        address(route["nextHop"]),
        Attributes(
            origin=Origin[origin.text()] if origin else Origin.IGP,
            as_path=tuple(_step(item) for item in route["asPath"].items()),
            local_pref=number(route["localPref"]),
            med=number(route["med"]),
            communities=frozenset(Community(*_parts(item, 2)) for item in route["communities"].items()),
            large_communities=frozenset(LargeCommunity(*_parts(item, 3)) for item in route["largeCommunities"].items()),
            originator_id=ipv4(route["originatorID"]) if route["originatorID"] else None,
            cluster_list=tuple(ipv4(item) for item in route["clusterList"].items()),
        ),
    )


def _step(field: Field) -> int | frozenset[int]:
    if isinstance(field.value, list):
        return frozenset(item.number(0, _ASN_MAX) for item in field.items())
    return field.number(0, _ASN_MAX)


def _parts(field: Field, count: int) -> tuple[int, ...]:
    parts = field.text().split(":")
    if len(parts) != count or not all(part.isascii() and part.isdigit() for part in parts):
        raise field.error("is no community", f"write {count} numbers with colons between, in quotes")
    return tuple(map(int, parts))


# Out.


def session_of(up: SessionUp) -> dict[str, Any]:
    said: dict[str, Any] = {
        "routerID": None if up.router_id is None else str(up.router_id),
        "asn": up.peer_asn,
        "holdSeconds": up.hold_seconds,
        "families": sorted(up.families),
        "restartSeconds": up.restart_seconds,
        "restartFamilies": sorted(up.restart_families),
        "restarting": up.restarting,
        "forwardingKept": sorted(up.forwarding_kept),
        "extendedNextHop": up.extended_next_hop,
        "offered": sorted(up.offered),
        "extendedNextHopOffered": up.extended_next_hop_offered,
        "routeRefresh": up.route_refresh,
    }
    return {name: value for name, value in said.items() if value is not None}


def about_session(rib: Rib, peer: Address) -> dict[str, Any]:
    """The session that is up, or the one on which was heard what is kept, and how that ended."""
    up = rib.session(peer)
    if up is not None:
        return {**session_of(up), "endOfRIB": sorted(rib.synced(peer))}
    last = rib.heard_on(peer)
    return {**({} if last is None else session_of(last)), "ended": RESTARTING if rib.is_away(peer) else LOST}


def routes_of(heard: Iterable[tuple[Prefix, Path]], kept: frozenset[Prefix]) -> Iterator[dict[str, Any]]:
    """Of one peer: prefixes with one path together. Yields between prefixes, empty, for whoever works in turns."""
    together: dict[tuple[int, bool], tuple[Path, list[str]]] = {}
    for one, path in heard:
        place = id(path), one in kept
        together.setdefault(place, (path, []))[1].append(str(one))
        yield {}
    for (_, stale), (path, prefixes) in together.items():
        yield {"prefixes": prefixes, **_said(path), **({"kept": True} if stale else {})}


def _said(path: Path) -> dict[str, Any]:
    told = path.attributes
    said: dict[str, Any] = {
        "nextHop": str(path.next_hop),
        "origin": None if told.origin is Origin.IGP else told.origin.name,
        "asPath": _steps(told.as_path) or None,
        "localPref": told.local_pref,
        "med": told.med,
        "communities": sorted(f"{it.asn}:{it.value}" for it in told.communities) or None,
        "largeCommunities": sorted(f"{it.admin}:{it.data1}:{it.data2}" for it in told.large_communities) or None,
        "originatorID": None if told.originator_id is None else str(told.originator_id),
        "clusterList": list(map(str, told.cluster_list)) or None,
    }
    return {name: value for name, value in said.items() if value is not None}


def _steps(as_path: AsPath) -> list[int | list[int]]:
    return [step if isinstance(step, int) else sorted(step) for step in as_path]
