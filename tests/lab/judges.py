"""Two routers of different makes that judge the same announcements: FRR and BIRD, each with a table and a kernel.

Both are told by every node of the first subnet, each family's routes over whatever the session runs over. What is
asked of one is asked of both, in both families, so that a claim holds only when four tables say so.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from functools import partial
from typing import Any, Self

from tests.lab.addresses import family_of
from tests.lab.bird import Bird
from tests.lab.frr import Frr
from tests.lab.minicluster import CLUSTER_ASN, LAB_HOLD_SECONDS, ROUTER_ASN, Object, tor, tor_peer
from tests.lab.neighbor import Neighbor
from tests.lab.netns import Family
from tests.lab.topology import Host, Lab, Node
from tests.lab.wait import wait_until

HOST_LENGTH: Mapping[Family, int] = {"ipv4": 32, "ipv6": 128}
MARK = "192.0.2.254"
"""A route to this shows that a kernel's changes are being written down."""
CHANGE = re.compile(r"^\[(?P<at>\S+)\] (?P<deleted>Deleted )?(?P<to>\S+) ")


def hosts(addresses: Iterable[str]) -> list[str]:
    """The host routes to these."""
    return [f"{address}/{HOST_LENGTH[family_of(address)]}" for address in addresses]


def both(*said: str) -> dict[str, set[str]]:
    """By router, when FRR and BIRD say the same."""
    return {"frr": set(said), "bird": set(said)}


class Judges:
    """FRR is the lab's first router, BIRD its second one.

    Any node of the first subnet may dial them; with `named` FRR knows those that are there, one by one: bgpd 8.4 dies
    (bgp_graceful_restart_timer_expire) when a member of a range that restarts gracefully is forgotten meanwhile.
    """

    def __init__(self, lab: Lab, *, named: bool = False) -> None:
        self.lab = lab
        ranges = lab.router.subnet.networks.values()
        ours = [Neighbor(str(network), CLUSTER_ASN, hold_seconds=LAB_HOLD_SECONDS) for network in ranges]
        nodes = [
            Neighbor(str(node.address()), CLUSTER_ASN, passive=True, hold_seconds=LAB_HOLD_SECONDS)
            for node in lab.nodes.values()
        ]
        one_by_one = partial(Frr, asn=ROUTER_ASN, router_id="10.99.0.1", neighbors=nodes)
        self.frr = (one_by_one if named else tor)(lab.routers[0])
        self.bird = Bird(lab.routers[1], asn=ROUTER_ASN, router_id="10.99.0.2", neighbors=ours)

    def peer(self, name: str, **spec: Any) -> Object:
        """The BGPPeer with which every node dials `frr` or `bird`, which its label `router` names too."""
        found = tor_peer(self.lab.routers[("frr", "bird").index(name)], name=name, **spec)
        found["metadata"]["labels"] = {"router": name}
        return found

    def peers(self, **spec: Any) -> tuple[Object, Object]:
        return self.peer("frr", **spec), self.peer("bird", **spec)

    def wait_established(self, *, within: float = 90.0) -> None:
        """Both have a session with every node."""
        wanted = sorted(str(node.address()) for node in self.lab.nodes.values())

        def established() -> bool:
            actual = {"frr": self.frr.established(), "bird": self.bird.established()}
            assert actual == {"frr": wanted, "bird": wanted}, f"{actual} instead of {wanted}"
            return True

        wait_until(established, within=within)

    def tables(self) -> dict[str, dict[str, list[str]]]:
        """By router: prefix → next hops of all that it has learned, both families."""
        found = {"frr": dict[str, list[str]](), "bird": dict[str, list[str]]()}
        for family in self.lab.families:
            found["frr"] |= {prefix: hops for prefix, hops in self.frr.routes(family).items() if hops}
            found["bird"] |= self.bird.routes(family)
        return found

    def told(self, prefixes: Iterable[str], *nodes: Node) -> None:
        """Both have each of these from exactly these nodes, from now on or soon."""
        asked = tuple(prefixes)
        wanted = {to: sorted(str(node.address(family_of(to.partition("/")[0]))) for node in nodes) for to in asked}
        wait_until(lambda: self._have(wanted))

    def _have(self, wanted: Mapping[str, list[str]]) -> bool:
        for router, table in self.tables().items():
            actual = {prefix: table.get(prefix, []) for prefix in wanted}
            assert actual == wanted, f"{router}: {actual} instead of {wanted}"
        return True

    def hosts(self) -> dict[str, set[str]]:
        """By router: the addresses to which it has host routes."""
        return {
            router: {to.partition("/")[0] for to in table if to.endswith(("/32", "/128"))}
            for router, table in self.tables().items()
        }

    def watch(self) -> Watch:
        return Watch(*self.lab.routers)

    def heard(self) -> tuple[int, int]:
        """How much they have been told of routes, also if it was the same again: FRR UPDATEs, BIRD prefixes."""
        neighbors = self.frr.show_json("show bgp neighbors json").values()
        return sum(one["messageStats"]["updatesRecv"] for one in neighbors), self.bird.changes_heard()


class Watch:
    """What the kernels of some routers do to their routes from now on, and when: nothing is withdrawn unseen."""

    def __init__(self, *routers: Host, log: str = "watch") -> None:
        self._routers = routers
        self._monitors = [
            router.start(["ip", "-ts", "monitor", "route"], log=f"{log}-{len(router.processes)}") for router in routers
        ]
        wait_until(self._writes_down)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        for monitor in self._monitors:
            monitor.stop()

    def _writes_down(self) -> bool:
        for router in self._routers:
            router.ip("route", "replace", "blackhole", MARK)
            router.ip("route", "delete", "blackhole", MARK)
        return all(MARK in monitor.output() for monitor in self._monitors)

    def changes(self, to: str) -> list[list[tuple[datetime, str]]]:
        """By router: when it did what (`new`, `deleted`) to its route to a host or prefix."""
        shown = to.removesuffix("/32").removesuffix("/128")
        return [list(_changes(monitor.output(), shown)) for monitor in self._monitors]


def _changes(output: str, to: str) -> Iterable[tuple[datetime, str]]:
    for line in output.splitlines():
        if (match := CHANGE.match(line)) and match["to"] == to:
            yield datetime.fromisoformat(match["at"]).astimezone(), "deleted" if match["deleted"] else "new"
