"""What ExaBGP is told of routes, as values; `bgp.outbox` decides on them, `bgp.exatext` has the words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from bgp.model import Address, Family, Prefix, Route


@dataclass(frozen=True, slots=True)
class Announce:
    peers: tuple[Address, ...]
    route: Route

    @property
    def prefix(self) -> Prefix:
        return self.route.prefix


@dataclass(frozen=True, slots=True)
class Withdraw:
    peers: tuple[Address, ...]
    prefix: Prefix


@dataclass(frozen=True, slots=True)
class SendEndOfRib:
    """RFC 4724 2: the marker that closes the first batch of a session."""

    peer: Address
    family: Family

    @property
    def peers(self) -> tuple[Address]:
        return (self.peer,)


Command: TypeAlias = Announce | Withdraw | SendEndOfRib
