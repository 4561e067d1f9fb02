"""What several nodes say alike, once: where they differ by their own addresses alone, too. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

OWN: Final = "the node's address"
"""In place of it, where several are meant."""


class Said(NamedTuple):
    node: str
    text: str
    own: Sequence[str]
    """Addresses of the node."""


def alike(said: Iterable[Said]) -> list[tuple[list[str], str]]:
    """Nodes, each once, and what they say, in the order in which it is first said."""
    found: dict[str, dict[str, str]] = {}
    for node, text, own in said:
        found.setdefault(_general(text, own), {})[node] = text
    return [
        (list(texts), general if len(set(texts.values())) > 1 else next(iter(texts.values())))
        for general, texts in found.items()
    ]


def _general(text: str, own: Sequence[str]) -> str:
    for address in own:
        text = re.sub(rf"(?<![\w.:]){re.escape(address)}(?![\w/]|[.:]\w)", OWN, text)
    return text
