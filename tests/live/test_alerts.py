"""Each alert of deploy/monitoring, judged by promtool: it fires when it should, and stays silent in the near case.

Then what is no reason to wake anybody: an agent that is restarted, a node that is drained or taken away, a peer that is
removed. There every series of a well agent goes through it, and nothing at all may fire at any time.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.lab.alertcases import CASES, MINUTE, OF_NODE, UP, Case, matchers, node, peer
from tests.lab.prometheus import PROJECT, promtool

pytestmark = pytest.mark.live

RULES = PROJECT / "deploy/monitoring/prometheusrule.yaml"
GROUPS = yaml.safe_load(RULES.read_text())["spec"]["groups"]


def written(case: Case) -> dict[str, Any]:
    """As promtool wants it."""
    firing = 'ALERTS{alertstate="firing"}'
    ever = f"count by (alertname, scope) (last_over_time({firing}[2h]))"
    asked: list[dict[str, Any]] = []
    if case.labels:
        names = ",".join(matchers({**case.labels, "alertstate": "firing"}))
        asked.append(
            {"expr": firing, "eval_time": case.at, "exp_samples": [{"labels": f"ALERTS{{{names}}}", "value": 1}]}
        )
    if not case.labels or case.before:
        asked.append({"expr": ever, "eval_time": case.before or case.at, "exp_samples": []})
    series = [{"series": name, "values": values} for name, values in {**UP, **case.series}.items()]
    group = {"interval": "30s", "input_series": series, "promql_expr_test": asked}
    return {"rule_files": ["rules.yaml"], "evaluation_interval": "30s", "tests": [group]}


@pytest.fixture(scope="module")
def verdicts(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
    """By claim what promtool says to the case, in one run of it for all."""
    folder = tmp_path_factory.mktemp("alerts")
    (folder / "rules.yaml").write_text(yaml.safe_dump({"groups": GROUPS}))
    files = {str(folder / f"{number}.yaml"): case for number, case in enumerate((*CASES, *QUIET))}
    for file, case in files.items():
        Path(file).write_text(yaml.safe_dump(written(case)))
    told = promtool("test", "rules", *files).stdout
    _, *parts = re.split(r"^Unit Testing:  (\S+)$", told, flags=re.MULTILINE)
    return {files[file].claim: said.strip() for file, said in zip(parts[::2], parts[1::2], strict=True)}


@pytest.mark.parametrize("claim", [case.claim for case in CASES])
def test_an_alert_fires_when_it_should_and_not_in_the_near_case(claim: str, verdicts: Mapping[str, str]) -> None:
    assert verdicts[claim] == "SUCCESS"


def test_each_alert_is_seen_to_fire() -> None:
    shipped = {(rule["alert"], rule["labels"].get("scope", "")) for group in GROUPS for rule in group["rules"]}

    assert {(case.labels["alertname"], case.labels.get("scope", "")) for case in CASES if case.labels} == shipped
    assert len({name for name, _ in shipped}) == 12


def test_no_two_cases_claim_the_same() -> None:
    claims = [case.claim for case in (*CASES, *QUIET)]

    assert len(set(claims)) == len(claims)


# What is no reason to wake anybody.

WELL: Mapping[str, tuple[str, str]] = {
    # The series of an agent that is well: before, and of another process of it.
    'up{job="bgpilot",instance="n1"}': ("1", "1"),
    node("build_info", version="1"): ("1", "1"),
    node("kubernetes_picture_age_seconds"): ("20", "20"),
    node("phase", phase="IN_SYNC"): ("1", "1"),
    node("config_last_reload_success"): ("1", "1"),
    node("mesh_peers", state="Established"): ("2", "2"),
    peer("bgp_peer_info", description="tor a", peer_type="external"): ("1", "1"),
    peer("bgp_peer_up"): ("1", "1"),
    peer("bgp_peer_flaps_total"): ("7", "0"),
    peer("bgp_graceful_restart_active"): ("0", "0"),
    peer("bgp_prefixes_received", afi="ipv4", safi="unicast"): ("100", "100"),
    peer("bgp_notifications_total", direction="received", code="2", subcode="2"): ("5", "_"),
    node("fib_drift_routes_total", kind="missing"): ("500", "0"),
    node("reconcile_errors_total", driver="kernel", reason="kernelRefused"): ("40", "0"),
    node("route_programming_latency_seconds_bucket", le="5.0"): ("0", "0"),
    node("route_programming_latency_seconds_bucket", le="+Inf"): ("900", "0"),
}


def values(*parts: tuple[str, int]) -> str:
    """Each value so many times. Where a series ends, a scrape says so (`stale`), or it would last on for 5 minutes."""
    told: list[str] = []
    for value, count in parts:
        ends = value == "_" and told and told[-1] not in {"_", "stale"}
        told += ["stale", *["_"] * (count - 1)] if ends and count else [value] * count
    return " ".join(told)


def course(during: Mapping[str, str], *, count: int, only: str = "", again: bool = True) -> dict[str, str]:
    """All of `WELL` for 40 minutes; then so many values `during`, where what is not named is missing; then as before.

    `only` those with this in their name are missing then. With `again` false it does not end.
    """
    rest = END - START - count
    made = {
        name: values(("_", START), (value, count), ("_", rest)) for name, value in during.items() if name not in WELL
    }
    for name, (before, after) in WELL.items():
        meanwhile = during.get(name, "_" if only in name else before)
        ended = after if meanwhile == "_" or only in name else before
        made[name] = values((before, START), (meanwhile, count), (ended if again else meanwhile, rest))
    return made


START, END, LAST = 40 * MINUTE, 70 * MINUTE, "69m"
AGENT = 'up{job="bgpilot",instance="n1"}'
QUIET = (
    Case("an agent is restarted, and its counters begin anew", course({AGENT: "0"}, count=1), at=LAST),
    Case(
        "a pod is replaced, and its sessions come up two minutes later",
        course(
            {
                AGENT: "1",
                node("degraded", reason="noSession"): "1",
                peer("bgp_peer_info", description="tor a", peer_type="external"): "1",
                peer("bgp_peer_up"): "0",
                peer("bgp_graceful_restart_active"): "1",
                peer("bgp_prefixes_received", afi="ipv4", safi="unicast"): "0",
            },
            count=2 * MINUTE,
        ),
        at=LAST,
    ),
    Case(
        "a node is drained for twenty minutes",
        course(
            {
                AGENT: "1",
                peer("bgp_peer_info", description="tor a", peer_type="external"): "1",
                peer("bgp_peer_up"): "0",
                peer("bgp_peer_held", reason="nodeDrained"): "1",
                peer("bgp_prefixes_received", afi="ipv4", safi="unicast"): "0",
                peer("bgp_notifications_total", direction="received", code="2", subcode="2"): "5",
                node("problems", reason="nodeDrained"): "1",
                node("mesh_peers", state="Established"): "0",
            },
            count=20 * MINUTE,
        ),
        at=LAST,
    ),
    Case(
        "a node is taken away, and another stays",
        course({}, count=1, again=False) | {'up{job="bgpilot",instance="n2"}': "1x200"},
        at=LAST,
    ),
    Case("a peer is removed", course({}, count=1, only="peer=", again=False), at=LAST),
    Case(
        "an agent that does not come back fires: what is silent here is silent because it ends",
        course({AGENT: "0"}, count=1, again=False),
        {"alertname": "BgpilotAgentDown", **OF_NODE, "severity": "critical", "scope": "node"},
        at=LAST,
    ),
)


@pytest.mark.parametrize("claim", [case.claim for case in QUIET])
def test_nobody_is_woken_when(claim: str, verdicts: Mapping[str, str]) -> None:
    assert verdicts[claim] == "SUCCESS"


def test_the_rules_are_what_promtool_calls_right(tmp_path: Path) -> None:
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"groups": GROUPS}))

    done = promtool("check", "rules", "--lint=all", "--lint-fatal", tmp_path / "rules.yaml")

    assert done.returncode == 0, done.stdout
