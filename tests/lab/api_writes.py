"""Contract of an API server: create, update, patch, delete, custom kinds. For both servers; see `api_contract`."""

from __future__ import annotations

import json

import pytest

from tests.lab.api_scratch import EVENTS, NODES, PEERS, Scratch, case, version
from tests.lab.kubeapi import ApiError

# Writing.


@case
def a_new_object_gets_its_identity(scratch: Scratch) -> None:
    made = scratch.node()

    metadata = made["metadata"]
    assert len(metadata["uid"]) == 36
    assert metadata["creationTimestamp"].endswith("Z")
    assert metadata["resourceVersion"].isdigit()


@case
def creating_twice_is_a_conflict(scratch: Scratch) -> None:
    scratch.peer()

    with pytest.raises(ApiError, match="already exists") as refused:
        scratch.peer()

    assert (refused.value.status, refused.value.reason) == (409, "AlreadyExists")


@case
def an_update_needs_the_revision_it_saw(scratch: Scratch) -> None:
    made = scratch.peer()
    path = f"{PEERS}/{scratch.name}"
    made["spec"]["port"] = 1790
    scratch.api.put(path, made)

    with pytest.raises(ApiError, match="the object has been modified") as refused:
        scratch.api.put(path, {**made, "spec": {**made["spec"], "port": 1791}})

    assert (refused.value.status, refused.value.reason) == (409, "Conflict")
    assert scratch.api.get(path)["spec"]["port"] == 1790


@case
def an_update_without_a_revision_is_refused_for_custom_kinds(scratch: Scratch) -> None:
    made = scratch.peer()
    del made["metadata"]["resourceVersion"]

    with pytest.raises(ApiError, match="must be specified for an update") as refused:
        scratch.api.put(f"{PEERS}/{scratch.name}", made)

    assert (refused.value.status, refused.value.reason) == (422, "Invalid")


@case
def a_change_of_nothing_keeps_the_revision(scratch: Scratch) -> None:
    made = scratch.peer()

    after = scratch.api.patch(f"{PEERS}/{scratch.name}", {"spec": {"asn": 64513}})

    assert version(after) == version(made)


@case
def a_merge_patch_removes_with_null(scratch: Scratch) -> None:
    scratch.node()
    path = f"{NODES}/{scratch.name}"
    scratch.api.patch(path, {"metadata": {"annotations": {"keep": "1", "drop": "1"}}})

    after = scratch.api.patch(path, {"metadata": {"annotations": {"drop": None}}})

    assert after["metadata"]["annotations"].get("keep") == "1"
    assert "drop" not in after["metadata"]["annotations"]


@case
def a_merge_patch_with_an_old_revision_is_a_conflict(scratch: Scratch) -> None:
    old = version(scratch.node())
    path = f"{NODES}/{scratch.name}"
    scratch.api.patch(path, {"metadata": {"labels": {"rack": "7"}}})

    with pytest.raises(ApiError) as refused:
        scratch.api.patch(path, {"metadata": {"resourceVersion": old, "labels": {"rack": "8"}}})

    assert (refused.value.status, refused.value.reason) == (409, "Conflict")


@case
def a_patch_of_an_unknown_type_is_refused(scratch: Scratch) -> None:
    scratch.node()

    with pytest.raises(ApiError) as refused:
        scratch.api.patch(f"{NODES}/{scratch.name}", {}, content_type="application/x-patch")

    assert (refused.value.status, refused.value.reason) == (415, "UnsupportedMediaType")


@case
def the_status_is_written_through_its_subresource_only(scratch: Scratch) -> None:
    scratch.node()
    path = f"{NODES}/{scratch.name}"
    status = {"status": {"addresses": [{"type": "InternalIP", "address": "192.0.2.7"}]}}

    through_main = scratch.api.patch(path, status)
    through_status = scratch.api.patch(f"{path}/status", {**status, "spec": {"unschedulable": True}})

    assert not through_main.get("status", {}).get("addresses")
    assert through_status["status"]["addresses"] == status["status"]["addresses"]
    assert not through_status["spec"].get("unschedulable")


@case
def what_is_deleted_is_gone(scratch: Scratch) -> None:
    scratch.peer()
    path = f"{PEERS}/{scratch.name}"

    scratch.api.delete(path)

    with pytest.raises(ApiError) as refused:
        scratch.api.delete(path)
    assert (refused.value.status, refused.value.reason) == (404, "NotFound")


@case
def an_object_in_a_namespace_that_does_not_exist_is_refused(scratch: Scratch) -> None:
    body = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": scratch.name}}

    with pytest.raises(ApiError, match=f'namespaces "{scratch.name}" not found') as refused:
        scratch.api.post(f"/api/v1/namespaces/{scratch.name}/secrets", body)

    assert refused.value.status == 404


# Events.


@case
def an_event_on_a_node_lives_in_the_namespace_default_and_can_be_renewed(scratch: Scratch) -> None:
    made = scratch.event()

    renewed = scratch.api.patch(f"{EVENTS}/{scratch.name}", {"count": 2, "lastTimestamp": "2026-01-01T00:05:00Z"})

    assert made["involvedObject"]["name"] == scratch.name
    assert (renewed["count"], renewed["lastTimestamp"]) == (2, "2026-01-01T00:05:00Z")
    assert (renewed["firstTimestamp"], renewed["message"]) == (made["firstTimestamp"], made["message"])


@case
def an_event_that_is_there_is_not_made_again(scratch: Scratch) -> None:
    scratch.event()

    with pytest.raises(ApiError, match="already exists") as refused:
        scratch.event()

    assert (refused.value.status, refused.value.reason) == (409, "AlreadyExists")


@case
def an_event_on_an_object_of_another_namespace_is_refused(scratch: Scratch) -> None:
    with pytest.raises(ApiError, match=r"does not match event\.namespace") as refused:
        scratch.event(kind="Service", namespace="kube-system")

    assert (refused.value.status, refused.value.reason) == (422, "Invalid")


# Custom kinds.


@case
def defaults_are_filled_in(scratch: Scratch) -> None:
    made = scratch.peer()

    assert made["spec"]["port"] == 179
    assert made["spec"]["holdSeconds"] == 90
    assert made["spec"]["import"] == {"podCIDRs": False}


@case
def fields_that_do_not_exist_are_dropped(scratch: Scratch) -> None:
    made = scratch.peer(colour="red")

    assert "colour" not in made["spec"]


@case
def a_value_outside_the_schema_is_refused_with_its_field(scratch: Scratch) -> None:
    for spec in ({"asn": [64512]}, {"holdSeconds": "90"}, {"port": 70000}, {"import": {"podCIDRs": "yes"}}):
        (field,) = spec

        with pytest.raises(ApiError, match=f"spec.{field}") as refused:
            scratch.peer(**spec)

        assert (refused.value.status, refused.value.reason) == (422, "Invalid"), json.dumps(spec)


@case
def the_generation_counts_changes_of_the_spec(scratch: Scratch) -> None:
    made = scratch.peer()
    path = f"{PEERS}/{scratch.name}"

    relabelled = scratch.api.patch(path, {"metadata": {"labels": {"rack": "7"}}})
    changed = scratch.api.patch(path, {"spec": {"port": 1790}})

    generations = [thing["metadata"]["generation"] for thing in (made, relabelled, changed)]
    assert generations == [1, 1, 2]
