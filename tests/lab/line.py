"""The way to a server, which can be cut for those who take it: others have their own.

    async with Line(api.server) as line:
        … line.url …
        line.cut()
        await line.mend()

It refuses to look at what passes: bytes are copied, so the server's certificate must be good for 127.0.0.1.
"""

from __future__ import annotations

import asyncio
from typing import Self
from urllib.parse import urlsplit

CHUNK_BYTES = 64 * 1024


class Line:
    def __init__(self, server: str) -> None:
        self._server = urlsplit(server)
        self._listener: asyncio.Server | None = None
        self._port = 0
        self._open: set[asyncio.StreamWriter] = set()

    async def __aenter__(self) -> Self:
        await self.mend()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.cut()

    @property
    def url(self) -> str:
        return f"{self._server.scheme}://127.0.0.1:{self._port}"

    async def mend(self) -> None:
        self._listener = await asyncio.start_server(self._forward, "127.0.0.1", self._port)
        self._port = self._listener.sockets[0].getsockname()[1]

    def cut(self) -> None:
        """All connections break off, and new ones are refused until it is mended."""
        if self._listener is not None:
            self._listener.close()
        for writer in tuple(self._open):
            writer.transport.abort()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        back, there = await asyncio.open_connection(self._server.hostname, self._server.port)
        self._open |= {writer, there}
        try:
            await asyncio.gather(_copy(reader, there), _copy(back, writer))
        finally:
            self._open -= {writer, there}


async def _copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    try:
        while content := await source.read(CHUNK_BYTES):
            target.write(content)
            await target.drain()
    except OSError:
        pass  # it was cut, or one of the two has gone
    finally:
        target.close()
