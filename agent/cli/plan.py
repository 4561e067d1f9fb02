"""What an agent would do (`bgpilot plan --from FILE`) and would have said (`bgpilot explain --from FILE`), asked of a
file: no agent, no root, no cluster, and nothing is touched.

All that is needed is loaded when it is asked for: the other commands must start at once.
"""

from __future__ import annotations

import gc
import re
import sys
from collections.abc import Callable
from importlib.metadata import version
from itertools import chain
from pathlib import Path
from typing import Annotated, Final, TypeVar

import typer

from agent.cli.present import EXIT_ERROR, Answer, Output, OutputOption, QuietOption, View, present
from agent.cli.text import room

PART_ON_TERMINAL: Final = 20
"""Lines of each of the eight parts of a plan."""
T = TypeVar("T")
FromOption = Annotated[
    Path | None,
    typer.Option("--from", metavar="FILE", help="Ask this file instead of an agent: of `tech-support`, or a scenario."),
]


def plan(
    *,
    file: Annotated[
        Path, typer.Option("--from", metavar="FILE", help="Of `bgpilot tech-support`, or a scenario; -: what comes in.")
    ],
    node: Annotated[
        str, typer.Option("--node", metavar="NODE", help="Plan for this node of the cluster, not for the file's own.")
    ] = "",
    output: OutputOption = Output.TABLE,
    quiet: QuietOption = False,
) -> None:
    """What a node would announce, tell and install, from a file: the same plan as the agent makes, and no agent."""
    from agent.scenario.files import load  # noqa: PLC0415  # what an agent is made of: half a second
    from agent.scenario.offline import planned  # noqa: PLC0415
    from agent.scenario.views import plan_view  # noqa: PLC0415

    found = readable(lambda: planned(load(file), node))
    for note in found.notes:
        typer.echo(f"bgpilot: {note}", err=True)
    own = found.stage.picture.node_name

    def question() -> Answer:
        return plan_view(own, version("bgpilot"), found.plan, found.stage.world.problems)

    view = View(
        question,
        lambda *_: _shown(found.stage.tell(found.plan).rstrip("\n")),
        lambda answer: [announced["prefix"] for announced in answer["announced"]],
    )
    present(view, output, quiet=quiet)


def _shown(text: str) -> str:
    """A terminal gets the first of each part."""
    if room() is None:
        return text
    return "\n".join(chain.from_iterable(map(_cut, re.split(r"\n(?=\S)", text))))


def _cut(part: str) -> list[str]:
    head, *lines = part.split("\n")
    more = len(lines) - PART_ON_TERMINAL
    return [head, *lines[:PART_ON_TERMINAL], *([f"  … {more} more: into a file, or with -o json"] if more > 0 else [])]


def explained(file: Path, subject: str) -> Answer:
    """What the agent of the file would have answered."""
    from agent.scenario.files import load  # noqa: PLC0415
    from agent.scenario.offline import explained as explained_in  # noqa: PLC0415

    scenario = readable(lambda: load(file))
    if scenario.version != version("bgpilot"):
        typer.echo(f"bgpilot: the file is of bgpilot {scenario.version}, whose answer may have been another", err=True)
    return readable(lambda: explained_in(scenario, subject))


def readable(make: Callable[[], T]) -> T:
    """What is made of a file; one that cannot be read ends the command, which says why.

    Nothing is collected meanwhile: of 5,000 nodes that takes several times as long as all else, and frees nothing.
    """
    from agent.scenario.form import ScenarioError  # noqa: PLC0415

    gc.disable()
    try:
        return make()
    except ScenarioError as error:
        typer.echo(f"bgpilot: {error}", err=True)
        sys.exit(EXIT_ERROR)
    finally:
        gc.enable()
