"""Agents come and go while traffic flows: killed, stopped, replaced, one, some and all of them, and nothing is lost.

Nodes 1 to 3 run ExaBGP beside the agent, node 4 as its child. FRR, BIRD and a peer that writes down all it hears have
a session with each; both routers announce one prefix, so that kernels hold a multipath route. Every node serves an
address of its own, so that no other can stand in for it, and has no default route, which could lead around a gap.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import struct
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from ipaddress import ip_address
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest

from tests.lab.addresses import Address
from tests.lab.judges import Judges, Watch, hosts
from tests.lab.minicluster import (
    BGPILOT,
    LAB_HOLD_SECONDS,
    OUR_PROTOCOL,
    ROUTER_ASN,
    Agent,
    MiniCluster,
    custom,
    node_object,
    service_object,
    slice_object,
    tor_peer,
)
from tests.lab.netns import Family, Namespace
from tests.lab.pods import serve_echo
from tests.lab.probe import Probe
from tests.lab.topology import Host, Lab, Node
from tests.lab.wait import wait_until
from tests.lab.wirepeer import KEEPALIVE, MP_UNREACH, ROUTE_REFRESH, UPDATE, Sent, Session, WirePeer, attribute, message
from tests.lab.writes import Writes

pytestmark = pytest.mark.live

SOAK = bool(os.environ.get("BGPILOT_SOAK"))
"""More nodes and more ways to end."""

FAMILIES: tuple[Family, Family] = ("ipv4", "ipv6")
VIPS: Mapping[Family, str] = {"ipv4": "198.51.100.{}", "ipv6": "2001:db8:77::{}"}
LEARNED = ["203.0.113.0/24", "2001:db8:99::/64"]
CHILD = 4
AWAY_KEEPALIVES = LAB_HOLD_SECONDS + 1
"""One a second: longer than the hold time."""
RIGHT_SECONDS = 20.0
"""2 s on a machine with nothing else to do."""


class Scribe(WirePeer):
    """Says End-of-RIB when a session begins and when it is asked for its routes; it has none."""

    END_OF_RIB = tuple(
        message(UPDATE, struct.pack("!HH", 0, len(said)) + said)
        for said in (b"", attribute(0x80, MP_UNREACH, struct.pack("!HB", 2, 1)))
    )

    def __init__(self, host: Host, *, asn: int) -> None:
        super().__init__(host, asn=asn, hold_seconds=LAB_HOLD_SECONDS)
        self.told_at = datetime.now(UTC)
        """The last time that anything was told."""
        self.alive: dict[int, int] = {}
        """Session by its place → KEEPALIVEs heard on it."""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._run(self.__aenter__())

    def close(self) -> None:
        self._run(self.__aexit__(None, None, None))
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def of(self, node: Node) -> list[Session]:
        """All that there ever were."""
        return [one for one in self.sessions if ip_address(one.writer.get_extra_info("peername")[0]) == node.address()]

    def heartbeats(self, node: Node) -> int:
        return self.alive.get(id(self.of(node)[-1]), 0)

    def _run(self, what: Any) -> None:
        asyncio.run_coroutine_threadsafe(what, self._loop).result(timeout=30)

    def _heard(self, session: Session, kind: int, body: bytes) -> None:
        super()._heard(session, kind, body)
        if kind == UPDATE:
            self.told_at = datetime.now(UTC)
        if kind == KEEPALIVE:
            self.alive[id(session)] = self.alive.get(id(session), 0) + 1
        if kind == ROUTE_REFRESH or (kind == KEEPALIVE and self.alive[id(session)] == 1):
            session.writer.write(b"".join(self.END_OF_RIB))


class Scene:
    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.beside = [lab.node(number) for number in (1, 2, 3)]
        self.child = lab.node(CHILD)
        self.judges = Judges(lab)
        self.frr, self.bird = self.judges.frr, self.judges.bird
        self.scribe = Scribe(lab.host("scribe"), asn=ROUTER_ASN)
        self.pods = {node.name: node.add_pod() for node in lab.nodes.values()}
        self.cluster = MiniCluster(lab)
        self.api = self.cluster.api
        service = {"addresses": ["LoadBalancerIP"]}
        allowed = {"allowed": [{"prefix": prefix} for prefix in LEARNED]}
        self.api.apply(
            custom("BGPInstance", "default", {"mesh": {"holdSeconds": LAB_HOLD_SECONDS}}),
            custom("BGPAdvertisement", "vips", {"type": "Service", "service": service}),
            *self.judges.peers(**{"import": allowed}),
            tor_peer(lab.hosts["scribe"], name="scribe", keepaliveSeconds=1),
            *(node_object(node) for node in lab.nodes.values()),
        )
        for node in lab.nodes.values():
            serve_echo(self.pods[node.name])
            serve_echo(node)
            for flag in ("-4", "-6"):
                node.ip(flag, "route", "del", "default")
            for address in vips(node):
                node.ip("address", "add", address, "dev", "lo")
            self.serve(f"web-{node.index}", node.index, node)
        self.frr.announce(*LEARNED)
        self.bird.announce(*LEARNED)
        for node in self.beside:
            agent = self.cluster.start_agent(node, "--speaker=external")
            node.start([BGPILOT, "speaker", f"--run-dir={agent.run_dir}"], log="speaker")
        self.cluster.start_agent(self.child)
        self.wait_whole()

    def close(self) -> None:
        self.cluster.close()
        self.scribe.close()

    def serve(self, name: str, number: int, node: Node) -> None:
        """A Service with addresses of this number, that this node alone announces."""
        clusters = [f"10.96.0.{number}", f"fd02::{number}"]
        self.api.apply(
            service_object(name, clusters, load_balancer_ips=addresses(number), external_policy="Local"),
            *(slice_object(name, {node.name: ["10.0.0.1"]}, family=family) for family in ("IPv4", "IPv6")),
        )

    def agent(self, node: Node) -> Agent:
        return self.cluster.agent(node)

    def wait_whole(self) -> None:
        wait_until(self._whole, within=90, every=0.2)

    def _whole(self) -> bool:
        nodes = self.lab.nodes.values()
        wanted = {prefix: [str(node.address(family(prefix)))] for node in nodes for prefix in announced(node)}
        for router, table in self.judges.tables().items():
            found = {to: hops for to, hops in table.items() if to in wanted}
            assert found == wanted, f"{router}: {found}"
        self.cluster.meshed(besides=frozenset(LEARNED))
        for node in nodes:
            for learned in LEARNED:
                held = self.cluster.learned(node, family(learned)).get(learned)
                assert held == [str(router.address(family(learned))) for router in self.lab.routers]
            assert self.agent(node).view("status")["phase"] == "IN_SYNC"
            assert {peer["is_up"] for peer in self.agent(node).view("peers")["peers"].values()} == {True}
        return True

    def wait_told(self, *nodes: Node) -> None:
        """All that these had to say has been heard: their agents are in sync, and a KEEPALIVE of each came after."""
        for node in nodes:
            self.wait_in_sync(node)
        before = {node.name: self.scribe.heartbeats(node) for node in nodes}
        wait_until(lambda: all(self.scribe.heartbeats(node) > before[node.name] + 1 for node in nodes))

    def wait_in_sync(self, node: Node) -> None:
        wait_until(lambda: self.agent(node).view("status")["phase"] == "IN_SYNC", within=60)

    def wait_held(self, node: Node) -> None:
        """So long that a session with nobody behind it would have ended."""
        before = self.scribe.heartbeats(node)
        wait_until(lambda: self.scribe.heartbeats(node) >= before + AWAY_KEEPALIVES)

    # What was heard.

    def sessions(self) -> dict[str, Any]:
        """As many as there ever were."""
        scribe = {node.name: len(self.scribe.of(node)) for node in self.lab.nodes.values()}
        mesh = {
            f"{node.name} {peer}": one["flaps"]
            for node in self.lab.nodes.values()
            for peer, one in self.agent(node).view("peers")["peers"].items()
        }
        return {"frr": self.frr_sessions(), "bird": self.bird_sessions(), "scribe": scribe, "mesh": mesh}

    def frr_sessions(self) -> dict[str, int]:
        return {peer: one["connectionsEstablished"] for peer, one in self._frr().items()}

    def heard(self) -> dict[str, Any]:
        """Of routes, also the same again."""
        paths = {
            prefix: [(path["peer"]["peerId"], path["version"]) for path in self.frr.paths(prefix)]
            for node in self.lab.nodes.values()
            for prefix in announced(node)
        }
        said = {node.name: len(self.said(node)) for node in self.lab.nodes.values()}
        return {"judges": self.judges.heard(), "frr": paths, "scribe": said}

    def said(self, node: Node, to: Scribe | None = None) -> list[Sent]:
        """All that it has told of routes to one who writes it down."""
        return [
            sent
            for session in (to or self.scribe).of(node)
            for sent in session.of("announce", "withdraw", "end-of-rib")
        ]

    def refreshes(self, node: Node) -> int:
        return int(self._frr()[str(node.address())]["messageStats"]["routeRefreshRecv"])

    def _frr(self) -> dict[str, Any]:
        return self.frr.show_json("show bgp neighbors json")

    def bird_sessions(self) -> list[str]:
        """Their names, with a number of its own for each that ever came out of the range; its instants jitter."""
        lines = self.bird.birdc("show protocols").splitlines()
        return sorted(line.split()[0] for line in lines if "Established" in line)


def family(prefix: str) -> Family:
    return "ipv6" if ":" in prefix else "ipv4"


def addresses(number: int) -> list[str]:
    return [vip.format(number) for vip in VIPS.values()]


def vips(node: Node) -> list[str]:
    return addresses(node.index)


def announced(node: Node) -> list[str]:
    return [*hosts(vips(node)), *map(str, node.pod_cidrs.values())]


@contextmanager
def no_packet_lost(scene: Scene, *nodes: Node) -> Iterator[None]:
    """Between pods of the nodes in both directions, and from both routers to the addresses they serve."""
    targets: dict[str, tuple[Namespace, Address]] = {
        f"{here.name} {there.name} {family}": (scene.pods[here.name], scene.pods[there.name].address(family))
        for here, there in permutations(nodes, 2)
        for family in FAMILIES
    }
    targets |= {
        f"{router.name} {vip}": (router, ip_address(vip)) for router in scene.lab.routers for vip in vips(nodes[0])
    }
    probes = {name: Probe(source, target) for name, (source, target) in targets.items()}
    yield
    results = {name: probe.stop() for name, probe in probes.items()}
    assert min(result.sent for result in results.values()) > 0
    assert {name: result for name, result in results.items() if result.lost} == {}


@contextmanager
def nothing_happens(scene: Scene, *nodes: Node) -> Iterator[None]:
    """No session ends, no packet is lost, nobody is told a thing but ROUTE-REFRESH, no kernel is written to."""
    asked = {node.name: scene.refreshes(node) for node in nodes}
    sessions, heard = scene.sessions(), scene.heard()
    writes = Writes(scene.lab.nodes.values())
    with no_packet_lost(scene, *(nodes if len(nodes) > 1 else (nodes[0], scene.lab.node(nodes[0].index % CHILD + 1)))):
        yield
        scene.wait_told(*nodes)
        wait_until(lambda: all(scene.refreshes(node) > asked[node.name] for node in nodes))
        scene.wait_whole()
    assert writes.stop() == {}
    assert scene.heard() == heard
    assert scene.sessions() == sessions


def when_planned(log: str) -> datetime:
    """When the agent had the whole picture."""
    said = (json.loads(line) for line in log.splitlines() if '"phase"' in line)
    return next(datetime.fromisoformat(line["timestamp"]) for line in said if line.get("phase") == "PLANNED")


def last_change(watch: Watch, prefixes: Iterable[str]) -> datetime:
    """Of all these, in all tables that are watched."""
    return max(changes[-1][0] for prefix in prefixes for changes in watch.changes(prefix))


@pytest.fixture(scope="module")
def site() -> Iterator[Lab]:
    with Lab(nodes=4, routers=2) as lab:
        yield lab


@pytest.fixture(scope="module")
def scene(site: Lab) -> Iterator[Scene]:
    built = Scene(site)
    yield built
    built.close()


def test_agents_of_three_nodes_that_are_killed_at_once_and_away_for_longer_than_the_hold_time_are_missed_by_nobody(
    scene: Scene,
) -> None:
    with nothing_happens(scene, *scene.beside):
        for node in scene.beside:
            scene.agent(node).kill()
        scene.wait_held(scene.beside[0])
        for node in scene.beside:
            scene.agent(node).restart()


def test_agents_that_are_replaced_by_another_version_one_after_the_other_are_missed_by_nobody(
    scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = tmp_path / "bgpilot-99.0.0.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: bgpilot\nVersion: 99.0.0\n")
    nodes = scene.beside if SOAK else scene.beside[:2]

    with nothing_happens(scene, *nodes), monkeypatch.context() as patched:
        patched.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
        for node in nodes:
            assert scene.agent(node).stop() == 0
            scene.agent(node).restart()
            scene.wait_in_sync(node)
            assert scene.agent(node).view("status")["version"] == "99.0.0"


def test_what_changed_while_the_agent_was_away_is_put_right_when_it_is_back(scene: Scene) -> None:
    node, other, third = scene.beside
    scene.serve("deleted", 50, node)
    scene.serve("left", 51, node)
    scene.serve("came", 52, other)
    scene.judges.told(hosts(addresses(50) + addresses(51)), node)
    scene.judges.told(hosts(addresses(52)), other)
    late = Scribe(scene.lab.host("late"), asn=ROUTER_ASN)
    agent, log = scene.agent(node), scene.agent(node).process.log
    with no_packet_lost(scene, node, other), Watch(*scene.lab.routers) as routers, Watch(node, log="own") as own:
        agent.kill()
        scene.agent(scene.child).kill()
        scene.api.delete("Node", scene.child.name)
        scene.api.delete("Service", "deleted", "default")
        scene.serve("left", 51, other)
        scene.serve("came", 52, node)
        scene.api.apply(tor_peer(scene.lab.hosts["late"], name="late"))
        cidrs = list(map(str, scene.child.pod_cidrs.values()))
        wait_until(lambda: not any(cidr in scene.cluster.learned(third, family(cidr)) for cidr in cidrs), within=60)
        said, started_at = len(log.read_text()), datetime.now(UTC)
        agent.restart()
        scene.judges.told(hosts(addresses(50)))
        scene.judges.told(hosts(addresses(51)), other)
        scene.judges.told(hosts(addresses(52)), node)
        wait_until(lambda: not any(cidr in scene.cluster.learned(node, family(cidr)) for cidr in cidrs))
        wait_until(lambda: len([sent for sent in scene.said(node, late) if sent.what == "end-of-rib"]) == 2)
        planned_at = when_planned(log.read_text()[said:])
        for number in (50, 51, 52):  # the routers' kernels follow their tables
            wait_until(lambda number=number: last_change(routers, addresses(number)) > started_at)
        wait_until(lambda: last_change(own, cidrs) > started_at)
    right_at = {
        "Service deleted": last_change(routers, addresses(50)),
        "endpoint gone": last_change(routers, addresses(51)),
        "endpoint come": last_change(routers, addresses(52)),
        "Node removed": last_change(own, cidrs),
        "peer added": late.told_at,
    }
    scene.api.delete("BGPPeer", "late")
    for name in ("left", "came"):
        scene.api.delete("Service", name, "default")
    scene.api.apply(node_object(scene.child))
    scene.agent(scene.child).restart()
    scene.wait_whole()
    late.close()
    took = {what: (at - planned_at).total_seconds() for what, at in right_at.items()}
    print(f"RIGHT after {took}, the picture being whole {(planned_at - started_at).total_seconds()} s after the start")
    assert all(at > started_at for at in right_at.values())
    assert max(took.values()) < RIGHT_SECONDS


@pytest.mark.parametrize("end", [Agent.kill, Agent.stop] if SOAK else [Agent.kill])
def test_with_exabgp_as_its_child_sessions_end_and_nothing_is_lost_where_routers_help(
    scene: Scene, end: Callable[[Agent], object]
) -> None:
    node, sessions = scene.child, scene.frr_sessions()
    address = str(node.address())
    writes = Writes(scene.lab.nodes.values())
    with no_packet_lost(scene, node, scene.beside[0]), Watch(*scene.lab.routers) as routers:
        end(scene.agent(node))
        wait_until(lambda: address not in scene.frr.established())
        gone_at = time.monotonic()
        scene.agent(node).restart()
        wait_until(lambda: address in scene.frr.established())
        print(f"RIGHT session back after {time.monotonic() - gone_at:.1f} s")
        scene.wait_told(node)
        scene.wait_whole()
        assert [routers.changes(to) for prefix in announced(node) for to in (prefix, prefix.partition("/")[0])] == [
            [[], []] for _ in range(2 * len(announced(node)))
        ]
    assert writes.stop() == {}
    assert scene.frr_sessions() == {**sessions, address: sessions[address] + 1}


def test_control_a_route_that_goes_while_the_agent_is_away_loses_packets_until_it_is_back(scene: Scene) -> None:
    node, other = scene.beside[:2]

    with losing(f"{node.name} {other.name} ipv4"), no_packet_lost(scene, node, other):
        scene.agent(node).stop()
        node.ip("route", "del", str(other.pod_cidrs["ipv4"]), "proto", OUR_PROTOCOL)
        scene.agent(node).restart()
        scene.wait_whole()


def test_control_a_router_without_a_session_loses_packets(scene: Scene) -> None:
    node, other = scene.beside[:2]
    vip = vips(node)[0]

    with losing(f"router-1 {vip}"), no_packet_lost(scene, node, other):
        (router,) = (peer for peer in scene.api.list("BGPPeer") if peer["metadata"]["name"] == "frr")
        scene.api.delete("BGPPeer", "frr")
        wait_until(lambda: f"{vip}/32" not in scene.frr.routes("ipv4"))
        scene.api.apply(custom("BGPPeer", "frr", router["spec"]))
        scene.wait_whole()


@contextmanager
def losing(probe: str) -> Iterator[None]:
    """What `no_packet_lost` says of this one is that it is not so."""
    with pytest.raises(AssertionError, match=f"'{re.escape(probe)}': ProbeResult"):
        yield
