"""ExaBGP's JSON of an UPDATE, decoded: which prefixes, by which path; and what must be treated as a withdrawal.

Prefixes and attribute sets that come again are taken from a cache. It refuses to remember routes and to do I/O. An
UPDATE with an attribute that is wrong withdraws what it announces (RFC 7606 2): the route of before is not kept.

What it relies on (ExaBGP 5.0.15, encoder json, `exabgp.api.compact`):
- Most of what RFC 7606 has treated as a withdrawal is written as one, with an attribute `error` that says so. Not so
  an ORIGIN of no known value (written as `invalid`), mandatory attributes that are missing (RFC 7606 3 d; a missing
  next hop is written as `no-nexthop`), and AS 0 (RFC 7607): these are found here.
- A missing AS_PATH and an empty one are written alike: as nothing. From another AS both are wrong.
- LOCAL_PREF, ORIGINATOR_ID and CLUSTER_LIST from another AS are written as if they meant something; they are dropped
  here (RFC 7606 7.5, 7.9, 7.10).
- An IPv6 next hop of a session over IPv4 may be written as an IPv4-mapped address.
- A global next hop with a link-local one beside it (RFC 2545 3; FRR always sends both) comes as two next hops, each
  with all prefixes of the UPDATE. On a session over a link-local address the link-local one counts, with the peer's
  zone: it is on the link of the session whatever else the router has there. On others it names the same router on a
  link that nobody names, and the global one counts.
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Address
from typing import Final, TypeVar

import msgspec

from bgp import exajson
from bgp.model import (
    Address,
    AsPath,
    Attributes,
    Community,
    LargeCommunity,
    Origin,
    Path,
    PathsHeard,
    Prefix,
    heard_prefix,
    known_address,
    with_zone,
    zone_of,
)

CACHE_MAX: Final = 262_144
"""Prefixes (and addresses, and attribute sets) remembered; a full cache is emptied. About 60 MB of prefixes at most."""
WHY_MAX: Final = 200
"""Characters kept of what is wrong with an UPDATE."""
_TREATED_AS_WITHDRAWAL: Final = "treat-as-withdraw"

_Key = TypeVar("_Key")
_Value = TypeVar("_Value")


class WrongError(ValueError):
    """What is wrong with the attributes of an UPDATE, in a few words."""


class UpdateReader:
    """What it keeps is caches only."""

    def __init__(self) -> None:
        self._addresses: dict[str, Address] = {}
        self._prefixes: dict[str, Prefix] = {}
        self._attributes: dict[tuple[bytes, bool], Attributes | WrongError] = {}

    def read(self, peer: Address, update: exajson.Update, *, internal: bool) -> PathsHeard | None:
        """None: an UPDATE without a prefix of our families. ValueError when it cannot be said what it is about."""
        withdrawn = tuple(
            self._prefix(text, _FAMILIES[name])
            for name, found in update.withdraw.items()
            if name in _FAMILIES
            for text in found
        )
        try:
            announced = self._announced(peer, update, internal=internal)
        except WrongError as error:
            wrong = str(error)[:WHY_MAX]
        else:
            return PathsHeard(peer, withdrawn, announced) if withdrawn or announced else None
        silenced = (
            self._prefix(text, _FAMILIES[name])
            for name, by_hop in update.announce.items()
            if name in _FAMILIES
            for found in by_hop.values()
            for text in found
        )
        gone = tuple(dict.fromkeys((*withdrawn, *silenced)))
        return PathsHeard(peer, gone, malformed=wrong) if gone else None

    def _announced(
        self, peer: Address, update: exajson.Update, *, internal: bool
    ) -> tuple[tuple[Path, tuple[Prefix, ...]], ...]:
        raw = bytes(update.attribute)
        if not update.announce and _MARK not in raw:
            return ()
        attributes = self._attribute_set(raw, internal)
        return tuple(
            (Path(peer, hop, attributes), tuple([self._prefix(text, _FAMILIES[name]) for text in found]))
            for name, by_hop in update.announce.items()
            if name in _FAMILIES
            for hop, found in self._next_hops(peer, by_hop)
        )

    def _next_hops(self, peer: Address, by_hop: dict[str, list[str]]) -> Iterator[tuple[Address, list[str]]]:
        zone = zone_of(peer)
        hops = [(self._next_hop(text), found) for text, found in by_hop.items()]
        if not zone and len(hops) == 1:  # nearly always
            yield hops[0]
            return
        on_link = any(_link_local(hop) for hop, _ in hops) if zone else False
        for hop, found in hops:
            if len(hops) == 1 or _link_local(hop) == on_link:
                yield (with_zone(hop, zone) if zone and _link_local(hop) else hop), found

    def _next_hop(self, text: str) -> Address:
        try:
            hop = self.address(text)
        except ValueError:
            raise WrongError(
                "NEXT_HOP is missing" if text == _NO_NEXT_HOP else "no next hop that can be read"
            ) from None
        if zone_of(hop):
            raise WrongError("a next hop with a zone")
        return hop

    def address(self, text: str) -> Address:
        found = self._addresses.get(text)
        if found is None:
            found = _remember(self._addresses, text, known_address(text))
        return found

    def _prefix(self, text: str, version: int) -> Prefix:
        found = self._prefixes.get(text)
        if found is None:
            # Bits behind the length have no meaning (RFC 4271 4.3) and may be set on the wire.
            prefix = heard_prefix(text)
            found = _remember(self._prefixes, text, prefix)
        if found.version != version:
            raise ValueError("a prefix of another address family")
        return found

    def _attribute_set(self, raw: bytes, internal: bool) -> Attributes:
        found = self._attributes.get((raw, internal))
        if found is None:
            found = _remember(self._attributes, (raw, internal), _read_attributes(raw, internal=internal))
        if isinstance(found, WrongError):
            raise found
        return found


def _link_local(address: Address) -> bool:
    return address.version == 6 and address.is_link_local


def _remember(cache: dict[_Key, _Value], key: _Key, value: _Value) -> _Value:
    if len(cache) >= CACHE_MAX:
        cache.clear()
    cache[key] = value
    return value


_ATTRIBUTES_DECODER: Final = msgspec.json.Decoder(exajson.Attributes)
_FAMILIES: Final = {"ipv4 unicast": 4, "ipv6 unicast": 6}
_NO_NEXT_HOP: Final = "no-nexthop"
_MARK: Final = _TREATED_AS_WITHDRAWAL.encode()
_ORIGINS: Final = {"igp": Origin.IGP, "egp": Origin.EGP, "incomplete": Origin.INCOMPLETE}
_AS_SETS: Final = frozenset({"as-set"})


def _read_attributes(raw: bytes, *, internal: bool) -> Attributes | WrongError:
    """A WrongError is an answer here, not raised: it is remembered like the others."""
    try:
        return _attributes(_ATTRIBUTES_DECODER.decode(raw or b"{}"), internal=internal)
    except WrongError as error:
        return error
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        return WrongError(f"attributes that cannot be read: {error}")


def _attributes(found: exajson.Attributes, *, internal: bool) -> Attributes:
    if found.error.startswith(_TREATED_AS_WITHDRAWAL):
        raise WrongError(found.error)
    origin = _ORIGINS.get(found.origin)
    if origin is None:
        raise WrongError(f"ORIGIN is {'of no known value' if found.origin else 'missing'}")
    as_path = _as_path(found.as_path)
    if not internal and not as_path:
        raise WrongError("AS_PATH is missing or empty")
    if any(it == 0 if isinstance(it, int) else 0 in it for it in as_path):
        raise WrongError("AS 0 is in AS_PATH")
    reflected = internal and found.originator_id is not None
    return Attributes(
        origin=origin,
        as_path=as_path,
        local_pref=found.local_preference if internal else None,
        med=found.med,
        communities=frozenset(Community(*pair) for pair in found.community),
        large_communities=frozenset(LargeCommunity(*three) for three in found.large_community),
        originator_id=IPv4Address(found.originator_id) if reflected else None,
        cluster_list=tuple(map(IPv4Address, found.cluster_list)) if internal else (),
    )


def _as_path(segments: dict[str, exajson.Segment]) -> AsPath:
    """Segments are numbered; confederation segments are both called `as-sequence` and are taken as such."""
    path: list[int | frozenset[int]] = []
    for number in sorted(segments, key=int):
        segment = segments[number]
        if segment.element in _AS_SETS:
            path.append(frozenset(segment.value))
        else:
            path.extend(segment.value)
    return tuple(path)
