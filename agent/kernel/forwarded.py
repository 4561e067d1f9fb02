"""The routing table that the driver sees: `KernelRoutes`, and the rules that the discards for forwarded packets need.

Which rules there must be follows from which of these discards are in the kernel, so nobody asks for a rule: they come
before the first discard that needs them, are looked at with each dump, and go after the last. A discard without its
rules is found INCOMPLETE, and writing it again puts the rules in place. So is one at whose rules' preferences there is
another with our number, which is removed then.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace

from agent.kernel.netlink import FORWARDED
from agent.kernel.routes import DEFAULT_PROTOCOL, KernelRoutes
from agent.kernel.rules import HeardRule, Length, Rule, length_of, rules_for
from agent.kernel.rulesocket import RuleSocket
from agent.kernel.table import Dump, Holder, KernelError, RouteChange
from agent.model import DISCARD_METRIC, FibKey, FibRoute, RouteType
from bgp.model import Prefix


class RoutesAndRules:
    """A `RouteTable`: table main, and what is discarded of forwarded packets."""

    def __init__(self, *, protocol: int = DEFAULT_PROTOCOL) -> None:
        self._routes = KernelRoutes(protocol=protocol)
        self._socket = RuleSocket(protocol=protocol)
        self._discards: dict[Prefix, RouteType] = {}
        self._lengths = Counter[Length]()
        """How many of `_discards` are as long, where there are any."""
        self._rules: frozenset[Rule] = frozenset()
        """Ours that are there."""
        self._spoiling: tuple[HeardRule, ...] = ()
        """Rules with our number and one of our two preferences that we would never write."""

    async def start(self, on_drift: Callable[[], None]) -> None:
        """As `KernelRoutes.start`."""
        self._on_drift = on_drift
        port = self._socket.open()
        try:
            await self._routes.start(on_drift, also_ours=(port,))
        except OSError:
            self._socket.close()
            raise

    async def stop(self) -> None:
        await self._routes.stop()
        self._socket.close()

    @property
    def rules(self) -> frozenset[Rule]:
        """Ours, as of the last dump or write."""
        return self._rules

    def concern(self, concerns: Callable[[FibKey], bool]) -> None:
        self._routes.concern(concerns)

    async def holders(self, keys: Collection[FibKey]) -> Mapping[FibKey, Holder]:
        return await self._routes.holders(keys)

    async def dump(self) -> Dump:
        dump = await self._routes.dump()
        self._rules, odd = await self._socket.read()
        discards = [route for key, route in dump.routes.items() if key.metric == DISCARD_METRIC and _is_discard(route)]
        self._discards = {route.prefix: route.type for route in discards}
        self._lengths = Counter(map(length_of, self._discards))
        needed = rules_for(self._lengths)
        self._spoiling = tuple(one for one in odd if one.in_place_of_ours)
        spoiled = {one.version for one in self._spoiling} & {rule.version for rule in needed}
        problems = self._socket.problems(one for one in odd if not (one.in_place_of_ours and one.version in spoiled))
        without = spoiled | {rule.version for rule in needed - self._rules}
        incomplete = [
            replace(route, type=RouteType.INCOMPLETE) for route in discards if route.prefix.version in without
        ]
        routes = {**dump.routes, **{route.key: route for route in incomplete}} if incomplete else dump.routes
        return replace(dump, routes=routes, foreign=(*dump.foreign, *problems))

    async def write(self, changes: Sequence[RouteChange]) -> Mapping[FibKey, KernelError]:
        discards = [change for change in changes if change.key.metric == DISCARD_METRIC]
        if not discards and self._rules == rules_for(self._lengths):
            return await self._routes.write(changes)  # nearly always, and of a table many at once
        wanted = {change.key for change in discards if _is_discard(change.new)}
        refused = dict(await self._remove_spoiling({key.prefix.version for key in wanted}))
        refused |= await self._add_rules(rules_for({*self._lengths, *(length_of(key.prefix) for key in wanted)}))
        failed = {key: refused[key.prefix.version] for key in wanted if key.prefix.version in refused}
        on_routes = [self._on_routes(change) for change in changes if change.key not in failed]
        failed |= await self._routes.write([change for change in on_routes if change is not None])
        for change in discards:
            if change.key not in failed:
                self._note(change.key.prefix, change.new)
        await self._leave(rules_for(self._lengths))
        return failed

    def _on_routes(self, change: RouteChange) -> RouteChange | None:
        """An incomplete discard is there, as a route."""
        old, new = change
        if old is None or old.type is not RouteType.INCOMPLETE:
            return change
        old = replace(old, type=self._discards[old.prefix])
        return None if new == old else RouteChange(old, new)

    def _note(self, prefix: Prefix, route: FibRoute | None) -> None:
        length = length_of(prefix)
        if self._discards.pop(prefix, None) is not None:
            self._lengths[length] -= 1
        if route is not None and _is_discard(route):
            self._discards[prefix] = route.type
            self._lengths[length] += 1
        if not self._lengths[length]:
            del self._lengths[length]

    async def _remove_spoiling(self, versions: Collection[int]) -> Mapping[int, KernelError]:
        """Why not, by IP version. Ours beside them are asked for again: the kernel compares not all there is to a rule
        when it looks for the one to delete.
        """
        refused: dict[int, KernelError] = {}
        for one in [one for one in self._spoiling if one.version in versions]:
            error = await self._socket.delete_heard(one)
            if error is not None:
                refused[one.version] = error
                continue
            self._spoiling = tuple(other for other in self._spoiling if other is not one)
            self._rules = frozenset(rule for rule in self._rules if rule.version != one.version)
            self._on_drift()  # look whether it was that one
        return refused

    async def _add_rules(self, wanted: frozenset[Rule]) -> Mapping[int, KernelError]:
        """Why not, by IP version. First those that let routes of main win."""
        refused: dict[int, KernelError] = {}
        for rule in sorted(wanted - self._rules, key=lambda rule: rule.preference):
            if rule.version in refused:
                continue
            error = await self._socket.add(rule)
            if error is None:
                self._rules |= {rule}
            else:
                refused[rule.version] = error
        return refused

    async def _leave(self, wanted: frozenset[Rule]) -> None:
        """These alone. What goes wrong here does no harm (more routes of main win than should), and the next write
        tries again.
        """
        refused = await self._add_rules(wanted)
        for rule in sorted(self._rules - wanted, key=lambda rule: -rule.preference):
            if rule.version not in refused and await self._socket.delete(rule) is None:
                self._rules -= {rule}


def _is_discard(route: FibRoute | None) -> bool:
    return route is not None and route.type in FORWARDED
