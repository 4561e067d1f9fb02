"""How the embedded API server misbehaves while it is up, to everybody: refuses, trickles, or says nothing any more.

One at a time. It refuses to close connections: whoever wants a fault to begin with that does it.
"""

from __future__ import annotations

import asyncio
from http import HTTPStatus

from aiohttp import web

from tests.lab.apikinds import Refused

PIECES_PER_SECOND = 20


class Faults:
    def __init__(self) -> None:
        self._refusal: tuple[int, int | None] | None = None
        self._bytes_per_second: int | None = None
        self._may_speak = asyncio.Event()
        self.behave()

    def refuse(self, status: int, retry_after: int | None) -> None:
        """Every request is answered with this, at once."""
        self.behave()
        self._refusal = status, retry_after

    def trickle(self, bytes_per_second: int) -> None:
        """Whatever is said comes at this pace."""
        self.behave()
        self._bytes_per_second = bytes_per_second

    def hush(self) -> None:
        """Connections stay, new ones are accepted, and nothing comes through any of them."""
        self.behave()
        self._may_speak.clear()

    def behave(self) -> None:
        """As it should, and what was held back comes."""
        self._refusal = self._bytes_per_second = None
        self._may_speak.set()

    async def refusal(self) -> web.Response | None:
        """What to answer a request with, as soon as anything may be said; None: as it should be."""
        await self._may_speak.wait()
        if self._refusal is None:
            return None
        status, retry_after = self._refusal
        headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
        said = Refused(
            HTTPStatus(status), HTTPStatus(status).phrase.replace(" ", ""), "the embedded API is told to fail"
        )
        return web.json_response(said.status, status=status, headers=headers)

    async def slowed(self, request: web.Request, answer: web.StreamResponse) -> web.StreamResponse:
        """An answer that is ready, at the pace of now; one that was streamed has had it."""
        if self._bytes_per_second is None or not isinstance(answer, web.Response) or not isinstance(answer.body, bytes):
            return answer
        stream = web.StreamResponse(status=answer.status, headers={"Content-Type": answer.content_type})
        await stream.prepare(request)
        await self.write(stream, answer.body)
        return stream

    async def write(self, stream: web.StreamResponse, content: bytes) -> None:
        await self._may_speak.wait()
        while content:
            size = len(content) if self._bytes_per_second is None else self._bytes_per_second // PIECES_PER_SECOND or 1
            await stream.write(content[:size])
            if content := content[size:]:
                await asyncio.sleep(1 / PIECES_PER_SECOND)
