"""The words of a command line: which may be cut short, which options there are, what is said of what fits nothing."""

from __future__ import annotations

import re
from importlib.metadata import version
from pathlib import Path

import pytest
import typer

from agent.cli.app import COMMANDS, app, full_name
from agent.model import Key, Kind
from tests.unit.cli.test_cli import Agent, bgpilot
from tests.unit.status.scene import WEB

README = (Path(__file__).parents[3] / "README.md").read_text()


@pytest.fixture
def agent(tmp_path):
    with Agent(tmp_path) as agent:
        yield agent


def test_a_unique_beginning_of_a_command_is_enough():
    assert full_name(["pe", "-o", "json"]) == ["peers", "-o", "json"]
    assert full_name(["ex", "x"]) == ["explain", "x"]
    assert full_name(["peer", "x"]) == ["peer", "x"]
    assert full_name(["s"]) == ["s"]
    assert full_name(["--help"]) == ["--help"]
    assert full_name([]) == []
    assert all(full_name([name]) == [name] for name in COMMANDS)


@pytest.mark.parametrize(("begun", "meant"), [("p", "peers, peer or plan"), ("s", "status, schema or speaker")])
def test_a_beginning_of_several_commands_names_them(begun, meant):
    assert bgpilot(begun, "-o", "json") == (2, "", f"bgpilot: {begun!r} may be {meant}\n")


def test_a_command_that_is_none_is_said_to_be_none():
    assert "No such command ''" in bgpilot("").stderr
    assert "Did you mean 'peers'" in bgpilot("pears").stderr


def test_the_program_says_its_version_and_helps():
    assert bgpilot("--version") == (0, f"bgpilot {version('bgpilot')}\n", "")
    assert bgpilot("peers", "-h") == bgpilot("peers", "--help")


@pytest.mark.parametrize("command", [["peer"], ["reset"], ["routes", "--peer"], ["tor-config", "--vendor", "frr"]])
def test_a_name_in_other_letters_is_answered_with_the_right_one_and_an_empty_one_is_nobodys(agent, command):
    said = {
        name: bgpilot(*command, name, BGPILOT_RUN_DIR=str(agent.run_dir)) for name in ("TOR-A", "bgppeer/tor-A", "")
    }

    assert {it.returncode for it in said.values()} == {1}
    assert [it.stderr.rpartition("; ")[2] for it in said.values()] == [
        "did you mean tor-a?\n",
        "did you mean BGPPeer/tor-a?\n",
        "`bgpilot peers` lists them\n",
    ]


@pytest.mark.parametrize(
    ("subject", "meant"),
    [
        ("TOR-A", "tor-a"),
        ("Worker-2", "worker-2"),
        ("node Worker-3", "Node worker-3"),
        ("web", "default/web"),
    ],
)
def test_explain_says_whom_a_name_that_is_nobodys_may_mean(agent, subject, meant):
    agent.fields = {"nodes": {Key(Kind.NODE, "", "worker-3"): None}, "services": {WEB: None}}
    done = bgpilot("explain", subject, BGPILOT_RUN_DIR=str(agent.run_dir))

    says = f"bgpilot: {subject!r} is no node, peer, prefix or address; did you mean {meant}?\n"
    assert (done.returncode, done.stderr) == (1, says)


def test_explain_says_which_service_a_name_that_is_nobodys_may_mean(agent):
    agent.fields = {"services": {WEB: None}}

    for subject in ("Default/Web", "prod/web", "svc/web"):
        assert "does not exist; did you mean default/web?" in agent("explain", subject, code=3)
    assert "does not exist; did you mean BGPPeer/tor-a?" in agent("explain", "bgppeer/tor-A", code=3)
    assert "Service default/wet  does not exist  objectNotFound" in agent("explain", "default/wet", code=3)


def test_none_of_the_events_is_none_of_those_that_there_are(agent):
    assert agent("events", "-n", "0") == "Nothing has happened yet.\n"
    agent.diary.hear({"event": "phase", "level": "info", "timestamp": "2026-01-02T03:04:05Z", "phase": "IN_SYNC"})
    assert agent("events", "-n", "0") == "… 1 earlier: see --last\n"


def test_the_options_that_the_readme_promises_are_those_that_there_are():
    flags = {"-o", "-w", "-q"}
    promised = re.search(
        r"^((?:`[a-z]+`(?:, | and )?)+) take `-o[^.]*; `plan` takes `-o` and `-q`\.", README, re.MULTILINE
    )
    commands = typer.main.get_command(app).commands
    taken = {name: flags & {flag for it in command.params for flag in it.opts} for name, command in commands.items()}

    assert {name for name, it in taken.items() if it == flags} == set(re.findall(r"`([a-z]+)`", promised[1]))
    assert {name: it for name, it in taken.items() if it and it != flags} == {
        "plan": {"-o", "-q"},
        "tech-support": {"-o"},  # where to
    }
