"""Which prefixes must not be announced, because the discard route that goes with them would take somebody's traffic.

A discard route beats the route to a network that its prefix is only part of, and the default route to everything in
the prefix that has no longer route of its own. It refuses to know what a prefix is good for.
"""

from __future__ import annotations

from collections.abc import Iterator

from agent.model import Kind, Problem
from agent.plan.claims import Claims
from agent.plan.identity import Announcing, Own
from agent.plan.prefixes import contains, host, inside_any
from bgp.model import Address, Prefix, by_number


def too_wide(claims: Claims, announcing: Announcing, aggregate: Prefix) -> bool:
    """Routers must not be told to come to us for their own network, or for that of nodes or pods."""
    return (
        any(contains(one, aggregate) or contains(aggregate, one) for one in announcing.subnets)
        or any(contains(aggregate, host(one)) for one in announcing.peer_addresses)
        or claims.meets(aggregate)
    )


def static_problems(own: Own, claims: Claims) -> Iterator[tuple[Prefix, Problem]]:
    """The prefixes of advertisements of type Prefix that are not announced from here, and why."""
    for advertisement in own.static:
        for prefix in advertisement.prefixes:
            if harmed := harmed_by(own, claims, prefix):
                name = f"{Kind.ADVERTISEMENT} {advertisement.name}"
                yield (
                    prefix,
                    Problem(
                        "prefixInUse",
                        name,
                        f"prefix {prefix} of {name} is not announced from here: its discard route would cut this node "
                        f"off from {harmed}",
                        "Take it out of spec.prefixes, or let spec.nodeSelector select other nodes.",
                    ),
                )


def harmed_by(own: Own, claims: Claims, prefix: Prefix) -> str | None:
    """What this node could not reach any more with a discard route for all of `prefix`.

    A prefix equal to or around a connected network or a pod CIDR is harmless: their routes are preferred or longer.
    """
    if own.announcing is None or own.importing is None:
        return None
    for subnet in sorted(own.announcing.subnets, key=str):
        if subnet != prefix and contains(subnet, prefix):
            return f"its neighbours in {subnet}"
    if claims.is_part(prefix):
        return "pods, since it is part of a pod CIDR"
    routers = [one for one in own.announcing.peer_addresses if contains(prefix, host(one))]
    connected = [subnet for subnet in own.announcing.subnets if contains(prefix, subnet)]
    for address in sorted({*claims.addresses_in(prefix), *routers} - own.importing.own_addresses, key=by_number):
        if not inside_any(host(address), connected):
            return _who(address, address in routers)
    return None


def _who(address: Address, router: bool) -> str:
    return f"{'router' if router else 'node'} {address}, which is not on a network of this node"
