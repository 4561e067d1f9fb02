"""What both programs, `bgpilot` and `kubectl bgpilot`, make of their commands."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Annotated, Final, NoReturn

import typer
from typer.core import TyperCommand

from agent.cli.stdout import UnwritableError, guard

EXIT_ERROR: Final = 1
EXIT_USAGE: Final = 2


class _Command(TyperCommand):
    """Says what is wrong with an argument in plain words: typer hands on those of pydantic, by which it is read."""

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # type: ignore[override]  # wider, unnamed
        try:
            return super().parse_args(ctx, args)
        except typer.BadParameter as error:
            error.message = _plain(error.message)
            raise


def _plain(message: str) -> str:
    """`Value error, 'x' is not one of …`, `Input should be a valid integer, unable to parse …`: without the forms."""
    if message.startswith("Input should be "):
        return message.partition(",")[0].replace("Input", "it", 1)
    return message.removeprefix("Value error, ")


def program(name: str, about: str, commands: Mapping[str, Callable[..., None]]) -> typer.Typer:
    """`about` is the first line of its help."""
    app = typer.Typer(
        name=name,
        help=about,
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["--help", "-h"]},
    )
    for command, do in commands.items():
        app.command(command, cls=_Command)(do)
    app.callback()(_options)
    return app


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version as version_of  # noqa: PLC0415  # as slow as all the rest

        typer.echo(f"bgpilot {version_of('bgpilot')}")
        raise typer.Exit


def _options(
    _: Annotated[bool, typer.Option("--version", help="Print the version.", is_eager=True, callback=_version)] = False,
) -> None:
    """Of the program itself."""


def launch(app: typer.Typer, name: str, arguments: Sequence[str], commands: Collection[str]) -> NoReturn:
    """Run one command, whose name has been `written_out`; the process ends with it."""
    guard()
    begun = arguments[0] if arguments else ""
    if begun and begun not in commands and (meant := [it for it in commands if it.startswith(begun)]):
        typer.echo(f"bgpilot: {begun!r} may be {', '.join(meant[:-1])} or {meant[-1]}", err=True)
        sys.exit(EXIT_USAGE)
    try:
        app(args=arguments, prog_name=name)
    except UnwritableError as error:
        typer.echo(f"bgpilot: standard output cannot be written: {error.strerror}", err=True)
    sys.exit(EXIT_ERROR)


def written_out(arguments: Sequence[str], commands: Collection[str], *, full_only: Collection[str] = ()) -> list[str]:
    """The arguments with the command's name in full, when its beginning fits one command that is not `full_only`."""
    if not arguments or arguments[0].startswith("-") or arguments[0] in commands:
        return list(arguments)
    found = [name for name in commands if name.startswith(arguments[0]) and name not in full_only]
    return [found[0] if len(found) == 1 else arguments[0], *arguments[1:]]
