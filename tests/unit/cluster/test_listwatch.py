"""The list+watch machine under every answer we know of, in virtual time: what it asks, when, what it lets through."""

import json
from ipaddress import ip_network
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.cluster.health import Limits
from agent.cluster.listwatch import Changes, ListWatch, Mode, Pause, Request
from agent.cluster.world import World
from agent.model import Applied, Gone, Key, Kind, Listed, Malformed, Node, Record, Secret, WatchState

LIMITS = Limits()
HOUR = 3600.0
TOR = Key(Kind.SECRET, "agent", "tor")


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

    def probe(self, revision: int) -> None:
        """What follows a failure: the store's revision is asked for, and told."""
        request = self.ask()
        assert (request.mode, dict(request.query).get("limit")) == (Mode.PROBE, "1")
        self.open()
        body = {"metadata": {"resourceVersion": str(revision), "continue": "more"}, "items": [node("z", 1)]}
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


def test_the_first_request_is_a_watch_list_with_a_random_end() -> None:
    query = Run().query()

    assert 300 <= int(query.pop("timeoutSeconds")) <= 600
    assert query == {
        "watch": "1",
        "allowWatchBookmarks": "true",
        "sendInitialEvents": "true",
        "resourceVersionMatch": "NotOlderThan",
    }


def test_the_list_is_passed_on_whole_when_its_end_is_marked_and_not_before() -> None:
    run = Run()
    run.ask()
    run.open()

    before = run.hear(event("ADDED", node("a", 3)), event("ADDED", node("b", 2)), bookmark(3))
    at_the_mark = run.hear(bookmark(5, end=True))

    assert before == []
    assert at_the_mark == [Listed(Kind.NODE, {key("a"): record("a"), key("b"): record("b")})]
    assert run.state.healthy


def test_changes_before_the_mark_are_part_of_the_list() -> None:
    run = Run()
    run.ask()
    run.open()

    changes = run.hear(
        event("ADDED", node("a", 3)),
        event("ADDED", node("b", 2)),
        event("MODIFIED", node("a", 6, "10.244.9.0/24")),
        event("DELETED", node("b", 7)),
        bookmark(7, end=True),
    )

    assert changes == [Listed(Kind.NODE, {key("a"): record("a", "10.244.9.0/24")})]


def test_after_the_list_changes_are_passed_on_one_by_one() -> None:
    run = Run().sync(node("a", 3))

    changes = run.hear(
        event("ADDED", node("b", 11)),
        event("MODIFIED", node("a", 12, "10.244.9.0/24")),
        event("DELETED", node("b", 13)),
    )

    assert changes == [
        Applied(key("b"), record("b")),
        Applied(key("a"), record("a", "10.244.9.0/24")),
        Gone(key("b")),
    ]


def test_a_heartbeat_wakes_nobody() -> None:
    run = Run().sync(node("a", 3))
    states = len(run.states)

    heard = run.hear(*(event("MODIFIED", {**node("a", 11 + beat), "status": {"phase": beat}}) for beat in range(50)))

    assert heard == []
    assert len(run.states) == states


def test_signs_of_life_are_passed_on_now_and_then() -> None:
    run = Run().sync()
    run.states.clear()
    for _ in range(600):
        run.now += 1
        run.hear(bookmark(11))

    assert 30 <= len(run.states) <= 40
    assert run.now - run.state.fresh_at <= LIMITS.fresh_seconds + 1


def test_the_next_watch_goes_on_where_the_last_one_ended() -> None:
    run = Run().sync(node("a", 3), revision=10)
    run.hear(event("MODIFIED", node("a", 12)), bookmark(17))
    run.end(after=400)

    query = run.query()

    assert query["resourceVersion"] == "17"
    assert "sendInitialEvents" not in query
    assert run.now - 1400 <= LIMITS.reopen_spread_seconds


@pytest.mark.parametrize("status", [400, 422])
def test_without_watch_list_everything_is_listed_from_the_cache_in_one_piece(status: int) -> None:
    run = Run()
    run.ask()
    run.refuse(status)
    request = run.ask()
    run.open()
    run.took(run.machine.item(json.dumps(node("a", 3)).encode(), run.now))
    rest = {"metadata": {"resourceVersion": "9"}, "items": [node("b", 4)]}
    changes = run.took(run.machine.listed(json.dumps(rest).encode(), run.now))

    assert (request.mode, request.query) == (Mode.LIST, (("resourceVersion", "0"),))
    assert run.asked[1][0] == run.asked[0][0]
    assert changes == [Listed(Kind.NODE, {key("a"): record("a"), key("b"): record("b")})]
    assert run.query()["resourceVersion"] == "9"


def test_watch_list_is_not_tried_again_where_it_was_refused() -> None:
    run = Run()
    run.ask()
    run.refuse(422)
    run.ask()
    run.refuse(503)

    assert run.ask().mode is Mode.LIST


@pytest.mark.parametrize(
    "envelope", [b'{"metadata":{"resourceVersion":"9"},"items":[{"metadata"', b"<html>", b"", b"{}"]
)
def test_a_list_that_was_cut_off_changes_nothing(envelope: bytes) -> None:
    run = Run()
    run.ask()
    run.refuse(400)
    run.ask()
    run.open()
    run.took(run.machine.item(json.dumps(node("a", 3)).encode(), run.now))

    assert run.took(run.machine.listed(envelope, run.now)) == []
    assert not run.state.healthy


@pytest.mark.parametrize("meta", [{"resourceVersion": "9", "continue": "abc"}, {}])
def test_a_part_of_a_list_is_not_taken_for_the_list(meta: dict[str, str]) -> None:
    run = Run()
    run.ask()
    run.refuse(400)
    run.ask()
    run.open()

    assert run.took(run.machine.listed(json.dumps({"metadata": meta, "items": []}).encode(), run.now)) == []
    assert run.state.problem is not None
    assert run.state.problem.reason == "streamBroken"


def test_a_server_that_ignores_watch_list_is_listed_in_the_end() -> None:
    run = Run()
    for _ in range(2):
        run.ask()
        run.open()
        run.hear(event("ADDED", node("a", 3)))
        run.end(after=LIMITS.sync_silence_seconds)

    assert run.changes == []
    assert run.ask().mode is Mode.LIST


EXPIRED = {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old resource version: 10 (20)"}


@pytest.mark.parametrize("as_event", [True, False])
def test_410_means_all_objects_again_after_a_random_while_and_is_no_problem(as_event: bool) -> None:
    run = Run().sync(node("a", 3))
    if as_event:
        run.hear(event("ERROR", EXPIRED))
    else:
        run.end(after=400)
        run.ask()
        run.refuse(410, json.dumps(EXPIRED).encode())

    assert not run.machine.streaming
    assert run.pause <= LIMITS.resync_spread_seconds
    assert "sendInitialEvents" in dict(run.asked[-1][1].query)
    assert run.state.healthy
    assert run.changes == [Listed(Kind.NODE, {key("a"): record("a")})]


def test_nodes_spread_their_lists_after_410() -> None:
    pauses = set()
    for seed in range(20):
        run = Run(seed=seed).sync()
        run.hear(event("ERROR", EXPIRED))
        pauses.add(round(run.pause, 1))

    assert len(pauses) > 10


def test_410_again_and_again_is_a_problem_and_slows_down() -> None:
    run = Run()
    for _ in range(12):
        run.sync(node("a", 3))
        run.hear(event("ERROR", EXPIRED))

    assert run.state.problem is not None
    assert run.state.problem.reason == "revisionExpired"
    assert run.now - 1000 > 30


@pytest.mark.parametrize("line", [bookmark(9), event("MODIFIED", node("a", 9))])
def test_a_revision_from_before_means_that_the_store_was_restored_and_all_objects_are_needed(line: bytes) -> None:
    run = Run().sync(node("a", 3), node("b", 4), revision=10)
    run.hear(line)
    run.sync(node("a", 2, "10.244.7.0/24"), revision=5)

    assert run.changes[-1] == Listed(Kind.NODE, {key("a"): record("a", "10.244.7.0/24")})
    assert run.world.records(Kind.NODE) == {key("a"): record("a", "10.244.7.0/24")}
    assert run.restarts() == {"revisionWentBack": 1}


def test_after_a_failure_the_store_is_asked_whether_it_went_back() -> None:
    run = Run().sync(node("a", 3), node("b", 4), revision=10)
    run.took(run.machine.broke("apiUnreachable", "Connect call failed", run.now))
    run.probe(9)
    run.sync(node("a", 3), revision=9)

    assert run.world.records(Kind.NODE) == {key("a"): record("a")}
    assert run.restarts() == {"apiUnreachable": 1, "revisionWentBack": 1}


def test_a_store_that_did_not_go_back_is_watched_on_at_once() -> None:
    run = Run().sync(node("a", 3), revision=10)
    run.took(run.machine.broke("apiUnreachable", "Connect call failed", run.now))
    run.probe(12)
    probed_at = run.now

    assert run.query()["resourceVersion"] == "10"
    assert run.now == probed_at
    assert run.world.records(Kind.NODE) == {key("a"): record("a")}


def test_a_revision_the_store_has_not_reached_yet_means_all_objects_again() -> None:
    run = Run().sync(revision=10)
    run.end(after=400)
    run.ask()
    run.refuse(504, b'{"message":"Timeout: Too large resource version: 10, current: 5","code":504}')

    assert "sendInitialEvents" in run.query()


@pytest.mark.parametrize(
    ("status", "body", "reason"),
    [
        (401, b"", "apiUnauthorized"),
        (403, b'{"message":"nodes is forbidden","code":403}', "apiForbidden"),
        (404, b"", "apiNotFound"),
        (429, b"", "apiBusy"),
        (500, b"", "apiFailed"),
        (503, b"<html>upstream is away</html>", "apiFailed"),
        (302, b"", "apiFailed"),
    ],
)
def test_a_refusal_keeps_the_picture_says_why_and_backs_off(status: int, body: bytes, reason: str) -> None:
    run = Run().sync(node("a", 3))
    run.end(after=400)
    began_at = run.now
    for _ in range(20):
        run.ask()
        assert run.refuse(status, body) == []

    assert run.world.records(Kind.NODE) == {key("a"): record("a")}
    assert run.state.problem is not None
    assert run.state.problem.reason == reason
    assert run.now - began_at > 100


def test_403_names_the_rule_that_is_missing() -> None:
    run = Run(Kind.ENDPOINT_SLICE)
    run.ask()
    run.refuse(403, b'{"message":"endpointslices.discovery.k8s.io is forbidden: User x cannot watch","code":403}')

    assert run.state.problem is not None
    assert run.state.problem.subject == "watch of EndpointSlice"
    assert "User x cannot watch" in run.state.problem.message
    assert (
        'ClusterRole with the rule apiGroups ["discovery.k8s.io"], resources ["endpointslices"]'
        in run.state.problem.fix
    )


def test_retry_after_is_honoured_up_to_a_bound() -> None:
    run = Run()
    run.ask()
    run.refuse(429, retry_after=20)
    assert 20 <= run.pause <= 25

    run.refuse(503, retry_after=1_000_000)
    assert 120 <= run.pause <= 150


def test_retry_after_in_the_body_is_honoured_too() -> None:
    run = Run()
    run.ask()
    run.refuse(429, b'{"code":429,"details":{"retryAfterSeconds":20}}')

    assert 20 <= run.pause <= 25


def test_the_backoff_grows_to_its_bound_and_is_random() -> None:
    pauses = []
    run = Run()
    run.ask()
    for _ in range(60):
        run.refuse(500)
        pauses.append(run.pause)

    assert pauses[0] <= 0.8
    assert max(pauses) <= 30
    assert max(pauses[8:]) > 20
    assert min(pauses) >= 0.1
    assert len(set(pauses)) == len(pauses)


def test_a_watch_that_lived_long_enough_ends_a_row_of_failures() -> None:
    run = Run()
    run.ask()
    for _ in range(10):
        run.refuse(500)
        run.ask()
    run.open()
    run.hear(bookmark(10, end=True))
    run.now += 60
    run.took(run.machine.broke("apiUnreachable", "reset", run.now))

    assert run.pause <= LIMITS.backoff_first_seconds


def test_a_stream_that_ends_at_once_is_a_failure_and_stays_one_until_something_comes() -> None:
    run = Run().sync(node("a", 3))
    run.end(after=0.5)
    said = run.state
    for _ in range(5):
        run.ask()
        run.open()
        run.end(after=0.01)
    run.ask()
    run.open()
    still = run.state
    run.hear(bookmark(11))

    assert said.problem is not None
    assert said.problem.reason == "streamTooShort"
    assert still.problem == said.problem
    assert run.state.healthy


def test_streams_that_end_in_order_after_a_second_are_asked_for_again_about_as_often() -> None:
    run = Run().sync()
    before = run.now
    for _ in range(100):
        run.end(after=1.0)
        run.ask()
        run.open()

    assert run.now - before > 100
    assert run.state.healthy


def test_silence_ends_a_watch_and_the_next_goes_on_where_it_was() -> None:
    run = Run().sync(revision=10)
    run.now += LIMITS.silence_seconds
    run.took(run.machine.silent(run.now))

    assert run.state.problem is not None
    assert run.state.problem.reason == "streamSilent"
    run.probe(10)
    assert run.query()["resourceVersion"] == "10"
    run.open()
    assert run.state.healthy


def test_a_connection_that_breaks_says_so_and_keeps_all() -> None:
    run = Run().sync(node("a", 3))
    run.took(run.machine.broke("apiUnreachable", "Connect call failed", run.now, "Check the firewall."))

    problem = run.state.problem
    assert problem is not None
    assert (problem.reason, problem.fix) == ("apiUnreachable", "Check the firewall.")
    assert "Connect call failed" in problem.message
    assert run.world.records(Kind.NODE) == {key("a"): record("a")}


@pytest.mark.parametrize("line", [b"<html>", b'{"type":"ADDED"', b'{"type":"SURPRISE","object":{}}', b"[]", b"\xff"])
def test_a_line_that_is_no_event_means_all_objects_again(line: bytes) -> None:
    run = Run().sync(node("a", 3))
    run.hear(line)

    assert not run.machine.streaming
    assert not run.state.healthy
    assert "sendInitialEvents" in run.query()


def test_an_object_that_is_too_large_means_all_objects_again() -> None:
    run = Run().sync(node("a", 3))
    run.took(run.machine.too_long(run.now))

    assert run.state.problem is not None
    assert run.state.problem.reason == "textTooLong"
    assert "sendInitialEvents" in run.query()


BAD = {"metadata": {"name": "a", "resourceVersion": "11"}, "spec": {"podCIDRs": ["nonsense"]}}


def test_an_object_that_does_not_parse_is_left_out_of_the_list_alone() -> None:
    run = Run().sync(BAD, *(node(f"n{number}", 3) for number in range(1000)))

    listed = run.changes[-1]
    assert isinstance(listed, Listed)
    assert len(listed.records) == 1000
    assert set(listed.malformed) == {key("a")}
    assert run.state.healthy


def test_an_object_that_no_longer_parses_is_said_once_and_mended_once() -> None:
    run = Run().sync(node("a", 3))

    heard = run.hear(
        event("MODIFIED", BAD), event("MODIFIED", {**BAD, "status": {}}), event("MODIFIED", node("a", 13)), bookmark(14)
    )

    assert [type(change) for change in heard] == [Malformed, Applied]
    assert run.world.problems == frozenset()


def test_the_last_good_record_survives_lists_in_which_it_does_not_parse() -> None:
    run = Run().sync(node("a", 3))
    run.hear(event("MODIFIED", BAD), event("ERROR", EXPIRED))
    run.sync(BAD, revision=20)

    assert run.world.get(key("a")) == record("a")
    run.hear(event("DELETED", {"metadata": {"name": "a", "resourceVersion": "21"}}))
    assert run.world.get(key("a")) is None
    assert run.world.problems == frozenset()


@pytest.mark.parametrize("kind", [Kind.SERVICE_CIDR, Kind.INSTANCE, Kind.PEER, Kind.ADVERTISEMENT])
def test_a_kind_that_is_not_installed_has_no_objects_and_is_asked_for_again(kind: Kind) -> None:
    run = Run(kind)
    run.ask()
    first = run.refuse(404)
    pauses = []
    for _ in range(10):
        pauses.append(run.pause)
        assert run.refuse(404) == []

    assert first == [Listed(kind, {})]
    assert run.state.healthy
    assert all(10 <= pause <= 30 for pause in pauses)


def test_a_kind_that_was_there_and_is_gone_keeps_its_objects() -> None:
    run = Run(Kind.PEER)
    run.ask()
    run.refuse(404)
    peer = {"metadata": {"name": "tor", "resourceVersion": "3"}, "spec": {"address": "192.0.2.1", "asn": 1}}
    run.sync(peer)
    run.end(after=400)
    run.ask()

    assert run.refuse(404) == []
    assert len(run.world.records(Kind.PEER)) == 1
    assert run.state.problem is not None
    assert run.state.problem.reason == "apiNotFound"


def secret(encoded: str = "aHVudGVyMg==") -> dict[str, Any]:
    return {
        "metadata": {"name": "tor", "namespace": "agent", "resourceVersion": "11"},
        "data": {"password": encoded},
    }


def found(run: Run) -> Record | None:
    return run.world.get(TOR)


def test_a_secret_is_watched_by_its_name() -> None:
    assert Run(Kind.SECRET, TOR).query()["fieldSelector"] == "metadata.name=tor"


def test_a_secret_that_does_not_exist_is_known_as_such_comes_and_goes() -> None:
    run = Run(Kind.SECRET, TOR).sync()
    missing = found(run)
    run.hear(event("ADDED", secret()))
    there = found(run)
    run.hear(event("DELETED", secret()))

    assert missing == Secret(name="tor", found=False, why="the namespace agent has no Secret tor")
    assert isinstance(there, Secret)
    assert there.found
    assert found(run) == missing


def test_a_secret_that_we_may_not_read_is_as_good_as_missing_and_names_the_rule() -> None:
    run = Run(Kind.SECRET, TOR)
    run.ask()
    run.refuse(403, b'{"message":"secrets \\"tor\\" is forbidden","code":403}')
    unreadable = found(run)
    run.ask()
    assert run.refuse(403, b'{"message":"secrets \\"tor\\" is forbidden","code":403}') == []

    assert isinstance(unreadable, Secret)
    assert not unreadable.found
    assert "forbidden" in unreadable.why
    assert run.state.problem is not None
    assert 'Role in namespace agent with the rule apiGroups [""], resources ["secrets"], resourceNames ["tor"]' in (
        run.state.problem.fix
    )


def test_a_secret_that_we_may_no_longer_read_stays_as_it_was() -> None:
    run = Run(Kind.SECRET, TOR).sync(secret())
    run.end(after=400)
    run.ask()
    run.refuse(403)

    assert isinstance(there := found(run), Secret)
    assert there.found


def test_a_secret_that_never_parsed_is_known_as_such_and_blocks_nothing() -> None:
    run = Run(Kind.SECRET, TOR).sync(secret("not base64!"))

    assert run.world.secrets_known(frozenset({"tor"}))
    assert isinstance(there := found(run), Secret)
    assert not there.found
    assert "is not base64" in there.why


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
