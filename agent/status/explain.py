"""Follows one route, service or peer hop by hop to the "no": who says it, its reason word, and what would change it.

Reads `Status` only. A hop that is ok has no reason; hops after a "no" are left out where they depend on it.
"""

from __future__ import annotations

from collections.abc import Container, Iterator
from dataclasses import dataclass
from ipaddress import ip_network
from typing import Final

from agent.model import (
    DISCARD_METRIC,
    FibKey,
    Key,
    Kind,
)
from agent.status.remedies import remedy
from agent.status.status import (
    LEARNED_METRIC,
    Status,
    address_order,
    fib_state,
    is_chosen,
    is_installed,
    is_kept,
    prefix_order,
    told_state,
)
from agent.status.views import View, answer, find_peer
from bgp.check import Reason
from bgp.model import Path, Peer, Prefix, RouteKey
from bgp.sessions import notification_name

HOPS_MAX: Final = 500
"""A mesh of hundreds of nodes has one hop per peer; more than this nobody reads."""


@dataclass(frozen=True, slots=True)
class Hop:
    """One station on the way."""

    place: str
    """Who speaks: `Service default/web`, `peer 10.0.0.1 (node/b)`, `kernel`."""
    text: str
    ok: bool = True
    reason: str = ""
    """Reason word of a "no"."""
    neutral: bool = False
    """A "no" that matters to nobody, since the prefix is in use all the same: it is ok and needs no remedy."""


def explain(status: Status, subject: str) -> View | None:
    """The answer for a peer (address or name), a prefix or address, or NAMESPACE/SERVICE; None: it is none of these."""
    address = find_peer(status, subject)
    if address is not None:
        return _answer(status, subject, "peer", _of_peer(status, status.plan.peers[address]))
    prefix = parse_prefix(subject)
    if prefix is not None:
        return _answer(status, subject, "route", _of_prefix(status, _closest(status, prefix)))
    namespace, slash, name = subject.removeprefix("Service ").partition("/")
    if slash and namespace and name and "/" not in name:
        return _answer(status, subject, "service", _of_service(status, namespace, name))
    return None


def parse_prefix(text: str) -> Prefix | None:
    """A prefix, or an address as its host prefix; host bits are forgiven."""
    try:
        return ip_network(text, strict=False)
    except ValueError:
        return None


def _answer(status: Status, subject: str, kind: str, hops: Iterator[Hop]) -> View:
    found = [hop for hop, _ in zip(hops, range(HOPS_MAX), strict=False)]
    return answer(
        status,
        "explain",
        {
            "subject": subject,
            "kind": kind,
            "ok": all(hop.ok for hop in found),
            "hops": [
                {
                    "place": hop.place,
                    "ok": hop.ok,
                    "neutral": hop.neutral,
                    "text": hop.text,
                    "reason": hop.reason or None,
                    "fix": None if hop.ok else remedy(hop.reason) or None,
                }
                for hop in found
            ],
        },
    )


# A route.


def _closest(status: Status, asked: Prefix) -> Prefix:
    """What is known of the prefix itself, else of the longest one around it."""
    silent = {parse_prefix(what) for _, what in status.plan.not_advertised}
    known: tuple[Container[Prefix | None], ...] = (status.plan.originated, status.rib.prefixes(), silent)
    around = asked
    while True:
        if any(around in table for table in known):
            return around
        if around.prefixlen == 0:
            return asked
        around = around.supernet()


def _of_prefix(status: Status, prefix: Prefix) -> Iterator[Hop]:
    heard = status.rib.paths(prefix)
    in_use = prefix in status.plan.originated or is_installed(status, prefix)
    silent = [] if prefix in status.plan.originated else list(_silent(status, prefix, neutral=in_use))
    yield from silent
    if prefix in status.plan.originated:
        yield from _way_out(status, prefix)
    for address in sorted(heard, key=address_order):
        yield _heard(status, RouteKey(address, prefix), heard[address], in_use=in_use)
    if FibKey(prefix, LEARNED_METRIC) in status.plan.fib or FibKey(prefix, LEARNED_METRIC) in status.fib.actual:
        yield _in_kernel(status, FibKey(prefix, LEARNED_METRIC))
    elif not heard and not silent and prefix not in status.plan.originated:
        yield Hop(f"node {status.node}", f"does not announce {prefix} of its own", ok=False, reason="notOriginated")
        yield Hop("peers", f"no peer has announced {prefix} or a prefix around it", ok=False, reason="notHeard")


def _silent(status: Status, prefix: Prefix, *, neutral: bool) -> Iterator[Hop]:
    """Services that have this address and do not announce it from here."""
    for (key, what), reason in sorted(status.plan.not_advertised.items(), key=lambda it: (str(it[0][0]), it[0][1])):
        if parse_prefix(what) == prefix:
            yield Hop(str(key), f"{what} is not announced here: {reason}", ok=neutral, reason=reason, neutral=neutral)


def _way_out(status: Status, prefix: Prefix) -> Iterator[Hop]:
    origination = status.plan.originated[prefix]
    for source in origination.sources:
        meant = [word for word, meant in (("mesh", origination.to_mesh), ("routers", origination.to_external)) if meant]
        yield Hop(source, f"{prefix} is announced to {' and '.join(meant) or 'nobody'}")
    guard = FibKey(prefix, DISCARD_METRIC)
    if guard in status.plan.fib:
        yield _in_kernel(status, guard)
    for peer in status.sessions():
        key = RouteKey(peer.address, prefix)
        if key in status.plan.routes or key in status.plan.refused_out:
            yield _told(status, peer, key)


def _told(status: Status, peer: Peer, key: RouteKey) -> Hop:
    place = _place(peer)
    match told_state(status, key):
        case "sent", _:
            return Hop(place, f"{key.prefix} sent, next hop {status.plan.routes[key].next_hop}")
        case "held", _:
            state = status.peer_state(peer.address).state
            return Hop(place, f"will be sent: the session is {state}", ok=False, reason="notEstablished")
        case "pending", _:
            return Hop(place, "is about to be told", ok=False, reason="pending")
        case state, reason:
            return Hop(place, f"{key.prefix} {state}: {_meaning(reason)}", ok=False, reason=reason)


def _heard(status: Status, key: RouteKey, path: Path, *, in_use: bool) -> Hop:
    peer = status.plan.peers.get(key.peer)
    place = _place(peer) if peer is not None else f"peer {key.peer}"
    what = f"{key.prefix} via {path.next_hop}"
    kept = "; kept: session down" if is_kept(status, key.peer) else ""
    reason = status.plan.refused_in.get(key)
    if reason is not None:
        why = "our own route coming back" if in_use and _is_ours(status, path) else _meaning(reason)
        return Hop(place, f"{what} not admitted: {why}{kept}", ok=in_use, reason=reason, neutral=in_use)
    if is_chosen(status, path, key.prefix):
        return Hop(place, f"{what} admitted, chosen{kept}")
    return Hop(place, f"{what} admitted, another path is better{kept}")


def _is_ours(status: Status, path: Path) -> bool:
    """It has gone through our AS."""
    identity = status.plan.identity
    steps = path.attributes.as_path
    return identity is not None and any(
        identity.asn == step if isinstance(step, int) else identity.asn in step for step in steps
    )


def _in_kernel(status: Status, key: FibKey) -> Hop:
    route = status.plan.fib.get(key) or status.fib.actual[key]
    via = ", ".join(str(next_hop.gateway) for next_hop in route.next_hops)
    what = f"{key.prefix} via {via}" if via else f"{route.type} {key.prefix} metric {key.metric}"
    match fib_state(status, status.fib.failing, key):
        case "installed", _:
            return Hop("kernel", f"{what} installed")
        case "leaving", _:
            return Hop("kernel", f"{what} is there and no longer wanted", ok=False, reason="leaving")
        case "conflict", details:
            return Hop("kernel", f"{what}: {details}", ok=False, reason="kernelConflict")
        case "failing", details:
            return Hop("kernel", f"{what}: {details}", ok=False, reason="kernelRefused")
        case _:
            return Hop("kernel", f"{what} is not installed", ok=False, reason="notInstalled")


# A service.


def _of_service(status: Status, namespace: str, name: str) -> Iterator[Hop]:
    key = Key(Kind.SERVICE, namespace, name)
    announced = [prefix for prefix, it in status.plan.originated.items() if _stems_from(it.sources, str(key))]
    silent = {what: reason for (of, what), reason in status.plan.not_advertised.items() if of == key}
    for what in sorted(silent):
        yield Hop(str(key), f"{what} is not announced here: {silent[what]}", ok=False, reason=silent[what])
    for prefix in sorted(announced, key=prefix_order):
        yield from _of_prefix(status, prefix)
    if announced or silent:
        return
    if key in status.services:
        yield Hop(str(key), "no BGPAdvertisement for this node selects it", ok=False, reason="notSelected")
    else:
        yield Hop(str(key), "does not exist", ok=False, reason="objectNotFound")


def _stems_from(sources: tuple[str, ...], name: str) -> bool:
    return any(source == name or source.startswith(f"{name} (") for source in sources)


# A peer.


def _of_peer(status: Status, peer: Peer) -> Iterator[Hop]:
    place = _place(peer)
    kind = "mesh" if peer.mesh else "external"
    yield Hop(peer.name, f"{kind} session wanted from {peer.local_address} AS {peer.local_asn} to AS {peer.peer_asn}")
    for problem in status.problems:
        if problem.subject in (peer.name, peer.name.replace("/", " ", 1), str(peer.address)):
            yield Hop(problem.subject, problem.message, ok=False, reason=problem.reason)
    state = status.peer_state(peer.address)
    if not status.is_up(peer.address):
        error = state.last_error
        if error is None:
            yield Hop(place, f"{state.state}, nothing seen of it yet", ok=False, reason="neverTried")
        else:
            number = f" {error.code}/{error.subcode}" if error.code else ""
            said = f"{error.direction}{number} {error.text or notification_name(error.code, error.subcode)}".rstrip()
            yield Hop(place, f"{state.state}: {said} (× {error.count})", ok=False, reason="notEstablished")
        return
    families = status.families(peer)
    yield Hop(place, f"{state.state}, families {', '.join(families) or 'none'}")
    refused = status.refused_counts()
    for family in families:
        received = status.rib.count(peer.address, family)
        accepted = received - refused.get((peer.address, family), 0)
        sent = status.outbox.told_count(peer.address, family)
        text = f"{family}: {received} received, {accepted} accepted, {sent} sent"
        if family in status.rib.synced(peer.address):
            yield Hop(place, text)
        else:
            yield Hop(place, f"{text}; End-of-RIB not received", ok=False, reason="endOfRibMissing")


def _place(peer: Peer) -> str:
    return f"peer {peer.address} ({peer.name})"


def _meaning(reason: str) -> str:
    return _MEANINGS.get(reason, reason)


_MEANINGS: Final = {str(reason): reason.meaning for reason in Reason}
