"""Adj-RIB-In: what is heard is there until withdrawn or the session ends, and every change is named."""

from __future__ import annotations

from functools import partial
from ipaddress import IPv4Network, ip_address, ip_network

from hypothesis import given, settings
from hypothesis import strategies as st

from bgp.model import (
    Attributes,
    EndOfRib,
    Family,
    Path,
    PathsHeard,
    PeerRemoved,
    SessionDown,
    SessionUp,
    SpeakerLost,
)
from bgp.rib import OWN_STALE_SECONDS, Rib

A, B, C = (ip_address(f"192.0.2.{n}") for n in (1, 2, 3))
P, Q, P6 = (ip_network(p) for p in ("10.0.0.0/24", "10.0.1.0/24", "fd00::/64"))
PREFIXES = (P, Q, P6, ip_network("10.0.2.0/24"))


def path(peer, med=0):
    return Path(peer, peer, Attributes(med=med))


BOTH = frozenset(Family)
RESTART_SECONDS = 60


def up(peer, **more):
    said = {"router_id": peer, "peer_asn": 64512, "hold_seconds": 90, "families": BOTH}
    return SessionUp(peer=peer, **{**said, **more})


def restartable(peer, **more):
    """A session with a peer that can restart."""
    return up(peer, restart_seconds=RESTART_SECONDS, restart_families=BOTH, **more)


def lost(peer):
    return SessionDown(peer, "closed", without_notification=True)


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
families = st.sampled_from([BOTH, BOTH, frozenset({Family.IPV6}), frozenset()])
events = st.one_of(
    *[paths_heard] * 8,
    st.builds(
        lambda peer, restart, families, kept, restarting: up(
            peer,
            families=families,
            restart_seconds=60 if restart else None,
            restart_families=restart,
            forwarding_kept=kept,
            restarting=restarting,
        ),
        peers,
        families,
        families,
        families,
        st.booleans(),
    ),
    st.builds(SessionDown, peers, st.just("x"), st.booleans(), returning=st.booleans(), begun_anew=st.booleans()),
    st.builds(PeerRemoved, peers),
    st.builds(EndOfRib, peers, st.sampled_from(list(Family))),
    st.builds(SpeakerLost, st.just("x")),
)


class Model:
    """The definition, on one flat table of (peer, prefix); a session is the last one with the peer, up or not."""

    def __init__(self):
        self.paths, self.stale, self.until = {}, set(), {}
        self.up, self.away, self.again = {}, set(), set()

    def of(self, peer):
        return {key for key in self.paths if key[0] == peer}

    def forget(self, keys):
        for key in list(keys):
            del self.paths[key]
        self.stale &= self.paths.keys()

    def apply(self, event, now):  # noqa: C901  # a table of cases
        match event:
            case PathsHeard(peer) | EndOfRib(peer) if peer in self.away:
                pass
            case PathsHeard(peer):
                heard = [(peer, prefix) for prefix in event.withdrawn]
                self.forget(self.paths.keys() & set(heard))
                for its_path, its_prefixes in event.announced:
                    self.paths.update({(peer, prefix): its_path for prefix in its_prefixes})
                    self.stale -= {(peer, prefix) for prefix in its_prefixes}
            case SessionUp(peer=peer):
                restarted = peer in self.away
                kept = event.families & event.forwarding_kept if restarted else event.families
                goes_on = self.has_stale(peer) and (peer in self.again or not restarted)
                self.forget({key for key in self.of(peer) if Family.of(key[1]) not in kept})
                if not goes_on:
                    self.until[peer] = now + OWN_STALE_SECONDS
                self.stale |= self.of(peer)
                self.up[peer] = event
                self.away.discard(peer)
                self.again.discard(peer)
            case SessionDown(peer):
                self.down(peer, self.up.pop(peer, None), event, now)
            case EndOfRib(peer, family):
                self.forget({key for key in self.of(peer) & self.stale if Family.of(key[1]) is family})
            case PeerRemoved(peer):
                self.up.pop(peer, None)
                self.forget(self.of(peer))
            case SpeakerLost():
                self.up.clear()
                for peer in (A, B, C):
                    self.keep(peer, now)
        self.away &= {peer for peer, _ in self.paths}

    def has_stale(self, peer):
        return bool(self.of(peer) & self.stale)

    def keep(self, peer, now):
        if not self.of(peer) <= self.stale:
            self.until[peer] = now + OWN_STALE_SECONDS
            self.stale |= self.of(peer)

    def down(self, peer, was_up, event, now):
        if was_up is None:
            self.forget(self.of(peer) if not self.has_stale(peer) else ())
            return
        if event.begun_anew:
            self.keep(peer, now)
            return
        keeps = (event.without_notification or event.returning) and was_up.restart_seconds
        kept = was_up.restart_families if keeps else ()
        again = event.returning and self.has_stale(peer)
        lost = set() if again else self.stale
        self.forget([key for key in self.of(peer) if key in lost or Family.of(key[1]) not in kept])
        until = now + (was_up.restart_seconds or 0)
        self.until[peer] = min(until, self.until[peer]) if again else until
        self.stale |= self.of(peer)
        self.away.add(peer)
        self.again = self.again | {peer} if again else self.again - {peer}

    def expire(self, now):
        self.forget({key for key in self.stale if self.until[key[0]] <= now})
        self.away &= {peer for peer, _ in self.paths}


histories = st.lists(st.tuples(events, st.sampled_from([0, 1, 70])), min_size=3, max_size=25)


def drained(rib, now):
    """Let go of all that is going; the prefixes that changed."""
    changed = set(rib.expire(now))
    while rib.next_expiry_at == float("-inf"):
        changed |= rib.expire(now)
    return changed


@settings(max_examples=settings().max_examples * 3, deadline=None)
@given(histories, st.sampled_from([1, 2, 100]))
def test_the_rib_equals_a_flat_table_and_names_every_prefix_that_changed(history, at_once):
    rib, model, now = Rib(at_once=at_once), Model(), 0.0
    for event, seconds in history:
        now += seconds
        before, away = dict(model.paths), set(model.away)
        model.expire(now)
        changed = drained(rib, now)
        model.apply(event, now)
        answer = rib.apply(event, now)
        changed |= {*answer, *drained(rib, now)}

        assert {prefix for _, prefix in dict(before.items() ^ model.paths.items())} <= changed
        assert {prefix for peer, prefix in model.paths if peer in away ^ model.away} <= changed
        assert len(set(answer)) == len(answer)
        assert set(rib.prefixes()) == {prefix for _, prefix in model.paths}
        assert (rib.next_expiry_at is None) == (not model.stale)
        for prefix in (P, Q, P6):
            assert dict(rib.paths(prefix)) == {peer: it for (peer, held), it in model.paths.items() if held == prefix}
        for peer in (A, B, C):
            assert rib.is_away(peer) == (peer in model.away)
            assert rib.session(peer) == model.up.get(peer)
            assert dict(rib.heard_from(peer)) == {held: it for (of, held), it in model.paths.items() if of == peer}
            for family in Family:
                mine = [held for of, held in model.paths if of == peer and Family.of(held) is family]
                assert rib.count(peer, family) == len(mine)
    drained(rib, float("inf"))
    assert rib.next_expiry_at is None
    assert {peer for peer in (A, B, C) if rib.heard_from(peer)} <= model.up.keys() | {key[0] for key in model.paths}


def who_told(rib, peer):
    session = rib.heard_on(peer)
    return None if session is None else (session.router_id, session.peer_asn)


def seen(rib):
    """What is known of each prefix: who tells it how, as whom, and whether that peer is away."""
    return {
        prefix: {peer: (it, who_told(rib, peer), rib.is_away(peer)) for peer, it in rib.paths(prefix).items()}
        for prefix in rib.prefixes()
    }


def _names_what_changes(rib, happen):
    before = seen(rib)
    named = set(happen())
    after = seen(rib)
    assert {prefix for prefix in PREFIXES if before.get(prefix) != after.get(prefix)} <= named


@settings(max_examples=settings().max_examples * 3, deadline=None)
@given(histories, st.data())
def test_paths_that_go_one_by_one_are_named_when_they_go_and_end_as_if_gone_at_once(history, data):
    rib, model, now = Rib(at_once=1), Model(), 0.0
    for event, seconds in history:
        if isinstance(event, PathsHeard | EndOfRib) and event.peer not in model.up:
            continue  # nothing is heard without a session
        now += seconds
        model.expire(now)
        model.apply(event, now)
        _names_what_changes(rib, partial(rib.expire, now))
        _names_what_changes(rib, partial(rib.apply, event, now))
        if data.draw(st.booleans()):
            _names_what_changes(rib, partial(rib.expire, now))

        assert {(peer, prefix) for prefix in rib.prefixes() for peer in rib.paths(prefix)} >= model.paths.keys()
    drained(rib, now)

    assert {(peer, prefix): it for prefix in rib.prefixes() for peer, it in rib.paths(prefix).items()} == model.paths
    assert {peer for peer in (A, B, C) if rib.is_away(peer)} == model.away


def test_the_end_of_a_full_table_removes_a_bounded_number_of_paths_at_a_time_and_asks_to_go_on():
    rib = Rib(at_once=10)
    rib.apply(up(A), 0.0)
    rib.apply(heard(A, *[IPv4Network((n << 8, 24)) for n in range(25)]), 0.0)

    parts = [len(rib.apply(SessionDown(A, "x"), 0.0))]
    while rib.next_expiry_at is not None:
        assert rib.next_expiry_at <= 0.0
        parts.append(len(rib.expire(0.0)))

    assert parts == [10, 10, 5]
    assert not rib.prefixes()
    assert rib.heard_on(A) is None


def test_a_path_that_is_going_is_saved_by_nothing_but_being_told_again():
    rib = Rib(at_once=1)
    rib.apply(up(A), 0.0)
    rib.apply(heard(A, *PREFIXES), 0.0)
    rib.apply(SessionDown(A, "x"), 0.0)
    rib.apply(up(A), 0.0)
    told, *others = rib.prefixes()
    rib.apply(heard(A, told), 0.0)
    rib.apply(SpeakerLost("killed"), 0.0)
    drained(rib, 0.0)

    assert len(others) == len(PREFIXES) - 2
    assert set(rib.prefixes()) == {told}


def test_hearing_the_same_again_changes_nothing():
    rib = Rib()
    rib.apply(heard(A, P, Q), 0.0)

    assert set(rib.apply(heard(A, P, Q), 0.0)) == set()
    assert set(rib.apply(heard(A, P, med=5), 0.0)) == {P}


def test_paths_of_several_peers_stand_side_by_side_and_one_that_is_withdrawn_leaves_the_others():
    rib = Rib()
    for peer in (A, B, C):
        rib.apply(heard(peer, P), 0.0)
    assert rib.paths(P) == {peer: path(peer) for peer in (A, B, C)}

    assert set(rib.apply(PathsHeard(B, withdrawn=(P, Q)), 0.0)) == {P}

    assert rib.paths(P) == {A: path(A), C: path(C)}


def test_prefixes_are_counted_by_family_and_withdrawn_ones_no_longer():
    rib = Rib()
    rib.apply(heard(A, P, Q, P6), 0.0)
    assert [rib.count(A, family) for family in (Family.IPV4, Family.IPV6)] == [2, 1]

    rib.apply(PathsHeard(A, withdrawn=(P, P6)), 0.0)

    assert [rib.count(A, family) for family in (Family.IPV4, Family.IPV6)] == [1, 0]


def test_withdrawals_of_an_update_come_before_its_announcements():
    rib = Rib()
    rib.apply(PathsHeard(A, withdrawn=(P,), announced=((path(A), (P,)),)), 0.0)

    assert rib.paths(P) == {A: path(A)}


def test_a_session_told_up_again_is_unsynced_and_keeps_what_is_told_again_only():
    rib = Rib()
    rib.apply(up(A), 0.0)
    rib.apply(heard(A, P, Q), 0.0)
    rib.apply(EndOfRib(A, Family.IPV4), 0.0)
    assert rib.synced(A) == {Family.IPV4}

    rib.apply(up(A), 5.0)
    assert rib.synced(A) == frozenset()
    assert set(rib.prefixes()) == {P, Q}
    assert set(rib.apply(heard(A, P), 6.0)) == set()
    assert set(rib.apply(EndOfRib(A, Family.IPV4), 7.0)) == {Q}
    assert set(rib.prefixes()) == {P}
    assert rib.next_expiry_at is None


def test_a_session_that_ends_takes_only_its_own_paths_along():
    rib = Rib()
    for peer in (A, B):
        rib.apply(up(peer), 0.0)
        rib.apply(heard(peer, P), 0.0)
    rib.apply(heard(A, Q), 0.0)

    assert set(rib.apply(SessionDown(A, "hold timer"), 0.0)) == {P, Q}
    assert rib.paths(P) == {B: path(B)}
    assert rib.session(A) is None
    assert set(rib.prefixes()) == {P}


def test_the_speaker_lost_ends_every_session_and_keeps_the_paths_until_they_are_told_again():
    rib = Rib()
    for peer in (A, B):
        rib.apply(up(peer), 0.0)
        rib.apply(heard(peer, P, Q), 0.0)

    assert set(rib.apply(SpeakerLost("killed"), 10.0)) == set()
    assert rib.session(A) is None
    assert rib.heard_on(A) == up(A)
    assert not rib.is_away(A)
    rib.apply(up(A), 12.0)
    rib.apply(heard(A, P), 12.0)
    rib.apply(EndOfRib(A, Family.IPV4), 12.0)
    assert {prefix: set(rib.paths(prefix)) for prefix in rib.prefixes()} == {P: {A, B}, Q: {B}}
    assert rib.next_expiry_at == 10.0 + OWN_STALE_SECONDS

    assert set(rib.expire(10.0 + OWN_STALE_SECONDS)) == {P, Q}
    assert {prefix: set(rib.paths(prefix)) for prefix in rib.prefixes()} == {P: {A}}


def test_a_speaker_that_is_lost_again_and_again_without_hearing_anything_keeps_nothing_for_ever():
    rib = Rib()
    rib.apply(up(A), 0.0)
    rib.apply(heard(A, P), 0.0)
    for now in (0.0, 50.0, 100.0):
        rib.apply(SpeakerLost("killed"), now)
        rib.apply(up(A), now + 1)

    assert rib.next_expiry_at == OWN_STALE_SECONDS


def test_a_peer_that_ends_with_a_notification_or_cannot_restart_takes_its_paths_along():
    for session, end in (
        (restartable(A), SessionDown(A, "sent 4/0 Hold Timer Expired")),
        (up(A), lost(A)),
        (up(A, restart_seconds=120), lost(A)),
        (restartable(A), PeerRemoved(A)),
    ):
        rib = Rib()
        rib.apply(session, 0.0)
        rib.apply(heard(A, P), 0.0)

        assert set(rib.apply(end, 1.0)) == {P}
        assert not rib.prefixes()
        assert rib.next_expiry_at is None


def test_a_peer_that_may_be_restarting_is_away_until_it_is_back_or_its_time_is_up():
    for comes_back in (True, False):
        rib = Rib()
        rib.apply(restartable(A), 0.0)
        rib.apply(heard(A, P, P6), 0.0)
        assert set(rib.apply(lost(A), 10.0)) == {P, P6}
        rib.apply(SessionDown(A, "connection refused", without_notification=True), 11.0)
        assert rib.is_away(A)
        assert set(rib.prefixes()) == {P, P6}

        if comes_back:
            back = restartable(A, restarting=True, forwarding_kept=frozenset({Family.IPV4}))
            assert set(rib.apply(back, 20.0)) == {P, P6}
            assert set(rib.prefixes()) == {P}, "it has not kept forwarding IPv6"
            assert rib.next_expiry_at == 20.0 + OWN_STALE_SECONDS
        else:
            assert set(rib.expire(10.0 + RESTART_SECONDS)) == {P, P6}
        assert not rib.is_away(A)


def test_a_peer_that_is_lost_twice_without_telling_all_keeps_what_it_told_last():
    rib = Rib()
    rib.apply(restartable(A), 0.0)
    rib.apply(heard(A, P, Q), 0.0)
    rib.apply(lost(A), 1.0)
    rib.apply(restartable(A, forwarding_kept=BOTH), 2.0)
    rib.apply(heard(A, P), 3.0)
    rib.apply(lost(A), 4.0)

    assert set(rib.prefixes()) == {P}


def returns(peer):
    """Another node has changed its session, and does not say that it forwards no more."""
    return SessionDown(peer, "received 6/3 Peer De-configured", returning=True)


def test_a_node_whose_session_ends_twice_in_a_change_of_settings_keeps_everything_until_it_has_told_all():
    rib = Rib()
    back = restartable(A, forwarding_kept=BOTH)
    rib.apply(back, 0.0)
    rib.apply(heard(A, P, Q), 0.0)
    for event, at in ((returns(A), 10.0), (back, 11.0), (heard(A, P), 12.0), (returns(A), 13.0), (back, 14.0)):
        rib.apply(event, at)
        assert set(rib.prefixes()) == {P, Q}
    rib.apply(heard(A, P), 15.0)

    assert set(rib.apply(EndOfRib(A, Family.IPV4), 16.0)) == {Q}
    assert set(rib.prefixes()) == {P}


def test_a_node_that_changes_its_session_again_and_again_and_tells_nothing_is_believed_for_a_set_time_only():
    rib = Rib()
    back = restartable(A, forwarding_kept=BOTH)
    rib.apply(back, 0.0)
    rib.apply(heard(A, P), 0.0)
    for at in range(0, 200, 10):
        rib.apply(returns(A), float(at))
        rib.apply(back, at + 1.0)
        rib.expire(at + 1.0)
        if at < 60:
            assert set(rib.prefixes()) == {P}

    assert not rib.prefixes()
