"""Settings of a session between two nodes change, on one side after the other: nothing that was heard is lost by it.

The judge is the table of what was heard (`bgp.rib`), fed with every event that either side has had, in order.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from ipaddress import ip_network
from typing import Any

import pytest

from agent.status.causes import cause
from bgp.model import Address, EndOfRib, Family, Password, PathsHeard, Prefix, SessionDown, SessionUp
from bgp.rib import Rib
from tests.lab.speaking import NODE_ASN, Meshed, Speaking, peer, route
from tests.lab.topology import Lab
from tests.lab.wait import eventually
from tests.lab.wirepeer import WirePeer
from tests.live.conftest import LabFactory

pytestmark = pytest.mark.live

FIRST, SECOND = ip_network("10.1.0.0/24"), ip_network("10.2.0.0/24")
ALONE: Mapping[str, Mapping[str, Any]] = {
    "ports": {"port": 1790, "listen_port": 1790},
    "password": {"password": Password("second")},
}
"""Settings that leave no session between a side that has changed and one that has not."""


@asynccontextmanager
async def in_sync(net: Lab) -> AsyncIterator[tuple[Speaking, Speaking]]:
    """Two nodes with a session, each of which has told the other a prefix, and that this was all."""
    async with Meshed(net.node(1), net.node(2), password=Password("first")) as (first, second):
        for speaking, prefix in ((first, FIRST), (second, SECOND)):
            (one,) = speaking.peers.values()
            told = route(str(prefix), speaking.node.address(), as_path=(), local_pref=100)
            speaking.add_route(one, told)
            await speaking.tell()
        await synced(first, second)
        yield first, second


async def synced(*speakings: Speaking, sessions: int = 1) -> None:
    """The last session has been told in full, and there were so many at least."""
    for speaking in speakings:
        await eventually(
            lambda speaking=speaking: (
                len(speaking.heard(SessionUp)) >= sessions
                and all(state.synced == frozenset(Family) for state in speaking.speaker.states.values())
            )
        )


async def change(speaking: Speaking, **more: Any) -> None:
    (one,) = speaking.peers.values()
    speaking.add_peer(replace(one, **more))
    await speaking.tell()


def replay(speaking: Speaking, *prefixes: Prefix) -> Rib:
    """What the side believes after what it has heard. These prefixes, which nobody has withdrawn, were never lost."""
    rib = Rib()
    for event in speaking.events:
        gone = [prefix for prefix in rib.apply(event, 0.0) if prefix not in rib.prefixes()]
        assert gone == [], f"gone with {event}"
    assert rib.prefixes() >= set(prefixes)
    return rib


def stale_at_an_end(speaking: Speaking, other: Address) -> bool:
    """Some session has ended before the other had told everything again."""
    rib = Rib()
    for event in speaking.events:
        if isinstance(event, SessionDown) and event.was_up and rib.stale_count(other):
            return True
        rib.apply(event, 0.0)
    return False


def nothing_was_lost(first: Speaking, second: Speaking) -> None:
    for speaking, prefix in ((first, SECOND), (second, FIRST)):
        (other,) = speaking.peers
        rib = replay(speaking, prefix)
        assert rib.stale_count(other) == 0
        assert not rib.is_away(other)


@pytest.mark.parametrize("dialer_first", [True, False], ids=["dialer first", "listener first"])
@pytest.mark.parametrize("setting", ALONE)
async def test_paths_stay_while_only_one_side_has_a_change_without_which_there_is_no_session(
    lab: LabFactory, setting: str, dialer_first: bool
) -> None:
    async with in_sync(lab(nodes=2)) as (first, second):
        early, late = (first, second) if dialer_first else (second, first)
        await change(early, **ALONE[setting])
        for speaking in (first, second):
            await eventually(lambda speaking=speaking: speaking.heard(SessionDown))
            (other,) = speaking.peers
            rib = replay(speaking, SECOND if speaking is first else FIRST)
            assert rib.stale_count(other) == 1
            assert rib.stale_until(other) == 120.0
        await change(late, **ALONE[setting])
        await synced(first, second, sessions=2)

        nothing_was_lost(first, second)


@pytest.mark.parametrize("setting", [*ALONE, "hold time"])
async def test_paths_stay_when_both_sides_change_at_once(lab: LabFactory, setting: str) -> None:
    changed = ALONE.get(setting, {"hold_seconds": 12})
    async with in_sync(lab(nodes=2)) as (first, second):
        await asyncio.gather(change(first, **changed), change(second, **changed))
        await synced(first, second, sessions=2)

        nothing_was_lost(first, second)


def shown(speaking: Speaking) -> str:
    """Why there is no session, as the CLI says it."""
    ((peer_of, state),) = zip(speaking.peers.values(), speaking.speaker.states.values(), strict=True)
    why = cause(peer_of, state)
    return "" if why is None else why.text


async def test_the_listener_of_two_with_different_passwords_waits_and_the_dialer_says_what_may_differ(
    lab: LabFactory,
) -> None:
    async with in_sync(lab(nodes=2)) as (first, second):
        await change(second, password=Password("second"))
        await eventually(lambda: "does not answer" in shown(first))

        waits = f"waits for {first.node.address()} to dial {second.node.address()} port 179"
        await eventually(lambda: shown(second) == waits)


async def test_a_session_that_has_become_passive_waits(lab: LabFactory) -> None:
    async with in_sync(lab(nodes=2)) as (first, second):
        await change(first, passive=True)
        await eventually(lambda: "ended without a NOTIFICATION" in shown(second))

        waits = f"waits for {second.node.address()} to dial {first.node.address()} port 179"
        await eventually(lambda: shown(first) == waits)


async def both_wait(dialer: Speaking, listener: Speaking) -> None:
    """The one that dials becomes passive, as the other is."""
    await change(dialer, passive=True)
    for speaking in (dialer, listener):
        await eventually(lambda speaking=speaking: speaking.heard(SessionDown))


async def test_a_session_that_is_passive_no_more_is_dialed_though_nobody_came_meanwhile(lab: LabFactory) -> None:
    async with in_sync(lab(nodes=2)) as (first, second):
        await both_wait(first, second)
        await change(first, passive=False)

        await synced(first, second, sessions=2)


async def test_a_listener_that_changes_while_it_waits_does_not_end_the_next_session_by_it(lab: LabFactory) -> None:
    async with in_sync(lab(nodes=2)) as (first, second):
        await both_wait(first, second)
        await change(second, hold_seconds=6)
        await change(first, passive=False)
        await synced(first, second, sessions=2)

        (state,) = second.speaker.states.values()
        assert state.up is not None
        assert state.up.hold_seconds == 6
        assert len(second.heard(SessionUp)) == 2


async def test_paths_stay_when_the_hold_time_changes_on_one_side_after_the_other(lab: LabFactory) -> None:
    async with in_sync(lab(nodes=2)) as (first, second):
        for sessions, speaking in ((2, second), (3, first)):
            await change(speaking, hold_seconds=12)
            await synced(first, second, sessions=sessions)

        nothing_was_lost(first, second)
        for speaking in (first, second):
            assert [state.up.hold_seconds for state in speaking.speaker.states.values() if state.up] == [12]


async def test_paths_stay_when_a_setting_changes_again_before_everything_is_told(lab: LabFactory) -> None:
    """The other node is played: it changes twice without a word in between, and then tells one of its two prefixes."""
    net = lab(nodes=1)
    node, hop = net.node(1), str(net.router.address())
    async with WirePeer(net.router, asn=NODE_ASN) as wire, Speaking(node) as speaking:
        speaking.add_peer(peer(node, net.router.address(), asn=NODE_ASN, mesh=True))
        await speaking.tell()
        await eventually(lambda: speaking.heard(SessionUp))
        wire.announce([str(FIRST), str(SECOND)], next_hop=hop)
        wire.end_of_rib()
        await eventually(lambda: len(speaking.heard(EndOfRib)) == 2)
        for sessions in (2, 3):
            wire.notify(6, 3)
            await eventually(lambda sessions=sessions: len(speaking.heard(SessionUp)) == sessions)
            assert stale_at_an_end(speaking, net.router.address()) is (sessions == 3)

        assert replay(speaking, FIRST, SECOND).stale_count(net.router.address()) == 2
        wire.announce([str(FIRST)], next_hop=hop)
        await eventually(lambda: len(speaking.heard(PathsHeard)) == 2)
        assert replay(speaking, FIRST, SECOND).stale_count(net.router.address()) == 1


@pytest.mark.parametrize(("subcode", "stays"), [(2, False), (3, True), (4, True), (5, False), (6, True), (9, False)])
async def test_a_node_that_ends_the_session_with_a_cease_is_believed_if_it_only_changes_it(
    lab: LabFactory, subcode: int, stays: bool
) -> None:
    net = lab(nodes=1)
    node = net.node(1)
    async with WirePeer(net.router, asn=NODE_ASN) as wire, Speaking(node) as speaking:
        one = speaking.add_peer(peer(node, net.router.address(), asn=NODE_ASN, mesh=True))
        await speaking.tell()
        await speaking.established(one)
        wire.notify(6, subcode)
        await eventually(lambda: speaking.heard(SessionDown))

        (end, *_) = speaking.heard(SessionDown)
        assert end.reason.startswith(f"received 6/{subcode}")
        assert end.returning is stays
