"""Mesh mode Auto while half of the agents look at a picture that is 30 s old: no pair of nodes loses its route.

No two agents ever talk about who reflects: each works it out from what it sees of the cluster. So while pictures differ
they disagree about who has a session with whom, and about what each session is. The changes here come faster than the
old pictures catch up: when the late ones see one, the others have already dealt with it, and with the next.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations

import pytest

from tests.lab.lossless import ENDED_SECONDS, Site
from tests.lab.minicluster import MiniCluster
from tests.lab.topology import Lab, Node
from tests.lab.wait import wait_until

pytestmark = pytest.mark.live

PICTURE_AGE_SECONDS = 30.0
LATE = (1, 4, 7)
"""Of the nodes 1 to 7: the first reflector of four nodes, one that never reflects, the second reflector of seven."""
WITNESS, LATE_WITNESS = 3, 4
"""Neither ever reflects."""
SMALL = {"mode": "Auto", "reflectors": {"threshold": 6}}
LARGE = {"mode": "Auto", "reflectors": {"threshold": 100}}
SEEN_SECONDS = 15.0
"""Within this all that are not held back have seen a change: well before the others."""


def test_no_pair_loses_its_route_while_half_of_the_agents_see_a_picture_half_a_minute_old(
    lab: Callable[..., Lab],
) -> None:
    built = lab(nodes=4, routers=0, families=("ipv4",))
    with MiniCluster(built) as cluster:
        site = Site(cluster)
        site.instance(mesh=SMALL)
        cluster.start()
        site.wait_pairs(*pairs_of(1, 2, 3, 4))

        joining = [built.add_node() for _ in range(3)]
        late = [str(built.node(number).address()) for number in LATE]
        cluster.api.hold_back(*late, seconds=PICTURE_AGE_SECONDS)

        with site.unharmed() as losses:
            # A mesh becomes reflectors, and both of these are new nodes.
            for node in joining:
                site.add(node)
            cluster.start(*joining)
            only_some_see(site, {5, 7})
            wait_until(cluster.meshed, within=ENDED_SECONDS)
            losses.watch_all()
            wait_until(lambda: "2-3" not in site.pairs(), within=ENDED_SECONDS, every=0.25)

            # Both leave within one picture's age: one is drained, one falls silent.
            site.node(built.node(5), {}, cordoned=True)
            only_some_see(site, {1, 7})
            site.node(built.node(7), {}, ready=False)
            only_some_see(site, {1, 2})
            wait_until(lambda: "3-5" not in site.pairs(), within=ENDED_SECONDS, every=0.25)

            # And a mesh again, in one step.
            site.instance(mesh=LARGE)
            only_some_see(site, set())
            site.wait_pairs(*pairs_of(*range(1, 8)))
            wait_until(lambda: not site.reflectors(), within=ENDED_SECONDS, every=0.25)


def pairs_of(*numbers: int) -> set[str]:
    return {f"{here}-{there}" for here, there in combinations(numbers, 2)}


def only_some_see(site: Site, numbers: set[int]) -> None:
    """The witness sees these nodes as reflectors while the late one still sees others."""
    lab = site.lab
    wait_until(lambda: reflectors_seen_by(site, lab.node(WITNESS)) == numbers, within=SEEN_SECONDS)
    assert reflectors_seen_by(site, lab.node(LATE_WITNESS)) != numbers


def reflectors_seen_by(site: Site, node: Node) -> set[int]:
    peers = site.cluster.agent(node).view("peers")["peers"].values()
    return {int(peer["name"].removeprefix("node/node-")) for peer in peers if peer["role"] == "reflector"}
