"""Explains a BGPPeer that exists and of which no session comes on this node: what leaves the node out.

Reads `Status` only. What is wrong with an object has a Problem (`agent.status.explain_peer.problem_hops`); that an
object means other nodes is nothing wrong, and is said here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from agent.intent import ExternalPeer, Selector
from agent.model import Key, Kind, Problem
from agent.plan.nodes import place
from agent.status.explain_peer import problem_hops
from agent.status.health import why_no_bgp
from agent.status.hops import Hop
from agent.status.status import Status


def absent_hops(status: Status, name: str) -> list[Hop]:
    """`tor-a`, `BGPPeer/tor-a`, `BGPPeer tor-a`, or the address in its spec; empty: there is no such object."""
    found = [(key, peer) for key, peer in status.routers.items() if isinstance(peer, ExternalPeer)]
    about = [(key, peer) for key, peer in found if name in {key.name, f"{Kind.PEER}/{key.name}", str(key)}]
    about = about or [(key, peer) for key, peer in found if peer.address is not None and name == str(peer.address)]
    return [hop for key, peer in about for hop in _of_object(status, key, peer)]


def no_bgp_hops(status: Status) -> Iterator[Hop]:
    """This node is nothing in BGP; nothing: it is something."""
    for it in why_no_bgp(status):
        yield Hop(f"node {status.node}", _speaks_none(it), ok=False, reason=it.reason, fix=it.fix)


def _speaks_none(problem: Problem) -> str:
    return f"speaks no BGP, so it neither announces nor hears anything: {problem.message}"


def _of_object(status: Status, key: Key, peer: ExternalPeer) -> Iterator[Hop]:
    yield Hop(str(key), f"the object exists, for {_router(peer)}")
    none = list(no_bgp_hops(status))
    yield from none
    labels = status.own_labels
    if labels is not None and not peer.node_selector.matches(labels):
        yield not_selected(status.node, key, peer.node_selector, labels)
        return
    wrong = problem_hops(status, key.name)
    yield from wrong
    if not none and not wrong:
        yield Hop(str(key), "no session has come of it yet", ok=False, reason="pending")


def _router(peer: ExternalPeer) -> str:
    if peer.address is not None:
        return f"{peer.address} AS {peer.asn}"
    if peer.address_from is not None:
        return f"the address in {place(peer.address_from)} of each Node, AS {peer.asn}"
    return f"the default gateway of each node, AS {peer.asn}"


def not_selected(node: str, key: Key, selector: Selector, labels: Mapping[str, str]) -> Hop:
    """Which terms do not hold, what the node has instead, and the labels that would do."""
    unmet: list[tuple[str, str, str]] = [
        (f"{name}={value}", name, f"{name}={value}")
        for name, value in selector.labels
        if not Selector(labels=((name, value),)).matches(labels)
    ]
    unmet += [
        (_words(*term), term[0], _remedy(*term))
        for term in selector.expressions
        if not Selector(expressions=(term,)).matches(labels)
    ]
    wants = ", ".join(words for words, _, _ in unmet)
    has = ", ".join(
        f"{name}={labels[name]}" if name in labels else f"no label {name}"
        for name in dict.fromkeys(name for _, name, _ in unmet)
    )
    change = " ".join(dict.fromkeys(change for _, _, change in unmet))
    return Hop(
        str(key),
        f"its spec.nodeSelector does not select Node {node}: it wants {wants}, and the node has {has}",
        ok=False,
        reason="nodeNotSelected",
        fix=f"Nothing to do if it is meant for other nodes; else `kubectl label --overwrite node {node} {change}`, "
        f"or widen spec.nodeSelector of {key}.",
    )


def terms_of(selector: Selector) -> str:
    """As kubectl writes selectors."""
    terms = [f"{name}={value}" for name, value in selector.labels]
    return ", ".join([*terms, *(_words(*term) for term in selector.expressions)]) or "any"


def _words(name: str, operator: str, values: tuple[str, ...]) -> str:
    """As kubectl writes selectors."""
    match operator:
        case "In" | "NotIn":
            return f"{name} {operator.lower()} ({','.join(values)})"
        case "DoesNotExist":
            return f"!{name}"
        case _:
            return name


def _remedy(name: str, operator: str, values: tuple[str, ...]) -> str:
    """Argument of `kubectl label`."""
    match operator:
        case "In":
            return f"{name}={values[0]}" if values else f"{name}=VALUE"
        case "Exists":
            return f"{name}=VALUE"
        case _:
            return f"{name}-"
