"""Pods of the agent are replaced, of one node, of two, of all, at once or in turn, and machines reboot: what is lost.

The judges are a packet every 10 ms between pods, from routers and from a client behind them to pods and services, each
kernel, which tells of every change of its routes, and FRR's table and log. What a machine that is gone loses is the
control: the same probes see it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator
from ipaddress import ip_address

import pytest

from bgp.model import DEFAULT_HOLD_SECONDS
from tests.lab.minicluster import OUR_PROTOCOL, node_object
from tests.lab.netns import Family
from tests.lab.pods import ping
from tests.lab.rolling import AgentPod, Losses, Rolling, announced, vips
from tests.lab.topology import Lab, Node
from tests.lab.wait import wait_until

pytestmark = pytest.mark.live

SOAK = bool(os.environ.get("BGPILOT_SOAK"))
"""More nodes, more ways to end, and machines that are shut down or are soon back."""
NODES = 10 if SOAK else 3
FAMILIES: tuple[Family, Family] = ("ipv4", "ipv6")
GONE_SECONDS = 60.0
"""Hold time and to spare."""
STALE_SECONDS = 180.0
"""The restart time, 120 s, and to spare."""


@pytest.fixture(scope="module")
def site() -> Iterator[Lab]:
    with Lab(nodes=NODES, routers=2) as lab:
        yield lab


@pytest.fixture(scope="module")
def scene(site: Lab) -> Iterator[Rolling]:
    built = Rolling(site)
    yield built
    built.close()


def test_pods_that_are_replaced_one_after_the_other_lose_nothing(scene: Rolling) -> None:
    up, log = scene.times_up(), len(scene.frr_log())
    with scene.watched() as losses:
        for pod in scene.roll():
            pod.stop()
            pod.start()

    assert losses.lost == {}, str(losses)
    assert losses.written == {}
    assert scene.times_up() == {name: times + 1 for name, times in up.items()}
    wanted = [(node.name, what) for node in scene.nodes for what in ("Down", "Up")]
    wait_until(lambda: len(scene.frr_log()) >= log + len(wanted))
    assert scene.frr_log()[log:] == wanted


ENDS: list[Callable[[AgentPod], None]] = [AgentPod.kill, AgentPod.stop] if SOAK else [AgentPod.kill]


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("count", [1, 2, NODES] if SOAK else [2, NODES], ids=str)
def test_pods_that_end_at_once_lose_nothing(scene: Rolling, count: int, end: Callable[[AgentPod], None]) -> None:
    chosen = scene.nodes[:count]
    names = {node.name for node in chosen}
    up, log, flaps = scene.times_up(), len(scene.frr_log()), scene.flaps(*chosen)
    with scene.watched() as losses:
        for node in chosen:
            end(scene.agents[node.name])
        for node in chosen:
            scene.agents[node.name].start()

    assert losses.lost == {}, str(losses)
    assert losses.written == {}
    assert scene.times_up() == {name: times + (name in names) for name, times in up.items()}
    wanted = sorted((name, what) for name in names for what in ("Down", "Up"))
    wait_until(lambda: len(scene.frr_log()) >= log + len(wanted))
    assert sorted(scene.frr_log()[log:]) == wanted
    assert scene.flaps(*chosen) == flaps


def test_control_a_route_that_goes_while_a_pod_is_replaced_loses_packets_and_is_seen_to_go(scene: Rolling) -> None:
    node, other = scene.nodes[:2]
    family = scene.probed(node)[0]
    gone = str(other.pod_cidrs[family])
    with scene.watched() as losses:
        scene.agents[node.name].stop()
        node.ip("route", "del", gone, "proto", OUR_PROTOCOL)
        scene.agents[node.name].start()

    assert losses.lost.keys() == {f"{node.name} to {other.name}, {family}"}
    assert next(iter(losses.written.pop(node.name))).split()[:2] == ["Deleted", gone]
    assert losses.written == {}


def test_a_machine_that_dies_takes_its_own_routes_along_until_it_is_back(scene: Rolling) -> None:
    node, *others = scene.nodes[::-1]
    flaps = scene.flaps(node)
    with scene.watched(dies=node) as losses:
        scene.power_off(node)
        wait_until(lambda: not scene.in_kernels(node) and not scene.in_tables(node), within=GONE_SECONDS)
        come_back(scene, node)

    assert losses.lost.keys() == on_the_way_to(node, losses)
    cidrs = list(map(str, node.pod_cidrs.values()))
    assert {name: told(lines, announced(node)) for name, lines in losses.written.items()} == {
        **{other.name: gone_and_come(cidrs) for other in others},
        **{router.name: gone_and_come(announced(node)) for router in scene.lab.routers},
    }
    assert scene.flaps(scene.nodes[-1]) == flaps


if SOAK:

    @pytest.mark.parametrize("goes", ["with its Node", "after its restart time"])
    def test_routes_to_a_machine_that_was_shut_down_stay_until_it_is_known_not_to_come_back(
        scene: Rolling, goes: str
    ) -> None:
        node, *others = scene.nodes[::-1]
        everybody = {other.name for other in others}
        with scene.watched(dies=node) as losses:
            scene.agents[node.name].stop()
            scene.power_off(node)
            wait_until(lambda: scene.lost_by_all(node))
            assert scene.in_kernels(node) == everybody
            if goes == "with its Node":
                scene.api.delete("Node", node.name)
            wait_until(lambda: not scene.in_kernels(node), within=STALE_SECONDS)
            if goes == "after its restart time":
                wait_until(lambda: not scene.in_tables(node))
            scene.api.apply(node_object(node))
            come_back(scene, node)

        assert losses.lost.keys() == on_the_way_to(node, losses)
        cidrs = list(map(str, node.pod_cidrs.values()))
        changed = {name: set(told(losses.written[name], cidrs)) for name in everybody}
        assert changed == {name: set(gone_and_come(cidrs)) for name in everybody}

    def test_routes_to_a_machine_that_is_back_before_its_hold_time_is_over_stay(scene: Rolling) -> None:
        """Lost is what is sent while it is away; node 1 dials it, and it dials the others."""
        node = scene.nodes[1]
        scene.hold(DEFAULT_HOLD_SECONDS)
        wait_until(lambda: scene.holds(DEFAULT_HOLD_SECONDS), within=GONE_SECONDS)
        scene.wait_whole()
        with scene.watched(dies=node) as losses:
            scene.power_off(node)
            come_back(scene, node)

        assert losses.lost.keys() == on_the_way_to(node, losses)
        assert losses.written.keys() <= {router.name for router in scene.lab.routers}


def come_back(scene: Rolling, node: Node) -> None:
    """All is well again after it, of the machine's pods too."""
    reborn = scene.boot(node.index)
    assert [reborn.kernel_routes(family, "proto", OUR_PROTOCOL) for family in FAMILIES] == [{}, {}]
    print(f"its agent starts {1000 * (time.monotonic() - scene.off_at):.0f} ms after the machine was powered off")
    scene.agents[reborn.name].start()
    scene.wait_whole()
    source, pod = scene.pods[scene.nodes[0].name], scene.pods[reborn.name]
    for family in FAMILIES:
        wait_until(lambda f=family: ping(source, pod.address(f)) and ping(pod, source.address(f)))
    wait_until(lambda: all(ping(scene.lab.routers[0], ip_address(vip)) for vip in vips(reborn)))


def on_the_way_to(node: Node, losses: Losses) -> set[str]:
    """The probes whose packets go to it."""
    ends = (f"to {node.name}, ipv4", f"to {node.name}, ipv6", f" of {node.name}")
    return {name for name in losses.probes if name.endswith(ends)}


def told(lines: Iterable[str], prefixes: Iterable[str]) -> list[str]:
    """Each line in short; those about other prefixes as they are."""
    shown = {prefix.removesuffix("/32").removesuffix("/128"): prefix for prefix in prefixes}
    found = []
    for line in lines:
        gone, words = line.startswith("Deleted "), line.removeprefix("Deleted ").split()
        found.append(f"{'-' if gone else '+'}{shown[words[0]]}" if words[0] in shown else line)
    return sorted(found)


def gone_and_come(prefixes: Iterable[str]) -> list[str]:
    return sorted(sign + prefix for prefix in prefixes for sign in "-+")
