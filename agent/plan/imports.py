"""What of the routes heard may go into the kernel, and the route that comes of it.

iBGP peers, the mesh among them, may give other nodes' pod CIDRs and nothing else, but where `serviceRoutes` of the
BGPInstance is Import. eBGP peers may give what their BGPPeer's `import` admits, by default nothing. Some prefixes
nobody may give, whatever is admitted: what is this node's own or announced by it, its connected subnets, and the
service range, for which kube-proxy answers.

With `serviceRoutes: Import` iBGP peers may give, of all that the service range is, host routes to addresses that
Services have, and this node does not announce itself: who announces an address answers for it. Kube-proxy loses nothing
by such a route: it takes packets before they are routed, and routes to an address that its IPVS mode keeps on an
interface are refused. Nothing here touches the kernel.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from ipaddress import IPv4Address
from types import MappingProxyType
from typing import Final, NamedTuple

from agent.intent import PodRoutes
from agent.model import FibRoute, NextHop, in_order
from agent.plan.claims import Claims
from agent.plan.identity import Importing
from agent.plan.prefixes import host, inside_any
from agent.plan.sessions import SessionClaim
from agent.plan.vips import ServiceAddresses
from bgp.bestpath import PeerInfo, best
from bgp.check import Reason, martian, next_hop_fits, path_refusal, reserved
from bgp.model import Address, Path, Peer, Prefix, SessionUp, without_zone, zone_of


class Teller(NamedTuple):
    """A peer as far as its paths are concerned."""

    claim: SessionClaim
    peer: Peer
    session: SessionUp | None
    """The one its paths were heard on."""
    away: bool = False
    """Lost, and perhaps restarting."""


class Ground(NamedTuple):
    """What is known of the prefix itself."""

    owner: str | None
    """The node of which it is a pod CIDR."""
    in_pod_cidr: bool
    """It is less than a pod CIDR it lies in."""
    of_services: bool
    """It holds service addresses."""
    of_service: bool
    """It is exactly an address of a Service that other nodes may give a route to."""
    announced: bool
    """This node announces it."""
    set_aside: bool
    """It is an address of a Service as above, and one of ours on an interface that is down."""


def ground_of(
    prefix: Prefix,
    claims: Claims,
    addresses: ServiceAddresses,
    *,
    originated: Collection[Prefix],
    aside: Collection[Prefix],
) -> Ground:
    """`aside`: addresses of ours on interfaces that are down, if there is a setting by which they matter."""
    of_service = addresses.reachable(prefix) and claims.taken(prefix.network_address) is None
    return Ground(
        claims.owner_of(prefix),
        claims.is_part(prefix),
        addresses.forbid(prefix),
        of_service,
        prefix in originated,
        of_service and prefix in aside,
    )


class Verdict(NamedTuple):
    route: FibRoute | None = None
    refused: Mapping[Address, str] = MappingProxyType({})
    """By peer, the reason word."""
    reflected: Path | None = None
    """As a route reflector, the best path of those that may be passed on."""


_OURS_ALONE: Final = frozenset({None, "podRoutesOff", "serviceRoutesOff", "nextHopNotConnected"})
"""Reasons that say nothing about the path for others."""


def judge(
    importing: Importing,
    prefix: Prefix,
    paths: Collection[Path],
    view_of: Callable[[Path], View],
    ground: Ground,
    *,
    reflects: bool = False,
) -> Verdict:
    """All paths to one prefix; a path of a peer that is not of this plan is not believed."""
    forbidden = _forbidden(importing, prefix, ground)
    admitted: list[Path] = []
    refused: dict[Address, str] = {}
    for path in paths:
        view = view_of(path)
        if view.teller is None:
            refused[path.peer] = forbidden or "peerUnknown"
        elif why := forbidden or _refusal(importing, prefix, view, view.teller, ground):
            refused[path.peer] = why
        else:
            admitted.append(path)
    passed_on = None
    if reflects and forbidden in _OURS_ALONE:
        passed_on = _best_for_others(importing, prefix, paths, view_of, ground)
    if not admitted:
        return Verdict(None, refused, passed_on)
    if len(admitted) == 1:
        return Verdict(FibRoute(prefix, view_of(admitted[0]).next_hops), refused, passed_on)
    chosen = _best(admitted, view_of, importing.maximum_paths)
    return Verdict(
        FibRoute(prefix, in_order({hop for path in chosen for hop in view_of(path).next_hops})), refused, passed_on
    )


def _best_for_others(
    importing: Importing, prefix: Prefix, paths: Iterable[Path], view_of: Callable[[Path], View], ground: Ground
) -> Path | None:
    """The path a route reflector passes on: believed, from inside the AS, and with a next hop that is its own matter.

    A next hop outside our subnets is good for nothing here, as no route of ours leads through a router; but by RFC 4271
    9.1.2.1 it is resolvable, by the default route, and the clients of another zone stand next to it.
    """
    good = [path for path in paths if _may_be_passed_on(importing, prefix, view_of(path), ground)]
    return _best(good, view_of, 1)[0] if good else None


def _may_be_passed_on(importing: Importing, prefix: Prefix, view: View, ground: Ground) -> bool:
    teller = view.teller
    if teller is None or not teller.peer.internal:
        return False
    return _refusal(importing, prefix, view, teller, ground) in _OURS_ALONE


def _best(paths: Collection[Path], view_of: Callable[[Path], View], limit: int) -> tuple[Path, ...]:
    infos = {path.peer: _info(view_of(path).teller) for path in paths}
    return best(paths, peer_of=infos.__getitem__, limit=limit)


class View(NamedTuple):
    """What of a path does not depend on the prefix: one for all prefixes of an UPDATE."""

    teller: Teller | None
    why: str | None
    """Reason word: no prefix may be had by this path."""
    unreachable: bool
    version: int
    next_hops: tuple[NextHop, ...]


def look_at(importing: Importing, path: Path, teller: Teller | None, *, cluster_id: IPv4Address | None = None) -> View:
    """`cluster_id` is ours, if we are a route reflector."""
    identity = importing.identity
    why: str | None = path_refusal(
        path,
        own_asn=identity.asn,
        own_router_id=identity.router_id,
        own_addresses=importing.own_addresses,
        own_cluster_id=cluster_id,
        local_asn=teller.peer.local_asn if teller is not None else None,
        allowas_in=teller.peer.allowas_in if teller is not None else 0,
    )
    if why is None and inside_any(host(path.next_hop), identity.pod_cidrs):
        why = "nextHopIsPod"
    if why is None and teller is not None and teller.claim.gone and path.attributes.originator_id is None:
        why = "peerUnknown"  # but for what it passes on: that leads to others
    if zone_of(path.next_hop):
        return _look_on_link(path, teller, why)
    unreachable = not importing.reach.is_neighbour(path.next_hop)
    return View(teller, why, unreachable, path.next_hop.version, (NextHop(path.next_hop),))


def _look_on_link(path: Path, teller: Teller | None, why: str | None) -> View:
    """A link-local next hop is a neighbour on the link of the session that it was told on, and on no other."""
    link = teller.claim.link if teller is not None else None
    if why is None and teller is not None and without_zone(path.next_hop) == teller.peer.local_address:
        why = Reason.NEXT_HOP_IS_US
    unreachable = link is None or not link.up
    return View(teller, why, unreachable, path.next_hop.version, (NextHop(path.next_hop, link.index if link else 0),))


def _forbidden(importing: Importing, prefix: Prefix, ground: Ground) -> str | None:
    """The reason word why no peer may give a route to `prefix`."""
    if ground.owner == importing.identity.node or inside_any(prefix, importing.identity.pod_cidrs):
        return "ownPodCIDR"
    if prefix.prefixlen == prefix.max_prefixlen and prefix.network_address in importing.own_addresses:
        return "ownAddress"
    if importing.reach.is_connected(prefix):
        return "connectedSubnet"
    if ground.of_service:
        return None
    if ground.of_services or inside_any(prefix, importing.service_ranges):
        return "serviceRange"
    if ground.owner is not None and importing.identity.pod_routes is PodRoutes.OFF:
        return "podRoutesOff"
    if ground.in_pod_cidr and ground.owner is None:
        return "insidePodCIDR"
    if ground.announced:  # by others too: what of it is not in use would go from one to the other for ever
        return "announcedHere"
    return None


def _refusal(importing: Importing, prefix: Prefix, view: View, teller: Teller, ground: Ground) -> str | None:
    if view.why is not None:
        return view.why
    if prefix.prefixlen > 0 and martian(prefix):
        return Reason.MARTIAN_PREFIX
    if ground.owner is None and reserved(prefix):
        return Reason.MARTIAN_PREFIX
    if not next_hop_fits(teller.peer, prefix, view.version):
        return Reason.NEXT_HOP_FAMILY
    if ground.of_service:
        why = _service_refusal(importing, teller, ground)
        if why is not None:
            return why
    elif not _welcome(prefix, teller, ground):
        if prefix.prefixlen == 0:
            return "defaultRoute"
        return "notAPodCIDR" if teller.peer.internal else "importNotAllowed"
    if view.unreachable:
        return "nextHopNotConnected"
    return None


def _service_refusal(importing: Importing, teller: Teller, ground: Ground) -> str | None:
    if not teller.peer.internal:
        return "serviceRange"
    if ground.announced:
        return "announcedHere"
    if not importing.service_routes:
        return "serviceRoutesOff"
    return "answeredHere" if ground.set_aside else None


def _welcome(prefix: Prefix, teller: Teller, ground: Ground) -> bool:
    if teller.peer.internal:
        return ground.owner is not None
    if ground.owner is not None and teller.claim.import_pod_cidrs:
        return True
    for allowed in teller.claim.import_allowed:  # noqa: SIM110  # a generator costs as much as the comparison
        if allowed.admits(prefix):
            return True
    return False


def _info(teller: Teller | None) -> PeerInfo:
    assert teller is not None, "an admitted path has a teller"  # noqa: S101  # our own bug
    return peer_info(teller.peer, teller.session, away=teller.away)


def peer_info(peer: Peer, session: SessionUp | None, *, away: bool) -> PeerInfo:
    """`session`: the one its paths were heard on."""
    return PeerInfo(
        internal=peer.internal,
        router_id=session.router_id if session is not None else None,
        asn=session.peer_asn if session is not None else peer.peer_asn or 0,
        away=away,
    )
