"""What stands in a BGPNodeState against what should: whether the difference is worth a write, and the patch for it.

News is what an operator, or a program that watches, would want to know at once. Texts, counts of routes, the instant of
an error that comes again and again, and the states that a session goes through while it is dialed are none: they are
written with the next news, or with the next heartbeat.

Pure: time is an argument.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from agent.status.peers import View

NO_NEWS: Final = frozenset(
    {"fix", "heartbeatTime", "lastTransitionTime", "message", "received", "routes", "sent", "state", "time"}
)
"""Members, wherever they are."""
WHETHER: Final = frozenset({"lastError"})
"""Members of which only that they are there is news: the errors of a router that is away may take turns."""


def is_news(before: View, after: View) -> bool:
    return not _alike(before, after)


def _alike(before: Any, after: Any) -> bool:
    if before == after:  # nearly all of it, and Python compares faster than we do
        return True
    match before, after:
        case dict(), dict():
            keys = before.keys() - NO_NEWS
            return keys == after.keys() - NO_NEWS and all(
                key in WHETHER or _alike(before[key], after[key]) for key in keys
            )
        case list(), list():
            return len(before) == len(after) and all(map(_alike, before, after))
        case _:
            return False


def dated(view: View, before: View, at: str) -> View:
    """With the time of each condition's last change: `at`, unless its status is as it was before."""
    earlier = {_place(each): each for each in before.get("resources", ())}
    return {
        **view,
        "conditions": _conditions(view.get("conditions", ()), before.get("conditions", ()), at),
        "resources": [
            {**each, "conditions": _conditions(each["conditions"], earlier.get(_place(each), _NONE)["conditions"], at)}
            for each in view.get("resources", ())
        ],
    }


def _place(resource: Mapping[str, Any]) -> tuple[str, str]:
    return resource["kind"], resource["name"]


_NONE: Final[Mapping[str, Any]] = {"conditions": ()}


def _conditions(view: Any, before: Any, at: str) -> list[View]:
    known = {each["type"]: each for each in before}
    dated = []
    for each in view:
        old = known.get(each["type"])
        same = old is not None and old["status"] == each["status"]
        dated.append({**each, "lastTransitionTime": old["lastTransitionTime"] if old is not None and same else at})
    return dated


def patch(before: View, after: View) -> View:
    """JSON merge patch (RFC 7386): lists are replaced, what is gone is null."""
    changes: View = {key: None for key in before if key not in after}
    for key, value in after.items():
        old = before.get(key)
        if isinstance(value, dict) and isinstance(old, dict):
            if inner := patch(old, value):
                changes[key] = inner
        elif key not in before or old != value:
            changes[key] = value
    return changes
