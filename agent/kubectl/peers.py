"""`kubectl bgpilot peers`: the sessions of all nodes, from the BGPNodeStates where these say it, else from the agents.

A BGPNodeState names routers, and those nodes with which a session is missing; sessions between nodes that are there it
only counts. Agents are asked for these (`--all`), and where there is no BGPNodeState to be believed.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Any, Final

import typer

from agent.cli.client import RefusedError
from agent.cli.present import Answer, Output, OutputOption, QuietOption, View, WatchOption, present
from agent.cli.render import CAUSES_MAX, few, last_error
from agent.cli.text import grouped, room, uptime
from agent.cli.unknown import why_unknown
from agent.kubectl.alike import Said, alike
from agent.kubectl.client import NoAnswer, Object, unanswered
from agent.kubectl.cluster import Cluster, Member, read
from agent.kubectl.options import (
    NAMESPACE,
    ContextOption,
    KubeconfigOption,
    NamespaceOption,
    NodesOption,
    kubectl_of,
    named,
    sentence,
)
from agent.kubectl.silence import age_of

WANTED_SO: Final = frozenset({"shutdown", "parting", "nodeDrained", "nodeDeleted", "nodeDraining", "agentUninstalled"})
"""Reason words of sessions that are not there because somebody, or the topology, wants it so."""
NOT_ESTABLISHED: Final = "notEstablished"
"""Reason word of a session that is wanted: what went wrong is in the last error."""


def peers(
    *,
    nodes: NodesOption = None,
    every: Annotated[
        bool, typer.Option("--all", help="Ask each agent: also for sessions between nodes that are as they should be.")
    ] = False,
    failed: Annotated[bool, typer.Option("--failed", help="Only those that are not established.")] = False,
    context: ContextOption = "",
    kubeconfig: KubeconfigOption = "",
    namespace: NamespaceOption = NAMESPACE,
    output: OutputOption = Output.TABLE,
    watch: WatchOption = False,
    quiet: QuietOption = False,
) -> None:
    """Sessions of all nodes: with routers, and those missing between nodes. Exit code 3: one that should be is not.

    Sessions between nodes that are there are counted; --all has them one by one.
    """
    kubectl = kubectl_of(context, kubeconfig, namespace)
    view = View(
        lambda: sessions(read(kubectl), nodes or (), every=every, failed=failed),
        lambda answer, wide, colour: _text(answer, wide=wide, colour=colour, room=room()),
        lambda answer: [f"{it['node']}/{address}" for it in answer["nodes"] for address in it["peers"]],
        lambda answer: all(it["silent"] is None and all(map(is_well, it["peers"].values())) for it in answer["nodes"]),
    )
    present(view, output, watch=watch, quiet=quiet)


def sessions(cluster: Cluster, names: Iterable[str], *, every: bool, failed: bool) -> Answer:
    """Raises UnreachableError when nothing is known of any node."""
    found = by_node(cluster, cluster.of(list(names)), every=every)
    if found and all(it["source"] is None for it in found):
        raise unanswered([NoAnswer(**it["silent"]) for it in found])
    if failed:
        found = [
            {**it, "mesh": None, "peers": {at: one for at, one in it["peers"].items() if not one["is_up"]}}
            for it in found
        ]
    return {"schema": "bgpilot.cluster_peers/1", "nodes": found, "notes": list(cluster.notes)}


def by_node(cluster: Cluster, members: Sequence[Member], *, every: bool = False) -> list[Answer]:
    """The sessions of each, and who says so; where nobody does (`source`), why."""
    asked = [member for member in members if every or member.state is None]
    said = cluster.ask(asked, "peers", "-o", "json") if asked and "pods" not in cluster.unread else {}
    return [_of_node(member, said.get(member.name)) for member in members]


def _of_node(member: Member, said: Answer | NoAnswer | RefusedError | None) -> Answer:
    """What its agent answers, or else its BGPNodeState."""
    about: Answer = {"node": member.name, "source": None, "silent": None, "mesh": None, "omitted": 0, "peers": {}}
    if isinstance(said, dict) and (why := why_unknown(said)) is not None:
        said = NoAnswer("pictureIncomplete", why["message"], why["fix"])
    if isinstance(said, dict):
        return {**about, "source": "agent", "peers": {at: _answered(it) for at, it in said["peers"].items()}}
    if isinstance(said, RefusedError):
        said = NoAnswer("refused", str(said), "")
    if said is not None or member.state is None:
        about["silent"] = (said or member.silent or NoAnswer("agentUnknown", "nothing is known of it", ""))._asdict()
    if (state := member.state) is None:
        return about
    mesh = {key: state.get("mesh", {}).get(key, 0) for key in ("configured", "established")}
    omitted = state.get("peersOmitted", 0)
    return {**about, "source": "BGPNodeState", "mesh": mesh, "omitted": omitted, "peers": written(state, time.time())}


def written(state: Object, now: float) -> dict[str, Answer]:
    """The sessions that a BGPNodeState names, by the peer's address; `now` in seconds since 1970."""
    return {it["address"]: _written(it, now) for it in state.get("peers", ())}


def _answered(peer: Mapping[str, Any]) -> Answer:
    """Of an agent's own answer that which a BGPNodeState has, too."""
    cause, families = peer["cause"], peer["address_family"]
    why = peer["reason_text"] if cause is None else sentence(cause["text"], cause["fix"])
    return {
        **{key: peer[key] for key in ("is_up", "is_enabled", "state", "state_seconds", "flaps", "mesh", "name")},
        "remote_as": peer["remote_as"],
        "local_address": peer["local_address"],
        "families": list(families),
        **{f"{it}_prefixes": sum(one[f"{it}_prefixes"] for one in families.values()) for it in ("received", "sent")},
        "reason": "parting" if peer["parting"] else peer["reason"] or (None if peer["is_up"] else NOT_ESTABLISHED),
        "why": why or None,
        "last_error": peer["last_error"],
    }


def _written(peer: Object, now: float) -> Answer:
    """As a BGPNodeState has it."""
    error, reason = peer.get("lastError"), peer.get("reason")
    return {
        "is_up": peer["established"],
        "is_enabled": reason not in WANTED_SO - {"parting"},
        "state": peer.get("state", ""),
        "state_seconds": age_of(peer.get("since"), now),
        "flaps": peer.get("flaps", 0),
        "mesh": peer.get("mesh", False),
        "name": peer["name"],
        "remote_as": peer.get("asn"),
        "local_address": peer.get("localAddress"),
        "families": list(peer.get("families", ())),
        "received_prefixes": peer.get("received", 0),
        "sent_prefixes": peer.get("sent", 0),
        "reason": reason,
        "why": peer.get("message"),
        "last_error": None
        if error is None
        else {
            "direction": error.get("direction", "local"),
            "code": error.get("code", 0),
            "subcode": error.get("subcode", 0),
            "text": error.get("text", ""),
            "age_seconds": age_of(error.get("time"), now) or 0,
            "count": 1,
        },
    }


def is_well(peer: Answer) -> bool:
    return bool(peer["is_up"] or peer["reason"] in WANTED_SO)


def _text(answer: Answer, *, wide: bool, colour: bool, room: int | None) -> str:
    headers = ["NODE", "PEER", "NAME", "AS", "STATE", "UP/DOWN", "FAMILY", "RCVD", "SENT", "LAST-ERROR"]
    more = ["LOCAL", "FLAPS"] if wide else []
    rows = [cells for it in answer["nodes"] for cells in _rows(it, wide=wide)]
    kept, left = few(rows, room)
    spare = [] if wide else ["FAMILY", "SENT", "RCVD", "UP/DOWN", "AS", "NAME"]
    lines = [grouped(headers[:-1] + more + headers[-1:], kept, colour=colour, spare=spare, room=room)]
    if not rows:
        lines = ["No session to show."]
    if left:
        lines.append(f"… and {left} lines more: `kubectl bgpilot peers --failed`, or `| less`")
    told = causes(answer["nodes"])
    lines += [f"! {it}" for it in [*told[:CAUSES_MAX], *answer["notes"]]]
    if (hidden := len(told) - CAUSES_MAX) > 0:
        lines.append(f"! … and {hidden} more: `kubectl bgpilot peers --node NODE`")
    return "\n".join(lines)


def _rows(it: Answer, *, wide: bool) -> Iterable[list[str]]:
    blank = [""] * (6 if wide else 4)
    for address, peer in it["peers"].items():
        more = [peer["local_address"] or "", str(peer["flaps"])] if wide else []
        yield [
            it["node"],
            address,
            peer["name"],
            str(peer["remote_as"] or ""),
            peer["state"],
            uptime(peer["state_seconds"]),
            ",".join(peer["families"]),
            str(peer["received_prefixes"]),
            str(peer["sent_prefixes"]),
            *more,
            trouble(peer),
        ]
    if it["omitted"]:
        yield [it["node"], f"{it['omitted']} more", "", "", "", *blank, "named by --all"]
    if it["mesh"] and it["mesh"]["configured"]:
        there = f"{it['mesh']['established']} of {it['mesh']['configured']} up"
        yield [it["node"], "(nodes)", "mesh", "", there, *blank, ""]
    if it["silent"]:
        yield [it["node"], "", "", "", "unknown", *blank, it["silent"]["reason"]]


def trouble(peer: Answer) -> str:
    """Why there is no session, or why the last one ended."""
    if peer["reason"] in {None, NOT_ESTABLISHED}:
        return last_error(peer["last_error"])
    return ": ".join(it for it in (peer["reason"], peer["why"]) if it)


def causes(nodes: Sequence[Answer]) -> list[str]:
    """What is to be mended: each once, with the nodes that say so; a router that is down is so on many."""
    said = [Said(it["node"], text, own) for it in nodes for text, own in _causes(it)]
    return [f"{named(names, len(nodes))}: {text}" for names, text in alike(said)]


def _causes(it: Answer) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Of one node, with its address on that session."""
    down = [peer for peer in it["peers"].values() if not is_well(peer)]
    others = [peer for peer in down if peer["mesh"]]
    for peer in [*(peer for peer in down if not peer["mesh"]), *others[:NODES_MAX]]:
        if peer["why"]:
            yield (
                f"{peer['name']}: {sentence(peer['why'], '')}",
                (peer["local_address"],) if peer["local_address"] else (),
            )
    if (more := len(others) - NODES_MAX) > 0:
        yield f"and sessions with {more} more nodes are missing.", ()
    if (why := it["silent"]) is not None:
        yield f"{why['reason']}: {sentence(why['text'], why['fix'])}", ()


NODES_MAX: Final = 3
"""Missing sessions with other nodes that are explained one by one: a node that is cut off misses all of them."""
