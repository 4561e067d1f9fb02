"""What may happen to the soaked cluster: each event says what is so after it, and does it.

`foresee` is pure, `apply` acts. An event never waits for what bgpilot makes of it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.lab.soak.state import Cable, State, Who

if TYPE_CHECKING:
    from tests.lab.soak.site import Site

LAG_SECONDS = 5.0


class Event(ABC):
    """Its `repr` is how it is told."""

    @abstractmethod
    def foresee(self, state: State) -> None:
        """Make `state` what it is afterwards."""

    @abstractmethod
    def apply(self, site: Site) -> None: ...


# Nodes.


@dataclass(frozen=True)
class NodeDies(Event):
    """Machine and Node object."""

    node: int

    def foresee(self, state: State) -> None:
        state.bury(self.node)

    def apply(self, site: Site) -> None:
        site.remove_machine(self.node)


@dataclass(frozen=True)
class NodeJoins(Event):
    node: int

    def foresee(self, state: State) -> None:
        state.machines.add(self.node)
        state.known.add(self.node)

    def apply(self, site: Site) -> None:
        site.add_machine(self.node)


@dataclass(frozen=True)
class NodeObjectGoes(Event):
    """The machine stays, with its agent."""

    node: int

    def foresee(self, state: State) -> None:
        state.known.discard(self.node)

    def apply(self, site: Site) -> None:
        site.delete("Node", f"node-{self.node}")


@dataclass(frozen=True)
class NodeObjectComes(Event):
    node: int

    def foresee(self, state: State) -> None:
        state.known.add(self.node)

    def apply(self, site: Site) -> None:
        site.make_known(self.node)


@dataclass(frozen=True)
class Drained(Event):
    """By annotation: a route reflector is not drained by its own order, which nobody else sees."""

    node: int

    def foresee(self, state: State) -> None:
        state.drained.add(self.node)

    def apply(self, site: Site) -> None:
        site.make_known(self.node)


@dataclass(frozen=True)
class Undrained(Event):
    node: int

    def foresee(self, state: State) -> None:
        state.drained.discard(self.node)

    def apply(self, site: Site) -> None:
        site.make_known(self.node)


# Services.


@dataclass(frozen=True)
class ServiceComes(Event):
    """Or has another policy from now on."""

    service: int
    local: bool

    def foresee(self, state: State) -> None:
        state.local[self.service] = self.local

    def apply(self, site: Site) -> None:
        site.serve(self.service, local=self.local)


@dataclass(frozen=True)
class ServiceGoes(Event):
    service: int

    def foresee(self, state: State) -> None:
        del state.local[self.service]

    def apply(self, site: Site) -> None:
        site.delete("Service", f"web-{self.service}", "default")


@dataclass(frozen=True)
class EndpointFlips(Event):
    """It becomes ready on this node, or ends there."""

    service: int
    node: int

    def foresee(self, state: State) -> None:
        state.endpoints ^= {(self.service, self.node)}

    def apply(self, site: Site) -> None:
        site.place_endpoints(self.service)


# Peers, and what is said to them and by them.


@dataclass(frozen=True)
class PeerGoes(Event):
    router: str

    def foresee(self, state: State) -> None:
        state.peers.discard(self.router)

    def apply(self, site: Site) -> None:
        site.delete("BGPPeer", self.router)


@dataclass(frozen=True)
class PeerComes(Event):
    router: str

    def foresee(self, state: State) -> None:
        state.peers.add(self.router)

    def apply(self, site: Site) -> None:
        site.peer(self.router)


@dataclass(frozen=True)
class RouterTells(Event):
    router: str
    prefix: str

    def foresee(self, state: State) -> None:
        state.told.add((self.router, self.prefix))

    def apply(self, site: Site) -> None:
        site.router(self.router).announce(self.prefix)


@dataclass(frozen=True)
class RouterWithdraws(Event):
    router: str
    prefix: str

    def foresee(self, state: State) -> None:
        state.told.discard((self.router, self.prefix))

    def apply(self, site: Site) -> None:
        site.router(self.router).withdraw(self.prefix)


@dataclass(frozen=True)
class SessionsCleared(Event):
    router: str

    def foresee(self, state: State) -> None:
        """They come back."""

    def apply(self, site: Site) -> None:
        site.clear_sessions(self.router)


@dataclass(frozen=True)
class MedChanges(Event):
    med: int

    def foresee(self, state: State) -> None:
        state.med = self.med

    def apply(self, site: Site) -> None:
        site.advertise(self.med)


@dataclass(frozen=True)
class MeshBecomes(Event):
    mode: str

    def foresee(self, state: State) -> None:
        state.mesh = self.mode

    def apply(self, site: Site) -> None:
        site.mesh(self.mode)


# Processes.


@dataclass(frozen=True)
class AgentEnds(Event):
    """Killed, or asked to."""

    node: int
    killed: bool

    def foresee(self, state: State) -> None:
        state.away.add(self.node)
        state.frozen.discard((self.node, Who.AGENT))
        if self.node not in state.cast.beside:
            state.frozen.discard((self.node, Who.EXABGP))

    def apply(self, site: Site) -> None:
        site.end_agent(self.node, killed=self.killed)


@dataclass(frozen=True)
class AgentStarts(Event):
    node: int

    def foresee(self, state: State) -> None:
        state.away.discard(self.node)

    def apply(self, site: Site) -> None:
        site.start_agent(self.node)


@dataclass(frozen=True)
class ExabgpEnds(Event):
    """Killed, or told to; whoever started it starts it again."""

    node: int
    killed: bool

    def foresee(self, state: State) -> None:
        state.frozen.discard((self.node, Who.EXABGP))

    def apply(self, site: Site) -> None:
        site.end_exabgp(self.node, killed=self.killed)


@dataclass(frozen=True)
class SpeakerReplaced(Event):
    """`bgpilot speaker`, and ExaBGP with it."""

    node: int

    def foresee(self, state: State) -> None:
        state.frozen.discard((self.node, Who.EXABGP))

    def apply(self, site: Site) -> None:
        site.replace_speaker(self.node)


@dataclass(frozen=True)
class Freezes(Event):
    """It stands still (SIGSTOP)."""

    node: int
    who: Who

    def foresee(self, state: State) -> None:
        state.frozen.add((self.node, self.who))

    def apply(self, site: Site) -> None:
        site.freeze(self.node, self.who)


@dataclass(frozen=True)
class Thaws(Event):
    """It goes on, if it is still there: an ExaBGP that hangs for long is killed."""

    node: int
    who: Who

    def foresee(self, state: State) -> None:
        state.frozen.discard((self.node, self.who))

    def apply(self, site: Site) -> None:
        site.thaw(self.node, self.who)


# The API server.


@dataclass(frozen=True)
class ApiGoes(Event):
    def foresee(self, state: State) -> None:
        state.api_away = True

    def apply(self, site: Site) -> None:
        site.api.cut()


@dataclass(frozen=True)
class ApiComesBack(Event):
    def foresee(self, state: State) -> None:
        state.api_away = False

    def apply(self, site: Site) -> None:
        site.api.restore()


@dataclass(frozen=True)
class ApiForgets(Event):
    """Its history is compacted."""

    def foresee(self, state: State) -> None:
        """Nothing else."""

    def apply(self, site: Site) -> None:
        site.api.compact()


@dataclass(frozen=True)
class ApiLags(Event):
    """This node is told of changes some seconds late."""

    node: int

    def foresee(self, state: State) -> None:
        state.api_lags.add(self.node)

    def apply(self, site: Site) -> None:
        site.lag(self.node, LAG_SECONDS)


@dataclass(frozen=True)
class ApiIsPrompt(Event):
    node: int

    def foresee(self, state: State) -> None:
        state.api_lags.discard(self.node)

    def apply(self, site: Site) -> None:
        site.lag(self.node, 0)


# Kernel and cables.


@dataclass(frozen=True)
class CableBreaks(Event):
    node: int
    how: Cable

    def foresee(self, state: State) -> None:
        state.cables[self.node] = self.how

    def apply(self, site: Site) -> None:
        site.break_cable(self.node, self.how)


@dataclass(frozen=True)
class CableMended(Event):
    node: int

    def foresee(self, state: State) -> None:
        state.cables.pop(self.node)

    def apply(self, site: Site) -> None:
        site.mend_cable(self.node)


@dataclass(frozen=True)
class ForeignRouteComes(Event):
    """In place of ours, if there is one."""

    node: int
    prefix: str

    def foresee(self, state: State) -> None:
        state.foreign.add((self.node, self.prefix))

    def apply(self, site: Site) -> None:
        site.foreign_route(self.node, "replace", self.prefix)


@dataclass(frozen=True)
class ForeignRouteGoes(Event):
    node: int
    prefix: str

    def foresee(self, state: State) -> None:
        state.foreign.discard((self.node, self.prefix))

    def apply(self, site: Site) -> None:
        site.foreign_route(self.node, "del", self.prefix)


@dataclass(frozen=True)
class RoutesFlushed(Event):
    """All of ours."""

    node: int

    def foresee(self, state: State) -> None:
        """They come back."""

    def apply(self, site: Site) -> None:
        site.flush(self.node)
