"""What is counted of a peer's messages."""

from ipaddress import IPv4Address, ip_address

from bgp.exaevents import Notified, Opened, WentDown
from bgp.model import Direction, EndOfRib, Family, PathsHeard
from bgp.sessions import Sessions
from bgp.tally import CODES_MAX, OTHER_CODE, Tally

PEER, OTHER = map(ip_address, ("192.0.2.1", "192.0.2.2"))


def opened(direction: Direction) -> Opened:
    return Opened(
        peer=PEER,
        direction=direction,
        asn=65001,
        hold_seconds=90,
        router_id=IPv4Address("192.0.2.1"),
        families=frozenset(Family),
        restart_seconds=None,
        restarting=False,
        restart_families=frozenset(),
        forwarding_kept=frozenset(),
        route_refresh=True,
    )


def test_messages_are_counted_by_direction_and_type() -> None:
    tally = Tally()

    tally.count(opened(Direction.SENT))
    tally.count(opened(Direction.RECEIVED))
    tally.count(PathsHeard(PEER, ()))
    tally.count(EndOfRib(PEER, Family.IPV4))
    tally.count(WentDown(PEER, "closed"))

    assert tally.messages(PEER) == {
        (Direction.SENT, "open"): 1,
        (Direction.RECEIVED, "open"): 1,
        (Direction.RECEIVED, "update"): 2,
    }


def test_notifications_are_counted_by_code_and_subcode() -> None:
    tally = Tally()

    for code, subcode in ((6, 2), (6, 2), (4, 0)):
        tally.count(Notified(PEER, Direction.RECEIVED, code, subcode, ""))

    assert tally.notifications(PEER) == {(Direction.RECEIVED, 6, 2): 2, (Direction.RECEIVED, 4, 0): 1}
    assert tally.messages(PEER) == {(Direction.RECEIVED, "notification"): 3}


def test_a_peer_that_makes_up_codes_has_so_many_kinds_and_no_more_and_none_is_lost() -> None:
    tally = Tally()

    for number in range(1000):
        tally.count(Notified(PEER, Direction.RECEIVED, 7 + number // 256, number % 256, ""))
    tally.count(Notified(PEER, Direction.SENT, 4, 0, ""))

    counted = tally.notifications(PEER)
    assert len(counted) == CODES_MAX + 2
    assert counted[Direction.RECEIVED, *OTHER_CODE] == 1000 - CODES_MAX
    assert counted[Direction.SENT, 4, 0] == 1


def test_a_peer_that_shall_be_no_more_is_forgotten() -> None:
    tally = Tally()
    for peer in (PEER, OTHER):
        tally.count(Notified(peer, Direction.RECEIVED, 4, 0, ""))

    tally.forget_but({OTHER})

    assert (tally.messages(PEER), tally.notifications(PEER)) == ({}, {})
    assert tally.notifications(OTHER)


def test_what_an_agent_before_this_one_had_heard_is_not_counted_again() -> None:
    """Else each start of an agent would look like another NOTIFICATION."""
    sessions = Sessions()
    sessions.configure([PEER])

    sessions.remember(PEER, 1, [(5.0, [Notified(PEER, Direction.RECEIVED, 4, 0, ""), WentDown(PEER, "x")])])
    assert sessions.tally.notifications(PEER) == {}
    sessions.heard(Notified(PEER, Direction.RECEIVED, 4, 0, ""), 6.0)

    assert sessions.tally.notifications(PEER) == {(Direction.RECEIVED, 4, 0): 1}
