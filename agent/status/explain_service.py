"""Why an address of a Service is not announced from here, or not by each advertisement, or to nobody.

Reads `Status` only. Which of the objects says no comes first: the Service, the BGPAdvertisement, the Node, the BGPPeer.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import Final

from agent.advertising import Advertisement
from agent.intent import ExternalPeer
from agent.model import Key, Kind, Problem, Service
from agent.plan.model import Origination
from agent.plan.prefixes import host, inside_any, supernets
from agent.plan.services import split_what
from agent.status.explain_absent import terms_of
from agent.status.explain_unwanted import unwanted_hops
from agent.status.hops import Hop, parse_prefix, place_of
from agent.status.meanings import meaning_out
from agent.status.remedies import outward_remedy
from agent.status.status import Status
from bgp.model import Peer, Prefix, RouteKey

SHARED: Final = "sharedWithoutEndpoint"
"""Said where the address is explained (`silent_hops`)."""
_WITHOUT_ADDRESS: Final = frozenset({"headlessService", "externalName", "noAddressYet"})
"""Reason words of what there is no address of, not even one that is not announced."""


def not_announced(status: Status) -> Iterator[tuple[Key, str, str]]:
    """(Service, what of it, reason word): what the plan keeps silent, and what no plan has to think about."""
    said = status.plan.not_advertised
    yield from ((key, what, reason) for (key, what), reason in said.items())
    for key, record in status.services.items():
        if isinstance(record, Service):
            yield from ((key, what, reason) for what, reason in record.left_out if (key, what) not in said)


def holders(status: Status, prefix: Prefix) -> list[tuple[Key, Service]]:
    """The Services of which it is an address."""
    if prefix.prefixlen != prefix.max_prefixlen:
        return []
    address = prefix.network_address
    return [
        (key, it)
        for key, it in status.services.items()
        if isinstance(it, Service) and address in {*it.cluster_ips, *it.external_ips, *it.load_balancer_ips}
    ]


def silent_hops(status: Status, prefix: Prefix, *, neutral: bool) -> Iterator[Hop]:
    """Services that have this address and do not announce it from here, or not by each advertisement."""
    for key, what, reason in sorted(not_announced(status)):
        address, only = split_what(what)
        if parse_prefix(address) != prefix:
            continue
        if only:
            yield from _not_by(status, prefix, key, only, reason)
            continue
        yield _silent(status, key, address, reason, neutral=neutral)
        if reason == "aggregateOfLocal":
            yield from _half_holes(status, prefix)
    for problem in sorted(_starving(status, prefix), key=lambda it: it.subject):
        yield Hop(problem.subject, problem.message, ok=False, reason=problem.reason, fix=problem.fix)


def service_hops(status: Status, key: Key, *, followed: Collection[Prefix]) -> Iterator[Hop]:
    """What of the Service is not announced, and why.

    `followed`: prefixes announced for it, or for others with its address, which are explained by themselves.
    """
    service = status.services.get(key)
    silent = sorted((what, reason) for of, what, reason in not_announced(status) if of == key)
    asked = {what for of, what in status.plan.not_advertised if of == key}
    said = bool(followed) or any(what in asked or reason != "noAddressYet" for what, reason in silent)
    for what, reason in silent:
        address, only = split_what(what)
        prefix = parse_prefix(address)
        if prefix is None or prefix not in followed:
            if only and prefix is not None:
                yield from _not_by(status, prefix, key, only, reason)
            else:
                neutral = what not in asked and (bool(followed) or reason == "noAddressYet")
                yield _silent(status, key, address, reason, neutral=neutral)
                if reason == "aggregateOfLocal" and prefix is not None:
                    yield from _half_holes(status, prefix)
    if isinstance(service, Service):
        spoken_of = {split_what(what)[0] for what, _ in silent}
        every = dict.fromkeys((*service.cluster_ips, *service.external_ips, *service.load_balancer_ips))
        left = [it for it in every if str(it) not in spoken_of and not inside_any(host(it), followed)]
        if left or not said:
            yield from unwanted_hops(status, key, service, left, neutral=said)


def _silent(status: Status, key: Key, what: str, reason: str, *, neutral: bool) -> Hop:
    words = "has no address to announce" if reason in _WITHOUT_ADDRESS else f"{what} is not announced here"
    text = f"{words}: {_local(status, key, what) if reason == 'noLocalEndpoint' else meaning_out(reason)}"
    return Hop(str(key), text, ok=neutral, reason=reason, neutral=neutral, fix=outward_remedy(reason))


def _local(status: Status, key: Key, address: str) -> str:
    """Which of the two policies it is depends on the class of the address."""
    service = status.services.get(key)
    internal = isinstance(service, Service) and address in map(str, service.cluster_ips)
    policy = "spec.internalTrafficPolicy" if internal else "spec.externalTrafficPolicy"
    return f"its {policy} is Local, and no endpoint on this node can be used"


def _not_by(status: Status, prefix: Prefix, service: Key, name: str, reason: str) -> Iterator[Hop]:
    """One hop for each router that this advertisement alone would have told."""
    key = Key(Kind.ADVERTISEMENT, "", name)
    why = f"{key} does not announce {prefix.network_address}: {meaning_out(reason)}"
    advertisement = status.advertisements.get(key)
    found = False
    for peer in _routers(status):
        labels = _labels(status, peer)
        if not isinstance(advertisement, Advertisement) or labels is None:
            continue
        if advertisement.to_peers.selector.matches(labels) and RouteKey(peer.address, prefix) not in status.plan.routes:
            found = True
            around = _around(status, peer, prefix) if reason == "aggregateOfLocal" else ""
            text = f"{prefix} is not told: {why}{around}"
            yield Hop(place_of(peer), text, ok=False, reason=reason, fix=outward_remedy(reason))
    if not found:
        yield Hop(str(service), why, reason=reason, neutral=True)


def _half_holes(status: Status, prefix: Prefix) -> Iterator[Hop]:
    """Routers that send what is for the address to any node all the same."""
    for peer in _routers(status):
        if RouteKey(peer.address, prefix) not in status.plan.routes and (around := _around(status, peer, prefix)):
            text = f"{prefix} is not told{around}"
            reason = "aggregateOfLocal"
            yield Hop(place_of(peer), text, ok=False, reason=reason, fix=outward_remedy(reason))


def _around(status: Status, peer: Peer, prefix: Prefix) -> str:
    for wider in supernets(prefix):
        if wider != prefix and wider.prefixlen and RouteKey(peer.address, wider) in status.plan.routes:
            return f"; it is told {wider} around it, and nodes without an endpoint drop what comes"
    return ""


def _starving(status: Status, prefix: Prefix) -> Iterator[Problem]:
    origination = status.plan.originated.get(prefix)
    if origination is not None and origination.starved:
        start = f"{prefix.network_address} of "
        for problem in status.problems:
            if problem.reason == SHARED and problem.message.startswith(start):
                yield problem


# Nobody is told.


def audience_hops(status: Status, prefix: Prefix, origination: Origination) -> Iterator[Hop]:
    """Routers of this node that are not told of it for they must have no session; and that nobody is told at all."""
    routers = list(_routers(status))
    told = {key.peer for key in _keys(status, prefix, status.plan.peers.values())}
    meant = told & {peer.address for peer in routers}
    for peer in routers:
        if peer.held is not None and _is_meant(status, origination, peer):
            meant.add(peer.address)
            text = f"{prefix} is not told: there must be no session ({peer.held.reason})"
            yield Hop(place_of(peer), text, ok=False, reason=peer.held.reason)
    place, neutral = f"node {status.node}", bool(told) or origination.to_mesh
    if meant or not (origination.to_peers or not told):
        return
    if origination.to_peers and routers:
        wanted = " or ".join(sorted(terms_of(wish.selector) for wish in origination.to_peers))
        text = f"no router of this node is told of {prefix}: spec.peerSelector wants {wanted}"
        yield Hop(place, text, ok=neutral, reason="peerSelectorSelectsNothing", neutral=neutral)
    elif not told:
        text = f"nobody is told of {prefix}: no BGPPeer gives this node a router"
        yield Hop(place, text, ok=neutral, reason="noPeer", neutral=neutral)


def _keys(status: Status, prefix: Prefix, peers: Iterable[Peer]) -> Iterator[RouteKey]:
    """Of what they are told, or may not be told."""
    keys = (RouteKey(peer.address, prefix) for peer in peers)
    return (key for key in keys if key in status.plan.routes or key in status.plan.refused_out)


def _is_meant(status: Status, origination: Origination, peer: Peer) -> bool:
    labels = _labels(status, peer)
    return labels is not None and any(wish.selector.matches(labels) for wish in origination.to_peers)


def _routers(status: Status) -> Iterator[Peer]:
    return (peer for peer in status.sessions() if not peer.mesh)


def _labels(status: Status, peer: Peer) -> dict[str, str] | None:
    found = status.routers.get(Key(Kind.PEER, "", peer.name.rpartition("/")[2]))
    return dict(found.labels) if isinstance(found, ExternalPeer) else None
