"""The cluster as the API server tells of it: Nodes, BGPNodeStates and the agents' pods, brought together by node.

What cannot be read is said (`notes`), and all else is shown. Agents are asked by way of it, several at a time.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final, TypeAlias, TypeVar

from agent.cli.client import RefusedError
from agent.kubectl.client import Kubectl, NoAnswer, Object, SilentError
from agent.kubectl.pods import SELECTED, Pod, name_of, pods_by_node, without_pod
from agent.kubectl.silence import Facts, age_of, why_silent

AT_ONCE: Final = 12
"""Agents that are asked at the same time: each takes a process of kubectl."""
STATES: Final = "bgpnodestates.bgpilot.io"
_A = TypeVar("_A")
_T = TypeVar("_T")

Answer: TypeAlias = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Member:
    """One node, with what there is of it."""

    name: str
    node: Object | None
    said: Object | None
    """Status of its BGPNodeState."""
    age_seconds: int | None
    """Of that."""
    pod: Pod | None
    silent: NoAnswer | None
    """Why the BGPNodeState is missing or not to be believed."""

    @property
    def state(self) -> Object | None:
        """What is to be believed."""
        return self.said if self.silent is None else None

    @property
    def addresses(self) -> tuple[str, ...]:
        """As its agent has them, else as the Node has."""
        listed = (self.node or {}).get("status", {}).get("addresses", ())
        return tuple((self.said or {}).get("addresses") or (it["address"] for it in listed))


@dataclass(frozen=True, slots=True)
class Cluster:
    members: tuple[Member, ...]
    notes: tuple[str, ...]
    """What could not be read."""
    kubectl: Kubectl
    unread: Mapping[str, RefusedError]
    """Why, by what: `nodes`, `states`, `pods`."""

    def of(self, names: Sequence[str]) -> tuple[Member, ...]:
        """The members that are named, or all. Raises RefusedError for a name that nobody has."""
        known = {member.name: member for member in self.members}
        for name in names:
            if name not in known:
                raise RefusedError(f"there is no node {name!r}; there are {', '.join(known) or 'none'}")
        return tuple(known[name] for name in dict.fromkeys(names)) if names else self.members

    def addresses(self, name: str) -> tuple[str, ...]:
        """Of the node: those by which agents tell one from the other."""
        return next((member.addresses for member in self.members if member.name == name), ())

    def ask(self, members: Iterable[Member], *words: str) -> dict[str, Answer | NoAnswer | RefusedError]:
        """What `bgpilot WORDS` answers on each, by the node's name. Raises RefusedError when pods cannot be listed."""
        if (error := self.unread.get("pods")) is not None:
            raise error

        def one(member: Member) -> Answer | NoAnswer | RefusedError:
            if member.pod is None or not member.pod.running:
                return member.silent or without_pod(member.pod, self.kubectl)
            try:
                return self.kubectl.ask(member.pod.name, *words)
            except SilentError as error:
                return error.why
            except RefusedError as error:
                return error

        asked = list(members)
        return dict(zip([it.name for it in asked], _at_once(one, asked), strict=True))


def read(kubectl: Kubectl) -> Cluster:
    """Raises UnreachableError, or RefusedError when neither Nodes nor states nor pods can be read."""

    def get(*words: str, patient: bool = False) -> list[Object] | RefusedError:
        try:
            return kubectl.get(*words, patient=patient)
        except RefusedError as error:
            return error

    # The first one may have to log in; others would ask for it once more.
    nodes = get("nodes", patient=True)
    others = [(STATES,), ("pods", "-n", kubectl.namespace, "-l", SELECTED)]
    states, pods = _at_once(lambda words: get(*words), others)
    listed = {"nodes": nodes, "states": states, "pods": pods}
    unread = {what: it for what, it in listed.items() if isinstance(it, RefusedError)}
    if unread.keys() == listed.keys():
        raise unread["nodes"]
    members = _members(kubectl, {what: it for what, it in listed.items() if not isinstance(it, RefusedError)})
    return Cluster(tuple(members), tuple(f"{it}; {_WITHOUT[what]}" for what, it in unread.items()), kubectl, unread)


_WITHOUT: Final = {
    "nodes": "nodes of which nothing else is known are not shown",
    "states": "agents are asked instead",
    "pods": "no agent can be asked",
}


def _members(kubectl: Kubectl, listed: Mapping[str, list[Object]]) -> Iterator[Member]:
    nodes = {name_of(it): it for it in listed.get("nodes", ())}
    states = {name_of(it): it.get("status", {}) for it in listed.get("states", ())}
    pods = pods_by_node(listed.get("pods", ()))
    now = time.time()
    for name in sorted({*nodes, *states, *pods}, key=numeric):
        node, state, pod = nodes.get(name), states.get(name), pods.get(name)
        age = None if state is None else age_of(state.get("heartbeatTime"), now)
        silent = why_silent(Facts(kubectl, name, node, state, age, pod, frozenset(listed)))
        yield Member(name, node, state, age, pod, silent)


def numeric(name: str) -> list[tuple[int, str]]:
    """node-2 before node-10."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name)]


def _at_once(do: Callable[[_A], _T], things: Sequence[_A]) -> list[_T]:
    """Results in their order; when one raises, or the user has had enough, what has not begun is left."""
    with ThreadPoolExecutor(max(1, min(AT_ONCE, len(things)))) as pool:
        return list(pool.map(do, things))
