"""The list+watch machine of one kind, or of one object: what to ask the API server next, given what came and when.

    next_step ─▶ Request ─▶ opened, heard …, ended | refused | broke | silent ─▶ next_step ─▶ Pause | Request …

First all objects: with a WatchList (a watch that begins with every object and marks their end by a BOOKMARK annotated
`k8s.io/initial-events-end`), or with LIST at resourceVersion=0 where the server refuses that with 400 or 422. Then a
watch from the revision reached, again and again. 410, or a revision that lies before one already seen, means all
objects again.

The latter happens when the store was restored from a backup. A watch from a revision that lies ahead of the store is
accepted by kube-apiserver 1.36 and says nothing, not even bookmarks (measured); what happens before the store has
passed that revision is never told. So after each failure the revision of the store is asked for first, and with it the
object that changed last (`Witness`): no restore happens without one, and others may write faster than we come back.

Invariants: a list that did not come to its end changes nothing. No failure, and no 404 once the kind was there, takes
an object away. Every way out of a stream passes `Health`, which decides on the pause.

It refuses I/O, clock and asyncio: `agent.cluster.reflector` drives it.
"""

from __future__ import annotations

from random import Random
from typing import Final, TypeAlias

import msgspec

from agent.cluster import shapes
from agent.cluster.health import Health, Limits
from agent.cluster.kinds import OPTIONAL_KINDS
from agent.cluster.known import Known
from agent.cluster.parse import UNREADABLE, Parsed, read_object
from agent.cluster.refusal import Refusal, read_refusal, read_status
from agent.cluster.request import Mode, Pause, Request, make_request
from agent.cluster.witness import Witness, is_before, later
from agent.model import (
    ClusterChange,
    Key,
    Kind,
    Problem,
)

Changes: TypeAlias = tuple[ClusterChange, ...]

INITIAL_EVENTS_END: Final = "k8s.io/initial-events-end"
UNMARKED_MAX: Final = 2
"""WatchLists in a row that end or fall silent before the mark, until LIST is used instead: servers before 1.27 ignore
the parameters, and the mark never comes."""

RESTARTS_IN_PEACE: Final = 2
"""How often in a row a revision may be void before that is a problem."""

STREAM_ENDED: Final = "streamEnded"
STREAM_TOO_SHORT: Final = "streamTooShort"
STREAM_BROKEN: Final = "streamBroken"
STREAM_SILENT: Final = "streamSilent"
TEXT_TOO_LONG: Final = "textTooLong"
REVISION_EXPIRED: Final = "revisionExpired"
REVISION_WENT_BACK: Final = "revisionWentBack"
WITNESS_CHANGED: Final = "witnessChanged"
CHECK_SERVER: Final = "Check that the API server runs and that this node reaches it; the last picture is kept."
_OPENING_IS_NO_PROOF: Final = frozenset({STREAM_TOO_SHORT, STREAM_BROKEN, TEXT_TOO_LONG})
"""What these say more than once is mended only when something comes through the new stream."""


class ListWatch:
    """Methods take what arrived and `now`, and return what changed. `streaming` says whether to read on."""

    def __init__(self, kind: Kind, *, random: Random, limits: Limits, only: Key | None = None) -> None:
        self.streaming = False
        self._kind = kind
        self._only = only
        self._limits = limits
        self._random = random
        self._known = Known(kind, only)
        self._health = Health(kind, only, limits, random)
        self._mode = Mode.WATCH_LIST
        self._sync_mode = Mode.WATCH_LIST
        self._revision = ""
        """Where the next watch goes on; empty: all objects are needed."""
        self._witness: Witness | None = None
        """Who changed last; None: there is no object, or the last one was deleted, and nobody can testify."""
        self._coming: Witness | None = None
        """The same of a list that comes, or of the answer to a probe."""
        self._doubtful = False
        """A watch failed: the store may be another one when we come back."""
        self._syncing = True
        """The running stream has not brought all objects yet."""
        self._listed = False
        """A list, or its absence, was passed on."""
        self._existed = False
        """A list has come: the kind is there."""
        self._unmarked = 0
        self._opened_at = 0.0

    def next_step(self, now: float) -> Request | Pause:
        self._health.started(now)
        if now < self._health.pause_until:
            return Pause(self._health.pause_until)
        if self._doubtful and self._witness is None:
            self._revision = ""
        self._syncing = not self._revision
        self._known.begin()
        self._coming = None
        if self._syncing:
            self._mode, only = self._sync_mode, self._only
        elif self._doubtful and self._witness is not None:
            self._mode, only = Mode.PROBE, self._witness.key
        else:
            self._mode, only = Mode.WATCH, self._only
        return make_request(self._mode, self._revision, only, self._limits, self._random)

    def mended_elsewhere(self, now: float) -> None:
        """Another watch of the same API server works again: ask for the next step anew."""
        self._health.mended_elsewhere(now)

    @property
    def silence_seconds(self) -> float:
        """How long to wait, right now, for the next piece of the answer's body."""
        syncing = self._syncing or self._mode is Mode.PROBE
        return self._limits.sync_silence_seconds if syncing else self._limits.silence_seconds

    def opened(self, now: float) -> Changes:
        """The answer is 200, its body follows."""
        self.streaming = True
        self._opened_at = now
        health = self._health
        again = health.failures > 1 and health.problem is not None and health.problem.reason in _OPENING_IS_NO_PROOF
        if self._mode is not Mode.WATCH or again:
            return ()
        return self._health.good(now)

    def heard(self, line: bytes, now: float) -> Changes:
        """One line of a watch."""
        try:
            event = _EVENT.decode(line)
        except UNREADABLE:
            return self._fail(STREAM_BROKEN, "the stream has a line that is no event", now, resync=True)
        match event.type:
            case "ADDED" | "MODIFIED" | "DELETED":
                return self._object(event, now)
            case "BOOKMARK":
                return self._bookmark(event.object, now)
            case "ERROR":
                return self._refused(read_status(self._kind, self._only, event.object), now)
            case _:
                return self._fail(
                    STREAM_BROKEN, "the stream has an event of a type that is not known", now, resync=True
                )

    def item(self, body: bytes | msgspec.Raw, now: float) -> Changes:
        """One object of a LIST, or the one of a PROBE."""
        self._collect(read_object(self._kind, body))
        return () if self._mode is Mode.PROBE else self._health.alive(now)

    def listed(self, envelope: bytes, now: float) -> Changes:
        """A LIST or PROBE came to its end; what `item` did not get is in the envelope."""
        try:
            rest = _ENVELOPE.decode(envelope)
        except UNREADABLE:
            return self._fail(STREAM_BROKEN, "the list was cut off or is no list", now)
        for body in rest.items or ():
            self._collect(read_object(self._kind, body))
        if self._mode is Mode.PROBE:
            return self._probed(rest.metadata.revision or "", now)
        if rest.metadata.rest:
            return self._fail(STREAM_BROKEN, "the list is a part of one, though no part was asked for", now)
        self.streaming = False
        return self._synced(rest.metadata.revision or "", now)

    def refused(self, status: int, retry_after_seconds: float | None, body: bytes, now: float) -> Changes:
        """The answer is not 200."""
        return self._refused(read_refusal(self._kind, self._only, status, retry_after_seconds, body), now)

    def ended(self, now: float) -> Changes:
        """The stream came to an end in order."""
        if self._syncing:
            self._count_unmarked()
            return self._fail(STREAM_BROKEN, "the stream ended before all objects had come", now)
        if now - self._opened_at < self._limits.short_seconds:
            return self._fail(STREAM_TOO_SHORT, "the stream ended as soon as it was open", now)
        self._close(now)
        self._health.ended(STREAM_ENDED, now)
        return ()

    def broke(self, reason: str, text: str, now: float, fix: str = "") -> Changes:
        """There is no connection, or no longer."""
        return self._fail(reason, text, now, fix=fix or CHECK_SERVER)

    def too_long(self, now: float) -> Changes:
        return self._fail(TEXT_TOO_LONG, "an object is too large to be read", now, resync=True)

    def silent(self, now: float) -> Changes:
        """Nothing came for as long as the request allows."""
        if self.streaming and self._syncing:
            self._count_unmarked()
        return self._fail(STREAM_SILENT, "nothing comes through the connection any more", now)

    def _object(self, event: shapes.Event, now: float) -> Changes:
        parsed = read_object(self._kind, event.object)
        if self._syncing:
            if event.type == "DELETED":
                self._known.drop(parsed.key)
                self._coming = None
            else:
                self._collect(parsed)
            return self._health.alive(now)
        if is_before(parsed.revision, self._revision):
            return self._start_over(REVISION_WENT_BACK, now)
        self._revision = parsed.revision or self._revision
        if event.type == "DELETED":
            self._witness = None
            changes = self._known.deleted(parsed.key)
        else:
            self._witness = Witness(parsed.key, parsed.revision)
            changes = self._known.applied(parsed)
        return (*changes, *self._health.good(now))

    def _collect(self, parsed: Parsed) -> None:
        self._known.collect(parsed)
        self._coming = later(self._coming, Witness(parsed.key, parsed.revision))

    def _bookmark(self, body: msgspec.Raw, now: float) -> Changes:
        try:
            meta = _BOOKMARK.decode(body).metadata
        except UNREADABLE:
            return self._fail(STREAM_BROKEN, "the stream has a bookmark that cannot be read", now, resync=True)
        if self._syncing:
            if (meta.annotations or {}).get(INITIAL_EVENTS_END) != "true":
                return self._health.alive(now)
            return self._synced(meta.revision or "", now)
        if is_before(meta.revision or "", self._revision):
            return self._start_over(REVISION_WENT_BACK, now)
        self._revision = meta.revision or self._revision
        return self._health.good(now)

    def _synced(self, revision: str, now: float) -> Changes:
        """All objects have come. What was known before does not matter, not even when its revision was higher."""
        if not revision:
            return self._fail(STREAM_BROKEN, "the list has no resourceVersion", now)
        self._syncing = self._doubtful = False
        self._revision = revision
        self._witness = self._coming
        self._listed = self._existed = True
        self._unmarked = 0
        return (self._known.complete(), *self._health.good(now))

    def _probed(self, revision: str, now: float) -> Changes:
        if is_before(revision, self._revision):
            return self._start_over(REVISION_WENT_BACK, now)
        if self._coming != self._witness:
            return self._start_over(WITNESS_CHANGED, now)
        self._doubtful = False
        self._close(now)
        return ()

    def _refused(self, refusal: Refusal, now: float) -> Changes:
        self._close(now)
        if refusal.expired:
            return self._start_over(REVISION_EXPIRED, now)
        if refusal.invalid and self._mode is Mode.WATCH_LIST:
            self._sync_mode = Mode.LIST
            return ()
        if refusal.not_found and self._kind in OPTIONAL_KINDS and not self._existed:
            self._health.absent(now)
            first = () if self._listed else (self._known.complete(),)
            self._listed = True
            return (*first, *self._health.good(now))
        if refusal.invalid:
            self._revision = ""
        self._doubtful = True
        changes = self._known.forbidden(refusal.problem.message) if refusal.forbidden else ()
        return (*changes, *self._health.bad(refusal.problem, now, refusal.retry_after_seconds))

    def _start_over(self, reason: str, now: float) -> Changes:
        """All objects again. Nothing is wrong with anything, unless it happens again and again."""
        self._close(now)
        if self._health.restarts_in_row >= RESTARTS_IN_PEACE:
            return self._fail(reason, "the API server no longer knows the revisions it gives", now, resync=True)
        self._revision = ""
        self._health.restart(reason, now)
        return ()

    def _fail(self, reason: str, text: str, now: float, *, resync: bool = False, fix: str = CHECK_SERVER) -> Changes:
        self._close(now)
        self._doubtful = True
        if resync:
            self._revision = ""
        what = str(self._only) if self._only else f"all {self._kind} objects"
        problem = Problem(
            reason,
            f"watch of {self._only or self._kind}",
            f"cannot watch {what}: {text}",
            fix,
        )
        return self._health.bad(problem, now)

    def _close(self, now: float) -> None:
        """Whatever comes next: a watch that lived long enough ends a row of failures. Lists do not count."""
        if (
            self.streaming
            and not self._syncing
            and self._mode is not Mode.PROBE
            and now - self._opened_at >= self._limits.steady_seconds
        ):
            self._health.steady()
        self.streaming = False

    def _count_unmarked(self) -> None:
        self._unmarked += 1
        if self._mode is Mode.WATCH_LIST and self._unmarked >= UNMARKED_MAX:
            self._sync_mode = Mode.LIST


_EVENT: Final = msgspec.json.Decoder(shapes.Event)
_BOOKMARK: Final = msgspec.json.Decoder(shapes.Bookmark)
_ENVELOPE: Final = msgspec.json.Decoder(shapes.Envelope)
