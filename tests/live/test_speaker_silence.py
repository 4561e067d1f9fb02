"""An ExaBGP that hangs, really stopped by SIGSTOP; and lines that were lost with a bridge that hung."""

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bgp.driver.chores import ENDED_UNHEARD
from bgp.driver.upkeep import SILENT
from bgp.model import SessionDown, SessionState, SessionUp, SpeakerLost
from bgp.speaker import SpeakerMode
from tests.lab.frr import Frr
from tests.lab.machines import Host
from tests.lab.neighbor import Neighbor
from tests.lab.speaking import NODE_ASN, Speaking, peer, route, start_external
from tests.lab.wait import eventually
from tests.lab.wirepeer import WirePeer
from tests.live.conftest import LabFactory

pytestmark = pytest.mark.live

TOR_ASN = 65001
HOLD_SECONDS = 90
"""Longer than the silence: neither side drops the session meanwhile."""
NOTICED_SECONDS = 90.0
"""20 s on a machine that is not busy."""


@pytest.fixture
def stop() -> Iterator[Callable[[int], None]]:
    """Stops processes, which do not stay so whatever becomes of the test."""
    stopped: list[int] = []

    def stop_one(pid: int) -> None:
        os.kill(pid, signal.SIGSTOP)
        stopped.append(pid)

    yield stop_one
    for pid in stopped:
        if Path(f"/proc/{pid}").exists():
            os.kill(pid, signal.SIGCONT)


def bridge_of(exabgp: int) -> int:
    (bridge,) = Path(f"/proc/{exabgp}/task/{exabgp}/children").read_text().split()
    return int(bridge)


def reasons(speaking: Speaking) -> list[str]:
    return [problem.reason for problem in speaking.speaker.problems]


async def test_a_child_that_hangs_is_said_killed_and_started_again(
    lab: LabFactory, stop: Callable[[int], None]
) -> None:
    net = lab(nodes=1)
    node = net.node(1)
    async with WirePeer(net.router, asn=TOR_ASN) as wire, Speaking(node) as speaking:
        one = speaking.add_peer(peer(node, net.router.address(), asn=TOR_ASN, hold_seconds=HOLD_SECONDS))
        speaking.add_route(one, route("10.1.0.0/24", node.address()))
        await speaking.tell()
        await eventually(lambda: len(wire.session.of("end-of-rib")) == 2)
        hanging = speaking.exabgp_pid()
        stop(hanging)
        await eventually(lambda: speaking.heard(SpeakerLost), within=NOTICED_SECONDS)

        state = speaking.speaker.states[one.address]
        assert state.state is SessionState.IDLE
        assert state.last_error is not None
        assert state.last_error.text == SILENT
        assert not speaking.speaker.in_sync
        assert reasons(speaking) == ["speakerSilent"]

        await eventually(lambda: len(wire.sessions) == 2 and wire.session.of("announce"))
        await speaking.established(one)
        await eventually(lambda: speaking.speaker.in_sync and not speaking.speaker.problems)
        assert speaking.exabgp_pid() != hanging
        assert speaking.speaker.restarts == 1


async def test_a_child_that_hangs_and_has_lost_its_bridge_is_killed_and_started_again(
    lab: LabFactory, stop: Callable[[int], None]
) -> None:
    """Nothing can be asked of it; a start that hangs looks the same."""
    node = lab(nodes=1).node(1)
    async with Speaking(node) as speaking:
        await speaking.tell()
        hanging = speaking.exabgp_pid()
        stop(hanging)
        os.kill(bridge_of(hanging), signal.SIGKILL)
        await eventually(lambda: "speakerSilent" in reasons(speaking), within=NOTICED_SECONDS)
        await eventually(lambda: speaking.speaker.in_sync and not speaking.speaker.problems)

        assert speaking.exabgp_pid() != hanging


async def test_a_bridge_that_hangs_and_outlives_its_exabgp_keeps_no_other_from_starting_and_ending(
    lab: LabFactory, stop: Callable[[int], None]
) -> None:
    """It has ExaBGP's log open, whose end nobody must wait for."""
    node = lab(nodes=1).node(1)
    async with Speaking(node) as speaking:
        await speaking.tell()
        killed = speaking.exabgp_pid()
        stop(bridge_of(killed))
        os.kill(killed, signal.SIGKILL)
        await eventually(lambda: speaking.speaker.restarts == 1 and speaking.speaker.in_sync)
        stop(bridge_of(speaking.exabgp_pid()))


async def test_one_beside_us_that_stands_still_with_who_runs_it_is_said_and_has_its_sessions_again_when_both_go_on(
    lab: LabFactory, stop: Callable[[int], None]
) -> None:
    """As a container that is paused."""
    net = lab(nodes=1)
    node = net.node(1)
    beside = start_external(node)
    async with WirePeer(net.router, asn=TOR_ASN) as wire, Speaking(node, mode=SpeakerMode.EXTERNAL) as speaking:
        one = speaking.add_peer(peer(node, net.router.address(), asn=TOR_ASN, hold_seconds=HOLD_SECONDS))
        speaking.add_route(one, route("10.1.0.0/24", node.address()))
        await speaking.tell()
        await eventually(lambda: len(wire.session.of("end-of-rib")) == 2)
        before = speaking.speaker.states[one.address]
        exabgp = speaking.exabgp_pid()
        stop(beside.pid)
        stop(exabgp)
        # What is told meanwhile waits, and changes nothing about being noticed.
        speaking.add_route(one, route("10.2.0.0/24", node.address()))
        await speaking.apply()
        await eventually(lambda: reasons(speaking) == ["speakerSilent"], within=NOTICED_SECONDS)

        silent = speaking.speaker.states[one.address]
        assert silent.state is SessionState.IDLE
        assert silent.last_error is not None
        assert silent.last_error.text == SILENT
        assert not speaking.speaker.in_sync
        assert [type(event) for event in speaking.events] == [SessionUp, SpeakerLost]

        for pid in (beside.pid, exabgp):
            os.kill(pid, signal.SIGCONT)
        await eventually(lambda: speaking.state(one) is SessionState.ESTABLISHED)
        await eventually(lambda: speaking.speaker.in_sync and not speaking.speaker.problems)
        await eventually(lambda: len(wire.session.of("route-refresh")) == 2)
        await eventually(lambda: len(wire.session.of("announce")) == 2)
        after = speaking.speaker.states[one.address]
        assert (after.since, after.flaps, after.last_error) == (before.since, 0, None)
        assert [type(event) for event in speaking.events] == [SessionUp, SpeakerLost, SessionUp]
        assert len(wire.sessions) == 1


async def test_a_session_that_ended_during_the_silence_is_a_flap_after_it(
    lab: LabFactory, stop: Callable[[int], None]
) -> None:
    net = lab(nodes=1)
    node = net.node(1)
    beside = start_external(node)
    async with WirePeer(net.router, asn=TOR_ASN) as wire, Speaking(node, mode=SpeakerMode.EXTERNAL) as speaking:
        one = speaking.add_peer(peer(node, net.router.address(), asn=TOR_ASN, hold_seconds=HOLD_SECONDS))
        await speaking.tell()
        await speaking.established(one)
        exabgp = speaking.exabgp_pid()
        stop(beside.pid)
        stop(exabgp)
        wire.notify(6, 4)
        await eventually(lambda: reasons(speaking) == ["speakerSilent"], within=NOTICED_SECONDS)
        for pid in (beside.pid, exabgp):
            os.kill(pid, signal.SIGCONT)
        await eventually(lambda: speaking.heard(SessionDown))
        await speaking.established(one)

        assert speaking.heard(SessionDown)[0].reason == "received 6/4 Administrative Reset"
        assert speaking.speaker.states[one.address].flaps == 1
        assert len(wire.sessions) == 2


async def test_an_exabgp_that_has_nothing_to_do_is_not_silent(lab: LabFactory) -> None:
    """Without peers nothing ever comes but answers to what is asked for a sign of life."""
    node = lab(nodes=1).node(1)
    async with Speaking(node) as speaking:
        await speaking.tell()
        link = speaking.speaker._upkeep.link
        heard = link.heard
        woken = speaking.woken
        await eventually(lambda: link.heard >= heard + 5, within=120)

        assert not speaking.speaker.problems
        assert not speaking.heard(SpeakerLost)
        assert speaking.woken <= woken + 1, "signs of life wake nobody; the agent has settled down at most"


async def test_a_session_whose_end_was_lost_with_the_bridge_is_not_shown_as_up(
    lab: LabFactory, stop: Callable[[int], None]
) -> None:
    """The router dials: no attempt of ours tells what has become of the session."""
    net = lab(nodes=1)
    node = net.node(1)
    router = Frr(net.router, asn=TOR_ASN, router_id="192.0.2.1", neighbors=[Neighbor(str(node.address()), NODE_ASN)])
    async with Speaking(node) as speaking:
        one = speaking.add_peer(peer(node, net.router.address(), asn=TOR_ASN, passive=True))
        await speaking.tell()
        await speaking.established(one)
        bridge = bridge_of(speaking.exabgp_pid())
        stop(bridge)
        router.configure([f"router bgp {TOR_ASN}", f"neighbor {node.address()} shutdown"])
        await eventually(lambda: not connections(node))
        assert speaking.state(one) is SessionState.ESTABLISHED
        os.kill(bridge, signal.SIGKILL)
        await eventually(lambda: speaking.heard(SessionDown))

        state = speaking.speaker.states[one.address]
        assert (state.up, state.flaps) == (None, 1)
        assert state.last_error is not None
        assert state.last_error.text == ENDED_UNHEARD
        router.configure([f"router bgp {TOR_ASN}", f"no neighbor {node.address()} shutdown"])
        await speaking.established(one, within=60)


async def test_a_session_that_came_up_unheard_is_begun_anew_to_be_known(
    lab: LabFactory, stop: Callable[[int], None]
) -> None:
    net = lab(nodes=1)
    node = net.node(1)
    async with Speaking(node, audit_seconds=2.0) as speaking:
        one = speaking.add_peer(peer(node, net.router.address(), asn=TOR_ASN))
        speaking.add_route(one, route("10.1.0.0/24", node.address()))
        await speaking.tell()
        bridge = bridge_of(speaking.exabgp_pid())
        stop(bridge)
        async with WirePeer(net.router, asn=TOR_ASN) as wire:
            await eventually(lambda: wire.session.of("announce"))
            assert speaking.state(one) is not SessionState.ESTABLISHED
            os.kill(bridge, signal.SIGKILL)
            await speaking.established(one, within=60)
            await eventually(lambda: len(wire.session.of("end-of-rib")) == 2)

            assert len(wire.sessions) == 2


def connections(node: Host) -> str:
    """Those that this side has not closed."""
    return node.run(["ss", "-Htn", "state", "established", "state", "close-wait", "sport", "=", ":179"]).stdout
