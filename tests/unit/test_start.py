"""The order of a start and of its end: what has its turn while modules are loaded, and rooms that do not stop."""

import asyncio
import signal
import sys
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from agent.start import load, stop_all

MODULES = ("first_of_test", "second_of_test")


@pytest.fixture(autouse=True)
def _modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The first raises SIGUSR1 while it is loaded."""
    first, second = (tmp_path / f"{name}.py" for name in MODULES)
    first.write_text("import signal\nsignal.raise_signal(signal.SIGUSR1)\n")
    second.write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    before = signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    yield
    signal.signal(signal.SIGUSR1, before)
    for name in MODULES:
        sys.modules.pop(name, None)


async def test_what_was_started_before_has_begun_when_the_first_module_is_loaded() -> None:
    there: list[bool] = []

    async def begin() -> None:
        there.append(MODULES[0] in sys.modules)

    task = asyncio.create_task(begin())

    assert await load(MODULES, asyncio.Event())
    assert there == [False]
    assert sys.modules.keys() >= set(MODULES)
    await task


async def test_a_signal_that_comes_while_a_module_is_loaded_ends_the_loading() -> None:
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, ended.set)

    assert not await load(MODULES, ended)
    assert MODULES[0] in sys.modules
    assert MODULES[1] not in sys.modules
    asyncio.get_running_loop().remove_signal_handler(signal.SIGUSR1)


async def test_a_room_that_does_not_stop_is_left_and_the_others_are_stopped() -> None:
    stopped: list[str] = []
    rooms = AsyncExitStack()
    rooms.callback(stopped.append, "first")
    rooms.push_async_callback(asyncio.Event().wait)
    rooms.callback(stopped.append, "last")

    await stop_all(rooms, within=0.01)

    assert stopped == ["last", "first"]


async def test_a_timeout_inside_a_room_is_no_timeout_of_its_stop() -> None:
    rooms = AsyncExitStack()

    async def fail() -> None:
        raise TimeoutError("inside")

    rooms.push_async_callback(fail)

    with pytest.raises(TimeoutError, match="inside"):
        await stop_all(rooms, within=10.0)
