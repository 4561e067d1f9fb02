"""`kubectl_complete-bgpilot`, which kubectl runs at Tab behind `kubectl bgpilot`: commands, options, their values."""

from __future__ import annotations

import sys
from typing import Final

import typer

from agent.cli.commands import written_out
from agent.kubectl.app import COMMANDS, PROGRAM, app
from agent.kubectl.options import in_order

NO_FILES: Final = ":4"
"""The last line, a directive of cobra: beside what is offered no names of files."""


def main() -> None:
    from typer._completion_classes import FishComplete  # noqa: PLC0415  # 80 ms, for this alone

    *before, begun = sys.argv[1:] or [""]
    completer = FishComplete(typer.main.get_command(app), {}, PROGRAM, "")  # whose lines are as kubectl wants them
    found = completer.get_completions(written_out(in_order(before), COMMANDS), begun)
    typer.echo("\n".join([*map(completer.format_completion, found), NO_FILES]))
