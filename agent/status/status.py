"""`Status`: one value that answers every question about the agent, and the few facts that several answers share.

Built by whoever connects the rooms, at any moment between two steps of the event loop; it costs nothing, because it
holds live views of planner, drivers and picture. Readers use it at once and keep nothing of it. It calls no driver,
changes nothing, and does not know the time: instants are monotonic seconds, and functions are handed `now`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol

from agent.carrying import AWAITED, waits
from agent.latencies import Latencies
from agent.model import (
    LEARNED_METRIC,
    FibKey,
    FibRoute,
    Interface,
    Key,
    Problem,
    Record,
    WatchState,
    object_of,
)
from agent.plan.leaving import Progress
from agent.plan.model import NodePlan
from agent.plan.refused import by_peer
from bgp.check import Reason, carries, carries_extended_next_hops, session_refusal
from bgp.model import (
    Address,
    Family,
    Held,
    Path,
    Peer,
    PeerState,
    Prefix,
    Route,
    RouteKey,
    SessionState,
    by_number,
    without_zone,
)
from bgp.retry import Failing
from bgp.rib import Rib
from bgp.tally import Tally

SETTLE_SECONDS: Final = 30.0
"""How long a session may take to come up, or to come back: a start waits for peers so long, and nobody misses it."""
DRIFT_KINDS: Final = ("missing", "changed", "unexpected")
VERSIONS: Final = {4: Family.IPV4, 6: Family.IPV6}
LISTING: Final = "LISTING"
"""Phase of an agent that has not carried out any plan: `agent.loop.Phase`."""


class FibFailure(Protocol):
    """What the kernel refused: `agent.kernel.fib.FailingRoute`."""

    @property
    def error(self) -> str: ...
    @property
    def attempts(self) -> int: ...
    @property
    def retry_at(self) -> float: ...


class FibFacts(Protocol):
    """What is read of the driver of the kernel's routes: `agent.kernel.fib.Fib` fits."""

    @property
    def actual(self) -> Mapping[FibKey, FibRoute]: ...
    @property
    def failing(self) -> Mapping[FibKey, FibFailure]: ...
    @property
    def conflicts(self) -> Mapping[FibKey, str]: ...
    @property
    def drift(self) -> Mapping[str, int]: ...
    @property
    def last_drift(self) -> tuple[float, Mapping[str, int]] | None: ...
    @property
    def operations(self) -> Mapping[tuple[str, str], int]: ...
    @property
    def is_read(self) -> bool: ...
    @property
    def read_error(self) -> str | None: ...
    @property
    def read_failures(self) -> int: ...
    @property
    def counts(self) -> Mapping[tuple[int, int], int]: ...
    @property
    def adopted(self) -> Collection[FibKey]: ...
    def holds(self, wanted: FibRoute) -> bool: ...


class ToldFacts(Protocol):
    """What is read of what ExaBGP was told: `bgp.outbox.Outbox` fits."""

    @property
    def failing(self) -> Mapping[RouteKey, Failing]: ...
    @property
    def refusals(self) -> int: ...
    def is_told(self, key: RouteKey) -> bool: ...
    def is_wanted(self, key: RouteKey) -> bool: ...
    def is_settled(self, key: RouteKey) -> bool: ...
    def unsettled(self) -> Iterator[RouteKey]: ...
    def may_hold(self, prefix: Prefix) -> bool: ...
    def told_count(self, peer: Address, family: Family) -> int: ...
    def told_to(self, peer: Address, family: Family) -> Iterable[Route]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What the agent measured of itself since its start."""

    passes: int = 0
    plan_seconds: float = 0.0
    """Sum over all passes."""
    longest_plan_seconds: float = 0.0
    lag_seconds: float = 0.0
    """Worst stall of the event loop lately."""
    longest_lag_seconds: float = 0.0
    longest_own_lag_seconds: float = 0.0
    """Without stalls in which the machine was busy with others."""
    tasks: int = 0
    """Of the event loop, now."""
    speaker_restarts: int = 0
    """How often ExaBGP was started again."""
    audit_corrected: int = 0
    """Entries of ExaBGP's table that were not what we believed."""
    events: Mapping[str, int] = field(default_factory=dict)
    """Kubernetes Events, by what became of them."""
    events_dropped: int = 0
    """What was worth one and over before it could be written."""
    configurations_refused: int = 0
    """How often ExaBGP would not have taken the configuration of the plan."""
    configured_at: float | None = None
    """When ExaBGP last took one."""
    latencies: Latencies = field(default_factory=Latencies)
    tally: Tally = field(default_factory=Tally)
    """Messages of each peer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    node: str
    version: str
    started_at: float
    phase: str
    """Value of `agent.loop.Phase`."""
    picture_complete: bool
    """`World.complete`."""
    plan: NodePlan
    peers: Mapping[Address, PeerState]
    """`Speaker.states`."""
    awaited: tuple[str, ...] = ()
    """`Carrying.awaited`."""
    progress: Progress = Progress.OVER
    """How far this node has come in leaving, if `plan.leave` says that it does."""
    held_by_speaker: Mapping[Address, Held] = field(default_factory=dict)
    """`Speaker.held`: those that the plan wants, and that must have no session for what they have told."""
    wanted_at: Mapping[Address, float] = field(default_factory=dict)
    """`Speaker.wanted_at`."""
    rib: Rib
    outbox: ToldFacts
    fib: FibFacts
    problems: frozenset[Problem]
    """From every room."""
    watches: Iterable[WatchState] = ()
    services: Mapping[Key, Record] = field(default_factory=dict)
    """The Services that exist, to tell "not announced" from "does not exist" and "has no address"."""
    nodes: Mapping[Key, Record] = field(default_factory=dict)
    """The Nodes that exist, to miss no session with one that is known to be away."""
    routers: Mapping[Key, Record] = field(default_factory=dict)
    """The BGPPeers that exist, to tell "not for this node" from "does not exist"."""
    advertisements: Mapping[Key, Record] = field(default_factory=dict)
    """The BGPAdvertisements that exist, for what keeps each of them from announcing something."""
    namespaces: Mapping[Key, Record] = field(default_factory=dict)
    """Their labels say which Services are meant."""
    interfaces: tuple[Interface, ...] = ()
    """Of this node, to tell its own addresses and subnets."""
    own_labels: Mapping[str, str] | None = None
    """Of the own Node; None: there is no such object."""
    changed_at: float | None = None
    """When an object of the picture was last another one than before."""
    speaking_at: float | None = None
    """When the speaker was first handed a plan."""
    pass_began_at: float | None = None
    """When the pass in progress began, None between passes."""
    figures: Figures = Figures()
    dry_run: bool = False

    @property
    def has_picture(self) -> bool:
        """What there is in the cluster is known, and planned for; else `agent.status.picture` says why not."""
        return self.picture_complete and self.phase != LISTING

    def peer_state(self, address: Address) -> PeerState:
        return self.peers.get(address, _NOT_TRIED)

    def is_up(self, address: Address) -> bool:
        return self.peer_state(address).state is SessionState.ESTABLISHED

    def held(self, peer: Peer) -> Held | None:
        """Why there must be no session, whoever says so."""
        return peer.held or self.held_by_speaker.get(peer.address)

    def missed_at(self, peer: Peer) -> float:
        """Since when there has been no session that should be there; of one that is not established only."""
        return max(self.peer_state(peer.address).since, self.wanted_at.get(peer.address, 0.0))

    def families(self, peer: Peer) -> tuple[Family, ...]:
        """Of the session when there is one, else those wanted; IPv4 first."""
        up = self.peer_state(peer.address).up
        return tuple(sorted(peer.families if up is None else up.families))

    def sessions(self) -> list[Peer]:
        """In the order people expect."""
        return sorted(self.plan.peers.values(), key=lambda peer: address_order(peer.address))

    def problems_of(self, peer: Peer) -> list[Problem]:
        """Those that stand with this peer, in stable order."""
        about = {str(peer.address), f"peer {peer.address}", object_of(peer.name)}
        found = (problem for problem in self.problems if problem.subject in about)
        return sorted(found, key=lambda problem: (problem.reason, problem.message))

    def refused_counts(self) -> dict[tuple[Address, Family], int]:
        """How many prefixes of each peer were heard and not admitted."""
        found = by_peer(self.plan.refused_in)
        return {(peer, VERSIONS[version]): count for (peer, version), count in found.items()}

    def sent_count(self, peer: Peer, family: Family) -> int:
        """How many prefixes ExaBGP holds for the peer, as far as there is a session and it carries them."""
        if not self.is_up(peer.address):
            return 0
        up = self.peer_state(peer.address).up
        if up is None or (carries(up, family) and (not peer.extended_next_hop or carries_extended_next_hops(up))):
            return self.outbox.told_count(peer.address, family)
        if not carries(up, family):
            return 0
        return sum(session_refusal(up, route) is None for route in self.outbox.told_to(peer.address, family))

    def needs_next_hops(self, peer: Peer) -> bool:
        """Routes are not sent on the session that there is, because it does not carry IPv6 next hops of IPv4 routes."""
        up = self.peer_state(peer.address).up
        return up is not None and any(
            session_refusal(up, route) is Reason.NEXT_HOP_NOT_NEGOTIATED
            for route in self.outbox.told_to(peer.address, Family.IPV4)
        )

    def picture_age(self, now: float) -> float | None:
        """Seconds since the watch that is worst off gave a sign of life; None before any did."""
        ages = [now - watch.fresh_at for watch in self.watches]
        return max(ages, default=None)

    def heard_age(self, now: float) -> float | None:
        """Seconds since any watch gave a sign of life, be it only a bookmark; None before any did."""
        ages = [now - watch.fresh_at for watch in self.watches]
        return min(ages, default=None)

    def missing_in_kernel(self) -> list[FibKey]:
        """Wanted and not there, for whatever reason."""
        return [key for key in self.plan.fib if key not in self.fib.actual]

    def not_yet_heard(self) -> list[Peer]:
        """Peers that have not sent everything they have (End-of-RIB of each family), and ever can."""
        return [peer for peer in self.plan.peers.values() if self.held(peer) is None and not self._is_synced(peer)]

    def _is_synced(self, peer: Peer) -> bool:
        return self.is_up(peer.address) and set(self.families(peer)) <= self.rib.synced(peer.address)


_NOT_TRIED: Final = PeerState()


def fib_state(status: Status, failing: Mapping[FibKey, FibFailure], key: FibKey) -> tuple[str, str]:
    """State and details of one kernel key; `failing` is `status.fib.failing`, which costs something to make."""
    if (holder := status.fib.conflicts.get(key)) is not None:
        return "conflict", f"held by {holder}"
    if (failure := failing.get(key)) is not None:
        return "failing", failure.error
    if (actual := status.fib.actual.get(key)) is None:
        return "missing", ""
    if key in status.plan.fib and actual.extra:
        return "changed", f"has {actual.extra}, which we never set"
    if key in status.plan.fib:
        return "installed", ""
    return ("leaving", "") if status.has_picture else ("kept", "")


def told_state(status: Status, key: RouteKey) -> tuple[str, str]:
    """How far a route of ours is on its way to one peer, and the reason word that stops it."""
    if (reason := status.plan.refused_out.get(key)) is not None:
        return "refused", reason
    if (failing := status.outbox.failing.get(key)) is not None:
        return "failing", failing.reason
    peer = status.plan.peers.get(key.peer)
    if peer is not None and (held := status.held(peer)) is not None:
        return "held", held.reason
    up, route = status.peer_state(key.peer).up, status.plan.routes.get(key)
    if up is not None and route is not None and (why := session_refusal(up, route)) is not None:
        return "refused", why
    if not status.outbox.is_told(key):
        return "pending", AWAITED if waits(status.plan, status.awaited, key) else ""
    return ("sent", "") if status.is_up(key.peer) else ("held", "")


def installed_gateways(status: Status, prefix: Prefix) -> frozenset[Address]:
    """Next hops of the kernel's route for what was heard of the prefix, without their zones."""
    route = status.fib.actual.get(FibKey(prefix, LEARNED_METRIC))
    return frozenset() if route is None else frozenset(without_zone(hop.gateway) for hop in route.next_hops)


def is_installed(status: Status, prefix: Prefix) -> bool:
    """A path that was heard is chosen for the prefix, and the kernel has it."""
    key = FibKey(prefix, LEARNED_METRIC)
    return key in status.plan.fib and key in status.fib.actual and key not in status.fib.conflicts


def is_chosen(status: Status, path: Path, prefix: Prefix) -> bool:
    """The path is among those that the kernel should have."""
    route = status.plan.fib.get(FibKey(prefix, LEARNED_METRIC))
    return route is not None and any(next_hop.gateway == path.next_hop for next_hop in route.next_hops)


def not_installed_reason(status: Status, failing: Mapping[FibKey, FibFailure], path: Path, prefix: Prefix) -> str:
    """Why an admitted path is not in the kernel, a reason word; empty: it is there. `failing` as for `fib_state`."""
    wanted = FibKey(prefix, LEARNED_METRIC) in status.plan.fib
    if not is_chosen(status, path, prefix):
        return "notBest" if wanted or prefix in status.plan.originated else "notInstalled"
    match fib_state(status, failing, FibKey(prefix, LEARNED_METRIC)):
        case "conflict", _:
            return "kernelConflict"
        case "failing", _ if without_zone(path.next_hop) not in installed_gateways(status, prefix):
            return "kernelRefused"
    return "" if without_zone(path.next_hop) in installed_gateways(status, prefix) else "notInstalled"


def is_kept(status: Status, peer: Address) -> bool:
    """What was heard of the peer is believed although its session is down."""
    return status.rib.is_away(peer) or status.rib.session(peer) is None


def address_order(address: Address) -> tuple[int, int, str]:
    """IPv4 before IPv6, then by number."""
    return by_number(address)


def prefix_order(prefix: Prefix) -> tuple[int, int, int]:
    return prefix.version, int(prefix.network_address), prefix.prefixlen
