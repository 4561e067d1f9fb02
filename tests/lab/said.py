"""What paths in a router's table say besides prefix and next hop: FRR's JSON and BIRD's text brought to one form.

Well-known communities are numbers here, as on the wire. Seen with FRR 8.4.4 and BIRD 2.0.12.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from tests.lab.bird import Bird
from tests.lab.frr import Frr

NO_EXPORT, NO_ADVERTISE, NO_PEER = "65535:65281", "65535:65282", "65535:65284"
FRR_NAMES: Mapping[str, str] = {
    "graceful-shutdown": "65535:0",
    "accept-own": "65535:1",
    "blackhole": "65535:666",
    "no-export": NO_EXPORT,
    "no-advertise": NO_ADVERTISE,
    "local-AS": "65535:65283",
    "no-peer": NO_PEER,
}
BIRD_PATH = re.compile(r"unicast \[")
BIRD_ATTRIBUTE = re.compile(r"BGP\.(\w+): (.*)")


class Said(NamedTuple):
    communities: frozenset[str] = frozenset()
    large: frozenset[str] = frozenset()
    med: int | None = None
    as_path: tuple[int, ...] = ()
    local_pref: int | None = None
    """None from other ASes: what a router shows there is its own."""


def said(router: Frr | Bird, prefix: str, *, internal: bool = False) -> set[Said]:
    """By all paths of the prefix; empty: there is none. `internal`: the router is of the AS that announces it."""
    found = _of_frr(router, prefix) if isinstance(router, Frr) else _of_bird(router, prefix)
    return {one if internal else one._replace(local_pref=None) for one in found}


def _of_frr(router: Frr, prefix: str) -> Iterator[Said]:
    for path in router.paths(prefix):
        yield Said(
            communities=frozenset(FRR_NAMES.get(word, word) for word in _words(path, "community")),
            large=frozenset(_words(path, "largeCommunity")),
            med=path.get("metric"),
            as_path=tuple(map(int, _words(path, "aspath"))) if path["aspath"]["length"] else (),
            local_pref=path.get("locPrf"),
        )


def _words(path: Mapping[str, Any], attribute: str) -> list[str]:
    return str(path.get(attribute, {}).get("string", "")).split()


def _of_bird(router: Bird, prefix: str) -> Iterator[Said]:
    _, *paths = BIRD_PATH.split(router.route_text(prefix))
    for path in paths:
        told = dict(BIRD_ATTRIBUTE.findall(path))
        yield Said(
            communities=_groups(told.get("community", "")),
            large=_groups(told.get("large_community", "")),
            med=int(told["med"]) if "med" in told else None,
            as_path=tuple(map(int, told["as_path"].split())),
            local_pref=int(told["local_pref"]) if "local_pref" in told else None,
        )


def _groups(text: str) -> frozenset[str]:
    return frozenset(":".join(re.split(r",\s*", group)) for group in re.findall(r"\(([^)]*)\)", text))
