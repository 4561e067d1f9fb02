"""Problems as lines below what a command shows: whose, what, and what to do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from agent.cli.unknown import INCOMPLETE, WATCH, in_words

Answer: TypeAlias = Mapping[str, Any]


def problem_lines(problems: Sequence[Answer], most: int | None = None) -> list[str]:
    lines = [_problem(it) for it in _watches_together(problems)]
    left = 0 if most is None else len(lines) - most
    return [*lines[:most], f"! … and {left} more: see `bgpilot status`"] if left > 0 else lines


def _watches_together(problems: Sequence[Answer]) -> Iterator[Answer]:
    """Those that fail for one reason as one: an API server that is away breaks all."""
    alike: dict[tuple[str, ...], list[Answer]] = {}
    for at, it in enumerate(problems):
        cause = it["message"].partition(": ")[2] if it["subject"].startswith(WATCH) else ""
        alike.setdefault((it["reason"], cause, it["fix"]) if cause else (str(at),), []).append(it)
    for first, *others in alike.values():
        names = ", ".join(it["subject"].removeprefix(WATCH) for it in (first, *others))
        cause = first["message"].partition(": ")[2]
        yield {**first, "subject": f"{WATCH}{names}", "message": cause} if others else first


def _problem(it: Answer) -> str:
    if it["reason"] == INCOMPLETE:
        return f"! {in_words(it)}"
    line = f"! {said_of(it)}"
    return f"{line.rstrip('. ')}. Fix: {it['fix']}" if it["fix"] else line


def said_of(problem: Answer) -> str:
    """With its subject, which it may begin with by itself."""
    about, message = problem["subject"], problem["message"]
    return message if message.startswith(f"{about} ") else f"{about}: {message}"
