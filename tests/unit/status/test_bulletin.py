"""What is due of what is news: once per change, at a bounded rate, and in the end everything that stands."""

from __future__ import annotations

from collections import Counter, defaultdict
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from agent.model import Key, Kind
from agent.status.bulletin import BURST, FORGET_SECONDS, REPEAT_SECONDS, SECONDS_EACH, Bulletin, News, Topic

WEB = Topic(Key(Kind.SERVICE, "default", "web"), "198.51.100.7")
TOR = Topic(Key(Kind.NODE, "", "worker-1"), "peer 192.0.2.254")


def refused(version="externalIPNotAllowed", **fields):
    return News(**{"reason": "RouteNotAdvertised", "text": version, "version": version, **fields})


def peer(reason, version, **fields):
    return News(reason=reason, text=reason, version=version, ours=True, **fields)


def drained(bulletin, now):
    """All that is due at this moment."""
    found = []
    while (notice := bulletin.next(now)) is not None:
        found.append(notice)
    return found


def test_what_stands_is_told_once():
    bulletin = Bulletin(0.0)
    for now in range(0, 10_000, 50):
        bulletin.see({WEB: refused()}, float(now))
        assert len(drained(bulletin, float(now))) == (1 if now == 0 else 0)


def test_other_news_of_a_topic_is_told_with_its_count():
    bulletin = Bulletin(0.0)
    bulletin.see({WEB: refused("a")}, 0.0)
    drained(bulletin, 0.0)
    bulletin.see({WEB: refused("b")}, 400.0)

    (notice,) = drained(bulletin, 400.0)
    assert (notice.news.version, notice.count, notice.since, notice.witnessed) == ("b", 2, 400.0, True)


def test_the_same_again_waits_and_is_counted_meanwhile():
    bulletin, told = Bulletin(0.0), []
    for now in range(600):
        up = now % 20 < 10
        bulletin.see({TOR: peer("BGPPeerEstablished" if up else "BGPPeerDown", str(now // 10))}, float(now))
        told += [(now, notice.news.reason, notice.count) for notice in drained(bulletin, float(now))]

    assert told == [
        (0, "BGPPeerEstablished", 1),
        (10, "BGPPeerDown", 1),
        (300, "BGPPeerEstablished", 16),
        (310, "BGPPeerDown", 16),
    ]
    assert bulletin.dropped == 0, "what is counted is not lost"


def test_a_service_with_many_addresses_keeps_no_other_object_from_being_told_of():
    bulletin = Bulletin(0.0)
    many = {Topic(WEB.about, f"198.51.100.{number}"): refused() for number in range(3 * BURST)}
    later = {Topic(Key(Kind.SERVICE, "default", name), "192.0.2.1"): refused() for name in ("a", "b")}
    bulletin.see(many, 0.0)
    first = drained(bulletin, 0.0)
    bulletin.see(many | later, 1.0)

    assert len(first) == BURST
    assert {drained(bulletin, at)[0].topic for at in (SECONDS_EACH, 2 * SECONDS_EACH)} == later.keys()


def test_what_is_over_before_it_has_settled_was_nothing():
    bulletin = Bulletin(0.0)
    bulletin.see({WEB: refused(settle_seconds=5.0)}, 0.0)
    assert drained(bulletin, 4.9) == []
    bulletin.see({}, 4.9)

    assert drained(bulletin, 100.0) == []
    assert bulletin.dropped == 0
    assert bulletin.next_at(100.0) is None


def test_only_what_came_about_while_we_looked_is_witnessed():
    """What stood before us, or is seen by others too, may have been told already."""
    bulletin = Bulletin(100.0)
    stood = {TOR: peer("BGPPeerEstablished", "0", since=50.0), WEB: refused()}
    bulletin.see(stood, 100.0)
    came = {Topic(TOR.about, "drift"): News(reason="FIBDriftRepaired", text="", version="1", ours=True)}
    shared = {Topic(Key(Kind.SERVICE, "default", "shop"), ""): refused()}
    bulletin.see({**stood, **came, **shared}, 110.0)

    witnessed = {notice.topic for notice in drained(bulletin, 110.0) if notice.witnessed}
    assert witnessed == set(came)


def test_a_session_that_comes_up_after_the_first_look_is_witnessed_by_its_time():
    bulletin = Bulletin(100.0)
    bulletin.see({TOR: peer("BGPPeerEstablished", "0", since=101.0)}, 102.0)

    assert [notice.witnessed for notice in drained(bulletin, 102.0)] == [True]


def test_what_failed_is_due_again_as_long_as_it_stands():
    bulletin = Bulletin(0.0)
    bulletin.see({WEB: refused(), TOR: peer("BGPPeerDown", "1")}, 0.0)
    for notice in drained(bulletin, 0.0):
        bulletin.failed(notice)
    bulletin.see({WEB: refused()}, 10.0)

    assert [notice.topic for notice in drained(bulletin, 10.0)] == [WEB]
    assert bulletin.dropped == 1


def test_an_object_that_was_made_anew_is_told_anew():
    bulletin = Bulletin(0.0)
    bulletin.see({WEB: refused(uid="1")}, 0.0)
    drained(bulletin, 0.0)
    bulletin.see({WEB: refused(uid="2")}, REPEAT_SECONDS)

    assert len(drained(bulletin, REPEAT_SECONDS)) == 1


def test_what_only_we_see_goes_first():
    bulletin = Bulletin(0.0)
    bulletin.see({Topic(Key(Kind.SERVICE, "default", str(i)), ""): refused() for i in range(100)}, 0.0)
    bulletin.see({TOR: peer("BGPPeerDown", "1")}, 1.0)

    assert drained(bulletin, 1.0)[0].topic == TOR


def test_a_thousand_services_keep_no_object_of_the_cluster_and_no_warning_from_being_told():
    bulletin = Bulletin(0.0)
    services = {Topic(Key(Kind.SERVICE, "a", str(i)), ""): refused("noEndpoint", warning=False) for i in range(1000)}
    bulletin.see(services, 0.0)
    drained(bulletin, 0.0)
    router, other = Topic(Key(Kind.PEER, "", "tor"), "malformedObject"), Topic(Key(Kind.SERVICE, "b", "web"), "")
    bulletin.see({**services, other: refused(), router: refused("malformedObject")}, 1.0)

    assert [drained(bulletin, at)[0].topic for at in (SECONDS_EACH, 2 * SECONDS_EACH)] == [router, other]


def test_what_was_told_and_is_over_is_forgotten_in_the_end():
    bulletin = Bulletin(0.0)
    bulletin.see({WEB: refused()}, 0.0)
    drained(bulletin, 0.0)
    bulletin.see({}, 10.0)
    assert list(bulletin.told("RouteNotAdvertised")) == [WEB]
    bulletin.see({}, FORGET_SECONDS)

    assert list(bulletin.told("RouteNotAdvertised")) == []


topics = st.sampled_from([Topic(Key(Kind.SERVICE, "default", name), "") for name in "abcdefghijklmn"])
pictures = st.dictionaries(
    topics,
    st.builds(
        lambda version, settle, ours: refused(version, reason=version[0], settle_seconds=settle, ours=ours),
        st.sampled_from(["x1", "x2", "y1"]),
        st.sampled_from([0.0, 5.0, 30.0]),
        st.booleans(),
    ),
    max_size=14,
)
histories = st.lists(st.tuples(st.floats(0.0, 200.0), pictures, st.booleans()), max_size=15)


@settings(max_examples=50)
@given(histories)
def test_whatever_happens_the_rate_is_bounded_and_nothing_that_stands_stays_untold(history):
    bulletin, now, told, last = Bulletin(0.0), 0.0, [], {}
    for seconds, last, api_works in history:
        now += seconds
        bulletin.see(last, now)
        for notice in drained(bulletin, now):
            assert last[notice.topic] == notice.news
            if api_works:
                told.append((now, notice))
            else:
                bulletin.failed(notice)
    while (due_at := bulletin.next_at(now)) is not None:
        assert due_at >= now
        now = max(due_at, now + 0.001)
        bulletin.see(last, now)
        told += [(now, notice) for notice in drained(bulletin, now)]

    _bounded([at for at, _ in told])
    by_reason = defaultdict(list)
    for at, notice in told:
        by_reason[notice.topic, notice.news.reason].append(at)
    for times in by_reason.values():
        assert all(later - earlier > REPEAT_SECONDS - 1e-6 for earlier, later in pairwise(times))
    latest = {notice.topic: notice.news.version for _, notice in told}
    assert {topic: latest.get(topic) for topic in last} == {topic: news.version for topic, news in last.items()}


def _bounded(times):
    """Of any stretch of time: no more than a burst and what is due for its length."""
    for first, start in enumerate(times):
        for count, end in enumerate(times[first:], 1):
            assert count <= BURST + (end - start) / SECONDS_EACH + 1e-6, Counter(times)
