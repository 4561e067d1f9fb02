"""Who answers from outside: the CLI's API on a unix socket, metrics and probes over TCP.

    /v1/status  /v1/peers  /v1/peers/NAME  /v1/routes  /v1/fib  /v1/explain      JSON, unix socket only
    POST /v1/drain  POST /v1/undrain                                             unix socket only
    /metrics                                                                     metrics address, unix socket
    /livez  /readyz                                                              health address, unix socket

Reads `Status`, and hands orders in by the left door; it changes nothing itself. The socket is mode 0600 from the moment
it exists. A question over which our own code falls is a mistake of ours: 500, and logged with its traceback, once for
each path and error in a row. At most `REQUESTS_MAX` requests are answered at a time, the next ones get 503; a body has
at most 1 KiB, and an answer at most `tables.ROWS_MAX` rows. A table of that size holds the event loop for about 50 ms.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final

import msgspec
from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.metrics_core import Metric

from agent.log import log
from agent.plan.leaving import TEXT_MAX
from agent.settings import OFF, Listen
from agent.status.explain import explain
from agent.status.hops import parse_prefix
from agent.status.peers import View
from agent.status.readiness import Readiness, not_alive
from agent.status.status import Status
from agent.status.tables import SIDES, fib_view, routes_view
from agent.status.views import answer, peer_view, peers_named, peers_steps, status_view
from bgp.model import Address, Prefix

REQUESTS_MAX: Final = 16
FAILING_MAX: Final = 64
"""Paths remembered as failing; then they are logged anew."""
IDLE_SECONDS: Final = 15.0
"""A connection without a request is closed after this."""
STEPS_PER_TURN: Final = 100
"""Peers looked at before the event loop gets its turn: about 5 ms."""
BACKLOG: Final = 16
SHUTDOWN_SECONDS: Final = 0.2
"""What requests in progress get when the agent ends; there are three servers, and 2 s in all for everything."""
SOCKET_MODE_MASK: Final = 0o177
ORDER_TEXT_MAX: Final = TEXT_MAX - len("drained: ")

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class ListenError(OSError):
    """An address or socket could not be had; the message names the flag, the reason, and the fix."""

    def __str__(self) -> str:
        return self.strerror or ""


class Answers:
    """The handlers, over whatever socket they are asked."""

    def __init__(
        self,
        current: Callable[[], Status],
        *,
        clock: Callable[[], float],
        registry: CollectorRegistry,
        order_drain: Callable[[str | None], None],
    ) -> None:
        """`order_drain` takes the text that routers are told, or None for no drain; it may raise OSError."""
        self._current = current
        self._order_drain = order_drain
        self._clock = clock
        self._registry = registry
        self._readiness = Readiness()
        self._requests = 0
        self._failing: dict[str, str] = {}
        """Path → what it failed with last, as logged."""

    def api(self) -> web.Application:
        app = self._application()
        app.router.add_get("/v1/status", self._view(lambda status, _: status_view(status, self._clock())))
        app.router.add_get("/v1/peers", self._peers)
        app.router.add_get("/v1/peers/{name:.+}", self._view(self._peer))
        app.router.add_get("/v1/routes", self._view(_routes))
        app.router.add_get("/v1/fib", self._view(lambda status, request: fib_view(status, prefix=_prefix(request))))
        app.router.add_get("/v1/explain", self._view(_explain))
        app.router.add_post("/v1/drain", self._drain)
        app.router.add_post("/v1/undrain", self._undrain)
        return self._with_health(self._with_metrics(app))

    def metrics(self) -> web.Application:
        return self._with_metrics(self._application())

    def health(self) -> web.Application:
        return self._with_health(self._application())

    def _application(self) -> web.Application:
        @web.middleware
        async def bounded(request: web.Request, handler: Handler) -> web.StreamResponse:
            return await self._bounded(request, handler)

        return web.Application(middlewares=[bounded], client_max_size=1024)

    def _with_metrics(self, app: web.Application) -> web.Application:
        app.router.add_get("/metrics", self._metrics)
        return app

    def _with_health(self, app: web.Application) -> web.Application:
        app.router.add_get("/livez", self._livez)
        app.router.add_get("/readyz", self._readyz)
        return app

    async def _bounded(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if self._requests >= REQUESTS_MAX:
            return web.json_response({"error": "too many requests at a time"}, status=503)
        self._requests += 1
        try:
            answered = await handler(request)
        except web.HTTPException as error:
            return web.json_response({"error": error.text or error.reason}, status=error.status)
        except Exception as error:  # noqa: BLE001 - whatever it is, the other questions are still answered
            return self._failed(request, error)
        else:
            if self._failing:
                self._failing.pop(request.path, None)
            return answered
        finally:
            self._requests -= 1

    def _failed(self, request: web.Request, error: Exception) -> web.Response:
        words = f"{type(error).__name__}: {error}"
        if self._failing.get(request.path) != words:
            if len(self._failing) >= FAILING_MAX:
                self._failing.clear()
            self._failing[request.path] = words
            log.error("answer_failed", path=request.path, error=words, exc_info=error)
        return web.json_response(
            {"error": f"a mistake in bgpilot, its log has the details (answer_failed): {words}"}, status=500
        )

    def _view(self, make: Callable[[Status, web.Request], View]) -> Handler:
        async def answer(request: web.Request) -> web.Response:
            return _json(make(self._current(), request))

        return answer

    async def _peers(self, _request: web.Request) -> web.Response:
        steps = peers_steps(self._current(), self._clock())
        while True:
            try:
                for _ in range(STEPS_PER_TURN):
                    next(steps)
            except StopIteration as end:
                return _json(end.value)
            await asyncio.sleep(0)

    def _peer(self, status: Status, request: web.Request) -> View:
        return peer_view(status, _find_peer(status, request.match_info["name"]), self._clock())

    async def _drain(self, request: web.Request) -> web.Response:
        text = await request.text()
        if len(text.encode()) > ORDER_TEXT_MAX or not text.isprintable():
            raise web.HTTPBadRequest(
                text=f"the text is no printable line of at most {ORDER_TEXT_MAX} bytes in UTF-8 (RFC 9003)"
            )
        return self._ordered(text)

    async def _undrain(self, _request: web.Request) -> web.Response:
        return self._ordered(None)

    def _ordered(self, text: str | None) -> web.Response:
        try:
            self._order_drain(text)
        except OSError as error:
            raise web.HTTPInternalServerError(
                text=f"the order cannot be kept in the run directory, so it is not followed: {error.strerror}"
            ) from error
        return _json(answer(self._current(), "order", {"drain": text}))

    async def _metrics(self, _request: web.Request) -> web.Response:
        found = []
        for metric in self._registry.collect():
            found.append(metric)
            await asyncio.sleep(0)
        text = await asyncio.to_thread(generate_latest, _Collected(found))
        return web.Response(body=text, headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def _livez(self, _request: web.Request) -> web.Response:
        return _verdict(not_alive(self._current(), self._clock()))

    async def _readyz(self, _request: web.Request) -> web.Response:
        return _verdict(self._readiness.reasons(self._current(), self._clock()))


class _Collected(CollectorRegistry):
    """Figures that have been read, to be put into words by a thread: that is most of the work."""

    def __init__(self, found: list[Metric]) -> None:
        super().__init__()
        self._found = found

    def collect(self) -> list[Metric]:
        return self._found


def _json(view: View) -> web.Response:
    return web.Response(body=msgspec.json.encode(view), content_type="application/json", charset="utf-8")


def _verdict(reasons: tuple[str, ...]) -> web.Response:
    return web.Response(text="".join(f"{line}\n" for line in reasons or ("ok",)), status=503 if reasons else 200)


def _routes(status: Status, request: web.Request) -> View:
    side = request.query.get("side", "received")
    if side not in SIDES:
        raise web.HTTPBadRequest(text=f"side {side!r} is not one of {', '.join(SIDES)}")
    name = request.query.get("peer")
    peer = None if name is None else _find_peer(status, name)
    return routes_view(status, side, peer=peer, prefix=_prefix(request))


def _explain(status: Status, request: web.Request) -> View:
    subject = request.query.get("subject", "")
    if (view := explain(status, subject)) is None:
        raise web.HTTPNotFound(
            text=f"{subject!r} is no peer, prefix or address; a Service is named as NAMESPACE/SERVICE"
        )
    return view


def _find_peer(status: Status, name: str) -> Address:
    found = peers_named(status, name)
    if len(found) > 1:
        which = ", ".join(f"{peer.address} ({peer.name})" for peer in found)
        raise web.HTTPNotFound(text=f"{len(found)} peers are called {name!r}: name one of {which}")
    if not found:
        raise web.HTTPNotFound(text=f"no peer is called {name!r}; `bgpilot peers` lists them")
    return found[0].address


def _prefix(request: web.Request) -> Prefix | None:
    text = request.query.get("prefix")
    if text is None:
        return None
    if (prefix := parse_prefix(text)) is None:
        raise web.HTTPBadRequest(text=f"{text!r} is no prefix or address")
    return prefix


@asynccontextmanager
async def serving(
    answers: Answers, *, socket_path: Path, metrics_address: Listen | None, health_address: Listen | None
) -> AsyncIterator[None]:
    """Answer while the context lasts. Raises ListenError when an address cannot be had; then nothing listens."""
    async with AsyncExitStack() as stack:
        listening = listen_unix(socket_path)
        stack.callback(socket_path.unlink, missing_ok=True)
        await _start(stack, answers.api(), listening)
        if metrics_address is not None:
            await _start(stack, answers.metrics(), listen_tcp("--metrics-address", metrics_address))
        if health_address is not None:
            await _start(stack, answers.health(), listen_tcp("--health-address", health_address))
        yield


async def _start(stack: AsyncExitStack, app: web.Application, listening: socket.socket) -> None:
    stack.callback(listening.close)
    runner = web.AppRunner(app, access_log=None, keepalive_timeout=IDLE_SECONDS, shutdown_timeout=SHUTDOWN_SECONDS)
    stack.push_async_callback(runner.cleanup)
    await runner.setup()
    await web.SockSite(runner, listening, backlog=BACKLOG).start()


def listen_unix(path: Path) -> socket.socket:
    """A socket of mode 0600. What a dead agent left is replaced; a living one's is not."""
    if _answers(path):
        raise ListenError(errno.EADDRINUSE, f"another agent answers on {path}. Give each its own --run-dir.")
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(SOCKET_MODE_MASK)
    try:
        path.unlink(missing_ok=True)
        listening.bind(str(path))
    except OSError as error:
        listening.close()
        raise ListenError(
            error.errno, f"cannot make {path} (--run-dir, BGPILOT_RUN_DIR): {error.strerror}. Give another."
        ) from error
    finally:
        os.umask(before)
    return listening


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False  # nothing there, or nobody behind it: what else is wrong shows when binding
        return True


def listen_tcp(flag: str, address: Listen) -> socket.socket:
    try:
        if not address.host:
            return _listen_everywhere(address.port)
        family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
        return socket.create_server((address.host, address.port), family=family, backlog=BACKLOG)
    except OSError as error:
        why = (
            os.strerror(error.errno) if error.errno is not None and error.errno > 0 else str(error)
        )  # < 0: no such name
        variable = f"BGPILOT{flag.removeprefix('-').replace('-', '_').upper()}"
        fix = "`ss -ltnp` shows who listens there. " if error.errno == errno.EADDRINUSE else ""
        raise ListenError(
            error.errno,
            f"cannot listen on {address} ({flag}, {variable}): {why}. {fix}Give another address, or `{OFF}`.",
        ) from error


def _listen_everywhere(port: int) -> socket.socket:
    """One socket for both families, or IPv4 alone where IPv6 is switched off."""
    try:
        return socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=BACKLOG)
    except OSError as error:
        if error.errno not in {errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL}:
            raise
        return socket.create_server(("", port), backlog=BACKLOG)
