"""Which of the planned sessions are there: what the clocks of `agent.farewell` and `agent.departing` wait for.

And which are there that nobody can plan: with nodes whose Node was deleted while no agent was here.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Mapping

from agent.model import Key, Kind, Node
from agent.plan.model import NodePlan
from agent.plan.picture import World, every
from agent.plan.sessions import SessionClaim
from bgp.model import Address, Peer
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


def left_behind(
    world: World, rib: Rib, nodes_before: Callable[[Container[Address]], Iterable[Peer]]
) -> Mapping[str, SessionClaim]:
    """Sessions of an earlier life with nodes that are deleted, and may be taking leave: as if planned before.

    `nodes_before`: of these addresses, the nodes that there were sessions with before our time, as what peers.
    """
    known = {address for _, node in every(world, Kind.NODE, Node) for address in node.addresses}
    strangers = set(rib.peers()) - known
    sources = ((Key(Kind.NODE, "", peer.name.partition("/")[2]), peer) for peer in nodes_before(strangers))
    return {
        source.name: SessionClaim(created=0.0, source=source, address=peer.address, peer=peer, gone=True)
        for source, peer in sources
    }
