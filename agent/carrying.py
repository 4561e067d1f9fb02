"""When routers may be told what this node only passes on to others: once it has the routes that this takes.

A node that comes (back) into service, after a reboot, a drain, or the return of its Node, has no route to the pods of
other nodes. Its sessions with routers and with nodes come up together, and a router that is the quicker one would send
it what it can only drop. So what is not for this node alone (`Origination.local`: a pod CIDR, a service address with
traffic policy Local) is held back from routers until the kernel has a route to every pod CIDR of the other nodes; or,
since some may never come, until everybody who could bring them has sent End-of-RIB and all of it is planned and in the
kernel; or for a while at most.

What must not come of it:
- A restart is no return: what the node forwards by is in the kernel all the time. If routes to other nodes are found
  there at the start, or something of what the node itself told, nothing is held back at all: where no other node is to
  be heard, it served by what it has. That goes for an agent beside a living ExaBGP, for another ExaBGP beside a living
  agent, and for a pod that is replaced. And what a living ExaBGP holds of what is held back stays (`Speaker`).
- A router with graceful restart may still have our routes of before the node went (a machine that reboots within the
  restart time). A session that begins meanwhile says that what it forwarded by is lost (F bits, RFC 4724 3), and the
  router drops them. On one that has begun before it drops at End-of-RIB what was not told again: so End-of-RIB to a
  router waits as long as the routes do, and that router goes on as it did. To nodes it never waits: two that start
  together would wait for each other. Nor are they told of a loss: what they send is for pods of this node.
- What leaves is not held back: neither a withdrawal, nor what a drain says first.
- Nodes that the cluster itself says are not Ready are not waited for. Others are, although nothing may listen on their
  BGP port, or they have the drain annotation: so it is while a pod is replaced, or a drain has just begun, and other
  nodes then have routes to their pods.

It plans nothing and tells nobody.
"""

from __future__ import annotations

from collections.abc import Collection, Container, Iterator
from collections.abc import Set as AbstractSet
from typing import Final, Protocol

from agent.intent import ExternalPeer, PodRoutes
from agent.model import LEARNED_METRIC, FibKey, Kind, Node
from agent.plan.model import NodePlan
from agent.plan.picture import World, every
from bgp.model import Address, Family, RouteKey, SessionUp

AWAITED: Final = "podRoutesAwaited"
"""Reason word."""
UNMET_SECONDS: Final = 10.0
"""For nodes with which there is no session: they are dialed within this time, or away …"""
UNHEARD_SECONDS: Final = 30.0
"""… and for those that have not told all they have on the session that there is."""


class Rib(Protocol):
    def session(self, peer: Address) -> SessionUp | None: ...


class Carrying:
    __slots__ = ("_fresh", "_over", "_since", "_told", "awaited", "next_look_at")

    def __init__(self) -> None:
        self.awaited: tuple[str, ...] = ()
        """Nodes whose pod CIDRs the kernel lacks, as long as something is held back for that; in order."""
        self.next_look_at: float | None = None
        """When it may be over although nothing happens."""
        self._since: float | None = None
        self._over = False
        self._fresh = True
        """The agent has just started: what is in the kernel is of an earlier life."""
        self._told = False

    @property
    def is_over(self) -> bool:
        return self._over

    def found(self, *, told: bool) -> None:
        """At a start: whether the kernel still has something of what an earlier agent told, and had not withdrawn."""
        self._told = told

    def gone(self) -> None:
        """All sessions have ended, and with them what was heard: it begins anew when the node comes back."""
        self.awaited, self.next_look_at, self._since, self._over, self._fresh = (), None, None, False, False

    def look(
        self,
        now: float,
        plan: NodePlan,
        world: World,
        *,
        kernel: Container[FibKey],
        rib: Rib,
        synced: AbstractSet[Address],
    ) -> None:
        """`synced`: who has sent all they have, of which all is planned, and in the kernel if it can be."""
        if plan.identity is None:
            self.gone()
            return
        if self._over:
            return
        lacking = dict[str, bool]()
        for node, there in pod_routes(plan, world, kernel):
            lacking[node] = lacking.get(node, False) or not there
        in_service = self._fresh and (self._told or not all(lacking.values()))
        self._fresh = False
        self._since = now if self._since is None else self._since
        unheard = [address for address in _tellers(plan, world) if address not in synced]
        wait = UNHEARD_SECONDS if any(rib.session(address) for address in unheard) else UNMET_SECONDS
        if in_service or not unheard or not any(lacking.values()) or now >= self._since + wait:
            self.awaited, self.next_look_at, self._over = (), None, True
        else:
            self.awaited = tuple(sorted(node for node, lacks in lacking.items() if lacks))
            self.next_look_at = self._since + wait


def pod_routes(plan: NodePlan, world: World, kernel: Container[FibKey]) -> Iterator[tuple[str, bool]]:
    """For each pod CIDR that there should be a route to: whose it is, and whether the kernel has one."""
    own = plan.identity
    if own is None or own.pod_routes is not PodRoutes.BGP:
        return
    families = {Family.of(address) for address in own.addresses}
    for _, node in every(world, Kind.NODE, Node):
        if node.name != own.node and node.ready:
            for cidr in node.pod_cidrs:
                if Family.of(cidr) in families:
                    yield node.name, FibKey(cidr, LEARNED_METRIC) in kernel


def _tellers(plan: NodePlan, world: World) -> Iterator[Address]:
    """From whom pod CIDRs may come; of routers of another AS all, if any is one."""
    imported = any(router.import_pod_cidrs for _, router in every(world, Kind.PEER, ExternalPeer))
    for address, peer in plan.peers.items():
        if peer.held is None and (peer.mesh or peer.internal or imported):
            yield address


def waits(plan: NodePlan, awaited: Collection[str], key: RouteKey) -> bool:
    """The route of `key` is held back."""
    if not awaited or plan.leave is not None:
        return False
    peer, origination = plan.peers.get(key.peer), plan.originated.get(key.prefix)
    return peer is not None and not peer.mesh and origination is not None and not origination.local
