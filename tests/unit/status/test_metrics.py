"""Metrics: the names and labels that dashboards rely on, and the promises about their presence."""

from __future__ import annotations

import pytest
from prometheus_client.exposition import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from agent.status.metrics import make_registry
from agent.status.status import Figures
from agent.status.views import status_view
from bgp.check import Reason
from bgp.model import RouteKey, SessionState
from tests.unit.status.scene import MATE, MATE_PODS, NOW, STRAY, TOR, TOR6, WEB, Scene, learned, missing_secret

WALL_AHEAD = 1_700_000_000.0


@pytest.fixture
def scene():
    return Scene()


def scrape(scene, **fields):
    registry = make_registry(lambda: scene.status(**fields), clock=lambda: NOW, wall=lambda: NOW + WALL_AHEAD)
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

    assert samples(scene, "bgpilot_fib_routes") == {labels(afi="ipv4"): 2, labels(afi="ipv6"): 0}
    assert samples(scene, "bgpilot_fib_operations_total") == {labels(operation="add", result="ok"): 2}
    assert samples(scene, "bgpilot_fib_drift_routes_total") == {labels(kind="missing"): 1}
    assert samples(scene, "bgpilot_problems") == {labels(reason="secretMissing"): 1}
    assert samples(scene, "bgpilot_kubernetes_watch_restarts_total") == {
        labels(resource="Node", reason="streamEnded"): 3
    }
    assert only("bgpilot_kubernetes_picture_age_seconds") == 4
    assert only("bgpilot_event_loop_lag_seconds") == 0.01
    assert (only("bgpilot_plan_duration_seconds_count"), only("bgpilot_plan_duration_seconds_sum")) == (4, 0.5)
    assert samples(scene, "bgpilot_phase") == {labels(phase="IN_SYNC"): 1}
    assert samples(scene, "bgpilot_build_info") == {labels(version="1.2.3"): 1}
    assert samples(scene, "bgpilot_rib_paths")[labels(afi="ipv4", origin="mesh")] == 1


def test_what_is_not_advertised_and_what_is_refused_is_counted_by_reason(scene):
    scene.refused_in.clear()
    for address in ("198.51.100.8", "198.51.100.9"):
        scene.not_advertised[WEB, address] = "externalIPNotAllowed"
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
