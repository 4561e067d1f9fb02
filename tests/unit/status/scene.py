"""A small node in the middle of its work, made of real tables: what the tests of status and CLI look at."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network

from agent.advertising import TO_ALL_PEERS
from agent.intent import PodRoutes
from agent.model import (
    ALWAYS_WATCHED,
    DISCARD_METRIC,
    FibKey,
    FibRoute,
    Key,
    Kind,
    NextHop,
    Problem,
    RouteType,
    Service,
    WatchState,
)
from agent.plan.model import Identity, NodePlan, Origination
from agent.plan.topology import Standpoint
from agent.status.status import Figures, Status
from bgp.model import (
    Attributes,
    Community,
    Direction,
    EndOfRib,
    Family,
    Path,
    PathsHeard,
    Peer,
    PeerState,
    Route,
    RouteKey,
    SessionError,
    SessionState,
    SessionUp,
)
from bgp.outbox import Outbox
from bgp.rib import Rib

NOW = 10_000.0
US, MATE, TOR, TOR6 = map(ip_address, ("192.0.2.1", "192.0.2.2", "192.0.2.254", "2001:db8::fe"))
OWN_PODS, MATE_PODS, VIP, STRAY = map(
    ip_network, ("10.244.1.0/24", "10.244.2.0/24", "198.51.100.7/32", "203.0.113.0/24")
)
WEB = Key(Kind.SERVICE, "default", "web")


@dataclass
class Failure:
    error: str
    attempts: int = 1
    retry_at: float = NOW + 1


@dataclass
class KernelTable:
    actual: dict = field(default_factory=dict)
    failing: dict = field(default_factory=dict)
    conflicts: dict = field(default_factory=dict)
    drift: Counter = field(default_factory=Counter)
    last_drift: tuple | None = None
    operations: Counter = field(default_factory=Counter)
    is_read: bool = True
    read_error: str | None = None
    read_failures: int = 0
    adopted: frozenset = frozenset()

    @property
    def counts(self):
        return Counter((key.prefix.version, 254) for key in self.actual)

    def holds(self, wanted):
        return self.actual.get(wanted.key) == wanted


def peer(address, name, asn, *, families=frozenset({Family.IPV4}), mesh=False):
    return Peer(
        address=address,
        name=name,
        local_address=US,
        local_asn=64512,
        peer_asn=asn,
        router_id=US,
        families=families,
        mesh=mesh,
    )


class Scene:
    """One mesh peer and one router are up, a second router never was; pods and a VIP are announced."""

    def __init__(self):
        self.peers = {
            TOR6: peer(TOR6, "BGPPeer/tor-b", 65001, families=frozenset(Family)),
            TOR: peer(TOR, "BGPPeer/tor-a", 65000),
            MATE: peer(MATE, "node/worker-2", 64512, mesh=True),
        }
        self.identity = Identity(
            node="worker-1",
            instance="",
            asn=64512,
            router_id=US,
            router_id_source="InternalIP",
            addresses=(US,),
            pod_cidrs=(OWN_PODS,),
            pod_routes=PodRoutes.BGP,
        )
        self.originated = {
            OWN_PODS: Origination(OWN_PODS, ("Node worker-1",), to_mesh=True, to_peers=frozenset({TO_ALL_PEERS})),
            VIP: Origination(VIP, ("Service default/web (ExternalIP)",), to_peers=frozenset({TO_ALL_PEERS})),
        }
        self.routes, self.refused_out, self.refused_in, self.not_advertised = {}, {}, {}, {}
        self.fib, self.kernel = {}, KernelTable()
        self.problems = set()
        self.standpoint = Standpoint()
        self.parting = frozenset()
        self.services = {WEB: Service(namespace="default", name="web")}
        self.rib, self.outbox = Rib(), Outbox()
        self.states = {TOR6: self.down_state()}
        self.watches = [WatchState(Kind.NODE, healthy=True, fresh_at=NOW - 4, restarts=(("streamEnded", 3),))]
        self.fields = {"phase": "IN_SYNC", "picture_complete": True, "speaking_at": NOW - 100}
        for address in (MATE, TOR):
            self.session_up(address)
        self.announce(MATE, OWN_PODS)
        self.announce(TOR, OWN_PODS, as_path=(64512,))
        self.announce(TOR, VIP, as_path=(64512,), communities=frozenset({Community(64512, 7)}))
        self.want_in_kernel(FibRoute(OWN_PODS, type=RouteType.UNREACHABLE, metric=DISCARD_METRIC))
        self.want_in_kernel(FibRoute(MATE_PODS, (NextHop(MATE),)))
        self.hear(MATE, MATE_PODS)
        self.hear(TOR, STRAY, as_path=(65000, frozenset({2, 1})), reason="importNotAllowed")

    def down_state(self):
        error = SessionError(Direction.RECEIVED, 6, 2, 'Shutdown Communication: "tea"', NOW - 90, count=3)
        return PeerState(state=SessionState.ACTIVE, last_error=error)

    def session_up(self, address, *, extended_next_hop=False):
        up = SessionUp(
            peer=address,
            router_id=ip_address("9.9.9.9"),
            peer_asn=self.peers[address].peer_asn,
            hold_seconds=9,
            families=frozenset({Family.IPV4}),
            restart_seconds=120,
            extended_next_hop=extended_next_hop,
        )
        self.states[address] = PeerState(
            state=SessionState.ESTABLISHED, since=NOW - 3661, up=up, flaps=2, synced=frozenset({Family.IPV4})
        )
        self.outbox.peer_added(address)
        self.rib.apply(up, 0.0)
        self.rib.apply(EndOfRib(address, Family.IPV4), 0.0)

    def announce(self, to, prefix, *, answer=True, next_hop=US, **attributes):
        key, route = RouteKey(to, prefix), Route(prefix, next_hop, Attributes(**attributes))
        self.routes[key] = route
        self.outbox.want(key, route)
        if answer is not None:
            self.outbox.next_command(NOW)
            self.outbox.answered(answer, NOW)

    def want_in_kernel(self, route, *, there=True):
        self.fib[route.key] = route
        if there:
            self.kernel.actual[route.key] = route

    def hear(self, address, *prefixes, reason=None, next_hop=None, **attributes):
        path = Path(address, next_hop or address, Attributes(**attributes))
        self.rib.apply(PathsHeard(address, announced=((path, prefixes),)), 0.0)
        if reason:
            self.refused_in.update({RouteKey(address, prefix): reason for prefix in prefixes})

    def status(self, **fields):
        plan = NodePlan(
            identity=self.identity,
            peers=self.peers,
            originated=self.originated,
            routes=self.routes,
            refused_out=self.refused_out,
            fib=self.fib,
            refused_in=self.refused_in,
            not_advertised=self.not_advertised,
            standpoint=self.standpoint,
            parting=self.parting,
        )
        return Status(
            **{
                "node": "worker-1",
                "version": "1.2.3",
                "started_at": NOW - 200,
                "plan": plan,
                "peers": self.states,
                "rib": self.rib,
                "outbox": self.outbox,
                "fib": self.kernel,
                "problems": frozenset(self.problems),
                "watches": self.watches,
                "services": self.services,
                "figures": Figures(passes=4, plan_seconds=0.5, longest_plan_seconds=0.25, lag_seconds=0.01, tasks=12),
                **self.fields,
                **fields,
            }
        )


def unheard(scene, *, seconds=190):
    """An agent that was started without an API server: it knows nothing; what the kernel has is of its life before."""
    scene.identity, fields = None, {"picture_complete": False, "phase": "LISTING", "speaking_at": None}
    for some in (scene.peers, scene.states, scene.originated, scene.routes, scene.fib, scene.refused_in):
        some.clear()
    for some in (scene.services, scene.watches, scene.problems):
        some.clear()
    scene.outbox, scene.rib = Outbox(), Rib()
    for kind in sorted(ALWAYS_WATCHED):
        why = Problem(
            "apiUnreachable",
            f"watch of {kind}",
            f"cannot watch all {kind} objects: Cannot connect to host 10.96.0.1:443 ssl:default [Connection refused]",
            "Check that the API server runs and can be reached from this node.",
        )
        state = WatchState(kind, healthy=False, fresh_at=NOW - seconds, broken_at=NOW - seconds, problem=why)
        scene.watches.append(state)
        scene.problems.add(why)
    return fields


def missing_secret():
    return Problem("secretMissing", "BGPPeer tor-b", "Secret bgpilot/tor-b does not exist.", "Create it.")


def learned(prefix):
    return FibKey(prefix, 0)
