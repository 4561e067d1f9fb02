"""What an address or prefix is to which no route of BGP leads, and none is to: the node's own, connected, or of a kind
that is never routed.

Reads `Status` only; it refuses to follow routes (`agent.status.explain_route`).
"""

from __future__ import annotations

from collections.abc import Iterator

from agent.model import Key, Kind, Node
from agent.plan.links import reduce_links
from agent.plan.prefixes import host
from agent.status.hops import Hop
from agent.status.status import Status
from bgp.check import MARTIANS
from bgp.model import Address, Prefix


class Ground:
    """The addresses and subnets of one node."""

    def __init__(self, status: Status) -> None:
        self._node = status.node
        self._own = dict(_own_addresses(status))
        links, names = reduce_links(status.interfaces), {it.index: it.name for it in status.interfaces}
        self._subnets = {it.network: (names[it.interface], it.up) for it in reversed(links.subnets)}

    def ends_at(self, prefix: Prefix) -> bool:
        """Routes around `prefix` say nothing of what is in it."""
        return self.is_own(prefix) or prefix in self._subnets or prefix in MARTIANS

    def hops(self, asked: Prefix, at: Prefix) -> Iterator[Hop]:
        """What `asked` is, by the prefix around it at which routes end; nothing: they end nowhere."""
        place = f"node {self._node}"
        if self.is_own(at):
            yield self.own_hop(asked, neutral=False)
        elif at in self._subnets:
            device, up = self._subnets[at]
            what = "" if asked == at else f" is in {at}, which"
            text = f"{_name(asked)}{what} is connected on {device}{'' if up else ', which is down'}"
            taken = f"Nothing to do: {device} leads there, and no route of BGP to it is taken from a peer."
            fix = taken if up else f"Set {device} up."
            yield Hop(place, text, ok=False, reason="connectedSubnet", fix=fix)
        elif at in MARTIANS:
            text = f"{_name(asked)} is {MARTIANS[at]}: it is never routed"
            fix = f"Ask for another one: nothing of {at} is announced, or taken from a peer."
            yield Hop(place, text, ok=False, reason="martianPrefix", fix=fix)

    def own_hop(self, asked: Prefix, *, neutral: bool) -> Hop:
        device = self._own[asked.network_address]
        holder, on = (f"{device} of Node {self._node}", f", on {device}") if device else (f"Node {self._node}", "")
        text = f"{_name(asked)} is an address of this node{on}: what is for it ends here"
        fix = f"Nothing to do: it is that of {holder}, and no route of BGP to it is taken from a peer."
        return Hop(f"node {self._node}", text, ok=neutral, reason="ownAddress", fix=fix, neutral=neutral)

    def is_own(self, prefix: Prefix) -> bool:
        """It is one address, and the node's own."""
        return prefix.prefixlen == prefix.max_prefixlen and prefix.network_address in self._own


def _own_addresses(status: Status) -> Iterator[tuple[Address, str]]:
    """With the interface; those of the Node may be on none. Kube-proxy's IPVS mode keeps those of Services on an
    interface that is down.
    """
    node = status.nodes.get(Key(Kind.NODE, "", status.node))
    yield from ((address, "") for address in (node.addresses if isinstance(node, Node) else ()))
    for interface in status.interfaces:
        for found in interface.addresses:
            if not found.ip.is_loopback and (interface.up or found.network != host(found.ip)):
                yield found.ip, interface.name


def _name(prefix: Prefix) -> str:
    """A host's is its address."""
    return str(prefix.network_address if prefix.prefixlen == prefix.max_prefixlen else prefix)
