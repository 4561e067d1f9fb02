"""Commands and tables in ExaBGP's words, exactly as they go over its API."""

import contextlib
from ipaddress import IPv4Address, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bgp import exatext
from bgp.commands import Announce, SendEndOfRib, Withdraw
from bgp.exatext import NotUnderstoodError, command_line, read_table_line
from bgp.model import Attributes, Community, Family, LargeCommunity, Origin, Peer, Route

PEER = Peer(
    address=ip_address("192.0.2.1"),
    name="BGPPeer/tor",
    local_address=ip_address("192.0.2.9"),
    local_asn=64512,
    peer_asn=4200000001,
    router_id=IPv4Address("192.0.2.9"),
    families=frozenset(Family),
)
WORDS = "neighbor 192.0.2.1 local-ip 192.0.2.9 local-as 64512 peer-as 4200000001 router-id 192.0.2.9"


def announced(prefix: str, hop: str, **attributes: object) -> str:
    route = Route(ip_network(prefix), ip_address(hop), Attributes(**attributes))  # type: ignore[arg-type]
    line = command_line(Announce((PEER.address,), route), [exatext.session(PEER)])
    assert line.startswith(f"{WORDS} announce ")
    return line.removeprefix(f"{WORDS} announce ")


def test_a_plain_route_names_origin_and_path_always() -> None:
    assert announced("10.1.0.0/24", "192.0.2.9") == "route 10.1.0.0/24 next-hop 192.0.2.9 origin igp as-path [  ]"


def test_every_attribute_is_written_in_numbers() -> None:
    line = announced(
        "fd01::/64",
        "fd00::9",
        origin=Origin.INCOMPLETE,
        as_path=(64512, 1, frozenset({5, 3}), 7),
        med=0,
        local_pref=200,
        communities=frozenset({Community(65535, 0), Community(1, 2)}),
        large_communities=frozenset({LargeCommunity(4200000001, 1, 2)}),
        originator_id=IPv4Address("192.0.2.3"),
        cluster_list=(IPv4Address("192.0.2.4"), IPv4Address("192.0.2.5")),
    )

    assert line == (
        "route fd01::/64 next-hop fd00::9 origin incomplete as-path [ 64512 1 ] ( 3 5 ) [ 7 ] med 0 "
        "local-preference 200 community [ 1:2 65535:0 ] large-community [ 4200000001:1:2 ] originator-id 192.0.2.3 "
        "cluster-list [ 192.0.2.4 192.0.2.5 ]"
    )


def test_withdrawals_and_markers_name_the_session_and_nothing_more() -> None:
    words = exatext.session(PEER)
    withdraw = Withdraw((PEER.address,), ip_network("10.1.0.0/24"))

    assert command_line(withdraw, [words]) == f"{WORDS} withdraw route 10.1.0.0/24"
    assert command_line(SendEndOfRib(PEER.address, Family.IPV6), [words]) == f"{WORDS} announce eor ipv6 unicast"
    assert exatext.ask_refresh(words, Family.IPV4) == f"{WORDS} announce route-refresh ipv4 unicast"


TABLE = f"{WORDS} family-allowed in-open"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("origin igp as-path ( 64512 )", Attributes(as_path=(64512,))),
        ("origin egp as-path (  )", Attributes(origin=Origin.EGP)),
        ("origin igp", Attributes()),
        ("as-path ( 1 2 ) [ 5 6 ] ( 9 ) med 5", Attributes(as_path=(1, 2, frozenset({5, 6}), 9), med=5)),
        (
            "as-path ( 1 ) local-preference 0 community 1:2",
            Attributes(as_path=(1,), local_pref=0, communities=frozenset({Community(1, 2)})),
        ),
        ("community [ no-export 1:2 ]", Attributes(communities=frozenset({Community(65535, 65281), Community(1, 2)}))),
        (
            "large-community [ 1:2:3 4:5:6 ]",
            Attributes(large_communities=frozenset({LargeCommunity(1, 2, 3), LargeCommunity(4, 5, 6)})),
        ),
        ("large-community 1:2:3", Attributes(large_communities=frozenset({LargeCommunity(1, 2, 3)}))),
        (
            "originator-id 1.2.3.4 cluster-list [ 1.1.1.1 2.2.2.2 ]",
            Attributes(
                originator_id=IPv4Address("1.2.3.4"), cluster_list=(IPv4Address("1.1.1.1"), IPv4Address("2.2.2.2"))
            ),
        ),
    ],
)
def test_a_line_of_the_table_is_read(words: str, expected: Attributes) -> None:
    entry = read_table_line(f"{TABLE} ipv4 unicast 10.1.0.0/24 next-hop 192.0.2.9 {words}")

    assert entry.route == Route(ip_network("10.1.0.0/24"), ip_address("192.0.2.9"), expected)
    assert entry.key == (PEER.address, ip_network("10.1.0.0/24"))
    assert entry.session == WORDS


GOOD = f"{TABLE} ipv6 unicast fd01::/64 next-hop fd00::9 origin igp as-path ( 64512 ) med 5 community [ 1:2 ]"


@pytest.mark.parametrize(
    "line",
    [
        "",
        "reload in progress",
        "neighbor",
        f"{TABLE} ipv4 unicast",
        f"{TABLE} ipv4 flow 10.0.0.0/8 next-hop 192.0.2.9",
        f"{TABLE} ipv4 unicast 10.1.0.1/24 next-hop 192.0.2.9",
        f"{TABLE} ipv4 unicast 10.1.0.0/24 origin igp",
        f"{TABLE} ipv4 unicast 10.1.0.0/24 next-hop 192.0.2.9 origin nowhere",
        f"{TABLE} ipv4 unicast 10.1.0.0/24 next-hop 192.0.2.9 as-path ( x )",
        f"{TABLE} ipv4 unicast 10.1.0.0/24 next-hop 192.0.2.9 community [ gossip ]",
        f"{TABLE} l2vpn evpn anything",
    ],
)
def test_what_is_not_a_line_of_the_table_is_refused(line: str) -> None:
    with pytest.raises(NotUnderstoodError):
        read_table_line(line)


@given(st.lists(st.sampled_from(GOOD.split()), max_size=40).map(" ".join) | st.text())
def test_no_line_whatever_raises_anything_else(line: str) -> None:
    with contextlib.suppress(NotUnderstoodError):
        assert read_table_line(line).session.startswith("neighbor ")


@given(st.integers(min_value=0, max_value=len(GOOD)), st.text(max_size=5))
def test_a_line_damaged_anywhere_is_read_or_refused(at: int, put: str) -> None:
    try:
        entry = read_table_line(GOOD[:at] + put + GOOD[at + 1 :])
    except NotUnderstoodError:
        return
    assert entry.route.prefix.version in (4, 6)
