"""ExaBGP's judgement of a configuration, when it is loaded before there is one."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bgp.driver.peersfile import PeersFile
from bgp.driver.process import empty_configuration, environment, launcher
from bgp.driver.validator import NoVerdictError, Validator
from tests.lab.wait import eventually

pytestmark = pytest.mark.live


@pytest.fixture
async def validator() -> AsyncIterator[Validator]:
    validator = Validator()
    yield validator
    await validator.stop()


@pytest.fixture
def good(tmp_path: Path) -> Path:
    path = tmp_path / "good.conf"
    path.write_text(empty_configuration(tmp_path))
    return path


@pytest.fixture
def bad(tmp_path: Path) -> Path:
    path = tmp_path / "bad.conf"
    path.write_text("neighbor 10.0.0.1 {\n  hold-time none;\n}\n")
    return path


def runs() -> list[int]:
    """Process ids of our children that validate."""
    found = []
    for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it ends just now
            if b"--validate" in Path("/proc", pid, "cmdline").read_bytes():
                found.append(int(pid))
    return found


async def test_a_run_that_began_early_judges_as_one_that_did_not(validator: Validator, good: Path, bad: Path) -> None:
    cold = [await validator.complaint(path) for path in (good, bad)]
    warm = []
    for path in (good, bad):
        validator.warm_up()
        warm.append(await validator.complaint(path))

    assert warm == cold
    assert cold[0] is None
    assert "hold-time" in str(cold[1])


async def test_the_run_that_waits_is_the_one_that_answers(validator: Validator, good: Path) -> None:
    validator.warm_up()
    (waiting,) = await eventually(runs)

    asked = asyncio.create_task(validator.complaint(good))
    seen = set()
    while not asked.done():
        seen |= set(runs())
        await asyncio.sleep(0)

    assert await asked is None
    assert seen == {waiting}


async def test_a_run_that_was_killed_while_it_waited_is_no_answer(validator: Validator, good: Path) -> None:
    validator.warm_up()
    (waiting,) = await eventually(runs)
    os.kill(waiting, signal.SIGKILL)

    assert await validator.complaint(good) is None


async def test_a_run_that_is_killed_while_it_answers_is_no_answer(validator: Validator, good: Path) -> None:
    asked = asyncio.create_task(validator.complaint(good))
    (answering,) = await eventually(runs)
    os.kill(answering, signal.SIGKILL)

    assert await asked is None


async def test_peers_of_which_nothing_could_be_said_are_not_refused_for_good(tmp_path: Path) -> None:
    file = PeersFile(tmp_path)
    asked = asyncio.create_task(file.put({}))
    while not asked.done():
        for answering in runs():
            with contextlib.suppress(ProcessLookupError):  # it has been killed already
                os.kill(answering, signal.SIGKILL)
        await asyncio.sleep(0)

    with pytest.raises(NoVerdictError):
        await asked
    assert file.refused == "cannot check the configuration: `validate` was killed before it had an answer"
    assert [path for path in tmp_path.iterdir() if path.is_file()] == []
    assert await file.put({}) == ()
    assert file.refused is None


async def test_a_run_that_nobody_asked_ends_with_the_validator(validator: Validator) -> None:
    validator.warm_up()
    await eventually(runs)

    await validator.stop()

    assert not runs()


def test_a_run_whose_agent_has_gone_ends(tmp_path: Path) -> None:
    done = subprocess.run(
        launcher(["--validate", "-"]),
        stdin=subprocess.DEVNULL,
        env=environment(),
        check=False,
        timeout=60,
        cwd=tmp_path,
    )

    assert done.returncode == 0
