"""The commands that become a process: the agent, and ExaBGP beside it. Their rooms are imported only when they run."""

from __future__ import annotations

import os
import socket
from functools import partial
from typing import Annotated, Final, NoReturn

import typer

from agent.settings import (
    DEFAULT_DAEMON_SET,
    DEFAULT_HEALTH_ADDRESS,
    DEFAULT_METRICS_ADDRESS,
    DEFAULT_ROUTE_PROTOCOL,
    DEFAULT_RUN_DIR,
    LogFormat,
    LogLevel,
    SettingsError,
    SpeakerMode,
    parse_run_dir,
    parse_settings,
)

EXIT_REFUSED: Final = 1
EXIT_USAGE: Final = 2


def run(  # noqa: PLR0917  # typer makes each a flag; nobody calls it by position
    context: typer.Context,
    node_name: Annotated[
        str, typer.Option(envvar="BGPILOT_NODE_NAME", help="Name of this machine's Node (default: its host name).")
    ] = "",
    kubeconfig: Annotated[
        str,
        typer.Option(
            envvar="BGPILOT_KUBECONFIG", help="How to reach the cluster (default: the pod's service account)."
        ),
    ] = "",
    run_dir: Annotated[
        str, typer.Option(envvar="BGPILOT_RUN_DIR", help="Where sockets and ExaBGP's configuration are.")
    ] = DEFAULT_RUN_DIR,
    metrics_address: Annotated[
        str, typer.Option(envvar="BGPILOT_METRICS_ADDRESS", help="HOST:PORT for /metrics, or `off`.")
    ] = DEFAULT_METRICS_ADDRESS,
    metrics_mesh_peers: Annotated[
        bool,
        typer.Option(
            "--metrics-mesh-peers",
            envvar="BGPILOT_METRICS_MESH_PEERS",
            help="Metrics of each session with another node, too: they grow with the square of the nodes.",
        ),
    ] = False,
    health_address: Annotated[
        str, typer.Option(envvar="BGPILOT_HEALTH_ADDRESS", help="HOST:PORT for /livez and /readyz, or `off`.")
    ] = DEFAULT_HEALTH_ADDRESS,
    speaker: Annotated[
        str,
        typer.Option(
            envvar="BGPILOT_SPEAKER", help="child: start ExaBGP; external: `bgpilot speaker` runs beside, same run dir."
        ),
    ] = SpeakerMode.CHILD.value,
    route_protocol: Annotated[
        str,
        typer.Option(envvar="BGPILOT_ROUTE_PROTOCOL", help="Protocol number of our kernel routes; all of it is ours."),
    ] = str(DEFAULT_ROUTE_PROTOCOL),
    log_format: Annotated[
        str, typer.Option(envvar="BGPILOT_LOG_FORMAT", help="json, console, or auto: console on a terminal.")
    ] = LogFormat.AUTO.value,
    log_level: Annotated[
        str, typer.Option(envvar="BGPILOT_LOG_LEVEL", help="debug, info, warning or error.")
    ] = LogLevel.INFO.value,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", envvar="BGPILOT_DRY_RUN", help="Plan and show, but touch neither kernel nor peers."),
    ] = False,
    namespace: Annotated[
        str,
        typer.Option(
            envvar=["BGPILOT_NAMESPACE", "POD_NAMESPACE"], help="Namespace of the agent's Secrets and DaemonSet."
        ),
    ] = "",
    cleanup_on_uninstall: Annotated[
        bool,
        typer.Option(
            "--cleanup-on-uninstall",
            envvar="BGPILOT_CLEANUP_ON_UNINSTALL",
            help="When stopped after its DaemonSet was deleted: end all sessions, remove routes, rules and files.",
        ),
    ] = False,
    daemonset: Annotated[
        str, typer.Option(envvar="BGPILOT_DAEMONSET", help="Name of the agent's DaemonSet, for the above.")
    ] = DEFAULT_DAEMON_SET,
) -> None:
    """Be the agent of this node. Ends on SIGTERM; kernel routes stay, unless it is uninstalled."""
    try:
        settings = parse_settings(
            node_name=node_name or socket.gethostname().lower(),
            kubeconfig=kubeconfig,
            run_dir=run_dir,
            metrics_address=metrics_address,
            metrics_mesh_peers=metrics_mesh_peers,
            health_address=health_address,
            speaker=speaker,
            route_protocol=route_protocol,
            log_format=log_format,
            log_level=log_level,
            dry_run=dry_run,
            namespace=namespace,
            cleanup_on_uninstall=cleanup_on_uninstall,
            daemon_set=daemonset,
        )
    except SettingsError as error:
        refuse(where_it_stands(context, str(error)), EXIT_USAGE)
    from agent.start import run as run_agent  # noqa: PLC0415  # half a second that `bgpilot peers` need not wait

    raise typer.Exit(run_agent(settings))


def speaker(
    context: typer.Context,
    run_dir: Annotated[
        str, typer.Option(envvar="BGPILOT_RUN_DIR", help="The same as that of the agent.")
    ] = DEFAULT_RUN_DIR,
) -> None:
    """Run ExaBGP beside an agent of `--speaker external`, so that sessions outlive the agent."""
    from agent.bugs import run_guarded  # noqa: PLC0415  # as above
    from agent.log import set_up_logging  # noqa: PLC0415
    from bgp.driver.beside import prepare, run_external  # noqa: PLC0415  # loads ExaBGP's side only here
    from bgp.driver.rundir import SharedError  # noqa: PLC0415
    from bgp.inside.launcher import UnusableError, require_version  # noqa: PLC0415

    try:
        path = parse_run_dir(run_dir)
    except SettingsError as error:
        refuse(where_it_stands(context, str(error)), EXIT_USAGE)
    try:
        require_version()
        prepare(path)
    except (UnusableError, SharedError) as error:
        refuse(str(error), EXIT_REFUSED)
    except OSError as error:
        refuse(
            f"cannot use the run directory {path}: {error.strerror}. Mount it writable, or give another --run-dir "
            "(the same as that of the agent).",
            EXIT_REFUSED,
        )
    log = partial(set_up_logging, log_format=LogFormat.AUTO, log_level=LogLevel.INFO)
    raise typer.Exit(run_guarded(partial(run_external, path), log))


def where_it_stands(context: typer.Context, why: str) -> str:
    """`why` begins with the flag; the variable stands there instead when the value came from it."""
    flag, space, rest = why.partition(" ")
    for parameter in context.command.params:
        source = context.get_parameter_source(parameter.name or "")
        if flag in parameter.opts and source is not None and source.name == "ENVIRONMENT":
            names = [parameter.envvar] if isinstance(parameter.envvar, str) else list(parameter.envvar or ())
            return f"{next(name for name in names if os.environ.get(name))}{space}{rest}"
    return why


def refuse(why: str, code: int) -> NoReturn:
    typer.echo(f"bgpilot: {why}", err=True)
    raise typer.Exit(code) from None
