"""deploy/monitoring fits deploy/base: what it selects and names is there, and each file is in the kustomization."""

from __future__ import annotations

import json
import re
from html import unescape
from typing import Any

import yaml

from tests.lab.prometheus import PROJECT

MONITORING = PROJECT / "deploy/monitoring"
KUSTOMIZATION = yaml.safe_load((MONITORING / "kustomization.yaml").read_text())
DAEMON_SET = yaml.safe_load((PROJECT / "deploy/base/daemonset.yaml").read_text())


def parts() -> list[Any]:
    return [yaml.safe_load((MONITORING / name).read_text()) for name in KUSTOMIZATION["resources"]]


def test_every_file_is_in_the_kustomization_but_the_picture() -> None:
    named = {file.partition("=")[2] for entry in KUSTOMIZATION["configMapGenerator"] for file in entry["files"]}

    there = {path.name for path in MONITORING.iterdir()} - {"kustomization.yaml", "dashboard.svg"}
    assert there == {*KUSTOMIZATION["resources"], *named}


def test_all_of_it_is_in_the_agents_namespace() -> None:
    namespace = DAEMON_SET["metadata"]["namespace"]

    assert {KUSTOMIZATION["namespace"], *(part["metadata"]["namespace"] for part in parts())} == {namespace}


def test_the_monitor_selects_the_agents_pods_and_their_port() -> None:
    (monitor,) = (part for part in parts() if part["kind"] == "PodMonitor")
    template = DAEMON_SET["spec"]["template"]
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]

    labels = template["metadata"]["labels"]
    assert monitor["spec"]["selector"]["matchLabels"].items() <= labels.items()
    ports = {port["name"] for container in template["spec"]["containers"] for port in container["ports"]}
    assert endpoint["port"] in ports
    assert labels[monitor["spec"]["jobLabel"]] == "bgpilot", "the job that the alerts name"


def test_an_agent_is_known_by_its_node_so_that_its_series_outlive_its_pod() -> None:
    (monitor,) = (part for part in parts() if part["kind"] == "PodMonitor")
    instance, dropped = monitor["spec"]["podMetricsEndpoints"][0]["relabelings"]

    assert instance == {"sourceLabels": ["__meta_kubernetes_pod_node_name"], "targetLabel": "instance"}
    assert dropped["action"] == "labeldrop"
    assert [name for name in ("pod", "container", "endpoint") if not re.fullmatch(dropped["regex"], name)] == []
    assert not re.fullmatch(dropped["regex"], "instance")


def test_the_picture_in_the_readme_shows_every_panel_of_the_dashboard() -> None:
    dashboard = json.loads((MONITORING / "dashboard.json").read_text())
    told = {unescape(text) for text in re.findall(r">([^<]+)</text>", (MONITORING / "dashboard.svg").read_text())}

    assert {panel["title"] for panel in dashboard["panels"]} <= told
