"""Bytes of one cluster object → its record, or a Problem that names object, field, value and fix.

`read_object` is the door for every kind. An object is decoded straight into the few fields that matter (msgspec skips
the rest), so that 5,000 Nodes of 13 kB each cost 0.2 s and no garbage worth speaking of.

It refuses to raise on any input: an object that cannot be read is a Problem of that object alone. It refuses to judge
what needs a second object to see (two nodes with one pod CIDR): that is the planner's.
"""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final, NamedTuple, TypeAlias, TypeVar

import msgspec

from agent.advertising import Advertisement, AdvertisementType, ServiceAddress
from agent.cluster import shapes
from agent.cluster.adverts import read_advertisement, read_request
from agent.cluster.fields import Field, FieldError, core_address, core_prefix, quoted
from agent.cluster.instances import read_instance
from agent.cluster.routers import read_peer
from agent.intent import ExternalPeer, Instance
from agent.model import (
    DaemonSet,
    EndpointSlice,
    Key,
    Kind,
    Namespace,
    Node,
    Problem,
    Record,
    Secret,
    Service,
    ServiceCidr,
    TrafficPolicy,
    UnreadPodCidrs,
)
from bgp.model import Address, Family, Password

_Thing = TypeVar("_Thing")
_Custom = TypeVar("_Custom", Instance, ExternalPeer, Advertisement)

MALFORMED: Final = "malformedObject"
"""Reason word: the object exists and cannot be read."""
SERVICE_NAME_LABEL: Final = "kubernetes.io/service-name"
ANNOTATION_MAX: Final = 64
"""Characters: annotations of Nodes that are longer are not kept."""
UNNAMED: Final = "(unnamed)"
"""Stands for the name of an object that has none to read."""

UNREADABLE: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""What msgspec 0.22 raises on bytes that are not the JSON wanted: the third when it is nested some thousand deep."""

_NOT_READY: Final = ("False", "Unknown")
_FAMILIES: Final[Mapping[str, Family]] = {"IPv4": Family.IPV4, "IPv6": Family.IPV6}
_FIX: Final = "Mend the object"
_AT: Final = re.compile(r"^(?P<what>.*?)(?: - at `\$\.?(?P<path>.*)`)?$", re.DOTALL)


class Parsed(NamedTuple):
    key: Key
    revision: str
    """Its resourceVersion; empty when even that cannot be read."""
    outcome: Record | Problem


def read_object(kind: Kind, body: bytes | msgspec.Raw) -> Parsed:
    """One object of `kind`, as it stands in a list or in an event of a watch."""
    try:
        found = _DECODERS[kind].decode(body)
    except UNREADABLE as error:
        return _unreadable(kind, body, error)
    meta = found.metadata
    key = Key(kind, meta.namespace or "", meta.name or UNNAMED)
    try:
        return Parsed(key, meta.revision or "", _READERS[kind](found))
    except FieldError as error:
        of = UnreadPodCidrs if kind is Kind.ADVERTISEMENT and _of_pods(found) else Problem
        return Parsed(key, meta.revision or "", of(MALFORMED, str(key), error.what, _sentence(f"{_FIX}: {error.fix}")))


def _of_pods(found: _Object) -> bool:
    said = found.spec if isinstance(found, shapes.Custom) else None
    return isinstance(said, dict) and said.get("type") == AdvertisementType.POD_CIDR


def _sentence(text: str) -> str:
    return text if text.endswith("?") else f"{text}."


def _unreadable(kind: Kind, body: bytes | msgspec.Raw, error: Exception) -> Parsed:
    """A member has another type than the API promises; msgspec's text says where and which, never the value."""
    try:
        meta = _BARE.decode(body).metadata
    except UNREADABLE:
        meta = shapes.BareMeta()
    key = Key(kind, meta.namespace or "", meta.name or UNNAMED)
    said = _AT.match(str(error))
    where, what = (said["path"] or "the object", said["what"]) if said else ("the object", str(error))
    fix = f"{_FIX}: {where} must have the type that the API documents."
    return Parsed(key, meta.revision or "", Problem(MALFORMED, str(key), f"{where}: {what}", fix))


_Object: TypeAlias = (
    shapes.Node
    | shapes.Namespace
    | shapes.Service
    | shapes.EndpointSlice
    | shapes.ServiceCidr
    | shapes.Secret
    | shapes.DaemonSet
    | shapes.Custom
)

_TYPES: Final[Mapping[Kind, type[_Object]]] = {
    Kind.NODE: shapes.Node,
    Kind.NAMESPACE: shapes.Namespace,
    Kind.SERVICE: shapes.Service,
    Kind.ENDPOINT_SLICE: shapes.EndpointSlice,
    Kind.SERVICE_CIDR: shapes.ServiceCidr,
    Kind.SECRET: shapes.Secret,
    Kind.DAEMON_SET: shapes.DaemonSet,
    Kind.INSTANCE: shapes.Custom,
    Kind.PEER: shapes.Custom,
    Kind.ADVERTISEMENT: shapes.Custom,
}
_DECODERS: Final = {kind: msgspec.json.Decoder(of) for kind, of in _TYPES.items()}
_BARE: Final = msgspec.json.Decoder(shapes.Bare)


# What becomes of it. Each raises FieldError.


def _node(found: shapes.Node) -> Node:
    spec, status = found.spec or shapes.NodeSpec(), found.status or shapes.NodeStatus()
    cidrs = spec.pod_cidrs or ([spec.pod_cidr] if spec.pod_cidr else [])
    return Node(
        name=found.metadata.name or UNNAMED,
        uid=found.metadata.uid or "",
        created=_created(found.metadata),
        addresses=_unique(
            core_address(entry.address, f"status.addresses[{index}].address")
            for index, entry in enumerate(status.addresses or ())
            if entry.type == "InternalIP"
        ),
        pod_cidrs=_unique(core_prefix(cidr, f"spec.podCIDRs[{index}]") for index, cidr in enumerate(cidrs)),
        labels=_labels(found.metadata),
        annotations=_short(found.metadata.annotations or {}),
        ready=not any(
            condition.type == "Ready" and condition.status in _NOT_READY for condition in status.conditions or ()
        ),
        cordoned=bool(spec.unschedulable),
        taints=tuple(sorted({taint.key for taint in spec.taints or ()})),
    )


def _namespace(found: shapes.Namespace) -> Namespace:
    return Namespace(name=found.metadata.name or UNNAMED, labels=_labels(found.metadata))


def _short(annotations: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """What an AS number or an address fits into; the long ones are whole objects, which other programs keep there."""
    return tuple(sorted((key, value) for key, value in annotations.items() if len(value) <= ANNOTATION_MAX))


def _service(found: shapes.Service) -> Service:
    spec, status = found.spec or shapes.ServiceSpec(), found.status or shapes.ServiceStatus()
    cluster_ips = spec.cluster_ips or ([spec.cluster_ip] if spec.cluster_ip else [])
    without = "externalName" if spec.type == "ExternalName" else "headlessService" if "None" in cluster_ips else ""
    ingress, balanced = _ingress(status), spec.type == "LoadBalancer"
    requested, request_error = _request(found.metadata)
    others = () if without else _addresses(spec.external_ips or (), "spec.externalIPs")
    return Service(
        namespace=found.metadata.namespace or "",
        name=found.metadata.name or UNNAMED,
        uid=found.metadata.uid or "",
        cluster_ips=() if without else _addresses(cluster_ips, "spec.clusterIPs"),
        external_ips=others,
        load_balancer_ips=_load_balancer_ips(ingress) if balanced and not without else (),
        internal_policy=_policy(spec.internal_traffic_policy, "spec.internalTrafficPolicy"),
        external_policy=_policy(spec.external_traffic_policy, "spec.externalTrafficPolicy"),
        labels=_labels(found.metadata),
        load_balancer_class=spec.load_balancer_class or "",
        requested=requested,
        left_out=(("ClusterIP", without),)
        if without
        else (_left_out(ingress) if balanced else _left_over(ingress, map(str, others))),
        request_error=request_error,
    )


def _request(meta: shapes.ServiceMeta) -> tuple[frozenset[ServiceAddress] | None, str]:
    """What the annotation asks for, and what is wrong with it.

    A wrong one is as if it was not there: what was good before it nobody knows after a restart, and a restart must
    change nothing.
    """
    try:
        return read_request((meta.annotations or shapes.ServiceAnnotations()).advertise), ""
    except FieldError as error:
        return None, error.what


def _ingress(status: shapes.ServiceStatus) -> list[shapes.Ingress] | tuple[()]:
    """Of a LoadBalancer. Before Kubernetes 1.29 it may stay behind when a Service is none any more."""
    return (status.load_balancer or shapes.LoadBalancer()).ingress or ()


def _left_over(ingress: Iterable[shapes.Ingress], others: Iterable[str]) -> tuple[tuple[str, str], ...]:
    """What the status of a Service that is no LoadBalancer says, but for addresses that it has otherwise: `others`."""
    named, otherwise = (entry.ip or entry.hostname for entry in ingress), frozenset(others)
    return _unique((what, "noLoadBalancer") for what in named if what and what not in otherwise)


def _left_out(ingress: Iterable[shapes.Ingress]) -> tuple[tuple[str, str], ...]:
    """What `_load_balancer_ips` does without, as it is written."""
    if not any(entry.ip or entry.hostname for entry in ingress):
        return (("LoadBalancerIP", "noAddressYet"),)
    proxied = [(entry.ip, "ipModeProxy") for entry in ingress if entry.ip and entry.mode == "Proxy"]
    named = [(entry.hostname, "hostnameOnly") for entry in ingress if entry.hostname and not entry.ip]
    return _unique([*proxied, *named])


def _load_balancer_ips(ingress: list[shapes.Ingress] | tuple[()]) -> tuple[Address, ...]:
    """Without the hostnames, and without those that say ipMode Proxy: the nodes do not answer for these."""
    return _unique(
        core_address(entry.ip, f"status.loadBalancer.ingress[{index}].ip")
        for index, entry in enumerate(ingress)
        if entry.ip and entry.mode != "Proxy"
    )


def _endpoint_slice(found: shapes.EndpointSlice) -> EndpointSlice:
    """The rules of kube-proxy 1.36: `ready` and `serving` count as true when absent, `terminating` as false."""
    ready, serving, unready = set(), set(), set()
    family = _FAMILIES.get(found.address_type or "")
    for endpoint in (found.endpoints or ()) if family is not None else ():
        conditions = endpoint.conditions or shapes.Conditions()
        if conditions.ready is not False:
            ready.add(endpoint.node or "")
        elif not conditions.terminating:
            unready.add(endpoint.node or "")
        if conditions.serving is not False and conditions.terminating:
            serving.add(endpoint.node or "")
    return EndpointSlice(
        namespace=found.metadata.namespace or "",
        name=found.metadata.name or UNNAMED,
        service=(found.metadata.labels or {}).get(SERVICE_NAME_LABEL, ""),
        family=family,
        ready=frozenset(ready),
        serving=frozenset(serving),
        unready=frozenset(unready),
    )


def _service_cidr(found: shapes.ServiceCidr) -> ServiceCidr:
    cidrs = (found.spec or shapes.ServiceCidrSpec()).cidrs or ()
    return ServiceCidr(
        name=found.metadata.name or UNNAMED,
        cidrs=_unique(core_prefix(cidr, f"spec.cidrs[{index}]") for index, cidr in enumerate(cidrs)),
    )


def _secret(found: shapes.Secret) -> Secret:
    """Values that are not UTF-8 stand as empty: nobody can type them on a router, and other keys may be fine.

    A line end at the end of a value is dropped: `echo secret | base64` leaves one, and no router's password has one.
    """
    values = []
    for name, encoded in sorted((found.data or {}).items()):
        try:
            values.append(
                (name, Password(b64decode(encoded, validate=True).decode().removesuffix("\n").removesuffix("\r")))
            )
        except UnicodeDecodeError:
            values.append((name, Password("")))
        except ValueError:  # binascii.Error is one; what is not ASCII raises a plain one
            raise FieldError(f"data[{name}] is not base64", "encode the value, or write it under stringData") from None
    return Secret(name=found.metadata.name or UNNAMED, values=tuple(values))


def _daemon_set(found: shapes.DaemonSet) -> DaemonSet:
    return DaemonSet(name=found.metadata.name or UNNAMED, deleting=found.metadata.deleted is not None)


def _custom(read: Callable[[str, float, Field], _Custom]) -> Callable[[shapes.Custom], _Custom]:
    def read_custom(found: shapes.Custom) -> _Custom:
        meta = found.metadata
        made = read(meta.name or UNNAMED, _created(meta), Field("spec", found.spec))
        return replace(made, uid=meta.uid or "", generation=meta.generation or 0)

    return read_custom


def _peer(found: shapes.Custom) -> Record:
    return replace(_custom(read_peer)(found), labels=_labels(found.metadata))


_READERS: Final[Mapping[Kind, Callable[..., Record]]] = {
    Kind.NODE: _node,
    Kind.NAMESPACE: _namespace,
    Kind.SERVICE: _service,
    Kind.ENDPOINT_SLICE: _endpoint_slice,
    Kind.SERVICE_CIDR: _service_cidr,
    Kind.SECRET: _secret,
    Kind.DAEMON_SET: _daemon_set,
    Kind.INSTANCE: _custom(read_instance),
    Kind.PEER: _peer,
    Kind.ADVERTISEMENT: _custom(read_advertisement),
}
"""The argument of each reader is what `_TYPES` says for the same kind."""


def _created(meta: shapes.Meta) -> float:
    if meta.created is None:
        return 0.0
    try:
        created = datetime.fromisoformat(meta.created)
    except ValueError:
        raise FieldError(
            f"metadata.creationTimestamp = {quoted(meta.created)} is not a time", "leave it to the API"
        ) from None
    return (created if created.tzinfo else created.replace(tzinfo=UTC)).timestamp()


def _labels(meta: shapes.Meta) -> tuple[tuple[str, str], ...]:
    return tuple(sorted((meta.labels or {}).items()))


def _policy(text: str | None, path: str) -> TrafficPolicy:
    if not text:
        return TrafficPolicy.CLUSTER
    if text not in list(TrafficPolicy):
        raise Field(path, text).error("is not known", f"set it to {' or '.join(TrafficPolicy)}")
    return TrafficPolicy(text)


def _addresses(texts: Iterable[str], path: str) -> tuple[Address, ...]:
    return _unique(core_address(text, f"{path}[{index}]") for index, text in enumerate(texts))


def _unique(things: Iterable[_Thing]) -> tuple[_Thing, ...]:
    """In order, each once."""
    return tuple(dict.fromkeys(things))
