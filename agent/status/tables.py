"""Tables of routes as plain values that JSON can hold: what was heard, what is told, what is in the kernel.

Bounded (`ROWS_MAX`), in stable order; what was cut off is counted. What they have in common with other answers is in
`agent.status.views`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import chain, islice
from typing import Any, Final, Literal, TypeAlias

from agent.model import FibKey, FibRoute
from agent.status.equals import NOT_BEST, why_not_used
from agent.status.peers import View
from agent.status.status import (
    FibFailure,
    Status,
    address_order,
    fib_state,
    is_kept,
    not_installed_reason,
    prefix_order,
    told_state,
)
from agent.status.views import answer
from bgp.model import Address, AsPath, Attributes, Path, Prefix, RouteKey

ROWS_MAX: Final = 5_000
"""Rows of a table in one answer: about 2 MB and 50 ms."""

Side: TypeAlias = Literal["received", "accepted", "advertised"]
SIDES: Final[tuple[Side, ...]] = ("received", "accepted", "advertised")


def routes_view(
    status: Status, side: Side, *, peer: Address | None = None, prefix: Prefix | None = None, limit: int = ROWS_MAX
) -> View:
    """Adj-RIB-In with the reason word of what is not admitted or not installed, what of it is admitted, or what is told
    to peers.

    `prefix` selects what is inside it, and when it is one host's what covers it.
    """
    if side == "advertised":
        return _table(
            status,
            "routes",
            _told(status, peer, prefix),
            order=_route_order,
            row=lambda key: _advertised(status, key),
            limit=limit,
            in_all=len(status.plan.routes) + len(status.plan.refused_out) if not (peer or prefix) else None,
            side=side,
        )
    failing = status.fib.failing
    heard = (key for key in _heard(status, peer) if _selected(key, peer, prefix))
    if side == "accepted":
        heard = (key for key in heard if key not in status.plan.refused_in)
    everything = side == "received" and peer is None and prefix is None
    return _table(
        status,
        "routes",
        heard,
        order=_route_order,
        row=lambda key: _received(status, failing, key),
        limit=limit,
        in_all=sum(len(status.rib.heard_from(address)) for address in status.plan.peers) if everything else None,
        side=side,
    )


def _told(status: Status, peer: Address | None, prefix: Prefix | None) -> Iterator[RouteKey]:
    """What has a place in the plan: looked up, or picked out of all, whatever are fewer. A reflector's are a million,
    and a node with a thousand peers that hears a full table might have a hundred million.
    """
    plan = status.plan
    every = chain(plan.routes, plan.refused_out)
    if prefix is None and peer is None:
        yield from every
        return
    known = chain(plan.originated, (it for it in status.rib.prefixes() if it not in plan.originated))
    asked = [it for it in known if prefix is None or matches(it, prefix)]
    peers = list(plan.peers) if peer is None else [peer]
    if len(asked) * len(peers) > len(plan.routes) + len(plan.refused_out):
        yield from (key for key in every if _selected(key, peer, prefix))
        return
    for it in asked:
        for address in peers:
            key = RouteKey(address, it)
            if key in plan.routes or key in plan.refused_out:
                yield key


def _heard(status: Status, peer: Address | None) -> Iterator[RouteKey]:
    for address in [peer] if peer is not None else status.plan.peers:
        for prefix in status.rib.heard_from(address):
            yield RouteKey(address, prefix)


def _selected(key: RouteKey, peer: Address | None, prefix: Prefix | None) -> bool:
    return peer in (None, key.peer) and (prefix is None or matches(key.prefix, prefix))


def matches(prefix: Prefix, asked: Prefix) -> bool:
    """Inside what was asked for; or around it, when one address was asked for."""
    if prefix.version != asked.version:
        return False
    if asked.prefixlen == asked.max_prefixlen:
        return asked.network_address in prefix
    return prefix.prefixlen >= asked.prefixlen and prefix.network_address in asked


def _received(status: Status, failing: Mapping[FibKey, FibFailure], key: RouteKey) -> View:
    path: Path = status.rib.heard_from(key.peer)[key.prefix]
    refused = status.plan.refused_in.get(key)
    reason = not_installed_reason(status, failing, path, key.prefix) if refused is None else refused
    if reason == NOT_BEST:
        reason = why_not_used(status, path, key.prefix)
    return {
        "prefix": str(key.prefix),
        "peer": str(key.peer),
        "next_hop": str(path.next_hop),
        **_attributes(path.attributes),
        "accepted": refused is None,
        "reason": reason or None,
        "installed": not reason,
        "kept": is_kept(status, key.peer),
    }


def _advertised(status: Status, key: RouteKey) -> View:
    route = status.plan.routes.get(key)
    state, reason = told_state(status, key)
    origination = status.plan.originated.get(key.prefix)
    return {
        "prefix": str(key.prefix),
        "peer": str(key.peer),
        "next_hop": None if route is None else str(route.next_hop),
        **({} if route is None else _attributes(route.attributes)),
        "state": state,
        "reason": reason or None,
        "sources": [] if origination is None else list(origination.sources),
    }


def _attributes(attributes: Attributes) -> View:
    return {
        "as_path": _as_path(attributes.as_path),
        "origin": attributes.origin.name.lower(),
        "local_preference": attributes.local_pref,
        "med": attributes.med,
        "communities": sorted(f"{it.asn}:{it.value}" for it in attributes.communities),
        "large_communities": sorted(f"{it.admin}:{it.data1}:{it.data2}" for it in attributes.large_communities),
    }


def _as_path(as_path: AsPath) -> str:
    """As routers print it: sets in braces."""
    return " ".join(str(it) if isinstance(it, int) else "{" + ",".join(map(str, sorted(it))) + "}" for it in as_path)


def fib_view(status: Status, *, prefix: Prefix | None = None, limit: int = ROWS_MAX) -> View:
    """Routes of ours in the kernel, and those that should be there."""
    wanted, actual, failing = status.plan.fib, status.fib.actual, status.fib.failing
    keys = chain(wanted, (key for key in actual if key not in wanted))
    selected = (key for key in keys if prefix is None or matches(key.prefix, prefix))
    return _table(
        status, "fib", selected, order=_fib_order, row=lambda key: _kernel_route(status, failing, key), limit=limit
    )


def _kernel_route(status: Status, failing: Mapping[FibKey, FibFailure], key: FibKey) -> View:
    route: FibRoute = status.fib.actual.get(key) or status.plan.fib[key]
    state, details = fib_state(status, failing, key)
    return {
        "prefix": str(key.prefix),
        "type": str(route.type),
        "metric": key.metric,
        "next_hops": [str(next_hop.gateway) for next_hop in route.next_hops],
        "state": state,
        "details": details or None,
    }


def _table(
    status: Status,
    name: str,
    keys: Iterator[Any],
    *,
    order: Callable[[Any], Any],
    row: Callable[[Any], View],
    limit: int,
    in_all: int | None = None,
    **more: str,
) -> View:
    """The first `limit` rows that are found, in order; when there are more, the rest is only counted.

    `in_all`: how many there are, when that is known.
    """
    chosen = list(islice(keys, limit))
    left_out = sum(1 for _ in keys) if in_all is None else in_all - len(chosen)
    rows = [row(key) for key in sorted(chosen, key=order)]
    return answer(status, name, {**more, "rows": rows, "left_out": left_out})


def _route_order(key: RouteKey) -> tuple[tuple[int, int, int], tuple[int, int, str]]:
    return prefix_order(key.prefix), address_order(key.peer)


def _fib_order(key: FibKey) -> tuple[tuple[int, int, int], int]:
    return prefix_order(key.prefix), key.metric
