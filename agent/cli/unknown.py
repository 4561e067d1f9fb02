"""What an agent says that has no picture of the cluster yet: what it does not name need not be missing.

Whether it has one is the agent's to say (`agent.status.picture`): by a Problem in its answers with a reason word of its
own. What can be told all the same is told, and the exit code is that of a node that is not well.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeAlias

from agent.cli.client import RefusedError

Answer: TypeAlias = Mapping[str, Any]

INCOMPLETE: Final = "pictureIncomplete"
WATCH: Final = "watch of "
"""How the subjects of Problems begin whose sum that is."""


def why_unknown(answer: Answer) -> Answer | None:
    """The Problem; None: the agent knows what it says."""
    return next((it for it in answer["problems"] if it["reason"] == INCOMPLETE), None)


def is_known(answer: Answer) -> bool:
    return why_unknown(answer) is None


def in_words(why: Answer) -> str:
    """In a sentence or two."""
    return f"{why['reason']}: {why['message'].rstrip('. ')}. Fix: {why['fix']}"


def known(answer: dict[str, Any]) -> dict[str, Any]:
    """The same. Raises RefusedError when nothing can be concluded from it."""
    if (why := why_unknown(answer)) is not None:
        raise RefusedError(in_words(why), why["reason"])
    return answer


def without_causes(problems: Sequence[Answer]) -> Sequence[Answer]:
    """Of an agent without a picture one line says why: not one for each watch, too."""
    if all(it["reason"] != INCOMPLETE for it in problems):
        return problems
    rest = [it for it in problems if it["reason"] != INCOMPLETE and not it["subject"].startswith(WATCH)]
    return [*(it for it in problems if it["reason"] == INCOMPLETE), *rest]
