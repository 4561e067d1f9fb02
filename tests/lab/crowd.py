"""A crowd of BGP speakers on one host of the lab, an address each: the other nodes of a large cluster (`members`)."""

import json
import socket
import sys
from ipaddress import IPv4Network
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.lab import members
from tests.lab.machines import Host
from tests.lab.procs import Process
from tests.lab.wait import wait_until

ANSWER_SECONDS = 30.0
ROOT = Path(__file__).resolve().parents[2]


class Crowd:
    """The program on a host of the lab, which gets an address for each member. Use as a context manager."""

    def __init__(
        self, host: Host, network: IPv4Network, count: int, *, asn: int, hold_seconds: int, prefix: IPv4Network
    ) -> None:
        """Members have the addresses of `network` from its second on; the first is left for the node under test."""
        self.host, self.count = host, count
        first = network[2]
        self.members = [first + i for i in range(count)]
        step = 1 << (32 - prefix.prefixlen)
        self.prefixes = [IPv4Network((int(prefix.network_address) + i * step, prefix.prefixlen)) for i in range(count)]
        host.configure(ip=[f"addr add {address}/{network.prefixlen} dev eth0" for address in self.members])
        self._control = host.run_dir / "crowd.sock"
        words = [self._control, first, count, asn, hold_seconds, prefix]
        self.process: Process = host.start(
            [sys.executable, "-m", members.__name__, *map(str, words)], log="crowd", cwd=ROOT
        )

    def __enter__(self) -> Self:
        wait_until(self._control.exists, within=ANSWER_SECONDS)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.process.stop()

    def known_to(self, node: Host) -> None:
        """For good, by MAC: permanent entries are not counted in the kernel's table of 1024 neighbors, which all
        network namespaces share and a crowd would take from every other lab (Linux 6.18).
        """
        mac = self.host.subnet.mac(self.host.number)
        node.configure(ip=[f"neigh replace {it} lladdr {mac} dev eth0 nud permanent" for it in self.members])

    def node_objects(self) -> list[dict[str, Any]]:
        """A Node for each member, all of one age."""
        return [
            {
                "apiVersion": "v1",
                "kind": "Node",
                "metadata": {"name": f"crowd-{number}", "creationTimestamp": "2026-02-01T00:00:00Z"},
                "spec": {"podCIDR": str(prefix), "podCIDRs": [str(prefix)]},
                "status": {"addresses": [{"type": "InternalIP", "address": str(address)}]},
            }
            for number, (address, prefix) in enumerate(zip(self.members, self.prefixes, strict=True), 1)
        ]

    def ask(self, **question: object) -> dict[str, Any]:
        """Without a question: what it has seen."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(ANSWER_SECONDS)
            connection.connect(str(self._control))
            connection.sendall(json.dumps(question).encode() + b"\n")
            with connection.makefile() as answer:
                found: dict[str, Any] = json.loads(answer.readline())
        return found
