"""What is decoded of the API's JSON: for each kind the members that its record is made of; and the API's own frames.

Every member may be absent or null, as in the API; all else in an object is skipped by the decoder, unread.
It refuses to interpret: a shape says which JSON types are acceptable, `agent.cluster.parse` what they mean.
"""

from __future__ import annotations

import msgspec


class BareMeta(msgspec.Struct, frozen=True):
    name: str | None = None
    namespace: str | None = None
    revision: str | None = msgspec.field(name="resourceVersion", default=None)


class Bare(msgspec.Struct, frozen=True):
    metadata: BareMeta = BareMeta()


class Meta(BareMeta, frozen=True):
    uid: str | None = None
    created: str | None = msgspec.field(name="creationTimestamp", default=None)
    labels: dict[str, str] | None = None


class NodeAddress(msgspec.Struct, frozen=True):
    type: str = ""
    address: str = ""


class Taint(msgspec.Struct, frozen=True):
    key: str = ""


class NodeSpec(msgspec.Struct, frozen=True):
    pod_cidr: str | None = msgspec.field(name="podCIDR", default=None)
    pod_cidrs: list[str] | None = msgspec.field(name="podCIDRs", default=None)
    unschedulable: bool | None = None
    taints: list[Taint] | None = None


class Condition(msgspec.Struct, frozen=True):
    type: str = ""
    status: str = ""


class NodeStatus(msgspec.Struct, frozen=True):
    addresses: list[NodeAddress] | None = None
    conditions: list[Condition] | None = None


class NodeMeta(Meta, frozen=True):
    annotations: dict[str, str] | None = None


class Node(msgspec.Struct, frozen=True):
    metadata: NodeMeta = NodeMeta()
    spec: NodeSpec | None = None
    status: NodeStatus | None = None


class Namespace(msgspec.Struct, frozen=True):
    metadata: Meta = Meta()


class ServiceSpec(msgspec.Struct, frozen=True, rename="camel"):
    type: str | None = None
    cluster_ip: str | None = msgspec.field(name="clusterIP", default=None)
    cluster_ips: list[str] | None = msgspec.field(name="clusterIPs", default=None)
    external_ips: list[str] | None = msgspec.field(name="externalIPs", default=None)
    internal_traffic_policy: str | None = None
    external_traffic_policy: str | None = None
    load_balancer_class: str | None = None


class Ingress(msgspec.Struct, frozen=True):
    ip: str | None = None
    hostname: str | None = None
    mode: str | None = msgspec.field(name="ipMode", default=None)


class LoadBalancer(msgspec.Struct, frozen=True):
    ingress: list[Ingress] | None = None


class ServiceStatus(msgspec.Struct, frozen=True):
    load_balancer: LoadBalancer | None = msgspec.field(name="loadBalancer", default=None)


class ServiceAnnotations(msgspec.Struct, frozen=True):
    advertise: str | None = msgspec.field(name="bgpilot.io/advertise", default=None)


class ServiceMeta(Meta, frozen=True):
    annotations: ServiceAnnotations | None = None


class Service(msgspec.Struct, frozen=True):
    metadata: ServiceMeta = ServiceMeta()
    spec: ServiceSpec | None = None
    status: ServiceStatus | None = None


class Conditions(msgspec.Struct, frozen=True):
    ready: bool | None = None
    serving: bool | None = None
    terminating: bool | None = None


class Endpoint(msgspec.Struct, frozen=True):
    conditions: Conditions | None = None
    node: str | None = msgspec.field(name="nodeName", default=None)


class EndpointSlice(msgspec.Struct, frozen=True):
    metadata: Meta = Meta()
    address_type: str | None = msgspec.field(name="addressType", default=None)
    endpoints: list[Endpoint] | None = None


class ServiceCidrSpec(msgspec.Struct, frozen=True):
    cidrs: list[str] | None = None


class ServiceCidr(msgspec.Struct, frozen=True):
    metadata: Meta = Meta()
    spec: ServiceCidrSpec | None = None


class Secret(msgspec.Struct, frozen=True):
    metadata: Meta = Meta()
    data: dict[str, str] | None = None


class DaemonSetMeta(Meta, frozen=True):
    deleted: str | None = msgspec.field(name="deletionTimestamp", default=None)


class DaemonSet(msgspec.Struct, frozen=True):
    metadata: DaemonSetMeta = DaemonSetMeta()


class CustomMeta(Meta, frozen=True):
    generation: int | None = None


class Custom(msgspec.Struct, frozen=True):
    metadata: CustomMeta = CustomMeta()
    spec: object = None


# Frames of the API machinery.


class Event(msgspec.Struct, frozen=True):
    """One line of a watch."""

    type: str
    object: msgspec.Raw


class _BookmarkMeta(msgspec.Struct, frozen=True):
    revision: str | None = msgspec.field(name="resourceVersion", default=None)
    annotations: dict[str, str] | None = None


class Bookmark(msgspec.Struct, frozen=True):
    metadata: _BookmarkMeta = _BookmarkMeta()


class _Details(msgspec.Struct, frozen=True, rename="camel"):
    retry_after_seconds: int | None = None


class Status(msgspec.Struct, frozen=True):
    """What the API server says when it says no: as an answer's body, or as the object of an ERROR event."""

    code: int = 0
    reason: str | None = None
    message: str | None = None
    details: _Details | None = None


class _ListMeta(msgspec.Struct, frozen=True):
    revision: str | None = msgspec.field(name="resourceVersion", default=None)
    rest: str | None = msgspec.field(name="continue", default=None)


class Envelope(msgspec.Struct, frozen=True):
    """A list; `items` holds those that were not cut off before (see `agent.cluster.split`)."""

    metadata: _ListMeta
    items: list[msgspec.Raw] | None = None
