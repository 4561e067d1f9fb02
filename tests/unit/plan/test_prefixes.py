"""The prefix index against looking at every member."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

from hypothesis import given
from hypothesis import strategies as st

from agent.plan.prefixes import PrefixIndex, contains, host, supernets

_ipv4 = st.builds(
    lambda bits, length: IPv4Network((bits << 28, length), strict=False), st.integers(0, 15), st.integers(0, 32)
)
_ipv6 = st.builds(
    lambda bits, length: IPv6Network((bits << 124, length), strict=False),
    st.integers(0, 15),
    st.sampled_from((0, 1, 3, 4, 128)),
)
_prefixes = st.one_of(_ipv4, _ipv6)


def _holds(outer, inner) -> bool:
    return outer.version == inner.version and inner.subnet_of(outer)


@given(st.lists(_prefixes), st.lists(_prefixes), _prefixes)
def test_an_index_answers_as_looking_at_every_member_would(added, dropped, asked):
    index, members = PrefixIndex(added), set(added) - set(dropped)
    for prefix in dropped:
        index.drop(prefix)
    inside, covering = list(index.inside(asked)), list(index.covering(asked))

    assert set(inside) == {member for member in members if _holds(asked, member)}
    assert set(covering) == {member for member in members if _holds(member, asked)}
    assert set(index.overlapping(asked)) == set(inside) | set(covering)
    assert len(list(index.overlapping(asked))) == len(set(inside) | set(covering))
    assert index.holds_any_of(asked) == bool(inside)
    around = set(index.around(asked.network_address))
    assert around == {member for member in members if _holds(member, host(asked.network_address))}


@given(_prefixes, _prefixes)
def test_containing_is_what_ipaddress_calls_a_subnet(outer, inner):
    assert contains(outer, inner) == _holds(outer, inner)


def test_a_host_prefix_holds_its_address_alone():
    assert [host(ip_address(text)) for text in ("10.0.0.1", "fd00::1")] == [
        ip_network("10.0.0.1/32"),
        ip_network("fd00::1/128"),
    ]


def test_the_supernets_of_a_prefix_reach_from_itself_to_the_default_route():
    assert list(map(str, supernets(ip_network("192.0.0.0/3")))) == [
        "192.0.0.0/3",
        "192.0.0.0/2",
        "128.0.0.0/1",
        "0.0.0.0/0",
    ]
