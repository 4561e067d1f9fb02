"""`kubectl bgpilot check`: what must hold on every node, PASS or FAIL; what several nodes say alike stands once."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from agent.cli.check import lines
from agent.cli.present import Answer, Output, OutputOption, QuietOption, View, WatchOption, present
from agent.kubectl.alike import Said, alike
from agent.kubectl.asking import Answers, ask
from agent.kubectl.cluster import Cluster, read
from agent.kubectl.options import (
    NAMESPACE,
    ContextOption,
    KubeconfigOption,
    NamespaceOption,
    NodesOption,
    kubectl_of,
    named,
)


def check(
    *,
    nodes: NodesOption = None,
    context: ContextOption = "",
    kubeconfig: KubeconfigOption = "",
    namespace: NamespaceOption = NAMESPACE,
    output: OutputOption = Output.TABLE,
    watch: WatchOption = False,
    quiet: QuietOption = False,
) -> None:
    """What must hold on every node, PASS or FAIL, with the fix. Exit code 3: something fails, or a node is silent."""
    kubectl = kubectl_of(context, kubeconfig, namespace)
    view = View(
        lambda: checked(read(kubectl), nodes or ()),
        lambda answer, _, colour: "\n".join([lines(answer, colour=colour), *(f"! {note}" for note in answer["notes"])]),
        lambda answer: [it["name"] for it in answer["checks"] if it["faults"]],
        lambda answer: bool(answer["passed"]),
    )
    present(view, output, watch=watch, quiet=quiet)


def checked(cluster: Cluster, names: Iterable[str]) -> Answer:
    said = ask(cluster, names, "check", "-o", "json")
    checks = [_agents(said), *_by_name(cluster, said)]
    return {
        "schema": "bgpilot.cluster_check/1",
        "passed": not any(it["faults"] for it in checks),
        "asked": said.nodes,
        "checks": checks,
        "notes": list(cluster.notes),
    }


def _agents(said: Answers) -> Answer:
    """That there is an agent to ask comes before all that it says."""
    faults = [
        {**it, "text": f"{named(it['nodes'], said.nodes)}: {it['reason']}: {it['text']}"} for it in said.without()
    ]
    return {
        "name": "agents",
        "good": f"all {said.nodes} nodes answer" if said.nodes > 1 else "the node answers",
        "looked_at": True,
        "passing": said.nodes - len(said.silent),
        "faults": faults,
        "notes": [],
    }


def _by_name(cluster: Cluster, said: Answers) -> Iterable[Answer]:
    """Each check with what the nodes say of it, in the agents' order."""
    named_so = dict.fromkeys(it["name"] for answer in said.answers.values() for it in answer["checks"])
    for name in named_so:
        of_node = {node: it for node, answer in said.answers.items() for it in answer["checks"] if it["name"] == name}
        looked_at = [it for it in of_node.values() if it.get("looked_at", True)]
        good = [it for it in looked_at if not it["faults"]]
        words = {it["good"] for it in looked_at or of_node.values()}
        yield {
            "name": name,
            "good": _good(len(looked_at or of_node), words),
            "looked_at": bool(looked_at),
            "passing": len(good),
            "faults": _said_alike(cluster, of_node, "faults", said.nodes),
            "notes": _said_alike(cluster, of_node, "notes", said.nodes),
        }


def _good(count: int, words: set[str]) -> str:
    """What is so on all of them."""
    told = words.pop() if len(words) == 1 else "as it must be"
    return told if count == 1 else f"on {count} nodes: {told}"


def _said_alike(cluster: Cluster, of_node: Mapping[str, Any], what: str, asked: int) -> list[Answer]:
    said = alike(
        Said(node, json.dumps(fault), cluster.addresses(node)) for node, it in of_node.items() for fault in it[what]
    )
    faults = [(nodes, json.loads(text)) for nodes, text in said]
    return [{**it, "nodes": nodes, "text": f"{named(nodes, asked)}: {it['text']}"} for nodes, it in faults]
