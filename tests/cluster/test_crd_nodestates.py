"""BGPNodeState on a real API server: the biggest is kept whole, nonsense is refused, and the columns read well."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from agent.cluster.nodestate import PATH
from agent.status.nodestate import stopped
from agent.status.standing import dated
from tests.lab.controlplane import ControlPlane
from tests.lab.kubeapi import ApiError, KubeApi
from tests.unit.status.nodestates import biggest, sent, stamp, told, usual_world
from tests.unit.status.scene import NOW, Scene

pytestmark = pytest.mark.cluster

OBJECT = f"{PATH}/worker-1"


@pytest.fixture
def made(crds_api: KubeApi) -> Iterator[KubeApi]:
    """With an object that says nothing yet."""
    body = {"apiVersion": "bgpilot.io/v1alpha1", "kind": "BGPNodeState", "metadata": {"name": "worker-1"}}
    crds_api.post(PATH, body)
    yield crds_api
    crds_api.delete(OBJECT)


def usual() -> dict[str, Any]:
    return dict(told(Scene(), usual_world()))


def test_the_biggest_is_kept_whole(made: KubeApi) -> None:
    wanted = sent(biggest())

    kept = made.patch(f"{OBJECT}/status", {"status": wanted})["status"]

    assert kept == json.loads(json.dumps(wanted))


def test_the_biggest_can_have_a_heartbeat(made: KubeApi) -> None:
    """One member is sent, and all of it is stored again."""
    made.patch(f"{OBJECT}/status", {"status": sent(biggest())})

    after = made.patch(f"{OBJECT}/status", {"status": {"heartbeatTime": stamp(NOW + 60)}})

    assert after["status"] == {**json.loads(json.dumps(sent(biggest()))), "heartbeatTime": stamp(NOW + 60)}


def test_the_status_is_written_through_its_subresource_only(made: KubeApi) -> None:
    made.patch(f"{OBJECT}/status", {"status": sent(usual())})

    after = made.patch(OBJECT, {"status": {"health": "no"}})

    assert after["status"]["health"] == "degraded"
    assert after["metadata"]["generation"] == 1


@pytest.mark.parametrize(
    ("status", "field"),
    [
        ({"health": "fine"}, "status.health"),
        ({"heartbeatTime": "now"}, "status.heartbeatTime"),
        ({"conditions": [{"type": "Ready"}]}, "status.conditions[0].status"),
        ({"peers": [{"name": "x" * 300, "address": "192.0.2.1", "established": True}]}, "status.peers[0].name"),
        ({"problems": [{"reason": "secretMissing", "subject": "x"}] * 21}, "status.problems"),
    ],
    ids=lambda part: part if isinstance(part, str) else "",
)
def test_what_no_agent_says_is_refused(made: KubeApi, status: dict[str, Any], field: str) -> None:
    with pytest.raises(ApiError) as refused:
        made.patch(f"{OBJECT}/status", {"status": status})

    assert refused.value.reason == "Invalid"
    assert f"{field}: " in refused.value.message


def columns(crds: ControlPlane, *flags: str) -> dict[str, str]:
    headings, row = crds.kubectl("get", "bgpns", *flags).splitlines()
    starts = [headings.index(word) for word in headings.split()]
    cells = [row[start:end].strip() for start, end in zip(starts, [*starts[1:], None], strict=True)]
    return dict(zip(headings.split(), cells, strict=True))


def test_kubectl_shows_at_a_glance_how_the_node_is(crds: ControlPlane, made: KubeApi) -> None:
    made.patch(f"{OBJECT}/status", {"status": sent(usual())})

    shown = columns(crds)

    assert list(shown) == ["NAME", "AS", "PEERS", "ROUTES", "READY", "PROBLEMS", "HEARTBEAT"]
    del shown["HEARTBEAT"]
    assert shown == {
        "NAME": "worker-1",
        "AS": "64512",
        "PEERS": "2/3",
        "ROUTES": "2/2",
        "READY": "True",
        "PROBLEMS": "sessionDown",
    }


def test_kubectl_shows_more_when_asked_for_it(crds: ControlPlane, made: KubeApi) -> None:
    made.patch(f"{OBJECT}/status", {"status": {**sent(usual()), "zone": "rack-7", "instance": "racks"}})

    shown = columns(crds, "-o", "wide")

    assert {key: shown[key] for key in ("HEALTH", "ADDRESSES", "ZONE", "MESH", "INSTANCE", "VERSION")} == {
        "HEALTH": "degraded",
        "ADDRESSES": '["192.0.2.1"]',
        "ZONE": "rack-7",
        "MESH": "Member",
        "INSTANCE": "racks",
        "VERSION": "1.2.3",
    }


def test_kubectl_shows_that_an_agent_was_stopped(crds: ControlPlane, made: KubeApi) -> None:
    before = sent(usual())
    made.patch(f"{OBJECT}/status", {"status": dated(stopped(before), before, stamp(NOW))})

    assert (columns(crds)["READY"], columns(crds)["PROBLEMS"]) == ("Unknown", "Stopped")


def test_kubectl_shows_one_that_says_nothing_yet(crds: ControlPlane, made: KubeApi) -> None:
    assert set(columns(crds).values()) == {"worker-1", ""}


def test_kubectl_explains_every_member(crds: ControlPlane) -> None:
    text = crds.kubectl("explain", "bgpnodestate.status", "--recursive")

    assert {"lastError", "observedGeneration", "heartbeatTime", "reflectors"} <= set(text.split())
