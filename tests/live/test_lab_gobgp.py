"""The lab's third router is a real one as well: GoBGP peers, learns both families, and is changed while it runs."""

from collections.abc import Callable

import pytest

from tests.lab.bird import Bird
from tests.lab.gobgp import GoBgp
from tests.lab.neighbor import Neighbor
from tests.lab.topology import Lab
from tests.lab.wait import wait_until

pytestmark = pytest.mark.live

OURS, OURS6 = "10.96.0.10/32", "fd96::10/128"
THEIRS = "198.51.100.0/24"


@pytest.mark.parametrize("dynamic", [False, True])
def test_gobgp_and_bird_learn_of_each_other_by_address_and_out_of_a_range(
    lab: Callable[..., Lab], *, dynamic: bool
) -> None:
    net = lab(nodes=1)
    node, place = net.node(1), net.router
    us, them = str(node.address()), str(place.address())
    at = str(place.subnet.networks["ipv4"]) if dynamic else us
    gobgp = GoBgp(
        place, asn=64600, router_id="10.99.0.1", neighbors=[Neighbor(at, 64512, passive=True)], announce=[THEIRS]
    )
    bird = Bird(node, asn=64512, router_id="10.99.1.1", neighbors=[Neighbor(them, 64600)], announce=[OURS, OURS6])

    wait_until(lambda: gobgp.established() == [us], within=60)
    wait_until(lambda: gobgp.routes("ipv4") == {THEIRS: [], OURS: [us]})
    wait_until(lambda: gobgp.routes("ipv6") == {OURS6: [str(node.address("ipv6"))]})
    wait_until(lambda: bird.routes("ipv4") == {THEIRS: [them]})

    gobgp.withdraw(THEIRS)
    wait_until(lambda: not bird.routes("ipv4"))


def test_a_change_of_one_neighbor_leaves_the_session_with_another_alone(lab: Callable[..., Lab]) -> None:
    net = lab(nodes=2, families=("ipv4",))
    sides = [Neighbor(str(node.address()), 64512, passive=True, families=("ipv4",)) for node in net.nodes.values()]
    gobgp = GoBgp(net.router, asn=64600, router_id="10.99.0.1", neighbors=sides)
    router = Neighbor(str(net.router.address()), 64600, families=("ipv4",))
    birds = [
        Bird(node, asn=64512, router_id=f"10.99.1.{node.index}", neighbors=[router]) for node in net.nodes.values()
    ]
    wait_until(lambda: len(gobgp.established()) == 2, within=60)

    gobgp.remove_neighbor(sides[1])
    wait_until(lambda: birds[1].established() == [])

    assert gobgp.neighbors() == {sides[0].address: "Established"}
    assert gobgp.process.output().count("Peer Up") == 2
