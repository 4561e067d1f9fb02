"""`bgpilot check`: what must hold on this node, line by line, PASS or FAIL, and what to do; and what to know (NOTE).

What that is says `agent.cli.invariants`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any, Final

import typer

from agent.cli.client import UnreachableError, ask
from agent.cli.invariants import UNSERVED, Answers, checks
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
from agent.cli.unknown import why_unknown
from agent.settings import SOCKET_NAME

NAGIOS: Final = {"yes": (0, "OK"), "degraded": (1, "WARNING"), "no": (2, "CRITICAL")}
NAGIOS_UNKNOWN: Final = 3
NO_TROUBLE: Final = UNSERVED | {"nodeExcluded"}
"""Reason words of what somebody may want so, who owns a Service or labels Nodes: monitoring calls nobody for it."""
NOTES_MAX: Final = 10
"""Lines of a check."""


def check(
    *,
    nagios: Annotated[bool, typer.Option("--nagios", help="One line and exit codes as Nagios plugins have.")] = False,
    output: OutputOption = Output.TABLE,
    run_dir: RunDirOption = RUN_DIR,
    watch: WatchOption = False,
    quiet: QuietOption = False,
) -> None:
    """What must hold on this node, PASS or FAIL, with the fix. Exit code 3: something fails."""

    def answers() -> dict[str, Answer]:
        return {it: ask(run_dir / SOCKET_NAME, it) for it in ("status", "peers", "diff")}

    if nagios:
        _nagios(answers)
    view = View(
        lambda: _answer(answers()),
        lambda answer, _, colour: lines(answer, colour=colour),
        lambda answer: [it["name"] for it in answer["checks"] if it["faults"]],
        lambda answer: bool(answer["passed"]),
    )
    present(view, output, watch=watch, quiet=quiet)


def _answer(answers: Answers) -> dict[str, Any]:
    found = checks(answers)
    status = answers["status"]
    return {
        "schema": "bgpilot.check/1",
        "version": status["version"],
        "node": status["node"],
        "passed": not any(one.faults for one in found),
        "checks": [
            {
                "name": one.name,
                "good": one.good,
                "looked_at": one.looked_at,
                "faults": [fault._asdict() for fault in one.faults],
                "notes": [note._asdict() for note in one.notes],
            }
            for one in found
        ],
    }


def lines(answer: Answer, *, colour: bool) -> str:
    width = max(len(one["name"]) for one in answer["checks"])
    return "\n".join(line for one in answer["checks"] for line in _lines_of(one, width, colour=colour))


def _lines_of(one: Mapping[str, Any], width: int, *, colour: bool) -> Iterator[str]:
    if not one["faults"]:
        word = _word("PASS", "32", colour=colour) if one["looked_at"] else _word("SKIP", "33", colour=colour)
        yield f"{word}  {one['name']:<{width}}  {one['good']}"
    for fault in one["faults"]:
        yield f"{_word('FAIL', '31', colour=colour)}  {one['name']:<{width}}  {_with_fix(fault)}"
    for note in one["notes"][:NOTES_MAX]:
        yield f"{_word('NOTE', '33', colour=colour)}  {one['name']:<{width}}  {_with_fix(note)}"
    if (more := len(one["notes"]) - NOTES_MAX) > 0:
        yield f"{_word('NOTE', '33', colour=colour)}  {one['name']:<{width}}  {more} more, see `bgpilot status`"


def _with_fix(fault: Mapping[str, Any]) -> str:
    fix = fault["fix"].rstrip(".")
    return f"{fault['text']}. Fix: {fix}." if fix else f"{fault['text']}."


def _word(word: str, code: str, *, colour: bool) -> str:
    return f"\x1b[{code}m{word}\x1b[0m" if colour else word


def _nagios(answers: Callable[[], Answers]) -> None:
    try:
        said = answers()
    except UnreachableError as error:
        typer.echo(f"BGPILOT UNKNOWN - {error}")
        raise typer.Exit(NAGIOS_UNKNOWN) from None
    status = said["status"]
    faults = [fault for one in checks(said) for fault in one.faults if fault.reason not in NO_TROUBLE]
    code, word = NAGIOS["degraded" if faults and status["health"] == "yes" else status["health"]]
    more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
    peers = status["peers"]
    what = faults[0].text + more if faults else f"{peers['established']} of {peers['configured']} sessions"
    figures = {
        "established": peers["established"],
        "configured": peers["configured"],
        "routes": status["routes"]["told"],
        "fib_failing": status["fib"]["failing"],
    }
    known = why_unknown(said["diff"]) is None
    told = " ".join(f"{name}={it if known else 'U'}" for name, it in figures.items())
    typer.echo(f"BGPILOT {word} - {what} | {told}")
    raise typer.Exit(code)
