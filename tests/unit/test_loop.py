"""The pass, end to end without a network: real picture, planner and kernel driver, the kernel in memory."""

from __future__ import annotations

import asyncio
import contextlib
import errno
from collections.abc import AsyncIterator, Mapping
from ipaddress import ip_address, ip_interface, ip_network

import pytest

from agent.advertising import Advertisement, AdvertisementType, ServiceAddress, ServiceChoice
from agent.cluster.world import World
from agent.inbox import Inbox
from agent.intent import ExternalPeer, Instance, Mesh
from agent.kernel.fib import RETRY_FIRST_SECONDS, Fib
from agent.kernel.table import KernelError
from agent.loop import Loop, Phase
from agent.model import (
    ALWAYS_WATCHED,
    DISCARD_METRIC,
    Applied,
    FibDrifted,
    FibKey,
    Gone,
    Interface,
    InterfacesChanged,
    Key,
    Kind,
    Listed,
    Node,
    Problem,
    Service,
    WatchState,
)
from agent.plan.planner import Planner
from bgp.model import Address, Attributes, Family, Path, PathsHeard, Peer, RouteKey, SessionUp, SpeakerLost
from bgp.rib import OWN_STALE_SECONDS, Rib
from tests.lab.fakekernel import FakeKernel
from tests.lab.wait import eventually

OWN, OTHER = (
    Node(name=name, addresses=(ip_address(f"192.0.2.{n}"),), pod_cidrs=(ip_network(f"10.244.{n}.0/24"),))
    for name, n in (("own", 2), ("other", 3))
)
REFUSED = KernelError(errno.ENOMEM, "Cannot allocate memory")
ADDRESS, CIDR = OTHER.addresses[0], OTHER.pod_cidrs[0]


def key_of(node):
    return Key(Kind.NODE, "", node.name)


class Told:
    """A speaker that has always told everything."""

    in_sync = True
    problems = ()
    ended: Mapping[Address, float] = {}
    before: tuple[Peer, ...] = ()

    def forwarding(self, *, lost):
        self.forwarding_lost = lost

    async def apply(self, _plan, **how):
        self.hold_back = how["hold_back"]
        self.end_of_rib_waits = how["end_of_rib_waits"]
        self.not_all_told = how["not_all_told"]
        self.meanwhile()

    def meanwhile(self):
        """What happens while the pass goes on."""

    def sweep(self, _routes):
        pass

    def over_at(self, peer):
        return self.ended.get(peer)

    def nodes_before(self, peers):
        return [peer for peer in self.before if peer.address in peers]

    def may_hold(self, _prefix):
        return False

    def has_told(self, _key):
        return True


class Scene:
    def __init__(self, world=None):
        self.now = 1000.0
        self.kernel = FakeKernel()
        self.speaker = Told()
        self.inbox = Inbox(world=world or World(), rib=Rib(), clock=lambda: self.now)
        self.fib = Fib(self.kernel.table, clock=lambda: self.now)
        self.loop = Loop(
            node_name=OWN.name,
            inbox=self.inbox,
            planner=Planner(),
            fib=self.fib,
            speaker=self.speaker,
            watch_secrets=lambda _names: None,
            clock=lambda: self.now,
            api_url="https://10.244.3.9:6443",
        )
        self.passes = 0
        self.loop.after_pass(self._count)

    def _count(self):
        self.passes += 1

    async def put(self, *changes):
        """Put them, a second later, and wait for the pass that saw them."""
        self.now += 1
        before = self.passes
        for change in changes:
            self.inbox.put(change)
        self.inbox.wake()
        await eventually(lambda: self.passes > before)

    def kernel_prefixes(self):
        return {str(key.prefix) for key in self.fib.actual}


@contextlib.asynccontextmanager
async def running(scene: Scene) -> AsyncIterator[None]:
    """The other node has told its pod CIDR, and no End-of-RIB."""
    task = asyncio.create_task(scene.loop.run())
    nodes = {key_of(node): node for node in (OWN, OTHER)}
    lists = [Listed(kind, nodes if kind is Kind.NODE else {}) for kind in sorted(ALWAYS_WATCHED)]
    await scene.put(*lists, InterfacesChanged((Interface(2, "eth0", True, (ip_interface("192.0.2.2/24"),)),)))
    up = SessionUp(peer=ADDRESS, router_id=None, peer_asn=64512, hold_seconds=90, families=frozenset({Family.IPV4}))
    await scene.put(up, PathsHeard(ADDRESS, (), ((Path(ADDRESS, ADDRESS, Attributes()), (CIDR,)),)))
    assert scene.kernel_prefixes() >= {"10.244.2.0/24", "10.244.3.0/24"}
    assert scene.loop.phase is Phase.IN_SYNC
    yield
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    scene = Scene()
    async with running(scene):
        assert scene.kernel_prefixes() == {"10.244.2.0/24", "10.244.3.0/24"}
        yield scene


async def test_routes_stay_while_exabgp_is_away_and_go_when_that_takes_too_long(scene: Scene) -> None:
    written = len(scene.kernel.writes)

    await scene.put(SpeakerLost("killed"))
    assert len(scene.kernel.writes) == written
    scene.now += OWN_STALE_SECONDS
    await scene.put()

    assert scene.kernel_prefixes() == {"10.244.2.0/24"}


async def test_a_node_that_is_deleted_while_exabgp_is_away_loses_its_routes_at_once(scene: Scene) -> None:
    await scene.put(SpeakerLost("killed"))

    await scene.put(Gone(key_of(OTHER)))

    assert scene.kernel_prefixes() == {"10.244.2.0/24"}


async def test_without_the_own_node_nothing_is_in_the_kernel_and_all_is_back_with_it(scene: Scene) -> None:
    await scene.put(Gone(key_of(OWN)))
    assert scene.kernel_prefixes() == set()

    await scene.put(Applied(key_of(OWN), OWN))

    assert scene.kernel_prefixes() == {"10.244.2.0/24", "10.244.3.0/24"}
    assert scene.loop.phase is Phase.IN_SYNC


async def test_a_route_that_the_kernel_has_not_taken_is_work_to_do(scene: Scene) -> None:
    route = scene.fib.actual[next(key for key in scene.fib.actual if key.prefix == CIDR)]

    await scene.put(PathsHeard(ADDRESS, (CIDR,)))
    scene.kernel.refuse[route.key] = REFUSED
    await scene.put(PathsHeard(ADDRESS, (), ((Path(ADDRESS, ADDRESS, Attributes()), (CIDR,)),)))
    assert scene.loop.phase is Phase.WORKING
    del scene.kernel.refuse[route.key]
    scene.now += 60
    await scene.put()

    assert scene.loop.phase is Phase.IN_SYNC


@pytest.mark.parametrize("afresh", [False, True], ids=["heard", "read"])
async def test_a_place_that_somebody_else_holds_is_no_work_to_do(scene: Scene, afresh: bool) -> None:
    """It is reported, and looked at again; waiting is no use."""
    await scene.kernel.start(lambda: None)
    await scene.put(PathsHeard(ADDRESS, (CIDR,)))
    scene.kernel.route(f"add blackhole {CIDR} proto static")
    await scene.put(PathsHeard(ADDRESS, (), ((Path(ADDRESS, ADDRESS, Attributes()), (CIDR,)),)))
    if afresh:
        await scene.put(FibDrifted())
        await scene.put()

    assert [key.prefix for key in scene.fib.conflicts] == [CIDR]
    assert scene.loop.phase is Phase.IN_SYNC

    scene.kernel.route(f"del blackhole {CIDR} proto static")
    scene.now += 60
    await scene.put()
    assert CIDR in {key.prefix for key in scene.fib.actual}


async def test_a_prefix_whose_discard_lacks_its_rules_is_not_announced(scene: Scene) -> None:
    await scene.kernel.start(lambda: None)
    prefix = ip_network("203.0.113.0/24")
    advertisement = Advertisement(name="lab", type=AdvertisementType.PREFIX, prefixes=(prefix,))
    await scene.put(Applied(Key(Kind.ADVERTISEMENT, "", "lab"), advertisement))
    assert not scene.speaker.hold_back(RouteKey(ADDRESS, prefix))

    scene.kernel.refuse[FibKey(prefix, DISCARD_METRIC)] = REFUSED
    scene.kernel.rule("del pref 32764")
    await scene.put(FibDrifted())
    await scene.put()

    assert scene.speaker.hold_back(RouteKey(ADDRESS, prefix))


@pytest.mark.parametrize("prefix", ["203.0.113.80/32", "2001:db8::80/128"])
async def test_a_single_address_is_announced_although_the_kernel_refuses_its_discard_once_it_was_asked(
    scene: Scene, prefix: str
) -> None:
    await scene.kernel.start(lambda: None)
    single = ip_network(prefix)
    guard, asked = FibKey(single, DISCARD_METRIC), list[bool]()
    scene.kernel.refuse[guard] = REFUSED
    scene.speaker.meanwhile = lambda: asked.append(guard in {change.key for change in scene.kernel.writes})
    advertisement = Advertisement(name="lab", type=AdvertisementType.PREFIX, prefixes=(single,))
    await scene.put(Applied(Key(Kind.ADVERTISEMENT, "", "lab"), advertisement))

    assert asked == [True]
    assert guard in scene.fib.failing
    assert not scene.speaker.hold_back(RouteKey(ADDRESS, single))


async def test_a_mesh_that_was_small_stays_one_until_it_is_above_the_threshold(scene: Scene) -> None:
    more = [
        Node(name=f"more-{n}", addresses=(ip_address(f"192.0.2.{n}"),), pod_cidrs=(ip_network(f"10.244.{n}.0/24"),))
        for n in (4, 5, 6)
    ]
    instance = Instance(name="auto", mesh=Mesh(threshold=4))
    await scene.put(Applied(Key(Kind.INSTANCE, "", "auto"), instance))

    await scene.put(*(Applied(key_of(node), node) for node in more[:2]))
    assert scene.loop.plan.standpoint.small, "four nodes: in the band, where what was stays"
    await scene.put(Applied(key_of(more[2]), more[2]))
    assert not scene.loop.plan.standpoint.small
    await scene.put(Gone(key_of(more[2])))

    assert not scene.loop.plan.standpoint.small, "four nodes again"


async def test_an_api_server_that_does_not_answer_is_told_with_the_route_of_ours_to_it(scene):
    away = Problem("apiUnreachable", "watch of Node", "no answer", "See if it runs.")
    await scene.put(WatchState(kind=Kind.NODE, healthy=False, fresh_at=scene.now, problem=away))

    (said,) = (problem for problem in scene.loop.problems() if problem.reason == away.reason)
    assert f"this node has installed {CIDR} via {ADDRESS}" in said.message


def took(histogram) -> tuple[int, float]:
    return histogram.count, histogram.sum


async def test_a_route_takes_from_the_peers_update_until_the_kernel_has_it(scene: Scene) -> None:
    before, more = scene.loop.latencies.programming.count, ip_network("10.244.3.0/25")
    scene.inbox.put(PathsHeard(ADDRESS, (CIDR,), ((Path(ADDRESS, ADDRESS, Attributes()), (more,)),)))
    scene.now += 0.5
    scene.kernel.refuse[FibKey(more, 0)] = REFUSED
    await scene.put()
    assert scene.loop.latencies.programming.count == before, "what is refused, and what goes, is not measured"

    del scene.kernel.refuse[FibKey(more, 0)]
    scene.inbox.put(PathsHeard(ADDRESS, (more,), ((Path(ADDRESS, ADDRESS, Attributes()), (CIDR,)),)))
    scene.now += 0.5
    await scene.put()

    assert scene.loop.latencies.programming.count == before + 1
    assert scene.loop.latencies.programming.sum >= 1.5


async def test_what_is_found_at_start_is_no_announcement_and_a_service_that_changes_is_one(scene: Scene) -> None:
    assert took(scene.loop.latencies.advertising) == (0, 0.0)
    web = Service(namespace="default", name="web", load_balancer_ips=(ip_address("198.51.100.7"),))
    addresses = ServiceChoice(addresses=frozenset({ServiceAddress.LOAD_BALANCER_IP}))
    everything = Advertisement(name="lab", type=AdvertisementType.SERVICE, service=addresses)
    router = ExternalPeer(name="tor", address=ip_address("192.0.2.254"), asn=65000)
    await scene.put(Applied(Key(Kind.PEER, "", "tor"), router))
    await scene.put(Applied(Key(Kind.ADVERTISEMENT, "", "lab"), everything))
    scene.inbox.put(Applied(Key(Kind.SERVICE, "default", "web"), web))
    scene.now += 0.25

    await scene.put()

    assert took(scene.loop.latencies.advertising) == (1, 1.25)


# Before there is a plan.


async def test_without_a_picture_the_kernels_table_is_read_and_nothing_is_written() -> None:
    scene = Scene()
    await scene.kernel.table.start(lambda: scene.inbox.put(FibDrifted()))
    scene.kernel.route("add 10.244.3.0/24 via 192.0.2.3 proto 179")
    task = asyncio.create_task(scene.loop.run())
    away = Problem("apiUnreachable", "watch of Node", "cannot watch all Node objects: it is away", "Wait.")
    try:
        await scene.put(WatchState(Kind.NODE, healthy=False, fresh_at=scene.now, problem=away))
        assert scene.kernel_prefixes() == {"10.244.3.0/24"}
        scene.kernel.route("add 10.244.4.0/24 via 192.0.2.4 proto 179")
        await scene.put()
        await scene.put()
        assert scene.kernel_prefixes() == {"10.244.3.0/24", "10.244.4.0/24"}
        scene.kernel.failing_dumps = 1
        await scene.put(FibDrifted())
        await scene.put()
        assert scene.fib.read_error is not None

        scene.now += RETRY_FIRST_SECONDS
        await scene.put()

        assert scene.fib.read_error is None
        assert (scene.kernel.writes, scene.fib.drift, scene.loop.phase) == ([], {}, Phase.LISTING)
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
