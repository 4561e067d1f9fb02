"""The BGPNodeState of a node on a real API server: a real agent with the rights of the manifest keeps it, and the
server's audit log says when it is written.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest

from agent.cluster.nodestate import HEARTBEAT_SECONDS, JOIN_SECONDS, LEAST_SECONDS, PATH
from tests.lab.frr import Frr
from tests.lab.kubeapi import ApiError
from tests.lab.minicluster import Agent, tor, tor_peer
from tests.lab.realcluster import NODES, SERVICES, SERVICES_ADVERTISED, RealCluster, web_service
from tests.lab.topology import Lab, Node
from tests.lab.wait import wait_until

pytestmark = pytest.mark.cluster

SECONDS = 60.0
AUDIT_POLICY = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [
        {
            "level": "Request",
            "resources": [{"group": "bgpilot.io", "resources": ["bgpnodestates", "bgpnodestates/status"]}],
        },
        {"level": "None"},
    ],
}


@dataclass(frozen=True, slots=True)
class Scene:
    lab: Lab
    cluster: RealCluster
    frr: Frr
    node: Node
    agent: Agent
    audit: Path

    def object(self) -> Mapping[str, Any]:
        thing: Mapping[str, Any] = self.cluster.api.get(f"{PATH}/{self.node.name}")
        return thing

    def exists(self) -> bool:
        """A kind that is new is "(re)initializing" for a while (429)."""
        try:
            return "status" in self.object()
        except ApiError as error:
            if error.status not in {HTTPStatus.NOT_FOUND, HTTPStatus.TOO_MANY_REQUESTS}:
                raise
            return False

    def columns(self) -> dict[str, str]:
        """As `kubectl get bgpnodestates` shows them."""
        headings, row = self.cluster.control.kubectl("get", "bgpnodestates", self.node.name).splitlines()
        starts = [headings.index(word) for word in headings.split()]
        cells = [row[start:end].strip() for start, end in zip(starts, [*starts[1:], None], strict=True)]
        return dict(zip(headings.split(), cells, strict=True))

    def shows(self, **wanted: str) -> bool:
        shown = self.columns()
        assert {key: shown[key] for key in wanted} == wanted
        return True

    def written(self, since: int = 0) -> list[Mapping[str, Any]]:
        """What the agent has sent to be written, from so many writes on."""
        events = (json.loads(line) for line in self.audit.read_text().splitlines())
        own = [it for it in events if it["userAgent"].startswith("bgpilot/") and it["verb"] != "get"]
        return [it["requestObject"] for it in own[since:]]


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    folder = tmp_path_factory.mktemp("audit")
    policy, audit = folder / "policy.json", folder / "log"
    policy.write_text(json.dumps(AUDIT_POLICY))
    flags = [f"--audit-policy-file={policy}", f"--audit-log-path={audit}"]
    with Lab(nodes=1, pod_bridge=False) as lab, RealCluster(lab, apiserver_flags=flags) as cluster:
        node, frr = lab.node(1), tor(lab.router)
        cluster.register(node)
        cluster.apply(tor_peer(lab.router), SERVICES_ADVERTISED, web_service("web", app="web"))
        scene = Scene(lab, cluster, frr, node, cluster.start_agent(node), audit)
        wait_until(scene.exists, within=SECONDS)
        wait_until(lambda: scene.shows(PEERS="1/1", READY="True", PROBLEMS="", AS="64512"), within=SECONDS)
        yield scene


def test_it_is_owned_by_the_node_and_about_the_versions_that_there_are(scene: Scene) -> None:
    thing, node = scene.object(), scene.cluster.api.get(f"{NODES}/{scene.node.name}")
    peer = scene.cluster.api.get("/apis/bgpilot.io/v1alpha1/bgppeers/tor")
    (told,) = (it for it in thing["status"]["resources"] if it["kind"] == "BGPPeer")

    assert [it["uid"] for it in thing["metadata"]["ownerReferences"]] == [node["metadata"]["uid"]]
    assert {it["observedGeneration"] for it in told["conditions"]} == {peer["metadata"]["generation"]}


def test_the_heartbeat_is_of_now(scene: Scene) -> None:
    age = datetime.now(UTC) - datetime.fromisoformat(scene.object()["status"]["heartbeatTime"])

    assert age < timedelta(seconds=100)


def test_nothing_is_written_while_nothing_worth_it_changes(scene: Scene) -> None:
    """Passes without news, time for a look at what came of them, and then one with news: that alone is written."""
    before = len(scene.written())
    assert before > 0
    passes = scene.agent.view("status")["loop"]["passes"]
    for turn in range(3):
        scene.cluster.api.patch(f"{SERVICES}/web", {"metadata": {"labels": {"turn": str(turn)}}})
        wait_until(lambda turn=turn: scene.agent.view("status")["loop"]["passes"] > passes + turn, within=SECONDS)
    looked = scene.agent.view("status")["uptime_seconds"] + LEAST_SECONDS + 2 * max(JOIN_SECONDS)
    wait_until(lambda: scene.agent.view("status")["uptime_seconds"] > looked, within=SECONDS)
    scene.cluster.api.patch("/apis/bgpilot.io/v1alpha1/bgppeers/tor", {"spec": {"description": "news"}})

    def told() -> bool:
        last = scene.written(before)[-1]["status"]
        return any(it["observedGeneration"] == 2 for of in last.get("resources", ()) for it in of["conditions"])

    wait_until(lambda: scene.written(before) and told(), within=SECONDS)
    quiet = [sent["status"] for sent in scene.written(before)[:-1]]
    assert all(sent.keys() == {"heartbeatTime"} for sent in quiet), quiet
    assert len(quiet) <= 1, "there is at most one heartbeat in so short a time"


def test_a_router_that_is_taken_down_shows_within_seconds(scene: Scene) -> None:
    scene.frr.stop()
    began_at = time.monotonic()

    wait_until(lambda: scene.shows(PEERS="0/1"), within=SECONDS)

    assert time.monotonic() - began_at < HEARTBEAT_SECONDS[0], "it is not the heartbeat that tells it"
    (told,) = scene.object()["status"]["peers"]
    assert (told["established"], told["reason"]) == (False, "notEstablished")
    assert told["lastError"]["text"]


def test_a_bgppeer_that_lacks_its_secret_says_so_in_its_conditions(scene: Scene) -> None:
    reference = {"passwordSecretRef": {"name": "tor", "key": "md5"}}
    scene.cluster.api.patch("/apis/bgpilot.io/v1alpha1/bgppeers/tor", {"spec": reference})

    def conditions() -> dict[str, tuple[str, str, int]]:
        (told,) = (it for it in scene.object()["status"]["resources"] if it["kind"] == "BGPPeer")
        return {it["type"]: (it["status"], it["reason"], it["observedGeneration"]) for it in told["conditions"]}

    missing = ("False", "secretMissing", 3)
    wait_until(lambda: conditions()["ResolvedRefs"] == missing, within=SECONDS)
    assert conditions() == {
        "Accepted": ("True", "Accepted", 3),
        "ResolvedRefs": missing,
        "Programmed": missing,
        "Ready": missing,
    }


def test_the_end_of_the_agent_shows(scene: Scene) -> None:
    assert scene.agent.stop() == 0

    assert scene.shows(READY="Unknown", PROBLEMS="Stopped")
