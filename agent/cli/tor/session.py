"""What a router must know of one session with this node: the agent's answers, seen from the other side.

It knows no router's language (`agent.cli.tor.dialects`) and asks nobody.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, collapse_addresses, ip_address, ip_network
from typing import Any, Final, Literal, TypeAlias

BGP_PORT: Final = 179
LABEL_MAX: Final = 55
"""NX-OS takes 63 characters; what kind of list it is comes behind."""
PREFIXES_MIN: Final = 100
"""What a router takes at least before it ends the session: a service more must not."""

Family: TypeAlias = Literal["ipv4", "ipv6"]
FAMILIES: Final[tuple[Family, ...]] = ("ipv4", "ipv6")


class NotSayableError(Exception):
    """The agent does not know enough of a session; the message says what, and how to say it."""


@dataclass(frozen=True, slots=True)
class Session:
    """Addresses and numbers as the router's configuration has them; `neighbor` is the node."""

    name: str
    """Of the BGPPeer."""
    node: str
    neighbor: str
    node_as: int
    router: str
    router_as: int
    families: tuple[Family, ...]
    hold_seconds: int
    keepalive_seconds: int
    port: int
    """On which the node listens."""
    multihop: int | None
    ttl_security_hops: int | None
    password: bool
    told: dict[Family, tuple[str, ...]]
    """What the node announces, as few prefixes as hold just that."""
    maximum: dict[Family, int]
    """Prefixes the router should take."""

    @property
    def internal(self) -> bool:
        return self.node_as == self.router_as

    @property
    def label(self) -> str:
        """For names of lists and maps: letters, digits and `-`, and as short as every router takes them."""
        return "".join(it if it.isalnum() else "-" for it in f"bgpilot-{self.name}-{self.node}").upper()[:LABEL_MAX]


def session(
    address: str, peer: dict[str, Any], advertised: dict[str, Any], *, node: str, router_as: int | None
) -> Session:
    """Of the row of /v1/peers and the answer of /v1/routes (advertised, this peer). Raises NotSayableError."""
    said = peer["remote_as"] if peer["remote_as"] is not None else router_as
    if said is None:
        raise NotSayableError(
            f"{peer['name']}: its AS is not configured (`external`) and not known before the first session; "
            "say it with --router-as"
        )
    if peer["local_address"] is None:
        raise NotSayableError(f"{peer['name']}: this node has no address on the link of that session")
    if count := advertised["left_out"]:
        raise NotSayableError(f"{peer['name']}: a list would lack {count} of what is announced; permit ranges by hand")
    if ip_address(peer["local_address"]).is_link_local:
        raise NotSayableError(f"{peer['name']}: routers configure link-local sessions by interface; write it by hand")
    families = tuple(it for it in FAMILIES if it in peer["configured_families"])
    told = {family: _told(advertised["rows"], family) for family in families}
    return Session(
        name=peer["name"].partition("/")[2] or peer["name"],
        node=node,
        neighbor=peer["local_address"],
        node_as=peer["local_as"],
        router=address.partition("%")[0],
        router_as=said,
        families=families,
        hold_seconds=peer["configured_hold_seconds"],
        keepalive_seconds=max(1, peer["configured_hold_seconds"] // 3),
        port=peer["listen_port"],
        multihop=peer["multihop"],
        ttl_security_hops=peer["ttl_security_hops"],
        password=peer["password"],
        told={family: tuple(map(str, collapse_addresses(prefixes))) for family, prefixes in told.items()},
        maximum={family: max(PREFIXES_MIN, 2 * len(prefixes)) for family, prefixes in told.items()},
    )


def _told(advertised: Iterable[dict[str, Any]], family: Family) -> list[Any]:
    version = 4 if family == "ipv4" else 6
    found: list[IPv4Network | IPv6Network] = [
        ip_network(row["prefix"]) for row in advertised if row["state"] != "refused"
    ]
    return [prefix for prefix in found if prefix.version == version]
