"""Which nodes write the Events on an object of which all nodes see the same: chosen alike by each, without an election.

Of the nodes that can see what is wrong with the object, `WRITERS` that are ready: three, since one of them may be dead,
or see it otherwise. What is wrong with an object that means no node all nodes see. They write under one name
(`agent.status.events`), so that there is one Event. Nodes and objects lie on a ring, and those after the object write:
a node that comes or goes changes who writes for few objects.
"""

from __future__ import annotations

import bisect
from collections.abc import Callable, Hashable, Iterator
from functools import lru_cache
from hashlib import blake2b
from typing import Final, TypeAlias

from agent.advertising import Advertisement, AdvertisementType
from agent.intent import EVERYTHING, ExternalPeer, Instance, Selector
from agent.model import Key, Kind, Namespace, Node, Service
from agent.plan.nodes import EXCLUDED_LABEL, instance_of, rank
from agent.plan.picture import World, every, one

WRITERS: Final = 3

_Ring: TypeAlias = list[tuple[int, str]]


class Writers:
    """For one look at the picture: it is not kept."""

    def __init__(self, node: str, world: World) -> None:
        self._node = node
        self._world = world
        self._rings: dict[Hashable, _Ring] = {}
        self._ranked = rank(instance for _, instance in every(world, Kind.INSTANCE, Instance))

    def is_ours(self, about: Key) -> bool:
        if about.kind is Kind.NODE:
            return about.name == self._node
        return self._node in _after(self._ring(about), about)

    def _ring(self, about: Key) -> _Ring:
        record = self._world.get(about)
        if isinstance(record, Service):
            return self._of_service(record)
        selector = record.node_selector if isinstance(record, Instance | ExternalPeer | Advertisement) else EVERYTHING
        return self._chosen(selector, lambda node: _selects(selector, node))

    def _of_service(self, service: Service) -> _Ring:
        """The nodes that announce such a Service unless something is wrong with it, and judge it by the same settings.

        Those that announce no service address at all see that as the reason.
        """
        own = one(self._world, Key(Kind.NODE, "", self._node), Node)
        if own is None:
            return []
        selectors = frozenset(advertisement.node_selector for advertisement in self._advertising(service))

        def sees(node: Node) -> bool:
            return (
                any(_selects(selector, node) for selector in selectors)
                and not any(key == EXCLUDED_LABEL for key, _ in node.labels)
                and (not self._ranked or self._instance(node) == self._instance(own))
            )

        return self._chosen(selectors, sees)

    def _instance(self, node: Node) -> str:
        return instance_of(node.labels, self._ranked).name

    def _advertising(self, service: Service) -> Iterator[Advertisement]:
        namespace = one(self._world, Key(Kind.NAMESPACE, "", service.namespace), Namespace)
        labels, around = dict(service.labels), dict(namespace.labels) if namespace is not None else {}
        for _, advertisement in every(self._world, Kind.ADVERTISEMENT, Advertisement):
            choice = advertisement.service
            if (
                advertisement.type is AdvertisementType.SERVICE
                and choice.selector.matches(labels)
                and choice.namespace_selector.matches(around)
            ):
                yield advertisement

    def _chosen(self, by: Selector | frozenset[Selector], sees: Callable[[Node], bool]) -> _Ring:
        ring = self._rings.get(by)
        if ring is None:
            seeing = [node for _, node in every(self._world, Kind.NODE, Node) if sees(node)]
            seeing = seeing or [node for _, node in every(self._world, Kind.NODE, Node)]
            names = [node.name for node in seeing if node.ready] or [node.name for node in seeing]
            ring = self._rings[by] = sorted((_point(name), name) for name in names)
        return ring


def _selects(selector: Selector, node: Node) -> bool:
    return selector == EVERYTHING or selector.matches(dict(node.labels))


def _after(ring: _Ring, about: Key) -> list[str]:
    at = bisect.bisect(ring, (_point(str(about)), ""))
    return [ring[(at + turn) % len(ring)][1] for turn in range(min(WRITERS, len(ring)))]


@lru_cache(maxsize=16_384)
def _point(text: str) -> int:
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest())
