"""What kubectl is told to offer at Tab behind `kubectl bgpilot`: what `kubectl_complete-bgpilot` prints."""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

import pytest

from agent.kubectl.app import COMMANDS
from agent.kubectl.completion import main

PROJECT = Path(__file__).parents[3] / "pyproject.toml"


@pytest.fixture
def offered(monkeypatch, capsys):
    """What is offered for the last of these words, without what is said of it."""

    def of(*words):
        monkeypatch.setattr(sys, "argv", ["kubectl_complete-bgpilot", *words])
        main()
        *lines, directive = capsys.readouterr().out.splitlines()
        assert directive == ":4"
        return [line.partition("\t")[0] for line in lines]

    return of


def test_commands_options_and_values_are_offered_behind_flags_of_kubectl_too(offered):
    assert offered("") == list(COMMANDS)
    assert offered("p") == ["peers"]
    assert offered("--context", "lab", "che") == ["check"]
    assert offered("peers", "--fa") == ["--failed"]
    assert offered("pe", "-o", "j") == ["json"]
    assert offered("peers", "--node", "") == []


def test_kubectl_finds_it_by_the_name_that_it_looks_for():
    scripts = tomllib.loads(PROJECT.read_text())["project"]["scripts"]

    assert scripts["kubectl_complete-bgpilot"] == f"{main.__module__}:{main.__name__}"
