"""What the API server means when it says no: HTTP answers other than 200, and ERROR events of a watch.

Both carry a Status object, unless something between us and the API server answers in its place (a load balancer, in
HTML). It refuses to decide what to do about it: `agent.cluster.listwatch` does.
"""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

import msgspec

from agent.cluster import shapes
from agent.cluster.kinds import RESOURCES
from agent.cluster.parse import UNREADABLE
from agent.model import Key, Kind, Problem

MESSAGE_CHARACTERS: Final = 300
"""How much of the API server's own words is kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    problem: Problem
    expired: bool = False
    """The revision asked for is too old, or (after a restore) not reached yet."""
    invalid: bool = False
    """The request itself is not understood."""
    not_found: bool = False
    forbidden: bool = False
    retry_after_seconds: float | None = None


def read_refusal(kind: Kind, only: Key | None, status: int, retry_after_seconds: float | None, body: bytes) -> Refusal:
    """Of an HTTP answer. Its own status counts, whatever the body says."""
    try:
        said = _STATUS.decode(body)
    except UNREADABLE:
        said = shapes.Status()
    return _refusal(kind, only, status, said, retry_after_seconds)


def read_status(kind: Kind, only: Key | None, body: msgspec.Raw) -> Refusal:
    """Of an ERROR event, which arrives under an HTTP answer of 200."""
    try:
        said = _STATUS.decode(body)
    except UNREADABLE:
        said = shapes.Status(code=HTTPStatus.INTERNAL_SERVER_ERROR)
    return _refusal(kind, only, said.code, said, None)


def _refusal(
    kind: Kind, only: Key | None, code: int, said: shapes.Status, retry_after_seconds: float | None
) -> Refusal:
    message = said.message or f"HTTP {code}, without an explanation of the API server"
    message = message if len(message) <= MESSAGE_CHARACTERS else message[: MESSAGE_CHARACTERS - 1] + "…"
    reason, fix = _advice(kind, only, code)
    what = str(only) if only else f"all {kind} objects"
    if retry_after_seconds is None and said.details is not None:
        retry_after_seconds = said.details.retry_after_seconds
    return Refusal(
        problem=Problem(reason, f"watch of {only or kind}", f"cannot watch {what}: {message}", fix),
        # 504 with this text: LIST or WatchList at a revision that the store has not reached, as after a restore.
        expired=code == HTTPStatus.GONE or "Too large resource version" in message,
        invalid=code in {HTTPStatus.BAD_REQUEST, HTTPStatus.UNPROCESSABLE_ENTITY},
        not_found=code == HTTPStatus.NOT_FOUND,
        forbidden=code == HTTPStatus.FORBIDDEN,
        retry_after_seconds=retry_after_seconds,
    )


def _advice(kind: Kind, only: Key | None, code: int) -> tuple[str, str]:
    """Reason word, and what to do."""
    group, version, resource = RESOURCES[kind]
    match code:
        case HTTPStatus.UNAUTHORIZED:
            return "apiUnauthorized", "Check the token or certificate of the kubeconfig, or the pod's service account."
        case HTTPStatus.FORBIDDEN:
            role = f"Role in namespace {only.namespace}" if only else "ClusterRole"
            names = f', resourceNames ["{only.name}"]' if only else ""
            rule = f'apiGroups ["{group}"], resources ["{resource}"]{names}, verbs ["list", "watch"]'
            return "apiForbidden", f"Grant the agent's user a {role} with the rule {rule}."
        case HTTPStatus.NOT_FOUND:
            return (
                "apiNotFound",
                f"Install what serves {resource} in {group or 'core'}/{version}; the last picture is kept.",
            )
        case HTTPStatus.TOO_MANY_REQUESTS:
            return "apiBusy", "None needed if it passes; else see the API server's priority and fairness metrics."
        case _:
            return "apiFailed", "Check the API server's log; the last picture is kept meanwhile."


_STATUS: Final = msgspec.json.Decoder(shapes.Status)
