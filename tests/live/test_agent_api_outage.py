"""The API server is gone, restored from a backup, refuses, trickles, falls silent, has forgotten: traffic flows on.

Node 1 has ExaBGP beside its agent, node 2 as its child; FRR, BIRD and the kernels of all four are the judges, and a
packet every 10 ms between pods and from a client behind the routers. While no answer is whole nobody is told anything
and no kernel is written to; when all is well again, what has changed meanwhile is put right within seconds.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import pytest

from agent.model import ALWAYS_WATCHED
from tests.lab.judges import hosts
from tests.lab.minicluster import OUR_PROTOCOL, Agent, service_object, slice_object
from tests.lab.mortal import BY_BIRD, BY_FRR, GOES, Mortal
from tests.lab.netns import Family
from tests.lab.topology import Lab
from tests.lab.wait import wait_until
from tests.lab.writes import Writes

pytestmark = pytest.mark.live

SOAK = bool(os.environ.get("BGPILOT_SOAK"))
"""Outages last as long as they would."""
OLD_SECONDS = 600.0 if SOAK else 8.0
"""How old the picture is in the end, where the API server is gone."""
BACK_SECONDS = 120.0
"""For machines that are busy: how soon the watches are back is asserted in virtual time, in the unit tests."""
BYTES_PER_SECOND = 20
AGE_REVISIONS = 100
"""How old a backup is at least: more than agents write of their nodes as soon as the API server is back. A store with
newer revisions than the one that a watch had looks to that watch as if it had never been away.
"""
HUSHED_SECONDS = 5.0
START_SECONDS = 180.0
"""Until an agent that is started says that it has no picture, on a machine that is busy."""
GIVEN_UP_SECONDS = 420.0
"""200 s for a watch, 90 for the question that follows; 30 where the kernel notices."""
COMES = "203.0.113.10"
FIRST, SECOND = "node-1", "node-2"
THERE = [FIRST, "router-1", "router-2"]
AGE = "bgpilot_kubernetes_picture_age_seconds"


class Scene(Mortal):
    """The API server's trouble, and who notices it."""

    come_and_go = frozenset(hosts([GOES, COMES]))

    @property
    def agents(self) -> Sequence[Agent]:
        return [self.cluster.agent(node) for node in (self.node, self.other)]

    @property
    def machines(self) -> Sequence[Any]:
        return [self.node, self.other, *self.lab.routers[:2]]

    def broken(self, *reasons: str, agents: Sequence[Agent] | None = None) -> bool:
        """All watches of the agents, for one of these reasons."""
        for agent in self.agents if agents is None else agents:
            found = {it["watch"]: it["reason"] for it in agent.view("status")["picture"]["broken"]}
            assert found.keys() == set(map(str, ALWAYS_WATCHED)), f"{agent.namespace}: {found}"
            assert set(found.values()) <= set(reasons), f"{agent.namespace}: {found}"
        return True

    def older_than(self, seconds: float) -> bool:
        """What every agent knows."""
        ages = [agent.view("status")["picture"]["age_seconds"] for agent in self.agents]
        assert min(ages) > seconds, ages
        return True

    def heard_last(self) -> float:
        """How long ago the agent that knows more did hear something."""
        return min(agent.view("status")["picture"]["heard_seconds"] for agent in self.agents)

    def has_begun_to_list(self, agent: Agent) -> bool:
        """And has not come to an end of it."""
        status = agent.view("status")
        assert not status["picture"]["complete"]
        return bool(status["phase"] == "LISTING" and status["uptime_seconds"] > HUSHED_SECONDS)

    def watching(self) -> bool:
        """Every agent all kinds."""
        for agent in self.agents:
            picture = agent.view("status")["picture"]
            assert (picture["complete"], picture["broken"]) == (True, []), f"{agent.namespace}: {picture}"
        return True

    def restarts(self, reason: str) -> list[float]:
        """How often each agent began a watch again for this reason."""
        return [sum(metrics(agent, rf'watch_restarts_total{{[^}}]*reason="{reason}"[^}}]*}}')) for agent in self.agents]

    def serve(self, name: str, address: str, *, here: bool = True) -> None:
        """A Service that node 1 announces while the endpoint is `here`."""
        endpoints = {self.node.name: [str(self.here.address("ipv4"))]} if here else {}
        self.api.apply(
            service_object(name, ["10.96.0.10"], load_balancer_ips=[address], external_policy="Local"),
            slice_object(name, endpoints),
        )

    def grow_old(self, name: str) -> None:
        """Much else is written to the store, which nobody here needs to know."""
        for number in range(AGE_REVISIONS):
            self.api.merge("Service", name, {"metadata": {"annotations": {"number": str(number)}}}, "default")

    def told(self, *addresses: str, gone: Sequence[str] = ()) -> bool:
        """FRR, BIRD, their kernels and node 2 have these from node 1, and not those that are gone."""
        wanted, others = set(hosts(addresses)), set(hosts(gone))
        kernels = (router.kernel_routes("ipv4").keys() for router in self.lab.routers[:2])
        tables = (self.frr.routes("ipv4").keys(), self.bird.routes("ipv4").keys())
        for found in (*tables, *kernels, self.learned_there()):
            assert found & (wanted | others) == wanted, found
        return True

    def sessions(self) -> dict[str, Any]:
        """How often each came up, or was lost."""
        frr = self.frr.show_json("show bgp neighbors json")
        bird = [line for line in self.bird.birdc("show protocols").splitlines() if "Established" in line]
        return {
            "frr": {peer: one["connectionsEstablished"] for peer, one in frr.items()},
            "bird": sorted(line.split()[0] for line in bird),
            **{
                f"{agent.namespace}": {it: peer["flaps"] for it, peer in agent.view("peers")["peers"].items()}
                for agent in self.agents
            },
        }

    def heard(self) -> dict[str, Any]:
        """Of routes, by the routers; also the same again."""
        frr = self.frr.show_json("show bgp neighbors json").values()
        return {
            "frr": sum(one["messageStats"]["updatesRecv"] for one in frr),
            "bird": self.bird.changes_heard(),
            "log": [line for line in self.frr.bgpd.output().splitlines() if "NOTIFICATION" in line],
        }

    @contextmanager
    def nobody_told(self) -> Iterator[None]:
        """In the block nothing is announced, withdrawn or written to a kernel, and no session ends."""
        heard, sessions, writes = self.heard(), self.sessions(), Writes(self.machines)
        yield
        assert writes.stop() == {}
        assert self.heard() == heard
        if len(self.agents[0].view("peers")["peers"]) > 0:  # an agent without a picture knows of no peers
            assert self.sessions() == sessions

    @contextmanager
    def put_right(self, *addresses: str, gone: Sequence[str] = ()) -> Iterator[None]:
        """Within seconds after the block, which brings the API server back."""
        yield
        back_at = time.monotonic()
        wait_until(lambda: self.told(*addresses, gone=gone), within=BACK_SECONDS)
        right = time.monotonic() - back_at
        wait_until(self.watching, within=BACK_SECONDS)
        print(f"RIGHT after {right:.1f} s, all watches after {time.monotonic() - back_at:.1f} s")
        assert time.monotonic() - back_at < BACK_SECONDS


def metrics(agent: Agent, name: str) -> list[float]:
    text = agent.namespace.run(["curl", "-sS", "http://127.0.0.1:9817/metrics"]).stdout
    return [float(found) for found in re.findall(rf"^(?:bgpilot_kubernetes_)?{name} (\S+)$", text, re.MULTILINE)]


@pytest.fixture(scope="module")
def site() -> Iterator[Lab]:
    with Lab(nodes=2, routers=3) as lab:
        yield lab


@pytest.fixture(scope="module")
def scene(site: Lab) -> Iterator[Scene]:
    built = Scene(site)
    wait_until(lambda: built.told(GOES))
    yield built
    built.cluster.close()


@contextmanager
def only_lost(scene: Scene, *addresses: str) -> Iterator[None]:
    """No packet is lost, no session, and no route but those to these addresses, which nobody sends to."""
    with scene.watched(ends=False) as losses:
        yield
    assert losses.lost == {}, str(losses)
    wanted: Mapping[str, list[str]] = {name: sorted(addresses) for name in (SECOND, *THERE[1:])} if addresses else {}
    assert {name: sorted(prefixes) for name, prefixes in losses.deleted_prefixes().items()} == wanted


@pytest.fixture(autouse=True)
def _as_before(scene: Scene) -> Iterator[None]:
    """One test finds what every other did, also after one that failed half-way."""
    yield
    scene.lab.hosts["api"].plug()
    scene.api.behave()
    try:
        scene.api.client().get("/livez")
    except OSError:
        scene.api.restore()
    if not scene.agent.process.alive:
        scene.agent.restart()
    scene.serve_goes_on([scene.node])
    for kind in ("Service", "EndpointSlice"):
        for thing in scene.api.list(kind):
            if thing["metadata"]["name"].startswith("comes"):
                scene.api.delete(kind, thing["metadata"]["name"], "default")
    wait_until(lambda: scene.told(GOES, gone=[COMES]), within=60)


def change(scene: Scene) -> None:
    """A Service loses its endpoint here, and another comes."""
    scene.serve_goes_on(())
    scene.serve("comes", COMES)


def test_while_the_api_server_is_gone_nothing_happens_and_what_changed_is_put_right_within_seconds(
    scene: Scene,
) -> None:
    with only_lost(scene, GOES):
        with scene.nobody_told():
            scene.api.cut()
            change(scene)
            wait_until(
                lambda: scene.broken("apiUnreachable") and scene.older_than(OLD_SECONDS), within=OLD_SECONDS + 30
            )
            shown = scene.agent.cli("status").stdout
            (age,) = metrics(scene.agent, AGE)
        with scene.put_right(COMES, gone=[GOES]):
            scene.api.restore()

    assert re.search(r"not watched for \d+\S* \(apiUnreachable\): .*Node.*; the last that was heard holds", shown), (
        shown
    )
    assert age > OLD_SECONDS


ASKED = [
    "status",
    "check",
    "peers",
    "peer wire",
    "routes advertised",
    "fib",
    "diff",
    f"explain {GOES}",
    "explain default/web",
    f"explain {SECOND}",
    "tor-config --vendor frr",
    "reset wire",
    "drain --wait 1",
]
FIB_ROUTES = r'bgpilot_fib_routes\{afi="ipv4",table="main"\}'


def kernel_routes(scene: Scene, table: str) -> set[str]:
    """Prefixes of ours in the kernel of node 1."""
    families: tuple[Family, ...] = ("ipv4", "ipv6")
    found = (scene.node.kernel_routes(family, "table", table, "proto", OUR_PROTOCOL) for family in families)
    return set[str]().union(*found)


def test_an_agent_that_is_restarted_while_the_api_server_is_gone_leaves_all_as_it_is(scene: Scene) -> None:
    with only_lost(scene, GOES):
        with scene.nobody_told():
            scene.api.cut()
            scene.agent.kill()
            change(scene)
            scene.agent.restart()
            wait_until(lambda: scene.broken("apiUnreachable", agents=[scene.agent]), within=START_SECONDS)
            wait_until(
                lambda: scene.agent.view("status")["picture"]["age_seconds"] > OLD_SECONDS, within=OLD_SECONDS + 30
            )
            shown = {words: scene.agent.cli(*words.split()) for words in ASKED}
            (counted,) = metrics(scene.agent, FIB_ROUTES)
            there, in_main = kernel_routes(scene, "all"), kernel_routes(scene, "main")
        with scene.put_right(COMES, gone=[GOES]):
            scene.api.restore()

    assert {words: done.returncode for words, done in shown.items()} == dict.fromkeys(ASKED, 3), "not well, not known"
    for words, done in shown.items():
        said = (done.stdout + done.stderr).splitlines()
        (why,) = [line for line in said if re.search(r"\(apiUnreachable, for \d+ \w+\)", line)]
        assert "the cluster is not known yet" in why, words
        assert len([line for line in said if line.startswith("! ")]) <= 1, words
        assert ("pictureIncomplete" in why) is (words != "check"), why
    assert "LISTING" in shown["status"].stdout
    assert [line.split()[0] for line in shown["check"].stdout.splitlines()] == ["FAIL", *["SKIP"] * 7]
    assert in_main
    assert {line.split()[0] for line in shown["fib"].stdout.splitlines() if " kept " in line} == there
    assert counted == len([it for it in in_main if ":" not in it])


def test_a_store_that_is_restored_from_a_backup_takes_away_what_it_lacks_and_nothing_else(scene: Scene) -> None:
    backup = scene.api.backup()
    scene.serve("comes", COMES)
    wait_until(lambda: scene.told(GOES, COMES))
    scene.grow_old("comes")
    with scene.watched(ends=False) as losses:
        with scene.nobody_told():
            scene.api.cut()
            wait_until(lambda: scene.broken("apiUnreachable"))
            scene.api.go_back(backup)
        with scene.put_right(GOES, gone=[COMES]):
            scene.api.restore()

    assert losses.lost == {}, str(losses)
    assert losses.deleted == {}
    wait_until(lambda: all(count > 0 for count in scene.restarts("revisionWentBack")))


def test_control_a_store_whose_backup_lacks_a_service_that_is_used_loses_packets(scene: Scene) -> None:
    web = [scene.api.get("Service", "web", "default"), scene.api.get("EndpointSlice", "web-ipv4", "default")]
    for kind, name in (("Service", "web"), ("EndpointSlice", "web-ipv4")):
        scene.api.delete(kind, name, "default")
    wait_until(lambda: scene.told(gone=[BY_FRR, BY_BIRD]))
    backup = scene.api.backup()
    scene.api.apply(*web)
    wait_until(lambda: scene.told(BY_FRR, BY_BIRD))
    scene.grow_old("web")

    with scene.watched(ends=False) as losses:
        scene.api.cut()
        wait_until(lambda: scene.broken("apiUnreachable"))
        scene.api.go_back(backup)
        scene.api.restore()
        wait_until(lambda: scene.told(gone=[BY_FRR, BY_BIRD]), within=BACK_SECONDS)
        scene.api.apply(*web)
        wait_until(lambda: scene.told(BY_FRR, BY_BIRD))

    assert losses.lost.keys() == {"pod to service", "by FRR to service", "by BIRD to service"}
    assert losses.deleted.keys() == {SECOND, "router-1", "router-2"}


REFUSALS = {"apiFailed": (500, None), "apiBusy": (429, 3)}


def test_an_api_server_that_refuses_everything_changes_nothing_until_it_answers_again(scene: Scene) -> None:
    with only_lost(scene, GOES):
        with scene.nobody_told():
            for reason, (status, retry_after) in REFUSALS.items():
                scene.api.refuse(status, retry_after=retry_after)
                wait_until(lambda reason=reason: scene.broken(reason), within=60)  # type: ignore[misc]
                change(scene)
        with scene.put_right(COMES, gone=[GOES]):
            scene.api.behave()


def test_an_agent_that_starts_while_lists_trickle_leaves_all_as_it_is_until_it_has_all_of_them(scene: Scene) -> None:
    with only_lost(scene, GOES):
        with scene.nobody_told():
            scene.agent.kill()
            scene.api.trickle(BYTES_PER_SECOND)
            change(scene)
            scene.agent.restart()
            wait_until(lambda: scene.has_begun_to_list(scene.agent), within=START_SECONDS)
        scene.api.behave()
        # Streams that broke twice count as watches again with their next bookmark only; what they bring counts at once.
        wait_until(lambda: scene.told(COMES, gone=[GOES]), within=BACK_SECONDS)


def test_a_change_that_trickles_is_taken_when_all_of_it_has_come(scene: Scene) -> None:
    with only_lost(scene, GOES):
        scene.api.trickle(100 * BYTES_PER_SECOND)
        change(scene)
        wait_until(lambda: scene.told(COMES, gone=[GOES]), within=BACK_SECONDS)


def test_a_watch_that_has_expired_brings_all_objects_again_and_takes_away_only_what_is_gone(scene: Scene) -> None:
    before = scene.restarts("revisionExpired")
    with only_lost(scene, GOES):
        with scene.nobody_told():
            scene.api.cut()
            change(scene)
            scene.api.compact()
            wait_until(lambda: scene.broken("apiUnreachable"))
        with scene.put_right(COMES, gone=[GOES]):
            scene.api.restore()

    assert all(later > earlier for earlier, later in zip(before, scene.restarts("revisionExpired"), strict=True))


def half_open(scene: Scene) -> None:
    """The API server's machine is unplugged: no connection is closed."""
    scene.lab.hosts["api"].unplug()
    change(scene)
    wait_until(lambda: scene.broken("streamBroken", "apiUnreachable"), within=GIVEN_UP_SECONDS)


def hushed(scene: Scene) -> None:
    before = scene.heard_last()
    scene.api.hush()
    change(scene)
    wait_until(lambda: scene.heard_last() > before + HUSHED_SECONDS, within=60)


def given_up(scene: Scene) -> None:
    scene.api.hush()
    change(scene)
    wait_until(lambda: scene.broken("streamSilent"), within=GIVEN_UP_SECONDS)


SILENCES = [hushed, half_open, given_up] if SOAK else [hushed]


@pytest.mark.parametrize("silence", SILENCES)
def test_while_all_watches_are_silent_nothing_happens_and_then_what_changed_is_put_right(
    scene: Scene, silence: Callable[[Scene], None]
) -> None:
    with only_lost(scene, GOES):
        with scene.nobody_told():
            silence(scene)
        with scene.put_right(COMES, gone=[GOES]):
            scene.lab.hosts["api"].plug()
            scene.api.behave()
