"""Follows one route: out of an object to each peer that is told, or from each peer that told it into the kernel.

Reads `Status` only. What has no route is said to be what it is (`agent.status.explain_ground`), or to be known in parts
(`agent.status.explain_parts`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Container, Iterator
from dataclasses import replace

from agent.carrying import UNHEARD_SECONDS
from agent.model import DISCARD_METRIC, LEARNED_METRIC, FibKey, Problem
from agent.plan.prefixes import contains, supernets
from agent.plan.services import split_what
from agent.plan.steps import Steps
from agent.status.equals import NOT_BEST, why_not_used
from agent.status.explain_absent import no_bgp_hops
from agent.status.explain_ground import Ground
from agent.status.explain_parts import NO_PARTS, Parts, covered_hops, part_hops, parts_steps
from agent.status.explain_passed import passed_hops
from agent.status.explain_service import audience_hops, holders, not_announced, silent_hops
from agent.status.explain_unwanted import unwanted_hops
from agent.status.explain_withheld import dispute_hops, disputed, withheld_hops
from agent.status.hops import Hop, parse_prefix, place_of, via
from agent.status.meanings import meaning_in, meaning_out
from agent.status.remedies import kernel_remedy, outward_remedy
from agent.status.status import (
    Status,
    address_order,
    fib_state,
    is_chosen,
    is_installed,
    is_kept,
    told_state,
)
from agent.sweeping import SWEEP_CAP_SECONDS
from bgp.model import Path, Peer, Prefix, RouteKey


def route_steps(status: Status, asked: Prefix) -> Steps[Iterator[Hop]]:
    """For a prefix, or an address as its host prefix."""
    ground = Ground(status)
    closest, ends = _closest(status, ground, asked)
    parts = NO_PARTS if closest == asked else (yield from parts_steps(status, asked))
    return _route(status, ground, asked, closest, parts, ends=ends)


def _route(
    status: Status, ground: Ground, asked: Prefix, closest: Prefix | None, parts: Parts, *, ends: bool
) -> Iterator[Hop]:
    if closest is None:
        yield from prefix_hops(status, asked, parts)
        return
    if closest != asked and not ends and ground.is_own(asked):
        yield ground.own_hop(asked, neutral=True)
    yield from covered_hops(status, asked, parts)
    yield from ground.hops(asked, closest) if ends else prefix_hops(status, closest)


def _closest(status: Status, ground: Ground, asked: Prefix) -> tuple[Prefix | None, bool]:
    """What is known of the prefix itself, else of the longest one around it; None: nothing. And whether no route may
    lead there.
    """
    silent = {*(parse_prefix(split_what(what)[0]) for _, what, _ in not_announced(status)), *_harmful(status)}
    owned = {asked} if _is_of_services(status, asked) else set[Prefix]()
    ours = status.plan.originated
    known: tuple[Container[Prefix | None], ...] = (ours, status.rib.prefixes(), silent, owned, disputed(status))
    announced = any(around in ours for around in supernets(asked))
    for around in supernets(asked):
        if any(around in table for table in known) or any(withheld_hops(status, around)):
            return around, False
        if not announced and ground.ends_at(around):
            return around, True
    return None, False


def _is_of_services(status: Status, prefix: Prefix) -> bool:
    """It is an address of Services, none of which announces it as part of something wider."""
    keys = [key for key, _ in holders(status, prefix)]
    wider = (one for key in keys for one in status.plan.aggregates.get(key, ()))
    return bool(keys) and not any(contains(one, prefix) for one in wider)


def prefix_hops(status: Status, prefix: Prefix, parts: Parts = NO_PARTS) -> Iterator[Hop]:
    """All that is known of exactly this one; `parts` of it, where it is not known as a whole."""
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
        silent = [hop for key, service in owners for hop in unwanted_hops(status, key, service, (address,))]
    withheld = [] if none else list(withheld_hops(status, prefix))
    silent += [replace(hop, ok=True, neutral=True) if in_use else hop for hop in withheld]
    yield from silent
    if prefix in status.plan.originated:
        yield from _way_out(status, prefix)
    for address in sorted(heard, key=address_order):
        about_ours = bool(owners or withheld)
        yield _heard(status, RouteKey(address, prefix), heard[address], in_use=in_use, about_ours=about_ours)
    if FibKey(prefix, LEARNED_METRIC) in status.plan.fib or FibKey(prefix, LEARNED_METRIC) in status.fib.actual:
        yield from none
        yield _in_kernel(status, FibKey(prefix, LEARNED_METRIC))
    elif not heard and not silent and none:
        yield from none
    elif not heard and not silent and prefix not in status.plan.originated:
        yield from part_hops(status, prefix, parts)
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
            fix = f"See `bgpilot peer {key.peer}` for the last error of the session."
            return Hop(place, f"will be sent: the session is {state}", ok=False, reason="notEstablished", fix=fix)
        case "pending", str(reason) if reason:
            few, more = status.awaited[:3], len(status.awaited) - 3
            whose = ", ".join(few) + (f" and {more} more" if more > 0 else "")
            text = f"is told when the kernel has the pod routes of {whose}, after {UNHEARD_SECONDS:.0f} s at most"
            return Hop(place, text, ok=False, reason=reason, fix=outward_remedy(reason))
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
        case "leaving", _ if status.plan.identity is None:  # `agent.sweeping`
            text = f"{what} is there, and stays for {SWEEP_CAP_SECONDS:.0f} s at most: routers may still send here"
            return Hop("kernel", text, reason="leaving", neutral=True)
        case "leaving", _:
            return Hop("kernel", f"{what} is there and no longer wanted", ok=False, reason="leaving")
        case "conflict", details:
            return Hop("kernel", f"{what}: {details}", ok=False, reason="kernelConflict")
        case "failing", details:
            fix = kernel_remedy([next_hop.gateway for next_hop in route.next_hops])
            return Hop("kernel", f"{what}: {details}", ok=False, reason="kernelRefused", fix=fix)
        case "changed", details:
            return Hop("kernel", f"{what}: {details}", ok=False, reason="notInstalled")
        case _:
            return Hop("kernel", f"{what} is not installed", ok=False, reason="notInstalled")
