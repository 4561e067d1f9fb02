"""How many prefixes each peer has told on its session, against how many it may (RFC 4486 Cease 6/1).

Events go in, in their order, and come out as they are to be taken: all of them as long as the limit holds; then, in
place of the UPDATE that goes over it, the end of the session, and nothing more that the peer tells. So what is kept of
a peer is bounded by its limit, however fast it talks until ExaBGP has ended the session.

A peer that was ended so is `held` until its restart time is over, or, without one, until its limits or another setting
of its session are changed; and no longer than until it is held for something else, so that a shutdown for a while is
how an operator lets it try again. It refuses to end sessions, to know the time, and to count for peers without a limit.

Prefixes are counted as a set per session, as they stand in the peer's Adj-RIB-In: told twice is one, and what is kept
of an earlier session (`bgp.rib`) does not count.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final

from bgp.exaconfig import MAX_PREFIXES_EXCEEDED
from bgp.model import (
    Address,
    BgpEvent,
    EndOfRib,
    Family,
    Held,
    PathsHeard,
    Peer,
    PeerRemoved,
    Prefix,
    PrefixLimit,
    SessionDown,
    SessionUp,
    SpeakerLost,
)

MAX_PREFIXES_NEAR: Final = "maxPrefixesNear"


@dataclass(frozen=True, slots=True)
class Excess:
    """A peer and the limit that it has come near to, or has exceeded."""

    peer: Peer
    family: Family
    limit: PrefixLimit
    until: float | None = None
    """Exceeded: when it may have a session again. None: when it is changed."""

    @property
    def family_name(self) -> str:
        return "IPv4" if self.family is Family.IPV4 else "IPv6"

    @property
    def text(self) -> str:
        return f"it has told more than the {self.limit.prefixes} {self.family_name} prefixes that it may"


class Limits:
    def __init__(self) -> None:
        self._peers: dict[Address, Peer] = {}
        self._told: dict[Address, dict[Family, set[Prefix]]] = {}
        self._over: dict[Address, Excess] = {}
        self._up: dict[Address, frozenset[Family]] = {}

    def configure(self, peers: Mapping[Address, Peer], now: float) -> tuple[BgpEvent, ...]:
        """The peers wanted from now on, as they are without what is `held` here; what follows from lower limits."""
        before, self._peers = self._peers, {address: peer for address, peer in peers.items() if peer.prefix_limits}
        for address in before.keys() - self._peers.keys():
            self._told.pop(address, None)
        for address, excess in list(self._over.items()):
            peer = peers.get(address)
            if peer is None or peer.held is not None or _limited(peer) != _limited(excess.peer):
                del self._over[address]
        return tuple(end for address in list(self._told) if (end := self._judge(address, now)) is not None)

    @property
    def uncounted(self) -> tuple[tuple[Address, Family], ...]:
        """Sessions that were up before their peer had a limit: what was told on them must be told again."""
        late = [address for address in self._peers if address in self._up and address not in self._told]
        return tuple((address, family) for address in late for family in self._up[address])

    def hear(self, event: BgpEvent, now: float) -> tuple[BgpEvent, ...]:
        """What is to be taken of it."""
        match event:
            case SpeakerLost():
                self._told.clear()
                self._up.clear()
            case SessionUp(peer=address):
                self._up[address] = event.families
                self._told.pop(address, None)
                if address in self._peers:
                    self._begin(address)
            case SessionDown(peer=address) | PeerRemoved(peer=address):
                self._up.pop(address, None)
                self._told.pop(address, None)
            case PathsHeard(peer=address) | EndOfRib(peer=address) if address in self._over:
                return ()
            case PathsHeard(peer=address) if address in self._peers:
                self._count(event)
                if (end := self._judge(address, now)) is not None:
                    return (end,)
            case _:
                pass
        return (event,)

    def _begin(self, address: Address) -> dict[Family, set[Prefix]]:
        return self._told.setdefault(address, {family: set() for family in Family})

    @property
    def held(self) -> Mapping[Address, Held]:
        """Peers that must have no session, for now."""
        return {address: Held(MAX_PREFIXES_EXCEEDED, excess.text) for address, excess in self._over.items()}

    @property
    def exceeded(self) -> tuple[Excess, ...]:
        return tuple(self._over.values())

    @property
    def near(self) -> tuple[Excess, ...]:
        """As many as the warning says, or more where a warning is all there is."""
        return tuple(
            Excess(self._peers[address], family, limit)
            for address in self._told
            for family, limit in self._peers[address].prefix_limits
            if self._count_of(address, family) * 100 >= limit.prefixes * limit.warning_percent
        )

    def expire(self, now: float) -> None:
        """Let those try again whose time has come."""
        for address in [it for it, excess in self._over.items() if excess.until is not None and excess.until <= now]:
            del self._over[address]

    @property
    def next_expiry_at(self) -> float | None:
        return min((excess.until for excess in self._over.values() if excess.until is not None), default=None)

    def _count(self, event: PathsHeard) -> None:
        told = self._begin(event.peer)
        for family, found in _by_family(event.withdrawn):
            told[family].difference_update(found)
        for _, prefixes in event.announced:
            for family, found in _by_family(prefixes):
                told[family].update(found)

    def _judge(self, address: Address, now: float) -> SessionDown | None:
        """The end of the session, if it must end now."""
        peer = self._peers[address]
        for family, limit in peer.prefix_limits:
            if not limit.warning_only and self._count_of(address, family) > limit.prefixes:
                until = None if limit.restart_seconds is None else now + limit.restart_seconds
                excess = self._over[address] = Excess(peer, family, limit, until)
                del self._told[address]
                self._up.pop(address, None)
                return SessionDown(address, f"{MAX_PREFIXES_EXCEEDED}: {excess.text}")
        return None

    def _count_of(self, address: Address, family: Family) -> int:
        told = self._told.get(address)
        return 0 if told is None else len(told[family])


def _by_family(prefixes: tuple[Prefix, ...]) -> Iterator[tuple[Family, tuple[Prefix, ...]]]:
    """An UPDATE's prefixes are of one family, unless several UPDATEs were joined."""
    if not prefixes:
        return
    first = prefixes[0].version
    if all(prefix.version == first for prefix in prefixes):
        yield Family.of(prefixes[0]), prefixes
    else:
        for family in Family:
            yield family, tuple(prefix for prefix in prefixes if Family.of(prefix) is family)


def _limited(peer: Peer) -> Peer:
    """What of a peer lifts its hold when it is changed."""
    return replace(peer, name="", description="", held=None)
