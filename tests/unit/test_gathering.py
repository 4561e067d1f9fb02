"""A reflector that has started says that it has told all when it has heard its clients, or after a while."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, ip_address

import pytest

from agent.carrying import UNHEARD_SECONDS, UNMET_SECONDS
from agent.gathering import Gathering
from agent.intent import PodRoutes
from agent.plan.model import Identity, NodePlan
from bgp.model import Family, Peer, SessionUp

CLIENT, SECOND, REFLECTOR, ROUTER = map(ip_address, ("192.0.2.3", "192.0.2.4", "192.0.2.5", "192.0.2.254"))
PLAIN = Peer(
    address=CLIENT,
    name="node/other",
    local_address=ip_address("192.0.2.2"),
    local_asn=64512,
    peer_asn=64512,
    router_id=IPv4Address("192.0.2.2"),
    families=frozenset({Family.IPV4}),
    mesh=True,
    client=True,
)
PEERS = (
    PLAIN,
    replace(PLAIN, address=SECOND),
    replace(PLAIN, address=REFLECTOR, client=False),
    replace(PLAIN, address=ROUTER, mesh=False, client=False, peer_asn=65000),
)
OWN = Identity(
    node="own",
    instance="",
    asn=64512,
    router_id=IPv4Address("192.0.2.2"),
    router_id_source="InternalIP",
    addresses=(PLAIN.local_address,),
    pod_cidrs=(),
    pod_routes=PodRoutes.BGP,
)
PLAN = NodePlan(identity=OWN, peers={peer.address: peer for peer in PEERS})
UP = SessionUp(peer=SECOND, router_id=None, peer_asn=64512, hold_seconds=90, families=frozenset({Family.IPV4}))
NODES = frozenset({CLIENT, SECOND, REFLECTOR})


class Sessions:
    def __init__(self, *up: SessionUp) -> None:
        self._up = {one.peer: one for one in up}

    def session(self, peer):
        return self._up.get(peer)


def test_no_node_is_told_that_this_is_all_before_every_client_has_been_heard() -> None:
    gathering = Gathering()

    assert gathering.look(0, PLAN, rib=Sessions(), synced=frozenset()) == NODES
    assert gathering.look(1, PLAN, rib=Sessions(), synced=frozenset({CLIENT, REFLECTOR})) == NODES
    assert gathering.look(2, PLAN, rib=Sessions(), synced=frozenset({CLIENT, SECOND})) == frozenset()
    assert gathering.look(3, PLAN, rib=Sessions(), synced=frozenset()) == frozenset(), "it is over"


@pytest.mark.parametrize(("up", "wait"), [((), UNMET_SECONDS), ((UP,), UNHEARD_SECONDS)], ids=["no session", "silent"])
def test_a_client_that_is_not_there_or_says_nothing_is_given_a_while(up, wait: float) -> None:
    gathering = Gathering()
    gathering.look(0, PLAN, rib=Sessions(*up), synced=frozenset({CLIENT}))

    assert gathering.next_look_at == wait
    assert gathering.look(wait - 0.1, PLAN, rib=Sessions(*up), synced=frozenset({CLIENT})) == NODES
    assert gathering.look(wait, PLAN, rib=Sessions(*up), synced=frozenset({CLIENT})) == frozenset()


def test_who_reflects_for_nobody_waits_for_nobody() -> None:
    plan = replace(PLAN, peers={peer.address: peer for peer in PEERS if not peer.client})

    assert Gathering().look(0, plan, rib=Sessions(), synced=frozenset()) == frozenset()
