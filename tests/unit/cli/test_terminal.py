"""What people see on real terminals, narrow and wide: no word is cut, nothing is lost in folding, nothing floods."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
import termios
from ipaddress import ip_network

import pytest

from agent.cli.plan import PART_ON_TERMINAL
from agent.cli.render import ROWS_ON_TERMINAL
from agent.cli.text import fold, grouped, table
from agent.model import FibRoute, NextHop
from tests.unit.cli.test_cli import Agent
from tests.unit.cli.test_golden import degraded
from tests.unit.cli.test_golden_files import large
from tests.unit.status.scene import TOR

SGR = re.compile(r"\x1b\[[0-9;]*m")
PROGRAM = [sys.executable, "-c", "from agent.cli.app import main; main()"]


@pytest.fixture(scope="module")
def agent(tmp_path_factory):
    with Agent(tmp_path_factory.mktemp("run")) as agent:
        degraded(agent)
        yield agent


def seen(agent, command, columns):
    """What the command says of this agent, as `drawn`."""
    return drawn(f"{command} --run-dir {agent.run_dir}", columns)


def drawn(command, columns):
    """The lines on a terminal of so many columns, without their colours."""
    ours, its = pty.openpty()
    termios.tcsetwinsize(its, (24, columns))
    environment = {name: value for name, value in os.environ.items() if name not in {"COLUMNS", "NO_COLOR"}}
    with subprocess.Popen([*PROGRAM, *command.split()], stdin=its, stdout=its, stderr=its, env=environment) as process:
        os.close(its)
        written = b""
        while (more := _read(ours)) != b"":
            written += more
        process.wait(30)
    os.close(ours)
    return SGR.sub("", written.decode()).replace("\r", "").splitlines()


def _read(terminal):
    try:
        return os.read(terminal, 65536)
    except OSError:  # its last user has gone (EIO)
        return b""


@pytest.mark.parametrize("command", ["peers", "routes", "check", "diff", "events"])
def test_at_eighty_columns_no_line_is_broken_by_the_terminal(agent, command):
    lines = seen(agent, command, 80)

    assert max(map(len, lines)) <= 80
    piped = agent(command, code=0 if command in {"routes", "events"} else 3)
    said = {word for line in piped.splitlines() if line.startswith("! ") for word in line.split()}
    assert said <= set(" ".join(lines).split())


def test_at_eighty_columns_the_most_telling_columns_stay_and_a_line_names_the_others(agent):
    head, *rows = seen(agent, "peers", 80)

    assert head.split() == ["PEER", "NAME", "AS", "STATE", "UP/DOWN", "FAMILY", "LAST-ERROR"]
    assert rows[0].split() == ["192.0.2.2", "node/worker-2", "64512", "Established", "01:01:01", "ipv4", "-"]
    assert "… no room for HOLD/KA, RCVD, ACPT, SENT: see `-o wide`" in rows
    head, *rows = seen(agent, "routes", 80)
    assert head.split() == ["PREFIX", "PEER", "NEXT-HOP", "AS-PATH", "INSTALLED", "REASON"]
    assert rows[-1] == "… no room for ACCEPTED: see `-o wide`"
    assert {"ACCEPTED", "COMMUNITIES"} <= set(" ".join(seen(agent, "routes -o wide", 80)).split())


def test_at_two_hundred_columns_peers_is_what_a_pipe_gets(agent):
    lines = seen(agent, "peers", 200)

    assert [line for line in lines if len(line) < 150][:6] == agent("peers", code=3).splitlines()[:6]


def test_a_terminal_gets_no_more_rows_than_somebody_reads_and_a_pipe_gets_them_all(agent):
    for number in range(ROWS_ON_TERMINAL + 100):
        agent.scene.want_in_kernel(FibRoute(ip_network(f"100.{number // 256}.{number % 256}.0/24"), (NextHop(TOR),)))
    lines = seen(agent, "fib", 100)

    assert len(lines) == 1 + ROWS_ON_TERMINAL + 1
    assert lines[-1] == "… and 103 more: name a prefix, or `| less`"
    assert len(agent("fib", code=3).splitlines()) == 1 + ROWS_ON_TERMINAL + 103


def test_a_terminal_gets_the_first_of_each_part_of_a_plan(tmp_path):
    (tmp_path / "large.json").write_text(json.dumps(large(PART_ON_TERMINAL + 10)))
    lines = drawn(f"plan --from {tmp_path}/large.json", 200)

    assert [line for line in lines if line.startswith("  …")] == [
        "  … 9 more: into a file, or with -o json",  # sessions, all but its own
        "  … 9 more: into a file, or with -o json",  # what they are told
        "  … 10 more: into a file, or with -o json",  # routes
    ]
    assert lines[:2] == ["node:", "  worker-1 AS 64512 router id 10.0.0.1 (InternalIP), BGPInstance all"]


def test_the_rest_of_a_line_stands_below_its_last_column_where_that_begins_in_the_left_half():
    assert fold("FAIL  k  aa bb cc dd ee", 18) == "FAIL  k  aa bb cc\n         dd ee"
    assert fold("a  b  c  more than half of it", 20) == "a  b  c  more than\n         half of it"
    assert fold("a  b  c  d  more than half", 20) == "a  b  c  d  more\n    than half"
    assert fold("! one two three", 10) == "! one two\n  three"


def test_what_a_long_name_leaves_no_room_for_stands_below_it():
    rows = [["a-long-name", "one", "x", "e f"], ["a-long-name", "two", "y", ""], ["b", "three", "z", ""]]
    shown = {room: grouped(["A", "B", "C", "D"], rows, colour=False, spare=["C"], room=room) for room in (21, 20, None)}

    assert shown[21].splitlines()[1] == "a-long-name  one    e f"
    assert shown[20].splitlines() == [
        *("  B      C  D", "a-long-name", "  one    x  e f", "  two    y  -", "b", "  three  z  -")
    ]
    assert shown[None] == table(["A", "B", "C", "D"], rows, colour=False)


def test_colours_take_no_room_and_long_words_stay_whole():
    assert fold("\x1b[31mFAIL\x1b[0m one two", 12) == "\x1b[31mFAIL\x1b[0m one two"
    assert fold("\x1b[31mFAIL\x1b[0m one two", 10) == "\x1b[31mFAIL\x1b[0m one\n    two"
    assert fold("x" * 30, 10) == "x" * 30


def heads(row, spare, room):
    return table(["A", "B", "C"], [row], colour=False, spare=spare, room=room).split("\n")[0].split()


def test_columns_that_can_be_spared_go_one_by_one_and_one_that_is_too_wide_leaves_room_to_others():
    row = ["a" * 10, "b" * 10, "c" * 10]
    assert [heads(row, ["B", "A"], room) for room in (40, 24, 12)] == [["A", "B", "C"], ["A", "C"], ["C"]]
    assert heads(["a" * 50, "b" * 10, "c" * 10], ["B", "A"], 24) == ["B", "C"]


def test_the_last_column_has_room_for_the_word_with_which_it_begins():
    assert heads(["a", "b" * 10, "reason of it"], ["B"], 20) == ["A", "C"]
    assert heads(["a", "b" * 10, "why it is"], ["B"], 20) == ["A", "B", "C"]
