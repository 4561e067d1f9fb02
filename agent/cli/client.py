"""Asks the agent over its unix socket: HTTP and JSON with the standard library alone, because a CLI must start at once.

It interprets nothing but failure.
"""

from __future__ import annotations

import http.client
import json
import socket
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urlencode

TIMEOUT_SECONDS: Final = 10.0
ANSWER_MAX_BYTES: Final = 64 * 1024 * 1024


class UnreachableError(Exception):
    """Nobody answers."""


class RefusedError(Exception):
    """The agent answers that it cannot; the message is its own.

    `reason`: the word for what it lacks, if it is not the question that is wrong.
    """

    def __init__(self, text: str, reason: str = "") -> None:
        super().__init__(text)
        self.reason = reason


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path, timeout_seconds: float = TIMEOUT_SECONDS) -> None:
        super().__init__("agent", timeout=timeout_seconds)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def ask(socket_path: Path, *path: str, **query: str | None) -> dict[str, Any]:
    """GET /v1/PATH with what of the query is not None. Raises UnreachableError or RefusedError."""
    target = "/v1/" + "/".join(quote(part, safe="") for part in path)
    given = {name: value for name, value in query.items() if value is not None}
    return _answer(socket_path, "GET", f"{target}?{urlencode(given)}" if given else target)


def order(socket_path: Path, what: str, text: str = "") -> dict[str, Any]:
    """POST /v1/WHAT with the text. Raises UnreachableError or RefusedError."""
    return _answer(socket_path, "POST", f"/v1/{what}", text.encode())


def fetch(socket_path: Path, target: str, *, timeout_seconds: float, refusals: bool) -> bytes:
    """GET, as it comes; with `refusals` also what is said with another status than 200. Raises as `ask` does."""
    status, said = _said(_UnixConnection(socket_path, timeout_seconds), socket_path, "GET", target)
    if status != http.client.OK and not refusals:
        raise RefusedError(_why(said) or f"HTTP {status}")
    if len(said) == ANSWER_MAX_BYTES:
        raise RefusedError(f"the answer has more than {ANSWER_MAX_BYTES} bytes")
    return said


def _answer(socket_path: Path, method: str, target: str, body: bytes | None = None) -> dict[str, Any]:
    status, said = _said(_UnixConnection(socket_path), socket_path, method, target, body)
    try:
        answer = json.loads(said)
    except ValueError as error:
        raise RefusedError(f"the agent's answer is no JSON (HTTP {status})") from error
    if status != http.client.OK or not isinstance(answer, dict):
        raise RefusedError(_why(said) or f"HTTP {status}", _why(said, "reason"))
    return answer


def _why(said: bytes, part: str = "error") -> str:
    """The agent's own words."""
    try:
        answer = json.loads(said)
    except ValueError:
        return ""
    return str(answer.get(part) or "") if isinstance(answer, dict) else ""


def _said(
    connection: _UnixConnection, socket_path: Path, method: str, target: str, body: bytes | None = None
) -> tuple[int, bytes]:
    """HTTP status and body."""
    try:
        connection.request(method, target, body)
        response = connection.getresponse()
        return response.status, response.read(ANSWER_MAX_BYTES)
    except PermissionError as error:
        raise UnreachableError(f"{socket_path}: permission denied; the socket is root's") from error
    except (OSError, http.client.HTTPException) as error:
        raise UnreachableError(
            f"no agent answers on {socket_path} ({error}); is it running, with this --run-dir "
            "(BGPILOT_RUN_DIR) and without --dry-run, which takes no orders and answers nothing?"
        ) from error
    finally:
        connection.close()
