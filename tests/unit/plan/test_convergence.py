"""Whole clusters of planners that tell each other routes, until nobody has anything new to say.

What each node's plan says to a peer is heard by that peer, if both want the session; nothing else joins them. The end
is that every kernel should have every pod CIDR by the node that owns it, whatever topology each of them has worked out.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from ipaddress import ip_address, ip_interface, ip_network

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.cluster.world import World
from agent.intent import Instance, Mesh, MeshMode, Selector
from agent.model import Applied, FibKey, Gone, Interface, Key, Kind, Node, Record
from agent.plan.picture import Dirty, Picture
from agent.plan.planner import Planner
from bgp.model import Address, Family, Path, PathsHeard, PeerRemoved, Prefix, RouteKey, SessionUp
from bgp.rib import Rib
from tests.unit.plan.histories import key_of

_ROUNDS_MAX = 12
"""The longest way of a route is client, reflector, reflector, client; then withdrawals of what it replaced."""


@dataclass(slots=True)
class Speaker:
    """One node: its picture, its plan, and what it has told to whom."""

    node: Node
    world: World = field(default_factory=World)
    rib: Rib = field(default_factory=Rib)
    planner: Planner = field(default_factory=Planner)
    dirty: Dirty = field(default_factory=lambda: Dirty(everything=True))
    told: dict[Address, dict[Prefix, Path]] = field(default_factory=dict)

    @property
    def address(self) -> Address:
        return self.node.addresses[0]

    def learn(self, *records: Record) -> None:
        for record in records:
            self.dirty = replace(self.dirty, keys=self.dirty.keys | self.world.apply(Applied(key_of(record), record)))

    def forget(self, name: str) -> None:
        self.dirty = replace(self.dirty, keys=self.dirty.keys | self.world.apply(Gone(Key(Kind.NODE, "", name))))

    def hear(self, event) -> None:
        self.dirty = replace(self.dirty, prefixes=self.dirty.prefixes | frozenset(self.rib.apply(event, 0.0)))

    def think(self) -> None:
        interface = Interface(2, "eth0", up=True, addresses=(ip_interface(f"{self.address}/24"),))
        small = self.planner.plan.standpoint.small
        self.planner.update(Picture(self.node.name, self.world, self.rib, (interface,), small=small), self.dirty)
        self.dirty = Dirty()

    def says_to(self, peer: Address) -> dict[Prefix, Path]:
        routes = self.planner.plan.routes
        prefixes = {key.prefix for key in routes if key.peer == peer}
        return {
            prefix: Path(
                self.address, routes[RouteKey(peer, prefix)].next_hop, routes[RouteKey(peer, prefix)].attributes
            )
            for prefix in prefixes
        }


class Network:
    def __init__(self, nodes: Iterable[Node]) -> None:
        self.speakers = {node.addresses[0]: Speaker(node) for node in nodes}

    def settle(self) -> None:
        for _ in range(_ROUNDS_MAX):
            for speaker in self.speakers.values():
                speaker.think()
            said = [self._converse(one, other) for one in self.speakers.values() for other in self._others(one)]
            if not any(said):
                return
        raise AssertionError("the routes do not come to rest")

    def _others(self, one: Speaker) -> list[Speaker]:
        return [other for other in self.speakers.values() if other is not one]

    def _converse(self, one: Speaker, other: Speaker) -> bool:
        """What `one` says to `other` now; False: nothing new."""
        up = other.address in one.planner.plan.peers and one.address in other.planner.plan.peers
        if not up:
            other.hear(PeerRemoved(one.address))
            return one.told.pop(other.address, None) is not None
        before, now = one.told.get(other.address), one.says_to(other.address)
        if before is None:
            other.hear(_up(one))
        before = before or {}
        gone = tuple(before.keys() - now.keys())
        new = tuple((path, (prefix,)) for prefix, path in now.items() if before.get(prefix) != path)
        one.told[other.address] = now
        other.hear(PathsHeard(one.address, gone, new))
        return bool(gone or new)

    def holes(self, names: Iterable[str]) -> list[str]:
        """Who lacks whose route, among the nodes of these names."""
        found, among = [], [one for one in self.speakers.values() if one.node.name in set(names)]
        for one in among:
            for other in among:
                route = one.planner.plan.fib.get(FibKey(other.node.pod_cidrs[0], 0))
                hops = [str(hop.gateway) for hop in route.next_hops] if route is not None else []
                if one is not other and hops != [str(other.address)]:
                    found.append(f"{one.node.name} reaches {other.node.name} by {hops}")
        return found


def _up(peer: Speaker) -> SessionUp:
    return SessionUp(
        peer=peer.address,
        router_id=peer.address,
        peer_asn=64512,
        hold_seconds=90,
        families=frozenset({Family.IPV4}),
    )


def _node(number: int, **settings) -> Node:
    return Node(
        name=f"n{number}",
        created=float(number),
        addresses=(ip_address(f"10.0.0.{number + 1}"),),
        pod_cidrs=(ip_network(f"10.244.{number}.0/24"),),
        labels=tuple(sorted(settings.pop("labels", {}).items())),
        **settings,
    )


_REFLECTORS = Selector(labels=(("rr", "yes"),))
_AUTO = Instance(name="a", mesh=Mesh(threshold=4))
_SELECTED = Instance(name="a", mesh=Mesh(mode=MeshMode.ROUTE_REFLECTOR, reflector_selector=_REFLECTORS))
_SECOND = Instance(
    name="b",
    node_selector=Selector(labels=(("side", "b"),)),
    priority=1,
    mesh=Mesh(mode=MeshMode.ROUTE_REFLECTOR, reflector_selector=_REFLECTORS, cluster_id=ip_address("9.9.9.9")),
)
_MESHED = replace(_SECOND, mesh=Mesh(mode=MeshMode.FULL_MESH))
_INSTANCES = st.sampled_from(((), (_AUTO,), (_SELECTED,), (_SELECTED, _SECOND), (_AUTO, _SECOND), (_SELECTED, _MESHED)))
_NODES = st.lists(
    st.tuples(st.fixed_dictionaries({}, optional={"rr": st.just("yes"), "side": st.just("b")}), st.booleans()),
    min_size=2,
    max_size=7,
).map(lambda rows: tuple(_node(n, labels=labels, ready=ready) for n, (labels, ready) in enumerate(rows)))
_SOME = settings(max_examples=settings().max_examples // 3, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@_SOME
@given(_NODES, _INSTANCES, _INSTANCES)
def test_every_kernel_has_every_pod_cidr_in_any_topology_and_after_a_change_to_any_other(nodes, first, second):
    network, names = Network(nodes), [node.name for node in nodes]
    for speaker in network.speakers.values():
        speaker.learn(*nodes, *first)
    network.settle()
    assert not network.holes(names)

    for speaker in network.speakers.values():
        for instance in first:
            speaker.dirty = replace(
                speaker.dirty, keys=speaker.dirty.keys | speaker.world.apply(Gone(key_of(instance)))
            )
        speaker.learn(*second)
    network.settle()

    assert not network.holes(names)


@_SOME
@given(
    st.integers(3, 7),
    st.sampled_from(("joins", "leaves", "goes down", "is cordoned")),
    st.randoms(use_true_random=False),
)
def test_no_pair_lacks_a_route_while_half_of_the_nodes_have_not_heard_of_an_event(size, event, rng: random.Random):
    nodes = tuple(_node(number, ready=rng.random() < 0.9) for number in range(size))
    changed = rng.choice(nodes)
    others = [node for node in nodes if node is not changed]
    network = Network(nodes)
    for speaker in network.speakers.values():
        speaker.learn(*(others if event == "joins" and speaker.node is not changed else nodes), _AUTO)
    network.settle()

    for speaker in rng.sample(sorted(network.speakers.values(), key=lambda it: it.node.name), size // 2):
        match event:
            case "joins":
                speaker.learn(changed)
            case "leaves":
                speaker.forget(changed.name)
            case "goes down":
                speaker.learn(replace(changed, ready=False))
            case "is cordoned":
                speaker.learn(replace(changed, cordoned=True))
    network.settle()

    assert not network.holes(node.name for node in others)
