"""A routing table in memory that fulfils the driver's contract, with faults on order and the hand of an operator.

It passes the same contract tests as the real kernel (`tests.lab.realkernel` has the same methods). It knows IPv4 and
IPv6 unicast and discard routes of table main, and those for forwarded packets with their rules; it does not route, and
knows next hops only by the subnets of one link.
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_interface, ip_network

from agent.kernel.netlink import DISCARD_TABLE, FORWARDED
from agent.kernel.rules import Rule, length_of, rules_for
from agent.kernel.table import WRITTEN_METRICS, Dump, DumpFailedError, Holder, KernelError, RouteChange, fulfils
from agent.model import (
    DISCARD_METRIC,
    FibKey,
    FibRoute,
    NextHop,
    Problem,
    RouteType,
)
from bgp.model import Prefix
from tests.lab.realkernel import PROTOCOL, SUBNETS, Seen

APART = {*FORWARDED, RouteType.INCOMPLETE}
EXTRAS = ("mtu", "src")
NAMES = {"static": "protocol 4 (static)", "boot": "protocol 3 (boot)"}


@dataclass(frozen=True)
class Entry:
    protocol: str
    route: FibRoute
    type: str = ""
    """Set for types that we never write."""


@dataclass
class FakeKernel:
    refuse: dict[FibKey, KernelError] = field(default_factory=dict)
    """Keys for which all changes are refused, and how."""
    failing_dumps: int = 0
    """So many of the next dumps fail, as by interruption."""
    slow_turns: int = 0
    """Turns of the event loop that each write and dump takes."""
    writes: list[RouteChange] = field(default_factory=list)
    """All changes asked for, in order."""
    dumps: list[int] = field(default_factory=list)
    """For each dump, how many changes had been asked for before it."""

    def __post_init__(self) -> None:
        self.table = self
        self._entries: dict[FibKey, list[Entry]] = {}
        self._elsewhere: list[Problem] = []
        self._apart: dict[Prefix, RouteType] = {}
        self._rules: list[tuple[int, str]] = []
        """IP version, and the rule as iproute2 prints it."""
        self._subnets = {subnet: ip_interface(subnet).network for subnet in SUBNETS}
        self._up = True
        self._events = 0
        self._busy = False
        self._concerns: Callable[[FibKey], bool] = lambda _key: True

    # What the driver sees.

    async def start(self, on_drift: Callable[[], None]) -> None:
        self._on_drift = on_drift

    async def stop(self) -> None:
        self._on_drift = lambda: None

    def concern(self, concerns: Callable[[FibKey], bool]) -> None:
        self._concerns = concerns

    async def dump(self) -> Dump:
        self.dumps.append(len(self.writes))
        await self._take_time()
        if self.failing_dumps:
            self.failing_dumps -= 1
            raise DumpFailedError("reading the IPv4 routes: changed by others each of 5 times")
        ours: dict[FibKey, FibRoute] = {}
        foreign, odd = list(self._elsewhere), {}
        for key, entries in self._entries.items():
            for entry in entries:
                if entry.protocol != str(PROTOCOL):
                    continue
                usual = [other for other in entries if other.protocol == entry.protocol and not other.type]
                if entry.type and key.metric in WRITTEN_METRICS and not usual:
                    odd[key] = _problem(str(key.prefix))
                elif entry.type or key.metric not in WRITTEN_METRICS or key in ours:
                    foreign.append(_problem(str(key.prefix)))
                else:
                    ours[key] = entry.route
        for prefix, kind in self._apart.items():
            whole = not self._spoiling({prefix.version}) and all(
                _printed(rule) in self._rules for rule in self._rules_needed() if rule.version == prefix.version
            )
            found = FibRoute(prefix, type=kind if whole else RouteType.INCOMPLETE, metric=DISCARD_METRIC)
            ours.setdefault(FibKey(prefix, DISCARD_METRIC), found)
        spoiling = self._spoiling({prefix.version for prefix in self._apart})
        alone = [rule for rule in self._odd_rules() if rule not in spoiling]
        return Dump(ours, (*foreign, *map(_rule_problem, alone)), odd)

    async def holders(self, keys: Collection[FibKey]) -> Mapping[FibKey, Holder]:
        await self._take_time()
        return {key: _holder(self._entries[key][0]) for key in keys if self._entries.get(key)}

    async def write(self, changes: Sequence[RouteChange]) -> Mapping[FibKey, KernelError]:
        await self._take_time()
        failed: dict[FibKey, KernelError] = {}
        for change in changes:
            self.writes.append(change)
            error = self.refuse.get(change.key)
            if error is None:
                error = self._change(change)
            if error is not None:
                failed[change.key] = error
        self._settle_rules()
        return failed

    def _change(self, change: RouteChange) -> KernelError | None:
        """The discards for forwarded packets are in another table, so that others are never in their way."""
        apart = {route.type in APART for route in change if route is not None}
        if True not in apart:
            return self._delete(change.key) if change.new is None else self._put(change, change.new)
        error = None
        if False in apart and change.new is not None:
            made = RouteChange(None, change.new) if change.new.type not in APART else RouteChange(change.old, None)
            error = self._delete(change.key) if made.new is None else self._put(made, made.new)
        before = self._apart.pop(change.key.prefix, None)
        after = change.new.type if change.new is not None and change.new.type in APART else None
        if after is not None:
            self._apart[change.key.prefix] = after
        self._events += before is not after
        return error

    def _rules_needed(self) -> frozenset[Rule]:
        return rules_for(map(length_of, self._apart))

    def _settle_rules(self) -> None:
        needed = {_printed(rule) for rule in self._rules_needed()}
        odd = [rule for rule in self._odd_rules() if rule not in self._spoiling({version for version, _ in needed})]
        kept = [rule for rule in self._rules if rule in (*needed, *odd) or not rule[1].endswith(f"proto {PROTOCOL}")]
        added = [rule for rule in sorted(needed) if rule not in kept]
        self._events += len(self._rules) - len(kept) + len(added)
        self._rules = [*kept, *added]

    def _odd_rules(self) -> list[tuple[int, str]]:
        """With our number, and none that we would write."""
        return [rule for rule in self._rules if rule[1].endswith(f" {PROTOCOL}") and "iif lo" not in rule[1]]

    def _spoiling(self, versions: set[int]) -> list[tuple[int, str]]:
        """Those of them that are in the place of ours."""
        return [rule for rule in self._odd_rules() if rule[0] in versions and rule[1].startswith(("32764:", "32765:"))]

    def _put(self, change: RouteChange, new: FibRoute) -> KernelError | None:
        if any(not self._reachable(hop) for hop in new.next_hops):
            return KernelError(errno.ENETUNREACH, "Nexthop has invalid gateway")
        entries = self._entries.setdefault(change.key, [])
        over_odd = change.old is not None and change.old.type is RouteType.ODD
        ours = [entry for entry in entries if entry.protocol == str(PROTOCOL) and bool(entry.type) is over_odd]
        others = [entry for entry in entries if entry not in ours]
        if change.old is None and entries:
            return KernelError(errno.EEXIST, "File exists")
        if change.old is not None and others:
            self._entries[change.key] = entries if over_odd else others
            return KernelError(errno.EEXIST, "File exists")
        if change.old is not None and not ours:
            return KernelError(errno.ENOENT, "No such file or directory")
        if ours and fulfils(new, ours[0].route) and fulfils(ours[0].route, new):
            return None
        self._events += 1
        self._entries[change.key] = [Entry(str(PROTOCOL), new)]
        return None

    def _delete(self, key: FibKey) -> None:
        entries = self._entries.get(key, [])
        left = [entry for entry in entries if entry.protocol != str(PROTOCOL) or entry.type]
        self._events += len(entries) - len(left)
        self._entries[key] = left

    async def _take_time(self) -> None:
        assert not self._busy, "the table was asked while it was being asked"
        self._busy = True
        for _ in range(self.slow_turns):
            await asyncio.sleep(0)
        self._busy = False

    def _reachable(self, hop: NextHop) -> bool:
        return self._up and any(hop.gateway in subnet for subnet in self._subnets.values())

    # What an operator does.

    def close(self) -> None:
        self._entries.clear()

    def rule(self, what: str, *, version: int = 4) -> None:
        """The forms of `ip rule` that the tests use: `add pref N WHAT protocol P`, `del pref N`."""
        verb, _, preference, *words = what.split()
        protocol = words[words.index("protocol") + 1] if "protocol" in words else None
        line = f"{preference}: {' '.join(words)}".replace("not iif", "not from all iif").replace("protocol", "proto")
        found = [it for it in self._rules if it[0] == version and it[1].startswith(f"{preference}:")]
        if verb == "add":
            self._rules.append((version, line))
        else:
            self._rules.remove(found[0])
            protocol = found[0][1].split()[-1]
        self._events += 1
        if protocol == str(PROTOCOL):
            self._on_drift()

    def rules(self, *, version: int = 4) -> list[str]:
        return sorted((line for which, line in self._rules if which == version), key=lambda line: line.split(":")[0])

    def discards(self) -> set[str]:
        said = {RouteType.BLACKHOLE_FORWARDED: "blackhole "}
        return {f"{said.get(kind, '')}{prefix}" for prefix, kind in self._apart.items()}

    def route(self, what: str, *, version: int = 4) -> None:
        """The few forms of `ip route` that the tests use: VERB [TYPE] PREFIX [via [inet6] GATEWAY] [WORD VALUE]..."""
        verb, *words = (word for word in what.split() if word != "inet6")
        kind = words.pop(0) if words[0] in ("unreachable", "blackhole", "prohibit") else "unicast"
        prefix = ip_network(words.pop(0))
        assert prefix.version == version
        options = dict(zip(words[::2], words[1::2], strict=True))
        protocol = options.get("proto", "boot")
        if options.get("table", "main") != "main":
            self._elsewhere.append(_problem(str(prefix)))
            self._heard(FibKey(prefix, 0), protocol, ours_only=True)
            return
        key = FibKey(prefix, int(options.get("metric", "0")))
        hops = (NextHop(ip_address(options["via"])),) if "via" in options else ()
        odd = kind == "prohibit" or "dev" in options
        extra = " ".join(f"{word} {value}" for word, value in options.items() if word in EXTRAS)
        entry = Entry(
            protocol, FibRoute(prefix, hops, RouteType.UNICAST if odd else RouteType(kind), key.metric, extra)
        )
        if odd:
            entry = Entry(protocol, entry.route, kind)
        self._operate(verb, key, entry)
        self._heard(key, protocol, ours_only=False)

    def _operate(self, verb: str, key: FibKey, entry: Entry) -> None:
        entries = self._entries.setdefault(key, [])
        match verb:
            case "add":
                assert not entries
                entries.append(entry)
            case "append":
                entries.append(entry)
            case "prepend":
                entries.insert(0, entry)
            case "replace":
                entries[:1] = [entry]
            case "del":
                mine = [there for there in entries if there.protocol == entry.protocol]
                entries.remove(mine[0])
            case _:
                raise ValueError(verb)
        self._events += 1

    def flush(self, *, protocol: int = PROTOCOL) -> None:
        for key, entries in self._entries.items():
            self._entries[key] = [entry for entry in entries if entry.protocol != str(protocol)]
        if protocol == PROTOCOL:
            self._apart.clear()
        self._on_drift()

    def link(self, *, up: bool) -> None:
        self._up = up
        self._lose()
        self._on_drift()

    def address(self, subnet: str, *, present: bool) -> None:
        if present:
            self._subnets[subnet] = ip_interface(subnet).network
        else:
            del self._subnets[subnet]
        self._lose()
        self._on_drift()

    def lose(self, prefix: str) -> None:
        """Our route goes and nobody is told."""
        for key in self._entries:
            if key.prefix == ip_network(prefix):
                self._entries[key] = []

    def seen(self, *, protocol: str | None = str(PROTOCOL)) -> set[Seen]:
        return {
            Seen(
                str(key.prefix),
                entry.protocol,
                tuple(sorted(str(hop.gateway) for hop in entry.route.next_hops)),
                entry.type or entry.route.type.value,
                key.metric,
                entry.route.extra,
            )
            for key, entries in self._entries.items()
            for entry in entries
            if protocol in (None, entry.protocol)
        }

    def events(self) -> int:
        count, self._events = self._events, 0
        return count

    def _lose(self) -> None:
        """As the kernel does: with the link, or with the last address of the family on it, and not before."""
        alive = {subnet.version for subnet in self._subnets.values()} if self._up else set()
        for key, entries in self._entries.items():
            if key.prefix.version not in alive:
                self._entries[key] = [entry for entry in entries if not entry.route.next_hops]

    def _heard(self, key: FibKey, protocol: str, *, ours_only: bool) -> None:
        if protocol == str(PROTOCOL) or (not ours_only and self._concerns(key)):
            self._on_drift()


def _printed(rule: Rule) -> tuple[int, str]:
    where = f"{DISCARD_TABLE}" if rule.suppressed is None else f"main suppress_prefixlength {rule.suppressed}"
    return rule.version, f"{rule.preference}: not from all iif lo lookup {where} proto {PROTOCOL}"


def _problem(prefix: str) -> Problem:
    return Problem("foreignShapedRoute", f"Route {prefix}", "carries our protocol number, but is not ours")


def _rule_problem(rule: tuple[int, str]) -> Problem:
    return Problem("foreignShapedRule", f"Rule {rule[1].split(':')[0]}", "carries our protocol number, but is not ours")


def _holder(entry: Entry) -> Holder:
    if entry.protocol != str(PROTOCOL):
        return Holder(NAMES[entry.protocol])
    if entry.type:
        return Holder(f"protocol {PROTOCOL} (our number, but type {entry.type})")
    return Holder(f"protocol {PROTOCOL} (ours)", entry.route)
