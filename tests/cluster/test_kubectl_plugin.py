"""`kubectl bgpilot` through the real kubectl, at a real API server, with the rights that the README names.

There is no kubelet, so that no command runs in a pod here: what agents answer, and how it is shown, is tested with a
kubectl that is a script (tests/unit/kubectl). That the rights for it are enough, and what is said then, is tested here.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from agent.cluster.nodestate import PATH
from tests.lab.controlplane import ControlPlane
from tests.lab.gobuild import PROJECT, binary
from tests.lab.realcluster import AGENT_NAMESPACE, NODES
from tests.unit.kubectl.fakecluster import pod_of, router_up, state_of

pytestmark = pytest.mark.cluster

RACK = "topology.kubernetes.io/rack"
DEAD_PORT = 1
"""Of a kubelet that does not listen."""


@dataclass(frozen=True, slots=True)
class Scene:
    cluster: ControlPlane
    folder: Path

    def __call__(self, *words: str, account: str = "operator", server: str = "") -> subprocess.CompletedProcess[str]:
        """As a user types it."""
        plugin = Path(sys.executable).with_name("kubectl-bgpilot")
        assert plugin.exists(), "the environment is older than this entry point: `make setup`"
        token = self.cluster.service_account_token(AGENT_NAMESPACE, account)
        config = self.cluster.kubeconfig(token, server=server)
        path = f"{binary('kubectl').parent}:{plugin.parent}:{os.environ['PATH']}"
        environment = {"PATH": path, "HOME": str(self.folder), "KUBECONFIG": str(config)}
        return subprocess.run(
            ["kubectl", "bgpilot", *words],
            env=environment,
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )


@pytest.fixture(scope="module")
def scene(crds: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """node-1 is well; of node-2 there is an agent's pod and nothing else."""
    parts = (PROJECT / "README.md").read_text().split("```yaml\n")
    (rights,) = (it.split("```")[0] for it in parts if "name: bgpilot-operator" in it)
    names = ("node-1", "node-2")
    crds.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": AGENT_NAMESPACE}})
    crds.apply(*(_object("v1", "ServiceAccount", name) for name in ("default", "operator", "viewer", "nobody")))
    crds.apply(rights, *_bindings())
    crds.apply(*(_node(name) for name in names), *(_pod(name) for name in names))
    api = crds.api()
    api.post(PATH, {"apiVersion": "bgpilot.io/v1alpha1", "kind": "BGPNodeState", "metadata": {"name": "node-1"}})
    api.patch(f"{PATH}/node-1/status", {"status": _state()})
    for name in names:
        api.patch(f"{NODES}/{name}/status", {"status": KUBELET})
        api.patch(f"{PODS}/{pod_of(name)}/status", {"status": RUNNING})
    yield Scene(crds, tmp_path_factory.mktemp("user"))
    api.delete(f"{PATH}/node-1")
    for name in names:
        api.delete(f"{PODS}/{pod_of(name)}", {"gracePeriodSeconds": 0})
        api.delete(f"{NODES}/{name}")


PODS = f"/api/v1/namespaces/{AGENT_NAMESPACE}/pods"
KUBELET = {
    "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
    "daemonEndpoints": {"kubeletEndpoint": {"Port": DEAD_PORT}},
}
RUNNING = {
    "phase": "Running",
    "containerStatuses": [
        {
            "name": "agent",
            "state": {"running": {}},
            "ready": True,
            "restartCount": 0,
            "image": "bgpilot",
            "imageID": "bgpilot",
        }
    ],
}


def _object(version: str, kind: str, name: str, **more: Any) -> dict[str, Any]:
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name, "namespace": AGENT_NAMESPACE}, **more}


def _bindings() -> Iterator[dict[str, Any]]:
    group = "rbac.authorization.k8s.io"
    of = {"kind": "ServiceAccount", "namespace": AGENT_NAMESPACE}
    viewers = [{**of, "name": "viewer"}, {**of, "name": "operator"}]
    for kind, role, subjects in (("ClusterRole", "bgpilot-viewer", viewers), ("Role", "bgpilot-operator", viewers[1:])):
        ref = {"apiGroup": group, "kind": kind, "name": role}
        binding = _object(f"{group}/v1", f"{kind}Binding", role, roleRef=ref, subjects=subjects)
        if kind == "ClusterRole":
            del binding["metadata"]["namespace"]
        yield binding


def _node(name: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": {RACK: name[-1]}}}


def _pod(node: str) -> dict[str, Any]:
    spec = {"nodeName": node, "containers": [{"name": "agent", "image": "bgpilot"}]}
    pod = _object("v1", "Pod", pod_of(node), spec=spec)
    pod["metadata"]["labels"] = {"app.kubernetes.io/name": "bgpilot"}
    return pod


def _state() -> dict[str, Any]:
    now = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
    return {**state_of({**router_up("tor", "192.0.2.1"), "since": now}), "heartbeatTime": now}


def test_who_may_look_sees_all_that_is_written(scene: Scene) -> None:
    """Pods are not theirs to list, and nothing but that is said."""
    for command in ("status", "peers"):
        done = scene(command, "-o", "json", account="viewer")
        assert (done.returncode, done.stderr) == (3, ""), done
        first, second = json.loads(done.stdout)["nodes"]
        assert (first["node"], first["silent"]) == ("node-1", None)
        assert (second["node"], second["silent"]["reason"]) == ("node-2", "agentUnknown")
        (note,) = json.loads(done.stdout)["notes"]
        assert "cannot list resource" in note
        assert "the rights that it takes are in the README" in note


def test_the_map_is_written(scene: Scene) -> None:
    done = scene("map", account="viewer")

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("bgpilot-map.html: 2 nodes (1 healthy, 1 unknown); 1 session (1 up) with routers")
    page = (scene.folder / "bgpilot-map.html").read_text()
    assert all(it in page for it in ("rack 1 · 1 node", "rack 2 · 1 node", "✓ tor: Established"))


def test_who_operates_may_ask_agents_and_is_told_why_there_is_no_answer(scene: Scene) -> None:
    """By its rights it gets as far as the kubelet, which is not there."""
    done = scene("peers", "-o", "json")
    assert (done.returncode, done.stderr) == (3, "")
    first, second = json.loads(done.stdout)["nodes"]
    assert first["source"] == "BGPNodeState"
    assert second["silent"]["reason"] == "execFailed"
    assert f"127.0.0.1:{DEAD_PORT}: connect: connection refused" in second["silent"]["text"]
    assert second["silent"]["fix"] == "the API server does not reach the node's kubelet: see the Node"

    done = scene("check")
    assert (done.returncode, done.stdout) == (4, "")
    assert done.stderr.startswith("bgpilot: no agent answers: execFailed: ")


def test_who_may_nothing_is_told_what_it_takes(scene: Scene) -> None:
    done = scene("status", account="nobody")

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("bgpilot: kubectl get nodes: Error from server (Forbidden): nodes is forbidden: ")
    assert done.stderr.endswith("Fix: the rights that it takes are in the README under `kubectl bgpilot`\n")


def test_a_cluster_out_of_reach_is_exit_code_4(scene: Scene) -> None:
    done = scene("status", server=f"https://127.0.0.1:{DEAD_PORT}")

    assert (done.returncode, done.stdout) == (4, "")
    assert done.stderr.startswith("bgpilot: kubectl get nodes: The connection to the server 127.0.0.1:1 was refused")


def test_flags_of_kubectl_are_passed_on(scene: Scene) -> None:
    done = scene("--context", "nowhere", "status")

    assert done.returncode == 1
    assert done.stderr.startswith("bgpilot: kubectl get nodes: ")
    assert done.stderr.endswith("`kubectl config get-contexts` lists those that there are\n")


def test_a_kind_that_is_not_there_is_named_in_the_words_that_are_looked_for(scene: Scene) -> None:
    with pytest.raises(subprocess.CalledProcessError) as error:
        scene.cluster.kubectl("get", "nosuchthings.bgpilot.io")

    assert "doesn't have a resource type" in error.value.stderr
