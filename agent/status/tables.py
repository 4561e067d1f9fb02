"""Tables of routes as plain values that JSON can hold: what was heard, what is told, what is in the kernel.

Bounded (`ROWS_MAX`), in stable order; what was cut off is counted. They are made in steps, key by key, and others have
turns between: what is gone when its turn comes is not shown. What they have in common with other answers is in
`agent.status.views`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain, islice, product
from typing import Any, Final, Literal, TypeAlias, TypeVar

from agent.model import FibKey, object_of
from agent.plan.steps import Steps, finish
from agent.status.equals import NOT_BEST, why_not_used
from agent.status.peers import View, held_problem, why_not
from agent.status.remedies import remedy
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
from agent.status.views import answer, problems_list, unanswered
from bgp.model import Address, AsPath, Attributes, Prefix, RouteKey

K = TypeVar("K", FibKey, RouteKey)

ROWS_MAX: Final = 5_000
"""Rows of a table in one answer: about 2 MB, and 50 ms with turns between."""

Side: TypeAlias = Literal["received", "accepted", "advertised"]
SIDES: Final[tuple[Side, ...]] = ("received", "accepted", "advertised")


def routes_view(
    status: Status,
    now: float,
    side: Side,
    *,
    peer: Address | None = None,
    prefix: Prefix | None = None,
    limit: int = ROWS_MAX,
) -> View:
    return finish(routes_steps(status, now, side, peer=peer, prefix=prefix, limit=limit))


def routes_steps(
    status: Status,
    now: float,
    side: Side,
    *,
    peer: Address | None = None,
    prefix: Prefix | None = None,
    limit: int = ROWS_MAX,
) -> Steps[View]:
    """Adj-RIB-In with the reason word of what is not admitted or not installed, what of it is admitted, or what is told
    to peers.

    `prefix` selects what is inside it, and when it is one host's what covers it.
    """
    everything = peer is None and prefix is None
    if side == "advertised":
        return _table(
            status,
            "routes",
            now,
            _told(status, peer, prefix, limit),
            order=_route_order,
            row=lambda key: _advertised(status, key),
            limit=limit,
            in_all=len(status.plan.routes) + len(status.plan.refused_out) if everything else None,
            side=side,
            problems=_no_session(status, peer),
        )
    failing = status.fib.failing
    heard = sum(len(status.rib.heard_from(address)) for address in status.plan.peers)
    return _table(
        status,
        "routes",
        now,
        _heard(status, peer, prefix, only_accepted=side == "accepted"),
        order=_route_order,
        row=lambda key: _received(status, failing, key),
        limit=limit,
        in_all=heard if everything and side == "received" else None,
        side=side,
        problems=_no_session(status, peer),
    )


def _no_session(status: Status, address: Address | None) -> list[View]:
    """Why nothing goes to the peer that was asked for, or comes of it; empty: there is a session, or all were asked."""
    if address is None:
        return []
    peer = status.plan.peers[address]
    subject = object_of(peer.name)
    if (held := status.held(peer)) is not None:
        if (problem := held_problem(status, peer, held)) is not None:
            return problems_list([problem])
        said = held.reason, held.text or "there must be no session", remedy(held.reason)
    elif (why := why_not(status, peer)) is not None:
        said = "notEstablished", why.text, why.fix
    else:
        return []
    return [dict(zip(("subject", "reason", "message", "fix"), (subject, *said), strict=True))]


def _told(status: Status, peer: Address | None, prefix: Prefix | None, limit: int) -> Iterator[RouteKey | None]:
    """What has a place in the plan: looked up, or picked out of all, whatever are fewer. A reflector's are a million,
    and a node with a thousand peers that hears a full table might have a hundred million: of those no more are taken
    than can be shown.
    """
    plan = status.plan
    every = chain(plan.routes, plan.refused_out)
    if prefix is None and peer is None:
        yield from list(islice(every, limit))
        return
    asked: list[Prefix] = []
    heard = (it for it in list(status.rib.prefixes()) if it not in plan.originated)
    for it in chain(list(plan.originated), heard):
        if prefix is None or matches(it, prefix):
            asked.append(it)
        yield None
    peers = list(plan.peers) if peer is None else [peer]
    if len(asked) * len(peers) > len(plan.routes) + len(plan.refused_out):
        for key in list(every):
            yield key if _selected(key, peer, prefix) else None
        return
    for it, address in product(asked, peers):
        key = RouteKey(address, it)
        yield key if key in plan.routes or key in plan.refused_out else None


def _heard(
    status: Status, peer: Address | None, prefix: Prefix | None, *, only_accepted: bool
) -> Iterator[RouteKey | None]:
    refused = status.plan.refused_in if only_accepted else {}
    for address in [peer] if peer is not None else list(status.plan.peers):
        for it in list(status.rib.heard_from(address)):
            key = RouteKey(address, it)
            yield key if (prefix is None or matches(it, prefix)) and key not in refused else None


def _selected(key: RouteKey, peer: Address | None, prefix: Prefix | None) -> bool:
    return peer in (None, key.peer) and (prefix is None or matches(key.prefix, prefix))


def matches(prefix: Prefix, asked: Prefix) -> bool:
    """Inside what was asked for; or around it, when one address was asked for."""
    if prefix.version != asked.version:
        return False
    if asked.prefixlen == asked.max_prefixlen:
        return asked.network_address in prefix
    return prefix.prefixlen >= asked.prefixlen and prefix.network_address in asked


def _received(status: Status, failing: Mapping[FibKey, FibFailure], key: RouteKey) -> View | None:
    path = status.rib.heard_from(key.peer).get(key.prefix)
    if path is None:
        return None
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


def _advertised(status: Status, key: RouteKey) -> View | None:
    route = status.plan.routes.get(key)
    if route is None and key not in status.plan.refused_out:
        return None
    state, reason = told_state(status, key)
    if state == "held":
        reason = reason or "notEstablished"
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


def fib_view(status: Status, now: float, *, prefix: Prefix | None = None, limit: int = ROWS_MAX) -> View:
    return finish(fib_steps(status, now, prefix=prefix, limit=limit))


def fib_steps(status: Status, now: float, *, prefix: Prefix | None = None, limit: int = ROWS_MAX) -> Steps[View]:
    """Routes of ours in the kernel, and those that should be there."""
    failing = status.fib.failing
    return _table(
        status,
        "fib",
        now,
        _of_kernel(status, prefix),
        order=_fib_order,
        row=lambda key: _kernel_route(status, failing, key),
        limit=limit,
        kernel_read=status.fib.is_read,
    )


def _of_kernel(status: Status, prefix: Prefix | None) -> Iterator[FibKey | None]:
    wanted, actual = status.plan.fib, status.fib.actual
    for key in list(wanted):
        yield key if prefix is None or matches(key.prefix, prefix) else None
    for key in list(actual):
        yield key if key not in wanted and (prefix is None or matches(key.prefix, prefix)) else None


def _kernel_route(status: Status, failing: Mapping[FibKey, FibFailure], key: FibKey) -> View | None:
    route = status.fib.actual.get(key) or status.plan.fib.get(key)
    if route is None:
        return None
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
    now: float,
    keys: Iterator[K | None],
    *,
    order: Callable[[K], Any],
    row: Callable[[K], View | None],
    limit: int,
    in_all: int | None = None,
    problems: Sequence[View] = (),
    **more: str | bool,
) -> Steps[View]:
    """The first `limit` rows that are found, in order; when there are more, the rest is only counted.

    `keys`: None for a step that finds nothing. `row`: None for what is gone. `in_all`: how many there are, when that is
    known.
    """
    found: dict[K, View] = {}
    left_out = 0
    for key in keys:
        if key is not None:
            if len(found) < limit:
                if key not in found and (made := row(key)) is not None:
                    found[key] = made
            elif in_all is None:
                left_out += 1
            else:
                break
        yield
    if in_all is not None:
        left_out = max(0, in_all - len(found))
    rows = [found[key] for key in sorted(found, key=order)]
    whys = [*problems_list(unanswered(status, now)), *problems]
    return answer(status, name, {**more, "rows": rows, "left_out": left_out, "problems": whys})


def _route_order(key: RouteKey) -> tuple[tuple[int, int, int], tuple[int, int, str]]:
    return prefix_order(key.prefix), address_order(key.peer)


def _fib_order(key: FibKey) -> tuple[tuple[int, int, int], int]:
    return prefix_order(key.prefix), key.metric
