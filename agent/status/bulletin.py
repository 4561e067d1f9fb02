"""What is worth a Kubernetes Event, what of it has been told, and what is due: the limits of what one agent writes.

News is what stands now, never a queue: of what changes faster than may be told, the last is told, and an API server
that was away is told what stands when it is back. Each topic is told once when it comes or changes, and the same again
about it only after `REPEAT_SECONDS`; all together are told at a rate that a thousand agents may have at once, and who
has much to be told of itself does not keep others from it.

Pure: time is an argument. It refuses to know what is news (`agent.status.news`) and how it is written
(`agent.status.events`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from agent.model import Key

REPEAT_SECONDS: Final = 300.0
"""How long the same is not said again of one topic; it is counted meanwhile."""
BURST: Final = 10
SECONDS_EACH: Final = 10.0
"""At most BURST in one go, then one per so many seconds: of 1,000 agents, 100 per second in all."""
FORGET_SECONDS: Final = 3600.0
"""How long what is over is remembered: kube-apiserver keeps Events so long unless it is told otherwise."""


class Topic(NamedTuple):
    """What one piece of news is about. Of two at one time there is one."""

    about: Key
    """The object that the Event stands on."""
    detail: str
    """Which of its matters: an address, a peer, a reason word."""


@dataclass(frozen=True, slots=True, kw_only=True)
class News:
    """What can be said of a topic now."""

    reason: str
    """Of the Event, such as `RouteNotAdvertised`."""
    text: str
    """Begins with the reason word where there is one."""
    warning: bool = True
    version: str
    """Another one: it is other news. The text may change without being news."""
    uid: str = ""
    """Of the object; kubectl describe shows no Event without."""
    ours: bool = False
    """No other node writes it."""
    since: float | None = None
    """Monotonic second since when it is so, where that is known."""
    settle_seconds: float = 0.0
    """It must stand so long before it is told."""


@dataclass(frozen=True, slots=True)
class Notice:
    """One Event to write."""

    topic: Topic
    news: News
    count: int
    """How often it came about, as far as this agent saw."""
    since: float
    """Monotonic second of the last time."""
    witnessed: bool
    """It came about while this agent looked. Else it may have been told before, by an earlier one or another node."""


@dataclass(slots=True)
class _Line:
    """One topic."""

    news: News
    since: float
    witnessed: bool
    stands: bool = True
    pending: bool = True
    counts: dict[str, int] = field(default_factory=dict)
    """By reason."""
    told_at: dict[str, float] = field(default_factory=dict)
    """By reason."""

    @property
    def due_at(self) -> float:
        again = self.told_at.get(self.news.reason)
        settled = self.since + self.news.settle_seconds
        return settled if again is None else max(settled, again + REPEAT_SECONDS)


class Bulletin:
    def __init__(self, now: float) -> None:
        self.dropped = 0
        """What was over, or something else, before it could be told."""
        self._began_at = now
        self._lines: dict[Topic, _Line] = {}
        self._first = True
        self._tokens = float(BURST)
        self._filled_at = now

    def see(self, news: Mapping[Topic, News], now: float) -> None:
        """`news` is all that can be said now."""
        for topic, one in news.items():
            line = self._lines.get(topic)
            if line is None:
                witnessed = one.ours and self._came_now(one)
                line = self._lines[topic] = _Line(one, now if one.since is None else one.since, witnessed)
                line.counts[one.reason] = 1
            elif line.stands and (line.news.version, line.news.uid) == (one.version, one.uid):
                line.news = one
            else:
                self._changed(line, one, now)
        for topic in [topic for topic, line in self._lines.items() if topic not in news]:
            self._gone(topic, now)
        self._first = False

    def told(self, reason: str) -> Iterator[Topic]:
        """Topics of which an Event with this reason has been written, be it over."""
        return (topic for topic, line in self._lines.items() if reason in line.told_at)

    def next(self, now: float) -> Notice | None:
        """The next to write, if any is due now; it counts as written unless `failed` is called.

        What only we see comes first, then the cluster's own objects, then of those in namespaces what is to be mended,
        then the object of which least has been told lately: whoever may create Services, or one with many addresses,
        must not silence all the others.
        """
        self._tokens = min(BURST, self._tokens + (now - self._filled_at) / SECONDS_EACH)
        self._filled_at = now
        lately = Counter(
            topic.about
            for topic, line in self._lines.items()
            if line.told_at and now - max(line.told_at.values()) < REPEAT_SECONDS
        )
        due = [
            (_rank(topic, line.news, lately[topic.about]), line.since, topic)
            for topic, line in self._lines.items()
            if line.stands and line.pending and line.due_at <= now
        ]
        if self._tokens < 1 or not due:
            return None
        topic = min(due)[-1]
        line = self._lines[topic]
        self._tokens -= 1
        line.pending = False
        line.told_at[line.news.reason] = now
        return Notice(topic, line.news, line.counts[line.news.reason], line.since, line.witnessed)

    def failed(self, notice: Notice) -> None:
        """It was not written: it is due again, if it still stands."""
        line = self._lines.get(notice.topic)
        if line is not None:
            line.pending = True
            line.told_at.pop(notice.news.reason, None)

    def next_at(self, now: float) -> float | None:
        """When something will be due, None: only when there is other news."""
        waiting = [line.due_at for line in self._lines.values() if line.stands and line.pending]
        if not waiting:
            return None
        return max(min(waiting), now, self._filled_at + (1 - self._tokens) * SECONDS_EACH)

    def _changed(self, line: _Line, news: News, now: float) -> None:
        if line.stands:
            self._count_untold(line, now)
        line.stands, line.pending, line.witnessed = True, True, True
        line.news, line.since = news, now if news.since is None else news.since
        line.counts[news.reason] = line.counts.get(news.reason, 0) + 1

    def _gone(self, topic: Topic, now: float) -> None:
        line = self._lines[topic]
        if line.stands:
            self._count_untold(line, now)
            line.stands, line.pending = False, False
        if not line.told_at or now - max(line.told_at.values()) >= FORGET_SECONDS:
            del self._lines[topic]

    def _count_untold(self, line: _Line, now: float) -> None:
        """What did not settle was none; what is the same as was told is counted there."""
        self.dropped += line.pending and line.due_at <= now

    def _came_now(self, news: News) -> bool:
        return not self._first if news.since is None else news.since > self._began_at


def _rank(topic: Topic, news: News, lately: int) -> tuple[bool, bool, bool, int]:
    if news.ours:
        return (False, False, False, 0)
    of_a_tenant = bool(topic.about.namespace)
    return (True, of_a_tenant, of_a_tenant and not news.warning, lately)
