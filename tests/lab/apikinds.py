"""Kinds of objects that the embedded API server knows, how it completes and checks them, and how it says no.

Custom kinds come from deploy/crds, with their defaults, pruning and plain schema. It refuses to evaluate CEL rules:
that an object passes here does not say that a real API server takes it.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

import jsonschema
import yaml

Object = dict[str, Any]

CRDS: Final = Path(__file__).resolve().parents[2] / "deploy/crds"


class Refused(Exception):  # noqa: N818  # what the server answers, not an error of the server
    """The answer is a Status with this code and reason; `extra` goes into its details."""

    def __init__(self, code: HTTPStatus, reason: str, message: str, **extra: Any) -> None:
        super().__init__(message)
        self.status: Object = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": message,
            "reason": reason,
            "details": extra,
            "code": int(code),
        }


@dataclass(frozen=True, slots=True)
class Resource:
    """One kind of object; equal by its path."""

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool = False
    status: bool = False
    """The status is written through the subresource, and only there."""
    schema: Mapping[str, Any] | None = field(default=None, compare=False)
    """Structural schema of a custom kind."""

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def qualified(self) -> str:
        """As messages name it: `nodes`, `bgppeers.bgpilot.io`."""
        return f"{self.plural}.{self.group}" if self.group else self.plural


BUILT_IN: Final = (
    Resource("", "v1", "nodes", "Node", status=True),
    Resource("", "v1", "namespaces", "Namespace", status=True),
    Resource("", "v1", "services", "Service", namespaced=True, status=True),
    Resource("", "v1", "secrets", "Secret", namespaced=True),
    Resource("", "v1", "events", "Event", namespaced=True),
    Resource("apps", "v1", "daemonsets", "DaemonSet", namespaced=True),
    Resource("discovery.k8s.io", "v1", "endpointslices", "EndpointSlice", namespaced=True),
    Resource("networking.k8s.io", "v1", "servicecidrs", "ServiceCIDR", status=True),
)


@cache
def custom_resources(folder: Path = CRDS) -> tuple[Resource, ...]:
    """The kinds that the files in deploy/crds define."""
    found = []
    for path in sorted(folder.glob("*.yaml")):
        definition = yaml.safe_load(path.read_text())
        if definition["kind"] != "CustomResourceDefinition":
            continue
        spec = definition["spec"]
        found += [
            Resource(
                spec["group"],
                version["name"],
                spec["names"]["plural"],
                spec["names"]["kind"],
                namespaced=spec["scope"] == "Namespaced",
                status="status" in version.get("subresources", {}),
                schema=_plain(version["schema"]["openAPIV3Schema"]),
            )
            for version in spec["versions"]
        ]
    return tuple(found)


def _plain(schema: Any) -> Any:
    """With the type of each int-or-string field in the words of JSON Schema."""
    match schema:
        case dict():
            either = {"type": ["integer", "string"]} if schema.get("x-kubernetes-int-or-string") is True else {}
            return {key: _plain(value) for key, value in schema.items()} | either
        case list():
            return [_plain(item) for item in schema]
        case _:
            return schema


def completed(resource: Resource, wanted: Object) -> Object:
    """Unknown fields dropped, defaults filled in, the plain schema checked; nothing of the kind for built-in kinds."""
    if resource.kind == "Event":
        _check_event(resource, wanted)
    if resource.schema is None:
        return wanted
    whole: Object = _filled(resource.schema, wanted, keep=("kind", "apiVersion", "metadata"))
    errors = jsonschema.Draft202012Validator(resource.schema).iter_errors(whole)
    said = sorted(f"{'.'.join(map(str, error.absolute_path))}: {error.message}" for error in errors)
    if said:
        raise invalid(resource, wanted["metadata"]["name"], "; ".join(said))
    return whole


def _filled(schema: Mapping[str, Any], value: Any, keep: Iterable[str] = ()) -> Any:
    if isinstance(value, dict) and "properties" in schema:
        known = schema["properties"]
        defaults = {key: known[key]["default"] for key in known if "default" in known[key] and key not in value}
        whole = {key: held for key, held in {**value, **copy.deepcopy(defaults)}.items() if key in known or key in keep}
        return {key: held if key in keep else _filled(known[key], held) for key, held in whole.items()}
    if isinstance(value, list) and "items" in schema:
        return [_filled(schema["items"], item) for item in value]
    return value


def _check_event(resource: Resource, wanted: Object) -> None:
    """What lies in no namespace has its Events in `default`."""
    about = wanted.get("involvedObject", {}).get("namespace", "")
    if (about or "default") != wanted["metadata"]["namespace"]:
        message = f'involvedObject.namespace: Invalid value: "{about}": does not match event.namespace'
        raise invalid(resource, wanted["metadata"]["name"], message)


def refused(code: HTTPStatus, reason: str, resource: Resource, name: str, what: str) -> Refused:
    details = {"name": name, "kind": resource.plural, **({"group": resource.group} if resource.group else {})}
    return Refused(code, reason, f'{resource.qualified} "{name}" {what}', **details)


def invalid(resource: Resource, name: str, message: str) -> Refused:
    text = f'{resource.kind} "{name}" is invalid: {message}'
    return Refused(HTTPStatus.UNPROCESSABLE_ENTITY, "Invalid", text, name=name, kind=resource.kind)
