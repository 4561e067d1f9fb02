"""Hostile bytes and connections on the BGP port, the HTTP ports and the unix sockets: the agent goes on as if nothing
was, and does not grow. (Malformed UPDATEs within a session: test_agent_hostile.py.)

While hundreds of connections stand, sessions with both routers stay, a route that a router announces gets into the
kernel, CLI, probes and metrics answer; afterwards there are about as many file descriptors as before.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import pytest

from tests.lab.confined import CHILD, EXTERNAL, WHOLE_SECONDS, Scene, running, scenes
from tests.lab.netns import Family
from tests.lab.pestering import BGP, BRIDGE, HTTP, descriptors, memory_mib, pestering, tcp, unix
from tests.lab.wait import wait_until

pytestmark = pytest.mark.live

MANY = 500
DRIP_SECONDS = 1.0
LATENCY_SECONDS = 30.0
"""From a router's UPDATE to the kernel while they are there; it was less than 0.2 s where nothing else ran."""
GROWTH_MIB = 48.0
"""What a process may have more afterwards: buffers that its allocator keeps. It was 20 at most, and none the second
time."""
FEW = 4
"""File descriptors that come and go anyway: a dial, a connection to the API server."""
LINES_MAX = 60
"""Of log, in all: a flood of connections is no flood of lines."""
PREFIXES = (f"203.0.113.{number}/32" for number in itertools.count(1))


@pytest.fixture(scope="module")
def scene() -> Iterator[Scene]:
    for built in scenes():
        built.cluster.api.apply(built.tor_peer(**{"import": {"allowed": [{"prefix": "203.0.113.0/24", "le": 32}]}}))
        yield built


class Watch:
    """One node's processes, sessions and log, as they were; and whether it still does its work."""

    def __init__(self, scene: Scene, number: int) -> None:
        self.scene, self.number = scene, number
        self.node, self.agent = scene.lab.node(number), scene.agent(number)
        scene.wait_whole()
        self.pids = set(running(self.node))
        self.descriptors = {pid: descriptors(pid) for pid in self.pids}
        self.memory = {pid: memory_mib(pid) for pid in self.pids}
        self.sessions = self.times_up()
        self.lines = self.log_lines()

    def times_up(self) -> list[int]:
        return [frr.times_established(str(self.node.address())) for frr in (self.scene.frr, self.scene.plain_frr)]

    def log_lines(self) -> int:
        return sum(len(path.read_text(errors="replace").splitlines()) for path in self.node.run_dir.glob("*.log"))

    def works(self) -> None:
        """A new route of the router's comes in, and everybody who asks is answered, with nobody gone meanwhile."""
        prefix = next(PREFIXES)
        self.scene.frr.announce(prefix)
        wait_until(lambda: prefix in self.scene.cluster.learned(self.node, "ipv4"), within=LATENCY_SECONDS)
        self.scene.frr.withdraw(prefix)
        assert self.agent.cli("status").returncode in {0, 3}
        assert "bgpilot_build_info" in self.get(9817, "metrics")
        assert self.get(9818, "livez") == "ok\n"
        wait_until(lambda: prefix not in self.scene.cluster.learned(self.node, "ipv4"), within=WHOLE_SECONDS)

    def get(self, port: int, page: str) -> str:
        url = f"http://127.0.0.1:{port}/{page}"
        return self.node.run(["curl", "-sS", "--retry", "3", "--retry-all-errors", url]).stdout

    def unharmed(self) -> None:
        wait_until(self._as_before, within=WHOLE_SECONDS)
        assert self.times_up() == self.sessions
        grown = {line: memory_mib(pid) - self.memory[pid] for pid, line in running(self.node).items()}
        assert max(grown.values()) < GROWTH_MIB, grown
        assert self.log_lines() - self.lines < LINES_MAX
        self.scene.wait_whole()

    def _as_before(self) -> bool:
        assert set(running(self.node)) == self.pids
        now: Mapping[int, int] = {pid: descriptors(pid) for pid in self.pids}
        assert all(now[pid] <= self.descriptors[pid] + FEW for pid in self.pids), (now, self.descriptors)
        return True


@contextmanager
def watched(scene: Scene, number: int) -> Iterator[Watch]:
    watch = Watch(scene, number)
    yield watch
    watch.unharmed()


def test_strangers_on_the_bgp_port(scene: Scene) -> None:
    """Each is told that there is no session for it, and is gone."""
    address = str(scene.lab.node(CHILD).address())
    with watched(scene, CHILD) as watch, pestering(scene.stranger, tcp(address, 179), BGP, count=MANY) as pests:
        watch.works()
        wait_until(lambda: pests.ended() == len(pests.sockets), within=WHOLE_SECONDS)


def test_a_router_that_has_a_session_and_dials_hundreds_more(scene: Scene) -> None:
    address, router = str(scene.lab.node(EXTERNAL).address()), scene.lab.routers[1]
    with watched(scene, EXTERNAL) as watch, pestering(router, tcp(address, 179), BGP, count=MANY) as pests:
        watch.works()
        wait_until(lambda: pests.ended() == len(pests.sockets), within=WHOLE_SECONDS)


def test_a_router_that_has_no_session_and_never_begins_one(scene: Scene) -> None:
    """Of all its connections the newest is the one that counts."""
    address = str(scene.lab.node(EXTERNAL).address())
    with watched(scene, EXTERNAL) as watch, pestering(scene.absent, tcp(address, 179), BGP, count=MANY) as pests:
        pests.drip(within=DRIP_SECONDS)
        watch.works()
        wait_until(lambda: pests.ended() >= len(pests.sockets) - 1, within=WHOLE_SECONDS)


@pytest.mark.parametrize(("number", "family"), [(CHILD, "ipv4"), (EXTERNAL, "ipv6")])
def test_the_metrics_port_from_outside(scene: Scene, number: int, family: Family) -> None:
    address = str(scene.lab.node(number).address(family))
    with watched(scene, number) as watch, pestering(scene.stranger, tcp(address, 9817), HTTP, count=MANY) as pests:
        pests.drip(within=DRIP_SECONDS)
        watch.works()


def test_the_probes_port_from_the_node(scene: Scene) -> None:
    node = scene.lab.node(CHILD)
    with watched(scene, CHILD) as watch, pestering(node, tcp("127.0.0.1", 9818), HTTP, count=MANY) as pests:
        pests.drip(within=DRIP_SECONDS)
        watch.works()


def test_the_socket_of_the_cli(scene: Scene) -> None:
    path = scene.agent(EXTERNAL).run_dir / "bgpilot.sock"
    with watched(scene, EXTERNAL) as watch, pestering(watch.node, unix(path), HTTP, count=MANY) as pests:
        pests.drip(within=DRIP_SECONDS)
        watch.works()


@pytest.mark.parametrize("number", [CHILD, EXTERNAL], ids=["child", "external"])
def test_the_socket_of_the_bridge(scene: Scene, number: int) -> None:
    """Whoever comes last has it; when they are gone, or as they talk nonsense, the bridge has it again."""
    path = scene.agent(number).run_dir / "speaker.sock"
    with watched(scene, number) as watch, pestering(watch.node, unix(path), BRIDGE, count=MANY) as pests:
        wait_until(lambda: pests.ended() >= len(pests.sockets) - 1, within=WHOLE_SECONDS)
        watch.works()
