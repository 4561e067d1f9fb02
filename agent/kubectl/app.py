"""`kubectl-bgpilot`, which kubectl runs as `kubectl bgpilot`: the commands by name. It starts as fast as `bgpilot`.

What a command does stands in the other files of this folder.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Final

import typer

from agent.kubectl import check, explain, peers, status
from agent.kubectl import map as map_page
from agent.kubectl.options import in_order

app = typer.Typer(
    name="kubectl bgpilot",
    help="BGP of all nodes of a cluster, through your own kubectl. Any unique beginning of a command's name will do.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
COMMANDS: Final[Mapping[str, Callable[..., None]]] = {
    "status": status.status,
    "peers": peers.peers,
    "explain": explain.explain,
    "check": check.check,
    "map": map_page.map_,
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
    if not arguments or arguments[0].startswith("-"):
        return list(arguments)
    found = [name for name in COMMANDS if name.startswith(arguments[0])]
    return [found[0] if len(found) == 1 else arguments[0], *arguments[1:]]


def main() -> None:
    app(args=full_name(in_order(sys.argv[1:])), prog_name="kubectl bgpilot")
