"""`bgpilot speaker`: ExaBGP beside an agent that comes and goes."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import time

import pytest

from bgp.driver import beside, notes, process
from bgp.model import SpeakerPlan
from bgp.speaker import Speaker, SpeakerMode
from tests.lab.fakeexabgp import FakeExaBgp
from tests.lab.wait import eventually
from tests.unit.bgp.tor import TOR


async def test_on_a_full_disk_exabgp_is_started_again(tmp_path, monkeypatch):
    process.prepare(tmp_path, keep=True)
    starts = tmp_path / "speaker.starts"

    def full(path, text):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(notes, "write_private", full)
    monkeypatch.setattr(process, "launcher", lambda _: ["sh", "-c", f"echo started >> {starts}; exit 1"])
    ended = asyncio.Event()
    running = asyncio.create_task(beside.run_external(tmp_path, ended))

    await eventually(lambda: len(starts.read_text().splitlines()) == 2)

    ended.set()
    await running


@pytest.fixture
async def agent(tmp_path):
    process.prepare(tmp_path, keep=False)
    (tmp_path / process.CONFIGURATION).write_text("what an agent before has left")
    os.utime(tmp_path / process.CONFIGURATION, ns=(1, 1))
    speaker = Speaker(
        run_dir=tmp_path, mode=SpeakerMode.EXTERNAL, put=lambda _: None, wake=lambda: None, clock=time.monotonic
    )
    await speaker.start()
    yield speaker
    await speaker.stop()


async def take_peers(agent):
    await agent.apply(SpeakerPlan({TOR.address: TOR}, {}), peers_changed=True, dirty=None, hold_back=lambda _key: False)


async def test_exabgp_starts_with_the_peers_of_the_agent_that_lives_and_with_no_other_ones(tmp_path, agent):
    """Of an agent that has no picture yet nobody knows whether it will want what is in the file."""
    left_by_another = await asyncio.to_thread(beside.is_vouched_for, tmp_path)
    await take_peers(agent)
    await eventually(lambda: "neighbor" in (tmp_path / process.CONFIGURATION).read_text())
    its_own = await asyncio.to_thread(beside.is_vouched_for, tmp_path)
    await agent.stop()
    gone = beside.is_vouched_for(tmp_path)

    assert (left_by_another, its_own, gone) == (False, True, False)


def test_a_socket_that_a_killed_agent_has_left_vouches_for_nothing(tmp_path):
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(str(tmp_path / process.SOCKET))
    process.prepare(tmp_path, keep=True)

    assert not beside.is_vouched_for(tmp_path)


async def test_a_file_that_another_has_put_in_its_place_is_written_again_for_the_exabgp_that_began_with_it(
    tmp_path, agent
):
    exabgp = FakeExaBgp(tmp_path)
    await exabgp.connect()
    await take_peers(agent)
    await eventually(lambda: agent.in_sync)
    await exabgp.disconnect()

    process.prepare(tmp_path, keep=False)
    exabgp.new_process()
    await exabgp.connect()

    await eventually(lambda: exabgp.routes_of(str(TOR.address)) is not None)
    await eventually(lambda: agent.in_sync)
    await exabgp.disconnect()


async def test_an_exabgp_that_is_started_again_without_an_agent_has_no_peers(tmp_path, monkeypatch):
    found, left = tmp_path / "speaker.starts", "what an agent before has left\n"
    (tmp_path / process.CONFIGURATION).write_text(left)
    begin = f"cat {tmp_path / process.CONFIGURATION} >> {found}; echo ended >> {found}; exit 1"
    monkeypatch.setattr(process, "launcher", lambda _: ["sh", "-c", begin])
    ended = asyncio.Event()
    running = asyncio.create_task(beside.run_external(tmp_path, ended))

    await eventually(lambda: found.exists() and found.read_text().count("ended\n") == 2)

    assert found.read_text().count(left) == 1
    ended.set()
    await running
