"""The commands that show something: which question they ask the agent, and whether the answer says that all is well."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Annotated

import typer

from agent.cli import completion, glance, render
from agent.cli.client import ask
from agent.cli.plan import FromOption, explained
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
    present,
)
from agent.cli.text import room
from agent.cli.unknown import is_known
from agent.settings import SOCKET_NAME


class Side(enum.StrEnum):
    RECEIVED = "received"
    ACCEPTED = "accepted"
    ADVERTISED = "advertised"


def peers(
    *,
    output: OutputOption = Output.TABLE,
    run_dir: RunDirOption = RUN_DIR,
    failed: Annotated[bool, typer.Option("--failed", help="Only those that are not established.")] = False,
    watch: WatchOption = False,
    quiet: QuietOption = False,
) -> None:
    """Sessions: state, timers, prefixes, and the last error. Exit code 3: one that should be there is not."""

    def question() -> Answer:
        answer = ask(run_dir / SOCKET_NAME, "peers")
        if failed:
            answer["peers"] = {address: peer for address, peer in answer["peers"].items() if not peer["is_up"]}
        return answer

    view = View(
        question,
        lambda answer, wide, colour: render.peers(answer, wide=wide, colour=colour, room=room()),
        lambda answer: answer["peers"],
        lambda answer: is_known(answer) and all(map(render.as_it_should_be, answer["peers"].values())),
    )
    present(view, output, watch=watch, quiet=quiet)


def peer(
    name: Annotated[str, typer.Argument(metavar="PEER", help="Address or name.", autocompletion=completion.peers)],
    *,
    output: OutputOption = Output.TABLE,
    run_dir: RunDirOption = RUN_DIR,
    watch: WatchOption = False,
    quiet: QuietOption = False,
) -> None:
    """One session in full. Exit code 3: it should be there and is not."""
    view = View(
        lambda: ask(run_dir / SOCKET_NAME, "peers", name),
        lambda answer, _, colour: render.peer(answer, colour=colour),
        lambda answer: [answer["address"]],
        render.as_it_should_be,
    )
    present(view, output, watch=watch, quiet=quiet)


def routes(
    what: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[received|accepted|advertised] [PREFIX]",
            show_default=False,
            autocompletion=lambda incomplete: [side for side in Side if side.startswith(incomplete)],
        ),
    ] = None,
    *,
    peer: Annotated[
        str | None,
        typer.Option("--peer", help="Only of this peer: address or name.", autocompletion=completion.peers),
    ] = None,
    output: OutputOption = Output.TABLE,
    run_dir: RunDirOption = RUN_DIR,
    watch: WatchOption = False,
    quiet: QuietOption = False,
) -> None:
    """Routes heard from peers (default), those of them that were accepted, or those told to peers.

    Exit code 3: the agent does not know yet.
    """
    side, prefix = _side_and_prefix(what or [])
    view = View(
        lambda: ask(run_dir / SOCKET_NAME, "routes", side=side, peer=peer, prefix=prefix),
        lambda answer, wide, colour: render.routes(answer, wide=wide, colour=colour, room=room()),
        lambda answer: dict.fromkeys(row["prefix"] for row in answer["rows"]),
        is_known,
        cut=render.left_out,
    )
    present(view, output, watch=watch, quiet=quiet)


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
    *,
    output: OutputOption = Output.TABLE,
    run_dir: RunDirOption = RUN_DIR,
    watch: WatchOption = False,
    quiet: QuietOption = False,
) -> None:
    """Routes of ours in the kernel, and those that should be there. Exit code 3 when these are not the same."""
    view = View(
        lambda: ask(run_dir / SOCKET_NAME, "fib", prefix=prefix),
        lambda answer, wide, colour: render.fib(answer, wide=wide, colour=colour, room=room()),
        lambda answer: [row["prefix"] for row in answer["rows"]],
        lambda answer: (
            is_known(answer)
            and all(row["state"] == "installed" for row in answer["rows"])
            and not _unseen(run_dir, answer)
        ),
        render.left_out,
    )
    present(view, output, watch=watch, quiet=quiet)


def _unseen(run_dir: Path, answer: Answer) -> bool:
    """Among the rows that were left out is one that is not as planned."""
    counts = answered(lambda: ask(run_dir / SOCKET_NAME, "diff"))["counts"] if answer["left_out"] else ()
    return any(it["where"] == "kernel" and not it["waiting"] for it in counts)


def explain(
    subject: Annotated[
        str, typer.Argument(metavar="PREFIX|NAMESPACE/SERVICE|PEER|NODE", autocompletion=completion.subjects)
    ],
    *,
    file: FromOption = None,
    output: OutputOption = Output.TABLE,
    run_dir: RunDirOption = RUN_DIR,
    watch: WatchOption = False,
    quiet: QuietOption = False,
) -> None:
    """Follow one route, service, session or node to what says no, and what would change it. Exit code 3: a no."""
    if file is not None and watch:
        raise typer.BadParameter("a file does not change: -w without --from")
    view = View(
        lambda: ask(run_dir / SOCKET_NAME, "explain", subject=subject) if file is None else explained(file, subject),
        lambda answer, _, colour: render.explain(answer, colour=colour),
        lambda answer: [answer["subject"]],
        lambda answer: bool(answer["ok"]),
    )
    present(view, output, watch=watch, quiet=quiet)


def status(
    *,
    output: OutputOption = Output.TABLE,
    run_dir: RunDirOption = RUN_DIR,
    watch: WatchOption = False,
    quiet: QuietOption = False,
) -> None:
    """The agent in short. Exit code 3: it is not healthy."""
    view = View(
        lambda: ask(run_dir / SOCKET_NAME, "status"),
        lambda answer, *_: glance.status(answer),
        lambda answer: [answer["node"]],
        lambda answer: bool(answer["healthy"]),
    )
    present(view, output, watch=watch, quiet=quiet)
