"""`bgpilot cleanup`: nothing of ours is left on this node. Needs no agent, and refuses while there is one."""

from __future__ import annotations

from typing import Annotated

import typer

from agent.cli.run import EXIT_REFUSED, EXIT_USAGE, refuse, where_it_stands
from agent.settings import DEFAULT_ROUTE_PROTOCOL, DEFAULT_RUN_DIR, SettingsError, parse_protocol, parse_run_dir


def cleanup(
    context: typer.Context,
    route_protocol: Annotated[
        str, typer.Option(envvar="BGPILOT_ROUTE_PROTOCOL", help="Protocol number that the agent had.")
    ] = str(DEFAULT_ROUTE_PROTOCOL),
    run_dir: Annotated[
        str, typer.Option(envvar="BGPILOT_RUN_DIR", help="Run directory that the agent had.")
    ] = DEFAULT_RUN_DIR,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be removed, and remove nothing.")] = False,
) -> None:
    """Remove from this node all that bgpilot has made: routes, rules, files. Refused while an agent runs here.

    Exit code 1: refused, or something of ours is still there.
    """
    from agent import cleanup as room  # noqa: PLC0415  # no other command needs what it loads

    try:
        protocol, path = parse_protocol(route_protocol), parse_run_dir(run_dir)
    except SettingsError as error:
        refuse(where_it_stands(context, str(error)), EXIT_USAGE)
    try:
        done = room.run(protocol=protocol, run_dir=path, dry_run=dry_run)
    except room.RefusedError as error:
        refuse(str(error), EXIT_REFUSED)
    for what in done.removed:
        typer.echo(f"would remove {what}" if dry_run else f"removed {what}")
    for what in done.alone:
        typer.echo(f"left alone {what}")
    if not done.removed and not done.refused:
        typer.echo("nothing of bgpilot is here")
    for what in done.refused:
        typer.echo(f"bgpilot: still there: {what}", err=True)
    if done.refused:
        raise typer.Exit(EXIT_REFUSED)
