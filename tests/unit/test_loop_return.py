"""An agent that comes back, seen from the loop: what it finds in the kernel, and whom it waits for before that goes."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network, ip_address, ip_interface

import pytest

from agent.intent import AllowedPrefix, ExternalPeer
from agent.kernel.table import RouteChange
from agent.model import ALWAYS_WATCHED, FibKey, FibRoute, Interface, InterfacesChanged, Key, Kind, Listed, NextHop
from bgp.model import (
    Address,
    Attributes,
    EndOfRib,
    Family,
    Path,
    PathsHeard,
    Peer,
    SessionDown,
    SessionUp,
)
from tests.unit.test_loop import ADDRESS, CIDR, OTHER, OWN, Scene, key_of

ROUTERS = (ip_address("192.0.2.253"), ip_address("192.0.2.254"))
ECMP, ALONE, OF_DELETED = map(IPv4Network, ("198.51.100.0/24", "203.0.113.0/24", "10.244.4.0/24"))
DELETED = Peer(
    address=ip_address("192.0.2.4"),
    name="node/deleted",
    local_address=OWN.addresses[0],
    local_asn=64512,
    peer_asn=64512,
    router_id=IPv4Address("192.0.2.2"),
    families=frozenset({Family.IPV4}),
    mesh=True,
)


def up(address: Address) -> SessionUp:
    return SessionUp(peer=address, router_id=None, peer_asn=65001, hold_seconds=90, families=frozenset({Family.IPV4}))


def router(number: int) -> tuple[Key, ExternalPeer]:
    allowed = tuple(AllowedPrefix(prefix, 24, 24) for prefix in (ECMP, ALONE))
    name = f"router-{number}"
    return Key(Kind.PEER, "", name), ExternalPeer(name=name, address=ROUTERS[number], asn=65001, import_allowed=allowed)


@contextlib.asynccontextmanager
async def back(
    scene: Scene, *found: tuple[IPv4Network, Sequence[Address]], sessions: Sequence[Address] = ()
) -> AsyncIterator[None]:
    """With routes by these ways in the kernel and these sessions in ExaBGP; two nodes and two routers are there."""
    await scene.kernel.start(lambda: None)
    routes = [FibRoute(prefix, tuple(map(NextHop, gateways))) for prefix, gateways in found]
    await scene.kernel.write([RouteChange(None, route) for route in routes])
    for address in sessions:
        scene.inbox.put(up(address))
    task = asyncio.create_task(scene.loop.run())
    listed = {Kind.NODE: {key_of(node): node for node in (OWN, OTHER)}, Kind.PEER: dict(map(router, (0, 1)))}
    lists = [Listed(kind, listed.get(kind, {})) for kind in sorted(ALWAYS_WATCHED)]
    await scene.put(*lists, InterfacesChanged((Interface(2, "eth0", True, (ip_interface("192.0.2.2/24"),)),)))
    yield
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def tell(scene: Scene, peer: Address, *prefixes: IPv4Network) -> None:
    """All that it has to say."""
    path = Path(peer, peer, Attributes(as_path=() if peer == ADDRESS else (65001,)))
    await scene.put(up(peer), PathsHeard(peer, (), ((path, prefixes),)), EndOfRib(peer, Family.IPV4))


def hops(scene: Scene, prefix: IPv4Network) -> set[str]:
    route = scene.fib.actual.get(FibKey(prefix, 0))
    return set() if route is None else {str(hop.gateway) for hop in route.next_hops}


async def test_who_is_given_up_is_not_waited_for() -> None:
    scene = Scene()
    scene.speaker.ended = {ROUTERS[1]: scene.now}
    async with back(scene, (ALONE, ROUTERS[1:])):
        await tell(scene, ADDRESS, CIDR)
        assert hops(scene, ALONE) == {str(ROUTERS[1])}

        await tell(scene, ROUTERS[0])

        assert scene.kernel_prefixes() == {"10.244.2.0/24", "10.244.3.0/24"}


async def test_what_only_a_peer_had_told_that_may_be_restarting_stays_for_what_is_left_of_its_restart_time() -> None:
    scene = Scene()
    over_at = scene.now + 30
    scene.speaker.ended = {ROUTERS[1]: over_at}
    async with back(scene, (ALONE, ROUTERS[1:])):
        await tell(scene, ADDRESS, CIDR)
        await tell(scene, ROUTERS[0])
        scene.now = over_at - 2
        await scene.put()
        assert hops(scene, ALONE) == {str(ROUTERS[1])}

        scene.now = over_at - 1
        await scene.put()
        assert hops(scene, ALONE) == set()


async def test_what_others_tell_too_leads_no_more_over_one_that_may_be_restarting_once_they_have_told_all() -> None:
    scene = Scene()
    scene.speaker.ended = {ROUTERS[1]: scene.now + 30}
    async with back(scene, (ECMP, ROUTERS), (ALONE, ROUTERS[1:])):
        await tell(scene, ROUTERS[0], ECMP)
        assert hops(scene, ECMP) == set(map(str, ROUTERS)), "the other node may have the same path"

        await tell(scene, ADDRESS, CIDR)
        await scene.put()

        assert hops(scene, ECMP) == {str(ROUTERS[0])}
        assert hops(scene, ALONE) == {str(ROUTERS[1])}


async def test_while_a_session_is_there_that_has_not_told_all_next_hops_stay() -> None:
    scene = Scene()
    async with back(scene, (ECMP, ROUTERS), sessions=[ROUTERS[1]]):
        await tell(scene, ROUTERS[0], ECMP)
        await tell(scene, ADDRESS, CIDR)
        await scene.put()

        assert hops(scene, ECMP) == set(map(str, ROUTERS))


async def test_a_session_with_a_node_that_was_deleted_meanwhile_stays_until_that_has_ended_it() -> None:
    scene = Scene()
    scene.speaker.before = (DELETED,)
    async with back(scene, (OF_DELETED, [DELETED.address]), sessions=[DELETED.address]):
        assert scene.loop.plan.peers[DELETED.address] == DELETED
        assert scene.loop.plan.parting == {"deleted"}

        for peer in (ADDRESS, *ROUTERS):
            await tell(scene, peer)
        assert hops(scene, OF_DELETED) == set(), "nobody waits for what it would tell of itself"

        await scene.put(SessionDown(DELETED.address, "received 6/2 Administrative Shutdown"))
        assert DELETED.address not in scene.loop.plan.peers


@pytest.mark.parametrize(
    ("before", "sessions"),
    [
        (DELETED, []),
        (replace(DELETED, name="node/other"), [DELETED.address]),
        (replace(DELETED, local_address=ip_address("192.0.2.9")), [DELETED.address]),
        (replace(DELETED, address=ROUTERS[0]), [ROUTERS[0]]),
    ],
    ids=["no session", "its Node has another address", "we have another address", "its address is a router's now"],
)
async def test_of_what_exabgp_had_before_only_sessions_with_deleted_nodes_are_kept(
    before: Peer, sessions: list[Address]
) -> None:
    scene = Scene()
    scene.speaker.before = (before,)
    async with back(scene, sessions=sessions):
        assert scene.loop.plan.peers.get(before.address) != before
        assert scene.loop.plan.peers.keys() == {ADDRESS, *ROUTERS}
