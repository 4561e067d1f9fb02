"""`kubectl bgpilot` as a user meets it: the real program against a kubectl that is a script, every command in words."""

from __future__ import annotations

import json

import pytest

from tests.unit.cli.test_schemas import complaints, unseen

COMMANDS = [
    "status",
    "status -o wide",
    "status --node worker-1",
    "peers",
    "peers --all",
    "peers --failed",
    "peers -o name",
    "explain 10.244.2.9",
    "explain tor-b",
    "explain tor-b --node worker-2",
    "check",
    "check --node worker-1",
]


@pytest.mark.parametrize("command", COMMANDS)
def test_what_is_printed(mixed, snapshot, command):
    done = mixed(*command.split())

    assert "\n".join([f"exit code {done.returncode}", *(done.stdout + done.stderr).splitlines()]) == snapshot


@pytest.mark.parametrize("command", [it for it in COMMANDS if " -o" not in it])
def test_what_programs_get_is_as_the_schema_says_and_no_key_is_unknown_to_it(mixed, command):
    answer = json.loads(mixed(*command.split(), "-o", "json").stdout)

    assert answer["schema"] == f"bgpilot.cluster_{command.split()[0]}/1"
    assert complaints(answer) == []
    assert [it for it in unseen(answer) if "versions" not in it] == []
