"""A Status of a file: what the agent knew at that moment, for the questions that it answered (`agent.status`).

What was told is told again to a real Outbox, which says of each route what the agent's own said; what stands in the
file without a meaning for today's plan stays out. It answers no question itself.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from agent.cluster.fields import Field, FieldError
from agent.cluster.spec import choice
from agent.kernel.table import fulfils
from agent.model import FibKey, FibRoute, Key, Kind, NextHop, Node, Problem, RouteType, WatchState, in_order
from agent.plan.model import NodePlan
from agent.scenario.form import Scenario, ScenarioError
from agent.scenario.sessions import address, number, prefix, read_session
from agent.scenario.stage import Stage
from agent.status.status import Status
from bgp.model import Address, Direction, Held, PeerState, Route, RouteKey, SessionError, SessionState
from bgp.outbox import Outbox

TAKEN_AT: Final = 1_000_000_000.0
"""The moment itself, in monotonic seconds: later than all that was before it."""
_SECONDS_MAX: Final = 900_000_000
_METRIC_MAX: Final = 0xFFFF_FFFF
_COUNT_MAX: Final = 1 << 62


@dataclass(frozen=True, slots=True)
class Refusal:
    """Of the kernel."""

    error: str
    attempts: int
    retry_at: float = TAKEN_AT


@dataclass(frozen=True, slots=True, kw_only=True)
class Kernel:
    """Fits `agent.status.status.FibFacts`."""

    actual: Mapping[FibKey, FibRoute]
    failing: Mapping[FibKey, Refusal]
    conflicts: Mapping[FibKey, str]
    drift: Mapping[str, int] = field(default_factory=dict)
    last_drift: None = None
    operations: Mapping[tuple[str, str], int] = field(default_factory=dict)
    is_read: bool = True
    read_error: str | None = None
    read_failures: int = 0
    adopted: frozenset[FibKey] = frozenset()
    counts: Mapping[tuple[int, int], int] = field(default_factory=Counter)

    def holds(self, wanted: FibRoute) -> bool:
        actual = self.actual.get(wanted.key)
        return actual is not None and fulfils(wanted, actual)


def restored(scenario: Scenario, stage: Stage, plan: NodePlan) -> Status:
    """`plan` is that of the stage. Raises ScenarioError when the file does not say how the plan was carried out."""
    if not scenario.standing:
        raise ScenarioError(
            "it does not say how far the plan was carried out (`standing`): only `bgpilot plan` can be asked of it"
        )
    try:
        return _status(scenario.standing, scenario.version, stage, plan)
    except FieldError as error:
        raise ScenarioError(f"{error.what}: {error.fix}") from None


def _status(standing: Field, version: str, stage: Stage, plan: NodePlan) -> Status:
    world, name = stage.world, stage.picture.node_name
    own = world.get(Key(Kind.NODE, "", name))
    problems = frozenset(map(_problem, standing["problems"].items()))
    return Status(
        node=name,
        version=version,
        started_at=_instant(standing["startedAgo"]) if standing["startedAgo"] else 0.0,
        phase=standing["phase"].text(),
        picture_complete=standing["complete"].flag(default=True),
        plan=plan,
        progress=stage.picture.departure.progress,
        peers=dict(map(_session, standing["sessions"].items())),
        held_by_speaker=dict(map(_held, standing["held"].items())),
        rib=stage.rib,
        outbox=told(standing, plan),
        fib=_kernel(standing),
        problems=problems,
        watches=[_broken(found, problems) for found in standing["broken"].items()],
        services=world.records(Kind.SERVICE),
        nodes=world.records(Kind.NODE),
        routers=world.records(Kind.PEER),
        advertisements=world.records(Kind.ADVERTISEMENT),
        namespaces=world.records(Kind.NAMESPACE),
        interfaces=stage.picture.interfaces,
        own_labels=dict(own.labels) if isinstance(own, Node) else None,
        speaking_at=0.0,
    )


def _broken(found: Field, problems: Iterable[Problem]) -> WatchState:
    """With the Problem that says why."""
    kind, at = choice(found["kind"], Kind), _instant(found["since"])
    only = Key(kind, found["namespace"].text(), found["name"].text()) if found["name"] else None
    why = next((it for it in problems if it.subject == f"watch of {only or kind}"), None)
    return WatchState(kind, healthy=False, fresh_at=at, problem=why, only=only, broken_at=at)


def _session(found: Field) -> tuple[Address, PeerState]:
    peer, up, error = address(found["peer"]), found["up"], found["lastError"]
    return peer, PeerState(
        state=choice(found["state"], SessionState),
        since=_instant(found["since"]) if found["since"] else 0.0,
        up=read_session(peer, up) if up else None,
        flaps=found["flaps"].number(0, _COUNT_MAX, 0),
        last_error=_error(error) if error else None,
    )


def _instant(ago: Field) -> float:
    if isinstance(ago.value, bool) or not isinstance(ago.value, int | float) or abs(ago.value) > _SECONDS_MAX:
        raise ago.error("is no number of seconds", "say how long ago it was")
    return TAKEN_AT - ago.value


def _error(found: Field) -> SessionError:
    return SessionError(
        choice(found["direction"], Direction),
        found["code"].number(0, 255, 0),
        found["subcode"].number(0, 255, 0),
        found["text"].label_value(),
        _instant(found["at"]),
        found["count"].number(0, _COUNT_MAX, 1),
    )


def _held(found: Field) -> tuple[Address, Held]:
    text = found["text"]
    return address(found["peer"]), Held(found["reason"].text(), text.label_value() if text else "")


def _problem(found: Field) -> Problem:
    fix = found["fix"]
    reason, subject, message = (found[name].text() for name in ("reason", "subject", "message"))
    return Problem(reason, subject, message, fix.label_value() if fix else "")


def told(standing: Field, plan: NodePlan) -> Outbox:
    """All that is planned, but for what the file says of."""
    outbox = Outbox()
    outbox.read_back({}, plan.peers)
    for key in _keys(standing["refused"]):
        if (route := plan.routes.get(key)) is not None:
            outbox.want(key, route)
    while outbox.next_command(TAKEN_AT) is not None:
        outbox.answered(False, TAKEN_AT)  # as ExaBGP answers
    for key, route in plan.routes.items():
        outbox.want(key, route)
    untold = frozenset(_keys(standing["pending"])) | outbox.failing.keys()
    held = {key: route for key, route in plan.routes.items() if key not in untold}
    held |= {key: Route(key.prefix, key.peer) for key in _keys(standing["leaving"]) if key not in plan.routes}
    outbox.read_back(held, plan.peers)
    return outbox


def _keys(listed: Field) -> Iterator[RouteKey]:
    for found in listed.items():
        peer = address(found["peer"])
        yield from (RouteKey(peer, prefix(item)) for item in found["prefixes"].items())


def _kernel(standing: Field) -> Kernel:
    routes = [route for found in standing["kernel"].items() for route in _routes(found)]
    refused = standing["kernelRefused"].items()
    return Kernel(
        actual={route.key: route for route in routes},
        failing={
            _place(found): Refusal(found["error"].label_value(), found["attempts"].number(0, _COUNT_MAX, 1))
            for found in refused
        },
        conflicts={_place(found): found["holder"].text() for found in standing["kernelConflicts"].items()},
    )


def _routes(found: Field) -> Iterator[FibRoute]:
    type_, metric = choice(found["type"], RouteType, RouteType.UNICAST), number(found["metric"], _METRIC_MAX) or 0
    hops = in_order([NextHop(address(it["gateway"]), number(it["interface"]) or 0) for it in found["via"].items()])
    set_by_others = found["extra"]
    extra = set_by_others.label_value() if set_by_others else ""
    yield from (FibRoute(prefix(item), hops, type_, metric, extra) for item in found["prefixes"].items())


def _place(found: Field) -> FibKey:
    return FibKey(prefix(found["prefix"]), number(found["metric"], _METRIC_MAX) or 0)
