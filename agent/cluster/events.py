"""Writes Kubernetes Events: a driver that is handed all that can be said now, and tells what of it is due.

One Event object per topic and reason, under a name that says both: who finds it there (an agent that was restarted, one
of the few nodes that see the same) leaves it alone, and what comes about again renews it. It is written beside the
loop, which never waits for it. What cannot be written is due again later, if it still stands then: nothing is queued.

It refuses to know what is news (`agent.status.news`) and when it is due (`agent.status.bulletin`).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from hashlib import blake2b
from http import HTTPStatus
from typing import Any, Final

import structlog

from agent.cluster.kinds import RESOURCES
from agent.cluster.reflector import TransportError
from agent.cluster.writing import ANSWER_SECONDS, JSON, MERGE, Sender, Writing, rested
from agent.model import Problem
from agent.plan.steps import Steps
from agent.status.bulletin import Bulletin, News, Notice, Topic

LOOK_SECONDS: Final = 5.0
"""Between two looks, however much changes."""
MESSAGE_CHARACTERS: Final = 1000
COMPONENT: Final = "bgpilot"
_NAME_CHARACTERS: Final = 200
_REFUSED: Final = frozenset({HTTPStatus.BAD_REQUEST, HTTPStatus.NOT_FOUND, HTTPStatus.UNPROCESSABLE_ENTITY})
"""What a second attempt does not mend: the object's namespace is gone, or there is a mistake of ours. So is 403, if it
is not about our rights (`User … cannot create resource …`): the namespace is about to go, or has a quota."""

log = structlog.get_logger()


class Events:
    def __init__(
        self,
        api: Sender,
        node: str,
        find: Callable[[Bulletin], Steps[Mapping[Topic, News]] | None],
        *,
        clock: Callable[[], float],
        wall: Callable[[], float],
    ) -> None:
        """`find` answers None while nothing can be said yet. `clock` is monotonic, `wall` gives Unix seconds."""
        self.writing = Writing()
        """Its results: `written`, `repeated`, `refused` or `failed`."""
        self._api = api
        self._node = node
        self._find = find
        self._clock = clock
        self._wall = wall
        self._bulletin = Bulletin(clock())
        self._changed = asyncio.Event()

    @property
    def dropped(self) -> int:
        """What was over before it could be told."""
        return self._bulletin.dropped

    def look(self) -> None:
        """Something may have changed."""
        self._changed.set()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self._wait()
            if (steps := self._find(self._bulletin)) is not None:
                self._bulletin.see(await rested(steps, self._clock), self._clock())
                while (notice := self._bulletin.next(self._clock())) is not None:
                    if not await self._tell(notice):
                        self._bulletin.failed(notice)
                        await self.writing.rest()
                        break
            await asyncio.sleep(LOOK_SECONDS)

    async def _wait(self) -> None:
        due_at = self._bulletin.next_at(self._clock())
        within = None if due_at is None else max(0.0, due_at - self._clock())
        with contextlib.suppress(TimeoutError):  # something is due, though nothing has changed
            async with asyncio.timeout(within):
                await self._changed.wait()
        self._changed.clear()

    async def _tell(self, notice: Notice) -> bool:
        """False: it is not written, and a later attempt may be better."""
        body = self._body(notice)
        path = f"/api/v1/namespaces/{body['metadata']['namespace']}/events"
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                status, said = await self._api.send("POST", path, JSON, body)
                if status == HTTPStatus.CONFLICT and notice.witnessed:
                    renewed = {key: body[key] for key in ("message", "type", "count", "lastTimestamp")}
                    status, said = await self._api.send("PATCH", f"{path}/{body['metadata']['name']}", MERGE, renewed)
        except (TransportError, TimeoutError):
            self.writing.results["failed"] += 1  # said by the watches already, which miss the API server too
            return False
        return self._judge(notice, status, said)

    def _judge(self, notice: Notice, status: int, said: bytes) -> bool:
        if status < HTTPStatus.BAD_REQUEST or status == HTTPStatus.CONFLICT:
            self.writing.results["repeated" if status == HTTPStatus.CONFLICT else "written"] += 1
            self.writing.well()
            return True
        not_us = status == HTTPStatus.FORBIDDEN and b"cannot" not in said
        if status in _REFUSED or not_us:
            self.writing.results["refused"] += 1
            log.warning("event_refused", about=str(notice.topic.about), reason=notice.news.reason, status=status)
            return True
        self.writing.results["failed"] += 1
        if status == HTTPStatus.FORBIDDEN:
            self.writing.forbidden(_FORBIDDEN)
        return False

    def _body(self, notice: Notice) -> dict[str, Any]:
        topic, news = notice.topic, notice.news
        group, version, _ = RESOURCES[topic.about.kind]
        involved = {
            "apiVersion": f"{group}/{version}" if group else version,
            "kind": str(topic.about.kind),
            "namespace": topic.about.namespace,
            "name": topic.about.name,
            "uid": news.uid,
        }
        at = datetime.fromtimestamp(self._wall() - (self._clock() - notice.since), UTC)
        when = f"{at:%Y-%m-%dT%H:%M:%SZ}"
        return {
            "apiVersion": "v1",
            "kind": "Event",
            # Events on objects that belong to no namespace live in `default`: kubectl looks for them there.
            "metadata": {"name": event_name(topic, news), "namespace": topic.about.namespace or "default"},
            "involvedObject": {key: value for key, value in involved.items() if value},
            "type": "Warning" if news.warning else "Normal",
            "reason": news.reason,
            "message": news.text[:MESSAGE_CHARACTERS],
            "count": notice.count,
            "firstTimestamp": when,
            "lastTimestamp": when,
            "source": {"component": COMPONENT, "host": self._node},
            "reportingComponent": COMPONENT,
            "reportingInstance": self._node,
        }


def event_name(topic: Topic, news: News) -> str:
    """The same for whoever writes it."""
    digest = blake2b(f"{topic.about} {news.uid} {topic.detail} {news.reason}".encode(), digest_size=8).hexdigest()
    return f"{topic.about.name[:_NAME_CHARACTERS].rstrip('-.')}.{digest}"


_FORBIDDEN: Final = Problem(
    "apiForbidden",
    "Events",
    "cannot write Events: the API server forbids it",
    'Grant the agent\'s user a ClusterRole with the rule apiGroups [""], resources ["events"], verbs '
    '["create", "patch"].',
)
