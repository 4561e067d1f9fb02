"""Someone else at the kernel's table of a node: our routes are put right and that is counted, theirs are left alone.

FRR and BIRD tell a node the same prefixes, equally good, so that each is one multipath route; its kernel is the judge.
It has no pod bridge, so that what the discard route of the pod CIDR is for can be seen.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any

import pytest

from tests.lab.addresses import family_of
from tests.lab.machines import Host
from tests.lab.minicluster import BGPILOT, CLUSTER_ASN, OUR_PROTOCOL, MiniCluster, custom, tor_peer
from tests.lab.neighbor import Neighbor
from tests.lab.netns import FAMILY_FLAG, Family
from tests.lab.procs import CommandFailedError
from tests.lab.tellers import BirdTeller, FrrTeller, Told
from tests.lab.topology import Lab
from tests.lab.wait import wait_until
from tests.live.test_agent_process import kernel_writes

pytestmark = pytest.mark.live

FAMILIES: tuple[Family, Family] = ("ipv4", "ipv6")
MANY: Mapping[Family, list[str]] = {
    "ipv4": [f"198.51.{number}.0/24" for number in range(20)],
    "ipv6": [f"2001:db8:{number:x}::/48" for number in range(1, 21)],
}
FOREIGN: Mapping[Family, str] = {"ipv4": "203.0.113.0/24", "ipv6": "2001:db8:113::/48"}
"""Told by the routers only while somebody else has a route for it."""
STRAY: Mapping[Family, str] = {"ipv4": "192.0.2.0/24", "ipv6": "2001:db8:2000::/48"}
ALLOWED = [{"prefix": "198.51.0.0/16", "le": 24}, {"prefix": "203.0.113.0/24"}, {"prefix": "2001:db8::/32", "le": 48}]
SAME_HOPS = "nexthop via {router} nexthop via {other} dev eth0"
REPAIR_SECONDS = 30
"""It takes 0.1 s and a pass, on a machine that has time for it."""
TTL = 32
DRIFT = re.compile(r'bgpilot_fib_drift_routes_total\{kind="(\w+)"\}')


class Scene:
    def __init__(self, lab: Lab) -> None:
        self.lab, self.node = lab, lab.node(1)
        session = Neighbor(str(self.node.address()), CLUSTER_ASN, passive=True)
        self.routers = lab.routers
        self.tellers = (
            FrrTeller(lab.routers[0], session, asn=64600, router_id="10.99.0.1"),
            BirdTeller(lab.routers[1], session, asn=64601, router_id="10.99.0.2"),
        )
        for teller in self.tellers:
            teller.tell({prefix: Told() for family in FAMILIES for prefix in MANY[family]})
        self.cluster = MiniCluster(lab)
        self.cluster.api.apply(custom("BGPInstance", "default", {"mesh": {"mode": "None"}}))
        for number, teller in enumerate(self.tellers):
            wanted: dict[str, Any] = {"asn": teller.asn, "import": {"allowed": ALLOWED}}
            self.cluster.api.apply(tor_peer(teller.host, name=f"router-{number}", **wanted))
        self.cluster.start()
        self.agent = self.cluster.agent(self.node)
        wait_until(self.is_whole, within=60)

    def is_whole(self) -> bool:
        for family in FAMILIES:
            hops = [str(router.address(family)) for router in self.routers]
            wanted = dict.fromkeys(MANY[family], hops) | {str(self.node.pod_cidrs[family]): []}
            assert self.node.kernel_routes(family, "proto", OUR_PROTOCOL) == wanted
            shown = self.node.run(["ip", FAMILY_FLAG[family], "route", "show", "proto", OUR_PROTOCOL]).stdout
            assert not {"mtu", "src", "onlink"} & set(shown.split())
        return True

    def damage(self, line: str, of: Mapping[Family, str]) -> None:
        """`line` are words for `ip route`, with prefix, both routers and addresses of ours and of nobody filled in."""
        for family in FAMILIES:
            router, other = (router.address(family) for router in self.routers)
            there = {"router": router, "other": other, "own": self.node.address(family)}
            nobody = self.lab.rack1.address(99, family)
            words = line.format(prefix=of[family], nobody=nobody, **there).split()
            self.node.ip(FAMILY_FLAG[family], "route", *words)

    def metrics(self) -> dict[str, float]:
        """Of the agent, by name and labels as they are written."""
        text = self.node.run(["curl", "-sS", "http://127.0.0.1:9817/metrics"]).stdout
        pairs = (line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
        return {name: float(value) for name, value in pairs}

    def drift(self) -> Counter[str]:
        """How much of it was counted, by kind."""
        found = ((DRIFT.fullmatch(key), value) for key, value in self.metrics().items())
        return Counter({match[1]: int(value) for match, value in found if match})

    def routes(self, prefix: str, family: Family) -> list[tuple[str, str]]:
        """Protocol and gateway of all routes to the prefix with one next hop; of others the gateway is empty."""
        rows = self.node.ip_json(FAMILY_FLAG[family], "route", "show", prefix)
        return [(row["protocol"], row.get("gateway", "")) for row in rows]


@pytest.fixture(scope="module")
def built() -> Iterator[Scene]:
    with Lab(nodes=1, routers=2, pod_bridge=False) as lab:
        scene = Scene(lab)
        yield scene
        scene.cluster.close()


@pytest.fixture
def scene(built: Scene) -> Iterator[Scene]:
    wait_until(built.is_whole)
    yield built
    for family, prefix in FOREIGN.items():  # also of a test that failed half-way
        built.node.run(["ip", FAMILY_FLAG[family], "route", "del", prefix, "proto", "static"], check=False)
    for teller in built.tellers:
        with suppress(CommandFailedError, KeyError):  # most often it has taken them back already
            teller.silence(FOREIGN.values())


ONE: Mapping[Family, str] = {family: MANY[family][7] for family in FAMILIES}


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        (f"del {{prefix}} proto {OUR_PROTOCOL}", "missing"),
        (f"replace {{prefix}} via {{router}} proto {OUR_PROTOCOL}", "changed"),
        (f"replace {{prefix}} via {{nobody}} proto {OUR_PROTOCOL}", "changed"),
        (f"replace blackhole {{prefix}} proto {OUR_PROTOCOL}", "changed"),
        (f"replace {{prefix}} proto {OUR_PROTOCOL} mtu 1300 {SAME_HOPS}", "changed"),
        (f"replace {{prefix}} proto {OUR_PROTOCOL} src {{own}} {SAME_HOPS} onlink", "changed"),
    ],
    ids=["deleted", "a next hop less", "other way", "discarded", "its MTU", "its source and a next hop's flag"],
)
def test_a_route_of_ours_that_someone_spoiled_is_put_right_and_counted_and_no_other_is_written(
    scene: Scene, line: str, kind: str
) -> None:
    before = scene.drift()
    with kernel_writes(scene.node) as writes:
        scene.damage(line, ONE)
        wait_until(lambda: scene.drift() - before, within=REPAIR_SECONDS)
        wait_until(scene.is_whole, within=REPAIR_SECONDS)
        written = {word for text in writes.so_far() for word in text.split()[:3] if "/" in word}

    assert written == set(ONE.values())
    assert scene.drift() - before == Counter({kind: 2})


def test_a_route_with_our_number_that_nobody_told_is_removed_and_counted(scene: Scene) -> None:
    before = scene.drift()
    scene.damage(f"add {{prefix}} via {{router}} proto {OUR_PROTOCOL}", STRAY)
    wait_until(lambda: scene.drift() - before == Counter(unexpected=2), within=REPAIR_SECONDS)
    wait_until(scene.is_whole, within=REPAIR_SECONDS)


def test_after_a_flush_of_all_that_is_ours_all_is_back_the_discard_routes_too(scene: Scene) -> None:
    before = scene.drift()
    for family in FAMILIES:
        scene.node.ip(FAMILY_FLAG[family], "route", "flush", "proto", OUR_PROTOCOL)
    wait_until(lambda: (scene.drift() - before)["missing"] >= 2 * len(MANY["ipv4"]) + 2, within=REPAIR_SECONDS)
    wait_until(scene.is_whole, within=REPAIR_SECONDS)


def _there_first(scene: Scene) -> None:
    scene.damage("add {prefix} via {router} proto static", FOREIGN)
    _tell(scene)


def _put_in_place_of_ours(scene: Scene) -> None:
    _tell(scene)
    for family, prefix in FOREIGN.items():
        wait_until(lambda family=family, prefix=prefix: prefix in scene.cluster.learned(scene.node, family))
    scene.damage("replace {prefix} via {router} proto static", FOREIGN)


def _tell(scene: Scene) -> None:
    for teller in scene.tellers:
        teller.tell({prefix: Told() for prefix in FOREIGN.values()})


def conflicts(scene: Scene) -> int:
    return int(scene.metrics()["bgpilot_fib_routes_conflicting"])


@pytest.mark.parametrize("comes", [_there_first, _put_in_place_of_ours], ids=["before", "after"])
def test_a_route_of_another_protocol_stays_through_all_we_learn_is_shown_and_ours_follows_when_it_goes(
    scene: Scene, comes: Callable[[Scene], None]
) -> None:
    frr, bird = scene.tellers
    theirs = {family: [("static", str(scene.routers[0].address(family)))] for family in FAMILIES}

    def untouched() -> bool:
        return {family: scene.routes(FOREIGN[family], family) for family in FAMILIES} == theirs

    comes(scene)
    wait_until(lambda: conflicts(scene) == 2 and _heard(scene, 2))
    assert untouched()
    for prefix in FOREIGN.values():
        (row,) = scene.agent.view("fib", prefix=prefix)["rows"]
        assert (row["state"], row["details"]) == ("conflict", "held by protocol 4 (static)")
        rows = scene.agent.view("routes", prefix=prefix)["rows"]
        assert [(row["installed"], row["reason"]) for row in rows] == [(False, "kernelConflict")] * 2
        assert "kernelConflict" in {hop["reason"] for hop in scene.agent.view("explain", subject=prefix)["hops"]}

    frr.silence(FOREIGN.values())  # another next hop is wanted now
    wait_until(lambda: _heard(scene, 1))
    assert untouched()
    bird.silence(FOREIGN.values())  # none
    wait_until(lambda: conflicts(scene) == 0)
    assert untouched()
    _tell(scene)
    wait_until(lambda: conflicts(scene) == 2)
    assert untouched()

    scene.damage("del {prefix} proto static", FOREIGN)
    for family, prefix in FOREIGN.items():
        hops = [str(router.address(family)) for router in scene.routers]
        wait_until(
            lambda family=family, prefix=prefix, hops=hops: (
                scene.cluster.learned(scene.node, family).get(prefix) == hops
            ),
            within=REPAIR_SECONDS,
        )
    wait_until(lambda: conflicts(scene) == 0)
    for teller in scene.tellers:
        teller.silence(FOREIGN.values())


def test_diff_names_what_is_not_in_the_kernel_and_who_is_in_its_place_and_nothing_else(scene: Scene) -> None:
    wait_until(lambda: scene.agent.cli("diff").stdout.startswith("No difference: "))
    _there_first(scene)
    wait_until(lambda: conflicts(scene) == 2 and _heard(scene, 2))

    done = scene.agent.cli("diff")
    named = [("kernel", prefix, "conflict", "kernelConflict") for prefix in FOREIGN.values()]
    assert [tuple(line.split()[:4]) for line in done.stdout.splitlines()[1:3]] == named
    assert done.stdout.count("held by protocol 4 (static)") == 2
    assert (done.returncode, len(scene.agent.view("diff")["rows"])) == (3, 2)

    scene.damage("del {prefix} proto static", FOREIGN)
    wait_until(lambda: scene.agent.cli("diff").returncode == 0)
    for teller in scene.tellers:
        teller.silence(FOREIGN.values())


def test_events_tell_what_happens_as_it_happens(scene: Scene) -> None:
    frr, address = scene.tellers[0], scene.node.address()
    assert isinstance(frr, FrrTeller)
    follow = scene.node.start([BGPILOT, "events", "-w", f"--run-dir={scene.agent.run_dir}"], log="events")

    def tells(pattern: str) -> None:
        wait_until(lambda: re.search(pattern, follow.output()) is not None)

    tells("starting +agent")
    tells("peer_up +BGPPeer/router-0 .*established: AS 64600")
    scene.damage(f"del {{prefix}} proto {OUR_PROTOCOL}", ONE)
    tells("drift_repaired +agent .*put right: .*missing")
    frr.frr.configure([f"router bgp {frr.asn}", f"neighbor {address} shutdown message back after tea"])
    tells("peer_down +BGPPeer/router-0 .*back after tea")
    frr.frr.configure([f"router bgp {frr.asn}", f"no neighbor {address} shutdown"])
    tells("(?s)peer_down .*peer_up +BGPPeer/router-0")
    follow.kill()


def _heard(scene: Scene, count: int) -> bool:
    return all(len(scene.agent.view("routes", prefix=prefix)["rows"]) == count for prefix in FOREIGN.values())


def forwarded(router: Host, family: Family) -> int:
    """Packets that the router has sent on, of all that it got."""
    if family == "ipv6":
        lines = router.run(["cat", "/proc/net/snmp6"]).stdout.splitlines()
        return int(next(line.split()[1] for line in lines if line.startswith("Ip6OutForwDatagrams")))
    names, values = (
        line.split() for line in router.run(["cat", "/proc/net/snmp"]).stdout.splitlines() if line.startswith("Ip:")
    )
    return int(dict(zip(names, values, strict=True))["ForwDatagrams"])


def _ping(scene: Scene, address: object) -> tuple[str, int]:
    """What a ping from the client says, and how many packets FRR's router has sent on meanwhile."""
    router, family = scene.routers[0], family_of(str(address))
    before = forwarded(router, family)
    said = scene.lab.client.run(["ping", "-c1", "-W5", "-t", str(TTL), str(address)], check=False).stdout
    return said, forwarded(router, family) - before


@pytest.mark.parametrize("family", FAMILIES)
def test_a_packet_to_an_unused_pod_address_is_answered_by_the_node_and_does_not_come_back(
    scene: Scene, family: Family
) -> None:
    node, router, cidr = scene.node, scene.routers[0], scene.node.pod_cidrs[family]
    (discard,) = node.ip_json(FAMILY_FLAG[family], "route", "show", str(cidr))
    assert (discard["type"], discard["metric"], discard["protocol"]) == ("unreachable", 4294967280, OUR_PROTOCOL)
    wait_until(lambda: router.kernel_routes(family).get(str(cidr)) == [str(node.address(family))])

    said, passed = _ping(scene, cidr[77])

    assert f"From {node.address(family)}" in said
    assert "nreachable" in said or "No route" in said
    assert passed == 2, "the packet and the answer"

    node.ip(FAMILY_FLAG[family], "route", "add", str(cidr), "via", str(router.address(family)), "metric", "100")
    _, passed = _ping(scene, cidr[77])  # as it would be without: by the default route
    node.ip(FAMILY_FLAG[family], "route", "del", str(cidr), "metric", "100")
    assert passed > TTL // 4


def test_the_discard_route_is_in_nobodys_way_once_pods_have_a_bridge(built: Scene) -> None:
    built.node.add_pod_bridge()
    pod = built.node.add_pod()
    for family in FAMILIES:
        wait_until(lambda family=family: "1 received" in _ping(built, pod.address(family))[0])
        discards = built.node.kernel_routes(family, "type", "unreachable", "proto", OUR_PROTOCOL)
        assert discards == {str(built.node.pod_cidrs[family]): []}
