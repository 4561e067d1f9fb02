"""The agent's watches against the real API server: all kinds, Secrets by name, and what happens when it goes away."""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest

from agent.cluster.api import ApiServer
from agent.cluster.driver import Cluster
from agent.cluster.health import Limits
from agent.cluster.world import World
from agent.intent import ExternalPeer
from agent.model import (
    ALWAYS_WATCHED,
    ClusterChange,
    EndpointSlice,
    Key,
    Kind,
    Listed,
    Node,
    Problem,
    Secret,
    Service,
    TrafficPolicy,
    WatchState,
)
from tests.lab.controlplane import ControlPlane
from tests.lab.gobuild import PROJECT
from tests.lab.leash import frozen
from tests.lab.line import Line
from tests.lab.wait import eventually

pytestmark = pytest.mark.cluster

CRDS = sorted((PROJECT / "deploy/crds").glob("bgp*.yaml"))
NODES = "/api/v1/nodes"
SECRETS = "/api/v1/namespaces/default/secrets"
LIMITS = Limits(absent_again_seconds=1.0, backoff_most_seconds=2.0, resync_spread_seconds=0.5)
WITHIN = 60.0
BACK_SECONDS = 15.0
"""Each watch alone may take 30."""
FAILURES_UNTIL_PATIENT = 6
"""In a row of each watch, on average: then some pauses are as long as they get."""


@pytest.fixture
def fresh() -> Iterator[ControlPlane]:
    """One that a test may ruin."""
    with ControlPlane() as running:
        yield running


class Agent:
    """The cluster room as the agent has it: watches that fill a World."""

    def __init__(self, api: ApiServer, limits: Limits) -> None:
        self.world = World()
        self.changes: list[ClusterChange] = []
        self.cluster = Cluster(api, self._put, "default", limits=limits)

    def _put(self, change: ClusterChange) -> None:
        self.changes.append(change)
        self.world.apply(change)

    def names(self, kind: Kind) -> set[str]:
        return {key.name for key in self.world.records(kind)}

    def secret(self, name: str) -> Secret | None:
        found = self.world.get(Key(Kind.SECRET, "default", name))
        assert found is None or isinstance(found, Secret)
        return found

    def password(self, name: str) -> str | None:
        found = self.secret(name)
        return found.values[0][1].reveal() if found is not None and found.values else None

    def lists(self, kind: Kind) -> int:
        return sum(isinstance(change, Listed) and change.kind is kind for change in self.changes)

    def restarts(self, kind: Kind, reason: str) -> int:
        return dict(self.world.watches[kind, None].restarts).get(reason, 0)

    def failures(self) -> int:
        """How often the API server was asked in vain."""
        return sum(self.restarts(kind, "apiUnreachable") for kind in ALWAYS_WATCHED)

    def healthy(self) -> bool:
        return self.world.watches.keys() >= {(kind, None) for kind in ALWAYS_WATCHED} and all(
            watch.healthy for watch in self.world.watches.values()
        )


@asynccontextmanager
async def agent(kubeconfig: Path, limits: Limits = LIMITS) -> AsyncIterator[Agent]:
    api = await ApiServer.open(kubeconfig)
    running = Agent(api, limits)
    await running.cluster.start()
    try:
        yield running
        assert not running.cluster.failed.done()
    finally:
        await running.cluster.stop()
        await api.close()


def node(name: str, number: int = 1, **status: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": {"rack": "r1"}},
        "spec": {"podCIDRs": [f"10.244.{number}.0/24"], "podCIDR": f"10.244.{number}.0/24"},
        "status": {"addresses": [{"type": "InternalIP", "address": f"192.168.0.{number}"}], **status},
    }


def secret(name: str, password: str) -> dict[str, Any]:
    data = {"password": base64.b64encode(password.encode()).decode()}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "data": data}


def role_for(user: str, *secrets: str) -> list[dict[str, Any]]:
    """What the agent is granted: its kinds everywhere, these Secrets in its own namespace."""
    rules = [
        {"apiGroups": [group], "resources": [resource], "verbs": ["list", "watch"]}
        for group, resource in [
            ("", "namespaces"),
            ("", "nodes"),
            ("", "services"),
            ("networking.k8s.io", "servicecidrs"),
            ("bgpilot.io", "bgpinstances"),
            ("bgpilot.io", "bgppeers"),
            ("bgpilot.io", "bgpadvertisements"),
        ]
    ]
    secret_rule = {"apiGroups": [""], "resources": ["secrets"], "resourceNames": secrets, "verbs": ["list", "watch"]}
    rbac = "rbac.authorization.k8s.io"
    subjects = [{"kind": "User", "name": user, "apiGroup": rbac}]
    named = {"name": f"test-{user}"}
    cluster_role = {"apiGroup": rbac, "kind": "ClusterRole", "name": named["name"]}
    role = {"apiGroup": rbac, "kind": "Role", "name": named["name"]}
    version = f"{rbac}/v1"
    local = {**named, "namespace": "default"}
    return [
        {"apiVersion": version, "kind": "ClusterRole", "metadata": named, "rules": rules},
        {
            "apiVersion": version,
            "kind": "ClusterRoleBinding",
            "metadata": named,
            "roleRef": cluster_role,
            "subjects": subjects,
        },
        {"apiVersion": version, "kind": "Role", "metadata": local, "rules": [secret_rule]},
        {"apiVersion": version, "kind": "RoleBinding", "metadata": local, "roleRef": role, "subjects": subjects},
    ]


async def test_every_kind_is_listed_then_followed(control_plane: ControlPlane) -> None:
    api = control_plane.api()
    service = {
        "metadata": {"name": "web", "labels": {"app": "web"}},
        "spec": {
            "ports": [{"port": 80}],
            "type": "LoadBalancer",
            "externalIPs": ["203.0.113.5"],
            "externalTrafficPolicy": "Local",
        },
    }
    endpoints = {
        "metadata": {"name": "web-1", "labels": {"kubernetes.io/service-name": "web"}},
        "addressType": "IPv4",
        "ports": [{"port": 80}],
        "endpoints": [{"addresses": ["10.244.1.5"], "nodeName": "followed-1"}],
    }
    async with agent(control_plane.kubeconfig()) as running:
        await eventually(lambda: running.world.complete, within=WITHIN)
        api.post(NODES, node("followed-1"))
        api.post("/api/v1/namespaces/default/services", service)
        ingress = {"status": {"loadBalancer": {"ingress": [{"ip": "198.51.100.1"}, {"hostname": "lb.example"}]}}}
        api.patch("/api/v1/namespaces/default/services/web/status", ingress)
        api.post("/apis/discovery.k8s.io/v1/namespaces/default/endpointslices", endpoints)
        place = Key(Kind.SERVICE, "default", "web")

        def all_there() -> bool:
            found = running.world.get(place)
            slices = running.world.slices_of("default", "web")
            return isinstance(found, Service) and bool(found.load_balancer_ips) and len(slices) == 1

        await eventually(all_there, within=WITHIN)
        found = running.world.get(place)
        (slice_found,) = running.world.slices_of("default", "web").values()
        node_found = running.world.get(Key(Kind.NODE, "", "followed-1"))
        api.delete(f"{NODES}/followed-1")
        api.delete("/api/v1/namespaces/default/services/web")
        api.delete("/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/web-1")
        await eventually(lambda: "followed-1" not in running.names(Kind.NODE), within=WITHIN)
        await eventually(lambda: not running.world.slices_of("default", "web"), within=WITHIN)

    assert isinstance(found, Service)
    assert isinstance(node_found, Node)
    assert isinstance(slice_found, EndpointSlice)
    assert found.cluster_ips[0] in ip_network("10.96.0.0/16")
    assert (found.external_ips, found.load_balancer_ips) == (
        (ip_address("203.0.113.5"),),
        (ip_address("198.51.100.1"),),
    )
    assert (found.internal_policy, found.external_policy) == (TrafficPolicy.CLUSTER, TrafficPolicy.LOCAL)
    assert slice_found.ready == {"followed-1"}
    assert (node_found.pod_cidrs, node_found.addresses) == (
        (ip_network("10.244.1.0/24"),),
        (ip_address("192.168.0.1"),),
    )
    assert node_found.uid
    assert node_found.created > 1_700_000_000
    assert running.names(Kind.SERVICE_CIDR) == {"kubernetes"}
    assert running.world.problems == frozenset()


async def test_a_heartbeat_of_a_node_changes_nothing(control_plane: ControlPlane) -> None:
    api = control_plane.api()
    api.post(NODES, node("beating"))
    async with agent(control_plane.kubeconfig()) as running:
        await eventually(lambda: "beating" in running.names(Kind.NODE), within=WITHIN)
        before = len([change for change in running.changes if not isinstance(change, WatchState)])
        for beat in range(5):
            condition = {"type": "Ready", "status": "True", "lastHeartbeatTime": f"2026-01-01T00:00:0{beat}Z"}
            api.patch(f"{NODES}/beating/status", {"status": {"conditions": [condition]}})
        api.post(NODES, node("last", 2))
        await eventually(lambda: "last" in running.names(Kind.NODE), within=WITHIN)
        after = len([change for change in running.changes if not isinstance(change, WatchState)])
    for name in ("beating", "last"):
        api.delete(f"{NODES}/{name}")

    assert after == before + 1


async def test_custom_resources_come_when_they_are_installed(fresh: ControlPlane) -> None:
    async with agent(fresh.kubeconfig()) as running:
        await eventually(lambda: running.world.complete, within=WITHIN)
        installed_without = running.world.problems
        await asyncio.to_thread(fresh.apply, *CRDS)
        peer = {
            "apiVersion": "bgpilot.io/v1alpha1",
            "kind": "BGPPeer",
            "metadata": {"name": "tor"},
            "spec": {"address": "192.0.2.1", "asn": 65001},
        }
        path = "/apis/bgpilot.io/v1alpha1/bgppeers"
        await eventually(lambda: asyncio.to_thread(_posted, fresh, path, peer), within=WITHIN)
        await eventually(lambda: running.names(Kind.PEER) == {"tor"}, within=WITHIN)
        await eventually(running.healthy, within=WITHIN)

    found = running.world.get(Key(Kind.PEER, "", "tor"))
    assert installed_without == frozenset()
    assert isinstance(found, ExternalPeer)
    assert (found.address, found.asn, found.port, found.hold_seconds) == (ip_address("192.0.2.1"), 65001, 179, 90)


def _posted(cluster: ControlPlane, path: str, body: dict[str, Any]) -> bool:
    """A definition takes a moment before it is served."""
    try:
        cluster.api().post(path, body)
    except Exception as error:  # whatever the client calls it: the assertion is what `eventually` shows
        raise AssertionError(str(error)) from error
    return True


async def test_without_a_schema_a_malformed_resource_stands_beside_good_ones(fresh: ControlPlane) -> None:
    definition = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "bgppeers.bgpilot.io"},
        "spec": {
            "group": "bgpilot.io",
            "scope": "Cluster",
            "names": {"kind": "BGPPeer", "listKind": "BGPPeerList", "plural": "bgppeers", "singular": "bgppeer"},
            "versions": [
                {
                    "name": "v1alpha1",
                    "served": True,
                    "storage": True,
                    "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}},
                }
            ],
        },
    }
    fresh.api().post("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", definition)
    path = "/apis/bgpilot.io/v1alpha1/bgppeers"
    for name, spec in {
        "bad": {"address": ["192.0.2.1"], "asn": 1},
        "good": {"address": "192.0.2.1", "asn": 1},
    }.items():
        body = {"apiVersion": "bgpilot.io/v1alpha1", "kind": "BGPPeer", "metadata": {"name": name}, "spec": spec}
        await eventually(lambda body=body: asyncio.to_thread(_posted, fresh, path, body), within=WITHIN)  # type: ignore[misc]

    async with agent(fresh.kubeconfig()) as running:
        await eventually(lambda: running.names(Kind.PEER) == {"good"}, within=WITHIN)
        (problem,) = await eventually(lambda: running.world.problems, within=WITHIN)

    assert problem.subject == "BGPPeer bad"
    assert problem.message == "spec.address = ['192.0.2.1'] is not a text: the whole object is not used"


async def test_secrets_are_followed_by_name(fresh: ControlPlane) -> None:
    api = fresh.api()
    api.post(SECRETS, secret("tor", "one"))
    async with agent(fresh.kubeconfig()) as running:
        running.cluster.watch_secrets(frozenset({"tor", "missing"}))
        await eventually(lambda: running.world.secrets_known(frozenset({"tor", "missing"})), within=WITHIN)
        assert running.password("tor") == "one"
        api.patch(f"{SECRETS}/tor", secret("tor", "two"))
        api.post(SECRETS, secret("missing", "there"))
        await eventually(
            lambda: (running.password("tor"), running.password("missing")) == ("two", "there"), within=WITHIN
        )
        running.cluster.watch_secrets(frozenset({"tor"}))
        assert running.secret("missing") is None
        api.delete(f"{SECRETS}/tor")
        await eventually(lambda: running.password("tor") is None, within=WITHIN)

    found = running.secret("tor")
    assert found is not None
    assert not found.found
    assert found.why == "the namespace default has no Secret tor"


FORBIDDEN = {"watch of EndpointSlice", "watch of Secret default/other"}


def only_forbidden(running: Agent) -> dict[str, Problem]:
    """The problems by subject, once these are all there are: a watch may break off while resources are made known."""
    problems = {problem.subject: problem for problem in running.world.problems}
    return problems if problems.keys() == FORBIDDEN else {}


async def test_rights_that_are_missing_are_named_and_block_nothing_else() -> None:
    with ControlPlane(users={"agent": ()}) as cluster:
        cluster.apply(*CRDS)
        cluster.apply(*role_for("agent", "mine"))
        cluster.api().post(SECRETS, secret("mine", "one"))
        async with agent(cluster.kubeconfig(cluster.token("agent"))) as running:
            running.cluster.watch_secrets(frozenset({"mine", "other"}))
            await eventually(lambda: running.password("mine") == "one", within=WITHIN)
            await eventually(lambda: running.secret("other"), within=WITHIN)
            await eventually(lambda: running.lists(Kind.ADVERTISEMENT) == 1, within=WITHIN)
            problems = await eventually(lambda: only_forbidden(running), within=WITHIN)

    other = running.secret("other")
    assert not running.world.complete
    assert other is not None
    assert not other.found
    assert "forbidden" in other.why
    slices = problems["watch of EndpointSlice"]
    assert slices.reason == "apiForbidden"
    assert 'User "agent" cannot' in slices.message
    assert 'apiGroups ["discovery.k8s.io"], resources ["endpointslices"], verbs ["list", "watch"]' in slices.fix


async def test_the_picture_survives_a_restart_of_the_api_server_and_goes_on(fresh: ControlPlane) -> None:
    fresh.api().post(NODES, node("stays"))
    async with agent(fresh.kubeconfig()) as running:
        await eventually(lambda: running.world.complete, within=WITHIN)
        await asyncio.to_thread(fresh.stop_apiserver)
        await eventually(lambda: running.world.problems, within=WITHIN)
        while_away = running.names(Kind.NODE)
        await asyncio.to_thread(fresh.start)
        await asyncio.to_thread(fresh.api().post, NODES, node("new", 2))
        await eventually(lambda: running.names(Kind.NODE) == {"stays", "new"}, within=WITHIN)
        await eventually(running.healthy, within=WITHIN)

    assert while_away == {"stays"}
    assert running.world.problems == frozenset()


async def test_a_store_that_goes_back_in_time_is_believed(fresh: ControlPlane) -> None:
    fresh.api().post(NODES, node("old"))
    backup = await asyncio.to_thread(fresh.backup)
    for number in range(2, 60):
        fresh.api().post(NODES, node(f"new-{number}", number))
    async with agent(fresh.kubeconfig()) as running:
        await eventually(lambda: len(running.names(Kind.NODE)) == 59, within=WITHIN)
        await asyncio.to_thread(fresh.restore, backup)
        await eventually(lambda: running.names(Kind.NODE) == {"old"}, within=150.0)
        await asyncio.to_thread(fresh.api().post, NODES, node("after", 2))
        await eventually(lambda: running.names(Kind.NODE) == {"old", "after"}, within=WITHIN)


async def test_a_store_that_went_back_and_on_beyond_what_was_seen_is_known_all_the_same(fresh: ControlPlane) -> None:
    fresh.api().post(NODES, node("old"))
    backup = await asyncio.to_thread(fresh.backup)
    fresh.api().post(NODES, node("new", 2))
    async with Line(fresh.server) as line, agent(fresh.kubeconfig(server=line.url)) as running:
        await eventually(lambda: running.names(Kind.NODE) == {"old", "new"}, within=WITHIN)
        line.cut()
        await eventually(lambda: len(running.world.problems) == len(ALWAYS_WATCHED), within=WITHIN)
        seen = fresh.revision()
        await asyncio.to_thread(fresh.restore, backup)
        while fresh.revision() <= seen:
            await asyncio.to_thread(fresh.api().post, SECRETS, {"metadata": {"generateName": "other-"}})
        await line.mend()
        await eventually(lambda: running.names(Kind.NODE) == {"old"}, within=WITHIN)

    assert running.restarts(Kind.NODE, "witnessChanged") == 1


async def test_all_watches_are_back_within_seconds_of_a_long_time_without_the_api_server(fresh: ControlPlane) -> None:
    async with agent(fresh.kubeconfig(), Limits(absent_again_seconds=1.0)) as running:
        await eventually(lambda: running.world.complete, within=WITHIN)
        await asyncio.to_thread(fresh.kill_apiserver)
        await eventually(lambda: running.failures() > FAILURES_UNTIL_PATIENT * len(ALWAYS_WATCHED), within=150.0)
        while_away = running.world.complete
        await asyncio.to_thread(fresh.start)
        began_at = time.monotonic()
        await eventually(running.healthy, within=WITHIN)
        took = time.monotonic() - began_at

    assert while_away
    assert took < BACK_SECONDS


async def test_what_an_agent_missed_before_the_store_was_compacted_is_seen_when_it_is_back(fresh: ControlPlane) -> None:
    for number, name in enumerate(("goes", "stays"), 1):  # the last one testifies that the store is the same
        fresh.api().post(NODES, node(name, number))
    async with Line(fresh.server) as line, agent(fresh.kubeconfig(server=line.url)) as running:
        await eventually(lambda: running.names(Kind.NODE) == {"stays", "goes"}, within=WITHIN)
        line.cut()
        await eventually(lambda: len(running.world.problems) == len(ALWAYS_WATCHED), within=WITHIN)
        await asyncio.to_thread(fresh.api().delete, f"{NODES}/goes")
        await asyncio.to_thread(fresh.api().post, NODES, node("came", 3))
        await asyncio.to_thread(fresh.restart_apiserver)
        revision = await asyncio.to_thread(fresh.compact)
        while_away = running.names(Kind.NODE)
        await line.mend()
        await eventually(lambda: running.names(Kind.NODE) == {"stays", "came"}, within=WITHIN)
        await eventually(running.healthy, within=WITHIN)
        expired = running.restarts(Kind.NODE, "revisionExpired")

    assert revision > 0
    assert while_away == {"stays", "goes"}
    assert expired == 1


async def test_an_api_server_that_hangs_is_noticed_and_found_again(fresh: ControlPlane) -> None:
    limits = Limits(silence_seconds=3.0, sync_silence_seconds=10.0, connect_seconds=3.0, backoff_most_seconds=1.0)
    async with agent(fresh.kubeconfig(), limits) as running:
        await eventually(lambda: running.world.complete, within=WITHIN)
        with frozen(fresh.running["kube-apiserver"]):
            await eventually(
                lambda: {problem.reason for problem in running.world.problems} & {"streamSilent"}, within=WITHIN
            )
        await asyncio.to_thread(fresh.api().post, NODES, node("after"))
        await eventually(lambda: running.names(Kind.NODE) == {"after"}, within=WITHIN)


async def test_a_rotated_certificate_authority_is_followed(fresh: ControlPlane) -> None:
    async with agent(fresh.kubeconfig()) as running:
        await eventually(lambda: running.world.complete, within=WITHIN)
        fresh.rotate_ca()
        await asyncio.to_thread(fresh.restart_apiserver)
        await asyncio.to_thread(fresh.api().post, NODES, node("after"))
        await eventually(lambda: running.names(Kind.NODE) == {"after"}, within=WITHIN)


async def test_a_rotated_token_file_is_followed(fresh: ControlPlane) -> None:
    token = fresh.folder / "token"
    token.write_text("of-nobody\n")
    config = fresh.kubeconfig(token_file=token)
    async with agent(config) as running:
        problem = next(iter(await eventually(lambda: running.world.problems, within=WITHIN)))
        token.write_text(f"{fresh.token()}\n")
        await eventually(lambda: running.world.complete, within=WITHIN)
        await eventually(running.healthy, within=WITHIN)

    assert problem.reason == "apiUnauthorized"
    assert str(config) in problem.fix


async def test_without_watch_list_the_picture_is_the_same() -> None:
    with ControlPlane(apiserver_flags=["--feature-gates=WatchList=false"]) as cluster:
        api = cluster.api()
        with api:
            for number in range(1, 200):
                api.post(NODES, node(f"n{number}", number))
        async with agent(cluster.kubeconfig()) as running:
            await eventually(lambda: running.world.complete, within=WITHIN)
            listed = len(running.names(Kind.NODE))
            api.delete(f"{NODES}/n1")
            await eventually(lambda: len(running.names(Kind.NODE)) == 198, within=WITHIN)

    assert listed == 199
    assert running.world.problems == frozenset()
