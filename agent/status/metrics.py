"""The agent's figures for Prometheus, read from `Status` when somebody scrapes.

Nothing is counted here: each figure has its owner, and what a scrape costs follows from peers and objects, not from
routes. Labels are bounded: never a prefix; series per peer (`agent.status.peer_metrics`) for routers only, unless asked
for, and `mesh_peers` sums up the others. A counter whose labels are known is there from the start with 0: of one that
appears with its first event, Prometheus would not see that it has grown. A gauge of what nobody knows yet is not there:
0 would say that there is nothing.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import product
from typing import Final

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    SummaryMetricFamily,
)
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from agent.plan.refused import reasons
from agent.status.health import ailments
from agent.status.peer_metrics import counter, gauge, of_messages, of_prefixes, of_sessions
from agent.status.silent import silent
from agent.status.status import DRIFT_KINDS, VERSIONS, Status
from bgp.model import Family, SessionState

REFUSED: Final = "configurationRefused"
TABLES: Final = {254: "main"}
"""The kernel's name of its table; others have their number only."""
NO_ROUTES: Final[Mapping[tuple[int, int], int]] = dict.fromkeys(product(VERSIONS, TABLES), 0)
NO_OPERATIONS: Final = dict.fromkeys(product(("add", "replace", "delete"), ("ok", "failed", "conflict")), 0)


def make_registry(
    current: Callable[[], Status], *, clock: Callable[[], float], wall: Callable[[], float], mesh_peers: bool = False
) -> CollectorRegistry:
    """`clock` is the monotonic one of all instants in Status, `wall` gives Unix seconds.

    `mesh_peers`: series for each session with another node, too.
    """
    registry = CollectorRegistry(auto_describe=False)
    registry.register(StatusCollector(current, clock=clock, wall=wall, mesh_peers=mesh_peers))
    ProcessCollector(registry=registry)
    return registry


class StatusCollector(Collector):
    def __init__(
        self, current: Callable[[], Status], *, clock: Callable[[], float], wall: Callable[[], float], mesh_peers: bool
    ) -> None:
        self._current = current
        self._clock = clock
        self._wall = wall
        self._mesh_peers = mesh_peers

    def collect(self) -> Iterable[Metric]:
        status = self._current()
        now = self._clock()
        wall_offset = self._wall() - now
        peers = [peer for peer in status.sessions() if self._mesh_peers or not peer.mesh]
        yield from _agent(status, now)
        yield from _exabgp(status, wall_offset)
        yield from of_sessions(status, peers, wall_offset)
        yield from of_prefixes(status, peers)
        yield from of_messages(status, peers)
        yield from _refused(status)
        yield from _mesh_and_rib(status)
        yield from _kernel(status)
        yield from _latencies(status)
        yield from _errors(status)
        yield from _cluster(status, now)
        yield from _events(status)


def _agent(status: Status, now: float) -> Iterator[Metric]:
    build = InfoMetricFamily("bgpilot_build", "Version of the agent.")
    build.add_metric([], {"version": status.version})
    yield build
    phase = gauge("phase", "1 for the phase the agent is in.", "phase")
    phase.add_metric([status.phase], 1)
    yield phase
    yield GaugeMetricFamily("bgpilot_uptime_seconds", "Since the agent started.", value=now - status.started_at)
    reasons = gauge("degraded", "1 for each reason why the agent is not healthy.", "reason")
    for ailment in ailments(status, now):
        reasons.add_metric([ailment.reason], 1)
    yield reasons
    problems = gauge("problems", "What the user should mend, by reason word.", "reason")
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
    yield GaugeMetricFamily(
        "bgpilot_event_loop_tasks", "Tasks of the event loop; does not grow with time.", value=figures.tasks
    )


def _exabgp(status: Status, wall_offset: float) -> Iterator[Metric]:
    figures = status.figures
    yield CounterMetricFamily(
        "bgpilot_exabgp_restarts", "How often ExaBGP had to be started again.", value=figures.speaker_restarts
    )
    yield CounterMetricFamily(
        "bgpilot_audit_corrected",
        "Entries of ExaBGP's table that were not as believed, and mended.",
        value=figures.audit_corrected,
    )
    success = gauge(
        "config_last_reload_success", "1 when ExaBGP has the peers that are wanted, 0 when it refused them."
    )
    refused = any(problem.reason == REFUSED for problem in status.problems)
    if refused or figures.configured_at is not None:
        success.add_metric([], not refused)
    yield success
    taken = gauge("config_last_reload_success_timestamp_seconds", "When ExaBGP last took another configuration.")
    if figures.configured_at is not None:
        taken.add_metric([], figures.configured_at + wall_offset)
    yield taken


def _refused(status: Status) -> Iterator[Metric]:
    services = gauge("services_not_advertised", "Services with an address that is not announced from here.", "reason")
    for why, found in sorted(silent(status).items()):
        services.add_metric([why], len(found))
    yield services
    routes = gauge("routes_refused", "Routes heard and not used, or not told to a peer.", "direction", "reason")
    for direction, refused in (("in", status.plan.refused_in), ("out", status.plan.refused_out)):
        for why, count in sorted(reasons(refused).items()):
            routes.add_metric([direction, why], count)
    yield routes


def _mesh_and_rib(status: Status) -> Iterator[Metric]:
    if status.has_picture:
        yield from _mesh(status)
        yield _rib(status)
    failing = gauge("bgp_routes_failing", "Routes that ExaBGP refused and that are tried again.")
    failing.add_metric([], len(status.outbox.failing))
    yield failing


def _mesh(status: Status) -> Iterator[Metric]:
    mesh = gauge("mesh_peers", "Sessions with other nodes, by state.", "state")
    counts = Counter(status.peer_state(peer.address).state for peer in status.plan.peers.values() if peer.mesh)
    for state in SessionState:
        mesh.add_metric([str(state)], counts[state])
    yield mesh
    kept = sum(peer.mesh and status.rib.stale_count(peer.address) > 0 for peer in status.plan.peers.values())
    yield GaugeMetricFamily(
        "bgpilot_mesh_graceful_restarts_active", "Other nodes whose paths are kept for a while.", value=kept
    )


def _rib(status: Status) -> Metric:
    paths = gauge("rib_paths", "Paths heard, by family and by who told them.", "afi", "origin")
    heard: Counter[tuple[Family, str]] = Counter()
    for peer in status.plan.peers.values():
        for family in Family:
            heard[family, "mesh" if peer.mesh else "external"] += status.rib.count(peer.address, family)
    for family in Family:
        for origin in ("mesh", "external"):
            paths.add_metric([str(family), origin], heard[family, origin])
    return paths


def _kernel(status: Status) -> Iterator[Metric]:
    routes = gauge("fib_routes", "Routes of ours in the kernel, by its table.", "afi", "table")
    found = {**NO_ROUTES, **status.fib.counts} if status.fib.is_read else {}
    for (version, table), count in sorted(found.items()):
        routes.add_metric([str(VERSIONS[version]), TABLES.get(table) or str(table)], count)
    yield routes
    yield GaugeMetricFamily(
        "bgpilot_fib_routes_failing", "Routes that the kernel refused.", value=len(status.fib.failing)
    )
    yield GaugeMetricFamily(
        "bgpilot_fib_routes_conflicting", "Routes whose place another protocol holds.", value=len(status.fib.conflicts)
    )
    operations = counter("fib_operations", "Writes to the kernel's table.", "operation", "result")
    for (operation, result), count in sorted({**NO_OPERATIONS, **status.fib.operations}.items()):
        operations.add_metric([operation, result], count)
    yield operations
    drift = counter("fib_drift_routes", "Routes of ours found other than we left them.", "kind")
    for kind in DRIFT_KINDS:
        drift.add_metric([kind], status.fib.drift.get(kind, 0))
    yield drift


def _latencies(status: Status) -> Iterator[Metric]:
    measured = status.figures.latencies
    for name, text, histogram in (
        ("route_programming", "From a peer's UPDATE until the kernel has the route.", measured.programming),
        ("service_advertisement", "From a Service's change until ExaBGP has the route.", measured.advertising),
    ):
        yield HistogramMetricFamily(
            f"bgpilot_{name}_latency_seconds",
            text,
            buckets=[(_bound(bound), count) for bound, count in histogram.buckets()],
            sum_value=histogram.sum,
        )


def _bound(seconds: float) -> str:
    return "+Inf" if math.isinf(seconds) else str(seconds)


def _errors(status: Status) -> Iterator[Metric]:
    """What a driver tried and could not do; each attempt counts."""
    errors = counter("reconcile_errors", "What could not be done, each time that it was tried.", "driver", "reason")
    results = Counter[str]()
    for (_, result), count in status.fib.operations.items():
        results[result] += count
    for driver, reason, count in (
        ("kernel", "kernelRefused", results["failed"]),
        ("kernel", "kernelConflict", results["conflict"]),
        ("kernel", "kernelUnreadable", status.fib.read_failures),
        ("exabgp", "speakerRefused", status.outbox.refusals),
        ("exabgp", REFUSED, status.figures.configurations_refused),
    ):
        errors.add_metric([driver, reason], count)
    yield errors


def _cluster(status: Status, now: float) -> Iterator[Metric]:
    restarts = counter("kubernetes_watch_restarts", "Watches begun again.", "resource", "reason")
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
    written = counter("events", "Kubernetes Events, by what became of them.", "result")
    for result, count in sorted(status.figures.events.items()):
        written.add_metric([result], count)
    yield written
    yield CounterMetricFamily(
        "bgpilot_events_dropped",
        "What was worth an Event and over before it could be written.",
        value=status.figures.events_dropped,
    )
