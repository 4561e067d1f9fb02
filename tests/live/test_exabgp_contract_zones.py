"""ExaBGP 5.0.15 with our replacements tells neighbors on two links apart that have one link-local address."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from ipaddress import IPv6Address, ip_address

import pytest

from bgp.commands import Announce
from bgp.exaconfig import refusal
from bgp.exaevents import WentDown
from bgp.exatext import RELOAD, SHOW_SESSIONS, SHOW_TABLE, command_line, read_session_line, read_table_line, session
from bgp.model import Address, Family, Peer
from tests.lab.exabgp import ExaBgp
from tests.lab.speaking import NODE_ASN, peer, route
from tests.lab.topology import Lab
from tests.lab.wait import eventually

pytestmark = pytest.mark.live

FIRST, SECOND = "fe80::1%eth0", "fe80::1%eth1.7"
OURS = IPv6Address("fe80::2")
"""On both links, as VLANs of one card have it."""


@pytest.fixture(scope="module")
def net() -> Iterator[Lab]:
    with Lab(nodes=1) as lab:
        node = lab.node(1)
        node.configure(ip=["link add eth1.7 type bridge", "link set eth1.7 up"])
        node.configure(ip=[f"addr add {OURS}/64 dev {device} nodad" for device in ("eth0", "eth1.7")])
        yield lab


@pytest.fixture
def peers(net: Lab) -> tuple[Peer, Peer]:
    """Nobody is there: what they would be told is in the table all the same."""
    return tuple(_absent(net, ip_address(text)) for text in (FIRST, SECOND))  # type: ignore[return-value]  # two


def _absent(net: Lab, address: Address) -> Peer:
    usual = peer(net.node(1), ip_address("fd00::1"), asn=NODE_ASN, families=(Family.IPV6,))
    zone = str(address).partition("%")[2]
    found = replace(usual, address=address, local_address=OURS, source_interface=zone, connect_retry_seconds=1)
    assert refusal(found) is None
    return found


async def test_each_tells_of_itself_with_its_link(net: Lab, peers: tuple[Peer, Peer]) -> None:
    async with ExaBgp(net.node(1), peers) as exabgp:
        await eventually(lambda: {str(event.peer) for event in exabgp.of(WentDown)} == {FIRST, SECOND})


async def test_a_command_for_one_is_not_for_the_other(net: Lab, peers: tuple[Peer, Peer]) -> None:
    async with ExaBgp(net.node(1), peers) as exabgp:
        exabgp.send(command_line(Announce((), route("fd01::/64", "fd00::11")), [session(peers[1])]))
        await eventually(lambda: exabgp.answers == [True])

        entries = [read_table_line(line) for line in await exabgp.link.ask(SHOW_TABLE)]

    assert [(str(entry.key.peer), entry.session) for entry in entries] == [(SECOND, session(peers[1]))]


async def test_both_are_among_its_sessions_and_one_of_them_goes_alone(net: Lab, peers: tuple[Peer, Peer]) -> None:
    async with ExaBgp(net.node(1), peers) as exabgp:
        assert await _sessions(exabgp) == {FIRST, SECOND}

        exabgp.configure(peers[:1])
        await exabgp.link.ask(RELOAD)

        assert await _sessions(exabgp) == {FIRST}


async def _sessions(exabgp: ExaBgp) -> set[str]:
    found = map(read_session_line, await exabgp.link.ask(SHOW_SESSIONS))
    return {str(line.peer) for line in found if line is not None}
