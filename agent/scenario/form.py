"""A scenario: what a cluster, its peers and one node are, as one document in YAML or JSON.

    node: worker-1                      # the node that plans
    cluster:                            # objects as kubectl prints them, also in lists
      - {apiVersion: v1, kind: Node, metadata: {name: worker-1}, ...}
    missingSecrets: [tor-password]      # Secrets that the API says do not exist, or {name: …, why: …}
    notRead:                            # objects that exist and do not parse
      - {kind: BGPPeer, name: bad, reason: malformedObject, message: …, fix: …}
    interfaces:                         # of the node
      - {index: 2, name: eth0, up: true, addresses: [10.0.0.1/24]}
    gateways:                           # next hops of its default routes
      - {family: ipv4, address: 10.0.0.254, interface: 2}
    writtenBefore: {tor: 10.0.0.254}    # by BGPPeer: the router's address that was written down before
    before: {…}                         # what else a plan remembers of the one before, and how far the node has left
    settings: {…}                       # of the agent, for people
    heard:                              # by peer: its session, and what it announced
      - peer: 10.0.0.2
        session: {routerID: 10.0.0.2, asn: 64512, families: [ipv4]}
        routes:
          - {prefixes: [10.244.2.0/24], nextHop: 10.0.0.2, asPath: [], localPref: 100, med: 0}
            # of a route reflector also: originatorID: 10.0.0.4, clusterList: [10.0.0.3]
    standing: {…}                       # how far the plan was carried out (`agent.scenario.standing`)
    leftOut: {heardPrefixes: 12}        # what there was too much of
    plan: |                             # what must come of it, in tests

How data moves: out of a running agent by `take`, with `objects` for the cluster's part and `sessions` for what peers
said; in by `read`, which every reader of such a file goes through; `stage` lets it happen. `files` alone touches the
disk. A plan that is made of a file is the plan that the agent had, as far as it is whole
(invariant 3 of the design). Of Secrets a file has the names of keys that are used, and no value.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from agent.cluster.fields import Field
from agent.model import ClusterChange, Gateway, Interface
from agent.plan.leaving import HERE, Departure
from agent.plan.model import Identity
from agent.plan.sessions import SessionClaim
from agent.plan.topology import Area
from bgp.model import Address, BgpEvent

Event: TypeAlias = ClusterChange | tuple[BgpEvent, ...]
"""One thing that arrives. What a peer said comes as one, since its order matters."""

MEMBERS: Final = frozenset(
    {
        "node",
        "cluster",
        "missingSecrets",
        "notRead",
        "interfaces",
        "gateways",
        "writtenBefore",
        "before",
        "heard",
        "standing",
        "leftOut",
        "plan",
        "schema",
        "version",
        "settings",
    }
)
SCHEMA: Final = "bgpilot.scenario/1"


class ScenarioError(ValueError):
    """It is no scenario: the message says where, what is there, and what should be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    node: str
    events: tuple[Event, ...]
    interfaces: tuple[Interface, ...] = ()
    gateways: tuple[Gateway, ...] = ()
    written_before: Mapping[str, Address] = field(default_factory=dict)
    small: frozenset[Area] = frozenset()
    mesh: Mapping[str, SessionClaim] = field(default_factory=dict)
    identity: Identity | None = None
    departure: Departure = HERE
    standing: Field = field(default_factory=lambda: Field("standing", None))
    """As it stands there, unread."""
    wanted: str = ""
    version: str = ""
    """Of the agent that it was taken from."""
    left_out: tuple[tuple[str, int], ...] = ()
