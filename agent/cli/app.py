"""`bgpilot`: the commands by name. Starting it loads no room of the agent, so that it answers in a quarter of a second.

What a command does stands in the other files of this folder.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from agent.cli import check, cleanup, completion, diff, events, orders, plan, run, schema, show, support
from agent.cli.commands import launch, program, written_out
from agent.cli.tor import command as tor

FULL_ONLY: Final = frozenset({"peer"})
"""Begins another command's name and needs an argument: `pe` means `peers`."""

COMMANDS: Final[Mapping[str, Callable[..., None]]] = {
    "status": show.status,
    "peers": show.peers,
    "peer": show.peer,
    "routes": show.routes,
    "fib": show.fib,
    "explain": show.explain,
    "check": check.check,
    "diff": diff.diff,
    "events": events.events,
    "tor-config": tor.tor_config,
    "plan": plan.plan,
    "tech-support": support.tech_support,
    "drain": orders.drain,
    "undrain": orders.undrain,
    "reset": orders.reset,
    "cleanup": cleanup.cleanup,
    "completion": completion.completion,
    "schema": schema.schema,
    "run": run.run,
    "speaker": run.speaker,
}
app = program(
    "bgpilot",
    "BGP routing agent for Kubernetes nodes. Any unique beginning of a command's name will do: `bgpilot pe`.",
    COMMANDS,
)


def full_name(arguments: Sequence[str]) -> list[str]:
    """The arguments with the command's name written out, when its beginning fits one command."""
    return written_out(arguments, COMMANDS, full_only=FULL_ONLY)


def main() -> None:
    if completion.ASKED_BY_SHELL in os.environ:
        completion.prepare(os.environ, full_name)
    launch(app, completion.PROGRAM, full_name(sys.argv[1:]), COMMANDS)
