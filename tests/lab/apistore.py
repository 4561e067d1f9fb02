"""Objects of a small Kubernetes API and their history: what the embedded API server serves (`tests.lab.api`).

One counter gives every change its revision, as etcd does. Each resource keeps its last changes for watches; a watch
that asks for older ones is told 410. It refuses I/O: whoever wants to know of changes leaves a function to be called.
"""

from __future__ import annotations

import bisect
import copy
import json
import re
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any, Final

from tests.lab.apikinds import BUILT_IN, Object, Refused, Resource, completed, custom_resources, invalid, refused

HISTORY: Final = 10_000
"""Changes kept per resource; a watch that falls behind further is told 410, as on a real server."""
FIRST_REVISION: Final = 1000
NAMESPACES: Final = ("default", "kube-node-lease", "kube-public", "kube-system")
_NAME: Final = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")


@dataclass(frozen=True, slots=True)
class Event:
    revision: int
    namespace: str
    name: str
    line: bytes
    """As a watch sends it, with its newline."""
    happened_at: float
    """Monotonic second."""


@dataclass(slots=True)
class _Shelf:
    """Objects and history of one resource."""

    objects: dict[tuple[str, str], Object] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)
    dropped: int = FIRST_REVISION
    """Revision of the last change that is no longer in `events`."""
    listeners: set[Callable[[], None]] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class Backup:
    revision: int
    objects: Mapping[Resource, Mapping[tuple[str, str], Object]]


class Store:
    """Not safe for threads: one loop owns it. What goes in is copied, what comes out must not be changed."""

    def __init__(self, history: int = HISTORY) -> None:
        self.revision = FIRST_REVISION
        self.resources = {(r.group, r.version, r.plural): r for r in (*BUILT_IN, *custom_resources())}
        self.compacted = FIRST_REVISION
        self._history = history
        self._kinds = {r.kind: r for r in self.resources.values()}
        self._shelves = {resource: _Shelf() for resource in self.resources.values()}
        for name in NAMESPACES:
            self.apply({"kind": "Namespace", "metadata": {"name": name}})

    def kind(self, kind: str) -> Resource:
        return self._kinds[kind]

    def get(self, resource: Resource, namespace: str, name: str) -> Object:
        try:
            return self._shelves[resource].objects[namespace, name]
        except KeyError:
            raise refused(HTTPStatus.NOT_FOUND, "NotFound", resource, name, "not found") from None

    def list(self, resource: Resource, namespace: str = "", name: str = "") -> Sequence[Object]:
        """In the order of their keys. An empty `namespace` or `name` means all."""
        shelf = self._shelves[resource]
        return [shelf.objects[key] for key in sorted(shelf.objects) if _selected(key, namespace, name)]

    def create(self, resource: Resource, namespace: str, body: Object) -> Object:
        wanted = copy.deepcopy(body)
        metadata = wanted.setdefault("metadata", {})
        if "name" not in metadata and "generateName" in metadata:
            metadata["name"] = metadata["generateName"] + uuid.uuid4().hex[:5]
        name = metadata.get("name", "")
        self._check_place(resource, namespace, name, wanted)
        if (namespace, name) in self._shelves[resource].objects:
            raise refused(HTTPStatus.CONFLICT, "AlreadyExists", resource, name, "already exists")
        if resource.namespaced:
            self.get(self._kinds["Namespace"], "", namespace)
        if resource.status:
            wanted.pop("status", None)
        return self._save(resource, namespace, name, completed(resource, wanted), None)

    def replace(
        self, resource: Resource, namespace: str, name: str, body: Object, subresource: str, *, merge: bool = False
    ) -> Object:
        """PUT, or PATCH with `merge` (RFC 7386); subresource `status` changes only the status, none never does."""
        before = self.get(resource, namespace, name)
        wanted: Object = merged(before, body) if merge else copy.deepcopy(body)
        self._check_place(resource, namespace, name, wanted)
        claimed = body.get("metadata", {}).get("resourceVersion")
        if claimed is None and not merge and resource.schema is not None:
            message = "metadata.resourceVersion: Invalid value: 0: must be specified for an update"
            raise invalid(resource, name, message)
        if claimed not in (None, before["metadata"]["resourceVersion"]):
            raise Refused(
                HTTPStatus.CONFLICT,
                "Conflict",
                f'Operation cannot be fulfilled on {resource.qualified} "{name}": the object has been modified; '
                "please apply your changes to the latest version and try again",
                name=name,
                kind=resource.plural,
            )
        if subresource == "status":
            wanted = {**before, "status": wanted.get("status", {})}
        elif resource.status:
            wanted = _with_status(wanted, before)
        return self._save(resource, namespace, name, completed(resource, wanted), before)

    def apply(self, body: Object, *, checked: bool = True) -> Object:
        """Create or replace the whole object, status included: for tests, which may say all at once.

        Not `checked`: as if its kind had no schema.
        """
        resource = self._kinds[body["kind"]]
        metadata = body.get("metadata", {})
        namespace = metadata.get("namespace", "default") if resource.namespaced else ""
        if resource.namespaced and (("", namespace) not in self._shelves[self._kinds["Namespace"]].objects):
            self.apply({"kind": "Namespace", "metadata": {"name": namespace}})
        wanted = copy.deepcopy(body)
        self._check_place(resource, namespace, metadata.get("name", ""), wanted)
        before = self._shelves[resource].objects.get((namespace, metadata["name"]))
        whole = completed(resource, wanted) if checked else wanted
        return self._save(resource, namespace, metadata["name"], whole, before)

    def merge(self, resource: Resource, namespace: str, name: str, patch: Object) -> Object:
        """Merge patch of any part, status included: for tests."""
        return self.apply(merged(self.get(resource, namespace, name), patch))

    def delete(self, resource: Resource, namespace: str, name: str) -> Object:
        before = self.get(resource, namespace, name)
        del self._shelves[resource].objects[namespace, name]
        self.revision += 1
        gone = {**before, "metadata": {**before["metadata"], "resourceVersion": str(self.revision)}}
        self._tell(resource, "DELETED", namespace, name, gone)
        return gone

    def compact(self) -> None:
        """Forget all history, as etcd does every five minutes: watches from an older revision are told 410."""
        self.compacted = self.revision
        for shelf in self._shelves.values():
            _forget(shelf, keep=0)

    def backup(self) -> Backup:
        return Backup(self.revision, {resource: dict(shelf.objects) for resource, shelf in self._shelves.items()})

    def go_back(self, backup: Backup) -> None:
        """As etcd restored from it: revisions count on from there, and of what was before nothing is known."""
        self.revision = backup.revision
        for resource, shelf in self._shelves.items():
            shelf.objects = dict(backup.objects[resource])
            shelf.events.clear()
            shelf.dropped = self.revision
        self.compacted = self.revision

    def check_reachable(self, revision: int) -> None:
        """Refused if a watch from here would miss changes."""
        if revision < self.compacted:
            raise expired(revision, self.compacted)

    def events(self, resource: Resource, after: int) -> Sequence[Event]:
        """Changes of the resource since a revision, oldest first; Refused (410) if some of them are forgotten."""
        shelf = self._shelves[resource]
        if after < shelf.dropped:
            raise expired(after, shelf.dropped)
        return shelf.events[bisect.bisect_right(shelf.events, after, key=lambda event: event.revision) :]

    def wake(self) -> None:
        """Whoever watches looks again."""
        for shelf in self._shelves.values():
            for listener in tuple(shelf.listeners):
                listener()

    def listeners(self, resource: Resource) -> set[Callable[[], None]]:
        """Called after each change of the resource; add and discard as you like."""
        return self._shelves[resource].listeners

    def _check_place(self, resource: Resource, namespace: str, name: str, wanted: Object) -> None:
        """Fill in kind and namespace, and refuse what contradicts the place in the API it was sent to."""
        if wanted.setdefault("kind", resource.kind) != resource.kind or (
            wanted.setdefault("apiVersion", resource.api_version) != resource.api_version
        ):
            said = f"{wanted['apiVersion']} {wanted['kind']}"
            raise Refused(HTTPStatus.BAD_REQUEST, "BadRequest", f"{said} does not belong to {resource.qualified}")
        metadata = wanted.setdefault("metadata", {})
        if not name:
            raise invalid(resource, "", "metadata.name: Required value: name or generateName is required")
        if not _NAME.fullmatch(name):
            raise invalid(resource, name, f'metadata.name: Invalid value: "{name}": a lowercase RFC 1123 name')
        if metadata.get("name", name) != name:
            message = f"the name of the object ({metadata['name']}) does not match the name on the URL ({name})"
            raise Refused(HTTPStatus.BAD_REQUEST, "BadRequest", message)
        if resource.namespaced and metadata.setdefault("namespace", namespace) != namespace:
            message = "the namespace of the provided object does not match the namespace sent on the request"
            raise Refused(HTTPStatus.BAD_REQUEST, "BadRequest", message)

    def _save(self, resource: Resource, namespace: str, name: str, wanted: Object, before: Object | None) -> Object:
        """Saving what is there already changes no revision and tells no one, as on a real server."""
        metadata = {**wanted["metadata"], "name": name}
        if before is None:
            metadata["uid"] = metadata.get("uid") or str(uuid.uuid4())
            now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
            metadata["creationTimestamp"] = metadata.get("creationTimestamp") or now
        else:
            kept = ("uid", "creationTimestamp", "resourceVersion", "generation")
            metadata.update({key: before["metadata"][key] for key in kept if key in before["metadata"]})
        if before is not None and {**wanted, "metadata": metadata} == before:
            return before
        if resource.schema is not None and (before is None or _intent(wanted) != _intent(before)):
            metadata["generation"] = metadata.get("generation", 0) + 1
        self.revision += 1
        metadata["resourceVersion"] = str(self.revision)
        saved = {"kind": resource.kind, "apiVersion": resource.api_version, **wanted, "metadata": metadata}
        self._shelves[resource].objects[namespace, name] = saved
        self._tell(resource, "ADDED" if before is None else "MODIFIED", namespace, name, saved)
        return saved

    def _tell(self, resource: Resource, what: str, namespace: str, name: str, thing: Object) -> None:
        shelf = self._shelves[resource]
        shelf.events.append(Event(self.revision, namespace, name, event_line(what, thing), time.monotonic()))
        if len(shelf.events) > 2 * self._history:
            _forget(shelf, keep=self._history)
        for listener in tuple(shelf.listeners):
            listener()


def event_line(what: str, thing: Object) -> bytes:
    return json.dumps({"type": what, "object": thing}, separators=(",", ":")).encode() + b"\n"


def expired(revision: int, oldest: int) -> Refused:
    return Refused(HTTPStatus.GONE, "Expired", f"too old resource version: {revision} ({oldest})")


def merged(target: Any, patch: Any) -> Any:
    """JSON merge patch, RFC 7386 2. Shares nothing that could be changed with `patch`."""
    if not isinstance(patch, dict):
        return copy.deepcopy(patch)
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merged(result.get(key), value)
    return result


def _with_status(wanted: Object, before: Object) -> Object:
    without = {key: value for key, value in wanted.items() if key != "status"}
    return {**without, "status": before["status"]} if "status" in before else without


def _intent(thing: Object) -> Object:
    return {key: value for key, value in thing.items() if key not in {"metadata", "status"}}


def _selected(key: tuple[str, str], namespace: str, name: str) -> bool:
    return namespace in ("", key[0]) and name in ("", key[1])


def _forget(shelf: _Shelf, keep: int) -> None:
    lost = shelf.events[: len(shelf.events) - keep]
    if lost:
        shelf.dropped = lost[-1].revision
        del shelf.events[: len(lost)]
