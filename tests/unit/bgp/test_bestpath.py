"""Best path: each step of the decision by itself, and all of them against a slow definition in every order."""

from __future__ import annotations

import itertools
from dataclasses import replace
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bgp.bestpath import PeerInfo, best
from bgp.model import GRACEFUL_SHUTDOWN, Attributes, Origin, Path

EXT_A, EXT_B, INT_A, INT_B = (ip_address(f"192.0.2.{n}") for n in (1, 2, 3, 4))
INFO = {
    EXT_A: PeerInfo(internal=False, router_id=ip_address("9.0.0.2"), asn=65001),
    EXT_B: PeerInfo(internal=False, router_id=ip_address("9.0.0.1"), asn=65002),
    INT_A: PeerInfo(internal=True, router_id=ip_address("9.0.0.3"), asn=64512),
    INT_B: PeerInfo(internal=True, router_id=None, asn=64512),
}


def path(peer, next_hop=None, **attributes):
    return Path(peer, ip_address(next_hop) if next_hop else peer, Attributes(**attributes))


def chosen(*paths, limit=16):
    return best(paths, peer_of=INFO.__getitem__, limit=limit)


def test_no_path_has_no_best():
    assert chosen() == ()


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        pytest.param(
            path(INT_A, local_pref=200, as_path=(1, 2, 3)), path(INT_B, local_pref=50, as_path=()), id="local-pref"
        ),
        pytest.param(path(INT_A), path(INT_B, local_pref=99), id="absent-local-pref-is-100"),
        pytest.param(
            path(EXT_A, as_path=(1,)), path(EXT_B, as_path=(2, 3), local_pref=500), id="external-local-pref-ignored"
        ),
        pytest.param(
            path(EXT_A, as_path=(1, frozenset({5, 6, 7}))), path(EXT_B, as_path=(2, 5, 6)), id="as-set-is-one"
        ),
        pytest.param(path(EXT_A, as_path=(1,), med=9), path(EXT_B, as_path=(1,), origin=Origin.EGP), id="origin"),
        pytest.param(path(EXT_A, as_path=(1,)), path(EXT_B, as_path=(1,), med=1), id="absent-med-is-0"),
        pytest.param(path(EXT_A, as_path=(1,)), path(INT_A, as_path=(2,)), id="external-before-internal"),
        pytest.param(path(INT_A), path(INT_B, local_pref=0), id="local-pref-0-is-not-absent"),
        pytest.param(
            path(EXT_B, as_path=(2, 3)),
            path(EXT_A, as_path=(1,), communities=frozenset({GRACEFUL_SHUTDOWN})),
            id="a-router-about-to-go",
        ),
    ],
)
def test_the_better_path_alone_is_used(better, worse):
    assert chosen(better, worse) == chosen(worse, better) == (better,)


def test_a_path_of_a_peer_that_is_away_is_used_when_there_is_no_other():
    away, there = path(EXT_A, as_path=(1,)), path(INT_A, local_pref=1, as_path=(2, 3, 4))
    infos = {**INFO, EXT_A: replace(INFO[EXT_A], away=True)}

    assert best([away, there], peer_of=infos.__getitem__) == (there,)
    assert best([away], peer_of=infos.__getitem__) == (away,)


def test_med_is_compared_between_paths_of_the_same_neighbour_only():
    cheap, dear = path(EXT_A, as_path=(1,), med=1), path(EXT_B, as_path=(2,), med=9)

    assert set(chosen(cheap, dear)) == {cheap, dear}


def test_equal_paths_are_used_together_ordered_by_router_id():
    assert chosen(path(EXT_A, as_path=(1,)), path(EXT_B, as_path=(2,))) == (
        path(EXT_B, as_path=(2,)),
        path(EXT_A, as_path=(1,)),
    )


def test_originator_id_stands_for_the_router_id_and_the_shorter_cluster_list_wins():
    one, other = ip_address("9.9.9.1"), ip_address("9.9.9.2")
    short = path(INT_B, originator_id=one, cluster_list=(one,))
    long = path(INT_A, originator_id=one, cluster_list=(one, other))
    late = path(INT_A, next_hop="192.0.2.77", originator_id=other)

    assert chosen(late, long, short) == (short, long, late)


def test_one_router_on_two_links_tells_equal_paths_whose_order_is_the_links():
    paths = [path(ip_address(f"fe80::1%{link}")) for link in ("e0", "e1")]
    info = dict.fromkeys((one.peer for one in paths), INFO[EXT_A])

    assert best(paths[::-1], peer_of=info.__getitem__) == tuple(paths)


def test_a_peer_of_unknown_router_id_comes_last():
    assert chosen(path(INT_B), path(INT_A)) == (path(INT_A), path(INT_B))


def test_a_next_hop_counts_once_and_the_limit_holds():
    twice = [path(INT_A, next_hop="10.0.0.9"), path(INT_B, next_hop="10.0.0.9")]

    assert chosen(*twice) == (twice[0],)
    assert chosen(path(INT_A), path(INT_B), limit=1) == (path(INT_A),)


def reference(paths):
    """RFC 4271 9.1.2 as sentences: a path is out when another one removes it at the first step where any is removed."""
    left = list(paths)

    def pref(it):
        if INFO[it.peer].internal:
            return 100 if it.attributes.local_pref is None else it.attributes.local_pref
        return 0 if GRACEFUL_SHUTDOWN in it.attributes.communities else 100

    def neighbour(it):
        first = next(iter(it.attributes.as_path), None)
        return first if isinstance(first, int) else INFO[it.peer].asn

    def med(it):
        return it.attributes.med or 0

    removes = [
        lambda a, b: pref(a) > pref(b),
        lambda a, b: len(a.attributes.as_path) < len(b.attributes.as_path),
        lambda a, b: a.attributes.origin < b.attributes.origin,
        lambda a, b: neighbour(a) == neighbour(b) and med(a) < med(b),
        lambda a, b: not INFO[a.peer].internal and INFO[b.peer].internal,
    ]
    for removed_by in removes:
        left = [b for b in left if not any(removed_by(a, b) for a in left)]
    return left


attributes = st.builds(
    Attributes,
    local_pref=st.sampled_from([None, 0, 100, 200]),
    communities=st.sampled_from([frozenset(), frozenset({GRACEFUL_SHUTDOWN})]),
    as_path=st.sampled_from([(), (1,), (2,), (1, 2), (frozenset({3, 4}),)]),
    origin=st.sampled_from([Origin.IGP, Origin.EGP]),
    med=st.sampled_from([None, 0, 5]),
    originator_id=st.sampled_from([None, ip_address("9.0.0.9")]),
)
one_per_peer = st.dictionaries(st.sampled_from(list(INFO)), attributes, max_size=4).map(
    lambda d: [Path(peer, peer, its) for peer, its in d.items()]
)


@given(one_per_peer)
def test_every_order_gives_the_same_answer_and_it_is_the_definitions(paths):
    answers = {best(order, peer_of=INFO.__getitem__) for order in itertools.permutations(paths)}

    assert len(answers) == 1
    assert set(answers.pop()) == set(reference(paths))
