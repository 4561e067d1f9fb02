"""Other nodes, read back from a configuration file of ExaBGP's that an agent has written.

For an agent that finds an ExaBGP at work: what that was given by the agent before stands in the file, and nowhere else.
It refuses to do I/O, and to take for known what is not: only a neighbor that would be written again as it stands there
is found, so that to have the same peer again changes nothing for its session.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Container, Iterator
from ipaddress import IPv4Address, ip_address
from typing import Final

from bgp.exaconfig import neighbor
from bgp.inside.extras import read_description
from bgp.model import Address, Family, Password, Peer

_NEIGHBOR: Final = re.compile(r"^neighbor (\S+) \{\n(.*?)^\}\n", re.MULTILINE | re.DOTALL)
_SAID: Final = re.compile(r'^  ([a-z0-9-]+) "?([^"\n]*)"?;$', re.MULTILINE)
_RESTART: Final = re.compile(r"graceful-restart (\d+);")
_FAMILIES: Final = re.compile(r"^  family \{ (.*) \}$", re.MULTILINE)


def nodes(text: str, wanted: Container[Address]) -> Iterator[Peer]:
    """The other nodes in it that are at these addresses."""
    for found in _NEIGHBOR.finditer(text):
        try:
            peer = _node(ip_address(found[1]), found[2]) if ip_address(found[1]) in wanted else None
        except (ValueError, KeyError):  # of another version, or of another hand
            continue
        if peer is not None and neighbor(peer) == found[0]:
            yield peer


def _node(address: Address, text: str) -> Peer | None:
    said = dict(_SAID.findall(text))
    extras = read_description(said.get("description", ""))
    restart, families = _RESTART.search(text), _FAMILIES.search(text)
    if not extras.name or restart is None or families is None:
        return None
    password = said.get("md5-password")
    return Peer(
        address=address,
        name=f"node/{extras.name}",
        local_address=ip_address(said["local-address"]),
        local_asn=int(said["local-as"]),
        peer_asn=int(said["peer-as"]),
        router_id=IPv4Address(said["router-id"]),
        families=frozenset(family for family in Family if f"{family} unicast;" in families[1]),
        passive=said["passive"] == "true",
        port=int(said["connect"]),
        listen_port=int(said["listen"]),
        hold_seconds=int(said["hold-time"]),
        restart_seconds=int(restart[1]),
        password=None if password is None else Password(base64.b64decode(password).decode()),
        mesh=True,
        keepalive_seconds=extras.keepalive_seconds,
        connect_retry_seconds=extras.connect_retry_seconds,
    )
