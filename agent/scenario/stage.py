"""A scenario happens: its events go into a World and a Rib, and what is planned of them is told."""

from __future__ import annotations

from collections.abc import Iterable

from agent.cluster.world import World
from agent.model import Key
from agent.plan.model import NodePlan
from agent.plan.picture import Dirty, Picture
from agent.plan.printer import describe
from agent.scenario.form import Event, Scenario
from bgp.model import Prefix
from bgp.rib import Rib


class Stage:
    """World, Rib and interfaces of a scenario while its events arrive, and what is dirty."""

    def __init__(self, scenario: Scenario) -> None:
        self._scenario = scenario
        self.world, self.rib = World(), Rib()

    @property
    def picture(self) -> Picture:
        known = self._scenario
        return Picture(
            known.node,
            self.world,
            self.rib,
            known.interfaces,
            known.gateways,
            small=known.small,
            mesh=known.mesh,
            identity=known.identity,
            written=known.written_before,
            departure=known.departure,
        )

    def play(self, events: Iterable[Event]) -> Dirty:
        keys, prefixes = frozenset[Key](), frozenset[Prefix]()
        for event in events:
            if isinstance(event, tuple):
                for said in event:
                    prefixes |= frozenset(self.rib.apply(said, 0.0))
            else:
                keys |= self.world.apply(event)
        return Dirty(keys=keys, prefixes=prefixes)

    def tell(self, plan: NodePlan) -> str:
        """The plan, and objects that could not be read."""
        problems = sorted(self.world.problems, key=lambda problem: (problem.subject, problem.message))
        lines = [f"  {found.reason} ({found.subject}): {found.message}. {found.fix}" for found in problems]
        return describe(plan) + "\n".join(["not read:", *lines, ""] if lines else [])
