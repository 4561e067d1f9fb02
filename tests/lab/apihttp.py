"""The embedded API server's HTTP side: requests to the store, watches as streams, refusals as Status objects.

Behaviour follows kube-apiserver 1.36, as the contract cases (`tests.lab.api_contract`) pin it down. It refuses query
parameters it does not know, so that a client that relies on one finds out.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections import OrderedDict
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any, NamedTuple

from aiohttp import web

from tests.lab.apifaults import Faults
from tests.lab.apikinds import Object, Refused, Resource
from tests.lab.apilag import Lag, Lists
from tests.lab.apioptions import Options, Place, parse_options
from tests.lab.apistore import Event, Store, event_line

EVENTS_PER_WRITE = 256
PAGES_KEPT = 64
"""Lists in progress (`continue`); the oldest is forgotten and answered 410."""


class Front:
    """Answers requests; belongs to the loop that the store belongs to."""

    def __init__(self, store: Store, token: str, bookmark_seconds: float, future_seconds: float) -> None:
        self._store = store
        self._token = token
        self._bookmark_seconds = bookmark_seconds
        self._future_seconds = future_seconds
        self._pages: OrderedDict[str, tuple[int, Sequence[Object]]] = OrderedDict()
        self._watches: set[asyncio.Task[Any]] = set()
        self._lag = Lag()
        self.lists = Lists()
        self.faults = Faults()

    async def answer(self, request: web.Request) -> web.StreamResponse:
        if (refusal := await self.faults.refusal()) is not None:
            return refusal
        try:
            self._check_token(request)
            return await self.faults.slowed(request, await self._answer(request))
        except Refused as refused:
            return web.json_response(refused.status, status=refused.status["code"])

    def end_watches(self) -> None:
        for task in tuple(self._watches):
            task.cancel()

    def hold_back(self, client: str, seconds: float) -> None:
        self._lag.set(client, seconds)
        self._store.wake()

    def _check_token(self, request: web.Request) -> None:
        if self._token and request.headers.get("Authorization") != f"Bearer {self._token}":
            raise Refused(HTTPStatus.UNAUTHORIZED, "Unauthorized", "Unauthorized")

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        if request.path in ("/livez", "/readyz", "/healthz"):
            return web.Response(text="ok")
        if request.path == "/version":
            return web.json_response({"major": "1", "minor": "36", "gitVersion": "v1.36.3+embedded"})
        place = self._place(request.path)
        if place is None:
            return web.Response(text="404 page not found\n", status=HTTPStatus.NOT_FOUND)
        match request.method, bool(place.name):
            case "GET", True:
                return web.json_response(self._store.get(*place[:3]))
            case "GET", False:
                options = parse_options(request.query, place)
                if options.watch:
                    return await self._watch(request, place.resource, options)
                return web.json_response(await self._list(place.resource, options))
            case "POST", False:
                made = self._store.create(place.resource, place.namespace, await _body(request))
                return web.json_response(made, status=HTTPStatus.CREATED)
            case ("PUT" | "PATCH") as method, True:
                merge = method == "PATCH"
                body = await _body(request, patch=merge)
                return web.json_response(self._store.replace(*place[:3], body, place.subresource, merge=merge))
            case "DELETE", True if place.resource.kind != "Namespace" and not place.subresource:
                gone = self._store.delete(*place[:3])
                details = {"name": place.name, "kind": place.resource.plural, "uid": gone["metadata"]["uid"]}
                status = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details}
                return web.json_response(status)
            case _:
                message = "the server does not allow this method on the requested resource"
                raise Refused(HTTPStatus.METHOD_NOT_ALLOWED, "MethodNotAllowed", message)

    def _place(self, path: str) -> Place | None:
        match path.strip("/").split("/"):
            case ["api", "v1", *rest]:
                group, version = "", "v1"
            case ["apis", group, version, *rest]:
                pass
            case _:
                return None
        namespace = ""
        if len(rest) > 2 and rest[0] == "namespaces" and rest[2] != "status":
            namespace, rest = rest[1], rest[2:]
        plural, name, subresource, *more = *rest, *[""] * (3 - len(rest))
        resource = self._store.resources.get((group, version, plural))
        if resource is None or more or (namespace and not resource.namespaced):
            return None
        if (subresource and not (subresource == "status" and resource.status)) or (
            name and resource.namespaced and not namespace
        ):
            return None
        return Place(resource, namespace, name, subresource)

    async def _list(self, resource: Resource, options: Options) -> Object:
        await self.lists.may_end(resource.kind)
        await self._wait_for(options.revision)
        if options.token:
            if options.token not in self._pages:
                message = "The provided continue parameter is too old to display a consistent list result."
                raise Refused(HTTPStatus.GONE, "Expired", message)
            revision, things = self._pages.pop(options.token)
        else:
            revision, things = self._store.revision, self._store.list(resource, options.namespace, options.name)
        metadata: Object = {"resourceVersion": str(revision)}
        if options.limit and len(things) > options.limit:
            things, left = things[: options.limit], things[options.limit :]
            metadata |= {"continue": secrets.token_urlsafe(12), "remainingItemCount": len(left)}
            self._pages[metadata["continue"]] = (revision, left)
            if len(self._pages) > PAGES_KEPT:
                self._pages.popitem(last=False)
        items = list(things) if resource.schema is not None else [_bare(thing) for thing in things]
        return {
            "kind": f"{resource.kind}List",
            "apiVersion": resource.api_version,
            "metadata": metadata,
            "items": items,
        }

    async def _watch(self, request: web.Request, resource: Resource, options: Options) -> web.StreamResponse:
        task = asyncio.current_task()
        assert task is not None
        self._watches.add(task)
        stream = web.StreamResponse(headers={"Content-Type": "application/json"})
        changed = asyncio.Event()
        listeners = self._store.listeners(resource)
        try:
            if options.initial:
                await self._wait_for(options.revision)
            await stream.prepare(request)
            listeners.add(changed.set)
            async with asyncio.timeout(options.timeout):
                await self._stream(stream, resource, options, changed, client=request.remote or "")
        except TimeoutError:  # the end of timeoutSeconds: a watch ends in order
            pass
        finally:
            listeners.discard(changed.set)
            self._watches.discard(task)
        return stream

    async def _stream(
        self,
        stream: web.StreamResponse,
        resource: Resource,
        options: Options,
        changed: asyncio.Event,
        *,
        client: str,
    ) -> None:
        """Ends when the client has fallen behind the history, with an ERROR event as its last word."""
        try:
            told = self._start(options)
            if options.initial or told is None:
                told = await self._send_initial(stream, resource, options, client)
            while True:
                changed.clear()
                due = self._lag.due(client, self._store.events(resource, told), time.monotonic())
                for batch in _batches(due.events, options):
                    await self.faults.write(stream, batch.lines)
                    told = batch.revision
                try:
                    await asyncio.wait_for(changed.wait(), due.more_in or self._bookmark_seconds)
                except TimeoutError:
                    if due.more_in is not None:
                        continue
                    told = self._store.revision
                    if options.bookmarks:
                        await self.faults.write(stream, _bookmark(resource, told))
        except Refused as refused:
            await self.faults.write(stream, event_line("ERROR", refused.status))
        except ConnectionResetError:  # the client is gone
            return

    def _start(self, options: Options) -> int | None:
        """Revision that changes are told from, None: from the present state."""
        if options.initial or not options.revision:
            return self._store.revision if options.initial is False else None
        self._store.check_reachable(options.revision)
        return options.revision

    async def _send_initial(self, stream: web.StreamResponse, resource: Resource, options: Options, client: str) -> int:
        revision = self._store.revision
        things = self._store.list(resource, options.namespace, options.name)
        for start in range(0, len(things), EVENTS_PER_WRITE):
            lines = (event_line("ADDED", thing) for thing in things[start : start + EVENTS_PER_WRITE])
            await self.faults.write(stream, b"".join(lines))
        if options.initial and options.bookmarks:
            await self.lists.may_end(resource.kind)
            await self.faults.write(stream, _bookmark(resource, revision, initial=True))
            self.lists.ended(resource.kind, client)
        return revision

    async def _wait_for(self, revision: int | None) -> None:
        if revision is None or revision <= self._store.revision:
            return
        await asyncio.sleep(self._future_seconds)
        if revision > self._store.revision:
            causes = [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}]
            message = f"Timeout: Too large resource version: {revision}, current: {self._store.revision}"
            raise Refused(HTTPStatus.GATEWAY_TIMEOUT, "Timeout", message, causes=causes, retryAfterSeconds=1)


class _Batch(NamedTuple):
    revision: int
    lines: bytes


def _batches(events: Sequence[Event], options: Options) -> Sequence[_Batch]:
    found = []
    for start in range(0, len(events), EVENTS_PER_WRITE):
        some = events[start : start + EVENTS_PER_WRITE]
        wanted = (e for e in some if options.namespace in ("", e.namespace) and options.name in ("", e.name))
        if lines := b"".join(event.line for event in wanted):
            found.append(_Batch(some[-1].revision, lines))
    return found


def _bookmark(resource: Resource, revision: int, *, initial: bool = False) -> bytes:
    metadata: Object = {"resourceVersion": str(revision)}
    if initial:
        metadata["annotations"] = {"k8s.io/initial-events-end": "true"}
    return event_line("BOOKMARK", {"kind": resource.kind, "apiVersion": resource.api_version, "metadata": metadata})


def _bare(thing: Object) -> Object:
    """Items of a list of a built-in kind do not say what they are."""
    return {key: value for key, value in thing.items() if key not in {"kind", "apiVersion"}}


async def _body(request: web.Request, *, patch: bool = False) -> Object:
    accepted = "application/merge-patch+json" if patch else "application/json"
    if request.content_type != accepted:
        message = f"the body of the request was in an unknown format - accepted media types include: {accepted}"
        raise Refused(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "UnsupportedMediaType", message)
    try:
        body = json.loads(await request.read())
    except ValueError as error:
        raise Refused(HTTPStatus.BAD_REQUEST, "BadRequest", f"the body is no JSON: {error}") from error
    if not isinstance(body, dict):
        raise Refused(HTTPStatus.BAD_REQUEST, "BadRequest", "the body is no JSON object")
    return body
