"""`kubectl bgpilot status`: a line for each node, what is to be mended, and sums; all from the BGPNodeStates."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, Final

from agent.cli.present import Answer, Output, OutputOption, QuietOption, View, WatchOption, present
from agent.cli.render import PROBLEMS_MAX, few
from agent.cli.text import age, room, table
from agent.kubectl.client import Object
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

UNKNOWN: Final = "unknown"
"""Health of a node whose BGPNodeState is missing, or not to be believed."""
HEALTHS: Final = ("yes", "degraded", "no", UNKNOWN)


def status(
    *,
    nodes: NodesOption = None,
    context: ContextOption = "",
    kubeconfig: KubeconfigOption = "",
    namespace: NamespaceOption = NAMESPACE,
    output: OutputOption = Output.TABLE,
    watch: WatchOption = False,
    quiet: QuietOption = False,
) -> None:
    """Every node in a line, what is to be mended, and sums. Exit code 3: a node is not healthy, or not known to be."""
    kubectl = kubectl_of(context, kubeconfig, namespace)
    view = View(
        lambda: summed_up(read(kubectl), nodes or ()),
        lambda answer, wide, colour: _text(answer, wide=wide, colour=colour, room=room()),
        lambda answer: [it["node"] for it in answer["nodes"]],
        lambda answer: bool(answer["healthy"]),
    )
    present(view, output, watch=watch, quiet=quiet)


def summed_up(cluster: Cluster, names: Iterable[str]) -> Answer:
    """Raises RefusedError where there are no BGPNodeStates to be read."""
    if (error := cluster.unread.get("states")) is not None:
        raise error
    members = cluster.of(list(names))
    rows = [row_of(member) for member in members]
    known = [row for row in rows if row["health"] != UNKNOWN]
    counts = Counter(row["health"] for row in rows)
    return {
        "schema": "bgpilot.cluster_status/1",
        "healthy": counts["yes"] == len(rows) > 0,
        "nodes": rows,
        "sums": {
            "health": {word: counts[word] for word in HEALTHS},
            **{
                what: {part: sum(row[what][part] for row in known) for part in parts}
                for what, parts in (("peers", ("established", "configured")), ("routes", ("installed", "wanted")))
            },
            "versions": dict(Counter(row["version"] for row in known if row["version"])),
        },
        "problems": _problems(members),
        "notes": list(cluster.notes),
    }


def row_of(member: Member) -> Answer:
    said: Object = member.said or {}
    summary, leaving = said.get("summary", {}), said.get("leaving")
    return {
        "node": member.name,
        "health": UNKNOWN if member.state is None else said.get("health", UNKNOWN),
        "silent": None if member.silent is None else member.silent._asdict(),
        "heartbeat_seconds": member.age_seconds,
        "asn": said.get("asn"),
        "peers": _of(summary.get("peers"), "established", "configured"),
        "routes": _of(summary.get("routes"), "installed", "wanted"),
        "ailments": [] if member.state is None else [it["reason"] for it in said.get("ailments", ())],
        "leaving": None if leaving is None else {key: leaving.get(key, "") for key in ("reason", "stage")},
        "version": said.get("agent", {}).get("version"),
        "addresses": list(said.get("addresses", ())),
        "pod_cidrs": list(said.get("podCIDRs", ())),
        "zone": said.get("zone"),
        "mesh_role": said.get("mesh", {}).get("role"),
        "instance": said.get("instance"),
    }


def _of(summary: str | None, part: str, whole: str) -> dict[str, int]:
    """`2/3`, as the summary has it."""
    done, _, wanted = (summary or "").partition("/")
    return {part: int(done) if done.isdecimal() else 0, whole: int(wanted) if wanted.isdecimal() else 0}


def _problems(members: Iterable[Member]) -> list[Answer]:
    """Why nodes are silent or not well, then what is to be mended: each once, with the nodes that say so."""
    found: dict[tuple[str, str, str, str], list[str]] = {}

    def add(member: Member, *said: str) -> None:
        found.setdefault((said[0], said[1], said[2], said[3]), []).append(member.name)

    members = list(members)
    for member in members:
        if member.silent is not None:
            add(member, member.silent.reason, "", member.silent.text, member.silent.fix)
    for member in members:
        told = {it["reason"] for it in _told(member, "problems")}
        for it in _told(member, "ailments"):
            if it["reason"] not in told:
                add(member, it["reason"], "", it.get("message", ""), "")
    for member in members:
        for it in _told(member, "problems"):
            add(member, it["reason"], it["subject"], it.get("message", ""), it.get("fix", ""))
    keys = ("reason", "subject", "text", "fix")
    return [{**dict(zip(keys, said, strict=True)), "nodes": nodes} for said, nodes in found.items()]


def _told(member: Member, what: str) -> Iterable[Mapping[str, Any]]:
    return () if member.state is None else member.state.get(what, ())


def _text(answer: Answer, *, wide: bool, colour: bool, room: int | None) -> str:
    headers = ["NODE", "AS", "HEALTHY", "PEERS", "ROUTES", "HEARTBEAT", "VERSION", "PROBLEMS"]
    more = ["ADDRESSES", "POD-CIDRS", "ZONE", "MESH", "INSTANCE"] if wide else []
    kept, left = few([_cells(row, wide=wide) for row in answer["nodes"]], room)
    spare = [] if wide else ["VERSION", "HEARTBEAT", "AS", "ROUTES", "PEERS"]
    lines = [table(headers[:-1] + more + headers[-1:], kept, colour=colour, spare=spare, room=room)]
    if not answer["nodes"]:
        lines = ["There is no node to show."]
    if left:
        lines.append(f"… and {left} nodes more: `kubectl bgpilot status | less`")
    problems = [_problem(it, len(answer["nodes"])) for it in answer["problems"]]
    if (hidden := len(problems) - PROBLEMS_MAX) > 0:
        problems = [*problems[:PROBLEMS_MAX], f"! … and {hidden} more: `kubectl bgpilot status --node NODE`"]
    return "\n".join([*lines, _sums(answer["sums"]), *problems, *(f"! {note}" for note in answer["notes"])])


def _cells(row: Answer, *, wide: bool) -> list[str]:
    peers, routes, seconds = row["peers"], row["routes"], row["heartbeat_seconds"]
    known = seconds is not None
    first = [
        row["node"],
        str(row["asn"] or ""),
        row["health"],
        f"{peers['established']}/{peers['configured']}" if known else "",
        f"{routes['installed']}/{routes['wanted']}" if known else "",
        age(seconds) if known else "",
        row["version"] or "",
    ]
    named = [", ".join(row["addresses"]), ", ".join(row["pod_cidrs"])]
    more = [*named, *(row[key] or "" for key in ("zone", "mesh_role", "instance"))] if wide else []
    words = [row["silent"]["reason"]] if row["silent"] else list(row["ailments"])
    if row["leaving"]:
        words.append(f"leaving: {row['leaving']['reason']} ({row['leaving']['stage']})")
    return [*first, *more, ", ".join(words)]


def _sums(sums: Answer) -> str:
    health, peers, routes = sums["health"], sums["peers"], sums["routes"]
    total = sum(health.values())
    counts = [f"{health['yes']} healthy", *(f"{health[it]} {it}" for it in HEALTHS[1:] if health[it])]
    versions = [f"version {version} on {count}" for version, count in sorted(sums["versions"].items())]
    words = [
        f"{total} node{'s' if total > 1 else ''}: {', '.join(counts)}",
        f"{peers['established']} of {peers['configured']} sessions established",
        f"{routes['installed']} of {routes['wanted']} routes in the kernels",
        *([", ".join(versions)] if len(versions) > 1 else []),
    ]
    return "; ".join(words)


def _problem(it: Answer, nodes: int) -> str:
    about = f"{it['subject']}: " if it["subject"] else ""
    return f"! {named(it['nodes'], nodes)}: {it['reason']}: {about}{sentence(it['text'], it['fix'])}"
