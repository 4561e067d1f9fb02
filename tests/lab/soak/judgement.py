"""What must be true of a state when nothing happens any more, worked out from the state alone, and whether it is.

The definition is a few lines over what users asked for and knows nothing of bgpilot. Four are asked: the kernel of
every node, FRR's and BIRD's tables, and the plan of every agent; each must hold exactly what the definition says.
"""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_network
from typing import Any

from tests.lab.judges import hosts
from tests.lab.minicluster import OUR_PROTOCOL
from tests.lab.netns import FAMILY_FLAG, Family
from tests.lab.soak.site import FAMILIES, Site, family_of_prefix, vips
from tests.lab.soak.state import FIXED, LEARNED, ROUTERS
from tests.lab.topology import Node

DISCARD_TABLE = "179179"
"""Of the routes that end packets from elsewhere which nobody here is for."""
RULES = 2
"""Of each family, which lead them there."""
Table = Mapping[str, list[str]]
"""Prefix → next hops in order; without any: what is sent there is discarded."""


class Judgement:
    """Ask it again and again: it changes nothing."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._state = site.state
        self._nodes = [site.lab.node(number) for number in sorted(self._state.machines)]
        self._known = [node for node in self._nodes if node.index in self._state.known]

    def stands(self) -> bool:
        """AssertionError where something is not as it must be."""
        self._site.require_well()
        for router, table in self._site.judges.tables().items():
            _same(f"table of {router}", ordered(table), self.told_to(router))
        if "frr" in self._state.peers:
            _same("MED as FRR has it", self._meds(), {prefix: {self._state.med} for prefix in self._vips()})
        for node in self._nodes:
            self._judge_kernel(node)
            self._judge_plan(node)
        return True

    def has_met(self) -> bool:
        """Every session that is wanted is there, and no other: routes may be where they must be before that."""
        for node in self._nodes:
            peers = self._site.cluster.agent(node).view("peers")["peers"].values()
            away = [peer["description"] for peer in peers if not peer["is_up"] or peer["parting"]]
            assert not away, f"{node.name}: {away}"
        return True

    # What must be.

    def told_to(self, router: str) -> Table:
        if router not in self._state.peers:
            return {}
        wanted = {
            str(cidr): [str(node.address(family))] for node in self._known for family, cidr in node.pod_cidrs.items()
        }
        for prefix in FIXED:
            wanted[prefix] = sorted(str(node.address(family_of_prefix(prefix))) for node in self._known)
        for service in self._state.local:
            for prefix in hosts(vips(service)):
                if tellers := [str(node.address(family_of_prefix(prefix))) for node in self._tellers(service)]:
                    wanted[prefix] = sorted(tellers)
        return wanted

    def planned_for(self, node: Node) -> Table:
        """All that shall be in its kernel's table main, if nobody else has a route to it."""
        if node not in self._known:
            return {}
        wanted: dict[str, list[str]] = {str(cidr): [] for cidr in node.pod_cidrs.values()}
        for other in self._known:
            if other is not node:
                wanted |= {str(cidr): [str(other.address(family))] for family, cidr in other.pod_cidrs.items()}
        for prefix in LEARNED:
            tellers = [name for name in self._state.peers if (name, prefix) in self._state.told]
            if tellers:
                wanted[prefix] = sorted(self._address(name, family_of_prefix(prefix)) for name in tellers)
        return wanted

    def discarded_by(self, node: Node) -> Mapping[str, str]:
        """What ends there of what comes from elsewhere, and how: what the node tells, but its pod CIDRs."""
        if node not in self._known:
            return {}
        found = dict.fromkeys(FIXED, "unreachable")
        for service, local in self._state.local.items():
            if node in self._tellers(service):
                found |= dict.fromkeys(hosts(vips(service)), "blackhole" if local else "unreachable")
        return found

    def _tellers(self, service: int) -> list[Node]:
        """Policy Cluster: all nodes, whether there are endpoints or not (`whenNoEndpoints: Keep`)."""
        ready = self._state.endpoints
        return [node for node in self._known if not self._state.local[service] or (service, node.index) in ready]

    def _vips(self) -> list[str]:
        return [prefix for service in self._state.local if self._tellers(service) for prefix in hosts(vips(service))]

    def _address(self, router: str, family: Family) -> str:
        return str(self._site.lab.routers[ROUTERS.index(router)].address(family))

    # What is.

    def _judge_kernel(self, node: Node) -> None:
        mine = {prefix for index, prefix in self._state.foreign if index == node.index}
        wanted = {prefix: hops for prefix, hops in self.planned_for(node).items() if prefix not in mine}
        actual = {
            to: hops for family in FAMILIES for to, hops in node.kernel_routes(family, "proto", OUR_PROTOCOL).items()
        }
        _same(f"kernel of {node.name}", ordered(actual), wanted)
        discarded = self.discarded_by(node)
        _same(f"discards of {node.name}", _discards(node), discarded)
        rules = {family: _rules(node, family) for family in FAMILIES}
        _same(f"rules of {node.name}", rules, dict.fromkeys(FAMILIES, RULES if discarded else 0))
        foreign = {to for family in FAMILIES for to in node.kernel_routes(family, "proto", "static")}
        _same(f"foreign routes of {node.name}", foreign, mine)

    def _judge_plan(self, node: Node) -> None:
        agent = self._site.cluster.agent(node)
        assert agent.view("status")["phase"] == "IN_SYNC", node.name
        fib = agent.view("fib")["rows"]
        _same(
            f"plan of {node.name} for its kernel",
            _planned(fib),
            {**self.planned_for(node), **{prefix: [] for prefix in self.discarded_by(node)}},
        )
        states = {(row["prefix"], row["state"]) for row in fib if row["state"] != "installed"}
        conflicts = {
            (to, "conflict") for index, to in self._state.foreign if index == node.index and to in _planned(fib)
        }
        _same(f"routes that {node.name} cannot install", states, conflicts)
        rows = [row for row in agent.view("routes", side="advertised")["rows"] if row["next_hop"] is not None]
        for router in self._state.peers:
            with_it = {self._address(router, family) for family in FAMILIES}
            told = {row["prefix"]: row["state"] for row in rows if row["peer"] in with_it}
            mine = {to for to, hops in self.told_to(router).items() if set(hops) & set(map(str, node.addresses))}
            _same(f"plan of {node.name} for {router}", told, dict.fromkeys(mine, "sent"))

    def _meds(self) -> dict[str, set[int]]:
        found: dict[str, set[int]] = {}
        for family in FAMILIES:
            table = self._site.judges.frr.show_json(f"show bgp {family} unicast json")["routes"]
            for prefix, paths in table.items():
                if prefix.endswith(("/32", "/128")):
                    found[prefix] = {path.get("metric", 0) for path in paths}
        return found


def ordered(table: Table) -> Table:
    return {prefix: sorted(hops) for prefix, hops in table.items()}


def _planned(rows: list[dict[str, Any]]) -> Table:
    return {row["prefix"]: sorted(row["next_hops"]) for row in rows}


def _discards(node: Node) -> dict[str, str]:
    found = {}
    for family in FAMILIES:
        rows = node.ip_json(FAMILY_FLAG[family], "route", "show", "table", "all", "proto", OUR_PROTOCOL)
        here = [row for row in rows if str(row.get("table")) == DISCARD_TABLE]
        found |= {str(ip_network(row["dst"])): row["type"] for row in here}
    return found


def _rules(node: Node, family: Family) -> int:
    """How many are ours."""
    rows = node.ip_json(FAMILY_FLAG[family], "rule", "show")
    return sum(row.get("protocol") == OUR_PROTOCOL for row in rows)


def _same(what: str, actual: Any, wanted: Any) -> None:
    assert actual == wanted, f"{what}: {actual} instead of {wanted}"
