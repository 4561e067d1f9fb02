"""Adj-RIB-In: what each peer has told us, as long as its session lasts, and a while longer when it only restarts.

Keeps and looks up, nothing else: whether a path may be believed is `bgp.check.heard_refusal`, which of several is best
is `bgp.bestpath`, and what of it goes to the kernel is the planner's. It does not know the time: `now` is handed in.

How data moves: `apply` takes each event in the order it came and answers with the prefixes whose paths changed; readers
then ask for `paths(prefix)`. A prefix is held twice, by peer (to drop a session in one go) and by prefix (to choose
among its paths); the path itself is one object shared by all prefixes of an UPDATE, and a prefix with one path costs no
container of its own: 100,000 prefixes from one peer take two dict entries each.

A path that is kept although nobody vouches for it now is stale. It is fresh again when it is announced again, and gone
with the End-of-RIB of its family, with a withdrawal, or at a set time, whichever comes first.
- Our side was lost (`SpeakerLost`), or a session must be heard anew (`SessionUp` while it is up): all paths are kept,
  for OWN_STALE_SECONDS. The peers forward as before; it is us who do not hear them (RFC 4724 4.1). The R bit says
  nothing here: FRR 8.4 sets it in every OPEN of the first two minutes of its life.
- A peer was lost without NOTIFICATION, and had said that it can restart (RFC 4724 4.2): its paths of those families are
  kept for its restart time; `is_away` says so until it is back, and then it must say that it still forwards (F bit).
  What was stale already goes. ExaBGP 5.0 has nothing of this: it is ours.
- Any other end of a session, and the end of a peer (`PeerRemoved`), takes its paths along at once.

Invariants: `paths(p)[peer] is heard_from(peer)[p]`, for each peer and prefix, in both directions; a peer without a
session has stale paths only; a path equal to the one before changes nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, KeysView, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, assert_never

from bgp.model import (
    DEFAULT_RESTART_SECONDS,
    Address,
    BgpEvent,
    EndOfRib,
    Family,
    Path,
    PathsHeard,
    PeerRemoved,
    Prefix,
    SessionDown,
    SessionUp,
    SpeakerLost,
)

OWN_STALE_SECONDS: Final = float(DEFAULT_RESTART_SECONDS)
"""How long a peer that is there again, or that we have lost by ourselves, may take to tell everything again."""

_NOTHING: Final[Mapping[Prefix, Path]] = MappingProxyType({})


@dataclass(slots=True)
class _Stale:
    prefixes: set[Prefix]
    until: float


class Rib:
    def __init__(self) -> None:
        self._by_peer: dict[Address, dict[Prefix, Path]] = {}
        self._by_prefix: dict[Prefix, tuple[Path, ...]] = {}
        self._ipv6: dict[Address, int] = {}
        """How many of a peer's prefixes are IPv6."""
        self._sessions: dict[Address, SessionUp] = {}
        self._heard_on: dict[Address, SessionUp] = {}
        self._synced: dict[Address, frozenset[Family]] = {}
        self._stale: dict[Address, _Stale] = {}
        self._away: set[Address] = set()

    def apply(self, event: BgpEvent, now: float) -> Collection[Prefix]:
        """Take an event in; the prefixes whose paths, or what is known of their peers, are not what they were."""
        match event:
            case PathsHeard():
                return self._hear(event)
            case EndOfRib():
                return self._complete(event)
            case SessionUp():
                return self._up(event, now)
            case SessionDown():
                return self._down(event, now)
            case SpeakerLost():
                return self._speaker_lost(now)
            case PeerRemoved():
                return self._drop(event.peer)
            case _:
                assert_never(event)

    def expire(self, now: float) -> Collection[Prefix]:
        """Drop what has been stale for too long; the prefixes that changed."""
        changed: set[Prefix] = set()
        for peer in [peer for peer, stale in self._stale.items() if stale.until <= now]:
            stale = self._stale.pop(peer)
            changed |= self._remove(peer, stale.prefixes)
            if peer not in self._sessions and not self.heard_from(peer):
                self._drop(peer)
        return changed

    @property
    def next_expiry_at(self) -> float | None:
        """When `expire` has something to do."""
        return min((stale.until for stale in self._stale.values()), default=None)

    def paths(self, prefix: Prefix) -> Mapping[Address, Path]:
        """Each peer's path to exactly this prefix."""
        return {path.peer: path for path in self._by_prefix.get(prefix, ())}

    def paths_to(self, prefix: Prefix) -> tuple[Path, ...]:
        """The same paths, one per peer, without a mapping made for it."""
        return self._by_prefix.get(prefix, ())

    def prefixes(self) -> KeysView[Prefix]:
        """A live view."""
        return self._by_prefix.keys()

    def heard_from(self, peer: Address) -> Mapping[Prefix, Path]:
        """A live view."""
        heard = self._by_peer.get(peer)
        return _NOTHING if heard is None else MappingProxyType(heard)

    def session(self, peer: Address) -> SessionUp | None:
        """The session that is up."""
        return self._sessions.get(peer)

    def heard_on(self, peer: Address) -> SessionUp | None:
        """The session on which the peer's paths were heard: over, when they are kept without one."""
        return self._heard_on.get(peer)

    def is_away(self, peer: Address) -> bool:
        """The peer was lost and may be restarting: its paths are believed if there are no others."""
        return peer in self._away

    def synced(self, peer: Address) -> frozenset[Family]:
        """Families whose End-of-RIB came on this session."""
        return self._synced.get(peer, frozenset())

    def count(self, peer: Address, family: Family) -> int:
        """How many prefixes of the family the peer has announced; costs nothing."""
        ipv6 = self._ipv6.get(peer, 0)
        return ipv6 if family is Family.IPV6 else len(self._by_peer.get(peer, ())) - ipv6

    # Sessions.

    def _up(self, event: SessionUp, now: float) -> Collection[Prefix]:
        peer, kept = event.peer, event.families
        before = self._stale.pop(peer, None)
        until = now + OWN_STALE_SECONDS
        if peer in self._away:
            kept = kept & event.forwarding_kept
        elif before is not None:
            until = before.until  # lost by us again and again before the peer has said anything: it ends
        changed = set(self.heard_from(peer))
        self._remove(peer, [prefix for prefix in changed if Family.of(prefix) not in kept])
        self._keep(peer, until)
        self._away.discard(peer)
        self._sessions[peer] = self._heard_on[peer] = event
        self._synced.pop(peer, None)
        return changed

    def _down(self, event: SessionDown, now: float) -> Collection[Prefix]:
        peer = event.peer
        up = self._sessions.pop(peer, None)
        self._synced.pop(peer, None)
        if up is None and peer in self._stale:
            return ()  # one more attempt has failed
        before = self._stale.pop(peer, None)
        if up is None or not event.without_notification or not up.restart_seconds:
            return self._drop(peer)
        changed = set(self.heard_from(peer))
        kept = up.restart_families
        if before is not None:
            self._remove(peer, before.prefixes)
        self._remove(peer, [prefix for prefix in self.heard_from(peer) if Family.of(prefix) not in kept])
        if not self.heard_from(peer):
            self._drop(peer)
            return changed
        self._keep(peer, now + up.restart_seconds)
        self._away.add(peer)
        return changed

    def _speaker_lost(self, now: float) -> Collection[Prefix]:
        self._sessions.clear()
        self._synced.clear()
        for peer in list(self._heard_on.keys() | self._by_peer.keys()):
            heard, stale = self.heard_from(peer), self._stale.get(peer)
            if not heard:
                self._drop(peer)
            elif stale is None or len(stale.prefixes) < len(heard):
                self._keep(peer, now + OWN_STALE_SECONDS)
        return ()

    def _keep(self, peer: Address, until: float) -> None:
        """All that is left of the peer's paths is stale."""
        if heard := self.heard_from(peer):
            self._stale[peer] = _Stale(set(heard), until)

    def _complete(self, event: EndOfRib) -> Collection[Prefix]:
        if event.peer in self._away:
            return ()  # last words; there is no session
        self._synced[event.peer] = self.synced(event.peer) | {event.family}
        stale = self._stale.get(event.peer)
        if stale is None:
            return ()
        gone = {prefix for prefix in stale.prefixes if Family.of(prefix) is event.family}
        self._remove(event.peer, gone)
        self._settle(event.peer)
        return gone

    # Paths.

    def _hear(self, event: PathsHeard) -> set[Prefix]:
        if event.peer in self._away:
            return set()  # last words; there is no session
        changed = self._remove(event.peer, event.withdrawn)
        stale = self._stale.get(event.peer)
        heard = self._by_peer.setdefault(event.peer, {})
        ipv6 = 0
        for path, prefixes in event.announced:
            if stale is not None:
                stale.prefixes.difference_update(prefixes)
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
        self._settle(event.peer)
        return changed

    def _settle(self, peer: Address) -> None:
        """When nothing of the peer's is stale any more, nothing waits for a time."""
        if (stale := self._stale.get(peer)) is not None and not stale.prefixes:
            del self._stale[peer]

    def _remove(self, peer: Address, prefixes: Iterable[Prefix]) -> set[Prefix]:
        """The peer has no path to these any more; those to which it had one."""
        heard, stale = self._by_peer.get(peer), self._stale.get(peer)
        removed: set[Prefix] = set()
        if heard is None:
            return removed
        for prefix in prefixes:
            path = heard.pop(prefix, None)
            if path is not None:
                removed.add(prefix)
                self._unlink(prefix, path)
                self._ipv6[peer] -= prefix.version == 6
        if stale is not None:
            stale.prefixes -= removed
        return removed

    def _unlink(self, prefix: Prefix, path: Path) -> None:
        left = tuple(it for it in self._by_prefix[prefix] if it is not path)
        if left:
            self._by_prefix[prefix] = left
        else:
            del self._by_prefix[prefix]

    def _drop(self, peer: Address) -> Collection[Prefix]:
        heard = self._by_peer.pop(peer, {})
        for prefix, path in heard.items():
            self._unlink(prefix, path)
        for table in (self._ipv6, self._sessions, self._heard_on, self._synced, self._stale):
            table.pop(peer, None)
        self._away.discard(peer)
        return heard.keys()
