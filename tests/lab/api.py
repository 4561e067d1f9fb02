"""An embedded Kubernetes API server for tests, demo and bench: HTTPS, list, watch and write, in a thread of its own.

It listens on any number of addresses, each in any network namespace. `apply`, `merge` and `delete` change objects
without a request; `cut` and `restore` are an API server that goes away and comes back with what it had; `hold_back` is
one that lags for some of its clients, `withhold` one that does not know all of a kind yet; `go_back`, `refuse`,
`trickle` and `hush` are other ways to be in trouble. It passes the contract cases of `tests.lab.api_contract`, as the
real one does.
`python -m tests.lab.api --port 6443` runs one.

It refuses what it does not do as the real one does: label selectors, strategic merge, server-side apply, tables,
discovery, admission, authorization. Such a request gets an error, never a wrong answer.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import signal
import socket
import ssl
import threading
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Self, TypeVar

import trustme
import yaml
from aiohttp import web

from tests.lab.apihttp import Front
from tests.lab.apikinds import Object
from tests.lab.apistore import HISTORY, Backup, Store
from tests.lab.kubeapi import KubeApi
from tests.lab.netns import make_in

T = TypeVar("T")
ANSWER_SECONDS = 60.0
BOOKMARK_SECONDS = 60.0
"""How often an idle watch is told the current revision, as on the real server."""
FUTURE_SECONDS = 3.0
"""As kube-apiserver 1.36."""


@dataclass(slots=True)
class _Listener:
    address: tuple[str, int]
    netns: Path | None
    tls: ssl.SSLContext
    runner: web.AppRunner | None = None


class EmbeddedApi:
    """`with EmbeddedApi() as api:` listens on a free port of 127.0.0.1. May be used from any thread."""

    def __init__(
        self,
        *,
        host: str | None = "127.0.0.1",
        port: int = 0,
        netns: Path | None = None,
        token: str = "",
        history: int = HISTORY,
        bookmark_seconds: float = BOOKMARK_SECONDS,
        future_seconds: float = FUTURE_SECONDS,
    ) -> None:
        """`host` None: it listens nowhere until `listen`. With a `token`, requests without it are answered 401.

        `future_seconds` is how long a list waits for a revision that does not exist yet.
        """
        self.token = token
        self._first = (host, port, netns)
        self._authority = trustme.CA()
        self._store = Store(history)
        self._front = Front(self._store, token, bookmark_seconds, future_seconds)
        self._listeners: list[_Listener] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="embedded-api", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        host, port, netns = self._first
        if host is not None:
            self.listen(host, port, netns=netns)
        return self

    def __exit__(self, *_: object) -> None:
        self.cut()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def listen(self, host: str = "127.0.0.1", port: int = 0, *, netns: Path | None = None) -> str:
        """The URL of one more address to reach it at, in the namespace whose file (/run/netns/NAME) is given.

        `host` is an IP address that exists there, since the certificate names it.
        """
        plain = make_in(netns, partial(_bound, (host, port)))
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._authority.issue_cert(host).configure_cert(tls)
        listener = _Listener(plain.getsockname()[:2], netns, tls)
        self._listeners.append(listener)
        self._run(self._open(listener, plain))
        return _url(listener)

    @property
    def url(self) -> str:
        """Of the first address."""
        return _url(self._listeners[0])

    @property
    def ca_pem(self) -> bytes:
        return self._authority.cert_pem.bytes()

    @property
    def revision(self) -> int:
        return self._call(lambda: self._store.revision)

    def client(self) -> KubeApi:
        """A client for the first address, which connects from the namespace that it lies in."""
        return KubeApi(self.url, self.ca_pem, self.token or None, self._listeners[0].netns)

    def kubeconfig(self, path: Path, url: str = "") -> Path:
        """Writes a kubeconfig that needs no other file, for the first address or the given `url`."""
        authority = base64.b64encode(self.ca_pem).decode()
        cluster = {"server": url or self.url, "certificate-authority-data": authority}
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "embedded", "cluster": cluster}],
            "users": [{"name": "embedded", "user": {"token": self.token or "unused"}}],
            "contexts": [{"name": "embedded", "context": {"cluster": "embedded", "user": "embedded"}}],
            "current-context": "embedded",
        }
        path.write_text(yaml.safe_dump(config, sort_keys=False))
        return path

    def apply(self, *objects: Object, checked: bool = True) -> None:
        """Create or replace whole objects, status included; a namespace that does not exist is made.

        Not `checked`: custom resources are taken as they are, as where the CRDs are older or without a schema.
        """
        self._call(lambda: [self._store.apply(thing, checked=checked) for thing in objects])

    def merge(self, kind: str, name: str, patch: Object, namespace: str = "") -> None:
        """JSON merge patch of any part of the object, status included."""
        self._call(lambda: self._store.merge(self._store.kind(kind), namespace, name, patch))

    def delete(self, kind: str, name: str, namespace: str = "") -> None:
        """KeyError if there is no such kind, Refused if there is no such object."""
        self._call(lambda: self._store.delete(self._store.kind(kind), namespace, name))

    def get(self, kind: str, name: str, namespace: str = "") -> Object:
        return self._call(lambda: self._store.get(self._store.kind(kind), namespace, name))

    def list(self, kind: str, namespace: str = "") -> Sequence[Object]:
        return self._call(lambda: self._store.list(self._store.kind(kind), namespace))

    def compact(self) -> None:
        """Forget the history, so that a watch that starts from before is told 410."""
        self._call(self._store.compact)

    def backup(self) -> Backup:
        """For `go_back`."""
        return self._call(self._store.backup)

    def go_back(self, backup: Backup) -> None:
        """While it is away (`cut`): what is there then is what was there, revisions and all."""
        self._call(lambda: self._store.go_back(backup))

    def refuse(self, status: int, *, retry_after: int | None = None) -> None:
        """Watches break off, and every request is answered with this status until it shall `behave`."""
        self._call(lambda: self._front.faults.refuse(status, retry_after))
        self._call(self._front.end_watches)

    def trickle(self, bytes_per_second: int) -> None:
        """Watches break off, and all answers come at this pace until it shall `behave`."""
        self._call(lambda: self._front.faults.trickle(bytes_per_second))
        self._call(self._front.end_watches)

    def hush(self) -> None:
        """Connections stay open, also new ones, and nothing comes through any of them until it shall `behave`."""
        self._call(self._front.faults.hush)

    def behave(self) -> None:
        self._call(self._front.faults.behave)

    def hold_back(self, *clients: str, seconds: float) -> None:
        """Watches from these addresses are told of each change so long after it; 0 ends that, and all is told at once.

        What is listed, and what a watch begins with, is the present.
        """
        self._call(lambda: [self._front.hold_back(client, seconds) for client in clients])

    def withhold(self, *kinds: str) -> None:
        """Whoever asks for all objects of these kinds gets them without their end, until `release`."""
        for kind in kinds:
            self._call(partial(self._front.lists.withhold, self._store.kind(kind).kind))

    def release(self, *kinds: str) -> None:
        """None named: all that are withheld."""
        for kind in kinds or self._call(self._front.lists.withheld):
            self._call(partial(self._front.lists.release, kind))

    def listed(self, client: str) -> frozenset[str]:
        """Kinds of which the client of this address has got all objects since some were withheld."""
        return self._call(lambda: self._front.lists.of(client))

    def cut(self) -> None:
        """Go away: every connection is closed, new ones are refused."""
        self._run(self._close_all())

    def restore(self) -> None:
        """Be back at the same addresses with the same objects."""
        for listener in self._listeners:
            plain = make_in(listener.netns, partial(_bound, listener.address))
            self._run(self._open(listener, plain))

    async def _open(self, listener: _Listener, plain: socket.socket) -> None:
        app = web.Application(client_max_size=8 << 20)
        app.router.add_route("*", "/{path:.*}", self._front.answer)
        # Without cancellation a watch whose client is gone would live on until the next event.
        listener.runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=0)
        await listener.runner.setup()
        await web.SockSite(listener.runner, plain, ssl_context=listener.tls, backlog=1024).start()

    async def _close_all(self) -> None:
        self._front.end_watches()
        for listener in self._listeners:
            if listener.runner is not None:
                await _hang_up(listener.runner)
                await listener.runner.cleanup()
                listener.runner = None

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(ANSWER_SECONDS)

    def _call(self, work: Callable[[], T]) -> T:
        async def step() -> T:
            return work()

        return self._run(step())


async def _hang_up(runner: web.AppRunner) -> None:
    """Closing in order would wait, half a minute, for each client to end its side of TLS too."""
    for site in tuple(runner.sites):
        await site.stop()
    for connection in runner.server.connections if runner.server else ():
        if connection.transport is not None:
            connection.transport.abort()


def _url(listener: _Listener) -> str:
    host, port = listener.address
    return f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"


def _bound(address: tuple[str, int]) -> socket.socket:
    plain = socket.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET)
    plain.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        plain.bind(address)
    except OSError:
        plain.close()
        raise
    return plain


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.lab.api", description="An embedded Kubernetes API server.")
    parser.add_argument("--host", default="127.0.0.1", help="IP address to listen on")
    parser.add_argument("--port", type=int, default=0, help="default: a free one")
    parser.add_argument("--token", default="", help="bearer token to ask for; default: none")
    parser.add_argument("--kubeconfig", type=Path, help="file to write a kubeconfig to")
    parser.add_argument("files", type=Path, nargs="*", help="YAML files with objects to start with")
    options = parser.parse_args()
    ended = {signal.SIGINT, signal.SIGTERM}
    signal.pthread_sigmask(signal.SIG_BLOCK, ended)  # before any thread starts: then all inherit it
    with EmbeddedApi(host=options.host, port=options.port, token=options.token) as api:
        for path in options.files:
            api.apply(*(thing for thing in yaml.safe_load_all(path.read_text()) if thing))
        if options.kubeconfig:
            api.kubeconfig(options.kubeconfig)
        print(json.dumps({"url": api.url, "kubeconfig": str(options.kubeconfig or "")}), flush=True)
        signal.sigwait(ended)


if __name__ == "__main__":
    main()
