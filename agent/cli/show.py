"""The commands that show something: ask the agent, print the answer, and say by the exit code how things are."""

from __future__ import annotations

import enum
import json
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from agent.cli import glance, render
from agent.cli.client import RefusedError, UnreachableError, ask
from agent.cli.text import wants_colour
from agent.settings import DEFAULT_RUN_DIR, SOCKET_NAME

EXIT_ERROR: Final = 1
EXIT_DEGRADED: Final = 3
EXIT_UNREACHABLE: Final = 4


class Output(enum.StrEnum):
    TABLE = "table"
    WIDE = "wide"
    JSON = "json"
    NAME = "name"


class Side(enum.StrEnum):
    RECEIVED = "received"
    ACCEPTED = "accepted"
    ADVERTISED = "advertised"


OutputOption = Annotated[Output, typer.Option("-o", "--output", help="How to print.")]
RunDirOption = Annotated[
    Path, typer.Option("--run-dir", envvar="BGPILOT_RUN_DIR", help="Run directory of the agent to ask.")
]
_RUN_DIR: Final = Path(DEFAULT_RUN_DIR)


def peers(
    output: OutputOption = Output.TABLE,
    run_dir: RunDirOption = _RUN_DIR,
    failed: Annotated[bool, typer.Option("--failed", help="Only those that are not established.")] = False,
) -> None:
    """Sessions: state, timers, prefixes received, accepted and sent, and the last error."""
    answer = _ask(run_dir, "peers")
    if failed:
        answer["peers"] = {address: peer for address, peer in answer["peers"].items() if not peer["is_up"]}
    wide = output is Output.WIDE
    _print(answer, output, lambda colour: render.peers(answer, wide=wide, colour=colour), answer["peers"])


def peer(
    name: Annotated[str, typer.Argument(metavar="PEER", help="Address or name.")],
    output: OutputOption = Output.TABLE,
    run_dir: RunDirOption = _RUN_DIR,
) -> None:
    """One session in full."""
    answer = _ask(run_dir, "peers", name)
    _print(answer, output, lambda colour: render.peer(answer, colour=colour), [answer["address"]])


def routes(
    what: Annotated[
        list[str] | None, typer.Argument(metavar="[received|accepted|advertised] [PREFIX]", show_default=False)
    ] = None,
    peer: Annotated[str | None, typer.Option("--peer", help="Only of this peer: address or name.")] = None,
    output: OutputOption = Output.TABLE,
    run_dir: RunDirOption = _RUN_DIR,
) -> None:
    """Routes heard from peers (default), those of them that were accepted, or those told to peers."""
    side, prefix = _side_and_prefix(what or [])
    answer = _ask(run_dir, "routes", side=side, peer=peer, prefix=prefix)
    wide = output is Output.WIDE
    names = dict.fromkeys(row["prefix"] for row in answer["rows"])
    _print(answer, output, lambda colour: render.routes(answer, wide=wide, colour=colour), names)


def _side_and_prefix(words: list[str]) -> tuple[Side, str | None]:
    side = Side.RECEIVED
    if words and words[0][:1].isalpha() and ":" not in words[0]:
        found = [it for it in Side if it.startswith(words[0])]
        if len(found) != 1:
            raise typer.BadParameter(f"{words[0]!r} is not one of {', '.join(Side)}")
        side, words = found[0], words[1:]
    if len(words) > 1:
        raise typer.BadParameter(f"one prefix at most, not {' '.join(words)!r}")
    return side, words[0] if words else None


def fib(
    prefix: Annotated[str | None, typer.Argument(metavar="[PREFIX]", show_default=False)] = None,
    output: OutputOption = Output.TABLE,
    run_dir: RunDirOption = _RUN_DIR,
) -> None:
    """Routes of ours in the kernel, and those that should be there. Exit code 3 when these are not the same."""
    answer = _ask(run_dir, "fib", prefix=prefix)
    names = [row["prefix"] for row in answer["rows"]]
    _print(answer, output, lambda colour: render.fib(answer, colour=colour), names)
    if any(row["state"] != "installed" for row in answer["rows"]):
        raise typer.Exit(EXIT_DEGRADED)


def explain(
    subject: Annotated[str, typer.Argument(metavar="PREFIX|NAMESPACE/SERVICE|PEER")],
    output: OutputOption = Output.TABLE,
    run_dir: RunDirOption = _RUN_DIR,
) -> None:
    """Follow one route, service or session hop by hop to what says no, and what would change it. Exit code 3: a no."""
    answer = _ask(run_dir, "explain", subject=subject)
    _print(answer, output, lambda colour: render.explain(answer, colour=colour), [answer["subject"]])
    if not answer["ok"]:
        raise typer.Exit(EXIT_DEGRADED)


def status(output: OutputOption = Output.TABLE, run_dir: RunDirOption = _RUN_DIR) -> None:
    """The agent in short. Exit code 3: it is not healthy."""
    answer = _ask(run_dir, "status")
    _print(answer, output, lambda _: glance.status(answer), [answer["node"]])
    if not answer["healthy"]:
        raise typer.Exit(EXIT_DEGRADED)


def _ask(run_dir: Path, *path: str, **query: str | None) -> dict[str, Any]:
    return answered(lambda: ask(run_dir / SOCKET_NAME, *path, **query))


def answered(question: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The agent's answer; without one the command ends and says why."""
    try:
        return question()
    except UnreachableError as error:
        typer.echo(f"bgpilot: {error}", err=True)
        raise typer.Exit(EXIT_UNREACHABLE) from None
    except RefusedError as error:
        typer.echo(f"bgpilot: {error}", err=True)
        raise typer.Exit(EXIT_ERROR) from None


def _print(answer: dict[str, Any], output: Output, text: Callable[[bool], str], names: Iterable[str]) -> None:
    match output:
        case Output.JSON:
            typer.echo(json.dumps(answer, indent=2))
        case Output.NAME:
            for name in names:
                typer.echo(name)
        case Output.TABLE | Output.WIDE:
            colour = wants_colour(sys.stdout)
            typer.echo(text(colour), color=colour or None)
