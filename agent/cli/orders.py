"""The commands that ask this node to leave, or to come back: `drain` shows each stage as it is reached."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from agent.cli.client import ask, order
from agent.cli.render import STAGES
from agent.cli.show import RunDirOption, answered
from agent.settings import DEFAULT_RUN_DIR, SOCKET_NAME

EXIT_LATE: Final = 1
LOOK_SECONDS: Final = 0.2
PLANNED_SECONDS: Final = 3.0
"""An order has been planned by then."""
_RUN_DIR: Final = Path(DEFAULT_RUN_DIR)


def drain(
    text: Annotated[str, typer.Argument(metavar="[TEXT]", help="What routers are told, at most 246 bytes.")] = "",
    wait: Annotated[
        float, typer.Option("--wait", metavar="SECONDS", help="How long to wait until it is over; 0: not at all.")
    ] = 60.0,
    force: Annotated[bool, typer.Option("--force", help="Also when this node is a route reflector.")] = False,
    run_dir: RunDirOption = _RUN_DIR,
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


def _reflects(run_dir: Path) -> bool:
    identity = answered(lambda: ask(run_dir / SOCKET_NAME, "status"))["identity"]
    return identity is not None and identity["cluster_id"] is not None


def undrain(run_dir: RunDirOption = _RUN_DIR) -> None:
    """Take back `drain`: the node announces again what it should. Exit code 1: something else still takes it away."""
    answered(lambda: order(run_dir / SOCKET_NAME, "undrain"))
    until = time.monotonic() + PLANNED_SECONDS
    while (leaving := _leaving(run_dir)) is not None and time.monotonic() < until:
        time.sleep(LOOK_SECONDS)
    if leaving is None:
        typer.echo("undrained")
        return
    for problem in leaving["problems"]:
        typer.echo(f"bgpilot: {problem['message']}. {problem['fix']}", err=True)
    raise typer.Exit(EXIT_LATE)


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
