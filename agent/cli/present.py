"""How an answer gets to the user: as text, JSON, YAML, names or nothing, once or again and again, and the exit code.

It knows nothing of what is in an answer; what to ask and how it reads as a table is handed in (`View`).
"""

from __future__ import annotations

import enum
import json
import shutil
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, TypeAlias, TypeVar

import typer

from agent.cli.client import RefusedError, UnreachableError
from agent.cli.stdout import pause
from agent.cli.text import fold, room, wants_colour
from agent.settings import DEFAULT_RUN_DIR

EXIT_ERROR: Final = 1
EXIT_DEGRADED: Final = 3
EXIT_UNREACHABLE: Final = 4
WATCH_SECONDS: Final = 2.0
REDRAW: Final = "\x1b[H"
"""To the top: each line is written over, its rest erased, and what is below it; a screen erased first would flicker."""
REST_OF_LINE: Final = "\x1b[K"
REST_OF_SCREEN: Final = "\x1b[J"

Answer: TypeAlias = dict[str, Any]
_T = TypeVar("_T")


class Output(enum.StrEnum):
    TABLE = "table"
    WIDE = "wide"
    JSON = "json"
    YAML = "yaml"
    NAME = "name"


@dataclass(frozen=True, slots=True)
class View:
    """One question and how to read its answer. `ask` raises UnreachableError or RefusedError."""

    ask: Callable[[], Answer]
    table: Callable[[Answer, bool, bool], str]
    """The answer as text: wide or not, in colour or not."""
    names: Callable[[Answer], Iterable[str]]
    healthy: Callable[[Answer], bool] = lambda _: True
    cut: Callable[[Answer], str] = lambda _: ""
    """What is said aside when the names are not all that there are, and how to go on; tables say it themselves."""


OutputOption = Annotated[Output, typer.Option("-o", "--output", help="How to print.")]
WatchOption = Annotated[bool, typer.Option("-w", "--watch", help="Again and again, until Ctrl-C.")]
QuietOption = Annotated[bool, typer.Option("-q", "--quiet", help="Print nothing: the exit code says it.")]
RunDirOption = Annotated[
    Path, typer.Option("--run-dir", envvar="BGPILOT_RUN_DIR", help="Run directory of the agent to ask.")
]
RUN_DIR: Final = Path(DEFAULT_RUN_DIR)


def present(view: View, output: Output, *, watch: bool = False, quiet: bool = False) -> None:
    """Print the answer; ends the program when there is none or it says that something is wrong."""
    if watch and quiet:
        raise typer.BadParameter("nothing to watch with -q: one of the two")
    if watch:
        _watch(view, output)
        return
    answer = answered(view.ask)
    if not quiet:
        with suppress(BrokenPipeError):  # whoever reads has had enough; whether all is well stands all the same
            echo(view, answer, output)
    if not view.healthy(answer):
        raise typer.Exit(EXIT_DEGRADED)


def echo(view: View, answer: Answer, output: Output) -> None:
    """Print it, for whoever reads along at once."""
    colour = wants_colour(sys.stdout)
    typer.echo(_formatted(view, answer, output, colour=colour), color=colour or None, nl=False)
    sys.stdout.flush()
    if output is Output.NAME and (words := view.cut(answer)):
        typer.echo(words, err=True)


def answered(question: Callable[[], _T]) -> _T:
    """The agent's answer; without one the command ends and says why."""
    try:
        return question()
    except UnreachableError as error:
        typer.echo(f"bgpilot: {error}", err=True)
        raise typer.Exit(EXIT_UNREACHABLE) from None
    except RefusedError as error:
        typer.echo(f"bgpilot: {error}", err=True)
        raise typer.Exit(EXIT_DEGRADED if error.reason else EXIT_ERROR) from None


def _formatted(view: View, answer: Answer, output: Output, *, colour: bool) -> str:
    """With the end of its last line; empty when there is nothing to say."""
    match output:
        case Output.JSON:
            return json.dumps(answer, indent=2) + "\n"
        case Output.YAML:
            import yaml  # noqa: PLC0415  # a fifth of the time to start, for who asks for it

            return str(yaml.safe_dump(answer, sort_keys=False, allow_unicode=True))
        case Output.NAME:
            return "".join(f"{name}\n" for name in view.names(answer))
        case Output.TABLE | Output.WIDE:
            text = view.table(answer, output is Output.WIDE, colour)
            return (text if (width := room()) is None else fold(text, width)) + "\n"


def _watch(view: View, output: Output) -> None:
    """On a terminal one screen that is drawn anew; else each answer that differs from the one before, behind it.

    An agent that does not answer is said in its place, or aside, and asked again: it may be restarting.
    """
    last = ""
    try:
        while True:
            colour, failed = wants_colour(sys.stdout), False
            try:
                said = _formatted(view, view.ask(), output, colour=colour)
            except (UnreachableError, RefusedError) as error:
                said, failed = f"bgpilot: {error}\n", True
            if sys.stdout.isatty():
                typer.echo(_screen(said, shutil.get_terminal_size().lines), color=True, nl=False)
            elif said != last:
                part = "---\n" if output is Output.YAML and not failed else ""
                typer.echo(part + said, err=failed, color=colour or None, nl=False)
            sys.stdout.flush()
            last = said
            pause(WATCH_SECONDS)
    except (KeyboardInterrupt, BrokenPipeError):
        raise typer.Exit from None


def _screen(said: str, height: int) -> str:
    """All of it, or as much as there is room for."""
    lines = said.splitlines()
    if len(lines) >= height:
        kept = max(height - 2, 1)
        lines = [*lines[:kept], f"… {len(lines) - kept} lines more"]
    return REDRAW + "".join(f"{line}{REST_OF_LINE}\n" for line in lines) + REST_OF_SCREEN
