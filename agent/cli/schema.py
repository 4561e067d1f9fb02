"""`bgpilot schema`: what is in an answer, as a JSON Schema (draft 2020-12), for whoever writes what reads it.

Each file in `schemas` has what one answer says; what several say alike stands in `shared.json`, and is put into each
that is printed, so that it needs no other. They are exact for the bgpilot that prints them: what they do not name is
not in an answer.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Final, TypeAlias

import typer

from agent.cli.text import table, wants_colour

Schema: TypeAlias = dict[str, Any]

_FOLDER: Final = Path(__file__).with_name("schemas")
_SHARED: Final = "shared"
_OF_DEFINITIONS: Final = "#/$defs/"


def schema(
    view: Annotated[
        str | None,
        typer.Argument(
            metavar="[VIEW]",
            help="Whose; all are listed without.",
            show_default=False,
            autocompletion=lambda incomplete: [view for view in views() if view.startswith(incomplete)],
        ),
    ] = None,
) -> None:
    """Print the JSON Schema of an answer, as `-o json` and `-o yaml` give it; asks no agent."""
    if view is None:
        rows = [[it, str(schema_of(it)["title"])] for it in views()]
        typer.echo(table(["VIEW", "WHAT IS IN IT"], rows, colour=wants_colour(sys.stdout)))
    elif view in views():
        typer.echo(json.dumps(schema_of(view), indent=2))
    else:
        raise typer.BadParameter(f"{view!r} is not one of {', '.join(views())}")


def views() -> list[str]:
    return sorted(path.stem for path in _FOLDER.glob("*.json") if path.stem != _SHARED)


def schema_of(view: str) -> Schema:
    """With all that it refers to."""
    found, shared = _read(view), _read(_SHARED)["$defs"]
    definitions = found.setdefault("$defs", {})
    while missing := set(_referred(found)) - definitions.keys():
        definitions |= {name: shared[name] for name in sorted(missing)}
    return found


def _read(name: str) -> Schema:
    found: Schema = json.loads((_FOLDER / f"{name}.json").read_text())
    return found


def _referred(part: object) -> Iterator[str]:
    """Names of the definitions that it refers to."""
    if isinstance(part, Mapping):
        if isinstance(name := part.get("$ref"), str):
            yield name.removeprefix(_OF_DEFINITIONS)
        part = list(part.values())
    if isinstance(part, list):
        for it in part:
            yield from _referred(it)
