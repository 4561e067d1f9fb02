"""An HTTP server that misbehaves on purpose: what an API server, a proxy before it or the network may do to a watch.

    async with BadServer(answer(429, retry_after=1), watch_list(node(1), then=hang)) as server: …

It is given behaviours, one per request in the order of arrival, the last of them for all that follow; and it remembers
what was asked. A behaviour writes bytes itself, so that no HTTP library can make it polite.
It refuses to be a Kubernetes API: it keeps no objects and checks no query (`tests.lab.api` does).
"""

import asyncio
import json
import ssl
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Any, NamedTuple, Self
from urllib.parse import parse_qsl, urlsplit


class Asked(NamedTuple):
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    """Names in lower case."""
    at: float
    """Second of the event loop."""


class Exchange:
    """One request and what is written in answer to it."""

    def __init__(self, asked: Asked, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.asked = asked
        self._reader = reader
        self._writer = writer

    async def head(self, status: int = 200, headers: Mapping[str, str] | None = None) -> None:
        """Begin a chunked answer."""
        lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}", "Transfer-Encoding: chunked", "Connection: close"]
        lines += [f"{name}: {value}" for name, value in {"Content-Type": "application/json", **(headers or {})}.items()]
        await self.raw("\r\n".join([*lines, "", ""]).encode())

    async def chunk(self, content: bytes) -> None:
        await self.raw(b"%x\r\n%b\r\n" % (len(content), content))

    async def event(self, kind: str, body: Mapping[str, Any]) -> None:
        await self.chunk(json.dumps({"type": kind, "object": body}, separators=(",", ":")).encode() + b"\n")

    async def mark(self, revision: str) -> None:
        """The bookmark that ends the initial events of a WatchList."""
        meta = {"resourceVersion": revision, "annotations": {"k8s.io/initial-events-end": "true"}}
        await self.event("BOOKMARK", {"metadata": meta})

    async def end(self) -> None:
        """The answer's end as it should be."""
        await self.raw(b"0\r\n\r\n")

    async def gone(self) -> None:
        """Wait until the client closes the connection."""
        await self._reader.read()

    async def raw(self, content: bytes) -> None:
        self._writer.write(content)
        await self._writer.drain()


Behaviour = Callable[[Exchange], Awaitable[None]]
"""When it returns, the connection is closed."""


class BadServer:
    def __init__(self, *behaviours: Behaviour, tls: ssl.SSLContext | None = None) -> None:
        self.asked: list[Asked] = []
        self.connections = 0
        """Open ones."""
        self._behaviours = list(behaviours)
        self._tls = tls
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, ssl=self._tls)
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    @property
    def url(self) -> str:
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}"

    def tokens(self) -> list[str]:
        """Of all requests, in order."""
        return [asked.headers.get("authorization", "") for asked in self.asked]

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        try:
            await self._serve(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the client went away, as it may
        except asyncio.CancelledError:
            pass  # the test is over; the stream protocol of Python 3.11 would report a cancelled task as an error
        finally:
            self._tasks.discard(task)
            self.connections -= 1
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One request per connection."""
        first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().strip().split("\r\n")
        url = urlsplit(first.split()[1])
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        asked = Asked(url.path, dict(parse_qsl(url.query)), headers, asyncio.get_running_loop().time())
        self.asked.append(asked)
        behaviour = self._behaviours.pop(0) if len(self._behaviours) > 1 else self._behaviours[0]
        await behaviour(Exchange(asked, reader, writer))


# Objects.


def node(number: int, revision: int | None = None, **spec: Any) -> dict[str, Any]:
    """A Node with a pod CIDR of its own; its resourceVersion is its number if nothing else is said."""
    return {
        "metadata": {"name": f"n{number}", "resourceVersion": str(revision or number)},
        "spec": {"podCIDRs": [f"10.{number >> 8}.{number & 255}.0/24"], **spec},
        "status": {"addresses": [{"type": "InternalIP", "address": f"192.168.{number >> 8}.{number & 255}"}]},
    }


# Behaviours.


def answer(
    status: int,
    body: bytes | Mapping[str, Any] = b"",
    *,
    retry_after: int | None = None,
    content_type: str = "text/html",
) -> Behaviour:
    """A whole answer at once; a mapping is sent as JSON."""

    async def behave(exchange: Exchange) -> None:
        headers = {"Content-Type": content_type} | ({} if retry_after is None else {"Retry-After": str(retry_after)})
        await exchange.head(status, headers)
        if content := body if isinstance(body, bytes) else json.dumps(body, separators=(",", ":")).encode():
            await exchange.chunk(content)
        await exchange.end()

    return behave


def says(status: int, reason: str, message: str) -> Behaviour:
    """A refusal as the API server words it."""
    return answer(status, {"kind": "Status", "code": status, "reason": reason, "message": message})


def listing(*objects: Mapping[str, Any], revision: int, **extra: Any) -> Behaviour:
    """A LIST."""
    return answer(200, {"metadata": {"resourceVersion": str(revision), **extra}, "items": objects})


def watch_list(*objects: Mapping[str, Any], revision: int, then: Behaviour) -> Behaviour:
    """All objects, the mark, and on."""

    async def behave(exchange: Exchange) -> None:
        await exchange.head()
        for body in objects:
            await exchange.event("ADDED", body)
        await exchange.mark(str(revision))
        await then(exchange)

    return behave


def watch(*events: tuple[str, Mapping[str, Any]], then: Behaviour) -> Behaviour:
    """A watch that begins with these events."""

    async def behave(exchange: Exchange) -> None:
        await exchange.head()
        for kind, body in events:
            await exchange.event(kind, body)
        await then(exchange)

    return behave


async def hang(exchange: Exchange) -> None:
    """Nothing more, for ever: what the client sees of a host that vanished, or of a proxy that lost its backend."""
    await exchange.gone()


async def end(exchange: Exchange) -> None:
    """End the answer in order."""
    await exchange.end()


async def cut_inside_chunk(exchange: Exchange) -> None:
    """Announce more than is sent, and close."""
    await exchange.raw(b'1000\r\n{"type":"MODIFIED","object":{"metadata":{"na')


async def end_inside_line(exchange: Exchange) -> None:
    """A line without its end in an answer that ends in order."""
    await exchange.chunk(b'{"type":"MODIFIED","object":{"metadata":{"na')
    await exchange.end()
