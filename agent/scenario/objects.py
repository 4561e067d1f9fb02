"""A record of the cluster back to an object as kubectl prints it, with what matters of it: `read_object` makes the same
record of it again (a test says so of every kind).

Of Secrets only the keys that are used are written, with a stand-in for each value; of annotations only ours, and those
that our objects name. The status of our own objects is not of the picture, nor is a Service's port or a pod's address.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Final, TypeAlias, assert_never

from agent.advertising import Advertisement, ServiceAddress
from agent.cluster.adverts import ANNOTATION
from agent.cluster.kinds import RESOURCES
from agent.cluster.parse import SERVICE_NAME_LABEL
from agent.intent import ExternalPeer, Instance, NodeValue, SecretRef
from agent.model import (
    BGPILOT_GROUP,
    DaemonSet,
    EndpointSlice,
    Kind,
    Namespace,
    Node,
    Record,
    Secret,
    Service,
    ServiceCidr,
    TrafficPolicy,
)
from agent.plan.picture import World, every
from agent.scenario.specs import advertisement_spec, instance_spec, peer_spec, told
from bgp.model import PASSWORD_MAX_BYTES, Family, Password

Object: TypeAlias = dict[str, Any]
STAND_IN: Final = "redacted"
_ADDRESS_TYPES: Final = {Family.IPV4: "IPv4", Family.IPV6: "IPv6", None: "FQDN"}
_WITHOUT: Final[Mapping[str, Object]] = {
    "headlessService": {"clusterIPs": ["None"]},
    "externalName": {"type": "ExternalName"},
}


class Writer:
    """Knows which annotations and which keys of Secrets are asked for."""

    def __init__(self, world: World) -> None:
        instances = [it for _, it in every(world, Kind.INSTANCE, Instance)]
        peers = [it for _, it in every(world, Kind.PEER, ExternalPeer)]
        places = [place for it in instances for place in (it.asn_from, it.router_id_from)]
        self._annotations = _annotations([*places, *(it.address_from for it in peers)])
        refs = [*(it.mesh.password_ref for it in instances), *(it.password_ref for it in peers)]
        self._keys = frozenset(ref for ref in refs if ref is not None)

    def write(self, record: Record) -> Object | None:
        """None: it is nothing that a plan looks at, or a Secret that does not exist."""
        match record:
            case Node():
                return self._node(record)
            case Namespace():
                return _object(Kind.NAMESPACE, {"name": record.name, "labels": _labels(record.labels)})
            case Service():
                return _service(record)
            case EndpointSlice():
                return _endpoint_slice(record)
            case ServiceCidr():
                spec = {"cidrs": list(map(str, record.cidrs))}
                return _object(Kind.SERVICE_CIDR, {"name": record.name}, spec=spec)
            case Secret():
                return self._secret(record) if record.found else None
            case Instance() | ExternalPeer() | Advertisement():
                return _custom(record)
            case DaemonSet():
                return None
            case _:
                assert_never(record)

    def _node(self, record: Node) -> Object:
        kept = {key: value for key, value in record.annotations if self._is_asked_for(key)}
        return _object(
            Kind.NODE,
            {**_meta(record.name, record.uid, record.created), "labels": _labels(record.labels), "annotations": kept},
            spec={
                "podCIDRs": list(map(str, record.pod_cidrs)),
                "unschedulable": record.cordoned or None,
                "taints": [{"key": key} for key in record.taints],
            },
            status={
                "addresses": [{"type": "InternalIP", "address": str(address)} for address in record.addresses],
                "conditions": [{"type": "Ready", "status": str(record.ready)}],
            },
        )

    def _is_asked_for(self, annotation: str) -> bool:
        return annotation.startswith(f"{BGPILOT_GROUP}/") or annotation in self._annotations

    def _secret(self, record: Secret) -> Object:
        values = {
            key: _stand_in(password) for key, password in record.values if SecretRef(record.name, key) in self._keys
        }
        return _object(Kind.SECRET, {"name": record.name}, data=values)


def _annotations(places: Iterable[NodeValue | None]) -> frozenset[str]:
    return frozenset(place.key for place in places if place is not None and place.annotation)


def _stand_in(password: Password) -> str:
    """As usable as the password is: nothing for nothing, too long for too long."""
    length = len(password.reveal().encode())
    text = "x" * length if length > PASSWORD_MAX_BYTES else STAND_IN if length else ""
    return b64encode(text.encode()).decode()


def _object(kind: Kind, metadata: Mapping[str, Any], **parts: Mapping[str, Any]) -> Object:
    group, version, _ = RESOURCES[kind]
    return {
        "apiVersion": f"{group}/{version}" if group else version,
        "kind": str(kind),
        "metadata": told(metadata),
        **{name: told(part) for name, part in parts.items()},
    }


def _meta(name: str, uid: str, created: float) -> Object:
    at = datetime.fromtimestamp(created, UTC).isoformat().replace("+00:00", "Z") if created else None
    return {"name": name, "uid": uid or None, "creationTimestamp": at}


def _custom(record: Instance | ExternalPeer | Advertisement) -> Object:
    match record:
        case Instance():
            return _object(Kind.INSTANCE, _meta_of(record), spec=instance_spec(record))
        case ExternalPeer():
            meta = {**_meta_of(record), "labels": _labels(record.labels)}
            return _object(Kind.PEER, meta, spec=peer_spec(record))
        case Advertisement():
            return _object(Kind.ADVERTISEMENT, _meta_of(record), spec=advertisement_spec(record))


def _meta_of(record: Instance | ExternalPeer | Advertisement) -> Object:
    return {**_meta(record.name, record.uid, record.created), "generation": record.generation or None}


def _labels(labels: tuple[tuple[str, str], ...]) -> dict[str, str]:
    return dict(labels)


def _service(record: Service) -> Object:
    left = dict(record.left_out)
    without = left.get("ClusterIP", "")
    balanced = bool(record.load_balancer_ips) or bool(set(left.values()) & _OF_BALANCERS)
    spec: Object = {
        "type": "LoadBalancer" if balanced else "ClusterIP",
        "clusterIPs": list(map(str, record.cluster_ips)),
        "externalIPs": list(map(str, record.external_ips)),
        "internalTrafficPolicy": _policy(record.internal_policy),
        "externalTrafficPolicy": _policy(record.external_policy),
        "loadBalancerClass": record.load_balancer_class or None,
        **_WITHOUT.get(without, {}),
    }
    ingress = [{"ip": str(address)} for address in record.load_balancer_ips]
    ingress += [entry for what, reason in record.left_out if (entry := _ingress(what, reason))]
    meta = {"namespace": record.namespace, "name": record.name, "uid": record.uid or None}
    asked = _request(record)
    more = {"labels": _labels(record.labels), "annotations": {} if asked is None else {ANNOTATION: asked}}
    return _object(Kind.SERVICE, {**meta, **more}, spec=spec, status={"loadBalancer": told({"ingress": ingress})})


_OF_BALANCERS: Final = frozenset({"noAddressYet", "ipModeProxy", "hostnameOnly"})


def _ingress(what: str, reason: str) -> dict[str, str]:
    match reason:
        case "ipModeProxy":
            return {"ip": what, "ipMode": "Proxy"}
        case "hostnameOnly" | "noLoadBalancer":
            return {"hostname": what}
        case _:
            return {}


def _policy(policy: TrafficPolicy) -> str | None:
    return None if policy is TrafficPolicy.CLUSTER else str(policy)


def _request(record: Service) -> str | None:
    if record.request_error:
        return _quoted(record.request_error)
    if record.requested is None:
        return None
    if not record.requested or record.requested == frozenset(ServiceAddress):
        return str(bool(record.requested)).lower()
    return ",".join(sorted(record.requested))


def _quoted(error: str) -> str:
    """What the error is about, as far as it quotes it: `metadata.annotations[…] = 'x' is not known`."""
    text = error.partition(" = ")[2].removesuffix(" is not known")
    return f"{text[1:]}{'…' * 8}" if text.endswith("…") else text[1:-1]


def _endpoint_slice(record: EndpointSlice) -> Object:
    conditions = (
        (record.ready, {"ready": True}),
        (record.serving, {"ready": False, "serving": True, "terminating": True}),
        (record.unready, {"ready": False}),
    )
    endpoints = [
        told({"nodeName": node or None, "conditions": said}) for nodes, said in conditions for node in sorted(nodes)
    ]
    labels = {SERVICE_NAME_LABEL: record.service} if record.service else {}
    return {
        **_object(Kind.ENDPOINT_SLICE, {"namespace": record.namespace, "name": record.name, "labels": labels}),
        "addressType": _ADDRESS_TYPES[record.family],
        "endpoints": endpoints,
    }
