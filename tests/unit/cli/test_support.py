"""`bgpilot tech-support` as a user meets it: one file of all there is, whatever is missing; and what it answers."""

from __future__ import annotations

import asyncio
import errno
import json
import re
import stat
import tarfile
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from agent.cli.app import app
from agent.diary import Diary
from agent.model import Kind
from agent.scenario.files import load
from agent.scenario.take import Seen, scenario_steps
from agent.status.metrics import make_registry
from agent.status.ordering import Commands
from agent.status.server import Answers
from agent.status.serving import serving
from agent.support import bundle, node
from bgp.exaconfig import configuration
from tests.unit.scenario.test_take import Agent as Known
from tests.unit.status.scene import NOW

SCENARIOS = Path(__file__).parents[2] / "scenarios"
SECRET = "swordfish-4711"


class Agent:
    """A server in a thread of its own, with the node of a scenario behind it."""

    def __init__(self, run_dir: Path):
        from tests.lab.scenario import load as scenario

        self.run_dir = run_dir
        self.known = Known(scenario(SCENARIOS / "mesh-password.yaml"))
        self.failing = False
        self.no_scenario = False
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()))

    def current(self):
        if self.failing:
            raise RuntimeError(f"a bug over {SECRET}")
        return self.known.status()

    def scenario(self):
        if self.no_scenario:
            raise RuntimeError("a bug of the snapshot")
        known = self.known
        picture = replace(known.picture, mesh=known.plan.mesh, identity=known.plan.identity)
        return scenario_steps(
            Seen(
                picture=picture,
                rib=known.stage.rib,
                unread=known.stage.world.unread,
                status=known.status(),
                settings={},
                now=NOW,
            )
        )

    async def _serve(self):
        self._loop, self._ended = asyncio.get_running_loop(), asyncio.Event()
        answers = Answers(
            self.current,
            clock=lambda: NOW,
            registry=make_registry(self.known.status, clock=lambda: NOW, wall=lambda: NOW),
            commands=Commands(print, print),
            diary=Diary("2026-01-02T03:00:00Z"),
            scenario=self.scenario,
        )
        path = self.run_dir / "bgpilot.sock"
        async with serving(answers, socket_path=path, metrics_address=None, health_address=None):
            self._ready.set()
            await self._ended.wait()

    def __enter__(self):
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(self, *_):
        self._loop.call_soon_threadsafe(self._ended.set)
        self._thread.join(10)


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    path = tmp_path / "run"
    path.mkdir()
    return path


@pytest.fixture
def agent(run_dir: Path):
    with Agent(run_dir) as it:
        yield it


def bgpilot(*words):
    return CliRunner().invoke(app, list(map(str, words)))


def support(run_dir: Path, *words):
    """What is said of it, and the parts by their names."""
    file = run_dir.parent / "file.tar.gz"
    said = bgpilot("tech-support", "-o", file, "--run-dir", run_dir, *words)
    with tarfile.open(file) as archive:
        parts = {it.name.partition("/")[2]: archive.extractfile(it).read().decode() for it in archive if it.isfile()}
    return said, parts


OF_AGENT = {
    "answers/status.json",
    "answers/peers.json",
    "answers/routes-received.json",
    "answers/routes-advertised.json",
    "answers/fib.json",
    "answers/diff.json",
    "answers/events.json",
    "answers/metrics.txt",
    "answers/livez.txt",
    "answers/readyz.txt",
    "scenario.json",
}


def write_configuration(run_dir: Path, known: Known) -> str:
    text = configuration(known.plan.peers.values(), bridge=["bridge"])
    (run_dir / "exabgp.conf").write_text(text)
    return text


def test_it_has_everything_and_says_how_to_ask_it(agent: Agent, run_dir: Path):
    write_configuration(run_dir, agent.known)
    said, parts = support(run_dir)

    assert said.exit_code == 0, said.output
    assert parts.keys() >= OF_AGENT | {"about.json", "kernel/sysctls.json", "run-dir.json", "exabgp.conf", "README.txt"}
    assert json.loads(parts["answers/status.json"])["node"] == "worker-1"
    assert parts["failures.txt"] == "none\n"
    assert "explain --from" in parts["README.txt"]


def test_it_is_for_its_owner_alone(agent: Agent, run_dir: Path):
    write_configuration(run_dir, agent.known)
    support(run_dir)

    assert stat.S_IMODE((run_dir.parent / "file.tar.gz").stat().st_mode) == 0o600


def test_nothing_is_written_over(agent: Agent, run_dir: Path, tmp_path: Path):
    there = tmp_path / "there"
    there.write_text("kept")
    said = bgpilot("tech-support", "-o", there, "--run-dir", run_dir)

    assert (said.exit_code, there.read_text()) == (1, "kept")
    assert "there: File exists; say with -o where to write" in said.stderr


def test_half_a_file_does_not_stay(agent: Agent, run_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def full(file, *_, **__):
        file.write(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(bundle, "write", full)
    said = bgpilot("tech-support", "-o", tmp_path / "file.tar.gz", "--run-dir", run_dir)

    assert (said.exit_code, "No space left on device" in said.stderr) == (1, True)
    assert not (tmp_path / "file.tar.gz").exists()


def test_it_goes_to_standard_output_for_who_asks_in_a_pod(agent: Agent, run_dir: Path, tmp_path: Path):
    write_configuration(run_dir, agent.known)
    said = bgpilot("tech-support", "-o", "-", "--run-dir", run_dir)
    (tmp_path / "piped.tar.gz").write_bytes(said.stdout_bytes)

    assert load(tmp_path / "piped.tar.gz").node == "worker-1"
    assert "standard output: " in said.stderr


# When something fails.


def test_without_an_agent_it_has_what_can_be_had_and_says_what_is_missing(run_dir: Path):
    (run_dir / "exabgp.conf").write_text("neighbor 192.0.2.1 {\n}\n")
    said, parts = support(run_dir)

    assert said.exit_code == 3
    assert parts["exabgp.conf"] == "neighbor 192.0.2.1 {\n}\n"
    assert json.loads(parts["kernel/sysctls.json"])["net/ipv4/ip_forward"] in {"0", "1"}
    assert {line.partition(":")[0] for line in parts["failures.txt"].splitlines()} == OF_AGENT
    assert re.search("! answers/status.json, .* and scenario.json are missing: no agent answers on", said.stderr)


def test_a_view_that_fails_is_missing_alone(agent: Agent, run_dir: Path):
    write_configuration(run_dir, agent.known)
    agent.no_scenario = True
    said, parts = support(run_dir)

    assert said.exit_code == 3
    assert OF_AGENT - parts.keys() == {"scenario.json"}
    assert "scenario.json: a mistake in bgpilot, its log has the details" in parts["failures.txt"]


def test_without_a_run_directory_there_is_still_a_file(run_dir: Path):
    run_dir.rmdir()
    _, parts = support(run_dir)

    assert {"about.json", "kernel/sysctls.json"} <= parts.keys()
    assert "exabgp.conf: [Errno 2] No such file or directory" in parts["failures.txt"]


def test_a_tool_that_fails_is_missing_alone(agent: Agent, run_dir: Path, monkeypatch: pytest.MonkeyPatch):
    write_configuration(run_dir, agent.known)
    tables = {"rule4": ("-4", "rule"), "odd": ("nothing-of-the-kind",)}
    monkeypatch.setattr(node, "TABLES", tables)
    monkeypatch.setattr(node.shutil, "which", lambda _: "/sbin/ip")
    said, parts = support(run_dir)

    assert said.exit_code == 3
    assert "kernel/odd.json: ip nothing-of-the-kind: Object" in parts["failures.txt"]
    assert "kernel/rule4.json" in parts


def test_a_part_that_is_too_long_for_anybody_is_left_out_and_said(
    agent: Agent, run_dir: Path, monkeypatch: pytest.MonkeyPatch
):
    write_configuration(run_dir, agent.known)
    monkeypatch.setattr(bundle, "PART_MAX_BYTES", 2_000)
    _, parts = support(run_dir)

    assert "scenario.json: " in parts["failures.txt"]
    assert "which is more than anybody reads" in parts["failures.txt"]


# Secrets.


def test_no_password_is_in_it(agent: Agent, run_dir: Path):
    """Of the scenario: `swordfish`. The first lines are the control: it is there to be found."""
    text = write_configuration(run_dir, agent.known)
    assert "c3dvcmRmaXNo" in text
    _, parts = support(run_dir)

    assert {name for name, part in parts.items() for form in ("swordfish", "c3dvcmRmaXNo") if form in part} == set()


def test_a_password_that_is_too_short_to_be_looked_for_everywhere_is_not_in_the_configuration(
    agent: Agent, run_dir: Path
):
    peers = [replace(it, password=type(it.password)("ab")) for it in agent.known.plan.peers.values() if it.password]
    (run_dir / "exabgp.conf").write_text(configuration(peers, bridge=["bridge"]))
    _, parts = support(run_dir)

    assert "md5-password redacted;" in parts["exabgp.conf"]
    assert "YWI=" not in parts["exabgp.conf"]


def test_a_password_that_a_bug_of_ours_tells_is_taken_out(agent: Agent, run_dir: Path):
    peers = [replace(it, password=type(it.password)(SECRET)) for it in agent.known.plan.peers.values() if it.password]
    (run_dir / "exabgp.conf").write_text(configuration(peers, bridge=["bridge"]))
    agent.failing = True
    said, parts = support(run_dir)

    assert "a bug over redacted" in parts["failures.txt"]
    assert not [name for name, part in parts.items() if SECRET in part]
    assert "a bug over redacted" in said.stderr
    assert SECRET not in said.stderr


# Asked afterwards.


@pytest.mark.parametrize("subject", ["10.0.0.2", "tor", "worker-2", "10.244.1.0/24", "10.244.1.7", "203.0.113.9"])
def test_it_explains_as_the_agent_did(agent: Agent, run_dir: Path, subject: str):
    write_configuration(run_dir, agent.known)
    live = bgpilot("explain", subject, "-o", "json", "--run-dir", run_dir)
    support(run_dir)
    offline = bgpilot("explain", "--from", run_dir.parent / "file.tar.gz", subject, "-o", "json")

    assert (offline.exit_code, json.loads(offline.stdout)) == (live.exit_code, json.loads(live.stdout))
    assert "the file is of bgpilot 1.2.3, whose answer may have been another" in offline.stderr


def test_what_is_no_subject_is_refused_as_the_agent_does(agent: Agent, run_dir: Path):
    write_configuration(run_dir, agent.known)
    live = bgpilot("explain", "what?", "--run-dir", run_dir)
    support(run_dir)
    offline = bgpilot("explain", "--from", run_dir.parent / "file.tar.gz", "what?")

    assert (offline.exit_code, offline.stderr.splitlines()[-1]) == (live.exit_code, live.stderr.splitlines()[-1])


def test_it_is_planned_as_the_agent_did(agent: Agent, run_dir: Path):
    write_configuration(run_dir, agent.known)
    support(run_dir)

    told = bgpilot("plan", "--from", run_dir.parent / "file.tar.gz")
    assert told.stdout == agent.known.stage.tell(agent.known.plan)


def test_a_scenario_that_does_not_say_how_it_went_cannot_explain():
    told = bgpilot("explain", "--from", SCENARIOS / "mesh-password.yaml", "tor")

    assert told.exit_code == 1
    assert "it does not say how far the plan was carried out" in told.stderr


def test_a_file_is_not_watched():
    assert bgpilot("explain", "--from", SCENARIOS / "mesh-password.yaml", "tor", "-w").exit_code == 2


def test_secrets_of_the_cluster_are_written_without_their_values(agent: Agent, run_dir: Path):
    _, parts = support(run_dir)
    secrets = [it for it in json.loads(parts["scenario.json"])["cluster"] if it["kind"] == Kind.SECRET]

    assert [it["data"] for it in secrets] == [{"md5": "cmVkYWN0ZWQ="}]
