"""Shape of ExaBGP's JSON lines (encoder json, compact): only what is used, the rest is skipped while decoding.

No meaning is given here: `bgp.exaevents` does that.
"""

from __future__ import annotations

import msgspec


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


class Neighbor(msgspec.Struct):
    address: Ends
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
    value: list[int]


class Attributes(msgspec.Struct, rename="kebab"):
    origin: str = "igp"
    as_path: dict[str, Segment] = {}
    local_preference: int | None = None
    med: int | None = None
    community: list[tuple[int, int]] = []
    large_community: list[tuple[int, int, int]] = []
    originator_id: str | None = None
    cluster_list: list[str] = []
