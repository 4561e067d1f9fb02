"""A session that is replaced by another with the same address: what was heard on it stays as after our own restart."""

from ipaddress import IPv4Address, ip_network

from bgp.model import Attributes, EndOfRib, Family, Path, PathsHeard, PeerRemoved, SessionDown, SessionUp
from bgp.rib import OWN_STALE_SECONDS, Rib

PEER = IPv4Address("192.0.2.1")
KEPT, DROPPED = ip_network("10.0.0.0/24"), ip_network("10.0.1.0/24")
UP = SessionUp(peer=PEER, router_id=PEER, peer_asn=65001, hold_seconds=9, families=frozenset({Family.IPV4}))


def told(*prefixes: object) -> PathsHeard:
    return PathsHeard(PEER, announced=((Path(PEER, PEER, Attributes()), prefixes),))  # type: ignore[arg-type]  # prefixes


def replaced() -> Rib:
    """After a peer that told two prefixes has been replaced, and its old session has ended without a word."""
    rib = Rib()
    rib.apply(UP, 0.0)
    rib.apply(told(KEPT, DROPPED), 1.0)
    assert rib.apply(PeerRemoved(PEER, replaced=True), 2.0) == ()
    rib.apply(SessionDown(PEER, "stop", without_notification=True), 2.1)
    return rib


def test_its_paths_stay_until_the_new_session_has_told_all() -> None:
    rib = replaced()
    assert rib.heard_from(PEER).keys() == {KEPT, DROPPED}
    assert rib.session(PEER) is None
    rib.apply(UP, 3.0)
    rib.apply(told(KEPT), 4.0)
    assert rib.heard_from(PEER).keys() == {KEPT, DROPPED}

    assert set(rib.apply(EndOfRib(PEER, Family.IPV4), 5.0)) == {DROPPED}
    assert rib.heard_from(PEER).keys() == {KEPT}


def test_they_go_in_the_end_when_no_session_comes() -> None:
    rib = replaced()
    assert rib.next_expiry_at == 2.0 + OWN_STALE_SECONDS

    assert set(rib.expire(2.0 + OWN_STALE_SECONDS)) == {KEPT, DROPPED}
    assert not rib.heard_from(PEER)


def test_a_peer_that_is_gone_for_good_leaves_nothing() -> None:
    rib = replaced()

    assert set(rib.apply(PeerRemoved(PEER), 3.0)) == {KEPT, DROPPED}
    assert not rib.heard_from(PEER)
