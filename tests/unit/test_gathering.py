"""A reflector that has started says that it has told all when it has heard its clients, or after a while."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace
from ipaddress import IPv4Address, ip_address, ip_interface, ip_network

import pytest

from agent.carrying import UNHEARD_SECONDS, UNMET_SECONDS
from agent.cluster.world import World
from agent.gathering import Gathering
from agent.intent import Instance, Mesh, MeshMode, PodRoutes, Selector
from agent.model import ALWAYS_WATCHED, LEARNED_METRIC, FibKey, Interface, InterfacesChanged, Key, Kind, Listed, Node
from agent.plan.model import Identity, NodePlan
from agent.plan.sessions import SessionClaim
from agent.sweeping import SWEEP_CAP_SECONDS
from bgp.model import Family, Peer, SessionUp
from tests.unit.test_loop import ADDRESS, CIDR, OTHER, Scene, key_of
from tests.unit.test_loop import OWN as OWN_NODE

CLIENT, SECOND, REFLECTOR, ROUTER = map(ip_address, ("192.0.2.3", "192.0.2.4", "192.0.2.5", "192.0.2.254"))
PLAIN = Peer(
    address=CLIENT,
    name="node/other",
    local_address=ip_address("192.0.2.2"),
    local_asn=64512,
    peer_asn=64512,
    router_id=IPv4Address("192.0.2.2"),
    families=frozenset({Family.IPV4}),
    mesh=True,
    client=True,
)
PEERS = (
    PLAIN,
    replace(PLAIN, address=SECOND),
    replace(PLAIN, address=REFLECTOR, client=False),
    replace(PLAIN, address=ROUTER, mesh=False, client=False, peer_asn=65000),
)
OWN = Identity(
    node="own",
    instance="",
    asn=64512,
    router_id=IPv4Address("192.0.2.2"),
    router_id_source="InternalIP",
    addresses=(PLAIN.local_address,),
    pod_cidrs=(),
    pod_routes=PodRoutes.BGP,
)
MESH = {
    name: SessionClaim(created=0.0, source=Key(Kind.NODE, "", name), address=peer.address, peer=peer)
    for name, peer in zip(("other", "second", "reflector"), PEERS, strict=False)
}
PLAN = NodePlan(identity=OWN, peers={peer.address: peer for peer in PEERS}, mesh=MESH)
UP = SessionUp(peer=SECOND, router_id=None, peer_asn=64512, hold_seconds=90, families=frozenset({Family.IPV4}))
NODES = frozenset({CLIENT, SECOND, REFLECTOR})


THERE = Node(name="second", addresses=(SECOND,), pod_cidrs=(ip_network("10.244.4.0/24"),))
IN_KERNEL = FibKey(THERE.pod_cidrs[0], LEARNED_METRIC)


class Reflector:
    """One that has just started."""

    def __init__(self, *up: SessionUp, node: Node = THERE, kernel=(), plan: NodePlan = PLAN) -> None:
        self._up = {one.peer: one for one in up}
        self._kernel = kernel
        self._plan = plan
        self._gathering = Gathering()
        self._world = World()
        self._world.apply(Listed(Kind.NODE, {Key(Kind.NODE, "", node.name): node}))

    def session(self, peer):
        return self._up.get(peer)

    def waits(self, now: float, *synced):
        return self._gathering.look(
            now, self._plan, self._world, kernel=self._kernel, rib=self, synced=frozenset(synced)
        )

    @property
    def next_look_at(self):
        return self._gathering.next_look_at


def test_no_node_is_told_that_this_is_all_before_every_client_has_been_heard() -> None:
    reflector = Reflector()

    assert reflector.waits(0) == NODES
    assert reflector.waits(1, CLIENT, REFLECTOR) == NODES
    assert reflector.waits(2, CLIENT, SECOND) == frozenset()
    assert reflector.waits(3) == frozenset(), "it is over"


@pytest.mark.parametrize(
    ("up", "node", "kernel", "wait"),
    [
        ((), THERE, (), UNMET_SECONDS),
        ((UP,), THERE, (), UNHEARD_SECONDS),
        ((), THERE, (IN_KERNEL,), SWEEP_CAP_SECONDS),
        ((UP,), THERE, (IN_KERNEL,), SWEEP_CAP_SECONDS),
        ((), replace(THERE, ready=False), (IN_KERNEL,), UNMET_SECONDS),
    ],
    ids=["no session", "silent", "restarting as well", "restarting, silent", "not Ready"],
)
def test_a_client_that_is_not_there_or_says_nothing_is_given_a_while(up, node, kernel, wait: float) -> None:
    reflector = Reflector(*up, node=node, kernel=kernel)
    reflector.waits(0, CLIENT)

    assert reflector.next_look_at == wait
    assert reflector.waits(wait - 0.1, CLIENT) == NODES
    assert reflector.waits(wait, CLIENT) == frozenset()


def test_who_reflects_for_nobody_waits_for_nobody() -> None:
    plan = replace(PLAN, peers={peer.address: peer for peer in PEERS if not peer.client})

    assert Reflector(plan=plan).waits(0) == frozenset()


async def test_a_client_that_restarts_with_its_reflector_is_waited_for() -> None:
    scene = Scene()
    selected = (("reflector", "yes"),)
    mesh = Mesh(mode=MeshMode.ROUTE_REFLECTOR, reflector_selector=Selector(labels=selected))
    nodes = {key_of(node): node for node in (replace(OWN_NODE, labels=selected), OTHER)}
    found = {kind: {} for kind in ALWAYS_WATCHED} | {
        Kind.NODE: nodes,
        Kind.INSTANCE: {Key(Kind.INSTANCE, "", "default"): Instance(name="default", mesh=mesh)},
    }
    await scene.kernel.start(lambda: None)
    scene.kernel.route(f"add {CIDR} via {ADDRESS} proto 179")
    task = asyncio.create_task(scene.loop.run())
    link = Interface(2, "eth0", True, (ip_interface("192.0.2.2/24"),))

    await scene.put(*(Listed(kind, records) for kind, records in found.items()), InterfacesChanged((link,)))
    scene.now += UNHEARD_SECONDS
    await scene.put(InterfacesChanged((link, replace(link, index=3, name="eth1", addresses=()))))
    assert scene.speaker.not_all_told == {ADDRESS}

    scene.now += SWEEP_CAP_SECONDS
    await scene.put(InterfacesChanged((link,)))
    assert not scene.speaker.not_all_told

    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
