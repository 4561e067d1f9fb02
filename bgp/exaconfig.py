"""ExaBGP's configuration file for a set of peers, as text.

It refuses to write files, to hold routes (they travel by command) and to decide who peers with whom.

What it relies on (ExaBGP 5.0.15, each with a test in tests/live/test_exabgp_contract*.py):
- A `listen` port in a neighbor opens a socket on that neighbor's local address only, and each reload opens and closes
  sockets as the file says: no `exabgp.tcp.bind`, nothing is bound on other addresses, no peer means no socket.
- A neighbor that is the same in the new file keeps its session. Hold time, password, families, passive or ports
  changed: that session alone restarts and its routes are sent again. An address, an AS or the router id changed: a new
  neighbor with an empty table (`identity`).
- The name of an `api` section must be the only one of its kind in the file, and may not have a colon in it.
- `manual-eor` leaves End-of-RIB to us. `adj-rib-in false` halves the memory of a full table.
- A password in base64 can hold any character; quoting in this file cannot express all of them.
- RFC 8950 (IPv4 routes with IPv6 next hops) is not offered: no next hop of ours is of the other family, whatever family
  the session runs over.
- `negotiated` is not asked for: it would make every UPDATE's line 200 bytes longer and says nothing that both OPENs
  do not say.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from typing import Final, TypeAlias

from bgp.exatext import session
from bgp.model import BGP_PORT, Peer

PROCESS: Final = "bgpilot"
PASSWORD_MAX_BYTES: Final = 80
"""The kernel's limit for a TCP-MD5 key (TCP_MD5SIG_MAXKEYLEN)."""
HOLD_MIN_SECONDS: Final = 3
HOLD_MAX_SECONDS: Final = 0xFFFF
RESTART_MAX_SECONDS: Final = 4095

Identity: TypeAlias = str


def identity(peer: Peer) -> Identity:
    """Peers of equal identity are one neighbor to ExaBGP: its table survives the change of anything else."""
    return session(peer)


def refusal(peer: Peer) -> str | None:
    """Why ExaBGP would not take this peer, in words; None: it would. One such peer would spoil the whole file."""
    if peer.address.version != peer.local_address.version:
        return f"address {peer.address} and local address {peer.local_address} are not of one family"
    if peer.hold_seconds != 0 and not HOLD_MIN_SECONDS <= peer.hold_seconds <= HOLD_MAX_SECONDS:
        return f"hold time {peer.hold_seconds} is not 0 and not between {HOLD_MIN_SECONDS} and {HOLD_MAX_SECONDS} s"
    if not 1 <= peer.restart_seconds <= RESTART_MAX_SECONDS:
        return f"restart time {peer.restart_seconds} is not between 1 and {RESTART_MAX_SECONDS} s"
    if not peer.families:
        return "no address family"
    if peer.password is not None:
        length = len(peer.password.reveal().encode())
        if not 1 <= length <= PASSWORD_MAX_BYTES:
            return f"password of {length} bytes: TCP-MD5 takes 1 to {PASSWORD_MAX_BYTES}"
    return None


def configuration(peers: Iterable[Peer], *, bridge: Sequence[str], listen_port: int = BGP_PORT) -> str:
    """The whole file, the same text for the same peers in any order. It holds passwords: for a file of mode 0600.

    `bridge` is the command line of the API process. Raises ValueError for one that the file cannot express.
    """
    ordered = sorted(peers, key=lambda peer: (peer.address.version, int(peer.address)))
    return "\n".join([_process(bridge), *(_neighbor(peer, listen_port) for peer in ordered)])


def _process(bridge: Sequence[str]) -> str:
    if any('"' in word or "\\" in word or "\n" in word for word in bridge):
        raise ValueError(f"a path with a quote, backslash or line break: {bridge}")
    command = " ".join(f'"{word}"' for word in bridge)
    return f"process {PROCESS} {{\n  run {command};\n  encoder json;\n}}\n"


def _neighbor(peer: Peer, listen_port: int) -> str:
    lines = [
        f"router-id {peer.router_id};",
        f"local-address {peer.local_address};",
        f"local-as {peer.local_asn};",
        f"peer-as {peer.peer_asn};",
        f"hold-time {peer.hold_seconds};",
        f"passive {_truth(peer.passive)};",
        f"listen {listen_port};",
        f"connect {peer.port};",
        *_password(peer),
        "manual-eor true;",
        "adj-rib-in false;",
        "adj-rib-out true;",
        f"capability {{ asn4 enable; route-refresh enable; graceful-restart {peer.restart_seconds}; }}",
        f"family {{ {' '.join(f'{family} unicast;' for family in sorted(peer.families))} }}",
        f"api peer-{str(peer.address).replace(':', '-')} {{",
        f"  processes [ {PROCESS} ];",
        "  neighbor-changes; fsm;",
        "  receive { parsed; open; update; notification; refresh; }",
        "  send { parsed; open; notification; }",
        "}",
    ]
    return "\n".join([f"neighbor {peer.address} {{", *(f"  {line}" for line in lines), "}", ""])


def _password(peer: Peer) -> list[str]:
    if peer.password is None:
        return []
    encoded = base64.b64encode(peer.password.reveal().encode()).decode()
    return [f'md5-password "{encoded}";', "md5-base64 true;"]


def _truth(value: bool) -> str:
    return "true" if value else "false"
