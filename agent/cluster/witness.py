"""The object that changed last: by it a watch that comes back knows whether the store is still the one it left.

A store restored from a backup lacks what was written after the backup, so also the last change that this watch has
seen: that object is absent, or older. Its revision alone does not tell, once others have written so much that it has
passed the watch's. An object that has changed since proves nothing either way, nor does one that was deleted; then all
objects are asked for: dearer, never wrong.

Not seen this way: a deletion before the last list, undone by a backup that lacks nothing else of this kind.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from agent.model import Key

REVISION_DIGITS_MAX: Final = 20
"""Of a 64-bit number. What is longer is no revision of etcd's, and compares with nothing."""


class Witness(NamedTuple):
    key: Key
    revision: str


def later(one: Witness | None, other: Witness) -> Witness | None:
    """Who changed later, in a list, whose order says nothing."""
    if not is_revision(other.revision):
        return one
    return other if one is None or is_before(one.revision, other.revision) else one


def is_before(revision: str, other: str) -> bool:
    """Resource versions of one kind are numbers that grow (guaranteed since Kubernetes 1.35, true ever since etcd)."""
    return is_revision(revision) and is_revision(other) and int(revision) < int(other)


def is_revision(text: str) -> bool:
    return text.isdecimal() and len(text) <= REVISION_DIGITS_MAX
