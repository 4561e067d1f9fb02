"""What Nodes claim, addresses and pod CIDRs, and whose claim stands when two claim the same.

The older Node (creationTimestamp, then name) keeps what it has; the claim of the younger is void, and a Problem names
both. A claim is void as soon as any older Node claims something that overlaps it, whether or not that one stands: the
answer depends on these two Nodes only and never on the order of arrival. One Node's change touches that Node and those
it overlaps, however many Nodes there are. What standing claims are used for is not decided here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias, TypeVar

from agent.model import Node, Problem
from agent.plan.prefixes import PrefixIndex, host
from bgp.model import Address, Prefix

_Rank: TypeAlias = tuple[float, str]
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What is left of a Node's claims."""

    name: str
    created: float
    addresses: tuple[Address, ...]
    """For sessions and as next hops: at most one per family, IPv4 first."""
    pod_cidrs: tuple[Prefix, ...]
    problems: tuple[Problem, ...]


class Touched(NamedTuple):
    """What one Node's change may have changed: whose standing, and which prefixes are now claimed or free."""

    nodes: frozenset[str] = frozenset()
    prefixes: frozenset[Prefix] = frozenset()


class _Claimed(NamedTuple):
    node: Node
    contested: tuple[Address, ...]
    """The addresses it wants to have to itself, for sessions."""


class Claims:
    __slots__ = ("_by_address", "_by_cidr", "_cidrs", "_hosts", "_internal", "_nodes")

    def __init__(self) -> None:
        self._nodes: dict[str, _Claimed] = {}
        self._by_address: dict[Address, set[str]] = {}
        """The addresses that are contested."""
        self._internal: dict[Address, set[str]] = {}
        """All InternalIPs."""
        self._hosts = PrefixIndex()
        """The same."""
        self._by_cidr: dict[Prefix, set[str]] = {}
        self._cidrs = PrefixIndex()

    def put(self, name: str, node: Node | None, contested: tuple[Address, ...] = ()) -> Touched:
        """`node` is what `name` is from now on (None: it is gone), and `contested` its addresses for sessions."""
        before, claimed = self._nodes.get(name), _Claimed(node, contested) if node is not None else None
        if _claims_of(before) == _claims_of(claimed):
            return Touched()
        nodes, prefixes = {name}, set[Prefix]()
        if before is not None:
            self._remove(before)
        if claimed is not None:
            self._add(claimed)
        for either in (before, claimed):
            if either is not None:
                nodes.update(self._rivals_of(either))
                prefixes.update(either.node.pod_cidrs, map(host, either.node.addresses))
        return Touched(frozenset(nodes), frozenset(prefixes))

    def names(self) -> tuple[str, ...]:
        return tuple(self._nodes)

    def standing(self, name: str) -> Standing | None:
        claimed = self._nodes.get(name)
        if claimed is None:
            return None
        node = claimed.node
        problems: list[Problem] = []
        if not node.addresses:
            problems.append(_without_address(node))
        addresses = []
        for address in claimed.contested:
            holder = self._oldest(self._by_address[address])
            if holder == name:
                addresses.append(address)
            else:
                problems.append(_address_conflict(node, address, self._nodes[holder].node))
        cidrs = []
        for cidr in dict.fromkeys(node.pod_cidrs):
            holder = self._oldest(set(self._claimants(cidr)))
            if holder == name:
                cidrs.append(cidr)
            else:
                problems.append(_cidr_conflict(node, cidr, self._nodes[holder].node))
        return Standing(
            name=name,
            created=node.created,
            addresses=tuple(addresses),
            pod_cidrs=tuple(cidrs),
            problems=tuple(problems),
        )

    def owner_of(self, prefix: Prefix) -> str | None:
        """The Node of which `prefix` is a pod CIDR, uncontested."""
        exact = self._by_cidr.get(prefix)
        if not exact:
            return None
        holder = self._oldest(set(self._claimants(prefix)))
        return holder if holder in exact else None

    def is_anothers(self, prefix: Prefix, node: str) -> bool:
        """Some other Node than this has exactly this pod CIDR, rightly or not."""
        return not self._by_cidr.get(prefix, set()) <= {node}

    def is_part(self, prefix: Prefix) -> bool:
        """`prefix` is less than some pod CIDR it lies in, whoever that is of."""
        return self._cidrs.covers(prefix, but_itself=True)

    def overlapping(self, prefixes: Iterable[Prefix]) -> set[Prefix]:
        """`prefixes` and the pod CIDRs that overlap them: those whose owner may be another when `prefixes` changed."""
        found = set(prefixes)
        for prefix in tuple(found):
            found.update(self._cidrs.overlapping(prefix))
        return found

    def taken(self, address: Address) -> str | None:
        """The reason word why `address` cannot be a service's: some Node claims it, rightly or not."""
        if address in self._internal:
            return "nodeAddress"
        if next(self._cidrs.around(address), None) is not None:
            return "podRange"
        return None

    def meets(self, prefix: Prefix) -> bool:
        """Some Node claims an address in `prefix`, or a pod CIDR that overlaps it."""
        return self._hosts.holds_any_of(prefix) or next(self._cidrs.overlapping(prefix), None) is not None

    def addresses_in(self, prefix: Prefix) -> Iterator[Address]:
        """InternalIPs of Nodes."""
        return (found.network_address for found in self._hosts.inside(prefix))

    def _oldest(self, names: set[str]) -> str:
        return min(self._rank(name) for name in names)[1]

    def _rank(self, name: str) -> _Rank:
        return self._nodes[name].node.created, name

    def _claimants(self, cidr: Prefix) -> Iterator[str]:
        for overlapping in self._cidrs.overlapping(cidr):
            yield from self._by_cidr[overlapping]

    def _rivals_of(self, claimed: _Claimed) -> Iterator[str]:
        for address in claimed.contested:
            yield from self._by_address.get(address, ())
        for cidr in claimed.node.pod_cidrs:
            yield from self._claimants(cidr)

    def _add(self, claimed: _Claimed) -> None:
        node = claimed.node
        self._nodes[node.name] = claimed
        for address in node.addresses:
            self._internal.setdefault(address, set()).add(node.name)
            self._hosts.put(host(address))
        for address in claimed.contested:
            self._by_address.setdefault(address, set()).add(node.name)
        for cidr in node.pod_cidrs:
            self._by_cidr.setdefault(cidr, set()).add(node.name)
            self._cidrs.put(cidr)

    def _remove(self, claimed: _Claimed) -> None:
        node = claimed.node
        del self._nodes[node.name]
        for address in node.addresses:
            _discard(self._by_address, address, node.name)
            _discard(self._internal, address, node.name)
            if address not in self._internal:
                self._hosts.drop(host(address))
        for cidr in node.pod_cidrs:
            _discard(self._by_cidr, cidr, node.name)
            if cidr not in self._by_cidr:
                self._cidrs.drop(cidr)


def _claims_of(claimed: _Claimed | None) -> object:
    return claimed and (claimed.node.created, claimed.node.addresses, claimed.node.pod_cidrs, claimed.contested)


def _discard(table: dict[T, set[str]], key: T, name: str) -> None:
    claimants = table.get(key, set())
    claimants.discard(name)
    if not claimants:
        table.pop(key, None)


def _without_address(node: Node) -> Problem:
    return Problem(
        "nodeWithoutAddress",
        f"Node {node.name}",
        f"Node {node.name} has no address of type InternalIP in status.addresses: there is no session with it",
        "Set --node-ip of its kubelet, or look why the cloud provider gives it none.",
    )


def _why_it(holder: Node, node: Node) -> str:
    why = "is older" if holder.created < node.created else "is of the same age, comes first by name"
    return f"which {why} and keeps it"


def _address_conflict(node: Node, address: Address, holder: Node) -> Problem:
    return Problem(
        "nodeAddressConflict",
        f"Node {node.name}",
        f"InternalIP {address} of Node {node.name} is also that of Node {holder.name}, {_why_it(holder, node)}",
        f"Give Node {node.name} an address of its own (--node-ip of its kubelet), or delete the Node that is no more.",
    )


def _cidr_conflict(node: Node, cidr: Prefix, holder: Node) -> Problem:
    return Problem(
        "podCIDRConflict",
        f"Node {node.name}",
        f"pod CIDR {cidr} of Node {node.name} overlaps one of Node {holder.name}, {_why_it(holder, node)}",
        f"Delete Node {node.name} and let it register again with a pod CIDR of its own.",
    )
