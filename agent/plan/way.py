"""Which route of our own leads to an address, or draws what is sent to it: for what cannot be reached any more.

A route that a peer gave, or a prefix that this node announces, may well lie around the API server itself. It refuses to
say that the route is at fault: it is where to look first.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from ipaddress import ip_address
from typing import Final
from urllib.parse import urlsplit

from agent.model import LEARNED_METRIC, FibKey, Problem
from agent.plan.model import NodePlan
from agent.plan.prefixes import host, supernets
from bgp.model import Address

_UNREACHABLE: Final = "apiUnreachable"


def with_own_way(problems: Iterable[Problem], plan: NodePlan, api_url: str) -> frozenset[Problem]:
    """The same; those with an API server that does not answer name our own routes around its address."""
    address = _address(api_url)
    every = frozenset(problems)
    if address is None or not any(problem.reason == _UNREACHABLE for problem in every):
        return every
    words = own_way(plan, address)
    return frozenset(_longer(it, words) if words and it.reason == _UNREACHABLE else it for it in every)


def own_way(plan: NodePlan, address: Address) -> str:
    """Empty: there is none. The longest route of each kind, which is the one that counts."""
    learned = announced = ""
    for prefix in supernets(host(address)):
        route = plan.fib.get(FibKey(prefix, LEARNED_METRIC))
        if route is not None and not learned:
            hops = ", ".join(str(hop.gateway) for hop in route.next_hops)
            learned = f"this node has installed {prefix} via {hops}, as peers gave it"
        if prefix in plan.originated and not announced:
            sources = ", ".join(plan.originated[prefix].sources)
            announced = f"this node announces {prefix} for {sources}"
    found = " and ".join(filter(None, (learned, announced)))
    return f"its address {address} lies in a route of ours: {found}" if found else ""


def _longer(problem: Problem, words: str) -> Problem:
    return replace(problem, message=f"{problem.message}; {words}", fix=f"See if this route is right. {problem.fix}")


def _address(url: str) -> Address | None:
    """None: a name, which only the DNS knows."""
    try:
        return ip_address(urlsplit(url).hostname or "")
    except ValueError:
        return None
