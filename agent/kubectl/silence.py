"""Whether a BGPNodeState is to be believed: it is what an agent said once, and one that is gone says nothing. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final, NamedTuple

from agent.kubectl.client import CONTAINER, Kubectl, NoAnswer, Object
from agent.kubectl.pods import Pod, without_pod

OLD_SECONDS: Final = 240
"""An agent writes about once a minute."""
STOPPED: Final = "Stopped"
"""Reason of its condition Ready, once the agent has ended."""


class Facts(NamedTuple):
    kubectl: Kubectl
    name: str
    node: Object | None
    state: Object | None
    age: int | None
    pod: Pod | None
    read: frozenset[str]
    """What of `nodes`, `states` and `pods` can be."""


def why_silent(it: Facts) -> NoAnswer | None:
    """Why there is no BGPNodeState, or one that is not of now: the first thing that is known of it."""
    stopped = it.state is not None and _ready(it.state).get("reason") == STOPPED
    old = it.age is None or it.age > OLD_SECONDS
    if it.state is not None and not old and not stopped:
        return None
    what = (
        "its agent has been stopped"
        if stopped
        else f"its agent wrote last {it.age // 60} minutes ago"
        if it.age is not None and it.state is not None
        else "there is no BGPNodeState of it"
    )
    if it.node is None and "nodes" in it.read:
        fix = f"it goes by itself in a while; or `kubectl delete bgpnodestate {it.name}`"
        return NoAnswer("nodeGone", f"{what}, and there is no such Node", fix)
    if it.node is not None and (unready := _unready(it.node)) is not None:
        return NoAnswer("nodeNotReady", f"{what}, and the Node is not Ready{unready}", "see to the machine first")
    if "pods" not in it.read:
        return NoAnswer("agentUnknown", what, f"see `{it.kubectl.command('get', 'pods', '-o', 'wide')}`")
    if it.pod is None or not it.pod.running:
        return without_pod(it.pod, it.kubectl)
    if "states" not in it.read:
        return NoAnswer("agentUnknown", "BGPNodeStates cannot be read", "")
    log = f"`{it.kubectl.command('logs', it.pod.name, '-c', CONTAINER)}`"
    if it.state is None:
        return NoAnswer(
            "stateMissing", f"{what}, though its agent runs", f"just started, or it may not write: see {log}"
        )
    if stopped:
        return NoAnswer("agentStopped", f"{what}, and is starting again", "wait a moment")
    fix = f"it does not reach the API server, or hangs: see {log}. Or the clock of this machine is wrong"
    return NoAnswer("stateOld", f"{what}, though it runs", fix)


def _ready(state: Object) -> Object:
    found: Mapping[str, Any] = next((it for it in state.get("conditions", ()) if it.get("type") == "Ready"), {})
    return found


def _unready(node: Object) -> str | None:
    """What the Node says of it; None: it is Ready, or says nothing."""
    conditions = node.get("status", {}).get("conditions", ())
    for it in conditions:
        if it.get("type") == "Ready" and it.get("status") != "True":
            return f" ({it['message'].rstrip('.')})" if it.get("message") else ""
    return None


def age_of(at: str | None, now: float) -> int | None:
    """Of an instant as Kubernetes writes it; `now` in seconds since 1970."""
    try:
        return max(0, int(now - datetime.fromisoformat(at).timestamp())) if at else None
    except ValueError:
        return None
