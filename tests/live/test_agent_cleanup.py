"""Nothing of ours is left on the node: `bgpilot cleanup`, and an agent whose DaemonSet is deleted.

The judge is `ip` and the run directory: what is foreign (a route of another protocol, one of our number that we would
never write, a rule, a file) is there all the time.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.lab.frr import Frr
from tests.lab.minicluster import BGPILOT, LAB_HOLD_SECONDS, OUR_PROTOCOL, MiniCluster, custom, tor, tor_peer
from tests.lab.netns import FAMILY_FLAG
from tests.lab.procs import Process
from tests.lab.topology import Lab, Node
from tests.lab.wait import wait_until

pytestmark = pytest.mark.live

STATIC = {"ipv4": "203.0.112.0/23", "ipv6": "2001:db8:7::/48"}
FOREIGN = (
    ("-4", "route", "add", "unreachable", "198.51.100.0/24", "proto", "static"),
    ("-6", "route", "add", "unreachable", "2001:db8:9::/48", "proto", "static"),
    ("-4", "route", "add", "unreachable", "198.51.100.0/24", "proto", OUR_PROTOCOL, "metric", "77"),
    ("-4", "rule", "add", "pref", "1000", "to", "198.51.100.0/24", "lookup", "main"),
)
OTHERS_FILE = "notes.txt"
ABOUT_TO_BE = {"exabgp.conf.new"}
NAMESPACE = "bgpilot-system"
DAEMON_SET: dict[str, Any] = {
    "apiVersion": "apps/v1",
    "kind": "DaemonSet",
    "metadata": {"namespace": NAMESPACE, "name": "bgpilot"},
}
WITHOUT_NET_ADMIN = ["setpriv", "--bounding-set=-net_admin", "--inh-caps=-all"]
UNINSTALL = "--cleanup-on-uninstall"


class Scene:
    """Two nodes, a router, and on the first node things that are none of our business."""

    def __init__(self, lab: Lab) -> None:
        self.lab, self.node, self.router = lab, lab.node(1), lab.router
        for words in FOREIGN:
            self.node.ip(*words)
        self.before = self.kernel()
        self.tor: Frr = tor(self.router)
        self.tor.configure(["log stdout debugging", "debug bgp neighbor-events"])
        self.cluster = MiniCluster(lab)
        self.api = self.cluster.api
        self.api.apply(
            DAEMON_SET,
            tor_peer(self.router),
            custom("BGPInstance", "default", {"mesh": {"holdSeconds": LAB_HOLD_SECONDS}}),
            custom("BGPAdvertisement", "static", {"type": "Prefix", "prefixes": list(STATIC.values())}),
        )
        self.cluster.start()
        self.wait_in_sync()
        self.run_dir: Path = self.cluster.agent(self.node).run_dir
        (self.run_dir / OTHERS_FILE).write_text("not bgpilot's")

    def kernel(self) -> dict[str, list[dict[str, Any]]]:
        """Routes of all tables and rules, but what the kernel makes by itself."""
        found = {}
        for family, flag in FAMILY_FLAG.items():
            routes = self.node.ip_json(flag, "route", "show", "table", "all")
            found[f"{family} routes"] = [it for it in routes if it.get("protocol") not in {"kernel", "ra"}]
            found[f"{family} rules"] = self.node.ip_json(flag, "rule", "show")
        return found

    def ours(self) -> int:
        """How many routes and rules of our number, but those that were there before."""
        count = sum(it.get("protocol") in {OUR_PROTOCOL, "bgpilot"} for found in self.kernel().values() for it in found)
        return count - sum(it.get("protocol") == OUR_PROTOCOL for found in self.before.values() for it in found)

    def wait_in_sync(self) -> None:
        self.cluster.wait_meshed()
        wait_until(lambda: self.tells(self.node), within=60)

    def tells(self, node: Node) -> bool:
        found = {**self.tor.routes("ipv4"), **self.tor.routes("ipv6")}
        own = {str(address) for address in node.addresses}
        told = {prefix for prefix, hops in found.items() if own & set(hops)}
        assert told == {*STATIC.values(), *map(str, node.pod_cidrs.values())}
        return True

    def files(self) -> set[str]:
        return {path.name for path in self.run_dir.iterdir()}

    def start_speaker(self) -> Process:
        return self.node.start([BGPILOT, "speaker", f"--run-dir={self.run_dir}"], log="speaker")

    def clean_up(self, *words: str) -> tuple[int, str, str]:
        done = self.cluster.agent(self.node).cli("cleanup", *words)
        return done.returncode, done.stdout, done.stderr

    def said(self, event: str) -> int:
        """How often agents of the first node have logged it."""
        return self.cluster.agent(self.node).process.output().count(event)

    def delete_daemon_set(self) -> None:
        before = self.said("daemon_set_deleted")
        self.api.delete("DaemonSet", "bgpilot", NAMESPACE)
        wait_until(lambda: self.said("daemon_set_deleted") > before, within=30)

    def make_daemon_set(self) -> None:
        before = self.said("daemon_set_found")
        self.api.apply(DAEMON_SET)
        wait_until(lambda: self.said("daemon_set_found") > before, within=30)

    def restart(self, *flags: str) -> None:
        """The first node's agent, which has ended. With UNINSTALL it has seen its DaemonSet on return."""
        before = self.said("daemon_set_found")
        agent = self.cluster.start_agent(self.node, *flags)
        wait_until(lambda: agent.view("status")["phase"] == "IN_SYNC", within=60)
        wait_until(lambda: self.said("daemon_set_found") == before + (UNINSTALL in flags), within=30)
        self.wait_in_sync()


@pytest.fixture(scope="module")
def scene() -> Iterator[Scene]:
    with Lab(nodes=2) as lab:
        built = Scene(lab)
        yield built
        built.cluster.close()


def test_while_an_agent_runs_it_is_refused_and_touches_nothing(scene: Scene) -> None:
    there, files = scene.kernel(), scene.files()

    code, _, why = scene.clean_up()

    assert code == 1
    assert f"an agent (process {scene.cluster.agent(scene.node).process.pid}) runs here" in why
    assert "delete daemonset bgpilot" in why
    assert "bgpilot drain" in why
    assert scene.kernel() == there
    assert files - ABOUT_TO_BE <= scene.files()


def test_an_agent_without_the_setting_leaves_everything_when_its_daemon_set_is_deleted(scene: Scene) -> None:
    scene.api.delete("DaemonSet", "bgpilot", NAMESPACE)
    there = scene.kernel()

    assert scene.cluster.agent(scene.node).stop() == 0

    assert scene.kernel() == there
    scene.api.apply(DAEMON_SET)


def test_a_dry_run_shows_what_would_go_and_touches_nothing(scene: Scene) -> None:
    there, files = scene.kernel(), scene.files()

    code, shown, _ = scene.clean_up("--dry-run")

    assert code == 0
    assert (scene.kernel(), scene.files()) == (there, files)
    lines = [line for line in shown.splitlines() if line.startswith("would remove route ")]
    assert len(lines) == scene.ours() - 2 * 2, shown
    assert sum(line.startswith("would remove IPv") for line in shown.splitlines()) == 2 * 2
    assert "would remove file" in shown


def test_what_the_kernel_refuses_is_named_with_its_words(scene: Scene) -> None:
    there = scene.kernel()
    code = f"import asyncio, agent.cleanup as it; print(asyncio.run(it.clean_kernel({OUR_PROTOCOL})).refused)"

    said = scene.node.run([*WITHOUT_NET_ADMIN, sys.executable, "-c", code]).stdout

    assert said.count("Operation not permitted") == scene.ours() - 2 * 2
    assert f"route {STATIC['ipv4']} unreachable-forwarded: Operation not permitted" in said
    assert scene.kernel() == there


def test_who_may_not_write_routes_is_refused(scene: Scene) -> None:
    there = scene.kernel()

    done = scene.node.run([*WITHOUT_NET_ADMIN, BGPILOT, "cleanup", f"--run-dir={scene.run_dir}"], check=False)

    assert done.returncode == 1
    assert "no CAP_NET_ADMIN" in done.stderr
    assert scene.kernel() == there


def test_nothing_of_ours_is_left_and_all_that_is_foreign_is_there(scene: Scene) -> None:
    assert scene.ours() > 0

    code, shown, _ = scene.clean_up()

    assert code == 0, shown
    assert scene.kernel() == scene.before
    assert scene.files() == {OTHERS_FILE}
    assert "removed IPv4 rule 32764" in shown
    assert "left alone Route 198.51.100.0/24" in shown


def test_once_more_there_is_nothing_to_remove(scene: Scene) -> None:
    code, shown, _ = scene.clean_up()

    assert code == 0
    assert "removed" not in shown
    assert "nothing of bgpilot is here" in shown


def test_an_agent_that_is_started_again_converges(scene: Scene) -> None:
    scene.restart(UNINSTALL)

    assert scene.ours() > 0


def test_an_agent_that_is_stopped_while_its_daemon_set_is_there_leaves_everything(scene: Scene) -> None:
    since = len(scene.tor.bgpd.output())
    there = scene.kernel()

    assert scene.cluster.agent(scene.node).stop() == 0

    assert scene.kernel() == there
    assert "cleaned_up" not in scene.cluster.agent(scene.node).process.output()
    assert "uninstalled" not in scene.tor.bgpd.output()[since:]
    scene.restart(UNINSTALL)


def test_a_daemon_set_that_is_replaced_under_the_agent_is_no_uninstall(scene: Scene) -> None:
    scene.delete_daemon_set()
    scene.make_daemon_set()
    there = scene.kernel()

    assert scene.cluster.agent(scene.node).stop() == 0

    assert scene.kernel() == there


@pytest.mark.parametrize("speaker", ["child", "external"])
def test_an_agent_whose_daemon_set_is_deleted_says_goodbye_and_leaves_nothing_behind(
    scene: Scene, speaker: str, request: pytest.FixtureRequest
) -> None:
    """Beside it ExaBGP goes on for a moment, as in the pod."""
    scene.api.apply(DAEMON_SET)
    if speaker == "external":
        request.addfinalizer(scene.start_speaker().stop)
    scene.restart(UNINSTALL, f"--speaker={speaker}")
    agent, since = scene.cluster.agent(scene.node), len(scene.tor.bgpd.output())
    scene.delete_daemon_set()
    assert agent.view("status")["leaving"] is None

    assert agent.stop() == 0

    assert scene.kernel() == scene.before
    assert scene.files() == {OTHERS_FILE}
    wait_until(lambda: "bgpilot is uninstalled from Node node-1" in scene.tor.bgpd.output()[since:])
    other = scene.lab.node(2)
    wait_until(lambda: not any(scene.cluster.learned(other, family) for family in scene.lab.families), within=30)
    assert scene.tells(other)


def test_with_exabgp_running_beside_it_is_refused(scene: Scene) -> None:
    speaker = scene.start_speaker()
    wait_until(lambda: "exabgp.conf" in scene.files(), within=30)
    try:
        wait_until(lambda: _refused(scene), within=60)
    finally:
        speaker.stop()

    code, shown, why = scene.clean_up()
    assert code == 0, why
    assert scene.files() == {OTHERS_FILE}, shown


def test_a_file_that_cannot_be_removed_is_said_with_exit_code_1(scene: Scene) -> None:
    order = scene.run_dir / "drain"
    order.touch()
    read_only = f"mount --bind {scene.run_dir} {scene.run_dir}; mount -o remount,bind,ro {scene.run_dir}"
    script = f"{read_only}; exec {BGPILOT} cleanup --run-dir={scene.run_dir}"

    done = scene.node.run(["unshare", "--mount", "sh", "-ec", script], check=False)

    assert done.returncode == 1
    assert f"still there: file {order}: Read-only file system" in done.stderr
    assert scene.clean_up()[0] == 0
    assert not order.exists()


def test_an_agent_that_only_plans_takes_no_order_to_drain(scene: Scene) -> None:
    before = scene.said('"starting"')
    agent = scene.cluster.start_agent(scene.node, "--dry-run")
    wait_until(lambda: scene.said('"starting"') > before)

    done = agent.cli("drain", "--wait=0")

    assert done.returncode == 4
    assert "without --dry-run, which takes no orders" in done.stderr
    assert scene.files() == {OTHERS_FILE}


def _refused(scene: Scene) -> bool:
    code, _, why = scene.clean_up("--dry-run")
    assert "ExaBGP still runs beside" in why
    return code == 1
