"""`bgpilot events`: what happened on this node lately, the newest last; with `-w` also what comes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from agent.cli.client import RefusedError, UnreachableError, ask
from agent.cli.present import (
    RUN_DIR,
    Answer,
    Output,
    OutputOption,
    QuietOption,
    RunDirOption,
    View,
    WatchOption,
    answered,
    echo,
    present,
)
from agent.cli.stdout import pause
from agent.cli.text import room
from agent.settings import SOCKET_NAME

LAST: Final = 50
FOLLOW_SECONDS: Final = 1.0
SECOND: Final = "2026-01-02T03:04:05"
EVENT_WIDTH: Final = len("routes_refused_no_more")
ABOUT_WIDTH: Final = 24
NARROW: Final = 120
"""Columns of a terminal that has no room for all that."""


def events(
    *,
    last: Annotated[int, typer.Option("-n", "--last", min=0, help="How many of the last ones.")] = LAST,
    output: OutputOption = Output.TABLE,
    run_dir: RunDirOption = RUN_DIR,
    watch: WatchOption = False,
    quiet: QuietOption = False,
) -> None:
    """What happened on this node lately, the newest last: sessions, problems, refusals, repairs, orders. Times are UTC.

    With -w what comes is shown as it comes. The agent keeps the last 1000 since its start; all are in its log too.
    """
    view = View(
        lambda: ask(run_dir / SOCKET_NAME, "events", last=str(last)),
        lambda answer, wide, colour: lately(answer, wide=wide, colour=colour),
        lambda answer: dict.fromkeys(row["about"] for row in answer["rows"]),
        cut=_earlier,
    )
    if quiet or not watch:
        present(view, output, watch=watch, quiet=quiet)
        return
    try:
        _follow(run_dir / SOCKET_NAME, view, output)
    except (KeyboardInterrupt, BrokenPipeError):
        raise typer.Exit from None


def lately(answer: Answer, *, wide: bool, colour: bool) -> str:
    lines = [_line(row, wide=wide, colour=colour) for row in answer["rows"]]
    if earlier := _earlier(answer):
        lines.insert(0, earlier)
    return "\n".join(lines or ["Nothing has happened yet."])


def _earlier(answer: Answer) -> str:
    return f"… {answer['left_out']} earlier: see --last" if answer["left_out"] else ""


def _line(row: Mapping[str, Any], *, wide: bool, colour: bool) -> str:
    """Columns of a fixed width: those that come later stand below those that were there."""
    width = room()
    narrow = width is not None and width < NARROW
    moment = row["time"][len("2026-") if narrow else 0 : len(SECOND)] + "Z"
    about = " ".join(it for it in (row["name"], row["about"] if wide or row["name"] is None else "") if it)
    text = f"{row['reason']}: {row['text']}" if row["reason"] else row["text"]
    if wide and row["fix"]:
        text = f"{text.rstrip('. ')}. Fix: {row['fix']}"
    event = f"{row['event']:<{EVENT_WIDTH}}"
    if colour and row["warning"]:
        event = f"\x1b[33m{event}\x1b[0m"
    return f"{moment}  {event}  {about:<{0 if narrow else ABOUT_WIDTH}}  {text}".rstrip()


def _follow(path: Path, view: View, output: Output) -> None:
    """Each as it comes, until Ctrl-C. That no agent answers is said once; one that was restarted begins anew."""
    answer = answered(view.ask)
    silent = ""
    echo(view, answer, output)
    while True:
        pause(FOLLOW_SECONDS)
        try:
            fresh = ask(path, "events", after=str(answer["last"]))
            if fresh["began"] != answer["began"]:
                fresh = ask(path, "events")
        except (UnreachableError, RefusedError) as error:
            if not silent:
                typer.echo(f"bgpilot: {error}", err=True)
            silent = str(error)
            continue
        silent = ""
        answer = fresh
        if answer["rows"]:
            if output is Output.YAML:
                typer.echo("---")
            echo(view, answer, output)
