"""Events drawn from a seed: the same seed, the same course, however long a machine takes for it.

What is drawn depends on the seed and on the events before, never on what came of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from random import Random
from typing import Final, NamedTuple

from tests.lab.addresses import pod_cidrs
from tests.lab.soak.events import (
    AgentEnds,
    AgentStarts,
    ApiComesBack,
    ApiForgets,
    ApiGoes,
    ApiIsPrompt,
    ApiLags,
    CableBreaks,
    CableMended,
    Drained,
    EndpointFlips,
    Event,
    ExabgpEnds,
    ForeignRouteComes,
    ForeignRouteGoes,
    Freezes,
    MedChanges,
    MeshBecomes,
    NodeDies,
    NodeJoins,
    NodeObjectComes,
    NodeObjectGoes,
    PeerComes,
    PeerGoes,
    RouterTells,
    RouterWithdraws,
    RoutesFlushed,
    ServiceComes,
    ServiceGoes,
    SessionsCleared,
    SpeakerReplaced,
    Thaws,
    Undrained,
)
from tests.lab.soak.state import LEARNED, MESHES, ROUTERS, SERVICES, STRAY, Cable, Cast, State

REST_SECONDS: Final = 1.0
"""At most, between two events."""
MEDS: Final = range(4)


class Step(NamedTuple):
    event: Event
    rest_seconds: float
    """Before the next one."""


class Course:
    """`state` is what the events drawn so far have made of it."""

    def __init__(self, seed: int, cast: Cast) -> None:
        self.state = State(cast)
        self._dice = Random(seed)  # noqa: S311 - no secret

    def draw(self, count: int) -> Iterator[Step]:
        for _ in range(count):
            kinds = {kind: weight for kind, weight in KINDS.items() if kind(self.state)}
            (kind,) = self._dice.choices(list(kinds), list(kinds.values()))
            yield self._taken(self._dice.choice(kind(self.state)), self._dice.uniform(0, REST_SECONDS))

    def calm(self) -> Iterator[Step]:
        """What ends all that is wrong: then agents can be asked."""
        yield from self._all_of(_api_comes_back, _api_is_prompt, _thaws, _cable_mended, _agent_starts, _undrained)

    def home(self) -> Iterator[Step]:
        """After `calm`: what brings back all nodes and peers, so that one such moment compares with another."""
        yield from self._all_of(_node_joins, _node_object_comes, _undrained, _peer_comes, _foreign_route_goes)
        if self.state.mesh != MESHES[0]:
            yield self._taken(MeshBecomes(MESHES[0]))

    def _all_of(self, *kinds: Callable[[State], Sequence[Event]]) -> Iterator[Step]:
        for kind in kinds:
            for event in kind(self.state):
                yield self._taken(event)

    def _taken(self, event: Event, rest_seconds: float = 0.0) -> Step:
        event.foresee(self.state)
        return Step(event, rest_seconds)


# What could happen now, by kind; always in the same order.


def _node_dies(state: State) -> Sequence[Event]:
    return [NodeDies(node) for node in sorted(state.cast.leaves & state.machines)]


def _node_joins(state: State) -> Sequence[Event]:
    return [NodeJoins(node) for node in state.cast.nodes if node not in state.machines]


def _node_object_goes(state: State) -> Sequence[Event]:
    return [NodeObjectGoes(node) for node in sorted(state.known & state.cast.agent_ends)]


def _node_object_comes(state: State) -> Sequence[Event]:
    return [NodeObjectComes(node) for node in sorted(state.machines - state.known)]


def _drained(state: State) -> Sequence[Event]:
    return [Drained(node) for node in sorted(state.known - state.drained)]


def _undrained(state: State) -> Sequence[Event]:
    return [Undrained(node) for node in sorted(state.known & state.drained)]


def _service_comes(state: State) -> Sequence[Event]:
    return [
        ServiceComes(service, local)
        for service in SERVICES
        for local in (False, True)
        if state.local.get(service) is not local
    ]


def _service_goes(state: State) -> Sequence[Event]:
    return [ServiceGoes(service) for service in sorted(state.local)]


def _endpoint_flips(state: State) -> Sequence[Event]:
    return [EndpointFlips(service, node) for service in SERVICES for node in state.cast.nodes]


def _peer_goes(state: State) -> Sequence[Event]:
    return [PeerGoes(router) for router in sorted(state.peers)]


def _peer_comes(state: State) -> Sequence[Event]:
    return [PeerComes(router) for router in ROUTERS if router not in state.peers]


def _router_tells(state: State) -> Sequence[Event]:
    every = [(router, prefix) for router in ROUTERS for prefix in LEARNED]
    return [RouterTells(*one) for one in every if one not in state.told]


def _router_withdraws(state: State) -> Sequence[Event]:
    return [RouterWithdraws(*one) for one in sorted(state.told)]


def _sessions_cleared(_: State) -> Sequence[Event]:
    return [SessionsCleared(router) for router in ROUTERS]


def _med_changes(state: State) -> Sequence[Event]:
    return [MedChanges(med) for med in MEDS if med != state.med]


def _mesh_becomes(state: State) -> Sequence[Event]:
    return [MeshBecomes(mode) for mode in MESHES if mode != state.mesh]


def _agent_ends(state: State) -> Sequence[Event]:
    can = [node for node in state.awake if node in state.cast.agent_ends]
    return [AgentEnds(node, killed) for node in can for killed in (False, True)]


def _agent_starts(state: State) -> Sequence[Event]:
    return [AgentStarts(node) for node in sorted(state.away)]


def _exabgp_ends(state: State) -> Sequence[Event]:
    can = sorted(state.cast.exabgp_ends & state.machines)
    return [ExabgpEnds(node, killed) for node in can for killed in (False, True)]


def _speaker_replaced(state: State) -> Sequence[Event]:
    return [SpeakerReplaced(node) for node in sorted(state.cast.exabgp_ends & state.cast.beside & state.machines)]


def _freezes(state: State) -> Sequence[Event]:
    can = [one for one in state.cast.victims if one[0] in state.machines - state.away]
    return [Freezes(*one) for one in can if one not in state.frozen]


def _thaws(state: State) -> Sequence[Event]:
    return [Thaws(*one) for one in sorted(state.frozen)]


def _api_goes(state: State) -> Sequence[Event]:
    return [] if state.api_away else [ApiGoes()]


def _api_comes_back(state: State) -> Sequence[Event]:
    return [ApiComesBack()] if state.api_away else []


def _api_forgets(_: State) -> Sequence[Event]:
    return [ApiForgets()]


def _api_lags(state: State) -> Sequence[Event]:
    return [ApiLags(node) for node in sorted(state.machines - state.api_lags)]


def _api_is_prompt(state: State) -> Sequence[Event]:
    return [ApiIsPrompt(node) for node in sorted(state.api_lags)]


def _cable_breaks(state: State) -> Sequence[Event]:
    return [CableBreaks(node, how) for node in sorted(state.machines - state.cables.keys()) for how in Cable]


def _cable_mended(state: State) -> Sequence[Event]:
    return [CableMended(node) for node in sorted(state.cables)]


def _foreign_route_comes(state: State) -> Sequence[Event]:
    pods = {str(cidr): node for node in state.cast.nodes for cidr in pod_cidrs(node, ("ipv4", "ipv6")).values()}
    every = [(node, prefix) for node in sorted(state.machines) for prefix in (*LEARNED, *STRAY, *pods)]
    return [ForeignRouteComes(*one) for one in every if one not in state.foreign and pods.get(one[1]) != one[0]]


def _foreign_route_goes(state: State) -> Sequence[Event]:
    return [ForeignRouteGoes(*one) for one in sorted(state.foreign)]


def _routes_flushed(state: State) -> Sequence[Event]:
    return [RoutesFlushed(node) for node in sorted(state.machines)]


KINDS: Final[Mapping[Callable[[State], Sequence[Event]], int]] = {
    _node_dies: 2,
    _node_joins: 4,
    _node_object_goes: 2,
    _node_object_comes: 4,
    _drained: 1,
    _undrained: 2,
    _service_comes: 6,
    _service_goes: 4,
    _endpoint_flips: 12,
    _peer_goes: 2,
    _peer_comes: 4,
    _router_tells: 5,
    _router_withdraws: 4,
    _sessions_cleared: 2,
    _med_changes: 2,
    _mesh_becomes: 2,
    _agent_ends: 4,
    _agent_starts: 8,
    _exabgp_ends: 4,
    _speaker_replaced: 2,
    _freezes: 4,
    _thaws: 6,
    _api_goes: 2,
    _api_comes_back: 6,
    _api_forgets: 2,
    _api_lags: 2,
    _api_is_prompt: 3,
    _cable_breaks: 4,
    _cable_mended: 8,
    _foreign_route_comes: 5,
    _foreign_route_goes: 4,
    _routes_flushed: 3,
}
"""How likely each is, beside the others that are possible; what ends a trouble is likelier than what begins it."""
