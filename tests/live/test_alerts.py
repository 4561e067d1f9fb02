"""Each alert of deploy/monitoring, judged by promtool: it fires when it should, and stays silent in the near case.

Then what is no reason to wake anybody: an agent that is restarted, a node that is drained or taken away, a peer that is
removed. There every series of a well agent goes through it, and nothing at all may fire at any time.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.lab.alertcase import AGENT_DOWN, MINUTE, UP, Case, node, peer
from tests.lab.alertrules import FIRING, GROUPS, alert_names, asked, group, matchers, values, verdicts
from tests.lab.nodealerts import NODE_CASES
from tests.lab.prometheus import promtool
from tests.lab.sessionalerts import SESSION_CASES

pytestmark = pytest.mark.live

CASES = (*SESSION_CASES, *NODE_CASES)


def written(case: Case) -> dict[str, Any]:
    """As promtool wants it."""
    ever = f"count by (alertname, scope) (last_over_time({FIRING}[2h]))"
    names = ",".join(matchers({**case.alert, "alertstate": "firing"}))
    fires = [asked(FIRING, case.at, f"ALERTS{{{names}}}")] if case.alert else []
    silent = [asked(ever, case.before or case.at)] if case.before or not case.alert else []
    return group("30s", {**UP, **case.series}, *fires, *silent)


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
    """By claim what promtool says to the case."""
    return verdicts(tmp_path_factory.mktemp("alerts"), {case.claim: written(case) for case in (*CASES, *QUIET)})


@pytest.mark.parametrize("claim", [case.claim for case in CASES])
def test_an_alert_fires_when_it_should_and_not_in_the_near_case(claim: str, judged: Mapping[str, str]) -> None:
    assert judged[claim] == "SUCCESS"


def test_each_alert_is_seen_to_fire() -> None:
    fired = {f"{it['alertname']} {it.get('scope', '')}".strip() for it in (case.alert for case in CASES) if it}

    assert fired == alert_names()


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
        AGENT_DOWN,
        at=LAST,
    ),
)


@pytest.mark.parametrize("claim", [case.claim for case in QUIET])
def test_nobody_is_woken_when(claim: str, judged: Mapping[str, str]) -> None:
    assert judged[claim] == "SUCCESS"


def test_the_rules_are_what_promtool_calls_right(tmp_path: Path) -> None:
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"groups": GROUPS}))

    done = promtool("check", "rules", "--lint=all", "--lint-fatal", tmp_path / "rules.yaml")

    assert done.returncode == 0, done.stdout
