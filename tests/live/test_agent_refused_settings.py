"""Settings over which the two sides of a session do not agree: what we say of it names cause and fix."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.lab.bird import Bird
from tests.lab.frr import Frr
from tests.lab.gobgp import GoBgp
from tests.lab.minicluster import CLUSTER_ASN, ROUTER_ASN
from tests.lab.refused import KINDS, REFUSED_SECONDS, Router, Scene, refusing
from tests.lab.wait import wait_until

pytestmark = pytest.mark.live


@pytest.fixture(scope="module", params=KINDS, ids=lambda kind: kind.__name__.lower())
def built(request: pytest.FixtureRequest) -> Iterator[Scene]:
    with refusing(request.param) as scene:
        yield scene


@pytest.fixture
def scene(built: Scene) -> Iterator[Scene]:
    yield built
    built.begin_anew()


def test_the_router_is_in_another_as_than_we_believe(scene: Scene) -> None:
    scene.neighbor()
    scene.peer(asn=64999)

    scene.refused("sent 2/2 ", fix="Correct `asn` of BGPPeer tor")
    assert str(ROUTER_ASN) in scene.row()["last_error"]["text"]
    scene.router_says(
        frr="2/2 (OPEN Message Error/Bad Peer AS)",
        bird="Received: Bad peer AS",
        gobgp="Closed an accepted connection",
    )


def test_the_router_believes_us_to_be_in_another_as(scene: Scene) -> None:
    scene.neighbor(asn=64777)
    scene.peer()

    scene.refused("received 2/2 Bad Peer AS", fix=f"neighbor statement for {scene.us} (remote-as {CLUSTER_ASN})")
    scene.never_established()
    scene.router_says(frr="remote AS 64777", bird="Bad peer AS", gobgp="Code=2 Subcode=2")


def test_no_family_in_common(scene: Scene) -> None:
    scene.neighbor(families=("ipv6",))
    scene.peer()

    fix = f"Activate ipv4 in the router's neighbor statement for {scene.us}"
    if isinstance(scene.router, GoBgp):
        scene.lacking("noCommonFamily", "no address family in common", fix=fix)  # it has a session all the same
    else:
        scene.refused("no address family in common", fix=fix)
        scene.never_established()


def test_a_family_that_the_router_does_not_speak(scene: Scene) -> None:
    scene.neighbor()
    scene.peer(families=("IPv4", "IPv6"))

    fix = f"Activate ipv6 in the router's neighbor statement for {scene.us}"
    scene.lacking("familyNotNegotiated", "the session does not carry ipv6", fix=fix)
    agent = scene.cluster.agent(scene.lab.node(1))
    wait_until(lambda: agent.view("status")["degraded"] == ["familyNotNegotiated"])


def test_an_administrator_shuts_the_session_down_and_says_why(scene: Scene) -> None:
    scene.neighbor()
    scene.peer()
    wait_until(lambda: scene.router.established() == [scene.us] and scene.row()["is_up"], within=REFUSED_SECONDS)

    shut_down(scene.router, scene.us, "rack 7 moves")

    scene.refused("received 6/2 ", fix="the session comes back when the shutdown is removed")
    if isinstance(scene.router, GoBgp):  # its command (4.8.0) takes a reason, and sends none
        assert "has been shut down by its administrator. Fix: " in scene.table()
        scene.logged("received 6/2 Administrative Shutdown")
    else:
        assert 'who says "rack 7 moves"' in scene.explained()
        scene.logged("rack 7 moves")


def test_we_tell_the_router_more_prefixes_than_it_takes(scene: Scene) -> None:
    if isinstance(scene.router, Frr):
        scene.neighbor()
    else:
        scene.neighbor(BIRD_LIMIT if isinstance(scene.router, Bird) else GOBGP_LIMIT, families=())
    scene.peer()
    if isinstance(scene.router, Frr):
        wait_until(lambda: scene.row()["is_up"], within=REFUSED_SECONDS)
        limit = [f"router bgp {ROUTER_ASN}", "address-family ipv4 unicast", f"neighbor {scene.us} maximum-prefix 1"]
        scene.router.configure(limit)

    scene.refused("received 6/1 ", fix=f"bgpilot routes advertised --peer {scene.them}")


def test_the_router_tells_us_more_prefixes_than_it_may(scene: Scene) -> None:
    scene.neighbor()
    scene.peer(maxPrefixes={"ipv4": {"limit": 1}})

    wait_until(lambda: scene.row()["reason"] == "maxPrefixesExceeded", within=REFUSED_SECONDS)
    assert "! maxPrefixesExceeded: " in scene.explained()
    wait_until(lambda: scene.router.neighbors()[scene.us] != "Established")
    scene.logged('"peer_down"')


def shut_down(router: Router, peer: str, text: str) -> None:
    match router:
        case Frr():
            router.configure([f"router bgp {ROUTER_ASN}", f"neighbor {peer} shutdown message {text}"])
        case Bird():
            router.namespace.run(["birdc", "-s", router.directory / "bird.ctl", "disable", "all", f'"{text}"'])
        case GoBgp():
            router.gobgp("neighbor", peer, "disable", "--reason", text)


BIRD_LIMIT = "ipv4 { import limit 1 action disable; import all; export none; };"
GOBGP_LIMIT = """[[neighbors.afi-safis]]
[neighbors.afi-safis.config]
afi-safi-name = "ipv4-unicast"
[neighbors.afi-safis.prefix-limit.config]
max-prefixes = 1"""
