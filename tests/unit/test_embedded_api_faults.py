"""The embedded API server in trouble: it refuses, trickles, says nothing, and goes back to a backup."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest

from tests.lab.api import EmbeddedApi
from tests.lab.api_scratch import NODES, WATCH_LIST, until_bookmark, version
from tests.lab.kubeapi import ApiError
from tests.unit.test_embedded_api import NODE, assert_ended, watching

BYTES_PER_SECOND = 400


@pytest.fixture
def api() -> Iterator[EmbeddedApi]:
    with EmbeddedApi() as running:
        yield running


@pytest.mark.parametrize("status", [429, 500, 503])
def test_an_api_that_refuses_ends_watches_and_answers_with_that_status(api: EmbeddedApi, status: int) -> None:
    events = watching(api.client())

    api.refuse(status)

    with pytest.raises(ApiError) as refused:
        api.client().get(NODES)
    assert refused.value.status == status
    assert_ended(events)
    api.behave()
    assert api.client().get(NODES)["kind"] == "NodeList"


def test_an_api_that_trickles_takes_its_time_for_lists_and_for_watches(api: EmbeddedApi) -> None:
    api.apply(NODE)
    api.trickle(BYTES_PER_SECOND)

    took = []
    for ask in (lambda: [api.client().get(NODES)], lambda: until_bookmark(watching_all(api))[0]):
        began_at = time.monotonic()
        size = len(json.dumps(ask(), separators=(",", ":")))
        took.append((time.monotonic() - began_at) / size)

    assert min(took) > 0.5 / BYTES_PER_SECOND


def test_a_silent_api_keeps_its_connections_and_says_what_it_held_back(api: EmbeddedApi) -> None:
    events = watching(api.client())
    api.hush()
    api.apply(NODE)
    with pytest.raises(TimeoutError):
        next(api.client().watch(f"{NODES}?{WATCH_LIST}", within=0.3))

    api.behave()

    assert next(events)["type"] == "ADDED"


def test_a_store_that_goes_back_has_the_objects_and_the_revision_of_the_backup(api: EmbeddedApi) -> None:
    backup, before = api.backup(), api.revision
    api.apply(NODE)
    api.cut()

    api.go_back(backup)
    api.restore()

    answer = api.client().get(NODES)
    assert (answer["items"], int(version(answer))) == ([], before)


def watching_all(api: EmbeddedApi) -> Iterator[dict[str, object]]:
    return api.client().watch(f"{NODES}?{WATCH_LIST}&timeoutSeconds=20")
