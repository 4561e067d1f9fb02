"""Custom resources at both doors: the schema of a real API server, and the agent, which may have to do without it.

Every object is called `sample` and is gone afterwards. It refuses to know which specs make sense: the tests do.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

import pytest

from agent.cluster.parse import read_object
from agent.model import Kind, Problem, Record
from tests.lab.kubeapi import ApiError, KubeApi

API: Final = "/apis/bgpilot.io/v1alpha1"
INSTANCE, PEER, ADVERTISEMENT = "bgpinstances", "bgppeers", "bgpadvertisements"
KINDS: Final[Mapping[str, Kind]] = {
    INSTANCE: Kind.INSTANCE,
    PEER: Kind.PEER,
    ADVERTISEMENT: Kind.ADVERTISEMENT,
}


def body(plural: str, spec: Any) -> dict[str, Any]:
    kind = str(KINDS[plural])
    return {"apiVersion": "bgpilot.io/v1alpha1", "kind": kind, "metadata": {"name": "sample"}, "spec": spec}


@contextmanager
def sample(api: KubeApi, plural: str, spec: Any) -> Iterator[Any]:
    """Its spec as the API server keeps it, defaults included."""
    made = api.post(f"{API}/{plural}", body(plural, spec))
    try:
        yield made["spec"]
    finally:
        api.delete(f"{API}/{plural}/sample")


def created(api: KubeApi, plural: str, spec: Any) -> Any:
    with sample(api, plural, spec) as made:
        return made


def refusal(api: KubeApi, plural: str, spec: Any) -> str:
    """What the API server says against it; a failure when it says nothing."""
    with pytest.raises(ApiError) as refused:
        created(api, plural, spec)
    assert refused.value.reason == "Invalid"
    return refused.value.message


def read(plural: str, spec: Any) -> Record | Problem:
    """What the agent makes of it."""
    return read_object(KINDS[plural], json.dumps(body(plural, spec)).encode()).outcome
