"""`spec` of a BGPPeer as decoded JSON → ExternalPeer.

Members that are not known are ignored: the schema may be newer than this agent. Raises `FieldError` and nothing else;
making a Problem of it, and reading metadata, is `agent.cluster.parse`'s.
"""

from __future__ import annotations

from agent.cluster.fields import Field
from agent.cluster.spec import asn, hold_seconds, secret_ref, selector
from agent.intent import AllowedPrefix, ExternalPeer
from bgp.model import BGP_PORT, Address


def read_peer(name: str, created: float, spec: Field) -> ExternalPeer:
    imports = spec["import"]
    return ExternalPeer(
        name=name,
        created=created,
        address=_router_address(spec["address"]),
        asn=asn(spec["asn"]),
        node_selector=selector(spec["nodeSelector"]),
        port=spec["port"].number(1, 65535, BGP_PORT),
        hold_seconds=hold_seconds(spec["holdSeconds"]),
        password_ref=secret_ref(Field(spec["passwordSecretRef"].path, spec["passwordSecretRef"].value, secret=True)),
        import_pod_cidrs=imports["podCIDRs"].flag(default=False),
        import_allowed=tuple(_allowed(item) for item in imports["allowed"].items()),
    )


def _router_address(field: Field) -> Address:
    address = field.address()
    broadcast = address.version == 4 and int(address) == 0xFFFF_FFFF
    if address.is_unspecified or address.is_multicast or address.is_link_local or broadcast:
        raise field.error(
            "is no unicast address that a session can use",
            "give the router's global, private or unique local address",
        )
    return address


def _allowed(field: Field) -> AllowedPrefix:
    """As prefix lists of routers read: neither bound: that prefix alone; `ge` alone: up to the family's longest."""
    prefix = field["prefix"].prefix()
    ge = field["ge"].number(prefix.prefixlen, prefix.max_prefixlen, prefix.prefixlen)
    le = field["le"].number(ge, prefix.max_prefixlen, prefix.max_prefixlen if field["ge"] else prefix.prefixlen)
    return AllowedPrefix(prefix, ge, le)
