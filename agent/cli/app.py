"""`bgpilot`: the commands by name. Starting it loads no room of the agent, so that it answers in a quarter of a second.

What a command does stands in the other files of this folder.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Final

import typer

from agent.cli import check, cleanup, completion, diff, events, orders, plan, run, schema, show, support
from agent.cli.tor import command as tor

FULL_ONLY: Final = frozenset({"peer"})
"""Begins another command's name and needs an argument: `pe` means `peers`."""

app = typer.Typer(
    name="bgpilot",
    help="BGP routing agent for Kubernetes nodes. Any unique beginning of a command's name will do: `bgpilot pe`.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
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
for _name, _command in COMMANDS.items():
    app.command(_name)(_command)


@app.callback()
def _options(
    version: Annotated[bool, typer.Option("--version", help="Print the version.", is_eager=True)] = False,
) -> None:
    if version:
        from importlib.metadata import version as version_of  # noqa: PLC0415  # as slow as all the rest

        typer.echo(f"bgpilot {version_of('bgpilot')}")
        raise typer.Exit


def full_name(arguments: Sequence[str]) -> list[str]:
    """The arguments with the command's name written out, when its beginning fits one command."""
    if not arguments or arguments[0].startswith("-") or arguments[0] in COMMANDS:
        return list(arguments)
    found = [name for name in COMMANDS if name.startswith(arguments[0]) and name not in FULL_ONLY]
    return [found[0] if len(found) == 1 else arguments[0], *arguments[1:]]


def main() -> None:
    if completion.ASKED_BY_SHELL in os.environ:
        completion.prepare(os.environ, full_name)
    app(args=full_name(sys.argv[1:]), prog_name=completion.PROGRAM)
