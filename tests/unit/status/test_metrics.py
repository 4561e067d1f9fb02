"""Metrics: the names and labels that dashboards rely on, and the promises about their presence."""

from __future__ import annotations

from collections import Counter
from ipaddress import ip_address

import pytest
from prometheus_client.exposition import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from agent.latencies import Latencies
from agent.model import Problem
from agent.plan.refused import Refused
from agent.status.metrics import make_registry
from agent.status.status import Figures
from agent.status.views import status_view
from bgp.check import Reason
from bgp.exaevents import Notified
from bgp.model import Direction, PathsHeard, RouteKey, SessionState
from bgp.tally import CODES_MAX, Tally
from tests.unit.status.scene import (
    MATE,
    MATE_PODS,
    NOW,
    STRAY,
    TOR,
    TOR6,
    VIP,
    WEB,
    KernelTable,
    Scene,
    learned,
    missing_secret,
    peer,
)

WALL_AHEAD = 1_700_000_000.0


@pytest.fixture
def scene():
    return Scene()


def scrape(scene, *, mesh_peers=False, **fields):
    registry = make_registry(
        lambda: scene.status(**fields), clock=lambda: NOW, wall=lambda: NOW + WALL_AHEAD, mesh_peers=mesh_peers
    )
    return list(text_string_to_metric_families(generate_latest(registry).decode()))


def samples(scene, name, **fields):
    found = [it for family in scrape(scene, **fields) for it in family.samples if it.name == name]
    return {tuple(sorted(it.labels.items())): it.value for it in found}


def labels(**pairs):
    return tuple(sorted(pairs.items()))


def test_peer_up_is_there_as_long_as_the_peer_is_configured_and_only_for_external_peers(scene):
    ups = samples(scene, "bgpilot_bgp_peer_up")

    assert ups == {labels(peer="192.0.2.254", peer_as="65000"): 1, labels(peer="2001:db8::fe", peer_as="65001"): 0}
    del scene.states[TOR6]
    assert samples(scene, "bgpilot_bgp_peer_up") == ups


def test_mesh_peers_are_summed_up_and_appear_in_no_series_of_their_own(scene):
    mesh = samples(scene, "bgpilot_mesh_peers")

    assert mesh[labels(state="Established")] == 1
    assert len(mesh) == len(SessionState)
    everything = [it for family in scrape(scene) for it in family.samples]
    assert str(MATE) not in {it.labels.get("peer") for it in everything}


def test_conflicts_in_the_kernel_are_a_problem_and_degrade_as_in_the_status(scene):
    scene.kernel.conflicts = {learned(MATE_PODS): "static", learned(STRAY): "boot"}

    assert samples(scene, "bgpilot_problems") == {labels(reason="kernelConflict"): 2}
    words = status_view(scene.status(), NOW)["degraded"]
    assert samples(scene, "bgpilot_degraded") == {labels(reason=word): 1 for word in words}
    assert words == ["kernelConflict", "sessionDown"]


def test_no_label_holds_a_prefix(scene):
    scene.problems.add(missing_secret())

    values = {value for family in scrape(scene) for it in family.samples for value in it.labels.values()}
    assert not any("/" in value for value in values if not value.startswith(("BGPPeer/", "node/")))


def test_names_keep_the_rules(scene):
    scene.kernel.operations["add", "ok"] = 2
    scene.kernel.drift["missing"] = 1

    for family in scrape(scene):
        assert family.documentation
        if family.type == "gauge":
            assert not family.name.endswith("_total")
        assert family.name.startswith(("bgpilot_", "process_"))


def test_prefixes_are_counted_by_peer_and_family(scene):
    place = labels(peer="192.0.2.254", peer_as="65000", afi="ipv4", safi="unicast")

    assert samples(scene, "bgpilot_bgp_prefixes_received")[place] == 1
    assert samples(scene, "bgpilot_bgp_prefixes_accepted")[place] == 0
    assert samples(scene, "bgpilot_bgp_prefixes_advertised")[place] == 2


def test_instants_are_told_in_unix_time_and_never_established_is_told_by_absence(scene):
    name = "bgpilot_bgp_peer_last_state_change_timestamp_seconds"

    assert samples(scene, name) == {labels(peer="192.0.2.254", peer_as="65000"): NOW - 3661 + WALL_AHEAD}


def test_figures_of_kernel_cluster_and_loop_are_there(scene):
    scene.kernel.operations["add", "ok"] = 2
    scene.kernel.drift["missing"] = 1
    scene.problems.add(missing_secret())

    def only(name):
        (value,) = samples(scene, name).values()
        return value

    assert samples(scene, "bgpilot_fib_routes") == {
        labels(afi="ipv4", table="main"): 2,
        labels(afi="ipv6", table="main"): 0,
    }
    written = samples(scene, "bgpilot_fib_operations_total")
    assert {what: count for what, count in written.items() if count} == {labels(operation="add", result="ok"): 2}
    assert samples(scene, "bgpilot_fib_drift_routes_total") == {
        labels(kind="missing"): 1,
        labels(kind="changed"): 0,
        labels(kind="unexpected"): 0,
    }
    assert samples(scene, "bgpilot_problems") == {labels(reason="secretMissing"): 1}
    assert samples(scene, "bgpilot_kubernetes_watch_restarts_total") == {
        labels(resource="Node", reason="streamEnded"): 3
    }
    assert only("bgpilot_kubernetes_picture_age_seconds") == 4
    assert only("bgpilot_event_loop_lag_seconds") == 0.01
    assert only("bgpilot_event_loop_tasks") == 12
    assert (only("bgpilot_plan_duration_seconds_count"), only("bgpilot_plan_duration_seconds_sum")) == (4, 0.5)
    assert samples(scene, "bgpilot_phase") == {labels(phase="IN_SYNC"): 1}
    assert samples(scene, "bgpilot_build_info") == {labels(version="1.2.3"): 1}
    assert samples(scene, "bgpilot_rib_paths")[labels(afi="ipv4", origin="mesh")] == 1


def test_what_is_not_advertised_and_what_is_refused_is_counted_by_reason(scene):
    scene.refused_in.clear()
    for address in ("198.51.100.8", "198.51.100.9"):
        scene.not_advertised[WEB, address] = "externalIPNotAllowed"
    scene.not_advertised[WEB, f"{VIP.network_address} (BGPAdvertisement strict)"] = "noEndpoint"  # another does
    scene.hear(TOR, STRAY, MATE_PODS, reason="importNotAllowed")
    scene.refused_out[RouteKey(TOR6, STRAY)] = Reason.FAMILY_NOT_SPOKEN

    assert samples(scene, "bgpilot_services_not_advertised") == {labels(reason="externalIPNotAllowed"): 1}
    assert samples(scene, "bgpilot_routes_refused") == {
        labels(direction="in", reason="importNotAllowed"): 2,
        labels(direction="out", reason="familyNotSpoken"): 1,
    }


def test_events_are_counted_by_what_became_of_them(scene):
    figures = Figures(events={"written": 3, "failed": 1}, events_dropped=2)

    assert samples(scene, "bgpilot_events_total", figures=figures) == {
        labels(result="written"): 3,
        labels(result="failed"): 1,
    }
    assert samples(scene, "bgpilot_events_dropped_total", figures=figures) == {(): 2}


PEER, FAMILY = ("peer", "peer_as"), ("afi", "safi")
PROMISED = {
    "build_info": ("version",),
    "bgp_peer_info": (*PEER, "description", "peer_type"),
    "bgp_peer_up": PEER,
    "bgp_peer_state": (*PEER, "state"),
    "bgp_peer_last_state_change_timestamp_seconds": PEER,
    "bgp_peer_hold_time_seconds": PEER,
    "bgp_peer_flaps_total": PEER,
    "bgp_notifications_total": (*PEER, "direction", "code", "subcode"),
    "bgp_messages_total": ("peer", "direction", "type"),
    "bgp_prefixes_received": (*PEER, *FAMILY),
    "bgp_prefixes_accepted": (*PEER, *FAMILY),
    "bgp_prefixes_advertised": (*PEER, *FAMILY),
    "bgp_graceful_restart_active": PEER,
    "mesh_peers": ("state",),
    "rib_paths": ("afi", "origin"),
    "fib_routes": ("afi", "table"),
    "fib_operations_total": ("operation", "result"),
    "fib_drift_routes_total": ("kind",),
    "route_programming_latency_seconds_bucket": ("le",),
    "service_advertisement_latency_seconds_bucket": ("le",),
    "plan_duration_seconds_sum": (),
    "reconcile_errors_total": ("driver", "reason"),
    "kubernetes_watch_restarts_total": ("resource", "reason"),
    "kubernetes_picture_age_seconds": (),
    "problems": ("reason",),
    "config_last_reload_success": (),
    "config_last_reload_success_timestamp_seconds": (),
    "exabgp_restarts_total": (),
    "event_loop_lag_seconds": (),
}


def told_of(*events):
    tally = Tally()
    for event in events:
        tally.count(event)
    return tally


def test_every_name_that_others_rely_on_is_there_with_its_labels(scene):
    scene.problems.add(missing_secret())
    figures = Figures(configured_at=NOW - 5, tally=told_of(Notified(TOR, Direction.RECEIVED, 6, 2, "")))

    found = {it.name: set(it.labels) for family in scrape(scene, figures=figures) for it in family.samples}

    assert {name: found.get(f"bgpilot_{name}") for name in PROMISED} == {it: set(PROMISED[it]) for it in PROMISED}


def test_messages_and_notifications_are_counted_by_peer(scene):
    heard = (Notified(TOR, Direction.RECEIVED, 6, 2, "tea"), PathsHeard(TOR, ()), PathsHeard(TOR, ()))
    figures = Figures(tally=told_of(*heard))

    assert samples(scene, "bgpilot_bgp_notifications_total", figures=figures) == {
        labels(peer="192.0.2.254", peer_as="65000", direction="received", code="6", subcode="2"): 1
    }
    messages = samples(scene, "bgpilot_bgp_messages_total", figures=figures)
    assert messages[labels(peer="192.0.2.254", direction="received", type="update")] == 2
    assert messages[labels(peer="192.0.2.254", direction="received", type="notification")] == 1
    assert messages[labels(peer="2001:db8::fe", direction="received", type="update")] == 0, "there from the start"


def test_what_could_not_be_done_is_counted_by_driver_and_reason(scene):
    scene.kernel.operations.update({("add", "failed"): 2, ("replace", "failed"): 1, ("add", "conflict"): 4})
    scene.kernel.read_failures = 5

    errors = samples(scene, "bgpilot_reconcile_errors_total", figures=Figures(configurations_refused=6))

    assert errors == {
        labels(driver="kernel", reason="kernelRefused"): 3,
        labels(driver="kernel", reason="kernelConflict"): 4,
        labels(driver="kernel", reason="kernelUnreadable"): 5,
        labels(driver="exabgp", reason="speakerRefused"): 0,
        labels(driver="exabgp", reason="configurationRefused"): 6,
    }


def test_a_configuration_that_is_refused_is_no_success_and_before_the_first_one_there_is_none(scene):
    name = "bgpilot_config_last_reload_success"
    assert (samples(scene, name), samples(scene, f"{name}_timestamp_seconds")) == ({}, {})

    taken = Figures(configured_at=NOW - 5)
    assert samples(scene, name, figures=taken) == {(): 1}
    assert samples(scene, f"{name}_timestamp_seconds", figures=taken) == {(): NOW - 5 + WALL_AHEAD}
    scene.problems.add(Problem("configurationRefused", "ExaBGP", "unknown word", "Mend it."))
    assert samples(scene, name, figures=taken) == {(): 0}


def test_latencies_are_histograms(scene):
    latencies = Latencies()
    latencies.programming.observe(0.02)
    latencies.advertising.observe(1000.0)
    figures = Figures(latencies=latencies)

    buckets = samples(scene, "bgpilot_route_programming_latency_seconds_bucket", figures=figures)
    assert (buckets[labels(le="0.01")], buckets[labels(le="0.025")], buckets[labels(le="+Inf")]) == (0, 1, 1)
    assert samples(scene, "bgpilot_service_advertisement_latency_seconds_sum", figures=figures) == {(): 1000}
    assert samples(scene, "bgpilot_service_advertisement_latency_seconds_count", figures=figures) == {(): 1}


def mesh_of(scene, count):
    for number in range(count):
        address = ip_address("10.0.0.1") + number
        scene.peers[address] = peer(address, f"node/worker-{number}", 64512, mesh=True)
        scene.session_up(address)


def series(scene, **settings):
    return sum(len(family.samples) for family in scrape(scene, **settings))


def test_five_hundred_nodes_make_no_more_series_than_one(scene):
    before = series(scene)

    mesh_of(scene, 500)

    assert series(scene) == before
    assert before < 200
    assert samples(scene, "bgpilot_mesh_peers")[labels(state="Established")] == 501


def test_series_of_sessions_between_nodes_are_there_for_who_asks_for_them_and_so_many_for_each(scene):
    before = series(scene, mesh_peers=True)

    mesh_of(scene, 500)

    each = (series(scene, mesh_peers=True) - before) / 500
    assert each == int(each) <= 24, "of one family"
    assert samples(scene, "bgpilot_bgp_peer_up", mesh_peers=True)[labels(peer="10.0.0.1", peer_as="64512")] == 1


def test_a_router_that_sends_all_the_codes_there_are_makes_a_bounded_number_of_series(scene):
    every = (Notified(TOR, Direction.RECEIVED, code, sub, "") for code in range(1, 256) for sub in range(256))

    counted = samples(scene, "bgpilot_bgp_notifications_total", figures=Figures(tally=told_of(*every)))

    assert len(counted) == CODES_MAX + 1
    assert sum(counted.values()) == 255 * 256


class Unlooked(Refused):
    """A table that must not be gone through."""

    def __iter__(self):
        raise AssertionError("a scrape has gone through all that is refused")

    values = items = keys = __iter__


def test_a_scrape_does_not_go_through_the_routes_that_are_refused_or_in_the_kernel(scene):
    scene.refused_in = Unlooked()
    scene.refused_in.count(RouteKey(TOR, STRAY), "importNotAllowed", 1_000_000)
    scene.kernel.actual = Unlooked()
    scene.kernel.__class__ = Counting

    assert samples(scene, "bgpilot_routes_refused") == {labels(direction="in", reason="importNotAllowed"): 1_000_000}
    assert samples(scene, "bgpilot_fib_routes")[labels(afi="ipv4", table="main")] == 7


class Counting(KernelTable):
    @property
    def counts(self):
        return Counter({(4, 254): 7})
