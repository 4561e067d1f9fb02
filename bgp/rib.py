"""Adj-RIB-In: what each peer has told us, as long as its session lasts.

Keeps and looks up, nothing else: whether a path may be believed is `bgp.check.heard_refusal`, which of several is best
is `bgp.bestpath`, and what of it goes to the kernel is the planner's.

How data moves: `apply` takes each event in the order it came and answers with the prefixes whose set of paths changed;
readers then ask for `paths(prefix)`. A prefix is held twice, by peer (to drop a session in one go) and by prefix (to
choose among its paths); the path itself is one object shared by all prefixes of an UPDATE, and a prefix with one path
costs no container of its own: 100,000 prefixes from one peer take two dict entries each.

Invariants: `paths(p)[peer] is heard_from(peer)[p]`, for each peer and prefix, in both directions; a peer whose session
ended has no path; a path equal to the one before changes nothing.
"""

from __future__ import annotations

from collections.abc import Collection, KeysView, Mapping
from types import MappingProxyType
from typing import Final, assert_never

from bgp.model import (
    Address,
    BgpEvent,
    EndOfRib,
    Family,
    Path,
    PathsHeard,
    Prefix,
    SessionDown,
    SessionUp,
    SpeakerLost,
)

_NOTHING: Final[Mapping[Prefix, Path]] = MappingProxyType({})


class Rib:
    def __init__(self) -> None:
        self._by_peer: dict[Address, dict[Prefix, Path]] = {}
        self._by_prefix: dict[Prefix, tuple[Path, ...]] = {}
        self._ipv6: dict[Address, int] = {}
        """How many of a peer's prefixes are IPv6."""
        self._sessions: dict[Address, SessionUp] = {}
        self._synced: dict[Address, frozenset[Family]] = {}

    def apply(self, event: BgpEvent) -> Collection[Prefix]:
        """Take an event in; the prefixes whose set of paths is not what it was, each once."""
        match event:
            case PathsHeard():
                return self._hear(event)
            case EndOfRib():
                self._synced[event.peer] = self.synced(event.peer) | {event.family}
                return ()
            case SessionUp():
                dropped = self._drop(event.peer)
                self._sessions[event.peer] = event
                return dropped
            case SessionDown():
                return self._drop(event.peer)
            case SpeakerLost():
                changed = self._by_prefix.keys()
                self._by_peer, self._by_prefix, self._ipv6 = {}, {}, {}
                self._sessions, self._synced = {}, {}
                return changed
            case _:
                assert_never(event)

    def paths(self, prefix: Prefix) -> Mapping[Address, Path]:
        """Each peer's path to exactly this prefix."""
        return {path.peer: path for path in self._by_prefix.get(prefix, ())}

    def prefixes(self) -> KeysView[Prefix]:
        """A live view."""
        return self._by_prefix.keys()

    def heard_from(self, peer: Address) -> Mapping[Prefix, Path]:
        """A live view."""
        heard = self._by_peer.get(peer)
        return _NOTHING if heard is None else MappingProxyType(heard)

    def session(self, peer: Address) -> SessionUp | None:
        return self._sessions.get(peer)

    def synced(self, peer: Address) -> frozenset[Family]:
        """Families whose End-of-RIB came on this session."""
        return self._synced.get(peer, frozenset())

    def count(self, peer: Address, family: Family) -> int:
        """How many prefixes of the family the peer has announced; costs nothing."""
        ipv6 = self._ipv6.get(peer, 0)
        return ipv6 if family is Family.IPV6 else len(self._by_peer.get(peer, ())) - ipv6

    def _hear(self, event: PathsHeard) -> set[Prefix]:
        heard = self._by_peer.setdefault(event.peer, {})
        changed: set[Prefix] = set()
        ipv6 = 0
        for prefix in event.withdrawn:
            path = heard.pop(prefix, None)
            if path is not None:
                self._remove(prefix, path)
                changed.add(prefix)
                ipv6 -= prefix.version == 6
        for path, prefixes in event.announced:
            alone = (path,)
            for prefix in prefixes:
                before = heard.get(prefix)
                if before is path or before == path:
                    continue
                heard[prefix] = path
                changed.add(prefix)
                if before is None:
                    ipv6 += prefix.version == 6
                    others = self._by_prefix.get(prefix)
                    self._by_prefix[prefix] = alone if others is None else (*others, path)
                else:
                    there = self._by_prefix[prefix]
                    self._by_prefix[prefix] = (
                        alone if len(there) == 1 else tuple(path if it is before else it for it in there)
                    )
        self._ipv6[event.peer] = self._ipv6.get(event.peer, 0) + ipv6
        return changed

    def _remove(self, prefix: Prefix, path: Path) -> None:
        left = tuple(it for it in self._by_prefix[prefix] if it is not path)
        if left:
            self._by_prefix[prefix] = left
        else:
            del self._by_prefix[prefix]

    def _drop(self, peer: Address) -> Collection[Prefix]:
        heard = self._by_peer.pop(peer, {})
        for prefix, path in heard.items():
            self._remove(prefix, path)
        self._ipv6.pop(peer, None)
        self._sessions.pop(peer, None)
        self._synced.pop(peer, None)
        return heard.keys()
