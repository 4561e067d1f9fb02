"""`spec` of a BGPAdvertisement as decoded JSON → Advertisement; and what a Service asks for by annotation.

Members that are not known are ignored: the schema may be newer than this agent. Raises `FieldError` and nothing else;
making a Problem of it, and reading metadata, is `agent.cluster.parse`'s.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Final

from agent.advertising import Advertisement, AdvertisementType, ServiceAddress, ServiceChoice, Terms, ToPeers
from agent.advertising import WhenNoEndpoints as Empty
from agent.cluster.fields import Field
from agent.cluster.spec import choice, selector
from bgp.model import Community, Family, LargeCommunity, Prefix

PREPEND_MAX: Final = 10
"""More would only make every UPDATE longer; paths seen in the internet have 4 to 5 hops."""
COMMUNITIES_MAX: Final = 32
WELL_KNOWN: Final[Mapping[str, Community]] = MappingProxyType(
    {
        "graceful-shutdown": Community(65535, 0),
        "accept-own": Community(65535, 1),
        "blackhole": Community(65535, 666),
        "no-export": Community(65535, 65281),
        "no-advertise": Community(65535, 65282),
        "no-export-subconfed": Community(65535, 65283),
        "no-peer": Community(65535, 65284),
    }
)
"""RFC 1997, RFC 3765, RFC 7611, RFC 7999, RFC 8326, by their names in the IANA registry."""
_COMMUNITY: Final = re.compile(r"([0-9]{1,5}):([0-9]{1,5})")
_LARGE: Final = re.compile(r"([0-9]{1,10}):([0-9]{1,10}):([0-9]{1,10})")
ANNOTATION: Final = "bgpilot.io/advertise"
"""Of Services."""
_LENGTHS: Final[Mapping[Family, tuple[int, int]]] = MappingProxyType({Family.IPV4: (8, 31), Family.IPV6: (16, 127)})


def read_advertisement(name: str, created: float, spec: Field) -> Advertisement:
    kind = choice(spec["type"], AdvertisementType)
    for other, member in ((AdvertisementType.SERVICE, "service"), (AdvertisementType.PREFIX, "prefixes")):
        if kind is not other and spec[member]:
            raise spec[member].error(f"has no meaning with type {kind}", f"remove it, or set type to {other}")
    return Advertisement(
        name=name,
        created=created,
        type=kind,
        node_selector=selector(spec["nodeSelector"]),
        to_peers=ToPeers(selector(spec["peerSelector"]), _terms(spec["attributes"])),
        service=_service(spec["service"]) if kind is AdvertisementType.SERVICE else ServiceChoice(),
        prefixes=tuple(_prefixes(spec["prefixes"])) if kind is AdvertisementType.PREFIX else (),
    )


def _terms(field: Field) -> Terms:
    return Terms(
        communities=frozenset(map(_community, _few(field["communities"]))),
        large_communities=frozenset(map(_large_community, _few(field["largeCommunities"]))),
        local_pref=_optional(field["localPreference"]),
        med=_optional(field["med"]),
        prepend=field["prepend"].number(0, PREPEND_MAX, 0),
    )


def _few(field: Field) -> list[Field]:
    found = list(field.items())
    if len(found) > COMMUNITIES_MAX:
        raise field.error(f"has more than {COMMUNITIES_MAX} entries", "say it with fewer")
    return found


def _optional(field: Field) -> int | None:
    return field.number(0, 0xFFFF_FFFF) if field else None


def _community(field: Field) -> Community:
    text = field.text()
    if (known := WELL_KNOWN.get(text)) is not None:
        return known
    if (found := _COMMUNITY.fullmatch(text)) is None or any(int(half) > 0xFFFF for half in found.groups()):
        raise field.error(
            "is no community",
            f'write two numbers up to 65535, such as "65000:120", or one of {", ".join(WELL_KNOWN)}',
        )
    return Community(*map(int, found.groups()))


def _large_community(field: Field) -> LargeCommunity:
    found = _LARGE.fullmatch(field.text())
    if found is None or any(int(part) > 0xFFFF_FFFF for part in found.groups()):
        raise field.error("is no large community", 'write three numbers up to 4294967295, such as "4200000001:1:20"')
    return LargeCommunity(*map(int, found.groups()))


def _service(field: Field) -> ServiceChoice:
    addresses, on_request = _classes(field["addresses"]), _classes(field["onRequest"])
    if not addresses | on_request:
        raise field["addresses"].error("names no class of addresses", f"set it to some of {', '.join(ServiceAddress)}")
    return ServiceChoice(
        addresses=addresses,
        on_request=on_request,
        selector=selector(field["selector"]),
        namespace_selector=selector(field["namespaceSelector"]),
        load_balancer_classes=frozenset(item.text() for item in field["loadBalancerClasses"].items()),
        when_no_endpoints=choice(field["whenNoEndpoints"], Empty, Empty.KEEP),
        aggregation=tuple(_lengths(field["aggregation"])),
    )


def _classes(field: Field) -> frozenset[ServiceAddress]:
    return frozenset(choice(item, ServiceAddress) for item in field.items())


def _lengths(field: Field) -> Iterator[tuple[Family, int]]:
    for family, (least, most) in _LENGTHS.items():
        if field[family]:
            yield family, field[family].number(least, most)


def _prefixes(field: Field) -> Iterator[Prefix]:
    if not list(field.items()):
        raise field.error("names no prefix, so nothing would be announced", "list at least one, such as 192.0.2.0/24")
    for item in field.items():
        if not (prefix := item.prefix()).prefixlen:
            raise item.error("is the default route, which no node announces", "list what lies behind the nodes")
        yield prefix


def read_request(text: str | None) -> frozenset[ServiceAddress] | None:
    """What the annotation of a Service asks for; None: it says nothing."""
    match text:
        case None:
            return None
        case "true":
            return frozenset(ServiceAddress)
        case "false":
            return frozenset()
    words = [word.strip() for word in text.split(",")]
    if not set(words) <= set(ServiceAddress):
        raise Field(f"metadata.annotations[{ANNOTATION}]", text).error(
            "is not known", f'set it to "true", "false", or some of {", ".join(ServiceAddress)}, with commas between'
        )
    return frozenset(map(ServiceAddress, words))
