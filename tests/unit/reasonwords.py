"""The reason words that the code can say of a route, read from its text: what tables for people are compared with."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from bgp.check import Reason

ROOT: Final = Path(__file__).parents[2]
_CAMEL_CASE: Final = re.compile(r"[a-z]+(?:[A-Z]\w*)+")
OF_ADDRESSES: Final[Mapping[str, tuple[str, ...]]] = {
    "agent/plan/services.py": (),
    "agent/plan/claims.py": ("taken",),
    "agent/plan/identity.py": ("_silenced",),
    "agent/plan/leaving.py": (),
    "agent/cluster/parse.py": ("_service", "_left_out"),
}
"""The files, or functions of them, that say why an address of a Service is not announced."""
OF_ROUTES: Final[Mapping[str, tuple[str, ...]]] = {
    "agent/plan/adverts.py": ("told",),
    "agent/plan/imports.py": (),
}
OF_OBJECTS: Final[Mapping[str, tuple[str, ...]]] = {
    "agent/plan/adverts.py": ("selects_nothing",),
    "agent/plan/guards.py": (),
    "agent/plan/identity.py": ("_told_to_nobody", "_in_node_subnet"),
}
"""Those that report a problem because of which something is not announced."""


def said_by(judges: Mapping[str, tuple[str, ...]]) -> set[str]:
    words = set[str]()
    for name, functions in judges.items():
        tree = ast.parse((ROOT / name).read_text())
        found = [it for it in ast.walk(tree) if isinstance(it, ast.FunctionDef) and it.name in functions]
        assert len(found) == len(functions), f"a judge has gone from {name}"
        for constant in (node for judge in found or [tree] for node in ast.walk(judge)):
            if isinstance(constant, ast.Constant) and _CAMEL_CASE.fullmatch(str(constant.value)):
                words.add(str(constant.value))
    return words


def said_by_the_code() -> set[str]:
    return {str(reason) for reason in Reason}.union(*map(said_by, (OF_ADDRESSES, OF_ROUTES, OF_OBJECTS)))
