"""The commands that order something: to leave or come back (`drain` shows each stage), to begin a session anew."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any, Final
from urllib.parse import quote

import typer

from agent.cli import completion
from agent.cli.client import ask, order
from agent.cli.present import EXIT_DEGRADED, RUN_DIR, RunDirOption, answered
from agent.cli.render import STAGES
from agent.cli.unknown import in_words, why_unknown
from agent.settings import SOCKET_NAME

EXIT_LATE: Final = 1
LOOK_SECONDS: Final = 0.2
PLANNED_SECONDS: Final = 3.0
"""An order has been planned by then."""


def drain(
    text: Annotated[str, typer.Argument(metavar="[TEXT]", help="What routers are told, at most 246 bytes.")] = "",
    wait: Annotated[
        float, typer.Option("--wait", metavar="SECONDS", help="How long to wait until it is over; 0: not at all.")
    ] = 60.0,
    force: Annotated[
        bool, typer.Option("--force", help="Also when this node is a route reflector, or when nobody knows yet.")
    ] = False,
    run_dir: RunDirOption = RUN_DIR,
) -> None:
    """Take this node out of all routing, in stages: nothing is lost that another node can serve.

    It stays so over restarts of the agent, until `bgpilot undrain` or a new pod; to keep it for longer, annotate the
    Node: kubectl annotate node NODE bgpilot.io/drain=TEXT. Exit code 1: it is not over in time, or
    this node is a route reflector: only the annotation lets other nodes choose another one first.
    """
    if not force and _reflects(run_dir):
        typer.echo(f"bgpilot: {_REFLECTS}", err=True)
        raise typer.Exit(EXIT_LATE)
    answered(lambda: order(run_dir / SOCKET_NAME, "drain", text))
    if wait > 0 and not _followed(run_dir, until=time.monotonic() + wait):
        typer.echo(f"bgpilot: not over after {wait:g} s; `bgpilot status` shows the stage", err=True)
        raise typer.Exit(EXIT_LATE)


_REFLECTS: Final = (
    "this node is a route reflector, and no other node sees this order. `kubectl annotate node NODE "
    "bgpilot.io/drain=TEXT` drains it too, and lets them choose another first; --force drains it all the same"
)


_MAY_REFLECT: Final = (
    "It is not known before whether this node is a route reflector; --force keeps the order until it can be followed"
)


def _reflects(run_dir: Path) -> bool:
    status = answered(lambda: ask(run_dir / SOCKET_NAME, "status"))
    if (why := why_unknown(status)) is not None:
        typer.echo(f"bgpilot: {in_words(why).rstrip('. ')}. {_MAY_REFLECT}", err=True)
        raise typer.Exit(EXIT_DEGRADED)
    identity = status["identity"]
    return identity is not None and identity["cluster_id"] is not None


def undrain(run_dir: RunDirOption = RUN_DIR) -> None:
    """Take back `drain`: the node announces again what it should. Exit code 1: something else still takes it away."""
    ordered = answered(lambda: order(run_dir / SOCKET_NAME, "undrain"))["before"]
    until = time.monotonic() + PLANNED_SECONDS
    while (leaving := _leaving(run_dir)) is not None and time.monotonic() < until:
        time.sleep(LOOK_SECONDS)
    if leaving is None:
        typer.echo("undrained" if ordered else "no drain was ordered here: nothing to take back")
        return
    for problem in leaving["problems"]:
        typer.echo(f"bgpilot: {problem['message']}. {problem['fix']}", err=True)
    raise typer.Exit(EXIT_LATE)


def reset(
    name: Annotated[str, typer.Argument(metavar="PEER", help="Address or name.", autocompletion=completion.peers)],
    *,
    soft: Annotated[
        bool, typer.Option("--soft", help="Keep the session: ask for all routes again (ROUTE-REFRESH, RFC 2918).")
    ] = False,
    wait: Annotated[
        float, typer.Option("--wait", metavar="SECONDS", help="How long to wait for the session; 0: not at all.")
    ] = 30.0,
    run_dir: RunDirOption = RUN_DIR,
) -> None:
    """End a session, which comes again at once; its routes stay in the kernel meanwhile. Exit code 1: it does not."""
    path = run_dir / SOCKET_NAME
    before = answered(lambda: ask(path, "peers", name))
    answered(lambda: order(path, f"reset/{quote(name, safe='')}{'?soft=1' if soft else ''}"))
    if soft:
        typer.echo(f"{before['name']} is asked to send all its routes again")
        return
    until = time.monotonic() + wait
    while wait > 0:
        now = answered(lambda: ask(path, "peers", name))
        if now["is_up"] and now["flaps"] > before["flaps"]:
            typer.echo(f"{now['name']} is established again")
            return
        if time.monotonic() >= until:
            typer.echo(f"bgpilot: not established again after {wait:g} s; `bgpilot explain {name}` says why", err=True)
            raise typer.Exit(EXIT_LATE)
        time.sleep(LOOK_SECONDS)


def _followed(run_dir: Path, *, until: float) -> bool:
    """True when no session is left; each stage is printed once."""
    told = list[str]()
    while time.monotonic() < until:
        found = _leaving(run_dir)
        if found is not None:
            for stage, words in STAGES.items():
                if stage not in told:
                    typer.echo(words)
                    told.append(stage)
                if stage == found["stage"]:
                    break
            if found["stage"] == "over" and not found["sessions"]:
                typer.echo("drained: no session is left")
                return True
        time.sleep(LOOK_SECONDS)
    return False


def _leaving(run_dir: Path) -> dict[str, Any] | None:
    """What `status` says of it, with its Problem."""
    status = answered(lambda: ask(run_dir / SOCKET_NAME, "status"))
    if status["leaving"] is None:
        return None
    reason = status["leaving"]["reason"]
    return {**status["leaving"], "problems": [it for it in status["problems"] if it["reason"] == reason]}
