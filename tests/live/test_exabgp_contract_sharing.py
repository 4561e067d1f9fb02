"""ExaBGP 5.0.15 with our replacements sends many peers what it would send each of them alone.

That a crowd of real sessions is sent the right routes is in test_agent_crowd.py.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from bgp.inside.sharing import in_order, pack_once, share_route

pytestmark = pytest.mark.live


@dataclass
class Update:
    """Of ExaBGP's Update that which the replacement reads."""

    nlris: list[object]
    attributes: Any = field(default_factory=SimpleNamespace)


def agreed(**other: object) -> SimpleNamespace:
    common = {"local_as": 64512, "peer_as": 64512, "asn4": True, "aigp": False, "msg_size": 4096}
    addpath = SimpleNamespace(send=lambda _afi, _safi: False)
    return SimpleNamespace(**{**common, "families": [(1, 1)], "nexthop": [], "addpath": addpath, **other})


class Packing:
    def __init__(self) -> None:
        self.packed = 0

    def messages(self, update: Update, negotiated: Any, include_withdraw: bool = True) -> Iterator[bytes]:
        self.packed += 1
        yield repr((len(update.nlris), negotiated.asn4, include_withdraw)).encode()


def test_an_update_is_packed_once_for_peers_that_agreed_to_the_same_and_anew_for_others() -> None:
    packing, prefix, attributes = Packing(), object(), SimpleNamespace()
    messages = pack_once(packing.messages)
    said = [
        list(messages(Update([prefix], attributes), agreed(asn4=asn4), include))
        for asn4, include in [(True, True), (True, True), (False, True), (False, False), (True, True)]
    ]

    assert said == [
        [repr((1, asn4, include)).encode()]
        for asn4, include in [(True, True), (True, True), (False, True), (False, False), (True, True)]
    ]
    assert packing.packed == 4


def test_what_another_prefix_is_sent_is_not_what_was_kept() -> None:
    packing, attributes = Packing(), SimpleNamespace()
    messages = pack_once(packing.messages)
    for nlris in ([object()], [object()], [object(), object()]):
        assert list(messages(Update(nlris, attributes), agreed())) == [repr((len(nlris), True, True)).encode()]

    assert packing.packed == 3


class Socket:
    """Takes a few bytes at a time, as a full one does."""

    def __init__(self) -> None:
        self.sent = b""

    def writer(self, data: bytes) -> Iterator[bool]:
        while data:
            self.sent, data = self.sent + data[:3], data[3:]
            yield not data


def test_a_message_that_begins_while_another_is_half_sent_waits_for_its_end() -> None:
    socket = Socket()
    write = in_order(Socket.writer)
    update, keepalive = write(socket, b"UPDATE.UPDATE."), write(socket, b"KEEPALIVE")
    assert next(update) is False

    while not next(keepalive):
        pass

    assert socket.sent == b"UPDATE.UPDATE.KEEPALIVE"
    assert next(update) is True


def test_two_peers_have_one_route_and_one_with_next_hop_self_has_its_own() -> None:
    """`remove_self`, and what of a route says that its next hop is to be filled in, are ExaBGP's own."""
    neighbors = importlib.import_module("exabgp.bgp.neighbor")
    next_hops = importlib.import_module("exabgp.bgp.message.update.attribute.nexthop")
    remove_self = share_route(neighbors.Neighbor.remove_self)
    neighbor = SimpleNamespace(ip_self=lambda _afi: next_hops.NextHop("192.0.2.1"))
    given = SimpleNamespace(nlri=SimpleNamespace(nexthop=next_hops.NextHop("192.0.2.9"), afi=1), attributes={})
    own = SimpleNamespace(nlri=SimpleNamespace(nexthop=next_hops.NextHopSelf(1), afi=1), attributes={})

    assert remove_self(neighbor, given) is given
    filled = remove_self(neighbor, own)
    assert filled is not own
    assert str(filled.nlri.nexthop) == "192.0.2.1"
