"""How long things took: the histograms, and what is waited for."""

from ipaddress import ip_address, ip_network

from agent.latencies import BOUNDS, PATIENCE_SECONDS, WAITING_MAX, Histogram, Latencies
from agent.model import FibKey
from bgp.model import RouteKey

PREFIX, OTHER = map(ip_network, ("10.244.1.0/24", "10.244.2.0/24"))
KEY = RouteKey(ip_address("192.0.2.1"), PREFIX)


def always(_key: RouteKey) -> bool:
    return True


def never(_key: RouteKey) -> bool:
    return False


def test_each_bucket_holds_what_took_no_longer_than_its_bound() -> None:
    histogram = Histogram()
    for seconds in (0.001, BOUNDS[0], 0.3, 1000.0):
        histogram.observe(seconds)

    buckets = dict(histogram.buckets())
    assert (buckets[BOUNDS[0]], buckets[0.25], buckets[0.5], buckets[BOUNDS[-1]], buckets[float("inf")]) == (
        2,
        2,
        3,
        3,
        4,
    )
    assert (histogram.count, histogram.sum) == (4, 1000.301 + BOUNDS[0])


def test_a_route_whose_prefix_no_peer_told_of_is_not_measured() -> None:
    latencies = Latencies()

    latencies.programmed([FibKey(PREFIX, 0), FibKey(OTHER, 0)], {PREFIX: 10.0}, 10.5)

    assert (latencies.programming.count, latencies.programming.sum) == (1, 0.5)


def test_an_announcement_takes_until_it_is_told_from_the_first_change_on() -> None:
    latencies = Latencies()
    latencies.announcing([KEY], 10.0)
    latencies.announcing([KEY], 11.0)

    latencies.look(12.0, wanted=always, told=never)
    assert latencies.advertising.count == 0
    latencies.look(13.0, wanted=always, told=always)
    latencies.look(14.0, wanted=always, told=always)

    assert (latencies.advertising.count, latencies.advertising.sum) == (1, 3.0)


def test_an_announcement_that_is_not_wanted_any_more_is_not_measured() -> None:
    latencies = Latencies()
    latencies.announcing([KEY], 10.0)

    latencies.look(12.0, wanted=never, told=always)

    assert latencies.advertising.count == 0


def test_an_announcement_that_is_never_told_counts_once_as_very_late() -> None:
    latencies = Latencies()
    latencies.announcing([KEY], 10.0)

    for now in (10.0 + PATIENCE_SECONDS, 20.0 + PATIENCE_SECONDS):
        latencies.look(now, wanted=always, told=never)

    assert (latencies.advertising.count, latencies.advertising.sum) == (1, PATIENCE_SECONDS)


def test_no_more_than_so_many_announcements_are_waited_for() -> None:
    latencies = Latencies()
    peers = (ip_address(0x0A000000 + number) for number in range(2 * WAITING_MAX))

    latencies.announcing((RouteKey(peer, PREFIX) for peer in peers), 10.0)
    latencies.look(11.0, wanted=always, told=always)

    assert latencies.advertising.count == WAITING_MAX
