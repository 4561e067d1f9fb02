"""Who has which address in a lab: subnets, pod CIDRs and MACs, from numbers alone.

Everything follows from a subnet's and a host's number, so that a node that dies and comes back has its old addresses
and its old MAC, and its neighbours' ARP entries stay true. Nothing here touches the machine.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
    ip_address,
    ip_interface,
    ip_network,
)

from tests.lab.netns import Family

Network = IPv4Network | IPv6Network
Interface = IPv4Interface | IPv6Interface
Address = IPv4Address | IPv6Address

ROUTER_NUMBERS = range(1, 10)
NODE_NUMBERS = range(11, 200)
HOST_NUMBERS = range(200, 250)


@dataclass(frozen=True, slots=True)
class Subnet:
    """One bridge on the switch. Host number 11 has 172.18.0.11 and fd18::11: the same digits in both families."""

    index: int
    bridge: str
    networks: Mapping[Family, Network]

    @property
    def families(self) -> tuple[Family, ...]:
        return tuple(self.networks)

    def interface(self, number: int, family: Family) -> Interface:
        network = self.networks[family]
        host = int(str(number), 16) if network.version == 6 else number
        return ip_interface(f"{network[host]}/{network.prefixlen}")

    def address(self, number: int, family: Family) -> Address:
        return self.interface(number, family).ip

    def mac(self, number: int) -> str:
        return f"02:b9:00:{self.index:02x}:00:{number:02x}"


def subnets(families: tuple[Family, ...]) -> tuple[Subnet, Subnet, Subnet]:
    """The nodes' first subnet, their second one behind the routers, and the outside where the client is."""
    first: Mapping[Family, str] = {"ipv4": "172.18.0.0/24", "ipv6": "fd18::/64"}
    second: Mapping[Family, str] = {"ipv4": "172.19.0.0/24", "ipv6": "fd19::/64"}
    outside: Mapping[Family, str] = {"ipv4": "10.99.0.0/24", "ipv6": "fd99::/64"}
    rack1, rack2, out = (
        Subnet(index, bridge, {family: ip_network(plan[family]) for family in families})
        for index, (bridge, plan) in enumerate((("rack1", first), ("rack2", second), ("outside", outside)))
    )
    return rack1, rack2, out


def pod_cidrs(node: int, families: tuple[Family, ...]) -> Mapping[Family, Network]:
    """Node 1 has 10.244.1.0/24 and fd10:244:1::/64."""
    plan: Mapping[Family, str] = {"ipv4": f"10.244.{node}.0/24", "ipv6": f"fd10:244:{node}::/64"}
    return {family: ip_network(plan[family]) for family in families}


def family_of(address: str | Address) -> Family:
    return "ipv4" if ip_address(str(address)).version == 4 else "ipv6"
