"""What the contract cases of an API server work with: a client, a name of their own, and the registry of cases.

It refuses to leave anything behind: what was made through a `Scratch` is removed by its `clean`.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from tests.lab.kubeapi import ApiError, KubeApi

NODES = "/api/v1/nodes"
PEERS = "/apis/bgpilot.io/v1alpha1/bgppeers"
SECRETS = "/api/v1/namespaces/default/secrets"
EVENTS = "/api/v1/namespaces/default/events"
SERVICES = "/api/v1/namespaces/default/services"
SLICES = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices"
WATCH_LIST = "watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"
SECONDS = 20
"""Every watch ends by itself after this, so a case that misses an event fails and does not hang."""

Case = Callable[["Scratch"], None]
CASES: list[Case] = []


def case(function: Case) -> Case:
    CASES.append(function)
    return function


class Scratch:
    """`name` is unique; what is created through `create` is removed by `clean`."""

    def __init__(self, api: KubeApi) -> None:
        self.api = api
        self.name = f"case-{uuid.uuid4().hex[:12]}"
        self._made: list[str] = []

    def create(self, collection: str, body: Mapping[str, Any]) -> dict[str, Any]:
        made: dict[str, Any] = self.api.post(collection, body)
        self._made.append(f"{collection}/{made['metadata']['name']}")
        return made

    def node(self, suffix: str = "", **spec: Any) -> dict[str, Any]:
        body = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": self.name + suffix}, "spec": spec}
        return self.create(NODES, body)

    def peer(self, **spec: Any) -> dict[str, Any]:
        metadata = {"name": self.name}
        body = {"apiVersion": "bgpilot.io/v1alpha1", "kind": "BGPPeer", "metadata": metadata}
        return self.create(PEERS, {**body, "spec": {"address": "192.0.2.1", "asn": 64513, **spec}})

    def secret(self) -> dict[str, Any]:
        body = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": self.name}, "data": {"password": "Yg=="}}
        return self.create(SECRETS, body)

    def event(self, **involved: Any) -> dict[str, Any]:
        """On the Node of this name, unless something else is `involved`."""
        body = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": self.name, "namespace": "default"},
            "involvedObject": {"apiVersion": "v1", "kind": "Node", "name": self.name, **involved},
            "type": "Normal",
            "reason": "BGPPeerEstablished",
            "message": "it is up",
            "count": 1,
            "firstTimestamp": "2026-01-01T00:00:00Z",
            "lastTimestamp": "2026-01-01T00:00:00Z",
            "source": {"component": "bgpilot", "host": self.name},
            "reportingComponent": "bgpilot",
            "reportingInstance": self.name,
        }
        return self.create(EVENTS, body)

    def watch(self, collection: str, query: str) -> Iterator[dict[str, Any]]:
        return self.api.watch(f"{collection}?{query}&timeoutSeconds={SECONDS}", within=SECONDS + 10)

    def clean(self) -> None:
        for path in self._made:
            try:
                self.api.delete(path)
            except ApiError as error:
                if error.reason != "NotFound":
                    raise


def only(name: str) -> str:
    return f"fieldSelector=metadata.name%3D{name}"


def mine(event: Mapping[str, Any], scratch: Scratch) -> bool:
    return bool(event["object"]["metadata"].get("name", "").startswith(scratch.name))


def until_bookmark(events: Iterator[dict[str, Any]]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The initial events of a WatchList, and the bookmark that ends them."""
    before: list[dict[str, Any]] = []
    for event in events:
        if event["type"] == "BOOKMARK":
            return before, event
        before.append(event)
    raise AssertionError("the stream ended without a bookmark")


def changes(events: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Without the bookmarks, which a server sends whenever it likes."""
    return (event for event in events if event["type"] != "BOOKMARK")


def version(thing: Mapping[str, Any]) -> str:
    text: str = thing["metadata"]["resourceVersion"]
    return text
