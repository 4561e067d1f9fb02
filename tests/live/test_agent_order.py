"""The order of an agent's start: the lock before anything, then ExaBGP, then the rest; and its end at any moment."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.minicluster import BGPILOT
from tests.lab.procs import Process, run
from tests.lab.topology import Lab, Node
from tests.lab.wait import wait_until

pytestmark = pytest.mark.live

REFUSED = 1
FOR_EVER = "import time; time.sleep(600)"
SIGTERM = "import os, signal; os.kill(os.getpid(), signal.SIGTERM)"


@pytest.fixture(scope="module")
def node() -> Iterator[Node]:
    with Lab(nodes=1, families=("ipv4",)) as lab:
        yield lab.node(1)


@pytest.fixture(autouse=True)
def _clean(node: Node) -> Iterator[None]:
    yield
    node.kill_all()


def start(node: Node, directory: Path, *, aiohttp: str, run_dir: str = "run") -> Process:
    """An agent for which this is what stands in `aiohttp`, a library that it loads for its cluster."""
    library = directory / "library"
    library.mkdir(exist_ok=True)
    (library / "aiohttp.py").write_text(aiohttp)
    flags = [f"--node-name={node.name}", f"--run-dir={directory / run_dir}", "--kubeconfig=/nowhere"]
    listen = ["--metrics-address=off", "--health-address=off"]
    path = os.pathsep.join(filter(None, [str(library), os.environ.get("PYTHONPATH", "")]))
    return node.start([BGPILOT, "run", *flags, *listen], log=run_dir, env={"PYTHONPATH": path})


def speaking(node: Node) -> set[str]:
    """Which of ExaBGP and its bridge run on the node."""
    found = set()
    for pid in run(["ip", "netns", "pids", node.full_name]).stdout.split():
        try:
            line = Path("/proc", pid, "cmdline").read_bytes().decode()
        except FileNotFoundError:
            continue  # it ended meanwhile
        found |= {name for name in ("bgp.inside.launcher", "bridge.py") if name in line}
    return found


def test_exabgp_runs_before_client_libraries_are_loaded_and_dies_with_the_agent(node: Node, tmp_path: Path) -> None:
    agent = start(node, tmp_path, aiohttp=FOR_EVER)

    wait_until(lambda: speaking(node) == {"bgp.inside.launcher", "bridge.py"})

    agent.kill()
    wait_until(lambda: not speaking(node))


def test_a_second_agent_starts_no_exabgp_and_writes_nothing(node: Node, tmp_path: Path) -> None:
    start(node, tmp_path, aiohttp=FOR_EVER)
    wait_until((tmp_path / "run" / "exabgp.conf").exists)

    second = start(node, tmp_path, aiohttp=FOR_EVER, run_dir="second")

    assert second.wait(within=30.0) == REFUSED
    assert "another bgpilot agent" in second.output()
    assert not (tmp_path / "second").exists()


def test_sigterm_while_client_libraries_are_loaded_ends_it_with_zero_and_exabgp_with_it(
    node: Node, tmp_path: Path
) -> None:
    agent = start(node, tmp_path, aiohttp=SIGTERM)

    assert agent.wait(within=30.0) == 0
    assert '"stopped"' in agent.output()
    assert "Traceback" not in agent.output()
    assert not (tmp_path / "run" / "speaker.sock").exists()
    wait_until(lambda: not speaking(node))
