"""One question to the agents of many nodes, and their answers brought together: who said what, who said nothing."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from agent.cli.client import RefusedError
from agent.cli.present import Answer
from agent.kubectl.alike import Said, alike
from agent.kubectl.client import NoAnswer, unanswered
from agent.kubectl.cluster import Cluster

REFUSED: Final = "refused"
"""Reason word: the agent answers that it cannot, in its own words."""


@dataclass(frozen=True, slots=True)
class Answers:
    answers: dict[str, Answer]
    """By node."""
    silent: dict[str, NoAnswer]
    """Nodes without an answer, also those that refuse the question."""

    @property
    def nodes(self) -> int:
        return len(self.answers) + len(self.silent)

    def without(self) -> list[Answer]:
        """Why there is no answer, and of which nodes."""
        by_reason: dict[NoAnswer, list[str]] = {}
        for node, why in self.silent.items():
            by_reason.setdefault(why, []).append(node)
        return [{"nodes": nodes, **why._asdict()} for why, nodes in by_reason.items()]


def ask(cluster: Cluster, names: Iterable[str], *words: str) -> Answers:
    """Raises RefusedError when no agent knows what is asked for, UnreachableError when none answers at all."""
    said = cluster.ask(cluster.of(list(names)), *words)
    answers = {node: it for node, it in said.items() if isinstance(it, dict)}
    silent = {node: it for node, it in said.items() if isinstance(it, NoAnswer)}
    refused = {node: it for node, it in said.items() if isinstance(it, RefusedError)}
    if refused and not answers:
        raise next(iter(refused.values()))
    if not answers:
        nobody = NoAnswer("noAgentPod", f"there is no node, and no agent in namespace {cluster.kubectl.namespace}", "")
        raise unanswered(list(silent.values()) or [nobody])
    return Answers(answers, silent | {node: NoAnswer(REFUSED, str(it), "") for node, it in refused.items()})


def same(cluster: Cluster, answers: Mapping[str, Answer]) -> list[tuple[list[str], Answer]]:
    """Equal answers together, but for whose they are; those of most nodes first."""
    bare = {node: {key: it for key, it in one.items() if key not in _OWN} for node, one in answers.items()}
    said = alike(Said(node, json.dumps(it), cluster.addresses(node)) for node, it in bare.items())
    return sorted(((nodes, json.loads(text)) for nodes, text in said), key=lambda it: -len(it[0]))


_OWN: Final = frozenset({"node", "version"})
