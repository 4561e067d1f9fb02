"""Legality: each rule has a route that breaks it and nothing else."""

from __future__ import annotations

import dataclasses
from ipaddress import ip_address, ip_network

import pytest

from bgp.check import Reason, next_hop_fits, path_refusal, refusal, session_refusal
from bgp.model import Attributes, Community, Family, LargeCommunity, Path, Peer, Route, SessionUp

US, PEER, OTHER = (ip_address(f"192.0.2.{n}") for n in (1, 2, 3))
US6 = ip_address("2001:db8::1")
INTERNAL = Peer(
    address=PEER,
    name="node/b",
    local_address=US,
    local_asn=64512,
    peer_asn=64512,
    router_id=US,
    families=frozenset(Family),
)
EXTERNAL = dataclasses.replace(INTERNAL, peer_asn=65000, name="BGPPeer/tor")
GOOD = Route(ip_network("10.0.0.0/24"), US)
GOOD6 = Route(ip_network("fd00::/64"), US6)


def route(prefix="10.0.0.0/24", next_hop="192.0.2.1", **attributes):
    return Route(ip_network(prefix), ip_address(next_hop), Attributes(**attributes))


@pytest.mark.parametrize("peer", [INTERNAL, EXTERNAL], ids=["internal", "external"])
@pytest.mark.parametrize(
    "good",
    [
        GOOD,
        GOOD6,
        route(next_hop="192.0.2.3"),
        route(prefix="240.1.0.0/16"),
        route(prefix="10.0.0.1/32", communities=frozenset({Community(65535, 0)})),
    ],
)
def test_an_ordinary_route_may_go_to_any_peer(peer, good):
    assert refusal(peer, good) is None


@pytest.mark.parametrize(
    ("peer", "bad", "reason"),
    [
        (dataclasses.replace(INTERNAL, families=frozenset({Family.IPV4})), GOOD6, "familyNotSpoken"),
        (INTERNAL, route(next_hop="2001:db8::1"), "nextHopFamily"),
        (INTERNAL, route(prefix="fd00::/64"), "nextHopFamily"),
        (INTERNAL, route(next_hop="192.0.2.2"), "nextHopIsPeer"),
        (INTERNAL, route(next_hop="0.0.0.0"), "nextHopUnusable"),
        (INTERNAL, route(next_hop="127.0.0.1"), "nextHopUnusable"),
        (INTERNAL, route(next_hop="224.0.0.5"), "nextHopUnusable"),
        (INTERNAL, route(prefix="fd00::/64", next_hop="fe80::1"), "nextHopUnusable"),
        (INTERNAL, route(prefix="fd00::/64", next_hop="::1"), "nextHopUnusable"),
        (INTERNAL, route(prefix="0.0.0.0/0"), "defaultRoute"),
        (INTERNAL, route(prefix="::/0", next_hop="2001:db8::1"), "defaultRoute"),
        (INTERNAL, route(prefix="127.1.0.0/16"), "martianPrefix"),
        (INTERNAL, route(prefix="169.254.10.0/24"), "martianPrefix"),
        (INTERNAL, route(prefix="224.0.0.0/4"), "martianPrefix"),
        (INTERNAL, route(prefix="0.0.0.0/32"), "martianPrefix"),
        (INTERNAL, route(prefix="255.255.255.255/32"), "martianPrefix"),
        (INTERNAL, route(prefix="::1/128", next_hop="2001:db8::1"), "martianPrefix"),
        (INTERNAL, route(prefix="fe80::/64", next_hop="2001:db8::1"), "martianPrefix"),
        (INTERNAL, route(prefix="::ffff:10.0.0.0/104", next_hop="2001:db8::1"), "martianPrefix"),
        (EXTERNAL, route(local_pref=200), "internalAttribute"),
        (EXTERNAL, route(cluster_list=(US,)), "internalAttribute"),
        (EXTERNAL, route(originator_id=US), "internalAttribute"),
        (EXTERNAL, route(as_path=(65000,)), "asPathNotOurs"),
        (INTERNAL, route(communities=frozenset(Community(1, n) for n in range(1000))), "messageTooLong"),
        (INTERNAL, route(large_communities=frozenset(LargeCommunity(1, 1, n) for n in range(335))), "messageTooLong"),
        (INTERNAL, route(as_path=(1,) * 1000), "messageTooLong"),
    ],
)
def test_a_route_that_breaks_one_rule_is_refused_for_it(peer, bad, reason):
    assert refusal(peer, bad) == reason


def test_what_must_not_leave_the_as_may_go_to_internal_peers():
    inside = route(local_pref=200, originator_id=US, cluster_list=(US,), as_path=(65000,))

    assert refusal(INTERNAL, inside) is None
    assert refusal(EXTERNAL, route(as_path=(64512, 64512))) is None


def heard(next_hop="192.0.2.2", **attributes):
    path = Path(PEER, ip_address(next_hop), Attributes(**attributes))
    return path_refusal(path, own_asn=64512, own_router_id=US, own_addresses={US, US6})


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ({}, None),
        ({"next_hop": "2001:db8::2", "as_path": (65000, 65001)}, None),
        ({"as_path": (65000, 64512)}, "asLoop"),
        ({"as_path": (65000, frozenset({64512, 1}))}, "asLoop"),
        ({"originator_id": US}, "originatedHere"),
        ({"next_hop": "192.0.2.1"}, "nextHopIsUs"),
        ({"next_hop": "0.0.0.0"}, "nextHopUnusable"),
        ({"next_hop": "127.0.0.2"}, "nextHopUnusable"),
        ({"next_hop": "239.0.0.1"}, "nextHopUnusable"),
    ],
)
def test_a_path_heard_is_refused_for_the_rule_it_breaks(said, reason):
    assert heard(**said) == reason


@pytest.mark.parametrize(
    ("prefix", "version", "extended", "fits"),
    [
        ("10.0.0.0/24", 4, False, True),
        ("fd00::/64", 6, False, True),
        ("10.0.0.0/24", 6, False, False),
        ("10.0.0.0/24", 6, True, True),
        ("fd00::/64", 4, True, False),
    ],
)
def test_a_next_hop_of_the_other_family_fits_ipv4_alone_and_where_it_is_configured(prefix, version, extended, fits):
    peer = dataclasses.replace(EXTERNAL, extended_next_hop=extended)

    assert next_hop_fits(peer, ip_network(prefix), version) is fits


OVER_IPV6 = Route(ip_network("10.0.0.0/24"), US6)


@pytest.mark.parametrize(
    ("families", "extended", "known", "told", "reason"),
    [
        (Family, True, True, OVER_IPV6, None),
        (Family, False, True, OVER_IPV6, "nextHopNotNegotiated"),
        (Family, False, True, GOOD, None),
        (Family, False, True, GOOD6, None),
        ({Family.IPV4}, True, True, GOOD6, "familyNotSpoken"),
        ((), False, False, GOOD6, None),
        ((), False, False, OVER_IPV6, None),
    ],
)
def test_what_was_negotiated_says_what_a_session_carries_as_far_as_it_is_known(families, extended, known, told, reason):
    session = SessionUp(
        peer=PEER,
        router_id=US if known else None,
        peer_asn=65000,
        hold_seconds=9,
        families=frozenset(families),
        extended_next_hop=extended,
    )

    assert session_refusal(session, told) == reason


def test_every_reason_is_one_camel_case_word_with_a_meaning():
    for reason in Reason:
        assert str(reason).isalpha()
        assert str(reason)[0].islower()
        assert reason.meaning
