"""The API server as a transport: requests with the credentials of now, over connections that notice when they are dead.

Credentials live in files that others replace (the kubelet a pod's token, an operator a CA). A `Client` is made of one
reading of them; another one takes over when they have changed: looked at once a minute, and at once on 401 or when the
server's certificate is not trusted. What runs on the old one runs to its end.

It refuses to retry (but once, with new credentials), to interpret answers, and to let an exception of the libraries
out: what leaves is `ClusterConfigError` (at start) or `TransportError`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, TypeAlias

import aiohttp

from agent.cluster.kube import Client, ClusterConfigError, Source, UntrustedError, find_source
from agent.cluster.listwatch import STREAM_BROKEN
from agent.cluster.reflector import REFUSAL_BYTES_MAX, TransportError

RECHECK_SECONDS: Final = 60.0
"""How often credential files are looked at."""
API_UNTRUSTED: Final = "apiUntrusted"
API_UNAUTHORIZED: Final = "apiUnauthorized"
_UNAUTHORIZED: Final = 401
_Request: TypeAlias = Callable[[Client], Awaitable[aiohttp.ClientResponse]]


class ApiServer:
    """Implements `agent.cluster.reflector.Transport`. Make it with `open`, in a running loop."""

    def __init__(
        self, source: Source, client: Client, checked_at: float, *, recheck_seconds: float = RECHECK_SECONDS
    ) -> None:
        self._source = source
        self._client = client
        self._retired: set[Client] = set()
        self._checked_at = checked_at
        self._recheck_seconds = recheck_seconds
        self._renewing = asyncio.Lock()

    @classmethod
    async def open(
        cls,
        kubeconfig: Path | None,
        *,
        environ: Mapping[str, str] | None = None,
        recheck_seconds: float = RECHECK_SECONDS,
    ) -> ApiServer:
        """With a kubeconfig as kubectl reads it, or else with the service account of the pod we run in.

        Raises ClusterConfigError. Connects to nothing: an API server that is away or says no is no error of this kind.
        """
        source = find_source(kubeconfig, environ)
        now = asyncio.get_running_loop().time()
        return cls(source, await source.load(), now, recheck_seconds=recheck_seconds)

    @property
    def url(self) -> str:
        return self._client.url

    async def close(self) -> None:
        """No request may be under way any more."""
        for client in (self._client, *self._retired):
            await client.close()
        self._retired.clear()

    @asynccontextmanager
    async def get(self, path: str, query: Sequence[tuple[str, str]]) -> AsyncIterator[ApiAnswer]:
        """GET. Leaving the context before the body's end closes the connection."""
        async with self._answered(lambda client: client.get(path, query)) as answer:
            yield answer

    async def send(self, method: str, path: str, content_type: str, body: Mapping[str, Any]) -> tuple[int, bytes]:
        """Write; answers status and the beginning of the body. Raises TransportError."""
        async with self._answered(lambda client: client.send(method, path, content_type, body)) as answer:
            said = b""
            async for chunk in answer.chunks():
                said += chunk
                if len(said) > REFUSAL_BYTES_MAX:
                    break
            return answer.status, said

    @asynccontextmanager
    async def _answered(self, request: _Request) -> AsyncIterator[ApiAnswer]:
        if asyncio.get_running_loop().time() - self._checked_at >= self._recheck_seconds:
            await self._renew(self._client, refused=False)
        client = self._client
        try:
            async with self._ask(client, request) as answer:
                yield answer
                return
        except _CredentialsRefused as error:
            if not await self._renew(client, refused=True):
                raise self._refusal(error) from error
        try:
            async with self._ask(self._client, request) as answer:
                yield answer
        except _CredentialsRefused as error:
            raise self._refusal(error) from error

    @asynccontextmanager
    async def _ask(self, client: Client, request: _Request) -> AsyncIterator[ApiAnswer]:
        """Raises _CredentialsRefused before it yields, never after."""
        client.users += 1
        try:
            response = await request(client)
            try:
                if response.status == _UNAUTHORIZED:
                    raise _CredentialsRefused(None)
                yield ApiAnswer(response)
            finally:
                _hang_up(response)
        except UntrustedError as error:
            raise _CredentialsRefused(error) from error
        finally:
            client.users -= 1
            await self._sweep()

    async def _renew(self, used: Client, *, refused: bool) -> bool:
        """See whether there are newer credentials than those `used`; True: there are, ask again."""
        async with self._renewing:
            if self._client is not used:
                return True
            self._checked_at = asyncio.get_running_loop().time()
            try:
                if not used.outdated() and not (refused and self._source.renewable):
                    return False
                client = await self._source.load()
            except ClusterConfigError:
                return False  # files are being replaced, or gone: the old credentials may do; 401 says so if not
            self._retired.add(used)
            self._client = client
        await self._sweep()
        return True

    async def _sweep(self) -> None:
        """Close clients that are neither current nor in use."""
        for client in [client for client in self._retired if client.users == 0]:
            self._retired.discard(client)
            await client.close()

    def _refusal(self, error: _CredentialsRefused) -> TransportError:
        if error.untrusted is not None:
            return TransportError(
                API_UNTRUSTED,
                f"the certificate of {self.url} is not trusted: {error.untrusted}",
                f"Check the certificate authority in {self._source.what}.",
            )
        return TransportError(
            API_UNAUTHORIZED,
            f"{self.url} does not accept the credentials of {self._source.what} (401)",
            f"Check the token or certificate in {self._source.what}: it may have expired or been revoked.",
        )


class ApiAnswer:
    """Implements `agent.cluster.reflector.Answer`."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response

    @property
    def status(self) -> int:
        return self._response.status

    @property
    def retry_after_seconds(self) -> float | None:
        """Kubernetes sends whole seconds; the other form of the header, a date, is ignored."""
        said = self._response.headers.get("Retry-After", "")
        return float(said) if said.isdecimal() else None

    async def chunks(self) -> AsyncIterator[bytes]:
        content = self._response.content
        try:
            while chunk := await content.readany():
                yield chunk
        except (aiohttp.ClientError, OSError) as error:
            raise TransportError(STREAM_BROKEN, f"the connection broke: {error}") from error


def _hang_up(response: aiohttp.ClientResponse) -> None:
    """At once: TLS would wait for the other side's goodbye, and that side may be dead."""
    if (connection := response.connection) is not None and connection.transport is not None:
        connection.transport.abort()
    response.close()


class _CredentialsRefused(Exception):  # noqa: N818  # a turn in the conversation, not an error yet
    def __init__(self, untrusted: UntrustedError | None) -> None:
        super().__init__()
        self.untrusted = untrusted
