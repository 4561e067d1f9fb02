"""YAML as plain values, nested no deeper and repeated no more than anybody writes it: else an error, and no crash.

Loaded when there is YAML to read: that takes a fifth of the time to start.
"""

from __future__ import annotations

from itertools import chain
from typing import Any, Final

import yaml

from agent.scenario.form import ScenarioError

NESTED_MAX: Final = 200
"""Objects of Kubernetes are a tenth of that."""
REPEATED_MAX: Final = 10_000_000
"""Characters that aliases may stand for. A few lines in which they stand for others mean more than any memory holds."""


def read_yaml(text: str) -> object:
    """Raises RecursionError, YAMLError, ScenarioError; ValueError for what is no value of its kind (a 32nd of May)."""
    loader = _Loader(text)
    try:
        return None if (node := loader.get_single_node()) is None else loader.construct_document(_bounded(node, text))
    finally:
        loader.dispose()


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]  # one of two classes
    """The C loader goes down as deep as a file does, and a million brackets would end the process without a word."""

    deep = 0

    def descend_resolver(self, *_: Any) -> None:
        self.deep += 1
        if self.deep > NESTED_MAX:
            raise RecursionError

    def ascend_resolver(self) -> None:
        self.deep -= 1


def _bounded(whole: yaml.Node, text: str) -> yaml.Node:
    """It, unless it is far longer than the text when each alias is written out."""
    most = 2 * len(text) + REPEATED_MAX
    lengths: dict[yaml.Node, int | None] = {}

    def length(node: yaml.Node) -> int:
        """What an alias means stands before it, and is known by then, or not yet if the alias is inside of that."""
        if not isinstance(node, yaml.CollectionNode):
            return 1 + len(node.value)
        if node not in lengths:
            lengths[node] = None
            lengths[node] = 1 + sum(map(length, _parts(node)))
        if (found := lengths[node]) is None:
            raise ScenarioError(f"no scenario: what begins in line {node.start_mark.line + 1} contains itself")
        if found > most:
            raise ScenarioError(f"no scenario: with its aliases (*name) written out it has more than {most} characters")
        return found

    length(whole)
    return whole


def _parts(node: yaml.CollectionNode) -> list[yaml.Node]:
    return list(chain.from_iterable(node.value)) if isinstance(node, yaml.MappingNode) else node.value
