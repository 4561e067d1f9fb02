"""What there is in the soaked cluster, as the events so far say: the one thing that all judgement starts from.

Numbers and words only. It knows neither the lab nor what bgpilot has made of it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

ROUTERS: Final = ("frr", "bird")
"""In the order of the lab's."""
MESHES: Final = ("FullMesh", "Auto")
"""Auto is with a threshold that makes every cluster here a large one."""
LEARNED: Final = (
    "203.0.113.0/24",
    "198.18.7.0/24",
    "2001:db8:99::/64",
    "2001:db8:a0::/48",
)
"""What the routers may tell the nodes."""
STRAY: Final = ("192.0.2.0/25", "2001:db8:2000::/48")
"""What nobody tells: foreign routes only."""
FIXED: Final = ("198.51.101.0/24", "2001:db8:78::/64")
"""What every node tells, and discards of what it forwards."""
SERVICES: Final = range(1, 9)


class Who(StrEnum):
    AGENT = "agent"
    EXABGP = "exabgp"


class Cable(StrEnum):
    """What is wrong with a node's way to the others."""

    DOWN = "down"
    UNPLUGGED = "unplugged"
    ADDRESSLESS = "addressless"


@dataclass(frozen=True, slots=True)
class Cast:
    """Which nodes there may be, and what may happen to each. What lives on must have grown by nothing in the end."""

    nodes: tuple[int, ...]
    beside: frozenset[int]
    """ExaBGP runs beside the agent there; elsewhere it is the agent's child."""
    agent_ends: frozenset[int]
    exabgp_ends: frozenset[int]
    leaves: frozenset[int]
    """The machine dies, and comes back."""

    @property
    def victims(self) -> tuple[tuple[int, Who], ...]:
        """Processes that may be killed or stopped."""
        agents = tuple((node, Who.AGENT) for node in sorted(self.agent_ends))
        return agents + tuple((node, Who.EXABGP) for node in sorted(self.exabgp_ends))


@dataclass(slots=True)
class State:
    """At first all nodes and both peers are there, all is well, and there is no Service."""

    cast: Cast
    machines: set[int] = field(default_factory=set)
    known: set[int] = field(default_factory=set)
    """Nodes with a Node object."""
    local: dict[int, bool] = field(default_factory=dict)
    """Services, and whether theirs is policy Local."""
    endpoints: set[tuple[int, int]] = field(default_factory=set)
    """Service and node of each that is ready; they may be there before the Service, and after it."""
    peers: set[str] = field(default_factory=lambda: set(ROUTERS))
    """BGPPeers."""
    told: set[tuple[str, str]] = field(default_factory=set)
    """Router and prefix."""
    foreign: set[tuple[int, str]] = field(default_factory=set)
    """Node and prefix that somebody else has a route to."""
    med: int = 0
    mesh: str = MESHES[0]
    away: set[int] = field(default_factory=set)
    """Nodes whose agent does not run."""
    frozen: set[tuple[int, Who]] = field(default_factory=set)
    cables: dict[int, Cable] = field(default_factory=dict)
    drained: set[int] = field(default_factory=set)
    """Machines whose Node, when there is one, says that they are to leave."""
    api_away: bool = False
    api_lags: set[int] = field(default_factory=set)
    """Nodes that are told of changes late."""

    def __post_init__(self) -> None:
        self.machines.update(self.cast.nodes)
        self.known.update(self.cast.nodes)

    @property
    def awake(self) -> list[int]:
        """Nodes whose agent runs."""
        return sorted(node for node in self.machines - self.away if (node, Who.AGENT) not in self.frozen)

    def bury(self, node: int) -> None:
        """The machine is no more, nor is anything that was wrong with it."""
        self.machines.discard(node)
        self.known.discard(node)
        self.away.discard(node)
        self.drained.discard(node)
        self.api_lags.discard(node)
        self.cables.pop(node, None)
        self.frozen = {one for one in self.frozen if one[0] != node}
        self.foreign = {one for one in self.foreign if one[0] != node}
