"""The lab: nodes with pods on one switch, routers beside them, a client behind the routers; all network namespaces.

      node-1 ─┐            ┌─ router-1 ─┐
      node-2 ─┤ rack1      ├─ router-2 ─┤ outside
      node-3 ─┼────────────┘      │     ├──────────── client
      (hosts) ┘           rack2 ──┘
      node-4 ────────────────┘

The same builder serves live tests, demo and bench. Nodes come and go while it runs, cables are pulled and plugged.
It starts no router program and no agent, and it gives nobody a route but the default route to the first router and
the connected ones: what else there is to know must be learned (or asked for, `add_static_pod_routes`).

    with Lab(nodes=3) as lab:
        web = lab.node(1).add_pod("web")
        serve_http(web)
        tor = Frr(lab.router, asn=65000, router_id="192.0.2.1", neighbors=[Neighbor("172.18.0.0/24", 64512)])
        agent = lab.node(1).start(["bgpilot", "run", "--run-dir", str(lab.node(1).run_dir)])
        curl(lab.client, web.address("ipv6"))
        lab.remove_node(lab.node(3))

Whatever happens to the owner, nothing stays behind: see janitor.py. Labs running at once do not see each other.
"""

import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.lab import janitor
from tests.lab.addresses import HOST_NUMBERS, ROUTER_NUMBERS, family_of, subnets
from tests.lab.machines import POD_BRIDGE, WITHOUT_IPV6, Host, Node, Pod, Site
from tests.lab.netns import Family, Home, Namespace

__all__ = ["DUAL_STACK", "POD_BRIDGE", "Family", "Host", "Lab", "Node", "Pod", "family_of"]

DUAL_STACK: tuple[Family, ...] = ("ipv4", "ipv6")
CLIENT_NUMBER = 10
JANITOR_SECONDS = 60.0
NEIGHBOR_FIGURES = Path("/proc/net/stat/arp_cache")


class Lab:
    """Use as a context manager. `families` in order of preference; nodes are numbered from 1 and never renumbered."""

    def __init__(
        self,
        *,
        nodes: int = 3,
        nodes_in_second_subnet: int = 0,
        routers: int = 1,
        families: tuple[Family, ...] = DUAL_STACK,
        pod_bridge: bool = True,
    ) -> None:
        janitor.sweep()
        lab_id = janitor.new_lab_id()
        self.home = Home(lab_id, janitor.lab_directory(lab_id))
        self.families = families
        self.pod_bridge = pod_bridge
        self.directory.mkdir(mode=0o755)
        self._unknown_before = unknown_neighbors()
        self._janitor = subprocess.Popen(
            [sys.executable, "-I", "-S", janitor.__file__, lab_id],
            stdin=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C must not end it
        )
        self.rack1, self.rack2, self.outside = subnets(families)
        self.nodes: dict[str, Node] = {}
        self.routers: list[Host] = []
        self.hosts: dict[str, Host] = {}
        try:
            self._build(nodes, nodes_in_second_subnet, routers)
        except BaseException:
            self.close()
            raise

    def _build(self, nodes: int, nodes_in_second_subnet: int, routers: int) -> None:
        self.switch = Namespace(self.home, "switch")
        self.site = Site(self.home, self.families, self.switch)
        # A switch has no addresses; snooping would hold back neighbour discovery until a first report.
        bridges = [
            f"link add {subnet.bridge} up type bridge forward_delay 0 mcast_snooping 0"
            for subnet in (self.rack1, self.rack2, self.outside)
        ]
        self.switch.configure(sysctls=WITHOUT_IPV6, ip=bridges)
        for number in ROUTER_NUMBERS[:routers]:
            self._add_router(number)
        self.client = Host(self.site, "client", self.outside, CLIENT_NUMBER)
        self.client.attach("eth0", self.outside)
        self.client.add_default_routes()
        for _ in range(nodes):
            self.add_node()
        for _ in range(nodes_in_second_subnet):
            self.add_node(second_subnet=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    @property
    def directory(self) -> Path:
        """Logs and run directories, one folder per namespace; gone with the lab."""
        return self.home.directory

    @property
    def router(self) -> Host:
        return self.routers[0]

    def node(self, index: int) -> Node:
        return self.nodes[f"node-{index}"]

    def add_node(self, index: int | None = None, *, second_subnet: bool = False) -> Node:
        """A node that was removed comes back, addresses and all, when its index is given."""
        index = index or max((node.index for node in self.nodes.values()), default=0) + 1
        node = Node(self.site, index, self.rack2 if second_subnet else self.rack1)
        self.nodes[node.name] = node
        node.attach("eth0", node.subnet)
        node.add_default_routes()
        if self.pod_bridge:
            node.add_pod_bridge()
        return node

    def remove_node(self, node: Node) -> None:
        """The node dies: silent from one moment to the next, then gone with its pods and processes."""
        del self.nodes[node.name]
        node.cut()
        for pod in node.pods:
            pod.delete()
        node.delete()

    def host(self, name: str) -> Host:
        """A plain machine on the nodes' first subnet, for an API server, say."""
        host = Host(self.site, name, self.rack1, HOST_NUMBERS[len(self.hosts)])
        self.hosts[name] = host
        host.attach("eth0", self.rack1)
        host.add_default_routes()
        return host

    def add_static_pod_routes(self) -> None:
        """What agents and router would learn from each other, for tests of the lab itself."""
        nodes = list(self.nodes.values())
        for machine in [*nodes, *self.routers]:
            # A router has a foot in every subnet; a node goes through its default route to the other one.
            near = [node for node in nodes if machine in self.routers or node.subnet == machine.subnet]
            lines = [line for node in near if node is not machine for line in _pod_routes(node)]
            machine.configure(ip=lines)

    def namespaces(self) -> Iterator[Namespace]:
        """All of them, the switch last."""
        for node in self.nodes.values():
            yield from node.pods
            yield node
        yield from (*self.routers, *self.hosts.values(), self.client, self.switch)

    def logs(self, lines: int = 40) -> str:
        """The ends of all logs, for a failure's report; before them, whether the machine itself was in the way."""
        unknown = unknown_neighbors() - self._unknown_before
        said = [f"--- {unknown} times the kernel, its table full, did not look for a neighbor's MAC"] if unknown else []
        paths = sorted(path for path in self.directory.rglob("*.log") if path.is_file())
        tails = ("\n".join(path.read_text(errors="replace").splitlines()[-lines:]) for path in paths)
        said += [f"--- {path.relative_to(self.directory)}\n{tail}" for path, tail in zip(paths, tails, strict=True)]
        return "\n".join(said)

    def close(self) -> None:
        """The janitor does the work, as it does when the owner is killed: one way of cleaning, used every time.

        What it killed are children of this process, and are waited for here.
        """
        stdin = self._janitor.stdin
        if stdin is not None:
            stdin.close()
        if self._janitor.wait(JANITOR_SECONDS) != 0:
            janitor.remove_lab(self.home.id)  # somebody killed it
        for process in self.home.started:
            process.kill()

    def _add_router(self, number: int) -> None:
        router = Host(self.site, f"router-{number}", self.rack1, number, forwards=True)
        self.routers.append(router)
        for device, subnet in (("eth0", self.rack1), ("eth1", self.outside), ("eth2", self.rack2)):
            router.attach(device, subnet)


def unknown_neighbors() -> int:
    """How often, since boot, a packet was lost because the IPv4 neighbor table had no room.

    Linux 6.18: one table for all network namespaces, of `net.ipv4.neigh.default.gc_thresh3` (1024) entries besides the
    permanent ones. A lab with a thousand nodes on a switch takes all of it from every other lab of the machine.
    """
    head, *processors = NEIGHBOR_FIGURES.read_text().splitlines()
    column = head.split().index("table_fulls")
    return sum(int(line.split()[column], 16) for line in processors)


def _pod_routes(node: Node) -> Sequence[str]:
    return [f"route replace {cidr} via {node.address(family)}" for family, cidr in node.pod_cidrs.items()]
