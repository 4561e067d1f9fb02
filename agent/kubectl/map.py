"""`kubectl bgpilot map`: routers, nodes and their sessions as one page for a browser."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated, Final, NamedTuple

import typer

from agent.cli.present import EXIT_ERROR, answered
from agent.kubectl.client import Kubectl
from agent.kubectl.cluster import read
from agent.kubectl.options import NAMESPACE, ContextOption, KubeconfigOption, NamespaceOption, NodesOption, kubectl_of
from agent.kubectl.page import page, summed_up
from agent.kubectl.peers import by_node, causes
from agent.kubectl.picture import picture

FILE: Final = Path("bgpilot-map.html")
STDOUT: Final = "-"


def map_(
    *,
    file: Annotated[Path, typer.Option("-o", "--output", metavar="FILE", help="Where to; `-`: to stdout.")] = FILE,
    rack_label: Annotated[
        str,
        typer.Option(
            "--rack-label",
            metavar="LABEL",
            help="Label of Nodes that says in which rack each is. Else topology.kubernetes.io/rack, or …/zone.",
            show_default=False,
        ),
    ] = "",
    nodes: NodesOption = None,
    context: ContextOption = "",
    kubeconfig: KubeconfigOption = "",
    namespace: NamespaceOption = NAMESPACE,
) -> None:
    """Write the cluster as one HTML page: racks, routers, nodes, and each session with what went wrong.

    The page needs no network and no script.
    """
    kubectl = kubectl_of(context, kubeconfig, namespace)
    drawn = answered(lambda: _draw(kubectl, nodes or (), rack_label, context or "the cluster"))
    if str(file) == STDOUT:
        typer.echo(drawn.html, nl=False)
        return
    try:
        file.write_text(drawn.html, encoding="utf-8")
    except OSError as error:
        typer.echo(f"bgpilot: {file}: {error.strerror}", err=True)
        raise typer.Exit(EXIT_ERROR) from None
    typer.echo(f"{file}: {drawn.summary}")


class _Drawn(NamedTuple):
    html: str
    summary: str


def _draw(kubectl: Kubectl, names: Sequence[str], rack_label: str, name: str) -> _Drawn:
    cluster = read(kubectl)
    members = cluster.of(names)
    found = by_node(cluster, members)
    drawn = picture(members, found, rack_label, now := time.time())
    summary = summed_up(drawn)
    at = f"{datetime.fromtimestamp(now).astimezone():%Y-%m-%d %H:%M:%S %Z}"
    return _Drawn(page(drawn, title=f"BGP of {name}", at=at, problems=[*causes(found), *cluster.notes]), summary)
