"""A small client of the Kubernetes API for tests: JSON in, JSON out, from inside any network namespace.

It is not the agent's client and shares no code with it, so that a test looks at the cluster with other eyes.
It refuses to retry, to cache and to know any kind: the caller gives paths (`/api/v1/nodes`) and plain dicts.
"""

import http.client
import ipaddress
import json
import socket
import ssl
from collections.abc import Generator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

from tests.lab.netns import make_in

REQUEST_SECONDS = 30.0
"""No answer, or no further line of a watch, within this: TimeoutError."""

MERGE_PATCH = "application/merge-patch+json"
JSON_PATCH = "application/json-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"


class ApiError(Exception):
    """The API server said no: `status` is the HTTP code, `reason` its word (Forbidden, NotFound, Invalid, …)."""

    def __init__(self, method: str, path: str, status: int, body: bytes) -> None:
        try:
            said = json.loads(body)
        except ValueError:  # a proxy, or /readyz, which answers in plain text
            said = {"message": body.decode(errors="replace")}
        self.status = status
        self.reason: str = said.get("reason", "")
        self.message: str = said.get("message", "")
        super().__init__(f"{method} {path}: {status} {self.reason} {self.message}")


class KubeApi:
    """One user's view of one API server; may be used from any thread.

    Each request is a connection of its own, so that a restarted server is no matter. `with api:` keeps one connection
    for bulk work of one thread.
    """

    def __init__(self, server: str, ca_pem: bytes, token: str | None = None, netns: Path | None = None) -> None:
        """`server` is the URL with an IP address; `netns` the file of the namespace that connections are made in."""
        url = urlsplit(server)
        self._host, self._port = url.hostname or "", url.port or 443
        self._tls = ssl.create_default_context(cadata=ca_pem.decode())
        self._token = token
        self._netns = netns
        self._kept: http.client.HTTPConnection | None = None

    def get(self, path: str) -> Any:
        return self.request("GET", path)

    def post(self, path: str, body: Mapping[str, Any]) -> Any:
        return self.request("POST", path, body)

    def put(self, path: str, body: Mapping[str, Any]) -> Any:
        return self.request("PUT", path, body)

    def patch(self, path: str, body: Any, content_type: str = MERGE_PATCH) -> Any:
        return self.request("PATCH", path, body, content_type)

    def delete(self, path: str, body: Mapping[str, Any] | None = None) -> Any:
        return self.request("DELETE", path, body)

    def request(self, method: str, path: str, body: Any = None, content_type: str = "application/json") -> Any:
        """The answer's JSON, or its text where it is not JSON (/readyz). ApiError from status 400 on."""
        connection = self._kept or self._connection()
        try:
            answer = self._send(connection, method, path, body, content_type)
            content = answer.read()
        finally:
            if connection is not self._kept:
                connection.close()
        if answer.status >= http.HTTPStatus.BAD_REQUEST:
            raise ApiError(method, path, answer.status, content)
        if answer.headers.get_content_type() == "application/json":
            return json.loads(content)
        return content.decode()

    def watch(self, path: str, within: float = REQUEST_SECONDS) -> Generator[dict[str, Any]]:
        """Events of a watch (`path` has the whole query), one at a time, until the server ends the stream."""
        connection = self._connection(within)
        try:
            answer = self._send(connection, "GET", path, None, "application/json")
            if answer.status >= http.HTTPStatus.BAD_REQUEST:
                raise ApiError("GET", path, answer.status, answer.read())
            for line in answer:
                yield json.loads(line)
        finally:
            connection.close()

    def __enter__(self) -> Self:
        self._kept = self._connection()
        return self

    def __exit__(self, *_: object) -> None:
        if self._kept is not None:
            self._kept.close()
            self._kept = None

    def _send(
        self, connection: http.client.HTTPConnection, method: str, path: str, body: Any, content_type: str
    ) -> http.client.HTTPResponse:
        headers = {"Accept": "application/json", "User-Agent": "bgpilot-tests"}
        if self._token is not None:
            headers["Authorization"] = f"Bearer {self._token}"
        if body is not None:
            headers["Content-Type"] = content_type
        connection.request(method, path, None if body is None else json.dumps(body), headers)
        return connection.getresponse()

    def _connection(self, within: float = REQUEST_SECONDS) -> http.client.HTTPConnection:
        connection = http.client.HTTPConnection(self._host, self._port)
        connection.auto_open = 0  # it would connect again by itself: in the wrong namespace and without TLS
        plain = connect((self._host, self._port), self._netns, within)
        try:
            connection.sock = self._tls.wrap_socket(plain, server_hostname=self._host)
        except (OSError, ssl.SSLError):
            plain.close()
            raise
        return connection


def connect(address: tuple[str, int], netns: Path | None, within: float = REQUEST_SECONDS) -> socket.socket:
    """A TCP connection made inside the namespace."""
    return make_in(netns, partial(_connect, address, within))


def _connect(address: tuple[str, int], within: float) -> socket.socket:
    family = socket.AF_INET6 if ipaddress.ip_address(address[0]).version == 6 else socket.AF_INET
    connection = socket.socket(family, socket.SOCK_STREAM)
    connection.settimeout(within)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # headers and body are two writes: else 40 ms
    try:
        connection.connect(address)
    except OSError:
        connection.close()
        raise
    return connection
