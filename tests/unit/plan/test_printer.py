"""What the plan as text says of a session beyond its settings."""

from __future__ import annotations

from agent.plan.model import NodePlan
from agent.plan.printer import describe
from tests.unit.status.scene import MATE, TOR, peer


def test_a_parting_session_is_told_from_one_that_is_wanted() -> None:
    peers = {MATE: peer(MATE, "node/worker-2", 64512, mesh=True), TOR: peer(TOR, "BGPPeer/worker-2", 65000)}

    lines = describe(NodePlan(peers=peers, parting=frozenset({"worker-2"}))).splitlines()

    assert [line.split()[0] for line in lines if line.endswith(", PARTING")] == [str(MATE)]
