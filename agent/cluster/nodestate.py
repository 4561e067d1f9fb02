"""Keeps the BGPNodeState of this node: a driver that is handed what its status should be, and writes it when it is due.

One object per node, named as the Node and owned by it, so that it goes when the Node does. It is written when there is
news (`agent.status.standing`), and else once a minute, which is its heartbeat: who finds it older than three of them
knows that the agent is gone or cut off. Between two writes there are `LEAST_SECONDS`.

The heartbeat is in the object and not in a Lease beside it: a reader has both or none, and a Lease would be one more
object, right and thing to clean up. What it costs: 1,000 nodes write 17 times a second, a sixth of what their kubelets
write to their Leases every 10 s, and etcd keeps some 4 kB each time (70 kB/s in all). Nobody watches them by default.

It is written beside the loop, which never waits for it: an API server that is away, slow or says no is asked ever less,
and one that does not know the kind is told nothing, and said so once. What stands there is read once, after a start or
a write that failed, for the times of conditions that have not changed.

It refuses to know what is in the status (`agent.status.nodestate`).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from random import Random
from typing import Any, Final, Protocol

import msgspec
import structlog

from agent.cluster.parse import UNREADABLE
from agent.cluster.reflector import Answer, TransportError
from agent.cluster.writing import ANSWER_SECONDS, JSON, MERGE, Sender, Writing, rested
from agent.model import BGPILOT_GROUP, BGPILOT_VERSION, Problem
from agent.plan.steps import Steps
from agent.status.nodestate import Stamp, stopped
from agent.status.peers import View
from agent.status.standing import dated, is_news, patch

LEAST_SECONDS: Final = 5.0
"""Between two writes, and between two looks at what should stand there."""
LOOK_SECONDS: Final = 10.0
"""Time alone may change it: a session is missed when it has not been there for a while."""
JOIN_SECONDS: Final = (0.2, 1.5)
"""What belongs together comes one after the other, and what many nodes see at once need not be told at once."""
HEARTBEAT_SECONDS: Final = (48.0, 72.0)
STOP_SECONDS: Final = 0.5
"""What the last write may take: the agent's end waits for it."""
CLOCK_SECONDS: Final = 2.0
"""By so much the machine's clock must have been set for instants to be told anew."""
READ_BYTES_MAX: Final = 4 << 20
KIND: Final = "BGPNodeState"
PATH: Final = f"/apis/{BGPILOT_GROUP}/{BGPILOT_VERSION}/bgpnodestates"
_SAID_CHARACTERS: Final = 500

log = structlog.get_logger()


class Api(Sender, Protocol):
    """`agent.cluster.api.ApiServer` fits."""

    def get(self, path: str, query: Sequence[tuple[str, str]]) -> AbstractAsyncContextManager[Answer]:
        """Raises TransportError."""
        ...


@dataclass(frozen=True, slots=True)
class Report:
    """What should stand there."""

    uid: str
    """Of the Node."""
    status: View
    settled: bool
    """False: the agent has just started. What stands there may be truer."""


class _Refused(Exception):  # noqa: N818  # what the server answers, not an error of ours
    def __init__(self, status: int, said: bytes) -> None:
        super().__init__()
        self.status = status
        self.said = said


class _KindUnknown(Exception):  # noqa: N818  # as above
    """The custom resource is not installed."""


class NodeState:
    def __init__(
        self,
        api: Api,
        node: str,
        find: Callable[[Stamp], Steps[Report] | None],
        *,
        clock: Callable[[], float],
        wall: Callable[[], float],
        random: Random | None = None,
    ) -> None:
        """`find` answers None while nothing can be said. `clock` is monotonic, `wall` gives Unix seconds."""
        self.writing = Writing(random)
        """Its results: `written`, `heartbeat`, `refused` or `failed`."""
        self._api = api
        self._path = f"{PATH}/{node}"
        self._node = node
        self._find = find
        self._clock = clock
        self._wall = wall
        self._epoch = wall() - clock()
        self._random = random or Random()  # noqa: S311  # spreads load, keeps no secret
        self._known: View | None = None
        """What stands there; None: that must be read, or made, first."""
        self._exists = False
        self._spoke = False
        """What stands there is this agent's own word."""
        self._changed = asyncio.Event()
        self._looked_at = clock() - LEAST_SECONDS
        self._beat_at = clock()
        self._complaint = ""

    def look(self) -> None:
        """Something may have changed."""
        self._changed.set()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self._wait()
            self._looked_at = self._clock()
            if (steps := self._find(self._stamp())) is None:
                continue
            report = await rested(steps, self._clock)
            if not await self._attempt(report):
                self._known = None
                await self.writing.rest()

    async def stop(self, *, leave_nothing: bool) -> None:
        """The last word, if it can be said soon; nobody else may be in `run`. `leave_nothing`: the object goes."""
        if not self._exists:
            return
        with contextlib.suppress(TransportError, TimeoutError):  # then the heartbeat that does not come says it
            async with asyncio.timeout(STOP_SECONDS):
                if leave_nothing:
                    await self._api.send("DELETE", self._path, JSON, {"propagationPolicy": "Background"})
                    return
                at, known = self._now(), self._known or {}
                after = {**dated(stopped(known), known, at), "heartbeatTime": at}
                said = patch(known, after) if known else {key: after[key] for key in ("conditions", "summary")}
                await self._api.send("PATCH", f"{self._path}/status", MERGE, {"status": said})

    # What is due.

    async def _wait(self) -> None:
        await asyncio.sleep(max(0.0, self._looked_at + LEAST_SECONDS - self._clock()))
        due_at = min(self._looked_at + LOOK_SECONDS, max(self._beat_at, self._clock()))
        with contextlib.suppress(TimeoutError):  # time to look, though nothing has changed
            async with asyncio.timeout(due_at - self._clock()):
                await self._changed.wait()
        await asyncio.sleep(self._random.uniform(*JOIN_SECONDS))
        self._changed.clear()

    async def _attempt(self, report: Report) -> bool:
        """False: a later attempt may be better."""
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                await self._keep(report)
        except (TransportError, TimeoutError):
            self.writing.results["failed"] += 1  # said by the watches already, which miss the API server too
            return False
        except _KindUnknown:
            self.writing.results["refused"] += 1
            self._say_once("node_state_not_kept", f"the API server does not know {KIND}", "Apply deploy/crds.")
            return False
        except _Refused as no:
            self._judge(no)
            return False
        self._complaint = ""
        self.writing.well()
        return True

    async def _keep(self, report: Report) -> None:
        if self._known is None:
            self._known = await self._found_or_made(report.uid)
        if self._known and not (self._spoke or report.settled):
            return
        known, at = self._known, self._now()
        after = dated(report.status, known, at)
        news = is_news(known, after)
        if not news and self._clock() < self._beat_at:
            return
        after["heartbeatTime"] = at
        self._known = None  # should this be cut short, nobody knows what stands there
        status, said = await self._api.send("PATCH", f"{self._path}/status", MERGE, {"status": patch(known, after)})
        if status >= HTTPStatus.BAD_REQUEST:
            raise _Refused(status, said)
        self._known, self._spoke = after, True
        self._beat_at = self._clock() + self._random.uniform(*HEARTBEAT_SECONDS)
        self.writing.results["written" if news else "heartbeat"] += 1

    async def _found_or_made(self, uid: str) -> View:
        status, said = await self._read()
        if status == HTTPStatus.OK:
            self._exists = True
            return _status_in(said)
        if status != HTTPStatus.NOT_FOUND:
            raise _Refused(status, said)
        status, said = await self._api.send("POST", PATH, JSON, self._body(uid))
        if status == HTTPStatus.NOT_FOUND:
            raise _KindUnknown
        if status >= HTTPStatus.BAD_REQUEST:
            raise _Refused(status, said)
        self._exists = True
        return {}

    async def _read(self) -> tuple[int, bytes]:
        async with self._api.get(self._path, ()) as answer:
            body = bytearray()
            async for chunk in answer.chunks():
                body += chunk
                if len(body) > READ_BYTES_MAX:
                    break
            return answer.status, bytes(body)

    def _body(self, uid: str) -> dict[str, Any]:
        owner = {"apiVersion": "v1", "kind": "Node", "name": self._node, "uid": uid}
        return {
            "apiVersion": f"{BGPILOT_GROUP}/{BGPILOT_VERSION}",
            "kind": KIND,
            "metadata": {
                "name": self._node,
                "labels": {"app.kubernetes.io/name": "bgpilot"},
                "ownerReferences": [owner],
            },
        }

    # What is said of it.

    def _judge(self, no: _Refused) -> None:
        self.writing.results["refused"] += 1
        said = no.said[:_SAID_CHARACTERS].decode(errors="replace")
        if no.status == HTTPStatus.FORBIDDEN:
            self.writing.forbidden(_FORBIDDEN)
        elif no.status in {HTTPStatus.BAD_REQUEST, HTTPStatus.UNPROCESSABLE_ENTITY}:
            self._say_once("node_state_refused", said, "Apply deploy/crds of this version.")

    def _say_once(self, event: str, why: str, fix: str) -> None:
        if self._complaint != event:
            self._complaint = event
            log.warning(event, reason=why, fix=fix)

    # Time.

    def _now(self) -> str:
        return _rfc3339(self._wall())

    def _stamp(self) -> Stamp:
        """The same instant is told alike again and again, unless the clock has been set."""
        epoch = self._wall() - self._clock()
        if abs(epoch - self._epoch) > CLOCK_SECONDS:
            self._epoch = epoch
        begin = self._epoch
        return lambda at: _rfc3339(begin + at)


def _rfc3339(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%SZ}"


def _status_in(body: bytes) -> View:
    """Empty where there is none yet, or nobody can read it: then it is written anew."""
    try:
        return _OBJECT.decode(body).status or {}
    except UNREADABLE:
        return {}


class _Object(msgspec.Struct, frozen=True):
    status: dict[str, Any] | None = None


_OBJECT: Final = msgspec.json.Decoder(_Object)
_FORBIDDEN: Final = Problem(
    "apiForbidden",
    KIND,
    "cannot keep the BGPNodeState of this node: the API server forbids it",
    'Grant the agent\'s user a ClusterRole with the rules apiGroups ["bgpilot.io"], resources ["bgpnodestates"], verbs '
    '["create", "delete", "get"], and resources ["bgpnodestates/status"], verbs ["patch"].',
)
