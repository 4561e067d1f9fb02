"""Replacements in ExaBGP: what is the same for a thousand sessions is made once, and sent in as few writes as it takes.

They run inside ExaBGP; `bgp.inside.launcher` puts each in its place and hands it what it replaces. Each is one
function and says what is wrong without it (measured with ExaBGP 5.0.15, a route reflector with 1,000 clients, which
sends a million UPDATEs when it starts; tests in tests/live/test_exabgp_contract_sharing.py). It refuses to import
ExaBGP.

Invariant: the bytes that a peer is sent are those that ExaBGP would send it, in the same order.
"""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, Final

SHARED_PREFIXES_MAX: Final = 256
"""An UPDATE's bytes are kept for the next peer when it has at most so many: ten messages."""
WRITE_BYTES: Final = 16 * 1024
"""Messages are joined until they are so long."""

Method = Callable[..., Any]


def share_route(remove_self: Method) -> Method:
    """Around `Neighbor.remove_self`: a route whose next hop is given is one object in the tables of all peers.

    Each table gets a deep copy otherwise, of 200 µs, for the sake of `next-hop self`, which we never say.
    """

    @functools.wraps(remove_self)
    def _remove_self(self: Any, change: Any) -> Any:
        return remove_self(self, change) if change.nlri.nexthop.SELF else change

    return _remove_self


def pack_once(messages: Method) -> Method:
    """Around `Update.messages`: the bytes for one peer are those for the next, when both have agreed to the same.

    To pack an UPDATE of one route takes 40 µs, to find what was packed 4; a reflector tells all its clients the same.
    """

    @functools.wraps(messages)
    def _messages(self: Any, negotiated: Any, include_withdraw: bool = True) -> Iterator[bytes]:
        if len(self.nlris) > SHARED_PREFIXES_MAX:
            yield from messages(self, negotiated, include_withdraw)
            return
        agreed = (
            include_withdraw,
            negotiated.local_as,
            negotiated.peer_as,
            negotiated.asn4,
            negotiated.aigp,
            negotiated.msg_size,
            negotiated.families,
            negotiated.nexthop,
            [negotiated.addpath.send(*family) for family in negotiated.families],
        )
        said = self.attributes.__dict__.get("said")
        if said is None or said[0] != agreed or not _same(said[1], self.nlris):
            said = self.attributes.said = agreed, self.nlris, list(messages(self, negotiated, include_withdraw))
        yield from said[2]

    return _messages


def _same(some: list[object], others: list[object]) -> bool:
    return len(some) == len(others) and all(map(_is, some, others))


def _is(one: object, other: object) -> bool:
    return one is other


def write_together(new_update: Method, update: object, nothing_yet: object) -> Method:
    """In place of `Protocol.new_update`: UPDATEs that wait for one peer share a write.

    Each had its own, with a poll before it. Where the API is told of what is sent nothing changes.
    """

    @functools.wraps(new_update)
    def _new_update(self: Any, include_withdraw: bool) -> Iterator[object]:
        if self.neighbor.api.get("send-update", False):
            yield from new_update(self, include_withdraw)
            return
        waiting: list[bytes] = []
        size = 0
        for one in self.neighbor.rib.outgoing.updates(self.neighbor["group-updates"]):
            for message in one.messages(self.negotiated, include_withdraw):
                waiting.append(message)
                size += len(message)
                if size >= WRITE_BYTES:
                    yield from _write(self, waiting, nothing_yet)
                    waiting, size = [], 0
        if waiting:
            yield from _write(self, waiting, nothing_yet)
        yield update

    return _new_update


def _write(protocol: Any, messages: list[bytes], nothing_yet: object) -> Iterator[object]:
    protocol.peer.stats["send-update"] += len(messages)
    for _ in protocol.connection.writer(b"".join(messages)):
        yield nothing_yet


def in_order(writer: Method) -> Method:
    """Around `Connection.writer`: a write that a full socket has cut is finished before the next one begins.

    Otherwise a KEEPALIVE may stand in the middle of an UPDATE, and the peer ends the session.
    """

    @functools.wraps(writer)
    def _writer(self: Any, data: bytes) -> Iterator[bool]:
        unfinished: deque[Iterator[bool]] = self.__dict__.setdefault("unfinished", deque())
        mine = writer(self, data)
        unfinished.append(mine)
        while mine in unfinished:
            if next(unfinished[0], True):
                unfinished.popleft()
            else:
                yield False
        yield True

    return _writer
