"""Prefix limits: what a peer may tell, when its session must end, and when it may try again."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, ip_address, ip_network

from hypothesis import given
from hypothesis import strategies as st

from bgp.limits import Limits
from bgp.model import (
    Attributes,
    EndOfRib,
    Family,
    Held,
    Path,
    PathsHeard,
    Peer,
    PeerRemoved,
    PrefixLimit,
    SessionDown,
    SessionUp,
    SpeakerLost,
)

A, B = ip_address("192.0.2.1"), ip_address("192.0.2.2")
SIX = [ip_network(f"10.0.{number}.0/24") for number in range(6)]
SIX_V6 = [ip_network(f"fd00:0:0:{number}::/64") for number in range(6)]
HELD = Held("maxPrefixesExceeded", "it has told more than the 3 IPv4 prefixes that it may")


def peer(*limits: tuple[Family, PrefixLimit], address: object = A, **more: object) -> Peer:
    wanted: dict[str, object] = {
        "address": address,
        "name": "BGPPeer/tor",
        "local_address": ip_address("192.0.2.9"),
        "local_asn": 64512,
        "peer_asn": 65001,
        "router_id": IPv4Address("192.0.2.9"),
        "families": frozenset(Family),
        **more,
    }
    return Peer(prefix_limits=limits, **wanted)  # type: ignore[arg-type]  # fields of Peer


def limited(count: int = 3, **more: object) -> Peer:
    return peer((Family.IPV4, PrefixLimit(prefixes=count, **more)))  # type: ignore[arg-type]  # fields of PrefixLimit


def up(address: object = A) -> SessionUp:
    return SessionUp(peer=address, router_id=None, peer_asn=65001, hold_seconds=9, families=frozenset(Family))  # type: ignore[arg-type]


def told(*prefixes: object, by: object = A, withdrawn: object = ()) -> PathsHeard:
    path = Path(by, by, Attributes())  # type: ignore[arg-type]
    return PathsHeard(by, withdrawn=tuple(withdrawn), announced=((path, tuple(prefixes)),) if prefixes else ())  # type: ignore[arg-type]


def limits(*peers: Peer) -> Limits:
    made = Limits()
    made.configure({it.address: it for it in peers}, 0.0)
    for it in peers:
        made.hear(up(it.address), 0.0)
    return made


def test_as_many_as_it_may_are_taken_and_one_more_ends_the_session() -> None:
    it = limits(limited())
    event = told(*SIX[:3])
    assert it.hear(event, 1.0) == (event,)
    assert it.held == {}

    (end,) = it.hear(told(SIX[3]), 2.0)
    assert isinstance(end, SessionDown)
    assert not end.without_notification
    assert it.held == {A: HELD}
    assert end.reason == f"{HELD.reason}: {HELD.text}"


def test_what_it_tells_until_the_session_has_ended_is_not_taken() -> None:
    it = limits(limited())
    it.hear(told(*SIX), 1.0)

    assert it.hear(told(*SIX), 2.0) == ()
    assert it.hear(EndOfRib(A, Family.IPV4), 2.0) == ()
    down = SessionDown(A, "sent 6/1")
    assert it.hear(down, 3.0) == (down,)


def test_a_peer_without_a_limit_and_the_other_family_are_not_counted() -> None:
    it = limits(limited(), peer(address=B))
    for event in (told(*SIX, by=B), told(*SIX_V6)):
        assert it.hear(event, 1.0) == (event,)

    assert not it.held
    assert it.near == ()


def test_prefixes_told_twice_or_withdrawn_do_not_count() -> None:
    it = limits(limited())
    for event in (told(*SIX[:3]), told(*SIX[:3]), told(SIX[4], SIX[5], withdrawn=SIX[:2])):
        assert it.hear(event, 1.0) == (event,)

    assert not it.held


def test_what_an_earlier_session_told_does_not_count() -> None:
    for ended in (SessionDown(A, "closed"), SpeakerLost("gone"), PeerRemoved(A), up()):
        it = limits(limited())
        it.hear(told(*SIX[:3]), 1.0)
        it.hear(ended, 2.0)
        it.hear(up(), 3.0)

        assert it.hear(told(*SIX[3:]), 4.0) == (told(*SIX[3:]),)


def test_it_is_held_until_its_restart_time_is_over() -> None:
    it = limits(limited(restart_seconds=60))
    it.hear(told(*SIX), 100.0)
    assert it.next_expiry_at == 160.0
    it.expire(159.9)
    assert it.held

    it.expire(160.0)
    assert not it.held
    assert it.next_expiry_at is None


def test_without_a_restart_time_it_is_held_until_it_is_changed() -> None:
    it = limits(limited())
    it.hear(told(*SIX), 1.0)
    it.expire(1e9)
    assert it.next_expiry_at is None
    it.configure({A: replace(limited(), description="another", name="node/x")}, 2.0)
    assert it.held == {A: HELD}

    it.configure({A: limited(100)}, 3.0)
    assert not it.held
    it.hear(told(*SIX), 4.0)
    assert not it.held


def test_without_a_restart_time_a_shutdown_for_a_while_lets_it_try_again() -> None:
    it = limits(limited())
    it.hear(told(*SIX), 1.0)
    it.configure({A: replace(limited(), held=Held("shutdown"))}, 2.0)
    assert not it.held

    it.configure({A: limited()}, 3.0)
    assert not it.held
    it.hear(up(), 4.0)
    it.hear(told(*SIX), 5.0)
    assert it.held == {A: HELD}


def test_a_peer_that_is_gone_is_not_held() -> None:
    it = limits(limited())
    it.hear(told(*SIX), 1.0)
    it.configure({}, 2.0)

    assert not it.held


def test_a_warning_comes_at_its_share_and_goes_with_the_prefixes() -> None:
    it = limits(limited(4))
    it.hear(told(*SIX[:2]), 1.0)
    assert it.near == ()
    it.hear(told(SIX[2]), 1.0)
    assert [(excess.peer.name, excess.family) for excess in it.near] == [("BGPPeer/tor", Family.IPV4)]

    it.hear(told(withdrawn=SIX[:1]), 2.0)
    assert it.near == ()


def test_where_only_a_warning_is_wanted_the_session_stays() -> None:
    it = limits(limited(warning_only=True))
    assert it.hear(told(*SIX), 1.0) == (told(*SIX),)

    assert not it.held
    assert len(it.near) == 1


def test_a_limit_that_is_lowered_below_what_was_told_ends_the_session() -> None:
    it = limits(limited(5))
    it.hear(told(*SIX[:4]), 1.0)
    (end,) = it.configure({A: limited(3)}, 2.0)

    assert isinstance(end, SessionDown)
    assert it.held == {A: HELD}


def test_a_session_that_was_up_before_it_had_a_limit_must_be_heard_again() -> None:
    it = limits(peer())
    it.hear(told(*SIX), 1.0)
    assert it.uncounted == ()
    it.configure({A: limited()}, 2.0)
    assert set(it.uncounted) == {(A, Family.IPV4), (A, Family.IPV6)}

    it.hear(told(*SIX), 3.0)
    assert it.held == {A: HELD}
    assert it.uncounted == ()


numbers = st.lists(st.integers(0, 30), max_size=8)


@given(st.integers(1, 12), st.lists(st.tuples(numbers, numbers), max_size=20))
def test_never_is_more_taken_than_the_limit_and_never_less_as_long_as_it_holds(
    limit: int, updates: list[tuple[list[int], list[int]]]
) -> None:
    it = limits(limited(limit))
    wire: set[int] = set()
    taken: set[object] = set()
    broken = False
    for withdrawn, announced in updates:
        wire = (wire - set(withdrawn)) | set(announced)
        broken = broken or len(wire) > limit
        event = told(
            *(ip_network(f"10.0.{number}.0/24") for number in announced),
            withdrawn=[ip_network(f"10.0.{number}.0/24") for number in withdrawn],
        )
        for meant in it.hear(event, 1.0):
            if isinstance(meant, PathsHeard):
                taken -= set(meant.withdrawn)
                taken |= {prefix for _, found in meant.announced for prefix in found}
            else:
                taken.clear()

        assert len(taken) == (0 if broken else len(wire))
        assert bool(it.held) == broken
