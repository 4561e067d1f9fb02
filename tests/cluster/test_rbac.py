"""The running agent and the rights that deploy/agent.yaml grants it: as much as it uses, as the API server's audit log
has it, and no more.

A server with WatchList needs `watch` alone of it; one without makes the agent fall back to `list`, and use it all.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from tests.lab.minicluster import OUR_PROTOCOL, Agent, tor_peer
from tests.lab.realcluster import AGENT_ACCOUNT, AGENT_NAMESPACE, MANIFEST, SERVICES_ADVERTISED, RealCluster
from tests.lab.topology import Lab, Node
from tests.lab.wait import wait_until

pytestmark = pytest.mark.cluster

SECONDS = 60.0
USER = f"system:serviceaccount:{AGENT_NAMESPACE}:{AGENT_ACCOUNT}"
AUDIT_POLICY = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [{"level": "Metadata", "users": [USER]}, {"level": "None"}],
}
SECRETS = f"/api/v1/namespaces/{AGENT_NAMESPACE}/secrets"


class Right(NamedTuple):
    namespace: str
    """Empty: in all of them."""
    group: str
    resource: str
    verb: str


@dataclass(frozen=True, slots=True)
class Audited:
    agent: Agent
    events: tuple[Mapping[str, Any], ...]
    """What the agent asked of the API server."""
    listed: str
    """What `kubectl get events` shows."""

    @property
    def used(self) -> set[Right]:
        return {_right(event) for event in self.events}


def _right(event: Mapping[str, Any]) -> Right:
    """Events are written wherever their object is."""
    asked = event["objectRef"]
    namespace = "" if asked["resource"] == "events" else asked.get("namespace", "")
    resource = "/".join(filter(None, (asked["resource"], asked.get("subresource"))))
    return Right(namespace, asked.get("apiGroup", ""), resource, event["verb"])


@pytest.fixture(scope="module", params=["true", "false"], ids=["WatchList", "without-WatchList"])
def audited(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Audited]:
    """An agent that has seen all it can see: a Node, services, a peer and its Secret; then a password that is gone,
    which is worth an Event, and once more after a restart.
    """
    folder = tmp_path_factory.mktemp("audit")
    policy, log = folder / "policy.json", folder / "log"
    policy.write_text(json.dumps(AUDIT_POLICY))
    flags = [
        f"--audit-policy-file={policy}",
        f"--audit-log-path={log}",
        f"--feature-gates=WatchList={request.param}",
    ]
    with Lab(nodes=1, pod_bridge=False) as lab, RealCluster(lab, apiserver_flags=flags) as cluster:
        node = lab.node(1)
        cluster.register(node)
        cluster.apply(
            tor_peer(lab.router, passwordSecretRef={"name": "tor", "key": "md5"}),
            SERVICES_ADVERTISED,
            {
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": {"name": "tor", "namespace": AGENT_NAMESPACE},
                "stringData": {"md5": "tulip"},
            },
        )
        agent = cluster.start_agent(node, "--cleanup-on-uninstall")
        wait_until(lambda: str(lab.router.address()) in agent.view("peers")["peers"], within=SECONDS)
        cluster.discard(f"{SECRETS}/tor")
        wait_until(lambda: ("secretMissing", "BGPPeer tor") in cluster.problems(agent), within=SECONDS)
        wait_until(lambda: agent.view("status")["picture"]["unhealthy"] == [], within=SECONDS)
        wait_until(lambda: "bgppeer/tor" in _listed(cluster), within=SECONDS)
        _lose_discard_route(node)
        wait_until(lambda: "FIBDriftRepaired" in _listed(cluster), within=SECONDS)
        agent.stop()
        agent.restart()
        wait_until(lambda: "create 409" in _written(log), within=SECONDS)
        _lose_discard_route(node)
        wait_until(lambda: "patch 200" in _written(log), within=SECONDS)
        listed = _listed(cluster)
        cluster.discard(f"/apis/apps/v1/namespaces/{AGENT_NAMESPACE}/daemonsets/bgpilot")
        wait_until(lambda: "daemon_set_deleted" in agent.process.output(), within=SECONDS)
        agent.stop()  # what a watch was is written to the log when it ends
        wait_until(lambda: watched() <= {_right(event) for event in _events(log)}, within=SECONDS)
        yield Audited(agent, tuple(_events(log)), listed)


def _lose_discard_route(node: Node) -> None:
    """Somebody removes a route of ours; it is there again on return."""

    def discards() -> list[str]:
        return [prefix for prefix, hops in node.kernel_routes("ipv4", "proto", OUR_PROTOCOL).items() if not hops]

    (prefix,) = wait_until(discards, within=SECONDS)
    node.run(["ip", "route", "del", "unreachable", prefix])
    wait_until(discards, within=SECONDS)


def _written(log: Path) -> set[str]:
    """How the agent's Events were answered."""
    events = (event for event in _events(log) if event["objectRef"]["resource"] == "events")
    return {f"{event['verb']} {event['responseStatus']['code']}" for event in events}


def _listed(cluster: RealCluster) -> str:
    return cluster.control.kubectl("get", "events", "--namespace=default")


def _events(log: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.read_text().splitlines()]


def granted() -> set[Right]:
    """What the bindings of the manifest come to. A ClusterRole and a Role of one name are bound under that name."""
    roles = [thing for thing in yaml.safe_load_all(MANIFEST.read_text()) if thing["kind"] in ("Role", "ClusterRole")]
    return {
        Right(role["metadata"].get("namespace", ""), group, resource, verb)
        for role in roles
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def watched() -> set[Right]:
    return {right for right in granted() if right.verb == "watch"}


def test_nothing_the_agent_asks_for_is_forbidden(audited: Audited) -> None:
    refused = [(event["requestURI"], event["responseStatus"]["code"]) for event in audited.events if _refused(event)]

    assert refused == []
    assert "forbidden" not in audited.agent.process.output().lower()
    assert audited.used <= granted()


def _refused(event: Mapping[str, Any]) -> bool:
    return event["responseStatus"]["code"] in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}


def test_the_agent_watches_all_it_may(audited: Audited) -> None:
    assert {right for right in audited.used if right.verb == "watch"} == watched()


@pytest.mark.parametrize("audited", ["false"], indirect=True, ids=["without-WatchList"])
def test_every_right_that_is_granted_is_used(audited: Audited) -> None:
    assert audited.used == granted()


def test_of_node_states_it_asks_for_its_own_only_and_leaves_none_when_it_is_uninstalled(audited: Audited) -> None:
    about = [event for event in audited.events if event["objectRef"]["resource"] == "bgpnodestates"]

    assert {event["objectRef"].get("name") for event in about if event["verb"] != "create"} == {"node-1"}
    assert [event["verb"] for event in about].count("create") == 1
    assert (about[-1]["verb"], about[-1]["responseStatus"]["code"]) == ("delete", HTTPStatus.OK)


def test_secrets_are_asked_for_by_name_only(audited: Audited) -> None:
    asked = [event["requestURI"] for event in audited.events if event["objectRef"]["resource"] == "secrets"]

    assert asked
    assert all("fieldSelector=metadata.name%3Dtor" in uri for uri in asked), asked


def test_of_daemon_sets_it_asks_for_its_own_only(audited: Audited) -> None:
    asked = [event["requestURI"] for event in audited.events if event["objectRef"]["resource"] == "daemonsets"]

    assert asked
    assert all("fieldSelector=metadata.name%3Dbgpilot" in uri for uri in asked), asked


def test_kubectl_shows_each_event_once_with_its_object_and_the_reason_word(audited: Audited) -> None:
    """Also those that both lives of the agent had to tell."""
    lines = [line.split(maxsplit=4)[1:] for line in audited.listed.splitlines()]

    assert [line[:3] for line in lines].count(["Warning", "ConfigInvalid", "bgppeer/tor"]) == 1
    assert [line[:3] for line in lines].count(["Warning", "FIBDriftRepaired", "node/node-1"]) == 1
    assert any(line[2:3] == ["bgppeer/tor"] and line[3].startswith("secretMissing: ") for line in lines)
