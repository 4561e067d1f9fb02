"""The two containers of the DaemonSet in deploy/agent.yaml, run as that says: arguments, environment, capabilities,
read-only root, service account, shared directory; the API server is reached by its ClusterIP, through kube-proxy.

Only image and cgroups are left out: the programs are those of this checkout (test_image.py has the image).
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.lab.frr import Frr
from tests.lab.minicluster import BGPILOT, CLUSTER_ASN, ROUTER_ASN, tor_peer, view
from tests.lab.neighbor import Neighbor
from tests.lab.procs import Process
from tests.lab.realcluster import (
    AGENT_ACCOUNT,
    AGENT_NAMESPACE,
    MANIFEST,
    SERVICES_ADVERTISED,
    RealCluster,
    host_prefix,
    web_service,
)
from tests.lab.topology import Lab, Node
from tests.lab.wait import wait_until

pytestmark = pytest.mark.cluster

SECONDS = 60.0
API_SERVICE_HOST, API_SERVICE_PORT = "10.96.0.1", "443"
"""What a kubelet puts into every container: the Service `kubernetes` is the first address of the range."""

CONTAINER = """
mount -t tmpfs tmpfs /run
mkdir -p /run/bgpilot /run/secrets/kubernetes.io/serviceaccount
mount --bind "$1" /run/bgpilot
mount --bind "$2" /run/secrets/kubernetes.io/serviceaccount
mount -o remount,bind,ro /
shift 2
exec "$@"
"""
"""Shared directory, service account (an empty directory for the container without), program and arguments."""


class Pod:
    """The DaemonSet's pod on one node, its containers by name."""

    def __init__(self, cluster: RealCluster, node: Node) -> None:
        (daemon_set,) = (thing for thing in yaml.safe_load_all(MANIFEST.read_text()) if thing["kind"] == "DaemonSet")
        spec = daemon_set["spec"]["template"]["spec"]
        self.spec = {entry["name"]: entry for entry in (*spec["containers"], *spec["initContainers"])}
        self.node = node
        self.run_dir = _folder(node, "run")
        self._fields = {"spec.nodeName": node.name, "metadata.namespace": AGENT_NAMESPACE}
        self._account = _folder(node, "service-account")
        (self._account / "token").write_text(cluster.control.service_account_token(AGENT_NAMESPACE, AGENT_ACCOUNT))
        (self._account / "ca.crt").write_bytes(cluster.control.ca.read_bytes())
        (self._account / "namespace").write_text(AGENT_NAMESPACE)
        self.running: dict[str, Process] = {}

    def start(self, name: str) -> None:
        container = self.spec[name]
        mounts = {mount["name"] for mount in container["volumeMounts"]}
        account = self._account if "api-access" in mounts else _folder(self.node, "no-service-account")
        bounding = ",".join(f"+{it.lower()}" for it in container["securityContext"]["capabilities"]["add"])
        confined = ["setpriv", f"--bounding-set=-all,{bounding}", "--inh-caps=-all", "--no-new-privs"]
        inside = ["unshare", "--mount", "sh", "-ec", CONTAINER, "sh", self.run_dir, account]
        self.running[name] = self.node.start(
            [*inside, *confined, BGPILOT, *container["args"]], log=name, env=self._environment(container)
        )

    def _environment(self, container: Mapping[str, Any]) -> Mapping[str, str]:
        fields = {entry["name"]: entry["valueFrom"]["fieldRef"]["fieldPath"] for entry in container.get("env", [])}
        own = {name: self._fields[path] for name, path in fields.items()}
        return {"KUBERNETES_SERVICE_HOST": API_SERVICE_HOST, "KUBERNETES_SERVICE_PORT": API_SERVICE_PORT, **own}

    def probe(self, name: str) -> bool:
        """As the kubelet does it on the node."""
        get = self.spec["agent"][name]["httpGet"]
        url = f"http://{get['host']}:{get['port']}{get['path']}"
        return self.node.run(["curl", "--silent", "--fail", "--max-time", "5", url], check=False).returncode == 0

    def status(self) -> Mapping[str, Any]:
        told: Mapping[str, Any] = view(self.run_dir, "status")
        return told


def _folder(node: Node, name: str) -> Path:
    folder = node.run_dir / name
    folder.mkdir(exist_ok=True)
    return folder


@dataclass(frozen=True, slots=True)
class Scene:
    """Node 1 runs the pod, node 2 an agent as in all other tests."""

    lab: Lab
    cluster: RealCluster
    tor: Frr
    pod: Pod

    def tables(self) -> list[int]:
        """A number per family that the router counts up with every change of its table."""
        return [self.tor.show_json(f"show bgp {it} unicast json")["tableVersion"] for it in self.lab.families]

    def announced(self) -> bool:
        cidrs = {str(cidr) for node in self.lab.nodes.values() for cidr in node.pod_cidrs.values()}
        return cidrs == {*self.tor.routes("ipv4"), *self.tor.routes("ipv6")}


@pytest.fixture(scope="module")
def scene() -> Iterator[Scene]:
    assert os.path.realpath("/var/run") == "/run", "the service account is looked for there"
    with Lab(nodes=2, pod_bridge=False) as lab, RealCluster(lab) as cluster:
        node, other = lab.nodes.values()
        tor = Frr(
            lab.router,
            asn=ROUTER_ASN,
            router_id="10.99.0.1",
            neighbors=[Neighbor(str(it.address()), CLUSTER_ASN, passive=True) for it in (node, other)],
        )
        cluster.register(node)
        cluster.start_kube_proxy(node)
        cluster.join(other)
        cluster.apply(tor_peer(lab.router), SERVICES_ADVERTISED)
        pod = Pod(cluster, node)
        for name in pod.spec:
            pod.start(name)
        scene = Scene(lab, cluster, tor, pod)
        wait_until(scene.announced, within=SECONDS)
        cluster.wait_meshed(within=SECONDS)
        yield scene


def test_the_containers_do_the_job_with_what_the_manifest_gives_them(scene: Scene) -> None:
    scene.cluster.apply(web_service("web", app="web"))  # an advertisement that selects no Service is a problem

    def in_sync() -> bool:
        told = scene.pod.status()
        assert (told["phase"], told["problems"]) == ("IN_SYNC", [])
        return bool(told["healthy"])

    wait_until(in_sync, within=SECONDS)
    assert f"https://{API_SERVICE_HOST}" in scene.pod.running["agent"].output()


@pytest.mark.parametrize("name", ["startupProbe", "livenessProbe", "readinessProbe"])
def test_its_probes_answer(scene: Scene, name: str) -> None:
    wait_until(lambda: scene.pod.probe(name), within=SECONDS)


@contextmanager
def nothing_moves(scene: Scene) -> Iterator[None]:
    """No session ends, and no route changes, in any kernel and in the router's table."""
    machines = (*scene.lab.nodes.values(), scene.lab.router)
    tables, flaps = scene.tables(), scene.cluster.flaps()
    monitors = [machine.start(["ip", "monitor", "route"], log=f"monitor-{time.monotonic_ns()}") for machine in machines]
    yield
    for monitor in monitors:
        monitor.stop()
    assert [scene.tor.times_established(str(node.address())) for node in scene.lab.nodes.values()] == [1, 1]
    assert scene.cluster.flaps() == flaps
    assert scene.tables() == tables
    assert [monitor.output() for monitor in monitors] == ["", "", ""]


def in_sync_again(scene: Scene) -> bool:
    told = scene.pod.status()
    return bool(told["phase"] == "IN_SYNC" and told["peers"]["established"] == 2)


def test_an_agent_that_ends_in_order_and_comes_back_moves_nothing(scene: Scene) -> None:
    with nothing_moves(scene):
        assert scene.pod.running["agent"].stop() == 0
        scene.pod.start("agent")
        wait_until(lambda: in_sync_again(scene), within=SECONDS)


def test_an_agent_that_crashes_and_comes_back_moves_nothing(scene: Scene) -> None:
    with nothing_moves(scene):
        scene.pod.running["agent"].kill()
        scene.pod.start("agent")
        wait_until(lambda: in_sync_again(scene), within=SECONDS)


def test_an_agent_that_starts_while_the_api_server_is_away_moves_nothing_and_lives(scene: Scene) -> None:
    with nothing_moves(scene):
        with scene.cluster.api_server_away():
            assert scene.pod.running["agent"].stop() == 0
            scene.pod.start("agent")
            wait_until(lambda: _reasons(scene) == {"apiUnreachable", "pictureIncomplete"}, within=SECONDS)
            assert scene.pod.status()["phase"] == "LISTING"
            assert scene.pod.probe("livenessProbe")
            assert not scene.pod.probe("readinessProbe")
        wait_until(lambda: in_sync_again(scene), within=SECONDS)
        wait_until(lambda: scene.pod.probe("readinessProbe"), within=SECONDS)


def _reasons(scene: Scene) -> set[str]:
    return {told["reason"] for told in scene.pod.status()["problems"]}


def test_a_service_reaches_the_router_from_there_too(scene: Scene) -> None:
    scene.cluster.apply(web_service("web", app="web"))

    for family, address in scene.cluster.cluster_ips("web").items():
        wanted = [str(node.address(family)) for node in scene.lab.nodes.values()]
        wait_until(
            lambda family=family, address=address, wanted=wanted: (
                scene.tor.routes(family).get(host_prefix(address)) == wanted
            ),
            within=SECONDS,
        )
