"""Replacements in ExaBGP: neighbors with link-local addresses, which one address alone does not tell apart.

They run inside ExaBGP; `bgp.inside.launcher` puts each in its place and hands it what it replaces. Each is one
function, says what is wrong without it, and has a test in tests/live/test_exabgp_contract_zones.py (seen with ExaBGP
5.0.15). It refuses to import ExaBGP.

Routers on different links often have the same link-local address (`fe80::1`). ExaBGP's configuration has no words for
an address with its link: `neighbor fe80::1%eth0` is a syntax error, and the link is the neighbor's `source-interface`.
In all else that it says and is told, the address stands as people write it, `fe80::1%eth0` (RFC 4007 11).
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from typing import Any, Final

_LINK_LOCAL: Final = re.compile(r"fe[89ab][0-9a-f]:", re.IGNORECASE)

Method = Callable[..., Any]


def zoned(neighbor: Any) -> str:
    """The address of the peer, with its interface if it is link-local."""
    address, interface = str(neighbor["peer-address"]), neighbor["source-interface"]
    return f"{address}%{interface}" if interface and _LINK_LOCAL.match(address) else address


def name_with_zone(name: Method) -> Method:
    """Around `Neighbor.name`, by which ExaBGP keeps its neighbors and commands select them.

    Without it the second of two neighbors with one address, the same local address (VLANs of one card have that) and
    the same AS would take the place of the first.
    """

    @functools.wraps(name)
    def _name(self: Any) -> str:
        address, text = str(self["peer-address"]), str(name(self))
        return text.replace(f"neighbor {address} ", f"neighbor {zoned(self)} ", 1)

    return _name


def write_zone(neighbor: Method) -> Method:
    """Around `JSON._neighbor`: without it nobody could tell whose event it is."""

    @functools.wraps(neighbor)
    def _neighbor(self: Any, peer: Any, direction: str, content: str) -> str:
        text: str = neighbor(self, peer, direction, content)
        return text.replace(f'"peer": "{peer["peer-address"]}"', f'"peer": "{zoned(peer)}"', 1)

    return _neighbor


def show_zone(cli_data: Method) -> Method:
    """Around `Peer.cli_data`, of which `show neighbor` is made."""

    @functools.wraps(cli_data)
    def _cli_data(self: Any) -> Any:
        return {**cli_data(self), "peer-address": zoned(self.neighbor)}

    return _cli_data
