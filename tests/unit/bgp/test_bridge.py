"""The bridge as ExaBGP runs it: a process between two pipes and a socket that comes and goes."""

import fcntl
import json
import os
import socket
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bgp.inside import bridge
from tests.lab.wait import wait_until

PEER = "192.0.2.1"


def line(kind: str, **said: object) -> str:
    neighbor = {"address": {"local": "192.0.2.9", "peer": PEER}, **said}
    # ExaBGP's own spacing: the bridge looks for the type without decoding.
    return json.dumps({"exabgp": "5.0.0", "time": 1.5, "host": "h", "pid": 1, "type": kind, "neighbor": neighbor})


SENT = line("open", direction="send")
RECEIVED = line("open", direction="receive")
UP = line("state", state="up")
DOWN = line("state", state="down")
CONNECTED = line("state", state="connected")
NOTIFIED = line("notification", direction="receive", notification={"code": 6, "subcode": 2})
UPDATE = line("update", direction="receive")
END_OF_RIB = f"neighbor {PEER} local-ip 192.0.2.9 announce eor ipv4 unicast"


class Agent:
    def __init__(self, listener: socket.socket) -> None:
        listener.settimeout(20)
        self.socket = listener.accept()[0]
        self.socket.settimeout(20)
        self.lines = self.socket.makefile("r")
        self.hello: dict[str, Any] = json.loads(self.lines.readline())

    def say(self, *lines: str) -> None:
        self.socket.sendall("".join(f"{each}\n" for each in lines).encode())

    def hear(self) -> str:
        return self.lines.readline().rstrip("\n")

    def leave(self) -> None:
        self.lines.close()
        self.socket.close()


class Rig:
    """The bridge with this test in the places of ExaBGP and of the agent."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "speaker.sock"
        self.listener = socket.socket(socket.AF_UNIX)
        self.agents: list[Agent] = []
        self.process = subprocess.Popen(
            [sys.executable, "-I", "-S", bridge.__file__, str(self.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.to_bridge, self.from_bridge = self.process.stdin, self.process.stdout

    def listen(self) -> None:
        self.listener.bind(str(self.path))
        self.listener.listen()

    def agent(self) -> Agent:
        self.agents.append(Agent(self.listener))
        return self.agents[-1]

    def exabgp_says(self, *lines: str) -> None:
        self.to_bridge.write("".join(f"{each}\n" for each in lines).encode())
        self.to_bridge.flush()

    def wait_until_read(self) -> None:
        def unread() -> int:
            answer = fcntl.ioctl(self.to_bridge.fileno(), termios.FIONREAD, b"\0" * 4)
            return int.from_bytes(answer, sys.byteorder)

        wait_until(lambda: unread() == 0)

    def exabgp_hears(self) -> str:
        return self.from_bridge.readline().decode().rstrip("\n")

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self.to_bridge.close()
        self.from_bridge.close()
        self.listener.close()
        for agent in self.agents:
            agent.leave()


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    rig = Rig(tmp_path)
    yield rig
    rig.close()


def test_lines_go_both_ways_in_order(rig: Rig) -> None:
    rig.listen()
    agent = rig.agent()
    agent.say("one", "two")
    rig.exabgp_says(SENT, "done", "done")

    assert [rig.exabgp_hears(), rig.exabgp_hears()] == ["one", "two"]
    assert [agent.hear(), agent.hear(), agent.hear()] == [SENT, "done", "done"]


def test_sessions_and_lost_updates_are_told_to_an_agent_that_comes_late(rig: Rig) -> None:
    rig.exabgp_says(SENT, RECEIVED, UP, UPDATE, UPDATE)
    rig.wait_until_read()
    rig.listen()

    (kept,) = rig.agent().hello["peers"].values()
    assert (kept["lines"], kept["told"], kept["flaps"]) == ([SENT, RECEIVED, UP], [], 0)
    assert (kept["ended"], kept["ended_at"], kept["failed"], kept["failed_at"]) == ([], None, [], None)
    assert rig.agents[0].hello["dropped"] == 2
    assert rig.agents[0].hello["pending"] == 0


def test_it_tells_when_the_session_came_up_and_how_and_when_the_one_before_ended(rig: Rig) -> None:
    began_at = time.monotonic()
    rig.exabgp_says(SENT, RECEIVED, UP, NOTIFIED, DOWN)
    rig.wait_until_read()
    rig.listen()
    agent = rig.agent()
    (kept,) = agent.hello["peers"].values()

    assert (kept["lines"], kept["up_at"], kept["flaps"]) == ([], None, 1)
    assert (kept["opened"], kept["ended"]) == ([SENT, RECEIVED], [NOTIFIED, DOWN])
    ended_at = kept["ended_at"]
    assert began_at < ended_at < time.monotonic()
    agent.leave()
    rig.exabgp_says(SENT, RECEIVED, UP)
    rig.wait_until_read()
    (again,) = rig.agent().hello["peers"].values()

    assert (again["lines"], again["ended"], again["ended_at"]) == ([SENT, RECEIVED, UP], [NOTIFIED, DOWN], ended_at)
    assert ended_at < again["up_at"] < time.monotonic()


def memory(*lines: str) -> dict[str, Any]:
    kept = bridge.Memory(iter(range(100)).__next__)
    for each in lines:
        kept.heard(json.loads(each)["type"].encode(), each.encode())
    return kept.peers()


def test_a_dial_that_fails_does_not_hide_what_a_router_said_since_the_session_ended() -> None:
    (kept,) = memory(SENT, RECEIVED, UP, DOWN, SENT, NOTIFIED, DOWN, CONNECTED, DOWN).values()

    assert (kept["ended"], kept["failed"]) == ([DOWN], [NOTIFIED, DOWN])


def test_the_last_attempt_before_the_first_session_is_kept_until_that_is_up() -> None:
    (tried,) = memory(SENT, NOTIFIED, DOWN, CONNECTED, DOWN).values()
    (up,) = memory(SENT, NOTIFIED, DOWN, SENT, RECEIVED, UP).values()

    assert (tried["failed"], tried["flaps"]) == ([DOWN], 0)
    assert (up["failed"], up["failed_at"], up["lines"]) == ([], None, [SENT, RECEIVED, UP])


def test_nothing_is_kept_of_a_peer_that_was_removed() -> None:
    removed = line("state", state="down", reason="stop, message [removed]")

    assert memory(SENT, RECEIVED, UP, DOWN, SENT, RECEIVED, UP, removed) == {}


def test_the_next_agent_learns_which_end_of_rib_was_sent_on_this_session(rig: Rig) -> None:
    rig.listen()
    first = rig.agent()
    rig.exabgp_says(SENT, RECEIVED, UP)
    assert first.hear() == SENT
    assert [first.hear(), first.hear()] == [RECEIVED, UP]
    first.say(END_OF_RIB)
    assert rig.exabgp_hears() == END_OF_RIB
    rig.exabgp_says("done")
    assert first.hear() == "done"
    first.leave()

    assert rig.agent().hello["peers"][PEER]["told"] == ["ipv4"]


def test_answers_that_are_still_to_come_are_announced_to_the_next_agent(rig: Rig) -> None:
    rig.listen()
    first = rig.agent()
    first.say("one", "two", "three")
    assert [rig.exabgp_hears() for _ in range(3)] == ["one", "two", "three"]
    rig.exabgp_says("done")
    assert first.hear() == "done"
    first.leave()
    second = rig.agent()
    rig.exabgp_says("error", "done")

    assert second.hello["pending"] == 2
    assert [second.hear(), second.hear()] == ["error", "done"]


def test_it_says_which_exabgp_and_which_bridge_it_is(rig: Rig) -> None:
    rig.listen()
    first = rig.agent()
    first.leave()
    second = rig.agent()

    assert first.hello["instance"] == second.hello["instance"] == bridge.instance_of(os.getpid())
    assert first.hello["bridge"] == second.hello["bridge"]


def test_it_ends_when_exabgp_does(rig: Rig) -> None:
    rig.listen()
    agent = rig.agent()
    rig.to_bridge.close()

    assert rig.process.wait(20) == 0
    assert agent.hear() == ""


def test_exabgp_never_waits_for_an_agent_that_does_not_read(rig: Rig) -> None:
    """More than the spool holds goes in without blocking; the agent is cut off and told how much it missed."""
    rig.listen()
    slow = rig.agent()
    padded = UPDATE[:-1] + " " * 100_000 + "}"
    count = bridge.SPOOL_MAX // len(padded) + 200
    for _ in range(count):
        rig.exabgp_says(padded)
    again = rig.agent()

    assert again.hello["dropped"] > 100
    assert again.hello["instance"] == slow.hello["instance"]


def test_a_command_that_was_begun_is_finished_and_the_rest_is_dropped(rig: Rig) -> None:
    """A pipe of ExaBGP's that is full takes part of a line; half a command would corrupt the next agent's first."""
    rig.listen()
    first = rig.agent()
    commands = [f"{number} {'x' * 997}" for number in range(300)]
    first.say(*commands)
    first.leave()
    second = rig.agent()
    second.say("after")
    heard: list[str] = []
    wait_until(lambda: heard.append(rig.exabgp_hears()) or heard[-1] == "after", within=30, every=0)

    assert heard[:-1] == commands[: len(heard) - 1]
    assert second.hello["pending"] <= len(heard)
