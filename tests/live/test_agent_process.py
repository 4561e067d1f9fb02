"""The agent as a process: how it ends and comes back, what it leaves on disk, and what it never lets out.

Node 1 runs ExaBGP as the agent's child, node 2 beside the agent (`bgpilot speaker`). Two routers announce one prefix to
both, so that kernels hold a multipath route; the session with the first router has a password.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import signal
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.lab.frr import Frr
from tests.lab.minicluster import (
    BGPILOT,
    CLUSTER_ASN,
    LAB_HOLD_SECONDS,
    OUR_PROTOCOL,
    ROUTER_ASN,
    Agent,
    MiniCluster,
    custom,
    node_object,
    tor_peer,
)
from tests.lab.neighbor import Neighbor
from tests.lab.netns import Namespace
from tests.lab.procs import run
from tests.lab.topology import Host, Lab, Node
from tests.lab.wait import wait_until

pytestmark = pytest.mark.live

SHARED, STALE = "203.0.113.0/24", "198.51.100.0/24"
PASSWORD = "kolibri-7513-nobody-else-writes-this"
STOP_SECONDS = 30.0
"""2 s are the agent's bound (`agent.start.STOP_SECONDS`); this machine may be busy."""
CHILD, EXTERNAL = 1, 2


class Scene:
    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.cluster = MiniCluster(lab, flags=["--log-level=debug"])
        self.cluster.api.apply(
            custom("BGPInstance", "default", {"mesh": {"holdSeconds": LAB_HOLD_SECONDS}}),
            {
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": {"namespace": "bgpilot-system", "name": "tor"},
                "data": {"password": base64.b64encode(PASSWORD.encode()).decode()},
            },
            self._peer(1, passwordSecretRef={"name": "tor", "key": "password"}),
            self._peer(2),
            *(node_object(node) for node in lab.nodes.values()),
        )
        self.frr = self._frr(1, password=PASSWORD)
        self.other_frr = self._frr(2)
        self.cluster.start_agent(lab.node(CHILD))
        self.cluster.start_agent(lab.node(EXTERNAL), "--speaker=external")
        self.start_speaker()
        self.wait_whole()

    def start_speaker(self) -> None:
        """Beside the agent."""
        run_dir = self.agent(EXTERNAL).run_dir
        self.speaker = self.lab.node(EXTERNAL).start([BGPILOT, "speaker", f"--run-dir={run_dir}"], log="speaker")

    def _peer(self, number: int, **spec: object) -> dict[str, object]:
        router = self.lab.routers[number - 1]
        return tor_peer(router, name=f"tor-{number}", **{"import": {"allowed": [{"prefix": SHARED}]}}, **spec)

    def _frr(self, number: int, password: str = "") -> Frr:
        router = self.lab.routers[number - 1]
        nodes = str(router.subnet.networks["ipv4"])
        neighbor = Neighbor(nodes, CLUSTER_ASN, password=password, families=("ipv4",))
        name = f"10.99.0.{number}"
        return Frr(router, asn=ROUTER_ASN, router_id=name, neighbors=[neighbor], announce=[SHARED])

    def agent(self, number: int) -> Agent:
        return self.cluster.agent(self.lab.node(number))

    def wanted(self, node: Node) -> dict[str, list[str]]:
        """What its kernel holds with our protocol number when all is well."""
        (other,) = (other for other in self.lab.nodes.values() if other is not node)
        return {
            SHARED: sorted(str(router.address()) for router in self.lab.routers),
            str(other.pod_cidrs["ipv4"]): [str(other.address())],
            str(node.pod_cidrs["ipv4"]): [],
        }

    def wait_whole(self) -> None:
        """Kernels, sessions and the routers' tables are as they should be."""
        wait_until(self._whole, within=60)

    def _whole(self) -> bool:
        for node in self.lab.nodes.values():
            assert node.kernel_routes("ipv4", "proto", OUR_PROTOCOL) == self.wanted(node)
            assert self.cluster.agent(node).ask("status")["phase"] == "IN_SYNC"
        pods = {str(node.pod_cidrs["ipv4"]) for node in self.lab.nodes.values()}
        for frr in (self.frr, self.other_frr):
            assert len(frr.established()) == len(self.lab.nodes)
            assert pods <= frr.routes("ipv4").keys()
        return True


@pytest.fixture(scope="module")
def site() -> Iterator[Lab]:
    with Lab(nodes=2, routers=2, families=("ipv4",)) as lab:
        yield lab


@pytest.fixture(scope="module")
def scene(site: Lab) -> Iterator[Scene]:
    built = Scene(site)
    yield built
    built.cluster.close()


@pytest.fixture(autouse=True)
def _whole(scene: Scene) -> None:
    for agent in scene.cluster.agents.values():
        if not agent.process.alive:
            agent.restart()
    if not scene.speaker.alive:
        scene.start_speaker()
    scene.wait_whole()


def programs(namespace: Namespace) -> dict[int, str]:
    """Process id → command line of all that runs in the namespace."""
    found = {}
    for pid in run(["ip", "netns", "pids", namespace.full_name]).stdout.split():
        try:
            found[int(pid)] = Path("/proc", pid, "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except FileNotFoundError:
            continue  # it ended meanwhile
    return found


def speaking(node: Node) -> list[str]:
    return [line for line in programs(node).values() if "bgp.inside.launcher" in line or "bridge.py" in line]


class Writes:
    """Lines of `ip monitor route` about routes of ours."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self.monitor = node.start(["ip", "monitor", "route"], log=f"monitor-{len(node.processes)}")
        self._wait_shown("192.0.2.1")

    def so_far(self) -> list[str]:
        self._wait_shown("192.0.2.2")
        return [line for line in self.monitor.output().splitlines() if f"proto {OUR_PROTOCOL} " in line]

    def _wait_shown(self, address: str) -> None:
        """Until a change of ours own is shown, and with it all before."""

        def shown() -> bool:
            self.monitor.require_alive()
            for verb in ("add", "del"):  # a replacement by the same is no news to the kernel
                self._node.ip("route", verb, address, "dev", "lo", "proto", "static")
            return f"Deleted {address} dev lo" in self.monitor.output()

        wait_until(shown)


@contextmanager
def kernel_writes(node: Node) -> Iterator[Writes]:
    writes = Writes(node)
    yield writes
    writes.monitor.stop()


def test_sigterm_ends_it_with_zero_and_exabgp_with_it_and_the_kernel_keeps_the_routes(scene: Scene) -> None:
    node, agent = scene.lab.node(CHILD), scene.agent(CHILD)
    assert len(speaking(node)) == 2, "ExaBGP and its bridge"

    agent.process.terminate()

    assert agent.process.wait(within=STOP_SECONDS) == 0
    wait_until(lambda: speaking(node) == [])
    assert node.kernel_routes("ipv4", "proto", OUR_PROTOCOL) == scene.wanted(node)
    assert not (agent.run_dir / "bgpilot.sock").exists()
    assert "Traceback" not in agent.process.output()
    assert agent.cli("status").returncode == 4


def test_an_agent_that_is_killed_takes_exabgp_along_and_the_next_start_works(scene: Scene) -> None:
    node, agent = scene.lab.node(CHILD), scene.agent(CHILD)

    agent.kill()

    wait_until(lambda: speaking(node) == [])
    assert node.kernel_routes("ipv4", "proto", OUR_PROTOCOL) == scene.wanted(node)
    agent.restart()
    scene.wait_whole()
    assert {path.name for path in agent.run_dir.iterdir()} == {"bgpilot.sock", "exabgp.conf", "speaker.sock"}


def test_exabgp_that_is_killed_is_started_again_and_no_kernel_route_is_touched(scene: Scene) -> None:
    node = scene.lab.node(CHILD)
    before = scene.other_frr.times_established(str(node.address()))
    with kernel_writes(node) as writes:
        (exabgp,) = (pid for pid, line in programs(node).items() if "bgp.inside.launcher" in line)

        os.kill(exabgp, signal.SIGKILL)

        wait_until(lambda: any("bgp.inside.launcher" in line for pid, line in programs(node).items() if pid != exabgp))
        wait_until(lambda: scene.other_frr.times_established(str(node.address())) > before)
        scene.wait_whole()
        assert writes.so_far() == []


@pytest.mark.parametrize("number", [CHILD, EXTERNAL], ids=["child", "external"])
@pytest.mark.parametrize("end", [Agent.stop, Agent.kill])
def test_a_restart_with_nothing_changed_writes_nothing_to_the_kernel(scene: Scene, number: int, end: object) -> None:
    """But a route that nobody claims any more is swept, once all peers have said what they have."""
    assert callable(end)
    node, agent = scene.lab.node(number), scene.agent(number)
    end(agent)
    node.ip("route", "add", STALE, "via", str(scene.lab.router.address()), "proto", OUR_PROTOCOL)
    with kernel_writes(node) as writes:
        agent.restart()

        wait_until(lambda: STALE not in node.kernel_routes("ipv4", "proto", OUR_PROTOCOL), within=60)
        scene.wait_whole()
        assert [line for line in writes.so_far() if STALE not in line] == []


def test_beside_its_own_speaker_the_agent_comes_and_goes_and_no_session_does(scene: Scene) -> None:
    node, agent = scene.lab.node(EXTERNAL), scene.agent(EXTERNAL)
    before = {frr: frr.times_established(str(node.address())) for frr in (scene.frr, scene.other_frr)}
    pods = str(node.pod_cidrs["ipv4"])
    watch = scene.lab.router.start(["ip", "monitor", "route"], log="router-monitor")

    for end in (agent.kill, agent.stop):
        end()
        assert len(speaking(node)) == 2
        agent.restart()
        scene.wait_whole()

    assert before == {frr: frr.times_established(str(node.address())) for frr in (scene.frr, scene.other_frr)}
    assert pods not in watch.output(), "the router never lost the node's route"
    watch.stop()


def test_the_speaker_beside_the_agent_ends_with_zero_and_is_missed(scene: Scene) -> None:
    node, agent = scene.lab.node(EXTERNAL), scene.agent(EXTERNAL)

    scene.speaker.terminate()

    assert scene.speaker.wait(within=STOP_SECONDS) == 0
    wait_until(lambda: speaking(node) == [])
    wait_until(lambda: "speakerDown" in {told["reason"] for told in agent.ask("status")["problems"]})
    scene.start_speaker()
    scene.wait_whole()
    wait_until(lambda: agent.ask("status")["problems"] == [])


def test_only_its_owner_may_read_what_is_in_the_run_dir(scene: Scene) -> None:
    for agent in scene.cluster.agents.values():
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in agent.run_dir.iterdir()}
        assert modes.keys() >= {"bgpilot.sock", "speaker.sock", "exabgp.conf"}
        assert set(modes.values()) == {0o600}


def test_a_password_is_nowhere_but_in_the_file_for_exabgp(scene: Scene) -> None:
    """With the session it protects up, in the clear and in base64."""
    forms = [PASSWORD, base64.b64encode(PASSWORD.encode()).decode()]
    router = str(scene.lab.router.address())
    for node in scene.lab.nodes.values():
        agent = scene.cluster.agent(node)
        assert agent.ask("peers")["peers"][router]["is_up"]
        said = [agent.process.output(), scene.speaker.output()]
        output = "table" if node is scene.lab.node(CHILD) else "json"
        asked = (["peers"], ["peer", router], ["routes"], ["fib"], ["explain", router], ["status"])
        said += [agent.cli(*words, "-o", output).stdout for words in asked]
        said.append(node.run(["curl", "-sS", "http://127.0.0.1:9817/metrics"]).stdout)
        for pid, command in programs(node).items():
            said += [command, Path("/proc", str(pid), "environ").read_text()]
        assert all(said)
        assert [text for text in said for form in forms if form in text] == []
        holding = [path.name for path in agent.run_dir.iterdir() if path.is_file() and forms[1] in path.read_text()]
        assert holding == ["exabgp.conf"]


def test_a_dry_run_prints_the_plan_and_touches_nothing(scene: Scene) -> None:
    place: Host = scene.lab.hosts.get("dry") or scene.lab.host("dry")
    run_dir = place.run_dir / "never"
    before = place.ip_json("route")
    process = place.start(
        [
            BGPILOT,
            "run",
            "--dry-run",
            f"--node-name={scene.lab.node(CHILD).name}",
            f"--kubeconfig={scene.cluster.kubeconfig}",
            f"--run-dir={run_dir}",
        ],
        log="dry",
    )

    own = str(scene.lab.node(CHILD).pod_cidrs["ipv4"])
    for word in ("BGPPeer/tor-1", own, "node/node-2", str(scene.lab.router.address())):
        wait_until(lambda word=word: word in process.output(), within=60)
    assert PASSWORD not in process.output()
    assert list(programs(place)) == [process.pid], "no ExaBGP"
    assert place.run(["ss", "-tulnH"]).stdout == "", "nothing listens"
    assert ":179" not in place.run(["ss", "-tnaH"]).stdout
    process.terminate()
    assert process.wait(within=STOP_SECONDS) == 0
    assert place.ip_json("route") == before
    assert not run_dir.exists()


def test_as_json_every_line_of_the_log_is_json_those_of_exabgp_included(scene: Scene) -> None:
    agent = scene.agent(CHILD)
    os.kill(next(pid for pid, line in programs(agent.namespace).items() if "bgp.inside.launcher" in line), 15)
    wait_until(lambda: "exabgp" in agent.process.output())

    *whole, _ = agent.process.output().split("\n")  # what may be half a line is left out
    lines = [json.loads(line) for line in whole]

    assert all({"event", "level", "timestamp"} <= line.keys() for line in lines)
    assert {"starting", "peer_up", "phase"} <= {line["event"] for line in lines}


def test_for_a_console_lines_are_for_people(scene: Scene) -> None:
    node, kubeconfig = scene.lab.hosts.get("dry") or scene.lab.host("dry"), scene.cluster.kubeconfig
    process = node.start(
        [BGPILOT, "run", "--dry-run", "--log-format=console", "--node-name=node-1", f"--kubeconfig={kubeconfig}"],
        log="console",
    )

    wait_until(lambda: "[info     ] starting" in process.output(), within=60)

    assert '{"' not in process.output()
    assert process.stop() == 0


def test_an_agent_answers_as_what_it_is_when_its_package_is_replaced_on_disk(
    scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = tmp_path / "bgpilot-0.0.7.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: bgpilot\nVersion: 0.0.7\n")
    agent = scene.agent(CHILD)
    agent.stop()
    with monkeypatch.context() as patched:
        patched.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
        agent.restart()
    scene.wait_whole()

    shutil.rmtree(installed)

    assert agent.view("status")["version"] == "0.0.7"
