"""ExaBGP is killed, hangs, is replaced, alone or with the whole pod: what is lost on the way, measured.

Routers that help with graceful restart lose nothing, nor does the other node. Routers that do not help are the control:
the same end, the same probes, and packets are lost. A peer that writes down what it is sent judges bits and order.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Iterator, Sequence

import pytest

from tests.lab.minicluster import OUR_PROTOCOL
from tests.lab.mortal import BACK_SECONDS, GOES, HOLD_SECONDS, WIRE_ASN, Mortal
from tests.lab.pods import ping
from tests.lab.topology import Lab
from tests.lab.wait import eventually, wait_until
from tests.lab.wirepeer import Sent, Session, WirePeer

pytestmark = pytest.mark.live

SHORT_MS = 30_000.0
"""Far under the restart time, for machines that are busy; README has what was measured."""


@pytest.fixture(scope="module")
def scene() -> Iterator[Mortal]:
    with Lab(nodes=2, routers=3) as lab:
        built = Mortal(lab)
        yield built
        built.cluster.close()


ENDS: dict[str, Callable[[Mortal], None]] = {
    "exabgp is killed": Mortal.kill_exabgp,
    "exabgp hangs": Mortal.hang_exabgp,
    "speaker is replaced": Mortal.replace_speaker,
    "pod is killed": Mortal.kill_pod,
    "pod is replaced": Mortal.replace_pod,
}


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
def test_routers_that_help_and_the_other_node_lose_nothing(scene: Mortal, end: Callable[[Mortal], None]) -> None:
    with scene.watched() as losses:
        end(scene)

    assert losses.lost == {}, str(losses)
    assert losses.deleted == {}


def test_a_bridge_that_dies_ends_no_session_and_loses_nothing(scene: Mortal) -> None:
    with scene.watched(ends=False) as losses:
        scene.kill_bridge()

    assert losses.lost == {}, str(losses)
    assert losses.deleted == {}


def test_what_a_killed_pod_has_no_more_stays_in_the_other_nodes_kernel_until_it_has_told_all_it_has(
    scene: Mortal,
) -> None:
    with scene.watched() as losses:
        scene.agent.kill()
        scene.speaker.kill()
        wait_until(lambda: not scene.session_of_nodes()["is_up"])
        scene.serve_goes_on(())
        wait_until(lambda: scene.session_of_nodes()["stale_prefixes"] == len(scene.learned_there()))
        assert f"{GOES}/32" in scene.learned_there()
        scene.start_pod()
        machines = (scene.other, *scene.lab.routers[:2])
        wait_until(lambda: not any(f"{GOES}/32" in it.kernel_routes("ipv4") for it in machines), within=BACK_SECONDS)

    assert losses.lost == {}, str(losses)
    assert losses.deleted_prefixes() == {name: [GOES] for name in ("node-2", "router-1", "router-2")}
    scene.serve_goes_on([scene.node])
    scene.wait_well()


def test_a_killed_pod_whose_settings_were_changed_meanwhile_loses_nothing_either(scene: Mortal) -> None:
    """Sessions with the settings of before would end a second time, with routes that nobody has vouched for yet."""
    with scene.watched() as losses:
        scene.agent.kill()
        scene.speaker.kill()
        scene.routers_hold_for(60)
        scene.start_pod()

    with scene.watched() as changed:
        scene.routers_hold_for(HOLD_SECONDS)

    assert (losses.lost, changed.lost) == ({}, {}), f"{losses}; {changed}"
    assert (losses.deleted, changed.deleted) == ({}, {})


async def test_a_killed_pod_comes_back_with_r_and_f_bits_and_tells_everything_before_end_of_rib(scene: Mortal) -> None:
    async with WirePeer(scene.lab.routers[2], asn=WIRE_ASN, hold_seconds=HOLD_SECONDS) as wire:
        await eventually(lambda: told_all(wire.session), within=BACK_SECONDS)
        await asyncio.to_thread(scene.kill_pod)
        await eventually(lambda: len(wire.sessions) > 1 and told_all(wire.session), within=BACK_SECONDS)
        before, after = wire.sessions

    assert not before.of("notification", "withdraw")
    assert after.graceful_restart() == (True, {"ipv4": True, "ipv6": True})
    for family in ("ipv4", "ipv6"):
        (end,) = [at for at, sent in enumerate(after.heard) if (sent.what, sent.family) == ("end-of-rib", family)]
        assert prefixes(after.heard[:end], family) == scene.routes(family)


async def test_a_machine_that_has_lost_its_routes_says_so_until_it_has_them_again(scene: Mortal) -> None:
    async with WirePeer(scene.lab.routers[2], asn=WIRE_ASN, hold_seconds=HOLD_SECONDS) as wire:
        await eventually(lambda: told_all(wire.session), within=BACK_SECONDS)
        await asyncio.to_thread(scene.reboot)
        await eventually(lambda: len(wire.sessions) > 1 and told_all(wire.session), within=BACK_SECONDS)
        begun, sessions = wire.session.graceful_restart(), len(wire.sessions)
        wire.end_of_rib()
        await eventually(lambda: not scene.says_that_forwarding_is_lost(), within=BACK_SECONDS)
        await asyncio.to_thread(scene.wait_well)
        wire.session.writer.close()
        await eventually(lambda: len(wire.sessions) > sessions and told_all(wire.session), within=BACK_SECONDS)

    assert begun == (True, {"ipv4": False, "ipv6": False})
    assert wire.session.graceful_restart() == (False, {"ipv4": True, "ipv6": True})


def told_all(session: Session) -> bool:
    return {sent.family for sent in session.of("end-of-rib")} == {"ipv4", "ipv6"}


def prefixes(heard: Sequence[Sent], family: str) -> set[str]:
    return {prefix for sent in heard if (sent.what, sent.family) == ("announce", family) for prefix in sent.prefixes}


def test_a_child_of_the_agent_that_is_killed_or_hangs_comes_back_and_nothing_is_lost(scene: Mortal) -> None:
    with scene.as_child():
        with scene.watched() as killed:
            scene.kill_exabgp()
        with scene.watched() as hung:
            scene.hang_exabgp()

    assert (killed.lost, hung.lost) == ({}, {}), f"{killed}; {hung}"
    assert (killed.deleted, hung.deleted) == ({}, {})


def test_routers_that_keep_restarting_gracefully_themselves_help_as_well(scene: Mortal) -> None:
    with scene.routers(frr="bgp graceful-restart", bird="graceful restart on;"), scene.watched() as losses:
        scene.kill_pod()

    assert losses.lost == {}, str(losses)
    assert losses.deleted == {}


@pytest.fixture(scope="module")
def without_help(scene: Mortal) -> Iterator[Mortal]:
    with scene.routers(frr="bgp graceful-restart-disable", bird="graceful restart off;"):
        yield scene


@pytest.mark.parametrize("name", ["exabgp is killed", "pod is replaced"])
def test_routers_that_do_not_help_lose_packets_until_exabgp_is_back(without_help: Mortal, name: str) -> None:
    """The control of all above; between nodes nothing is lost all the same."""
    with without_help.watched() as losses:
        ENDS[name](without_help)

    assert losses.lost.keys() == {"by FRR to pod", "by FRR to service", "by BIRD to service"}
    assert max(probe.longest_gap_ms for probe in losses.probes.values()) < SHORT_MS, str(losses)
    assert losses.deleted_prefixes().keys() == {"router-1", "router-2"}


def test_control_pods_lose_packets_and_the_kernel_tells_when_a_route_goes(scene: Mortal) -> None:
    agent = scene.cluster.agent(scene.other).process
    with scene.watched(ends=False) as losses:
        os.kill(agent.pid, signal.SIGSTOP)  # or it would put them back at once
        scene.other.ip("route", "flush", "proto", OUR_PROTOCOL)
        scene.other.ip("-6", "route", "flush", "proto", OUR_PROTOCOL)
        lost = not ping(scene.there, scene.here.address("ipv6"))
        os.kill(agent.pid, signal.SIGCONT)

    assert lost
    assert losses.lost.keys() == {"pod to pod", "pod to pod, IPv6", "pod to service"}
    assert losses.deleted.keys() == {"node-2"}
