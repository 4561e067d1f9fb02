"""One list+watch machine in virtual time, for its tests: what it asks, when, and what it lets through."""

import json
from ipaddress import ip_network
from random import Random
from typing import Any

from agent.cluster.health import Limits
from agent.cluster.listwatch import Changes, ListWatch
from agent.cluster.request import Mode, Pause, Request
from agent.cluster.world import World
from agent.model import (
    Key,
    Kind,
    Node,
    WatchState,
)

LIMITS = Limits()
HOUR = 3600.0
TOR = Key(Kind.SECRET, "agent", "tor")
EXPIRED = {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old resource version: 10 (20)"}


def node(name: str, revision: int, cidr: str = "10.244.1.0/24") -> dict[str, Any]:
    return {"metadata": {"name": name, "resourceVersion": str(revision)}, "spec": {"podCIDRs": [cidr]}}


def record(name: str, cidr: str = "10.244.1.0/24") -> Node:
    return Node(name=name, pod_cidrs=(ip_network(cidr),))


def key(name: str) -> Key:
    return Key(Kind.NODE, "", name)


def event(kind: str, body: dict[str, Any]) -> bytes:
    return json.dumps({"type": kind, "object": body}).encode()


def bookmark(revision: int | str, *, end: bool = False) -> bytes:
    annotations = {"k8s.io/initial-events-end": "true"} if end else {}
    return event("BOOKMARK", {"metadata": {"resourceVersion": str(revision), "annotations": annotations}})


class Run:
    """One machine, its clock, what it asked and what came out."""

    def __init__(self, kind: Kind = Kind.NODE, only: Key | None = None, seed: int = 1) -> None:
        self.machine = ListWatch(kind, random=Random(seed), limits=LIMITS, only=only)  # noqa: S311
        self.now = 1000.0
        self.asked: list[tuple[float, Request]] = []
        self.changes: list[Any] = []
        self.states: list[WatchState] = []
        self.world = World()

    def ask(self) -> Request:
        """Wait out the pauses, and ask."""
        while isinstance(step := self.machine.next_step(self.now), Pause):
            assert step.until > self.now
            self.now = step.until
        self.asked.append((self.now, step))
        return step

    def query(self) -> dict[str, str]:
        return dict(self.ask().query)

    def took(self, changes: Changes) -> list[Any]:
        for change in changes:
            self.world.apply(change)
            (self.states if isinstance(change, WatchState) else self.changes).append(change)
        return [change for change in changes if not isinstance(change, WatchState)]

    def open(self) -> None:
        self.took(self.machine.opened(self.now))

    def hear(self, *lines: bytes) -> list[Any]:
        return [change for line in lines for change in self.took(self.machine.heard(line, self.now))]

    def probe(self, revision: int, *found: dict[str, Any], asks_for: str = "a") -> None:
        """What follows a failure: the store is asked for its revision and for who changed last, and tells."""
        request = self.ask()
        assert request.mode is Mode.PROBE
        assert request.only == key(asks_for)
        assert dict(request.query) == {"fieldSelector": f"metadata.name={asks_for}", "limit": "1"}
        self.open()
        body = {"metadata": {"resourceVersion": str(revision)}, "items": found}
        self.took(self.machine.listed(json.dumps(body).encode(), self.now))

    def refuse(self, status: int, body: bytes = b"", retry_after: float | None = None) -> list[Any]:
        return self.took(self.machine.refused(status, retry_after, body, self.now))

    def end(self, after: float) -> None:
        self.now += after
        self.took(self.machine.ended(self.now))

    def sync(self, *nodes: dict[str, Any], revision: int = 10) -> "Run":
        """Up to a watch that is open."""
        self.ask()
        self.open()
        self.hear(*(event("ADDED", body) for body in nodes), bookmark(revision, end=True))
        return self

    @property
    def state(self) -> WatchState:
        return self.states[-1]

    @property
    def pause(self) -> float:
        """Seconds until it asks again."""
        before = self.now
        self.ask()
        return self.now - before

    def restarts(self) -> dict[str, int]:
        return dict(self.state.restarts)
