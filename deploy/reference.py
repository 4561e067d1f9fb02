# ruff: noqa: INP001  # a script, no package
"""The README's tables of settings, made of the schemas in deploy/crds: field, values, default, what it does.

`rendered_readme` puts them between the markers in the README; `deploy/render.py` writes the file. It refuses to know
any field by name: what the README says of one is what `kubectl explain` says of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import yaml

README: Final = Path(__file__).resolve().parent.parent / "README.md"
CRDS: Final = Path(__file__).resolve().parent / "crds"
KINDS: Final = ("bgpinstances", "bgppeers", "bgpadvertisements")
BEGIN: Final = "<!-- settings: made of deploy/crds by `make render`; change them there -->"
END: Final = "<!-- end of settings -->"

Schema = Mapping[str, Any]


class ReadmeError(Exception):
    """The README has no place for the tables; the text says what is missing."""


def rendered_readme() -> str:
    text = README.read_text()
    head, begin, rest = text.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not (begin and end):
        raise ReadmeError(
            f"README.md: the line {END if begin else BEGIN!r} is missing: the tables stand between the two"
        )
    return f"{head}{BEGIN}\n\n{settings()}\n{END}{tail}"


def settings() -> str:
    """One table for each kind, each followed by an empty line."""
    return "\n".join(
        line for name in KINDS for line in (*_table(yaml.safe_load((CRDS / f"{name}.yaml").read_text())), "")
    )


def _table(crd: Schema) -> Iterator[str]:
    schema = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    yield f"**{crd['spec']['names']['kind']}.** {schema['description']}"
    yield ""
    yield "| field | values | default | what it does |"
    yield "|---|---|---|---|"
    spec = schema["properties"]["spec"]
    for path, field, required in _fields(spec, "spec"):
        cells = (f"`{path}`", _values(field), _default(field, required=required), field["description"])
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _fields(schema: Schema, path: str) -> Iterator[tuple[str, Schema, bool]]:
    """Every field with its path, and whether it must be given; those of a label selector are known to all."""
    for name, field in schema.get("properties", {}).items():
        below = f"{path}.{name}"
        yield below, field, name in schema.get("required", ())
        if not _is_selector(field):
            yield from _fields(field, below)
            yield from _fields(field.get("items", {}), f"{below}[]")


def _is_selector(field: Schema) -> bool:
    return "matchLabels" in field.get("properties", {})


def _values(field: Schema) -> str:
    if "enum" in field:
        return ", ".join(f"`{value}`" for value in field["enum"])
    match field.get("type"):
        case "array":
            return "list" if field["items"]["type"] == "object" else f"list of {_values(field['items'])}"
        case "object":
            return "label selector" if _is_selector(field) else ""
        case "integer":
            return f"{field['minimum']} – {field['maximum']}"
        case "boolean":
            return "`true`, `false`"
        case "string":
            return "text"
        case _:
            return "number or text"


def _default(field: Schema, *, required: bool) -> str:
    if required:
        return "required"
    match field.get("default"):
        case None | dict():
            return ""
        case bool(value):
            return f"`{str(value).lower()}`"
        case list(values):
            return ", ".join(f"`{value}`" for value in values)
        case value:
            return f"`{value}`"
