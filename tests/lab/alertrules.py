"""The shipped alerts, judged by promtool: of series that are written down, and of what a real agent has said.

A fault is there for seconds in a test; here what was scraped meanwhile lasts as long as alerts want it to, between what
was scraped before and after.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from tests.lab.prometheus import PROJECT, promtool

RULES: Final = PROJECT / "deploy/monitoring/prometheusrule.yaml"
GROUPS: Final = yaml.safe_load(RULES.read_text())["spec"]["groups"]
ASKED_FOR: Final = frozenset(re.findall(r"bgpilot_\w+", RULES.read_text()))
FIRING: Final = 'ALERTS{alertstate="firing"}'
BEGINS: Final = 40
"""Minutes, as the next: some rule looks back half an hour."""
ENDS: Final = 60
"""The slowest wants it to last a quarter of an hour."""
OVER: Final = 80
KEPT: Final = 2
"""For so long, and no longer, the routes of a router that may be restarting: our restart time."""

Sample = Mapping[str, Any]
Scrape = Mapping[str, str]
"""Series, as they are written in an answer to `/metrics`, and its value."""


def alert_names() -> set[str]:
    """As in `Fault.alerts`."""
    return {f"{rule['alert']} {rule['labels'].get('scope', '')}".strip() for group in GROUPS for rule in group["rules"]}


def group(interval: str, series: Mapping[str, str], *asked: Sample) -> dict[str, Any]:
    """A test in promtool's form."""
    written = [{"series": name, "values": values} for name, values in series.items()]
    return {"interval": interval, "input_series": written, "promql_expr_test": list(asked)}


def asked(expression: str, at: str, *samples: str) -> dict[str, Any]:
    """At that time the expression has these samples, each 1, and no other."""
    return {"expr": expression, "eval_time": at, "exp_samples": [{"labels": it, "value": 1} for it in samples]}


def matchers(labels: Mapping[str, str]) -> list[str]:
    return [f'{name}="{value}"' for name, value in labels.items()]


def values(*parts: tuple[str, int]) -> str:
    """Each value so many times. Where a series ends, a scrape says so (`stale`), or it would last on for 5 minutes."""
    told: list[str] = []
    for value, count in parts:
        ends = value == "_" and told and told[-1] not in {"_", "stale"}
        told += ["stale", *["_"] * (count - 1)] if ends and count else [value] * count
    return " ".join(told)


def verdicts(folder: Path, groups: Mapping[str, Mapping[str, Any]]) -> Mapping[str, str]:
    """By claim what promtool says to it, in one run of it for all."""
    (folder / "rules.yaml").write_text(yaml.safe_dump({"groups": GROUPS}))
    files = {str(folder / f"{number}.yaml"): claim for number, claim in enumerate(groups)}
    for file, claim in files.items():
        of = groups[claim]
        test = {"rule_files": ["rules.yaml"], "evaluation_interval": of["interval"], "tests": [of]}
        Path(file).write_text(json.dumps(test))  # which is YAML, and at once
    told = promtool("test", "rules", *files).stdout
    _, *parts = re.split(r"^Unit Testing:  (\S+)$", told, flags=re.MULTILINE)
    return {files[file]: said.strip() for file, said in zip(parts[::2], parts[1::2], strict=True)}


@dataclass(frozen=True, slots=True)
class Scrapes:
    """What Prometheus has of one agent; an empty one: it did not get there."""

    before: Scrape
    during: Scrape
    after: Scrape


def lasting(scrapes: Scrapes, alerts: Sequence[str], *, goes_on: str, lasts: bool) -> dict[str, Any]:
    """A test that a fault fires these alerts and no other while it is there, and that none is left when it is mended.

    Series that match `goes_on` rise as long as it lasts. With `lasts` false it is put right within a minute, and comes
    again in the next but one.
    """
    meanwhile = [scrapes.during if lasts or minute % 2 == 0 else scrapes.before for minute in range(BEGINS, ENDS)]
    every = [*[scrapes.before] * BEGINS, *meanwhile, *[scrapes.after] * (OVER - ENDS)]
    series = {'up{job="bgpilot",instance="node"}': values(*(("1" if scrape else "0", 1) for scrape in every))}
    for name in sorted({name for scrape in every for name in scrape if _family(name) in ASKED_FOR}):
        told = [scrape.get(name, "_") for scrape in every]
        if re.fullmatch(goes_on, name):
            told[BEGINS:ENDS] = _rise(name, told[BEGINS], ENDS - BEGINS)
            if _family(name).endswith("_total"):
                told[ENDS:] = [told[ENDS - 1]] * (OVER - ENDS)
        elif lasts and _family(name) == "bgpilot_bgp_graceful_restart_active" and told[BEGINS] != "_":
            told[BEGINS + KEPT : ENDS] = ["0"] * (ENDS - BEGINS - KEPT)
        series[_of_node(name)] = values(*((value, 1) for value in told))
    fired = f"group by (alertname, scope) (last_over_time({FIRING}[{ENDS - BEGINS}m]))"
    wanted = [_sample(alert) for alert in alerts]
    return group(
        "1m",
        series,
        asked(FIRING, f"{BEGINS - 1}m"),
        asked(fired, f"{ENDS}m", *wanted),
        asked(FIRING, f"{OVER}m"),
    )


def _family(name: str) -> str:
    return name.partition("{")[0]


def _rise(name: str, value: str, count: int) -> Iterator[str]:
    """An age by a minute each minute, anything else by one."""
    step = 60 if _family(name).endswith("_seconds") else 1
    return (str(float(value) + step * minute) for minute in range(count))


def _of_node(name: str) -> str:
    family, _, labels = name.partition("{")
    return f'{family}{{job="bgpilot",instance="node"{"," + labels if labels else "}"}'


def _sample(alert: str) -> str:
    name, _, scope = alert.partition(" ")
    labels = {"alertname": name, **({"scope": scope} if scope else {})}
    return f"{{{','.join(matchers(labels))}}}"
