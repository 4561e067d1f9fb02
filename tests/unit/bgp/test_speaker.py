"""The speaker and its link against an ExaBGP that is only its API: what is lost on the way, and what comes of it."""

import asyncio
import shutil
import stat
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from functools import partial
from ipaddress import IPv4Address, ip_address, ip_network
from itertools import pairwise
from pathlib import Path

import pytest

from bgp.driver.chores import ENDED_UNHEARD
from bgp.driver.link import LINE_MAX, CommandRefusedError, Link, LinkLostError
from bgp.driver.process import CONFIGURATION, SOCKET
from bgp.model import (
    Attributes,
    BgpEvent,
    Family,
    Held,
    PathsHeard,
    PeerRemoved,
    Route,
    RouteKey,
    SessionDown,
    SessionUp,
    SpeakerLost,
    SpeakerPlan,
)
from bgp.speaker import KEYS_PER_TURN, Speaker, SpeakerMode
from tests.lab.fakeexabgp import FakeExaBgp
from tests.lab.wait import eventually
from tests.unit.bgp.tor import TOR

UPDATE = (
    '{ "exabgp": "5.0.0", "time": 1.5, "type": "update", "neighbor": { "address": { "local": "192.0.2.9", '
    '"peer": "192.0.2.1" }, "direction": "receive", "message": { "update": { "attribute": { "origin": "igp" }, '
    '"announce": { "ipv4 unicast": { "192.0.2.1": [ "10.50.0.0/24" ] } } } } } }'
)


WALK_SECONDS = 60
REFLECTED = Attributes(local_pref=100, originator_id=IPv4Address("192.0.2.8"), cluster_list=(IPv4Address("192.0.2.9"),))


def a_route(number: int, med: int = 0) -> Route:
    return Route(ip_network(f"10.1.{number}.0/24"), ip_address("192.0.2.9"), Attributes(as_path=(64512,), med=med))


class Rig:
    def __init__(self, run_dir: Path) -> None:
        self.configuration = run_dir / CONFIGURATION
        self.events: list[BgpEvent] = []
        self.exabgp = FakeExaBgp(run_dir)
        self.routes: dict[RouteKey, Route] = {}
        self.peers = {TOR.address: TOR}
        self._run_dir = run_dir
        self.speaker = self.new_speaker()

    def new_speaker(self) -> Speaker:
        return Speaker(
            run_dir=self._run_dir,
            mode=SpeakerMode.EXTERNAL,
            put=self.events.append,
            wake=lambda: None,
            clock=time.monotonic,
            retry_seconds=0.05,
        )

    async def tell(self, *routes: Route) -> None:
        for route in routes:
            self.routes[RouteKey(TOR.address, route.prefix)] = route
        plan = SpeakerPlan(self.peers, self.routes)
        await self.speaker.apply(plan, peers_changed=True, dirty=None, hold_back=lambda _key: False)

    async def in_sync(self) -> None:
        await eventually(lambda: self.speaker.in_sync)
        assert not self.exabgp.faults

    def told(self) -> set[str]:
        return set(self.exabgp.routes(str(TOR.address)))

    def wanted(self) -> set[str]:
        return {str(key.prefix) for key in self.routes}


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    rig = Rig(tmp_path)
    await rig.speaker.start()
    yield rig
    await rig.speaker.stop()
    await rig.exabgp.disconnect()


async def test_answers_lost_with_the_bridge_are_read_back_and_nothing_is_told_twice(rig: Rig) -> None:
    await rig.exabgp.connect()
    await rig.tell()
    await rig.in_sync()
    rig.exabgp.mute_after = 10
    await rig.tell(*map(a_route, range(100)))
    await eventually(lambda: len(rig.told()) >= 60)
    assert not rig.speaker.in_sync
    assert rig.speaker.may_hold(a_route(5).prefix)
    await rig.exabgp.disconnect()
    told = rig.told()
    rig.exabgp.mute_after = None
    rig.exabgp.heard.clear()
    await rig.exabgp.connect()
    await rig.in_sync()

    announced = [
        line.split(" announce route ")[1].split()[0] for line in rig.exabgp.heard if " announce route " in line
    ]
    assert rig.told() == rig.wanted()
    assert set(announced) == rig.wanted() - told
    assert not any(isinstance(event, SpeakerLost) for event in rig.events)


async def test_what_another_exabgp_says_of_peers_that_are_new_since_the_last_one_is_not_lost(rig: Rig) -> None:
    await rig.exabgp.connect()
    await rig.tell()
    await rig.in_sync()
    await rig.exabgp.disconnect()
    rig.exabgp.new_process()
    new = replace(TOR, address=ip_address("192.0.2.77"), name="BGPPeer/new")
    rig.peers = {TOR.address: TOR, new.address: new}
    await rig.tell()
    await eventually(lambda: "192.0.2.77" in rig.configuration.read_text())
    rig.exabgp.comes_up("192.0.2.77")
    await rig.exabgp.connect()
    await rig.in_sync()

    (up,) = [event for event in rig.events if isinstance(event, SessionUp)]
    assert (up.peer, up.peer_asn, up.families) == (new.address, 65001, frozenset(Family))


@pytest.mark.parametrize("then", [FakeExaBgp.new_bridge, FakeExaBgp.new_process])
async def test_a_bridge_that_goes_away_while_a_reload_is_taken_in_leaves_nothing_half_done(
    rig: Rig, then: Callable[[FakeExaBgp], None]
) -> None:
    prefixes = [ip_network(f"10.{high}.{low}.0/24") for high in range(10) for low in range(250)]
    await rig.exabgp.connect()
    await rig.tell(*(Route(prefix, ip_address("192.0.2.9")) for prefix in prefixes))
    await rig.in_sync()
    new = replace(TOR, address=ip_address("192.0.2.77"), name="BGPPeer/new")
    rig.peers = {new.address: new}
    rig.routes = {RouteKey(new.address, key.prefix): route for key, route in rig.routes.items()}
    rig.exabgp.after_reload = partial(then, rig.exabgp)
    await rig.tell()
    await eventually(lambda: rig.exabgp.after_reload is None)
    await rig.in_sync()

    assert set(rig.exabgp.routes(str(new.address))) == rig.wanted()


async def test_a_session_that_another_exabgp_had_before_it_was_asked_anything_gets_its_end_of_rib(rig: Rig) -> None:
    await rig.exabgp.connect()
    await rig.tell(a_route(1))
    await rig.in_sync()
    await rig.exabgp.disconnect()
    rig.exabgp.new_process()
    rig.exabgp.comes_up(str(TOR.address))
    await rig.exabgp.connect()

    await eventually(lambda: len(rig.exabgp.markers) == 2)
    await rig.in_sync()


async def test_end_of_rib_waits_for_what_is_held_back_where_it_must_not_come_before(rig: Rig) -> None:
    await rig.exabgp.connect()
    await rig.tell()
    await rig.in_sync()
    late, other = (RouteKey(TOR.address, a_route(number).prefix) for number in (1, 2))
    rig.routes.update({late: a_route(1), other: a_route(2)})
    plan = SpeakerPlan(rig.peers, rig.routes)
    await rig.speaker.apply(plan, peers_changed=False, dirty=[late], hold_back=late.__eq__, end_of_rib_waits=True)
    rig.exabgp.comes_up(str(TOR.address))
    await eventually(lambda: rig.speaker.states[TOR.address].up is not None)
    await rig.speaker.apply(plan, peers_changed=False, dirty=[other], hold_back=late.__eq__, end_of_rib_waits=True)
    await eventually(lambda: rig.told() == {str(other.prefix)})
    assert rig.exabgp.markers == []

    await rig.speaker.apply(plan, peers_changed=False, dirty=(), hold_back=lambda _key: False)

    await eventually(lambda: len(rig.exabgp.markers) == 2)
    assert rig.told() == rig.wanted()


async def test_end_of_rib_waits_for_routes_that_are_yet_to_come(rig: Rig) -> None:
    await rig.exabgp.connect()
    await rig.tell(a_route(1))
    await rig.in_sync()
    plan = SpeakerPlan(rig.peers, rig.routes)
    await rig.speaker.apply(
        plan, peers_changed=False, dirty=(), hold_back=lambda _key: False, not_all_told={TOR.address}
    )
    rig.exabgp.comes_up(str(TOR.address))
    await eventually(lambda: rig.speaker.states[TOR.address].up is not None)
    late = RouteKey(TOR.address, a_route(2).prefix)
    rig.routes[late] = a_route(2)
    await rig.speaker.apply(
        plan, peers_changed=False, dirty=[late], hold_back=lambda _key: False, not_all_told={TOR.address}
    )
    await eventually(lambda: rig.told() == rig.wanted())
    assert rig.exabgp.markers == []

    await rig.speaker.apply(plan, peers_changed=False, dirty=(), hold_back=lambda _key: False)

    await eventually(lambda: len(rig.exabgp.markers) == 2)


async def test_what_was_reflected_before_the_agents_start_stays_told_until_it_is_swept(rig: Rig) -> None:
    own, passed_on = a_route(1), Route(ip_network("10.2.0.0/24"), ip_address("192.0.2.8"), REFLECTED)
    await rig.exabgp.connect()
    await rig.tell(own, a_route(2), passed_on)
    await rig.in_sync()
    await rig.speaker.stop()
    await rig.exabgp.disconnect()

    rig.routes.clear()
    rig.speaker = rig.new_speaker()
    await rig.speaker.start()
    await rig.exabgp.connect()
    await rig.tell(own)
    await rig.in_sync()
    assert rig.told() == {str(own.prefix), str(passed_on.prefix)}
    rig.speaker.sweep(rig.routes)
    await rig.in_sync()
    assert rig.told() == {str(own.prefix)}


@pytest.fixture
async def inheriting(rig: Rig) -> Rig:
    """An agent that has just started, and ExaBGP, not connected yet, which holds much that was reflected."""
    prefixes = [ip_network(f"10.2.{high}.{low}/32") for high in range(3) for low in range(250)]
    await rig.exabgp.connect()
    await rig.tell(*(Route(prefix, ip_address("192.0.2.8"), REFLECTED) for prefix in prefixes))
    await rig.in_sync()
    await rig.speaker.stop()
    await rig.exabgp.disconnect()
    rig.speaker = rig.new_speaker()
    await rig.speaker.start()
    plan = SpeakerPlan(rig.peers, {})
    await rig.speaker.apply(plan, peers_changed=True, dirty=None, hold_back=lambda _key: False)
    return rig


def kept(rig: Rig) -> int:
    return len(rig.speaker.outbox.wanted(TOR.address))


async def test_what_was_reflected_before_the_agents_start_is_gone_through_in_turns(inheriting: Rig) -> None:
    steps = [0]
    await inheriting.exabgp.connect()
    async with asyncio.timeout(WALK_SECONDS):
        while steps[-1] < len(inheriting.routes):
            await asyncio.sleep(0)
            steps.append(kept(inheriting))

    assert max(after - before for before, after in pairwise(steps)) <= KEYS_PER_TURN


async def test_what_the_plan_no_longer_tells_while_it_is_gone_through_is_not_kept(inheriting: Rig) -> None:
    last = list(inheriting.routes)[-1]
    await inheriting.exabgp.connect()
    async with asyncio.timeout(WALK_SECONDS):
        while not kept(inheriting):
            await asyncio.sleep(0)
    del inheriting.routes[last]
    plan = SpeakerPlan(inheriting.peers, {})
    await inheriting.speaker.apply(plan, peers_changed=True, dirty=[last], hold_back=lambda _key: False)
    assert 0 < kept(inheriting) < len(inheriting.routes), "the walk goes on"
    await inheriting.in_sync()

    assert inheriting.told() == inheriting.wanted()


async def test_an_agent_whose_run_directory_is_emptied_is_found_by_the_next_bridge_and_exabgp_finds_its_peers(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    await rig.exabgp.connect()
    await rig.tell(a_route(1))
    await rig.in_sync()
    there, socket = rig.configuration.read_text(), rig.configuration.with_name(SOCKET)
    rig.events.clear()
    shutil.rmtree(rig.configuration.parent)
    await eventually(lambda: rig.configuration.exists() and socket.exists())
    await rig.in_sync()
    await rig.tell(a_route(2))
    await rig.in_sync()

    assert rig.told() == rig.wanted()  # over the connection that there is
    assert rig.events == []
    assert rig.configuration.read_text() == there
    assert stat.S_IMODE(socket.stat().st_mode) == 0o600
    assert len([line for line in caplog.messages if "the bridge's socket was no longer" in line]) == 1
    await rig.exabgp.disconnect()
    await rig.exabgp.connect()
    await rig.tell(a_route(3))
    await rig.in_sync()
    assert rig.told() == rig.wanted()


async def test_another_exabgp_is_told_everything_anew(rig: Rig) -> None:
    await rig.exabgp.connect()
    await rig.tell(*map(a_route, range(10)))
    await rig.in_sync()
    await rig.exabgp.disconnect()
    rig.exabgp.new_process()
    await rig.exabgp.connect()
    await eventually(lambda: rig.told() == rig.wanted())
    await rig.in_sync()

    assert rig.speaker.restarts == 1
    assert [type(event) for event in rig.events] == [SpeakerLost]


async def test_a_route_that_is_refused_fails_alone_and_is_shown(rig: Rig) -> None:
    rig.exabgp.refusing.add("10.1.1.0/24")
    await rig.exabgp.connect()
    await rig.tell(*map(a_route, range(3)))
    await eventually(lambda: rig.speaker.failing)
    await eventually(lambda: rig.told() == {"10.1.0.0/24", "10.1.2.0/24"})

    assert [key.prefix for key in rig.speaker.failing] == [ip_network("10.1.1.0/24")]
    assert not rig.speaker.in_sync
    rig.exabgp.refusing.clear()
    await rig.in_sync()
    assert rig.told() == rig.wanted()


async def test_after_lines_were_lost_the_session_is_told_again_and_its_peer_asked_to_repeat_itself(rig: Rig) -> None:
    await rig.exabgp.connect()
    await rig.tell()
    await rig.in_sync()
    rig.exabgp.comes_up(str(TOR.address))
    rig.exabgp.say(UPDATE)
    await eventually(lambda: len(rig.events) == 2)
    await eventually(lambda: len(rig.exabgp.markers) == 2)
    await rig.exabgp.disconnect()
    await rig.exabgp.connect(dropped=3)
    await eventually(lambda: sorted(rig.exabgp.refreshed) == ["192.0.2.1 ipv4", "192.0.2.1 ipv6"])

    assert [type(event) for event in rig.events] == [SessionUp, PathsHeard, SessionUp]
    assert rig.speaker.dropped == 3


async def test_peers_of_both_versions_of_ip_are_asked_to_repeat_themselves(rig: Rig) -> None:
    other = replace(TOR, address=ip_address("fd00::1"), local_address=ip_address("fd00::9"))
    rig.peers[other.address] = other
    await rig.exabgp.connect()
    await rig.tell()
    await rig.in_sync()
    for peer in rig.peers:
        rig.exabgp.comes_up(str(peer))
    await eventually(lambda: len(rig.exabgp.markers) == 4)
    await rig.exabgp.disconnect()
    await rig.exabgp.connect(dropped=1)

    wanted = ["192.0.2.1 ipv4", "192.0.2.1 ipv6", "fd00::1 ipv4", "fd00::1 ipv6"]
    await eventually(lambda: sorted(rig.exabgp.refreshed) == wanted)


async def test_a_bridge_that_comes_back_with_nothing_lost_changes_nothing(rig: Rig) -> None:
    await rig.exabgp.connect()
    await rig.tell(a_route(1))
    await rig.in_sync()
    rig.exabgp.comes_up(str(TOR.address))
    await eventually(lambda: len(rig.exabgp.markers) == 2)
    await rig.exabgp.disconnect()
    rig.exabgp.heard.clear()
    await rig.exabgp.connect()
    await rig.in_sync()

    assert [type(event) for event in rig.events] == [SessionUp]
    assert rig.exabgp.heard == ["show adj-rib out extensive", "reload"]


async def test_a_session_that_is_up_as_soon_as_its_peer_is_configured_is_heard_of(rig: Rig) -> None:
    rig.peers = {}
    await rig.exabgp.connect()
    await rig.tell()
    await rig.in_sync()
    rig.exabgp.eager = str(TOR.address)
    rig.peers = {TOR.address: TOR}
    await rig.tell(a_route(1))
    await rig.in_sync()

    assert [type(event) for event in rig.events] == [SessionUp]
    assert rig.speaker.states[TOR.address].up is not None
    await eventually(lambda: sorted(rig.exabgp.markers) == ["192.0.2.1 ipv4", "192.0.2.1 ipv6"])


@pytest.mark.parametrize(
    ("agreed", "reason", "names"),
    [
        (["ipv4/unicast", "ipv6/unicast"], None, ""),
        (["ipv4/unicast"], "familyNotNegotiated", "ipv6"),
        (["l2vpn/evpn"], "noCommonFamily", "ipv4, ipv6"),
    ],
)
@pytest.mark.parametrize("mesh", [False, True])
async def test_a_session_that_lacks_a_family_is_a_problem_until_it_ends(
    rig: Rig, agreed: list[str], reason: str | None, names: str, *, mesh: bool
) -> None:
    rig.peers = {TOR.address: replace(TOR, mesh=mesh, name="node/b" if mesh else TOR.name)}
    await rig.exabgp.connect()
    await rig.tell()
    await rig.in_sync()
    rig.exabgp.comes_up(str(TOR.address), agreed)
    await eventually(lambda: rig.events)

    found = {(problem.reason, problem.subject): problem.message for problem in rig.speaker.problems}
    assert set(found) == ({(reason, rig.peers[TOR.address].name)} if reason else set())
    assert all(names in message for message in found.values())
    rig.exabgp.goes_down(str(TOR.address))
    await eventually(lambda: not rig.speaker.problems)


async def test_what_is_wanted_since_the_session_came_up_is_not_missed_of_the_peer(rig: Rig) -> None:
    rig.peers = {TOR.address: replace(TOR, families=frozenset({Family.IPV6}))}
    await rig.exabgp.connect()
    await rig.tell()
    await rig.in_sync()
    rig.exabgp.comes_up(str(TOR.address), ["ipv6/unicast"], offered=["ipv6/unicast"])
    await eventually(lambda: rig.events)
    rig.peers = {TOR.address: replace(TOR, extended_next_hop=True)}
    await rig.tell()

    assert not rig.speaker.problems


async def test_the_last_words_of_a_peer_that_is_removed_are_no_news(rig: Rig) -> None:
    await rig.exabgp.connect()
    await rig.tell()
    await rig.in_sync()
    rig.exabgp.comes_up(str(TOR.address))
    await eventually(lambda: rig.events)
    rig.exabgp.last_words = str(TOR.address)
    rig.peers = {}
    await rig.tell()
    await rig.in_sync()

    assert [type(event) for event in rig.events] == [SessionUp, PeerRemoved]
    assert TOR.address not in rig.speaker.states


async def test_nothing_is_told_before_there_is_a_plan(rig: Rig) -> None:
    await rig.exabgp.connect()
    rig.exabgp.comes_up(str(TOR.address))
    await eventually(lambda: rig.events)

    assert not rig.exabgp.heard
    assert not rig.speaker.in_sync


class Ear:
    """A link whose every call is written down."""

    def __init__(self, run_dir: Path) -> None:
        self.said: list[object] = []
        self.link = Link(
            run_dir / "speaker.sock",
            on_hello=lambda hello: self.said.append(hello.instance),
            on_event=self.said.append,
            on_answer=self.said.append,
            on_pause=lambda: None,
            on_lost=lambda: self.said.append("lost"),
        )


@pytest.fixture
async def ear(tmp_path: Path) -> AsyncIterator[Ear]:
    ear = Ear(tmp_path)
    await ear.link.start()
    yield ear
    await ear.link.stop()


HELLO = '{"instance": "a", "bridge": "b", "dropped": 0, "pending": %d, "peers": {}}\n'


async def bridge(ear: Ear, pending: int = 0) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_unix_connection(ear.link._named.path)
    writer.write((HELLO % pending).encode())
    await eventually(lambda: ear.link.connected)
    return reader, writer


async def test_answers_to_an_agent_before_us_are_not_ours(ear: Ear) -> None:
    _, writer = await bridge(ear, pending=2)
    ear.link.send(["one", "two"])
    writer.write(b"error\nerror\ndone\nerror\n")
    await eventually(lambda: ear.said == ["a", True, False])
    writer.close()


async def test_an_ask_gets_the_lines_before_its_answer_and_events_go_their_own_way(ear: Ear) -> None:
    _, writer = await bridge(ear)
    asked = asyncio.create_task(ear.link.ask("show"))
    await eventually(lambda: ear.link._expected)
    with pytest.raises(RuntimeError, match="unanswered"):
        await ear.link.ask("another")
    writer.write(b"first\n" + UPDATE.encode() + b"\nsecond\ndone\n")

    assert await asked == ["first", "second"]
    assert isinstance(ear.said[1], PathsHeard)
    refused = asyncio.create_task(ear.link.ask("show"))
    writer.write(b"error\n")
    with pytest.raises(CommandRefusedError):
        await refused
    writer.close()


async def test_whoever_waits_for_an_answer_learns_that_the_bridge_is_gone(ear: Ear) -> None:
    _, writer = await bridge(ear)
    asked = asyncio.create_task(ear.link.ask("show"))
    await eventually(lambda: ear.link._expected)
    writer.close()
    with pytest.raises(LinkLostError):
        await asked

    assert ear.said == ["a", "lost"]
    with pytest.raises(LinkLostError):
        ear.link.send(["one"])


async def test_malformed_lines_are_counted_and_the_next_is_read(ear: Ear) -> None:
    _, writer = await bridge(ear)
    writer.write(b'{ "type": 1 }\n{\nnobody asked\n' + UPDATE.encode() + b"\n")
    await eventually(lambda: len(ear.said) == 2)

    assert ear.link.malformed == 3
    writer.close()


async def test_a_line_without_end_is_given_up(ear: Ear) -> None:
    reader, writer = await bridge(ear)
    for _ in range(LINE_MAX // 65536 + 2):
        writer.write(b"x" * 65536)
        await asyncio.sleep(0)
    await eventually(lambda: ear.said == ["a", "lost"])

    assert ear.link.malformed == 1
    writer.close()
    del reader


async def test_a_new_bridge_takes_the_place_of_one_that_hangs(ear: Ear) -> None:
    _, old = await bridge(ear)
    _, new = await asyncio.open_unix_connection(ear.link._named.path)
    new.write((HELLO % 0).encode())
    await eventually(lambda: ear.said == ["a", "lost", "a"])
    old.close()
    new.close()


async def test_the_socket_is_ours_alone(ear: Ear) -> None:
    assert ear.link._named.path.stat().st_mode & 0o777 == 0o600


async def test_a_table_that_is_refused_stops_nothing_and_is_asked_for_again(rig: Rig) -> None:
    rig.exabgp.hides_table = True
    await rig.exabgp.connect()
    await rig.tell(a_route(1))
    await eventually(lambda: len([line for line in rig.exabgp.heard if line.startswith("show adj-rib out")]) > 1)
    assert not rig.speaker.in_sync
    rig.exabgp.hides_table = False

    await eventually(lambda: rig.speaker.in_sync)
    assert rig.told() == rig.wanted()
    assert not rig.speaker.failed.done()


async def test_what_a_peer_said_is_void_when_it_is_removed_or_in_another_as_and_not_yet_when_we_are(rig: Rig) -> None:
    await rig.exabgp.connect()
    await rig.tell()
    await rig.in_sync()
    rig.exabgp.comes_up(str(TOR.address))
    await eventually(lambda: rig.events)

    rig.peers = {TOR.address: replace(TOR, hold_seconds=30)}
    await rig.tell()
    await rig.in_sync()
    assert not [event for event in rig.events if isinstance(event, PeerRemoved)]
    for changed in (replace(TOR, local_asn=64999), replace(TOR, local_asn=64999, peer_asn=65002)):
        rig.peers = {TOR.address: changed}
        await rig.tell()
        await rig.in_sync()
    rig.peers = {}
    await rig.tell()
    await rig.in_sync()

    removed = [event for event in rig.events if isinstance(event, PeerRemoved)]
    assert removed == [PeerRemoved(TOR.address, replaced=True), PeerRemoved(TOR.address), PeerRemoved(TOR.address)]


async def test_a_session_that_ended_while_there_was_no_bridge_is_down_with_the_next_one(rig: Rig) -> None:
    await rig.exabgp.connect()
    await rig.tell()
    await rig.in_sync()
    rig.exabgp.comes_up(str(TOR.address))
    await eventually(lambda: len(rig.exabgp.markers) == 2)
    await rig.exabgp.disconnect()
    rig.exabgp.new_bridge()
    rig.exabgp.up.clear()
    await rig.exabgp.connect()
    await eventually(lambda: rig.speaker.states[TOR.address].up is None)

    assert rig.events[-1] == SessionDown(TOR.address, ENDED_UNHEARD, without_notification=True)
    assert rig.speaker.states[TOR.address].flaps == 1


async def test_a_session_that_is_still_up_with_the_next_bridge_is_asked_to_repeat_itself_and_no_more(rig: Rig) -> None:
    await rig.exabgp.connect()
    await rig.tell()
    await rig.in_sync()
    rig.exabgp.comes_up(str(TOR.address))
    await eventually(lambda: len(rig.exabgp.markers) == 2)
    await rig.exabgp.disconnect()
    rig.exabgp.new_bridge()
    await rig.exabgp.connect()
    await eventually(lambda: len(rig.exabgp.refreshed) == 2)

    assert "show neighbor summary" in rig.exabgp.heard
    assert [type(event) for event in rig.events] == [SessionUp, SessionUp]
    assert not rig.exabgp.faults


async def test_a_peer_that_is_held_is_told_to_forget_what_it_was_told_and_is_told_again_when_released(rig: Rig) -> None:
    await rig.exabgp.connect()
    await rig.tell(*map(a_route, range(3)))
    await rig.in_sync()
    rig.exabgp.heard.clear()
    rig.peers = {TOR.address: replace(TOR, held=Held("shutdown"))}
    await rig.speaker.apply(
        SpeakerPlan(rig.peers, rig.routes), peers_changed=True, dirty=(), hold_back=lambda _key: False
    )
    await rig.in_sync()

    verbs = [line.split(" withdraw ")[-1].split()[0] for line in rig.exabgp.heard]
    assert verbs.index("reload") > max(number for number, verb in enumerate(verbs) if verb == "route")
    assert verbs.count("route") == 3
    assert rig.exabgp.table == {}
    rig.peers = {TOR.address: TOR}
    await rig.speaker.apply(
        SpeakerPlan(rig.peers, rig.routes), peers_changed=True, dirty=(), hold_back=lambda _key: False
    )
    await rig.in_sync()
    assert rig.told() == rig.wanted()


NOTIFIED = (
    '{ "type": "notification", "time": 2, "neighbor": { "address": { "local": "192.0.2.9", "peer": "192.0.2.1" }, '
    '"direction": "receive", "notification": { "code": 6, "subcode": 4, "data": "", "message": "" } } }'
)
DOWN = (
    '{ "type": "state", "time": 2, "neighbor": { "address": { "local": "192.0.2.9", "peer": "192.0.2.1" }, '
    '"state": "down", "reason": "x" } }'
)


@pytest.mark.parametrize("again", [True, False], ids=["and-came-up-again", "and-is-down"])
async def test_a_session_that_ended_while_the_agent_was_cut_off_is_told_with_its_reason(rig: Rig, again: bool) -> None:
    await rig.exabgp.connect()
    await rig.tell()
    await rig.in_sync()
    rig.exabgp.comes_up(str(TOR.address))
    await eventually(lambda: len(rig.exabgp.markers) == 2)
    await rig.exabgp.disconnect()
    ended_at = time.monotonic()
    rig.exabgp.past["192.0.2.1"] = {"flaps": 1, "ended": [NOTIFIED, DOWN], "ended_at": ended_at}
    first = rig.exabgp.up.pop("192.0.2.1")
    if again:
        rig.exabgp.up["192.0.2.1"] = [*first[:2], first[2].replace('"time": "', '"time": "9')]
        rig.exabgp.past["192.0.2.1"]["up_at"] = ended_at + 1.0
    await rig.exabgp.connect()
    await rig.in_sync()

    state = rig.speaker.states[TOR.address]
    down = SessionDown(TOR.address, "received 6/4 Administrative Reset")
    assert [type(event) for event in rig.events] == [SessionUp, SessionDown, SessionUp][: 3 if again else 2]
    assert rig.events[1] == down
    assert (state.flaps, state.since) == (1, ended_at + again)


async def test_routes_are_taken_over_in_turns_however_many_there_are(rig: Rig) -> None:
    """A reflector spells out a million keys: no more of them at a time than are taken."""
    others = {peer.address: peer for peer in (replace(TOR, address=ip_address("10.9.0.1") + n) for n in range(3))}
    rig.peers |= others
    await rig.exabgp.connect()
    await rig.tell()
    await rig.in_sync()
    routes = [a_route(n) for n in range(250)]
    plan = {RouteKey(peer, route.prefix): route for route in routes for peer in rig.peers}
    spelled_out, turns = 0, [0]

    def keys() -> Iterator[RouteKey]:
        nonlocal spelled_out
        for key in plan:
            spelled_out += 1
            yield key

    task = asyncio.create_task(
        rig.speaker.apply(SpeakerPlan(rig.peers, plan), peers_changed=False, dirty=keys(), hold_back=lambda _key: False)
    )
    while not task.done():
        turns.append(spelled_out)
        await asyncio.sleep(0)
    await rig.in_sync()

    assert spelled_out == len(plan)
    assert 0 < max(after - before for before, after in pairwise(turns)) <= KEYS_PER_TURN
    assert rig.told() == {str(route.prefix) for route in routes}
