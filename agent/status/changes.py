"""What has changed since the last look and is worth a line of the log, though no room does it: routes that are refused
or not any more, addresses of Services that are announced or not, drift of the kernel's table that was put right.

Pure. It refuses to say the same twice: what stands is in `Status`, what is worth a Kubernetes Event in
`agent.status.news`, from where the words for a refusal are taken.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from agent.plan.picture import World
from agent.plan.steps import Steps
from agent.status.bulletin import News, Topic
from agent.status.news import OF_THE_NODE, USUAL, is_advertised, refused_news
from agent.status.remedies import outward_remedy
from agent.status.status import Status

ADDRESSES_MAX: Final = 20
"""Told one by one at a time; of more the number is told."""


@dataclass(frozen=True, slots=True)
class Change:
    event: str
    """As in the log."""
    keys: Mapping[str, Any] = field(default_factory=dict)
    warning: bool = False


class Changes:
    """What was there at the last look. Of addresses the first look tells nothing: so they were."""

    def __init__(self) -> None:
        self._drift: Mapping[str, int] = {}
        self._seen: dict[Topic, News] = {}
        self._told: dict[Topic, News] = {}
        """Refusals: those that stood at two looks, for much is refused only while sessions come up."""
        self._silent: dict[Topic, str] | None = None
        """Addresses that are not announced, and why."""

    def look(self, status: Status, world: World) -> Steps[list[Change]]:
        changes = list(self._drifted(status))
        refused = dict((yield from refused_news(status, world)))
        changes += self._refusals(refused)
        changes += yield from self._addresses(status)
        return changes

    def _drifted(self, status: Status) -> Iterator[Change]:
        drift = Counter(status.fib.drift)
        if more := drift - Counter(self._drift):
            yield Change("drift_repaired", dict(more))
        self._drift = drift

    def _refusals(self, found: dict[Topic, News]) -> Iterator[Change]:
        stand = {topic: one for topic, one in found.items() if topic in self._seen or topic in self._told}
        for topic, one in stand.items():
            if topic not in self._told:
                yield Change("routes_refused", _words(topic, one), one.warning)
        for topic, one in self._told.items():
            if topic not in found:
                yield Change("routes_refused_no_more", {**_words(topic, one), "text": _OVER[topic.detail[:2]]})
        self._seen, self._told = found, stand

    def _addresses(self, status: Status) -> Steps[list[Change]]:
        found = dict[Topic, str]()
        changes = list[Change]()
        before = self._silent
        for place, why in list(status.plan.not_advertised.items()):
            yield
            if why not in OF_THE_NODE | USUAL:
                topic = Topic(*place)
                found[topic] = why
                if before is not None and before.get(topic) != why:
                    keys = {"reason": why, "fix": outward_remedy(why)}
                    changes.append(Change("address_not_announced", {**_address(topic), **keys}))
        for topic in before or ():
            yield
            if topic in found:
                continue
            if is_advertised(status, topic):
                changes.append(Change("address_announced", _address(topic)))
            elif status.plan.not_advertised.get(topic) == "noLocalEndpoint":
                changes.append(Change("announced_elsewhere", _address(topic)))
        self._silent = found
        if more := len(changes) - ADDRESSES_MAX:
            del changes[ADDRESSES_MAX:]
            changes += [Change("addresses_changed", {"count": more})] if more > 0 else []
        return changes


def _address(topic: Topic) -> dict[str, str]:
    return {"subject": str(topic.about), "address": topic.detail}


def _words(topic: Topic, one: News) -> dict[str, str]:
    return {"subject": str(topic.about), "reason": one.version, "text": one.text.removeprefix(f"{one.version}: ")}


_OVER: Final = {
    "in": "no route that it announces is refused for this any more",
    "ou": "no route is kept from it for this any more",
}
"""By the first letters of the direction."""
