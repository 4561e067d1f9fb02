"""What both programs, `bgpilot` and `kubectl bgpilot`, make of their commands."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Annotated

import typer


def program(name: str, about: str, commands: Mapping[str, Callable[..., None]]) -> typer.Typer:
    """`about` is the first line of its help."""
    app = typer.Typer(
        name=name,
        help=about,
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
    )
    for command, do in commands.items():
        app.command(command)(do)
    app.callback()(_options)
    return app


def _options(
    version: Annotated[bool, typer.Option("--version", help="Print the version.", is_eager=True)] = False,
) -> None:
    if version:
        from importlib.metadata import version as version_of  # noqa: PLC0415  # as slow as all the rest

        typer.echo(f"bgpilot {version_of('bgpilot')}")
        raise typer.Exit


def written_out(arguments: Sequence[str], commands: Collection[str], *, full_only: Collection[str] = ()) -> list[str]:
    """The arguments with the command's name in full, when its beginning fits one command that is not `full_only`."""
    if not arguments or arguments[0].startswith("-") or arguments[0] in commands:
        return list(arguments)
    found = [name for name in commands if name.startswith(arguments[0]) and name not in full_only]
    return [found[0] if len(found) == 1 else arguments[0], *arguments[1:]]
