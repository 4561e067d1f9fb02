"""Shape of ExaBGP's JSON lines (encoder json, compact): only what is used, the rest is skipped while decoding.

No meaning is given here: `bgp.exaevents` does that.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

Bits16 = Annotated[int, msgspec.Meta(ge=0, le=0xFFFF)]
Bits32 = Annotated[int, msgspec.Meta(ge=0, le=0xFFFF_FFFF)]


class EndOfRib(msgspec.Struct):
    afi: str
    safi: str


class Update(msgspec.Struct):
    attribute: msgspec.Raw = msgspec.Raw()
    announce: dict[str, dict[str, list[str]]] = {}
    withdraw: dict[str, list[str]] = {}


class Message(msgspec.Struct):
    update: Update | None = None
    eor: EndOfRib | None = None


class Capability(msgspec.Struct, rename="kebab"):
    """Fields of all capabilities that matter; which are there depends on `name`, which some do not have."""

    name: str = ""
    families: list[str] | None = None
    asn4: int | None = None
    time: int = 0
    address_family_flags: dict[str, list[str]] = {}
    restart_flags: list[str] = []
    conversion: list[str] = []


class Open(msgspec.Struct):
    asn: int
    hold_time: int
    router_id: str
    capabilities: dict[str, Capability]


class Notification(msgspec.Struct):
    code: int
    subcode: int
    message: str = ""


class Refresh(msgspec.Struct):
    afi: str
    safi: str
    subtype: str


class Ends(msgspec.Struct):
    peer: str


class Sides(msgspec.Struct, frozen=True):
    """AS numbers; the peer's is null when it is learned from its OPEN."""

    local: int | None = None
    peer: int | None = None


class Neighbor(msgspec.Struct):
    address: Ends
    asn: Sides = Sides()
    direction: str = ""
    state: str = ""
    reason: str = ""
    message: Message | None = None
    open: Open | None = None
    notification: Notification | None = None
    refresh: Refresh | None = msgspec.field(default=None, name="route-refresh")


class Line(msgspec.Struct):
    type: str
    time: msgspec.Raw = msgspec.Raw()
    neighbor: Neighbor | None = None


class Segment(msgspec.Struct):
    element: str
    value: list[Bits32]


class Attributes(msgspec.Struct, rename="kebab"):
    error: str = ""
    origin: str = ""
    as_path: dict[str, Segment] = {}
    local_preference: Bits32 | None = None
    med: Bits32 | None = None
    community: list[tuple[Bits16, Bits16]] = []
    large_community: list[tuple[Bits32, Bits32, Bits32]] = []
    originator_id: str | None = None
    cluster_list: list[str] = []
