"""Who has a session with whom inside the cluster, who reflects, and whose client each node is.

Every node computes this of itself from the same Nodes and BGPInstances; no two nodes ever talk about it. It says which
pairs are wanted now and what they are to each other. It refuses to know addresses and who dials (`agent.plan.mesh`:
that never depends on roles, so that a change of role restarts no session), and it does not keep old sessions while new
ones come up: who does so adds pairs to these.

An area is all nodes of one AS with the same BGPInstance in force. Its core are the nodes that have sessions with the
core of every other area of the AS: in a full mesh all of them, else its reflectors. Members of the core are non-clients
to each other, but where a full mesh has reflectors as well; all others of an area are clients of each of its reflectors
(RFC 4456).

Auto: a full mesh up to `threshold` nodes, reflectors above. They are the first in an order that depends on the nodes'
names (rendezvous hashing), so that a node that comes or goes changes one reflector at most, spread over zones; nodes
that are down, cordoned or of one family come after the others. Two nodes whose pictures differ by some seconds still
hear each other's routes:
- There are two reflectors at least, and their sets differ by one at most.
- There are two marks, not one: a mesh is left above the threshold and entered again below the band of 10 % under it; in
  between stays what was (`small`), and what was is not known after a start, which counts as large.
- Reflectors reflect from 20 % under the threshold on, mesh or not: those who still see a mesh and those who no longer
  do hear each other by them.
A RouteReflector mesh whose selector matches nobody does as Auto does, with a Problem: no setting makes a silent hole.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left, insort
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from heapq import nsmallest
from ipaddress import IPv4Address
from typing import Final, NamedTuple, TypeAlias, assert_never

from agent.intent import ControlPlane, Mesh, MeshMode
from agent.model import Problem
from agent.plan.mesh_problems import nobody_selected, passwords_differ, shared_cluster_id, too_few, too_large
from agent.plan.nodes import CONTROL_PLANE_LABEL, Member

ZONE_LABEL: Final = "topology.kubernetes.io/zone"
_ENOUGH: Final = 2
"""Reflectors that must be there for one to be lost."""
_REFLECTORS: Final = ((200, 2), (500, 3), (1000, 4))
"""(Nodes at most, reflectors that Auto chooses)."""
_MOST_REFLECTORS: Final = 5

_Tier: TypeAlias = tuple[int, int, int]
_Rank: TypeAlias = tuple[bytes, str]


class Area(NamedTuple):
    asn: int
    instance: str
    """Name of the BGPInstance, empty for the defaults."""


class Shape(NamedTuple):
    """What an area's sessions are."""

    meshed: bool
    """Between all of its nodes."""
    reflectors: frozenset[str] = frozenset()
    """Names; with `meshed` they reflect although every node has a session with every other one."""
    small: bool = False
    """Mode Auto has it fully meshed: the memory of the hysteresis."""
    cluster_id: IPv4Address | None = None
    """As set; None: each reflector's own router id."""

    @property
    def has_core(self) -> bool:
        """Somebody of the area has sessions with other areas."""
        return self.meshed or bool(self.reflectors)

    def in_core(self, name: str) -> bool:
        return self.meshed or name in self.reflectors


class Tie(NamedTuple):
    """A session that is wanted with another node."""

    client: bool
    """It is our client."""


@dataclass(frozen=True, slots=True)
class Standpoint:
    """What decides, on one node, about its tie with any other."""

    name: str = ""
    area: Area | None = None
    """None: it speaks no BGP."""
    shapes: Mapping[Area, Shape] = field(default_factory=dict)
    """Of all areas of its AS."""
    cluster_id: IPv4Address | None = None
    """Set: it is a route reflector."""
    problems: tuple[Problem, ...] = ()

    @property
    def small(self) -> frozenset[Area]:
        """To be handed in as `small` the next time."""
        return frozenset(area for area, shape in self.shapes.items() if shape.small)


def tie(own: Standpoint, other: Member) -> Tie | None:
    """What `other` is to us; None: there is no session. Both sides agree on the session and on who is whose client."""
    there = area_of(other)
    if own.area is None or there is None or there not in own.shapes or other.name == own.name:
        return None
    here, shape = own.shapes[own.area], own.shapes[there]
    if there != own.area:
        return Tie(client=False) if here.in_core(own.name) and shape.in_core(other.name) else None
    if not (shape.meshed or own.name in shape.reflectors or other.name in shape.reflectors):
        return None
    return Tie(client=own.name in shape.reflectors and other.name not in shape.reflectors)


def retied(before: Standpoint, after: Standpoint) -> frozenset[str] | None:
    """The nodes whose tie with us may differ though they are what they were; None: all may."""
    if (before.name, before.area) != (after.name, after.area) or before.shapes.keys() != after.shapes.keys():
        return None
    turned: frozenset[str] = frozenset()
    for area, shape in after.shapes.items():
        if shape.meshed != before.shapes[area].meshed:
            return None
        turned |= shape.reflectors ^ before.shapes[area].reflectors
    return None if after.name in turned else turned


def area_of(member: Member) -> Area | None:
    """None: it speaks no BGP."""
    if member.asn is None or not member.addresses:
        return None
    return Area(member.asn, member.instance.name)


class Topology:
    """All nodes, arranged so that one node's change costs the same in any cluster."""

    __slots__ = ("_areas", "_by_asn", "_members")

    def __init__(self) -> None:
        self._members: dict[str, Member] = {}
        self._areas: dict[Area, _Order] = {}
        self._by_asn: dict[int, set[Area]] = {}

    def put(self, name: str, member: Member | None) -> None:
        """`member` is what `name` is from now on; None: it is gone."""
        before = self._members.pop(name, None)
        if before is not None and (area := area_of(before)) is not None:
            self._areas[area].drop(before)
            if not self._areas[area].nodes:
                self._forget(area)
        if member is None:
            return
        self._members[name] = member
        if (area := area_of(member)) is not None:
            self._by_asn.setdefault(area.asn, set()).add(area)
            self._areas.setdefault(area, _Order()).add(member)

    def look(self, name: str, small: frozenset[Area]) -> Standpoint:
        """From the node `name`; `small` as it was the last time."""
        member = self._members.get(name)
        area = area_of(member) if member is not None else None
        if member is None or area is None:
            return Standpoint(name)
        areas = self._by_asn[area.asn]
        shapes = {there: _shape(self._areas[there], was_small=there in small) for there in areas}
        reflects = name in shapes[area].reflectors
        return Standpoint(
            name=name,
            area=area,
            shapes=shapes,
            cluster_id=(shapes[area].cluster_id or member.router_id) if reflects else None,
            problems=(*_problems(area, self._areas[area], shapes), *self._passwords(area, shapes)),
        )

    def _passwords(self, own: Area, shapes: Mapping[Area, Shape]) -> Iterator[Problem]:
        """Areas that have sessions with ours, and another password."""
        ours = self._areas[own].mesh.password_ref
        for area in sorted(shapes.keys() - {own}):
            theirs = self._areas[area].mesh.password_ref
            if theirs != ours and shapes[own].has_core and shapes[area].has_core:
                yield passwords_differ(own.instance, ours, area.instance, theirs)

    def _forget(self, area: Area) -> None:
        del self._areas[area]
        self._by_asn[area.asn].discard(area)
        if not self._by_asn[area.asn]:
            del self._by_asn[area.asn]


class _Order:
    """The nodes of one area, in the order in which they are taken as reflectors."""

    __slots__ = ("_tiers", "mesh", "nodes", "selected", "usable")

    def __init__(self) -> None:
        self.mesh = Mesh()
        self.nodes: set[str] = set()
        self.selected: set[str] = set()
        """By `reflector_selector`."""
        self.usable: set[str] = set()
        """Ready, and not cordoned: nobody is about to take it away."""
        self._tiers: dict[_Tier, dict[str, list[_Rank]]] = {}
        """By tier and zone, sorted."""

    def add(self, member: Member) -> None:
        self.mesh = member.instance.mesh
        self.nodes.add(member.name)
        if member.ready and not member.cordoned:
            self.usable.add(member.name)
        selector = self.mesh.reflector_selector
        if selector is not None and selector.matches(dict(member.labels)):
            self.selected.add(member.name)
        zones = self._tiers.setdefault(_tier(member), {})
        insort(zones.setdefault(_zone(member), []), _rank(member))

    def drop(self, member: Member) -> None:
        for names in (self.nodes, self.usable, self.selected):
            names.discard(member.name)
        zones = self._tiers[_tier(member)]
        ranks = zones[_zone(member)]
        del ranks[bisect_left(ranks, _rank(member))]
        if not ranks:
            del zones[_zone(member)]
        if not zones:
            del self._tiers[_tier(member)]

    def first(self, count: int) -> frozenset[str]:
        """In each tier the first of each zone, then the second of each, and so on."""
        chosen: list[str] = []
        for tier in sorted(self._tiers):
            zones, depth = list(self._tiers[tier].values()), 0
            while zones and len(chosen) < count:
                row = nsmallest(count - len(chosen), [ranks[depth] for ranks in zones])
                chosen += [name for _, name in row]
                depth += 1
                zones = [ranks for ranks in zones if len(ranks) > depth]
        return frozenset(chosen)


def _shape(order: _Order, *, was_small: bool) -> Shape:
    mesh = order.mesh
    match mesh.mode:
        case MeshMode.NONE:
            return Shape(meshed=False)
        case MeshMode.FULL_MESH:
            return Shape(meshed=True)
        case MeshMode.ROUTE_REFLECTOR:
            if order.selected:
                return Shape(meshed=False, reflectors=frozenset(order.selected), cluster_id=mesh.cluster_id)
            return _automatic(order, was_small=was_small)
        case MeshMode.AUTO:
            return _automatic(order, was_small=was_small)
        case _:
            assert_never(mesh.mode)


def _automatic(order: _Order, *, was_small: bool) -> Shape:
    size, threshold = len(order.nodes), order.mesh.threshold
    step = max(1, threshold // 10)
    small = size <= threshold and (was_small or size < threshold - step)
    if small and size < threshold - 2 * step:
        return Shape(meshed=True, small=True)
    wanted = next((count for most, count in _REFLECTORS if size <= most), _MOST_REFLECTORS)
    return Shape(meshed=small, reflectors=order.first(wanted), small=small)


def _tier(member: Member) -> _Tier:
    """The lower, the rather it is taken."""
    down = 2 if not member.ready else int(member.cordoned)
    in_control_plane = CONTROL_PLANE_LABEL in dict(member.labels)
    match member.instance.mesh.control_plane:
        case ControlPlane.AVOID:
            last = in_control_plane
        case ControlPlane.PREFER:
            last = not in_control_plane
        case ControlPlane.ALLOW:
            last = False
        case _:
            assert_never(member.instance.mesh.control_plane)
    return down, -len(member.addresses), int(last)


def _zone(member: Member) -> str:
    return dict(member.labels).get(ZONE_LABEL, "")


def _rank(member: Member) -> _Rank:
    """By name: a machine that is set up anew stays what it was."""
    return hashlib.blake2s(member.name.encode(), digest_size=8).digest(), member.name


def _problems(own: Area, order: _Order, shapes: Mapping[Area, Shape]) -> Iterator[Problem]:
    mesh, shape = order.mesh, shapes[own]
    usable = len(shape.reflectors & order.usable)
    if mesh.mode is MeshMode.FULL_MESH and len(order.nodes) > mesh.threshold:
        yield too_large(own.instance, own.asn, mesh.threshold)
    if mesh.mode is MeshMode.ROUTE_REFLECTOR and not order.selected:
        yield nobody_selected(own.instance, own.asn)
    elif not shape.meshed and shape.reflectors and usable < min(_ENOUGH, len(order.nodes)):
        yield too_few(own.instance, own.asn, _ENOUGH)
    for area, other in sorted(shapes.items(), key=_by_area):
        if area != own and other.cluster_id is not None and other.cluster_id == shape.cluster_id:
            yield shared_cluster_id(own.instance, area.instance, other.cluster_id)
            return


def _by_area(found: tuple[Area, Shape]) -> Area:
    return found[0]
