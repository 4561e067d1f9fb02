"""What a request to the embedded API server asks for: its place in the API and its list options, checked.

Refusals follow apimachinery's ValidateListOptions. It refuses parameters it does not know, so that a client that relies
on one finds out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import NamedTuple

from tests.lab.apikinds import Refused, Resource

IGNORED = frozenset({"pretty", "fieldManager", "fieldValidation", "propagationPolicy", "gracePeriodSeconds"})
READING = frozenset(
    {
        "watch",
        "resourceVersion",
        "resourceVersionMatch",
        "sendInitialEvents",
        "allowWatchBookmarks",
        "timeoutSeconds",
        "fieldSelector",
        "limit",
        "continue",
    }
)
TRUE = ("true", "1")


class Place(NamedTuple):
    """What a path names."""

    resource: Resource
    namespace: str
    name: str
    subresource: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """ListOptions of a request, checked as apimachinery's ValidateListOptions does."""

    watch: bool = False
    revision: int | None = None
    initial: bool | None = None
    bookmarks: bool = False
    timeout: float | None = None
    namespace: str = ""
    name: str = ""
    limit: int = 0
    token: str = ""


def parse_options(query: Mapping[str, str], place: Place) -> Options:
    for key in query:
        if key not in READING | IGNORED:
            raise Refused(HTTPStatus.BAD_REQUEST, "BadRequest", f"the embedded API does not know the parameter {key}")
    watch = query.get("watch") in TRUE
    initial = query["sendInitialEvents"] in TRUE if "sendInitialEvents" in query else None
    match_ = query.get("resourceVersionMatch", "")
    revision = query.get("resourceVersion", "")
    wrong = ""
    if initial is not None and not watch:
        wrong = "sendInitialEvents: Forbidden: sendInitialEvents is forbidden for list"
    elif initial is not None and match_ != "NotOlderThan":
        wrong = (
            "resourceVersionMatch: Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"
        )
    elif match_ and initial is None and watch:
        wrong = "resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden for watch unless sendInitialEvents"
    elif match_ and initial is None and not revision:
        wrong = "resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden unless resourceVersion is provided"
    elif match_ == "Exact":
        wrong = "resourceVersionMatch: Unsupported value: the embedded API keeps no old lists"
    if wrong:
        message = f'ListOptions.meta.k8s.io "" is invalid: {wrong}'
        raise Refused(HTTPStatus.UNPROCESSABLE_ENTITY, "Invalid", message)
    if not (revision or "0").isdigit():
        raise Refused(HTTPStatus.BAD_REQUEST, "BadRequest", f'resourceVersion: Invalid value: "{revision}"')
    fields = _fields(query.get("fieldSelector", ""), place)
    return Options(
        watch=watch,
        revision=int(revision) if revision else None,
        initial=initial,
        bookmarks=query.get("allowWatchBookmarks") in TRUE,
        timeout=float(query["timeoutSeconds"]) if "timeoutSeconds" in query else None,
        namespace=fields.get("metadata.namespace", place.namespace),
        name=fields.get("metadata.name", ""),
        limit=int(query.get("limit", "0")),
        token=query.get("continue", ""),
    )


def _fields(selector: str, place: Place) -> Mapping[str, str]:
    known = {"metadata.name", *(["metadata.namespace"] if place.resource.namespaced else [])}
    found = {}
    for term in filter(None, selector.split(",")):
        key, equals, value = term.replace("==", "=").partition("=")
        if not equals or key.endswith("!") or key not in known:
            raise Refused(HTTPStatus.BAD_REQUEST, "BadRequest", f"field label not supported: {key}")
        found[key] = value
    return found
