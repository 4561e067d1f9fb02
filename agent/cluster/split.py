"""Bytes as they come from the network → JSON texts one by one: lines of a watch, items of a list.

Both splitters are given chunks of any size, hold at most one text plus one chunk, and say `TooLong` when a text goes
over their bound. So a list of 67 MB passes through some kilobytes of memory, and its reader can pause between items.

Nothing here knows what is inside a text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

import msgspec

TEXT_BYTES_MAX: Final = 16 * 1024 * 1024
"""Longest text accepted. etcd takes objects of 1.5 MiB by default, which as JSON are a few times as much at most."""

_ITEMS: Final = re.compile(rb'"items"\s*:\s*\[\s*')
_OPENING: Final = re.compile(rb'\{\s*"[^"\\]*"\s*:')
_SEPARATOR: Final = rb"\}\s*,\s*"
_ITEMS_WITHIN_BYTES: Final = 64 * 1024
"""Where `"items"` of a list must begin: before it stand kind, apiVersion and at most the list's metadata."""


class TooLong(Exception):  # noqa: N818  # what arrived, not what we did wrong
    """A text is longer than the bound; the stream cannot be read further."""


class LineSplitter:
    """`feed` gives the complete lines, without their ends; empty lines are skipped."""

    def __init__(self, most: int = TEXT_BYTES_MAX) -> None:
        self._most = most
        self._parts: list[bytes] = []
        self._held = 0

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """Consume this iterator to its end before the next chunk is fed."""
        *ended, rest = chunk.split(b"\n")
        for index, piece in enumerate(ended):
            line = piece
            if index == 0 and self._parts:
                line = b"".join((*self._parts, piece))
                self._parts.clear()
                self._held = 0
            if len(line) > self._most:
                raise TooLong
            if line:
                yield line
        if rest:
            self._parts.append(rest)
            self._held += len(rest)
            if self._held > self._most:
                raise TooLong

    @property
    def within(self) -> bool:
        """The stream is inside a line: if it ended now, it would have been cut off."""
        return self._held > 0


class ItemSplitter:
    """Cuts the items off a list as they come; what is left is a list with the last item only, for `rest()`.

    All items of a list begin with the same member. So `},` followed by that beginning ends an item, unless the same
    stands inside one: then what was cut off is no complete JSON value (no beginning of a JSON object is one), and the
    next such place is tried. Lists that are laid out differently are not cut, and must fit the bound as a whole.
    """

    def __init__(self, most: int = TEXT_BYTES_MAX) -> None:
        self._most = most
        self._head: bytes | None = None
        self._buffer = bytearray()
        self._end: re.Pattern[bytes] | None = None
        self._searched = 0

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """Consume this iterator to its end before the next chunk is fed."""
        self._buffer += chunk
        if self._head is None:
            self._find_items()
        if self._head is not None and self._end is None:
            self._find_opening()
        start = 0
        while self._end is not None and (found := self._end.search(self._buffer, max(start, self._searched))):
            self._searched = found.start() + 1
            item = bytes(self._buffer[start : found.start() + 1])
            if _is_complete(item):
                start = self._searched = found.start("opening")
                yield item
        del self._buffer[:start]
        self._searched = max(0, len(self._buffer) - _OVERLAP_BYTES)
        if len(self._buffer) > self._most:
            raise TooLong

    def rest(self) -> bytes:
        """What was not cut off: a valid list when all of it has come, and broken JSON when it has not."""
        return (self._head or b"") + bytes(self._buffer)

    def _find_items(self) -> None:
        if found := _ITEMS.search(self._buffer, 0, _ITEMS_WITHIN_BYTES):
            self._head = bytes(self._buffer[: found.end()])
            del self._buffer[: found.end()]

    def _find_opening(self) -> None:
        if found := _OPENING.match(self._buffer):
            self._end = re.compile(_SEPARATOR + b"(?P<opening>" + re.escape(found[0]) + b")")


_OVERLAP_BYTES: Final = 1024
"""How far back a separator that was cut in two by a chunk's end may begin."""


def _is_complete(text: bytes) -> bool:
    try:
        msgspec.json.decode(text, type=msgspec.Raw)
    except (msgspec.DecodeError, RecursionError):
        return False
    return True
