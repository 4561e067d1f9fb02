"""Follows one node up to its pod CIDRs: its Node object, what is wrong with it, and this node's part in BGP or its
sessions with it.

Reads `Status` only; it refuses to follow the pod CIDRs (`agent.status.explain`).
"""

from __future__ import annotations

from collections.abc import Iterator

from agent.model import Key, Kind, Node
from agent.status.explain_absent import no_bgp_hops
from agent.status.explain_peer import peer_hops
from agent.status.hops import Hop
from agent.status.status import Status
from agent.status.weights import Weight, weight_of

_PREFIX = f"{Kind.NODE} "


def node_named(status: Status, name: str) -> Node | None:
    """`worker-1` or `Node worker-1`."""
    found = status.nodes.get(Key(Kind.NODE, "", name.removeprefix(_PREFIX)))
    return found if isinstance(found, Node) else None


def node_hops(status: Status, node: Node) -> Iterator[Hop]:
    place = f"{_PREFIX}{node.name}"
    addresses, cidrs = (", ".join(map(str, some)) or "none" for some in (node.addresses, node.pod_cidrs))
    yield Hop(place, f"the object exists; InternalIP {addresses}; pod CIDR {cidrs}")
    none = list(no_bgp_hops(status))
    yield from none
    said = {hop.reason for hop in none}
    about = (it for it in status.problems if it.subject == place and it.reason not in said)
    for it in sorted(about, key=lambda it: (it.reason, it.message)):
        note = weight_of(it.reason) is Weight.NOTE
        yield Hop(place, it.message, ok=note, reason=it.reason, fix=it.fix, neutral=note)
    if not none:
        yield from _own(status) if node.name == status.node else _other(status, place, node.name)


def _own(status: Status) -> Iterator[Hop]:
    identity = status.plan.identity
    if identity is not None:
        up = sum(status.is_up(peer.address) for peer in status.sessions())
        what = f"AS {identity.asn}, router id {identity.router_id}; {up} of {len(status.plan.peers)} sessions are up"
        yield Hop("BGP", what)


def _other(status: Status, place: str, name: str) -> Iterator[Hop]:
    sessions = [peer for peer in status.sessions() if peer.mesh and peer.name == f"node/{name}"]
    for peer in sessions:
        yield from peer_hops(status, peer)
    if not sessions:
        yield Hop(place, "no session with it is wanted: reflectors or routers carry its routes, if it is in BGP at all")
