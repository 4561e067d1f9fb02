"""Objects that mean no Node of the cluster, or advertisements for no router at any: found by each node alike.

That an object means other nodes than this one is nothing wrong. Nor is an advertisement without any router when nodes
tell each other: of pod CIDRs always, of service addresses where a BGPInstance has `serviceRoutes`. Pure, but for
`Meant`, which remembers for each object one node that it means, and looks again when that one changes. It refuses to
know sessions.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from itertools import islice
from typing import Final, NamedTuple, TypeAlias

from agent.advertising import Advertisement, AdvertisementType
from agent.intent import EVERYTHING, ExternalPeer, Instance, MeshMode, Selector, ServiceRoutes
from agent.model import Key, Kind, Node, Problem
from agent.plan.merge import Contributions
from agent.plan.picture import World, every, one
from agent.plan.steps import Steps

_KINDS: Final = (Kind.INSTANCE, Kind.PEER, Kind.ADVERTISEMENT)
_Object: TypeAlias = Instance | ExternalPeer | Advertisement


class Wanted(NamedTuple):
    """One node must be selected by the first, and by any of the others."""

    problem: Problem
    node: Selector
    also: frozenset[Selector]

    def is_met(self, labels: Mapping[str, str]) -> bool:
        return self.node.matches(labels) and any(selector.matches(labels) for selector in self.also)


class _Audience(NamedTuple):
    """Who may be told of anything at all."""

    peers: tuple[ExternalPeer, ...]
    between_nodes: frozenset[Selector]
    """Nodes that tell others their service addresses."""


def _audience(world: World) -> _Audience:
    peers = tuple(peer for _, peer in every(world, Kind.PEER, ExternalPeer))
    telling = (it for _, it in every(world, Kind.INSTANCE, Instance) if it.service_routes is not ServiceRoutes.OFF)
    return _Audience(peers, frozenset(it.node_selector for it in telling if it.mesh.mode is not MeshMode.NONE))


def _wanted_of(found: _Object, kind: Kind, audience: _Audience) -> Iterator[Wanted]:
    name = str(Key(kind, "", found.name))
    if found.node_selector != EVERYTHING:
        yield Wanted(_no_node(name), found.node_selector, frozenset({EVERYTHING}))
    if not isinstance(found, Advertisement):
        return
    chosen = found.to_peers.selector
    fitting = frozenset(peer.node_selector for peer in audience.peers if chosen.matches(dict(peer.labels)))
    if chosen != EVERYTHING:
        yield Wanted(_no_chosen_peer(name, any_at_all=bool(fitting)), found.node_selector, fitting)
    elif found.type is not AdvertisementType.POD_CIDR:
        nodes = audience.between_nodes if found.type is AdvertisementType.SERVICE else frozenset()
        yield Wanted(_no_peer(name, any_at_all=bool(fitting)), found.node_selector, fitting | nodes)


def idle(world: World) -> Iterator[Problem]:
    """All of them, from scratch."""
    labels = [dict(node.labels) for _, node in every(world, Kind.NODE, Node)]
    for found in _wanted(world).values():
        yield from _first(wanted.problem for wanted in found if not any(map(wanted.is_met, labels)))


def _first(problems: Iterator[Problem]) -> Iterator[Problem]:
    """Of an object that means no node it need not be said that no router is there."""
    yield from islice(problems, 1)


def _wanted(world: World) -> dict[Key, tuple[Wanted, ...]]:
    audience = _audience(world)
    return {
        key: wanted
        for kind in _KINDS
        for key, found in world.records(kind).items()
        if isinstance(found, Instance | ExternalPeer | Advertisement)
        and (wanted := tuple(_wanted_of(found, kind, audience)))
    }


class Meant:
    """Kept up to date. A change of a node costs a look at each object with a selector, and one at other nodes for those
    of which it was the one remembered.
    """

    __slots__ = ("_problems", "_wanted", "_witnesses")

    def __init__(self, problems: Contributions[Problem, None]) -> None:
        self._problems = problems
        self._wanted: dict[Key, tuple[Wanted, ...]] = {}
        self._witnesses: dict[Wanted, str | None] = {}
        """A node that is meant; None: there is none."""

    def update(self, world: World, dirty: Collection[Key], *, everything: bool) -> Steps[None]:
        nodes = frozenset(key.name for key in dirty if key.kind is Kind.NODE)
        anew = everything or any(key.kind in _KINDS for key in dirty)
        if not (anew or nodes):
            return
        before, keys = self._witnesses, {*self._wanted}
        if anew:
            self._wanted = _wanted(world)
        self._witnesses = {}
        for wanted in {wanted for found in self._wanted.values() for wanted in found}:
            if everything or wanted not in before or before[wanted] in nodes:
                self._witnesses[wanted] = _witness(world, wanted, (key.name for key in world.records(Kind.NODE)))
            elif before[wanted] is None:
                self._witnesses[wanted] = _witness(world, wanted, nodes)
            else:
                self._witnesses[wanted] = before[wanted]
            yield
        for key in keys.union(self._wanted):
            unmet = (wanted.problem for wanted in self._wanted.get(key, ()) if self._witnesses[wanted] is None)
            self._problems.put(("meant", key), dict.fromkeys(_first(unmet)))


def _witness(world: World, wanted: Wanted, names: Iterable[str]) -> str | None:
    for name in names:
        node = one(world, Key(Kind.NODE, "", name), Node)
        if node is not None and wanted.is_met(dict(node.labels)):
            return name
    return None


def _no_node(name: str) -> Problem:
    return Problem(
        "nodeSelectorSelectsNothing",
        name,
        f"spec.nodeSelector of {name} fits no Node of the cluster: it is used nowhere",
        "Compare it with `kubectl get nodes --show-labels`.",
    )


def _no_chosen_peer(name: str, *, any_at_all: bool) -> Problem:
    where = "of the nodes that it selects" if any_at_all else "at all"
    return Problem(
        "peerSelectorSelectsNothing",
        name,
        f"spec.peerSelector of {name} fits no BGPPeer {where}: no router is told",
        "Compare it with `kubectl get bgppeers --show-labels`.",
    )


def _no_peer(name: str, *, any_at_all: bool) -> Problem:
    which = "no BGPPeer is for a node that it selects" if any_at_all else "there is no BGPPeer"
    return Problem(
        "noPeer",
        name,
        f"{name} is for routers, and {which}: nobody is told what it announces",
        "Create a BGPPeer for the router that is to be told.",
    )
