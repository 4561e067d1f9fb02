"""Which of the planned sessions are there: what the clocks of `agent.farewell` and `agent.departing` wait for."""

from __future__ import annotations

from collections.abc import Iterable

from agent.model import Key, Kind
from agent.plan.model import NodePlan
from agent.plan.picture import World
from bgp.rib import Rib


def has_met_all(plan: NodePlan, rib: Rib) -> bool:
    """There is a session with every peer that there may be one with."""
    return all(rib.session(peer.address) is not None for peer in plan.peers.values() if peer.held is None)


def mesh_in_place(plan: NodePlan, rib: Rib) -> bool:
    """Every session that is wanted with another node has brought all that the node had to say."""
    synced = rib.synced_peers()
    claims = (claim for name, claim in plan.mesh.items() if name not in plan.parting)
    return all(claim.address in synced for claim in claims if claim.peer.held is None)


def ended(plan: NodePlan, world: World, rib: Rib, names: Iterable[str]) -> frozenset[str]:
    """Those of the nodes that are deleted and have no session with us any more: they have taken leave, or are dead."""
    gone = (name for name in names if name in plan.mesh and world.get(Key(Kind.NODE, "", name)) is None)
    return frozenset(name for name in gone if rib.session(plan.mesh[name].address) is None)
