"""The machines of a lab: hosts on the switch, nodes with a pod bridge, pods behind it; and what they can do.

A machine knows its own addresses, cables and default route. It does not know who else is there: that is topology.py.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from tests.lab.addresses import NODE_NUMBERS, ROUTER_NUMBERS, Address, Network, Subnet, pod_cidrs
from tests.lab.netns import DEFAULT_PREFIX, Family, Home, Namespace

POD_BRIDGE = "cni0"

EVERYWHERE: Mapping[str, str | int] = {
    # Duplicate address detection would keep each new IPv6 address unusable for a second or more.
    "net.ipv6.conf.all.accept_dad": 0,
    "net.ipv6.conf.default.accept_dad": 0,
    "net.ipv6.conf.default.accept_ra": 0,
    # Else a link that goes down loses its IPv6 addresses, which on a real machine the network manager gives back.
    "net.ipv6.conf.all.keep_addr_on_down": 1,
    "net.ipv6.conf.default.keep_addr_on_down": 1,
    # traceroute asks every hop more often than the default of one answer a second allows.
    "net.ipv4.icmp_ratelimit": 0,
    "net.ipv6.icmp.ratelimit": 0,
}
FORWARDING: Mapping[str, str | int] = {
    "net.ipv4.ip_forward": 1,
    "net.ipv6.conf.all.forwarding": 1,
    # Hash over ports too: flows between one pair of hosts use all next hops.
    "net.ipv4.fib_multipath_hash_policy": 1,
    "net.ipv6.fib_multipath_hash_policy": 1,
}
WITHOUT_IPV6: Mapping[str, str | int] = {
    "net.ipv6.conf.all.disable_ipv6": 1,
    "net.ipv6.conf.default.disable_ipv6": 1,
}


@dataclass(frozen=True, slots=True)
class Site:
    """What the machines of one lab share."""

    home: Home
    families: tuple[Family, ...]
    switch: Namespace


class Host(Namespace):
    """A machine on the switch. `eth0` is its first interface, on `subnet`; its default route is the first router."""

    def __init__(self, site: Site, name: str, subnet: Subnet, number: int, *, forwards: bool = False) -> None:
        super().__init__(site.home, name)
        self.site = site
        self.subnet = subnet
        self.number = number
        sysctls = {**settings(site.families), **(FORWARDING if forwards else {})}
        self.configure(sysctls=sysctls, ip=["link set lo up"])

    def address(self, family: Family | None = None) -> Address:
        """On `eth0`; without `family` the lab's first."""
        return self.subnet.address(self.number, family or self.subnet.families[0])

    @property
    def addresses(self) -> tuple[Address, ...]:
        return tuple(self.address(family) for family in self.subnet.families)

    def attach(self, device: str, subnet: Subnet) -> None:
        """A cable from `device` to the switch, with this host's number as the address."""
        mac = subnet.mac(self.number)
        peer = f"peer name {self._port(subnet)} netns {self.site.switch.full_name}"
        lines = [f"link add {device} address {mac} type veth {peer}"]
        lines += [
            f"addr add {subnet.interface(self.number, family)} dev {device} {nodad(family)}"
            for family in subnet.families
        ]
        self.configure(ip=[*lines, f"link set {device} up"])
        self.site.switch.configure(ip=[f"link set {self._port(subnet)} master {subnet.bridge} up"])

    def unplug(self, subnet: Subnet | None = None) -> None:
        """Pulls a cable, that of `eth0` or the one into `subnet`: the carrier goes, addresses and IPv4 routes stay."""
        self.site.switch.ip("link", "set", self._port(subnet or self.subnet), "down")

    def plug(self, subnet: Subnet | None = None) -> None:
        self.site.switch.ip("link", "set", self._port(subnet or self.subnet), "up")

    def link_down(self) -> None:
        """Takes `eth0` down by hand: the kernel forgets every route through it."""
        self.ip("link", "set", "eth0", "down")

    def link_up(self) -> None:
        """And up again, with the default route that a network manager would give back."""
        self.ip("link", "set", "eth0", "up")
        self.add_default_routes()

    def add_default_routes(self) -> None:
        gateways = ((family, self.subnet.address(ROUTER_NUMBERS[0], family)) for family in self.subnet.families)
        self.configure(ip=[f"route replace {DEFAULT_PREFIX[family]} via {gateway}" for family, gateway in gateways])

    def cut(self) -> None:
        """Takes away all cables at once and for good, so that nothing that dies afterwards can say goodbye."""
        ports = [link["ifname"] for link in self.site.switch.ip_json("link", "show", "type", "veth")]
        mine = [port for port in ports if port.startswith(self._port_prefix)]
        self.site.switch.configure(ip=[f"link del {port}" for port in mine])

    @property
    def _port_prefix(self) -> str:
        """Numbers are unique per subnet and routers have theirs on all, so that this names one host: `s0n11x`."""
        return f"s{self.subnet.index}n{self.number}x"

    def _port(self, subnet: Subnet) -> str:
        return f"{self._port_prefix}{subnet.index}"


class Pod(Namespace):
    """`eth0` in the pod, a cable into its node's pod bridge, addresses out of the node's pod CIDRs."""

    def __init__(self, node: "Node", name: str, number: int) -> None:
        super().__init__(node.home, f"{node.name}.{name}")
        self.node = node
        self.number = number
        self.configure(sysctls=settings(node.site.families))

    def address(self, family: Family | None = None) -> Address:
        return self.node.pod_cidrs[family or self.node.site.families[0]][self.number]

    def connect(self) -> None:
        port = f"pod{self.number}"
        lines = ["link set lo up", f"link add eth0 type veth peer name {port} netns {self.node.full_name}"]
        for family, cidr in self.node.pod_cidrs.items():
            address = f"{cidr[self.number]}/{cidr.prefixlen}"
            lines.append(f"addr add {address} dev eth0 {nodad(family)}")
        lines.append("link set eth0 up")
        gateways = [f"route add {DEFAULT_PREFIX[family]} via {cidr[1]}" for family, cidr in self.node.pod_cidrs.items()]
        self.configure(ip=[*lines, *gateways])
        self.node.configure(ip=[f"link set {port} master {POD_BRIDGE} up"])


class Node(Host):
    """A cluster node: it forwards, owns one pod CIDR per family, and has a pod bridge unless a CNI is to make it."""

    def __init__(self, site: Site, index: int, subnet: Subnet) -> None:
        super().__init__(site, f"node-{index}", subnet, NODE_NUMBERS[index - 1], forwards=True)
        self.index = index
        self.pod_cidrs: Mapping[Family, Network] = pod_cidrs(index, site.families)
        self.pods: list[Pod] = []

    def add_pod_bridge(self) -> None:
        lines = [f"link add {POD_BRIDGE} type bridge"]
        for family, cidr in self.pod_cidrs.items():
            lines.append(f"addr add {cidr[1]}/{cidr.prefixlen} dev {POD_BRIDGE} {nodad(family)}")
        self.configure(ip=[*lines, f"link set {POD_BRIDGE} up"])

    def add_pod(self, name: str = "") -> Pod:
        number = max((pod.number for pod in self.pods), default=1) + 1
        pod = Pod(self, name or f"pod-{number - 1}", number)
        self.pods.append(pod)
        pod.connect()
        return pod

    def remove_pod(self, pod: Pod) -> None:
        self.pods.remove(pod)
        pod.delete()


def settings(families: tuple[Family, ...]) -> Mapping[str, str | int]:
    return EVERYWHERE if "ipv6" in families else {**EVERYWHERE, **WITHOUT_IPV6}


def nodad(family: Family) -> str:
    return "nodad" if family == "ipv6" else ""
