"""ExaBGP's configuration file for a set of peers, as text.

It refuses to write files, to hold routes (they travel by command) and to decide who peers with whom.

A peer that is held has no neighbor in it, only a comment with what it is told if it has a session now
(`bgp.inside.extras`). What ExaBGP has no words for travels in a neighbor's description, which is read by our
replacements in it (`bgp.inside.extras`, `bgp.inside.patches`): a change of the description alone restarts nothing.

What it relies on (ExaBGP 5.0.15, each with a test in tests/live/test_exabgp_contract*.py):
- A `listen` port in a neighbor opens a socket on that neighbor's local address only, and each reload opens and closes
  sockets as the file says: no `exabgp.tcp.bind`, nothing is bound on other addresses, no peer means no socket.
- A neighbor that is the same in the new file keeps its session. Hold time, password, families, passive or ports
  changed: that session alone restarts and its routes are sent again. An address, an AS or the router id changed: a new
  neighbor with an empty table (`identity`).
- `peer-as auto` takes any AS, and is the word to select the session by; what else it breaks is mended
  (`bgp.inside.patches`).
- Without `outgoing-ttl` packets leave with the kernel's TTL (64, net.ipv4.ip_default_ttl), eBGP or not: a peer further
  away is reached without `multihop`, unless it drops what has come too far or answers with a TTL of 1, as FRR does.
- `incoming-ttl 256 - n` with no `outgoing-ttl` sends with 255.
- A number of `connect` and `listen` per neighbor; two neighbors may share a listening socket.
- `nexthop { ipv4 unicast ipv6; }` is dropped without a word unless IPv6 is a family of the neighbor (mended).
- A zone is a syntax error; the interface of a link-local neighbor is its `source-interface`. In events and commands it
  has its zone nevertheless, by our doing (`bgp.inside.zones`).
- The name of an `api` section must be the only one of its kind in the file, and may not have a colon in it.
- `manual-eor` leaves End-of-RIB to us. `adj-rib-in false` halves the memory of a full table.
- A password in base64 can hold any character; quoting in this file cannot express all of them.
- `negotiated` is not asked for: it would make every UPDATE's line 200 bytes longer and says nothing that both OPENs
  do not say.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, TypeAlias

from bgp.exatext import session
from bgp.inside.extras import ADMINISTRATIVE_SHUTDOWN, Extras, Farewell, description, farewell_line
from bgp.model import PASSWORD_MAX_BYTES, Address, Family, Held, Peer, by_number, without_zone, zone_of

PROCESS: Final = "bgpilot"
HOLD_MIN_SECONDS: Final = 3
HOLD_MAX_SECONDS: Final = 0xFFFF
RESTART_MAX_SECONDS: Final = 4095
RETRY_MAX_SECONDS: Final = 0xFFFF
TTL_MAX: Final = 255
PORT_MAX: Final = 0xFFFF

MAX_PREFIXES_EXCEEDED: Final = "maxPrefixesExceeded"
CEASES: Final = {MAX_PREFIXES_EXCEEDED: 1}
"""Reason word of Held → subcode of Cease (RFC 4486). Any other: Administrative Shutdown, with the text of Held."""

_INTERFACE: Final = re.compile(r"[A-Za-z0-9_.:@+=~-]{1,15}")
"""What Linux takes as a name (IFNAMSIZ) and ExaBGP's file needs no quoting for."""

COMMANDS: Final = (
    *("crash", "disable-ack", "enable-ack", "help", "reload", "reset", "restart", "shutdown", "silence-ack"),
    *("teardown", "version"),
)
"""Of one word: ExaBGP finds them by substring, before a space, and so at the end of an address with its zone."""

Identity: TypeAlias = str


def identity(peer: Peer) -> Identity:
    """Peers of equal identity are one neighbor to ExaBGP: its table survives the change of anything else."""
    return session(peer)


def refusal(peer: Peer) -> str | None:
    """Why ExaBGP would not take this peer, in words; None: it would. One such peer would spoil the whole file."""
    return next(_refusals(peer), None)


def _refusals(peer: Peer) -> Iterator[str]:
    if peer.address.version != peer.local_address.version:
        yield f"address {peer.address} and local address {peer.local_address} are not of one family"
    if peer.hold_seconds != 0 and not HOLD_MIN_SECONDS <= peer.hold_seconds <= HOLD_MAX_SECONDS:
        yield f"hold time {peer.hold_seconds} is not 0 and not between {HOLD_MIN_SECONDS} and {HOLD_MAX_SECONDS} s"
    if not 1 <= peer.restart_seconds <= RESTART_MAX_SECONDS:
        yield f"restart time {peer.restart_seconds} is not between 1 and {RESTART_MAX_SECONDS} s"
    if not peer.families:
        yield "no address family"
    if peer.password is not None:
        length = len(peer.password.reveal().encode())
        if not 1 <= length <= PASSWORD_MAX_BYTES:
            yield f"password of {length} bytes: TCP-MD5 takes 1 to {PASSWORD_MAX_BYTES}"
    yield from _number_refusals(peer)
    yield from _link_refusals(peer)


def _number_refusals(peer: Peer) -> Iterator[str]:
    for what, port in (("port", peer.port), ("listen port", peer.listen_port)):
        if not 1 <= port <= PORT_MAX:
            yield f"{what} {port} is not between 1 and {PORT_MAX}"
    for what, seconds in (("keepalive", peer.keepalive_seconds), ("connect retry", peer.connect_retry_seconds)):
        if seconds is not None and not 1 <= seconds <= RETRY_MAX_SECONDS:
            yield f"{what} time {seconds} is not between 1 and {RETRY_MAX_SECONDS} s"


def _link_refusals(peer: Peer) -> Iterator[str]:
    for what, hops in (("multihop", peer.multihop), ("TTL security", peer.ttl_security_hops)):
        if hops is not None and not 1 <= hops < TTL_MAX:
            yield f"{what} of {hops} hops is not between 1 and {TTL_MAX - 1}"
    if peer.multihop is not None and peer.ttl_security_hops is not None:
        yield "multihop and TTL security exclude each other: the one sends with a low TTL, the other with 255"
    if peer.source_interface and not _INTERFACE.fullmatch(peer.source_interface):
        yield f"source interface {peer.source_interface!r} is no interface's name"
    yield from _zone_refusals(peer)


def _zone_refusals(peer: Peer) -> Iterator[str]:
    zone = zone_of(peer.address)
    if zone_of(peer.local_address):
        yield f"local address {peer.local_address} names an interface: that is the source interface's to do"
    if zone and not peer.address.is_link_local:
        yield f"address {peer.address} names an interface, and is not link-local"
    if peer.address.version == 6 and peer.address.is_link_local:
        if not zone or zone != peer.source_interface:
            yield f"link-local address {peer.address} needs its interface as zone and as source interface"
        if peer.passive:
            yield f"link-local address {peer.address} must be dialed: nothing can listen without naming the link"
        if zone.endswith(COMMANDS):
            yield f"the name of interface {zone} ends like a command of ExaBGP, which would be carried out"


def configuration(peers: Iterable[Peer], *, bridge: Sequence[str]) -> str:
    """The whole file, the same text for the same peers in any order. It holds passwords: for a file of mode 0600."""
    return "\n".join(sections(peers, bridge=bridge))


def sections(peers: Iterable[Peer], *, bridge: Sequence[str]) -> Iterator[str]:
    """The file in pieces, for lines between them.

    `bridge` is the command line of the API process. Raises ValueError for one that the file cannot express.
    """
    yield _process(bridge)
    yield from map(neighbor, sorted(peers, key=lambda peer: by_number(peer.address)))


def _process(bridge: Sequence[str]) -> str:
    if any('"' in word or "\\" in word or "\n" in word for word in bridge):
        raise ValueError(f"a path with a quote, backslash or line break: {bridge}")
    command = " ".join(f'"{word}"' for word in bridge)
    return f"process {PROCESS} {{\n  run {command};\n  encoder json;\n}}\n"


def neighbor(peer: Peer) -> str:
    """What of the file is about this peer."""
    if peer.held is not None:
        return f"{farewell_line(str(peer.address), _farewell(peer.held))}\n"
    lines = [
        f"router-id {peer.router_id};",
        f"local-address {peer.local_address};",
        f"local-as {peer.local_asn};",
        f"peer-as {'auto' if peer.peer_asn is None else peer.peer_asn};",
        f"hold-time {peer.hold_seconds};",
        f"passive {_truth(peer.passive)};",
        *_transport(peer),
        *_password(peer),
        *_extras(peer),
        "manual-eor true;",
        "adj-rib-in false;",
        "adj-rib-out true;",
        *_capabilities(peer),
        f"api {_api_name(peer.address)} {{",
        f"  processes [ {PROCESS} ];",
        "  neighbor-changes; fsm;",
        "  receive { parsed; open; update; notification; refresh; }",
        "  send { parsed; open; notification; }",
        "}",
    ]
    return "\n".join([f"neighbor {without_zone(peer.address)} {{", *(f"  {line}" for line in lines), "}", ""])


def _api_name(address: Address) -> str:
    """Two names of interfaces may differ in a character that cannot stand here."""
    name = f"peer-{str(without_zone(address)).replace(':', '-')}"
    return f"{name}-{zone.encode().hex()}" if (zone := zone_of(address)) else name


def _farewell(held: Held) -> Farewell:
    subcode = CEASES.get(held.reason, ADMINISTRATIVE_SHUTDOWN)
    return Farewell(subcode, held.text if subcode == ADMINISTRATIVE_SHUTDOWN else "")


def _transport(peer: Peer) -> Iterator[str]:
    if not zone_of(peer.address):  # a socket cannot listen there without naming the link
        yield f"listen {peer.listen_port};"
    yield f"connect {peer.port};"
    if peer.source_interface:
        yield f"source-interface {peer.source_interface};"
    if peer.multihop is not None:
        yield f"outgoing-ttl {peer.multihop};"
    if peer.ttl_security_hops is not None:
        yield f"incoming-ttl {TTL_MAX + 1 - peer.ttl_security_hops};"


def _password(peer: Peer) -> Iterator[str]:
    if peer.password is not None:
        encoded = base64.b64encode(peer.password.reveal().encode()).decode()
        yield f'md5-password "{encoded}";'
        yield "md5-base64 true;"


def _extras(peer: Peer) -> Iterator[str]:
    name = peer.name.partition("/")[2] if peer.mesh else ""
    extras = Extras(peer.keepalive_seconds, peer.connect_retry_seconds, peer.mesh, peer.forwarding_lost, name)
    if told := description(extras):
        yield f'description "{told}";'


def _capabilities(peer: Peer) -> Iterator[str]:
    extended = peer.extended_next_hop and Family.IPV4 in peer.families
    more = " nexthop enable;" if extended else ""
    yield f"capability {{ asn4 enable; route-refresh enable; graceful-restart {peer.restart_seconds};{more} }}"
    yield f"family {{ {' '.join(f'{family} unicast;' for family in sorted(peer.families))} }}"
    if extended:
        yield "nexthop { ipv4 unicast ipv6; }"


def _truth(value: bool) -> str:
    return "true" if value else "false"
