"""deploy/agent.yaml on a real API server: taken with strict fields, and with exactly the rights that the agent's own
watches use, as the server's audit log has them. What its custom kinds take and refuse is in test_crds.py.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from agent.cluster.api import ApiServer
from agent.cluster.driver import Cluster
from agent.model import (
    ALWAYS_WATCHED,
    ClusterChange,
    DaemonSet,
    Kind,
    Listed,
    Secret,
)
from agent.settings import DEFAULT_DAEMON_SET
from tests.lab.controlplane import ControlPlane
from tests.lab.gobuild import PROJECT
from tests.lab.kubeapi import ApiError, KubeApi
from tests.lab.quiet import leaving_no_connection
from tests.lab.wait import eventually, wait_until

pytestmark = pytest.mark.cluster

MANIFEST = PROJECT / "deploy/agent.yaml"
NAMESPACE, ACCOUNT = "bgpilot-system", "bgpilot-agent"
USER = f"system:serviceaccount:{NAMESPACE}:{ACCOUNT}"
API = "/apis/bgpilot.io/v1alpha1"
SECONDS = 60.0
AUDIT_POLICY = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [{"level": "Metadata", "users": [USER]}, {"level": "None"}],
}


@pytest.fixture(scope="module")
def audit_log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("audit") / "log"


@pytest.fixture(scope="module")
def cluster(audit_log: Path) -> Iterator[ControlPlane]:
    """With the manifest applied as its README says, by a service account's controller and all."""
    policy = audit_log.with_name("policy.json")
    policy.write_text(json.dumps(AUDIT_POLICY))
    flags = [f"--audit-policy-file={policy}", f"--audit-log-path={audit_log}"]
    with ControlPlane(apiserver_flags=flags) as running:
        running.apply(MANIFEST)
        running.kubectl("wait", "--for=condition=Established", "crd", "--all", f"--timeout={SECONDS:.0f}s")
        yield running


@pytest.fixture(scope="module")
def api(cluster: ControlPlane) -> KubeApi:
    return cluster.api()


def test_the_manifest_can_be_applied_again_and_changes_nothing(cluster: ControlPlane, api: KubeApi) -> None:
    daemon_set = f"/apis/apps/v1/namespaces/{NAMESPACE}/daemonsets/bgpilot"
    before = api.get(daemon_set)["metadata"]["generation"]

    cluster.apply(MANIFEST)

    assert api.get(daemon_set)["metadata"]["generation"] == before


def test_client_side_apply_takes_it_too(cluster: ControlPlane) -> None:
    cluster.kubectl("apply", "--dry-run=server", "--validate=strict", "-f", str(MANIFEST))


def test_a_field_that_does_not_exist_would_have_been_refused(cluster: ControlPlane) -> None:
    (daemon_set,) = (thing for thing in yaml.safe_load_all(MANIFEST.read_text()) if thing["kind"] == "DaemonSet")
    daemon_set["spec"]["template"]["spec"]["hostNetwrok"] = True

    with pytest.raises(subprocess.CalledProcessError) as refused:
        cluster.apply(daemon_set)

    assert "field not declared in schema" in refused.value.stderr or "unknown field" in refused.value.stderr


def test_kustomize_makes_the_same_objects(cluster: ControlPlane) -> None:
    def known(text: str) -> list[str]:
        return sorted(json.dumps(thing, sort_keys=True) for thing in yaml.safe_load_all(text))

    assert known(cluster.kubectl("kustomize", str(PROJECT / "deploy/base"))) == known(MANIFEST.read_text())


def test_schemas_are_structural_and_names_accepted(api: KubeApi) -> None:
    for definition in api.get("/apis/apiextensions.k8s.io/v1/customresourcedefinitions")["items"]:
        conditions = {entry["type"]: entry["status"] for entry in definition["status"]["conditions"]}

        assert conditions == {"NamesAccepted": "True", "Established": "True"}


# Rights.


@pytest.fixture
async def pictured(cluster: ControlPlane, api: KubeApi) -> dict[Kind, Listed]:
    """What the agent's own watches see with the service account's token, the BGPPeer's Secret included."""
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "tor"}, "stringData": {"md5": "x"}}
    path = f"/api/v1/namespaces/{NAMESPACE}/secrets"
    await asyncio.to_thread(api.post, path, secret)
    seen: dict[Kind, Listed] = {}

    def put(change: ClusterChange) -> None:
        if isinstance(change, Listed):
            seen[change.kind] = change

    token = await asyncio.to_thread(cluster.service_account_token, NAMESPACE, ACCOUNT)
    async with leaving_no_connection():
        server = await ApiServer.open(cluster.kubeconfig(token))
        watches = Cluster(server, put, NAMESPACE)
        await watches.start()
        watches.watch_secrets(frozenset({"tor"}))
        watches.watch_daemon_set(DEFAULT_DAEMON_SET)
        try:
            await eventually(lambda: seen.keys() == ALWAYS_WATCHED | {Kind.SECRET, Kind.DAEMON_SET}, within=SECONDS)
        finally:
            await watches.stop()
            await server.close()
    await asyncio.to_thread(api.delete, f"{path}/tor")
    return seen


async def test_the_agents_watches_work_with_the_rights_of_the_manifest(pictured: dict[Kind, Listed]) -> None:
    (secret,) = pictured[Kind.SECRET].records.values()

    assert isinstance(secret, Secret)
    assert [(name, value.reveal()) for name, value in secret.values] == [("md5", "x")]
    assert list(pictured[Kind.DAEMON_SET].records.values()) == [DaemonSet(name=DEFAULT_DAEMON_SET)]


@pytest.mark.usefixtures("pictured")
async def test_the_picture_needs_no_right_but_list_and_watch(audit_log: Path) -> None:
    """A list needs only `list`, WatchList only `watch`: the first is what the agent falls back to."""
    allowed_verbs = {(resource, verb) for resource in watched_resources() for verb in ("list", "watch")}

    used = wait_until(lambda: requests(audit_log), within=SECONDS)

    assert used <= allowed_verbs
    assert {resource for resource, _ in used} == watched_resources()


def watched_resources() -> set[str]:
    roles = [thing for thing in yaml.safe_load_all(MANIFEST.read_text()) if thing["kind"] in ("Role", "ClusterRole")]
    rules = [rule for role in roles for rule in role["rules"] if "watch" in rule["verbs"]]
    return {resource for rule in rules for resource in rule["resources"]}


def requests(audit_log: Path) -> set[tuple[str, str]]:
    """Resource and verb of what the agent's client asked for; all of it was granted."""
    events = [json.loads(line) for line in audit_log.read_text().splitlines()]
    agents = [event for event in events if event["userAgent"].startswith("bgpilot/")]
    assert {event["annotations"]["authorization.k8s.io/decision"] for event in agents} <= {"allow"}
    return {(event["objectRef"]["resource"], event["verb"]) for event in agents}


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/api/v1/secrets"),
        ("GET", "/api/v1/namespaces/default/secrets"),
        ("GET", f"/api/v1/namespaces/{NAMESPACE}/secrets/tor"),
        ("GET", "/api/v1/pods"),
        ("GET", f"/apis/apps/v1/namespaces/{NAMESPACE}/daemonsets"),
        ("DELETE", f"/apis/apps/v1/namespaces/{NAMESPACE}/daemonsets/bgpilot"),
        ("GET", "/api/v1/nodes/worker-1"),
        ("DELETE", f"{API}/bgppeers/sample"),
        ("POST", "/api/v1/nodes"),
    ],
)
def test_everything_else_is_forbidden(cluster: ControlPlane, method: str, path: str) -> None:
    agent = cluster.api(cluster.service_account_token(NAMESPACE, ACCOUNT))

    with pytest.raises(ApiError) as refused:
        agent.request(method, path, {"metadata": {"name": "x"}} if method == "POST" else None)

    assert refused.value.reason == "Forbidden"
