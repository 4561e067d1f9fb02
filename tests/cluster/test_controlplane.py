"""What the cluster tests take for granted about the control plane they run, and about the real API server.

The agent has no part in it.
"""

import json
import os
import ssl
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.lab.controlplane import ControlPlane
from tests.lab.gobuild import PROJECT
from tests.lab.kubeapi import ApiError, KubeApi
from tests.lab.kubeproxy import start_kube_proxy
from tests.lab.leash import frozen
from tests.lab.netns import Family
from tests.lab.pods import HTTP_PORT, curl, serve_http
from tests.lab.topology import Lab, family_of
from tests.lab.wait import wait_until

pytestmark = pytest.mark.cluster

NODES = "/api/v1/nodes"
WATCH_LIST = "watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"
SECONDS = 60.0

START_ONE_AND_WAIT = """
import json, sys
from tests.lab.controlplane import ControlPlane
with ControlPlane(controllers=["namespace-controller"]) as cluster:
    print(json.dumps({"folder": str(cluster.folder), "pids": [p.pid for p in cluster.running.values()]}), flush=True)
    sys.stdin.read()
"""


def node(name: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}}


@contextmanager
def posted(api: KubeApi, *names: str) -> Iterator[None]:
    for name in names:
        api.post(NODES, node(name))
    try:
        yield
    finally:
        for name in names:
            api.delete(f"{NODES}/{name}")


def names_of(api: KubeApi) -> list[str]:
    return sorted(item["metadata"]["name"] for item in api.get(NODES)["items"])


def lives(pid: int) -> bool:
    """A zombie is dead: who reaps it is not our business."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


def test_it_is_the_kubernetes_release_that_go_mod_names(control_plane: ControlPlane) -> None:
    version = control_plane.api().get("/version")["gitVersion"]

    assert f"k8s.io/kubernetes {version}\n" in (PROJECT / "tests/cluster/go/k8s/go.mod").read_text().replace(
        " //", "\n"
    )


def test_a_token_without_a_role_is_forbidden(control_plane: ControlPlane) -> None:
    with pytest.raises(ApiError) as refused:
        control_plane.api(control_plane.token("nobody")).get(NODES)

    assert (refused.value.status, refused.value.reason) == (403, "Forbidden")


def test_an_unknown_token_is_unauthorized(control_plane: ControlPlane) -> None:
    with pytest.raises(ApiError) as refused:
        control_plane.api("made-up").get(NODES)

    assert refused.value.status == 401


def test_a_service_account_may_do_what_its_role_says_and_no_more(control_plane: ControlPlane) -> None:
    control_plane.apply(
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "reader", "namespace": "default"}},
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRole",
            "metadata": {"name": "reader"},
            "rules": [{"apiGroups": [""], "resources": ["nodes"], "verbs": ["list"]}],
        },
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": "reader"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "reader"},
            "subjects": [{"kind": "ServiceAccount", "name": "reader", "namespace": "default"}],
        },
    )
    api = control_plane.api(control_plane.service_account_token("default", "reader"))

    assert wait_until(lambda: _answer_of(api), within=SECONDS) == "NodeList"
    with pytest.raises(ApiError, match="403 Forbidden"):
        api.post(NODES, node("not-for-readers"))


def _answer_of(api: KubeApi) -> str | None:
    try:
        kind: str = api.get(NODES)["kind"]
    except ApiError:  # the authorizer learns of a new role through a watch of its own
        return None
    return kind


def test_a_watch_list_sends_what_there_is_then_a_bookmark_then_changes(control_plane: ControlPlane) -> None:
    api = control_plane.api()
    with posted(api, "a", "b"):
        events = api.watch(f"{NODES}?{WATCH_LIST}")
        first = [next(events) for _ in range(3)]
        with posted(api, "c"):
            change = next(events)
        events.close()

    assert {event["object"]["metadata"]["name"] for event in first[:2]} == {"a", "b"}
    assert first[2]["type"] == "BOOKMARK"
    assert first[2]["object"]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}
    assert (change["type"], change["object"]["metadata"]["name"]) == ("ADDED", "c")


def test_a_field_that_the_schema_does_not_know_is_refused(control_plane: ControlPlane) -> None:
    with pytest.raises(subprocess.CalledProcessError) as refused:
        control_plane.apply(node("typo") | {"spec": {"podCDIR": "10.0.0.0/24"}})

    assert "podCDIR: field not declared in schema" in refused.value.stderr


def test_kubectl_works_with_the_kubeconfig_of_a_token_file(control_plane: ControlPlane, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text(control_plane.token("nobody"))
    kubeconfig = control_plane.kubeconfig(token_file=token)

    assert "nobody" in control_plane.kubectl("auth", "whoami", f"--kubeconfig={kubeconfig}")


def test_a_frozen_api_server_takes_connections_and_says_nothing(control_plane: ControlPlane) -> None:
    events = control_plane.api().watch(f"{NODES}?{WATCH_LIST}", within=0.5)

    with frozen(control_plane.running["kube-apiserver"]), pytest.raises(TimeoutError):
        next(events)

    assert control_plane.api().get("/readyz") == "ok"


def test_two_at_once_are_two_clusters(control_plane: ControlPlane) -> None:
    with ControlPlane() as other, posted(control_plane.api(), "mine"), posted(other.api(), "theirs"):
        assert names_of(control_plane.api()) == ["mine"]
        assert names_of(other.api()) == ["theirs"]


def test_it_comes_back_at_the_same_address_with_all_objects() -> None:
    with ControlPlane() as cluster:
        api = cluster.api()
        api.post(NODES, node("kept"))
        events = api.watch(f"{NODES}?{WATCH_LIST}")
        next(events)

        cluster.stop_apiserver()
        with pytest.raises(ConnectionRefusedError):
            api.get(NODES)
        cluster.start()
        assert names_of(api) == ["kept"]

        cluster.kill_apiserver()
        cluster.start()
        assert names_of(api) == ["kept"]


def test_an_orderly_end_ends_watches_cleanly_and_at_once() -> None:
    with ControlPlane() as cluster:
        events = cluster.api().watch(f"{NODES}?{WATCH_LIST}")
        assert next(events)["type"] == "BOOKMARK"

        cluster.stop_apiserver()

        assert list(events) == []


def test_a_restored_cluster_has_an_older_revision_and_the_objects_of_then() -> None:
    with ControlPlane() as cluster:
        api = cluster.api()
        api.post(NODES, node("before"))
        backup = cluster.backup()
        api.post(NODES, node("after"))
        for number in range(200):
            api.patch(f"{NODES}/after", {"metadata": {"labels": {"number": str(number)}}})
        seen = int(api.get(NODES)["metadata"]["resourceVersion"])

        cluster.restore(backup)

        assert names_of(api) == ["before"]
        assert int(api.get(NODES)["metadata"]["resourceVersion"]) < seen


def test_a_rotated_authority_is_trusted_by_new_clients_only() -> None:
    with ControlPlane() as cluster:
        before = cluster.api()

        cluster.rotate_ca()
        cluster.restart_apiserver()

        assert cluster.api().get("/readyz") == "ok"
        with pytest.raises(ssl.SSLCertVerificationError):
            before.get("/readyz")


def test_the_controllers_that_were_asked_for_run() -> None:
    with ControlPlane(controllers=["serviceaccount-controller"]) as cluster:
        accounts = "/api/v1/namespaces/default/serviceaccounts"
        found = wait_until(lambda: cluster.api().get(accounts)["items"], within=SECONDS)

    assert [account["metadata"]["name"] for account in found] == ["default"]


def test_it_outlives_the_thread_that_started_it() -> None:
    with ThreadPoolExecutor(max_workers=1) as thread:
        cluster = thread.submit(ControlPlane().__enter__).result()
    with closing(cluster):
        assert cluster.api().get("/readyz") == "ok"


def test_nothing_is_left_of_one_whose_test_was_killed() -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", START_ONE_AND_WAIT],
        cwd=PROJECT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": str(PROJECT)},
    )
    with child:
        assert child.stdout is not None
        told = json.loads(child.stdout.readline())
        assert len(told["pids"]) == 3
        assert all(lives(pid) for pid in told["pids"])
        child.kill()
    wait_until(lambda: not any(lives(pid) for pid in told["pids"]), within=SECONDS)
    with ControlPlane() as later:  # removes the folders of the dead
        assert later.folder.exists()
        assert not Path(told["folder"]).exists()


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab(nodes=1) as running:
        yield running


@pytest.mark.parametrize("family", ["ipv4", "ipv6"])
def test_kube_proxy_sends_a_cluster_ip_to_the_ready_pod(lab: Lab, family: Family) -> None:
    machine = lab.node(1)
    here = lab.host(f"api-{family}")
    address = next(address for address in here.addresses if family_of(address) == family)
    service_cidr, cluster_ip = {
        "ipv4": ("10.96.0.0/16", "10.96.7.7"),
        "ipv6": ("fd00:96::/112", "fd00:96::707"),
    }[family]
    pod = machine.add_pod(family)
    serve_http(pod, f"pod over {family}")
    with ControlPlane(netns=here.path, addresses=[str(address)], service_cidrs=[service_cidr]) as cluster:
        cluster.apply(
            node(machine.name),
            {
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": {"name": "web", "namespace": "default"},
                "spec": {"clusterIP": cluster_ip, "ports": [{"port": HTTP_PORT}]},
            },
            {
                "apiVersion": "discovery.k8s.io/v1",
                "kind": "EndpointSlice",
                "metadata": {
                    "name": "web-1",
                    "namespace": "default",
                    "labels": {"kubernetes.io/service-name": "web"},
                },
                "addressType": family.replace("ip", "IP"),
                "ports": [{"port": HTTP_PORT}],
                "endpoints": [{"addresses": [str(pod.address(family))], "conditions": {"ready": True}}],
            },
        )
        addresses = [{"type": "InternalIP", "address": str(machine.address(family))}]
        cluster.api().patch(f"{NODES}/{machine.name}/status", {"status": {"addresses": addresses}})

        proxy = start_kube_proxy(machine, node_name=machine.name, kubeconfig=cluster.kubeconfig())

        assert wait_until(lambda: curl(machine, cluster_ip), within=SECONDS) == f"pod over {family}"
        proxy.stop()
