"""What a node only passes on to others is told to routers once it has the routes for it: the loop, end to end."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace
from ipaddress import ip_address, ip_interface, ip_network

import pytest

from agent.advertising import Advertisement, AdvertisementType, ServiceAddress, ServiceChoice
from agent.carrying import UNHEARD_SECONDS, UNMET_SECONDS
from agent.departing import LASTS_SECONDS
from agent.intent import ExternalPeer, Instance, ServiceRoutes
from agent.model import (
    ALWAYS_WATCHED,
    DISCARD_METRIC,
    Applied,
    EndpointSlice,
    Interface,
    InterfacesChanged,
    Key,
    Kind,
    Listed,
    Service,
    TrafficPolicy,
)
from agent.plan.leaving import DRAIN_ANNOTATION, Progress
from bgp.model import Attributes, EndOfRib, Family, Path, PathsHeard, RouteKey, SessionDown, SessionUp
from tests.unit.test_loop import ADDRESS, CIDR, OTHER, OWN, Scene, key_of

TOR = ip_address("192.0.2.254")
VIP, LOCAL = ip_network("198.51.100.7/32"), ip_network("198.51.100.8/32")
NEW = replace(OTHER, name="new", addresses=(ip_address("192.0.2.4"),), pod_cidrs=(ip_network("10.244.4.0/24"),))
PODS = OWN.pod_cidrs[0]
ADDRESSES = ServiceChoice(addresses=frozenset({ServiceAddress.LOAD_BALANCER_IP}))
OBJECTS = {
    Kind.INSTANCE: Instance(name="main", service_routes=ServiceRoutes.IMPORT),
    Kind.PEER: ExternalPeer(name="tor", address=TOR, asn=65000),
    Kind.ADVERTISEMENT: Advertisement(name="lab", type=AdvertisementType.SERVICE, service=ADDRESSES),
    Kind.ENDPOINT_SLICE: EndpointSlice(
        namespace="default", name="near", service="near", family=Family.IPV4, ready=frozenset({OWN.name})
    ),
}
SERVICES = (
    Service(namespace="default", name="web", load_balancer_ips=(VIP.network_address,)),
    Service(
        namespace="default",
        name="near",
        load_balancer_ips=(LOCAL.network_address,),
        external_policy=TrafficPolicy.LOCAL,
    ),
)
UP = SessionUp(peer=ADDRESS, router_id=None, peer_asn=64512, hold_seconds=90, families=frozenset({Family.IPV4}))
THEIRS = PathsHeard(ADDRESS, (), ((Path(ADDRESS, ADDRESS, Attributes()), (CIDR,)),))
ALL = EndOfRib(ADDRESS, Family.IPV4)


class Coming(Scene):
    """A node that starts beside another one, with a router, a Service and one whose endpoint is here."""

    async def list_all(self, *others, own=OWN):
        found = {kind: {} for kind in sorted(ALWAYS_WATCHED)}
        found[Kind.NODE] = {key_of(node): node for node in (own, *(others or (OTHER,))) if node is not None}
        for kind, record in OBJECTS.items():
            found[kind] = {Key(kind, "", record.name): record}
        found[Kind.SERVICE] = {Key(Kind.SERVICE, "default", one.name): one for one in SERVICES}
        link = Interface(2, "eth0", True, (ip_interface("192.0.2.2/24"),))
        await self.put(*(Listed(kind, records) for kind, records in found.items()), InterfacesChanged((link,)))

    def held_back(self):
        """What the router, who is to be told of it, is not told yet."""
        planned = {key.prefix for key in self.loop.plan.routes if key.peer == TOR}
        mesh = [key for key in self.loop.plan.routes if key.peer == ADDRESS]
        assert not any(map(self.speaker.hold_back, mesh))
        return {prefix for prefix in planned if self.speaker.hold_back(RouteKey(TOR, prefix))}

    def is_told_all(self):
        assert {key.prefix for key in self.loop.plan.routes if key.peer == TOR} == {PODS, VIP, LOCAL}
        return not self.held_back() and not self.speaker.end_of_rib_waits and not self.loop.carrying.awaited


@pytest.fixture
async def scene() -> AsyncIterator[Coming]:
    scene = Coming()
    await scene.kernel.start(lambda: None)
    task = asyncio.create_task(scene.loop.run())
    yield scene
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def test_a_node_that_starts_tells_routers_of_services_when_it_has_the_pod_routes_of_others(scene: Coming) -> None:
    await scene.list_all()
    await scene.put(UP)
    assert scene.held_back() == {VIP}
    assert scene.speaker.end_of_rib_waits
    assert scene.loop.carrying.awaited == (OTHER.name,)

    await scene.put(THEIRS)

    assert scene.is_told_all()
    assert str(CIDR) in scene.kernel_prefixes()


async def test_routes_that_never_come_are_not_waited_for_when_all_have_told_what_they_have(scene: Coming) -> None:
    await scene.list_all()
    await scene.put(UP)
    assert scene.held_back() == {VIP}

    await scene.put(ALL)

    assert scene.is_told_all()


@pytest.mark.parametrize(("up", "wait"), [((), UNMET_SECONDS), ((UP,), UNHEARD_SECONDS)], ids=["no session", "silent"])
async def test_a_node_that_is_not_there_or_says_nothing_is_given_a_while(scene: Coming, up, wait: float) -> None:
    await scene.list_all()
    began_at = scene.now
    await scene.put(*up)
    scene.now = began_at + wait - 2
    await scene.put()
    assert scene.held_back() == {VIP}

    await scene.put()

    assert scene.is_told_all()


async def test_a_node_that_is_not_ready_is_not_waited_for(scene: Coming) -> None:
    await scene.list_all(replace(OTHER, ready=False))

    assert scene.is_told_all()


async def test_what_the_node_forwards_by_is_lost_until_it_has_the_pod_routes_of_others(scene: Coming) -> None:
    await scene.list_all()
    await scene.put(UP)
    assert scene.speaker.forwarding_lost

    await scene.put(THEIRS)

    assert not scene.speaker.forwarding_lost


async def test_a_restart_has_lost_nothing(scene: Coming) -> None:
    scene.kernel.route(f"add {CIDR} via {ADDRESS} proto 179")
    await scene.list_all(OTHER, NEW)

    assert not scene.speaker.forwarding_lost


async def test_a_restart_holds_nothing_back_whoever_else_is_missing(scene: Coming) -> None:
    scene.kernel.route(f"add {CIDR} via {ADDRESS} proto 179")
    await scene.list_all(OTHER, NEW)

    assert scene.is_told_all()


@pytest.mark.parametrize("told", [VIP, PODS])
async def test_a_restart_holds_nothing_back_where_no_other_node_is_to_be_heard(scene: Coming, told) -> None:
    scene.kernel.route(f"add blackhole {told} metric {DISCARD_METRIC} proto 179")
    await scene.list_all()

    assert scene.is_told_all()
    assert not scene.speaker.forwarding_lost


async def test_a_node_that_was_deleted_while_its_agent_was_away_waits_when_it_is_there_again(scene: Coming) -> None:
    scene.kernel.route(f"add blackhole {VIP} metric {DISCARD_METRIC} proto 179")
    await scene.list_all(own=None)

    await scene.put(Applied(key_of(OWN), OWN))

    assert scene.held_back() == {VIP}


async def test_a_drain_is_told_in_the_middle_of_the_wait_and_the_return_from_it_waits_again(scene: Coming) -> None:
    await scene.list_all()
    await scene.put(UP)
    assert scene.held_back() == {VIP}
    await scene.put(Applied(key_of(OWN), replace(OWN, annotations=((DRAIN_ANNOTATION, ""),))))
    assert scene.held_back() == set()
    assert RouteKey(TOR, VIP) in scene.loop.plan.routes, "as a last resort"
    for seconds in LASTS_SECONDS.values():
        scene.now += seconds
        await scene.put()
    assert scene.loop.departing.progress is Progress.OVER
    await scene.put(SessionDown(ADDRESS, "drained"))

    await scene.put(Applied(key_of(OWN), OWN))

    assert scene.held_back() == {VIP}
    assert scene.speaker.end_of_rib_waits
    await scene.put(UP, THEIRS)
    assert scene.is_told_all()


async def test_once_in_service_a_new_node_or_a_lost_session_holds_nothing_back(scene: Coming) -> None:
    await scene.list_all()
    await scene.put(UP, THEIRS, ALL)

    await scene.put(Applied(key_of(NEW), NEW), SessionDown(ADDRESS, "lost"))

    assert scene.is_told_all()
