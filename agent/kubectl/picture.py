"""What the map shows of a cluster, without where it stands: racks with their routers and nodes, and the sessions. Pure.

A rack is what the Nodes' labels say. A router is drawn with each group of nodes that it has sessions with, or lines
would run over all that is between. Sessions between nodes are shown where they are missing: those that are there would
be lines from each to each.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from agent.cli.present import Answer
from agent.cli.text import age, uptime
from agent.kubectl.cluster import Member, numeric
from agent.kubectl.peers import WANTED_SO, is_well, trouble, written
from agent.kubectl.status import UNKNOWN, row_of

RACK_LABELS: Final = ("topology.kubernetes.io/rack", "topology.kubernetes.io/zone")
"""Of Nodes; the first that any of them has."""
GROUP_MAX: Final = 12
"""Nodes that are drawn together."""
MISSING_MAX: Final = 5
"""Sessions with other nodes that a node names; the others are counted."""


class Look(enum.StrEnum):
    """Of a session: each has a colour, a kind of line and a sign."""

    UP = "up"
    DOWN = "down"
    MEANT = "meant"
    """Not there, as somebody wants it."""
    UNKNOWN = "unknown"
    """What was last said of it, by an agent that is not heard of any more."""


@dataclass(frozen=True, slots=True)
class Router:
    name: str
    address: str
    rack: str = ""
    """Where an address says nothing without the link that it is on."""
    asn: int | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Session:
    router: Router
    look: Look
    words: str
    error: str
    """Why there is none; empty: there is."""


@dataclass(frozen=True, slots=True)
class Missing:
    """A session with another node that is not there."""

    other: str
    words: str


@dataclass(frozen=True, slots=True)
class Card:
    """One node."""

    name: str
    health: str
    facts: str
    words: str
    """Why it is not well."""
    sessions: tuple[Session, ...]
    missing: tuple[Missing, ...]
    more: int
    """Sessions with other nodes that are missing, and not named."""


@dataclass(frozen=True, slots=True)
class Group:
    """Nodes of one rack, as many as lines can be told apart, and the routers that they have sessions with."""

    rack: str
    """Empty: nodes without the label."""
    first: int
    """Which of the rack's nodes it begins with; from 1."""
    of: int
    """How many the rack has."""
    routers: tuple[Router, ...]
    cards: tuple[Card, ...]


@dataclass(frozen=True, slots=True)
class Picture:
    label: str
    """By which nodes are in racks; empty: none has one."""
    groups: tuple[Group, ...]

    @property
    def cards(self) -> list[Card]:
        return [card for group in self.groups for card in group.cards]

    @property
    def sessions(self) -> list[Session]:
        return [session for card in self.cards for session in card.sessions]


def picture(members: Sequence[Member], found: Sequence[Answer], label: str, now: float) -> Picture:
    """`found`: the sessions of each member, as `agent.kubectl.peers.by_node` answers."""
    label = label or next((it for it in RACK_LABELS if any(_labels(member).get(it) for member in members)), "")
    racks: dict[str, list[Card]] = {}
    for member, it in zip(members, found, strict=True):
        rack = _labels(member).get(label, "") if label else ""
        racks.setdefault(rack, []).append(_card(member, it, rack, now))
    in_order = sorted(racks.items(), key=lambda it: (not it[0], numeric(it[0])))
    return Picture(label, tuple(group for rack, cards in in_order for group in _groups(rack, cards)))


def _groups(rack: str, cards: Sequence[Card]) -> Iterator[Group]:
    for begin in range(0, len(cards), GROUP_MAX):
        some = tuple(cards[begin : begin + GROUP_MAX])
        routers = tuple(dict.fromkeys(session.router for card in some for session in card.sessions))
        yield Group(rack, begin + 1, len(cards), routers, some)


def _labels(member: Member) -> Mapping[str, str]:
    if member.node is not None:
        labels: Mapping[str, str] = member.node["metadata"].get("labels") or {}
        return labels
    zone = (member.said or {}).get("zone")
    return {RACK_LABELS[-1]: zone} if zone else {}


def _card(member: Member, it: Answer, rack: str, now: float) -> Card:
    row = row_of(member)
    nobody = it["source"] is None
    peers = written(member.said, now) if nobody and member.said else it["peers"]
    heard_ago = age(member.age_seconds) if nobody and member.age_seconds is not None else ""
    sessions = tuple(_session(address, peer, rack, heard_ago) for address, peer in peers.items() if not peer["mesh"])
    missing = [] if nobody else [_missing(peer) for peer in peers.values() if peer["mesh"] and not is_well(peer)]
    mesh = it["mesh"]
    if mesh is None and not nobody:
        nodes = [peer for peer in peers.values() if peer["mesh"]]
        mesh = {"established": sum(peer["is_up"] for peer in nodes), "configured": len(nodes)}
    facts = [f"AS {row['asn']}"] if row["asn"] else []
    facts += [f"mesh {mesh['established']}/{mesh['configured']}"] if mesh and mesh["configured"] else []
    facts += [f"leaving: {row['leaving']['reason']}"] if row["leaving"] else []
    words = [it["silent"]["reason"]] if it["silent"] else row["ailments"]
    health = UNKNOWN if nobody else row["health"]
    return Card(
        name=member.name,
        health=health,
        facts=", ".join(facts),
        words=", ".join(words),
        sessions=sessions,
        missing=tuple(missing[:MISSING_MAX]),
        more=max(0, len(missing) - MISSING_MAX),
    )


def _session(address: str, peer: Answer, rack: str, heard_ago: str) -> Session:
    name = peer["name"].removeprefix("BGPPeer/")
    router = Router(name, address, rack if "%" in address else "", peer["remote_as"])
    if heard_ago:
        return Session(router, Look.UNKNOWN, f"{name}: {peer['state']} {heard_ago} ago", "")
    if peer["is_up"]:
        counts = f"{peer['received_prefixes']} in, {peer['sent_prefixes']} out"
        return Session(router, Look.UP, f"{name}: {peer['state']} {uptime(peer['state_seconds'])}, {counts}", "")
    look = Look.MEANT if peer["reason"] in WANTED_SO else Look.DOWN
    lost = f", lost {uptime(peer['state_seconds'])} ago" if peer["state_seconds"] is not None else ""
    return Session(router, look, f"{name}: {peer['state']}{lost}", trouble(peer) or peer["why"] or "")


def _missing(peer: Answer) -> Missing:
    why = trouble(peer).removeprefix("local ") or peer["why"] or peer["state"]
    return Missing(peer["name"].removeprefix("node/"), why)
