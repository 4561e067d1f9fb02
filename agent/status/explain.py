"""Follows one route, service or peer hop by hop to the "no": who says it, its reason word, and what would change it.

Reads `Status` only. A hop that is ok has no reason; hops after a "no" are left out where they depend on it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Container, Iterator
from dataclasses import replace
from itertools import chain
from typing import Final

from agent.model import (
    DISCARD_METRIC,
    FibKey,
    Key,
    Kind,
    Problem,
)
from agent.plan.prefixes import contains
from agent.plan.services import split_what
from agent.status.equals import NOT_BEST, why_not_used
from agent.status.explain_absent import absent_hops, no_bgp_hops
from agent.status.explain_node import node_hops, node_named
from agent.status.explain_passed import passed_hops
from agent.status.explain_peer import peer_hops, problem_hops
from agent.status.explain_service import (
    SHARED,
    audience_hops,
    holders,
    not_announced,
    service_hops,
    silent_hops,
    unwanted_hops,
)
from agent.status.explain_withheld import dispute_hops, disputed, withheld_hops
from agent.status.hops import Hop, parse_prefix, place_of, via
from agent.status.meanings import meaning_in, meaning_out
from agent.status.peers import View
from agent.status.remedies import outward_remedy, remedy
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
from agent.status.views import answer, peers_named
from bgp.model import Path, Peer, Prefix, RouteKey

HOPS_MAX: Final = 500
"""A mesh of hundreds of nodes has one hop per peer; more than this nobody reads."""


def explain(status: Status, subject: str) -> View | None:
    """The answer for a Node, a peer (address or name), a prefix or address, or NAMESPACE/SERVICE; None: it is none."""
    if (node := node_named(status, subject)) is not None:
        follow = chain.from_iterable(_of_prefix(status, cidr) for cidr in node.pod_cidrs)
        return _answer(status, subject, "node", chain(node_hops(status, node), follow))
    if named := peers_named(status, subject):
        return _answer(status, subject, "peer", chain.from_iterable(peer_hops(status, peer) for peer in named))
    if absent := absent_hops(status, subject) or problem_hops(status, subject):
        return _answer(status, subject, "peer", iter(absent))
    prefix = parse_prefix(subject)
    if prefix is not None:
        return _answer(status, subject, "route", _of_prefix(status, _closest(status, prefix)))
    namespace, slash, name = subject.removeprefix("Service ").partition("/")
    if slash and namespace and name and "/" not in name:
        return _answer(status, subject, "service", _of_service(status, namespace, name))
    return None


def not_known(subject: str) -> str:
    return f"{subject!r} is no node, peer, prefix or address; a Service is named as NAMESPACE/SERVICE"


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
                    "fix": None if hop.ok else hop.fix or remedy(hop.reason) or None,
                }
                for hop in found
            ],
        },
    )


# A route.


def _closest(status: Status, asked: Prefix) -> Prefix:
    """What is known of the prefix itself, else of the longest one around it."""
    silent = {*(parse_prefix(split_what(what)[0]) for _, what, _ in not_announced(status)), *_harmful(status)}
    owned = {asked} if _is_of_services(status, asked) else set[Prefix]()
    told = status.plan.originated, status.rib.prefixes()
    known: tuple[Container[Prefix | None], ...] = (*told, silent, owned, disputed(status))
    around = asked
    while True:
        if any(around in table for table in known) or any(withheld_hops(status, around)):
            return around
        if around.prefixlen == 0:
            return asked
        around = around.supernet()


def _is_of_services(status: Status, prefix: Prefix) -> bool:
    """It is an address of Services, none of which announces it as part of something wider."""
    keys = [key for key, _ in holders(status, prefix)]
    wider = (one for key in keys for one in status.plan.aggregates.get(key, ()))
    return bool(keys) and not any(contains(one, prefix) for one in wider)


def _of_prefix(status: Status, prefix: Prefix) -> Iterator[Hop]:
    yield from dispute_hops(status, prefix)
    heard = status.rib.paths(prefix)
    in_use = prefix in status.plan.originated or is_installed(status, prefix)
    silent = list(silent_hops(status, prefix, neutral=in_use))
    silent += [
        Hop(it.subject, it.message, ok=in_use, reason=it.reason, fix=it.fix, neutral=in_use)
        for it in _harmful(status).get(prefix, ())
    ]
    owners, none = holders(status, prefix), list(no_bgp_hops(status))
    if not silent and prefix not in status.plan.originated and not none:
        address = prefix.network_address
        silent = [hop for key, service in owners for hop in unwanted_hops(status, key, service, address)]
    withheld = [] if none else list(withheld_hops(status, prefix))
    silent += [replace(hop, ok=True, neutral=True) if in_use else hop for hop in withheld]
    yield from silent
    if prefix in status.plan.originated:
        yield from _way_out(status, prefix)
    for address in sorted(heard, key=address_order):
        about_ours = bool(owners or withheld)
        yield _heard(status, RouteKey(address, prefix), heard[address], in_use=in_use, about_ours=about_ours)
    if FibKey(prefix, LEARNED_METRIC) in status.plan.fib or FibKey(prefix, LEARNED_METRIC) in status.fib.actual:
        yield _in_kernel(status, FibKey(prefix, LEARNED_METRIC))
    elif not heard and not silent and none:
        yield from none
    elif not heard and not silent and prefix not in status.plan.originated:
        yield Hop(f"node {status.node}", f"does not announce {prefix} of its own", ok=False, reason="notOriginated")
        yield Hop("peers", f"no peer has announced {prefix} or a prefix around it", ok=False, reason="notHeard")
    yield from passed_hops(status, prefix)


def _harmful(status: Status) -> dict[Prefix | None, list[Problem]]:
    """Static prefixes that are not announced from here, as `agent.plan.guards` words it."""
    found = defaultdict[Prefix | None, list[Problem]](list)
    for problem in status.problems:
        if problem.reason == "prefixInUse":
            found[parse_prefix(problem.message.split()[1])].append(problem)
    return found


def _way_out(status: Status, prefix: Prefix) -> Iterator[Hop]:
    origination = status.plan.originated[prefix]
    for source in origination.sources:
        meant = [
            word for word, meant in (("mesh", origination.to_mesh), ("routers", bool(origination.to_peers))) if meant
        ]
        yield Hop(source, f"{prefix} is announced to {' and '.join(meant) or 'nobody'}")
    guard = FibKey(prefix, DISCARD_METRIC)
    if guard in status.plan.fib:
        yield _in_kernel(status, guard)
    for peer in status.sessions():
        key = RouteKey(peer.address, prefix)
        if key in status.plan.routes or key in status.plan.refused_out:
            yield _told(status, peer, key)
    yield from audience_hops(status, prefix, origination)


def _told(status: Status, peer: Peer, key: RouteKey) -> Hop:
    place = place_of(peer)
    match told_state(status, key):
        case "sent", _:
            return Hop(place, f"{key.prefix} sent, next hop {status.plan.routes[key].next_hop}")
        case "held", str(reason) if reason:
            return Hop(place, f"is not told: there must be no session ({reason})", ok=False, reason=reason)
        case "held", _:
            state = status.peer_state(peer.address).state
            return Hop(place, f"will be sent: the session is {state}", ok=False, reason="notEstablished")
        case "pending", _:
            return Hop(place, "is about to be told", ok=False, reason="pending")
        case state, reason:
            text = f"{key.prefix} {state}: {meaning_out(reason)}"
            return Hop(place, text, ok=False, reason=reason, fix=outward_remedy(reason))


def _heard(status: Status, key: RouteKey, path: Path, *, in_use: bool, about_ours: bool) -> Hop:
    peer = status.plan.peers.get(key.peer)
    place = place_of(peer) if peer is not None else f"peer {key.peer}"
    what = f"{key.prefix} via {via(key.prefix, path.next_hop)}"
    kept = "; kept: session down" if is_kept(status, key.peer) else ""
    reason = status.plan.refused_in.get(key)
    if reason is not None:
        ours = _is_ours(status, path)
        neutral = in_use or (about_ours and ours)
        why = meaning_in(reason)
        if neutral and ours:
            whose = "our own" if key.prefix in status.plan.originated else "another node's"
            why = f"{whose} route coming back"
        return Hop(place, f"{what} not admitted: {why}{kept}", ok=neutral, reason=reason, neutral=neutral)
    if is_chosen(status, path, key.prefix):
        return Hop(place, f"{what} admitted, chosen{kept}")
    if FibKey(key.prefix, LEARNED_METRIC) not in status.plan.fib:
        return Hop(place, f"{what} admitted{kept}")
    if (reason := why_not_used(status, path, key.prefix)) == NOT_BEST:
        return Hop(place, f"{what} admitted, another path is better{kept}")
    why = "as good as those that are used, which are as many as maximumPaths lets be"
    return Hop(place, f"{what} admitted, {why}{kept}", reason=reason, neutral=True)


def _is_ours(status: Status, path: Path) -> bool:
    """It has gone through our AS."""
    identity = status.plan.identity
    steps = path.attributes.as_path
    return identity is not None and any(
        identity.asn == step if isinstance(step, int) else identity.asn in step for step in steps
    )


def _in_kernel(status: Status, key: FibKey) -> Hop:
    route = status.plan.fib.get(key) or status.fib.actual[key]
    hops = ", ".join(via(key.prefix, next_hop.gateway) for next_hop in route.next_hops)
    what = f"{key.prefix} via {hops}" if hops else f"{route.type} {key.prefix} metric {key.metric}"
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
    announced = [
        prefix
        for prefix, it in status.plan.originated.items()
        if _stems_from(it.sources, str(key)) or str(key) in it.starved
    ]
    aggregates = status.plan.aggregates.get(key, frozenset())
    wrong = [it for it in status.problems if it.subject == str(key) and it.reason != SHARED]
    for problem in sorted(wrong, key=lambda problem: (problem.reason, problem.message)):
        yield Hop(str(key), problem.message, ok=False, reason=problem.reason, fix=problem.fix)
    none = list(no_bgp_hops(status)) if key in status.services else []
    silent = [] if none else list(service_hops(status, key, followed={*announced, *aggregates}))
    yield from silent
    for prefix in sorted(aggregates, key=prefix_order):
        yield Hop(str(key), f"is announced as part of {prefix}")
    for prefix in sorted({*announced, *aggregates}, key=prefix_order):
        yield from _of_prefix(status, prefix)
    if announced or aggregates or silent:
        return
    yield from none
    if key not in status.services and not wrong:
        yield Hop(str(key), "does not exist", ok=False, reason="objectNotFound")


def _stems_from(sources: tuple[str, ...], name: str) -> bool:
    return any(source == name or source.startswith(f"{name} (") for source in sources)
