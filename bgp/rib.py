"""Adj-RIB-In: what each peer has told us, as long as its session lasts, and a while longer when it only restarts.

Keeps and looks up, nothing else: whether a path may be believed is `bgp.check.path_refusal`, which of several is best
is `bgp.bestpath`, and what of it goes to the kernel is the planner's. It does not know the time: `now` is handed in.

How data moves: `apply` takes each event in the order it came and answers with the prefixes whose paths changed; readers
then ask for `paths(prefix)`. A prefix is held twice, by peer (to drop a session in one go) and by prefix (to choose
among its paths); the path itself is one object shared by all prefixes of an UPDATE, and a prefix with one path costs no
container of its own: 100,000 prefixes from one peer take two dict entries each.

A path that is kept although nobody vouches for it now is stale. It is fresh again when it is announced again, and gone
with the End-of-RIB of its family, with a withdrawal, or at a set time, whichever comes first.
- Our side was lost (`SpeakerLost`), a session was replaced by another with the same address (`PeerRemoved.replaced`),
  or by us for another setting of it (`SessionDown.begun_anew`), or one must be heard anew (`SessionUp` while it is up):
  all paths are kept, for OWN_STALE_SECONDS. The peers forward as before; it is us who do not hear them (RFC 4724 4.1).
  The R bit says nothing here: FRR 8.4 sets it in every OPEN of the first two minutes of its life.
- A peer was lost without NOTIFICATION, and had said that it can restart (RFC 4724 4.2): its paths of those families are
  kept for its restart time; `is_away` says so until it is back, and then it must say that it still forwards (F bit).
  What was stale already goes. ExaBGP 5.0 has nothing of this: it is ours.
- A session with another node ended that comes again (`SessionDown.returning`): as if it had been lost without
  NOTIFICATION, but what was stale already stays so (RFC 8538 4.2): when a setting changes, the two sides see it one
  after the other, and the session ends twice before everything is told. The time for it runs from the first return.
- Any other end of a session, and the end of a peer (`PeerRemoved`), takes its paths along.

Paths that go, for whatever reason, go `at_once` of them at a time, so that the end of a full table stalls nobody: the
first with the event that ends them, the others with each `expire`. Until then they are paths like others, but nothing
revives them except being announced again.

Invariants: `paths(p)[peer] is heard_from(peer)[p]`, for each peer and prefix, in both directions; a peer without a
session has only paths that are stale or going, and no path is both; a path equal to the one before changes nothing.
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

GO_AT_ONCE: Final = 1_000
"""Paths removed in one go, about 2 ms."""
OWN_STALE_SECONDS: Final = float(DEFAULT_RESTART_SECONDS)
"""How long a peer that is there again, or that we have lost by ourselves, may take to tell everything again."""

_NOTHING: Final[Mapping[Prefix, Path]] = MappingProxyType({})


@dataclass(slots=True)
class _Stale:
    prefixes: set[Prefix]
    until: float
    again: bool = False
    """Some were stale before the session ended: there is no more time than there was."""


class Rib:
    def __init__(self, *, at_once: int = GO_AT_ONCE) -> None:
        self._at_once = at_once
        self._by_peer: dict[Address, dict[Prefix, Path]] = {}
        self._by_prefix: dict[Prefix, tuple[Path, ...]] = {}
        self._ipv6: dict[Address, int] = {}
        """How many of a peer's prefixes are IPv6."""
        self._sessions: dict[Address, SessionUp] = {}
        self._heard_on: dict[Address, SessionUp] = {}
        self._synced: dict[Address, frozenset[Family]] = {}
        self._stale: dict[Address, _Stale] = {}
        self._going: dict[Address, set[Prefix]] = {}
        """Paths that have ended and are still to be removed; none is empty."""
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
                return self._lose(event.peer, now) if event.replaced else self._end(event.peer)
            case _:
                assert_never(event)

    def expire(self, now: float) -> Collection[Prefix]:
        """Drop what has been stale for too long, and some of what is going; the prefixes that changed."""
        for peer in [peer for peer, stale in self._stale.items() if stale.until <= now]:
            self._going[peer] = self._stale.pop(peer).prefixes | self._going.get(peer, set())
        changed: set[Prefix] = set()
        for peer in list(self._going):
            changed |= self._go_on(peer, self._at_once - len(changed))
            if len(changed) >= self._at_once:
                break
        return changed

    @property
    def next_expiry_at(self) -> float | None:
        """When `expire` has something to do; long ago when it has so now."""
        if self._going:
            return float("-inf")
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

    def peers(self) -> Collection[Address]:
        """Those that have a session, or of which paths are kept."""
        return self._sessions.keys() | self._by_peer.keys()

    def kept(self, peer: Address) -> frozenset[Prefix]:
        """Of the peer's paths, those that nobody vouches for now."""
        stale = self._stale.get(peer)
        return frozenset() if stale is None else frozenset(stale.prefixes)

    def session(self, peer: Address) -> SessionUp | None:
        """The session that is up."""
        return self._sessions.get(peer)

    def heard_on(self, peer: Address) -> SessionUp | None:
        """The session on which the peer's paths were heard: over, when they are kept without one."""
        return self._heard_on.get(peer)

    def is_away(self, peer: Address) -> bool:
        """The peer was lost and may be restarting: its paths are believed if there are no others."""
        return peer in self._away

    def stale_count(self, peer: Address) -> int:
        """How many of the peer's paths are kept although nobody vouches for them now."""
        stale = self._stale.get(peer)
        return 0 if stale is None else len(stale.prefixes)

    def stale_until(self, peer: Address) -> float | None:
        """When these go, at the latest; None: there are none."""
        stale = self._stale.get(peer)
        return None if stale is None else stale.until

    def synced(self, peer: Address) -> frozenset[Family]:
        """Families whose End-of-RIB came on this session."""
        return self._synced.get(peer, frozenset())

    def synced_peers(self) -> frozenset[Address]:
        """Peers whose End-of-RIB of every family of their session has come."""
        return frozenset(peer for peer, up in self._sessions.items() if up.families <= self.synced(peer))

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
        if before is not None and (before.again or peer not in self._away):
            until = before.until  # lost again and again before the peer has said anything: it ends
        last = self._heard_on.get(peer)
        alike = peer not in self._away and last is not None and _who(last) == _who(event)
        changed = self._go(peer, self._outside(self.heard_from(peer), peer, kept))
        self._keep(peer, until)
        self._away.discard(peer)
        self._sessions[peer] = self._heard_on[peer] = event
        self._synced.pop(peer, None)
        return changed if alike else self._all_of(peer, changed)

    def _down(self, event: SessionDown, now: float) -> Collection[Prefix]:
        peer = event.peer
        up = self._sessions.pop(peer, None)
        self._synced.pop(peer, None)
        if up is None and peer in self._stale:
            return ()  # one more attempt has failed
        if event.begun_anew and up is not None:
            return self._lose(peer, now)
        before = self._stale.pop(peer, None)
        if up is None or not (event.without_notification or event.returning) or not up.restart_seconds:
            return self._end(peer)
        ended = self._outside(self.heard_from(peer), peer, up.restart_families)
        until, again = now + up.restart_seconds, False
        if before is not None and event.returning:
            until, again = min(until, before.until), True
        elif before is not None:
            ended = ended | before.prefixes
        changed = self._go(peer, ended)
        if not self._keep(peer, until, again=again):
            return changed | self._end(peer)
        self._away.add(peer)
        return self._all_of(peer, changed)

    def _speaker_lost(self, now: float) -> Collection[Prefix]:
        self._sessions.clear()
        self._synced.clear()
        for peer in list(self._heard_on.keys() | self._by_peer.keys()):
            self._lose(peer, now)
        return ()

    def _lose(self, peer: Address, now: float) -> Collection[Prefix]:
        self._sessions.pop(peer, None)
        self._synced.pop(peer, None)
        stale, count = self._stale.get(peer), len(self.heard_from(peer)) - len(self._going.get(peer, ()))
        if stale is None or len(stale.prefixes) < count:
            self._keep(peer, now + OWN_STALE_SECONDS)
        self._forget_if_empty(peer)
        return ()

    def _keep(self, peer: Address, until: float, *, again: bool = False) -> bool:
        """All that is left of the peer's paths is stale; whether anything is."""
        prefixes = self._all_of(peer)
        if (going := self._going.get(peer)) is not None:
            prefixes -= going
        if prefixes:
            self._stale[peer] = _Stale(prefixes, until, again)
        return bool(prefixes)

    def _all_of(self, peer: Address, more: Iterable[Prefix] = ()) -> set[Prefix]:
        """What the peer has told, and `more`; from the table itself, of a view each prefix would be hashed anew."""
        prefixes = set(self._by_peer.get(peer, ()))
        prefixes.update(more)
        return prefixes

    def _complete(self, event: EndOfRib) -> Collection[Prefix]:
        if event.peer in self._away:
            return ()  # last words; there is no session
        self._synced[event.peer] = self.synced(event.peer) | {event.family}
        stale = self._stale.pop(event.peer, None)
        if stale is None:
            return ()
        ended = self._outside(stale.prefixes, event.peer, frozenset(Family) - {event.family})
        if len(ended) < len(stale.prefixes):
            self._stale[event.peer] = stale
        gone = self._go(event.peer, ended)
        self._settle(event.peer)
        return gone

    def _outside(self, prefixes: Collection[Prefix], peer: Address, families: frozenset[Family]) -> set[Prefix]:
        """Those of the peer's `prefixes` that are of no such family. Whole tables at once where they can be."""
        there = {family for family in Family if self.count(peer, family)}
        if not there - families:
            return set()
        if not there & families:
            return set(prefixes)
        return {prefix for prefix in prefixes if Family.of(prefix) not in families}

    # Paths.

    def _hear(self, event: PathsHeard) -> set[Prefix]:
        if event.peer in self._away:
            return set()  # last words; there is no session
        changed = self._remove(event.peer, event.withdrawn)
        stale, going = self._stale.get(event.peer), self._going.get(event.peer)
        heard = self._by_peer.setdefault(event.peer, {})
        ipv6 = 0
        for path, prefixes in event.announced:
            if stale is not None:
                stale.prefixes.difference_update(prefixes)
            if going is not None:
                going.difference_update(prefixes)
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
        """When nothing of the peer's is stale or going any more, nothing waits."""
        if (stale := self._stale.get(peer)) is not None and not stale.prefixes:
            del self._stale[peer]
        if (going := self._going.get(peer)) is not None and not going:
            del self._going[peer]

    def _remove(self, peer: Address, prefixes: Iterable[Prefix]) -> set[Prefix]:
        """The peer has no path to these any more; those to which it had one."""
        heard = self._by_peer.get(peer)
        removed: set[Prefix] = set()
        if heard is None:
            return removed
        for prefix in prefixes:
            path = heard.pop(prefix, None)
            if path is not None:
                removed.add(prefix)
                self._unlink(prefix, path)
                self._ipv6[peer] -= prefix.version == 6
        if (stale := self._stale.get(peer)) is not None:
            stale.prefixes -= removed
        if (going := self._going.get(peer)) is not None:
            going -= removed
        return removed

    def _unlink(self, prefix: Prefix, path: Path) -> None:
        left = tuple(it for it in self._by_prefix[prefix] if it is not path)
        if left:
            self._by_prefix[prefix] = left
        else:
            del self._by_prefix[prefix]

    def _end(self, peer: Address) -> set[Prefix]:
        """The peer has told nothing that counts any more; the prefixes that changed so far."""
        for table in (self._sessions, self._synced, self._stale):
            table.pop(peer, None)
        going, heard = self._going.get(peer), self.heard_from(peer)
        if going is not None and len(going) == len(heard):
            return set()  # one more attempt has failed while they go
        gone = self._go(peer, self._all_of(peer))
        self._forget_if_empty(peer)
        return gone

    def _go(self, peer: Address, prefixes: set[Prefix]) -> set[Prefix]:
        """These paths have ended; the prefixes of those that were removed at once."""
        if not prefixes:
            return prefixes
        if (stale := self._stale.get(peer)) is not None:
            stale.prefixes -= prefixes
        if peer in self._going:
            self._going[peer] |= prefixes
        else:
            self._going[peer] = prefixes  # not copied: a full table is worth 10 ms
        return self._go_on(peer, self._at_once)

    def _go_on(self, peer: Address, most: int) -> set[Prefix]:
        going = self._going[peer]
        removed = self._remove(peer, [going.pop() for _ in range(min(most, len(going)))])
        self._settle(peer)
        self._forget_if_empty(peer)
        return removed

    def _forget_if_empty(self, peer: Address) -> None:
        """Nothing is left of a peer without a session and without paths."""
        if peer in self._sessions or self._by_peer.get(peer):
            return
        for table in (self._by_peer, self._ipv6, self._heard_on):
            table.pop(peer, None)
        self._away.discard(peer)


def _who(session: SessionUp) -> tuple[object, ...]:
    """What of a session tells its paths from others'."""
    return session.router_id, session.peer_asn
