"""`spec` of a BGPPeer as decoded JSON → ExternalPeer.

Members that are not known are ignored: the schema may be newer than this agent. What the schema refuses is refused here
in the same way. Raises `FieldError` and nothing else; making a Problem of it, and reading metadata, is
`agent.cluster.parse`'s.
"""

from __future__ import annotations

import re
from typing import Final

from agent.cluster.fields import Field
from agent.cluster.spec import asn, choice, hold_seconds, node_value, secret_ref, selector
from agent.intent import (
    AllowedPrefix,
    ExternalPeer,
    GatewayFamily,
    PeerAs,
    PeerReach,
    names_a_router,
    needs_a_link,
)
from bgp.model import BGP_PORT, Address, Family, PrefixLimit

ALLOW_AS_IN_MAX: Final = 10
"""As FRR, Cisco and Arista have it."""
TEXT_MAX: Final = 255
"""Octets of a Shutdown Communication (RFC 9003 2), characters of a description."""
_FAMILIES: Final = {"IPv4": Family.IPV4, "IPv6": Family.IPV6}
_INTERFACE_NAME: Final = re.compile(r"[-A-Za-z0-9_.:@+=~]{1,15}")
"""IFNAMSIZ is 16 with the final zero; what ExaBGP's configuration can hold without quotes."""
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")


def read_peer(name: str, created: float, spec: Field) -> ExternalPeer:
    _exactly_one_router(spec)
    imports, asn_ = spec["import"], _asn(spec["asn"])
    hold = hold_seconds(spec["holdSeconds"])
    gateway = spec["defaultGateway"]
    return ExternalPeer(
        name=name,
        created=created,
        address=_peer_address(spec) if spec["address"] else None,
        address_from=node_value(spec["addressFrom"]) if spec["addressFrom"] else None,
        default_gateway=choice(gateway, GatewayFamily) if gateway else None,
        asn=asn_,
        local_asn=_local_asn(spec["localASN"], asn_),
        allowas_in=spec["allowASIn"].number(0, ALLOW_AS_IN_MAX, 0),
        node_selector=selector(spec["nodeSelector"]),
        port=spec["port"].number(1, 65535, BGP_PORT),
        hold_seconds=hold,
        keepalive_seconds=_keepalive(spec["keepaliveSeconds"], hold),
        connect_retry_seconds=_optional(spec["connectRetrySeconds"], 1, 65535),
        password_ref=secret_ref(Field(spec["passwordSecretRef"].path, spec["passwordSecretRef"].value, secret=True)),
        reach=_reach(spec, asn_),
        families=frozenset(_family(item) for item in spec["families"].items()),
        extended_next_hop=spec["extendedNextHop"].flag(default=False),
        prefix_limits=_prefix_limits(spec["maxPrefixes"]),
        description=_line(spec["description"]),
        shutdown=_shutdown(spec),
        import_pod_cidrs=imports["podCIDRs"].flag(default=False),
        import_allowed=tuple(_allowed(item) for item in imports["allowed"].items()),
    )


def _exactly_one_router(spec: Field) -> None:
    given = [name for name in ("address", "addressFrom", "defaultGateway") if spec[name]]
    if not given:
        raise spec["address"].error("", "name the router with one of address, addressFrom and defaultGateway")
    if len(given) > 1:
        raise spec[given[1]].error(f"does not go with {given[0]}", f"remove one of {' and '.join(given)}")


def _asn(field: Field) -> int | PeerAs:
    return PeerAs(field.text()) if field.value in list(PeerAs) else asn(field, *PeerAs)


def _local_asn(field: Field, router: int | PeerAs) -> int | None:
    if not field:
        return None
    if router is PeerAs.INTERNAL:
        raise field.error(
            "does not go with asn internal, which is the nodes' own AS",
            "remove it, or set asn to the same number for a session inside that AS",
        )
    return asn(field)


def _router_address(field: Field) -> Address:
    address = field.address()
    if not names_a_router(address):
        raise field.error(
            "is no unicast address that a session can use",
            "give the router's global, private or unique local address",
        )
    return address


def _peer_address(spec: Field) -> Address:
    field = spec["address"]
    address = field.address()
    if not needs_a_link(address):
        return _router_address(field)
    if not spec["sourceInterface"]:
        raise field.error(
            "is link-local, which names a router only together with an interface",
            "set sourceInterface to the one that the router is reached through, or give the router's global or unique "
            "local address",
        )
    if spec["passive"].flag(default=False):
        raise spec["passive"].error(
            "does not go with a link-local address, whose sessions the nodes alone dial",
            "remove it and let the router wait, or give the router's global or unique local address",
        )
    return address


def _keepalive(field: Field, hold: int) -> int | None:
    seconds = _optional(field, 1, 65535)
    if seconds is not None and seconds * 3 > hold:
        raise field.error(
            f"is more than a third of holdSeconds ({hold}), which it must fit into three times (RFC 4271 4.4)",
            f"set it to at most {hold // 3}, or raise holdSeconds" if hold else "remove it: holdSeconds 0 turns it off",
        )
    return seconds


def _reach(spec: Field, router: int | PeerAs) -> PeerReach:
    multihop, security = spec["ebgpMultihop"], spec["ttlSecurityHops"]
    address, interface = spec["sourceAddress"], spec["sourceInterface"]
    if multihop and security:
        raise security.error("does not go with ebgpMultihop", "remove ebgpMultihop: ttlSecurityHops counts hops itself")
    if multihop and router is PeerAs.INTERNAL:
        raise multihop.error("does not go with asn internal", "remove it: iBGP sessions are not bound to one link")
    if address and interface:
        raise interface.error("does not go with sourceAddress", "remove one of the two")
    source = _router_address(address) if address else None
    router_address = spec["address"].address() if spec["address"] else None
    if source is not None and router_address is not None and source.version != router_address.version:
        raise address.error("is not of the family of address", "give an address of the family of address, or remove it")
    if interface and not _INTERFACE_NAME.fullmatch(interface.text()):
        raise interface.error("is no name of an interface", "give 1 to 15 letters, digits and -_.:@+=~")
    return PeerReach(
        multihop=_optional(multihop, 1, 255),
        ttl_security_hops=_optional(security, 1, 254),
        source_address=source,
        source_interface=interface.text() if interface else "",
        passive=spec["passive"].flag(default=False),
    )


def _family(field: Field) -> Family:
    family = _FAMILIES.get(field.text())
    if family is None:
        raise field.error("is no address family", f"set it to {' or '.join(_FAMILIES)}")
    return family


def _prefix_limits(field: Field) -> tuple[tuple[Family, PrefixLimit], ...]:
    return tuple((family, _prefix_limit(field[family])) for family in sorted(Family) if field[family])


def _prefix_limit(field: Field) -> PrefixLimit:
    limit = field["limit"].number(1, 0xFFFF_FFFF)
    warning_only, restart = field["warningOnly"].flag(default=False), field["restartSeconds"]
    if warning_only and restart:
        raise restart.error("does not go with warningOnly, which never ends the session", "remove one of the two")
    return PrefixLimit(
        prefixes=limit,
        warning_percent=field["warningPercent"].number(1, 100, PrefixLimit(prefixes=1).warning_percent),
        restart_seconds=_optional(restart, 1, 86400),
        warning_only=warning_only,
    )


def _shutdown(spec: Field) -> str | None:
    text = _line(spec["shutdownText"])
    if len(text.encode()) > TEXT_MAX:
        raise spec["shutdownText"].error(f"is longer than {TEXT_MAX} octets (RFC 9003)", "shorten it")
    return text if spec["shutdown"].flag(default=False) else None


def _line(field: Field) -> str:
    """A text for people on one line, which may be empty."""
    text = field.label_value() if field else ""
    if len(text) > TEXT_MAX:
        raise field.error(f"is longer than {TEXT_MAX} characters", "shorten it")
    if _CONTROL.search(text):
        raise field.error("has a line break or another control character", "write it on one line")
    return text


def _optional(field: Field, low: int, high: int) -> int | None:
    return field.number(low, high) if field else None


def _allowed(field: Field) -> AllowedPrefix:
    """As prefix lists of routers read: neither bound: that prefix alone; `ge` alone: up to the family's longest."""
    prefix = field["prefix"].prefix()
    ge = field["ge"].number(prefix.prefixlen, prefix.max_prefixlen, prefix.prefixlen)
    le = field["le"].number(ge, prefix.max_prefixlen, prefix.max_prefixlen if field["ge"] else prefix.prefixlen)
    return AllowedPrefix(prefix, ge, le)
