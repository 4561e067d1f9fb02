"""Agent and ExaBGP run as the DaemonSet in deploy/agent.yaml says, as far as the kernel knows of it: these capabilities
and no others, no new privileges, and a file system in which the run directory alone can be written.

What is left out is seccomp, and the file system of an image: test_image.py has that.
"""

from __future__ import annotations

import base64
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import yaml

from tests.lab.frr import Frr
from tests.lab.minicluster import (
    BGPILOT,
    CLUSTER_ASN,
    LAB_HOLD_SECONDS,
    ROUTER_ASN,
    Agent,
    MiniCluster,
    custom,
    node_object,
    tor_peer,
)
from tests.lab.neighbor import Neighbor
from tests.lab.netns import Namespace
from tests.lab.procs import Process, run
from tests.lab.topology import Lab, Node
from tests.lab.wait import wait_until

MANIFEST = Path(__file__).resolve().parents[2] / "deploy/agent.yaml"
CAGE = Path(__file__).with_name("cage.py")
CHILD, EXTERNAL = 1, 2
"""Of which nodes ExaBGP is the agent's child, and a container of its own."""
TOR_PASSWORD, MESH_PASSWORD = "kolibri-7513-of-the-router", "zaunkoenig-4408-of-the-mesh"
WHOLE_SECONDS = 120.0
LEARNED = "203.0.113.0/24"
DEBUGGING = {"exabgp_log_level": "DEBUG", "exabgp.log.level": "DEBUG", "exabgp.log.all": "true"}
"""What somebody who looks for a fault of ExaBGP's may set."""


def capabilities(container: str) -> list[str]:
    """That the manifest adds; it drops all others."""
    (daemon_set,) = (thing for thing in yaml.safe_load_all(MANIFEST.read_text()) if thing["kind"] == "DaemonSet")
    spec = daemon_set["spec"]["template"]["spec"]
    contexts = {one["name"]: one["securityContext"] for one in (*spec["containers"], *spec["initContainers"])}
    assert contexts[container]["capabilities"]["drop"] == ["ALL"]
    return list(contexts[container]["capabilities"]["add"])


def confined(argv: Sequence[str | Path], *, run_dir: Path, added: Sequence[str]) -> list[str | Path]:
    bounding = ",".join(["-all", *(f"+{name.lower()}" for name in added)])
    privileges = ["setpriv", f"--bounding-set={bounding}", "--inh-caps=-all", "--no-new-privs"]
    return [sys.executable, "-I", "-S", CAGE, run_dir, *privileges, *argv]


class ConfinedAgent(Agent):
    """And its command line, as by `kubectl exec` into the container."""

    env: Mapping[str, str] = DEBUGGING

    def cli(self, *words: str) -> CompletedProcess[str]:
        command = [BGPILOT, *words, f"--run-dir={self.run_dir}"]
        return self.namespace.run(
            confined(command, run_dir=self.run_dir, added=capabilities("agent")), check=False, env=self.env
        )

    def _start(self) -> Process:
        command = confined(self._argv, run_dir=self.run_dir, added=capabilities("agent"))
        return self.namespace.start(command, log="agent", env=self.env)


class Scene:
    """Two nodes, two routers: sessions between the nodes, and those with the first router, have passwords. A third
    router is configured and not there. Everybody says at debug level what there is to say.
    """

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.cluster = MiniCluster(lab, flags=["--log-level=debug"])
        self.absent = lab.host("absent")
        self.stranger = lab.host("stranger")
        self.set_password("tor", TOR_PASSWORD)
        self.set_password("mesh", MESH_PASSWORD)
        mesh = {"holdSeconds": LAB_HOLD_SECONDS, "passwordSecretRef": {"name": "mesh", "key": "password"}}
        self.cluster.api.apply(
            custom("BGPInstance", "default", {"mesh": mesh}),
            self.tor_peer(),
            tor_peer(lab.routers[1], name="plain"),
            tor_peer(self.absent, name="absent"),  # type: ignore[arg-type]  # any host has an address
            *(node_object(node) for node in lab.nodes.values()),
        )
        self.frr, self.plain_frr = self._frr(1, TOR_PASSWORD), self._frr(2)
        self.speaker = self._start()

    def close(self) -> None:
        self.cluster.close()

    def set_password(self, name: str, password: str, *, encoded: bool = True) -> None:
        data = base64.b64encode(password.encode()).decode() if encoded else password
        self.cluster.api.apply(
            {
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": {"namespace": "bgpilot-system", "name": name},
                "data": {"password": data},
            }
        )

    def tor_peer(self, **spec: Any) -> dict[str, Any]:
        secret = {"name": "tor", "key": "password"}
        wanted = {"passwordSecretRef": secret, "import": {"allowed": [{"prefix": LEARNED}]}, **spec}
        return tor_peer(self.lab.router, **wanted)

    def agent(self, number: int) -> Agent:
        return self.cluster.agent(self.lab.node(number))

    @property
    def nodes(self) -> tuple[Node, ...]:
        return tuple(self.lab.nodes.values())

    def start_agent(self, node: Node, *flags: str) -> Agent:
        agent = ConfinedAgent(node, node.name, self.cluster.kubeconfig, *self.cluster.flags, *flags)
        self.cluster.agents[node.name] = agent
        return agent

    def start_speaker(self, *, without: Sequence[str] = ()) -> Process:
        agent = self.agent(EXTERNAL)
        added = [name for name in capabilities("speaker") if name not in without]
        command = confined([BGPILOT, "speaker", f"--run-dir={agent.run_dir}"], run_dir=agent.run_dir, added=added)
        return self.lab.node(EXTERNAL).start(command, log="speaker", env=DEBUGGING)

    def wait_whole(self) -> None:
        """Kernels, sessions and the routers' tables are as they should be."""
        wait_until(self._whole, within=WHOLE_SECONDS)

    def _whole(self) -> bool:
        for node in self.nodes:
            (other,) = (other for other in self.nodes if other is not node)
            learned = self.cluster.learned(node, "ipv4")
            assert learned == {
                LEARNED: [str(self.lab.router.address())],
                str(other.pod_cidrs["ipv4"]): [str(other.address())],
            }, learned
        for frr in (self.frr, self.plain_frr):
            assert len(frr.established()) == len(self.nodes), frr.neighbors()
            assert {str(node.pod_cidrs["ipv4"]) for node in self.nodes} <= frr.routes("ipv4").keys()
        return True

    def _frr(self, number: int, password: str = "") -> Frr:
        router = self.lab.routers[number - 1]
        nodes = [Neighbor(str(node.address()), CLUSTER_ASN, password=password) for node in self.nodes]
        return Frr(router, asn=ROUTER_ASN, router_id=f"10.99.0.{number}", neighbors=nodes, announce=[LEARNED])

    def _start(self) -> Process:
        for node in self.nodes:  # as a kubelet makes a volume
            (node.run_dir / "bgpilot").mkdir()
            (node.run_dir / "bgpilot").chmod(0o777)
        self.start_agent(self.lab.node(CHILD))
        self.start_agent(self.lab.node(EXTERNAL), "--speaker=external")
        return self.start_speaker()


def running(namespace: Namespace) -> dict[int, str]:
    """Process id → command line of all that runs in there and is of bgpilot."""
    found = {}
    for pid in run(["ip", "netns", "pids", namespace.full_name]).stdout.split():
        try:
            line = Path("/proc", pid, "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except FileNotFoundError:
            continue  # it ended meanwhile
        if re.search(r"bgpilot (run|speaker) |bgp\.inside\.launcher|bridge\.py", line) and "--validate" not in line:
            found[int(pid)] = line
    return found


def status_of(pid: int) -> Mapping[str, str]:
    """/proc/PID/status by field."""
    lines = Path("/proc", str(pid), "status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def scenes() -> Iterator[Scene]:
    """For a fixture of a whole file."""
    with Lab(nodes=2, routers=2) as lab:
        scene = Scene(lab)
        try:
            scene.wait_whole()
            yield scene
        finally:
            scene.close()
