"""deploy/monitoring as a real kubectl renders it. What its parts say is tested in tests/unit/monitoring."""

from __future__ import annotations

import json

import pytest
import yaml

from tests.lab.gobuild import PROJECT, binary
from tests.lab.procs import run

pytestmark = pytest.mark.cluster

MONITORING = PROJECT / "deploy/monitoring"


def test_kustomize_makes_the_monitor_the_rules_and_the_dashboard_for_grafanas_sidecar() -> None:
    made = {
        thing["kind"]: thing for thing in yaml.safe_load_all(run([binary("kubectl"), "kustomize", MONITORING]).stdout)
    }

    assert set(made) == {"PodMonitor", "PrometheusRule", "ConfigMap"}
    assert {thing["metadata"]["namespace"] for thing in made.values()} == {"bgpilot-system"}
    dashboard = made["ConfigMap"]
    assert dashboard["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert json.loads(dashboard["data"]["bgpilot.json"]) == json.loads((MONITORING / "dashboard.json").read_text())
    assert made["PrometheusRule"]["spec"] == yaml.safe_load((MONITORING / "prometheusrule.yaml").read_text())["spec"]
