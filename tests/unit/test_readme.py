"""The README names every field of every CRD and every flag of the agent, with the defaults they really have.

The tables of settings are made of the schemas; what reads them here is written anew, so that both are not wrong alike.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from agent.cli.app import app
from agent.status.weights import WEIGHTS, Weight
from tests.unit.reasonwords import own_words_of_health, said_by_the_code, said_of_problems

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
ROWS = [line for line in README.splitlines() if line.startswith("|")]
SHOWN_BY_PARENT = {"matchLabels", "matchExpressions"}


def fields(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, object]]:
    """Paths of all leaves below `schema`, with their defaults; selectors, references and list items count as leaves."""
    for name, child in schema.get("properties", {}).items():
        below = child.get("properties", {})
        leaf = not below or SHOWN_BY_PARENT & below.keys() or name.endswith("Ref")
        if leaf:
            yield f"{path}{name}", _written(child.get("default"))
        else:
            yield from fields(child, f"{path}{name}.")


def _written(default: object) -> object:
    return "`, `".join(map(str, default)) if isinstance(default, list) else default


def custom_fields() -> list[tuple[str, object]]:
    found: list[tuple[str, object]] = []
    for path in sorted((ROOT / "deploy" / "crds").glob("bgp*.yaml")):
        schema = yaml.safe_load(path.read_text())["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
        found += fields({"properties": {name: of for name, of in schema["properties"].items() if name == "spec"}})
    return found


@pytest.mark.parametrize(("field", "default"), sorted(set(custom_fields()), key=str))
def test_every_field_has_a_row_with_its_default(field: str, default: object) -> None:
    rows = [row for row in ROWS if f"`{field}`" in row.split("|")[1]]

    assert rows, f"no row for {field}"
    if default is not None and not isinstance(default, dict):
        assert any(row.split("|")[3].strip().lower() == f"`{default}`".lower() for row in rows), (field, default, rows)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    shutil.copytree(ROOT / "deploy", tmp_path / "deploy", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "README.md", tmp_path)
    return tmp_path


def render(checkout: Path, *flags: str) -> tuple[int, str]:
    """What a user of `make render` and `make lint` has: exit code and complaint."""
    command = [sys.executable, checkout / "deploy" / "render.py", *flags]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.returncode, done.stderr


def test_a_changed_schema_makes_the_readme_stale_until_it_is_rendered_again(checkout: Path) -> None:
    schema = checkout / "deploy" / "crds" / "bgppeers.yaml"
    crd = yaml.safe_load(schema.read_text())
    spec = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    spec["properties"]["port"]["description"] = "TCP port of the router | or of its proxy."
    schema.write_text(yaml.safe_dump(crd))

    code, complaint = render(checkout, "--check")

    assert code == 1
    assert "README.md" in complaint
    assert render(checkout) == (0, "")
    assert render(checkout, "--check") == (0, "")
    row = "| `spec.port` | 1 – 65535 | `179` | TCP port of the router \\| or of its proxy. |"
    assert row in (checkout / "README.md").read_text().splitlines()


def test_a_readme_without_the_place_for_the_tables_is_refused_and_left_alone(checkout: Path) -> None:
    readme = checkout / "README.md"
    readme.write_text(broken := readme.read_text().replace("<!-- end of settings -->", ""))

    code, complaint = render(checkout)

    assert code == 1
    assert "<!-- end of settings -->" in complaint
    assert readme.read_text() == broken


def test_every_flag_has_a_row_with_its_variable() -> None:
    command = typer.main.get_command(app).commands["run"]  # type: ignore[attr-defined]  # a group has commands
    for parameter in command.params:
        if parameter.name == "help":
            continue
        variables = [parameter.envvar] if isinstance(parameter.envvar, str) else list(parameter.envvar or ())
        rows = [row for row in ROWS if f"`{parameter.opts[0]}`" in row]
        assert rows, parameter.opts
        assert f"`{variables[0]}`" in rows[0]


def rules() -> list[list[str]]:
    """The cells of the tables of rules."""
    section = README.split("### What is announced, and what is installed")[1].split("\n**Nodes")[0]
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in section.splitlines() if line.startswith("|")]
    return [row for row in cells if row[-1] not in {"says no", "---"}]


def said_by_the_rules() -> set[str]:
    return {word for *_, words in rules() for word in re.findall(r"`(\w+)`", words)}


def test_each_word_that_keeps_a_route_out_or_in_stands_at_a_rule() -> None:
    assert said_by_the_code() - said_by_the_rules() == set()


def test_each_setting_of_a_rule_is_a_field() -> None:
    """Names with a default in the schema or not; values and labels are told from them by their form."""
    known = {name for field, _ in custom_fields() for name in re.split(r"[.\[\]]+", field)} | {
        name for field, _ in custom_fields() for name in (field.removeprefix("spec."),)
    }
    known |= {"selector", "namespaceSelector", "prefixes", "mesh", "damping", "attributes", "service.aggregation"}
    written = {part for _, _, where, _ in rules() for part in re.findall(r"`([a-z][\w.]+)(?:: \w+)?`", where)}

    assert {name for name in written if "/" not in name} - known - {"type"} - OF_OTHERS == set()


OF_OTHERS = {"internalTrafficPolicy", "externalTrafficPolicy"}
"""Fields of Services."""


def healths() -> list[tuple[str, frozenset[str]]]:
    """What each row of the table of health says, and the reason words of the row."""
    section = README.split("\n| Healthy |")[1].split("\n\n")[0]
    cells = [line.split("|")[1:-1] for line in section.splitlines()[2:]]
    return [(row[0].strip(), frozenset(re.findall(r"`(\w+)`", row[2]))) for row in cells]


def said_at(*starts: str) -> set[str]:
    return {word for health, words in healths() if health.startswith(starts) for word in words}


def test_each_reason_why_a_node_is_not_well_stands_in_the_table_of_health_once() -> None:
    words = [word for _, words in healths() for word in words]

    assert sorted(words) == sorted({*WEIGHTS, *own_words_of_health()})


def test_the_table_of_health_says_of_each_problem_what_the_code_makes_of_it() -> None:
    noted = {word for word, weight in WEIGHTS.items() if weight is Weight.NOTE}

    assert said_at("`yes`") == noted
    for weight, start in _ROWS_OF.items():
        assert {word for word, found in WEIGHTS.items() if found is weight} <= said_at(start), weight


_ROWS_OF = {
    Weight.FAULT: "`degraded`",
    Weight.OWN: "`degraded`",
    Weight.NO_BGP: "`no` if this node",
    Weight.SPEAKER: "`no`, `degraded` if some session",
}


def test_each_word_of_a_problem_that_the_code_can_report_is_weighed() -> None:
    assert said_of_problems() - WEIGHTS.keys() - {"kernelConflict", *own_words_of_health()} == set()


def test_each_word_that_is_weighed_is_one_that_the_code_can_report() -> None:
    assert WEIGHTS.keys() - said_of_problems() == set()
