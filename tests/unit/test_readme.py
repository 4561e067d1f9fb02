"""The README names every field of every CRD and every flag of the agent, with the defaults they really have."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from agent.cli.app import app

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
            yield f"{path}{name}", child.get("default")
        else:
            yield from fields(child, f"{path}{name}.")


def custom_fields() -> list[tuple[str, object]]:
    found: list[tuple[str, object]] = []
    for path in sorted((ROOT / "deploy" / "crds").glob("bgp*.yaml")):
        schema = yaml.safe_load(path.read_text())["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
        found += fields({"properties": {"spec": schema["properties"]["spec"]}})
    return found


@pytest.mark.parametrize(("field", "default"), sorted(set(custom_fields()), key=str))
def test_every_field_has_a_row_with_its_default(field: str, default: object) -> None:
    rows = [row for row in ROWS if f"`{field}`" in row.split("|")[1]]

    assert rows, f"no row for {field}"
    if default is not None and not isinstance(default, dict):
        assert any(str(default).lower() in row.split("|")[2].lower() for row in rows), (field, default, rows)


def test_every_flag_has_a_row_with_its_variable() -> None:
    command = typer.main.get_command(app).commands["run"]  # type: ignore[attr-defined]  # a group has commands
    for parameter in command.params:
        if parameter.name == "help":
            continue
        variables = [parameter.envvar] if isinstance(parameter.envvar, str) else list(parameter.envvar or ())
        rows = [row for row in ROWS if f"`{parameter.opts[0]}`" in row]
        assert rows, parameter.opts
        assert f"`{variables[0]}`" in rows[0]
