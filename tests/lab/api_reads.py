"""Contract of an API server: get, list, WatchList and watch. For both servers; see `tests.lab.api_contract`."""

from __future__ import annotations

from itertools import islice

import pytest

from tests.lab.api_scratch import (
    NODES,
    PEERS,
    SECRETS,
    WATCH_LIST,
    Scratch,
    case,
    changes,
    mine,
    only,
    until_bookmark,
    version,
)
from tests.lab.kubeapi import ApiError

# Reading.


@case
def a_list_names_its_revision_and_bare_items(scratch: Scratch) -> None:
    made = scratch.node(podCIDRs=["10.7.1.0/24"], podCIDR="10.7.1.0/24")

    answer = scratch.api.get(NODES)

    item = next(item for item in answer["items"] if item["metadata"]["name"] == scratch.name)
    assert (answer["kind"], answer["apiVersion"]) == ("NodeList", "v1")
    assert int(version(answer)) >= int(version(item)) == int(version(made))
    assert "kind" not in item
    assert item["spec"]["podCIDRs"] == ["10.7.1.0/24"]


@case
def items_of_custom_kinds_say_what_they_are(scratch: Scratch) -> None:
    scratch.peer()

    answer = scratch.api.get(f"{PEERS}?{only(scratch.name)}")

    assert answer["kind"] == "BGPPeerList"
    assert [(item["kind"], item["apiVersion"]) for item in answer["items"]] == [("BGPPeer", "bgpilot.io/v1alpha1")]


@case
def a_field_selector_finds_one_name(scratch: Scratch) -> None:
    scratch.node()
    scratch.node("-other")

    answer = scratch.api.get(f"{NODES}?{only(scratch.name)}")

    assert [item["metadata"]["name"] for item in answer["items"]] == [scratch.name]


@case
def a_name_that_does_not_exist_is_an_empty_list(scratch: Scratch) -> None:
    assert scratch.api.get(f"{SECRETS}?{only(scratch.name)}")["items"] == []


@case
def an_unknown_field_selector_is_refused(scratch: Scratch) -> None:
    with pytest.raises(ApiError, match="field label not supported") as refused:
        scratch.api.get(f"{NODES}?fieldSelector=spec.colour%3Dred")

    assert (refused.value.status, refused.value.reason) == (400, "BadRequest")


@case
def pages_show_one_moment(scratch: Scratch) -> None:
    for suffix in ("-a", "-b", "-c"):
        scratch.node(suffix)
    first = scratch.api.get(f"{NODES}?limit=1")
    scratch.node("-d")

    names = [item["metadata"]["name"] for item in first["items"]]
    page = first
    while page["metadata"].get("continue"):
        page = scratch.api.get(f"{NODES}?limit=1&continue={page['metadata']['continue']}")
        names += [item["metadata"]["name"] for item in page["items"]]

    own = [name for name in names if name.startswith(scratch.name)]
    assert own == [f"{scratch.name}-a", f"{scratch.name}-b", f"{scratch.name}-c"]
    assert version(page) == version(first)


@case
def what_is_not_there_is_not_found(scratch: Scratch) -> None:
    for path, named in ((NODES, "nodes"), (PEERS, "bgppeers.bgpilot.io"), (SECRETS, "secrets")):
        with pytest.raises(ApiError) as refused:
            scratch.api.get(f"{path}/{scratch.name}")

        assert (refused.value.status, refused.value.reason) == (404, "NotFound")
        assert refused.value.message == f'{named} "{scratch.name}" not found'


@case
def an_unknown_kind_is_404_without_a_status(scratch: Scratch) -> None:
    with pytest.raises(ApiError) as refused:
        scratch.api.get("/apis/bgpilot.io/v1alpha1/teapots")

    assert (refused.value.status, refused.value.reason) == (404, "")


@case
def a_list_of_a_revision_that_does_not_exist_yet_times_out(scratch: Scratch) -> None:
    future = int(version(scratch.node())) + 1_000_000

    with pytest.raises(ApiError, match="Too large resource version") as refused:
        scratch.api.get(f"{NODES}?resourceVersion={future}&resourceVersionMatch=NotOlderThan")

    assert (refused.value.status, refused.value.reason) == (504, "Timeout")


# WatchList.


@case
def a_watch_list_gives_all_then_a_marked_bookmark(scratch: Scratch) -> None:
    made = scratch.node()

    initial, bookmark = until_bookmark(scratch.watch(NODES, WATCH_LIST))

    own = [event for event in initial if mine(event, scratch)]
    assert [(event["type"], event["object"]["kind"]) for event in own] == [("ADDED", "Node")]
    assert bookmark["object"]["kind"] == "Node"
    assert bookmark["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"] == "true"
    assert int(version(bookmark["object"])) >= int(version(made))


@case
def an_empty_watch_list_is_just_the_bookmark(scratch: Scratch) -> None:
    initial, bookmark = until_bookmark(scratch.watch(SECRETS, f"{WATCH_LIST}&{only(scratch.name)}"))

    assert initial == []
    assert bookmark["object"]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}


@case
def a_watch_list_goes_on_with_changes(scratch: Scratch) -> None:
    events = scratch.watch(SECRETS, f"{WATCH_LIST}&{only(scratch.name)}")
    until_bookmark(events)

    scratch.secret()
    scratch.api.patch(f"{SECRETS}/{scratch.name}", {"data": {"password": "Yw=="}})
    scratch.api.delete(f"{SECRETS}/{scratch.name}")

    seen = [*islice(changes(events), 3)]
    assert [event["type"] for event in seen] == ["ADDED", "MODIFIED", "DELETED"]
    assert [event["object"]["data"]["password"] for event in seen] == ["Yg==", "Yw==", "Yw=="]
    revisions = [int(version(event["object"])) for event in seen]
    assert revisions == sorted(set(revisions))


@case
def initial_events_need_not_older_than(scratch: Scratch) -> None:
    for query in ("watch=1&sendInitialEvents=true", "sendInitialEvents=true&resourceVersionMatch=NotOlderThan"):
        with pytest.raises(ApiError, match="sendInitialEvents") as refused:
            list(scratch.watch(NODES, query)) if "watch" in query else scratch.api.get(f"{NODES}?{query}")

        assert (refused.value.status, refused.value.reason) == (422, "Invalid")


# Watch.


@case
def a_watch_tells_what_happened_after_its_revision(scratch: Scratch) -> None:
    start = version(scratch.api.get(NODES))
    scratch.node()
    scratch.api.patch(f"{NODES}/{scratch.name}", {"metadata": {"labels": {"rack": "7"}}})

    events = (event for event in scratch.watch(NODES, f"watch=1&resourceVersion={start}") if mine(event, scratch))

    first, second = next(events), next(events)
    assert [first["type"], second["type"]] == ["ADDED", "MODIFIED"]
    assert second["object"]["metadata"]["labels"]["rack"] == "7"
    assert second["object"]["apiVersion"] == "v1"


@case
def a_watch_does_not_repeat_its_own_revision(scratch: Scratch) -> None:
    made = scratch.node()
    scratch.api.delete(f"{NODES}/{scratch.name}")

    events = scratch.watch(NODES, f"watch=1&resourceVersion={version(made)}&{only(scratch.name)}")

    event = next(events)
    assert event["type"] == "DELETED"
    assert int(version(event["object"])) > int(version(made))


@case
def a_watch_without_a_revision_starts_with_what_is_there(scratch: Scratch) -> None:
    scratch.node()

    event = next(scratch.watch(NODES, f"watch=1&{only(scratch.name)}"))

    assert (event["type"], event["object"]["metadata"]["name"]) == ("ADDED", scratch.name)


@case
def a_watch_from_before_the_history_is_told_410_inside_the_stream(scratch: Scratch) -> None:
    event = next(scratch.watch(PEERS, "watch=1&resourceVersion=1"))

    assert event["type"] == "ERROR"
    assert (event["object"]["code"], event["object"]["reason"]) == (410, "Expired")
    assert event["object"]["message"].startswith("too old resource version: 1 (")


@case
def a_watch_from_the_future_is_silent(scratch: Scratch) -> None:
    future = int(version(scratch.node())) + 1_000_000
    path = f"{NODES}?watch=1&resourceVersion={future}&{only(scratch.name)}&timeoutSeconds=1"
    scratch.api.patch(f"{NODES}/{scratch.name}", {"metadata": {"labels": {"rack": "7"}}})

    assert [event for event in scratch.api.watch(path) if event["type"] != "BOOKMARK"] == []


@case
def a_watch_ends_in_order_after_its_time(scratch: Scratch) -> None:
    path = f"{SECRETS}?watch=1&resourceVersion=0&{only(scratch.name)}&timeoutSeconds=1"

    assert list(scratch.api.watch(path)) == []


@case
def a_watch_of_all_namespaces_sees_each(scratch: Scratch) -> None:
    scratch.secret()

    initial, _ = until_bookmark(scratch.watch("/api/v1/secrets", f"{WATCH_LIST}&{only(scratch.name)}"))

    assert [event["object"]["metadata"]["namespace"] for event in initial] == ["default"]
