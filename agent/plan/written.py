"""The router's address that is written down for this node: in a BGPPeer, or on the Node itself (`addressFrom`).

What stands on a Node has passed no schema. Nonsense there is a slip and not the wish to end a session, so the last
address goes on; a label or annotation that is taken away ends it. It refuses to look at routes and interfaces
(`agent.plan.external_router`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from agent.intent import ExternalPeer, NodeValue, router_in
from agent.model import Kind, Node
from agent.plan.picture import World, every
from bgp.model import Address


def text_at(where: NodeValue, labels: Mapping[str, str], annotations: Mapping[str, str]) -> str:
    """Empty: there is none."""
    return (annotations if where.annotation else labels).get(where.key, "")


def written_for(node: Node, world: World, before: Mapping[str, Address]) -> dict[str, Address]:
    """By BGPPeer that selects the node. `before`: the same of the plan before.

    Asked again with its own answer as `before`, it gives the same answer.
    """
    labels, annotations = dict(node.labels), dict(node.annotations)
    found = dict[str, Address]()
    for _, wanted in every(world, Kind.PEER, ExternalPeer):
        if not wanted.node_selector.matches(labels):
            continue
        address = _written(wanted, labels, annotations)
        if address is None and wanted.address_from is not None and text_at(wanted.address_from, labels, annotations):
            address = before.get(wanted.name)
        if address is not None:
            found[wanted.name] = address
    return found


def written_anywhere(node: Node, world: World) -> Iterator[Address]:
    """Of all BGPPeers, of other nodes' too, as far as the own Node says."""
    labels, annotations = dict(node.labels), dict(node.annotations)
    for _, wanted in every(world, Kind.PEER, ExternalPeer):
        if (address := _written(wanted, labels, annotations)) is not None:
            yield address


def _written(wanted: ExternalPeer, labels: Mapping[str, str], annotations: Mapping[str, str]) -> Address | None:
    if wanted.address_from is None:
        return wanted.address
    return router_in(text_at(wanted.address_from, labels, annotations))
