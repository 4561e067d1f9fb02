"""Adj-RIB-In: what is heard is there until withdrawn or the session ends, and every change is named."""

from __future__ import annotations

import time
from ipaddress import IPv4Network, ip_address, ip_network

from hypothesis import given, settings
from hypothesis import strategies as st

from bgp.model import (
    Attributes,
    EndOfRib,
    Family,
    Path,
    PathsHeard,
    SessionDown,
    SessionUp,
    SpeakerLost,
)
from bgp.rib import Rib

A, B, C = (ip_address(f"192.0.2.{n}") for n in (1, 2, 3))
P, Q, P6 = (ip_network(p) for p in ("10.0.0.0/24", "10.0.1.0/24", "fd00::/64"))


def path(peer, med=0):
    return Path(peer, peer, Attributes(med=med))


def up(peer):
    return SessionUp(peer=peer, router_id=peer, peer_asn=64512, hold_seconds=90, families=frozenset(Family))


def heard(peer, *prefixes, med=0):
    return PathsHeard(peer, announced=((path(peer, med), prefixes),))


peers = st.sampled_from([A, B, C])
prefixes = st.lists(st.sampled_from([P, Q, P6]), max_size=3).map(tuple)
some_prefixes = st.lists(st.sampled_from([P, Q, P6]), min_size=1, max_size=3).map(tuple)
paths_heard = st.builds(
    lambda peer, withdrawn, announced: PathsHeard(peer, withdrawn, tuple((path(peer, m), p) for m, p in announced)),
    peers,
    prefixes,
    st.lists(st.tuples(st.integers(0, 1), some_prefixes), max_size=2),
)
events = st.one_of(
    *[paths_heard] * 8,
    st.builds(up, peers),
    st.builds(SessionDown, peers, st.just("x")),
    st.builds(EndOfRib, peers, st.sampled_from(list(Family))),
    st.builds(SpeakerLost, st.just("x")),
)


def apply_to_model(model, event):
    """The definition: one flat table of (peer, prefix)."""
    match event:
        case PathsHeard():
            for prefix in event.withdrawn:
                model.pop((event.peer, prefix), None)
            for its_path, its_prefixes in event.announced:
                model.update(dict.fromkeys([(event.peer, prefix) for prefix in its_prefixes], its_path))
        case SessionUp() | SessionDown():
            for key in [key for key in model if key[0] == event.peer]:
                del model[key]
        case SpeakerLost():
            model.clear()


@settings(max_examples=120, deadline=None)
@given(st.lists(events, min_size=3, max_size=20))
def test_the_rib_equals_a_flat_table_and_names_every_prefix_that_changed(history):
    rib, model = Rib(), {}
    for event in history:
        before = dict(model)
        apply_to_model(model, event)
        changed = rib.apply(event)

        assert {prefix for peer, prefix in before.items() ^ model.items() for _, prefix in [peer]} <= set(changed)
        assert len(set(changed)) == len(changed)
        assert set(rib.prefixes()) == {prefix for _, prefix in model}
        for prefix in (P, Q, P6):
            assert dict(rib.paths(prefix)) == {peer: it for (peer, held), it in model.items() if held == prefix}
        for peer in (A, B, C):
            assert dict(rib.heard_from(peer)) == {held: it for (of, held), it in model.items() if of == peer}
            for family in Family:
                mine = [held for of, held in model if of == peer and Family.of(held) is family]
                assert rib.count(peer, family) == len(mine)


def test_hearing_the_same_again_changes_nothing():
    rib = Rib()
    rib.apply(heard(A, P, Q))

    assert set(rib.apply(heard(A, P, Q))) == set()
    assert set(rib.apply(heard(A, P, med=5))) == {P}


def test_paths_of_several_peers_stand_side_by_side_and_one_that_is_withdrawn_leaves_the_others():
    rib = Rib()
    for peer in (A, B, C):
        rib.apply(heard(peer, P))
    assert rib.paths(P) == {peer: path(peer) for peer in (A, B, C)}

    assert set(rib.apply(PathsHeard(B, withdrawn=(P, Q)))) == {P}

    assert rib.paths(P) == {A: path(A), C: path(C)}


def test_prefixes_are_counted_by_family_and_withdrawn_ones_no_longer():
    rib = Rib()
    rib.apply(heard(A, P, Q, P6))
    assert [rib.count(A, family) for family in (Family.IPV4, Family.IPV6)] == [2, 1]

    rib.apply(PathsHeard(A, withdrawn=(P, P6)))

    assert [rib.count(A, family) for family in (Family.IPV4, Family.IPV6)] == [1, 0]


def test_withdrawals_of_an_update_come_before_its_announcements():
    rib = Rib()
    rib.apply(PathsHeard(A, withdrawn=(P,), announced=((path(A), (P,)),)))

    assert rib.paths(P) == {A: path(A)}


def test_a_session_that_comes_up_again_starts_empty_and_unsynced():
    rib = Rib()
    rib.apply(up(A))
    rib.apply(heard(A, P))
    rib.apply(EndOfRib(A, Family.IPV4))
    assert rib.synced(A) == {Family.IPV4}

    assert set(rib.apply(up(A))) == {P}
    assert rib.synced(A) == frozenset()
    assert rib.session(A) == up(A)
    assert not rib.paths(P)


def test_a_session_that_ends_takes_only_its_own_paths_along():
    rib = Rib()
    for peer in (A, B):
        rib.apply(up(peer))
        rib.apply(heard(peer, P))
    rib.apply(heard(A, Q))

    assert set(rib.apply(SessionDown(A, "hold timer"))) == {P, Q}
    assert rib.paths(P) == {B: path(B)}
    assert rib.session(A) is None
    assert set(rib.prefixes()) == {P}


def test_the_speaker_lost_ends_every_session():
    rib = Rib()
    rib.apply(up(A))
    rib.apply(heard(A, P))

    assert set(rib.apply(SpeakerLost("killed"))) == {P}
    assert rib.session(A) is None
    assert not rib.prefixes()


def test_a_hundred_thousand_prefixes_are_taken_in_and_dropped_in_one_go():
    many = [IPv4Network((n << 8, 24)) for n in range(100_000)]
    rib = Rib()
    started_at = time.process_time()
    for first in range(0, len(many), 500):
        rib.apply(heard(A, *many[first : first + 500]))
    assert rib.count(A, Family.IPV4) == 100_000
    rib.apply(SessionDown(A, "x"))

    assert time.process_time() - started_at < 5.0  # measured 0.5 s; a square would take hours
    assert not rib.prefixes()
