"""The specs of our own objects, written from what was read of them: each in full, also where it says what is usual."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

from agent.advertising import Advertisement, AdvertisementType, ServiceChoice, Terms
from agent.intent import ExternalPeer, Instance, Mesh, NodeValue, SecretRef, Selector
from bgp.model import Family, PrefixLimit

Spec: TypeAlias = dict[str, Any]
_FAMILIES = {Family.IPV4: "IPv4", Family.IPV6: "IPv6"}


def told(said: Mapping[str, Any]) -> Spec:
    """Without what is not said: None, and empty objects and lists."""
    return {name: value for name, value in said.items() if value is not None and value not in ({}, [])}


def instance_spec(it: Instance) -> Spec:
    spec = told(
        {
            "nodeSelector": _selector(it.node_selector),
            "priority": it.priority,
            "asn": it.asn,
            "asnFrom": _place(it.asn_from),
            "routerID": _text(it.router_id),
            "routerIDFrom": _place(it.router_id_from),
            "listenPort": it.listen_port,
            "listenAddresses": _texts(it.listen_addresses),
            "mesh": _mesh(it.mesh),
            "podRoutes": str(it.pod_routes),
            "serviceRoutes": str(it.service_routes),
            "allowedExternalIPs": _texts(it.allowed_external_ips),
            "maximumPaths": it.maximum_paths,
            "damping": {
                "withdrawMilliseconds": round(it.damping.withdraw_seconds * 1000),
                "announceMilliseconds": round(it.damping.announce_seconds * 1000),
            },
            "serviceCIDRs": _texts(it.service_cidrs),
        }
    )
    return {**spec, "drain": {"onTaints": list(it.drain_on_taints)}}


def _mesh(mesh: Mesh) -> Spec:
    reflectors = told(
        {
            "clusterID": _text(mesh.cluster_id),
            "threshold": mesh.threshold,
            "controlPlane": str(mesh.control_plane),
        }
    )
    if mesh.reflector_selector is not None:
        reflectors["nodeSelector"] = _selector(mesh.reflector_selector)  # an empty one is another than none
    return told(
        {
            "mode": str(mesh.mode),
            "holdSeconds": mesh.hold_seconds,
            "passwordSecretRef": _secret(mesh.password_ref),
            "reflectors": reflectors,
        }
    )


def peer_spec(it: ExternalPeer) -> Spec:
    spec = told(
        {
            "address": _text(it.address),
            "addressFrom": _place(it.address_from),
            "defaultGateway": _text(it.default_gateway),
            "asn": it.asn if type(it.asn) is int else str(it.asn),
            "localASN": it.local_asn,
            "allowASIn": it.allowas_in,
            "nodeSelector": _selector(it.node_selector),
            "port": it.port,
            "holdSeconds": it.hold_seconds,
            "keepaliveSeconds": it.keepalive_seconds,
            "connectRetrySeconds": it.connect_retry_seconds,
            "passwordSecretRef": _secret(it.password_ref),
            "ebgpMultihop": it.reach.multihop,
            "ttlSecurityHops": it.reach.ttl_security_hops,
            "sourceAddress": _text(it.reach.source_address),
            "sourceInterface": it.reach.source_interface or None,
            "passive": it.reach.passive,
            "families": [_FAMILIES[family] for family in sorted(it.families)],
            "extendedNextHop": it.extended_next_hop,
            "maxPrefixes": {str(family): _limit(limit) for family, limit in it.prefix_limits},
            "description": it.description or None,
            "import": told({"podCIDRs": it.import_pod_cidrs, "allowed": _allowed(it)}),
        }
    )
    return spec if it.shutdown is None else {**spec, "shutdown": True, "shutdownText": it.shutdown}


def _allowed(it: ExternalPeer) -> list[Spec]:
    return [{"prefix": str(one.prefix), "ge": one.ge, "le": one.le} for one in it.import_allowed]


def _limit(limit: PrefixLimit) -> Spec:
    return told(
        {
            "limit": limit.prefixes,
            "warningPercent": limit.warning_percent,
            "restartSeconds": limit.restart_seconds,
            "warningOnly": limit.warning_only,
        }
    )


def advertisement_spec(it: Advertisement) -> Spec:
    return told(
        {
            "type": str(it.type),
            "nodeSelector": _selector(it.node_selector),
            "peerSelector": _selector(it.to_peers.selector),
            "attributes": _terms(it.to_peers.terms),
            "service": _service(it.service) if it.type is AdvertisementType.SERVICE else None,
            "prefixes": _texts(it.prefixes),
        }
    )


def _terms(terms: Terms) -> Spec:
    return told(
        {
            "communities": sorted(f"{one.asn}:{one.value}" for one in terms.communities),
            "largeCommunities": sorted(f"{one.admin}:{one.data1}:{one.data2}" for one in terms.large_communities),
            "localPreference": terms.local_pref,
            "med": terms.med,
            "prepend": terms.prepend,
        }
    )


def _service(choice: ServiceChoice) -> Spec:
    return told(
        {
            "addresses": sorted(choice.addresses),
            "onRequest": sorted(choice.on_request),
            "selector": _selector(choice.selector),
            "namespaceSelector": _selector(choice.namespace_selector),
            "loadBalancerClasses": sorted(choice.load_balancer_classes),
            "whenNoEndpoints": str(choice.when_no_endpoints),
            "aggregation": {str(family): length for family, length in choice.aggregation},
        }
    )


def _selector(selector: Selector) -> Spec:
    expressions = [
        told({"key": key, "operator": operator, "values": list(values)})
        for key, operator, values in selector.expressions
    ]
    return told({"matchLabels": dict(selector.labels), "matchExpressions": expressions})


def _place(place: NodeValue | None) -> Spec | None:
    return None if place is None else {"annotation" if place.annotation else "label": place.key}


def _secret(ref: SecretRef | None) -> Spec | None:
    return None if ref is None else {"name": ref.name, "key": ref.key}


def _text(value: object | None) -> str | None:
    return None if value is None else str(value)


def _texts(values: Iterable[object]) -> list[str]:
    return list(map(str, values))
