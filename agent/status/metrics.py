"""The agent's figures for Prometheus, read from `Status` at the moment of a scrape.

Nothing is counted here: each figure has its owner. Labels are bounded: never a prefix, and series per peer for external
peers only, since those of mesh peers grow with the square of the nodes (`mesh_peers` sums them up). `bgp_peer_up` is
there as long as the peer is configured.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, SummaryMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from agent.status.health import ailments
from agent.status.peers import EXTERNAL
from agent.status.status import Status
from bgp.model import Family, Peer, SessionState

_SAFI = "unicast"


def make_registry(
    current: Callable[[], Status], *, clock: Callable[[], float], wall: Callable[[], float]
) -> CollectorRegistry:
    """`clock` is the monotonic one of all instants in Status, `wall` gives Unix seconds."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(StatusCollector(current, clock=clock, wall=wall))
    ProcessCollector(registry=registry)
    return registry


class StatusCollector(Collector):
    def __init__(self, current: Callable[[], Status], *, clock: Callable[[], float], wall: Callable[[], float]) -> None:
        self._current = current
        self._clock = clock
        self._wall = wall

    def collect(self) -> Iterable[Metric]:
        status = self._current()
        now = self._clock()
        yield from _agent(status, now)
        yield from _peers(status, wall_offset=self._wall() - now)
        yield from _prefixes(status)
        yield from _refused(status)
        yield from _mesh_and_rib(status)
        yield from _kernel(status)
        yield from _cluster(status, now)
        yield from _events(status)


def _gauge(name: str, text: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"bgpilot_{name}", text, labels=labels)


def _counter(name: str, text: str, *labels: str) -> CounterMetricFamily:
    return CounterMetricFamily(f"bgpilot_{name}", text, labels=labels)


def _agent(status: Status, now: float) -> Iterator[Metric]:
    build = InfoMetricFamily("bgpilot_build", "Version of the agent.")
    build.add_metric([], {"version": status.version})
    yield build
    phase = _gauge("phase", "1 for the phase the agent is in.", "phase")
    phase.add_metric([status.phase], 1)
    yield phase
    yield GaugeMetricFamily("bgpilot_uptime_seconds", "Since the agent started.", value=now - status.started_at)
    reasons = _gauge("degraded", "1 for each reason why the agent is not healthy.", "reason")
    for ailment in ailments(status, now):
        reasons.add_metric([ailment.reason], 1)
    yield reasons
    problems = _gauge("problems", "What the user should mend, by reason word.", "reason")
    counts = Counter(problem.reason for problem in status.problems)
    if status.fib.conflicts:
        counts["kernelConflict"] += len(status.fib.conflicts)
    for word, count in sorted(counts.items()):
        problems.add_metric([word], count)
    yield problems
    figures = status.figures
    yield SummaryMetricFamily(
        "bgpilot_plan_duration_seconds",
        "Time spent on planning, by pass.",
        count_value=figures.passes,
        sum_value=figures.plan_seconds,
    )
    yield GaugeMetricFamily(
        "bgpilot_event_loop_lag_seconds", "Worst stall of the event loop lately.", value=figures.lag_seconds
    )
    yield CounterMetricFamily(
        "bgpilot_exabgp_restarts", "How often ExaBGP had to be started again.", value=figures.speaker_restarts
    )
    yield CounterMetricFamily(
        "bgpilot_audit_corrected",
        "Entries of ExaBGP's table that were not as believed, and mended.",
        value=figures.audit_corrected,
    )


def _peers(status: Status, wall_offset: float) -> Iterator[Metric]:
    names = ("peer", "peer_as")
    info = _gauge("bgp_peer_info", "1 for each external peer, to join on.", *names, "description", "peer_type")
    up = _gauge("bgp_peer_up", "1 when the session is established.", *names)
    states = _gauge("bgp_peer_state", "1 for the state (RFC 4271 8.2.2) the session is in.", *names, "state")
    changed = _gauge("bgp_peer_last_state_change_timestamp_seconds", "When the session last came up or ended.", *names)
    hold = _gauge("bgp_peer_hold_time_seconds", "Hold time, negotiated when the session is up.", *names)
    flaps = _counter("bgp_peer_flaps", "How often an established session was lost.", *names)
    no_session = _gauge("bgp_peer_held", "1 while there must be no session, such as in a shutdown.", *names, "reason")
    restarting = _gauge(
        "bgp_graceful_restart_active", "1 while paths of the peer are kept though nobody vouches for them.", *names
    )
    for peer in _external(status):
        labels = _labels(peer)
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


def _prefixes(status: Status) -> Iterator[Metric]:
    names = ("peer", "peer_as", "afi", "safi")
    received = _gauge("bgp_prefixes_received", "Prefixes the peer announces.", *names)
    accepted = _gauge("bgp_prefixes_accepted", "Prefixes of the peer that are admitted.", *names)
    advertised = _gauge("bgp_prefixes_advertised", "Prefixes told to the peer.", *names)
    refused = status.refused_counts()
    for peer in _external(status):
        for family in sorted(peer.families):
            labels = [*_labels(peer), str(family), _SAFI]
            count = status.rib.count(peer.address, family)
            received.add_metric(labels, count)
            accepted.add_metric(labels, max(0, count - refused.get((peer.address, family), 0)))
            advertised.add_metric(labels, status.sent_count(peer, family))
    yield from (received, accepted, advertised)


def _refused(status: Status) -> Iterator[Metric]:
    services = _gauge("services_not_advertised", "Services with an address that is not announced from here.", "reason")
    silent = Counter(why for _, why in {(key, why) for (key, _), why in status.plan.not_advertised.items()})
    for why, count in sorted(silent.items()):
        services.add_metric([why], count)
    yield services
    routes = _gauge("routes_refused", "Routes heard and not used, or not told to a peer.", "direction", "reason")
    for direction, refused in (("in", status.plan.refused_in), ("out", status.plan.refused_out)):
        for why, count in sorted(Counter(map(str, refused.values())).items()):
            routes.add_metric([direction, why], count)
    yield routes


def _mesh_and_rib(status: Status) -> Iterator[Metric]:
    mesh = _gauge("mesh_peers", "Sessions with other nodes, by state.", "state")
    counts = Counter(status.peer_state(peer.address).state for peer in status.plan.peers.values() if peer.mesh)
    for state in SessionState:
        mesh.add_metric([str(state)], counts[state])
    yield mesh
    kept = sum(peer.mesh and status.rib.stale_count(peer.address) > 0 for peer in status.plan.peers.values())
    yield GaugeMetricFamily(
        "bgpilot_mesh_graceful_restarts_active", "Other nodes whose paths are kept for a while.", value=kept
    )
    paths = _gauge("rib_paths", "Paths heard, by family and by who told them.", "afi", "origin")
    heard: Counter[tuple[Family, str]] = Counter()
    for peer in status.plan.peers.values():
        for family in Family:
            heard[family, "mesh" if peer.mesh else "external"] += status.rib.count(peer.address, family)
    for family in Family:
        for origin in ("mesh", "external"):
            paths.add_metric([str(family), origin], heard[family, origin])
    yield paths
    failing = _gauge("bgp_routes_failing", "Routes that ExaBGP refused and that are tried again.")
    failing.add_metric([], len(status.outbox.failing))
    yield failing


def _kernel(status: Status) -> Iterator[Metric]:
    routes = _gauge("fib_routes", "Routes of ours in the kernel.", "afi")
    counts = Counter(Family.of(key.prefix) for key in status.fib.actual)
    for family in Family:
        routes.add_metric([str(family)], counts[family])
    yield routes
    yield GaugeMetricFamily(
        "bgpilot_fib_routes_failing", "Routes that the kernel refused.", value=len(status.fib.failing)
    )
    yield GaugeMetricFamily(
        "bgpilot_fib_routes_conflicting", "Routes whose place another protocol holds.", value=len(status.fib.conflicts)
    )
    operations = _counter("fib_operations", "Writes to the kernel's table.", "operation", "result")
    for (operation, result), count in sorted(status.fib.operations.items()):
        operations.add_metric([operation, result], count)
    yield operations
    drift = _counter("fib_drift_routes", "Routes of ours found other than we left them.", "kind")
    for kind, count in sorted(status.fib.drift.items()):
        drift.add_metric([kind], count)
    yield drift


def _cluster(status: Status, now: float) -> Iterator[Metric]:
    restarts = _counter("kubernetes_watch_restarts", "Watches begun again.", "resource", "reason")
    totals: Counter[tuple[str, str]] = Counter()
    for watch in status.watches:
        for reason, count in watch.restarts:
            totals[str(watch.kind), reason] += count
    for (kind, reason), count in sorted(totals.items()):
        restarts.add_metric([kind, reason], count)
    yield restarts
    age = status.picture_age(now)
    yield GaugeMetricFamily(
        "bgpilot_kubernetes_picture_age_seconds",
        "Since the worst watch gave a sign of life; NaN before the first.",
        value=math.nan if age is None else age,
    )


def _events(status: Status) -> Iterator[Metric]:
    written = _counter("events", "Kubernetes Events, by what became of them.", "result")
    for result, count in sorted(status.figures.events.items()):
        written.add_metric([result], count)
    yield written
    yield CounterMetricFamily(
        "bgpilot_events_dropped",
        "What was worth an Event and over before it could be written.",
        value=status.figures.events_dropped,
    )


def _labels(peer: Peer) -> list[str]:
    """Address and AS as configured: what is learned in between must not make another series."""
    return [str(peer.address), EXTERNAL if peer.peer_asn is None else str(peer.peer_asn)]


def _external(status: Status) -> list[Peer]:
    return [peer for peer in status.sessions() if not peer.mesh]
