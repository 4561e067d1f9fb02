"""The agents' pods: which one is on a node, and why one does not run. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

from agent.kubectl.client import CONTAINER, Kubectl, NoAnswer, Object

SELECTED: Final = "app.kubernetes.io/name=bgpilot"
"""By this label."""


class Pod(NamedTuple):
    name: str
    running: bool
    """Its container `agent` runs."""
    why: str
    """Why it does not."""


def pods_by_node(pods: Iterable[Object]) -> dict[str, Pod]:
    """By node: of several the one that runs, and is not about to end."""
    found: dict[str, tuple[bool, bool, Pod]] = {}
    for it in pods:
        if (node := it.get("spec", {}).get("nodeName")) is None:
            continue
        why = _why_not_running(it.get("status", {}))
        rank = (
            why is None,
            "deletionTimestamp" not in it.get("metadata", {}),
            Pod(name_of(it), why is None, why or ""),
        )
        if node not in found or rank[:2] > found[node][:2]:
            found[node] = rank
    return {node: pod for node, (*_, pod) in found.items()}


def _why_not_running(status: Object) -> str | None:
    every = [*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ())]
    if any(it.get("name") == CONTAINER and "running" in it.get("state", {}) for it in every):
        return None
    for it in every:
        for told in (it.get("state", {}).get("waiting"), it.get("state", {}).get("terminated")):
            if told and (reason := told.get("reason")) not in {
                None,
                "PodInitializing",
                "ContainerCreating",
                "Completed",
            }:
                return f"{it['name']}: {reason}" + (f", {told['message'].rstrip('.')}" if told.get("message") else "")
    return str(status.get("reason") or status.get("phase") or "not started")


def without_pod(pod: Pod | None, kubectl: Kubectl) -> NoAnswer:
    if pod is None:
        fix = f"the DaemonSet may exclude the node: see `{kubectl.command('get', 'daemonset,pods', '-o', 'wide')}`"
        return NoAnswer("noAgentPod", f"no agent runs there: none in namespace {kubectl.namespace}", fix)
    fix = f"see `{kubectl.command('describe', 'pod', pod.name)}`"
    return NoAnswer("agentNotRunning", f"pod {pod.name} does not run ({pod.why})", fix)


def name_of(thing: Object) -> str:
    return str(thing["metadata"]["name"])
