"""The reason words that the code can say, read from its text: what tables for people and tests are compared with."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Final

from agent import carrying
from agent.plan.leaving import Cause
from agent.status import health, peers, picture
from bgp.check import Reason

ROOT: Final = Path(__file__).parents[2]
_CAMEL_CASE: Final = re.compile(r"[a-z]+(?:[A-Z]\w*)+")
OF_ADDRESSES: Final[Mapping[str, tuple[str, ...]]] = {
    "agent/plan/services.py": (),
    "agent/plan/claims.py": ("taken",),
    "agent/plan/identity.py": ("_excluded",),
    "agent/plan/leaving.py": (),
    "agent/cluster/parse.py": ("_service", "_left_out", "_left_over"),
}
"""The files, or functions of them, that say why an address of a Service is not announced."""
OF_ROUTES: Final[Mapping[str, tuple[str, ...]]] = {
    "agent/plan/adverts.py": ("told",),
    "agent/plan/imports.py": (),
}
OF_OBJECTS: Final[Mapping[str, tuple[str, ...]]] = {
    "agent/plan/adverts.py": ("selects_nothing", "request_problem", "starving"),
    "agent/plan/guards.py": (),
    "agent/plan/identity.py": ("_in_node_subnet",),
    "agent/plan/selectors.py": ("_no_node", "_no_chosen_peer", "_no_peer"),
}
"""Those that report a problem because of which something is not announced."""


def said_by(judges: Mapping[str, tuple[str, ...]]) -> set[str]:
    words = set[str]()
    for name, functions in judges.items():
        tree = _parsed(ROOT / name)
        found = [it for it in ast.walk(tree) if isinstance(it, ast.FunctionDef) and it.name in functions]
        assert len(found) == len(functions), f"a judge has gone from {name}"
        for constant in (node for judge in found or [tree] for node in ast.walk(judge)):
            if isinstance(constant, ast.Constant) and _CAMEL_CASE.fullmatch(str(constant.value)):
                words.add(str(constant.value))
    return words


def said_by_the_code() -> set[str]:
    return {str(reason) for reason in Reason}.union(*map(said_by, (OF_ADDRESSES, OF_ROUTES, OF_OBJECTS)))


_MAKERS: Final = {"Problem", "SpeakerProblem", "Trouble"}
_CHOOSERS: Final[Mapping[str, tuple[str, ...]]] = {
    "agent/cluster/refusal.py": ("_advice",),
    "agent/plan/identity.py": ("_excluded",),
}
"""Functions that choose the word of a Problem which others make."""
_CHOSEN_IN: Final = (
    "agent/cluster/listwatch.py",
    "agent/cluster/kube.py",
    "agent/cluster/api.py",
    "agent/cluster/parse.py",
    "bgp/driver/process.py",
    "bgp/driver/upkeep.py",
    "bgp/problems.py",
    "bgp/speaker.py",
    "bgp/limits.py",
    "bgp/exaconfig.py",
)
"""Files whose constants of one camelCase word are reason words of Problems."""


def said_of_problems() -> set[str]:
    """The reason words of Problems: what is written where one is made, and what goes there by another name."""
    words = said_by(_CHOOSERS) | {str(Reason.NEXT_HOP_NOT_NEGOTIATED), *map(str, Cause)}
    for path in _sources():
        words |= {word for call in _calls(path, _MAKERS) if (word := _first(call)) is not None}
    return words.union(*(_constants(ROOT / name) for name in _CHOSEN_IN))


def _constants(path: Path) -> set[str]:
    """The camelCase words that module-wide names stand for, if anybody reads the name."""
    names = {
        it.target.id: str(it.value.value)
        for it in _parsed(path).body
        if isinstance(it, ast.AnnAssign) and isinstance(it.value, ast.Constant) and isinstance(it.target, ast.Name)
    }
    return {word for name, word in names.items() if _CAMEL_CASE.fullmatch(word) and name in _read()}


@cache
def _read() -> frozenset[str]:
    """The names that anybody reads, of whatever module."""
    nodes = (node for path in _sources() for node in ast.walk(_parsed(path)))
    return frozenset(
        node.id if isinstance(node, ast.Name) else node.attr
        for node in nodes
        if isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Load)
    )


def own_words_of_health() -> set[str]:
    """The reason words that `agent.status.health` has of its own, and that for which it has no more to say."""
    path = ROOT / "agent/status/health.py"
    words = {word for call in _calls(path, {"Ailment"}) if (word := _first(call)) is not None}
    return words | {picture.INCOMPLETE, health.NOT_PLANNED}


def said_of_holds() -> set[str]:
    """Of sessions that must not be."""
    return {word for path in _sources() for call in _calls(path, {"Held"}) if (word := _first(call)) is not None}


def own_words_of_explain() -> set[str]:
    """The reason words of the stations that `bgpilot explain` names, but for those that it hands on."""
    paths = [*sorted((ROOT / "agent/status").glob("explain*.py")), ROOT / "agent/status/equals.py"]
    words = said_by({str(path.relative_to(ROOT)): () for path in paths}) | {peers.PARTING, carrying.AWAITED}
    for path in paths:
        given = (it.value for call in _calls(path, {"Hop"}) for it in call.keywords if it.arg == "reason")
        words |= {str(it.value) for it in given if isinstance(it, ast.Constant)}
    return words


def every_word() -> set[str]:
    rules, problems = said_by_the_code(), said_of_problems()
    return rules | problems | said_of_holds() | own_words_of_explain() | own_words_of_health()


@cache
def _parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def told_to_status() -> set[str]:
    """Of every word those that another room says, and `agent.status` and the CLI only pass on."""
    outside = (ROOT / "agent/status", ROOT / "agent/cli")
    others = (path for path in _sources() if not any(map(path.is_relative_to, outside)))
    written = {node.value for path in others for node in ast.walk(_parsed(path)) if isinstance(node, ast.Constant)}
    return every_word() & {text for text in written if isinstance(text, str)}


def _sources() -> list[Path]:
    return [path for room in ("agent", "bgp") for path in sorted((ROOT / room).rglob("*.py"))]


def _calls(path: Path, names: set[str]) -> list[ast.Call]:
    found = (node for node in ast.walk(_parsed(path)) if isinstance(node, ast.Call))
    return [call for call in found if isinstance(call.func, ast.Name) and call.func.id in names]


def _first(call: ast.Call) -> str | None:
    """The first argument, or the one called `reason`, where it is written there."""
    for argument in (*call.args[:1], *(it.value for it in call.keywords if it.arg == "reason")):
        if isinstance(argument, ast.Constant):
            return str(argument.value)
    return None
