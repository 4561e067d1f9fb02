"""Routes that FRR and BIRD tell a node and its kernel must not have, or does not want.

What nobody may give is refused though all is allowed, and says so: in `bgpilot routes`, `explain` and a metric. What
the kernel refuses keeps the kernel's own words, stops no other route and is tried again. The kernel is the judge.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import pytest

from tests.lab.addresses import family_of
from tests.lab.minicluster import (
    CLUSTER_ASN,
    LAB_HOLD_SECONDS,
    MiniCluster,
    custom,
    node_object,
    service_object,
    tor_peer,
)
from tests.lab.neighbor import Neighbor
from tests.lab.netns import FAMILY_FLAG, Family
from tests.lab.tellers import BirdTeller, FrrTeller, Told
from tests.lab.topology import Lab
from tests.lab.wait import wait_until

pytestmark = pytest.mark.live

FAMILIES: tuple[Family, Family] = ("ipv4", "ipv6")
ANYTHING = {"allowed": [{"prefix": "0.0.0.0/0", "ge": 1, "le": 32}, {"prefix": "::/0", "ge": 1, "le": 128}]}
NOTHING: dict[str, Any] = {}
POD_CIDRS = {"podCIDRs": True}
ONE_NODE: dict[str, Any] = {"nodeSelector": {"matchLabels": {"told": "yes"}}}
NEVER = {
    "0.0.0.0/0": "defaultRoute",
    "::/0": "defaultRoute",
    "10.244.1.0/24": "ownPodCIDR",
    "10.244.1.7/32": "ownPodCIDR",
    "fd10:244:1::/64": "ownPodCIDR",
    "fd10:244:1::7/128": "ownPodCIDR",
    "172.18.0.11/32": "ownAddress",
    "fd18::11/128": "ownAddress",
    "172.18.0.0/24": "connectedSubnet",
    "172.18.0.128/25": "connectedSubnet",
    "fd18::/64": "connectedSubnet",
    "fd18::8000:0/112": "connectedSubnet",
    "10.96.0.0/16": "serviceRange",
    "10.96.0.9/32": "serviceRange",
    "fd96::/108": "serviceRange",
    "fd96::9/128": "serviceRange",
    "10.97.0.5/32": "serviceRange",
    "fd97::5/128": "serviceRange",
    "10.244.2.0/25": "insidePodCIDR",
    "fd10:244:2:0:8000::/65": "insidePodCIDR",
}
"""The service range is that of a ServiceCIDR object; the last two of it are a Service's outside of that."""
FINE = {"198.51.100.0/24", "2001:db8:51::/48"}
OTHERS = {"203.0.113.0/24", "2001:db8:113::/48"}
ABSENT: Mapping[Family, str] = {"ipv4": "10.244.77.0/24", "ipv6": "fd10:244:77::/64"}
"""Pod CIDRs of a node that has no agent, so that only routers tell them."""
PART: Mapping[Family, str] = {"ipv4": "10.244.77.128/25", "ipv6": "fd10:244:77:0:8000::/65"}
MANY: Mapping[Family, list[str]] = {
    "ipv4": [f"198.18.{number}.0/24" for number in range(100)],
    "ipv6": [f"2001:db8:{number:x}::/48" for number in range(0x100, 0x150)],
}
BAD: Mapping[Family, str] = {"ipv4": "198.18.50.0/24", "ipv6": "2001:db8:120::/48"}
"""In the midst of the many, with `NOBODY` as next hop."""
NOBODY = 77


class Scene:
    def __init__(self, lab: Lab) -> None:
        self.lab, self.node, self.mesh = lab, lab.node(1), lab.node(2)
        session = Neighbor(str(self.node.address()), CLUSTER_ASN, passive=True)
        self.frr = FrrTeller(lab.routers[0], session, asn=64600, router_id="10.99.0.1")
        self.bird = BirdTeller(lab.routers[1], session, asn=64601, router_id="10.99.0.2")
        self.tellers = {"frr": self.frr, "bird": self.bird}
        self.frr.frr.configure(list(self._through_nobody(session.address)))
        self.cluster = MiniCluster(lab)
        self.cluster.api.apply(custom("BGPInstance", "default", {"mesh": {"holdSeconds": LAB_HOLD_SECONDS}}))
        self.cluster.api.apply(_service_range(), service_object("outside", ["10.97.0.5", "fd97::5"]), _absent())
        for who in self.tellers:
            self.let(who, ANYTHING)
        self.cluster.start()
        self.cluster.api.apply(node_object(self.node, labels={"told": "yes"}))
        self.cluster.wait_meshed()
        self.agent = self.cluster.agent(self.node)

    def _through_nobody(self, neighbor: str) -> Iterator[str]:
        """FRR tells the bad ones with a next hop of the subnet that is another's.

        It hears nothing, as it would tell that back.
        """
        yield from ("route-map none deny 10", "exit")
        for family, ip, hop in (("ipv4", "ip", "ip next-hop"), ("ipv6", "ipv6", "ipv6 next-hop global")):
            yield f"{ip} prefix-list bad permit {BAD[family]}"
            yield from (f"route-map {family} permit 10", f"match {ip} address prefix-list bad")
            yield from (f"set {hop} {self.nobody(family)}", "exit", f"route-map {family} permit 20", "exit")
            yield from (f"router bgp {self.frr.asn}", f"address-family {family} unicast")
            yield from (f"neighbor {neighbor} route-map {family} out", f"neighbor {neighbor} route-map none in")
            yield from ("exit-address-family", "exit")

    def nobody(self, family: Family) -> str:
        return str(self.lab.rack1.address(NOBODY, family))

    def let(self, who: str, importing: dict[str, Any]) -> None:
        teller = self.tellers[who]
        wanted: dict[str, Any] = {**ONE_NODE, "asn": teller.asn, "import": importing}
        self.cluster.api.apply(tor_peer(teller.host, name=who, **wanted))

    def learned(self) -> dict[str, list[str]]:
        """Of both families, but the other node's pod CIDRs, which it tells itself."""
        found = {**self.cluster.learned(self.node, "ipv4"), **self.cluster.learned(self.node, "ipv6")}
        for family, cidr in self.mesh.pod_cidrs.items():
            assert found.pop(str(cidr)) == [str(self.mesh.address(family))]
        return found

    def has(self, prefixes: Iterable[str], *tellers: str) -> bool:
        """The kernel has learned these, from these, and nothing else."""
        hosts = [teller.host for who, teller in self.tellers.items() if who in tellers]
        wanted = {prefix: [str(host.address(_family(prefix))) for host in hosts] for prefix in prefixes}
        assert self.learned() == wanted
        return True

    def told(self, who: str) -> dict[str, str]:
        """Prefix → reason word of all that a router tells; of what is in the kernel it is empty."""
        rows = self.agent.view("routes", peer=str(self.tellers[who].host.address()))["rows"]
        return {row["prefix"]: row["reason"] or "" for row in rows}

    def explained(self, prefix: str) -> set[str]:
        return {hop["reason"] for hop in self.agent.view("explain", subject=prefix)["hops"] if not hop["ok"]}

    def metrics(self) -> dict[str, float]:
        text = self.node.run(["curl", "-sS", "http://127.0.0.1:9817/metrics"]).stdout
        pairs = (line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
        return {name: float(value) for name, value in pairs}

    def refused(self) -> dict[str, int]:
        """The metric of what was heard and not used, by reason."""
        start = 'bgpilot_routes_refused{direction="in",reason="'
        found = {name.removeprefix(start): value for name, value in self.metrics().items() if name.startswith(start)}
        return {name.removesuffix('"}'): int(value) for name, value in found.items()}


def _family(prefix: str) -> Family:
    return family_of(prefix.partition("/")[0])


def _service_range() -> dict[str, Any]:
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "ServiceCIDR",
        "metadata": {"name": "kubernetes"},
        "spec": {"cidrs": ["10.96.0.0/16", "fd96::/108"]},
    }


def _absent() -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": "absent", "creationTimestamp": "2026-01-02T00:00:00Z"},
        "spec": {"podCIDR": ABSENT["ipv4"], "podCIDRs": list(ABSENT.values())},
        "status": {"addresses": [{"type": "InternalIP", "address": "172.18.0.177"}]},
    }


@pytest.fixture(scope="module")
def built() -> Iterator[Scene]:
    with Lab(nodes=2, routers=2) as lab:
        scene = Scene(lab)
        yield scene
        scene.cluster.close()


@pytest.fixture
def scene(built: Scene) -> Iterator[Scene]:
    yield built
    for who, teller in built.tellers.items():
        teller.silence(list(built.told(who)))
        built.let(who, ANYTHING)
    wait_until(lambda: not any(map(built.told, built.tellers)))
    wait_until(lambda: built.has([]))


@pytest.mark.parametrize("who", ["frr", "bird"])
def test_what_nobody_may_give_is_not_installed_whatever_is_allowed_and_says_why_everywhere(
    scene: Scene, who: str
) -> None:
    teller, other = scene.tellers[who], next(name for name in scene.tellers if name != who)
    teller.tell(dict.fromkeys([*NEVER, *FINE], Told()))
    wait_until(lambda: scene.told(who) == {**NEVER, **dict.fromkeys(FINE, "")}, within=60)

    assert scene.has(FINE, who)
    assert scene.refused() == Counter(NEVER.values())
    for reason, prefix in {NEVER[prefix]: prefix for prefix in NEVER}.items():
        assert reason in scene.explained(prefix)

    scene.tellers[other].tell(dict.fromkeys([*NEVER, *OTHERS], Told()))  # two are believed no more than one
    wait_until(lambda: scene.told(other) == {**NEVER, **dict.fromkeys(OTHERS, "")})
    assert scene.learned().keys() == FINE | OTHERS


@pytest.mark.parametrize(("who", "other"), [("frr", "bird"), ("bird", "frr")])
def test_pod_cidrs_of_other_nodes_and_nothing_else_are_taken_of_the_peer_that_may_give_them_and_of_no_other(
    scene: Scene, who: str, other: str
) -> None:
    own = [str(cidr) for cidr in scene.node.pod_cidrs.values()]
    refused = dict.fromkeys([*FINE, "10.244.0.0/16", "fd10:244::/32"], "importNotAllowed")
    refused |= dict.fromkeys(PART.values(), "insidePodCIDR") | dict.fromkeys(own, "ownPodCIDR")
    scene.let(who, POD_CIDRS)
    scene.let(other, NOTHING)
    for teller in scene.tellers.values():
        teller.tell(dict.fromkeys([*ABSENT.values(), *refused], Told()))
    wait_until(lambda: scene.told(who) == {**refused, **dict.fromkeys(ABSENT.values(), "")}, within=60)
    wait_until(lambda: scene.told(other) == {**refused, **dict.fromkeys(ABSENT.values(), "importNotAllowed")})
    assert scene.has(ABSENT.values(), who)

    scene.let(who, NOTHING)
    wait_until(lambda: scene.has([]))
    assert scene.told(who) == {**refused, **dict.fromkeys(ABSENT.values(), "importNotAllowed")}


def test_a_route_that_the_kernel_refuses_is_shown_in_its_words_stops_no_other_and_comes_when_it_can(
    scene: Scene,
) -> None:
    """Somebody has made its next hop unreachable in the same table, so that the kernel takes it for no gateway."""
    words = {}
    for family, prefix in BAD.items():
        scene.node.ip(FAMILY_FLAG[family], "route", "add", *_wall(scene, family))
        words[family] = _words_for(scene, prefix, scene.nobody(family))
    scene.frr.tell({prefix: Told() for prefixes in MANY.values() for prefix in prefixes})
    good = {prefix for prefixes in MANY.values() for prefix in prefixes} - set(BAD.values())

    wait_until(lambda: scene.has(good, "frr"))
    wait_until(lambda: scene.metrics()["bgpilot_fib_routes_failing"] == 2)
    for family, prefix in BAD.items():
        (row,) = scene.agent.view("fib", prefix=prefix)["rows"]
        assert (row["state"], row["next_hops"]) == ("failing", [scene.nobody(family)])
        assert row["details"] == words[family]
        assert scene.told("frr")[prefix] == "kernelRefused"
        (hop,) = (hop for hop in scene.agent.view("explain", subject=prefix)["hops"] if not hop["ok"])
        assert (hop["reason"], words[family] in hop["text"]) == ("kernelRefused", True)
    differing = (row for row in scene.agent.ask("diff")["rows"] if row["where"] == "kernel")
    rows = [(row["prefix"], row["state"], row["text"]) for row in differing]
    assert rows == [(prefix, "refused", words[family]) for family, prefix in BAD.items()]
    wait_until(lambda: scene.metrics()['bgpilot_fib_operations_total{operation="add",result="failed"}'] >= 4)

    for family in FAMILIES:
        scene.node.ip(FAMILY_FLAG[family], "route", "del", *_wall(scene, family))
    wait_until(lambda: scene.learned().keys() == good | set(BAD.values()), within=60)
    assert {prefix: scene.learned()[prefix] for prefix in BAD.values()} == {
        prefix: [scene.nobody(family)] for family, prefix in BAD.items()
    }
    wait_until(lambda: scene.metrics()["bgpilot_fib_routes_failing"] == 0)


def _wall(scene: Scene, family: Family) -> list[str]:
    """IPv4 looks for a gateway only among routes whose scope is `link` or nearer."""
    return ["unreachable", scene.nobody(family), *(("scope", "link") if family == "ipv4" else ())]


def _words_for(scene: Scene, prefix: str, gateway: str) -> str:
    """What the kernel itself says of such a route: its own text, and where it has none the name of the error."""
    done = scene.node.run(["ip", "route", "add", prefix, "via", gateway], check=False)
    assert done.returncode == 2
    return done.stderr.strip().removeprefix("Error: ").removeprefix("RTNETLINK answers: ").removesuffix(".")
