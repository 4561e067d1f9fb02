"""The codec: what it writes it reads back, its batches, and bytes that nobody should ever send."""

from __future__ import annotations

import struct
from contextlib import suppress
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.kernel.heard import NLM_F_ACK_TLVS, NLM_F_CAPPED, decode_error, decode_route
from agent.kernel.netlink import (
    BATCH_BYTES,
    BATCH_MESSAGES,
    DISCARD_TABLE,
    FORWARDED,
    NLM_F_ACK,
    NLM_F_CREATE,
    NLM_F_EXCL,
    NLM_F_REPLACE,
    NLMSG_DONE,
    NLMSG_ERROR,
    REMEMBERED_MAX,
    RTM_DELROUTE,
    RTM_NEWROUTE,
    RTMSG,
    U32,
    Encoder,
    MalformedError,
    Message,
    Operation,
    Step,
    attribute,
    dump_request,
    messages,
)
from agent.model import FibRoute, NextHop, RouteType, in_order

unhurried = settings(
    deadline=None, max_examples=settings().max_examples * 3 // 5, suppress_health_check=[HealthCheck.too_slow]
)
METRICS = st.integers(0, 2**32 - 1)
INTERFACES = st.integers(0, 2**31 - 1)
TABLES = st.integers(1, 2**32 - 1)
G1 = NextHop(IPv4Address("192.0.2.1"))


def networks(kind, bits):
    return st.tuples(st.integers(0, 2**bits - 1), st.integers(0, bits)).map(lambda pair: kind(pair, strict=False))


@st.composite
def routes(draw):
    prefixes, address = draw(
        st.sampled_from([(networks(IPv4Network, 32), IPv4Address), (networks(IPv6Network, 128), IPv6Address)])
    )
    prefix = draw(prefixes)
    kind = draw(st.sampled_from([kind for kind in RouteType if kind not in {RouteType.INCOMPLETE, RouteType.ODD}]))
    gateways = st.integers(0, 2**prefix.max_prefixlen - 1).map(address)
    if prefix.version == 4:  # RFC 8950
        gateways |= st.integers(0, 2**128 - 1).map(IPv6Address)
    hops = st.builds(NextHop, gateways, INTERFACES)
    count = {"min_size": 1, "max_size": 20} if kind is RouteType.UNICAST else {"max_size": 0}
    metric = draw(METRICS.filter(lambda metric: prefix.version == 4 or metric != 1024))
    return FibRoute(prefix, in_order(draw(st.lists(hops, **count))), kind, metric)


def encoded(*steps, table=254, first_seq=1):
    return [data for data, _ in Encoder(protocol=179, table=table).batches(steps, first_seq)]


@unhurried
@given(routes(), TABLES, st.sampled_from([Operation.CREATE, Operation.REPLACE]))
def test_a_route_written_is_the_route_read(route, table, operation):
    (message,) = messages(b"".join(encoded(Step(operation, route), table=table)))

    heard = decode_route(message.body)

    assert (heard.route, heard.key, heard.oddity) == (route, route.key, "")
    apart = route.type in FORWARDED
    assert (heard.protocol, heard.table) == (179, DISCARD_TABLE if apart else table)


EXTRAS = {
    "mtu 1300": attribute(8, attribute(2, U32.pack(1300))),
    "mtu lock 1300": attribute(8, attribute(1, U32.pack(1 << 2)) + attribute(2, U32.pack(1300))),
    "advmss 500 congctl reno": attribute(8, attribute(8, U32.pack(500)) + attribute(16, b"reno\0")),
    "src 192.0.2.9": attribute(7, bytes([192, 0, 2, 9])),
    "src fd00::9": attribute(7, IPv6Address("fd00::9").packed),
    "realm 5": attribute(11, U32.pack(5)),
    "realm 3/5": attribute(11, U32.pack(3 << 16 | 5)),
    "pref high": attribute(20, b"\1"),
    "pref low": attribute(20, b"\3"),
}


@unhurried
@given(routes(), st.sampled_from([*EXTRAS]), st.booleans(), st.sampled_from(["", " scope site"]))
def test_what_somebody_else_set_is_said_of_a_route_that_is_ours_all_the_same(route, extra, onlink, scope):
    ((_, _, _, body),) = messages(encoded(Step(Operation.CREATE, route))[0])
    header = bytearray(body[: RTMSG.size])
    header[6], header[8] = 200 if scope else 0, 4 if onlink else 0

    heard = decode_route(bytes(header) + body[RTMSG.size :] + EXTRAS[extra])

    assert heard.route == replace(route, extra=heard.route.extra)
    assert set(heard.route.extra.split()) == {*extra.split(), *scope.split(), *(["onlink"] if onlink else [])}


@unhurried
@given(routes(), st.integers(0, 2**32 - 1))
def test_what_the_kernel_says_of_every_route_is_nothing_that_somebody_set(route, flags):
    ((_, _, _, body),) = messages(encoded(Step(Operation.CREATE, route))[0])
    of_state = U32.pack(flags & (1 | 8 | 16 | 32 | 64 | 0x4000 | 0x8000 | 0x2000_0000))

    heard = decode_route(body[:8] + of_state + body[12:] + attribute(12, bytes(32)) + attribute(20, b"\0"))

    assert heard.route == route


@unhurried
@given(routes())
def test_a_delete_names_prefix_metric_and_protocol(route):
    (message,) = messages(b"".join(encoded(Step(Operation.DELETE, route))))

    heard = decode_route(message.body)

    assert message.type == RTM_DELROUTE
    apart = route.type in FORWARDED
    assert (heard.key, heard.protocol, heard.table) == (route.key, 179, DISCARD_TABLE if apart else 254)


@unhurried
@given(st.lists(st.tuples(st.sampled_from(Operation), routes()).map(lambda pair: Step(*pair)), max_size=12))
def test_many_steps_are_the_same_messages_as_one_by_one(steps):
    together = [message for data in encoded(*steps, first_seq=1000) for message in messages(data)]
    alone = [message for step in steps for data in encoded(step) for message in messages(data)]

    assert [message.body for message in together] == [message.body for message in alone]
    assert [message.seq for message in together] == list(range(1000, 1000 + len(steps)))


def test_a_creation_never_replaces_and_a_replacement_never_creates():
    route = FibRoute(IPv4Network("10.0.0.0/24"), (G1,))
    ((create, replace),) = (
        list(messages(data)) for data in encoded(Step(Operation.CREATE, route), Step(Operation.REPLACE, route))
    )

    assert (create.type, replace.type) == (RTM_NEWROUTE, RTM_NEWROUTE)
    assert create.flags & (NLM_F_CREATE | NLM_F_EXCL | NLM_F_REPLACE) == NLM_F_CREATE | NLM_F_EXCL
    assert replace.flags & (NLM_F_CREATE | NLM_F_EXCL | NLM_F_REPLACE) == NLM_F_REPLACE


def test_only_the_last_message_of_a_batch_asks_for_an_answer():
    steps = [
        Step(Operation.CREATE, FibRoute(IPv4Network((number << 8, 24)), (G1,)))
        for number in range(2 * BATCH_MESSAGES + 1)
    ]
    batches = [list(messages(data)) for data in encoded(*steps)]

    assert [len(batch) for batch in batches] == [BATCH_MESSAGES, BATCH_MESSAGES, 1]
    for batch in batches:
        assert [bool(message.flags & NLM_F_ACK) for message in batch] == [False] * (len(batch) - 1) + [True]


def test_a_batch_of_wide_multipath_routes_ends_before_it_is_too_long():
    hops = tuple(NextHop(IPv6Address(number)) for number in range(200))
    steps = [Step(Operation.CREATE, FibRoute(IPv6Network((number << 64, 64)), hops)) for number in range(100)]
    batches = encoded(*steps)

    assert len(batches) > 1
    assert all(len(data) <= BATCH_BYTES for data in batches)
    assert sum(len(list(messages(data))) for data in batches) == 100


def test_more_sets_of_next_hops_than_are_remembered_are_written_right():
    steps = [
        Step(Operation.CREATE, FibRoute(IPv4Network("10.0.0.0/24"), (NextHop(IPv4Address(number)),)))
        for number in range(REMEMBERED_MAX + 100)
    ]
    gateways = [
        decode_route(message.body).route.next_hops[0].gateway for data in encoded(*steps) for message in messages(data)
    ]

    assert gateways == [step.route.next_hops[0].gateway for step in steps]


@pytest.mark.parametrize(
    "route",
    [
        FibRoute(IPv4Network("10.0.0.0/24")),
        FibRoute(IPv4Network("10.0.0.0/24"), (G1,), RouteType.BLACKHOLE),
        FibRoute(IPv6Network("fd00::/64"), (NextHop(IPv6Address("fd00::1")), G1)),
    ],
    ids=["unicast without next hop", "blackhole with next hop", "IPv4 gateway of an IPv6 route"],
)
def test_a_route_that_cannot_be_is_refused(route):
    with pytest.raises(ValueError, match=str(route.prefix)):
        encoded(Step(Operation.CREATE, route))


@pytest.mark.parametrize(
    ("via", "oddity"),
    [
        (struct.pack("=H", 2) + bytes(4), "a gateway of address family 2"),
        (struct.pack("=H", 28) + bytes(4), "a gateway of address family 28"),
    ],
)
def test_a_gateway_of_a_family_that_is_never_written_is_said_and_not_guessed(via, oddity):
    body = struct.pack("=8BI", 2, 0, 0, 0, 254, 179, 0, 1, 0) + struct.pack("=HH", 4 + len(via), 18) + via

    heard = decode_route(body + bytes(-len(via) % 4))

    assert (heard.route, heard.oddity) == (None, oddity)


@pytest.mark.parametrize("via", [b"", b"\0", struct.pack("=H", 10) + bytes(15)])
def test_a_gateway_that_ends_too_early_is_malformed(via):
    body = struct.pack("=8BI", 2, 0, 0, 0, 254, 179, 0, 1, 0) + struct.pack("=HH", 4 + len(via), 18) + via

    with pytest.raises(MalformedError):
        decode_route(body + bytes(-len(via) % 4))


def test_ipv6_without_metric_is_written_with_the_kernels_default():
    (message,) = messages(
        encoded(Step(Operation.DELETE, FibRoute(IPv6Network("fd00::/64"), (NextHop(IPv6Address(1)),))))[0]
    )

    assert struct.pack("=HHI", 8, 6, 1024) in message.body


@unhurried
@given(st.binary(max_size=400))
def test_any_bytes_are_messages_or_malformed(data):
    try:
        found = list(messages(data))
    except MalformedError:
        return
    assert sum(len(message.body) + 16 for message in found) <= len(data)


@unhurried
@given(st.binary(max_size=400))
def test_any_body_is_a_route_or_malformed(body):
    only_malformed(lambda: decode_route(body))


@unhurried
@given(routes(), st.data())
def test_a_route_cut_or_bent_is_a_route_or_malformed(route, data):
    (message,) = messages(b"".join(encoded(Step(Operation.CREATE, route))))
    body = bytearray(message.body[: data.draw(st.integers(0, len(message.body)))])
    for at, value in data.draw(st.lists(st.tuples(st.integers(0, 600), st.integers(0, 255)), max_size=5)):
        if at < len(body):
            body[at] = value
    only_malformed(lambda: decode_route(bytes(body)))


@unhurried
@given(st.sampled_from([NLMSG_ERROR, NLMSG_DONE]), st.integers(0, 0xFFFF), st.binary(max_size=100))
def test_any_error_is_an_error_or_malformed(kind, flags, body):
    only_malformed(lambda: decode_error(Message(kind, flags, 1, body)))


def only_malformed(decode):
    with suppress(MalformedError):
        decode()


@pytest.mark.parametrize("capped", [True, False])
def test_the_kernels_words_are_found_behind_our_request(capped):
    request = dump_request(4, 7)
    words = b"Nexthop has invalid gateway\0"
    echoed = request[:16] if capped else request
    body = struct.pack("=i", -101) + echoed + struct.pack("=HH", 4 + len(words), 1) + words
    flags = NLM_F_ACK_TLVS | (NLM_F_CAPPED if capped else 0)

    assert decode_error(Message(NLMSG_ERROR, flags, 7, body)) == (101, "Nexthop has invalid gateway")


def test_an_error_without_words_has_its_number():
    body = struct.pack("=i", -3) + dump_request(4, 7)[:16]

    assert decode_error(Message(NLMSG_ERROR, NLM_F_CAPPED, 7, body)) == (3, "")


def test_a_failed_dump_says_so_at_its_end():
    assert decode_error(Message(NLMSG_DONE, 0, 7, struct.pack("=i", -2))) == (2, "")


def test_a_cached_clone_is_no_route_of_a_table():
    assert decode_route(struct.pack("=8BI", 2, 32, 0, 0, 254, 0, 0, 1, 0x200)) is None


def test_a_route_of_another_family_is_not_heard():
    assert decode_route(struct.pack("=8BI", 28, 0, 0, 0, 254, 0, 0, 1, 0)) is None
