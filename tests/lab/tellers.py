"""FRR or BIRD that tells prefixes with the attributes a test wants, each its own way: one face for both."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from tests.lab.addresses import family_of
from tests.lab.bird import Bird
from tests.lab.frr import Frr
from tests.lab.machines import Host
from tests.lab.neighbor import Neighbor
from tests.lab.topology import DUAL_STACK


@dataclass(frozen=True)
class Told:
    """What a router says of a prefix; `path` are the ASes behind its own, if it has another AS than we."""

    path: tuple[int, ...] = ()
    origin: str = "igp"
    med: int | None = None
    local_pref: int | None = None
    originator: str = ""
    clusters: tuple[str, ...] = ()


class FrrTeller:
    def __init__(self, host: Host, node: Neighbor, *, asn: int, router_id: str) -> None:
        self.host, self.asn = host, asn
        self.frr = Frr(host, asn=asn, router_id=router_id, neighbors=[node])
        self.frr.configure(["bgp route-map delay-timer 0"])
        self._maps: dict[Told, str] = {}

    def tell(self, told: Mapping[str, Told]) -> None:
        new = [what for what in dict.fromkeys(told.values()) if what not in self._maps]
        self._maps |= {what: f"told-{number}" for number, what in enumerate(new, start=len(self._maps))}
        lines = [line for what in new for line in _route_map(self._maps[what], what)]
        networks = {prefix: f"network {prefix} route-map {self._maps[what]}" for prefix, what in told.items()}
        self.frr.configure([*lines, f"router bgp {self.asn}", *_by_family(networks)])

    def silence(self, gone: Iterable[str]) -> None:
        networks = {prefix: f"no network {prefix}" for prefix in gone}
        self.frr.configure([f"router bgp {self.asn}", *_by_family(networks)])


def _by_family(lines: Mapping[str, str]) -> Iterator[str]:
    """`lines` by prefix, within the family they belong to: each change of it costs vtysh as much as a line."""
    for family in DUAL_STACK:
        if chosen := [line for prefix, line in lines.items() if family_of(prefix.partition("/")[0]) == family]:
            yield from (f"address-family {family} unicast", *chosen, "exit-address-family")


def _route_map(name: str, what: Told) -> Iterator[str]:
    if what.clusters:
        raise ValueError("FRR's route maps have no words for a CLUSTER_LIST")
    yield f"route-map {name} permit 10"
    yield f"set origin {what.origin}"
    if what.med is not None:
        yield f"set metric {what.med}"
    if what.local_pref is not None:
        yield f"set local-preference {what.local_pref}"
    if what.path:
        yield f"set as-path prepend {' '.join(map(str, what.path))}"
    if what.originator:
        yield f"set originator-id {what.originator}"
    yield "exit"


class BirdTeller:
    def __init__(self, host: Host, node: Neighbor, *, asn: int, router_id: str) -> None:
        self.host, self.asn = host, asn
        self.told: dict[str, Told] = {}
        self.bird = Bird(host, asn=asn, router_id=router_id, neighbors=[node])

    def tell(self, told: Mapping[str, Told]) -> None:
        self.told |= told
        self._configure()

    def silence(self, gone: Iterable[str]) -> None:
        for prefix in gone:
            del self.told[prefix]
        self._configure()

    def _configure(self) -> None:
        lines = []
        for family in DUAL_STACK:
            lines.append(f"protocol static told_{family} {{ {family} {{ preference 250; }};")
            for prefix, what in self.told.items():
                if family_of(prefix.partition("/")[0]) == family:
                    lines.append(f"  route {prefix} unreachable {{ {' '.join(_attributes(what))} }};")
            lines.append("}")
        self.bird.lines = tuple(lines)
        self.bird.configure()


def _attributes(what: Told) -> Iterator[str]:
    yield f"bgp_origin = ORIGIN_{what.origin.upper()};"
    yield from (f"bgp_path.prepend({asn});" for asn in reversed(what.path))
    if what.med is not None:
        yield f"bgp_med = {what.med};"
    if what.local_pref is not None:
        yield f"bgp_local_pref = {what.local_pref};"
    if what.originator:
        yield f"bgp_originator_id = {what.originator};"
    yield from (f"bgp_cluster_list.add({cluster});" for cluster in what.clusters)
