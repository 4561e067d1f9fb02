"""The two tables incremental planning is made of: parts by source object, and values with a note of what changed.

They know nothing of what the keys mean.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from collections.abc import Set as AbstractSet
from typing import Generic, TypeVar

from agent.plan.steps import Steps

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Contributions(Generic[K, V]):
    """What each source adds to each output key.

    Invariant: `of(key)` is exactly the parts of the sources whose last `put` named `key`; a source that adds nothing
    and a key that nobody adds to take no room.
    """

    __slots__ = ("_by_key", "_by_source")

    def __init__(self) -> None:
        self._by_source: dict[Hashable, Mapping[K, V]] = {}
        self._by_key: dict[K, dict[Hashable, V]] = {}

    def put(self, source: Hashable, parts: Mapping[K, V]) -> set[K]:
        """`parts` is all that `source` adds from now on; answers the keys of which its part changed."""
        before = self._by_source.get(source) or {}
        if parts == before:
            return set()
        changed = {key for key, part in parts.items() if key not in before or before[key] != part}
        gone = before.keys() - parts.keys()
        for key in changed:
            self._by_key.setdefault(key, {})[source] = parts[key]
        for key in gone:
            remaining = self._by_key[key]
            del remaining[source]
            if not remaining:
                del self._by_key[key]
        if parts:
            self._by_source[source] = parts
        else:
            del self._by_source[source]
        return changed | gone

    def of(self, key: K) -> Mapping[Hashable, V]:
        return self._by_key.get(key) or {}

    def keys(self) -> Iterable[K]:
        return self._by_key.keys()


class Ledger(Generic[K, V]):
    """A table that knows which keys differ from what they were when last asked."""

    __slots__ = ("_before", "values")

    def __init__(self) -> None:
        self.values: dict[K, V] = {}
        self._before: dict[K, V | None] = {}

    def set(self, key: K, value: V | None) -> None:
        """None removes."""
        old = self.values.get(key)
        if old == value:
            return
        self._before.setdefault(key, old)
        if value is None:
            del self.values[key]
        else:
            self.values[key] = value

    def take(self) -> Steps[AbstractSet[K]]:
        """Keys whose value is another than at the last `take`: changed and changed back is not a change."""
        changed = set[K]()
        for key, old in self._before.items():
            if self.values.get(key) != old:
                changed.add(key)
            yield
        self._before.clear()
        return changed
