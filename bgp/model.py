"""The nouns of BGP that every room shares: families, peers, routes, paths, and what happens on a session.

Values only, all frozen. Addresses and prefixes are `ipaddress` objects from the parser to the wire; a prefix never has
host bits. Nothing here knows ExaBGP's language (`bgp.exatext`), Kubernetes or the kernel.
"""

from __future__ import annotations

import enum
import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final, NamedTuple, TypeAlias

Address: TypeAlias = IPv4Address | IPv6Address
Prefix: TypeAlias = IPv4Network | IPv6Network

BGP_PORT: Final = 179
DEFAULT_HOLD_SECONDS: Final = 90
DEFAULT_RESTART_SECONDS: Final = 120
DEFAULT_LOCAL_PREF: Final = 100
"""What a path without LOCAL_PREF counts as (every common implementation; RFC 4271 leaves it to policy)."""


ADDRESSES_KEPT: Final = 8_192


class _Heard4(IPv4Network):
    """Equal to the plain one, with its hash at hand: the standard one computes it in Python at each of ~50 look-ups."""

    __slots__ = ("_hash",)
    _hash: int

    def __init__(self, place: tuple[int, int]) -> None:
        super().__init__(place)
        self._hash = super().__hash__()

    def __hash__(self) -> int:
        return self._hash


class _Known4(IPv4Address):
    """Equal to the plain one, with its hash at hand: an address is part of every key of the Adj-RIBs-Out."""

    __slots__ = ("_hash",)
    _hash: int

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self._hash = super().__hash__()

    def __hash__(self) -> int:
        return self._hash


@functools.lru_cache(maxsize=ADDRESSES_KEPT)
def known_address(text: str) -> Address:
    """The address that this is, mostly the same object for the same text. ValueError for what is none."""
    address = ip_address(text)
    return _Known4(int(address)) if isinstance(address, IPv4Address) else address


def zone_of(address: Address) -> str:
    """The interface whose link a link-local address is on (RFC 4007), empty for all that need none."""
    return (address.scope_id or "") if isinstance(address, IPv6Address) else ""


def with_zone(address: Address, interface: str) -> IPv6Address:
    """`fe80::1%eth0`, which is not equal to `fe80::1` on another link."""
    return IPv6Address(f"{IPv6Address(int(address))}%{interface}")


def without_zone(address: Address) -> Address:
    """As it stands on the wire."""
    return IPv6Address(int(address)) if zone_of(address) else address


def by_number(address: Address) -> tuple[int, int, str]:
    """Sort key: IPv4 before IPv6, then numeric, then by link."""
    return address.version, int(address), zone_of(address)


def heard_prefix(text: str) -> Prefix:
    """A prefix as a peer wrote it: bits behind the length are dropped. ValueError for what is none.

    IPv4 in the usual form takes a third of the time that `ipaddress` needs.
    """
    address, _, length = text.partition("/")
    octets = address.split(".")
    if len(octets) != 4 or not text.isascii() or not (length + "".join(octets)).isdigit():
        return IPv6Network(text, strict=False) if ":" in text else IPv4Network(text, strict=False)
    first, second, third, fourth = map(int, octets)
    bits = int(length) if length else 32
    if bits > 32 or first > 255 or second > 255 or third > 255 or fourth > 255:
        return IPv4Network(text, strict=False)
    shift = 32 - bits
    return _Heard4(((first << 24 | second << 16 | third << 8 | fourth) >> shift << shift, bits))


class Family(enum.StrEnum):
    """Address family of unicast routes: (AFI 1, SAFI 1) and (AFI 2, SAFI 1)."""

    IPV4 = "ipv4"
    IPV6 = "ipv6"

    @classmethod
    def of(cls, thing: Address | Prefix) -> Family:
        return cls.IPV4 if thing.version == 4 else cls.IPV6


class Origin(enum.IntEnum):
    """ORIGIN, RFC 4271 5.1.1; the lower is preferred."""

    IGP = 0
    EGP = 1
    INCOMPLETE = 2


class Community(NamedTuple):
    """RFC 1997: two 16-bit halves."""

    asn: int
    value: int


class LargeCommunity(NamedTuple):
    """RFC 8092: three 32-bit fields."""

    admin: int
    data1: int
    data2: int


GRACEFUL_SHUTDOWN: Final = Community(0xFFFF, 0)
"""RFC 8326: who tells the route is about to go."""

AsPath: TypeAlias = tuple[int | frozenset[int], ...]
"""AS_SEQUENCE as numbers in order, each AS_SET as one frozenset (it counts as one hop, RFC 4271 9.1.2.2 a)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attributes:
    """Path attributes as they stand on the wire of one session (RFC 4271 5.1, RFC 4456, RFC 8092)."""

    origin: Origin = Origin.IGP
    as_path: AsPath = ()
    local_pref: int | None = None
    med: int | None = None
    communities: frozenset[Community] = frozenset()
    large_communities: frozenset[LargeCommunity] = frozenset()
    originator_id: IPv4Address | None = None
    cluster_list: tuple[IPv4Address, ...] = ()


PASSWORD_MAX_BYTES: Final = 80
"""The kernel's limit for a TCP-MD5 key (TCP_MD5SIG_MAXKEYLEN)."""


class Password:
    """A TCP-MD5 key (RFC 2385) that does not print itself: `reveal` is for the one place that writes the 0600 file."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        return self._value

    def __repr__(self) -> str:
        return "Password(…)"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Password) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)


@dataclass(frozen=True, slots=True)
class Held:
    """Why there is no session with a peer that is configured."""

    reason: str
    """Reason word, such as `secretMissing` or `shutdown`."""
    text: str = ""
    """What the peer is told if there is a session to end: Shutdown Communication (RFC 9003), at most 255 octets."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PrefixLimit:
    """How many prefixes of one family a peer may tell us (Cease 6/1, RFC 4486)."""

    prefixes: int
    warning_percent: int = 75
    restart_seconds: int | None = None
    """When to try again after a teardown. None: never, until the limit or the peer is changed."""
    warning_only: bool = False
    """True: keep the session whatever comes, and only say so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """One session wanted. Its identity is `address`: there is one session per remote address.

    A link-local one has its interface as zone (`fe80::1%eth0`), since routers on two links may have the same; so do the
    link-local next hops that such a peer tells. What is sent never has a zone, nor has `local_address`.
    """

    address: Address
    name: str
    """Who it is for people: `node/worker-2`, `BGPPeer/tor-a`."""
    local_address: Address
    local_asn: int
    peer_asn: int | None
    """None: any but ours, learned from its OPEN."""
    router_id: IPv4Address
    families: frozenset[Family]
    passive: bool = False
    """True: we listen and never dial."""
    port: int = BGP_PORT
    """TCP port dialed; not used when passive."""
    hold_seconds: int = DEFAULT_HOLD_SECONDS
    restart_seconds: int = DEFAULT_RESTART_SECONDS
    """Restart time of our graceful restart capability (RFC 4724 3), 1–4095."""
    password: Password | None = None
    mesh: bool = False
    """True: another node of the cluster."""
    held: Held | None = None
    """Set: configured, but there must be no session."""
    description: str = ""
    listen_port: int = BGP_PORT
    """TCP port on which we listen for it, at `local_address`."""
    keepalive_seconds: int | None = None
    """None: a third of the hold time negotiated (RFC 4271 10)."""
    connect_retry_seconds: int | None = None
    """Longest delay between two dials. None: by how long the peer has been away."""
    multihop: int | None = None
    """TTL of what we send to an eBGP peer that is not on our link. None: what the kernel does."""
    ttl_security_hops: int | None = None
    """GTSM (RFC 5082): send with TTL 255, take nothing with a TTL below 256 minus this."""
    source_interface: str = ""
    """Interface that the session is bound to. Empty: as the kernel routes."""
    allowas_in: int = 0
    """How often our own AS may stand in the AS_PATH of what it tells."""
    extended_next_hop: bool = False
    """Offer and take IPv4 routes with IPv6 next hops (RFC 8950)."""
    prefix_limits: tuple[tuple[Family, PrefixLimit], ...] = ()
    client: bool = False
    """True: we are a route reflector, and it is our client (RFC 4456)."""
    forwarding_lost: bool = False
    """Our OPEN says so, by F bits that are clear (RFC 4724 3): the peer drops what it has kept of ours."""

    @property
    def internal(self) -> bool:
        """IBGP (RFC 4271 1.1)."""
        return self.local_asn == self.peer_asn


@dataclass(frozen=True, slots=True)
class Route:
    """One route as it is announced on one session: the attributes go out verbatim, nothing is added later."""

    prefix: Prefix
    next_hop: Address
    attributes: Attributes = field(default_factory=Attributes)


class RouteKey(NamedTuple):
    """One place of the Adj-RIBs-Out: what the peer at `peer` is told about `prefix`."""

    peer: Address
    prefix: Prefix


@dataclass(frozen=True, slots=True)
class SpeakerPlan:
    """All that ExaBGP should be and say. The mappings may be live views of the planner: read, never kept or changed."""

    peers: Mapping[Address, Peer]
    routes: Mapping[RouteKey, Route]


@dataclass(frozen=True, slots=True)
class Path:
    """What a peer said about some prefixes: one value shared by every prefix of the same UPDATE."""

    peer: Address
    next_hop: Address
    attributes: Attributes


# What the speaker reports: everything that comes in from peers, in the order it came.


@dataclass(frozen=True, slots=True)
class PathsHeard:
    """UPDATE (or several joined): withdrawals are meant first, then announcements."""

    peer: Address
    withdrawn: tuple[Prefix, ...] = ()
    announced: tuple[tuple[Path, tuple[Prefix, ...]], ...] = ()
    malformed: str = ""
    """What was wrong with it, when what it announced is withdrawn for that (RFC 7606)."""


@dataclass(frozen=True, slots=True)
class EndOfRib:
    """RFC 4724 2: the peer has sent all it had of this family when the session came up."""

    peer: Address
    family: Family


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionUp:
    """Session established, or to be heard anew: what was heard before holds only until the peer has sent all it has."""

    peer: Address
    router_id: IPv4Address | None
    peer_asn: int
    hold_seconds: int
    families: frozenset[Family]
    """Negotiated: both sides have it."""
    restart_seconds: int | None = None
    """The peer's graceful restart time, None when it has no such capability."""
    restart_families: frozenset[Family] = frozenset()
    """Families whose paths the peer asks us to keep while it restarts (RFC 4724 4.2)."""
    restarting: bool = False
    """The peer's R bit."""
    forwarding_kept: frozenset[Family] = frozenset()
    """The peer's F bits."""
    extended_next_hop: bool = False
    """Negotiated: IPv4 routes may have IPv6 next hops, in both directions (RFC 8950)."""
    offered: frozenset[Family] = frozenset(Family)
    """By us: what may be missed of the peer. A family that is wanted since then comes with the next session."""
    extended_next_hop_offered: bool = True
    route_refresh: bool = False
    """The peer sends everything again when it is asked to (RFC 2918)."""


@dataclass(frozen=True, slots=True)
class SessionDown:
    """An established session ended, or (when it was not up) an attempt failed."""

    peer: Address
    reason: str
    without_notification: bool = False
    """The transport ended, and neither side said why: the peer may be restarting (RFC 4724 4.2)."""
    was_up: bool = True
    """False: an attempt failed."""
    returning: bool = False
    """With another node, still wanted, that has not said that it forwards no more: the session comes again."""
    begun_anew: bool = False
    """With a router, still wanted: we have ended it ourselves, for another setting; the router does nothing new."""


@dataclass(frozen=True, slots=True)
class PeerRemoved:
    """ExaBGP has this peer no more: nothing that it said counts."""

    peer: Address
    replaced: bool = False
    """It has another one of the same address, whose session is to come: we have restarted, as far as the peer goes."""


@dataclass(frozen=True, slots=True)
class SpeakerLost:
    """ExaBGP is gone, and every session with it: the peers have not done anything."""

    reason: str


BgpEvent: TypeAlias = PathsHeard | EndOfRib | SessionUp | SessionDown | PeerRemoved | SpeakerLost


class SessionState(enum.StrEnum):
    """RFC 4271 8.2.2."""

    IDLE = "Idle"
    CONNECT = "Connect"
    ACTIVE = "Active"
    OPEN_SENT = "OpenSent"
    OPEN_CONFIRM = "OpenConfirm"
    ESTABLISHED = "Established"


class Direction(enum.StrEnum):
    """Who ended it: a NOTIFICATION we sent or received, or the transport (`local`: no NOTIFICATION was seen)."""

    SENT = "sent"
    RECEIVED = "received"
    LOCAL = "local"


@dataclass(frozen=True, slots=True)
class SessionError:
    """The last reason a session ended or did not come up.

    `code` and `subcode` are those of RFC 4271 4.5, and 0 when no NOTIFICATION was seen.
    """

    direction: Direction
    code: int
    subcode: int
    text: str
    at: float
    """Monotonic seconds."""
    count: int = 1
    """How often in a row the same error came."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerState:
    """What is known of one configured session now."""

    state: SessionState = SessionState.IDLE
    since: float = 0.0
    """Monotonic seconds of the last change between established and not; 0: never established."""
    up: SessionUp | None = None
    """What was negotiated, while established."""
    flaps: int = 0
    """How often an established session was lost."""
    last_error: SessionError | None = None
    synced: frozenset[Family] = frozenset()
    """Families whose End-of-RIB has come on this session."""
