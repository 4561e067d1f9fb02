"""Rules and dashboard ask for nothing but what the code exports: names, labels, and the words that labels hold."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from prometheus_client.exposition import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from agent.cli.app import app
from agent.latencies import Latencies
from agent.model import Problem
from agent.status.metrics import make_registry
from agent.status.status import Figures
from bgp.check import Reason
from bgp.exaevents import Notified
from bgp.model import Direction, Held, RouteKey
from bgp.tally import Tally
from tests.lab.prometheus import PROJECT
from tests.unit.monitoring import promql
from tests.unit.status.scene import NOW, STRAY, TOR, TOR6, WEB, Scene

MONITORING = PROJECT / "deploy/monitoring"
RULES = [
    rule
    for group in yaml.safe_load((MONITORING / "prometheusrule.yaml").read_text())["spec"]["groups"]
    for rule in group["rules"]
]
DASHBOARD = json.loads((MONITORING / "dashboard.json").read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
RUNBOOK = (PROJECT / "deploy/RUNBOOK.md").read_text()
SOURCES = "\n".join(path.read_text() for room in ("agent", "bgp") for path in (PROJECT / room).rglob("*.py"))


def scrape() -> str:
    """Of a node with one of everything."""
    scene, tally = Scene(), Tally()
    tally.count(Notified(TOR, Direction.RECEIVED, 6, 2, ""))
    scene.problems.add(Problem("secretMissing", "BGPPeer tor-b", "It is not there.", "Make it."))
    scene.not_advertised[WEB, "198.51.100.8"] = "externalIPNotAllowed"
    scene.refused_out[RouteKey(TOR6, STRAY)] = Reason.FAMILY_NOT_SPOKEN
    figures = Figures(configured_at=NOW, tally=tally, latencies=Latencies(), events={"written": 1})
    held = {TOR: Held("maxPrefixesExceeded")}
    registry = make_registry(
        lambda: scene.status(figures=figures, held_by_speaker=held), clock=lambda: NOW, wall=lambda: NOW
    )
    return generate_latest(registry).decode()


def exported() -> dict[str, frozenset[str]]:
    """And what Prometheus itself adds."""
    found: dict[str, frozenset[str]] = {"up": frozenset()}
    for family in text_string_to_metric_families(scrape()):
        for sample in family.samples:
            found[sample.name] = found.get(sample.name, frozenset()) | sample.labels.keys()
    return found


EXPORTED = exported()


def queries() -> Iterator[tuple[str, str]]:
    for rule in RULES:
        yield f"{rule['alert']} {rule['labels'].get('scope', '')}".strip(), rule["expr"]
    for panel in PANELS:
        for target in panel["targets"]:
            yield f"{panel['title']} {target['refId']}", target["expr"]


QUERIES = dict(queries())


@pytest.mark.parametrize("query", QUERIES)
def test_a_query_names_metrics_that_are_exported_with_labels_that_they_have(query: str) -> None:
    parsed = promql.parse(QUERIES[query])

    assert {selector.name for selector in promql.selectors(parsed)} - EXPORTED.keys() == set()
    wrong = [
        (name, label) for name, label, _ in promql.matched(parsed) if label not in EXPORTED[name] | promql.OF_TARGETS
    ]
    assert wrong == []
    for part, named in promql.joined(parsed):
        assert named - promql.labels(part, EXPORTED) == set(), str(part)


@pytest.mark.parametrize("query", QUERIES)
def test_the_words_that_a_query_looks_for_are_words_of_the_code(query: str) -> None:
    words = {
        word
        for _, label, value in promql.matched(promql.parse(QUERIES[query]))
        if label in {"reason", "state", "phase", "direction", "type"}
        for word in value.split("|")
        if not word.startswith("$")
    }

    assert {word for word in words if f'"{word}"' not in SOURCES} == set()


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: f"{rule['alert']} {rule['labels'].get('scope', '')}")
def test_an_alert_tells_of_nothing_but_its_labels(rule: dict[str, Any]) -> None:
    told = re.findall(r"\$labels\.(\w+)", " ".join(rule["annotations"].values()))

    assert set(told) - promql.labels(promql.parse(rule["expr"]), EXPORTED) == set()


def test_a_query_for_what_is_not_exported_is_found_out() -> None:
    for wrong in ("bgpilot_bgp_peers", 'bgpilot_bgp_peer_up{router="x"}', "sum by (router) (bgpilot_bgp_peer_up)"):
        parsed = promql.parse(wrong)
        known = all(selector.name in EXPORTED for selector in promql.selectors(parsed))
        fits = known and all(label in EXPORTED[name] for name, label, _ in promql.matched(parsed))
        assert not (fits and all(named <= promql.labels(part, EXPORTED) for part, named in promql.joined(parsed)))


# The runbook.


def sections() -> dict[str, str]:
    """Heading → text."""
    parts = re.split(r"^## (.+)$", RUNBOOK, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def test_each_alert_says_in_words_what_is_wrong_and_where_the_runbook_goes_on() -> None:
    for rule in RULES:
        assert set(rule["annotations"]) == {"summary", "description", "runbook_url"}
        assert rule["annotations"]["runbook_url"] == f"deploy/RUNBOOK.md#{rule['alert'].lower()}"
        assert rule["labels"]["severity"] in {"info", "warning", "critical"}


def test_the_runbook_has_a_section_for_each_alert_and_for_nothing_else() -> None:
    assert list(sections()) == sorted({rule["alert"] for rule in RULES})
    for name, text in sections().items():
        assert re.findall(r"^\*\*(.+?)\.\*\*", text, re.MULTILINE) == ["Means", "Look", "Causes", "Fix"], name


def test_the_commands_of_the_runbook_are_commands() -> None:
    named = set(re.findall(r"`(?:bgpilot|kubectl bgpilot) ([a-z-]+)", RUNBOOK))

    assert named
    assert named - {command.name for command in app.registered_commands} == set()


def test_the_reason_words_of_the_runbook_are_words_of_the_code() -> None:
    words = set(re.findall(r"`([a-z]+[A-Z]\w+)`", RUNBOOK))

    assert {word for word in words if f'"{word}"' not in SOURCES and f"  {word}" not in CRDS} == set()


CRDS = "\n".join(path.read_text() for path in (PROJECT / "deploy/crds").glob("*.yaml"))


# The dashboard.


def test_the_dashboard_can_be_asked_about_some_clusters_nodes_and_routers() -> None:
    variables = {variable["name"]: variable for variable in DASHBOARD["templating"]["list"]}

    assert list(variables) == ["datasource", "job", "instance", "peer"]
    for name in ("job", "instance", "peer"):
        metric, label = re.fullmatch(r"label_values\((\w+)(?:\{.*\})?, (\w+)\)", variables[name]["definition"]).groups()
        assert label in EXPORTED[metric] | promql.OF_TARGETS


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])
def test_a_panel_shows_what_was_chosen(panel: dict[str, Any]) -> None:
    for target in panel["targets"]:
        of_peers = re.search(r"bgpilot_bgp_(peer|prefixes|messages)", target["expr"])
        for name in ("job", "instance", *(("peer",) if of_peers else ())):
            assert f'{name}=~"${name}"' in target["expr"]
        assert target["datasource"]["uid"] == "${datasource}"


def test_panels_do_not_overlap() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        cells = {(place["x"] + column, place["y"] + row) for column in range(place["w"]) for row in range(place["h"])}
        assert not cells & taken, panel["title"]
        assert max(column for column, _ in cells) < 24
        taken |= cells
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])


# The README.

SECTION = (PROJECT / "README.md").read_text().split("\n## Metrics and alerts\n")[1].split("\n## ")[0]
ROWS = [[cell.strip() for cell in line.split("|")[1:-1]] for line in SECTION.splitlines() if line.startswith("| `")]


def test_the_readme_has_each_alert_with_its_severity() -> None:
    told = {name.strip("`"): severity for name, _, severity in ROWS if name.startswith("`Bgpilot")}

    assert told == {rule["alert"]: rule["labels"]["severity"] for rule in RULES}


def test_the_readme_has_each_metric_and_no_other() -> None:
    told = {name for names, *_ in ROWS for name in re.findall(r"`(\w+)`", names) if not name.startswith("Bgpilot")}
    families = {re.sub(r"_(bucket|sum|count)$", "", name) for name in EXPORTED if name.startswith("bgpilot_")}

    assert {f"bgpilot_{name}" for name in told} == families


def test_the_readme_has_the_labels_of_each_metric() -> None:
    for names, labels, _ in ROWS:
        metrics = [f"bgpilot_{name}" for name in re.findall(r"`(\w+)`", names)]
        if not names.startswith("`Bgpilot"):
            had = {
                label for metric in metrics for label in EXPORTED.get(metric) or EXPORTED.get(f"{metric}_bucket", ())
            }
            assert set(re.findall(r"`(\w+)`", labels)) | OF_A_PEER & had == had, names


OF_A_PEER = {"peer", "peer_as"}
"""Of a row that says "and"."""
