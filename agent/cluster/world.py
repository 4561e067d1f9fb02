"""The one mutable picture of the cluster: every record as last heard, and how fresh that is.

Changes go in by `apply`, which answers which keys now have another record. What goes in is never questioned here, only
kept: an object whose newest version does not parse keeps its last good record, and its problem stands beside it.
Of an object that never parsed nobody knows what was in force before the agent was started. The defaults are not in the
place of a BGPInstance, which may name another AS, or switch off what they announce and install; nor in that of a
BGPAdvertisement of pod CIDRs, without which all routers are told them. So the picture is not complete as long as one of
these is there and no other BGPInstance selects the own node, or no other BGPAdvertisement is of that type; nor while
the own Node does not parse, which is not as if it were deleted. What comes later changes nothing; and where the one
that is in force goes, or becomes another, while such a one is there, it stays in force: a record like any other, for
whoever reads the picture.

It refuses to plan, to fetch and to forget by itself: only a complete list, or the news that an object is gone, takes a
record away. The own Node's stays even then, marked as gone: who is deleted still has to take leave of its neighbours.
Mappings that it hands out are live views: readers use them between two changes and do not keep them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Final, assert_never

from agent.advertising import Advertisement, AdvertisementType
from agent.intent import Instance
from agent.model import (
    ALWAYS_WATCHED,
    Applied,
    ClusterChange,
    DaemonSet,
    EndpointSlice,
    Gone,
    Key,
    Kind,
    Listed,
    Malformed,
    Node,
    Problem,
    Record,
    Secret,
    UnreadPodCidrs,
    WatchState,
)

_NO_SLICES: Final[Mapping[Key, EndpointSlice]] = MappingProxyType({})
_NOTHING: Final[frozenset[Key]] = frozenset()
_DECIDING: Final = {Kind.INSTANCE: "what this node is", Kind.ADVERTISEMENT: "who is told pod CIDRs"}
"""Kinds in the place of which there are defaults, and what they say."""


class World:
    def __init__(self, own_node: str = "") -> None:
        self._own = Key(Kind.NODE, "", own_node)
        self.own_node_gone = False
        """It was there and is deleted; its record is how it was last."""
        self.daemon_set_seen = False
        """The agent's DaemonSet was there once."""
        self._records: dict[Kind, dict[Key, Record]] = {kind: {} for kind in Kind}
        self._malformed: dict[Kind, dict[Key, Problem]] = {kind: {} for kind in Kind}
        self._watches: dict[tuple[Kind, Key | None], WatchState] = {}
        self._slices: dict[tuple[str, str], dict[Key, EndpointSlice]] = {}
        self._unlisted = set(ALWAYS_WATCHED)
        self._complete = False
        self._put_off: dict[Key, Record | None] = {}
        """What has become of objects that stay in force as they were (None: gone), since another one is unread."""

    # Reading.

    @property
    def complete(self) -> bool:
        """Every kind that is always watched has been listed once, and what the own node is was known.

        Before, nothing may be taken away anywhere.
        """
        return self._complete

    def records(self, kind: Kind) -> Mapping[Key, Record]:
        return MappingProxyType(self._records[kind])

    def get(self, key: Key) -> Record | None:
        return self._records[key.kind].get(key)

    def slices_of(self, namespace: str, service: str) -> Mapping[Key, EndpointSlice]:
        """EndpointSlices that belong to the service, at a cost that does not grow with the cluster."""
        found = self._slices.get((namespace, service))
        return _NO_SLICES if found is None else MappingProxyType(found)

    @property
    def uninstalled(self) -> bool:
        """The agent's DaemonSet was there, and is deleted or about to be. One that never was there says nothing: its
        name may be wrong.
        """
        return self.daemon_set_seen and any(
            isinstance(record, DaemonSet) and (record.deleting or not record.found)
            for record in self._records[Kind.DAEMON_SET].values()
        )

    def secrets_known(self, names: frozenset[str]) -> bool:
        """Of each of these Secrets something is known, be it that it does not exist."""
        return names <= {key.name for key in self._records[Kind.SECRET]}

    @property
    def unread(self) -> Mapping[Key, Problem]:
        """Objects whose newest version does not parse."""
        return {key: it for problems in self._malformed.values() for key, it in problems.items()}

    @property
    def problems(self) -> frozenset[Problem]:
        """Objects that do not parse, with what holds instead, and watches that do not work."""
        malformed = (
            self._with_effect(key, it) for problems in self._malformed.values() for key, it in problems.items()
        )
        broken = (watch.problem for watch in self._watches.values() if watch.problem is not None)
        return frozenset((*malformed, *broken, *self._daemon_set_never_seen()))

    def _daemon_set_never_seen(self) -> tuple[Problem, ...]:
        return tuple(
            Problem(
                "daemonSetNotFound",
                str(key),
                "does not exist, so nobody will know when the agent is uninstalled: it will leave its routes behind",
                "Say by --daemonset (BGPILOT_DAEMONSET) what the DaemonSet of this agent is called, or do without "
                "--cleanup-on-uninstall.",
            )
            for key in self._records[Kind.DAEMON_SET]
            if not self.daemon_set_seen
        )

    def _with_effect(self, key: Key, problem: Problem) -> Problem:
        good = self._records[key.kind].get(key)
        kept = good is not None and not (isinstance(good, Secret) and not good.found)
        effect = "the object's last readable version stays in force" if kept else "the whole object is not used"
        what = _DECIDING.get(key.kind, "what this node is")
        if not self._complete and key in self._unread_about_us():
            effect = f"the object says {what}: until it can be read or is gone, nothing here is changed"
        elif not kept and (put_off := sorted(str(it) for it in self._put_off if it.kind is key.kind)):
            names = ", ".join(put_off)
            effect = f"the object says {what}: until it can be read or is gone, {names} stays in force as it was"
        return replace(problem, message=f"{problem.message}: {effect}")

    @property
    def watches(self) -> Mapping[tuple[Kind, Key | None], WatchState]:
        """By kind, or by kind and Secret."""
        return MappingProxyType(self._watches)

    @property
    def oldest_fresh_at(self) -> float | None:
        """When the watch that was silent longest gave its last sign of life (monotonic); None before any did."""
        return min((watch.fresh_at for watch in self._watches.values()), default=None)

    # Changing.

    def apply(self, change: ClusterChange) -> frozenset[Key]:
        """Take the change in. Returns the keys whose record is now another one, or new, or gone."""
        kind = change.kind if isinstance(change, Listed | WatchState) else change.key.kind
        if self._complete and kind in _DECIDING and not isinstance(change, WatchState):
            return self._decide(kind, change)
        changed = self._apply(change)
        if self._own in changed and self._put_off:  # another one may be for it now
            changed |= self._decide(Kind.INSTANCE, None)
        if not self._complete and not self._unlisted:
            self._complete = not self._unread_about_us()
        return changed

    def _decide(self, kind: Kind, change: ClusterChange | None) -> frozenset[Key]:
        """Take in a change of what there are defaults for; they come into force in the place of nothing unread."""
        records = self._records[kind]
        in_force, guessed = dict(records), bool(self._unread(kind))
        for key in [key for key in self._put_off if key.kind is kind]:
            self._remove(key) if (late := self._put_off.pop(key)) is None else self._set(key, late)
        if change is not None:
            self._apply(change)
        if not guessed and self._unread(kind):
            for key, record in in_force.items():
                if self._decides(record) and records.get(key) != record:
                    self._put_off[key] = records.get(key)
                    records[key] = record
        return frozenset(key for key in in_force.keys() | records.keys() if in_force.get(key) != records.get(key))

    def _unread_about_us(self) -> frozenset[Key]:
        """What never parsed and says what the own node is, or whom its pods are announced to."""
        if self._own in self._malformed[Kind.NODE] and self._own not in self._records[Kind.NODE]:
            return frozenset((self._own,))
        return _NOTHING.union(*map(self._unread, _DECIDING))

    def _unread(self, kind: Kind) -> frozenset[Key]:
        """Objects of a deciding kind that never parsed, if no other one decides: BGPInstances that may be for the own
        node, BGPAdvertisements of pod CIDRs.
        """
        known = self._records[kind]
        if any(map(self._decides, known.values())):
            return _NOTHING
        unread = self._malformed[kind].items()
        of_kind = (key for key, it in unread if kind is Kind.INSTANCE or isinstance(it, UnreadPodCidrs))
        return frozenset(of_kind) - known.keys()

    def _decides(self, record: Record) -> bool:
        """No default is in its place."""
        if isinstance(record, Instance):
            own = self._records[Kind.NODE].get(self._own)
            return record.node_selector.matches(dict(own.labels) if isinstance(own, Node) else {})
        return isinstance(record, Advertisement) and record.type is AdvertisementType.POD_CIDR

    def _apply(self, change: ClusterChange) -> frozenset[Key]:
        match change:
            case Listed():
                return self._replace(change)
            case Applied(key=key, record=record):
                self._malformed[key.kind].pop(key, None)
                return self._set(key, record)
            case Gone(key=key):
                self._malformed[key.kind].pop(key, None)
                if key.kind is Kind.SECRET:  # a Secret that is deleted stays, as not found: this one is not needed now
                    self._watches.pop((key.kind, key), None)
                return self._remove(key)
            case Malformed(key=key, problem=problem):
                self._malformed[key.kind][key] = problem
                return _NOTHING
            case WatchState():
                self._watches[change.kind, change.only] = change
                return _NOTHING
            case _:
                assert_never(change)

    def _replace(self, listed: Listed) -> frozenset[Key]:
        records, malformed = self._records[listed.kind], self._malformed[listed.kind]
        covered = records.keys() | malformed.keys() if listed.only is None else {listed.only}
        changed: set[Key] = set()
        for key in covered - listed.records.keys() - listed.malformed.keys():
            changed |= self._remove(key)
        for key, record in listed.records.items():
            changed |= self._set(key, record)
        for key in covered - listed.malformed.keys():
            malformed.pop(key, None)
        malformed.update(listed.malformed)
        if listed.only is None:
            self._unlisted.discard(listed.kind)
        return frozenset(changed)

    def _set(self, key: Key, record: Record) -> frozenset[Key]:
        records = self._records[key.kind]
        before = records.get(key)
        back = key == self._own and self.own_node_gone
        if back:
            self.own_node_gone = False
        if isinstance(record, DaemonSet):
            self.daemon_set_seen = self.daemon_set_seen or record.found
        if before is record or before == record:
            return frozenset((key,)) if back else _NOTHING
        records[key] = record
        if isinstance(before, EndpointSlice):
            self._unindex(key, before)
        if isinstance(record, EndpointSlice) and record.service:
            self._slices.setdefault((record.namespace, record.service), {})[key] = record
        return frozenset((key,))

    def _remove(self, key: Key) -> frozenset[Key]:
        if key == self._own and key in self._records[key.kind]:
            changed, self.own_node_gone = not self.own_node_gone, True
            return frozenset((key,)) if changed else _NOTHING
        before = self._records[key.kind].pop(key, None)
        if before is None:
            return _NOTHING
        if isinstance(before, EndpointSlice):
            self._unindex(key, before)
        return frozenset((key,))

    def _unindex(self, key: Key, record: EndpointSlice) -> None:
        place = (record.namespace, record.service)
        if (slices := self._slices.get(place)) is not None:
            slices.pop(key, None)
            if not slices:
                del self._slices[place]
