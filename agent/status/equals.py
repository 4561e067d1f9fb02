"""Why an admitted path is not used: another one is better, or more are equally good than may be used at once.

Asks `bgp.bestpath` again, with the same facts as the plan. Reads `Status` only.
"""

from __future__ import annotations

from agent.model import LEARNED_METRIC, FibKey
from agent.plan.imports import peer_info
from agent.status.status import Status
from bgp.bestpath import PeerInfo, best
from bgp.model import Address, Path, Prefix, RouteKey

NOT_BEST = "notBest"
MAXIMUM_PATHS = "maximumPathsReached"


def why_not_used(status: Status, path: Path, prefix: Prefix) -> str:
    """The reason word, of an admitted path that is not among those that the kernel should have."""
    found = status.rib.paths(prefix)
    admitted = [
        one
        for address, one in found.items()
        if address in status.plan.peers and RouteKey(address, prefix) not in status.plan.refused_in
    ]
    equals = best(admitted, peer_of=lambda address: _info(status, address), limit=len(admitted))
    good = {one.next_hop for one in equals}
    route = status.plan.fib.get(FibKey(prefix, LEARNED_METRIC))
    used = {hop.gateway for hop in route.next_hops} if route is not None else set[Address]()
    return MAXIMUM_PATHS if path.next_hop in good and used <= good else NOT_BEST


def _info(status: Status, address: Address) -> PeerInfo:
    rib = status.rib
    return peer_info(status.plan.peers[address], rib.heard_on(address), away=rib.is_away(address))
