"""The embedded API server passes the contract cases, and does what tests, demo and bench need beyond them."""

from __future__ import annotations

import base64
import json
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes import client, config

from agent.cluster.api import ApiServer
from agent.cluster.driver import Cluster
from agent.model import (
    ALWAYS_WATCHED,
    Applied,
    ClusterChange,
    Key,
    Kind,
    Listed,
    WatchState,
)
from tests.lab.api import EmbeddedApi
from tests.lab.api_contract import CASES, Case, Scratch
from tests.lab.api_scratch import NODES, WATCH_LIST, only, until_bookmark, version
from tests.lab.apikinds import Refused
from tests.lab.apistore import Store, merged
from tests.lab.kubeapi import ApiError, KubeApi
from tests.lab.quiet import leaving_no_connection
from tests.lab.wait import eventually

LAG_SECONDS = 0.3
NODE = {
    "kind": "Node",
    "metadata": {"name": "worker-1"},
    "spec": {"podCIDRs": ["10.7.1.0/24"]},
    "status": {"addresses": [{"type": "InternalIP", "address": "192.0.2.1"}]},
}


@pytest.fixture(scope="module")
def shared() -> Iterator[EmbeddedApi]:
    with EmbeddedApi(token="a-token", future_seconds=0.2) as running:
        yield running


@pytest.fixture
def api() -> Iterator[EmbeddedApi]:
    with EmbeddedApi() as running:
        yield running


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_contract(shared: EmbeddedApi, case: Case) -> None:
    scratch = Scratch(shared.client())
    try:
        case(scratch)
    finally:
        scratch.clean()


def test_apply_takes_the_whole_object_with_its_status(api: EmbeddedApi) -> None:
    api.apply(NODE)

    assert api.client().get(f"{NODES}/worker-1")["status"] == NODE["status"]


def test_apply_makes_the_namespace_too(api: EmbeddedApi) -> None:
    api.apply({"kind": "Secret", "metadata": {"name": "tor", "namespace": "bgpilot-system"}})

    assert "bgpilot-system" in {namespace["metadata"]["name"] for namespace in api.list("Namespace")}


def test_changes_from_the_side_reach_a_running_watch(api: EmbeddedApi) -> None:
    events = api.client().watch(f"{NODES}?{WATCH_LIST}&timeoutSeconds=20")
    until_bookmark(events)

    api.apply(NODE)
    api.merge("Node", "worker-1", {"status": {"addresses": []}})
    api.apply(api.get("Node", "worker-1"))
    api.delete("Node", "worker-1")

    assert [next(events)["type"] for _ in range(3)] == ["ADDED", "MODIFIED", "DELETED"]


def test_after_a_compaction_a_watch_from_before_is_told_410(api: EmbeddedApi) -> None:
    before = api.revision
    api.apply(NODE)
    api.compact()

    (event,) = api.client().watch(f"{NODES}?watch=1&resourceVersion={before}&timeoutSeconds=20")

    assert (event["type"], event["object"]["code"]) == ("ERROR", 410)


def test_a_compaction_does_not_end_a_watch_that_is_up_to_date(api: EmbeddedApi) -> None:
    events = api.client().watch(f"{NODES}?{WATCH_LIST}&timeoutSeconds=20")
    until_bookmark(events)
    api.apply(NODE)
    next(events)

    api.compact()
    api.delete("Node", "worker-1")

    assert next(events)["type"] == "DELETED"


def test_a_watch_that_falls_behind_the_history_is_told_410() -> None:
    store = Store(history=2)
    node = store.kind("Node")
    start = store.revision
    for number in range(6):
        store.apply({"kind": "Node", "metadata": {"name": f"worker-{number}"}})

    with pytest.raises(Refused, match="too old resource version") as refused:
        store.events(node, start)

    assert refused.value.status["code"] == 410
    assert len(store.events(node, store.revision - 1)) == 1


def test_an_idle_watch_is_told_the_revision_now_and_then() -> None:
    with EmbeddedApi(bookmark_seconds=0.05) as api:
        events = api.client().watch(f"{NODES}?{WATCH_LIST}&timeoutSeconds=20")
        until_bookmark(events)
        api.apply({"kind": "Secret", "metadata": {"name": "tor"}})
        after = api.revision

        last = next(event for event in events if int(version(event["object"])) >= after)

    assert last["type"] == "BOOKMARK"
    assert "annotations" not in last["object"]["metadata"]


def test_an_api_that_was_away_is_back_at_its_address_with_its_objects(api: EmbeddedApi) -> None:
    api.apply(NODE)
    visitor = api.client()
    events = visitor.watch(f"{NODES}?{WATCH_LIST}&timeoutSeconds=60")
    until_bookmark(events)
    made = visitor.get(f"{NODES}/worker-1")

    api.cut()

    with pytest.raises(ConnectionError):
        visitor.get("/livez")
    assert_ended(events)
    api.restore()
    assert visitor.get(f"{NODES}/worker-1") == made


def assert_ended(events: Iterator[dict[str, Any]]) -> None:
    """A stream that was cut off: the client sees its end, or an error, and no event."""
    try:
        assert list(events) == []
    except OSError:
        return


def test_a_client_that_is_held_back_is_told_everything_later_and_in_order(api: EmbeddedApi) -> None:
    held = watching(api.client())
    api.hold_back("127.0.0.1", seconds=LAG_SECONDS)

    began_at = time.monotonic()
    api.apply(NODE)
    api.merge("Node", "worker-1", {"status": {"addresses": []}})
    first = next(held)
    first_at = time.monotonic()
    api.delete("Node", "worker-1")

    assert [first["type"], next(held)["type"], next(held)["type"]] == ["ADDED", "MODIFIED", "DELETED"]
    assert first_at - began_at >= LAG_SECONDS
    assert time.monotonic() - first_at >= LAG_SECONDS


def test_other_clients_are_told_at_once_while_one_is_held_back(api: EmbeddedApi) -> None:
    other = watching(KubeApi(api.listen("::1"), api.ca_pem))
    api.hold_back("127.0.0.1", seconds=3600.0)

    api.apply(NODE)

    assert next(other)["type"] == "ADDED"


def test_a_client_that_is_held_back_no_longer_is_told_at_once_what_it_missed(api: EmbeddedApi) -> None:
    held = watching(api.client())
    api.hold_back("127.0.0.1", seconds=3600.0)
    api.apply(NODE)
    api.delete("Node", "worker-1")

    api.hold_back("127.0.0.1", seconds=0.0)

    assert [next(held)["type"] for _ in range(2)] == ["ADDED", "DELETED"]


def test_a_list_that_is_withheld_comes_to_its_end_when_it_is_released(api: EmbeddedApi) -> None:
    api.apply(NODE)
    api.withhold("Node")
    events = api.client().watch(f"{NODES}?{WATCH_LIST}&timeoutSeconds=20")
    first = next(events)
    assert (first["type"], api.listed("127.0.0.1")) == ("ADDED", frozenset())

    api.release("Node")

    initial, bookmark = until_bookmark(events)
    assert (initial, bookmark["type"]) == ([], "BOOKMARK")
    assert api.listed("127.0.0.1") == {"Node"}


def test_other_kinds_are_listed_while_one_is_withheld(api: EmbeddedApi) -> None:
    api.withhold("Secret")

    until_bookmark(api.client().watch(f"{NODES}?{WATCH_LIST}&timeoutSeconds=20"))

    assert api.listed("127.0.0.1") == {"Node"}


def watching(visitor: KubeApi) -> Iterator[dict[str, Any]]:
    """The changes of Nodes, from now on."""
    events = visitor.watch(f"{NODES}?{WATCH_LIST}&timeoutSeconds=20")
    until_bookmark(events)
    return events


def test_a_wrong_token_is_401(shared: EmbeddedApi) -> None:
    stranger = KubeApi(shared.url, shared.ca_pem, "another-token")

    with pytest.raises(ApiError) as refused:
        stranger.get(NODES)

    assert (refused.value.status, refused.value.reason) == (401, "Unauthorized")


def test_a_parameter_it_does_not_know_is_refused_and_not_ignored(shared: EmbeddedApi) -> None:
    with pytest.raises(ApiError, match="labelSelector"):
        shared.client().get(f"{NODES}?labelSelector=rack%3D7")


def test_it_listens_on_several_addresses(api: EmbeddedApi) -> None:
    second = api.listen("127.0.0.2")
    third = api.listen("::1")
    api.apply(NODE)

    for url in (second, third):
        assert KubeApi(url, api.ca_pem).get(f"{NODES}?{only('worker-1')}")["items"][0]["spec"] == NODE["spec"]


@pytest.mark.live
def test_it_listens_in_a_network_namespace(api: EmbeddedApi) -> None:
    name = f"bgpilot-api-{uuid.uuid4().hex[:8]}"
    namespace = Path("/run/netns") / name
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        subprocess.run(["ip", "-n", name, "link", "set", "lo", "up"], check=True)
        url = api.listen("127.0.0.3", netns=namespace)

        assert KubeApi(url, api.ca_pem, netns=namespace).get("/livez") == "ok"
        with pytest.raises(ConnectionError):
            KubeApi(url, api.ca_pem).get("/livez")
        api.cut()
    finally:
        subprocess.run(["ip", "netns", "delete", name], check=True)


def test_the_kubernetes_client_gets_along_with_its_kubeconfig(shared: EmbeddedApi, tmp_path: Path) -> None:
    shared.apply({**NODE, "metadata": {"name": "worker-9"}})
    kubeconfig = shared.kubeconfig(tmp_path / "kubeconfig")

    with config.new_client_from_config(str(kubeconfig)) as caller:
        nodes = client.CoreV1Api(caller).list_node(field_selector="metadata.name=worker-9")

    assert [node.spec.pod_cidrs for node in nodes.items] == [["10.7.1.0/24"]]


async def test_the_agents_own_watches_get_along_with_it(shared: EmbeddedApi, tmp_path: Path) -> None:
    seen: list[ClusterChange] = []
    async with leaving_no_connection():
        server = await ApiServer.open(shared.kubeconfig(tmp_path / "kubeconfig"))
        watches = Cluster(server, seen.append, "default")
        await watches.start()
        try:
            await eventually(lambda: {change.kind for change in seen if isinstance(change, Listed)} == ALWAYS_WATCHED)
            shared.apply({**NODE, "metadata": {"name": "worker-8"}})
            await eventually(lambda: [change for change in seen if is_applied(change, "worker-8")])
        finally:
            await watches.stop()
            await server.close()

    assert [change.problem for change in seen if isinstance(change, WatchState) and change.problem] == []


def is_applied(change: ClusterChange, name: str) -> bool:
    return isinstance(change, Applied) and change.key == Key(Kind.NODE, "", name)


def test_it_runs_as_a_program_until_it_is_told_to_end(tmp_path: Path) -> None:
    (tmp_path / "objects.yaml").write_text(yaml.safe_dump_all([NODE, None]))
    kubeconfig = tmp_path / "kubeconfig"
    command = [sys.executable, "-m", "tests.lab.api", "--kubeconfig", str(kubeconfig), str(tmp_path / "objects.yaml")]

    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as program:
        try:
            assert program.stdout is not None
            url = json.loads(program.stdout.readline())["url"]
            cluster = yaml.safe_load(kubeconfig.read_text())["clusters"][0]["cluster"]
            authority = base64.b64decode(cluster["certificate-authority-data"])
            assert KubeApi(url, authority).get(f"{NODES}/worker-1")["spec"] == NODE["spec"]

            program.send_signal(signal.SIGTERM)

            assert program.wait(30) == 0
        finally:
            program.kill()


@pytest.mark.parametrize(
    ("target", "patch", "wanted"),
    [
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_a_merge_patch_does_what_the_examples_of_rfc_7386_do(target: Any, patch: Any, wanted: Any) -> None:
    assert merged(target, patch) == wanted
