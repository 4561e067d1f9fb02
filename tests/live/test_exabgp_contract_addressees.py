"""ExaBGP 5.0.15 with our replacements finds a thousand sessions at once, and exactly those that a command names."""

from __future__ import annotations

import importlib
from ipaddress import IPv4Address, ip_address
from typing import Any

import pytest

from bgp.commands import Announce, Withdraw
from bgp.exatext import SHOW_TABLE, all_but, command_line, read_table_line, session, whose_table
from bgp.inside.addressees import BETWEEN, REST_OF_NAME, look_up, split_at_commas
from bgp.model import Address, Family, Peer
from tests.lab.exabgp import ExaBgp
from tests.lab.speaking import NODE_ASN, peer, route
from tests.lab.topology import Lab
from tests.lab.wait import eventually
from tests.live.conftest import LabFactory

pytestmark = pytest.mark.live

SESSIONS = [
    f"neighbor 10.250.{n >> 8}.{n & 255} local-ip 10.250.0.1 local-as 64512 peer-as 64512 router-id 10.250.0.1"
    for n in range(1_000)
]
NAMES = [words + REST_OF_NAME for words in SESSIONS]
ROUTE = "announce route 10.1.0.0/24 next-hop 10.250.0.1"


@pytest.fixture
def limit() -> Any:
    return importlib.import_module("exabgp.reactor.api.command.limit")


@pytest.mark.parametrize("count", [1, 2, 20])
def test_a_command_for_several_sessions_is_read_as_exabgp_reads_it(limit: Any, count: int) -> None:
    line = f"{BETWEEN.join(SESSIONS[:count])} {ROUTE}"
    theirs, rest = limit.extract_neighbors(line)

    ours, our_rest = split_at_commas(limit.extract_neighbors)(line)

    assert our_rest == rest == ROUTE
    assert [" ".join(words) for words in ours] == [" ".join(words) for words in theirs] == SESSIONS[:count]


def test_those_named_are_found_as_exabgp_finds_them_and_no_others(limit: Any) -> None:
    named = [words.split(" local-ip")[0:1] for words in SESSIONS[5:8]] + [[SESSIONS[1]], [SESSIONS[10]]]
    theirs = limit.match_neighbors(NAMES, named)

    ours = look_up(limit.match_neighbors)(NAMES, named)

    assert set(ours) == set(theirs) == {NAMES[n] for n in (1, 5, 6, 7, 10)}


def test_a_session_that_is_not_there_is_not_found(limit: Any) -> None:
    stranger = SESSIONS[1].replace("peer-as 64512", "peer-as 64513")

    assert not look_up(limit.match_neighbors)(NAMES, [[stranger]])


def test_all_but_a_few_are_those_that_are_not_named_to_the_last_digit(limit: Any) -> None:
    left_out = [IPv4Address("10.250.0.1"), IPv4Address("10.250.3.99")]
    described, rest = split_at_commas(limit.extract_neighbors)(f"{all_but(left_out)} {ROUTE}")

    found = look_up(limit.match_neighbors)(NAMES, described)

    assert rest == ROUTE
    assert set(NAMES) - set(found) == {f"{SESSIONS[n]}{REST_OF_NAME}" for n in (1, 3 * 256 + 99)}


def absent(net: Lab, *addresses: str) -> dict[Address, Peer]:
    """Peers that are not there: what they would be told is in the table all the same."""
    return {it: peer(net.node(1), it, asn=NODE_ASN, families=(Family.IPV4,)) for it in map(ip_address, addresses)}


async def table(exabgp: ExaBgp, command: str = SHOW_TABLE) -> set[str]:
    return {str(read_table_line(line).key.peer) for line in await exabgp.link.ask(command)}


async def test_a_command_for_all_but_some_is_carried_out_for_the_others(lab: LabFactory) -> None:
    net = lab(nodes=1)
    peers = absent(net, "172.18.0.5", "172.18.0.50", "172.18.0.60")
    told = route("10.1.0.0/24", "172.18.0.11")
    async with ExaBgp(net.node(1), peers.values()) as exabgp:
        exabgp.send(command_line(Announce((), told), [all_but([ip_address("172.18.0.5")])]))
        await eventually(lambda: exabgp.answers == [True])
        assert await table(exabgp) == {"172.18.0.50", "172.18.0.60"}

        exabgp.send(command_line(Withdraw((), told.prefix), [all_but([ip_address("172.18.0.60")])]))
        await eventually(lambda: exabgp.answers == [True, True])
        assert await table(exabgp) == {"172.18.0.60"}


async def test_the_table_of_one_peer_is_read_with_those_whose_address_begins_alike(lab: LabFactory) -> None:
    net = lab(nodes=1)
    peers = absent(net, "172.18.0.5", "172.18.0.50", "172.18.0.60")
    words = {address: session(one) for address, one in peers.items()}
    async with ExaBgp(net.node(1), peers.values()) as exabgp:
        exabgp.send(command_line(Announce((), route("10.1.0.0/24", "172.18.0.11")), [all_but([])]))
        await eventually(lambda: exabgp.answers == [True])

        for address in peers:
            asked = whose_table(address, words)
            assert await table(exabgp, asked.command) == set(map(str, asked.peers))

    assert set(map(str, whose_table(ip_address("172.18.0.5"), words).peers)) == {"172.18.0.5", "172.18.0.50"}
