"""With no more rights than deploy/agent.yaml gives it the agent does its work, and what it has it keeps to itself: who
may talk to it, what listens, and who may look into its memory.

Node 1 runs ExaBGP as the agent's child, node 2 beside the agent (`bgpilot speaker`).
"""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.confined import CHILD, EXTERNAL, Scene, capabilities, confined, running, scenes, status_of
from tests.lab.minicluster import BGPILOT
from tests.lab.topology import Node
from tests.lab.wait import wait_until

pytestmark = pytest.mark.live

NODES = pytest.mark.parametrize("number", [CHILD, EXTERNAL], ids=["child", "external"])
NUMBERS = {"NET_BIND_SERVICE": 10, "NET_ADMIN": 12}
"""linux/capability.h"""
NOBODY = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
CONNECT = "import socket, sys; socket.socket(socket.AF_UNIX).connect(sys.argv[1])"


@pytest.fixture(scope="module")
def scene() -> Iterator[Scene]:
    yield from scenes()


@NODES
def test_every_process_has_the_capabilities_of_the_manifest_and_the_job_gets_done(scene: Scene, number: int) -> None:
    scene.wait_whole()
    found = running(scene.lab.node(number))

    assert len(found) == (3 if number == CHILD else 4), found
    for pid, line in found.items():
        container = "agent" if number == CHILD or "bgpilot run" in line else "speaker"
        wanted = sum(1 << NUMBERS[name] for name in capabilities(container))
        has = status_of(pid)
        assert [int(has[of], 16) for of in ("CapEff", "CapPrm", "CapBnd")] == [wanted] * 3, line
        assert int(has["CapInh"], 16) == int(has["CapAmb"], 16) == 0, line
        assert has["NoNewPrivs"] == "1", line


def test_there_nothing_can_be_written_but_the_run_dir(scene: Scene) -> None:
    """The control: that the agents run where that is so."""
    run_dir = scene.agent(CHILD).run_dir
    places = ["/", "/tmp", "/var/tmp", "/dev/shm", "/etc", "/root", "."]  # noqa: S108
    touch = ["touch", *(f"{place}/.bgpilot-test" for place in (*places, run_dir))]

    done = scene.lab.node(CHILD).run(confined(touch, run_dir=run_dir, added=capabilities("agent")), check=False)

    (run_dir / ".bgpilot-test").unlink()
    assert done.stderr.count("Read-only file system") == len(places), done.stderr


def test_without_net_admin_it_says_so_and_what_to_do(scene: Scene) -> None:
    node = scene.lab.host("without") if "without" not in scene.lab.hosts else scene.lab.hosts["without"]
    run_dir = node.run_dir / "run"
    run_dir.mkdir()
    command = [BGPILOT, "run", f"--run-dir={run_dir}", f"--kubeconfig={scene.cluster.kubeconfig}"]
    less = [name for name in capabilities("agent") if name != "NET_ADMIN"]

    done = node.run(confined(command, run_dir=run_dir, added=less), check=False)

    assert done.returncode == 1
    assert "no CAP_NET_ADMIN (running as uid 0): the kernel would refuse our routes" in done.stderr
    assert "add NET_ADMIN to securityContext.capabilities.add" in done.stderr


def test_without_net_bind_service_the_agent_says_so_and_what_to_do(scene: Scene) -> None:
    agent = scene.agent(EXTERNAL)
    scene.speaker.stop()
    scene.speaker = scene.start_speaker(without=["NET_BIND_SERVICE"])

    def told() -> str:
        problems = {told["reason"]: told for told in agent.ask("status")["problems"]}
        return f"{problems['cannotListen']['message']} | {problems['cannotListen']['fix']}"

    try:
        said = wait_until(told, within=60)
    finally:
        scene.speaker.stop()
        scene.speaker = scene.start_speaker()
    assert ":179" in said
    assert "Add NET_BIND_SERVICE to securityContext.capabilities.add" in said
    scene.wait_whole()
    wait_until(lambda: "cannotListen" not in agent.cli("status").stdout, within=60)


def listening(node: Node) -> set[str]:
    """Kind and local address of every socket that takes what others send: TCP, UDP, raw, packet, unix."""
    found = set()
    for flags, at in (("-Hlnt", 3), ("-Hlnu", 3), ("-Hlnw", 3), ("-Hln0", 3), ("-Hlnx", 4)):
        lines = node.run(["ss", flags]).stdout.splitlines()
        found |= {f"{flags[-1]} {line.split()[at]}" for line in lines}
    return found


@NODES
def test_nothing_listens_but_bgp_and_the_two_http_ports(scene: Scene, number: int) -> None:
    """BGP on the node's address that peers dial, metrics on all, probes on loopback. The last unix name is the lock."""
    node, agent = scene.lab.node(number), scene.agent(number)
    wanted = {f"t {node.address()}:179", "t *:9817", "t 127.0.0.1:9818"}
    wanted |= {f"x {agent.run_dir}/bgpilot.sock", f"x {agent.run_dir}/speaker.sock", "x @bgpilot/agent"}

    assert listening(node) == wanted


@NODES
def test_the_run_dir_is_its_owners_alone_however_it_was_made(scene: Scene, number: int) -> None:
    run_dir = scene.agent(number).run_dir
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in run_dir.iterdir()}

    assert stat.S_IMODE(run_dir.stat().st_mode) == 0o700
    assert modes.keys() >= {"bgpilot.sock", "speaker.sock", "exabgp.conf"}
    assert set(modes.values()) == {0o600}


@NODES
@pytest.mark.parametrize("name", ["bgpilot.sock", "speaker.sock"])
def test_other_users_are_refused_at_the_sockets_even_with_the_directory_open(
    scene: Scene, number: int, name: str
) -> None:
    node, run_dir = scene.lab.node(number), scene.agent(number).run_dir
    above = [path for path in (run_dir, *run_dir.parents) if not path.stat().st_mode & stat.S_IXOTH]
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in above}

    def connect() -> str:
        return node.run([*NOBODY, "/usr/bin/python3", "-c", CONNECT, run_dir / name], check=False).stderr

    assert "PermissionError" in connect()
    try:
        for path, mode in modes.items():
            path.chmod(mode | stat.S_IXOTH)
        assert "PermissionError" in connect()
        (run_dir / name).chmod(0o666)
        assert connect() == "", "the control: it is the modes that refuse"
    finally:
        (run_dir / name).chmod(0o600)
        for path, mode in modes.items():
            path.chmod(mode)
    scene.wait_whole()


@NODES
def test_no_other_process_with_the_same_rights_reads_its_memory_and_none_leaves_a_core_dump(
    scene: Scene, number: int
) -> None:
    """The bridge, which has no password, is left as it is: it must start in a blink."""
    node, run_dir = scene.lab.node(number), scene.agent(number).run_dir

    def read(pid: int) -> str:
        command = ["cat", f"/proc/{pid}/environ"]
        return node.run(confined(command, run_dir=run_dir, added=capabilities("agent")), check=False).stderr

    lines = running(node)
    bridge, *holding = sorted(lines, key=lambda pid: "bridge.py" not in lines[pid])
    holding = [pid for pid in holding if "bgpilot speaker" not in lines[pid]]
    assert len(holding) == 2
    for pid in holding:
        assert "Permission denied" in read(pid), lines[pid]
        assert "Max core file size        0                    0 " in Path(f"/proc/{pid}/limits").read_text()
    assert read(bridge) == "", "the control: of others it may"
