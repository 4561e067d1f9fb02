"""What we believe about ExaBGP's API and configuration, each belief against the real program: an upgrade will tell us.

The other half, what our launcher changes in it, is in test_exabgp_contract_launcher.py; sessions and restarts as the
agent sees them are in test_speaker*.py.
"""

from collections.abc import AsyncIterator
from dataclasses import replace
from ipaddress import IPv4Address, ip_address

import pytest

from bgp.commands import Announce, SendEndOfRib, Withdraw
from bgp.endings import REFUSED
from bgp.exaevents import CameUp, Refreshed, StateChanged, WentDown
from bgp.exatext import (
    NOTHING,
    RELOAD,
    SHOW_SESSIONS,
    SHOW_TABLE,
    ask_refresh,
    command_line,
    read_session_line,
    read_table_line,
    session,
)
from bgp.model import (
    Attributes,
    Community,
    EndOfRib,
    Family,
    LargeCommunity,
    Origin,
    PathsHeard,
    Peer,
    Route,
    RouteKey,
    SessionState,
)
from tests.lab.exabgp import ExaBgp
from tests.lab.frr import Frr
from tests.lab.machines import Host
from tests.lab.neighbor import Neighbor
from tests.lab.speaking import NODE_ASN, peer, route
from tests.lab.topology import Lab
from tests.lab.wait import eventually
from tests.lab.wirepeer import WirePeer
from tests.live.conftest import LabFactory

pytestmark = pytest.mark.live

TOR_ASN = 65001
V4, V6 = "172.18.0.11", "fd18::11"


class Bench:
    """One ExaBGP with one session to a wire peer."""

    def __init__(self, net: Lab, exabgp: ExaBgp, wire: WirePeer, one: Peer) -> None:
        self.net = net
        self.node: Host = net.node(1)
        self.exabgp = exabgp
        self.wire = wire
        self.one = one
        self.words = session(one)

    def tell(self, *commands: Announce | Withdraw | SendEndOfRib) -> None:
        self.exabgp.send(*(command_line(command, [self.words]) for command in commands))

    def announce(self, prefix: str, hop: str = V4, **attributes: object) -> Announce:
        return Announce((self.one.address,), route(prefix, hop, **attributes))

    def withdraw(self, prefix: str) -> Withdraw:
        return Withdraw((self.one.address,), route(prefix, V4).prefix)


@pytest.fixture
async def bench(lab: LabFactory) -> AsyncIterator[Bench]:
    net = lab(nodes=1)
    one = peer(net.node(1), net.router.address(), asn=TOR_ASN)
    async with WirePeer(net.router, asn=TOR_ASN) as wire, ExaBgp(net.node(1), [one]) as exabgp:
        await exabgp.up(one)
        yield Bench(net, exabgp, wire, one)


async def test_answers_come_in_the_order_sent_good_and_bad_mixed(bench: Bench) -> None:
    good = command_line(bench.announce("10.1.0.0/24"), [bench.words])
    bad = f"{bench.words} announce route 10.1.0.0/24 next-hop nonsense"
    nobody = good.replace("172.18.0.1 ", "172.18.0.99 ")
    bench.exabgp.send(*[good, bad, nobody, good] * 15)

    await eventually(lambda: len(bench.exabgp.answers) == 60)
    assert bench.exabgp.answers == [True, False, False, True] * 15


ATTRIBUTES = {
    "plain": Attributes(as_path=(NODE_ASN,)),
    "empty path": Attributes(),
    "incomplete, med 0": Attributes(origin=Origin.INCOMPLETE, as_path=(NODE_ASN,), med=0),
    "egp, large numbers": Attributes(origin=Origin.EGP, as_path=(4200000000, 1), med=4294967295, local_pref=4294967295),
    "sets": Attributes(as_path=(NODE_ASN, frozenset({1, 2}), 3, frozenset({4}))),
    "a set first": Attributes(as_path=(frozenset({7, 8}), 9)),
    "communities": Attributes(as_path=(NODE_ASN,), communities=frozenset({Community(65535, 0), Community(64512, 100)})),
    "one community": Attributes(as_path=(NODE_ASN,), communities=frozenset({Community(1, 2)})),
    "well known": Attributes(
        as_path=(NODE_ASN,),
        communities=frozenset(Community(65535, value) for value in (65281, 65282, 65283, 65284, 666)),
    ),
    "large communities": Attributes(
        as_path=(NODE_ASN,), large_communities=frozenset({LargeCommunity(4200000000, 0, 1), LargeCommunity(1, 2, 3)})
    ),
    "one large community": Attributes(as_path=(NODE_ASN,), large_communities=frozenset({LargeCommunity(1, 2, 3)})),
    "reflected": Attributes(
        local_pref=100,
        originator_id=IPv4Address("192.0.2.9"),
        cluster_list=(IPv4Address("192.0.2.1"), IPv4Address("192.0.2.2")),
    ),
    "one cluster": Attributes(cluster_list=(IPv4Address("192.0.2.1"),), originator_id=IPv4Address("1.2.3.4")),
}


async def test_the_table_reads_out_every_route_as_it_was_told(bench: Bench) -> None:
    told = {}
    for number, attributes in enumerate(ATTRIBUTES.values()):
        for prefix, hop in ((f"10.1.{number}.0/24", V4), (f"fd01:0:0:{number:x}::/64", V6)):
            one = Route(route(prefix, hop).prefix, ip_address(hop), attributes)
            told[RouteKey(bench.one.address, one.prefix)] = one
    bench.tell(*(Announce((bench.one.address,), one) for one in told.values()))
    await eventually(lambda: len(bench.exabgp.answers) == len(told))
    assert all(bench.exabgp.answers)

    entries = [read_table_line(line) for line in await bench.exabgp.link.ask(SHOW_TABLE)]
    assert {entry.key: entry.route for entry in entries} == told
    assert {entry.session for entry in entries} == {bench.words}


async def test_what_is_announced_is_heard_by_another_exabgp_as_it_was_told(lab: LabFactory) -> None:
    """The way there and back: our words, the wire, ExaBGP's JSON."""
    net = lab(nodes=2)
    node, other = net.node(1), net.node(2)
    there = peer(node, other.address(), asn=NODE_ASN)
    back = peer(other, node.address(), asn=NODE_ASN, passive=True)
    async with ExaBgp(other, [back]) as listener, ExaBgp(node, [there]) as speaker:
        await speaker.up(there)
        for number, attributes in enumerate(ATTRIBUTES.values()):
            one = Route(route(f"10.1.{number}.0/24", V4).prefix, ip_address(V4), attributes)
            speaker.send(command_line(Announce((there.address,), one), [session(there)]))

        def heard() -> dict[str, Attributes]:
            events = [event for event in listener.events if isinstance(event, PathsHeard)]
            return {
                str(prefix): path.attributes for event in events for path, found in event.announced for prefix in found
            }

        await eventually(lambda: len(heard()) == len(ATTRIBUTES))
        for number, (name, attributes) in enumerate(ATTRIBUTES.items()):
            got = heard()[f"10.1.{number}.0/24"]
            # An iBGP session has LOCAL_PREF always (RFC 4271 5.1.5): ExaBGP adds 100.
            assert (name, got.local_pref) == (name, attributes.local_pref or 100)
            assert (name, got.as_path) == (name, attributes.as_path)
            assert (name, got.communities) == (name, attributes.communities)
            assert (name, got.large_communities) == (name, attributes.large_communities)
            assert (name, got.med, got.origin) == (name, attributes.med, attributes.origin)
            assert (name, got.originator_id) == (name, attributes.originator_id)
            assert (name, got.cluster_list) == (name, attributes.cluster_list)


async def test_other_attributes_replace_a_route_with_one_update(bench: Bench) -> None:
    bench.tell(bench.announce("10.1.0.0/24"))
    await eventually(lambda: len(bench.wire.session.heard) == 1)
    bench.tell(bench.announce("10.1.0.0/24", med=5))
    await eventually(lambda: len(bench.wire.session.heard) == 2)

    assert [sent.what for sent in bench.wire.session.heard] == ["announce", "announce"]


@pytest.mark.parametrize(("prefix", "hop"), [("10.1.0.0/24", V4), ("fd01::/64", V6)])
async def test_a_route_is_withdrawn_without_naming_its_next_hop(bench: Bench, prefix: str, hop: str) -> None:
    bench.tell(bench.announce(prefix, hop))
    await eventually(lambda: bench.wire.session.of("announce"))
    bench.tell(bench.withdraw(prefix))
    await eventually(lambda: bench.wire.session.of("withdraw"))

    assert bench.wire.session.of("withdraw")[0].prefixes == (prefix,)
    assert await bench.exabgp.link.ask(SHOW_TABLE) == []


async def test_end_of_rib_is_ours_to_send(bench: Bench) -> None:
    bench.tell(bench.announce("10.1.0.0/24"))
    await eventually(lambda: bench.wire.session.of("announce"))
    assert not bench.wire.session.of("end-of-rib")
    bench.tell(*(SendEndOfRib(bench.one.address, family) for family in Family))
    await eventually(lambda: len(bench.wire.session.of("end-of-rib")) == 2)

    assert [sent.family for sent in bench.wire.session.of("end-of-rib")] == ["ipv4", "ipv6"]


async def test_a_refresh_asks_the_peer_and_ends_in_an_event(lab: LabFactory) -> None:
    """Enhanced route refresh (RFC 7313): only a peer that has it marks the end."""

    net = lab(nodes=1)
    neighbors = [Neighbor(str(net.node(1).address()), NODE_ASN)]
    Frr(net.router, asn=TOR_ASN, router_id="192.0.2.1", neighbors=neighbors, announce=["10.50.0.0/24"])
    one = peer(net.node(1), net.router.address(), asn=TOR_ASN)
    async with ExaBgp(net.node(1), [one]) as exabgp:
        await eventually(lambda: exabgp.of(EndOfRib))
        await exabgp.link.ask(ask_refresh(session(one), Family.IPV4))

        await eventually(lambda: exabgp.of(Refreshed) == [Refreshed(one.address, Family.IPV4)])


async def test_a_reload_leaves_other_sessions_alone_and_keeps_their_routes(bench: Bench) -> None:
    bench.tell(bench.announce("10.1.0.0/24"))
    await eventually(lambda: bench.wire.session.of("announce"))
    table = await bench.exabgp.link.ask(SHOW_TABLE)
    more = peer(bench.node, ip_address("172.18.0.77"), asn=TOR_ASN)
    bench.exabgp.configure([bench.one, more])
    await bench.exabgp.link.ask(RELOAD)
    bench.exabgp.send(command_line(bench.announce("10.2.0.0/24"), [session(more)]))
    await eventually(lambda: bench.exabgp.answers == [True, True])

    assert len(await bench.exabgp.link.ask(SHOW_TABLE)) == len(table) + 1
    assert len(bench.wire.sessions) == 1
    assert len(bench.wire.session.heard) == 1


READS_LATE = """
import time
from exabgp.reactor.loop import Reactor
reload = Reactor.reload
def _reload(self):
    time.sleep(0.5)
    return reload(self)
Reactor.reload = _reload
"""
"""As on a machine whose processor others have just then."""


@pytest.mark.parametrize("asked_more", [False, True])
async def test_done_to_a_reload_is_no_word_that_the_file_was_read_but_the_next_answer_is(
    lab: LabFactory, asked_more: bool
) -> None:
    net = lab(nodes=1)
    one = peer(net.node(1), ip_address("172.18.0.77"), asn=TOR_ASN)
    async with ExaBgp(net.node(1), [], before=READS_LATE) as exabgp:
        exabgp.configure([one])
        await exabgp.link.ask(RELOAD)
        if asked_more:
            await exabgp.link.ask(NOTHING)
        exabgp.configure([])

        found = map(read_session_line, await exabgp.link.ask(SHOW_SESSIONS))
        assert [line.peer for line in found if line is not None] == ([one.address] if asked_more else [])


async def test_a_changed_hold_time_restarts_that_session_and_sends_its_routes_again(bench: Bench) -> None:
    bench.tell(bench.announce("10.1.0.0/24"))
    await eventually(lambda: bench.wire.session.of("announce"))
    bench.exabgp.configure([replace(bench.one, hold_seconds=30)])
    await bench.exabgp.link.ask(RELOAD)
    await eventually(lambda: len(bench.wire.sessions) == 2 and bench.wire.session.of("announce"))

    assert bench.wire.session.of("announce")[0].prefixes == ("10.1.0.0/24",)


async def test_a_family_that_a_reload_takes_away_takes_its_routes_along_and_comes_back_without_them(
    bench: Bench,
) -> None:
    bench.tell(bench.announce("10.1.0.0/24"), bench.announce("fd00:1::/64", V6))
    await eventually(lambda: bench.exabgp.answers == [True, True])
    for families in ({Family.IPV6}, Family):
        bench.exabgp.configure([replace(bench.one, families=frozenset(families))])
        await bench.exabgp.link.ask(RELOAD)

        (left,) = await bench.exabgp.link.ask(SHOW_TABLE)
        assert "fd00:1::/64" in left


async def test_a_route_of_a_family_that_the_neighbor_does_not_have_is_answered_done_and_kept_nowhere(
    lab: LabFactory,
) -> None:
    net = lab(nodes=1)
    one = peer(net.node(1), net.router.address(), asn=TOR_ASN, families=[Family.IPV6])
    async with ExaBgp(net.node(1), [one]) as exabgp:
        exabgp.send(command_line(Announce((one.address,), route("10.1.0.0/24", V4)), [session(one)]))
        await eventually(lambda: exabgp.answers == [True])

        assert await exabgp.link.ask(SHOW_TABLE) == []


async def test_a_changed_as_makes_a_new_neighbor_without_routes(bench: Bench) -> None:
    bench.tell(bench.announce("10.1.0.0/24"))
    await eventually(lambda: bench.wire.session.of("announce"))
    bench.exabgp.configure([replace(bench.one, local_asn=64999)])
    await bench.exabgp.link.ask(RELOAD)
    await eventually(lambda: len(bench.wire.sessions) == 2)

    assert await bench.exabgp.link.ask(SHOW_TABLE) == []


async def test_it_listens_on_the_peers_local_addresses_only_and_only_while_they_are_configured(bench: Bench) -> None:
    def listening() -> set[str]:
        lines = bench.node.run(["ss", "-Hltn"]).stdout.splitlines()
        return {line.split()[3] for line in lines if line.split()[3].endswith(":179")}

    assert listening() == {"172.18.0.11:179"}
    over_v6 = peer(bench.node, ip_address("fd18::77"), asn=TOR_ASN)
    bench.exabgp.configure([bench.one, over_v6])
    await bench.exabgp.link.ask(RELOAD)
    await eventually(lambda: listening() == {"172.18.0.11:179", "[fd18::11]:179"})
    bench.exabgp.configure([])
    await bench.exabgp.link.ask(RELOAD)
    await eventually(lambda: listening() == set())


async def test_a_refused_dial_is_told_in_the_kernels_words_and_never_as_connected_or_up(lab: LabFactory) -> None:

    node = lab(nodes=1).node(1)
    one = peer(node, ip_address("172.18.0.1"), asn=TOR_ASN)
    async with ExaBgp(node, [one]) as exabgp:
        await eventually(lambda: exabgp.of(WentDown))

        assert not exabgp.of(CameUp)
        assert {event.reason for event in exabgp.of(WentDown)} == {REFUSED}
        assert SessionState.CONNECT not in {event.state for event in exabgp.of(StateChanged)}
