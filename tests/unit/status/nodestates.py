"""BGPNodeStates for tests: rendered from a `Scene`, of the usual size and of the biggest."""

from __future__ import annotations

from datetime import UTC, datetime
from ipaddress import ip_address

from agent.cluster.world import World
from agent.intent import ExternalPeer
from agent.model import Applied, Key, Kind, Node, Problem
from agent.plan.steps import finish
from agent.status.nodestate import PEERS_MAX, node_state
from agent.status.standing import dated
from bgp.model import Direction, PeerState, SessionError, SessionState
from tests.unit.status.scene import NOW, TOR, TOR6, Scene, peer

LONG = "tulip " * 1000


def stamp(at):
    return f"{datetime.fromtimestamp(1_800_000_000 + at, UTC):%Y-%m-%dT%H:%M:%SZ}"


def usual_world():
    world = World()
    world.apply(Applied(Key(Kind.NODE, "", "worker-1"), Node(name="worker-1", uid="u-1")))
    for name, address, asn in (("tor-a", TOR, 65000), ("tor-b", TOR6, 65001)):
        record = ExternalPeer(name=name, address=address, asn=asn, generation=3)
        world.apply(Applied(Key(Kind.PEER, "", name), record))
    return world


def told(scene, world, now=NOW, **fields):
    return finish(node_state(scene.status(**fields), world, now, stamp))


def sent(view):
    """As the agent sends it."""
    return {**dated(view, {}, stamp(NOW)), "heartbeatTime": stamp(NOW)}


def crowd(scene, world, count):
    """So many routers, none of which is there, with the longest of texts."""
    scene.peers.clear()
    for number in range(count):
        address, name = ip_address("198.18.0.0") + number, f"tor-{number:05}{'x' * 240}"
        error = SessionError(Direction.RECEIVED, 6, 2, LONG, NOW - 90)
        scene.peers[address] = peer(address, f"BGPPeer/{name}", 4_200_000_000)
        scene.states[address] = PeerState(state=SessionState.ACTIVE, since=NOW - 90, last_error=error, flaps=10**9)
        world.apply(Applied(Key(Kind.PEER, "", name), ExternalPeer(name=name, address=address, asn=65000)))
        scene.problems.add(Problem("secretMissing", f"BGPPeer {name}", LONG, LONG))


def biggest():
    """What no node goes beyond, whatever it has."""
    scene, world = Scene(), usual_world()
    crowd(scene, world, PEERS_MAX + 300)
    return told(scene, world)
