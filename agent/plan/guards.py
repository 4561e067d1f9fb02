"""Which prefixes must not be announced, because they would draw to this node what is meant for others.

Routers take the longer route: a part of a network or of a pod CIDR wins over the way that there is. It refuses to know
what a prefix is good for.
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
        or any(contains(aggregate, host(one)) for one in announcing.router_addresses)
        or claims.meets(aggregate)
    )


def static_problems(own: Own, claims: Claims) -> Iterator[tuple[Prefix, Problem]]:
    """The prefixes of advertisements of type Prefix that are not announced from here, and why."""
    for advertisement in own.static:
        for prefix in advertisement.prefixes:
            if why := harm(own, claims, prefix):
                name = f"{Kind.ADVERTISEMENT} {advertisement.name}"
                yield (
                    prefix,
                    Problem(
                        "prefixInUse",
                        name,
                        f"prefix {prefix} of {name} is not announced from here: it {why}, whose traffic it would draw",
                        "Take it out of spec.prefixes, or let spec.nodeSelector select other nodes.",
                    ),
                )


def harm(own: Own, claims: Claims, prefix: Prefix) -> str | None:
    """Whose traffic would come here if `prefix` were announced.

    A prefix equal to a connected network, or around one or a pod CIDR, is harmless: their routes are longer or
    preferred to it.
    """
    if own.announcing is None or own.importing is None:
        return None
    for subnet in sorted(own.announcing.subnets, key=str):
        if subnet != prefix and contains(subnet, prefix):
            return f"is part of {subnet}, the network of this node's neighbours"
    if claims.is_part(prefix):
        return "is part of the pod CIDR of a node"
    if claims.is_anothers(prefix, own.announcing.node):
        return "is the pod CIDR of another node"
    routers = [one for one in own.announcing.router_addresses if contains(prefix, host(one))]
    connected = [subnet for subnet in own.announcing.subnets if contains(prefix, subnet)]
    for address in sorted({*claims.addresses_in(prefix), *routers} - own.importing.own_addresses, key=by_number):
        if not inside_any(host(address), connected):
            return _who(address, address in routers)
    return None


def _who(address: Address, router: bool) -> str:
    return f"holds {'router' if router else 'node'} {address}, on no network of this node"
