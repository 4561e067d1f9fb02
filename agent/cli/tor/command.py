"""`bgpilot tor-config`: the router's side of this node's sessions, from what the agent knows now."""

from __future__ import annotations

import enum
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from agent.cli import completion
from agent.cli.client import ask
from agent.cli.present import EXIT_ERROR, RUN_DIR, RunDirOption, answered
from agent.cli.tor.dialects import DIALECTS, PASSWORD, REMARK, RUN
from agent.cli.tor.session import NotSayableError, Session, session
from agent.cli.unknown import known
from agent.settings import SOCKET_NAME

Vendor = enum.StrEnum("Vendor", {name.upper(): name for name in DIALECTS})  # type: ignore[misc]  # from one list


def tor_config(
    name: Annotated[
        str | None,
        typer.Argument(metavar="[PEER]", help="Address or name; all routers without.", autocompletion=completion.peers),
    ] = None,
    *,
    vendor: Annotated[Vendor, typer.Option("--vendor", help="The router's system.")],
    router_as: Annotated[
        int | None, typer.Option("--router-as", metavar="ASN", help="Of a router whose AS is not known here.")
    ] = None,
    run_dir: RunDirOption = RUN_DIR,
) -> None:
    """Print the router's side of this node's sessions, for its configuration: sessions with routers, not with nodes.

    What the router may take of the node is what the node announces now. Passwords are never printed.
    """
    path = run_dir / SOCKET_NAME
    node = answered(lambda: ask(path, "status"))["node"]
    found = {at: it for at, it in _peers(run_dir, name).items() if not it["mesh"]}
    if not found:
        typer.echo("bgpilot: no session with a router: they come from BGPPeer objects that choose this node", err=True)
        raise typer.Exit(EXIT_ERROR)
    sessions: list[Session] = []
    for address, peer in found.items():
        told = answered(lambda address=address: ask(path, "routes", side="advertised", peer=address))  # type: ignore[misc]
        try:
            sessions.append(session(address, peer, told, node=node, router_as=router_as))
        except NotSayableError as error:
            typer.echo(f"bgpilot: {error}", err=True)
            raise typer.Exit(EXIT_ERROR) from None
    typer.echo("\n".join(lines(vendor, sessions)))


def _peers(run_dir: Path, name: str | None) -> dict[str, Any]:
    if name is None:
        return dict(answered(lambda: known(ask(run_dir / SOCKET_NAME, "peers")))["peers"])
    peer = answered(lambda: ask(run_dir / SOCKET_NAME, "peers", name))
    return {peer["address"]: peer}


def lines(vendor: str, sessions: list[Session]) -> Iterator[str]:
    """With remarks: for which session, what is left to do, and whether anybody has run the like of it."""
    remark = REMARK.get(vendor, "#")
    if vendor not in RUN:
        yield f"{remark} {vendor}: syntax reviewed, not run."
    for one in sessions:
        yield f"{remark} Router {one.router} (BGPPeer {one.name}), AS {one.router_as}: node {one.node}, {one.neighbor}."
        if one.password:
            yield f"{remark} {PASSWORD}: the one that the BGPPeer names."
        yield f"{remark} OUT: nothing is told to the node until you permit it; the node takes what spec.import allows."
        yield from DIALECTS[vendor](one)
