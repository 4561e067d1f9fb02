"""What may be ordered over the unix socket: to drain this node or not, and to begin a session anew.

    POST /v1/drain  POST /v1/undrain      the body is what routers are told
    POST /v1/reset/PEER[?soft=1]

It understands an order, refuses one that cannot be followed, with the reason, and hands the others on (`Commands`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

import msgspec
from aiohttp import web

from agent.model import Problem
from agent.plan.leaving import TEXT_MAX
from agent.status.explain_absent import absent_hops
from agent.status.explain_peer import problem_hops
from agent.status.meant import did_you_mean, peer_meant
from agent.status.peers import View
from agent.status.remedies import remedy
from agent.status.status import Status
from agent.status.views import answer, peers_named, unanswered
from bgp.model import Address, Family

ORDER_TEXT_MAX: Final = TEXT_MAX - len("drained: ")


class Commands(NamedTuple):
    """Who follows the orders."""

    drain: Callable[[str | None], bool]
    """With the text that routers are told; None: no drain. True: there was an order before. Raises OSError."""
    reset: Callable[[Address, frozenset[Family]], None]
    """Ask for these families again; without any, end the session: it comes again."""


class UnknownYetError(web.HTTPServiceUnavailable):
    """There is no picture that the answer could come from."""

    def __init__(self, why: Problem) -> None:
        super().__init__(text=f"{why.reason}: {why.message}. Fix: {why.fix}")
        self.why = why


class Ordering:
    """The handlers."""

    def __init__(self, current: Callable[[], Status], commands: Commands, clock: Callable[[], float]) -> None:
        self._current = current
        self._clock = clock
        self._commands = commands

    def add_to(self, app: web.Application) -> None:
        app.router.add_post("/v1/drain", self._drain)
        app.router.add_post("/v1/undrain", self._undrain)
        app.router.add_post("/v1/reset/{name:.*}", self._reset)

    async def _drain(self, request: web.Request) -> web.Response:
        body = await request.read()
        text = body.decode(errors="replace")
        if len(body) > ORDER_TEXT_MAX or not text.isprintable() or text.encode() != body:
            raise web.HTTPBadRequest(
                text=f"the text is no printable line of at most {ORDER_TEXT_MAX} bytes in UTF-8 (RFC 9003)"
            )
        return self._keep(text)

    async def _undrain(self, _request: web.Request) -> web.Response:
        return self._keep(None)

    def _keep(self, text: str | None) -> web.Response:
        try:
            before = self._commands.drain(text)
        except OSError as error:
            raise web.HTTPInternalServerError(
                text=f"the order cannot be kept in the run directory, so it is not followed: {error.strerror}"
            ) from error
        return as_json(answer(self._current(), "order", {"drain": text, "before": bool(before)}))

    async def _reset(self, request: web.Request) -> web.Response:
        status, soft = self._current(), request.query.get("soft") == "1"
        address = find_peer(status, request.match_info["name"], self._clock())
        up = status.peer_state(address).up
        if up is None or not status.is_up(address):
            raise web.HTTPConflict(text=f"there is no session; `bgpilot explain {address}` says why")
        if soft and not up.route_refresh:
            raise web.HTTPConflict(text="the peer does not take ROUTE-REFRESH (RFC 2918): only without --soft")
        self._commands.reset(address, up.families if soft else frozenset())
        return as_json(answer(status, "order", {"reset": str(address), "soft": soft}))


def as_json(view: View) -> web.Response:
    return web.Response(body=msgspec.json.encode(view), content_type="application/json", charset="utf-8")


def find_peer(status: Status, name: str, now: float) -> Address:
    """Raises HTTPNotFound when it is none, or several; UnknownYetError when nobody knows yet."""
    found = peers_named(status, name)
    if len(found) > 1:
        which = ", ".join(f"{peer.address} ({peer.name})" for peer in found)
        raise web.HTTPNotFound(text=f"{len(found)} peers are called {name!r}: name one of {which}")
    if not found:
        for why in unanswered(status, now):
            raise UnknownYetError(why)
        raise web.HTTPNotFound(text=_why_none(status, name))
    return found[0].address


def _why_none(status: Status, name: str) -> str:
    """An object of which no session comes has a reason, which is said; what is no object is not known."""
    for hop in absent_hops(status, name) or problem_hops(status, name):
        if not hop.ok:
            return f"{hop.place}: {hop.text.rstrip('.')}. {hop.fix or remedy(hop.reason)}"
    return f"no peer is called {name!r}; {did_you_mean(peer_meant(status, name), '`bgpilot peers` lists them')}"
