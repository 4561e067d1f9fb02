"""What a user is told who asks why: of objects that mean other nodes, and of nodes on which nothing can work."""

from __future__ import annotations

import base64
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.lab.minicluster import LAB_HOLD_SECONDS, OUR_PROTOCOL, Agent, MiniCluster, custom, node_object
from tests.lab.topology import Lab
from tests.lab.wait import wait_until

pytestmark = pytest.mark.live

A_BUG = """
import asyncio, signal
def bug():
    raise LookupError("a bug of a test")
add = asyncio.SelectorEventLoop.add_signal_handler
def with_bug(loop, number, callback, *arguments):
    add(loop, signal.SIGUSR1, loop.call_later, 0.0, bug)
    add(loop, number, callback, *arguments)
asyncio.SelectorEventLoop.add_signal_handler = with_bug
"""
"""`sitecustomize`: a timer that raises, at SIGUSR1."""
LISTENER = "import socket, time; s = socket.create_server(('', 179)); print('listens', flush=True); time.sleep(999)"


class Scene:
    """Two nodes in a mesh; node 2 is in rack b."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.cluster = MiniCluster(lab)
        self.api = self.cluster.api
        self.instance()
        self.cluster.start()
        self.api.apply(node_object(lab.node(2), labels={"rack": "b"}))
        self.wait_well()

    def instance(self, **spec: Any) -> None:
        mesh = {"holdSeconds": LAB_HOLD_SECONDS, **spec.pop("mesh", {})}
        self.api.apply(custom("BGPInstance", "default", {"mesh": mesh, **spec}))

    def agent(self, number: int = 1) -> Agent:
        return self.cluster.agent(self.lab.node(number))

    def wait_well(self) -> None:
        self.cluster.wait_meshed()
        for agent in self.cluster.agents.values():
            wait_until(lambda agent=agent: agent.cli("status").returncode == 0)  # type: ignore[misc]

    def wait_shown(self, text: str, *words: str, code: int = 3, number: int = 1, within: float = 30.0) -> str:
        """Until the answer, with this exit code, has the text."""

        def shown() -> str:
            done = self.agent(number).cli(*words)
            assert (done.returncode, text in done.stdout) == (code, True), f"{done.returncode}: {done.stdout}"
            return done.stdout

        return wait_until(shown, within=within)


@pytest.fixture(scope="module")
def site() -> Iterator[Lab]:
    with Lab(nodes=2, families=("ipv4",)) as lab:
        yield lab


@pytest.fixture(scope="module")
def scene(site: Lab) -> Iterator[Scene]:
    built = Scene(site)
    yield built
    built.cluster.close()


@pytest.fixture(autouse=True)
def _well_again(scene: Scene) -> Iterator[None]:
    """Also after a test that failed half-way."""
    yield
    for agent in scene.cluster.agents.values():
        if not agent.process.alive:
            agent.restart()
    for kind, usual in (("BGPPeer", ()), ("BGPInstance", ("default",))):
        for thing in scene.api.list(kind):
            if (name := thing["metadata"]["name"]) not in usual:
                scene.api.delete(kind, name)
    scene.instance()
    scene.wait_well()


def test_a_bgppeer_for_other_nodes_is_explained_by_its_selector(scene: Scene) -> None:
    router = str(scene.lab.router.address())
    spec = {"address": router, "asn": 65000, "nodeSelector": {"matchLabels": {"rack": "b"}}}
    scene.api.apply(custom("BGPPeer", "spine", spec))

    text = scene.wait_shown("nodeNotSelected", "explain", "spine")

    assert "it wants rack=b, and the node has no label rack" in text
    assert "`kubectl label --overwrite node node-1 rack=b`" in text
    assert "nodeNotSelected" in scene.wait_shown("BGPPeer spine", "explain", router)
    wait_until(lambda: "external session wanted" in scene.agent(2).cli("explain", "spine").stdout)


def test_a_bgppeer_that_cannot_be_read_is_not_denied_where_its_session_is_asked_for(scene: Scene) -> None:
    scene.api.apply(custom("BGPPeer", "bad", {"address": "tor", "asn": 65000}), checked=False)

    text = scene.wait_shown("malformedObject", "explain", "bad")
    assert "no session comes of it: spec.address = 'tor' is not an IP address: the whole object is not used" in text
    done = scene.agent().cli("peer", "bad")
    assert (done.returncode, "BGPPeer bad: no session comes of it" in done.stderr) == (1, True)
    scene.api.delete("BGPPeer", "bad")


def test_what_no_route_leads_to_is_said_to_be_what_it_is_by_what_the_kernel_has(scene: Scene) -> None:
    node = scene.lab.node(1)
    own, pods = str(node.address()), node.pod_cidrs["ipv4"]
    subnet = str(scene.lab.rack1.networks["ipv4"])

    for subject, says in {
        own: f"{own} is an address of this node, on eth0",
        subnet: f"{subnet} is connected on eth0",
        "127.0.0.53": "127.0.0.53 is loopback",
        str(pods.supernet()): f"it covers 1 prefix that it announces: {pods}",
    }.items():
        done = scene.agent().cli("explain", subject)
        assert (done.returncode, says in done.stdout) == (3, True), done.stdout


def test_a_router_that_is_not_there_is_missed_after_thirty_seconds_and_named(scene: Scene) -> None:
    router = str(scene.lab.router.address())
    scene.api.apply(custom("BGPPeer", "spine", {"address": router, "asn": 65000}))
    scene.wait_shown("1 of 2 established", "status", code=0)

    down = f"sessionDown: 1 of 2 sessions is not established, for 30 s or longer: BGPPeer/spine ({router})"
    scene.wait_shown(f"Healthy:   degraded: {down}", "status", within=60)


def test_a_router_whose_secret_is_missing_degrades_at_once(scene: Scene) -> None:
    secret = {"name": "nowhere", "key": "md5"}
    spec = {"address": str(scene.lab.router.address()), "asn": 65000, "passwordSecretRef": secret}
    scene.api.apply(custom("BGPPeer", "spine", spec))

    text = scene.wait_shown("Healthy:   degraded: secretMissing: 1 of 2 sessions may not come up", "status")

    assert "names Secret nowhere" in text


def test_mesh_sessions_that_may_not_come_up_are_no_health(scene: Scene) -> None:
    scene.instance(mesh={"passwordSecretRef": {"name": "nowhere", "key": "md5"}})

    text = scene.wait_shown("Healthy:   no: secretMissing: no session between nodes may come up", "status")

    assert "names Secret nowhere" in text


def test_a_port_that_another_daemon_has_is_no_health(scene: Scene) -> None:
    node, agent = scene.lab.node(2), scene.agent(2)
    agent.stop()
    other = node.start(["python3", "-c", LISTENER], log="other")
    wait_until(lambda: "listens" in other.output())
    agent.restart()

    try:
        scene.wait_shown("Healthy:   no: cannotListen: cannot listen on ", "status", number=2)
    finally:
        other.kill()


def test_a_node_without_an_as_says_so_to_whoever_asks_for_a_prefix(scene: Scene) -> None:
    scene.agent().stop()  # a node that has had one keeps it for a while
    scene.instance(asnFrom={"label": "example.com/asn"})
    scene.agent().restart()

    text = scene.wait_shown("asnMissing", "explain", str(scene.lab.node(2).pod_cidrs["ipv4"]))

    assert "speaks no BGP" in text
    assert "Set label example.com/asn of Node node-1" in text
    assert "notHeard" not in text
    scene.wait_shown("Healthy:   no: asnMissing: Node node-1 has no label example.com/asn", "status")


def test_a_node_that_loses_its_as_goes_on_for_a_while_and_says_one_word_everywhere(scene: Scene) -> None:
    scene.instance(asnFrom={"label": "example.com/asn"})

    scene.wait_shown("Healthy:   degraded: asnMissing: Node node-1 has no label example.com/asn", "status")

    text = scene.wait_shown("! asnMissing: Set label example.com/asn", "explain", "node-2")
    assert "it goes on in AS 64512, which it had, for two minutes at most" in text
    assert scene.agent().view("peers")["peers"][str(scene.lab.node(2).address())]["is_up"]


def test_different_passwords_on_two_nodes_are_named_on_both(scene: Scene) -> None:
    for name in ("mesh-a", "mesh-b"):
        data = {"md5": base64.b64encode(name.encode()).decode()}
        metadata = {"namespace": "bgpilot-system", "name": name}
        scene.api.apply({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": data})
    rack = {"nodeSelector": {"matchLabels": {"rack": "b"}}, "priority": 1}
    mesh = {"holdSeconds": LAB_HOLD_SECONDS, "passwordSecretRef": {"name": "mesh-b", "key": "md5"}}
    scene.instance(mesh={"passwordSecretRef": {"name": "mesh-a", "key": "md5"}})
    scene.api.apply(custom("BGPInstance", "rack-b", {**rack, "mesh": mesh}))

    for number, own, other in ((1, "default", "rack-b"), (2, "rack-b", "default")):
        text = scene.wait_shown(f"! BGPInstance {own}: sessions between its nodes", "status", number=number)
        assert f"BGPInstance {other} names Secret" in text
    wait_until(lambda: scene.agent().cli("status").stdout.count("noSession: none of 1 sessions is established"))


def test_a_picture_that_nothing_changes_is_alive_and_one_without_a_server_is_not(scene: Scene) -> None:
    scene.wait_shown("Picture:   complete, watches alive (last heard ", "status", code=0)
    scene.api.cut()
    try:
        text = scene.wait_shown("(apiUnreachable): ", "status")

        assert "Healthy:   degraded: watchBroken: " in text
        assert "Picture:   complete, unchanged for " in text

        def broken() -> dict[str, float]:
            watches = scene.agent().ask("status")["picture"]["broken"]
            return {watch["watch"]: watch["seconds"] for watch in watches}

        before = wait_until(lambda: broken()["Node"])
        wait_until(lambda: broken()["Node"] > before)
    finally:
        scene.api.restore()


def test_a_timer_that_raises_ends_the_agent_with_one_and_the_kernel_keeps_the_routes(
    scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    node, agent = scene.lab.node(1), scene.agent()
    (tmp_path / "sitecustomize.py").write_text(A_BUG)
    agent.stop()
    with monkeypatch.context() as patch:
        patch.setenv("PYTHONPATH", str(tmp_path), prepend=":")
        agent.restart()
    scene.wait_well()
    routes = node.kernel_routes("ipv4", "proto", OUR_PROTOCOL)

    agent.process.popen.send_signal(signal.SIGUSR1)

    assert agent.process.wait(within=30.0) == 1
    (bug,) = [line for line in agent.process.output().splitlines() if '"own_bug"' in line]
    assert "LookupError: a bug of a test" in bug
    assert len(routes) == 2
    assert node.kernel_routes("ipv4", "proto", OUR_PROTOCOL) == routes
    agent.restart()
