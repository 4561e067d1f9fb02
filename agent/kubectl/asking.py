"""One question to the agents of many nodes, and their answers brought together: who said what, who said nothing."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from agent.cli.client import RefusedError
from agent.cli.present import Answer
from agent.kubectl.client import NoAnswer, unanswered
from agent.kubectl.cluster import Cluster
from agent.kubectl.options import alike

REFUSED: Final = "refused"
"""Reason word: the agent answers that it cannot, in its own words."""


@dataclass(frozen=True, slots=True)
class Said:
    answers: dict[str, Answer]
    """By node."""
    silent: dict[str, NoAnswer]
    """Nodes without an answer, also those that refuse the question."""

    @property
    def nodes(self) -> int:
        return len(self.answers) + len(self.silent)

    def without(self) -> list[Answer]:
        """Why there is no answer, and of which nodes."""
        return [{"nodes": nodes, **why._asdict()} for why, nodes in alike(self.silent.items()).items()]


def ask(cluster: Cluster, names: Iterable[str], *words: str) -> Said:
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
    return Said(answers, silent | {node: NoAnswer(REFUSED, str(it), "") for node, it in refused.items()})


def same(answers: Iterable[tuple[str, Answer]]) -> list[tuple[list[str], Answer]]:
    """Equal answers together, but for whose they are; those of most nodes first."""
    found: dict[str, tuple[list[str], Answer]] = {}
    for node, answer in answers:
        bare = {key: it for key, it in answer.items() if key not in {"node", "version"}}
        found.setdefault(json.dumps(bare, sort_keys=True), ([], bare))[0].append(node)
    return sorted(found.values(), key=lambda it: -len(it[0]))
