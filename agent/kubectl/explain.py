"""`kubectl bgpilot explain`: one question to every agent; nodes that say the same are named together."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

import typer

from agent.cli import render
from agent.cli.present import Answer, Output, OutputOption, QuietOption, View, WatchOption, present
from agent.kubectl.asking import REFUSED, ask, same
from agent.kubectl.cluster import Cluster, read
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


def explain(
    subject: Annotated[str, typer.Argument(metavar="PREFIX|NAMESPACE/SERVICE|PEER|NODE")],
    *,
    nodes: NodesOption = None,
    context: ContextOption = "",
    kubeconfig: KubeconfigOption = "",
    namespace: NamespaceOption = NAMESPACE,
    output: OutputOption = Output.TABLE,
    watch: WatchOption = False,
    quiet: QuietOption = False,
) -> None:
    """Follow one route, service, session or node on all nodes. Exit code 3: a no, or a node that does not answer."""
    kubectl = kubectl_of(context, kubeconfig, namespace)
    view = View(
        lambda: explained(read(kubectl), nodes or (), subject),
        lambda answer, _, colour: _text(answer, colour=colour),
        lambda answer: [node for it in answer["answers"] for node in it["nodes"]],
        lambda answer: bool(answer["ok"]),
    )
    present(view, output, watch=watch, quiet=quiet)


def explained(cluster: Cluster, names: Iterable[str], subject: str) -> Answer:
    said = ask(cluster, names, "explain", "-o", "json", "--", subject)
    groups = same(cluster, said.answers)
    return {
        "schema": "bgpilot.cluster_explain/1",
        "subject": subject,
        "ok": all(it["ok"] for _, it in groups) and all(it.reason == REFUSED for it in said.silent.values()),
        "asked": said.nodes,
        "answers": [{"nodes": nodes, **{key: it[key] for key in ("kind", "ok", "hops")}} for nodes, it in groups],
        "silent": said.without(),
        "notes": list(cluster.notes),
    }


def _text(answer: Answer, *, colour: bool) -> str:
    parts = []
    for it in answer["answers"]:
        nodes = named(it["nodes"], answer["asked"])
        where = nodes if nodes.startswith("all ") else f"node{'s' if len(it['nodes']) > 1 else ''} {nodes}"
        parts.append(render.explain({**it, "subject": answer["subject"]}, colour=colour, where=where))
    lines = [f"! {note}" for note in answer["notes"]]
    for it in answer["silent"]:
        told = f"{named(it['nodes'], answer['asked'])}: {it['reason']}: {sentence(it['text'], it['fix'])}"
        lines.append(told if it["reason"] == REFUSED else f"! {told}")
    return "\n\n".join([*parts, *(["\n".join(lines)] if lines else [])])
