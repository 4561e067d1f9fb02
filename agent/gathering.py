"""When a route reflector that has started may say that it has told all (End-of-RIB).

Its clients have each other's routes from it alone, and keep them while it is away. At End-of-RIB they drop what it has
not told again; so that comes when it has heard all from its clients, and passed it on (RFC 4724 4.1), or after a while:
some may be away. One that the kernel still has pod routes of may be restarting as well: it is given as long as this
node itself goes on forwarding to it. Clients wait for nobody, so nobody waits for ever. Routers are told nothing of it,
and do not wait.

It plans nothing and tells nobody.
"""

from __future__ import annotations

from collections.abc import Container, Iterator
from collections.abc import Set as AbstractSet

from agent.carrying import UNHEARD_SECONDS, UNMET_SECONDS, Rib, pod_routes
from agent.model import FibKey
from agent.plan.model import NodePlan
from agent.plan.picture import World
from agent.sweeping import SWEEP_CAP_SECONDS
from bgp.model import Address


class Gathering:
    __slots__ = ("_since", "is_over", "next_look_at")

    def __init__(self) -> None:
        self.is_over = False
        self.next_look_at: float | None = None
        """When it may be over although nothing happens."""
        self._since: float | None = None

    def look(
        self,
        now: float,
        plan: NodePlan,
        world: World,
        *,
        kernel: Container[FibKey],
        rib: Rib,
        synced: AbstractSet[Address],
    ) -> frozenset[Address]:
        """To whom End-of-RIB waits. `synced`: who has sent all they have, of which all is planned."""
        if self.is_over or plan.identity is None:
            return frozenset()
        self._since = now if self._since is None else self._since
        asked = [peer for peer in plan.peers.values() if peer.mesh and peer.held is None]
        unheard = {peer.address for peer in asked if peer.client and peer.address not in synced}
        wait = UNHEARD_SECONDS if any(map(rib.session, unheard)) else UNMET_SECONDS
        if unheard and not unheard.isdisjoint(_forwarded_to(plan, world, kernel)):
            wait = SWEEP_CAP_SECONDS
        if not unheard or now >= self._since + wait:
            self.is_over, self.next_look_at = True, None
            return frozenset()
        self.next_look_at = self._since + wait
        return frozenset(peer.address for peer in asked)


def _forwarded_to(plan: NodePlan, world: World, kernel: Container[FibKey]) -> Iterator[Address]:
    """The nodes that are Ready, and that the kernel has a pod route of."""
    for node, there in pod_routes(plan, world, kernel):
        if there and node in plan.mesh:
            yield plan.mesh[node].address
