"""Random histories of a server, its faults and its restores: in the end the picture is right."""

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from agent.cluster.request import Mode, Request
from agent.model import Kind
from tests.unit.cluster.machine import EXPIRED, Run, bookmark, event, key, node, record

FAULTS = st.sampled_from(
    ["ok", "ok", "ok", "cut", "ended", "garbled", "410", "error410", "429", "500", "404", "400", "silent", "refused"]
)
NAMES = st.sampled_from("abcd")
STEPS = st.lists(
    st.tuples(st.just("put"), NAMES, st.integers(0, 3))
    | st.tuples(st.just("bad"), NAMES, st.just(0))
    | st.tuples(st.just("delete"), NAMES, st.just(0))
    | st.tuples(st.sampled_from(["backup", "restore"]), NAMES, st.just(0))
    | st.tuples(st.just("serve"), FAULTS, st.integers(0, 4)),
    max_size=40,
)


class Server:
    """An API server with one kind, in memory, that serves one request at a time up to its present revision."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.revision = 1
        self.objects: dict[str, dict[str, Any]] = {}
        self.log: list[tuple[int, bytes]] = []
        self.oldest = 0
        """Watches cannot begin before this revision."""
        self.saved = (1, dict[str, dict[str, Any]]())

    def restore(self) -> None:
        """Nobody writes before the machine has come back: what hides the restore from it hides it from anyone."""
        self.revision, self.objects = self.saved[0], dict(self.saved[1])
        self.oldest, self.log = self.revision, []
        self.serve("refused", 0)
        self.serve("ok", 0)

    def change(self, what: str, name: str, value: int) -> None:
        if what == "delete" and name not in self.objects:
            return
        self.revision += 1
        body = node(name, self.revision, f"10.{value}.0.0/16" if what != "bad" else "nonsense")
        self.log.append((self.revision, event({"delete": "DELETED"}.get(what, "MODIFIED"), body)))
        if what == "delete":
            del self.objects[name]
        else:
            self.objects[name] = body

    def serve(self, fault: str, after: int) -> None:
        """Answer the next request; `after` lines before the fault."""
        run, machine = self.run, self.run.machine
        request = run.ask()
        match fault:
            case "410" | "429" | "500" | "404" | "400":
                run.refuse(int(fault))
            case "refused":
                run.took(machine.broke("apiUnreachable", "refused", run.now))
            case _ if request.mode in {Mode.LIST, Mode.PROBE}:
                run.open()
                meta = {"resourceVersion": str(self.revision)}
                body = json.dumps({"metadata": meta, "items": [*self.objects.values()]}).encode()
                run.took(machine.listed(body if fault == "ok" else body[: len(body) // 2], run.now))
            case _ if int(dict(request.query).get("resourceVersion", self.oldest)) < self.oldest:
                run.refuse(410)
            case _:
                run.open()
                lines = self.lines(request)
                run.hear(*(lines if fault == "ok" else lines[:after]))
                run.now += after
                self.break_off(fault)

    def lines(self, request: Request) -> list[bytes]:
        if request.mode is Mode.WATCH_LIST:
            return [*(event("ADDED", body) for body in self.objects.values()), bookmark(self.revision, end=True)]
        since = int(dict(request.query)["resourceVersion"])
        return [line for revision, line in self.log if revision > since]

    def break_off(self, fault: str) -> None:
        run, machine = self.run, self.run.machine
        match fault:
            case "ok" | "ended":
                run.took(machine.ended(run.now))
            case "cut":
                run.took(machine.broke("streamBroken", "cut off", run.now))
            case "garbled":
                run.hear(b"<html>")
            case "error410":
                run.hear(event("ERROR", EXPIRED))
            case "silent":
                run.took(machine.silent(run.now))


@given(steps=STEPS, seed=st.integers(0, 3))
@settings(deadline=None)
def test_whatever_goes_wrong_the_picture_is_right_when_it_is_over_and_nobody_was_asked_too_often(
    steps: list[tuple[str, str, int]], seed: int
) -> None:
    run = Run(seed=seed)
    server = Server(run)
    for what, name, value in steps:
        match what:
            case "serve":
                server.serve(name, value)
            case "backup":
                server.saved = (server.revision, dict(server.objects))
            case "restore":
                server.restore()
            case _:
                server.change(what, name, value)
    for _ in range(4):  # at worst: the probe, a watch that is answered with 410, the list, and what has changed since
        server.serve("ok", 0)

    good = {key(name): body["spec"]["podCIDRs"][0] for name, body in server.objects.items()}
    bad = {name for name, cidr in good.items() if cidr == "nonsense"}
    world = run.world.records(Kind.NODE)
    assert {name: world[name] for name in good.keys() - bad} == {
        name: record(name.name, good[name]) for name in good.keys() - bad
    }
    assert world.keys() <= good.keys()
    assert {problem.subject for problem in run.world.problems if problem.reason == "malformedObject"} == {
        str(name) for name in bad
    }
    by_second: dict[int, int] = {}
    for at, _request in run.asked:
        by_second[int(at)] = by_second.get(int(at), 0) + 1
    assert max(by_second.values()) <= 12
