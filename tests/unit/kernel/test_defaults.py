"""Default routes as the kernel tells them: shapes that others write, and bytes that nobody should ever send."""

from __future__ import annotations

import struct
from contextlib import suppress
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.kernel.defaults import GONE_SECONDS, DefaultRoute, Hop, Lingering, decode_default, gateways_of
from agent.kernel.netlink import AF_INET, AF_INET6, RTMSG, MalformedError
from agent.model import Gateway
from bgp.model import Family

OURS = 179
MAIN = 254
GATEWAY = struct.pack("=HH", 8, 5) + ip_address("192.0.2.7").packed
DEVICE = struct.pack("=HHI", 8, 4, 3)


def body(family: int = AF_INET, *, length: int = 0, table: int = MAIN, protocol: int = 4, kind: int = 1) -> bytes:
    return RTMSG.pack(family, length, 0, 0, table, protocol, 0, kind, 0)


def decode(data: bytes) -> DefaultRoute | None:
    return decode_default(data, table=MAIN, own_protocol=OURS)


def test_a_route_without_destination_is_a_default_route():
    assert decode(body() + GATEWAY + DEVICE) == DefaultRoute(
        Family.IPV4, 0, (Hop(ip_address("192.0.2.7"), 3, dead=False),), of_object=False
    )


@pytest.mark.parametrize(
    "other",
    [body(length=8), body(table=100), body(protocol=OURS), body(kind=7), body(28)],
    ids=["a prefix", "another table", "our own", "unreachable", "another family"],
)
def test_what_is_no_default_route_of_others_is_no_answer(other: bytes):
    assert decode(other + GATEWAY + DEVICE) is None


def test_a_default_route_without_router_leads_to_nobody_and_one_of_a_lower_metric_hides_the_others():
    router, link = Hop(ip_address("192.0.2.7"), 2, dead=False), Hop(None, 3, dead=False)
    wired, dialed = (
        DefaultRoute(Family.IPV4, metric, (hop,), of_object=False) for metric, hop in ((100, router), (50, link))
    )

    assert gateways_of([wired]) == (Gateway(Family.IPV4, ip_address("192.0.2.7"), 2),)
    assert gateways_of([wired, dialed]) == ()


FIRST, SECOND = (Gateway(Family.IPV4, ip_address(f"192.0.2.{last}"), last) for last in (7, 8))


def test_a_next_hop_that_went_counts_for_a_while_and_a_new_one_at_once():
    lingering = Lingering()
    assert lingering.see([FIRST], 10.0) == (FIRST,)
    assert lingering.see([SECOND], 20.0) == (FIRST, SECOND)
    assert lingering.next_gone_at == 20.0 + GONE_SECONDS

    assert lingering.see([SECOND], lingering.next_gone_at) == (SECOND,)
    assert lingering.next_gone_at is None


def test_a_next_hop_that_comes_back_in_time_starts_anew_when_it_goes_again():
    lingering = Lingering()
    lingering.see([FIRST], 10.0)
    lingering.see([], 11.0)
    assert lingering.see([FIRST], 12.0) == (FIRST,)

    assert lingering.see([], 13.0) == (FIRST,)
    assert lingering.next_gone_at == 13.0 + GONE_SECONDS


def test_readings_in_between_do_not_prolong_what_is_gone():
    lingering = Lingering()
    lingering.see([FIRST], 10.0)
    lingering.see([], 11.0)
    lingering.see([], 12.0)

    assert lingering.see([], 11.0 + GONE_SECONDS) == ()


def test_with_its_interface_a_next_hop_is_gone_at_once_gone_already_or_not():
    lingering = Lingering()
    lingering.see([FIRST, SECOND], 10.0)
    lingering.see([SECOND], 10.1)

    assert lingering.lose_link(FIRST.interface)
    assert lingering.lose_link(SECOND.interface)
    assert not lingering.lose_link(99)
    assert lingering.see([], 10.2) == ()


@given(st.sampled_from((AF_INET, AF_INET6)), st.binary(max_size=64))
def test_nonsense_is_malformed_and_nothing_else(family: int, tail: bytes):
    with suppress(MalformedError):
        decode(body(family) + tail)


@given(st.binary(max_size=80))
def test_any_bytes_are_malformed_or_an_answer(data: bytes):
    with suppress(MalformedError):
        decode(data)
