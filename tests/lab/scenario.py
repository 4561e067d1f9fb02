"""A scenario: what a cluster, its peers and a node's interfaces are, as YAML, and the plan that must come of it.

    node: worker-1                      # the node that plans
    cluster:                            # objects as kubectl prints them
      - {apiVersion: v1, kind: Node, metadata: {name: worker-1}, ...}
    missingSecrets: [tor-password]      # Secrets that the API says do not exist
    interfaces:                         # of the node
      - {index: 2, name: eth0, up: true, addresses: [10.0.0.1/24]}
    gateways:                           # next hops of its default routes
      - {family: ipv4, address: 10.0.0.254, interface: 2}
    heard:                              # by peer: its session, and what it announced
      - peer: 10.0.0.2
        session: {routerID: 10.0.0.2, asn: 64512, families: [ipv4]}
        routes:
          - {prefixes: [10.244.2.0/24], nextHop: 10.0.0.2, asPath: [], localPref: 100, med: 0}
            # of a route reflector also: originatorID: 10.0.0.4, clusterList: [10.0.0.3]
    plan: |                             # `agent.plan.printer.describe`, and objects that could not be read
      ...

It reads, plays and rewrites scenarios; what is right is in the files. `plan` stands last: rewriting keeps all above it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from ipaddress import ip_address, ip_interface, ip_network
from pathlib import Path as File
from typing import Any, Final

import yaml

from agent.cluster.parse import read_object
from agent.cluster.world import World
from agent.model import (
    Applied,
    ClusterChange,
    Gateway,
    Gone,
    Interface,
    Key,
    Kind,
    Malformed,
    Problem,
    Secret,
)
from agent.plan.model import NodePlan
from agent.plan.picture import Dirty, Picture
from agent.plan.printer import describe
from bgp.model import Attributes, BgpEvent, Family, Origin, Path, PathsHeard, SessionUp
from bgp.rib import Rib

REWRITE_VARIABLE: Final = "BGPILOT_REWRITE_SCENARIOS"
"""Set in the environment: the wanted plans are written anew instead of compared. Read the diff before you commit."""
_WANTED: Final = "\nplan: |"
_Loader: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""libyaml's where PyYAML was built with it: ten times as fast."""

Event = ClusterChange | tuple[BgpEvent, ...]
"""One thing that arrives. What a peer said comes as one, since its order matters."""


@dataclass(frozen=True, slots=True)
class Scenario:
    name: str
    node: str
    events: tuple[Event, ...]
    interfaces: tuple[Interface, ...]
    gateways: tuple[Gateway, ...]
    wanted: str


class Stage:
    """World, Rib and interfaces of a scenario while its events arrive, and what is dirty."""

    def __init__(self, scenario: Scenario) -> None:
        self._node, self._interfaces, self._gateways = scenario.node, scenario.interfaces, scenario.gateways
        self.world, self.rib = World(), Rib()

    @property
    def picture(self) -> Picture:
        return Picture(self._node, self.world, self.rib, self._interfaces, self._gateways)

    @property
    def settled(self) -> Picture:
        """Later: sessions that are no longer wanted have ended."""
        nodes = frozenset(key.name for key in self.world.records(Kind.NODE))
        return replace(self.picture, over=nodes)

    def play(self, events: Iterable[Event]) -> Dirty:
        keys, prefixes = frozenset[Key](), frozenset[Any]()
        for event in events:
            if isinstance(event, tuple):
                for said in event:
                    prefixes |= frozenset(self.rib.apply(said, 0.0))
            else:
                keys |= self.world.apply(event)
        return Dirty(keys=keys, prefixes=prefixes)

    def tell(self, plan: NodePlan) -> str:
        problems = sorted(self.world.problems, key=lambda problem: (problem.subject, problem.message))
        lines = [f"  {found.reason} ({found.subject}): {found.message}. {found.fix}" for found in problems]
        return describe(plan) + "\n".join(["not read:", *lines, ""] if lines else [])


@cache
def load(file: File) -> Scenario:
    """As it was when first asked for: each file is played in many orders, and reading it takes longer than planning."""
    document = yaml.load(file.read_text(), _Loader)  # noqa: S506  # both are safe ones
    unknown = document.keys() - {"node", "cluster", "missingSecrets", "interfaces", "gateways", "heard", "plan"}
    if unknown:
        raise ValueError(f"{file.name}: unknown keys {sorted(unknown)}")
    missing = (Secret(name=name, found=False) for name in document.get("missingSecrets", ()))
    return Scenario(
        name=file.stem,
        node=document["node"],
        events=(
            *map(_read, document["cluster"]),
            *(Applied(Key(Kind.SECRET, "", secret.name), secret) for secret in missing),
            *map(_hear, document.get("heard", ())),
        ),
        interfaces=tuple(map(_interface, document.get("interfaces", ()))),
        gateways=tuple(
            Gateway(Family(found["family"]), ip_address(found["address"]), found["interface"])
            for found in document.get("gateways", ())
        ),
        wanted=document.get("plan", ""),
    )


def rewrite(file: File, told: str) -> None:
    above = (file.read_text() + "\n").split(_WANTED, 1)[0].rstrip("\n")
    below = "".join(f"  {line}\n" for line in told.splitlines())
    file.write_text(f"{above}\n{_WANTED.removeprefix(chr(10))}\n{below}")


def undo(events: Sequence[Event]) -> tuple[Event, ...]:
    """The cluster's objects go again, in the same order."""
    return tuple(Gone(event.key) for event in events if isinstance(event, Applied))


def _read(found: dict[str, Any]) -> ClusterChange:
    parsed = read_object(Kind(found["kind"]), json.dumps(found, default=str).encode())
    if isinstance(parsed.outcome, Problem):
        return Malformed(parsed.key, parsed.outcome)
    return Applied(parsed.key, parsed.outcome)


def _hear(heard: dict[str, Any]) -> tuple[BgpEvent, ...]:
    peer, session = ip_address(heard["peer"]), heard.get("session", {})
    announced = tuple(
        (
            Path(
                peer,
                ip_address(route["nextHop"]),
                Attributes(
                    origin=Origin[route.get("origin", "IGP")],
                    as_path=tuple(route.get("asPath", ())),
                    local_pref=route.get("localPref"),
                    med=route.get("med"),
                    originator_id=ip_address(route["originatorID"]) if "originatorID" in route else None,
                    cluster_list=tuple(map(ip_address, route.get("clusterList", ()))),
                ),
            ),
            tuple(map(ip_network, route["prefixes"])),
        )
        for route in heard.get("routes", ())
    )
    up = SessionUp(
        peer=peer,
        router_id=ip_address(session["routerID"]) if "routerID" in session else None,
        peer_asn=session.get("asn", 64512),
        hold_seconds=session.get("holdSeconds", 90),
        families=frozenset(map(Family, session.get("families", Family))),
    )
    return up, PathsHeard(peer, (), announced)


def _interface(found: dict[str, Any]) -> Interface:
    return Interface(
        index=found["index"],
        name=found["name"],
        up=found.get("up", True),
        addresses=tuple(map(ip_interface, found.get("addresses", ()))),
    )
