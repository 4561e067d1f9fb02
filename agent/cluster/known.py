"""What one watch knows of its objects: turns objects that come into changes, and news that is none into nothing.

A Node's heartbeat, a Service's new annotation, an EndpointSlice whose pods moved within their nodes: the record stays
equal, so nothing leaves here and nobody is woken.

It refuses to know how objects come (`agent.cluster.listwatch` does). It shares its records with the World: they are
immutable, and what is held twice is the two dicts.
"""

from __future__ import annotations

from agent.cluster.parse import Parsed
from agent.model import (
    Applied,
    ClusterChange,
    DaemonSet,
    Gone,
    Key,
    Kind,
    Listed,
    Malformed,
    Problem,
    Record,
    Secret,
)


class Known:
    """`only`: the watch is for this one object, which is a record (with found=False) also when it does not exist."""

    def __init__(self, kind: Kind, only: Key | None = None) -> None:
        self._kind = kind
        self._only = only
        self._records: dict[Key, Record] = {}
        self._malformed: dict[Key, Problem] = {}
        self._coming_records: dict[Key, Record] = {}
        self._coming_malformed: dict[Key, Problem] = {}

    # A complete list, object by object.

    def begin(self) -> None:
        """Forget what came of a list that was not completed."""
        self._coming_records, self._coming_malformed = {}, {}

    def collect(self, parsed: Parsed) -> None:
        """One object of the list, or (before its end is marked) a newer version of one."""
        if isinstance(parsed.outcome, Problem):
            self._coming_malformed[parsed.key] = parsed.outcome
            return
        self._coming_malformed.pop(parsed.key, None)
        # The record that the World already holds, where it is equal: one copy, and comparing it is free.
        before = self._records.get(parsed.key)
        self._coming_records[parsed.key] = before if before is not None and before == parsed.outcome else parsed.outcome

    def drop(self, key: Key) -> None:
        self._coming_records.pop(key, None)
        self._coming_malformed.pop(key, None)

    def complete(self) -> Listed:
        """The list is whole: it replaces all that was known."""
        records, malformed = self._coming_records, self._coming_malformed
        self.begin()
        if self._only is not None and self._only not in records:
            records = {self._only: self._absent(self._only, malformed)}
        kept = {key: self._records[key] for key in malformed.keys() - records.keys() if key in self._records}
        self._records = {**records, **kept}
        self._malformed = malformed
        return Listed(self._kind, dict(records), dict(malformed), self._only)

    # Single objects, afterwards.

    def applied(self, parsed: Parsed) -> tuple[ClusterChange, ...]:
        key, outcome = parsed.key, parsed.outcome
        if isinstance(outcome, Problem):
            if self._malformed.get(key) == outcome:
                return ()
            self._malformed[key] = outcome
            return (Malformed(key, outcome),)
        mended = self._malformed.pop(key, None) is not None
        if not mended and self._records.get(key) == outcome:
            return ()
        self._records[key] = outcome
        return (Applied(key, outcome),)

    def deleted(self, key: Key) -> tuple[ClusterChange, ...]:
        if self._only is not None:
            return self.applied(Parsed(key, "", _missing(key)))
        was_malformed = self._malformed.pop(key, None) is not None
        was_known = self._records.pop(key, None) is not None
        return (Gone(key),) if was_known or was_malformed else ()

    def forbidden(self, why: str) -> tuple[ClusterChange, ...]:
        """We may not look. A Secret never seen is as good as missing, and says why; all else stays as it is."""
        if self._only is None or self._kind is not Kind.SECRET:
            return ()
        before = self._records.get(self._only)
        unseen = Secret(name=self._only.name, found=False, why=why)
        if before == unseen or (isinstance(before, Secret) and before.found):
            return ()
        self._records[self._only] = unseen
        return (Listed(self._kind, {self._only: unseen}, {}, self._only),)

    def _absent(self, key: Key, malformed: dict[Key, Problem]) -> Record:
        """What stands for the one object when no list has it: the last good one if the present one does not parse."""
        if (problem := malformed.get(key)) is None:
            return _missing(key)
        if key.kind is Kind.DAEMON_SET:
            return DaemonSet(name=key.name)  # it exists
        return self._records.get(key, Secret(name=key.name, found=False, why=problem.message))


def _missing(key: Key) -> Record:
    if key.kind is Kind.DAEMON_SET:
        return DaemonSet(name=key.name, found=False)
    return Secret(name=key.name, found=False, why=f"the namespace {key.namespace} has no Secret {key.name}")
