"""Where what a command says goes: answers to standard output, all else beside it; and what becomes of it when standard
output is full, closed, or no longer read. Real processes.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from ipaddress import ip_network

import pytest
import yaml

from agent.model import FibRoute, NextHop
from agent.status.tables import ROWS_MAX
from tests.unit.cli.test_cli import Agent, bgpilot
from tests.unit.status.scene import TOR

PROGRAM = [sys.executable, "-c", "from agent.cli.app import main; main()"]


@pytest.fixture
def agent(tmp_path):
    with Agent(tmp_path) as agent:
        yield agent


def ended(agent, command, redirection):
    """Exit code and what is on standard error; the redirection is in the shell's language."""
    done = subprocess.run(
        ["sh", "-c", f'exec "$@" {redirection}', "sh", *PROGRAM, *command.split()],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "BGPILOT_RUN_DIR": str(agent.run_dir)},
    )
    return done.returncode, done.stderr


@pytest.mark.parametrize(
    ("redirection", "why"), [(">/dev/full", "No space left on device"), (">&-", "Bad file descriptor")]
)
@pytest.mark.parametrize("command", ["peers", "peers -w", "events -w", "schema peers", "--help"])
def test_what_cannot_be_written_is_an_error_in_one_line(agent, command, redirection, why):
    assert ended(agent, command, redirection) == (1, f"bgpilot: standard output cannot be written: {why}\n")


def test_who_wants_nothing_printed_needs_no_standard_output(agent):
    assert ended(agent, "peers -q", ">&-") == (3, "")


@pytest.mark.parametrize(
    ("command", "code"), [("peers", 3), ("status -o json", 3), ("peers -w", 0), ("events -w", 0), ("schema peers", 1)]
)
def test_who_has_read_enough_hears_no_more_of_it_and_the_exit_code_still_says_how_things_are(agent, command, code):
    ours, its = os.pipe()
    os.close(ours)
    try:
        environment = {**os.environ, "BGPILOT_RUN_DIR": str(agent.run_dir)}
        done = subprocess.run(
            [*PROGRAM, *command.split()], stdout=its, stderr=subprocess.PIPE, timeout=60, check=False, env=environment
        )
    finally:
        os.close(its)

    assert (done.returncode, done.stderr) == (code, b"")


@pytest.mark.parametrize("command", ["peers -w", "events -w"])
def test_who_watches_and_has_seen_enough_is_followed_at_once_though_nothing_happens_any_more(agent, command):
    agent.diary.hear({"event": "phase", "level": "info", "timestamp": "2026-01-02T03:04:05Z", "phase": "IN_SYNC"})
    environment = {**os.environ, "BGPILOT_RUN_DIR": str(agent.run_dir)}
    watching = [*PROGRAM, *command.split()]
    with subprocess.Popen(watching, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment) as process:
        assert process.stdout.readline() != b""
        process.stdout.close()
        ended = process.wait(60), process.stderr.read()

    assert ended == (0, b"")


def test_a_sign_that_an_encoding_does_not_have_stops_nothing(agent):
    agent.diary.hear({"event": "phase", "level": "info", "timestamp": "2026-01-02T03:04:05Z", "phase": "IN_SYNC"})
    environment = {**os.environ, "PYTHONIOENCODING": "latin-1", "BGPILOT_RUN_DIR": str(agent.run_dir)}
    command = [*PROGRAM, "events", "-n", "0"]
    done = subprocess.run(command, capture_output=True, timeout=60, check=False, env=environment)

    assert (done.stdout, done.stderr) == (b"? 1 earlier: see --last\n", b"")


def test_while_an_answer_is_watched_what_goes_wrong_is_said_beside_it(tmp_path):
    def watching(output):
        command = [*PROGRAM, "routes", "-w", "-o", output, "--run-dir", str(tmp_path)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    with watching("json") as as_json, watching("yaml") as as_yaml:
        errors = [process.stderr.readline() for process in (as_json, as_yaml)]
        with Agent(tmp_path):
            begun = [process.stdout.readline() for process in (as_json, as_yaml)]
            for process in (as_json, as_yaml):
                process.send_signal(signal.SIGINT)
            rest = [process.stdout.read() for process in (as_json, as_yaml)]

    assert [words.startswith("bgpilot: no agent answers on ") for words in errors] == [True, True]
    assert json.loads(begun[0] + rest[0])["schema"] == "bgpilot.routes/1"
    assert begun[1] == "---\n"
    assert yaml.safe_load(rest[1])["schema"] == "bgpilot.routes/1"
    assert (as_json.returncode, as_yaml.returncode) == (0, 0)


def test_names_that_are_not_all_there_are_say_so_beside_them(agent):
    prefixes = [ip_network((0x64000000 + (number << 8), 24)) for number in range(ROWS_MAX + 30)]
    for prefix in prefixes:
        agent.scene.want_in_kernel(FibRoute(prefix, (NextHop(TOR),)))
    agent.scene.hear(TOR, *prefixes)
    for second in range(3):
        agent.diary.hear({"event": "phase", "level": "info", "timestamp": f"2026-01-02T03:04:0{second}Z", "phase": "X"})

    def beside(*command):
        done = bgpilot(*command, "-o", "name", BGPILOT_RUN_DIR=str(agent.run_dir))
        return len(done.stdout.splitlines()), done.stderr

    assert beside("routes") == (ROWS_MAX, "… and 32 more: name a prefix or a peer\n")
    assert beside("routes", "198.51.100.0/24") == (0, "")
    assert beside("fib") == (ROWS_MAX, "… and 32 more: name a prefix\n")
    assert beside("events", "-n", "2") == (1, "… 1 earlier: see --last\n")


def test_names_of_differences_that_are_not_all_say_so_too(agent):
    for number in range(ROWS_MAX):
        prefix = ip_network((0x64000000 + (number << 8), 24))
        agent.scene.want_in_kernel(FibRoute(prefix, (NextHop(TOR),)), there=False)
    done = bgpilot("diff", "-o", "name", BGPILOT_RUN_DIR=str(agent.run_dir))

    shown = len(done.stdout.splitlines())
    assert done.stderr == f"… and {ROWS_MAX - shown} more: see `bgpilot diff`\n"
