"""`spec` of a BGPInstance as decoded JSON → Instance.

Members that are not known are ignored: the schema may be newer than this agent. Raises `FieldError` and nothing else;
making a Problem of it, and reading metadata, is `agent.cluster.parse`'s.
"""

from __future__ import annotations

from ipaddress import IPv4Address, ip_address
from typing import Final

from agent.cluster.fields import Field
from agent.cluster.spec import asn, choice, hold_seconds, key, node_value, prefixes, router_id, secret_ref, selector
from agent.intent import (
    DEFAULT_ASN,
    DEFAULT_MESH_THRESHOLD,
    DRAIN_TAINTS,
    ControlPlane,
    Damping,
    Instance,
    Mesh,
    MeshMode,
    PodRoutes,
    Selector,
    ServiceRoutes,
)
from bgp.bestpath import MULTIPATH_LIMIT
from bgp.model import BGP_PORT

PRIORITY_MAX: Final = 1000
"""And its negative is the least: an instance for the nodes that no other selects."""
THRESHOLD_MAX: Final = 1000
DAMPING_MAX_MILLISECONDS: Final = 60_000
MAXIMUM_PATHS_MAX: Final = 64
"""As FRR is built by most distributions; each is a next hop of one kernel route."""


def read_instance(name: str, created: float, spec: Field) -> Instance:
    asn_from = node_value(spec["asnFrom"]) if spec["asnFrom"] else None
    if spec["routerID"] and spec["routerIDFrom"]:
        raise spec["routerIDFrom"].error("does not go with routerID", "remove one of the two")
    return Instance(
        name=name,
        created=created,
        node_selector=selector(spec["nodeSelector"]),
        priority=spec["priority"].number(-PRIORITY_MAX, PRIORITY_MAX, 0),
        asn=asn(spec["asn"]) if spec["asn"] else None if asn_from is not None else DEFAULT_ASN,
        asn_from=asn_from,
        router_id=router_id(spec["routerID"]) if spec["routerID"] else None,
        router_id_from=node_value(spec["routerIDFrom"]) if spec["routerIDFrom"] else None,
        listen_port=spec["listenPort"].number(1, 65535, BGP_PORT),
        listen_addresses=prefixes(spec["listenAddresses"]),
        mesh=_mesh(spec["mesh"]),
        pod_routes=choice(spec["podRoutes"], PodRoutes, PodRoutes.BGP),
        service_routes=choice(spec["serviceRoutes"], ServiceRoutes, ServiceRoutes.OFF),
        allowed_external_ips=prefixes(spec["allowedExternalIPs"]),
        maximum_paths=spec["maximumPaths"].number(1, MAXIMUM_PATHS_MAX, MULTIPATH_LIMIT),
        damping=_damping(spec["damping"]),
        drain_on_taints=_drain_on_taints(spec["drain"]["onTaints"]),
        service_cidrs=prefixes(spec["serviceCIDRs"]),
    )


def _damping(field: Field) -> Damping:
    usual = Damping()
    return Damping(
        withdraw_seconds=_milliseconds(field["withdrawMilliseconds"], usual.withdraw_seconds),
        announce_seconds=_milliseconds(field["announceMilliseconds"], usual.announce_seconds),
    )


def _milliseconds(field: Field, usual: float) -> float:
    return field.number(0, DAMPING_MAX_MILLISECONDS, round(usual * 1000)) / 1000


def _drain_on_taints(field: Field) -> tuple[str, ...]:
    """An empty list: on none."""
    return tuple(key(item, "a taint") for item in field.items()) if field else DRAIN_TAINTS


def _mesh(mesh: Field) -> Mesh:
    reflectors, mode = mesh["reflectors"], choice(mesh["mode"], MeshMode, MeshMode.AUTO)
    password = Field(mesh["passwordSecretRef"].path, mesh["passwordSecretRef"].value, secret=True)
    return Mesh(
        mode=mode,
        hold_seconds=hold_seconds(mesh["holdSeconds"]),
        password_ref=secret_ref(password),
        reflector_selector=_reflector_selector(reflectors["nodeSelector"], mode),
        cluster_id=_cluster_id(reflectors["clusterID"]),
        threshold=reflectors["threshold"].number(1, THRESHOLD_MAX, DEFAULT_MESH_THRESHOLD),
        control_plane=choice(reflectors["controlPlane"], ControlPlane, ControlPlane.AVOID),
    )


def _reflector_selector(field: Field, mode: MeshMode) -> Selector | None:
    """Kept in every mode, so that one can be tried and left again with one field."""
    chosen = selector(field) if field else None
    if mode is MeshMode.ROUTE_REFLECTOR and (chosen is None or chosen == Selector()):
        raise field.error(
            "selects every node, and reflectors need clients",
            "say with matchLabels which nodes reflect, or set mesh.mode to Auto, which chooses them",
        )
    return chosen


def _cluster_id(field: Field) -> IPv4Address | None:
    """Any number but zero: it never stands for a host."""
    if not field:
        return None
    try:
        found = ip_address(field.text())
    except ValueError:
        found = None
    if not isinstance(found, IPv4Address) or found.is_unspecified:
        raise field.error("is no id in the form of an IPv4 address", "set it to one such as 192.0.2.1")
    return found
