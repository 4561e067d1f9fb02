"""`bgpilot diff`: what should be and is not, in the kernel and at the peers. The agent compares; this only prints."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from agent.cli.client import ask
from agent.cli.present import (
    RUN_DIR,
    Answer,
    Output,
    OutputOption,
    QuietOption,
    RunDirOption,
    View,
    WatchOption,
    present,
)
from agent.cli.problems import problem_lines
from agent.cli.render import CAUSES_MAX, few
from agent.cli.text import room, table
from agent.settings import SOCKET_NAME


def diff(
    *,
    output: OutputOption = Output.TABLE,
    run_dir: RunDirOption = RUN_DIR,
    watch: WatchOption = False,
    quiet: QuietOption = False,
) -> None:
    """What should be and is not: in the kernel, and of what peers are told. Exit code 3: something differs.

    What is on its way is shown, and is no difference yet.
    """
    view = View(
        lambda: ask(run_dir / SOCKET_NAME, "diff"),
        lambda answer, wide, colour: differences(answer, wide=wide, colour=colour, room=room()),
        lambda answer: dict.fromkeys(row["prefix"] or row["peer"] for row in answer["rows"] if not row["waiting"]),
        lambda answer: not answer["differs"],
        lambda answer: f"… and {answer['left_out']} more: see `bgpilot diff`" if answer["left_out"] else "",
    )
    present(view, output, watch=watch, quiet=quiet)


def differences(answer: Answer, *, wide: bool, colour: bool, room: int | None = None) -> str:
    rows, more_rows = few(answer["rows"], room)
    lines = list[str]()
    if rows:
        more = ["NAME", "METRIC"] if wide else []
        headers = ["WHERE", "PREFIX", *more, "STATE", "REASON", "WHAT"]
        head, *found = table(headers, [_row(row, wide=wide) for row in rows], colour=colour).split("\n")
        differing = sum(not row["waiting"] for row in rows)
        lines += [head, *found[:differing]] if differing else []
        lines += ["On its way:", *([] if differing else [head]), *found[differing:]] if differing < len(rows) else []
    lines += _left_out(answer, sum(row["routes"] for row in answer["rows"][len(rows) :]) if more_rows else 0)
    fixes = list(dict.fromkeys(f"! {row['reason']}: {row['fix']}" for row in rows if row["fix"]))
    lines += [*fixes[:CAUSES_MAX], *(["! … and more: see `bgpilot explain`"] if len(fixes) > CAUSES_MAX else [])]
    lines += problem_lines(answer["problems"])
    if not answer["differs"]:
        lines.append("No difference: kernel and peers have what is planned." if not rows else "No difference but this.")
    return "\n".join(lines)


def _row(row: Mapping[str, Any], *, wide: bool) -> list[str]:
    metric = "" if row["metric"] is None else str(row["metric"])
    where = row["peer"] or row["where"]
    what = row["prefix"] or f"{row['routes']} route{'s' if row['routes'] > 1 else ''}"
    return [where, what, *([row["name"] or "", metric] if wide else []), row["state"], row["reason"], row["text"] or ""]


def _left_out(answer: Answer, more: int) -> Iterator[str]:
    """What there is in all, when not all of it is shown; `more`: routes of the answer that are not."""
    if not (left_out := answer["left_out"] + more):
        return
    yield f"… and {left_out} more. In all:"
    for it in answer["counts"]:
        waiting = ", on its way" if it["waiting"] else ""
        yield f"  {it['routes']} {it['where']} {it['state']} ({it['reason']}{waiting})"
