"""Who dials us and is no neighbor: refused, and nobody else's connection is forgotten over it (ExaBGP 5.0.15).

A test named "without it" shows the fault in ExaBGP as it is: when upstream mends it, the test fails and the replacement
can go.
"""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from bgp.model import Peer
from tests.lab.exabgp import ExaBgp
from tests.lab.machines import Host
from tests.lab.netns import Family
from tests.lab.speaking import peer
from tests.lab.topology import Lab
from tests.lab.wait import eventually
from tests.live.conftest import LabFactory

pytestmark = pytest.mark.live

TOR_ASN = 65001
MARKER = b"\xff" * 16
OPEN, NOTIFICATION = 1, 3


@contextmanager
def dialing(host: Host, family: Family, node: Host) -> Iterator[socket.socket]:
    with host.make(lambda: socket.create_connection((str(node.address(family)), 179), timeout=5)) as dialed:
        dialed.setblocking(False)
        yield dialed


def kind(dialed: socket.socket) -> int | None:
    """Of the first message that has come; None: there is none."""
    try:
        head = dialed.recv(19)
    except BlockingIOError:
        return None
    assert head.startswith(MARKER), head
    return head[18]


def passive(net: Lab) -> list[Peer]:
    return [peer(net.node(1), net.router.address(family), asn=TOR_ASN, passive=True) for family in net.families]


@contextmanager
def at_once(exabgp: ExaBgp) -> Iterator[Callable[[], None]]:
    """What happens in the block until it calls what it is given, ExaBGP sees in one turn."""

    def go_on() -> None:
        os.kill(exabgp.process.pid, signal.SIGCONT)

    os.kill(exabgp.process.pid, signal.SIGSTOP)
    try:
        yield go_on
    finally:
        go_on()


@pytest.mark.parametrize("stranger", ["ipv4", "ipv6"])
async def test_a_neighbor_that_dials_at_the_same_moment_as_a_stranger_is_heard(
    lab: LabFactory, stranger: Family
) -> None:
    net = lab(nodes=1)
    other: Family = "ipv6" if stranger == "ipv4" else "ipv4"
    async with ExaBgp(net.node(1), passive(net)) as exabgp:
        refused, taken = dialing(net.host("stranger"), stranger, net.node(1)), dialing(net.router, other, net.node(1))
        with at_once(exabgp) as go_on, refused as one, taken as two:
            go_on()

            assert await eventually(lambda: kind(two)) == OPEN
            assert await eventually(lambda: kind(one)) == NOTIFICATION


async def test_without_it_that_neighbor_is_forgotten_until_the_next_stranger(lab: LabFactory) -> None:
    net = lab(nodes=1)
    stranger = net.host("stranger")
    async with ExaBgp(net.node(1), passive(net), unchanged=True) as exabgp:
        refused, taken = dialing(stranger, "ipv4", net.node(1)), dialing(net.router, "ipv6", net.node(1))
        with at_once(exabgp) as go_on, refused as one, taken as two:
            go_on()

            assert await eventually(lambda: kind(one)) == NOTIFICATION
            await exabgp.link.ask("version")
            assert kind(two) is None
            with dialing(stranger, "ipv4", net.node(1)):
                assert await eventually(lambda: kind(two)) == OPEN
