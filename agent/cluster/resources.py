"""The custom resources of bgpilot.io/v1alpha1: `spec` as decoded JSON → Instance, ExternalPeer, Advertisement.

Refuses what the schemas under deploy/crds refuse, with the same meaning, because a cluster may run without them.
Members that are not known are ignored: the schema may be newer than this agent.

Raises `FieldError` and nothing else; making a Problem of it, and reading metadata, is `agent.cluster.parse`'s.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final, TypeVar

from agent.cluster.fields import Field
from agent.model import (
    DEFAULT_ASN,
    Advertisement,
    AdvertisementType,
    AllowedPrefix,
    ExternalPeer,
    Instance,
    PodRoutes,
    SecretRef,
    Selector,
    ServiceAddress,
)
from bgp.model import BGP_PORT, DEFAULT_HOLD_SECONDS, Address, Prefix

AS_TRANS: Final = 23456
"""Stands for a 32-bit number in a 16-bit field; nobody's own (RFC 6793 9)."""
_LARGEST_ASN: Final = 0xFFFF_FFFF
_SHORTEST_HOLD_SECONDS: Final = 3
_OPERATORS_WITH_VALUES: Final = ("In", "NotIn")
_OPERATORS: Final = (*_OPERATORS_WITH_VALUES, "Exists", "DoesNotExist")

_Choice = TypeVar("_Choice", bound=StrEnum)


def read_instance(name: str, created: float, spec: Field) -> Instance:
    return Instance(
        name=name,
        created=created,
        asn=_asn(spec["asn"]) if spec["asn"] else DEFAULT_ASN,
        pod_routes=_choice(spec["podRoutes"], PodRoutes, PodRoutes.BGP),
        mesh_hold_seconds=_hold_seconds(spec["mesh"]["holdSeconds"]),
        allowed_external_ips=_prefixes(spec["allowedExternalIPs"]),
        service_cidrs=_prefixes(spec["serviceCIDRs"]),
    )


def read_peer(name: str, created: float, spec: Field) -> ExternalPeer:
    imports = spec["import"]
    return ExternalPeer(
        name=name,
        created=created,
        address=_router_address(spec["address"]),
        asn=_asn(spec["asn"]),
        node_selector=_selector(spec["nodeSelector"]),
        port=spec["port"].number(1, 65535, BGP_PORT),
        hold_seconds=_hold_seconds(spec["holdSeconds"]),
        password_ref=_secret_ref(Field(spec["passwordSecretRef"].path, spec["passwordSecretRef"].value, secret=True)),
        import_pod_cidrs=imports["podCIDRs"].flag(default=False),
        import_allowed=tuple(_allowed(item) for item in imports["allowed"].items()),
    )


def read_advertisement(name: str, created: float, spec: Field) -> Advertisement:
    kind = _choice(spec["type"], AdvertisementType)
    service = spec["service"]
    if kind is not AdvertisementType.SERVICE and service:
        raise service.error(f"has no meaning with type {kind}", "remove it, or set type to Service")
    addresses = frozenset(_choice(item, ServiceAddress) for item in service["addresses"].items())
    if kind is AdvertisementType.SERVICE and not addresses:
        raise service["addresses"].error(
            "names no class of addresses", f"set it to some of {', '.join(ServiceAddress)}"
        )
    return Advertisement(
        name=name,
        created=created,
        type=kind,
        node_selector=_selector(spec["nodeSelector"]),
        service_selector=_selector(service["selector"]),
        addresses=addresses,
    )


def _asn(field: Field) -> int:
    asn = field.number(1, _LARGEST_ASN)
    if asn == AS_TRANS:
        raise field.error("is AS_TRANS, which is nobody's own (RFC 6793)", "set the real AS number")
    return asn


def _hold_seconds(field: Field) -> int:
    """0 turns hold and keepalive timers off; 1 and 2 are not allowed (RFC 4271 4.2)."""
    seconds = field.number(0, 65535, DEFAULT_HOLD_SECONDS)
    if 0 < seconds < _SHORTEST_HOLD_SECONDS:
        raise field.error(
            "is shorter than BGP allows (RFC 4271 4.2)",
            f"set it to {_SHORTEST_HOLD_SECONDS} or more, or to 0 to turn it off",
        )
    return seconds


def _router_address(field: Field) -> Address:
    address = field.address()
    broadcast = address.version == 4 and int(address) == 0xFFFF_FFFF
    if address.is_unspecified or address.is_multicast or address.is_link_local or broadcast:
        raise field.error(
            "is no unicast address that a session can use",
            "give the router's global, private or unique local address",
        )
    return address


def _secret_ref(field: Field) -> SecretRef | None:
    return SecretRef(field["name"].text(), field["key"].text()) if field else None


def _allowed(field: Field) -> AllowedPrefix:
    """As prefix lists of routers read: neither bound: that prefix alone; `ge` alone: up to the family's longest."""
    prefix = field["prefix"].prefix()
    ge = field["ge"].number(prefix.prefixlen, prefix.max_prefixlen, prefix.prefixlen)
    le = field["le"].number(ge, prefix.max_prefixlen, prefix.max_prefixlen if field["ge"] else prefix.prefixlen)
    return AllowedPrefix(prefix, ge, le)


def _selector(field: Field) -> Selector:
    return Selector(
        labels=tuple(sorted((key, value.label_value()) for key, value in field["matchLabels"].members())),
        expressions=tuple(_expression(item) for item in field["matchExpressions"].items()),
    )


def _expression(field: Field) -> tuple[str, str, tuple[str, ...]]:
    operator = field["operator"].text()
    if operator not in _OPERATORS:
        raise field["operator"].error("is no operator of a selector", f"set it to one of {', '.join(_OPERATORS)}")
    values = tuple(item.label_value() for item in field["values"].items())
    if bool(values) is not (operator in _OPERATORS_WITH_VALUES):
        raise field["values"].error(
            f"does not go with operator {operator}",
            "In and NotIn need at least one value; Exists and DoesNotExist take none",
        )
    return field["key"].text(), operator, values


def _prefixes(field: Field) -> tuple[Prefix, ...]:
    return tuple(item.prefix() for item in field.items())


def _choice(field: Field, choices: type[_Choice], default: _Choice | None = None) -> _Choice:
    if not field and default is not None:
        return default
    if field.value not in list(choices):
        raise field.error("is not known", f"set it to one of {', '.join(choices)}")
    return choices(field.text())
