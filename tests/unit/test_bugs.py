"""Exceptions that nobody catches: ours end the agent, those of a library's own tasks do not."""

import asyncio
import json
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.bugs import Bugs
from bgp.background import in_background
from tests.lab.wait import eventually

ROOT = Path(__file__).parents[2]


class Watched:
    """The running loop with our exception handler."""

    def __init__(self) -> None:
        self.ended = asyncio.Event()
        self.bugs = Bugs(self.ended.set)
        asyncio.get_running_loop().set_exception_handler(self.bugs.happened)


def fail() -> None:
    raise LookupError("a bug")


def fail_alone() -> None:
    raise ConnectionResetError("the other side went away")


def carry_out(call: Callable[[], None]) -> None:
    call()


async def fail_later() -> None:
    await asyncio.sleep(0)
    fail()


def standing_in(module: str, function: types.FunctionType) -> Callable[..., None]:
    """The same function, as if it stood in that module."""
    return types.FunctionType(function.__code__, {**function.__globals__, "__name__": module})


async def test_a_callback_that_raises_ends_the_agent() -> None:
    watched = Watched()
    asyncio.get_running_loop().call_later(0.0, fail)

    await eventually(watched.ended.is_set)
    assert watched.bugs.found


async def test_a_task_in_the_background_that_raises_ends_the_agent_though_somebody_holds_it() -> None:
    watched = Watched()
    task = in_background(fail_later(), name="a test's")

    await eventually(watched.ended.is_set)
    assert task.done()


async def test_a_task_in_the_background_that_is_cancelled_ends_nothing() -> None:
    watched = Watched()
    task = in_background(asyncio.Event().wait(), name="a test's")
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait({task})
    await asyncio.sleep(0)

    assert not watched.bugs.found


@pytest.mark.parametrize("package", ["aiohttp", "pyroute2"])
async def test_what_only_a_librarys_lines_have_raised_ends_nothing(package: str) -> None:
    watched = Watched()
    raised = asyncio.Event()
    asyncio.get_running_loop().call_soon(standing_in(f"{package}.connector", fail_alone))
    asyncio.get_running_loop().call_soon(raised.set)
    await raised.wait()

    assert not watched.bugs.found


async def test_what_a_library_raised_in_a_callback_of_ours_is_our_bug() -> None:
    watched = Watched()
    theirs = standing_in("aiohttp.connector", fail_alone)
    asyncio.get_running_loop().call_soon(standing_in("agent.somewhere", carry_out), theirs)

    await eventually(watched.ended.is_set)


async def test_an_answer_that_nobody_waited_for_any_more_ends_nothing() -> None:
    watched = Watched()
    answer = asyncio.get_running_loop().create_future()
    answer.set_exception(ConnectionError("went away"))
    del answer  # asyncio tells of it now

    assert not watched.bugs.found
    assert not watched.ended.is_set()


async def test_a_connection_that_cannot_be_taken_for_want_of_descriptors_ends_nothing(tmp_path: Path) -> None:
    watched = Watched()
    with pytest.raises(OSError, match="No such file") as raised:
        (tmp_path / "nowhere").read_bytes()
    told = {"message": "socket.accept() out of system resource", "exception": raised.value, "socket": None}
    asyncio.get_running_loop().call_exception_handler(told)

    assert not watched.bugs.found


PROCESS = """
import asyncio, functools
from agent.bugs import run_guarded
from agent.log import set_up_logging
from agent.settings import LogFormat, LogLevel

def fail():
    raise LookupError("a bug")

async def waiting(ended):
    asyncio.get_running_loop().call_soon(fail)
    await ended.wait()

async def raising(_):
    fail()

async def ending(_):
    await asyncio.sleep(0)

log = functools.partial(set_up_logging, log_format=LogFormat.JSON, log_level=LogLevel.INFO)
raise SystemExit(run_guarded(WORK, log))
"""


def ended_as(work: str) -> tuple[int, list[str]]:
    """Exit code and log of a process that does this: how it logs is set up once in a process, and for good."""
    command = [sys.executable, "-c", PROCESS.replace("WORK", work)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    return done.returncode, done.stderr.splitlines()


@pytest.mark.parametrize("work", ["waiting", "raising"])
def test_what_runs_beside_exabgp_ends_by_its_own_bug_with_one_line(work: str) -> None:
    code, (line,) = ended_as(work)

    assert code == 1
    assert json.loads(line)["event"] == "own_bug"
    assert "LookupError: a bug" in json.loads(line)["exception"]


def test_what_runs_beside_exabgp_and_ends_by_itself_has_nothing_to_say() -> None:
    assert ended_as("ending") == (0, [])
