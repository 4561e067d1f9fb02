"""Follows one route, service or peer hop by hop to the "no": who says it, its reason word, and what would change it.

Reads `Status` only. A hop that is ok has no reason; hops after a "no" are left out where they depend on it.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, islice
from typing import Final

from agent.model import Key, Kind
from agent.plan.steps import Steps, finish
from agent.status.explain_absent import absent_hops, no_bgp_hops
from agent.status.explain_node import node_hops, node_named
from agent.status.explain_peer import peer_hops, problem_hops
from agent.status.explain_route import prefix_hops, route_steps
from agent.status.explain_service import SHARED, service_hops
from agent.status.hops import Hop, as_plain, parse_prefix
from agent.status.meant import did_you_mean, meant
from agent.status.peers import View
from agent.status.status import Status, prefix_order
from agent.status.views import answer, peers_named

HOPS_MAX: Final = 500
"""A mesh of hundreds of nodes has one hop per peer; more than this nobody reads."""


def explain(status: Status, subject: str) -> View | None:
    return finish(explain_steps(status, subject))


def explain_steps(status: Status, subject: str) -> Steps[View | None]:
    """The answer for a Node, a peer (address or name), a prefix or address, or NAMESPACE/SERVICE; None: it is none."""
    subject = subject.strip()
    if (node := node_named(status, subject)) is not None:
        follow = chain.from_iterable(prefix_hops(status, cidr) for cidr in node.pod_cidrs)
        return _answer(status, subject, "node", chain(node_hops(status, node), follow))
    if named := peers_named(status, subject):
        return _answer(status, subject, "peer", chain.from_iterable(peer_hops(status, peer) for peer in named))
    if absent := absent_hops(status, subject) or problem_hops(status, subject):
        kind = "node" if absent[0].place.startswith(f"{Kind.NODE} ") else "peer"
        return _answer(status, subject, kind, iter(absent))
    if (prefix := parse_prefix(subject)) is not None:
        return _answer(status, subject, "route", (yield from route_steps(status, prefix)))
    namespace, slash, name = subject.removeprefix("Service ").partition("/")
    if slash and namespace and name and "/" not in name:
        return _answer(status, subject, "service", _of_service(status, namespace, name))
    return None


def not_known(status: Status, subject: str) -> str:
    how = did_you_mean(meant(status, subject.strip()), "a Service is named as NAMESPACE/SERVICE")
    return f"{subject!r} is no node, peer, prefix or address; {how}"


def _answer(status: Status, subject: str, kind: str, hops: Iterator[Hop]) -> View:
    found = list(dict.fromkeys(islice(hops, HOPS_MAX)))  # a Node and its pod CIDR may be told no by one problem
    return answer(
        status,
        "explain",
        {
            "subject": subject,
            "kind": kind,
            "ok": all(hop.ok for hop in found),
            "hops": [as_plain(hop) for hop in found],
        },
    )


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
        yield from prefix_hops(status, prefix)
    if announced or aggregates or silent:
        return
    yield from none
    if key not in status.services and not wrong:
        other = meant(status, f"{namespace}/{name}")
        words = "does not exist" if other is None else f"does not exist; did you mean {other}?"
        yield Hop(str(key), words, ok=False, reason="objectNotFound")


def _stems_from(sources: tuple[str, ...], name: str) -> bool:
    return any(source == name or source.startswith(f"{name} (") for source in sources)
