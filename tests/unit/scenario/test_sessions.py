"""What peers said comes back as it was, after any history."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address, ip_network
from itertools import chain

from hypothesis import given, settings
from hypothesis import strategies as st

from agent.cluster.fields import Field
from agent.scenario.sessions import about_session, read_heard, routes_of
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
from bgp.rib import Rib

PEERS = [ip_address("192.0.2.1"), ip_address("fe80::1%eth0")]
PREFIXES = [ip_network(text) for text in ("10.0.0.0/24", "10.0.1.0/24", "2001:db8:1::/48", "::ffff:0:0/96")]


@st.composite
def events(draw):
    peer = draw(st.sampled_from(PEERS))
    families = st.frozensets(st.sampled_from(Family), min_size=1)
    match draw(st.sampled_from(["heard", "heard", "heard", "end", "end", "up", "down", "else"])):
        case "up":
            asked = draw(families)
            return SessionUp(
                peer=peer,
                router_id=draw(st.sampled_from([None, ip_address("9.9.9.9")])),
                peer_asn=draw(st.integers(1, 2**32 - 1)),
                hold_seconds=draw(st.sampled_from([0, 9, 90])),
                families=asked,
                restart_seconds=draw(st.sampled_from([None, 120])),
                restart_families=draw(st.frozensets(st.sampled_from(Family))),
                restarting=draw(st.booleans()),
                forwarding_kept=draw(st.frozensets(st.sampled_from(Family))),
                extended_next_hop=draw(st.booleans()),
                offered=draw(families),
                extended_next_hop_offered=draw(st.booleans()),
                route_refresh=draw(st.booleans()),
            )
        case "heard":
            path = Path(peer, peer, Attributes(med=draw(st.integers(0, 2))))
            prefixes = draw(st.lists(st.sampled_from(PREFIXES), unique=True))
            return PathsHeard(peer, tuple(prefixes[:1]), ((path, tuple(prefixes[1:])),))
        case "end":
            return EndOfRib(peer, draw(st.sampled_from(Family)))
        case "down":
            how = draw(st.sampled_from(["without_notification", "returning", "begun_anew", "was_up"]))
            return SessionDown(peer, "gone", **{how: True})
        case _:
            return draw(st.sampled_from([SpeakerLost("gone"), PeerRemoved(peer), PeerRemoved(peer, replaced=True)]))


def known(rib):
    return {
        peer: (
            rib.session(peer),
            rib.heard_on(peer),
            rib.is_away(peer),
            rib.synced(peer),
            rib.kept(peer),
            dict(rib.heard_from(peer)),
        )
        for peer in rib.peers()
    }


def written(rib, peer):
    routes = [route for route in routes_of(list(rib.heard_from(peer).items()), rib.kept(peer)) if route]
    return {"peer": str(peer), "session": about_session(rib, peer), "routes": routes}


@given(history=st.lists(events(), min_size=4, max_size=20))
@settings(deadline=None)
def test_what_was_heard_comes_back_as_it_was(history):
    """A session comes before what is heard on it, as the speaker tells it."""
    rib, again = Rib(), Rib()
    for event in history:
        if isinstance(event, PathsHeard | EndOfRib) and rib.session(event.peer) is None:
            rib.apply(_usual(event.peer), 0.0)
        rib.apply(event, 0.0)
    for event in chain.from_iterable(read_heard(Field("heard", written(rib, peer))) for peer in rib.peers()):
        again.apply(event, 0.0)

    assert known(again) == known(rib)


def _usual(peer):
    router = ip_address("9.9.9.8")
    session = SessionUp(peer=peer, router_id=router, peer_asn=1, hold_seconds=9, families=frozenset(Family))
    return replace(session, restart_seconds=120, restart_families=frozenset(Family), forwarding_kept=frozenset(Family))
