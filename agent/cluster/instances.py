"""`spec` of a BGPInstance as decoded JSON → Instance.

Members that are not known are ignored: the schema may be newer than this agent. Raises `FieldError` and nothing else;
making a Problem of it, and reading metadata, is `agent.cluster.parse`'s.
"""

from __future__ import annotations

from agent.cluster.fields import Field
from agent.cluster.spec import asn, choice, hold_seconds, prefixes
from agent.intent import DEFAULT_ASN, Instance, Mesh, PodRoutes


def read_instance(name: str, created: float, spec: Field) -> Instance:
    return Instance(
        name=name,
        created=created,
        asn=asn(spec["asn"]) if spec["asn"] else DEFAULT_ASN,
        pod_routes=choice(spec["podRoutes"], PodRoutes, PodRoutes.BGP),
        mesh=Mesh(hold_seconds=hold_seconds(spec["mesh"]["holdSeconds"])),
        allowed_external_ips=prefixes(spec["allowedExternalIPs"]),
        service_cidrs=prefixes(spec["serviceCIDRs"]),
    )
