"""A node that leaves, seen from the loop: where an agent begins that starts with a reason to leave, and when a session
with a deleted node is over.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace
from ipaddress import ip_interface, ip_network

import pytest

from agent.cluster.world import World
from agent.farewell import PARTING_CAP_SECONDS
from agent.kernel.table import RouteChange
from agent.model import (
    ALWAYS_WATCHED,
    DISCARD_METRIC,
    Applied,
    FibRoute,
    Gone,
    Interface,
    InterfacesChanged,
    Kind,
    Listed,
    NextHop,
    Node,
    RouteType,
)
from agent.plan.leaving import DRAIN_ANNOTATION, Progress
from agent.sweeping import SWEEP_CAP_SECONDS
from bgp.model import Peer, SessionDown
from tests.unit.test_loop import ADDRESS, OTHER, OWN, Scene, key_of, running, scene

__all__ = ["scene"]

POD = FibRoute(OWN.pod_cidrs[0], type=RouteType.UNREACHABLE, metric=DISCARD_METRIC)
VIP = FibRoute(ip_network("203.0.113.7/32"), type=RouteType.UNREACHABLE_FORWARDED, metric=DISCARD_METRIC)
LEARNED = FibRoute(OTHER.pod_cidrs[0], (NextHop(ADDRESS),))


@pytest.mark.parametrize(
    ("in_kernel", "begins"),
    [
        ((), Progress.OVER),
        ((LEARNED,), Progress.OVER),
        ((LEARNED, POD), Progress.SERVICES),
        ((POD, VIP), Progress.ASKED),
        ((VIP,), Progress.ASKED),
    ],
)
async def test_an_agent_that_starts_with_a_reason_to_leave_begins_with_what_the_one_before_had_not_withdrawn(
    in_kernel: tuple[FibRoute, ...], begins: Progress
) -> None:
    scene = Scene()
    await scene.kernel.table.start(lambda: None)
    await scene.kernel.write([RouteChange(None, route) for route in in_kernel])
    own = replace(OWN, annotations=((DRAIN_ANNOTATION, "rack 7"),))
    lists = [Listed(kind, {key_of(own): own} if kind is Kind.NODE else {}) for kind in sorted(ALWAYS_WATCHED)]
    task = asyncio.create_task(scene.loop.run())
    try:
        await scene.put(*lists, InterfacesChanged((Interface(2, "eth0", True, (ip_interface("192.0.2.2/24"),)),)))
        assert scene.loop.plan.leave is not None
        assert scene.loop.departing.progress is begins
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def test_a_deleted_node_keeps_its_session_until_it_has_ended_it(scene: Scene) -> None:
    await scene.put(Gone(key_of(OTHER)))
    assert ADDRESS in scene.loop.plan.peers
    assert scene.kernel_prefixes() == {"10.244.2.0/24"}

    await scene.put(SessionDown(ADDRESS, "received 6/2 Administrative Shutdown"))
    assert ADDRESS not in scene.loop.plan.peers


async def test_a_deleted_node_that_does_not_end_its_session_has_it_for_a_while_only(scene: Scene) -> None:
    await scene.put(Gone(key_of(OTHER)))
    scene.now += PARTING_CAP_SECONDS
    await scene.put()

    assert ADDRESS not in scene.loop.plan.peers


async def test_a_node_that_was_away_when_it_was_deleted_has_no_session_to_end(scene: Scene) -> None:
    await scene.put(SessionDown(ADDRESS, "hold timer expired", without_notification=True))
    await scene.put(Gone(key_of(OTHER)))

    assert ADDRESS not in scene.loop.plan.peers


@pytest.mark.parametrize("node", [OWN, OTHER], ids=["this one", "another"])
async def test_a_node_that_is_deleted_and_at_once_made_again_has_kept_its_sessions(node: Node) -> None:
    """ExaBGP is never handed peers that lack it."""
    scene, handed = Scene(World(OWN.name)), list[Peer | None]()
    async with running(scene):
        before, routes = scene.loop.plan.peers[ADDRESS], scene.kernel_prefixes()
        scene.speaker.meanwhile = lambda: handed.append(scene.loop.plan.peers.get(ADDRESS))
        await scene.put(Gone(key_of(node)))
        await scene.put(Applied(key_of(node), replace(node, created=node.created + 7.0, uid="another")))

        assert len(handed) >= 2
        assert [peer for peer in handed if peer != before] == []
        assert scene.kernel_prefixes() == routes


async def test_a_node_that_was_deleted_while_its_agent_was_away_forwards_as_long_as_routers_may_send_to_it() -> None:
    scene = Scene()
    await scene.kernel.table.start(lambda: None)
    await scene.kernel.write([RouteChange(None, route) for route in (POD, VIP, LEARNED)])
    task = asyncio.create_task(scene.loop.run())
    try:
        link = Interface(2, "eth0", True, (ip_interface("192.0.2.2/24"),))
        await scene.put(*(Listed(kind, {}) for kind in sorted(ALWAYS_WATCHED)), InterfacesChanged((link,)))
        assert str(LEARNED.prefix) in scene.kernel_prefixes()

        scene.now += SWEEP_CAP_SECONDS
        await scene.put()
        assert scene.kernel_prefixes() == set()
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def test_a_node_that_has_lost_its_last_peer_forwards_until_exabgp_has_been_told() -> None:
    scene = Scene()
    scene.speaker.in_sync = False
    await scene.kernel.table.start(lambda: None)
    await scene.kernel.write([RouteChange(None, LEARNED)])
    task = asyncio.create_task(scene.loop.run())
    try:
        lists = [Listed(kind, {key_of(OWN): OWN} if kind is Kind.NODE else {}) for kind in sorted(ALWAYS_WATCHED)]
        await scene.put(*lists, InterfacesChanged((Interface(2, "eth0", True, (ip_interface("192.0.2.2/24"),)),)))
        assert str(LEARNED.prefix) in scene.kernel_prefixes()

        scene.speaker.in_sync = True
        await scene.put()
        assert str(LEARNED.prefix) not in scene.kernel_prefixes()
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
