"""What ends and comes back: ExaBGP killed, the bridge killed, the agent restarted beside an ExaBGP that goes on."""

import os
import shutil
import signal
import time
from dataclasses import replace
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest

from bgp.driver.process import CONFIGURATION
from bgp.model import Address, EndOfRib, Family, PathsHeard, Peer, SessionState, SessionUp, SpeakerLost
from bgp.speaker import SpeakerMode
from tests.lab.frr import Frr
from tests.lab.neighbor import Neighbor
from tests.lab.speaking import NODE_ASN, Speaking, peer, route, start_external
from tests.lab.topology import Lab
from tests.lab.wait import eventually
from tests.lab.wirepeer import WirePeer
from tests.live.conftest import LabFactory

pytestmark = pytest.mark.live

TOR_ASN = 65001


def tor(net: Lab, *announce: str) -> Frr:
    neighbor = Neighbor(str(net.node(1).address()), NODE_ASN)
    lines = ["bgp graceful-restart"]
    return Frr(net.router, asn=TOR_ASN, router_id="192.0.2.1", neighbors=[neighbor], announce=announce, lines=lines)


async def test_a_killed_exabgp_is_started_again_and_tells_everything_again(lab: LabFactory) -> None:
    net = lab(nodes=1)
    router, node = tor(net), net.node(1)
    async with Speaking(node) as speaking:
        one = speaking.add_peer(peer(node, net.router.address(), asn=TOR_ASN))
        for number in range(50):
            speaking.add_route(one, route(f"10.1.{number}.0/24", node.address()))
        await speaking.tell()
        await eventually(lambda: len(router.routes("ipv4")) == 50)
        before = router.routes("ipv4")
        os.kill(speaking.exabgp_pid(), signal.SIGKILL)
        await eventually(lambda: speaking.heard(SpeakerLost))
        assert speaking.state(one) is SessionState.IDLE
        assert not speaking.speaker.in_sync
        # What changes meanwhile is told in the end, and what is not wanted any more is not.
        del speaking.routes[next(key for key in speaking.routes if key.prefix == ip_network("10.1.7.0/24"))]
        await speaking.tell()
        await speaking.established(one)

        await eventually(lambda: router.routes("ipv4") == {p: hops for p, hops in before.items() if p != "10.1.7.0/24"})
        assert speaking.speaker.restarts == 1
        assert speaking.speaker.states[one.address].flaps == 1
        await eventually(lambda: not speaking.speaker.problems)


async def test_peers_that_come_while_there_is_no_exabgp_are_known_with_their_first_open(lab: LabFactory) -> None:
    net = lab(nodes=1, routers=2)
    node, first = net.node(1), start_external(net.node(1))
    async with (
        WirePeer(net.routers[0], asn=TOR_ASN),
        WirePeer(net.routers[1], asn=TOR_ASN + 1, hold_seconds=33) as wire,
        Speaking(node, mode=SpeakerMode.EXTERNAL) as speaking,
    ):
        await speaking.established(await told(speaking, net.routers[0].address(), TOR_ASN))
        first.kill()
        await eventually(lambda: speaking.heard(SpeakerLost))
        address = net.routers[1].address()
        new = speaking.add_peer(peer(node, address, asn=TOR_ASN + 1, hold_seconds=90))
        await speaking.apply()
        await eventually(lambda: str(address) in (speaking.run_dir / CONFIGURATION).read_text())
        start_external(node)
        await speaking.established(new, *speaking.peers.values())
        await eventually(lambda: speaking.speaker.in_sync)

        (up,) = [event for event in speaking.heard(SessionUp) if event.peer == address]
        assert (up.peer_asn, up.hold_seconds, up.families) == (TOR_ASN + 1, 33, frozenset(Family))
        assert len(wire.sessions) == 1


async def told(speaking: Speaking, address: Address, asn: int) -> Peer:
    one = speaking.add_peer(peer(speaking.node, address, asn=asn))
    await speaking.tell()
    return one


async def test_graceful_restart_keeps_our_routes_at_the_router_while_exabgp_is_gone(lab: LabFactory) -> None:
    net = lab(nodes=1)
    router, node = tor(net), net.node(1)
    async with Speaking(node) as speaking:
        one = speaking.add_peer(peer(node, net.router.address(), asn=TOR_ASN))
        speaking.add_route(one, route("10.1.0.0/24", node.address()))
        await speaking.tell()
        await eventually(lambda: router.routes("ipv4"))
        os.kill(speaking.exabgp_pid(), signal.SIGKILL)
        await eventually(lambda: router.paths("10.1.0.0/24")[0].get("stale"))
        await eventually(lambda: not router.paths("10.1.0.0/24")[0].get("stale"))

        assert router.routes("ipv4") == {"10.1.0.0/24": [str(node.address())]}


async def test_stopping_takes_less_than_two_seconds_and_says_no_goodbye(lab: LabFactory) -> None:
    net = lab(nodes=1)
    node = net.node(1)
    async with WirePeer(net.router, asn=TOR_ASN) as wire:
        async with Speaking(node) as speaking:
            one = speaking.add_peer(peer(node, net.router.address(), asn=TOR_ASN))
            await speaking.tell()
            await speaking.established(one)
            stopped_at = time.monotonic()
        assert time.monotonic() - stopped_at < 2.0
        await eventually(lambda: wire.session.ended)

        assert not wire.session.of("notification")


async def test_an_agent_that_restarts_with_nothing_changed_sends_no_update(lab: LabFactory) -> None:
    net = lab(nodes=1)
    node = net.node(1)
    start_external(node)
    async with WirePeer(net.router, asn=TOR_ASN) as wire, Speaking(node, mode=SpeakerMode.EXTERNAL) as speaking:
        one = speaking.add_peer(peer(node, net.router.address(), asn=TOR_ASN))
        for number in range(20):
            speaking.add_route(one, route(f"10.1.{number}.0/24", node.address(), med=number))
        speaking.add_route(one, route("fd01::/64", node.address("ipv6")))
        await speaking.tell()
        await eventually(lambda: len(wire.session.of("end-of-rib")) == 2)
        sent = list(wire.session.heard)
        await speaking.restart_agent()
        await eventually(lambda: speaking.heard(SessionUp))
        await speaking.tell()
        await eventually(lambda: len(wire.session.of("route-refresh")) == 2)

        assert len(wire.sessions) == 1
        assert [sent for sent in wire.session.heard if sent.what != "route-refresh"] == sent
        assert speaking.speaker.audit_corrected == 0
        assert {sent.family for sent in wire.session.of("route-refresh")} == {"ipv4", "ipv6"}


async def test_what_changed_while_the_agent_was_away_is_told_and_nothing_else(lab: LabFactory) -> None:
    net = lab(nodes=1)
    node = net.node(1)
    start_external(node)
    async with WirePeer(net.router, asn=TOR_ASN) as wire, Speaking(node, mode=SpeakerMode.EXTERNAL) as speaking:
        one = speaking.add_peer(peer(node, net.router.address(), asn=TOR_ASN))
        gone = speaking.add_route(one, route("10.1.0.0/24", node.address()))
        speaking.add_route(one, route("10.2.0.0/24", node.address()))
        await speaking.tell()
        await eventually(lambda: len(wire.session.of("end-of-rib")) == 2)
        before = len(wire.session.heard)
        del speaking.routes[gone]
        speaking.add_route(one, route("10.3.0.0/24", node.address()))
        await speaking.restart_agent()
        await speaking.tell()
        await eventually(lambda: len(wire.session.heard) >= before + 4)

        told = {(sent.what, sent.prefixes) for sent in wire.session.heard[before:] if sent.prefixes}
        assert told == {("withdraw", ("10.1.0.0/24",)), ("announce", ("10.3.0.0/24",))}


async def test_a_restarted_agent_knows_since_when_sessions_are_up_and_why_they_were_down(lab: LabFactory) -> None:
    net = lab(nodes=1)
    node = net.node(1)
    start_external(node)
    async with WirePeer(net.router, asn=TOR_ASN) as wire, Speaking(node, mode=SpeakerMode.EXTERNAL) as speaking:
        one = speaking.add_peer(peer(node, net.router.address(), asn=TOR_ASN))
        away = speaking.add_peer(peer(node, ip_address("172.18.0.99"), asn=TOR_ASN))
        await speaking.tell()
        await speaking.established(one)
        wire.notify(6, 2, b"\x04noon")
        await eventually(lambda: len(wire.sessions) == 2)
        await speaking.established(one)
        await eventually(lambda: speaking.speaker.states[away.address].last_error)
        before, tried = speaking.speaker.states[one.address], speaking.speaker.states[away.address]
        assert before.last_error is not None
        assert tried.last_error is not None
        restarted_at = time.monotonic()
        await speaking.restart_agent()
        problems = [speaking.speaker.problems]
        await speaking.tell()
        problems.append(speaking.speaker.problems)

        after, still = speaking.speaker.states[one.address], speaking.speaker.states[away.address]
        assert problems == [frozenset(), frozenset()], "an ExaBGP that has not had the time to come is not missed"
        assert after.last_error is not None
        assert after.last_error.at < after.since < restarted_at
        assert after.since == pytest.approx(before.since, abs=2.0)
        assert after.last_error.at == pytest.approx(before.last_error.at, abs=2.0)
        assert replace(after.last_error, at=0.0) == replace(before.last_error, at=0.0)
        assert (after.flaps, after.up) == (1, before.up)
        assert (still.since, still.flaps) == (0.0, 0)
        assert still.last_error is not None
        assert still.last_error.text == tried.last_error.text


async def test_a_restarted_agent_hears_again_what_the_router_announces(lab: LabFactory) -> None:
    net = lab(nodes=1)
    router, node = tor(net, "10.50.0.0/24", "fd50::/64"), net.node(1)
    start_external(node)
    async with Speaking(node, mode=SpeakerMode.EXTERNAL) as speaking:
        one = speaking.add_peer(peer(node, net.router.address(), asn=TOR_ASN))
        await speaking.tell()
        await eventually(lambda: speaking.speaker.states[one.address].synced == frozenset(Family))
        await speaking.restart_agent()
        await speaking.tell()
        await eventually(lambda: speaking.speaker.states[one.address].synced == frozenset(Family))

        kinds = [type(event) for event in speaking.events]
        assert kinds[0] is SessionUp
        heard = {prefix for event in speaking.heard(PathsHeard) for _, found in event.announced for prefix in found}
        assert heard == {ip_network("10.50.0.0/24"), ip_network("fd50::/64")}
        assert {event.family for event in speaking.heard(EndOfRib)} == set(Family)
        assert router.times_established(str(node.address())) == 1


async def test_a_session_that_comes_up_while_the_agent_is_away_gets_its_end_of_rib_later(lab: LabFactory) -> None:
    net = lab(nodes=1)
    node = net.node(1)
    start_external(node)
    async with Speaking(node, mode=SpeakerMode.EXTERNAL) as speaking:
        one = speaking.add_peer(peer(node, net.router.address(), asn=TOR_ASN))
        speaking.add_route(one, route("10.1.0.0/24", node.address()))
        await speaking.tell()
        await speaking.speaker.stop()
        async with WirePeer(net.router, asn=TOR_ASN) as wire:
            await eventually(lambda: wire.session.of("announce"))
            assert not wire.session.of("end-of-rib")
            await speaking.restart_agent()
            await speaking.tell()
            await eventually(lambda: len(wire.session.of("end-of-rib")) == 2)

            assert len(wire.sessions) == 1


@pytest.mark.parametrize("emptied", [False, True], ids=["", "after the run directory was emptied"])
async def test_a_killed_bridge_comes_back_and_no_session_notices(lab: LabFactory, *, emptied: bool) -> None:
    net = lab(nodes=1)
    node = net.node(1)
    async with WirePeer(net.router, asn=TOR_ASN) as wire, Speaking(node) as speaking:
        one = speaking.add_peer(peer(node, net.router.address(), asn=TOR_ASN))
        speaking.add_route(one, route("10.1.0.0/24", node.address()))
        await speaking.tell()
        await eventually(lambda: len(wire.session.of("end-of-rib")) == 2)
        exabgp = speaking.exabgp_pid()
        (bridge,) = Path(f"/proc/{exabgp}/task/{exabgp}/children").read_text().split()
        if emptied:
            shutil.rmtree(speaking.run_dir)
        os.kill(int(bridge), signal.SIGKILL)
        await eventually(lambda: len(wire.session.of("route-refresh")) == 2)
        speaking.add_route(one, route("10.2.0.0/24", node.address()))
        await speaking.tell()
        await eventually(lambda: len(wire.session.of("announce")) == 2)

        assert len(wire.sessions) == 1
        assert not speaking.heard(SpeakerLost)
        assert speaking.state(one) is SessionState.ESTABLISHED
        assert speaking.speaker.restarts == 0


async def test_a_bridge_that_is_killed_while_updates_pour_in_does_no_lasting_harm(lab: LabFactory) -> None:
    """A write to the dead bridge makes ExaBGP end, a bridge that is back in time lets it go on: both must end well."""
    net = lab(nodes=1)
    node = net.node(1)
    async with WirePeer(net.router, asn=TOR_ASN) as wire, Speaking(node) as speaking:
        one = speaking.add_peer(peer(node, net.router.address(), asn=TOR_ASN))
        speaking.add_route(one, route("10.1.0.0/24", node.address()))
        await speaking.tell()
        await eventually(lambda: len(wire.session.of("end-of-rib")) == 2)
        exabgp = speaking.exabgp_pid()
        (bridge,) = Path(f"/proc/{exabgp}/task/{exabgp}/children").read_text().split()
        for number in range(200):
            wire.announce([f"10.50.{number}.0/24"], next_hop=str(net.router.address()))
        os.kill(int(bridge), signal.SIGKILL)
        for number in range(200):
            wire.announce([f"10.51.{number}.0/24"], next_hop=str(net.router.address()))
        await eventually(lambda: len(wire.sessions) > 1 or wire.session.of("route-refresh"))
        await speaking.established(one)
        await eventually(lambda: speaking.speaker.in_sync)
        before = len(speaking.events)
        wire.announce(["10.52.0.0/24"], next_hop=str(net.router.address()))
        await eventually(lambda: any(isinstance(event, PathsHeard) for event in speaking.events[before:]))
        await eventually(lambda: wire.session.of("announce"))


async def test_an_external_exabgp_that_is_not_there_is_a_problem_until_it_comes(lab: LabFactory) -> None:
    node = lab(nodes=1).node(1)
    async with Speaking(node, mode=SpeakerMode.EXTERNAL) as speaking:
        await speaking.apply()
        await eventually(lambda: speaking.speaker.problems)
        assert [problem.reason for problem in speaking.speaker.problems] == ["speakerDown"]
        start_external(node)
        await eventually(lambda: speaking.speaker.in_sync)

        assert not speaking.speaker.problems
