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
    """The agent answers that it cannot; the message is its own."""


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("agent", timeout=TIMEOUT_SECONDS)
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


def _answer(socket_path: Path, method: str, target: str, body: bytes | None = None) -> dict[str, Any]:
    connection = _UnixConnection(socket_path)
    try:
        connection.request(method, target, body)
        response = connection.getresponse()
        said = response.read(ANSWER_MAX_BYTES)
    except PermissionError as error:
        raise UnreachableError(f"{socket_path}: permission denied; the socket is root's") from error
    except (OSError, http.client.HTTPException) as error:
        raise UnreachableError(
            f"no agent answers on {socket_path} ({error}); is it running, with this --run-dir "
            "(BGPILOT_RUN_DIR) and without --dry-run, which takes no orders and answers nothing?"
        ) from error
    finally:
        connection.close()
    try:
        answer = json.loads(said)
    except ValueError as error:
        raise RefusedError(f"the agent's answer is no JSON (HTTP {response.status})") from error
    if response.status != http.client.OK or not isinstance(answer, dict):
        why = answer.get("error") if isinstance(answer, dict) else None
        raise RefusedError(str(why or f"HTTP {response.status}"))
    return answer
