"""The plan of a node, kept up to date: the same as `agent.plan.definition.make_plan`, at the cost of what changed.

How data moves: `update` goes through the stages in order: nodes → own → sessions (`roster`), services → routes
(`announcer`), imports (`admission`), what is passed on (`reflection`). Each stage takes the objects that are dirty and
what the stages before it changed, asks the pure functions about these again, and puts the answers into tables that
merge the parts of all objects (`Contributions`) or remember what changed (`Ledger`). A stage whose rare inputs, one
frozen value of `identity.Own`, are others than before is asked about everything.

Invariants: `plan == make_plan(picture)` after every `update` that leaves nothing `unjudged`, and after one that does as
soon as these prefixes have been named dirty; a delta names a key exactly if its value differs from the plan before, but
for what is passed on (`reflection.Changed`). It plans nothing by itself: every decision is in the functions it shares
with `make_plan`.
"""

from __future__ import annotations

from dataclasses import replace

from agent.model import Problem
from agent.plan.admission import JUDGED_AT_ONCE, Inbound
from agent.plan.announcer import Announcements, Outbound
from agent.plan.merge import Contributions
from agent.plan.mesh import Left, names, still_reflecting
from agent.plan.model import NodePlan, PlanDelta
from agent.plan.picture import Dirty, Picture
from agent.plan.reflection import Kept, Reflection, Told
from agent.plan.roster import Introspection, Nodes, Sessions
from agent.plan.selectors import Meant
from agent.plan.steps import Steps, finish

__all__ = ["Dirty", "Picture", "Planner"]
"""What a caller of the planner needs."""


class Planner:
    def __init__(self, *, judged_at_once: int = JUDGED_AT_ONCE) -> None:
        self._problems = Contributions[Problem, None]()
        self._nodes = Nodes(self._problems)
        self._introspection = Introspection(self._nodes, self._problems)
        self._meant = Meant(self._problems)
        self._sessions = Sessions(self._nodes, self._problems)
        self._announcements = Announcements(self._nodes.claims, self._problems)
        self._outbound = Outbound(self._sessions, self._announcements)
        self._inbound = Inbound(self._nodes.claims, self._sessions, self._announcements, at_once=judged_at_once)
        self._reflection = Reflection(self._sessions, self._inbound)
        self._stood = self._introspection.stood
        self._node_name: str | None = None
        self.plan = self._assemble()

    def update(self, picture: Picture, dirty: Dirty) -> PlanDelta:
        """All `steps` in one go."""
        return finish(self.steps(picture, dirty))

    def steps(self, picture: Picture, dirty: Dirty) -> Steps[PlanDelta]:
        """`plan` is that of `picture` from now on; the first time, and for another node, everything is dirty.

        Between two steps `plan` is half made, and `picture` may change: what changes then is dirty at the next update.
        """
        if picture.node_name != self._node_name:
            self._node_name = picture.node_name
            dirty = replace(dirty, everything=True)
        touched = yield from self._nodes.update(picture, dirty)
        yield from self._meant.update(picture.world, dirty.keys, everything=dirty.everything)
        now = self._introspection.update(picture, dirty, touched.nodes)
        held = yield from self._sessions.update(now, touched.nodes)
        left = (self._sessions.mesh[name] for name in self._sessions.left)
        now = replace(now, stood=still_reflecting(now.stood, now.own.identity, left))
        self._stood = now.stood
        changed, known = yield from self._announcements.update(now, touched.prefixes)
        yield from self._outbound.update(now, held, changed)
        yield from self._inbound.update(now, claimed=touched.prefixes, held=held, known=known, originated=changed)
        yield from self._reflection.update(now, held)
        return (yield from self._delta())

    def _delta(self) -> Steps[PlanDelta]:
        peers = yield from self._sessions.peers.take()
        own = yield from self._outbound.take()
        fib = yield from self._inbound.fib.take()
        old, self.plan = self.plan, self._assemble()
        return PlanDelta(
            peers=bool(peers),
            routes=self._reflection.take(own),
            fib=fib,
            unjudged=self._inbound.unjudged,
            problems=old.problems != self.plan.problems,
            secrets=old.secrets != self.plan.secrets,
        )

    def _assemble(self) -> NodePlan:
        """The mappings are the tables themselves."""
        return NodePlan(
            identity=self._introspection.own.identity,
            leave=self._introspection.own.leave,
            standpoint=self._stood,
            peers=self._sessions.peers.values,
            mesh=self._sessions.mesh,
            parting=names(self._sessions.left, Left.SESSION) | self._introspection.own.parting,
            former_clients=names(self._sessions.left, Left.CLIENT),
            written=self._introspection.own.written,
            originated=self._announcements.originated,
            damping=self._introspection.own.damping,
            aggregates=self._announcements.aggregates,
            routes=Told(self._outbound.routes.values, self._reflection),
            refused_out=Kept(self._outbound.refused, self._reflection),
            fib=self._inbound.fib.values,
            refused_in=self._inbound.refused,
            not_advertised=self._announcements.silent,
            problems=frozenset(self._problems.keys()),
            secrets=self._sessions.secrets,
        )
