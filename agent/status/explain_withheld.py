"""Why a prefix that this node might announce is not announced: static prefixes, pod CIDRs and aggregates. Which pod
CIDRs two Nodes claim is said on every node.

Reads `Status` only. Addresses of Services are explained by their Service (`agent.status.explain_service`); a static
prefix that would draw others' traffic has a Problem.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from agent.advertising import Advertisement, AdvertisementType
from agent.intent import PodRoutes
from agent.model import Key, Kind, Problem
from agent.plan.prefixes import contains
from agent.plan.services import split_what
from agent.status.explain_absent import not_selected
from agent.status.explain_service import not_announced
from agent.status.hops import Hop, parse_prefix
from agent.status.meanings import meaning_in, meaning_out
from agent.status.remedies import outward_remedy
from agent.status.status import Status
from bgp.model import Family, Prefix


def withheld_hops(status: Status, prefix: Prefix) -> Iterator[Hop]:
    if prefix in status.plan.originated:
        return
    yield from _static(status, prefix)
    yield from _pods(status, prefix)
    yield from _aggregated(status, prefix)


def _static(status: Status, prefix: Prefix) -> Iterator[Hop]:
    """Which nodes they are for is said first, since the others do not announce them either way."""
    for key, it in _advertisements(status, AdvertisementType.PREFIX):
        if prefix not in it.prefixes:
            continue
        if status.own_labels is not None and not it.node_selector.matches(status.own_labels):
            yield not_selected(status.node, key, it.node_selector, status.own_labels)
        elif status.plan.leave is not None:
            yield _not_from_here(status, prefix, status.plan.leave.cause)


def _pods(status: Status, prefix: Prefix) -> Iterator[Hop]:
    identity = status.plan.identity
    if identity is None or prefix not in identity.pod_cidrs:
        return
    if identity.pod_routes is PodRoutes.OFF:
        reason = "podRoutesOff"
        text = f"{prefix} is not announced: {meaning_in(reason)}"
        yield Hop(f"node {status.node}", text, ok=False, reason=reason)
    elif status.plan.leave is not None:
        yield _not_from_here(status, prefix, status.plan.leave.cause)


def disputed(status: Status) -> dict[Prefix | None, list[Problem]]:
    """Pod CIDRs that Nodes claim in vain, as `agent.plan.claims` words it."""
    found = defaultdict[Prefix | None, list[Problem]](list)
    for problem in status.problems:
        if problem.reason == "podCIDRConflict":
            found[parse_prefix(problem.message.split()[2])].append(problem)
    return found


def dispute_hops(status: Status, prefix: Prefix) -> Iterator[Hop]:
    """A "no" on the node that does not get the pod CIDR; for the others it is as good as any other."""
    identity = status.plan.identity
    is_own = identity is not None and prefix in identity.pod_cidrs
    found = [
        problem
        for cidr, problems in disputed(status).items()
        if cidr is not None and (contains(cidr, prefix) or (is_own and contains(prefix, cidr)))
        for problem in problems
    ]
    for it in sorted(found, key=lambda it: (it.subject, it.message)):
        ours = it.subject == f"{Kind.NODE} {status.node}"
        text = it.message if ours else f"{it.message}. {it.fix}"
        yield Hop(it.subject, text, ok=not ours, reason=it.reason, fix=it.fix, neutral=not ours)


def _not_from_here(status: Status, prefix: Prefix, reason: str) -> Hop:
    text = f"{prefix} is not announced: {meaning_out(reason)}"
    return Hop(f"node {status.node}", text, ok=False, reason=reason, fix=outward_remedy(reason))


def _aggregated(status: Status, prefix: Prefix) -> Iterator[Hop]:
    """Nothing in it is announced: each of its addresses has its reason."""
    family = Family.of(prefix)
    every = _advertisements(status, AdvertisementType.SERVICE)
    if not any(dict(it.service.aggregation).get(family) == prefix.prefixlen for _, it in every):
        return
    for key, what, reason in sorted(not_announced(status)):
        address = split_what(what)[0]
        found = parse_prefix(address)
        if found is not None and found.version == prefix.version and contains(prefix, found):
            text = f"{address} is not announced here: {meaning_out(reason)}"
            yield Hop(str(key), text, ok=False, reason=reason, fix=outward_remedy(reason))


def _advertisements(status: Status, type_: AdvertisementType) -> Iterator[tuple[Key, Advertisement]]:
    for key, it in sorted(status.advertisements.items()):
        if isinstance(it, Advertisement) and it.type is type_:
            yield key, it
