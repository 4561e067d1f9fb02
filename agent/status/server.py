"""What is answered from outside: the CLI's API on a unix socket, metrics and probes over TCP (`agent.status.serving`).

    /v1/status  /v1/peers  /v1/peers/NAME  /v1/routes  /v1/fib
    /v1/diff  /v1/events  /v1/explain                                            JSON, unix socket only
    /v1/scenario                         all that is known (`agent.scenario`)    JSON, unix socket only
    POST                                 orders (`agent.status.ordering`)       unix socket only
    /metrics                                                                     metrics address, unix socket
    /livez  /readyz                                                              health address, unix socket

Reads `Status`, and hands orders in by the left door; it changes nothing itself. A question over which our own code
falls is a mistake of ours: 500, and logged with its traceback, once for each path and error in a row. Each listener has
a `Door` of its own: so many connections and requests at a time, the next request gets 503. A body has at most 1 KiB,
and an answer at most `tables.ROWS_MAX` rows. What goes over peers or routes is made in turns: others have theirs after
a few milliseconds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from agent.diary import ENTRIES_MAX, Diary
from agent.log import log
from agent.plan.steps import Steps, T
from agent.status.diff import diff_steps
from agent.status.door import BusyError, Door, connection_of
from agent.status.explain import not_known
from agent.status.explain_unknown import explained_steps
from agent.status.hops import parse_prefix
from agent.status.lately import events_view
from agent.status.ordering import Commands, Ordering, UnknownYetError, as_json, find_peer
from agent.status.peers import View
from agent.status.readiness import Readiness, not_alive
from agent.status.scrapes import Scrapes
from agent.status.status import Status
from agent.status.tables import SIDES, fib_steps, routes_steps
from agent.status.views import peer_view, peers_steps, status_view
from bgp.model import Prefix

FAILING_MAX: Final = 64
"""Paths remembered as failing; then they are logged anew."""
NUMBER_DIGITS_MAX: Final = 12
PEERS_PER_TURN: Final = 100
"""Looked at before the event loop gets its turn: about 5 ms."""
ROUTES_PER_TURN: Final = 500
"""The same, where they are looked at only, or written down as rows."""
OBJECTS_PER_TURN: Final = 200
"""The same, where they are written down."""
DOOR: Final = web.AppKey("door", Door)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Answers:
    """The handlers, over whatever socket they are asked."""

    def __init__(
        self,
        current: Callable[[], Status],
        *,
        clock: Callable[[], float],
        registry: CollectorRegistry,
        commands: Commands,
        diary: Diary,
        scenario: Callable[[], Steps[bytes]] | None = None,
        make_door: Callable[[], Door] = Door,
    ) -> None:
        """`scenario` makes JSON of all that is known, where somebody can; `make_door` is called for each listener."""
        self._current = current
        self._ordering = Ordering(current, commands, clock)
        self._clock = clock
        self._diary = diary
        self._scrapes = Scrapes(registry, clock)
        self._scenario = scenario
        self._taking = False
        """A scenario is being made: each holds as much memory as the picture."""
        self._make_door = make_door
        self._readiness = Readiness()
        self._failing: dict[str, str] = {}
        """Path → what it failed with last, as logged."""

    def api(self) -> web.Application:
        app = self._application()
        app.router.add_get("/v1/status", self._view(lambda status, _: status_view(status, self._clock())))
        app.router.add_get("/v1/peers", self._peers)
        app.router.add_get("/v1/peers/{name:.*}", self._view(self._peer))
        app.router.add_get("/v1/routes", self._routes)
        app.router.add_get("/v1/fib", self._fib)
        app.router.add_get("/v1/diff", self._diff)
        app.router.add_get("/v1/events", self._view(self._events))
        app.router.add_get("/v1/explain", self._explain)
        app.router.add_get("/v1/scenario", self._take)
        self._ordering.add_to(app)
        return self._with_health(self._with_metrics(app))

    def metrics(self) -> web.Application:
        return self._with_metrics(self._application())

    def health(self) -> web.Application:
        return self._with_health(self._application())

    def _application(self) -> web.Application:
        @web.middleware
        async def bounded(request: web.Request, handler: Handler) -> web.StreamResponse:
            try:
                with app[DOOR].asked(connection_of(request)):
                    return await self._answered(request, handler)
            except BusyError:
                return web.json_response({"error": "too many requests at a time"}, status=503)

        app = web.Application(middlewares=[bounded], client_max_size=1024)
        app[DOOR] = self._make_door()
        return app

    def _with_metrics(self, app: web.Application) -> web.Application:
        app.router.add_get("/metrics", self._metrics)
        return app

    def _with_health(self, app: web.Application) -> web.Application:
        app.router.add_get("/livez", self._livez)
        app.router.add_get("/readyz", self._readyz)
        return app

    async def _answered(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            answered = await handler(request)
        except UnknownYetError as error:
            return web.json_response({"error": error.text, "reason": error.why.reason}, status=error.status)
        except web.HTTPException as error:
            return web.json_response({"error": error.text or error.reason}, status=error.status)
        except web.RequestPayloadError as error:
            return web.json_response({"error": f"the body cannot be read: {error}"}, status=400)
        except ConnectionError:
            raise  # whoever has asked has gone
        except Exception as error:  # noqa: BLE001 - whatever it is, the other questions are still answered
            return self._failed(request, error)
        else:
            if self._failing:
                self._failing.pop(request.path, None)
            return answered

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
            return as_json(make(self._current(), request))

        return answer

    async def _peers(self, _request: web.Request) -> web.Response:
        return as_json(await in_turns(peers_steps(self._current(), self._clock()), PEERS_PER_TURN))

    async def _routes(self, request: web.Request) -> web.Response:
        return as_json(await in_turns(_routes(self._current(), self._clock(), request), ROUTES_PER_TURN))

    async def _fib(self, request: web.Request) -> web.Response:
        steps = fib_steps(self._current(), self._clock(), prefix=_prefix(request))
        return as_json(await in_turns(steps, ROUTES_PER_TURN))

    async def _diff(self, _request: web.Request) -> web.Response:
        return as_json(await in_turns(diff_steps(self._current, self._clock), ROUTES_PER_TURN))

    async def _explain(self, request: web.Request) -> web.Response:
        subject = request.query.get("subject", "")
        steps = explained_steps(status := self._current(), subject, self._clock())
        if (view := await in_turns(steps, ROUTES_PER_TURN)) is None:
            raise web.HTTPNotFound(text=not_known(status, subject))
        return as_json(view)

    async def _take(self, _request: web.Request) -> web.Response:
        if self._scenario is None:
            raise web.HTTPNotFound(text="nobody here can take one")
        if self._taking:
            raise web.HTTPServiceUnavailable(text="one is being taken for somebody else: try again")
        self._taking = True
        try:
            body = await in_turns(self._scenario(), OBJECTS_PER_TURN)
        finally:
            self._taking = False
        return web.Response(body=body, content_type="application/json", charset="utf-8")

    def _peer(self, status: Status, request: web.Request) -> View:
        now = self._clock()
        return peer_view(status, find_peer(status, request.match_info["name"], now), now)

    def _events(self, status: Status, request: web.Request) -> View:
        return events_view(
            status, self._diary, after=_number(request, "after", 0), last=_number(request, "last", ENTRIES_MAX)
        )

    async def _metrics(self, _request: web.Request) -> web.Response:
        return web.Response(body=await self._scrapes.text(), headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def _livez(self, _request: web.Request) -> web.Response:
        return _verdict(not_alive(self._current(), self._clock()))

    async def _readyz(self, _request: web.Request) -> web.Response:
        return _verdict(self._readiness.reasons(self._current(), self._clock()))


async def in_turns(steps: Steps[T], per_turn: int) -> T:
    """What they come to; others have turns between."""
    while True:
        try:
            for _ in range(per_turn):
                next(steps)
        except StopIteration as end:
            made: T = end.value
            return made
        await asyncio.sleep(0)


def _verdict(reasons: tuple[str, ...]) -> web.Response:
    return web.Response(text="".join(f"{line}\n" for line in reasons or ("ok",)), status=503 if reasons else 200)


def _routes(status: Status, now: float, request: web.Request) -> Steps[View]:
    side = request.query.get("side", "received")
    if side not in SIDES:
        raise web.HTTPBadRequest(text=f"side {side!r} is not one of {', '.join(SIDES)}")
    name = request.query.get("peer")
    peer = None if name is None else find_peer(status, name, now)
    return routes_steps(status, now, side, peer=peer, prefix=_prefix(request))


def _number(request: web.Request, name: str, default: int) -> int:
    text = request.query.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdecimal() and len(text) <= NUMBER_DIGITS_MAX):
        raise web.HTTPBadRequest(text=f"{name} {text!r} is no number")
    return int(text)


def _prefix(request: web.Request) -> Prefix | None:
    text = request.query.get("prefix")
    if text is None:
        return None
    if (prefix := parse_prefix(text)) is None:
        raise web.HTTPBadRequest(text=f"{text!r} is no prefix or address")
    return prefix
