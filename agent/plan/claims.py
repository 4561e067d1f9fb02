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
from bgp.model import Address, Family, Prefix

_Rank: TypeAlias = tuple[float, str]
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What is left of a Node's claims."""

    name: str
    created: float
    addresses: tuple[Address, ...]
    """At most one per family, IPv4 first: the Node's first InternalIP of it."""
    pod_cidrs: tuple[Prefix, ...]
    problems: tuple[Problem, ...]

    def address_of(self, family: Family) -> Address | None:
        return next((address for address in self.addresses if Family.of(address) is family), None)


class Touched(NamedTuple):
    """What one Node's change may have changed: whose standing, and which prefixes are now claimed or free."""

    nodes: frozenset[str] = frozenset()
    prefixes: frozenset[Prefix] = frozenset()


class Claims:
    __slots__ = ("_by_address", "_by_cidr", "_cidrs", "_internal", "_nodes")

    def __init__(self) -> None:
        self._nodes: dict[str, Node] = {}
        self._by_address: dict[Address, set[str]] = {}
        """The addresses that are contested: each Node's first per family."""
        self._internal: dict[Address, set[str]] = {}
        """All InternalIPs."""
        self._by_cidr: dict[Prefix, set[str]] = {}
        self._cidrs = PrefixIndex()

    def put(self, name: str, node: Node | None) -> Touched:
        """`node` is what `name` is from now on; None: it is gone."""
        before = self._nodes.get(name)
        if _claims_of(before) == _claims_of(node):
            return Touched()
        nodes, prefixes = {name}, set[Prefix]()
        if before is not None:
            self._remove(before)
            nodes.update(self._rivals_of(before))
            prefixes.update(before.pod_cidrs, map(host, before.addresses))
        if node is not None:
            self._add(node)
            nodes.update(self._rivals_of(node))
            prefixes.update(node.pod_cidrs, map(host, node.addresses))
        return Touched(frozenset(nodes), frozenset(prefixes))

    def names(self) -> tuple[str, ...]:
        return tuple(self._nodes)

    def standing(self, name: str) -> Standing | None:
        node = self._nodes.get(name)
        if node is None:
            return None
        problems: list[Problem] = []
        if not node.addresses:
            problems.append(_without_address(node))
        addresses = []
        for address in first_of_each_family(node.addresses):
            holder = self._oldest(self._by_address[address])
            if holder == name:
                addresses.append(address)
            else:
                problems.append(_address_conflict(node, address, holder))
        cidrs = []
        for cidr in dict.fromkeys(node.pod_cidrs):
            holder = self._oldest(set(self._claimants(cidr)))
            if holder == name:
                cidrs.append(cidr)
            else:
                problems.append(_cidr_conflict(node, cidr, holder))
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

    def is_part(self, prefix: Prefix) -> bool:
        """`prefix` is less than some pod CIDR it lies in, whoever that is of."""
        return any(wider != prefix for wider in self._cidrs.covering(prefix))

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

    def _oldest(self, names: set[str]) -> str:
        return min(self._rank(name) for name in names)[1]

    def _rank(self, name: str) -> _Rank:
        return self._nodes[name].created, name

    def _claimants(self, cidr: Prefix) -> Iterator[str]:
        for overlapping in self._cidrs.overlapping(cidr):
            yield from self._by_cidr[overlapping]

    def _rivals_of(self, node: Node) -> Iterator[str]:
        for address in first_of_each_family(node.addresses):
            yield from self._by_address.get(address, ())
        for cidr in node.pod_cidrs:
            yield from self._claimants(cidr)

    def _add(self, node: Node) -> None:
        self._nodes[node.name] = node
        for address in node.addresses:
            self._internal.setdefault(address, set()).add(node.name)
        for address in first_of_each_family(node.addresses):
            self._by_address.setdefault(address, set()).add(node.name)
        for cidr in node.pod_cidrs:
            self._by_cidr.setdefault(cidr, set()).add(node.name)
            self._cidrs.put(cidr)

    def _remove(self, node: Node) -> None:
        del self._nodes[node.name]
        for address in node.addresses:
            _discard(self._by_address, address, node.name)
            _discard(self._internal, address, node.name)
        for cidr in node.pod_cidrs:
            _discard(self._by_cidr, cidr, node.name)
            if cidr not in self._by_cidr:
                self._cidrs.drop(cidr)


def first_of_each_family(addresses: tuple[Address, ...]) -> tuple[Address, ...]:
    """IPv4 first, whatever the order in the object."""
    firsts = (next((a for a in addresses if Family.of(a) is family), None) for family in Family)
    return tuple(address for address in firsts if address is not None)


def _claims_of(node: Node | None) -> object:
    return node and (node.created, node.addresses, node.pod_cidrs)


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


def _address_conflict(node: Node, address: Address, holder: str) -> Problem:
    return Problem(
        "nodeAddressConflict",
        f"Node {node.name}",
        f"InternalIP {address} of Node {node.name} is also that of Node {holder}, which is older and keeps it",
        f"Give Node {node.name} an address of its own (--node-ip of its kubelet), or delete the Node that is no more.",
    )


def _cidr_conflict(node: Node, cidr: Prefix, holder: str) -> Problem:
    return Problem(
        "podCIDRConflict",
        f"Node {node.name}",
        f"pod CIDR {cidr} of Node {node.name} overlaps one of Node {holder}, which is older and keeps it",
        f"Delete Node {node.name} and let it register again with a pod CIDR of its own.",
    )
