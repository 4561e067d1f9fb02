"""Passwords of sessions are in ExaBGP's configuration and nowhere else: not in a log, an answer, an Event, a process's
arguments or environment, whatever goes wrong with them.

The tests before the last make things go wrong, in order; the last one looks through all that has come of it. Everybody
says at debug level what there is to say (`tests.lab.confined.DEBUGGING`).
"""

from __future__ import annotations

import base64
import io
import os
import signal
import tarfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from typer.testing import CliRunner

from agent.cli.app import COMMANDS, app
from agent.cli.present import Output
from agent.cli.tor.dialects import DIALECTS
from bgp.driver.validator import Validator
from tests.lab.confined import (
    CHILD,
    EXTERNAL,
    MESH_PASSWORD,
    TOR_PASSWORD,
    WHOLE_SECONDS,
    ConfinedAgent,
    Scene,
    running,
    scenes,
)
from tests.lab.minicluster import Agent
from tests.lab.procs import run
from tests.lab.wait import wait_until

pytestmark = pytest.mark.live

WRONG = "not-the-one-of-the-router-9920"
RAW = "sperling-3161-written-as-it-is"
LONG = "x" * 60 + "-amsel-2718-is-much-too-long"
MISPLACED = "drossel-1729-in-the-wrong-place"
SECRETS = (TOR_PASSWORD, MESH_PASSWORD, WRONG, RAW, LONG, MISPLACED)
BUG = """
import bgp.exaconfig
sections = bgp.exaconfig.sections
def fall(peers, **more):
    peers = list(peers)
    if not any(peer.password for peer in peers):
        return sections(peers, **more)
    raise RuntimeError(f"a bug over {peers!r}")
bgp.exaconfig.sections = fall
"""
"""In the middle of what makes the configuration, with all peers in its hands."""


@pytest.fixture(scope="module")
def scene() -> Iterator[Scene]:
    yield from scenes()


def forms(secret: str) -> set[str]:
    encoded = base64.b64encode(secret.encode()).decode()
    return {secret, encoded, encoded.rstrip("="), secret.encode().hex(), quote(encoded, safe=""), repr(secret.encode())}


def leaks(text: str) -> list[str]:
    """Which secrets are in it."""
    return [secret for secret in SECRETS if any(form in text for form in forms(secret))]


def problems(scene: Scene, number: int) -> set[str]:
    return {told["reason"] for told in scene.agent(number).view("status")["problems"]}


def wait_problem(scene: Scene, reason: str) -> None:
    for number in (CHILD, EXTERNAL):
        wait_until(lambda number=number: reason in problems(scene, number), within=WHOLE_SECONDS)


def test_with_them_sessions_are_up_and_the_file_for_exabgp_has_them(scene: Scene) -> None:
    """The control: what this looks for is there to be found."""
    for node in scene.nodes:
        text = (scene.cluster.agent(node).run_dir / "exabgp.conf").read_text()
        assert set(leaks(text)) == {TOR_PASSWORD, MESH_PASSWORD}


def test_a_password_that_the_router_does_not_have(scene: Scene) -> None:
    scene.set_password("tor", WRONG)
    wait_until(lambda: str(scene.lab.router.address()) in failed(scene), within=WHOLE_SECONDS)


def failed(scene: Scene) -> set[str]:
    peers = scene.agent(CHILD).view("peers")["peers"]
    return {address for address, peer in peers.items() if not peer["is_up"] and peer["last_error"]}


def test_a_password_that_is_not_encoded(scene: Scene) -> None:
    scene.set_password("tor", RAW, encoded=False)
    wait_problem(scene, "malformedObject")


def test_a_password_that_is_too_long(scene: Scene) -> None:
    scene.set_password("tor", LONG)
    wait_problem(scene, "passwordTooLong")


def test_a_password_in_the_place_of_its_secrets_name(scene: Scene) -> None:
    scene.set_password("tor", TOR_PASSWORD)
    wrong: list[Any] = [
        MISPLACED,
        [MISPLACED],
        {"name": MISPLACED + "!", "key": 7},
        {"name": "tor", "key": [MISPLACED]},
    ]
    peers = [
        scene.tor_peer(passwordSecretRef=ref) | {"metadata": {"name": f"bad-{number}"}}
        for number, ref in enumerate(wrong)
    ]
    scene.cluster.api.apply(*peers, checked=False)

    def told() -> bool:
        found = scene.agent(CHILD).view("status")["problems"]
        return len([one for one in found if one["reason"] == "malformedObject" and "bad-" in one["subject"]]) == len(
            wrong
        )

    wait_until(told, within=WHOLE_SECONDS)
    for peer in peers:
        scene.cluster.api.delete("BGPPeer", peer["metadata"]["name"])
    scene.wait_whole()


def test_exabgp_that_is_given_a_file_with_a_mistake_next_to_a_password(scene: Scene) -> None:
    """It quotes the line in its log. Nobody writes such a file but who edits it by hand."""
    for number in (CHILD, EXTERNAL):
        path = scene.agent(number).run_dir / "exabgp.conf"
        good, log = path.read_text(), logs(scene, number)
        assert "md5-password" in good
        path.write_text(good.replace("md5-password", "md5-passwort"))
        (exabgp,) = (pid for pid, line in running(scene.lab.node(number)).items() if "--die-with-parent" in line)
        os.kill(exabgp, signal.SIGUSR1)
        wait_until(lambda number=number, log=log: "exabgp" in logs(scene, number)[len(log) :], within=WHOLE_SECONDS)
        path.write_text(good)


def logs(scene: Scene, number: int) -> str:
    return "".join(path.read_text(errors="replace") for path in sorted(scene.lab.node(number).run_dir.glob("*.log")))


async def test_what_exabgps_validate_says_of_any_line_that_is_broken(scene: Scene, tmp_path: Path) -> None:
    """Each line of the password's neighborhood in turn, without its end or twice over."""
    text = (scene.agent(CHILD).run_dir / "exabgp.conf").read_text()
    lines, path, said = text.splitlines(), tmp_path / "broken.conf", []
    (first, *_) = (number for number, line in enumerate(lines) if "md5" in line)
    for number in range(first - 1, first + 3):
        for broken in (lines[number].rstrip(" ;{"), lines[number] * 2):
            path.write_text("\n".join([*lines[:number], broken, *lines[number + 1 :]]))
            said.append(await Validator().complaint(path))

    assert any(said)
    assert [text for text in said if text and leaks(text)] == []


def test_a_bug_of_ours_with_all_passwords_in_its_hands(scene: Scene, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(BUG)
    agent = scene.agent(CHILD)
    assert isinstance(agent, ConfinedAgent)
    agent.stop()
    agent.env = {**agent.env, "PYTHONPATH": f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', tmp_path)}"}
    agent.restart()

    assert agent.process.wait(within=WHOLE_SECONDS) == 1
    assert "a bug over [Peer(" in agent.process.output()
    agent.env = {name: value for name, value in agent.env.items() if name != "PYTHONPATH"}
    agent.restart()
    scene.wait_whole()


def asked(scene: Scene) -> dict[str, list[list[str]]]:
    """Every command, with what it can be asked."""
    router, pods = str(scene.lab.router.address()), str(scene.lab.node(CHILD).pod_cidrs["ipv4"])
    outputs = [["-o", output] for output in Output]
    return {
        "status": outputs,
        "peers": [*outputs, ["--failed"]],
        "peer": [[router, *how] for how in outputs],
        "routes": [[side, *how] for side in ("received", "accepted", "advertised") for how in outputs],
        "fib": outputs,
        "explain": [[subject, *how] for subject in (router, pods, "plain") for how in outputs[::2]],
        "check": [*outputs, ["--nagios"]],
        "diff": outputs,
        "events": outputs,
        "completion": [["bash"], ["zsh"], ["fish"]],
        "schema": [[]],
        "tor-config": [["--vendor", vendor] for vendor in DIALECTS],
        "cleanup": [["--dry-run"]],
        "plan": [["--help"]],
        "tech-support": [["--help"]],
        "drain": [["--help"]],
        "undrain": [["--help"]],
        "reset": [["--help"]],
        "run": [["--help"]],
        "speaker": [["--help"]],
    }


def said(scene: Scene, number: int) -> Iterator[tuple[str, str]]:
    """All that a node shows, with where."""
    node, agent = scene.lab.node(number), scene.agent(number)
    for command, ways in asked(scene).items():
        for words in ways:
            yield f"{command} {words}", _cli(agent, command, words)
    for name, text in _support(agent).items():
        yield f"tech-support's {name}", text
    for view in ("status", "peers", "routes", "fib"):
        yield f"the socket's {view}", str(agent.view(view))
    for port, page in ((9817, "metrics"), (9818, "livez"), (9818, "readyz")):
        yield page, node.run(["curl", "-sS", f"http://127.0.0.1:{port}/{page}"]).stdout
    for pid in run(["ip", "netns", "pids", node.full_name]).stdout.split():
        for name in ("cmdline", "environ"):
            with suppress(FileNotFoundError, ProcessLookupError):  # it has ended meanwhile
                yield f"{name} of {pid}", Path("/proc", pid, name).read_text(errors="replace")
    for path in node.run_dir.rglob("*"):
        if path.is_file() and path.name != "exabgp.conf":
            yield f"file {path.name}", path.read_text(errors="replace")


def _support(agent: Agent) -> dict[str, str]:
    """As `kubectl exec` hands it over."""
    made = CliRunner().invoke(app, ["tech-support", "-o", "-"], env={"BGPILOT_RUN_DIR": str(agent.run_dir)})
    assert made.exit_code == 0, made.stderr
    with tarfile.open(fileobj=io.BytesIO(made.stdout_bytes)) as archive:
        parts = {one.name: archive.extractfile(one) for one in archive}
        return {name: part.read().decode() for name, part in parts.items() if part is not None}


def _cli(agent: Agent, command: str, words: list[str]) -> str:
    """In this process, where it is quick; but for what looks at the kernel."""
    if command == "cleanup":
        done = agent.cli(command, *words)
        return done.stdout + done.stderr
    shown = CliRunner().invoke(app, [command, *words], env={"BGPILOT_RUN_DIR": str(agent.run_dir)})
    assert shown.exit_code in ({0, 1, 2} if "--nagios" in words else {0, 3}), shown.output
    return shown.output


def test_they_are_nowhere_else(scene: Scene) -> None:
    assert asked(scene).keys() == COMMANDS.keys(), "a new command: ask it too"
    found = {f"{number}: {where}": text for number in (CHILD, EXTERNAL) for where, text in said(scene, number)}
    kinds = ("Event", "Node", "BGPPeer", "BGPInstance", "BGPNodeState")
    found |= {kind: str(scene.cluster.api.list(kind)) for kind in kinds}

    assert found["Event"] != "[]"
    assert found["BGPNodeState"].count("'resources'") == len(scene.lab.nodes)
    assert all(len(text) > 1000 for where, text in found.items() if where.endswith("agent.log"))
    assert {where: leaks(text) for where, text in found.items() if leaks(text)} == {}
