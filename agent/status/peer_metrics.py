"""The figures of single sessions, for Prometheus; `agent.status.metrics` has all others.

There for routers, as long as they are configured, whether there is a session or not; for other nodes only where
somebody asks for it, since those grow with the square of the nodes. Nothing is learned into a label: what a session is
called does not change when it comes up.
"""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from agent.status.peers import EXTERNAL
from agent.status.status import Status
from bgp.model import Direction, Peer, SessionState

SAFI = "unicast"
MESSAGES = (
    (Direction.RECEIVED, "open"),
    (Direction.RECEIVED, "update"),
    (Direction.RECEIVED, "notification"),
    (Direction.RECEIVED, "refresh"),
    (Direction.SENT, "open"),
    (Direction.SENT, "notification"),
)
"""What ExaBGP tells of."""


def of_sessions(status: Status, peers: list[Peer], wall_offset: float) -> Iterator[Metric]:
    """`wall_offset`: from the monotonic clock to Unix time."""
    names = ("peer", "peer_as")
    info = gauge("bgp_peer_info", "1 for each peer, to join on.", *names, "description", "peer_type")
    up = gauge("bgp_peer_up", "1 when the session is established.", *names)
    states = gauge("bgp_peer_state", "1 for the state (RFC 4271 8.2.2) the session is in.", *names, "state")
    changed = gauge("bgp_peer_last_state_change_timestamp_seconds", "When the session last came up or ended.", *names)
    hold = gauge("bgp_peer_hold_time_seconds", "Hold time, negotiated when the session is up.", *names)
    flaps = counter("bgp_peer_flaps", "How often an established session was lost.", *names)
    no_session = gauge("bgp_peer_held", "1 while there must be no session, such as in a shutdown.", *names, "reason")
    restarting = gauge(
        "bgp_graceful_restart_active", "1 while paths of the peer are kept though nobody vouches for them.", *names
    )
    for peer in peers:
        labels = labels_of(peer)
        state = status.peer_state(peer.address)
        info.add_metric([*labels, peer.description or peer.name, "internal" if peer.internal else "external"], 1)
        up.add_metric(labels, status.is_up(peer.address))
        if (held := status.held(peer)) is not None:
            no_session.add_metric([*labels, held.reason], 1)
        for it in SessionState:
            states.add_metric([*labels, str(it)], state.state is it)
        if state.since:
            changed.add_metric(labels, state.since + wall_offset)
        hold.add_metric(labels, peer.hold_seconds if state.up is None else state.up.hold_seconds)
        flaps.add_metric(labels, state.flaps)
        restarting.add_metric(labels, status.rib.stale_count(peer.address) > 0)
    yield from (info, up, no_session, states, changed, hold, flaps, restarting)


def of_prefixes(status: Status, peers: list[Peer]) -> Iterator[Metric]:
    names = ("peer", "peer_as", "afi", "safi")
    received = gauge("bgp_prefixes_received", "Prefixes the peer announces.", *names)
    accepted = gauge("bgp_prefixes_accepted", "Prefixes of the peer that are admitted.", *names)
    advertised = gauge("bgp_prefixes_advertised", "Prefixes told to the peer.", *names)
    refused = status.refused_counts()
    for peer in peers:
        for family in sorted(peer.families):
            labels = [*labels_of(peer), str(family), SAFI]
            count = status.rib.count(peer.address, family)
            received.add_metric(labels, count)
            accepted.add_metric(labels, max(0, count - refused.get((peer.address, family), 0)))
            advertised.add_metric(labels, status.sent_count(peer, family))
    yield from (received, accepted, advertised)


def of_messages(status: Status, peers: list[Peer]) -> Iterator[Metric]:
    messages = counter(
        "bgp_messages", "BGP messages, of the kinds that ExaBGP tells of; no KEEPALIVE.", "peer", "direction", "type"
    )
    notifications = counter(
        "bgp_notifications",
        "NOTIFICATIONs; code 0 stands for those of a peer that has sent too many kinds.",
        *("peer", "peer_as", "direction", "code", "subcode"),
    )
    tally = status.figures.tally
    for peer in peers:
        counted = tally.messages(peer.address)
        for direction, kind in MESSAGES:
            messages.add_metric([str(peer.address), str(direction), kind], counted.get((direction, kind), 0))
        for (direction, code, subcode), count in sorted(tally.notifications(peer.address).items()):
            notifications.add_metric([*labels_of(peer), str(direction), str(code), str(subcode)], count)
    yield from (messages, notifications)


def labels_of(peer: Peer) -> list[str]:
    """Address and AS as configured: what is learned in between must not make another series."""
    return [str(peer.address), EXTERNAL if peer.peer_asn is None else str(peer.peer_asn)]


def gauge(name: str, text: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"bgpilot_{name}", text, labels=labels)


def counter(name: str, text: str, *labels: str) -> CounterMetricFamily:
    return CounterMetricFamily(f"bgpilot_{name}", text, labels=labels)
