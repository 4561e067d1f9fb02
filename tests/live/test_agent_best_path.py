"""Several routers tell one prefix: which next hop the kernel gets (RFC 4271 9.1, RFC 4456 9), and by how many writes.

FRR and BIRD of one other AS, a BIRD of a third one, and FRR and two BIRDs of our own AS, which may give pod CIDRs only:
so every prefix here is the pod CIDR of a node that is just an object. The node's kernel is the judge.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from ipaddress import ip_network
from typing import Any

import pytest

from tests.lab.minicluster import CLUSTER_ASN, MiniCluster, custom, tor_peer
from tests.lab.neighbor import Neighbor
from tests.lab.netns import Family
from tests.lab.tellers import BirdTeller, FrrTeller, Told
from tests.lab.topology import Lab
from tests.lab.wait import wait_until
from tests.live.test_agent_process import Writes, kernel_writes

pytestmark = pytest.mark.live

ASN, OTHER_ASN = 64600, 64601
FAMILIES: tuple[Family, Family] = ("ipv4", "ipv6")
HOLD_SECONDS = 90


@dataclass(frozen=True)
class Rule:
    """`better` is what the kernel must have as long as it is there, all of it; `worse` is told too."""

    better: Mapping[str, Told]
    worse: Mapping[str, Told]


BY_ATTRIBUTES = {
    "LOCAL_PREF before AS_PATH": Rule(
        {"frr-inside": Told(local_pref=200, path=(1, 2, 3))}, {"bird-inside": Told(local_pref=150)}
    ),
    "LOCAL_PREF of BIRD": Rule({"bird-inside": Told(local_pref=200, path=(1, 2))}, {"frr-inside": Told()}),
    "LOCAL_PREF before the other AS": Rule({"bird-inside": Told(local_pref=101, path=(1, 2, 3))}, {"frr": Told()}),
    "another AS's routes count as LOCAL_PREF 100": Rule({"frr": Told((1, 2))}, {"bird-inside": Told(local_pref=99)}),
    "LOCAL_PREF of another AS is not believed": Rule({"frr": Told()}, {"bird": Told((1,), local_pref=200)}),
    "AS_PATH before ORIGIN": Rule({"frr": Told(origin="incomplete", med=9)}, {"bird": Told((1,))}),
    "AS_PATH of BIRD": Rule({"bird": Told((1,))}, {"frr": Told((1, 2))}),
    "AS_PATH before the other AS": Rule({"frr-inside": Told()}, {"bird": Told()}),
    "ORIGIN before MED": Rule({"frr": Told(med=9)}, {"bird": Told(origin="egp", med=1)}),
    "ORIGIN EGP before INCOMPLETE": Rule({"bird": Told(origin="egp")}, {"frr": Told(origin="incomplete")}),
    "MED of one AS": Rule({"frr": Told(med=5)}, {"bird": Told(med=10)}),
    "MED left out is 0": Rule({"bird": Told()}, {"frr": Told(med=1)}),
    "MED of different ASes is not compared": Rule({"bird": Told(med=5), "other": Told(med=50)}, {"frr": Told(med=10)}),
    "MED before the other AS": Rule({"frr-inside": Told((ASN,), med=1)}, {"bird": Told(med=2)}),
    "eBGP before iBGP": Rule({"bird": Told()}, {"frr-inside": Told((1,))}),
    "eBGP before iBGP, FRR": Rule({"frr": Told()}, {"bird-inside": Told((1,))}),
}
"""Told all the time, as are the following."""
BY_IDENTITY = {
    "router id before address": Rule({"bird": Told()}, {"frr": Told()}),
    "router id inside": Rule({"bird-inside": Told()}, {"frr-inside": Told()}),
    "ORIGINATOR_ID stands for the router id": Rule(
        {"frr-inside": Told()}, {"bird-inside": Told(originator="10.99.1.1", clusters=("10.99.0.3",))}
    ),
    "CLUSTER_LIST before address": Rule(
        {"second-inside": Told(originator="10.99.1.1", clusters=("10.99.0.4",))},
        {"bird-inside": Told(originator="10.99.1.1", clusters=("10.99.0.3", "10.99.0.9"))},
    ),
    "address": Rule(
        {"bird-inside": Told(originator="10.99.1.1", clusters=("10.99.0.3",))},
        {"second-inside": Told(originator="10.99.1.1", clusters=("10.99.0.4",))},
    ),
}
"""What is equal up to there is one multipath route, unless `maximumPaths` is 1."""
EQUAL = {
    "outside": dict.fromkeys(("bird", "other", "frr"), Told((1,))),
    "inside": dict.fromkeys(("bird-inside", "second-inside", "frr-inside"), Told()),
}
"""In order of their router ids."""
RULES = {**BY_ATTRIBUTES, **BY_IDENTITY, **{name: Rule(told, {}) for name, told in EQUAL.items()}}
NUMBERS = {name: 100 + number for number, name in enumerate(RULES)}


def prefixes(name: str) -> dict[Family, str]:
    return {"ipv4": f"10.244.{NUMBERS[name]}.0/24", "ipv6": f"fd10:244:{NUMBERS[name]}::/64"}


class Scene:
    """Router ids are in another order than addresses."""

    def __init__(self, lab: Lab) -> None:
        self.lab, self.node = lab, lab.node(1)
        node = Neighbor(str(self.node.address()), CLUSTER_ASN, hold_seconds=HOLD_SECONDS, passive=True)
        wrong = replace(node, extra=("allow bgp_local_pref on;",))
        one, two, three, four, five, six = lab.routers
        self.tellers: Mapping[str, FrrTeller | BirdTeller] = {
            "frr": FrrTeller(one, node, asn=ASN, router_id="10.99.0.9"),
            "bird": BirdTeller(two, wrong, asn=ASN, router_id="10.99.0.1"),
            "other": BirdTeller(three, node, asn=OTHER_ASN, router_id="10.99.0.2"),
            "frr-inside": FrrTeller(four, node, asn=CLUSTER_ASN, router_id="10.99.0.8"),
            "bird-inside": BirdTeller(five, node, asn=CLUSTER_ASN, router_id="10.99.0.3"),
            "second-inside": BirdTeller(six, node, asn=CLUSTER_ASN, router_id="10.99.0.4"),
        }
        for who, teller in self.tellers.items():
            teller.tell({prefix: what for name in RULES for prefix, what in said(name, who).items()})
        self.cluster = MiniCluster(lab)
        self.limit(None)
        self.cluster.api.apply(*(_node(number) for number in NUMBERS.values()), *self._peers())
        self.cluster.start()
        told = sum(len(rule.better) + len(rule.worse) for rule in RULES.values()) * len(FAMILIES)
        wait_until(lambda: len(self.heard()) == told, within=60, every=0.5)

    def _peers(self) -> Iterator[dict[str, Any]]:
        for who, teller in self.tellers.items():
            more: dict[str, Any] = {} if who.endswith("inside") else {"import": {"podCIDRs": True}}
            yield tor_peer(teller.host, name=who, **{**more, "asn": teller.asn, "holdSeconds": HOLD_SECONDS})

    def limit(self, paths: int | None) -> None:
        spec: dict[str, Any] = {"mesh": {"mode": "None"}}
        self.cluster.api.apply(custom("BGPInstance", "default", spec | ({"maximumPaths": paths} if paths else {})))

    def heard(self) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = self.cluster.agent(self.node).ask("routes", "accepted")["rows"]
        return rows

    def has(self, name: str, tellers: Iterable[str]) -> bool:
        """The kernel routes both prefixes to these routers."""
        for family, prefix in prefixes(name).items():
            wanted = [teller.host.address(family) for who, teller in self.tellers.items() if who in tellers]
            actual = self.cluster.learned(self.node, family).get(prefix)
            assert actual == [str(hop) for hop in sorted(wanted, key=int)], (name, prefix)
        return True

    def wait(self, name: str, tellers: Iterable[str]) -> None:
        wait_until(lambda: self.has(name, tellers))


def said(name: str, who: str) -> dict[str, Told]:
    """By prefix, what a router tells for a rule."""
    what = {**RULES[name].better, **RULES[name].worse}.get(who)
    return dict.fromkeys(prefixes(name).values(), what) if what else {}


def _node(number: int) -> dict[str, Any]:
    """No machine: somebody must have the pod CIDRs."""
    cidrs = [f"10.244.{number}.0/24", f"fd10:244:{number}::/64"]
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": f"absent-{number}", "creationTimestamp": "2026-01-02T00:00:00Z"},
        "spec": {"podCIDR": cidrs[0], "podCIDRs": cidrs},
        "status": {"addresses": [{"type": "InternalIP", "address": f"172.18.0.{number}"}]},
    }


def written(writes: Writes) -> Mapping[str, Counter[str]]:
    """By prefix, how often its route was `set` (added or replaced) and `Deleted`."""
    found: dict[str, Counter[str]] = {}
    for line in writes.so_far():
        words = line.split()
        gone = words[0] == "Deleted"
        found.setdefault(str(ip_network(words[gone])), Counter())["Deleted" if gone else "set"] += 1
    return found


@pytest.fixture(scope="module")
def scene() -> Iterator[Scene]:
    with Lab(nodes=1, routers=6) as lab:
        built = Scene(lab)
        yield built
        built.cluster.close()


@pytest.fixture
def alone(scene: Scene) -> Iterator[None]:
    """One next hop a route."""
    scene.limit(1)
    yield
    scene.limit(None)
    for name, tellers in EQUAL.items():
        scene.wait(name, tellers)
    for name in BY_IDENTITY:
        scene.wait(name, RULES[name].better.keys() | RULES[name].worse.keys())


def play(scene: Scene, name: str) -> None:
    """The better ones go, one after the other, and come back."""
    rule = RULES[name]
    scene.wait(name, rule.better)
    with kernel_writes(scene.node) as writes:
        for left, who in enumerate(rule.better, start=1):
            scene.tellers[who].silence(prefixes(name).values())
            gone = list(rule.better)[:left]
            wait_until(lambda gone=gone: routed_to_none_of(scene, name, gone))
        scene.wait(name, rule.worse)
        for who in rule.better:
            scene.tellers[who].tell(said(name, who))
        scene.wait(name, rule.better)
        assert written(writes).keys() == set(prefixes(name).values())
        assert [count["Deleted"] for count in written(writes).values()] == [0, 0]
        if len(rule.better) == 1:
            assert [count["set"] for count in written(writes).values()] == [2, 2]


def routed_to_none_of(scene: Scene, name: str, tellers: Sequence[str]) -> bool:
    for family, prefix in prefixes(name).items():
        hops = {str(scene.tellers[who].host.address(family)) for who in tellers}
        if hops & set(scene.cluster.learned(scene.node, family)[prefix]):
            return False
    return True


@pytest.mark.parametrize("name", BY_ATTRIBUTES)
def test_the_kernel_has_the_best_path_and_the_next_one_by_a_single_replacement_as_long_as_it_is_away(
    scene: Scene, name: str
) -> None:
    play(scene, name)


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize("name", BY_IDENTITY)
def test_of_equal_paths_with_room_for_one_identifiers_choose_whichever_came_first(scene: Scene, name: str) -> None:
    play(scene, name)


@pytest.mark.parametrize("name", EQUAL)
def test_equal_paths_are_one_multipath_route_and_a_lost_one_takes_its_next_hop_along_in_one_write(
    scene: Scene, name: str
) -> None:
    first, *others = EQUAL[name]
    scene.wait(name, EQUAL[name])
    with kernel_writes(scene.node) as writes:
        scene.tellers[first].silence(prefixes(name).values())
        scene.wait(name, others)
        scene.tellers[first].tell(said(name, first))
        scene.wait(name, EQUAL[name])

        assert written(writes) == {key: Counter(set=2) for key in prefixes(name).values()}


def test_maximum_paths_takes_the_first_by_identifier_and_each_change_of_it_is_one_write_a_route(scene: Scene) -> None:
    routes = [prefix for name in EQUAL for prefix in prefixes(name).values()]
    with kernel_writes(scene.node) as writes:
        for limit in (2, 1, None):
            scene.limit(limit)
            for name, tellers in EQUAL.items():
                scene.wait(name, list(tellers)[:limit])

        found = written(writes)
    assert {prefix: found[prefix] for prefix in routes} == {key: Counter(set=3) for key in routes}
    assert {count["Deleted"] for count in found.values()} == {0}
